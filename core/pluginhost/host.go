// Package pluginhost finds, verifies, starts, watches and restarts plugins. It
// names no kind: what a kind's calls mean is known to the kind's package and to
// whoever makes them.
//
// # Parties
//
// A daemon has one [Host]. [Host.Start] gives a [Plugin] for each plugin that
// the configuration names; it stays the same value while processes come and
// go beneath it. A Plugin is a wirecall.Caller, so that typed clients are made
// from it: sched.NewClient(p).
//
// # Feeding state
//
// Kinds that read the mirror are fed by one goroutine, the pass:
//
//	epoch := p.Epoch()
//	if epoch != fed {              // a new process, or one that lost a frame
//		frames = encoder.Snapshot(...)
//	} else {
//		frames = the frames of Encoder.Change
//	}
//	if err := p.PushState(epoch, frames); err == nil {
//		fed = epoch
//	}
//	agenda, err := client.Plan(ctx, encoder.Rev(), now)
//
// The epoch changes whenever the plugin needs a snapshot; Spec.NeedSnapshot is
// then called, so that a pass can follow at once. Calls that find the plugin at
// another rev fail with errs.State; the next round heals it.
//
// # Failure
//
// A plugin whose process ends, whose session breaks, that does not answer the
// health check, or whose calls overran three times in a row is started again,
// with growing pauses. After five restarts in a minute the fallback takes over
// where there is one, which the log and [Host.Warnings] tell. Meanwhile calls
// fail with errs.Unavail, or wait where Spec.Wait says so.
//
// # Changes
//
// [Plugin.Prepare] starts a [Candidate] beside the process that serves; whoever
// prepared it tries it and then lets it take over between two calls, or discards
// it. A swap that fails changes nothing. [Plugin.Disable] and
// [Plugin.PrepareFallback] take a plugin out of service.
//
// When the host ends, so do its plugins, kill -9 included: each watches a pipe
// that only the host holds. Sockets are in a directory per host that is locked
// while the host lives; [New] removes those of hosts that were killed.
package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
)

// Config is what all plugins of a daemon share.
type Config struct {
	PluginDir []string // searched in order
	RunDir    string   // the daemon's own; sockets are in a directory below it
	Cluster   string
	HostName  string // for Info: slurmctld, or a node's name
	Log       *slog.Logger
	AutoMTLS  bool // encrypt the sockets as well; 30 ms more for each start
}

// Spec is one plugin that a daemon wants.
type Spec struct {
	Kind      string
	Name      string
	Path      string   // of the program; empty: found in PluginDir
	Contracts []uint32 // versions of the kind's contract that the daemon speaks; empty: any
	// Options must all be known to the plugin. Shared ones, as those of
	// SchedulerParameters, are handed to it if it knows them.
	Options []Option
	Shared  []Option
	User    *syscall.Credential // to run as; used only when the daemon is root
	// Timeout bounds each Call, but no Stream; 0: 30 s.
	Timeout time.Duration
	// Fallback is the plugin of the same kind that takes over; empty: none.
	Fallback string
	// Late plugins may be away when they are started, and are tried on like those
	// that went away: a daemon that can do without for a while serves meanwhile. A
	// program that is not found or refuses its options is an error all the same.
	Late bool
	// SetBy says in Info who put the plugin in service; empty: slurm.conf.
	SetBy string
	// Optional plugins can be disabled without another in their place.
	Optional bool
	// Concurrent kinds answer many calls at once. One that overruns tells nothing
	// about the others, so that it takes many in a row to condemn the process.
	Concurrent bool
	// Shadow plugins only watch: Plugin does not find them and they have no warnings.
	Shadow bool
	// Limits of the process and its children. A plugin whose children outlive it,
	// as a launcher's do, must have none.
	Limits Limits
	// Wait makes calls wait for a plugin that is being started again, as long
	// as their time allows, instead of failing.
	Wait bool
	// Query answers a question that the plugin asks; nil: none. It is called by
	// the loop that reads from the plugin and must not wait.
	Query func(kind, method string, payload []byte) ([]byte, error)
	// NeedSnapshot is called, in a goroutine of its own, when Epoch changed.
	NeedSnapshot func()
}

// Option is a value of the configuration.
type Option struct{ Name, Value, Origin string } // origin: file:line

const defaultTimeout = 30 * time.Second

// Host has a daemon's plugins.
type Host struct {
	cfg Config
	log *slog.Logger
	run *runDir

	mu      sync.Mutex
	plugins []*Plugin
}

// New returns a host without plugins. It makes the directory for sockets and
// removes those that killed hosts left.
func New(cfg Config) (*Host, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	run, err := openRunDir(cfg.RunDir)
	if err != nil {
		return nil, err
	}
	return &Host{cfg: cfg, log: cfg.Log, run: run}, nil
}

// Start finds, checks and starts a plugin and waits until it serves. A name
// that PluginDir does not have, options that the plugin does not know and a
// program that does not start are errors; what happens later is not. A process
// that dies while it starts may have been killed, and gets a second chance.
func (h *Host) Start(ctx context.Context, spec Spec) (*Plugin, error) {
	if spec.Timeout == 0 {
		spec.Timeout = defaultTimeout
	}
	p := newPlugin(h, spec)
	inst, err := p.launch(ctx, spec)
	if died(ctx, err) {
		h.log.Warn("plugin died while it started", "kind", spec.Kind, "plugin", spec.Name, "err", err)
		inst, err = p.launch(ctx, spec)
	}
	switch {
	case err == nil:
		p.install(inst)
		go p.watch(inst)
	case spec.Late && died(ctx, err):
		p.withdraw(stateRestarting, err.Error())
		h.log.Error("plugin does not start: it is tried on", "kind", spec.Kind, "plugin", spec.Name, "err", err)
		go func() { p.watch(p.again(&instance{spec: spec, since: time.Now()})) }()
	default:
		return nil, err
	}
	h.adopt(p)
	return p, nil
}

// died reports whether a program did not start because its process ended, and
// not because it is the wrong one.
func died(ctx context.Context, err error) bool {
	return err != nil && ctx.Err() == nil && (errors.Is(err, errSilent) || errs.KindOf(err) == errs.Unavail)
}

// StartDisabled is Start of a plugin that an administrator took out of service:
// the fallback serves in its place or, of optional ones, none.
func (h *Host) StartDisabled(ctx context.Context, spec Spec) (*Plugin, error) {
	if spec.Timeout == 0 {
		spec.Timeout = defaultTimeout
	}
	p := newPlugin(h, spec)
	p.disabled = true
	if spec.Optional {
		p.state = stateDisabled
		go func() { p.watch(p.rest(nil, &swap{done: make(chan struct{})})) }()
		h.adopt(p)
		return p, nil
	}
	if _, err := p.standIn(); err != nil {
		return nil, err
	}
	inst, err := p.launch(ctx, fallbackOf(spec))
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.onward = true
	p.mu.Unlock()
	p.install(inst)
	go p.watch(inst)
	h.adopt(p)
	return p, nil
}

func (h *Host) adopt(p *Plugin) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.plugins = append(h.plugins, p)
}

// Plugin returns the first plugin of a kind, or nil.
func (h *Host) Plugin(kind string) *Plugin {
	for _, p := range h.Plugins() {
		if p.Kind() == kind && !p.Spec().Shadow {
			return p
		}
	}
	return nil
}

// Plugins returns the plugins in the order they were started.
func (h *Host) Plugins() []*Plugin {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.plugins)
}

// Info tells about every plugin.
func (h *Host) Info() []*ctlv1.PluginInfo {
	var list []*ctlv1.PluginInfo
	for _, p := range h.Plugins() {
		list = append(list, p.Info())
	}
	return list
}

// Warnings has a line for each plugin that an administrator should look at.
func (h *Host) Warnings() []string {
	var list []string
	for _, p := range h.Plugins() {
		if w := p.warning(); w != "" && !p.Spec().Shadow {
			list = append(list, w)
		}
	}
	return list
}

// Close drains and ends all plugins. Calls that run have until ctx ends, two
// seconds at most. The host cannot be used afterwards.
func (h *Host) Close(ctx context.Context) {
	var all sync.WaitGroup
	for _, p := range h.Plugins() {
		all.Go(func() { p.Close(ctx) })
	}
	all.Wait()
	h.run.close()
}

func (h *Host) forget(p *Plugin) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.plugins = slices.DeleteFunc(h.plugins, func(x *Plugin) bool { return x == p })
}

func title(kind, name string) string { return fmt.Sprintf("%s/%s", kind, name) }
