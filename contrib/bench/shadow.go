package main

import (
	"syscall"
	"time"

	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
)

// shadowCost measures what a shadow costs the live side: live passes and answers
// under 100 submissions a second without one, with one, with one that is stopped
// by SIGSTOP and so answers nothing, and with one that is killed over and over. The
// four take turns. The jobs wait behind one that has all nodes.
func shadowCost(b *bench, c *cluster) {
	const span = 5 * time.Second
	c.run("sbatch", "-Q", "--exclusive", "-N4", "-o", "/dev/null", "--wrap", "sleep 3600")
	defer c.run("scancel", "--me")
	c.await("the nodes to be full", func() bool { return c.run("squeue", "-h", "-t", "R", "-o", "%i") != "" })
	cl := c.dial()
	defer cl.Close()
	figures := map[string][]float64{}
	measure := func(name string, beside func()) {
		before := c.counters(cl)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for end := time.Now().Add(span); time.Now().Before(end); b.pause(time.Second / 4) {
				beside()
			}
		}()
		u := c.load(done)
		now := c.counters(cl)
		passes := float64(max(now["passes"]-before["passes"], 1))
		figures[name+".pass"] = append(figures[name+".pass"], float64(now["pass_total_us"]-before["pass_total_us"])/1000/passes)
		figures[name+".submit_p99"] = append(figures[name+".submit_p99"], u.p99)
		if failed := now["passes_failed"] - before["passes_failed"]; failed > 0 {
			fail("%d live passes failed (%s)", failed, name)
		}
	}
	signal := func(s syscall.Signal) {
		reply, err := cl.Controller.Shadows(b.ctx, &ctlv1.ShadowsRequest{})
		check(err)
		for _, x := range reply.GetShadows() {
			if x.GetPid() > 0 {
				_ = syscall.Kill(int(x.GetPid()), s)
			}
		}
	}
	nothing := func() {}
	for range b.runs {
		measure("without", nothing)
		c.run("scontrol", "shadow", "plugin", "sched/backfill")
		measure("with", nothing)
		signal(syscall.SIGSTOP)
		measure("stopped", nothing)
		signal(syscall.SIGKILL)
		measure("killed", func() { signal(syscall.SIGKILL) })
		c.run("scontrol", "stop", "shadow")
	}
	for _, name := range []string{"without", "with", "stopped", "killed"} {
		b.report("shadow.pass."+name, "ms", "", figures[name+".pass"]...)
	}
	for _, name := range []string{"without", "with", "stopped", "killed"} {
		b.report("shadow.p99."+name, "ms", "", figures[name+".submit_p99"]...)
	}
}
