// Package plugin makes a program a plugin, and starts such programs.
//
// The author's side is [Serve], or one of the one-liners such as
// [ServeScheduler]; a whole plugin is a main function that calls one:
//
//	func main() { plugin.ServeScheduler(fifo{}) }
//
// The program is named <kind>_<name>, as in sched_fifo for SchedulerType=sched/fifo.
// A host starts it, reads its manifest, hands it the options of slurm.conf and
// calls it. Author code sees none of that: it implements its kind's interface,
// logs with log/slog (records appear in the daemon's log) and returns errors of
// package errs.
//
// Descriptor 3 is the lifeline: the read end of a pipe whose write end only the
// host has. When it closes the process ends at once, so that no plugin outlives
// its host, whatever happened to it. Signals of a terminal or a service manager
// are ignored: the host decides when a plugin ends. A panic in author code is
// answered as an error and ends the process with status 2; the host starts it
// again.
//
// The host's side is [Start]; it is used by core/pluginhost, which adds policy
// (where plugins may lie, restarts, deadlines), and by the conformance suites.
package plugin

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/acctstore"
	"github.com/sluice-hpc/sluice/sdk/jobsubmit"
	"github.com/sluice-hpc/sluice/sdk/launch"
	"github.com/sluice-hpc/sluice/sdk/plugin/wirecall"
	"github.com/sluice-hpc/sluice/sdk/priority"
	"github.com/sluice-hpc/sluice/sdk/proto/plugin/v1"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/selector"
	"github.com/sluice-hpc/sluice/sdk/version"
)

// Plugin is what a program serves: at least one kind. Each function is called
// once, with options that were checked against Options, when the host opens the
// plugin; its error refuses to serve and is shown to the administrator.
type Plugin struct {
	Name    string   // empty: the program's name after "<kind>_"
	Version string   // empty: the program's module version
	Doc     string   // one line
	Options []Option // see OptionsOf
	// Background plugins do work that can wait: they get the processors that
	// nobody else wants, and little of the others.
	Background bool

	Sched     func(Options) (sched.Scheduler, error)
	Select    func(Options) (selector.Selector, error)
	Priority  func(Options) (priority.Prioritizer, error)
	JobSubmit func(Options) (jobsubmit.Filter, error)
	Launch    func(Options) (launch.Launcher, error)
	Store     func(Options) (acctstore.Store, error)
}

// ServeScheduler serves a scheduler without options. It does not return.
func ServeScheduler(s sched.Scheduler) {
	Serve(Plugin{Sched: func(Options) (sched.Scheduler, error) { return s, nil }})
}

// ServeSelector serves a selector without options. It does not return.
func ServeSelector(s selector.Selector) {
	Serve(Plugin{Select: func(Options) (selector.Selector, error) { return s, nil }})
}

// ServePrioritizer serves a prioritizer without options. It does not return.
func ServePrioritizer(p priority.Prioritizer) {
	Serve(Plugin{Priority: func(Options) (priority.Prioritizer, error) { return p, nil }})
}

// ServeFilter serves a submission filter without options. It does not return.
func ServeFilter(f jobsubmit.Filter) {
	Serve(Plugin{JobSubmit: func(Options) (jobsubmit.Filter, error) { return f, nil }})
}

// ServeLauncher serves a launcher without options. It does not return.
func ServeLauncher(l launch.Launcher) {
	Serve(Plugin{Launch: func(Options) (launch.Launcher, error) { return l, nil }})
}

// ServeStore serves accounting storage without options. It does not return.
func ServeStore(s acctstore.Store) {
	Serve(Plugin{Store: func(Options) (acctstore.Store, error) { return s, nil }})
}

// part is one kind of a plugin.
type part struct {
	served *pluginv1.Served
	make   func(Options) (wirecall.Handler, error)
}

func partOf[T any](kind string, contracts []uint32, newT func(Options) (T, error), handler func(T) wirecall.Handler) []part {
	if newT == nil {
		return nil
	}
	return []part{{
		served: &pluginv1.Served{Kind: kind, Contracts: contracts},
		make: func(o Options) (wirecall.Handler, error) {
			t, err := newT(o)
			if err != nil {
				return wirecall.Handler{}, err
			}
			return handler(t), nil
		},
	}}
}

func (p *Plugin) parts() []part {
	return slices.Concat(
		partOf(sched.Kind, sched.Contracts, p.Sched, sched.Handler),
		partOf(selector.Kind, selector.Contracts, p.Select, selector.Handler),
		partOf(priority.Kind, priority.Contracts, p.Priority, priority.Handler),
		partOf(jobsubmit.Kind, jobsubmit.Contracts, p.JobSubmit, jobsubmit.Handler),
		partOf(launch.Kind, launch.Contracts, p.Launch, launch.Handler),
		partOf(acctstore.Kind, acctstore.Contracts, p.Store, acctstore.Handler),
	)
}

// manifest is what the plugin tells of itself.
func (p *Plugin) manifest() *pluginv1.ManifestReply {
	m := &pluginv1.ManifestReply{Name: p.Name, Version: p.Version, Doc: p.Doc, Options: optionsToWire(p.Options)}
	for _, part := range p.parts() {
		m.Served = append(m.Served, part.served)
		if m.Name == "" {
			program := filepath.Base(os.Args[0])
			m.Name = program
			if name, ok := strings.CutPrefix(program, part.served.Kind+"_"); ok {
				m.Name = name
			}
		}
	}
	if m.Version == "" {
		m.Version = "unknown"
		const here = "github.com/sluice-hpc/sluice"
		switch info, ok := debug.ReadBuildInfo(); {
		case !ok:
		case info.Main.Path == here: // shipped with Sluice
			m.Version = version.Sluice
		case info.Main.Version != "":
			m.Version = info.Main.Version
		}
	}
	return m
}

// open makes the handlers of all kinds from the options.
func (p *Plugin) open(o *pluginv1.Open) ([]wirecall.Handler, error) {
	opts, err := parseOptions(optionsToWire(p.Options), o.GetOptions())
	if err != nil {
		return nil, err
	}
	opts.cluster = o.GetCluster()
	var handlers []wirecall.Handler
	for _, part := range p.parts() {
		if v, ok := o.GetContracts()[part.served.Kind]; ok && !slices.Contains(part.served.Contracts, v) {
			return nil, fmt.Errorf("the host speaks version %d of the kind %s, this plugin speaks %v", v, part.served.Kind, part.served.Contracts)
		}
		h, err := part.make(opts)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", part.served.Kind, err)
		}
		handlers = append(handlers, h)
	}
	return handlers, nil
}
