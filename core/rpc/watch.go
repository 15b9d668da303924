package rpc

import (
	"errors"
	"slices"

	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/core/view"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"google.golang.org/grpc"
)

const watchChunk = 500 // jobs of a message of the snapshot

// WatchJob implements ctlv1.ControllerServer.
func (s *Server) WatchJob(r *ctlv1.WatchJobRequest, stream grpc.ServerStreamingServer[ctlv1.JobInfo]) error {
	if j, who := s.deps.View.Job(wlm.JobID(r.GetJob())), caller(stream.Context()); j != nil && !who.Owns(j) && s.private("jobs") {
		return errs.Coded("rpc.WatchJob", errs.InvalidJobID)
	}
	w, err := s.deps.View.WatchJob(wlm.JobID(r.GetJob()))
	if err != nil {
		return err
	}
	defer w.Close()
	ctx := stream.Context()
	for {
		changed, over, err := w.Next(ctx)
		if err != nil {
			return err
		}
		for _, j := range changed {
			if err := stream.Send(s.info(ctx, j)); err != nil {
				return err
			}
			over = over || r.GetUntilStarted() && j.State != wlm.Pending
		}
		if over {
			return nil
		}
	}
}

// Watch implements ctlv1.ControllerServer. A watcher that falls behind gets the
// present jobs again if it asked for them at first; else its stream ends, and it
// opens another.
func (s *Server) Watch(r *ctlv1.WatchRequest, stream grpc.ServerStreamingServer[ctlv1.WatchReply]) error {
	w := s.deps.View.Watch()
	defer w.Close()
	sees := s.sightOf(stream.Context(), false)
	want := interest(r)
	if err := s.present(r, w, stream); err != nil {
		return err
	}
	for {
		pos := w.Position()
		items, err := w.Next(stream.Context())
		switch {
		case errors.Is(err, view.ErrLagged) && r.GetSnapshot():
			err = s.present(r, w, stream)
		case errors.Is(err, view.ErrLagged):
			err = errs.Newf("rpc.Watch", errs.Unavail, "%w: watch again", err)
		}
		if err != nil {
			return err
		}
		for _, i := range items {
			if want(i.Event) && sees.event(i.Event) {
				if err := stream.Send(&ctlv1.WatchReply{Position: pos, Event: i.Message()}); err != nil {
					return err
				}
			}
			pos++
		}
	}
}

// present tells where the watch begins, after the present jobs if those were
// asked for.
func (s *Server) present(r *ctlv1.WatchRequest, w *view.Watcher, stream grpc.ServerStreamingServer[ctlv1.WatchReply]) error {
	pos := w.Position()
	if r.GetSnapshot() {
		f := &ctlv1.JobFilter{}
		for _, id := range r.GetJobs() {
			f.Refs = append(f.Refs, &ctlv1.JobRef{Job: id})
		}
		found, _, err := s.deps.View.Find(f)
		if err != nil {
			return err
		}
		sees := s.sightOf(stream.Context(), false)
		found = slices.DeleteFunc(found, func(x cluster.Match) bool { return !sees.job(x.Job) })
		for part := range slices.Chunk(found, watchChunk) {
			m := &ctlv1.WatchReply{Position: pos}
			for _, x := range part {
				m.Jobs = append(m.Jobs, s.deps.View.Info(x.Job))
			}
			if err := stream.Send(m); err != nil {
				return err
			}
		}
	}
	return stream.Send(&ctlv1.WatchReply{Position: pos, SnapshotDone: r.GetSnapshot()})
}

// interest is the test that a watch makes of each event.
func interest(r *ctlv1.WatchRequest) func(*cluster.Event) bool {
	kinds := map[eventv1.Kind]bool{}
	for _, k := range r.GetKinds() {
		kinds[k] = true
	}
	jobs := map[wlm.JobID]bool{}
	for _, id := range r.GetJobs() {
		jobs[wlm.JobID(id)] = true
	}
	return func(e *cluster.Event) bool {
		switch {
		case len(kinds) > 0 && !kinds[e.Kind]:
			return false
		case len(jobs) == 0:
			return true
		case e.Job != nil:
			return jobs[e.Job.ID] || jobs[e.Job.ArrayJob]
		case e.Step != nil:
			return jobs[e.Step.Job]
		}
		return slices.ContainsFunc(e.IDs, func(id wlm.JobID) bool { return jobs[id] })
	}
}
