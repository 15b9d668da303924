// Command builtin is the plugin sched/builtin: jobs start strictly in the
// order of their priority, and one that cannot start lets nobody of its
// partition pass.
//
// Of SchedulerParameters it reads default_queue_depth, the number of jobs that
// a pass tries; all when it is not set.
package main

import (
	"context"

	"github.com/sluice-hpc/sluice/plugins/sched/internal/params"
	"github.com/sluice-hpc/sluice/sdk/sched"
)

// Builtin plans in strict order. Use it from one goroutine.
type Builtin struct {
	last int // entries of the pass before, to size the next
}

var _ sched.Scheduler = (*Builtin)(nil)

// Plan implements [sched.Scheduler].
func (b *Builtin) Plan(ctx context.Context, v sched.View) (sched.Agenda, error) {
	depth := params.Parse(v.Setting("SchedulerParameters")).Positive("default_queue_depth", 0)
	room := b.last + b.last/8
	if depth > 0 {
		room = min(room, depth)
	}
	a := sched.Agenda{Entries: make([]sched.Entry, 0, room)}
	preempts := params.MayPreempt(v)
	for job := range v.PendingByPriority() {
		if depth > 0 && len(a.Entries) == depth {
			break
		}
		a.Add(job.ID, sched.Stop)
		a.Entries[len(a.Entries)-1].MayPreempt = preempts(job)
		const checkEvery = 1024
		if len(a.Entries)%checkEvery == 0 && ctx.Err() != nil {
			break
		}
	}
	b.last = len(a.Entries)
	return a, nil
}
