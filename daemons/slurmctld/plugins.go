package main

import (
	"context"
	"fmt"
	"log/slog"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sluice-hpc/sluice/conf"
	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/core/ctl"
	"github.com/sluice-hpc/sluice/core/pluginhost"
	"github.com/sluice-hpc/sluice/core/rpc"
	"github.com/sluice-hpc/sluice/sdk/acctstore"
	"github.com/sluice-hpc/sluice/sdk/jobsubmit"
	"github.com/sluice-hpc/sluice/sdk/priority"
	"github.com/sluice-hpc/sluice/sdk/proto/acctstore/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/selector"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// pluginSet is the plugins that the configuration names.
type pluginSet struct {
	sched, selector, priority, store *pluginhost.Plugin
	filters                          []rpc.Filter
	wake                             waker
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

// Timeouts of calls by kind: how long a plugin may think.
const (
	planTimeout  = 10 * time.Second
	storeTimeout = 60 * time.Second
)

// startPlugins starts every plugin that the configuration names. One that does
// not exist is an error that lists what PluginDir offers.
func (d *daemon) startPlugins(ctx context.Context) (*pluginSet, error) {
	cfg, set := d.cfg, &pluginSet{}
	mirrored := []struct {
		key, value, kind string
		contracts        []uint32
		fallback         string
		into             **pluginhost.Plugin
	}{
		{"SchedulerType", cfg.SchedulerType, sched.Kind, sched.Contracts, "builtin", &set.sched},
		{"SelectType", cfg.SelectType, selector.Kind, selector.Contracts, "linear", &set.selector},
		{"PriorityType", cfg.PriorityType, priority.Kind, priority.Contracts, "basic", &set.priority},
	}
	for _, m := range mirrored {
		p, err := d.startPlugin(ctx, m.key, m.value, m.kind, pluginhost.Spec{Contracts: m.contracts, Fallback: m.fallback,
			Timeout: planTimeout, NeedSnapshot: set.wake.wake})
		if err != nil {
			return nil, err
		}
		*m.into = p
	}
	var err error
	storage := cfg.AccountingStorageType
	if storage == "" {
		storage = "accounting_storage/none"
	}
	spec := pluginhost.Spec{Contracts: acctstore.Contracts, Timeout: storeTimeout, Wait: true}
	if strings.HasSuffix(storage, "/sqlite") && cfg.PluginOptions[storage]["path"].Value == "" {
		spec.Options = append(spec.Options, pluginhost.Option{Name: "path", Value: filepath.Join(cfg.StateSaveLocation, "accounting.db"), Origin: "default"})
	}
	if set.store, err = d.startPlugin(ctx, "AccountingStorageType", storage, acctstore.Kind, spec); err != nil {
		return nil, err
	}
	for _, name := range cfg.JobSubmitPlugins {
		p, err := d.startPlugin(ctx, "JobSubmitPlugins", name, jobsubmit.Kind, pluginhost.Spec{Contracts: jobsubmit.Contracts,
			Shared: []pluginhost.Option{{Name: "confdir", Value: filepath.Dir(d.cfg.Path), Origin: "slurm.conf"}}, Query: d.answer})
		if err != nil {
			return nil, err
		}
		set.filters = append(set.filters, rpc.Filter{Name: p.Name(), Filter: jobsubmit.NewClient(p)})
	}
	return set, nil
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
func (d *daemon) startPlugin(ctx context.Context, key, value, kind string, spec pluginhost.Spec) (*pluginhost.Plugin, error) {
	prefix, name, ok := strings.Cut(value, "/")
	if !ok {
		prefix, name = kind, value
	}
	if prefix != kind || name == "" {
		return nil, fmt.Errorf("%s=%s: a plugin of the kind %s is wanted, such as %s/...; PluginDir offers %s", key, value, kind, kind,
			strings.Join(d.plugins.Offered(kind), ", "))
	}
	spec.Kind, spec.Name = kind, name
	for option, o := range d.cfg.PluginOptions[kind+"/"+name] {
		spec.Options = append(spec.Options, pluginhost.Option{Name: option, Value: o.Value, Origin: o.Origin})
	}
	if kind != acctstore.Kind { // storage writes below StateSaveLocation
		spec.User = pluginUser(d.cfg)
	}
	const startTimeout = 30 * time.Second
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	p, err := d.plugins.Start(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("%s=%s: %w", key, value, err)
	}
	return p, nil
}

// pluginUser is whom policy plugins run as when the controller is root.
func pluginUser(cfg *conf.Config) *syscall.Credential {
	if cfg.PluginUser == "" || cfg.PluginUser == "root" || syscall.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup(cfg.PluginUser)
	if err != nil {
		return nil
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err1 != nil || err2 != nil {
		return nil
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
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
	for node, reports := range d.nodes.Plugins() {
		for _, r := range reports {
			all = append(all, &ctlv1.PluginInfo{Kind: r.GetKind(), Name: r.GetName(), Version: r.GetVersion(), Path: r.GetPath(), Pid: r.GetPid(),
				Since: r.GetSince(), State: r.GetState(), Calls: r.GetCalls(), Restarts: r.GetRestarts(), Rss: r.GetRss(), Host: string(node)})
		}
	}
	if name == "" {
		return all
	}
	var out []*ctlv1.PluginInfo
	for _, p := range all {
		if p.GetKind() == name || p.GetKind()+"/"+p.GetName() == name {
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
