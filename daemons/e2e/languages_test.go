package e2e

import (
	"os/exec"
	"strings"
	"testing"
)

// A scheduler written in Python decides for real jobs, and does what its name
// says: a short job starts ahead of a wide one that waits, since it does not
// delay it.
func TestPythonScheduler(t *testing.T) {
	if out, err := exec.Command("/usr/bin/python3", "-I", "-c", "import grpc, google.protobuf").CombinedOutput(); err != nil {
		t.Skipf("python3-grpcio is missing (make deps-test installs it): %s", out)
	}
	c := up(t, "--nodes", "2", "--cpus", "2", "--set", "SchedulerType=sched/python-easy", "--add", "PluginOptions=sched/python-easy:depth=1000")
	if out := c.ok("scontrol", "show", "plugin", "sched"); !strings.Contains(out, "sched/python-easy") {
		t.Errorf("scontrol show plugin sched: %s", out)
	}
	long := c.submit("--nodes=1", "--exclusive", "--time=60", "--wrap", "sleep 600")
	c.running(long)
	wide := c.submit("--nodes=2", "--exclusive", "--time=60", "--wrap", "true")
	short := c.submit("--ntasks=1", "--time=1", "--wrap", "true")
	tooLong := c.submit("--ntasks=1", "--time=120", "--wrap", "true")
	c.ended(short, "COMPLETED 0:0")
	for _, job := range []string{wide, tooLong} {
		if got := strings.TrimSpace(c.ok("squeue", "-h", "-j", job, "-o", "%T")); got != "PENDING" {
			t.Errorf("job %s is %s: what would delay the wide job must wait", job, got)
		}
	}
	c.ok("scancel", long)
	c.ended(wide, "COMPLETED 0:0")
	c.ended(tooLong, "COMPLETED 0:0")
}
