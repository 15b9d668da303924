package rpc

import (
	"context"

	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/wlm/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// maxSignal is the highest signal number of Linux.
const maxSignal = 64

// Signal implements ctlv1.ControllerServer.
func (s *Server) Signal(ctx context.Context, r *ctlv1.SignalRequest) (*ctlv1.SignalReply, error) {
	const op = "rpc.Signal"
	if unbounded(r.GetFilter()) {
		return nil, errs.Newf(op, errs.Invalid, "the request names no job and no filter: it would signal every job")
	}
	if r.GetSignal() > maxSignal {
		return nil, errs.Newf(op, errs.Invalid, "signal %d: allowed are 0 to %d", r.GetSignal(), maxSignal)
	}
	who := caller(ctx)
	got, err := s.deps.Loop.Do(ctx, &cluster.Kill{
		Filter: r.GetFilter(), Signal: int(r.GetSignal()), BatchOnly: r.GetBatchOnly(), Full: r.GetFull(), StepsOnly: r.GetStepsOnly(), Caller: who, Own: !who.Admin,
	})
	if err != nil {
		return nil, err
	}
	k := got.(*cluster.KillReply)
	return &ctlv1.SignalReply{Results: failures(k.Failed), Matched: uint32(k.Matched)}, nil
}

// unbounded reports whether a filter selects every job there is.
func unbounded(f *ctlv1.JobFilter) bool {
	return len(f.GetRefs())+len(f.GetUsers())+len(f.GetAccounts())+len(f.GetPartitions())+len(f.GetQos())+len(f.GetNames())+
		len(f.GetStates())+len(f.GetNodes())+len(f.GetReservations())+len(f.GetWckeys()) == 0 && f.GetFlagsAny() == 0
}

// UpdateJob implements ctlv1.ControllerServer.
func (s *Server) UpdateJob(ctx context.Context, r *ctlv1.UpdateJobRequest) (*ctlv1.UpdateJobReply, error) {
	if unbounded(r.GetFilter()) {
		return nil, errs.Newf("rpc.UpdateJob", errs.Invalid, "the request names no job and no filter: it would change every job")
	}
	mods, failed, messages, err := s.filterModify(ctx, r)
	if err != nil {
		return nil, err
	}
	reply := &ctlv1.UpdateJobReply{Messages: messages, Results: failures(failed)}
	for _, m := range mods {
		got, err := s.deps.Loop.Do(ctx, &cluster.UpdateJob{Filter: m.filter, Verb: r.GetVerb(), Set: m.set, Text: r.GetText(), Caller: s.member(ctx)})
		if err != nil {
			return nil, err
		}
		k := got.(*cluster.KillReply)
		reply.Results = append(reply.Results, failures(k.Failed)...)
		reply.Matched += uint32(k.Matched)
	}
	return reply, nil
}

func oneTask(task uint32) []*wlmv1.IDRange {
	return []*wlmv1.IDRange{{First: task, Last: task, Step: 1}}
}

// tasksOf are the pending tasks of an array's record.
func tasksOf(j *wlm.Job) []*wlmv1.IDRange {
	var out []*wlmv1.IDRange
	for _, r := range j.ArrayTasks {
		out = append(out, &wlmv1.IDRange{First: r.First, Last: r.Last, Step: r.Step})
	}
	return out
}

// UpdateNode implements ctlv1.ControllerServer.
func (s *Server) UpdateNode(ctx context.Context, r *ctlv1.UpdateNodeRequest) (*ctlv1.UpdateReply, error) {
	_, err := s.deps.Loop.Do(ctx, &cluster.UpdateNode{Nodes: r.GetNodes(), Set: r.GetSet(), Caller: caller(ctx)})
	return &ctlv1.UpdateReply{}, err
}

// UpdatePartition implements ctlv1.ControllerServer.
func (s *Server) UpdatePartition(ctx context.Context, r *ctlv1.UpdatePartitionRequest) (*ctlv1.UpdateReply, error) {
	if r.GetName() == "" {
		return nil, errs.Coded("rpc.UpdatePartition", errs.InvalidPartition).With("the request names no partition")
	}
	_, err := s.deps.Loop.Do(ctx, &cluster.UpdatePartition{Name: r.GetName(), Verb: r.GetVerb(), Set: r.GetSet(), Caller: caller(ctx)})
	return &ctlv1.UpdateReply{}, err
}

// Complete implements ctlv1.ControllerServer.
func (s *Server) Complete(ctx context.Context, r *ctlv1.CompleteRequest) (*ctlv1.UpdateReply, error) {
	_, err := s.deps.Loop.Do(ctx, &cluster.Complete{Job: wlm.JobID(r.GetJob()), Status: wlm.WaitStatus(r.GetStatus()), Caller: caller(ctx)})
	return &ctlv1.UpdateReply{}, err
}
