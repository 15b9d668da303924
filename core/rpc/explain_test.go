package rpc_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sluice-hpc/sluice/conf"
	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/core/rpc"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// obstacles is what is in a job's way, in words.
func obstacles(m *ctlv1.ExplainReply) string {
	var b strings.Builder
	for _, o := range m.GetObstacles() {
		fmt.Fprintf(&b, "%s: %s", o.GetKind(), o.GetText())
		for _, n := range o.GetNodes() {
			fmt.Fprintf(&b, " [%s %s]", n.GetWhy(), n.GetNodes())
		}
		b.WriteString("\n")
	}
	return b.String()
}

func TestExplain(t *testing.T) {
	s := serve(t, func(d *rpc.Deps) {
		d.Now = func() time.Time { return time.Unix(1000, 0) }
		d.Explain = func(context.Context, *wlm.Job, func(*wlm.Partition) bool) (*ctlv1.ExplainReply, error) {
			return &ctlv1.ExplainReply{Plan: &ctlv1.ExplainPlan{Start: 4000, Assumes: "running jobs end"},
				Ways: []*ctlv1.ExplainWay{{Change: "--time=1", Start: 2000}}}, nil
		}
	})
	runs, waits := s.submit(t, ann, nil), s.submit(t, ann, nil)
	s.start(t, runs, 0)
	held := s.submit(t, ann, func(r *ctlv1.SubmitRequest) { r.Spec.Hold = true })
	later := s.submit(t, ann, func(r *ctlv1.SubmitRequest) { r.Spec.Begin = 9000 })
	behind := s.submit(t, ann, func(r *ctlv1.SubmitRequest) { r.Spec.Dependency = fmt.Sprintf("afterok:%d", runs) })
	s.must(t, &cluster.UpdateReservation{Name: "maint", Verb: ctlv1.UpdateReservationRequest_CREATE, Caller: cluster.Caller{Admin: true},
		Set: map[string]string{"flags": "ignore_jobs", "starttime": "1300", "duration": "600", "users": "bob", "nodes": "n1"}})
	s.must(t, &cluster.UpdateReservation{Name: "far", Verb: ctlv1.UpdateReservationRequest_CREATE, Caller: cluster.Caller{Admin: true},
		Set: map[string]string{"starttime": "90000", "duration": "600", "users": "bob", "nodes": "n1"}})
	own := s.submit(t, bob, func(r *ctlv1.SubmitRequest) { r.Spec.Reservation, r.Spec.UserName = "maint", "bob" })
	s.view.SetOutlooks(map[wlm.JobID]*wlm.Outlook{own: {Reason: wlm.WaitReservation}, waits: {Reason: wlm.WaitResources, Start: 4000}})
	c := s.as(t, root)
	for _, x := range []struct {
		id              wlm.JobID
		summary, in     string
		planned, sooner bool
	}{
		{runs, "it runs since", "", false, false},
		{waits, "it is next in line and waits for resources", "reservation: reservation maint (for users bob), from ", true, true},
		{held, "it is held by its owner", "hold: held by its owner: scontrol release", true, false},
		{later, "it may not start before", "begin: --begin: not before", true, false},
		{behind, "it waits for 1 other job(s)", fmt.Sprintf("job %d is RUNNING, ends by", runs), true, false},
		{own, "it waits for the reservation that it asks for", "--reservation=maint: maint begins", true, false},
	} {
		m, err := c.Controller.Explain(t.Context(), &ctlv1.ExplainRequest{Ref: &ctlv1.JobRef{Job: uint32(x.id)}})
		if err != nil {
			t.Fatal(err)
		}
		if got := obstacles(m); !strings.HasPrefix(m.GetSummary(), x.summary) || !strings.Contains(got, x.in) || strings.Contains(got, "far") {
			t.Errorf("job %d: %q\n%s", x.id, m.GetSummary(), got)
		}
		if (m.GetPlan() != nil) != x.planned || len(m.GetWays()) > 0 != x.sooner {
			t.Errorf("job %d: plan %v, ways %v", x.id, m.GetPlan(), m.GetWays())
		}
	}
	m, err := c.Controller.Explain(t.Context(), &ctlv1.ExplainRequest{Ref: &ctlv1.JobRef{Job: uint32(waits)}})
	if err != nil || !m.GetPlan().GetReserved() || !strings.Contains(obstacles(m), "[kept whole n1]") {
		t.Errorf("%v, error %v", m, err)
	}
	for _, ref := range []*ctlv1.JobRef{nil, {Job: 99}} {
		if _, err := c.Controller.Explain(t.Context(), &ctlv1.ExplainRequest{Ref: ref}); err == nil {
			t.Errorf("%v is explained", ref)
		}
	}
}

func TestExplainNamesNoPrivateJobs(t *testing.T) {
	reply := func() *ctlv1.ExplainReply {
		return &ctlv1.ExplainReply{Ahead: []*ctlv1.ExplainAhead{{Job: "7", User: "bob", Priority: 9, Start: 3000}, {Job: "8", User: "ann"}},
			Obstacles: []*ctlv1.ExplainObstacle{{Kind: "nodes", Holders: []*ctlv1.ExplainHolder{{Job: "7", User: "bob", Until: 3000}}}},
			Ways:      []*ctlv1.ExplainWay{{Change: "--time=1", Text: "ends before job 7 starts"}}}
	}
	cfg := &conf.Config{}
	cfg.PrivateData = conf.ParseParams("jobs")
	s := serve(t, func(d *rpc.Deps) {
		d.Conf = func() *conf.Config { return cfg }
		d.Explain = func(context.Context, *wlm.Job, func(*wlm.Partition) bool) (*ctlv1.ExplainReply, error) {
			return reply(), nil
		}
	})
	id := s.submit(t, ann, nil)
	ask := &ctlv1.ExplainRequest{Ref: &ctlv1.JobRef{Job: uint32(id)}}
	m, err := s.as(t, ann).Controller.Explain(t.Context(), ask)
	if err != nil {
		t.Fatal(err)
	}
	if text := m.String(); strings.Contains(text, "bob") || strings.Contains(text, "job 7") || m.GetAhead()[0].GetJob() != "" || m.GetAhead()[1].GetJob() != "8" {
		t.Errorf("ann is told %s", text)
	}
	if m, err := s.as(t, root).Controller.Explain(t.Context(), ask); err != nil || m.GetAhead()[0].GetUser() != "bob" {
		t.Errorf("root is told %v, error %v", m, err)
	}
	if _, err := s.as(t, bob).Controller.Explain(t.Context(), ask); errs.CodeOf(err) != errs.InvalidJobID {
		t.Errorf("bob is told %v", err)
	}
}
