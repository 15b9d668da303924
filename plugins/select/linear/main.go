// Command linear is the plugin select/linear: jobs are given whole nodes.
// Package place has the rules.
//
// Of slurm.conf it reads SelectTypeParameters: CR_Memory and CR_LLN.
package main

import (
	"github.com/sluice-hpc/sluice/plugins/select/internal/place"
	"github.com/sluice-hpc/sluice/sdk/plugin"
	"github.com/sluice-hpc/sluice/sdk/selector"
)

func main() {
	plugin.Serve(plugin.Plugin{
		Doc:    "Gives jobs whole nodes.",
		Select: func(plugin.Options) (selector.Selector, error) { return place.Nodes(), nil },
	})
}
