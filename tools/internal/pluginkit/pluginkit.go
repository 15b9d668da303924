// Package pluginkit is "sluice plugin": what the author of a plugin needs on
// his own machine. It writes a module to begin with, runs the conformance suite
// of a kind on any program and explains what fails, and tries a program in the
// simulator. None of it needs a cluster.
package pluginkit

import (
	"errors"
	"io"

	"github.com/spf13/cobra"
)

// ErrShown ends a command whose output has told already what is wrong.
var ErrShown = errors.New("shown")

// New returns the command with its verbs.
func New(stdout, stderr io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "plugin",
		Short: "Write, check and try plugins",
		Long: "plugin helps whoever writes a plugin: new writes a module that builds and passes\n" +
			"as it stands, test holds any program to the contract of its kind, run tries a\n" +
			"scheduler in the simulator, lock pins what daemons may run. The guide is contrib/docs/guide/plugins.md.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newCommand(stdout), testCommand(stdout, stderr), runCommand(stdout, stderr), lockCommand(stdout))
	return cmd
}
