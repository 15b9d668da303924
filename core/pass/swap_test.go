package pass

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/plugin/wirecall"
	"github.com/sluice-hpc/sluice/sdk/priority"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/selector"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"pgregory.net/rapid"
)

// adopt makes the candidate's process the live one's, as pluginhost does.
func (w *world) adopt(c *process) func() error {
	return func() error {
		w.px.Local, w.px.policy = c.Local, c.policy
		w.px.epoch++
		return nil
	}
}

func TestSwap(t *testing.T) {
	for _, kind := range []string{sched.Kind, selector.Kind, priority.Kind} {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t)
			for range 4 {
				w.submit(wlm.Spec{})
			}
			w.pass()
			w.running(4)
			c := newProcess(&policy{})
			c.during = func() { // live passes go on while the candidate makes its own
				c.during = nil
				w.submit(wlm.Spec{})
				w.pass()
				w.running(5)
			}
			if err := w.r.Rehearse(t.Context(), kind, c); err != nil {
				t.Fatal(err)
			}
			w.submit(wlm.Spec{})
			w.pass() // the candidate hears of it, too
			w.running(6)
			if kind == sched.Kind && (c.policy.plans != 1 || c.policy.pending != 0) {
				t.Errorf("the candidate planned %d times, %d jobs", c.policy.plans, c.policy.pending)
			}
			w.px.snapshots = 0
			if err := w.r.Switch(w.px, c, w.adopt(c)); err != nil {
				t.Fatal(err)
			}
			w.end(1)
			w.submit(wlm.Spec{})
			w.pass()
			w.running(6)
			if w.px.pushes == 0 || w.px.snapshots != 0 {
				t.Errorf("%d snapshots of %d pushes after the switch", w.px.snapshots, w.px.pushes)
			}
		})
	}
}

func TestCandidatesThatFail(t *testing.T) {
	w := newWorld(t)
	w.submit(wlm.Spec{})
	broken := newProcess(&policy{broken: errors.New("no idea")})
	if err := w.r.Rehearse(t.Context(), sched.Kind, broken); err == nil {
		t.Error("a candidate that plans nothing passed")
	}
	if len(w.r.followers) != 0 {
		t.Error("it is fed on")
	}
	if err := w.r.Rehearse(t.Context(), "launch", newProcess(&policy{})); err == nil {
		t.Error("a kind that makes no passes passed")
	}
	c := newProcess(&policy{})
	if err := w.r.Rehearse(t.Context(), sched.Kind, c); err != nil {
		t.Fatal(err)
	}
	if err := w.r.Switch(w.px, c, func() error { return errors.New("it died") }); err == nil {
		t.Error("a dead candidate took over")
	}
	w.pass()
	w.running(1)
	// One that lost its mirror serves after a snapshot.
	if err := w.r.Rehearse(t.Context(), sched.Kind, c); err != nil {
		t.Fatal(err)
	}
	c.restart()
	if err := w.r.Switch(w.px, c, w.adopt(c)); err != nil {
		t.Fatal(err)
	}
	w.submit(wlm.Spec{})
	w.pass()
	w.running(2)
}

func (w *world) shadow(p sched.Scheduler, sel selector.Selector) (*Shadow, *process) {
	x := &process{policy: &policy{}, epoch: 1, Local: wirecall.NewLocal(sched.Handler(p), selector.Handler(sel))}
	now := w.now
	return NewShadow(ShadowOptions{Sched: x, Select: x, Rules: w.cfg.Settings, Now: func() time.Time { return now }}), x
}

// judged waits until the shadow made its pass.
func judged(t *testing.T, s *Shadow, passes uint64) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; {
		if r := s.Report(); r.GetPasses()+r.GetMissed() >= passes {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the shadow made %v of %d passes", s.Report(), passes)
		}
		runtime.Gosched()
	}
}

// A shadow that hangs, one that fails and one that died change nothing about
// live passes, not even their time.
func TestShadowsDoNotDelay(t *testing.T) {
	w := newWorld(t)
	hang := make(chan struct{})
	stuck, x := w.shadow(&policy{}, &policy{})
	x.during = func() { <-hang }
	broken, _ := w.shadow(&policy{broken: errors.New("no idea")}, &policy{})
	garbage, _ := w.shadow(&policy{}, &policy{bad: true})
	for _, s := range []*Shadow{stuck, broken, garbage} {
		w.r.Attach(s)
		go s.Run(t.Context()) //nolint:errcheck // it ends with the test
	}
	dead, _ := w.shadow(&policy{}, &policy{})
	w.r.Attach(dead) // nobody runs it
	t.Cleanup(func() { close(hang) })
	const passes = 50
	for i := range passes {
		id := w.submit(wlm.Spec{})
		w.pass()
		w.running(1)
		w.end(id)
		if i == 0 {
			judged(t, broken, 1)
		}
	}
	judged(t, broken, passes)
	judged(t, garbage, passes)
	if r := stuck.Report(); r.GetPasses() != 0 {
		t.Errorf("the stuck one: %v", r)
	}
	if r := broken.Report(); r.GetPasses() != 0 || r.GetLastError() == "" {
		t.Errorf("the broken one: %v", r)
	}
	dead.hear(make([]*cluster.Event, maxBehind+1), nil)
	if err := dead.Run(t.Context()); err == nil {
		t.Error("a shadow that nobody ran did not fall behind")
	}
}

// garbage answers every question with nonsense.
type garbage struct{ t *rapid.T }

func (g garbage) id() wlm.JobID { return wlm.JobID(rapid.Uint32Range(0, 12).Draw(g.t, "job")) }

func (g garbage) Plan(context.Context, sched.View) (a sched.Agenda, err error) {
	for range rapid.IntRange(0, 6).Draw(g.t, "entries") {
		a.Add(g.id(), sched.WhenBlocked(rapid.Uint8Range(0, 2).Draw(g.t, "when")))
	}
	a.Reservations = rapid.IntRange(-1, 3).Draw(g.t, "reservations")
	a.Wake = wlm.Time(rapid.Int64().Draw(g.t, "wake"))
	for range rapid.IntRange(0, 2).Draw(g.t, "running") {
		a.Running = append(a.Running, sched.Expectation{Job: g.id(), Expected: rapid.Uint32().Draw(g.t, "expected")})
	}
	for i := range a.Entries {
		if e := &a.Entries[i]; rapid.IntRange(0, 3).Draw(g.t, "extra") == 0 {
			e.Expected, e.NotBefore = rapid.Uint32().Draw(g.t, "expected"), wlm.Time(rapid.Int64().Draw(g.t, "not before"))
			e.Placement = []mirror.NodeUse{{Node: wlm.NodeIndex(rapid.IntRange(0, 1<<20).Draw(g.t, "at")), CPUs: wlm.CPUSet{1 << 63, 1}}}
		}
	}
	return a, g.fails()
}

func (g garbage) fails() error {
	if rapid.IntRange(0, 9).Draw(g.t, "fails") == 0 {
		return errors.New("nonsense")
	}
	return nil
}

func (g garbage) Rank(_ context.Context, _ mirror.View, r priority.Request) (out priority.Ranking, err error) {
	out.Jobs = slices.Clone(r.Jobs)
	for range rapid.IntRange(0, 3).Draw(g.t, "more") {
		out.Jobs = append(out.Jobs, g.id())
	}
	for range rapid.IntRange(0, 1).Draw(g.t, "odd") + len(out.Jobs) {
		out.Priorities = append(out.Priorities, rapid.Uint32().Draw(g.t, "priority"))
	}
	return out, g.fails()
}

func (g garbage) Place(context.Context, mirror.View, selector.Request) (out selector.Result, err error) {
	for range rapid.IntRange(0, 8).Draw(g.t, "placements") {
		p := selector.Placement{Job: g.id(), Partition: rapid.IntRange(-1, 2).Draw(g.t, "partition"), Backfilled: rapid.Bool().Draw(g.t, "backfilled")}
		for range rapid.IntRange(0, 3).Draw(g.t, "uses") {
			p.Uses = append(p.Uses, mirror.NodeUse{Node: wlm.NodeIndex(rapid.IntRange(0, 4).Draw(g.t, "node")),
				CPUs: wlm.CPUSet{rapid.Uint64Range(0, 8).Draw(g.t, "cpus")}, Mem: wlm.MiB(rapid.Uint64Range(0, 1<<40).Draw(g.t, "mem"))})
		}
		out.Placements = append(out.Placements, p)
	}
	for range rapid.IntRange(0, 3).Draw(g.t, "verdicts") {
		out.Verdicts = append(out.Verdicts, selector.Verdict{Reason: wlm.Reason(rapid.Uint32().Draw(g.t, "reason")), Text: rapid.String().Draw(g.t, "text"),
			Start: wlm.Time(rapid.Int64().Draw(g.t, "start")), Nodes: []wlm.NodeIndex{wlm.NodeIndex(rapid.IntRange(0, 1<<20).Draw(g.t, "at"))},
			Jobs: []wlm.JobID{g.id(), g.id()}})
	}
	return out, g.fails()
}

func (g garbage) WhatIf(ctx context.Context, v mirror.View, _ *mirror.Job) (selector.Result, error) {
	return g.Place(ctx, v, selector.Request{})
}

// Whatever plugins answer, the cluster stays true: no CPU is given twice, no
// job is lost, invented or changed, and a good plugin goes on from there.
func TestGarbageNeverChangesTheTruth(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		outlooks := func(m map[wlm.JobID]*wlm.Outlook) { _ = fmt.Sprint(m) }
		w.r.o.Outlooks = outlooks
		const jobs = 9
		want := map[wlm.JobID]wlm.Spec{}
		for i := range jobs {
			s := wlm.Spec{}
			if i%3 == 1 {
				s.Array = "0-2%2"
			}
			if i%4 == 2 {
				s.MinNodes = 2
			}
			id := w.submit(s)
			want[id] = *w.c.Job(id).Spec
		}
		g := garbage{rt}
		w.px.Local = wirecall.NewLocal(sched.Handler(g), selector.Handler(g), priority.Handler(g))
		w.px.epoch++
		for range 8 {
			w.r.cause = true
			w.now = w.now.Add(time.Second)
			_, _ = w.r.Pass(t.Context()) // it may fail, as often as it likes
			if err := w.c.Check(); err != nil {
				rt.Fatal(err)
			}
			used := map[wlm.NodeName]wlm.CPUSet{}
			for j := range w.c.AllJobs {
				if j.State != wlm.Pending && j.State != wlm.Running {
					rt.Fatalf("job %d is %v", j.ID, j.State)
				}
				if j.State == wlm.Running && (j.Alloc == nil || len(j.Alloc.Nodes) < int(j.Spec.MinNodes) || j.Start != wlm.TimeOf(w.now) && j.Start == 0) {
					rt.Fatalf("job %d runs on %v since %v", j.ID, j.Alloc, j.Start)
				}
				if j.Alloc == nil {
					continue
				}
				for _, a := range j.Alloc.Nodes {
					if used[a.Node].Overlaps(a.CPUs) {
						rt.Fatalf("job %d shares CPUs of %s", j.ID, a.Node)
					}
					used[a.Node] = used[a.Node].Or(a.CPUs)
				}
			}
			for id, s := range want {
				j := w.c.Job(id)
				if j == nil || j.Spec.User != s.User || j.Spec.MinNodes != s.MinNodes {
					rt.Fatalf("job %d was lost or changed: %v", id, j)
				}
			}
			if _, _, _, err := w.r.Forecast(t.Context(), &wlm.Job{Spec: &wlm.Spec{}}); err != nil {
				rt.Logf("forecast: %v", err)
			}
		}
		before := w.c.RunningCount()
		w.px.restart()
		w.r.cause = true
		w.pass()
		if w.c.RunningCount() < before {
			rt.Fatal("a good plugin ended jobs")
		}
	})
}
