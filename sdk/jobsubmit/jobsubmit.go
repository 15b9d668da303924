// Package jobsubmit is the contract of submission filters (JobSubmitPlugins).
package jobsubmit

import (
	"context"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/plugin/wirecall"
	"github.com/sluice-hpc/sluice/sdk/proto/jobsubmit/v1"
	"github.com/sluice-hpc/sluice/sdk/wire"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Kind is the kind's name in slurm.conf and in binaries' names.
const Kind = "job_submit"

// Contract is the newest version of the wire contract that this package speaks.
const Contract = 1

// Contracts are the versions that this package speaks at both ends, newest
// first: the current one and those before it.
var Contracts = []uint32{Contract}

// Request is a submission or a change of a job.
type Request struct {
	Spec    *wlm.Spec // may be changed in place
	Script  []byte
	Env     []string // Submit: NAME=value; may be changed in place
	Caller  wlm.UID
	Current *wlm.Job          // Modify: the job as it is
	Changes map[string]string // Modify: scontrol's names; may be changed in place
	// Ask puts a question to the host; nil: there is none. See Partitions.
	Ask wirecall.Asker
}

// Partitions asks the host for the cluster's partitions. An error means that
// they are not known, not that there are none.
func (r *Request) Partitions(ctx context.Context) ([]*wlm.Partition, error) {
	if r.Ask == nil {
		return nil, errs.Newf("jobsubmit.Partitions", errs.Unsupport, "there is no host to ask")
	}
	b, err := r.Ask(ctx, askPartitions, nil)
	if err != nil {
		return nil, err
	}
	m := new(jobsubmitv1.PartitionsReply)
	if err := wirecall.Unmarshal("jobsubmit.Partitions", b, m); err != nil {
		return nil, err
	}
	list := make([]*wlm.Partition, len(m.GetPartitions()))
	for i, p := range m.GetPartitions() {
		list[i] = wire.PartitionOfWire(p)
	}
	return list, nil
}

// Answer is the host's side of the questions that filters ask.
func Answer(method string, partitions []*wlm.Partition) ([]byte, error) {
	if method != askPartitions {
		return nil, wirecall.UnknownMethod(Kind, method)
	}
	m := new(jobsubmitv1.PartitionsReply)
	for _, p := range partitions {
		m.Partitions = append(m.Partitions, wire.PartitionToWire(p))
	}
	return wirecall.Marshal("jobsubmit.Partitions", m)
}

// A Filter inspects, changes or refuses requests. Calls run concurrently.
//
// To refuse, return an *errs.Error: its code and details are shown to the
// user. Messages are shown whether the request is accepted or not.
type Filter interface {
	Submit(ctx context.Context, r *Request) (messages []string, err error)
	Modify(ctx context.Context, r *Request) (messages []string, err error)
}
