package sbatch

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/client/clienttest"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/wlm/v1"
	"github.com/sluice-hpc/sluice/sdk/wire"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/submit/submittest"
)

var files = map[string]string{
	"ok.sh":       "#!/bin/sh\ntrue\n",
	"empty.sh":    "",
	"crlf.sh":     "#!/bin/sh\r\ntrue\r\n",
	"nul.sh":      "#!/bin/sh\ntr\x00ue\n",
	"badopt.sh":   "#!/bin/sh\n#SBATCH --bogus=1\n",
	"badn.sh":     "#!/bin/sh\n#SBATCH -n x\n",
	"badfoo.sh":   "#!/bin/sh\n#SBATCH foo\n",
	"badquote.sh": "#!/bin/sh\n#SBATCH -J \"a b\ntrue\n",
}

func TestMistakes(t *testing.T) {
	t.Setenv("SLURM_CONF", "/nonexistent/slurm.conf")
	submittest.Golden(t, "testdata/mistakes.txt", files, Main)
}

// controller is a fake that remembers submissions.
type controller struct {
	ctlv1.UnimplementedControllerServer
	reply *ctlv1.SubmitReply
	err   error
	got   []*ctlv1.SubmitRequest
	ends  []*ctlv1.JobInfo // what WatchJob sends
	lists [][]*ctlv1.JobInfo
}

func (c *controller) Submit(_ context.Context, r *ctlv1.SubmitRequest) (*ctlv1.SubmitReply, error) {
	c.got = append(c.got, r)
	return c.reply, c.err
}

func (c *controller) WatchJob(_ *ctlv1.WatchJobRequest, s ctlv1.Controller_WatchJobServer) error {
	for _, j := range c.ends {
		if err := s.Send(j); err != nil {
			return err
		}
	}
	return nil
}

func (c *controller) Jobs(_ *ctlv1.JobsRequest, s ctlv1.Controller_JobsServer) error {
	l := c.lists[0]
	if len(c.lists) > 1 {
		c.lists = c.lists[1:]
	}
	return s.Send(&ctlv1.JobsReply{Jobs: l})
}

// submit runs sbatch against c.
func submitTo(t *testing.T, c *controller, run submittest.Run) submittest.Result {
	t.Helper()
	cluster := clienttest.Serve(t, clienttest.Services{Controller: c})
	t.Setenv("SLURM_CONF", cluster.Conf)
	if c.reply == nil && c.err == nil {
		c.reply = &ctlv1.SubmitReply{JobId: 42}
	}
	return run.Do(t, "sbatch", Main)
}

const precedence = `#!/bin/sh
#SBATCH -n 2 -J a --mem=1G # a comment

# more
#SBATCH --comment="two words"
true
#SBATCH -n 99
`

func TestPrecedence(t *testing.T) {
	tests := []struct {
		name string
		args []string
		env  []string
		want string
	}{
		{name: "script", want: "a"},
		{name: "environment over script", env: []string{"SBATCH_JOB_NAME=b"}, want: "b"},
		{name: "command line over all", args: []string{"-Jc"}, env: []string{"SBATCH_JOB_NAME=b"}, want: "c"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := &controller{}
			got := submitTo(t, c, submittest.Run{Args: tt.args, Env: tt.env, Stdin: precedence})
			if got.Code != 0 || got.Stdout != "Submitted batch job 42\n" || got.Stderr != "" {
				t.Fatalf("%+v", got)
			}
			s := wire.SpecOfWire(c.got[0].GetSpec())
			if s.Name != tt.want || s.NTasks != 2 || s.MemPerNode != 1024 || s.Comment != "two words" {
				t.Errorf("spec %+v", s)
			}
			if string(c.got[0].GetScript()) != precedence {
				t.Errorf("script %q", c.got[0].GetScript())
			}
		})
	}
}

func TestSpecOfManyOptions(t *testing.T) {
	c := &controller{}
	got := submitTo(t, c, submittest.Run{Dir: "/tmp", Args: strings.Fields(
		"--parsable -A acct -p a,b -q high -N 2-4 -n 8 -c 2 --ntasks-per-node=4 --mem-per-cpu=2G -t 1-2 --begin=now+60 " +
			"-a 1-9:2%3 --dependency=afterok:5 -H --nice=7 -w n[1-2] -x n3 -C fast&big --exclusive=user -o out-%j -e err -D sub " +
			"--signal=B:USR1@30 --gres=gpu:2 --gpus-per-task=1 -L lic:2 --mail-type=end,fail --no-requeue --kill-on-invalid-dep=yes " +
			"-m plane=4 -k --open-mode=append --requeue --stepmgr --wrap date")})
	if got.Code != 0 || got.Stdout != "42\n" {
		t.Fatalf("%+v", got)
	}
	s := wire.SpecOfWire(c.got[0].GetSpec())
	want := *s // whatever the test does not state
	want.Account, want.Partitions, want.QOS, want.Name = "acct", []string{"a", "b"}, "high", "wrap"
	want.MinNodes, want.MaxNodes, want.NTasks, want.CPUsPerTask, want.TasksPerNode = 2, 4, 8, 2, 4
	want.MemPerCPU, want.TimeLimit, want.Begin = 2048, 26*60, wlm.TimeOf(submittest.Now)+60
	want.Array, want.ArrayMaxRunning, want.Dependency, want.Hold, want.Nice = "1-9:2", 3, "afterok:5", true, 7
	want.ReqNodes, want.ExcNodes, want.Features, want.Share = "n[1-2]", "n3", "fast&big", wlm.ShareUser
	want.StdOut, want.StdErr, want.WorkDir = "out-%j", "err", "/tmp/sub"
	want.Signal, want.SignalSeconds, want.SignalBatch = 10, 30, true
	want.TresPerNode, want.TresPerTask, want.Licenses, want.MailType = "gres/gpu:2", "gres/gpu:1", "lic:2", "END,FAIL"
	want.KillOnInvalidDep, want.Distribution, want.NoKill, want.OpenMode = wlm.Yes, "plane=4", true, wlm.OpenAppend
	want.Requeue, want.Options, want.CoreSpec, want.Priority = wlm.Yes, []string{"stepmgr"}, wlm.Unset, wlm.Unset
	if diff := compare(s, &want); diff != "" {
		t.Error(diff)
	}
	if string(c.got[0].GetScript()) != "#!/bin/sh\n# This script was created by sbatch --wrap.\n\ndate\n" {
		t.Errorf("script %q", c.got[0].GetScript())
	}
	if len(c.got[0].GetKey()) != 32 || len(s.Limits) == 0 || s.UserName != "tester" || !strings.HasPrefix(s.SubmitLine, "sbatch --parsable") {
		t.Errorf("key %q, limits %d, user %q, line %q", c.got[0].GetKey(), len(s.Limits), s.UserName, s.SubmitLine)
	}
}

func compare(got, want *wlm.Spec) string {
	g, w := wire.SpecToWire(got).String(), wire.SpecToWire(want).String()
	if g == w {
		return ""
	}
	return "got  " + g + "\nwant " + w
}

func TestEnvironment(t *testing.T) {
	base := []string{"PATH=/bin", "FOO=1", "BAR=2", "SLURM_DEBUG=0"}
	tests := []struct {
		name         string
		args, env    []string
		want, absent []string
	}{
		{name: "all and the request", args: strings.Fields("-n4 -c2 --mem-per-cpu=50"), want: []string{"FOO=1", "SLURM_NTASKS=4",
			"SLURM_NPROCS=4", "SLURM_CPUS_PER_TASK=2", "SLURM_TRES_PER_TASK=cpu=2", "SLURM_MEM_PER_CPU=50", "SLURM_JOB_NAME=wrap",
			"SLURM_SUBMIT_DIR=/tmp", "SLURM_OOM_KILL_STEP=0"}, absent: []string{"SLURM_EXPORT_ENV", "SLURM_MEM_PER_NODE", "SLURM_GET_USER_ENV"}},
		{name: "none", args: []string{"--export=NONE"}, want: []string{"SLURM_DEBUG=0", "SLURM_EXPORT_ENV=NONE", "SLURM_GET_USER_ENV=1"}, absent: []string{"FOO", "PATH"}},
		{name: "nil", args: []string{"--export=NIL"}, want: []string{"SLURM_EXPORT_ENV=NIL"}, absent: []string{"FOO", "SLURM_GET_USER_ENV"}},
		{name: "a list", args: []string{"--export=BAR,NEW='x,y'"}, want: []string{"BAR=2", "NEW=x,y"}, absent: []string{"FOO"}},
		{name: "all and more", args: []string{"--export=FOO=2,ALL"}, want: []string{"FOO=2", "BAR=2"}},
		{name: "inside of a job", env: []string{"SLURM_JOB_ID=7", "SLURM_STEP_ID=0", "SLURM_NTASKS=9", "SLUICE_STEP_MANAGER=h:1", "SLURM_CONF=/c"},
			want: []string{"SLURM_CONF=/c"}, absent: []string{"SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_NTASKS", "SLUICE_STEP_MANAGER"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := &controller{}
			got := submitTo(t, c, submittest.Run{Dir: "/tmp", Args: append(tt.args, "--wrap", "true"), Env: append(slices.Clone(base), tt.env...)})
			if got.Code != 0 {
				t.Fatalf("%+v", got)
			}
			env := c.got[0].GetEnv()
			for _, w := range tt.want {
				if !slices.Contains(env, w) {
					t.Errorf("no %s in %q", w, env)
				}
			}
			for _, a := range tt.absent {
				if slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, a+"=") }) {
					t.Errorf("%s in %q", a, env)
				}
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	c := &controller{err: errs.Coded("x", errs.InvalidPartition, "invalid partition specified: nopart")}
	got := submitTo(t, c, submittest.Run{Args: []string{"--wrap", "true", "-p", "nopart"}})
	if got.Code == 0 {
		t.Fatal("accepted")
	}
	got = submitTo(t, c, submittest.Run{Args: []string{"-p", "nopart", "--wrap", "true"}})
	want := "sbatch: error: invalid partition specified: nopart\n" +
		"sbatch: error: Batch job submission failed: Invalid partition name specified\n"
	if got.Code != 1 || got.Stderr != want {
		t.Errorf("%+v", got)
	}
	c = &controller{err: errs.Coded("x", errs.InvalidGres)}
	if got = submitTo(t, c, submittest.Run{Args: []string{"--wrap", "true"}}); got.Stderr != "sbatch: error: Invalid generic resource (gres) specification\n" {
		t.Errorf("%+v", got)
	}
}

func TestTestOnly(t *testing.T) {
	c := &controller{reply: &ctlv1.SubmitReply{JobId: 66, Forecast: &ctlv1.ForecastReply{Start: submittest.Now.Unix(), Processors: 1, Nodes: "n1", Partition: "main"}}}
	got := submitTo(t, c, submittest.Run{Args: []string{"--test-only", "--wrap", "true"}})
	want := "sbatch: Job 66 to start at 2026-11-23T17:00:00 a using 1 processors on nodes n1 in partition main\n"
	if got.Code != 0 || got.Stderr != want || got.Stdout != "" {
		t.Errorf("%+v", got)
	}
	c = &controller{err: errs.Coded("x", errs.NodeConfigUnavailable)}
	got = submitTo(t, c, submittest.Run{Args: []string{"--test-only", "--wrap", "true"}})
	if got.Code != 1 || got.Stderr != "allocation failure: Requested node configuration is not available\n" {
		t.Errorf("%+v", got)
	}
}

func job(state wlm.JobState, status wlm.WaitStatus) *ctlv1.JobInfo {
	return &ctlv1.JobInfo{Job: &wlmv1.Job{State: uint32(state), Status: uint32(status)}}
}

func TestWait(t *testing.T) {
	tests := []struct {
		name string
		last *ctlv1.JobInfo
		want int
	}{
		{"success", job(wlm.Completed, 0), 0},
		{"the script's code", job(wlm.Failed, wlm.ExitStatus(7)), 7},
		{"a signal", job(wlm.Failed, wlm.SignalStatus(9)), 1},
		{"cancelled", job(wlm.Cancelled, 0), 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := &controller{ends: []*ctlv1.JobInfo{job(wlm.Pending, 0), job(wlm.Running, 0), tt.last}}
			got := submitTo(t, c, submittest.Run{Args: []string{"-W", "--wrap", "true"}})
			if got.Code != tt.want || got.Stdout != "Submitted batch job 42\n" {
				t.Errorf("%+v", got)
			}
		})
	}
	t.Run("highest of an array", func(t *testing.T) {
		c := &controller{lists: [][]*ctlv1.JobInfo{
			{job(wlm.Running, 0), job(wlm.Failed, wlm.ExitStatus(3))},
			{job(wlm.Completed, 0), job(wlm.Failed, wlm.ExitStatus(2))},
		}}
		got := submitTo(t, c, submittest.Run{Args: []string{"-W", "-a", "1-2", "--wrap", "true"}})
		if got.Code != 3 {
			t.Errorf("%+v", got)
		}
	})
}
