package pluginkit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/spf13/cobra"
)

// trial is what run asks of the simulator.
type trial struct {
	trace, synthetic, against string
	processors                int
}

// The workload and machine that are tried when none is named: busy enough for
// policies to differ, done within seconds.
const (
	usualWork       = "jobs=2000,load=0.95"
	usualProcessors = 256
)

func runCommand(stdout, stderr io.Writer) *cobra.Command {
	t := trial{}
	cmd := &cobra.Command{
		Use:   "run PROGRAM",
		Short: "Try a scheduler in the simulator, beside another policy",
		Long: "run replays a workload with the program as the scheduler, and once more with another\n" +
			"policy to compare with, in virtual time on virtual nodes: a week passes in seconds.\n" +
			"Traces are in the Standard Workload Format, plain or gzipped. slurmsim does more.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			m, err := look(cmd.Context(), path)
			if err != nil {
				return err
			}
			for _, s := range m.GetServed() {
				if s.GetKind() == sched.Kind {
					return t.run(cmd, path, m.GetName(), stdout, stderr)
				}
			}
			return fmt.Errorf("%s serves no scheduler: only the kind sched can be tried alone", args[0])
		},
	}
	f := cmd.Flags()
	f.StringVar(&t.trace, "trace", "", "workload, a file in the Standard Workload Format")
	f.StringVar(&t.synthetic, "synthetic", "", "workload that is made up (default: "+usualWork+")")
	f.StringVar(&t.against, "against", "easy", "policy to compare with; empty: none")
	f.IntVar(&t.processors, "processors", 0, "size of the machine (default: the trace's own, else "+strconv.Itoa(usualProcessors)+")")
	cmd.MarkFlagsMutuallyExclusive("trace", "synthetic")
	return cmd
}

func (t trial) run(cmd *cobra.Command, path, name string, stdout, stderr io.Writer) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	if real, err := filepath.EvalSymlinks(exe); err == nil {
		exe = real
	}
	simulator := filepath.Join(filepath.Dir(filepath.Dir(exe)), "sbin", "slurmsim")
	if _, err := os.Stat(simulator); err != nil {
		return fmt.Errorf("%s is missing: build or install it beside %s", simulator, exe)
	}
	args := []string{"--plugin", "sched/" + name + "=" + path}
	if t.against != "" {
		args = append(args, "--policy", t.against)
	}
	args = append(args, "--policy", name)
	switch {
	case t.trace != "":
		args = append(args, "--trace", t.trace)
	case t.synthetic == "":
		t.synthetic = usualWork
		fallthrough
	default:
		args = append(args, "--synthetic", t.synthetic)
		if t.processors == 0 {
			t.processors = usualProcessors
		}
	}
	if t.processors > 0 {
		args = append(args, "--processors", strconv.Itoa(t.processors))
	}
	sim := exec.CommandContext(cmd.Context(), simulator, args...)
	sim.Stdout, sim.Stderr = stdout, stderr
	if err := sim.Run(); err != nil {
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() > 0 {
			return ErrShown // it has said why
		}
		return err
	}
	return nil
}
