package main

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wire"
)

// underLoad is what 100 submissions a second, each of which causes a pass, felt.
type underLoad struct {
	p99 float64 // of an answer, in milliseconds
	gap float64 // longest time from one pass to the next, in milliseconds
}

// load submits until done is closed.
func (c *cluster) load(done <-chan struct{}) (u underLoad) {
	const rate, poll, p99 = 100, 2 * time.Millisecond, 0.99
	cl, watch := c.dial(), c.dial()
	defer cl.Close()
	defer watch.Close()
	spec := wire.SpecToWire(c.spec())
	var mu sync.Mutex // guards took and failed
	var took []float64
	var failed error
	var all sync.WaitGroup
	tick, look := time.NewTicker(time.Second/rate), time.NewTicker(poll)
	defer tick.Stop()
	defer look.Stop()
	passes, since := c.counters(watch)["passes"], time.Now()
	var gap time.Duration
	for n := 0; ; {
		select {
		case <-done:
			all.Wait()
			check(failed)
			slices.Sort(took)
			return underLoad{took[int(p99*float64(len(took)))], milli(gap)}
		case <-look.C:
			if now := c.counters(watch)["passes"]; now != passes {
				gap = max(gap, time.Since(since))
				passes, since = now, time.Now()
			}
		case <-tick.C:
			n++
			key := fmt.Sprint("swap", time.Now().UnixNano(), n)
			all.Go(func() {
				began := time.Now()
				_, err := cl.Controller.Submit(c.b.ctx, &ctlv1.SubmitRequest{Spec: spec, Script: []byte(trueScript), Key: key})
				mu.Lock()
				defer mu.Unlock()
				if took = append(took, milli(time.Since(began))); err != nil {
					failed = err
				}
			})
		}
	}
}

// swapCost swaps every policy and the storage under load, and compares with the
// same load without. The jobs wait behind one that has all nodes.
func swapCost(b *bench, c *cluster) {
	const each, calm = 10, 5 * time.Second // swaps of a run
	c.run("sbatch", "-Q", "--exclusive", "-N4", "-o", "/dev/null", "--wrap", "sleep 3600")
	defer c.run("scancel", "--me")
	c.await("the nodes to be full", func() bool { return c.run("squeue", "-h", "-t", "R", "-o", "%i") != "" })
	kinds := []string{"sched/builtin", "select/linear", "sched/backfill", "select/cons_tres", "priority", "accounting_storage"}
	cl := c.dial()
	defer cl.Close()
	before := c.counters(cl)["passes_failed"]
	var quietP99, quietGap, p99, gap, times, ratio []float64
	for range b.runs {
		still := make(chan struct{})
		time.AfterFunc(calm, func() { close(still) })
		quiet := c.load(still)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range each * len(kinds) {
				cmd := c.command("scontrol", "reload", "plugin", kinds[i%len(kinds)])
				began := time.Now()
				if out, err := cmd.CombinedOutput(); err != nil {
					fmt.Printf("# swap of %s: %v: %s\n", kinds[i%len(kinds)], err, out)
					b.failed = true
					return
				}
				times = append(times, milli(time.Since(began)))
			}
		}()
		busy := c.load(done)
		quietP99, quietGap = append(quietP99, quiet.p99), append(quietGap, quiet.gap)
		p99, gap, ratio = append(p99, busy.p99), append(gap, busy.gap), append(ratio, busy.p99/quiet.p99)
	}
	b.report("swap.time", "ms", "", times...)
	b.report("swap.submit_p99.quiet", "ms", "", quietP99...)
	b.report("swap.submit_p99", "ms", "", p99...)
	b.report("swap.submit_p99.ratio", "x", "", ratio...)
	b.report("swap.pass_gap.quiet", "ms", "", quietGap...)
	b.report("swap.pass_gap", "ms", "", gap...)
	b.report("swap.passes_failed", "passes", "", float64(c.counters(cl)["passes_failed"]-before))
}
