// Command require_limit is the plugin job_submit/require_limit: it refuses
// jobs without --time, and with its option max those that ask for more.
//
// It is also the example to start from: a submission filter is a value with
// two methods.
package main

import (
	"context"
	"fmt"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/jobsubmit"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// RequireLimit insists on a time limit. It holds no state, so calls may run
// concurrently.
type RequireLimit struct {
	Max wlm.Minutes // most that a job may ask for; 0: no bound
}

var _ jobsubmit.Filter = RequireLimit{}

// Submit implements [jobsubmit.Filter].
func (f RequireLimit) Submit(_ context.Context, r *jobsubmit.Request) ([]string, error) {
	return nil, f.check(r.Spec.TimeLimit)
}

// Modify implements [jobsubmit.Filter]. Only a change of the limit is looked
// at, so that jobs from before the plugin can still be changed otherwise.
func (f RequireLimit) Modify(_ context.Context, r *jobsubmit.Request) ([]string, error) {
	text, ok := r.Changes["TimeLimit"]
	if !ok {
		return nil, nil
	}
	limit, err := wlm.ParseMinutes(text)
	if err != nil {
		return nil, nil // relative changes and mistakes are the controller's to judge
	}
	return nil, f.check(limit)
}

func (f RequireLimit) check(limit wlm.Minutes) error {
	const op = "require_limit"
	switch {
	case limit == 0 && f.Max > 0:
		return errs.Coded(op, errs.InvalidTimeLimit,
			fmt.Sprintf("jobs need a time limit here: add --time, up to %s", wlm.FormatMinutes(f.Max)))
	case limit == 0:
		return errs.Coded(op, errs.InvalidTimeLimit, "jobs need a time limit here: add --time, for example --time=30 for 30 minutes")
	case f.Max > 0 && limit > f.Max:
		return errs.Coded(op, errs.InvalidTimeLimit,
			fmt.Sprintf("--time=%s is more than the %s that jobs may have here", wlm.FormatMinutes(limit), wlm.FormatMinutes(f.Max)))
	}
	return nil
}
