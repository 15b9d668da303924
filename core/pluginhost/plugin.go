package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/plugin"
	"github.com/sluice-hpc/sluice/sdk/plugin/session"
	"github.com/sluice-hpc/sluice/sdk/proto/plugin/v1"
	"golang.org/x/sys/unix"
)

// How a plugin is watched, restarted and given up.
const (
	openTimeout    = 10 * time.Second // from exec to serving
	healthInterval = 5 * time.Second
	healthTimeout  = 10 * time.Second
	overrunsInARow = 3
	overrunsAtOnce = 64 // of a concurrent kind
	giveUpRestarts = 5  // within giveUpWindow
	giveUpWindow   = time.Minute
	firstPause     = 50 * time.Millisecond  // before the second restart in a window
	loopPause      = 300 * time.Millisecond // when it ends too often and nothing can take over
	longestPause   = 30 * time.Second
	drainTimeout   = 2 * time.Second
	retireTimeout  = 10 * time.Second // for the calls of a plugin that was swapped out
)

// The states that Info tells.
const (
	stateStarting   = "starting"
	stateServing    = "serving"
	stateRestarting = "restarting"
	stateFallback   = "fallback"
	stateDisabled   = "disabled"
	stateShadow     = "shadow"
	stateDraining   = "draining"
)

// Plugin is a plugin as its callers know it, whatever process serves it.
type Plugin struct {
	host         *Host
	kind         string
	needSnapshot func() // may be nil
	log          *slog.Logger

	epoch atomic.Uint64 // of the feed: see Epoch
	stats stats

	mu        sync.Mutex
	spec      Spec // as configured
	state     string
	inst      *instance     // nil: none serves
	changed   chan struct{} // closed when inst or state changes
	restarts  []time.Time   // within giveUpWindow
	streak    int           // restarts since the last one that lasted
	restarted uint32        // in all
	lastError string
	onward    bool // the fallback serves
	disabled  bool // by an administrator; the fallback serves where there is one
	closing   context.Context

	swaps  chan swap
	ending sync.WaitGroup // instances that were swapped out and drain

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	done   chan struct{} // closed when nothing runs any more
}

// swap asks the watcher to let another instance take over; without one the
// plugin is disabled.
type swap struct {
	inst *instance
	how  takeover
	done chan struct{}
}

// instance is one process of a plugin with its session.
type instance struct {
	spec     Spec // with the fallback's name, when it is one
	path     string
	sum      string
	manifest *pluginv1.ManifestReply
	contract uint32
	options  []*pluginv1.OptionValue // in force, defaults included
	proc     *plugin.Process
	cage     *cage
	answered atomic.Bool   // a call, at least
	lost     atomic.Uint64 // times that the mirror was lost before it served
	sess     *session.Host
	since    time.Time
	bad      chan string // capacity 1: why it must go
	overruns atomic.Int32
	rev      atomic.Uint64
	digest   atomic.Uint64
}

func newPlugin(h *Host, spec Spec) *Plugin {
	p := &Plugin{host: h, kind: spec.Kind, needSnapshot: spec.NeedSnapshot, spec: spec, state: stateStarting,
		changed: make(chan struct{}), swaps: make(chan swap), done: make(chan struct{}),
		log: h.log.With("kind", spec.Kind, "plugin", spec.Name)}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// Kind is the kind that the plugin was started for.
func (p *Plugin) Kind() string { return p.kind }

// Name is the name in the configuration, also while the fallback serves.
func (p *Plugin) Name() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.spec.Name
}

// launch starts a process for spec and opens its session. The instance does
// not serve calls yet.
func (p *Plugin) launch(ctx context.Context, spec Spec) (inst *instance, err error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	inst = &instance{spec: spec, path: spec.Path, since: time.Now(), bad: make(chan string, 1), cage: &cage{}}
	if inst.path == "" {
		if inst.path, err = p.host.Find(spec.Kind, spec.Name); err != nil {
			return nil, err
		}
	}
	if inst.sum, err = verify(inst.path); err != nil {
		return nil, err
	}
	user := spec.User
	if os.Geteuid() != 0 {
		user = nil
	}
	if user != nil {
		if err := p.host.run.admit(); err != nil {
			return nil, errs.Newf("pluginhost.Start", errs.Internal, "%w", err)
		}
	}
	keepDescriptors()
	log := p.host.log.With("kind", spec.Kind, "plugin", spec.Name)
	inst.proc, err = plugin.Start(ctx, plugin.StartConfig{Path: inst.path, SocketDir: p.host.run.path, User: user,
		AutoMTLS: p.host.cfg.AutoMTLS, Started: func(pid int) { inst.cage = confine(pid, spec.Kind+"_"+spec.Name, spec.Limits) }, Output: func(line string) { log.Info("plugin output", "line", line) }})
	if err != nil {
		inst.cage.remove()
		return nil, startError(err, inst.path, user)
	}
	if err := p.open(ctx, inst); err != nil {
		inst.stop()
		return nil, err
	}
	return inst, nil
}

// keepDescriptors keeps from plugins what the daemon itself inherited from
// whoever started it; what Go opens is not inherited anyway.
func keepDescriptors() {
	const first = 3
	if unix.CloseRange(first, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return
	}
	list, err := os.ReadDir("/proc/self/fd") // a kernel before 5.11
	if err != nil {
		return
	}
	for _, e := range list {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd >= first {
			unix.CloseOnExec(fd)
		}
	}
}

// errSilent is a program that is no plugin, or died before it could show that
// it is one.
var errSilent = errors.New("it does not greet its host as one")

// startError says in one line why a program does not start: it names the user
// where the kernel only says that something is not permitted, and leaves out
// what go-plugin tells its developers.
func startError(err error, path string, user *syscall.Credential) error {
	const op = "pluginhost.Start"
	text := err.Error()
	switch {
	case errors.Is(err, syscall.EACCES) && user != nil:
		return errs.Newf(op, errs.Denied, "%s: the user that plugins run as (PluginUser, uid %d) may not run it: check its mode and those of its directories",
			path, user.Uid)
	case strings.Contains(text, "Unrecognized remote plugin message"):
		return errs.Newf(op, errs.Invalid, "%s is not a plugin: %w", path, errSilent)
	}
	return errs.Newf(op, errs.KindOf(err), "%s", strings.Join(strings.Fields(text), " "))
}

// stop ends the process and removes what held it.
func (i *instance) stop() {
	i.proc.Stop()
	i.cage.remove()
}

// open asks for the manifest, checks the options and opens the session.
func (p *Plugin) open(ctx context.Context, inst *instance) (err error) {
	spec := inst.spec
	if inst.manifest, err = inst.proc.Manifest(ctx); err != nil {
		return err
	}
	if inst.contract, err = chooseContract(inst.manifest, spec); err != nil {
		return err
	}
	values, err := chooseOptions(inst.manifest, spec)
	if err != nil {
		return err
	}
	inst.options = inForce(inst.manifest, values)
	log := p.host.log.With("kind", spec.Kind, "plugin", spec.Name, "pid", inst.proc.PID())
	var query func(*pluginv1.HostQuery) ([]byte, error)
	if spec.Query != nil {
		query = func(q *pluginv1.HostQuery) ([]byte, error) {
			return spec.Query(q.GetKind(), q.GetMethod(), q.GetPayload())
		}
	}
	inst.sess, err = inst.proc.Open(ctx, session.HostConfig{
		Query: query,
		Epoch: uint64(inst.since.UnixNano()),
		Open:  &pluginv1.Open{Cluster: p.host.cfg.Cluster, Options: values, Contracts: map[string]uint32{spec.Kind: inst.contract}},
		Log:   func(l *pluginv1.Log) { logRecord(log, l) },
		Sync: func(rev, digest uint64, resend bool) {
			inst.rev.Store(rev)
			inst.digest.Store(digest)
			if resend {
				log.Warn("plugin lost a piece of the cluster's state, sending all of it again", "rev", rev)
				p.resend(inst)
			}
		},
	})
	if err != nil && errs.KindOf(err) == errs.Invalid {
		return errs.Newf("pluginhost.Start", errs.Invalid, "%s refused its options: %w", title(spec.Kind, spec.Name), err)
	}
	return err
}

func chooseContract(m *pluginv1.ManifestReply, spec Spec) (uint32, error) {
	var kinds []string
	for _, s := range m.GetServed() {
		kinds = append(kinds, s.GetKind())
		if s.GetKind() != spec.Kind {
			continue
		}
		best := uint32(0)
		for _, v := range s.GetContracts() {
			if len(spec.Contracts) == 0 || slices.Contains(spec.Contracts, v) {
				best = max(best, v)
			}
		}
		if best == 0 {
			return 0, errs.Newf("pluginhost.Start", errs.Unsupport, "%s speaks versions %v of its contract, this daemon speaks %v",
				title(spec.Kind, spec.Name), s.GetContracts(), spec.Contracts)
		}
		return best, nil
	}
	return 0, errs.Newf("pluginhost.Start", errs.Invalid, "%s serves %v, not the kind %s", title(spec.Kind, spec.Name), kinds, spec.Kind)
}

// chooseOptions returns the values that the plugin gets. Shared ones count
// before the plugin's own.
func chooseOptions(m *pluginv1.ManifestReply, spec Spec) ([]*pluginv1.OptionValue, error) {
	known := map[string]bool{}
	for _, d := range m.GetOptions() {
		known[d.GetName()] = true
	}
	var values []*pluginv1.OptionValue
	for _, o := range spec.Shared {
		if known[o.Name] {
			values = append(values, &pluginv1.OptionValue{Name: o.Name, Value: o.Value, Origin: o.Origin})
		}
	}
	for _, o := range spec.Options {
		values = append(values, &pluginv1.OptionValue{Name: o.Name, Value: o.Value, Origin: o.Origin})
	}
	if err := plugin.CheckOptions(m.GetOptions(), values); err != nil {
		return nil, fmt.Errorf("%s: %w", title(spec.Kind, spec.Name), err)
	}
	return values, nil
}

func inForce(m *pluginv1.ManifestReply, values []*pluginv1.OptionValue) []*pluginv1.OptionValue {
	var list []*pluginv1.OptionValue
	for _, d := range m.GetOptions() {
		v := &pluginv1.OptionValue{Name: d.GetName(), Value: d.GetDefault(), Origin: "default"}
		for _, x := range values {
			if x.GetName() == d.GetName() {
				v = x
			}
		}
		list = append(list, v)
	}
	return list
}

func logRecord(log *slog.Logger, l *pluginv1.Log) {
	var attrs []slog.Attr
	for _, k := range slices.Sorted(maps.Keys(l.GetAttrs())) {
		attrs = append(attrs, slog.String(k, l.GetAttrs()[k]))
	}
	log.LogAttrs(context.Background(), slog.Level(l.GetLevel()), l.GetMessage(), attrs...)
}

// install makes inst the one that serves.
func (p *Plugin) install(inst *instance) {
	p.mu.Lock()
	p.inst = inst
	p.epoch.Add(1) // together with inst: see PushState
	p.state = stateServing
	switch {
	case p.disabled:
		p.state = stateDisabled
	case p.onward:
		p.state = stateFallback
	case p.spec.Shadow:
		p.state = stateShadow
	}
	p.notifyLocked()
	p.mu.Unlock()
	p.askSnapshot()
	p.log.Info("plugin serves", "serving", title(inst.spec.Kind, inst.spec.Name), "version", inst.manifest.GetVersion(),
		"pid", inst.proc.PID(), "path", inst.path)
}

// withdraw makes calls fail, or wait, until the next install.
func (p *Plugin) withdraw(state, why string) {
	p.mu.Lock()
	p.inst, p.state = nil, state
	if why != "" {
		p.lastError = why
	}
	p.notifyLocked()
	p.mu.Unlock()
}

func (p *Plugin) notifyLocked() {
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *Plugin) askSnapshot() {
	if p.needSnapshot != nil {
		go p.needSnapshot()
	}
}

func (p *Plugin) resend(inst *instance) {
	if p.current() != inst {
		inst.lost.Add(1)
		return
	}
	p.epoch.Add(1)
	p.askSnapshot()
}

func (p *Plugin) current() *instance {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.inst
}
