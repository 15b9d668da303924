// Command cons_tres is the plugin select/cons_tres: jobs are given cores and
// memory, and share nodes. Package place has the rules.
//
// Of slurm.conf it reads SelectTypeParameters: CR_Core, CR_CPU and CR_Socket,
// each also with _Memory, CR_LLN, CR_ONE_TASK_PER_CORE and
// CR_CORE_DEFAULT_DIST_BLOCK; CR_Core_Memory when none is set.
package main

import (
	"github.com/sluice-hpc/sluice/plugins/select/internal/place"
	"github.com/sluice-hpc/sluice/sdk/plugin"
	"github.com/sluice-hpc/sluice/sdk/selector"
)

func main() {
	plugin.Serve(plugin.Plugin{
		Doc:    "Gives jobs cores and memory; jobs share nodes.",
		Select: func(plugin.Options) (selector.Selector, error) { return place.Cores(), nil },
	})
}
