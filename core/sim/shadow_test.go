package sim

import (
	"context"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/core/pass"
	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/plugin/wirecall"
	"github.com/sluice-hpc/sluice/sdk/priority"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/selector"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// order is a policy in this process: jobs by submission, or the narrow ones first,
// on the first CPUs that are free. One that cannot start blocks those behind it,
// or does not.
type order struct {
	when   sched.WhenBlocked
	narrow bool
}

func (o order) Plan(_ context.Context, v sched.View) (a sched.Agenda, err error) {
	for _, narrow := range []bool{true, false} {
		for j := range v.PendingBySubmit() {
			if !o.narrow && narrow || o.narrow && narrow == (j.Class.NTasks > 2) {
				continue
			}
			a.Add(j.ID, o.when)
		}
	}
	return a, nil
}

func (order) Rank(_ context.Context, _ mirror.View, r priority.Request) (out priority.Ranking, err error) {
	for _, id := range r.Jobs {
		out.Jobs, out.Priorities = append(out.Jobs, id), append(out.Priorities, 1)
	}
	return out, nil
}

func (order) Place(_ context.Context, v mirror.View, r selector.Request) (out selector.Result, err error) {
	used := make([]wlm.CPUSet, len(v.Nodes))
	for j := range v.Running() {
		for _, u := range j.Uses {
			used[u.Node] = used[u.Node].Or(u.CPUs)
		}
	}
	want := map[wlm.JobID]int{}
	for j := range v.PendingBySubmit() {
		want[j.ID] = int(j.Class.NTasks)
	}
	for _, e := range r.Agenda.Entries {
		need, p := want[e.Job], selector.Placement{Job: e.Job}
		for i, n := range v.Nodes {
			var set wlm.CPUSet
			for cpu := 0; cpu < n.CPUs && need > 0; cpu++ {
				if one := (wlm.CPUSet{}).Set(cpu); !used[i].Overlaps(one) {
					set = set.Or(one)
					need--
				}
			}
			if set.Count() > 0 {
				p.Uses = append(p.Uses, mirror.NodeUse{Node: n.Index, CPUs: set})
			}
		}
		if need > 0 {
			if e.WhenBlocked == sched.Stop {
				break
			}
			continue
		}
		for _, u := range p.Uses {
			used[u.Node] = used[u.Node].Or(u.CPUs)
		}
		out.Placements = append(out.Placements, p)
	}
	return out, nil
}

func (order) WhatIf(context.Context, mirror.View, *mirror.Job) (selector.Result, error) {
	return selector.Result{}, nil
}

// local is a plugin in this process, whose mirror is never lost.
type local struct{ *wirecall.Local }

func (local) Epoch() uint64                          { return 1 }
func (l local) PushState(_ uint64, f [][]byte) error { return l.Local.PushState(f) }

func plugin(o order) pass.Plugin {
	return local{wirecall.NewLocal(sched.Handler(o), selector.Handler(o), priority.Handler(o))}
}

// replayed runs a workload with a live policy and a shadow, if there is one.
func replayed(t *testing.T, live order, shadow *order) (*Result, *pass.Shadow) {
	t.Helper()
	draw := rand.New(rand.NewPCG(7, 7))
	w := &Workload{}
	at := wlm.Time(0)
	for i := range 400 {
		at += wlm.Time(draw.ExpFloat64() * 75)
		run := uint32(20 + draw.ExpFloat64()*200)
		w.Jobs = append(w.Jobs, Job{Number: int64(i + 1), Submit: at, Run: run, Limit: wlm.Minutes(run/60 + 1 + draw.Uint32N(5)), Procs: 1 + draw.Uint32N(6), User: 1000})
	}
	cfg := &cluster.Configure{Settings: cluster.Settings{FirstJobID: 1, MaxArraySize: 100}}
	part := wlm.Partition{Name: "main", Nodes: "n[1-3]", Default: true, MaxTime: wlm.Unlimited, MaxNodes: wlm.Unset, MaxCPUsPerNode: wlm.Unset,
		PriorityTier: 1, OverTimeLimit: wlm.Unset}
	for _, n := range []wlm.NodeName{"n1", "n2", "n3"} {
		cfg.Nodes = append(cfg.Nodes, wlm.Node{Name: n, CPUs: 4, Sockets: 1, CoresPerSocket: 4, ThreadsPerCore: 1})
		part.NodeNames = append(part.NodeNames, n)
	}
	cfg.Partitions = []wlm.Partition{part}
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	o := Options{Workload: w, Configure: cfg, Sched: plugin(live), Select: plugin(live), Priority: plugin(live), Log: quiet}
	if shadow != nil {
		o.Shadow = pass.NewShadow(pass.ShadowOptions{Sched: plugin(*shadow), Select: plugin(*shadow), Rules: cfg.Settings, Log: quiet})
	}
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r, o.Shadow
}

// A shadow's history is near to what its policy alone would have made of the
// workload, and is its live side where the policy is the same. Nearer it cannot be
// where it starts jobs sooner, whose runtimes are not known by then.
func TestShadowsAgainstRunsOfTheirOwn(t *testing.T) {
	policies := map[string]order{"strict": {when: sched.Stop}, "greedy": {when: sched.Skip}, "narrow": {when: sched.Skip, narrow: true}}
	for name, p := range policies {
		alone, _ := replayed(t, p, nil)
		want := alone.Summary(name)
		for beside, live := range policies {
			r, shadow := replayed(t, live, &p)
			got := shadow.Report()
			x := got.GetShadowSide()
			t.Logf("%s beside %s: wait %.1f s, alone %.1f s, live %.1f s; slowdown %.2f, alone %.2f; %d agreed, %d sooner, %d later, %d never; %.0f CPU s too long, %.0f too short",
				name, beside, x.GetWaitMean(), want.MeanWait, got.GetLiveSide().GetWaitMean(), x.GetSlowdown(), want.MeanBoundedSlowdown,
				got.GetAgreed(), got.GetSooner(), got.GetLater(), got.GetNever(), got.GetOverheldCpuSeconds(), got.GetUnderheldCpuSeconds())
			if l := r.Summary(beside); math.Abs(l.MeanWait-got.GetLiveSide().GetWaitMean()) > 0.01 {
				t.Errorf("the live side of %s waited %.2f s, the report says %.2f", beside, l.MeanWait, got.GetLiveSide().GetWaitMean())
			}
			if got.GetNever() != 0 || got.GetCompared() != 400 {
				t.Errorf("%s beside %s: %d never started, %d compared", name, beside, got.GetNever(), got.GetCompared())
			}
			wait := x.GetWaitMean()
			switch {
			case name == beside && (got.GetAgreement() != 100 || got.GetOverheldCpuSeconds() != 0 || wait != got.GetLiveSide().GetWaitMean()):
				t.Errorf("%s does not agree with itself: %v", name, got)
			case math.Abs(wait/want.MeanWait-1) > 0.5:
				t.Errorf("%s beside %s waits %.2f s in its history, and %.2f s alone", name, beside, wait, want.MeanWait)
			case math.Abs(want.MeanWait/got.GetLiveSide().GetWaitMean()-1) > 0.3 && (want.MeanWait < got.GetLiveSide().GetWaitMean()) != (wait < got.GetLiveSide().GetWaitMean()):
				t.Errorf("%s is taken for the wrong side of %s: %.2f s, live %.2f s, alone %.2f s", name, beside, wait, got.GetLiveSide().GetWaitMean(), want.MeanWait)
			}
		}
	}
}
