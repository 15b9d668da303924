package cluster

import (
	"cmp"
	"slices"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// top moves a pending job before the other pending jobs of its user, partition,
// account and QOS. What it gains in nice value those that stood before it lose
// together, so that nobody else's place changes by much.
func (c *Cluster) top(op string, j *wlm.Job, now wlm.Time, u *UpdateJob) error {
	switch {
	case !c.settings.UserTop && !u.Caller.Admin:
		return errs.Coded(op, errs.Disabled, "SchedulerParameters has no enable_user_top")
	case j.State != wlm.Pending:
		return errs.Coded(op, errs.JobNotPending)
	case j.Held || !j.Ranked:
		return errs.Coded(op, errs.AccessDenied, "the job is held, or has no priority yet")
	}
	var ahead []*wlm.Job
	highest := j.Priority
	for _, o := range c.jobs {
		if o.ID == j.ID || o.State != wlm.Pending || !o.Ranked || o.Held || o.Priority < j.Priority || o.Spec.User != j.Spec.User ||
			o.Partition != j.Partition || o.Spec.Account != j.Spec.Account || o.Spec.QOS != j.Spec.QOS {
			continue
		}
		ahead = append(ahead, o)
		highest = max(highest, o.Priority)
	}
	if len(ahead) == 0 {
		return nil
	}
	slices.SortFunc(ahead, func(a, b *wlm.Job) int { return cmp.Compare(a.ID, b.ID) })
	gain := int64(highest-j.Priority) + 1
	share := (gain + int64(len(ahead)) - 1) / int64(len(ahead))
	c.renice(j, -gain, now)
	for _, o := range ahead {
		c.renice(o, share, now)
	}
	return nil
}

// renice adds to a pending job's nice value and takes it from its priority.
func (c *Cluster) renice(j *wlm.Job, by int64, now wlm.Time) {
	n, spec := j.Clone(), *j.Spec
	n.Spec = &spec
	spec.Nice += int32(by)
	n.Priority = uint32(max(int64(n.Priority)-by, 1))
	c.emit(&Event{Kind: eventv1.Kind_JOB_CHANGED, Time: now, Job: n, respec: true})
}
