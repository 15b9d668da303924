package rpc

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/sluice-hpc/sluice/core/auth"
	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/core/view"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// What of the cluster a caller sees. Operators see everything. Others do not see
// what PrivateData keeps from them, and, unless they ask for it (-a), nothing of
// partitions that are hidden or that AllowGroups closes to them.

// sight is what one caller sees at the moment of a call. The zero value sees all.
type sight struct {
	unseen map[string]bool // partitions, hidden or closed
	own    bool            // only own jobs
	uid    wlm.UID
}

// sightOf works out what the caller of ctx sees; hide also leaves out hidden
// partitions.
func (s *Server) sightOf(ctx context.Context, hide bool) sight {
	who := caller(ctx)
	if who.Admin {
		return sight{}
	}
	v := sight{uid: who.UID, own: s.private("jobs")}
	if !hide {
		return v
	}
	var parts []*wlm.Partition
	s.deps.View.Read(func(t *cluster.Tables) { parts = t.Partitions }) // replaced as a whole, never changed
	v.unseen = map[string]bool{}
	for _, p := range parts {
		if p.Hidden || !s.inGroups(ctx, p) {
			v.unseen[p.Name] = true
		}
	}
	return v
}

// private reports whether PrivateData keeps something from users.
func (s *Server) private(what string) bool {
	if s.deps.Conf == nil {
		return false
	}
	return s.deps.Conf().PrivateData.Has(what)
}

// inGroups reports whether AllowGroups lets the caller of ctx in.
func (s *Server) inGroups(ctx context.Context, p *wlm.Partition) bool {
	return len(p.AllowGroups) == 0 || p.Admits(s.groupsOf(ctx))
}

// job reports whether the caller sees a job.
func (v *sight) job(j *wlm.Job) bool {
	if v.own && j.Spec.User != v.uid {
		return false
	}
	if len(v.unseen) == 0 {
		return true
	}
	if j.State != wlm.Pending {
		return !v.unseen[j.Partition]
	}
	return slices.ContainsFunc(j.Spec.Partitions, func(p string) bool { return !v.unseen[p] })
}

// event reports whether the caller may hear of an event. Those of other people's
// jobs carry the job, or are of steps and of many jobs together, which are kept
// back as a whole.
func (v *sight) event(e *cluster.Event) bool {
	switch {
	case !v.own:
		return true
	case e.Job != nil:
		return v.job(e.Job)
	}
	return e.Step == nil && len(e.IDs) == 0
}

// all reports whether every job is seen.
func (v *sight) all() bool { return !v.own && len(v.unseen) == 0 }

// keep is the test of a listing; nil when everything is seen.
func (v *sight) keep() func(*wlm.Job) bool {
	if v.all() {
		return nil
	}
	return v.job
}

// Partitions implements ctlv1.ControllerServer.
func (s *Server) Partitions(ctx context.Context, r *ctlv1.PartitionsRequest) (*ctlv1.PartitionsReply, error) {
	const op = "rpc.Partitions"
	parts, err := s.deps.View.Partitions(r.GetName())
	if err != nil {
		return nil, err
	}
	who := caller(ctx)
	switch v := s.sightOf(ctx, r.GetHide()); {
	case !who.Admin && s.private("partitions"):
		parts = nil
	case len(v.unseen) > 0:
		parts = slices.DeleteFunc(parts, func(p *ctlv1.PartitionInfo) bool { return v.unseen[p.GetPartition().GetName()] })
		if len(parts) == 0 && r.GetName() != "" {
			return nil, errs.Coded(op, errs.InvalidPartition)
		}
	}
	reply := &ctlv1.PartitionsReply{Partitions: parts}
	if s.deps.Warnings != nil {
		reply.Warnings = s.deps.Warnings()
	}
	return reply, nil
}

// seenNodes drops the nodes that are in unseen partitions only.
func (s *Server) seenNodes(ctx context.Context, r *ctlv1.NodesRequest, nodes []*ctlv1.NodeInfo) []*ctlv1.NodeInfo {
	if !caller(ctx).Admin && s.private("nodes") {
		return nil
	}
	if !r.GetHide() {
		return nodes
	}
	v := s.sightOf(ctx, true)
	if len(v.unseen) == 0 {
		return nodes
	}
	return slices.DeleteFunc(nodes, func(n *ctlv1.NodeInfo) bool {
		in := n.GetPartitions()
		return len(in) > 0 && !slices.ContainsFunc(in, func(p string) bool { return !v.unseen[p] })
	})
}

// groupTime is for how long the groups of a user are remembered; GroupUpdateTime
// bounds it, too.
const groupTime = time.Minute

// groupCache remembers the names of users' groups.
type groupCache struct {
	sync.Mutex // held to look up and to store, not while the user database answers
	of         map[wlm.UID]userGroups
}

type userGroups struct {
	names []string
	until time.Time
}

// maxGroups bounds the users whose groups are remembered.
const maxGroups = 10000

// groupsOf names the groups of the caller: those that his token proves, and
// those of the controller's user database.
func (s *Server) groupsOf(ctx context.Context) []string {
	id := auth.From(ctx)
	return s.groupsOfUser(id.UID, id.User, id.GID, id.GIDs)
}

func (s *Server) groupsOfUser(uid wlm.UID, user string, gid wlm.GID, more []wlm.GID) []string {
	now, c := s.deps.Now(), &s.groups
	c.Lock()
	got, ok := c.of[uid]
	c.Unlock()
	if ok && now.Before(got.until) {
		return got.names
	}
	gids := append(auth.Groups(user, gid), gid)
	gids = append(gids, more...)
	slices.Sort(gids)
	var names []string
	for _, g := range slices.Compact(gids) {
		names = append(names, auth.GroupName(g))
	}
	span := groupTime
	if s.deps.Conf != nil {
		if t := s.deps.Conf().GroupUpdateTime; t > 0 {
			span = min(span, t)
		}
	}
	c.Lock()
	defer c.Unlock()
	if c.of == nil || len(c.of) >= maxGroups {
		c.of = map[wlm.UID]userGroups{}
	}
	c.of[uid] = userGroups{names, now.Add(span)}
	return names
}

// closed reports whether a partition asks for groups at all.
func (s *Server) closed() (yes bool) {
	s.deps.View.Read(func(t *cluster.Tables) {
		yes = slices.ContainsFunc(t.Partitions, func(p *wlm.Partition) bool { return len(p.AllowGroups) > 0 })
	})
	return yes
}

// member is the caller of ctx with the names of his groups, where a partition
// asks for them.
func (s *Server) member(ctx context.Context) cluster.Caller {
	who := caller(ctx)
	if !who.Admin && s.closed() {
		who.Groups = s.groupsOf(ctx)
	}
	return who
}

// listing is the part of a query that says what the caller sees.
func (s *Server) listing(ctx context.Context, q view.Query, hide bool) view.Query {
	v := s.sightOf(ctx, hide)
	q.Keep = v.keep()
	return q
}
