// Command slurmd is the node daemon: it runs the steps that slurmctld starts
// on this host. Several nodes may run on one host, each with a slurmd of its
// own (-N); with launch/sim, one slurmd runs many nodes (-N n[0001-1000]).
package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/sluice-hpc/sluice/conf/slurmconf"
	"github.com/sluice-hpc/sluice/daemons/internal/background"
	"github.com/sluice-hpc/sluice/sdk/version"
	"github.com/spf13/cobra"
)

// flags are the command line.
type flags struct {
	config     string
	nodes      string
	logFile    string
	stepd      string
	foreground bool
	clear      bool
	bootNow    bool
	print      bool
	version    bool
	verbose    int
}

func main() {
	ready, child := background.Child()
	status := 0
	var f flags
	cmd := &cobra.Command{
		Use:           "slurmd [options]",
		Short:         "Runs jobs on a node of the cluster",
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case f.version:
				fmt.Println(version.String())
			case f.print:
				host := shortHost()
				fmt.Print(confLine(detect("/", os.TempDir()), host, time.Since(time.Unix(bootTime(), 0))))
			case !f.foreground && !child:
				status = background.Start("slurmd", os.Stderr)
			default:
				return serve(&f, child, func() { ready("") })
			}
			return nil
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringVarP(&f.config, "conf-file", "f", "", "configuration file")
	fl.StringVarP(&f.nodes, "nodename", "N", "", "node name to run as, or a list of them")
	fl.BoolVarP(&f.foreground, "foreground", "D", false, "stay in the foreground")
	fl.BoolVarP(&f.clear, "clear", "c", false, "clear stale state at start")
	fl.BoolVarP(&f.bootNow, "boot", "b", false, "report now as the time of boot")
	fl.BoolVarP(&f.print, "print-config", "C", false, "print the host's hardware as a line of slurm.conf")
	fl.StringVarP(&f.stepd, "stepd", "d", "", "path of slurmstepd")
	fl.StringVarP(&f.logFile, "log-file", "L", "", "log file")
	fl.CountVarP(&f.verbose, "verbose", "v", "log more; may be repeated")
	fl.BoolVarP(&f.version, "version", "V", false, "print the version")
	if err := cmd.Execute(); err != nil {
		text := "slurmd: error: " + strings.ReplaceAll(err.Error(), "\n", "\nslurmd: error: ")
		fmt.Fprintln(os.Stderr, text)
		ready(text)
		status = 1
	}
	os.Exit(status)
}

func shortHost() string {
	h, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	h, _, _ = strings.Cut(h, ".")
	return h
}

// confPath is where the configuration is.
func (f *flags) confPath() string { return slurmconf.Find(f.config) }
