// Command linear is the plugin select/linear: jobs are given whole nodes.
// Package place has the rules.
//
// Of slurm.conf it reads SelectTypeParameters: CR_Memory and CR_LLN.
package main

import (
	"github.com/sluice-hpc/sluice/plugins/select/internal/place"
	"github.com/sluice-hpc/sluice/sdk/plugin"
)

func main() { plugin.ServeSelector(place.Nodes()) }
