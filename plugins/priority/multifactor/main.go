package main

import (
	"github.com/sluice-hpc/sluice/sdk/plugin"
	"github.com/sluice-hpc/sluice/sdk/priority"
)

func main() {
	plugin.Serve(plugin.Plugin{
		Doc:      "Weighs age, size and partition.",
		Priority: func(plugin.Options) (priority.Prioritizer, error) { return Multifactor{}, nil },
	})
}
