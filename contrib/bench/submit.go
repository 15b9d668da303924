package main

import (
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/sluice-hpc/sluice/sdk/client"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wire"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// spec is a batch job of one task.
func (c *cluster) spec() *wlm.Spec {
	return &wlm.Spec{
		Name: "true", Kind: wlm.KindBatch, User: wlm.UID(os.Getuid()), Group: wlm.GID(os.Getgid()),
		MinNodes: 1, NTasks: 1, CPUsPerTask: 1, Argv: []string{"true"}, WorkDir: c.dir,
		StdOut: "/dev/null", Priority: wlm.Unset, CoreSpec: wlm.Unset,
	}
}

func (c *cluster) heldSpec() *wlm.Spec {
	s := c.spec()
	s.Hold = true
	return s
}

const trueScript = "#!/bin/sh\n/bin/true\n"

// submit submits n jobs like spec over conns connections, each with inFlight
// requests under way at a time. Each answer means that the job is on disk.
func (c *cluster) submit(n, conns, inFlight int, spec *wlm.Spec) time.Duration {
	clients := make([]*client.Client, conns)
	for i := range clients {
		clients[i] = c.dial()
		defer clients[i].Close()
		_, err := clients[i].Controller.Ping(c.b.ctx, &ctlv1.PingRequest{}) // connects
		check(err)
	}
	msg := wire.SpecToWire(spec)
	env := []string{"PATH=/usr/bin:/bin", "HOME=" + c.dir, "LANG=C"}
	work := make(chan int, n)
	for i := range n {
		work <- i
	}
	close(work)
	var first error
	var once sync.Once
	var all sync.WaitGroup
	began := time.Now()
	for _, cl := range clients {
		for range inFlight {
			all.Go(func() {
				for i := range work {
					_, err := cl.Controller.Submit(c.b.ctx, &ctlv1.SubmitRequest{
						Spec: msg, Script: []byte(trueScript), Env: env, Key: fmt.Sprintf("%d-%d", began.UnixNano(), i),
					})
					if err != nil {
						once.Do(func() { first = err })
						return
					}
				}
			})
		}
	}
	all.Wait()
	took := time.Since(began)
	check(first)
	return took
}

// rates submits n held jobs and returns jobs a second and the microseconds of
// processor time that slurmctld took for each.
func (c *cluster) rates(n, conns, inFlight int) (rate, cpu float64) {
	pid := c.pid("ctld")
	before := cpuTime(pid)
	took := c.submit(n, conns, inFlight, c.heldSpec())
	return perSecond(n, took), micros(n, cpuTime(pid)-before)
}

// fill brings the cluster to n held jobs, unless it has them.
func (c *cluster) fill(n int) {
	const conns, inFlight = 8, 16
	if have := c.queued(); have < n {
		c.submit(n-have, conns, inFlight, c.heldSpec())
	}
	if have := c.queued(); have < n {
		fail("%d jobs are in the queue, not %d", have, n)
	}
}

const (
	pending     = 10000  // jobs of the smaller tests
	pendingMany = 100000 // of the larger ones
)

// oneConnection leaves fewer than pending jobs.
func oneConnection(b *bench, c *cluster) {
	const alone, inFlight = 900, 64
	per := b.n((pending - 2*alone) / b.runs)
	var seq, rate, cpu []float64
	for range b.runs {
		r, _ := c.rates(b.n(alone/b.runs), 1, 1)
		seq = append(seq, r)
	}
	for range b.runs {
		r, u := c.rates(per, 1, inFlight)
		rate, cpu = append(rate, r), append(cpu, u)
	}
	b.report("client.conn1_seq", "jobs/s", syncs, seq...)
	b.report("client.conn1", "jobs/s", syncs, rate...)
	b.report("client.conn1.cpu", "us/job", "", cpu...)
}

// manyConnections leaves pendingMany jobs at least.
func manyConnections(b *bench, c *cluster) {
	const conns, inFlight, runs = 64, 4, 6
	c.fill(b.n(pending))
	per := (b.n(pendingMany) - b.n(pending)) / runs
	var rate, cpu []float64
	for range runs {
		r, u := c.rates(per, conns, inFlight)
		rate, cpu = append(rate, r), append(cpu, u)
	}
	b.report("client.conn64", "jobs/s", syncs, rate...)
	b.report("client.conn64.cpu", "us/job", "", cpu...)
}
