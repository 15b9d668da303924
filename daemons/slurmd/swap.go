package main

import (
	"context"
	"sync"
	"time"

	"github.com/sluice-hpc/sluice/conf"
	"github.com/sluice-hpc/sluice/core/pluginhost"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
)

// A swap of the launch plugin touches no step: those that run belong to their
// supervisors, and the new plugin finds them in the spool. In order: the new
// process starts beside the old one; launches wait, and those that run end; the
// new one serves; the watch of the old one is cancelled, whereupon the hub
// recovers every node's steps and watches the new one.

const (
	preparedLife = time.Minute     // of a change that nobody commits
	launchesEnd  = 5 * time.Second // how long launches that run are waited for
)

// gate lets launches through, except while the plugin is swapped.
type gate struct {
	mu   sync.Mutex
	busy int
	idle chan struct{} // closed when busy falls to 0; nil: nobody waits
	shut chan struct{} // closed when the gate opens; nil: it is open
}

func (g *gate) enter(ctx context.Context) error {
	for {
		g.mu.Lock()
		shut := g.shut
		if shut == nil {
			g.busy++
			g.mu.Unlock()
			return nil
		}
		g.mu.Unlock()
		select {
		case <-shut:
		case <-ctx.Done():
			return errs.Newf("slurmd.Launch", errs.Deadline, "the launch plugin is being swapped: %w", ctx.Err())
		}
	}
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.busy--; g.busy == 0 && g.idle != nil {
		close(g.idle)
		g.idle = nil
	}
}

// close shuts the gate and waits a while for those within.
func (g *gate) close(wait time.Duration) {
	g.mu.Lock()
	g.shut = make(chan struct{})
	var idle chan struct{}
	if g.busy > 0 {
		g.idle = make(chan struct{})
		idle = g.idle
	}
	g.mu.Unlock()
	if idle == nil {
		return
	}
	select {
	case <-idle:
	case <-time.After(wait):
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.shut)
	g.shut, g.idle = nil, nil
}

// changes is the one change of the plugin that goes on. Every node of this
// process is told of it; the first carries a step out, the others hear the same
// answer.
type changes struct {
	mu      sync.Mutex // held while a step is carried out
	id      uint64
	answers map[nodev1.ChangePlugin_Step]error
	spec    pluginhost.Spec
	c       *pluginhost.Candidate // beside a plugin that serves
	first   *pluginhost.Plugin    // where none was started yet
	expire  *time.Timer

	watch       sync.Mutex // guards cancelWatch
	cancelWatch func()
}

func (c *changes) watching(cancel func()) {
	c.watch.Lock()
	c.cancelWatch = cancel
	c.watch.Unlock()
}

func (c *changes) rewatch() {
	c.watch.Lock()
	defer c.watch.Unlock()
	if c.cancelWatch != nil {
		c.cancelWatch()
	}
}

// changePlugin carries out one step of the controller's change.
func (d *daemon) changePlugin(m *nodev1.ChangePlugin) error {
	l := d.launcher
	c := &l.change
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.GetId() == c.id {
		if err, done := c.answers[m.GetStep()]; done {
			return err
		}
	} else {
		if m.GetStep() == nodev1.ChangePlugin_COMMIT {
			return errs.Newf("slurmd.ChangePlugin", errs.State, "this slurmd has prepared no such change: it started anew, or the change came too late")
		}
		c.dropLocked()
		c.id, c.answers = m.GetId(), map[nodev1.ChangePlugin_Step]error{}
	}
	var err error
	switch m.GetStep() {
	case nodev1.ChangePlugin_PREPARE:
		err = d.prepare(m.GetKind(), m.GetName(), m.GetPath())
	case nodev1.ChangePlugin_COMMIT:
		if err = c.answers[nodev1.ChangePlugin_PREPARE]; err == nil {
			err = l.commit()
		}
	case nodev1.ChangePlugin_ABORT:
		c.dropLocked()
	}
	c.answers[m.GetStep()] = err
	return err
}

// prepare starts a plugin beside the one that serves. Its options are those of
// slurm.conf as it is now. The caller holds change.mu.
func (d *daemon) prepare(kind, name, path string) error {
	l := d.launcher
	c := &l.change
	cfg, _, err := conf.Load(d.cfgPath)
	if err != nil {
		return err
	}
	l.mu.Lock()
	plugin, now := l.plugin, l.spec
	l.mu.Unlock()
	if kind != now.Kind {
		return errs.Newf("slurmd.ChangePlugin", errs.Unsupport, "a node has no plugin of the kind %s", kind)
	}
	if name == "" && path == "" {
		name, path = now.Name, now.Path
	}
	if c.spec, err = launchSpec(cfg, d.f.stepd, name, path); err != nil {
		return err
	}
	const startTimeout = 30 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if plugin != nil {
		c.c, err = plugin.Prepare(ctx, c.spec)
	} else {
		c.first, err = l.host.Start(ctx, c.spec)
	}
	if err != nil {
		return err
	}
	id := c.id
	c.expire = time.AfterFunc(preparedLife, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.id == id {
			c.dropLocked()
			c.answers[nodev1.ChangePlugin_COMMIT] = errs.Newf("slurmd.ChangePlugin", errs.Deadline, "the change was dropped after %v", preparedLife)
		}
	})
	return nil
}

// dropLocked ends what was prepared and not committed.
func (c *changes) dropLocked() {
	if c.expire != nil {
		c.expire.Stop()
	}
	if c.c != nil {
		c.c.Discard()
	}
	if c.first != nil {
		c.first.Close(context.Background())
	}
	c.c, c.first, c.expire = nil, nil, nil
}

// commit lets the prepared plugin serve. The caller holds change.mu.
func (l *lazy) commit() error {
	c := &l.change
	if c.expire != nil {
		c.expire.Stop()
	}
	if first := c.first; first != nil {
		c.first = nil
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.plugin == nil {
			l.serve(first)
			l.spec = c.spec
			return nil
		}
		// A step was launched meanwhile and started the old one: begin anew.
		first.Close(context.Background())
		return l.plugin.Replace(context.Background(), c.spec)
	}
	if c.c == nil {
		return errs.Newf("slurmd.ChangePlugin", errs.State, "nothing is prepared")
	}
	l.gate.close(launchesEnd)
	defer l.gate.open()
	const adoptTimeout = 15 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), adoptTimeout)
	defer cancel()
	err := c.c.Adopt(ctx)
	c.c = nil
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.spec = c.spec
	l.mu.Unlock()
	c.rewatch()
	return nil
}

// relaunch swaps the plugin when slurm.conf names another, or other options. A
// change that the controller made is done already.
func (d *daemon) relaunch(was, now *conf.Config) {
	l := d.launcher
	if l == nil || was.LaunchType == now.LaunchType && samePluginOptions(was, now) {
		return
	}
	spec, err := launchSpec(now, d.f.stepd, "", "")
	l.mu.Lock()
	old := l.spec
	l.mu.Unlock()
	if err == nil && sameSpec(old, spec) {
		return
	}
	c := &l.change
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropLocked()
	c.id, c.answers = 0, map[nodev1.ChangePlugin_Step]error{}
	if err == nil {
		err = d.prepare(spec.Kind, spec.Name, "")
	}
	if err == nil {
		err = l.commit()
	}
	if err != nil {
		d.log.Error("the launch plugin is not changed, the old one serves on", "type", now.LaunchType, "err", err)
	}
}

func samePluginOptions(a, b *conf.Config) bool {
	x, y := a.PluginOptions[a.LaunchType], b.PluginOptions[b.LaunchType]
	for k := range x {
		if x[k].Value != y[k].Value {
			return false
		}
	}
	return len(x) == len(y)
}

func sameSpec(a, b pluginhost.Spec) bool {
	value := func(s pluginhost.Spec) map[string]string {
		m := map[string]string{}
		for _, o := range s.Options {
			m[o.Name] = o.Value
		}
		return m
	}
	x, y := value(a), value(b)
	for k := range x {
		if x[k] != y[k] {
			return false
		}
	}
	return len(x) == len(y) && a.Name == b.Name && a.Path == b.Path
}
