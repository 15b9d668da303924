// Command launch_exec is the plugin launch/exec: it runs steps as processes of
// their users, each step under a supervisor (slurmstepd) of its own.
//
// The plugin keeps no truth. Supervisors outlive it and slurmd, and write what
// happens to the step's directory; a new plugin finds them by Recover.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/sluice-hpc/sluice/sdk/launch"
	"github.com/sluice-hpc/sluice/sdk/plugin"
)

// options are the defaults; see the manifest.
var options = struct {
	Stepd string `option:"stepd" doc:"path of slurmstepd; empty: beside the plugin, or in ../sbin"`
}{}

func main() {
	plugin.Serve(plugin.Plugin{
		Doc:     "Runs steps as processes of their users, each under a supervisor that outlives slurmd.",
		Options: plugin.OptionsOf(&options),
		Launch: func(o plugin.Options) (launch.Launcher, error) {
			if err := o.Decode(&options); err != nil {
				return nil, err
			}
			path, err := findStepd(options.Stepd)
			if err != nil {
				return nil, err
			}
			return newLauncher(path), nil
		},
	})
}

// findStepd looks for the supervisor where installations put it.
func findStepd(path string) (string, error) {
	places := []string{path}
	if path == "" {
		self, err := os.Executable()
		if err != nil {
			return "", err
		}
		dir := filepath.Dir(self)
		places = []string{filepath.Join(dir, "slurmstepd"), filepath.Join(dir, "../slurmstepd"),
			filepath.Join(dir, "../../sbin/slurmstepd"), filepath.Join(dir, "../sbin/slurmstepd"),
			filepath.Join(dir, "../libexec/sluice/slurmstepd")}
	}
	for _, p := range places {
		if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return filepath.Clean(p), nil
		}
	}
	return "", fmt.Errorf("option stepd: no slurmstepd at %v", places)
}
