package cluster

import (
	"slices"
	"syscall"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Kill signals or cancels every job that a filter selects. Signal 0, and
// SIGKILL without flags, cancel. The reply is a *KillReply.
type Kill struct {
	Filter    *ctlv1.JobFilter
	Signal    int
	BatchOnly bool
	Full      bool
	StepsOnly bool // never the job itself: even SIGKILL ends only its steps
	Caller    Caller
	// Own restricts a filter without references to the caller's jobs.
	Own bool
}

// KillReply says what could not be done, by reference.
type KillReply struct {
	Matched int
	Failed  []Failure
}

// Failure is one job that a command could not change.
type Failure struct {
	Ref  *ctlv1.JobRef
	Code errs.Code
}

// Op implements Command.
func (*Kill) Op() string { return "cluster.Kill" }

func (k *Kill) apply(c *Cluster, now wlm.Time) (any, error) {
	found, missing, err := c.Find(k.Filter)
	if err != nil {
		return nil, errs.Newf(k.Op(), errs.Invalid, "%v", err)
	}
	reply, done := &KillReply{}, map[*ctlv1.JobRef]bool{}
	for _, ref := range missing {
		reply.Failed = append(reply.Failed, Failure{ref, errs.InvalidJobID})
	}
	for _, m := range found {
		if m = c.refresh(m); m.Job == nil {
			continue // the same command has dealt with it
		}
		byRef := m.Ref != nil
		if !k.Caller.Owns(m.Job) {
			if byRef {
				reply.Failed = append(reply.Failed, Failure{m.Ref, errs.AccessDenied})
			}
			continue
		}
		reply.Matched++
		code := k.one(c, m, now)
		if code == 0 {
			done[m.Ref] = true
		} else if byRef {
			reply.Failed = append(reply.Failed, Failure{m.Ref, code})
		}
	}
	// An array of which some tasks had ended before is no failure.
	reply.Failed = slices.DeleteFunc(reply.Failed, func(f Failure) bool { return f.Code == errs.AlreadyDone && done[f.Ref] })
	return reply, nil
}

// refresh returns what a match stands for now: an earlier match of the same
// command may have changed it, or what depends on it. No job: nothing is left.
func (c *Cluster) refresh(m Match) Match {
	m.Job = c.jobs[m.Job.ID]
	if m.Tasks == nil || m.Job == nil {
		return m
	}
	if m.Tasks = common(m.Job.ArrayTasks, m.Tasks); len(m.Tasks) == 0 {
		m.Job = nil
	}
	return m
}

// one signals one job; the code says why it could not.
func (k *Kill) one(c *Cluster, m Match, now wlm.Time) errs.Code {
	j := m.Job
	if m.Ref.GetHasStep() {
		return k.step(c, m, now)
	}
	cancel := !k.StepsOnly && (k.Signal == 0 || k.Signal == int(syscall.SIGKILL) && !k.BatchOnly && !k.Full)
	switch {
	case j.State.Ended():
		return errs.AlreadyDone
	case !cancel && j.State == wlm.Pending:
		return errs.JobPending
	case !cancel:
		signal := k.Signal
		if signal == 0 {
			signal = int(syscall.SIGKILL)
		}
		c.emit(&Event{Kind: eventv1.Kind_JOB_SIGNALED, Time: now, Job: j, Position: uint64(signal), Text: k.scope()})
		return 0
	case m.Tasks != nil && countTasks(m.Tasks) < countTasks(j.ArrayTasks):
		k.tasks(c, m, now)
		return 0
	}
	c.end(j, now, k.outcome())
	return 0
}

func (k *Kill) outcome() outcome {
	return outcome{state: wlm.Cancelled, killedBy: uint32(k.Caller.UID)}
}

// scope tells, in an event's text, which processes a signal is for.
func (k *Kill) scope() string {
	switch {
	case k.BatchOnly:
		return ScopeBatch
	case k.Full:
		return ScopeFull
	}
	return ScopeSteps
}

// The scopes of a signal, as the text of JOB_SIGNALED.
const (
	ScopeSteps = "steps" // the steps, not the batch shell
	ScopeBatch = "batch" // the batch shell only
	ScopeFull  = "full"  // batch shell, its children and all steps
	// ScopeNotify comes before a message for the job's stderr; there is no
	// signal.
	ScopeNotify = "notify:"
)

// step signals one step of a running job.
func (k *Kill) step(c *Cluster, m Match, now wlm.Time) errs.Code {
	s := c.Step(m.Job.ID, wlm.StepID(m.Ref.GetStep()))
	if s == nil {
		return errs.InvalidStep
	}
	signal := k.Signal
	if signal == 0 {
		signal = int(syscall.SIGKILL)
	}
	c.emit(&Event{Kind: eventv1.Kind_JOB_SIGNALED, Time: now, Job: m.Job, Position: uint64(signal), Text: s.ID.String()})
	return 0
}

// tasks cancels some pending tasks of an array: they leave its record, together.
func (k *Kill) tasks(c *Cluster, m Match, now wlm.Time) {
	t, left := c.splitTasks(m.Job, m.Tasks)
	c.end(t, now, k.outcome())
	c.jobEvent(eventv1.Kind_TASK_SPLIT, now, left)
}
