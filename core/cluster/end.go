package cluster

import (
	"fmt"
	"slices"

	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// outcome is why and how a job's run ends.
type outcome struct {
	state    wlm.JobState
	reason   wlm.Reason
	text     string
	status   wlm.WaitStatus
	killedBy uint32 // wlm.Unset: nobody
	node     wlm.NodeName
}

// end ends a job. A pending job is over at once; one that holds nodes is ending
// until each node that is not in clean, and not down, reported it gone. A job
// that is ending already keeps its first cause.
func (c *Cluster) end(j *wlm.Job, now wlm.Time, o outcome, clean ...wlm.NodeName) {
	n := j.Clone()
	if !j.State.Ended() {
		n.State, n.Status = o.state, o.status
		n.Reason, n.ReasonText = o.reason, o.text
		n.KilledBy, n.FailedNode = wlm.Unset, o.node
		if o.state == wlm.Cancelled {
			n.KilledBy = o.killedBy
		}
		n.Derived = c.derived[j.ID]
		if j.State == wlm.Suspended {
			n.SuspendTotal += uint32(now - j.SuspendedAt)
		}
		n.End = now
		if n.Start == 0 {
			n.Start = now
		}
		switch {
		case j.Flags&wlm.FlagCompleting != 0:
			// Requeued and not clean yet: what its nodes hold, and will report
			// gone, is the run before, and there will be no other.
			n.Restarts = c.runOf(j)
			n.Cleaning = c.without(j.Cleaning, clean)
		case j.Alloc != nil:
			n.Cleaning = c.dirty(j, clean)
		}
	} else {
		n.Cleaning = c.without(j.Cleaning, clean)
	}
	if len(n.Cleaning) > 0 {
		if j.State.Ended() {
			c.clean(n, now, c.among(j.Cleaning, clean))
			return
		}
		n.Flags |= wlm.FlagCompleting
		c.jobEvent(eventv1.Kind_JOB_ENDING, now, n)
		return
	}
	n.Flags &^= wlm.FlagCompleting | wlm.FlagConfiguring | wlm.FlagSignaling
	n.Cleaning = nil
	c.closeSteps(j, now)
	if d := c.derived[j.ID]; worse(d, n.Derived) {
		n.Derived = d
	}
	c.jobEvent(eventv1.Kind_JOB_ENDED, now, n)
	c.dependents(n, now)
}

// closeSteps ends the steps of a run that nobody will report on any more.
func (c *Cluster) closeSteps(j *wlm.Job, now wlm.Time) {
	for _, s := range c.Steps(j.ID) {
		d := *s
		d.State, d.End, d.KilledBy = wlm.Cancelled, now, j.KilledBy
		c.emit(&Event{Kind: eventv1.Kind_STEP_ENDED, Time: now, Step: &d})
	}
}

// dirty lists the nodes of j's allocation that must still clean up.
func (c *Cluster) dirty(j *wlm.Job, clean []wlm.NodeName) []wlm.NodeName {
	var out []wlm.NodeName
	for i := range j.Alloc.Nodes {
		name := j.Alloc.Nodes[i].Node
		if n := c.Node(name); n == nil || n.State == wlm.NodeDown || slices.Contains(clean, name) {
			continue
		}
		out = append(out, name)
	}
	return out
}

// requeue ends a run with o, as accounting will show it, and makes the job
// pending again under its id. It starts anew once its nodes are clean.
func (c *Cluster) requeue(j *wlm.Job, now wlm.Time, o outcome, hold bool, holdReason wlm.Reason, clean ...wlm.NodeName) {
	c.closeSteps(j, now)
	prev := j.Clone()
	if !prev.State.Ended() {
		prev.State, prev.Status, prev.Reason, prev.ReasonText = o.state, o.status, o.reason, o.text
		prev.End, prev.FailedNode, prev.Derived = now, o.node, c.derived[j.ID]
		prev.KilledBy = o.killedBy
	}
	prev.Flags = 0
	if !j.State.Ended() && o.state == wlm.Cancelled {
		prev.Flags = wlm.FlagRequeued // accounting shows REQUEUED, not that a user cancelled it
	}
	n := j.Clone()
	n.State, n.Flags = wlm.Pending, 0
	n.Submit, n.Eligible, n.Accrue, n.Start, n.End = now, 0, 0, 0, 0
	n.Status, n.Derived, n.KilledBy, n.FailedNode = 0, 0, wlm.Unset, ""
	n.Restarts++
	n.NextStep, n.SignalSent = 0, false
	n.SuspendTotal, n.PreSuspend, n.Preempted = 0, 0, 0
	if n.Spec.TimeMin > 0 && n.Spec.TimeLimit > 0 {
		n.TimeLimit = n.Spec.TimeLimit // it may have been shortened, see Placement.Limit
	}
	n.Priority, n.Ranked = 0, false
	if hold {
		n.Held, n.Reason = true, holdReason
		n.Flags |= wlm.FlagRequeueHold
	}
	switch {
	case j.Flags&wlm.FlagCompleting != 0:
		n.Cleaning = c.without(j.Cleaning, clean)
	case j.Alloc != nil && !j.State.Ended():
		n.Cleaning = c.dirty(j, clean)
	}
	if len(n.Cleaning) > 0 {
		n.Flags |= wlm.FlagCompleting
	} else {
		n.Cleaning, n.Alloc, n.AllocTRES, n.BatchHost, n.SuspendedAt = nil, nil, "", "", 0
	}
	delayed := c.settings.RequeueDelay > 0 && !hold
	if delayed {
		spec := *n.Spec
		spec.Begin = now + wlm.Time(c.settings.RequeueDelay) + 1
		n.Spec = &spec
	}
	c.judge(n, now)
	if hold {
		n.Reason = holdReason
	}
	c.emit(&Event{Kind: eventv1.Kind_JOB_REQUEUED, Time: now, Job: n, Previous: prev, respec: delayed})
}

// cleaned takes nodes off an ending or requeued job.
func (c *Cluster) cleaned(j *wlm.Job, now wlm.Time, nodes ...wlm.NodeName) {
	if j.Flags&wlm.FlagCompleting == 0 {
		return
	}
	if j.State.Ended() {
		c.end(j, now, outcome{}, nodes...)
		return
	}
	n := j.Clone()
	if n.Cleaning = c.without(j.Cleaning, nodes); len(n.Cleaning) > 0 {
		c.clean(n, now, c.among(j.Cleaning, nodes))
		return
	}
	n.Flags &^= wlm.FlagCompleting
	n.Cleaning, n.Alloc, n.AllocTRES, n.BatchHost, n.SuspendedAt = nil, nil, "", "", 0
	reason := n.Reason
	c.judge(n, now)
	if n.Held {
		n.Reason = reason
		if reason == wlm.WaitCleaning {
			n.Reason = wlm.WaitHeldUser
		}
	}
	c.jobEvent(eventv1.Kind_JOB_CLEANED, now, n)
}

// ofStatus is the outcome of a batch script or command that ended with status.
func ofStatus(status wlm.WaitStatus, oom bool) outcome {
	o := outcome{status: status, killedBy: wlm.Unset}
	switch {
	case oom:
		o.state, o.reason, o.status = wlm.OutOfMemory, wlm.FailOom, wlm.SignalStatus(oomSignal)
	case status.Signal() != 0:
		o.state, o.reason = wlm.Failed, wlm.FailSignal
		o.text = fmt.Sprintf("RaisedSignal:%d(%s)", status.Signal(), wlm.SignalText(status.Signal()))
	case status.Code() != 0:
		o.state, o.reason = wlm.Failed, wlm.FailExitCode
	default:
		o.state = wlm.Completed
	}
	return o
}

// oomSignal is what Slurm shows for a job that ran out of memory: 0:125.
const oomSignal = 125
