// Command sched_fifo is the plugin sched/fifo: strict order of submission, no
// backfill. It is the example of the design document, whole.
package main

import (
	"context"

	"github.com/sluice-hpc/sluice/sdk/plugin"
	"github.com/sluice-hpc/sluice/sdk/sched"
)

type fifo struct{}

func (fifo) Plan(_ context.Context, v sched.View) (a sched.Agenda, err error) {
	for job := range v.PendingBySubmit() {
		a.Add(job.ID, sched.Stop) // a blocked head blocks its partition
	}
	return a, nil
}

func main() { plugin.ServeScheduler(fifo{}) }
