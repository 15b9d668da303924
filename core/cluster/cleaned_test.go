package cluster

import (
	"fmt"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"google.golang.org/protobuf/proto"
)

// wide returns a cluster in which a job holds all of n nodes and was told to end.
func wide(n int) (*Cluster, *wlm.Job) {
	c := New(Settings{})
	var names []string
	j := &wlm.Job{ID: 7, Spec: &wlm.Spec{Name: "wide"}, State: wlm.Running, ArrayTask: wlm.Unset, Start: 5, Alloc: &wlm.Alloc{}}
	for i := range n {
		name := fmt.Sprintf("n%05d", i)
		names = append(names, name)
		c.emit(&Event{Kind: eventv1.Kind_NODE_CHANGED, Node: &wlm.Node{Name: wlm.NodeName(name), Index: wlm.NodeIndex(i), CPUs: 2, State: wlm.NodeUp}})
		j.Alloc.Nodes = append(j.Alloc.Nodes, wlm.NodeAlloc{Node: wlm.NodeName(name), CPUs: wlm.CPUSet{1}, Mem: 10})
	}
	j.Alloc.NodeList = hostlist.Compress(names)
	c.jobEvent(eventv1.Kind_JOB_STARTED, 5, j)
	c.turn[len(c.turn)-1].respec = true
	c.end(j, 10, outcome{state: wlm.Completed, killedBy: wlm.Unset})
	return c, j
}

// Each node that is clean costs the journal its name; replay, of that and of
// journals that have whole records, comes to the same tables.
func TestCleanNodesCostTheirNames(t *testing.T) {
	const nodes = 300
	c, j := wide(nodes)
	for i := nodes - 1; i > 0; i-- { // the first stays busy
		c.cleaned(c.jobs[j.ID], wlm.Time(20+i), j.Alloc.Nodes[i].Node, j.Alloc.Nodes[0].Node[:1])
		c.cleaned(c.jobs[j.ID], wlm.Time(20+i), j.Alloc.Nodes[i].Node) // said again
		if err := c.Check(); err != nil {
			t.Fatal(err)
		}
	}
	turn := c.TakeTurn()
	for _, whole := range []bool{false, true} {
		again := New(Settings{})
		for _, e := range turn {
			m := e.ToWire(whole)
			if size := proto.Size(m); !whole && e.Kind == eventv1.Kind_JOB_CLEANED && size > 60 {
				t.Fatalf("%s takes %d bytes", e, size)
			}
			if err := again.Replay(EventOfWire(m)); err != nil {
				t.Fatal(err)
			}
		}
		if err := again.Check(); err != nil {
			t.Fatalf("whole %v: %v", whole, err)
		}
		got, want := again.jobs[j.ID], c.jobs[j.ID]
		if fmt.Sprint(got.Cleaning) != fmt.Sprint(want.Cleaning) || len(got.Cleaning) != 1 {
			t.Errorf("whole %v: %v clean up, want %v", whole, got.Cleaning, want.Cleaning)
		}
		for i := range c.Usage {
			if a, b := again.Usage[i], c.Usage[i]; a.Completing != b.Completing || a.Mem != b.Mem || len(a.Jobs) != len(b.Jobs) {
				t.Fatalf("whole %v: node %d: %+v, want %+v", whole, i, a, b)
			}
		}
	}
	if n := len(turn); n != nodes+2+nodes-1 {
		t.Errorf("%d events", n)
	}
}

func BenchmarkEndOf10000Nodes(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		c, j := wide(10000)
		b.StartTimer()
		for i := range j.Alloc.Nodes {
			c.cleaned(c.jobs[j.ID], 20, j.Alloc.Nodes[i].Node)
		}
		if !over(c.jobs[j.ID]) {
			b.Fatal("not over")
		}
	}
}
