package main

import (
	"github.com/sluice-hpc/sluice/sdk/plugin"
	"github.com/sluice-hpc/sluice/sdk/priority"
)

func main() {
	plugin.Serve(plugin.Plugin{
		Doc:      "First come, first served.",
		Priority: func(plugin.Options) (priority.Prioritizer, error) { return new(Basic), nil },
	})
}
