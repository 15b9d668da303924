package main

import (
	"github.com/sluice-hpc/sluice/sdk/jobsubmit"
	"github.com/sluice-hpc/sluice/sdk/plugin"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// options are the defaults; see the manifest.
var options = struct {
	Max int `option:"max" unit:"minutes" doc:"most that a job may ask for; 0 is no bound" allowed:"0 to 52560000"`
}{}

func main() {
	plugin.Serve(plugin.Plugin{
		Doc:     "Refuses jobs without a time limit, or with too long a one.",
		Options: plugin.OptionsOf(&options),
		JobSubmit: func(o plugin.Options) (jobsubmit.Filter, error) {
			if err := o.Decode(&options); err != nil {
				return nil, err
			}
			return RequireLimit{Max: wlm.Minutes(options.Max)}, nil
		},
	})
}
