// Package jobsubmit is the contract of submission filters (JobSubmitPlugins).
package jobsubmit

import (
	"context"

	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Kind is the kind's name in slurm.conf and in binaries' names.
const Kind = "job_submit"

// Contract is the newest version of the wire contract that this package speaks.
const Contract = 1

// Request is a submission or a change of a job.
type Request struct {
	Spec    *wlm.Spec // may be changed in place
	Script  []byte
	Caller  wlm.UID
	Current *wlm.Job          // Modify: the job as it is
	Changes map[string]string // Modify: scontrol's names; may be changed in place
}

// A Filter inspects, changes or refuses requests. Calls run concurrently.
//
// To refuse, return an *errs.Error: its code and details are shown to the
// user. Messages are shown whether the request is accepted or not.
type Filter interface {
	Submit(ctx context.Context, r *Request) (messages []string, err error)
	Modify(ctx context.Context, r *Request) (messages []string, err error)
}
