package cluster

import (
	"container/heap"
	"slices"

	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Tick lets time pass: begin times and deadlines come, limits run out, ended
// jobs grow old. There is no reply.
type Tick struct{}

// Op implements Command.
func (*Tick) Op() string { return "cluster.Tick" }

// maxPerTick bounds the jobs that one tick looks at, so that no turn is long.
const maxPerTick = 5000

func (*Tick) apply(c *Cluster, now wlm.Time) (any, error) {
	var purge []wlm.JobID
	for n := 0; n < maxPerTick && len(c.timers) > 0 && c.timers[0].at <= now; n++ {
		id := heap.Pop(&c.timers).(timer).job
		j := c.jobs[id]
		if j == nil {
			continue
		}
		if c.due(j, now) {
			purge = append(purge, id)
		}
	}
	slices.Sort(purge)
	purge = slices.Compact(purge) // a job may have several timers
	if len(purge) > 0 {
		c.emit(&Event{Kind: eventv1.Kind_JOB_PURGED, Time: now, IDs: purge})
	}
	c.tickReservations(now)
	c.forgetKeys(now)
	return nil, nil
}

// due handles one job whose moment may have come, and reports whether it is old
// enough to be forgotten.
func (c *Cluster) due(j *wlm.Job, now wlm.Time) (old bool) {
	s := j.Spec
	switch {
	case j.State.Ended():
		return j.Flags&wlm.FlagCompleting == 0 && j.End+wlm.Time(c.settings.MinJobAge) <= now && !c.awaited(j)
	case s.Deadline > 0 && s.Deadline <= now:
		c.end(j, now, outcome{state: wlm.Deadline, reason: wlm.FailDeadline, killedBy: wlm.Unset})
	case j.State == wlm.Pending:
		c.rejudge(j, now)
	case j.State == wlm.Running && j.Preempted > 0 && j.End <= now:
		c.makeRoom(j, now, outcome{})
	case j.State == wlm.Running && j.End > 0 && c.overtime(j) <= now:
		c.end(j, now, outcome{state: wlm.Timeout, reason: wlm.FailTimeout, killedBy: wlm.Unset})
	case j.State == wlm.Running && s.Signal != 0 && !j.SignalSent && j.End > 0 && j.End-wlm.Time(s.SignalSeconds) <= now:
		n := j.Clone()
		n.SignalSent = true
		scope := ScopeSteps
		if s.SignalBatch {
			scope = ScopeBatch
		}
		c.emit(&Event{Kind: eventv1.Kind_JOB_SIGNALED, Time: now, Job: n, Position: uint64(s.Signal), Text: scope})
	}
	return false
}

// overtime is when a running job's limit, with the grace the site allows, ends it.
func (c *Cluster) overtime(j *wlm.Job) wlm.Time {
	over := c.settings.OverTimeLimit
	if p := c.Partition(j.Partition); p != nil && p.OverTimeLimit != wlm.Unset {
		over = wlm.Minutes(p.OverTimeLimit)
	}
	return j.End + wlm.Time(over)*60
}

// keyLife is how long a submission's key is remembered: a day.
const keyLife wlm.Time = 24 * 3600

func (c *Cluster) forgetKeys(now wlm.Time) {
	for len(c.keyOrder) > 0 {
		k := c.keyOrder[0]
		if c.keys[k].at+keyLife > now {
			return
		}
		delete(c.keys, k)
		c.keyOrder = c.keyOrder[1:]
	}
}
