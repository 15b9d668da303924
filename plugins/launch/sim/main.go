// Command launch_sim is the plugin launch/sim: it pretends to run steps. A step
// "runs" as long as its script says, and ends as the script says:
//
//	#SIM seconds=30 exit=1
//
// or as long as the request says (sim_seconds), or for the time of the option
// seconds. Nothing is executed and nothing is printed; ten thousand steps are
// ten thousand timers. Where the node has a spool, a note there lets the next
// launcher go on with the same steps.
package main

import (
	"time"

	"github.com/sluice-hpc/sluice/sdk/launch"
	"github.com/sluice-hpc/sluice/sdk/plugin"
)

// options are the defaults; see the manifest.
var options = struct {
	Length time.Duration `option:"seconds" unit:"seconds" doc:"how long a step runs whose script does not say"`
}{Length: time.Second}

func main() {
	plugin.Serve(plugin.Plugin{
		Doc:     "Pretends to run steps, for as long as their scripts say.",
		Options: plugin.OptionsOf(&options),
		Launch: func(o plugin.Options) (launch.Launcher, error) {
			if err := o.Decode(&options); err != nil {
				return nil, err
			}
			return newSim(options.Length), nil
		},
	})
}
