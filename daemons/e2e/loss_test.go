package e2e

import (
	"strings"
	"testing"
)

// A job whose node is lost runs again elsewhere, and the node comes back.
func TestNodeLoss(t *testing.T) {
	c := up(t, "--nodes", "2", "--cpus", "2", "--set", "SlurmdTimeout=2", "--set", "ReturnToService=2")
	id := c.submit("-w", "n1", "-o", "first", "--wrap", "sleep 600")
	c.running(id)
	free := c.submit("-c", "2", "-o", "free", "--open-mode=append", "--wrap",
		"echo run $SLURM_RESTART_COUNT; [ -n \"$SLURM_RESTART_COUNT\" ] || sleep 600")
	c.running(free)
	c.ok("sluice", "kill9", "n2")
	state := func(node string) string {
		return strings.TrimSpace(c.ok("sinfo", "-h", "-n", node, "-o", "%t"))
	}
	c.await("n2 to be down", func() bool { return state("n2") == "down*" })
	c.ok("scancel", id)
	c.await("the job to run again", func() bool { return strings.Contains(c.file("free"), "run 1\n") })
	c.ended(free, "COMPLETED 0:0")
	c.ok("sluice", "start", "n2")
	c.await("n2 to be idle", func() bool { return state("n2") == "idle" })
}

// A job ends while the controller and its node's daemon are away, and another
// runs on; afterwards both have their own exit codes and nothing ran twice.
func TestJobsOutliveDaemons(t *testing.T) {
	c := up(t, "--nodes", "2", "--cpus", "2")
	script := "echo on; until [ -e go.$SLURM_JOB_ID ]; do sleep 0.05; done; echo over; exit 6"
	ends := c.submit("-w", "n1", "-o", "ends", "--wrap", script)
	stays := c.submit("-w", "n2", "-o", "stays", "--wrap", script)
	waits := c.submit("-H", "--wrap", "exit 2")
	for _, f := range []string{"ends", "stays"} {
		c.await(f+" to run", func() bool { return c.file(f) == "on\n" })
	}
	c.ok("sluice", "kill9", "ctld")
	c.ok("sluice", "kill9", "n1")
	c.write("go."+ends, "")
	c.await("the job to end", func() bool { return c.file("ends") == "on\nover\n" })
	c.ok("sluice", "start", "ctld")
	c.ok("sluice", "start", "n1")
	c.ended(ends, "FAILED 6:0")
	c.running(stays)
	c.write("go."+stays, "")
	c.ended(stays, "FAILED 6:0")
	c.ok("scontrol", "release", waits)
	c.ended(waits, "FAILED 2:0")
	if got := c.file("ends") + c.file("stays"); got != "on\nover\non\nover\n" {
		t.Errorf("the jobs wrote %q", got)
	}
}
