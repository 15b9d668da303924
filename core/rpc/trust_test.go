package rpc_test

import (
	"context"
	"testing"

	"github.com/sluice-hpc/sluice/core/auth"
	"github.com/sluice-hpc/sluice/core/rpc"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/jobsubmit"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
)

// A job of root's would make an operator root.
func TestOperatorsSubmitForThemselves(t *testing.T) {
	s := serve(t, nil)
	for _, role := range []string{"operator", "administrator"} {
		c := s.as(t, auth.Claims{User: "o", UID: 7, GID: 7, Role: role})
		as := request(7)
		as.Spec.User = 0
		if _, err := c.Controller.Submit(t.Context(), as); errs.CodeOf(err) != errs.UserIDMissing {
			t.Errorf("%s, user 0: error %v", role, err)
		}
		in := request(7)
		in.Spec.Group, in.Spec.GroupName = 0, "root"
		if _, err := c.Controller.Submit(t.Context(), in); errs.CodeOf(err) != errs.AccessDenied {
			t.Errorf("%s, group 0: error %v", role, err)
		}
	}
	if n := s.view.Counts().Jobs; n != 0 {
		t.Errorf("%d jobs were made", n)
	}
}

// Naming a job that is not there, or not the caller's, beside one that is does
// not get a change past the filters.
func TestFiltersAreAskedWhateverElseIsNamed(t *testing.T) {
	s := serve(t, func(d *rpc.Deps) {
		d.Filters = func() []rpc.Filter {
			return []rpc.Filter{{Name: "no", Filter: filter{
				submit: func(context.Context, *jobsubmit.Request) ([]string, error) { return nil, nil },
				modify: func(_ context.Context, r *jobsubmit.Request) ([]string, error) {
					if r.Changes["timelimit"] == "20" {
						return nil, errs.Coded("job_submit", errs.InvalidTimeLimit, "say less")
					}
					return nil, nil
				}}}}
		}
	})
	own, other := s.submit(t, ann, nil), s.submit(t, bob, nil)
	before := s.view.Job(own).TimeLimit
	c := s.as(t, ann)
	for _, f := range []*ctlv1.JobFilter{refs(own, 99), refs(99, own), refs(own, other), refs(other, own)} {
		_, err := c.Controller.UpdateJob(t.Context(), &ctlv1.UpdateJobRequest{Filter: f, Set: map[string]string{"timelimit": "20"}})
		if errs.CodeOf(err) != errs.InvalidTimeLimit || s.view.Job(own).TimeLimit != before {
			t.Errorf("%v: error %v, limit %d", f, err, s.view.Job(own).TimeLimit)
		}
	}
	r, err := c.Controller.UpdateJob(t.Context(), &ctlv1.UpdateJobRequest{Filter: refs(own, other, 99), Set: map[string]string{"timelimit": "5"}})
	if err != nil || r.GetMatched() != 1 || s.view.Job(own).TimeLimit != 5 || s.view.Job(other).TimeLimit != before {
		t.Fatalf("reply %v, error %v, limit %d", r, err, s.view.Job(own).TimeLimit)
	}
	got := map[uint32]errs.Code{}
	for _, x := range r.GetResults() {
		got[x.GetRef().GetJob()] = errs.Code(x.GetCode())
	}
	if len(got) != 2 || got[uint32(other)] != errs.UserIDMissing || got[99] != errs.InvalidJobID {
		t.Errorf("results %v", got)
	}
}
