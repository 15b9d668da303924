// Command slurmctld is the controller: it owns the truth about a cluster, lets
// plugins plan, tells nodes what to run and answers the commands.
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/sluice-hpc/sluice/conf"
	"github.com/sluice-hpc/sluice/conf/slurmconf"
	"github.com/sluice-hpc/sluice/daemons/internal/background"
	"github.com/sluice-hpc/sluice/sdk/version"
	"github.com/spf13/cobra"
)

// flags are the command line.
type flags struct {
	config     string
	logFile    string
	foreground bool
	clear      bool
	ignore     bool
	test       bool
	verbose    int
	version    bool
	noRecover  bool
	recover    bool
	systemd    bool
	host       string
	nice       int
	chdir      bool
}

func main() {
	background.Relax()
	ready, child := background.Child()
	status := 0
	var f flags
	cmd := &cobra.Command{
		Use:           "slurmctld [options]",
		Short:         "The central management daemon of the cluster",
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(*cobra.Command, []string) error {
			path := slurmconf.Find(f.config)
			switch {
			case f.version:
				fmt.Println(version.String())
			case f.test:
				status = conf.Check(path, os.Stdout)
			case !f.foreground && !f.systemd && !child:
				status = background.Start("slurmctld", os.Stderr)
			default:
				if err := background.Nice(f.nice); f.nice != 0 && err != nil {
					return err
				}
				return serve(&f, path, child, func() { ready(""); background.Notify() })
			}
			return nil
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.BoolVarP(&f.clear, "clear", "c", false, "clear all previous state: jobs, nodes, everything")
	fl.BoolVarP(&f.foreground, "foreground", "D", false, "stay in the foreground")
	fl.StringVarP(&f.config, "conf-file", "f", "", "configuration file")
	fl.StringVar(&f.host, "host", "", "run as this SlurmctldHost, where several are on one host")
	fl.BoolVarP(&f.ignore, "ignore-state-errors", "i", false, "start with what can be read of damaged state, and say what was lost")
	fl.StringVarP(&f.logFile, "log-file", "L", "", "log file")
	fl.IntVarP(&f.nice, "nice", "n", 0, "nice value to run with, -20 to 19")
	fl.BoolVarP(&f.recover, "recover", "r", false, "recover state (always done, unless -c is given)")
	fl.BoolVarP(&f.noRecover, "recover-all", "R", false, "recover all state (always done, unless -c is given)")
	fl.BoolVarP(&f.chdir, "chdir", "s", false, "work in the directory of the log file, else in StateSaveLocation")
	fl.BoolVar(&f.systemd, "systemd", false, "started by systemd (Type=notify): stay in the foreground, say when it serves")
	fl.BoolVarP(&f.test, "test", "t", false, "check the configuration and exit")
	fl.CountVarP(&f.verbose, "verbose", "v", "log more; may be repeated")
	fl.BoolVarP(&f.version, "version", "V", false, "print the version")
	if err := cmd.Execute(); err != nil {
		text := "slurmctld: error: " + strings.ReplaceAll(err.Error(), "\n", "\nslurmctld: error: ")
		fmt.Fprintln(os.Stderr, text)
		ready(text)
		status = 1
	}
	os.Exit(status)
}
