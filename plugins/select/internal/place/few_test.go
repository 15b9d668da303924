package place

import (
	"context"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/selector"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// BenchmarkOneMore is a pass for one small job on a cluster of 384 nodes with some
// 600 running jobs: what a throughput workload asks for all the time.
func BenchmarkOneMore(b *testing.B) {
	c := newCluster(384, 1, 64, 1)
	k := &mirror.Class{ID: 1, Partitions: []int{0}, NTasks: 1, CPUsPerTask: 1}
	c.classes = append(c.classes, k)
	for i := range 600 {
		var u mirror.NodeUse
		u.Node, u.CPUs = wlm.NodeIndex(i/64), u.CPUs.Set(i%64)
		c.run(c.same(3600, k), testNow+3600, u)
	}
	j := c.same(600, k)
	v := c.view()
	a := sched.Agenda{Reservations: 1}
	a.Add(j.ID, sched.Reserve)
	e := Cores()
	b.ReportAllocs()
	for b.Loop() {
		if r, _ := e.Place(context.Background(), v, selector.Request{Agenda: a}); len(r.Placements) != 1 {
			b.Fatal("it does not start")
		}
	}
}
