package main

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluice-hpc/sluice/sdk/client"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
)

// oneJob is the id of a job in the queue.
func (c *cluster) oneJob() string {
	one, _, _ := strings.Cut(c.run("squeue", "-h", "-o", "%i"), "\n")
	return one
}

func queries(b *bench, c *cluster) {
	c.fill(b.n(pending))
	one := c.oneJob()
	const each = 10
	for _, q := range []struct {
		name string
		line []string
	}{
		{"squeue", []string{"squeue"}},
		{"squeue_fmt", []string{"squeue", "-o", "%i|%j|%u|%T|%r|%P|%D|%C|%m|%V"}},
		{"squeue_user", []string{"squeue", "-u", strconv.Itoa(os.Getuid()), "-h", "-o", "%i"}},
		{"squeue_one", []string{"squeue", "-j", one}},
		{"json", []string{"squeue", "--json"}},
		{"sinfo", []string{"sinfo"}},
		{"scontrol_jobs", []string{"scontrol", "show", "jobs"}},
		{"scontrol_one", []string{"scontrol", "show", "job", one}},
		{"sacct_one", []string{"sacct", "-j", one}},
	} {
		var times []time.Duration
		for range each {
			times = append(times, c.time(q.line[0], q.line[1:]...))
		}
		b.reportTimes("query."+q.name, times)
		b.report("query."+q.name+".peak", "MiB", "", c.peak(q.line))
	}
}

// memory reports what slurmctld holds once it has come to rest, which is when
// its collector has returned what it does not need.
func (c *cluster) memory(name string, jobs int) {
	c.fill(jobs)
	const quiet, longest, still = 6 * time.Second, 40 * time.Second, 0.99
	pid := c.pid("ctld")
	least, most := ownMemory(pid)
	for end, since := time.Now().Add(longest), time.Now(); time.Now().Before(end) && time.Since(since) < quiet; {
		c.b.pause(time.Second)
		now, _ := ownMemory(pid)
		if now < least*still {
			since = time.Now()
		}
		least = min(least, now)
	}
	c.b.report(name, "MiB", "", least)
	c.b.report(name+".peak", "MiB", "", most)
}

func memorySmall(b *bench, c *cluster) { c.memory("memory.10k", b.n(pending)) }

func memoryLarge(b *bench, c *cluster) { c.memory("memory.100k", b.n(pendingMany)) }

// pluginKill kills the scheduler plugin, submits a job that can start at once
// and waits until a pass has started it.
func pluginKill(b *bench, c *cluster) {
	c.fill(b.n(pending))
	cl := c.dial()
	defer cl.Close()
	spec := c.spec()
	start := func() {
		before := c.counters(cl)["jobs_started"]
		began := time.Now()
		c.submit(1, 1, 1, spec)
		for c.counters(cl)["jobs_started"] == before {
			if time.Since(began) > time.Minute {
				fail("no pass started a job within a minute")
			}
			b.pause(time.Millisecond)
		}
	}
	start()
	runs := min(b.runs, 4) // five restarts within a minute bring the fallback
	var times []time.Duration
	for range runs {
		c.await("a quiet queue", func() bool { return c.counters(cl)["jobs_running"] == 0 })
		p, err := cl.Controller.Plugins(b.ctx, &ctlv1.PluginsRequest{Name: "sched"})
		check(err)
		if len(p.GetPlugins()) == 0 {
			fail("no plugin of the kind sched")
		}
		check(syscall.Kill(int(p.GetPlugins()[0].GetPid()), syscall.SIGKILL))
		began := time.Now()
		start()
		times = append(times, time.Since(began))
		b.pause(time.Second)
	}
	b.reportTimes("plugin.kill_to_pass", times)
}

func restart(b *bench, c *cluster) {
	c.fill(b.n(pendingMany))
	const calm = 3 * time.Second
	const attempt = 200 * time.Millisecond // short: a client that waits for its next try is not measured
	one, jobs := c.oneJob(), c.queued()
	var times, cpu []time.Duration
	for range b.runs {
		b.pause(calm)
		_, err := c.sh("kill9", "ctld")
		check(err)
		began := time.Now()
		_, err = c.sh("start", "ctld")
		check(err)
		c.await("the controller", func() bool {
			ctx, stop := context.WithTimeout(b.ctx, attempt)
			defer stop()
			return c.knows(ctx, one)
		})
		times = append(times, time.Since(began))
		cpu = append(cpu, cpuTime(c.pid("ctld")))
		if have := c.queued(); have != jobs {
			fail("%d of %d jobs are known after the restart", have, jobs)
		}
	}
	b.reportTimes("restart.100k", times)
	b.reportTimes("restart.100k.cpu", cpu)
}

// knows reports whether a controller answers with the job.
func (c *cluster) knows(ctx context.Context, id string) bool {
	n, err := strconv.ParseUint(id, 10, 32)
	check(err)
	cl, err := client.Open(ctx, c.target)
	if err != nil {
		return false
	}
	defer cl.Close()
	stream, err := cl.Controller.Jobs(ctx, &ctlv1.JobsRequest{Filter: &ctlv1.JobFilter{Refs: []*ctlv1.JobRef{{Job: uint32(n)}}}})
	if err != nil {
		return false
	}
	reply, err := stream.Recv()
	return err == nil && len(reply.GetJobs()) == 1
}

// elsewhere is a command whose own work is to be that of another machine, as far
// as one machine can do it: it gets what processor time nobody else wants. Where
// the kernel shares that out by session first, as autogroups do (sched(7)), a
// nice value counts only within one; so the command gets a session of its own.
func (c *cluster) elsewhere(ctx context.Context, name string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "sh", "-c", `{ echo 19 >/proc/self/autogroup; } 2>/dev/null; exec nice -n 19 "$0"`, name)
	cmd.Dir, cmd.Env = c.dir, c.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

// readers measures submissions with and without readers, in turn, so that
// whatever else the machine does falls on both. The readers' own work is that of
// other machines in a real cluster: what is asked here is what they cost the
// controller.
func readers(b *bench, c *cluster) {
	c.fill(b.n(pendingMany))
	const conns, inFlight, loops, warm = 64, 4, 50, 2 * time.Second
	n := b.n(pending)
	var alone, beside submissions
	var reads []float64
	for range b.runs {
		alone.run(c, n, conns, inFlight)
		ctx, stop := context.WithCancel(b.ctx)
		var all sync.WaitGroup
		var count atomic.Int64
		for range loops {
			all.Go(func() {
				for ctx.Err() == nil {
					if c.elsewhere(ctx, "squeue").Run() == nil {
						count.Add(1)
					}
				}
			})
		}
		began := time.Now()
		b.pause(warm)
		beside.run(c, n, conns, inFlight)
		reads = append(reads, perSecond(int(count.Load()), time.Since(began)))
		stop()
		all.Wait()
	}
	alone.report(b, "readers.alone")
	beside.report(b, "readers.beside50")
	b.report("readers.squeues", "reads/s", "", reads...)
	b.report("readers.slowdown", "%", "", 100*(1-middle(beside.rate)/middle(alone.rate)))
}
