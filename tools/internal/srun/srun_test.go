package srun

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-hpc/sluice/sdk/proto/launch/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/request"
	"github.com/sluice-hpc/sluice/tools/internal/say"
	"github.com/sluice-hpc/sluice/tools/internal/submit"
	"github.com/sluice-hpc/sluice/tools/internal/submit/submittest"
)

func TestMistakes(t *testing.T) {
	t.Setenv("SLURM_CONF", "/nonexistent/slurm.conf")
	submittest.Golden(t, "testdata/mistakes.txt", nil, Main)
}

func TestExitCodes(t *testing.T) {
	tests := []struct {
		name    string
		nodes   []string
		perNode int
		args    string
		ends    []wlm.WaitStatus
		code    int
		stderr  string
	}{
		{name: "success", ends: []wlm.WaitStatus{0}},
		{name: "a code", ends: []wlm.WaitStatus{wlm.ExitStatus(42)}, code: 42,
			stderr: "srun: error: n1: task 0: Exited with exit code 42\n"},
		{name: "highest of all", perNode: 3, ends: []wlm.WaitStatus{0, wlm.ExitStatus(1), wlm.ExitStatus(2)}, code: 2,
			stderr: "srun: error: n1: task 1: Exited with exit code 1\nsrun: error: n1: task 2: Exited with exit code 2\n"},
		{name: "a signal", ends: []wlm.WaitStatus{wlm.SignalStatus(9)}, code: 137,
			stderr: "srun: error: n1: task 0: Killed\nsrun: Force Terminated StepId=5.3\n"},
		{name: "grouped", perNode: 4, ends: slices.Repeat([]wlm.WaitStatus{wlm.ExitStatus(3)}, 4), code: 3,
			stderr: "srun: error: n1: tasks 0-3: Exited with exit code 3\n"},
		{name: "kill on bad exit", args: "-K1", ends: []wlm.WaitStatus{wlm.ExitStatus(3)}, code: 3,
			stderr: "srun: error: n1: task 0: Exited with exit code 3\nsrun: Terminating StepId=5.3\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := &cluster{nodes: tt.nodes, perNode: tt.perNode, program: exits(tt.ends...)}
			got := c.run(t, "", append(strings.Fields(tt.args), "prog")...)
			if got.Code != tt.code || sorted(got.Stderr) != sorted(tt.stderr) {
				t.Errorf("exit %d, stderr:\n%s", got.Code, got.Stderr)
			}
			if c.got.end.GetStep() != 3 || c.got.submit != nil || c.got.complete != nil {
				t.Errorf("end %v, submit %v", c.got.end, c.got.submit)
			}
		})
	}
}

// sorted makes the order of lines not matter: tasks end in any order.
func sorted(s string) string {
	lines := strings.SplitAfter(s, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "")
}

func TestKillOnBadExitEndsTheOthers(t *testing.T) {
	c := &cluster{nodes: []string{"n1", "n2"}, program: func(k *task) wlm.WaitStatus {
		if k.id == 0 {
			return wlm.ExitStatus(1)
		}
		return stubborn(k)
	}}
	got := c.run(t, "", "-K", "prog")
	want := "srun: error: n1: task 0: Exited with exit code 1\nsrun: Terminating StepId=5.3\nsrun: error: n2: task 1: Terminated\n"
	if got.Code != 143 || got.Stderr != want || !c.got.end.GetCancelled() {
		t.Errorf("exit %d, stderr:\n%s", got.Code, got.Stderr)
	}
}

func TestWaitEndsTheOthers(t *testing.T) {
	c := &cluster{perNode: 2, program: func(k *task) wlm.WaitStatus {
		if k.id == 0 {
			return 0
		}
		return stubborn(k)
	}}
	got := c.run(t, "", "-W1", "prog")
	if !strings.HasPrefix(got.Stderr, "srun: First task exited 1s ago\nsrun: StepId=5.3 task 1: running\nsrun: StepId=5.3 task 0: exited\n"+
		"srun: Terminating StepId=5.3\n") {
		t.Errorf("stderr:\n%s", got.Stderr)
	}
}

func TestLabels(t *testing.T) {
	c := &cluster{nodes: []string{"n1", "n2"}, perNode: 6, program: echo}
	got := c.run(t, "", "-l", "prog")
	lines := strings.Split(strings.TrimSuffix(got.Stdout, "\n"), "\n")
	slices.Sort(lines)
	if len(lines) != 12 || lines[0] != " 0: task 0" || lines[11] != "11: task 11" {
		t.Errorf("%q", lines)
	}
}

func TestLinesStayWhole(t *testing.T) {
	c := &cluster{perNode: 8, program: func(k *task) wlm.WaitStatus {
		for range 200 {
			k.print(false, strings.Repeat(string(rune('a'+k.id)), 30))
			k.print(false, strings.Repeat(string(rune('a'+k.id)), 30)+"\n")
		}
		return 0
	}}
	got := c.run(t, "", "prog")
	n := 0
	for line := range strings.Lines(got.Stdout) {
		n++
		if len(line) != 61 || strings.Trim(line, line[:1]) != "\n" {
			t.Fatalf("line %d is %q", n, line)
		}
	}
	if n != 1600 {
		t.Errorf("%d lines", n)
	}
}

func TestInput(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "in"), []byte("from a file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, args, stdin, want string
	}{
		{"to all", "", "x\n", "x\nx\n"},
		{"to one", "-i1", "x\n", "x\n"},
		{"from a file", "-i " + dir + "/in", "x\n", "from a file\nfrom a file\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := &cluster{perNode: 2, program: func(k *task) wlm.WaitStatus {
				if tt.args == "-i1" && k.id == 0 {
					return 0
				}
				return cat(k)
			}}
			if got := c.run(t, tt.stdin, append(strings.Fields(tt.args), "cat")...); got.Stdout != tt.want {
				t.Errorf("%+v", got)
			}
		})
	}
	t.Run("10 MB arrive intact", func(t *testing.T) {
		c := &cluster{program: cat}
		in := strings.Repeat("0123456789abcdef", 10<<20/16)
		if got := c.run(t, in, "cat"); got.Stdout != in {
			t.Errorf("%d bytes of %d", len(got.Stdout), len(in))
		}
	})
}

func TestOutputFiles(t *testing.T) {
	c := &cluster{perNode: 2, program: func(k *task) wlm.WaitStatus {
		k.print(false, "out\n")
		k.print(true, "err\n")
		return 0
	}}
	dir := t.TempDir()
	got := c.run(t, "", "-o", dir+"/f-%j.%s", "prog")
	b, err := os.ReadFile(filepath.Join(dir, "f-5.3"))
	if err != nil || sorted(string(b)) != "err\nerr\nout\nout\n" || got.Stdout+got.Stderr != "" {
		t.Errorf("file %q, error %v, %+v", b, err, got)
	}
	c = &cluster{program: echo}
	c.run(t, "", "-o", "f-%t", "-e", "none", "prog")
	w := c.got.work[0]
	if w.GetStdout().GetKind() != launchv1.Stream_FILE || !strings.HasSuffix(w.GetStdout().GetPath(), "/f-%t") ||
		w.GetStderr().GetKind() != launchv1.Stream_NONE {
		t.Errorf("stdout %v, stderr %v", w.GetStdout(), w.GetStderr())
	}
	got = (&cluster{program: echo}).run(t, "", "-o", "/nonexistent/f", "prog")
	if got.Code != 1 || got.Stderr != "srun: error: Could not open stdout file: /nonexistent/f: No such file or directory\n" {
		t.Errorf("%+v", got)
	}
}

func TestOwnAllocation(t *testing.T) {
	c := &cluster{nodes: []string{"n1", "n2"}, program: exits(0, wlm.ExitStatus(4)), pending: true}
	c.start(t)
	got := submittest.Run{Dir: "/tmp", Args: []string{"-N2", "-n2", "-c1", "prog", "-x"}, Env: []string{"PATH=/bin"}}.Do(t, "srun", Main)
	want := "srun: job 5 queued and waiting for resources\nsrun: job 5 has been allocated resources\n" +
		"srun: error: n2: task 1: Exited with exit code 4\n"
	if got.Code != 4 || got.Stderr != want {
		t.Errorf("exit %d, stderr:\n%s", got.Code, got.Stderr)
	}
	if c.got.complete.GetJob() != 5 || wlm.WaitStatus(c.got.complete.GetStatus()) != wlm.ExitStatus(4) {
		t.Errorf("complete %v", c.got.complete)
	}
	s := c.got.submit.GetSpec()
	if s.GetName() != "prog" || s.GetMinNodes() != 2 || wlm.JobKind(s.GetKind()) != wlm.KindRun || s.GetNtasks() != 2 {
		t.Errorf("spec %v", s)
	}
	for _, e := range []string{"SLURM_STEP_ID=3", "SLURM_STEP_NUM_TASKS=2", "SLURM_STEP_TASKS_PER_NODE=1(x2)", "SLURM_JOB_NAME=prog",
		"SLURM_JOB_CPUS_PER_NODE=2(x2)", "SLURM_NTASKS=2", "SLURM_SUBMIT_DIR=/tmp", "SLURM_CLUSTER_NAME=test", "PATH=/bin",
		"SLURM_CPUS_PER_TASK=1", "SLUICE_STEP_MANAGER=" + c.addr} {
		if !slices.Contains(c.got.work[0].GetEnv(), e) {
			t.Errorf("no %s in %q", e, c.got.work[0].GetEnv())
		}
	}
}

func TestInsideTakesSizesFromTheJob(t *testing.T) {
	c := &cluster{program: echo}
	env := append(c.start(t), "SLURM_NTASKS=4", "SLURM_JOB_NUM_NODES=2", "SLURM_CPUS_PER_TASK=2", "SLURM_MEM_PER_CPU=50", "SLURM_JOB_NAME=batch")
	got := submittest.Run{Args: []string{"prog"}, Env: env}.Do(t, "srun", Main)
	m := c.got.create[0]
	if got.Code != 0 || m.GetNtasks() != 4 || m.GetMinNodes() != 2 || m.GetCpusPerTask() != 2 || m.GetMemPerCpu() != 50 || m.GetName() != "prog" {
		t.Errorf("%+v, %v", got, m)
	}
	got = submittest.Run{Args: []string{"-n1", "prog"}, Env: env}.Do(t, "srun", Main)
	m = c.got.create[1]
	if got.Stderr != "srun: warning: can't run 1 processes on 2 nodes, setting nnodes to 1\n" || m.GetMinNodes() != 1 || m.GetMaxNodes() != 1 {
		t.Errorf("%+v, %v", got, m)
	}
}

func TestBusyStepWaits(t *testing.T) {
	c := &cluster{program: echo, busy: 1}
	got := c.run(t, "", "prog")
	want := "srun: Job 5 step creation temporarily disabled, retrying (Requested nodes are busy)\nsrun: Step created for StepId=5.3\n"
	if got.Code != 0 || got.Stderr != want || len(c.got.create) != 2 || c.got.create[0].GetWait() || !c.got.create[1].GetWait() {
		t.Errorf("%+v, %v", got, c.got.create)
	}
}

func TestImmediateStepDoesNotWait(t *testing.T) {
	c := &cluster{program: echo, busy: 1}
	got := c.run(t, "", "-I", "prog")
	if got.Code != 1 || got.Stderr != "srun: error: Unable to create step for job 5: Requested nodes are busy\n" {
		t.Errorf("%+v", got)
	}
}

func TestBrokenStreamIsAttachedAgain(t *testing.T) {
	c := &cluster{program: echo, breaks: true}
	got := c.run(t, "", "prog")
	if got.Code != 0 || got.Stdout != "task 0\n" || c.got.attached != 1 {
		t.Errorf("%+v, attached %d", got, c.got.attached)
	}
}

func TestLaunchFailure(t *testing.T) {
	want := "srun: error: Task launch for StepId=5.3 failed on node n1: Invalid job credential\n" +
		"srun: error: Application launch failed: Invalid job credential\nsrun: Job step aborted\n"
	for _, how := range []string{"", "launched: "} {
		c := &cluster{program: echo, refuse: how + "Invalid job credential"}
		if got := c.run(t, "", "prog"); got.Code != 1 || got.Stderr != want {
			t.Errorf("%+v", got)
		}
	}
}

func TestMpiList(t *testing.T) {
	got := submittest.Run{Args: []string{"--mpi=list"}}.Do(t, "srun", Main)
	if got.Code != 0 || got.Stdout != "MPI plugin types are...\n\tnone\n" {
		t.Errorf("%+v", got)
	}
}

func TestMultiProgTravels(t *testing.T) {
	c := &cluster{program: echo}
	env := c.start(t)
	dir := t.TempDir()
	const text = "0 echo A\n1-2 echo B%t\n"
	if err := os.WriteFile(filepath.Join(dir, "progs"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	submittest.Run{Dir: dir, Args: []string{"--multi-prog", "progs"}, Env: env}.Do(t, "srun", Main)
	if w := c.got.work[0]; !w.GetMultiProg() || w.GetMultiProgText() != text {
		t.Errorf("work %v", w)
	}
}

// supervised is a supervisor without nodes, whose words are kept.
func supervised(t *testing.T, args ...string) (*supervisor, *bytes.Buffer) {
	c := &cluster{}
	c.start(t)
	var b bytes.Buffer
	r, err := request.Parse(request.Srun, request.Context{Env: func(string) (string, bool) { return "", false }, Args: append(args, "prog")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	cmd := &submit.Command{Voice: say.New("srun", &b), Request: r}
	if err := cmd.Configure(); err != nil {
		t.Fatal(err)
	}
	reply, _ := c.CreateStep(t.Context(), nil)
	s := &step{Command: cmd, job: 5, reply: reply}
	s.status = newTasks(s)
	s.makeNodes()
	s.status.state[0] = taskRunning
	return &supervisor{step: s}, &b
}

func TestInterrupts(t *testing.T) {
	v, said := supervised(t)
	if v.interrupt() != 0 {
		t.Fatal("one interrupt ended srun")
	}
	v.interrupted = v.interrupted.Add(-2 * twice)
	v.interrupt() // too late to mean it
	v.interrupt() // soon enough
	if code := v.interrupt(); code != 130 {
		t.Errorf("the last interrupt gives %d", code)
	}
	want := strings.Repeat("srun: interrupt (one more within 1 sec to abort)\nsrun: StepId=5.3 task 0: running\n", 2) +
		"srun: sending Ctrl-C to StepId=5.3\n" +
		"srun: Job step aborted: Waiting up to 32 seconds for job step to finish.\nsrun: forcing job termination\n"
	if said.String() != want {
		t.Errorf("said:\n%s", said)
	}
	v, said = supervised(t, "--quit-on-interrupt")
	v.interrupt()
	if !strings.HasPrefix(said.String(), "srun: sending Ctrl-C") || !v.aborting {
		t.Errorf("said:\n%s", said)
	}
}

func TestSignalsGoToTasks(t *testing.T) {
	started := make(chan struct{})
	seen := make(chan uint32, 1)
	c := &cluster{program: func(k *task) wlm.WaitStatus {
		close(started)
		seen <- <-k.signal
		return 0
	}}
	go func() {
		<-started
		syscall.Kill(os.Getpid(), syscall.SIGUSR1) //nolint:errcheck // ourselves
	}()
	if got := c.run(t, "", "prog"); got.Code != 0 {
		t.Errorf("%+v", got)
	}
	select {
	case s := <-seen:
		if s != uint32(syscall.SIGUSR1) {
			t.Errorf("signal %d", s)
		}
	case <-time.After(5 * time.Second):
		t.Error("no signal came")
	}
}

func TestNobodyReadsOutput(t *testing.T) {
	o := &output{raw: true, only: [2]uint32{allTasks, allTasks}, broken: make(chan struct{}, 1), partial: map[partial][]byte{}}
	o.to[0] = brokenPipe{}
	o.write(0, []byte("x"))
	o.write(0, []byte("y"))
	select {
	case <-o.broken:
	default:
		t.Error("a broken pipe goes unnoticed")
	}
}

func TestNumbered(t *testing.T) {
	for want, ids := range map[string][]uint32{"task 7": {7}, "tasks 0-2,5,7-8": {8, 0, 1, 5, 2, 7}} {
		if got := numbered(ids); got != want {
			t.Errorf("%v: %s", ids, got)
		}
	}
}

func BenchmarkStepInAllocation(b *testing.B) {
	c := &cluster{program: func(*task) wlm.WaitStatus { return 0 }}
	env := c.start(b)
	for b.Loop() {
		submittest.Run{Dir: "/tmp", Args: []string{"-n1", "true"}, Env: env}.Do(b, "srun", Main)
	}
}
