package place

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/selector"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

const (
	benchNodes  = 10_000
	benchJobs   = 100_000
	benchShapes = 2_000
)

// benchCluster has 10,000 nodes of 64 cores, 100,000 pending jobs of 2,000
// shapes, and running jobs on the share of nodes that is busy.
func benchCluster(busy float64, wide bool) *cluster {
	rnd := rand.New(rand.NewPCG(1, 2))
	c := newCluster(benchNodes, 2, 32, 1)
	for i := range c.nodes {
		c.nodes[i].Name = wlm.NodeName(fmt.Sprintf("n%05d", i))
		c.nodes[i].Memory = 256_000
		if i%4 == 0 {
			c.nodes[i].Features = []string{"big"}
		}
	}
	c.part("debug", 2, c.parts[0].Nodes[:100]...)
	var classes []*mirror.Class
	for i := range benchShapes {
		k := mirror.Class{ID: uint32(i + 1), Partitions: []int{0}, NTasks: uint32(1 + rnd.IntN(64)), CPUsPerTask: uint32(1 + rnd.IntN(2))}
		if i%4 == 0 && wide {
			k.MinNodes = uint32(1 + rnd.IntN(32))
			k.MaxNodes, k.NTasks = k.MinNodes, k.MinNodes*uint32(1+rnd.IntN(32))
		}
		k.MemPerCPU = wlm.MiB(500 * (1 + rnd.IntN(6)))
		if i%5 == 0 {
			k.Features = "big"
		}
		classes = append(classes, &k)
	}
	c.classes = classes
	for i := range benchNodes {
		if rnd.Float64() >= busy {
			continue
		}
		for part := range 4 {
			j := c.same(3600, classes[rnd.IntN(len(classes))])
			var u mirror.NodeUse
			u.Node, u.Mem = wlm.NodeIndex(i), 60_000
			for cpu := range 16 {
				u.CPUs = u.CPUs.Set(part*16 + cpu)
			}
			c.run(j, testNow+wlm.Time(rnd.IntN(36000)), u)
		}
	}
	for range benchJobs {
		k := classes[rnd.IntN(len(classes))]
		c.same(uint32(600+600*(k.ID%16)), k)
	}
	return c
}

func benchPlace(b *testing.B, c *cluster, when sched.WhenBlocked, reservations int) {
	v := c.view()
	a := sched.Agenda{Reservations: reservations}
	for j := range v.PendingByPriority() {
		a.Add(j.ID, when)
	}
	e := Cores()
	var r selector.Result
	b.ReportAllocs()
	for b.Loop() {
		r, _ = e.Place(context.Background(), v, selector.Request{Agenda: a})
	}
	b.ReportMetric(float64(len(r.Placements)), "starts")
	b.ReportMetric(float64(len(r.Verdicts)), "verdicts")
}

func BenchmarkFull(b *testing.B)  { benchPlace(b, benchCluster(1, true), sched.Reserve, 1) }
func BenchmarkEmpty(b *testing.B) { benchPlace(b, benchCluster(0, true), sched.Reserve, 1) }
func BenchmarkSerialOnEmpty(b *testing.B) {
	benchPlace(b, benchCluster(0, false), sched.Reserve, 1)
}
func BenchmarkNearlyFull(b *testing.B) { benchPlace(b, benchCluster(0.98, true), sched.Reserve, 1) }
func BenchmarkHalf(b *testing.B)       { benchPlace(b, benchCluster(0.5, true), sched.Reserve, 1) }
func BenchmarkStop(b *testing.B)       { benchPlace(b, benchCluster(0.5, true), sched.Stop, 0) }

// BenchmarkConservative is 500 jobs deep, as deep as Slurm's default.
func BenchmarkConservative(b *testing.B) {
	c := benchCluster(1, true)
	v := c.view()
	a := sched.Agenda{}
	for j := range v.PendingByPriority() {
		if a.Add(j.ID, sched.Reserve); len(a.Entries) == 500 {
			break
		}
	}
	e := Cores()
	for b.Loop() {
		_, _ = e.Place(context.Background(), v, selector.Request{Agenda: a})
	}
}
