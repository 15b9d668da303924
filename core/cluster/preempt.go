package cluster

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Preemption says which running jobs make room for which that wait, and how.
//
// A placement names its victims. They are checked when it is committed: each is
// of a lower tier, may be preempted, is not exempt, and holds something of the
// nodes wanted, and without them the placement is free. Then each is, by the
// PreemptMode of its partition,
//
//   - suspended: it keeps its memory and devices, and runs again once its CPUs are
//     free ([Awaken]); or
//   - requeued or cancelled, after the GraceTime of its partition, in which it has
//     heard SIGCONT and SIGTERM.
//
// A job whose victims are all suspended starts in the same turn; another starts
// in a later pass, once its victims are gone.
type Preemption struct {
	ByTier         bool   // PreemptType=preempt/partition_prio
	Mode           string // PreemptMode of partitions that have none of their own
	Exempt         uint32 // PreemptExemptTime, seconds
	ExemptPriority uint32 // priority from which on Exempt protects jobs; 0: all
	UserSignal     bool   // a job hears the signal that it asked for with --signal, not SIGTERM
}

// PreemptionOf reads the values of slurm.conf.
func PreemptionOf(settings map[string]string) Preemption {
	p := Preemption{Mode: settings["PreemptMode"]}
	_, kind, _ := strings.Cut(settings["PreemptType"], "/")
	p.ByTier = strings.EqualFold(kind, "partition_prio") || strings.EqualFold(settings["PreemptType"], "partition_prio")
	if s, err := wlm.ParseMinutes(settings["PreemptExemptTime"]); err == nil && s != wlm.Unlimited {
		p.Exempt = uint32(s) * 60
	}
	if s, err := strconv.ParseUint(settings["PreemptExemptSeconds"], 10, 32); err == nil {
		p.Exempt = uint32(s)
	}
	for word := range strings.SplitSeq(settings["PreemptParameters"], ",") {
		name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(word)), "=")
		switch name {
		case "send_user_signal":
			p.UserSignal = true
		case "min_exempt_priority":
			n, _ := strconv.ParseUint(value, 10, 32)
			p.ExemptPriority = uint32(n)
		}
	}
	return p
}

// How a job makes room.
const (
	modeCancel  = "CANCEL"
	modeRequeue = "REQUEUE"
	modeSuspend = "SUSPEND"
)

// mode is how jobs of a partition make room; empty: not at all.
func (p *Preemption) mode(part *wlm.Partition) string {
	if !p.ByTier || part == nil {
		return ""
	}
	text := p.Mode
	if part.PreemptMode != "" {
		text = part.PreemptMode
	}
	for word := range strings.SplitSeq(strings.ToUpper(text), ",") {
		switch word = strings.TrimSpace(word); word {
		case modeCancel, modeRequeue, modeSuspend:
			return word
		}
	}
	return ""
}

// Of is what may be done to a running job of a partition to make room, and until
// when it is exempt from it.
func (p *Preemption) Of(part *wlm.Partition, j *wlm.Job) (mirror.Preempt, wlm.Time) {
	switch p.mode(part) {
	case modeCancel, modeRequeue:
		if p.Exempt > 0 && j.Priority >= p.ExemptPriority {
			return mirror.PreemptEnd, j.Start + wlm.Time(p.Exempt)
		}
		return mirror.PreemptEnd, 0
	case modeSuspend:
		return mirror.PreemptSuspend, 0
	}
	return mirror.PreemptOff, 0
}

// Asleep reports whether a job is suspended to make room for another.
func Asleep(j *wlm.Job) bool { return j.State == wlm.Suspended && j.Preempted != 0 }

// Leaving reports whether a job is about to give back what it holds.
func Leaving(j *wlm.Job) bool {
	return j.Flags&wlm.FlagCompleting != 0 || j.State == wlm.Running && j.Preempted != 0
}

// preempt makes room for a placement. ready says that it may start in this turn;
// why, that nothing was done, and for what reason.
func (c *Cluster) preempt(p *Placement, now wlm.Time) (ready bool, why string) {
	j := c.jobs[p.Job]
	if why := c.startable(j); why != "" {
		return false, why
	}
	if why := c.refuseShape(p, j); why != "" {
		return false, why
	}
	if why := c.refuseReserved(p, j, now); why != "" {
		return false, why
	}
	part := c.Partition(p.Partition)
	victims := map[wlm.JobID]bool{}
	for _, id := range p.Victims {
		if why := c.refuseVictim(c.jobs[id], p, part, now); why != "" || victims[id] {
			return false, fmt.Sprintf("job %s cannot make room: %s", id, cmp.Or(why, "it is named twice"))
		}
		victims[id] = true
	}
	ready = true
	for i := range p.Nodes {
		free, why := c.refuseRoom(&p.Nodes[i], part, j.Spec, victims)
		if why != "" {
			return false, why
		}
		ready = ready && free
	}
	for _, id := range p.Victims {
		v := c.jobs[id]
		if c.settings.Preemption.mode(c.Partition(v.Partition)) == modeSuspend {
			c.sleep(v, now, now)
		} else {
			ready = false
			c.warn(v, now)
		}
	}
	return ready, ""
}

// refuseVictim says why a job may not be made to leave for a placement.
func (c *Cluster) refuseVictim(v *wlm.Job, p *Placement, part *wlm.Partition, now wlm.Time) string {
	switch {
	case v == nil:
		return "no such job"
	case v.State != wlm.Running:
		return "it is " + wlm.StateName(v.State, v.Flags)
	case v.Preempted != 0:
		return "it is making room already"
	}
	from := c.Partition(v.Partition)
	how, exempt := c.settings.Preemption.Of(from, v)
	switch {
	case how == mirror.PreemptOff:
		return "preemption is off for it"
	case from.PriorityTier >= part.PriorityTier:
		return fmt.Sprintf("its tier is %d, that of partition %s %d", from.PriorityTier, part.Name, part.PriorityTier)
	case exempt > now:
		return fmt.Sprintf("it is exempt for %d s more", exempt-now)
	}
	for i := range p.Nodes {
		if n, ok := c.nodes[p.Nodes[i].Node]; ok {
			if _, there := c.Usage[n].Jobs[v.ID]; there {
				return ""
			}
		}
	}
	return "it holds nothing of the nodes wanted"
}

// refuseRoom says why what a placement has of a node is not free even when its
// victims are gone. free says that nobody else has to go first.
func (c *Cluster) refuseRoom(a *wlm.NodeAlloc, part *wlm.Partition, spec *wlm.Spec, victims map[wlm.JobID]bool) (free bool, why string) {
	n := c.Node(a.Node)
	free = true
	sharing := layers(part, spec) > 1
	var mem wlm.MiB
	for id := range c.Usage[n.Index].Jobs {
		j := c.jobs[id]
		sleeps := !holdsCPUs(j) || victims[id] && c.settings.Preemption.mode(c.Partition(j.Partition)) == modeSuspend
		for i := range j.Alloc.Nodes {
			b := &j.Alloc.Nodes[i]
			if b.Node != a.Node {
				continue
			}
			gone := victims[id] && !sleeps || Leaving(j)
			if gone {
				free = false
				continue
			}
			mem += b.Mem
			if !sleeps && !sharing && b.CPUs.Overlaps(a.CPUs) {
				return false, fmt.Sprintf("job %s keeps CPUs of node %s", id, a.Node)
			}
		}
	}
	if c.settings.TrackMemory && n.RealMemory > 0 && a.Mem > n.RealMemory-min(mem, n.RealMemory) {
		return false, fmt.Sprintf("node %s would have %d MiB free of %d asked", a.Node, n.RealMemory-min(mem, n.RealMemory), a.Mem)
	}
	return free, ""
}

// warn tells a job that it must leave: now, or when its grace is over.
func (c *Cluster) warn(v *wlm.Job, now wlm.Time) {
	n := v.Clone()
	n.Preempted = now
	grace := wlm.Time(c.Partition(v.Partition).GraceTime)
	if grace == 0 {
		c.makeRoom(n, now, outcome{})
		return
	}
	if end := now + grace; n.End == 0 || end < n.End {
		n.End = end
	}
	c.jobEvent(eventv1.Kind_JOB_CHANGED, now, n)
	signal, scope := uint64(syscall.SIGTERM), ScopeSteps
	if c.settings.Preemption.UserSignal && v.Spec.Signal != 0 {
		signal = uint64(v.Spec.Signal)
		if v.Spec.SignalBatch {
			scope = ScopeBatch
		}
	}
	for _, s := range []uint64{uint64(syscall.SIGCONT), signal} {
		c.emit(&Event{Kind: eventv1.Kind_JOB_SIGNALED, Time: now, Job: n, Position: s, Text: scope})
	}
}

// makeRoom ends a run for another job's sake. o is how the run ended if it ended
// by itself in its time of grace.
func (c *Cluster) makeRoom(j *wlm.Job, now wlm.Time, o outcome, clean ...wlm.NodeName) {
	o = outcome{state: wlm.Preempted, status: o.status, killedBy: wlm.Unset}
	mode := c.settings.Preemption.mode(c.Partition(j.Partition))
	if mode == modeRequeue && j.Requeueable && j.Spec.Kind == wlm.KindBatch {
		c.requeue(j, now, o, false, 0, clean...)
		return
	}
	c.end(j, now, o, clean...)
}

// sleep suspends a running job; preempted is not zero if that makes room.
func (c *Cluster) sleep(j *wlm.Job, now, preempted wlm.Time) {
	n := j.Clone()
	n.State, n.SuspendedAt, n.Preempted = wlm.Suspended, now, preempted
	n.PreSuspend = uint32(now-j.Start) - j.SuspendTotal
	c.jobEvent(eventv1.Kind_JOB_SUSPENDED, now, n)
}

// wake lets a suspended job run again; its CPUs are free.
func (c *Cluster) wake(j *wlm.Job, now wlm.Time) {
	n := j.Clone()
	n.State, n.Preempted = wlm.Running, 0
	n.SuspendTotal += uint32(now - j.SuspendedAt)
	if n.End > 0 {
		n.End += now - j.SuspendedAt
	}
	n.SuspendedAt = 0
	c.jobEvent(eventv1.Kind_JOB_RESUMED, now, n)
}

// inTheWay is the first node on which others have a suspended job's CPUs; empty:
// it may run.
func (c *Cluster) inTheWay(j *wlm.Job) wlm.NodeName {
	part := c.Partition(j.Partition)
	for i := range j.Alloc.Nodes {
		a := &j.Alloc.Nodes[i]
		n, ok := c.nodes[a.Node]
		if ok && c.Usage[n].CPUs.Overlaps(a.CPUs) && (part == nil || !c.share(a, part, j.Spec)) {
			return a.Node
		}
	}
	return ""
}

// AnyAsleep reports whether jobs are suspended to make room.
func (t *Tables) AnyAsleep() bool { return len(t.asleep) > 0 }

// Awaken lets jobs run again that were suspended to make room and whose CPUs are
// free: those of higher tiers first, then by priority. There is no reply.
type Awaken struct{}

// Op implements Command.
func (*Awaken) Op() string { return "cluster.Awaken" }

func (*Awaken) apply(c *Cluster, now wlm.Time) (any, error) {
	var jobs []*wlm.Job
	for id := range c.asleep {
		jobs = append(jobs, c.jobs[id])
	}
	tier := func(j *wlm.Job) uint32 {
		if p := c.Partition(j.Partition); p != nil {
			return p.PriorityTier
		}
		return 0
	}
	slices.SortFunc(jobs, func(a, b *wlm.Job) int {
		return cmp.Or(cmp.Compare(tier(b), tier(a)), cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.ID, b.ID))
	})
	for _, j := range jobs {
		if c.inTheWay(j) == "" {
			c.wake(j, now)
		}
	}
	return nil, nil
}
