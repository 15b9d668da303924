package sluice

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/spf13/cobra"
)

// simCommand runs the simulator, which is a daemon's program since it holds the
// core. It takes all flags as they are and answers with the same status.
func simCommand(stdout, stderr io.Writer) *cobra.Command {
	return &cobra.Command{
		Use:   "sim --trace FILE (--processors N | --conf FILE) [--policy NAME]...",
		Short: "Replay a workload on a virtual cluster and compare scheduling policies",
		Long: "sim replays a workload with the real core and plugins in virtual time; see\n" +
			"sluice sim --help for the policies and options.",
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			exe, err := os.Executable()
			if err != nil {
				return err
			}
			if real, err := filepath.EvalSymlinks(exe); err == nil {
				exe = real
			}
			c := &cluster{prefix: filepath.Dir(filepath.Dir(exe)), self: exe}
			prog, err := c.program("sbin", "slurmsim")
			if err != nil {
				return err
			}
			sim := exec.CommandContext(cmd.Context(), prog, args...)
			sim.Stdin, sim.Stdout, sim.Stderr = os.Stdin, stdout, stderr
			sim.Cancel = func() error { return sim.Process.Signal(os.Interrupt) } // so that its plugins end too
			if err := sim.Run(); err != nil {
				return errShown // it has told why
			}
			return nil
		},
	}
}
