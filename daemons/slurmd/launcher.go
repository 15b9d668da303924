package main

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sluice-hpc/sluice/conf"
	"github.com/sluice-hpc/sluice/core/pluginhost"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/launch"
	"github.com/sluice-hpc/sluice/sdk/proto/launch/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// launchTimeout bounds each call of the launch plugin; launches open files of
// users, which may be on slow file systems.
const launchTimeout = 3 * time.Minute

// lazy starts the launch plugin when the first step is launched, or found: an
// idle slurmd, of which a host may have many, does without. That the plugin is
// there, and that its options are known, is checked at the start nevertheless.
type lazy struct {
	host *pluginhost.Host
	spec pluginhost.Spec
	up   chan struct{} // closed when the plugin was started

	mu     sync.Mutex // guards spec, plugin and client; held while the plugin starts
	plugin *pluginhost.Plugin
	client launch.Launcher

	gate   gate    // of launches
	change changes // of the plugin
}

var _ launch.Launcher = (*lazy)(nil)

// newLazy finds the plugin of LaunchType.
func newLazy(host *pluginhost.Host, cfg *conf.Config, stepd string) (*lazy, error) {
	l := &lazy{host: host, up: make(chan struct{})}
	var err error
	if l.spec, err = launchSpec(cfg, stepd, "", ""); err != nil {
		return nil, fmt.Errorf("LaunchType=%s: %w", cfg.LaunchType, err)
	}
	if _, err := host.Find(l.spec.Kind, l.spec.Name); err != nil {
		return nil, fmt.Errorf("LaunchType=%s: %w", cfg.LaunchType, err)
	}
	if len(l.spec.Options) > 0 {
		if _, err := l.get(); err != nil {
			return nil, fmt.Errorf("LaunchType=%s: %w", cfg.LaunchType, err)
		}
	}
	return l, nil
}

// launchSpec is a launch plugin with its options; without a name, that of
// LaunchType.
func launchSpec(cfg *conf.Config, stepd, name, path string) (pluginhost.Spec, error) {
	if name == "" {
		kind, rest, ok := strings.Cut(cfg.LaunchType, "/")
		if !ok {
			kind, rest = launch.Kind, kind
		}
		if kind != launch.Kind || rest == "" {
			return pluginhost.Spec{}, errs.Newf("slurmd.Plugin", errs.Invalid, "a plugin of the kind launch is wanted, such as launch/exec")
		}
		name = rest
	}
	spec := pluginhost.Spec{Kind: launch.Kind, Name: name, Path: path, Contracts: launch.Contracts, Timeout: launchTimeout, Wait: true}
	for option, o := range cfg.PluginOptions[launch.Kind+"/"+name] {
		spec.Options = append(spec.Options, pluginhost.Option{Name: option, Value: o.Value, Origin: o.Origin})
	}
	if stepd != "" {
		spec.Shared = append(spec.Shared, pluginhost.Option{Name: "stepd", Value: stepd, Origin: "-d"})
	}
	return spec, nil
}

// get starts the plugin if need be.
func (l *lazy) get() (launch.Launcher, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.client != nil {
		return l.client, nil
	}
	const startTimeout = 30 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	p, err := l.host.Start(ctx, l.spec)
	if err != nil {
		// Whatever it was, no step was touched: a caller may try again.
		return nil, errs.Newf("slurmd.launcher", errs.Unavail, "starting the launch plugin: %w", err)
	}
	l.serve(p)
	return l.client, nil
}

// serve makes p the plugin; the caller holds mu.
func (l *lazy) serve(p *pluginhost.Plugin) {
	l.plugin, l.client = p, launch.NewClient(p)
	close(l.up)
}

// Launch is launch.Launcher's.
func (l *lazy) Launch(ctx context.Context, r *launchv1.LaunchRequest) (*launchv1.LaunchReply, error) {
	if err := l.gate.enter(ctx); err != nil {
		return nil, err
	}
	defer l.gate.leave()
	c, err := l.get()
	if err != nil {
		return nil, err
	}
	return c.Launch(ctx, r)
}

// Signal is launch.Launcher's.
func (l *lazy) Signal(ctx context.Context, r *launchv1.SignalRequest) error {
	c, err := l.get()
	if err != nil {
		return err
	}
	return c.Signal(ctx, r)
}

// Watch is launch.Launcher's; it waits for the plugin to be started.
func (l *lazy) Watch(ctx context.Context, tell func(*launchv1.Happening) error) error {
	select {
	case <-l.up:
	case <-ctx.Done():
		return nil
	}
	c, err := l.get()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l.change.watching(cancel)
	return c.Watch(ctx, tell)
}

// Recover is launch.Launcher's. A spool without steps needs no plugin.
func (l *lazy) Recover(ctx context.Context, spool string) (*launchv1.RecoverReply, error) {
	select {
	case <-l.up:
	default:
		if !hasSteps(spool) {
			return &launchv1.RecoverReply{}, nil
		}
	}
	c, err := l.get()
	if err != nil {
		return nil, err
	}
	return c.Recover(ctx, spool)
}

// hasSteps reports whether a spool has directories named <job>.<step>.
func hasSteps(spool string) bool {
	names, err := filepath.Glob(filepath.Join(spool, "[0-9]*.*"))
	if err != nil {
		return true
	}
	for _, n := range names {
		job, step, _ := strings.Cut(filepath.Base(n), ".")
		_, jerr := strconv.ParseUint(job, 10, 32)
		_, serr := wlm.ParseStepID(step)
		if st, err := os.Stat(n); jerr == nil && serr == nil && err == nil && st.IsDir() {
			return true
		}
	}
	return false
}

// Stats is launch.Launcher's.
func (l *lazy) Stats(ctx context.Context, step *launchv1.StepRef) (*launchv1.StatsReply, error) {
	c, err := l.get()
	if err != nil {
		return nil, err
	}
	return c.Stats(ctx, step)
}

// Forget is launch.Launcher's.
func (l *lazy) Forget(ctx context.Context, step *launchv1.StepRef) error {
	c, err := l.get()
	if err != nil {
		return err
	}
	return c.Forget(ctx, step)
}

// lookupUID is the uid of a user's name or number.
func lookupUID(name string) (wlm.UID, error) {
	if name == "" {
		return 0, nil
	}
	if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		return wlm.UID(n), nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(u.Uid, 10, 32)
	return wlm.UID(n), err
}
