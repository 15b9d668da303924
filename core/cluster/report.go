package cluster

import (
	"slices"

	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/wire"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Reports takes what a node tells, in its order. A report that is repeated, or
// about a run that is over, changes nothing. There is no reply.
type Reports struct {
	Node    wlm.NodeName
	Reports []*nodev1.Report
}

// Op implements Command.
func (*Reports) Op() string { return "cluster.Reports" }

func (r *Reports) apply(c *Cluster, now wlm.Time) (any, error) {
	for _, rep := range r.Reports {
		switch b := rep.GetBody().(type) {
		case *nodev1.Report_StepStarted:
			c.stepStarted(wire.StepOfWire(b.StepStarted.GetStep()), now)
		case *nodev1.Report_StepEnded:
			c.stepEnded(r.Node, b.StepEnded, now)
		case *nodev1.Report_JobGone:
			c.jobGone(r.Node, b.JobGone, now)
		case *nodev1.Report_LaunchFailed:
			c.launchFailed(r.Node, b.LaunchFailed, now)
		}
	}
	return nil, nil
}

func (c *Cluster) stepStarted(s *wlm.Step, now wlm.Time) {
	if s == nil {
		return
	}
	j := c.jobs[s.Job]
	if j == nil || j.State == wlm.Pending || j.State.Ended() && j.Flags&wlm.FlagCompleting == 0 ||
		c.Step(s.Job, s.ID) != nil || c.stepOver(s.Job, s.ID) {
		return
	}
	s.Partition, s.User, s.JobSubmit, s.Restarts = j.Partition, j.Spec.User, j.Submit, j.Restarts
	c.emit(&Event{Kind: eventv1.Kind_STEP_STARTED, Time: now, Step: s})
}

func (c *Cluster) stepEnded(node wlm.NodeName, m *nodev1.StepEnded, now wlm.Time) {
	s := wire.StepOfWire(m.GetStep())
	if s == nil {
		return
	}
	j := c.jobs[s.Job]
	if j == nil || m.GetRestarts() != c.runOf(j) || j.State.Ended() && j.Flags&wlm.FlagCompleting == 0 {
		return
	}
	// A requeued job's steps were closed with its run; and after a break a node
	// tells again what it does not know to be durable.
	if j.State != wlm.Pending && !c.stepOver(s.Job, s.ID) {
		s.Partition, s.User, s.JobSubmit, s.Restarts = j.Partition, j.Spec.User, j.Submit, j.Restarts
		c.emit(&Event{Kind: eventv1.Kind_STEP_ENDED, Time: now, Step: s})
	}
	var clean []wlm.NodeName
	if m.GetClean() {
		clean = []wlm.NodeName{node}
	}
	j = c.jobs[s.Job]
	switch {
	case s.ID != wlm.StepBatch:
	case j.State == wlm.Running || j.State == wlm.Suspended:
		c.batchEnded(j, now, ofStatus(s.Status, m.GetOom()), clean)
	case len(clean) > 0:
		c.cleaned(j, now, clean...)
	}
}

// batchEnded ends a job whose script ended by itself, or requeues it where the
// site asks for that by exit code.
func (c *Cluster) batchEnded(j *wlm.Job, now wlm.Time, o outcome, clean []wlm.NodeName) {
	if j.Preempted > 0 && j.State == wlm.Running {
		c.makeRoom(j, now, o, clean...)
		return
	}
	code := o.status.Code()
	if j.Requeueable && o.state == wlm.Failed && code != 0 {
		if slices.Contains(c.settings.RequeueExitHold, code) {
			c.requeue(j, now, o, true, wlm.WaitHeldUser, clean...)
			return
		}
		if slices.Contains(c.settings.RequeueExit, code) {
			c.requeue(j, now, o, false, 0, clean...)
			return
		}
	}
	c.end(j, now, o, clean...)
}

func (c *Cluster) jobGone(node wlm.NodeName, m *nodev1.JobGone, now wlm.Time) {
	j := c.jobs[wlm.JobID(m.GetJob())]
	if j == nil || m.GetRestarts() != c.runOf(j) || !slices.Contains(j.Cleaning, node) {
		return
	}
	if m.GetUnkillable() {
		c.drain(node, now, "Kill task failed")
	}
	c.cleaned(j, now, node)
}

// launchFailed holds a job that could not be started, so that a bad node does
// not eat the queue, and drains the node where it was to blame.
func (c *Cluster) launchFailed(node wlm.NodeName, m *nodev1.LaunchFailed, now wlm.Time) {
	if m.GetDrain() {
		c.drain(node, now, m.GetReason())
	}
	j := c.jobs[wlm.JobID(m.GetJob())]
	switch {
	case j == nil || m.GetRestarts() != c.runOf(j):
		return
	case j.State != wlm.Running: // ended, or requeued, before the node could tell
		c.cleaned(j, now, node)
		return
	}
	o := outcome{state: wlm.Failed, reason: wlm.FailLaunch, text: m.GetReason(), status: wlm.ExitStatus(1), killedBy: wlm.Unset}
	if limit := c.settings.MaxBatchRequeue; j.Requeueable && (limit == 0 || j.Restarts < limit) {
		c.requeue(j, now, o, true, wlm.FailLaunch, node)
		return
	}
	c.end(j, now, o, node)
}

func (c *Cluster) drain(name wlm.NodeName, now wlm.Time, reason string) {
	n := c.Node(name)
	if n == nil || n.Flags&wlm.NodeDrain != 0 {
		return
	}
	d := n.Clone()
	d.Flags |= wlm.NodeDrain
	d.Reason, d.ReasonTime, d.ReasonUser = reason, now, 0
	c.emit(&Event{Kind: eventv1.Kind_NODE_CHANGED, Time: now, Node: d})
}

// Complete ends an allocation whose command, on the submit host, ended with
// Status. There is no reply.
type Complete struct {
	Job    wlm.JobID
	Status wlm.WaitStatus
	Caller Caller
}

// Op implements Command.
func (*Complete) Op() string { return "cluster.Complete" }

func (m *Complete) apply(c *Cluster, now wlm.Time) (any, error) {
	j := c.jobs[m.Job]
	switch {
	case j == nil:
		return nil, invalidJob(m.Op(), m.Job)
	case !m.Caller.Owns(j):
		return nil, denied(m.Op(), m.Job)
	case j.State == wlm.Pending:
		c.end(j, now, outcome{state: wlm.Cancelled, killedBy: uint32(m.Caller.UID)})
	case !j.State.Ended():
		c.end(j, now, ofStatus(m.Status, false))
	}
	return nil, nil
}
