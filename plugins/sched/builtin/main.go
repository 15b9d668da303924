package main

import (
	"github.com/sluice-hpc/sluice/sdk/plugin"
	"github.com/sluice-hpc/sluice/sdk/sched"
)

func main() {
	plugin.Serve(plugin.Plugin{
		Doc:   "Strict priority order: a job that cannot start holds up its partition.",
		Sched: func(plugin.Options) (sched.Scheduler, error) { return new(Builtin), nil },
	})
}
