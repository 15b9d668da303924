package steps

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"pgregory.net/rapid"
)

// nodes makes n1, n2, ... with so many CPUs each and 1000M.
func nodes(cpus ...int) (out []Node) {
	for i, c := range cpus {
		out = append(out, Node{Name: wlm.NodeName(fmt.Sprintf("n%d", i+1)), CPUs: wlm.FullCPUSet(c), Mem: 1000})
	}
	return out
}

// describe prints a grant as "0:n1[0-2]=0,1,2 ...": cpus and task ids by node.
func describe(m *Manager, g *Grant) string {
	var out []string
	for _, s := range g.Shares {
		ids := make([]string, len(s.TaskIDs))
		for i, id := range s.TaskIDs {
			ids[i] = fmt.Sprint(id)
		}
		out = append(out, fmt.Sprintf("%s[%s]=%s", m.nodes[s.Index].Name, s.CPUs, strings.Join(ids, ",")))
	}
	return strings.Join(out, " ")
}

func TestLayout(t *testing.T) {
	tests := []struct {
		name  string
		nodes []Node
		tasks uint32
		req   Request
		want  string
		code  errs.Code
	}{
		{name: "as observed: -N2 -n4 -c2 on 6 and 2 CPUs", nodes: nodes(6, 2), tasks: 4, req: Request{MinNodes: 2, NTasks: 4, CPUsPerTask: 2},
			want: "n1[0-5]=0,1,2 n2[0-1]=3"},
		{name: "as observed: -N2 runs one task a node", nodes: nodes(1, 1), req: Request{MinNodes: 2, NTasks: 2}, want: "n1[0]=0 n2[0]=1"},
		{name: "nothing said: one task a node", nodes: nodes(4, 4), req: Request{}, want: "n1[0-3]=0 n2[0-3]=1"},
		{name: "the job's tasks", nodes: nodes(4, 4), tasks: 6, req: Request{}, want: "n1[0-3]=0,1,2 n2[0-3]=3,4,5"},
		{name: "one task, all CPUs", nodes: nodes(4, 4), req: Request{NTasks: 1}, want: "n1[0-3]=0"},
		{name: "one task, exact", nodes: nodes(4, 4), req: Request{NTasks: 1, Exact: true}, want: "n1[0]=0"},
		{name: "cyclic", nodes: nodes(4, 4), req: Request{NTasks: 5, Distribution: "cyclic"}, want: "n1[0-3]=0,2,4 n2[0-3]=1,3"},
		{name: "plane", nodes: nodes(4, 4), req: Request{NTasks: 6, Distribution: "plane=2"}, want: "n1[0-3]=0,1,4,5 n2[0-3]=2,3"},
		{name: "node list", nodes: nodes(4, 4, 4), req: Request{NTasks: 1, NodeList: "n3"}, want: "n3[0-3]=0"},
		{name: "node list and more nodes", nodes: nodes(4, 4, 4), req: Request{MinNodes: 2, NTasks: 2, NodeList: "n3"}, want: "n1[0-3]=0 n3[0-3]=1"},
		{name: "exclude", nodes: nodes(4, 4), req: Request{NTasks: 1, Exclude: "n1"}, want: "n2[0-3]=0"},
		{name: "relative", nodes: nodes(4, 4, 4), req: Request{NTasks: 1, Relative: 2}, want: "n3[0-3]=0"},
		{name: "tasks per node", nodes: nodes(4, 4), req: Request{MinNodes: 2, TasksPerNode: 2}, want: "n1[0-3]=0,1 n2[0-3]=2,3"},
		{name: "overcommit", nodes: nodes(1), req: Request{NTasks: 3, Overcommit: true}, want: "n1[0]=0,1,2"},
		{name: "whole with -c", nodes: nodes(4), req: Request{NTasks: 1, CPUsPerTask: 2, Whole: true}, want: "n1[0-3]=0"},
		{name: "interactive", nodes: nodes(4, 4), tasks: 8, req: Request{Interactive: true}, want: "n1[0-3]=0"},
		{name: "whole cores first", nodes: []Node{{Name: "n1", CPUs: wlm.CPUSet{0b1111_0111}, ThreadsPerCore: 2}},
			req: Request{NTasks: 2, Exact: true}, want: "n1[0-1]=0,1"},
		{name: "too many nodes", nodes: nodes(4, 4), req: Request{MinNodes: 3, NTasks: 3}, code: errs.NodeConfigUnavailable},
		{name: "too many tasks", nodes: nodes(4, 4), req: Request{NTasks: 9}, code: errs.TooManyCPUs},
		{name: "too many CPUs a task", nodes: nodes(4, 4), req: Request{NTasks: 1, CPUsPerTask: 5}, code: errs.TooManyCPUs},
		{name: "too much memory", nodes: nodes(4), req: Request{NTasks: 1, MemPerNode: 2000}, code: errs.InvalidMemory},
		{name: "a node of another job", nodes: nodes(4), req: Request{NTasks: 1, NodeList: "n9"}, code: errs.NodeConfigUnavailable},
		{name: "listed and excluded", nodes: nodes(4, 4), req: Request{NTasks: 1, NodeList: "n1", Exclude: "n1"}, code: errs.NodeConfigUnavailable},
		{name: "bad list", nodes: nodes(4), req: Request{NTasks: 1, NodeList: "n[1-"}, code: errs.InvalidNodeName},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.req.Relative == 0 {
				tt.req.Relative = wlm.Unset
			}
			m := New(tt.nodes, tt.tasks)
			g, err := m.Ask(1, tt.req, false)
			if errs.CodeOf(err) != tt.code {
				t.Fatalf("error %v, want code %d", err, tt.code)
			}
			if err == nil && describe(m, g) != tt.want {
				t.Errorf("got %s, want %s", describe(m, g), tt.want)
			}
		})
	}
}

func ask(t *testing.T, m *Manager, ticket Ticket, r Request) *Grant {
	t.Helper()
	r.Relative = wlm.Unset
	g, err := m.Ask(ticket, r, true)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestSharing(t *testing.T) {
	one := Request{NTasks: 1, Exact: true}
	t.Run("exact steps run side by side, the next waits", func(t *testing.T) {
		m := New(nodes(2), 0)
		a, b := ask(t, m, 1, one), ask(t, m, 2, one)
		if a == nil || b == nil || a.Shares[0].CPUs.Overlaps(b.Shares[0].CPUs) {
			t.Fatalf("grants %v and %v", a, b)
		}
		if c := ask(t, m, 3, one); c != nil {
			t.Fatalf("third step got %v", c)
		}
		out := m.End(a.Step)
		if len(out) != 1 || out[0].Ticket != 3 || out[0].Grant.Step != 2 || out[0].Grant.Shares[0].CPUs.String() != "0" {
			t.Errorf("admitted %+v", out)
		}
	})
	t.Run("a step has its nodes for itself", func(t *testing.T) {
		m := New(nodes(2, 2), 0)
		a := ask(t, m, 1, Request{NTasks: 1})
		if b := ask(t, m, 2, Request{NTasks: 1}); b == nil || describe(m, b) != "n2[0-1]=0" {
			t.Errorf("second step got %v", b)
		}
		if c := ask(t, m, 3, one); c != nil {
			t.Errorf("third step got %v", c)
		}
		if out := m.End(a.Step); len(out) != 1 {
			t.Errorf("admitted %v", out)
		}
	})
	t.Run("overlap takes nothing away", func(t *testing.T) {
		m := New(nodes(2), 0)
		ask(t, m, 1, Request{NTasks: 1})
		if g := ask(t, m, 2, Request{NTasks: 2, Overlap: true}); g == nil {
			t.Error("an overlapping step waits")
		}
		if g := ask(t, m, 3, Request{NTasks: 1, Exact: true, Overlap: true}); g == nil || g.Shares[0].CPUs.Count() != 1 {
			t.Errorf("got %v", g)
		}
	})
	t.Run("first come, first served", func(t *testing.T) {
		m := New(nodes(2), 0)
		a := ask(t, m, 1, one)
		ask(t, m, 2, Request{NTasks: 2, Exact: true})
		if g := ask(t, m, 3, one); g != nil {
			t.Fatal("a narrow step passed a wide one")
		}
		if out := m.Cancel(2); len(out) != 1 || out[0].Ticket != 3 {
			t.Errorf("after the wide one gave up: %v", out)
		}
		if out := m.End(a.Step); len(out) != 0 {
			t.Errorf("admitted %v", out)
		}
	})
	t.Run("not waiting", func(t *testing.T) {
		m := New(nodes(1), 0)
		ask(t, m, 1, one)
		one.Relative = wlm.Unset
		if _, err := m.Ask(2, one, false); errs.CodeOf(err) != errs.NodesBusy {
			t.Errorf("error %v", err)
		}
	})
	t.Run("memory", func(t *testing.T) {
		m := New(nodes(4), 0)
		r := Request{NTasks: 1, Exact: true, MemPerNode: 600}
		ask(t, m, 1, r)
		if g := ask(t, m, 2, r); g != nil {
			t.Error("1200M of 1000M were given")
		}
		m.Cancel(2)
		r.MemPerNode = 1000 // all of the job's: shared
		if g := ask(t, m, 3, r); g == nil {
			t.Error("a step with the job's memory waits")
		}
	})
	t.Run("restored", func(t *testing.T) {
		m := New(nodes(2), 0)
		g := ask(t, m, 1, one)
		n := New(nodes(2), 0)
		n.Restore(g)
		h := ask(t, n, 1, one)
		if h.Step != 1 || h.Shares[0].CPUs.Overlaps(g.Shares[0].CPUs) {
			t.Errorf("got %v beside %v", h, g)
		}
	})
}

// Whatever is asked and ended in whatever order: no CPU is held by two steps
// that do not overlap, memory is not exceeded, every task has a node, the same
// step is never given twice, and when all has ended nobody waits.
func TestNothingTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cpus := rapid.SliceOfN(rapid.IntRange(1, 9), 1, 5).Draw(t, "cpus")
		m := New(nodes(cpus...), rapid.Uint32Range(0, 6).Draw(t, "tasks"))
		live := map[wlm.StepID]*Grant{}
		waiting := map[Ticket]bool{}
		ids := map[wlm.StepID]bool{}
		take := func(g *Grant) {
			if ids[g.Step] {
				t.Fatalf("step %d given twice", g.Step)
			}
			ids[g.Step], live[g.Step] = true, g
			n := 0
			for _, s := range g.Shares {
				n += len(s.TaskIDs)
				if s.CPUs.AndNot(m.nodes[s.Index].CPUs).Count() > 0 {
					t.Fatalf("CPUs %v of node %d are not the job's", s.CPUs, s.Index)
				}
			}
			if n != int(g.NTasks) {
				t.Fatalf("%d tasks placed of %d", n, g.NTasks)
			}
		}
		check := func() {
			for i := range m.nodes {
				var all wlm.CPUSet
				var mem wlm.MiB
				for _, g := range live {
					if g.Overlap {
						continue
					}
					for _, s := range g.Shares {
						if s.Index != i {
							continue
						}
						if all.Overlaps(s.CPUs) {
							t.Fatalf("a CPU of node %d is held twice", i)
						}
						all = all.Or(s.CPUs)
						mem += s.Mem
					}
				}
				if mem > m.nodes[i].Mem {
					t.Fatalf("%dM held of %dM", mem, m.nodes[i].Mem)
				}
			}
		}
		admitted := func(out []Admitted) {
			for _, a := range out {
				if !waiting[a.Ticket] {
					t.Fatalf("ticket %d was not waiting", a.Ticket)
				}
				delete(waiting, a.Ticket)
				take(a.Grant)
			}
		}
		for i := range rapid.IntRange(1, 40).Draw(t, "moves") {
			if len(live) > 0 && rapid.Bool().Draw(t, "end") {
				for id := range live {
					delete(live, id)
					admitted(m.End(id))
					break
				}
			} else {
				r := Request{
					MinNodes:    rapid.Uint32Range(0, 3).Draw(t, "nodes"),
					NTasks:      rapid.Uint32Range(0, 8).Draw(t, "ntasks"),
					CPUsPerTask: rapid.Uint32Range(0, 3).Draw(t, "cpt"),
					MemPerNode:  wlm.MiB(rapid.IntRange(0, 3).Draw(t, "mem") * 300),
					Exact:       rapid.Bool().Draw(t, "exact"), Overlap: rapid.IntRange(0, 4).Draw(t, "overlap") == 0,
					Relative: wlm.Unset,
				}
				g, err := m.Ask(Ticket(i), r, true)
				switch {
				case g != nil:
					take(g)
				case err == nil:
					waiting[Ticket(i)] = true
				}
			}
			check()
		}
		for len(live) > 0 {
			for id := range live {
				delete(live, id)
				admitted(m.End(id))
				break
			}
			check()
		}
		if len(waiting) > 0 {
			t.Fatalf("%d requests wait for nothing", len(waiting))
		}
	})
}
