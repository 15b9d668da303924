// Command slurmd is the node daemon: it runs the steps that slurmctld starts
// on this host. Several nodes may run on one host, each with a slurmd of its
// own (-N); with launch/sim, one slurmd runs many nodes (-N n[0001-1000]).
package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/sluice-hpc/sluice/conf"
	"github.com/sluice-hpc/sluice/conf/slurmconf"
	"github.com/sluice-hpc/sluice/daemons/internal/background"
	"github.com/sluice-hpc/sluice/sdk/version"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
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
	gres       bool
	systemd    bool
	nice       int
	chdir      bool
	lock       bool
}

// notYet are Slurm's options that say how a node without a line in slurm.conf
// joins; they are refused with what to do instead.
var notYet = []struct{ long, short, text string }{
	{"conf-server", "", "fetching the configuration is not supported: copy slurm.conf and slurm.key to this host"},
	{"conf", "", "dynamic nodes are not supported: write a NodeName line"},
	{"dynamic", "Z", "dynamic nodes are not supported: write a NodeName line"},
	{"dynamic-future", "F", "dynamic nodes are not supported: write a NodeName line"},
	{"authinfo", "", "write AuthInfo in slurm.conf"},
	{"ca-cert-file", "", "there is no TLS between daemons and commands"},
	{"parameters", "", "write Parameters on the NodeName line"},
	{"extra", "", "an extra text is not kept"},
	{"instance-id", "", "cloud instances are not supported"},
	{"instance-type", "", "cloud instances are not supported"},
}

// refuse says why an option of Slurm's is not taken.
func (f *flags) refuse(fl *pflag.FlagSet) error {
	for _, o := range notYet {
		if fl.Changed(o.long) {
			return fmt.Errorf("--%s: %s", o.long, o.text)
		}
	}
	return nil
}

func main() {
	background.Relax()
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
			if err := f.refuse(cmd.Flags()); err != nil {
				return err
			}
			switch {
			case f.version:
				fmt.Println(version.String())
			case f.print:
				host := shortHost()
				fmt.Print(confLine(detect("/", os.TempDir()), host, time.Since(time.Unix(bootTime(), 0))))
			case f.gres:
				return f.printGres()
			case !f.foreground && !f.systemd && !child:
				status = background.Start("slurmd", os.Stderr)
			default:
				if err := background.Nice(f.nice); f.nice != 0 && err != nil {
					return err
				}
				return serve(&f, child, func() { ready(""); background.Notify() })
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
	fl.BoolVarP(&f.gres, "print-gres", "G", false, "print the node's generic resources")
	fl.BoolVarP(&f.lock, "mlock", "M", false, "keep the daemon's memory from being swapped out")
	fl.IntVarP(&f.nice, "nice", "n", 0, "nice value to run with, -20 to 19")
	fl.BoolVarP(&f.chdir, "chdir", "s", false, "work in the directory of the log file, else in SlurmdSpoolDir")
	fl.BoolVar(&f.systemd, "systemd", false, "started by systemd (Type=notify): stay in the foreground, say when it serves")
	for _, o := range notYet {
		fl.StringP(o.long, o.short, "", "not supported: "+o.text)
		fl.Lookup(o.long).Hidden = true
		if o.short != "" {
			fl.Lookup(o.long).NoOptDefVal = "yes"
		}
	}
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

// printGres prints what slurm.conf gives the node (-G).
func (f *flags) printGres() error {
	cfg, _, err := conf.Load(f.confPath())
	if err != nil {
		return err
	}
	nodes, err := chooseNodes(cfg, f.nodes, shortHost())
	if err != nil {
		return err
	}
	for _, n := range nodes {
		for item := range strings.SplitSeq(n.Gres, ",") {
			if item == "" {
				continue
			}
			p := strings.Split(item, ":")
			line := "slurmd: Gres Name=" + p[0]
			if len(p) > 2 {
				line += " Type=" + p[1]
			}
			count := "1"
			if len(p) > 1 {
				count, _, _ = strings.Cut(p[len(p)-1], "(")
			}
			fmt.Println(line + " Count=" + count)
		}
	}
	return nil
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
