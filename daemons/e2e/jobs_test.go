package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// One cluster serves the tests of this file; none of them needs it empty.
func TestJobs(t *testing.T) {
	c := up(t, "--nodes", "4", "--cpus", "8")
	for _, tt := range []struct {
		name string
		test func(*testing.T, *cluster)
	}{
		{"batch output", batchOutput},
		{"script from standard input", scriptFromStdin},
		{"exit codes are recorded", exitCodes},
		{"array", arrayJob},
		{"dependencies", dependencies},
		{"srun labels its output", srunLabels},
		{"srun carries standard input and error", srunStreams},
		{"srun returns the task's exit code", srunExit},
		{"steps in a batch job", batchSteps},
		{"salloc", sallocRuns},
		{"scancel", cancel},
		{"hold and release", holdRelease},
		{"requeue runs again", requeue},
		{"time limit", timeLimit},
		{"bad requests", badRequests},
		{"other users", otherUsers},
		{"drained nodes get no jobs", drain},
		{"a terminal of its own", terminal},
		{"interrupts", interrupts},
		{"signals to srun", signals},
		{"environment", environment},
		{"output patterns", patterns},
		{"corresponding tasks", corresponding},
		{"a message to a job", message},
		{"processes of steps", processes},
	} {
		t.Run(tt.name, func(t *testing.T) {
			here := *c
			here.t = t
			tt.test(t, &here)
		})
	}
}

func batchOutput(t *testing.T, c *cluster) {
	c.write("hello.sh", "#!/bin/bash\n#SBATCH --job-name=hello\n#SBATCH -o hello-%j.out\necho \"hello from $SLURM_JOB_NAME $SLURM_JOB_ID $1\"\n")
	id := c.submit("hello.sh", "friend")
	c.ended(id, "COMPLETED 0:0")
	if got, want := c.file("hello-"+id+".out"), fmt.Sprintf("hello from hello %s friend\n", id); got != want {
		t.Errorf("output %q, want %q", got, want)
	}
}

func scriptFromStdin(t *testing.T, c *cluster) {
	r := c.feed("#!/bin/sh\necho $0 is mine > stdin.out\n", "sbatch", "--parsable", "-o", "/dev/null")
	if r.code != 0 {
		t.Fatal(r)
	}
	c.ended(strings.TrimSpace(r.out), "COMPLETED 0:0")
	if got := c.file("stdin.out"); !strings.Contains(got, "is mine") {
		t.Errorf("output %q", got)
	}
}

func exitCodes(t *testing.T, c *cluster) {
	ids := map[string]string{}
	for _, e := range []struct{ wrap, want string }{
		{"exit 0", "COMPLETED 0:0"}, {"exit 7", "FAILED 7:0"}, {"kill -9 $$", "FAILED 0:9"},
	} {
		ids[c.submit("-o", "/dev/null", "--wrap", e.wrap)] = e.want
	}
	for id, want := range ids {
		c.ended(id, want)
	}
}

func arrayJob(t *testing.T, c *cluster) {
	id := c.submit("--array=1-6%2", "-o", "task-%a.out", "--wrap", "echo $SLURM_ARRAY_JOB_ID $SLURM_ARRAY_TASK_ID; exit $((SLURM_ARRAY_TASK_ID == 4))")
	c.await("the array to end", func() bool {
		out := c.ok("sacct", "-X", "-n", "-P", "-j", id, "-o", "State")
		return strings.Count(out, "COMPLETED") == 5 && strings.Count(out, "FAILED") == 1
	})
	for i := 1; i <= 6; i++ {
		if got, want := c.file(fmt.Sprintf("task-%d.out", i)), fmt.Sprintf("%s %d\n", id, i); got != want {
			t.Errorf("task %d: output %q, want %q", i, got, want)
		}
	}
	out := c.ok("sacct", "-X", "-n", "-P", "-j", id, "-o", "JobID,ExitCode")
	if !strings.Contains(out, id+"_4|1:0\n") {
		t.Errorf("sacct of the array:\n%s", out)
	}
}

func dependencies(t *testing.T, c *cluster) {
	first := c.submit("--hold", "-o", "/dev/null", "--wrap", "echo first >> order; exit 3")
	ok := c.submit("-d", "afterok:"+first, "-o", "/dev/null", "--wrap", "echo never >> order")
	not := c.submit("-d", "afternotok:"+first, "-o", "/dev/null", "--wrap", "echo second >> order")
	last := c.submit("-d", "afterany:"+not, "-o", "/dev/null", "--wrap", "echo third >> order")
	c.ok("scontrol", "release", first)
	c.ended(last, "COMPLETED 0:0")
	if got := c.file("order"); got != "first\nsecond\nthird\n" {
		t.Errorf("order of jobs: %q", got)
	}
	reason := strings.TrimSpace(c.ok("squeue", "-h", "-j", ok, "-o", "%r"))
	if reason != "DependencyNeverSatisfied" {
		t.Errorf("a job whose dependency failed waits for %q", reason)
	}
	c.ok("scancel", ok)
	c.ended(ok, "CANCELLED by 0 0:0")
}

func srunLabels(t *testing.T, c *cluster) {
	out := c.ok("srun", "-N4", "-n8", "-l", "sh", "-c", "echo $SLURM_PROCID $SLURMD_NODENAME")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	nodes := map[string]bool{}
	for _, l := range lines {
		w := strings.Fields(l)
		if len(w) != 3 || w[0] != w[1]+":" {
			t.Errorf("line %q is not labelled by its rank", l)
			continue
		}
		nodes[w[2]] = true
	}
	if len(lines) != 8 || len(nodes) != 4 {
		t.Errorf("%d lines from %d nodes, want 8 from 4:\n%s", len(lines), len(nodes), out)
	}
}

func srunStreams(t *testing.T, c *cluster) {
	r := c.feed("one\ntwo\n", "srun", "-Q", "-n1", "sh", "-c", "cat; echo oops >&2")
	if r.code != 0 || r.out != "one\ntwo\n" || !strings.Contains(r.errOut, "oops\n") {
		t.Error(r)
	}
	big := strings.Repeat("0123456789abcde\n", 20000)
	if r := c.feed(big, "srun", "-Q", "-n1", "cat"); r.code != 0 || r.out != big {
		t.Errorf("exit %d: %d bytes came back of %d", r.code, len(r.out), len(big))
	}
}

func srunExit(t *testing.T, c *cluster) {
	for _, e := range []struct {
		script string
		want   int
	}{{"exit 0", 0}, {"exit 9", 9}, {"kill -TERM $$", 143}} {
		if r := c.run("srun", "-n1", "sh", "-c", e.script); r.code != e.want {
			t.Errorf("want %d: %v", e.want, r)
		}
	}
	if r := c.run("srun", "-n1", "/no/such/program"); r.code != 2 || !strings.Contains(r.errOut, "No such file or directory") {
		t.Error(r)
	}
}

func batchSteps(t *testing.T, c *cluster) {
	c.write("steps.sh", "#!/bin/bash\n#SBATCH -N2 -n4 -o steps.out\nsrun -l hostname >/dev/null && srun -n1 --exact echo one\nsrun -n1 sh -c 'exit 5'\necho status $?\n")
	id := c.submit("steps.sh")
	c.ended(id, "COMPLETED 0:0")
	if got := c.file("steps.out"); !strings.Contains(got, "one\n") || !strings.Contains(got, "status 5\n") {
		t.Errorf("output %q", got)
	}
	var rows []string
	c.await("the steps in accounting", func() bool {
		rows = strings.Fields(c.ok("sacct", "-n", "-P", "-j", id, "-o", "JobID,State,ExitCode"))
		return len(rows) >= 5
	})
	for _, want := range []string{"|COMPLETED|0:0", ".batch|COMPLETED|0:0", ".0|COMPLETED|0:0", ".1|COMPLETED|0:0", ".2|FAILED|5:0"} {
		if !slices.Contains(rows, id+want) {
			t.Errorf("no row %s%s in accounting: %v", id, want, rows)
		}
	}
}

func sallocRuns(t *testing.T, c *cluster) {
	r := c.run("salloc", "-N2", "sh", "-c", "echo $SLURM_JOB_NUM_NODES nodes; srun hostname | wc -l; exit 4")
	if r.code != 4 || !strings.HasPrefix(r.out, "2 nodes\n2\n") {
		t.Error(r)
	}
}

func cancel(t *testing.T, c *cluster) {
	id := c.submit("-o", "/dev/null", "--wrap", "sleep 300")
	c.running(id)
	c.ok("scancel", id)
	c.ended(id, "CANCELLED by 0 0:0")
	if r := c.run("scancel", "999999"); r.code != 225 || !strings.Contains(r.errOut, "Invalid job id") {
		t.Error(r)
	}
}

func holdRelease(t *testing.T, c *cluster) {
	id := c.submit("-H", "-o", "/dev/null", "--wrap", "true")
	c.await("the reason of a held job", func() bool {
		return strings.TrimSpace(c.ok("squeue", "-h", "-j", id, "-o", "%T %r")) == "PENDING JobHeldUser"
	})
	c.ok("scontrol", "release", id)
	c.ended(id, "COMPLETED 0:0")
}

func requeue(t *testing.T, c *cluster) {
	id := c.submit("-o", "/dev/null", "--wrap", "echo run >> again; [ \"${SLURM_RESTART_COUNT:-0}\" -gt 0 ] || sleep 300")
	c.running(id)
	c.await("the first run", func() bool { return c.file("again") == "run\n" })
	c.ok("scontrol", "requeue", id)
	// The second run may be over already; nothing else may be wrong.
	if r := c.run("scontrol", "update", "JobId="+id, "StartTime=now"); r.code != 0 &&
		(r.code != 1 || r.errOut != "Job/step already completing or completed for job "+id+"\n") {
		t.Error(r)
	}
	c.ended(id, "COMPLETED 0:0")
	if got := c.file("again"); got != "run\nrun\n" {
		t.Errorf("the job ran %q", got)
	}
}

func timeLimit(t *testing.T, c *cluster) {
	if testing.Short() {
		t.Skip("takes a minute: time limits are whole minutes")
	}
	id := c.submit("-t", "0:01", "-o", "/dev/null", "--wrap", "sleep 300")
	c.running(id)
	if out := c.ok("squeue", "-h", "-j", id, "-o", "%l"); strings.TrimSpace(out) != "1:00" {
		t.Errorf("time limit %q, want 1:00", out)
	}
	c.ok("scancel", id)
}

func badRequests(t *testing.T, c *cluster) {
	c.write("plain.txt", "echo no interpreter\n")
	c.write("dos.sh", "#!/bin/sh\r\necho x\r\n")
	for _, tt := range []struct {
		args []string
		want string // on stderr
	}{
		{[]string{"-p", "nowhere", "--wrap", "true"}, "invalid partition specified: nowhere"},
		{[]string{"--mem=99999999", "--wrap", "true"}, "Memory specification can not be satisfied"},
		{[]string{"-t", "soon", "--wrap", "true"}, "Invalid --time specification"},
		{[]string{"--mem=lots", "--wrap", "true"}, "Invalid --mem specification"},
		{[]string{"--array=5-x", "--wrap", "true"}, "Invalid job array specification"},
		{[]string{"-d", "afterok:x", "--wrap", "true"}, "Job dependency problem"},
		{[]string{"/no/such/script"}, "Unable to open file /no/such/script"},
		{[]string{"plain.txt"}, "This does not look like a batch script"},
		{[]string{"dos.sh"}, "DOS line breaks"},
		{[]string{"--no-such-option"}, "unrecognized option '--no-such-option'"},
	} {
		r := c.run("sbatch", tt.args...)
		if r.code == 0 || !strings.Contains(r.errOut, tt.want) {
			t.Errorf("want %q: %v", tt.want, r)
		}
	}
	if r := c.run("scontrol", "show", "job", "999999"); r.code != 1 || !strings.Contains(r.errOut+r.out, "Invalid job id specified") {
		t.Error(r)
	}
}

// otherUsers needs root, which may become another user.
func otherUsers(t *testing.T, c *cluster) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become another user")
	}
	if err := exec.Command("id", "nobody").Run(); err != nil {
		t.Skip("needs the user nobody")
	}
	if _, err := exec.LookPath("setpriv"); err != nil {
		t.Skip("needs setpriv of util-linux")
	}
	as := func(args ...string) result {
		return c.run("setpriv", append([]string{"--reuid=nobody", "--regid=nogroup", "--clear-groups"}, args...)...)
	}
	if err := os.Chmod(c.work, 0o777); err != nil {
		t.Fatal(err)
	}
	r := as("sbatch", "--parsable", "-o", "nobody.out", "--wrap", "id -un")
	if r.code != 0 {
		t.Fatal(r)
	}
	c.ended(strings.TrimSpace(r.out), "COMPLETED 0:0")
	if got := c.file("nobody.out"); got != "nobody\n" {
		t.Errorf("the job ran as %q", got)
	}
	mine := c.submit("-H", "-o", "/dev/null", "--wrap", "true")
	if r := as("scancel", mine); r.code == 0 || !strings.Contains(r.errOut, "Access/permission denied") {
		t.Errorf("nobody cancels root's job: %v", r)
	}
	if r := as("scontrol", "update", "NodeName=n1", "State=DRAIN", "Reason=x"); r.code == 0 {
		t.Errorf("nobody drains a node: %v", r)
	}
	c.ok("scancel", mine)
}

func drain(t *testing.T, c *cluster) {
	c.ok("scontrol", "update", "NodeName=n4", "State=DRAIN", "Reason=broken fan")
	if out := c.ok("sinfo", "-h", "-n", "n4", "-p", "main", "-o", "%T"); !strings.HasPrefix(out, "drain") {
		t.Errorf("state %q", out)
	}
	if r := c.run("sbatch", "-w", "n4", "-o", "/dev/null", "--parsable", "--wrap", "true"); r.code == 0 {
		id := strings.TrimSpace(r.out)
		c.await("a reason", func() bool {
			return strings.Contains(c.ok("squeue", "-h", "-j", id, "-o", "%r"), "ReqNodeNotAvail")
		})
		c.ok("scontrol", "update", "NodeName=n4", "State=RESUME")
		c.ended(id, "COMPLETED 0:0")
		return
	}
	c.ok("scontrol", "update", "NodeName=n4", "State=RESUME")
}
