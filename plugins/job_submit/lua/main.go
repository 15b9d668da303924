package main

import (
	"path/filepath"

	"github.com/sluice-hpc/sluice/sdk/jobsubmit"
	"github.com/sluice-hpc/sluice/sdk/plugin"
)

func main() {
	options := defaults
	plugin.Serve(plugin.Plugin{
		Doc:     "Runs a site's job_submit.lua.",
		Options: plugin.OptionsOf(&options),
		JobSubmit: func(o plugin.Options) (jobsubmit.Filter, error) {
			if err := o.Decode(&options); err != nil {
				return nil, err
			}
			if !filepath.IsAbs(options.Script) {
				options.Script = filepath.Join(options.ConfDir, options.Script)
			}
			return New(options)
		},
	})
}
