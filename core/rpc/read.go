package rpc

import (
	"context"
	"net"
	"slices"
	"strconv"

	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/core/view"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wire"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"google.golang.org/grpc"
)

const nodeChunk = 500 // nodes of a message

// Jobs implements ctlv1.ControllerServer.
func (s *Server) Jobs(r *ctlv1.JobsRequest, stream grpc.ServerStreamingServer[ctlv1.JobsReply]) error {
	const op = "rpc.Jobs"
	if r.GetMustExist() {
		if err := s.mustExist(op, r.GetFilter()); err != nil {
			return err
		}
	}
	q := s.listing(stream.Context(), view.Query{Filter: r.GetFilter(), Whole: r.GetWithSpec(), Now: s.now()}, r.GetHide())
	if q.Whole {
		who := caller(stream.Context())
		q.Decorate = func(j *wlm.Job, info *ctlv1.JobInfo) { s.addresses(who, j, info) }
	}
	sink := s.pacer.sink(stream)
	defer sink.close()
	_, err := s.deps.View.List(q, sink)
	return err
}

func (s *Server) mustExist(op string, f *ctlv1.JobFilter) error {
	if len(f.GetRefs()) == 0 {
		return nil
	}
	_, missing, err := s.deps.View.Find(&ctlv1.JobFilter{Refs: f.GetRefs()})
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return errs.Coded(op, errs.InvalidJobID).With("no job %s is known here", cluster.RefString(missing[0]))
	}
	return nil
}

// addresses tells a running job's owner where its nodes are.
func (s *Server) addresses(who cluster.Caller, j *wlm.Job, info *ctlv1.JobInfo) {
	if j.Alloc == nil || j.State.Ended() || !who.Owns(j) {
		return
	}
	s.deps.View.Read(func(t *cluster.Tables) {
		for i := range j.Alloc.Nodes {
			name := j.Alloc.Nodes[i].Node
			a := &ctlv1.NodeAddr{Name: string(name)}
			if n := t.Node(name); n != nil {
				a.Addr = NodeAddr(n)
			}
			info.Addrs = append(info.Addrs, a)
		}
	})
}

// NodeAddr is where a node's daemon listens, as host:port.
func NodeAddr(n *wlm.Node) string {
	host := n.Addr
	if host == "" {
		host = n.Hostname
	}
	if host == "" {
		host = string(n.Name)
	}
	return net.JoinHostPort(host, strconv.FormatUint(uint64(n.Port), 10))
}

// info is a whole job for the caller of ctx.
func (s *Server) info(ctx context.Context, j *wlm.Job) *ctlv1.JobInfo {
	info := s.deps.View.Info(j)
	s.addresses(caller(ctx), j, info)
	return info
}

// Steps implements ctlv1.ControllerServer.
func (s *Server) Steps(ctx context.Context, r *ctlv1.StepsRequest) (*ctlv1.StepsReply, error) {
	steps, jobs, err := s.deps.View.Steps(r.GetFilter())
	if err != nil {
		return nil, err
	}
	reply := &ctlv1.StepsReply{Now: int64(s.now())}
	sees, unseen := s.sightOf(ctx, r.GetHide()), map[wlm.JobID]bool{}
	for _, j := range jobs {
		unseen[j.ID] = !sees.job(j)
	}
	for _, st := range steps {
		if !unseen[st.Job] {
			reply.Steps = append(reply.Steps, wire.StepToWire(st))
		}
	}
	for _, j := range jobs {
		if unseen[j.ID] {
			continue
		}
		reply.Jobs = append(reply.Jobs, s.deps.View.LeanInfo(j))
	}
	return reply, nil
}

// Nodes implements ctlv1.ControllerServer.
func (s *Server) Nodes(r *ctlv1.NodesRequest, stream grpc.ServerStreamingServer[ctlv1.NodesReply]) error {
	nodes, err := s.deps.View.Nodes(r.GetNodes())
	if err != nil {
		return err
	}
	nodes = s.seenNodes(stream.Context(), r, nodes)
	now := int64(s.now())
	if len(nodes) == 0 {
		return stream.Send(&ctlv1.NodesReply{Now: now})
	}
	for part := range slices.Chunk(nodes, nodeChunk) {
		if err := stream.Send(&ctlv1.NodesReply{Nodes: part, Now: now}); err != nil {
			return err
		}
	}
	return nil
}

// Script implements ctlv1.ControllerServer.
func (s *Server) Script(ctx context.Context, r *ctlv1.ScriptRequest) (*ctlv1.ScriptReply, error) {
	const op = "rpc.Script"
	found, _, err := s.deps.View.Find(&ctlv1.JobFilter{Refs: []*ctlv1.JobRef{{Job: r.GetJob()}}})
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, errs.Coded(op, errs.InvalidJobID)
	}
	j := found[0].Job // the tasks of an array have one script
	if !caller(ctx).Owns(j) {
		return nil, errs.Coded(op, errs.AccessDenied)
	}
	script := s.deps.View.Blob(j.Script)
	if len(script) == 0 {
		return nil, errs.Coded(op, errs.JobScriptMissing)
	}
	return &ctlv1.ScriptReply{Script: script}, nil
}

// Forecast implements ctlv1.ControllerServer. A job that has started, or that
// the last pass forecast, is answered from the view.
func (s *Server) Forecast(ctx context.Context, r *ctlv1.ForecastRequest) (*ctlv1.ForecastReply, error) {
	const op = "rpc.Forecast"
	if len(r.GetFilter().GetRefs()) == 0 {
		return nil, errs.Newf(op, errs.Invalid, "the request names no job")
	}
	if err := s.mustExist(op, r.GetFilter()); err != nil {
		return nil, err
	}
	found, _, err := s.deps.View.Find(r.GetFilter())
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, errs.Coded(op, errs.InvalidJobID)
	}
	j := found[0].Job
	if j.State != wlm.Pending {
		out := &ctlv1.ForecastReply{Start: int64(j.Start), Partition: j.Partition, Processors: uint32(j.Alloc.CPUCount())}
		if j.Alloc != nil {
			out.Nodes = j.Alloc.NodeList
		}
		return out, nil
	}
	if o := s.deps.View.Outlook(j); o != nil && o.Start != 0 {
		return &ctlv1.ForecastReply{Start: int64(o.Start), Nodes: o.Nodes, Partition: j.Partition, Text: o.Text,
			Processors: j.NTasks * max(j.Spec.CPUsPerTask, 1)}, nil
	}
	return s.forecast(ctx, j)
}
