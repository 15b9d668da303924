package pass

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/plugin/wirecall"
	"github.com/sluice-hpc/sluice/sdk/priority"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/selector"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// adviser is a policy that gives advice: who wants one node has n1 now, who has
// a limit of up to five minutes starts in 300 s, everybody else in 600 s. n1 is
// free, n2 busy, n3 away.
type adviser struct {
	*policy
	asked []selector.Question
}

func (a *adviser) Advise(_ context.Context, v mirror.View, q selector.Question) (out selector.Advice, err error) {
	a.asked = append(a.asked, q)
	for _, j := range q.Variants {
		switch verdict := (selector.Verdict{Jobs: []wlm.JobID{j.ID}, Reason: wlm.WaitResources, Start: v.Now + 600, Nodes: []wlm.NodeIndex{0, 1}}); {
		case j.Class.MinNodes == 1:
			out.Answers = append(out.Answers, selector.Result{Placements: []selector.Placement{{Job: j.ID,
				Uses: []mirror.NodeUse{{Node: 0, CPUs: wlm.CPUSet{}.Set(0)}}}}})
		case j.Limit <= 300:
			verdict.Start = v.Now + 300
			fallthrough
		default:
			out.Answers = append(out.Answers, selector.Result{Verdicts: []selector.Verdict{verdict}})
		}
	}
	for i := range q.Agenda.Entries {
		out.Ahead.Verdicts = append(out.Ahead.Verdicts, selector.Verdict{Jobs: []wlm.JobID{q.Agenda.Entries[i].Job},
			Reason: wlm.WaitResources, Start: v.Now + 420, Nodes: []wlm.NodeIndex{1}})
	}
	out.Supplies = []selector.Supply{{Needs: "needs 2 nodes", Free: []wlm.NodeIndex{0}, Busy: []wlm.NodeIndex{1}, Away: []wlm.NodeIndex{2}}}
	return out, nil
}

func (w *world) explain(id wlm.JobID) *ctlv1.ExplainReply {
	w.t.Helper()
	m, err := w.r.Explain(w.t.Context(), w.c.Job(id), func(*wlm.Partition) bool { return true })
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

func TestExplain(t *testing.T) {
	w := newWorld(t)
	a := &adviser{policy: w.pol}
	w.px.epoch++
	w.px.Local = wirecall.NewLocal(sched.Handler(w.pol), selector.Handler(a), priority.Handler(w.pol))
	w.px.policy = w.pol
	for range 3 { // n1 is full, n2 half
		w.submit(wlm.Spec{TimeLimit: 20, UserName: "ann"})
	}
	w.pass()
	w.running(3)
	w.do(&cluster.UpdateReservation{Name: "kept", Verb: ctlv1.UpdateReservationRequest_CREATE, Caller: cluster.Caller{Admin: true},
		Set: map[string]string{"flags": "ignore_jobs", "starttime": "1000000", "duration": "600", "users": "bob", "nodes": "n2"}})
	w.pol.lazy = true
	first := w.submit(wlm.Spec{TimeLimit: 10, MinNodes: 2, UserName: "ann"})
	id := w.submit(wlm.Spec{TimeLimit: 10, MinNodes: 2, UserName: "bob"})
	w.pass()
	w.pol.lazy = false
	running, blobs := w.c.RunningCount(), w.pol.told
	m := w.explain(id)
	if q := m.GetQueues(); len(q) != 1 || q[0].GetPartition() != "main" || q[0].GetPlace() != 2 || q[0].GetOf() != 2 {
		t.Errorf("queues %v", q)
	}
	if p := m.GetPlan(); p.GetStart() != 1_000_600 || p.GetNodes() != "n[1-2]" || p.GetPartition() != "main" ||
		!strings.Contains(p.GetAssumes(), "the job ahead starts first") {
		t.Errorf("plan %v", p)
	}
	if x := m.GetAhead(); len(x) != 1 || x[0].GetJob() != first.String() || x[0].GetStart() != 1_000_420 || x[0].GetNodes() != "n2" {
		t.Errorf("ahead %v", x)
	}
	o := m.GetObstacles()
	if len(o) != 1 || o[0].GetText() != "needs 2 nodes" || o[0].GetFree() != 1 || o[0].GetTotal() != 3 {
		t.Fatalf("obstacles %v", o)
	}
	var sorted []string
	for _, n := range o[0].GetNodes() {
		sorted = append(sorted, n.GetWhy()+": "+n.GetNodes())
	}
	if want := []string{"free now: n1", "too little free: kept by reservation kept: n2", "idle: n3"}; !slices.Equal(sorted, want) {
		t.Errorf("nodes %q, want %q", sorted, want)
	}
	if len(o[0].GetHolders()) != 1 || o[0].GetHolders()[0].GetNodes() != "n2" || o[0].GetHolders()[0].GetUntil() != 1_001_200 {
		t.Errorf("holders %v", o[0].GetHolders())
	}
	var ways []string
	for _, x := range m.GetWays() {
		ways = append(ways, x.GetChange())
		if x.GetStart() >= m.GetPlan().GetStart() {
			t.Errorf("%v is no sooner", x)
		}
	}
	if !slices.Contains(ways, "--nodes=1") || !slices.ContainsFunc(ways, func(s string) bool { return strings.HasPrefix(s, "--time=") }) {
		t.Errorf("ways %q", ways)
	}
	for _, q := range a.asked { // everything is asked behind the same jobs
		if len(q.Agenda.Entries) != 1 || q.Agenda.Entries[0].Job != first {
			t.Errorf("asked behind %v", q.Agenda.Entries)
		}
	}
	if w.c.RunningCount() != running || len(w.pol.told) != len(blobs) {
		t.Error("an explanation changed something")
	}
}

func TestExplainWithoutAdvice(t *testing.T) {
	w := newWorld(t)
	w.pol.lazy = true
	id := w.submit(wlm.Spec{TimeLimit: 10})
	w.pass()
	if m := w.explain(id); len(m.GetNotes()) != 1 || len(m.GetWays()) != 0 || m.GetQueues()[0].GetPlace() != 1 {
		t.Errorf("explanation %v", m)
	}
}
