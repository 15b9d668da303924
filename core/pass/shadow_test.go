package pass

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/sdk/plugin/wirecall"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/selector"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"pgregory.net/rapid"
)

// beside is a shadow that moves with its world, in one goroutine.
type beside struct {
	*world
	s   *Shadow
	pol *policy // of the shadow
}

func newBeside(t *testing.T) *beside {
	b := &beside{world: newWorld(t), pol: &policy{}}
	x := newProcess(b.pol)
	b.s = NewShadow(ShadowOptions{Sched: x, Select: x, Rules: b.cfg.Settings, Now: func() time.Time { return b.now }})
	return b
}

func (b *beside) catchUp() {
	b.t.Helper()
	if err := b.s.CatchUp(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	if err := b.s.hist.c.Check(); err != nil {
		b.t.Fatal(err)
	}
}

// wait lets seconds pass on both sides.
func (b *beside) wait(seconds int) {
	b.t.Helper()
	for range seconds {
		b.now = b.now.Add(time.Second)
		b.catchUp()
	}
}

func (b *beside) both() {
	b.t.Helper()
	b.r.cause = true
	b.pass()
	b.catchUp()
}

func (b *beside) expect(what string, ok func(*ctlv1.ShadowReport) bool) {
	b.t.Helper()
	if r := b.s.Report(); !ok(r) {
		b.t.Errorf("%s: %v", what, r)
	}
}

func TestShadowHasAHistory(t *testing.T) {
	b := newBeside(t)
	old := b.submit(wlm.Spec{})
	b.pass()
	b.r.Attach(b.s)
	for range 3 {
		b.submit(wlm.Spec{})
	}
	b.both()
	b.expect("the same decisions", func(r *ctlv1.ShadowReport) bool {
		return r.GetAgreed() == 3 && r.GetAgreement() == 100 && r.GetCompared() == 3
	})

	// The live one starts nothing for ten seconds; the shadow does.
	b.world.pol.lazy = true
	late := b.submit(wlm.Spec{})
	b.both()
	b.wait(10)
	b.expect("it alone", func(r *ctlv1.ShadowReport) bool {
		return r.GetAgreed() == 3 && r.GetSooner() == 1 && r.GetLiveSide().GetWaitMean() == 2.5 && r.GetShadowSide().GetWaitMean() == 0
	})
	b.world.pol.lazy = false
	b.both()
	b.expect("sooner", func(r *ctlv1.ShadowReport) bool {
		e := r.GetExamples()
		return r.GetSooner() == 1 && len(e) == 1 && e[0].GetJob() == uint32(late) && e[0].GetLive()-e[0].GetShadow() == 10
	})
	// It ran for 5 seconds: that its CPU was free after 5 here, too, was not known.
	b.wait(5)
	b.end(late)
	b.end(old)
	b.both()
	b.expect("held too long", func(r *ctlv1.ShadowReport) bool { return r.GetOverheldCpuSeconds() == 10 })
	if got := b.s.hist.used.total; got != 3 {
		t.Errorf("%d CPUs are in use in the history", got)
	}

	// The shadow starts nothing for a while; the live job is over when it starts it.
	b.pol.lazy = true
	x := b.submit(wlm.Spec{})
	b.both()
	b.wait(4)
	b.end(x)
	b.both()
	b.expect("not at all", func(r *ctlv1.ShadowReport) bool { return r.GetNever() == 1 && r.GetAgreement() == 60 })
	b.wait(16)
	b.pol.lazy = false
	y := b.submit(wlm.Spec{})
	b.both()
	b.expect("later", func(r *ctlv1.ShadowReport) bool {
		return r.GetNever() == 0 && r.GetLater() == 1 && r.GetAgreed() == 4 && r.GetShadowSide().GetWaitMean() == 20./6
	})
	if got := b.s.hist.used.total; got != 5 {
		t.Errorf("%d CPUs are in use in the history, 5 jobs run there", got)
	}
	b.wait(4) // as long as it ran
	if got := b.s.hist.used.total; got != 4 || b.s.hist.c.Job(x) != nil {
		t.Errorf("%d CPUs are in use in the history", got)
	}

	// Cancelled, held back and requeued jobs follow the live side.
	b.do(&cluster.Kill{Filter: ref(y), Caller: cluster.Caller{Admin: true}})
	b.clean(y)
	b.both()
	if got := b.s.hist.used.total; got != 3 {
		t.Errorf("%d CPUs are in use in the history after a cancellation", got)
	}
	b.r.Detach(b.s)
	b.submit(wlm.Spec{})
	before := b.s.Report().GetPasses()
	b.both()
	if got := b.s.Report().GetPasses(); got != before {
		t.Errorf("detached, and %d passes after %d", got, before)
	}
}

func ref(id wlm.JobID) *ctlv1.JobFilter {
	return &ctlv1.JobFilter{Refs: []*ctlv1.JobRef{{Job: uint32(id)}}}
}

// clean lets a job's nodes report that nothing of it is left.
func (w *world) clean(id wlm.JobID) {
	j := w.c.Job(id)
	if j == nil {
		return
	}
	run := j.Restarts
	if j.State == wlm.Pending && run > 0 { // its former run
		run--
	}
	for _, n := range j.Cleaning {
		w.do(&cluster.Reports{Node: n, Reports: []*nodev1.Report{{Body: &nodev1.Report_JobGone{JobGone: &nodev1.JobGone{Job: uint32(id), Restarts: run}}}}})
	}
}

// moody starts what its mood of the moment allows.
type moody struct {
	policy
	mood uint32
}

func (m *moody) Plan(_ context.Context, v sched.View) (a sched.Agenda, err error) {
	for j := range v.PendingByPriority() {
		if (uint32(j.ID)+m.mood)%3 == 0 && j.Ready {
			a.Add(j.ID, sched.Skip)
		}
	}
	return a, nil
}

// Whatever happens on the live side, and whatever the shadow starts, its history
// stays a cluster that could be: no CPU is given twice, nothing is lost. One that
// decides as the live side agrees with it always.
func TestHistoryStaysPossible(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		mind := &moody{}
		other := &process{policy: &policy{}, epoch: 1, Local: wirecall.NewLocal(sched.Handler(mind), selector.Handler(mind))}
		clock := func() time.Time { return w.now }
		twin := NewShadow(ShadowOptions{Sched: newProcess(&policy{}), Select: newProcess(&policy{}), Rules: w.cfg.Settings, Now: clock})
		odd := NewShadow(ShadowOptions{Sched: other, Select: other, Rules: w.cfg.Settings, Now: clock})
		ids := func() (out []wlm.JobID) {
			for id := range wlm.JobID(60) {
				if w.c.Job(id) != nil {
					out = append(out, id)
				}
			}
			return out
		}
		attached := false
		for range rapid.IntRange(5, 40).Draw(rt, "steps") {
			var id wlm.JobID
			if all := ids(); len(all) > 0 {
				id = rapid.SampledFrom(all).Draw(rt, "job")
			}
			admin := cluster.Caller{Admin: true}
			ref := ref(id)
			switch rapid.IntRange(0, 9).Draw(rt, "what") {
			case 0, 1:
				s := wlm.Spec{TimeLimit: wlm.Minutes(rapid.IntRange(0, 2).Draw(rt, "limit"))}
				if rapid.Bool().Draw(rt, "array") {
					s.Array = rapid.SampledFrom([]string{"0-2", "1-6%2", "5"}).Draw(rt, "tasks")
				}
				w.submit(s)
			case 2, 3:
				if j := w.c.Job(id); j != nil && j.State == wlm.Running {
					w.end(id)
				}
			case 4:
				_, _ = w.Do(rt.Context(), &cluster.Kill{Filter: ref, Caller: admin})
			case 5:
				w.clean(id)
			case 6:
				_, _ = w.Do(rt.Context(), &cluster.UpdateJob{Filter: ref, Verb: ctlv1.UpdateJobRequest_REQUEUE, Caller: admin})
				for _, id := range ids() { // a history frees the nodes of a requeued run at once
					if j := w.c.Job(id); j.State == wlm.Pending {
						w.clean(id)
					}
				}
			case 7:
				_, _ = w.Do(rt.Context(), &cluster.UpdateJob{Filter: ref, Set: map[string]string{"priority": rapid.SampledFrom([]string{"0", "5"}).Draw(rt, "priority")}, Caller: admin})
			case 8:
				if !attached {
					w.r.Attach(twin)
					w.r.Attach(odd)
					attached = true
				}
			case 9:
				_, _ = w.Do(rt.Context(), &cluster.UpdateNode{Nodes: "n1", Set: map[string]string{"state": rapid.SampledFrom([]string{"DRAIN", "RESUME"}).Draw(rt, "state"), "reason": "x"}, Caller: admin})
			}
			if rapid.Bool().Draw(rt, "tick") {
				w.do(&cluster.Tick{})
			}
			w.now = w.now.Add(time.Duration(rapid.IntRange(0, 3).Draw(rt, "seconds")*40) * time.Second)
			mind.mood = rapid.Uint32Range(0, 2).Draw(rt, "mood")
			w.r.cause = true
			w.pass()
			for _, s := range []*Shadow{twin, odd} {
				if !attached {
					break
				}
				for range 3 {
					if err := s.CatchUp(rt.Context()); err != nil {
						rt.Fatal(err)
					}
				}
				if err := s.hist.c.Check(); err != nil {
					rt.Fatal(err)
				}
				if n := possible(s.hist); n != "" {
					rt.Fatal(n)
				}
			}
		}
		if r := twin.Report(); r.GetSooner()+r.GetLater()+r.GetNever() > 0 || r.GetOverheldCpuSeconds() != 0 {
			rt.Fatalf("the twin: %v", r)
		}
	})
}

// possible says what of a history could not be; empty: nothing.
func possible(h *history) string {
	used, total := map[wlm.NodeName]wlm.CPUSet{}, 0
	for j := range h.c.AllJobs {
		if w := h.feed.tables.Job(j.ID); w == nil || w.State != j.State {
			return fmt.Sprintf("job %d is told as %v", j.ID, w)
		}
		for i := range cluster.Held(j) {
			a := &j.Alloc.Nodes[i]
			if used[a.Node].Overlaps(a.CPUs) {
				return fmt.Sprintf("job %d shares CPUs of %s", j.ID, a.Node)
			}
			used[a.Node] = used[a.Node].Or(a.CPUs)
			total += a.CPUs.Count()
		}
	}
	if total != h.used.total {
		return fmt.Sprintf("%d CPUs are in use, %d are counted", total, h.used.total)
	}
	for id, k := range h.runs {
		if l := h.lives[k]; l == nil || l.id != id || h.c.Job(id) == nil {
			return fmt.Sprintf("job %d runs, and nobody knows why", id)
		}
	}
	return ""
}
