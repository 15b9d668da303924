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

// submissions are the figures of several runs of held jobs: jobs a second, and
// microseconds of processor time for a job.
type submissions struct {
	rate   []float64
	ctld   []float64
	family []float64 // of slurmctld with its plugins
	client []float64 // of this program
	turn   []float64 // jobs of one turn of the controller's loop, which is one synced write
}

func (s *submissions) run(c *cluster, n, conns, inFlight int) {
	pid := c.pid("ctld")
	cl := c.dial()
	defer cl.Close()
	turns := c.counters(cl)["turns"]
	ctld, family, client := cpuTime(pid), familyTime(pid), ownTime()
	took := c.submit(n, conns, inFlight, c.heldSpec())
	s.rate = append(s.rate, perSecond(n, took))
	s.ctld = append(s.ctld, micros(n, cpuTime(pid)-ctld))
	s.family = append(s.family, micros(n, familyTime(pid)-family))
	s.client = append(s.client, micros(n, ownTime()-client))
	s.turn = append(s.turn, float64(n)/float64(max(c.counters(cl)["turns"]-turns, 1)))
}

func (s *submissions) report(b *bench, name string) {
	b.report(name, "jobs/s", syncs, s.rate...)
	b.report(name+".cpu_ctld", "us/job", "", s.ctld...)
	b.report(name+".cpu_family", "us/job", "", s.family...)
	b.report(name+".cpu_client", "us/job", "", s.client...)
	b.report(name+".turn", "jobs", "", s.turn...)
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
	var seq, many submissions
	for range b.runs {
		seq.run(c, b.n(alone/b.runs), 1, 1)
	}
	for range b.runs {
		many.run(c, per, 1, inFlight)
	}
	b.report("client.conn1_seq", "jobs/s", syncs, seq.rate...)
	many.report(b, "client.conn1")
}

// manyConnections leaves pendingMany jobs at least.
func manyConnections(b *bench, c *cluster) {
	const conns, inFlight, runs = 64, 4, 6
	c.fill(b.n(pending))
	per := (b.n(pendingMany) - b.n(pending)) / runs
	var s submissions
	for range runs {
		s.run(c, per, conns, inFlight)
	}
	s.report(b, "client.conn64")
}
