package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluice-hpc/sluice/conf"
	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/core/ctl"
	"github.com/sluice-hpc/sluice/core/pluginhost"
	"github.com/sluice-hpc/sluice/core/rpc"
	"github.com/sluice-hpc/sluice/sdk/acctstore"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/jobsubmit"
	"github.com/sluice-hpc/sluice/sdk/priority"
	"github.com/sluice-hpc/sluice/sdk/proto/acctstore/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/selector"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// pluginSet is the plugins that serve. All but the filters stay the same values
// while processes, and what is configured, come and go beneath them.
type pluginSet struct {
	sched, selector, priority, store *pluginhost.Plugin
	wake                             waker

	changing sync.Mutex // held while something is swapped: one change at a time
	chain    []*pluginhost.Plugin
	filters  atomic.Pointer[[]rpc.Filter] // those of chain that are in service
	shadows  []*shadowing                 // at most one of a kind; guarded by shadowMu
	shadowMu sync.Mutex
}

// waker calls what is set later; until then there is nobody to wake.
type waker struct {
	mu sync.Mutex
	f  func()
}

func (w *waker) set(f func()) {
	w.mu.Lock()
	w.f = f
	w.mu.Unlock()
	f()
}

func (w *waker) wake() {
	w.mu.Lock()
	f := w.f
	w.mu.Unlock()
	if f != nil {
		f()
	}
}

// How long a plugin may think, and what it may use, unless its options say
// otherwise.
const (
	planTimeout   = 10 * time.Second
	filterTimeout = 5 * time.Second
	storeTimeout  = 60 * time.Second
	startTimeout  = 30 * time.Second
	policyMemory  = 4 << 30 // bytes
)

// service is a kind that the controller hosts one plugin of.
type service struct {
	kind, key string                    // key of slurm.conf that names the plugin
	value     func(*conf.Config) string // of the key
	plugin    func(*pluginSet) **pluginhost.Plugin
	passes    bool // passes call it, so that a candidate makes one first
}

var services = []service{
	{sched.Kind, "SchedulerType", func(c *conf.Config) string { return c.SchedulerType },
		func(s *pluginSet) **pluginhost.Plugin { return &s.sched }, true},
	{selector.Kind, "SelectType", func(c *conf.Config) string { return c.SelectType },
		func(s *pluginSet) **pluginhost.Plugin { return &s.selector }, true},
	{priority.Kind, "PriorityType", func(c *conf.Config) string { return c.PriorityType },
		func(s *pluginSet) **pluginhost.Plugin { return &s.priority }, true},
	{acctstore.Kind, "AccountingStorageType", func(c *conf.Config) string {
		if c.AccountingStorageType == "" {
			return "accounting_storage/none"
		}
		return c.AccountingStorageType
	}, func(s *pluginSet) **pluginhost.Plugin { return &s.store }, false},
}

// startPlugins starts every plugin that the configuration names. One that does
// not exist is an error that lists what PluginDir offers.
func (d *daemon) startPlugins(ctx context.Context) (*pluginSet, error) {
	set := &pluginSet{}
	d.set = set
	list, err := readKept(d.cfg.StateSaveLocation)
	if err != nil {
		d.log.Error("what scontrol changed of plugins is lost: those of slurm.conf serve", "err", err)
	}
	for _, s := range services {
		p, err := d.start(ctx, list, s.key, s.value(d.cfg), s.kind)
		if err != nil {
			return nil, err
		}
		*s.plugin(set) = p
	}
	for _, name := range d.cfg.JobSubmitPlugins {
		p, err := d.start(ctx, list, "JobSubmitPlugins", strings.TrimPrefix(name, jobsubmit.Kind+"/"), jobsubmit.Kind)
		if err != nil {
			return nil, err
		}
		set.chain = append(set.chain, p)
	}
	set.link()
	return set, nil
}

// link makes the filters of the chain anew. The caller holds changing, or
// nobody else has the set.
func (s *pluginSet) link() {
	filters := []rpc.Filter{}
	for _, p := range s.chain {
		if spec := p.Spec(); !p.Disabled() {
			filters = append(filters, rpc.Filter{Name: spec.Name, Filter: jobsubmit.NewClient(p), Timeout: spec.Timeout,
				Accept: slices.ContainsFunc(spec.Shared, func(o pluginhost.Option) bool { return o.Name == "on_failure" && o.Value == "accept" })})
		}
	}
	s.filters.Store(&filters)
}

// answer answers what submission filters ask.
func (d *daemon) answer(_, method string, _ []byte) ([]byte, error) {
	var parts []*wlm.Partition
	if d.view != nil { // nil: no submission is served yet
		d.view.Read(func(t *cluster.Tables) { parts = slices.Clone(t.Partitions) })
	}
	return jobsubmit.Answer(method, parts)
}

// startPlugin starts the plugin that a key of slurm.conf names.
func (d *daemon) startPlugin(ctx context.Context, key, value, kind string) (*pluginhost.Plugin, error) {
	spec, err := d.specOf(d.cfg, key, value, kind)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	p, err := d.plugins.Start(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("%s=%s: %w", key, value, err)
	}
	return p, nil
}

// specOf is the plugin that a key of a configuration names, with its options.
func (d *daemon) specOf(cfg *conf.Config, key, value, kind string) (pluginhost.Spec, error) {
	prefix, name, ok := strings.Cut(value, "/")
	if !ok {
		prefix, name = kind, value
	}
	if prefix != kind || name == "" {
		return pluginhost.Spec{}, errs.Newf("slurmctld.Plugin", errs.Invalid, "%s=%s: a plugin of the kind %s is wanted, such as %s/...; PluginDir offers %s",
			key, value, kind, kind, strings.Join(d.plugins.Offered(kind), ", "))
	}
	spec := pluginhost.Spec{Kind: kind, Name: name, Timeout: planTimeout, NeedSnapshot: d.set.wake.wake}
	spec.Limits.Memory = policyMemory
	switch kind {
	case sched.Kind:
		spec.Contracts, spec.Fallback = sched.Contracts, "builtin"
	case selector.Kind:
		spec.Contracts, spec.Fallback = selector.Contracts, "linear"
	case priority.Kind:
		spec.Contracts, spec.Fallback = priority.Contracts, "basic"
	case jobsubmit.Kind:
		spec.Contracts, spec.Timeout, spec.NeedSnapshot = jobsubmit.Contracts, filterTimeout, nil
		spec.Wait, spec.Optional, spec.Concurrent, spec.Query = true, true, true, d.answer
		spec.Shared = []pluginhost.Option{{Name: "confdir", Value: filepath.Dir(cfg.Path), Origin: "slurm.conf"}}
	case acctstore.Kind:
		spec.Contracts, spec.Timeout, spec.Wait, spec.NeedSnapshot, spec.Limits = acctstore.Contracts, storeTimeout, true, nil, pluginhost.Limits{}
		spec.Late = true // its records wait
		if name == "sqlite" && cfg.PluginOptions[kind+"/"+name]["path"].Value == "" {
			spec.Options = append(spec.Options, pluginhost.Option{Name: "path", Value: filepath.Join(cfg.StateSaveLocation, "accounting.db"), Origin: "default"})
		}
	}
	for _, option := range slices.Sorted(maps.Keys(cfg.PluginOptions[kind+"/"+name])) {
		o := cfg.PluginOptions[kind+"/"+name][option]
		ours, err := hostOption(&spec, option, o)
		if err != nil {
			return spec, err
		}
		x := pluginhost.Option{Name: option, Value: o.Value, Origin: o.Origin}
		if ours {
			spec.Shared = append(spec.Shared, x) // the plugin may know it, too
		} else {
			spec.Options = append(spec.Options, x)
		}
	}
	if kind == acctstore.Kind { // storage writes below StateSaveLocation
		return spec, nil
	}
	var err error
	spec.User, err = pluginUser(cfg)
	return spec, err
}

// hostOption applies an option of PluginOptions that is for the host and not
// for the plugin.
func hostOption(spec *pluginhost.Spec, name string, o conf.Option) (ours bool, err error) {
	wrong := func(allowed string) (bool, error) {
		return true, errs.Newf("slurmctld.Plugin", errs.Invalid, "%s: option %s of %s: %q is not %s", o.Origin, name, spec, o.Value, allowed)
	}
	switch name {
	case "timeout":
		t, err := time.ParseDuration(o.Value)
		if err != nil {
			var secs float64
			secs, err = strconv.ParseFloat(o.Value, 64)
			t = time.Duration(secs * float64(time.Second))
		}
		const least, most = time.Millisecond, time.Hour
		if err != nil || t < least || t > most {
			return wrong("a time from 1ms to 1h, such as 2s")
		}
		spec.Timeout = t
	case "memory_limit":
		m, err := wlm.ParseMiB(o.Value)
		if err != nil || m == 0 {
			return wrong("a size, such as 512M")
		}
		spec.Limits.Memory = uint64(m) << 20
	case "cpu_limit":
		n, err := strconv.ParseFloat(o.Value, 64)
		const least, most = 0.01, 1 << 16
		if err != nil || n < least || n > most {
			return wrong("a number of CPUs, such as 1.5")
		}
		spec.Limits.CPUs = n
	case "on_failure":
		if spec.Kind != jobsubmit.Kind || o.Value != "accept" && o.Value != "reject" {
			return wrong("accept or reject of a job_submit plugin")
		}
	default:
		return false, nil
	}
	return true, nil
}

// pluginUser is whom policy plugins run as when the controller is root.
func pluginUser(cfg *conf.Config) (*syscall.Credential, error) {
	if cfg.PluginUser == "" || cfg.PluginUser == "root" || syscall.Getuid() != 0 {
		return nil, nil
	}
	return pluginhost.LookupUser(cfg.PluginUser)
}

// slurmUID is the uid of SlurmUser, which may be given as a number.
func slurmUID(cfg *conf.Config) wlm.UID {
	if n, err := strconv.ParseUint(cfg.SlurmUser, 10, 32); err == nil {
		return wlm.UID(n)
	}
	if u, err := user.Lookup(cfg.SlurmUser); err == nil {
		if n, err := strconv.ParseUint(u.Uid, 10, 32); err == nil {
			return wlm.UID(n)
		}
	}
	return 0
}

// pluginInfo tells of the controller's plugins and of those of the nodes.
func (d *daemon) pluginInfo(name string) []*ctlv1.PluginInfo {
	all := d.plugins.Info()
	for _, f := range *d.set.filters.Load() {
		for _, i := range all {
			if i.GetKind() == jobsubmit.Kind && i.GetName() == f.Name && f.Accept {
				i.Limits = append(i.Limits, "on_failure=accept")
			}
		}
	}
	reports := d.nodes.Plugins()
	for _, node := range slices.Sorted(maps.Keys(reports)) {
		for _, r := range reports[node] {
			i := &ctlv1.PluginInfo{Kind: r.GetKind(), Name: r.GetName(), Version: r.GetVersion(), Path: r.GetPath(), Pid: r.GetPid(),
				Since: r.GetSince(), State: r.GetState(), Calls: r.GetCalls(), Restarts: r.GetRestarts(), Rss: r.GetRss(), Host: string(node),
				Sha256: r.GetSha256(), Contract: r.GetContract(), P50Us: r.GetP50Us(), P99Us: r.GetP99Us(), MaxUs: r.GetMaxUs(),
				Overruns: r.GetOverruns(), CpuSeconds: r.GetCpuSeconds(), LastError: r.GetLastError(), Limits: r.GetLimits(), User: r.GetUser()}
			for _, o := range r.GetOptions() {
				i.Options = append(i.Options, &ctlv1.ConfigValue{Key: o.GetKey(), Value: o.GetValue(), Origin: o.GetOrigin(), Default: o.GetDefault(), Unit: o.GetUnit()})
			}
			all = append(all, i)
		}
	}
	if name == "" {
		return all
	}
	var out []*ctlv1.PluginInfo
	for _, p := range all {
		if name == p.GetKind() || name == p.GetKind()+"/"+p.GetName() || name == p.GetKind()+"/"+p.GetConfigured() {
			out = append(out, p)
		}
	}
	return out
}

// records is the outbox's source: the cluster's queue of accounting records,
// seen between two turns of the loop.
type records struct {
	log   *slog.Logger
	loop  *ctl.Loop
	acked uint64
	mu    sync.Mutex
	last  uint64        // number of the newest record
	more  chan struct{} // closed and replaced when last grows
	upto  uint64        // acknowledged, and on its way to the journal
	busy  bool
}

func newRecords(log *slog.Logger) *records { return &records{log: log, more: make(chan struct{})} }

// start begins with the records that the recovered cluster has.
func (r *records) start(loop *ctl.Loop, c *cluster.Cluster) {
	r.loop, r.last, r.acked = loop, c.LastRecord(), c.AckedRecord()
	r.upto = r.acked
}

// hear is a ctl.Listener.
func (r *records) hear(events []*cluster.Event) {
	n := uint64(0)
	for _, e := range events {
		if cluster.Recorded(e.Kind) {
			n++
		}
	}
	if n == 0 {
		return
	}
	r.mu.Lock()
	r.last += n
	close(r.more)
	r.more = make(chan struct{})
	r.mu.Unlock()
}

// Last implements outbox.Source.
func (r *records) Last() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// Records implements outbox.Source.
func (r *records) Records(after uint64, n int) []*acctstorev1.Record {
	var found []cluster.Record
	if err := r.loop.Look(context.Background(), func(c *cluster.Cluster) { found = c.Records(after, n) }); err != nil {
		return nil
	}
	out := make([]*acctstorev1.Record, len(found))
	for i, f := range found {
		out[i] = &acctstorev1.Record{Number: f.Number, Event: f.Event.ToWire(true)}
	}
	return out
}

// Wait implements outbox.Source.
func (r *records) Wait(ctx context.Context, after uint64) error {
	for {
		r.mu.Lock()
		last, more := r.last, r.more
		r.mu.Unlock()
		if last > after {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-more:
		}
	}
}

// Acked implements outbox.Source. One command at a time is on its way, with the
// newest number: what is acknowledged again after a crash does no harm.
func (r *records) Acked(upto uint64) {
	r.mu.Lock()
	r.upto = max(r.upto, upto)
	start := !r.busy
	r.busy = true
	r.mu.Unlock()
	if start {
		go r.acknowledge()
	}
}

func (r *records) acknowledge() {
	for sent := uint64(0); ; {
		r.mu.Lock()
		upto := r.upto
		if upto == sent {
			r.busy = false
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
		if _, err := r.loop.Do(context.Background(), &cluster.AckRecords{Upto: upto}); err != nil {
			r.log.Debug("acknowledgement not written", "err", err)
			r.mu.Lock()
			r.busy = false
			r.mu.Unlock()
			return
		}
		sent = upto
	}
}
