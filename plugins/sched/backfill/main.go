package main

import (
	"strings"

	"github.com/sluice-hpc/sluice/sdk/plugin"
	"github.com/sluice-hpc/sluice/sdk/sched"
)

// options are the defaults; see the manifest.
var options = struct {
	Mode         string `option:"mode" doc:"which blocked jobs hold a reservation: the first of each partition, or all" allowed:"easy or conservative"`
	Reservations int    `option:"reservations" unit:"jobs" doc:"reservations of a partition in mode easy" allowed:"1 to 100000"`
	Depth        int    `option:"depth" unit:"jobs" doc:"jobs that a pass tries when SchedulerParameters names no depth; 0 is all" allowed:"0 to 100000000"`
	Predict      string `option:"predict" doc:"how long jobs are expected to run: as long as their limit, or as the user's two recent jobs in the mean; limits still end jobs" allowed:"limit or recent"`
	Order        string `option:"order" doc:"in which order the jobs behind the reservations are tried" allowed:"priority or shortest"`
}{Mode: "easy", Reservations: 1, Predict: "limit", Order: "priority"}

func main() {
	plugin.Serve(plugin.Plugin{
		Doc:     "Priority order with reservations: later jobs start early when they delay no reserved one.",
		Options: plugin.OptionsOf(&options),
		Sched: func(o plugin.Options) (sched.Scheduler, error) {
			if err := o.Decode(&options); err != nil {
				return nil, err
			}
			return &Backfill{Conservative: strings.EqualFold(options.Mode, "conservative"),
				Reservations: options.Reservations, Depth: options.Depth,
				Predict: strings.EqualFold(options.Predict, "recent"), Shortest: strings.EqualFold(options.Order, "shortest")}, nil
		},
	})
}
