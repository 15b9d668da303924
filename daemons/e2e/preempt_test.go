package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// preemptSite is two nodes of four CPUs with partitions of four tiers; jobs of
// the lower three make room each in its own way.
func preemptSite(t *testing.T) *cluster {
	t.Helper()
	c := site(t)
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	host, _, _ = strings.Cut(host, ".")
	port := freePorts(t, 3)
	text := fmt.Sprintf("ClusterName=preempt\nSlurmctldHost=c1(127.0.0.1:%d)\n%s\nSlurmdParameters=config_overrides\nKillWait=1\n"+
		"SchedulerType=sched/backfill\nPriorityType=priority/basic\nSelectType=select/cons_tres\nSelectTypeParameters=CR_Core_Memory\nDefMemPerCPU=100\n"+
		"PreemptType=preempt/partition_prio\nPreemptMode=SUSPEND,GANG\n", port, c.paths())
	for i := 1; i <= 2; i++ {
		text += fmt.Sprintf("NodeName=n%d NodeHostname=%s NodeAddr=127.0.0.1 Port=%d CPUs=4 RealMemory=4000\n", i, host, port+i)
	}
	text += "PartitionName=DEFAULT Nodes=ALL MaxTime=INFINITE State=UP\n" +
		"PartitionName=again PriorityTier=1 PreemptMode=REQUEUE Default=YES\n" +
		"PartitionName=grace PriorityTier=1 PreemptMode=CANCEL GraceTime=2\n" +
		"PartitionName=sleepy PriorityTier=1\n" +
		"PartitionName=safe PriorityTier=1 PreemptMode=OFF\n" +
		"PartitionName=high PriorityTier=10\n"
	c.configure(text)
	c.daemon("slurmctld", "--host", "c1")
	c.daemon("slurmd", "-N", "n1")
	c.daemon("slurmd", "-N", "n2")
	c.await("the nodes to be idle", func() bool {
		return strings.Count(c.run("sinfo", "-h", "-N", "-p", "high", "-t", "idle", "-o", "%N").out, "\n") >= 2
	})
	return c
}

// Jobs of a lower tier make room as their partition says, and as Slurm's do.
func TestPreemption(t *testing.T) {
	c := preemptSite(t)
	clear := func(t *testing.T) {
		t.Helper()
		c.run("scancel", "--me")
		c.await("the jobs to be gone", func() bool { return c.run("squeue", "-h").out == "" })
	}
	state := func(job, format string) string {
		return strings.TrimSpace(c.run("squeue", "-h", "-j", job, "-o", format).out)
	}
	long := c.write("long.sh", "#!/bin/sh\necho start $SLURM_RESTART_COUNT\nexec sleep 600\n")

	t.Run("requeue", func(t *testing.T) {
		defer clear(t)
		low := c.submit("-p", "again", "-N2", "-n8", "-o", "again.out", "--open-mode=append", long)
		c.running(low)
		c.await("the script to start", func() bool { return strings.Contains(c.file("again.out"), "start") })
		high := c.submit("-p", "high", "-N1", "-n2", "--wrap", "exit 0")
		c.ended(high, "COMPLETED 0:0")
		c.await("the victim to run again", func() bool { return strings.Contains(c.file("again.out"), "start 1") })
		if got := state(low, "%T %r"); got != "RUNNING None" {
			t.Errorf("the victim is %s", got)
		}
		c.await("accounting to have both runs", func() bool {
			return c.ok("sacct", "-D", "-X", "-n", "-P", "-j", low, "-o", "State,ExitCode") == "PREEMPTED|0:0\nRUNNING|0:0\n"
		})
		if out := c.file("again.out"); !strings.Contains(out, "DUE TO PREEMPTION ***") {
			t.Errorf("the victim's output: %q", out)
		}
	})
	t.Run("the fewest victims", func(t *testing.T) {
		defer clear(t)
		var jobs []string
		for range 4 {
			jobs = append(jobs, c.submit("-p", "again", "-n2", "-o", "/dev/null", long))
		}
		for _, j := range jobs {
			c.running(j)
		}
		c.ended(c.submit("-p", "high", "-N1", "-n3", "--wrap", "exit 0"), "COMPLETED 0:0")
		if out := c.ok("sacct", "-D", "-X", "-n", "-P", "-j", strings.Join(jobs, ","), "-o", "State"); strings.Count(out, "PREEMPTED") != 2 {
			t.Errorf("accounting: %q, want two victims", out)
		}
	})
	t.Run("cancel after a time of grace", func(t *testing.T) {
		defer clear(t)
		steps := c.write("grace.sh", "#!/bin/sh\nsrun -n1 sh -c 'trap \"echo got it; exit 0\" TERM; echo ready; while :; do sleep 0.1; done'\nsleep 600\n")
		low := c.submit("-p", "grace", "-N2", "-n8", "-o", "grace.out", steps)
		c.await("the step to be ready", func() bool { return strings.Contains(c.file("grace.out"), "ready") })
		high := c.submit("-p", "high", "-N2", "-n8", "--wrap", "exit 0")
		c.await("the victim's step to hear the signal", func() bool { return strings.Contains(c.file("grace.out"), "got it") })
		c.await("the victim's time of preemption", func() bool {
			show := c.ok("scontrol", "show", "job", low)
			return strings.Contains(show, "PreemptEligibleTime=2") && strings.Contains(show, " PreemptTime=2")
		})
		c.ended(low, "PREEMPTED 0:0")
		c.ended(high, "COMPLETED 0:0")
	})
	t.Run("suspend and run on", func(t *testing.T) {
		defer clear(t)
		low := c.submit("-p", "sleepy", "-N2", "-n8", "-t", "10", "-o", "/dev/null", long)
		c.running(low)
		high := c.submit("-p", "high", "-n6", "-o", "/dev/null", long)
		c.running(high)
		if got := state(low, "%T %r"); got != "SUSPENDED None" {
			t.Errorf("the victim is %s", got)
		}
		equal := c.submit("-p", "sleepy", "-n1", "-o", "/dev/null", long)
		c.ended(c.submit("-p", "high", "-n2", "--wrap", "exit 0"), "COMPLETED 0:0")
		if got := state(equal, "%T"); got != "PENDING" {
			t.Errorf("a job of its own tier is %s while the victim sleeps", got)
		}
		c.run("scancel", high)
		c.running(low)
	})
	t.Run("no preemption", func(t *testing.T) {
		defer clear(t)
		low := c.submit("-p", "safe", "-N2", "-n8", "-o", "/dev/null", long)
		c.running(low)
		high := c.submit("-p", "high", "-n1", "-o", "/dev/null", long)
		c.await("a reason", func() bool { return state(high, "%T %r") == "PENDING Resources" })
		if got := state(low, "%T"); got != "RUNNING" {
			t.Errorf("the job is %s", got)
		}
	})
	t.Run("suspended by hand", func(t *testing.T) {
		if os.Getuid() != 0 {
			t.Skip("only operators suspend jobs")
		}
		defer clear(t)
		low := c.submit("-p", "safe", "-N2", "-n8", "-o", "/dev/null", long)
		c.running(low)
		c.ok("scontrol", "suspend", low)
		other := c.submit("-p", "safe", "-n1", "-o", "/dev/null", long)
		c.running(other)
		if r := c.run("scontrol", "resume", low); r.code == 0 || !strings.Contains(r.errOut, "Requested nodes are busy") {
			t.Errorf("resume beside another job: %s", r)
		}
		c.run("scancel", other)
		c.await("the other to be gone", func() bool { return !strings.Contains(c.run("squeue", "-h", "-o", "%i").out, other) })
		c.ok("scontrol", "resume", low)
		c.running(low)
	})
}
