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

	mu     sync.Mutex // guards client; held while the plugin starts
	client launch.Launcher
}

var _ launch.Launcher = (*lazy)(nil)

// newLazy finds the plugin of LaunchType.
func newLazy(host *pluginhost.Host, cfg *conf.Config, stepd string) (*lazy, error) {
	kind, name, _ := strings.Cut(cfg.LaunchType, "/")
	if name == "" {
		kind, name = launch.Kind, kind
	}
	if kind != launch.Kind {
		return nil, fmt.Errorf("LaunchType=%s: a plugin of the kind launch is wanted, such as launch/exec", cfg.LaunchType)
	}
	l := &lazy{host: host, up: make(chan struct{}), spec: pluginhost.Spec{Kind: kind, Name: name,
		Contracts: launch.Contracts, Timeout: launchTimeout, Wait: true}}
	for option, o := range cfg.PluginOptions[kind+"/"+name] {
		l.spec.Options = append(l.spec.Options, pluginhost.Option{Name: option, Value: o.Value, Origin: o.Origin})
	}
	if stepd != "" {
		l.spec.Options = append(l.spec.Options, pluginhost.Option{Name: "stepd", Value: stepd, Origin: "-d"})
	}
	if _, err := host.Find(kind, name); err != nil {
		return nil, fmt.Errorf("LaunchType=%s: %w", cfg.LaunchType, err)
	}
	if len(l.spec.Options) > 0 {
		if _, err := l.get(); err != nil {
			return nil, fmt.Errorf("LaunchType=%s: %w", cfg.LaunchType, err)
		}
	}
	return l, nil
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
	l.client = launch.NewClient(p)
	close(l.up)
	return l.client, nil
}

// Launch is launch.Launcher's.
func (l *lazy) Launch(ctx context.Context, r *launchv1.LaunchRequest) (*launchv1.LaunchReply, error) {
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
