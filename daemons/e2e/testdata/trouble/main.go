// Command trouble is a plugin that makes trouble when it is told to by a file,
// and behaves until then.
package main

import (
	"context"
	"os"
	"strings"
	"time"

	"github.com/sluice-hpc/sluice/sdk/jobsubmit"
	"github.com/sluice-hpc/sluice/sdk/plugin"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

type options struct {
	Trigger string `option:"trigger" doc:"file whose first word says what trouble to make: crash, slow, garbage, huge"`
}

func (o options) trouble() string {
	b, _ := os.ReadFile(o.Trigger)
	return strings.TrimSpace(string(b))
}

type scheduler struct{ options }

// Plan is a plain order by priority, or trouble.
func (s scheduler) Plan(_ context.Context, v sched.View) (a sched.Agenda, err error) {
	switch s.trouble() {
	case "crash":
		os.Exit(3)
	case "slow":
		const pause = time.Second
		<-time.After(pause)
	case "garbage":
		for i := range wlm.JobID(1000) {
			a.Add(i*7919, sched.WhenBlocked(i%3))
		}
		return a, nil
	case "huge":
		const entries = 22_000_000 // more than 100 MB on the wire
		a.Entries = make([]sched.Entry, entries)
		for i := range a.Entries {
			a.Entries[i].Job = wlm.JobID(1<<31 + i)
		}
		return a, nil
	}
	for job := range v.PendingByPriority() {
		a.Add(job.ID, sched.Skip)
	}
	return a, nil
}

type filter struct{}

// Submit sleeps for a minute when the job's name asks for it.
func (filter) Submit(ctx context.Context, r *jobsubmit.Request) ([]string, error) {
	if r.Spec.Name == "sleeper" {
		const minute = time.Minute
		<-time.After(minute) // whatever ctx says
	}
	r.Spec.Comment += "seen"
	return nil, nil
}

// Modify lets everything pass.
func (filter) Modify(context.Context, *jobsubmit.Request) ([]string, error) { return nil, nil }

func main() {
	var o options
	plugin.Serve(plugin.Plugin{Version: "1.0", Doc: "Makes trouble for tests.", Options: plugin.OptionsOf(&o),
		Sched: func(opts plugin.Options) (sched.Scheduler, error) {
			err := opts.Decode(&o)
			return scheduler{o}, err
		},
		JobSubmit: func(plugin.Options) (jobsubmit.Filter, error) { return filter{}, nil }})
}
