// Command slurmsim replays a workload on a cluster that does not exist: the
// real core and the real plugins, in virtual time, on virtual nodes. The command
// sluice sim runs it.
//
// Several policies replay the same workload, one after the other, and are shown
// side by side. The same trace, machine and plugins give the same schedule.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/sluice-hpc/sluice/sdk/version"
	"github.com/spf13/cobra"
)

// flags are the command line.
type flags struct {
	trace     string
	synthetic string
	seed      uint64
	jobs      int
	exact     bool
	faults    string

	conf        string
	processors  int
	nodes       int
	pluginDir   string
	selector    string
	priority    string
	params      string
	policies    []string
	plugins     []string
	json        bool
	out         string
	svg         string
	writeTrace  string
	quiet       bool
	checkEvery  int
	verbose     int
	showVersion bool
	cpuProfile  string
}

// gcPercent trades memory for time, as the controller does.
const gcPercent = 300

func main() {
	debug.SetGCPercent(gcPercent)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	f := &flags{}
	cmd := command(f)
	if err := cmd.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "slurmsim: error: "+strings.ReplaceAll(err.Error(), "\n", "\nslurmsim: error: "))
		os.Exit(1)
	}
}

func command(f *flags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "slurmsim --trace FILE (--processors N | --conf FILE) [--policy NAME]...",
		Short: "Replay a workload under one or more scheduling policies",
		Long: "slurmsim replays a workload in the Standard Workload Format, or a synthetic one, with\n" +
			"the real core and plugins under virtual time and compares policies.\n\n" +
			"A policy is one of the names below, or a sched plugin, with options:\n" +
			policyHelp() +
			"  NAME[:option=value,...]   sched/NAME of the plugin directory\n",
		Example: "  slurmsim --trace KTH-SP2.swf.gz --processors 100 --policy builtin --policy easy\n" +
			"  slurmsim --synthetic jobs=10000,load=0.95 --processors 1024 --policy backfill:mode=easy,reservations=4\n" +
			"  slurmsim --trace t.swf --conf slurm.conf --plugin sched/mine=./my-sched --policy easy --policy mine",
		Args: cobra.NoArgs, SilenceErrors: true, SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.showVersion {
				fmt.Fprintln(cmd.OutOrStdout(), version.String())
				return nil
			}
			return simulate(cmd.Context(), f, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.AddCommand(growthCommand())
	cmd.CompletionOptions.HiddenDefaultCmd = true
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringVar(&f.trace, "trace", "", "workload in the Standard Workload Format, compressed by gzip or not; - is standard input")
	fl.StringVar(&f.synthetic, "synthetic", "", "make up a workload instead: jobs=N[,load=0.9][,users=64][,max_procs=N][,shapes=N][,at_once]")
	fl.Uint64Var(&f.seed, "seed", 1, "of a synthetic workload and of faults")
	fl.IntVar(&f.jobs, "jobs", 0, "only this many jobs of the trace; 0: all")
	fl.BoolVar(&f.exact, "exact", false, "time limits are the runtimes: users know everything")
	fl.StringVar(&f.faults, "faults", "", "nodes fail: mtbf=TIME,mttr=TIME[,requeue=no] (of one node, mean, as 720h or seconds; drawn by --seed), or a file of lines SECONDS NODES SECONDS_AWAY")
	fl.IntVar(&f.processors, "processors", 0, "the machine has this many processors (MaxProcs of the trace, if not given)")
	fl.IntVar(&f.nodes, "nodes", 0, "on this many nodes (MaxNodes of the trace, else nodes of one processor up to 1,024 and of 64 beyond)")
	fl.StringVarP(&f.conf, "conf", "f", "", "the machine and its plugins are those of this slurm.conf")
	fl.StringArrayVar(&f.policies, "policy", nil, "policy to replay; may be repeated (the configuration's, else easy)")
	fl.StringArrayVar(&f.plugins, "plugin", nil, "kind/name=path: take this program for a plugin; one of kind sched is one more policy")
	fl.StringVar(&f.pluginDir, "plugin-dir", "", "where plugins are (PluginDir of --conf, else ../libexec/sluice beside the program)")
	fl.StringVar(&f.selector, "select", "", "select plugin (SelectType of --conf, else select/cons_tres)")
	fl.StringVar(&f.priority, "priority", "", "priority plugin (PriorityType of --conf, else priority/basic)")
	fl.StringVar(&f.params, "scheduler-parameters", "", "SchedulerParameters in place of the configuration's")
	fl.BoolVar(&f.json, "json", false, "print JSON")
	fl.StringVar(&f.out, "out", "", "write summary.csv, summary.json, jobs and users as CSV, and report.html into this directory")
	fl.StringVar(&f.svg, "svg", "", "write the plot to this file")
	fl.StringVar(&f.writeTrace, "write-trace", "", "write the workload to this file in the Standard Workload Format")
	fl.IntVar(&f.checkEvery, "check-every", 0, "steps between two verifications of the core's own tables (1000); the simulator's books are kept at every step")
	fl.StringVar(&f.cpuProfile, "cpu-profile", "", "write a profile of this program")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "no progress")
	fl.CountVarP(&f.verbose, "verbose", "v", "log what plugins and the core say; may be repeated")
	fl.BoolVarP(&f.showVersion, "version", "V", false, "print the version")
	return cmd
}
