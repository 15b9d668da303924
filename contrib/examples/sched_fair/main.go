// Command sched_fair is the plugin sched/fair, from outside of Sluice's tree:
// users take turns by the CPU time they were given, as flows do in fair
// queueing. Nobody waits behind another's thousand jobs.
package main

import (
	"cmp"
	"context"
	"slices"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/plugin"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

type fair struct{}

// turn is a job's place: after as many CPU seconds of its user's.
type turn struct {
	after uint64
	user  wlm.UID
	job   wlm.JobID
}

// Plan lists jobs by what their user has been given before them: by running
// jobs, and by those of his own that have a higher priority.
func (fair) Plan(_ context.Context, v sched.View) (sched.Agenda, error) {
	given := map[wlm.UID]uint64{}
	for j := range v.Running() {
		given[j.User] += cost(j)
	}
	var turns []turn
	for j := range v.PendingByPriority() {
		turns = append(turns, turn{given[j.User], j.User, j.ID})
		given[j.User] += cost(j)
	}
	slices.SortStableFunc(turns, func(a, b turn) int {
		return cmp.Or(cmp.Compare(a.after, b.after), cmp.Compare(a.user, b.user))
	})
	agenda := sched.Agenda{Reservations: 1}
	for _, t := range turns {
		agenda.Add(t.job, sched.Reserve)
	}
	return agenda, nil
}

func cost(j *mirror.Job) uint64 {
	return uint64(max(j.Class.NTasks, 1)) * uint64(max(j.Class.CPUsPerTask, 1)) * uint64(max(j.Limit, 1))
}

func main() { plugin.ServeScheduler(fair{}) }
