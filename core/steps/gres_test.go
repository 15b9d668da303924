package steps

import (
	"strings"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"pgregory.net/rapid"
)

// withGres are nodes of 4 CPUs whose resources are given as FormatGresUse prints
// them.
func withGres(t *testing.T, gres ...string) []Node {
	t.Helper()
	var nodes []Node
	for i, text := range gres {
		uses, err := wlm.ParseGresUse(text)
		if err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, Node{Name: wlm.NodeName("n" + string(rune('1'+i))), CPUs: wlm.FullCPUSet(4), Gres: uses})
	}
	return nodes
}

func parts(g *Grant) string {
	var out []string
	for i := range g.Shares {
		out = append(out, g.Shares[i].GresText())
	}
	return strings.Join(out, " ")
}

func TestGres(t *testing.T) {
	four := []string{"gpu:4(IDX:0-3),bw(CNT:50)"}
	two := []string{"gpu:a:2(IDX:0-1),gpu:b:2(IDX:2-3)", "gpu:a:1(IDX:1)"}
	for _, c := range []struct {
		nodes []string
		r     Request
		want  string // or an error's text
	}{
		{four, Request{NTasks: 1}, "gpu:4(IDX:0-3),bw(CNT:50)"},
		{four, Request{NTasks: 1, Gres: "none"}, ""},
		{four, Request{NTasks: 1, Gres: "gres/gpu:0"}, ""},
		{four, Request{NTasks: 1, Gres: "gres/gpu:1"}, "gpu:1(IDX:0)"},
		{four, Request{NTasks: 1, Gres: "gres/bw:10"}, "bw(CNT:10)"},
		{four, Request{NTasks: 1, TresPerStep: "gres/gpu:2"}, "gpu:2(IDX:0-1)"},
		{four, Request{NTasks: 3, TresPerTask: "gres/gpu:1"}, "gpu:3(IDX:0-2)"},
		{four, Request{NTasks: 3, TasksPerGPU: 2}, "gpu:2(IDX:0-1)"},
		{four, Request{NTasks: 1, TresPerSocket: "gres/gpu:1"}, "gpu:4(IDX:0-3)"},
		{four, Request{NTasks: 1, TresPerTask: "cpu=1"}, "gpu:4(IDX:0-3),bw(CNT:50)"},
		{four, Request{NTasks: 1, Gres: "gres/gpu:5"}, "gpu:5 is more than the job's gres_per_node=gpu:4"},
		{four, Request{NTasks: 2, TresPerTask: "gres/gpu:3"}, "Insufficient GRES available in allocation"},
		{two, Request{MinNodes: 2, NTasks: 2, Gres: "gres/gpu:a:1"}, "gpu:a:1(IDX:0) gpu:a:1(IDX:1)"},
		{two, Request{MinNodes: 2, NTasks: 2, TresPerStep: "gres/gpu:3"}, "gpu:a:2(IDX:0-1) gpu:a:1(IDX:1)"},
		{two, Request{NTasks: 1, TresPerStep: "gres/gpu:b:2"}, "gpu:b:2(IDX:2-3)"},
		{two, Request{NTasks: 1, NodeList: "n2", Gres: "gres/gpu:b:1"}, "gres"},
		{two, Request{NTasks: 3, TresPerTask: "gres/gpu:1"}, "gpu:a:2(IDX:0-1) gpu:a:1(IDX:1)"},
		{[]string{"shard:3(IDX:1)"}, Request{NTasks: 1, Gres: "gres/shard:2"}, "shard:2(IDX:1)"},
	} {
		c.r.Relative = wlm.Unset
		g, err := New(withGres(t, c.nodes...), 0).Ask(1, c.r, false)
		switch {
		case err != nil && !strings.Contains(err.Error(), c.want):
			t.Errorf("%+v: %v", c.r, err)
		case err == nil && parts(g) != c.want:
			t.Errorf("%+v: %s", c.r, parts(g))
		}
	}
}

// Steps that run together have different devices, and a step that finds too few
// waits for them.
func TestGresTogether(t *testing.T) {
	m := New(withGres(t, "gpu:4(IDX:0-3)"), 0)
	r := Request{NTasks: 1, Exact: true, TresPerStep: "gres/gpu:2", Relative: wlm.Unset}
	for i, want := range []string{"gpu:2(IDX:0-1)", "gpu:2(IDX:2-3)"} {
		g, err := m.Ask(Ticket(i), r, false)
		if err != nil || parts(g) != want {
			t.Fatalf("step %d: %v, %v", i, g, err)
		}
	}
	if _, err := m.Ask(2, r, false); errs.CodeOf(err) != errs.NodesBusy {
		t.Fatalf("a step without free devices: %v", err)
	}
	none := r
	none.TresPerStep, none.Gres = "", "none"
	if g, err := m.Ask(3, none, false); err != nil || parts(g) != "" {
		t.Fatalf("--gres=none: %v, %v", g, err)
	}
	over := r
	over.Overlap = true
	if g, err := m.Ask(4, over, false); err != nil || parts(g) != "gpu:2(IDX:0-1)" {
		t.Fatalf("--overlap: %v, %v", g, err)
	}
	if g, err := m.Ask(5, r, true); g != nil || err != nil {
		t.Fatalf("waiting: %v, %v", g, err)
	}
	if out := m.End(1); len(out) != 1 || parts(out[0].Grant) != "gpu:2(IDX:2-3)" {
		t.Fatalf("after the end of step 1: %v", out)
	}
	again := New(withGres(t, "gpu:4(IDX:0-3)"), 0) // a restart brings back what is held
	again.Restore(&Grant{Shares: []Share{{CPUs: wlm.FullCPUSet(1), Gres: withGres(t, "gpu:4(IDX:0-3)")[0].RestoreGres("gpu:3(IDX:0-2)")}}})
	if _, err := again.Ask(1, r, false); errs.CodeOf(err) != errs.NodesBusy {
		t.Fatalf("after a restart: %v", err)
	}
}

// No device is held twice, and all come back.
func TestGresProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := New(withGres(t, "gpu:a:2(IDX:0-1),gpu:b:2(IDX:2-3),bw(CNT:9)", "gpu:a:4(IDX:0-3)"), 0)
		var live []*Grant
		for i := range rapid.IntRange(1, 30).Draw(rt, "moves") {
			if len(live) > 0 && rapid.Bool().Draw(rt, "end") {
				m.End(live[0].Step)
				live = live[1:]
				continue
			}
			ask := func(name string) string {
				return rapid.SampledFrom([]string{"", "", "gres/gpu:1", "gres/gpu:2", "gres/gpu:a:1", "gres/bw:4"}).Draw(rt, name)
			}
			g, err := m.Ask(Ticket(i), Request{NTasks: rapid.Uint32Range(1, 3).Draw(rt, "n"), Exact: true, Relative: wlm.Unset,
				Gres: ask("node"), TresPerTask: ask("task"), TresPerStep: ask("step")}, false)
			if err == nil {
				live = append(live, g)
			}
			for node := range m.nodes {
				for k, own := range m.nodes[node].Gres {
					var devices wlm.CPUSet
					count := uint64(0)
					for _, g := range live {
						for _, s := range g.Shares {
							if s.Index == node && len(s.Gres) > 0 {
								if devices.Overlaps(s.Gres[k].Devices) {
									rt.Fatalf("a device of %s is held twice", own.Name)
								}
								devices, count = devices.Or(s.Gres[k].Devices), count+s.Gres[k].Count
							}
						}
					}
					if count > own.Count || devices.AndNot(own.Devices).Count() > 0 {
						rt.Fatalf("%d of %d %s are held, devices %s", count, own.Count, own.Name, devices)
					}
				}
			}
		}
		for _, g := range live {
			m.End(g.Step)
		}
		if g, err := m.Ask(99, Request{MinNodes: 2, NTasks: 2, Relative: wlm.Unset}, false); err != nil ||
			parts(g) != "gpu:a:2(IDX:0-1),gpu:b:2(IDX:2-3),bw(CNT:9) gpu:a:4(IDX:0-3)" {
			rt.Fatalf("not all came back: %v, %v", g, err)
		}
	})
}
