package cluster

import (
	"fmt"
	"slices"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Start commits placements. Each is checked against the cluster as it is now;
// those that do not hold are refused, the others start. The reply is a
// *StartReply.
type Start struct {
	Placements []Placement
}

// Placement is where one job, or one task of an array, would start.
type Placement struct {
	Job       wlm.JobID
	Partition string
	Nodes     []wlm.NodeAlloc // in node-table order
	Scheduler string          // "Main" or "Backfill"
	Victims   []wlm.JobID     // jobs that make room first, see preempt.go
	Limit     uint32          // seconds, where less than the job's limit and not below its TimeMin; 0: its limit
	// Reservation is the number of the one whose resources it uses; 0: none.
	Reservation uint32
}

// StartReply has the records that started, and the placements that did not hold.
type StartReply struct {
	Started []*wlm.Job
	Refused []Refusal
	Victims []wlm.JobID // jobs that were told to make room
}

// Refusal says why a placement did not hold.
type Refusal struct {
	Job  wlm.JobID
	Text string
}

// Op implements Command.
func (*Start) Op() string { return "cluster.Start" }

func (s *Start) apply(c *Cluster, now wlm.Time) (any, error) {
	reply := &StartReply{}
	for i := range s.Placements {
		p := &s.Placements[i]
		if len(p.Victims) > 0 {
			ready, why := c.preempt(p, now)
			if why != "" {
				reply.Refused = append(reply.Refused, Refusal{p.Job, why})
			} else {
				reply.Victims = append(reply.Victims, p.Victims...)
			}
			if !ready {
				continue
			}
		}
		if why := c.refuse(p, now); why != "" {
			reply.Refused = append(reply.Refused, Refusal{p.Job, why})
			continue
		}
		reply.Started = append(reply.Started, c.start(p, now))
	}
	return reply, nil
}

// Startable says why a job may not start whatever its placement; empty: it may.
func (c *Cluster) startable(j *wlm.Job) string {
	switch {
	case j == nil:
		return "no such job"
	case j.State != wlm.Pending:
		return "it is " + wlm.StateName(j.State, j.Flags)
	case j.Held || j.Reason != wlm.ReasonNone || j.Eligible == 0:
		return "it waits for " + j.Reason.String()
	case j.Flags&wlm.FlagCompleting != 0:
		return "its former run is not cleaned up"
	case j.IsArrayRecord() && c.TasksReady(j) == 0:
		return "its array has no task that may start"
	}
	return ""
}

// TasksReady is how many tasks of a pending record may start now: 1 for a plain
// job, and for an array what its %limit leaves.
func (t *Tables) TasksReady(j *wlm.Job) int {
	if !j.IsArrayRecord() {
		return 1
	}
	n := int(countTasks(j.ArrayTasks))
	if limit := int(j.Spec.ArrayMaxRunning); limit > 0 {
		n = min(n, max(limit-int(t.arrayRun[j.ArrayJob]), 0))
	}
	return n
}

func (c *Cluster) refuse(p *Placement, now wlm.Time) string {
	j := c.jobs[p.Job]
	if why := c.startable(j); why != "" {
		return why
	}
	if why := c.refuseShape(p, j); why != "" {
		return why
	}
	if why := c.refuseReserved(p, j, now); why != "" {
		return why
	}
	part := c.Partition(p.Partition)
	for i := range p.Nodes {
		if why := c.refuseNode(&p.Nodes[i], part, j.Spec); why != "" {
			return why
		}
	}
	return c.refuseLicenses(j.Spec.Licenses)
}

// refuseShape says why a placement is none of the job's, whatever is in use.
func (c *Cluster) refuseShape(p *Placement, j *wlm.Job) string {
	part := c.Partition(p.Partition)
	if part == nil || !slices.Contains(j.Spec.Partitions, p.Partition) {
		return fmt.Sprintf("partition %q was not asked for", p.Partition)
	}
	if part.State != wlm.PartUp && part.State != wlm.PartDrain {
		return fmt.Sprintf("partition %s is %s", part.Name, part.State)
	}
	if len(p.Nodes) == 0 || len(p.Nodes) < int(j.Spec.MinNodes) || j.Spec.MaxNodes > 0 && len(p.Nodes) > int(j.Spec.MaxNodes) {
		return fmt.Sprintf("%d nodes do not satisfy %d to %d", len(p.Nodes), j.Spec.MinNodes, j.Spec.MaxNodes)
	}
	cpus := 0
	for i := range p.Nodes {
		a := &p.Nodes[i]
		if why := c.refuseName(a, part); why != "" {
			return why
		}
		if i > 0 && c.nodes[p.Nodes[i-1].Node] >= c.nodes[a.Node] {
			return fmt.Sprintf("node %s is named twice or out of order", a.Node)
		}
		cpus += a.CPUs.Count()
	}
	if p.Limit > 0 && (p.Limit < 60 || j.Spec.TimeMin == 0 || p.Limit < uint32(j.Spec.TimeMin)*60) {
		return fmt.Sprintf("a limit of %d s is less than its shortest", p.Limit)
	}
	k := ClassOf(j.Spec)
	if need := int(k.MinCPUs()); cpus < need {
		return fmt.Sprintf("%d CPUs do not satisfy %d", cpus, need)
	}
	return ""
}

// refuseName says why a placement may not name a node and its CPUs, whatever is
// in use.
func (c *Cluster) refuseName(a *wlm.NodeAlloc, part *wlm.Partition) string {
	n := c.Node(a.Node)
	switch {
	case n == nil:
		return fmt.Sprintf("node %s is not configured", a.Node)
	case !n.Available():
		return fmt.Sprintf("node %s is not available", a.Node)
	case !c.hasNode(part, a.Node):
		return fmt.Sprintf("node %s is not in partition %s", a.Node, part.Name)
	}
	last := -1
	for cpu := range a.CPUs.All {
		last = cpu
	}
	switch {
	case last < 0:
		return fmt.Sprintf("no CPU of node %s is taken", a.Node)
	case last >= int(n.CPUs):
		return fmt.Sprintf("node %s has no CPU %d", a.Node, last)
	}
	return ""
}

// refuseNode says why what a placement has of a node is not free.
func (c *Cluster) refuseNode(a *wlm.NodeAlloc, part *wlm.Partition, spec *wlm.Spec) string {
	n := c.Node(a.Node)
	u := &c.Usage[n.Index]
	switch {
	case u.CPUs.Overlaps(a.CPUs) && !c.share(a, part, spec):
		return fmt.Sprintf("CPUs %s of node %s are in use", a.CPUs, a.Node)
	case c.settings.TrackMemory && n.RealMemory > 0 && a.Mem > n.RealMemory-min(u.Mem, n.RealMemory):
		return fmt.Sprintf("node %s has %d MiB free of %d asked", a.Node, n.RealMemory-min(u.Mem, n.RealMemory), a.Mem)
	}
	return c.refuseGres(a, n)
}

// layers is how many jobs of a partition may share a CPU, one with this spec
// among them (OverSubscribe).
func layers(part *wlm.Partition, spec *wlm.Spec) int {
	if part != nil && (part.OverSubscribe == wlm.OverSubForce && spec.Share != wlm.ShareNever ||
		part.OverSubscribe == wlm.OverSubYes && spec.Share == wlm.ShareAllow) {
		return max(int(part.OverSubCount), 1)
	}
	return 1
}

// share reports whether the CPUs of a are taken only by jobs that would share
// them, and by fewer than may.
func (c *Cluster) share(a *wlm.NodeAlloc, part *wlm.Partition, spec *wlm.Spec) bool {
	most := layers(part, spec)
	if most < 2 {
		return false
	}
	used := map[int]int{}
	for id := range c.Usage[c.nodes[a.Node]].Jobs {
		j := c.jobs[id]
		if !holdsCPUs(j) {
			continue
		}
		for i := range j.Alloc.Nodes {
			b := &j.Alloc.Nodes[i]
			if b.Node != a.Node || !b.CPUs.Overlaps(a.CPUs) {
				continue
			}
			if j.Partition != part.Name || layers(part, j.Spec) < 2 {
				return false
			}
			for cpu := range b.CPUs.All {
				if used[cpu]++; used[cpu] >= most && a.CPUs.Has(cpu) {
					return false
				}
			}
		}
	}
	return true
}

// hasNode reports whether a partition has a node. The set is made once for each
// record: looking through the names would take as long as the partition is
// large, for every node of every job.
func (c *Cluster) hasNode(p *wlm.Partition, name wlm.NodeName) bool {
	set := c.members[p]
	if set == nil {
		set = make(map[wlm.NodeName]struct{}, len(p.NodeNames))
		for _, n := range p.NodeNames {
			set[n] = struct{}{}
		}
		c.members[p] = set
	}
	_, has := set[name]
	return has
}

// start puts a job, or the next task of an array, on its nodes.
func (c *Cluster) start(p *Placement, now wlm.Time) *wlm.Job {
	j := c.jobs[p.Job]
	var n, rest *wlm.Job
	switch {
	case j.IsArrayRecord() && countTasks(j.ArrayTasks) > 1:
		n, rest = c.split(j, j.ArrayTasks[0].First)
	case j.IsArrayRecord(): // the last task takes over the array's id
		n = j.Clone()
		n.ArrayTask, n.ArrayTasks = j.ArrayTasks[0].First, nil
	default:
		n = j.Clone()
	}
	names := make([]string, len(p.Nodes))
	for i := range p.Nodes {
		names[i] = string(p.Nodes[i].Node)
	}
	n.Alloc = &wlm.Alloc{NodeList: hostlist.Compress(names), Nodes: p.Nodes}
	n.State, n.Flags, n.Reason, n.ReasonText = wlm.Running, 0, wlm.ReasonNone, ""
	n.Reservation, n.ReservationID = "", 0
	for _, r := range c.Reservations {
		if r.ID == p.Reservation {
			n.Reservation, n.ReservationID = r.Name, r.ID
		}
	}
	n.Partition, n.SchedulerTag = p.Partition, p.Scheduler
	switch {
	case n.Spec.TasksPerNode > 1:
		n.NTasks = uint32(len(p.Nodes)) * n.Spec.TasksPerNode
	case n.Spec.NTasks == 0:
		n.NTasks = max(n.NTasks, uint32(len(p.Nodes)))
	}
	n.Start, n.LastSched, n.BatchHost = now, now, c.batchHost(n.Spec, p.Nodes)
	n.End, n.Preempted = 0, 0
	if p.Limit > 0 && uint32(n.TimeLimit) > p.Limit/60 {
		n.TimeLimit = wlm.Minutes(p.Limit / 60)
	}
	if n.TimeLimit != wlm.Unlimited && n.TimeLimit != 0 {
		n.End = now + wlm.Time(n.TimeLimit)*60
	}
	n.AllocTRES = c.allocTRES(n, c.Partition(p.Partition))
	c.jobEvent(eventv1.Kind_JOB_STARTED, now, n)
	if rest != nil {
		c.jobEvent(eventv1.Kind_TASK_SPLIT, now, rest)
	}
	if !c.beside {
		c.dependents(n, now)
	}
	return n
}

// Rank gives pending jobs their priorities. Jobs that are held or gone are left
// out. There is no reply.
type Rank struct {
	Jobs       []wlm.JobID
	Priorities []uint32
}

// Op implements Command.
func (*Rank) Op() string { return "cluster.Rank" }

func (r *Rank) apply(c *Cluster, now wlm.Time) (any, error) {
	if len(r.Jobs) != len(r.Priorities) {
		return nil, errs.Newf(r.Op(), errs.Invalid, "%d priorities for %d jobs", len(r.Priorities), len(r.Jobs))
	}
	e := &Event{Kind: eventv1.Kind_JOB_RANKED, Time: now}
	for i, id := range r.Jobs {
		j := c.jobs[id]
		if j == nil || j.State != wlm.Pending || j.Held || j.Priority == max(r.Priorities[i], 1) && j.Ranked {
			continue
		}
		if j.Spec.Priority != wlm.Unset { // set by an operator
			continue
		}
		e.IDs = append(e.IDs, id)
		e.Priorities = append(e.Priorities, max(r.Priorities[i], 1))
	}
	if len(e.IDs) > 0 {
		c.emit(e)
	}
	return nil, nil
}

// AckRecords tells that accounting storage has every record up to a number.
type AckRecords struct{ Upto uint64 }

// Op implements Command.
func (*AckRecords) Op() string { return "cluster.AckRecords" }

func (a *AckRecords) apply(c *Cluster, now wlm.Time) (any, error) {
	if upto := min(a.Upto, c.LastRecord()); upto > c.records.acked {
		c.emit(&Event{Kind: eventv1.Kind_RECORDS_ACKED, Time: now, Position: upto})
	}
	return nil, nil
}

// Begin opens a controller's term: what nodes said before is no longer known.
type Begin struct{ Epoch uint64 }

// Op implements Command.
func (*Begin) Op() string { return "cluster.Begin" }

func (b *Begin) apply(c *Cluster, now wlm.Time) (any, error) {
	c.emit(&Event{Kind: eventv1.Kind_EPOCH, Time: now, Position: b.Epoch})
	return nil, nil
}
