package pluginhost

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/plugin/wirecall"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
)

// Candidate is a process beside the one that serves a [Plugin]. It can be fed
// and called, and nobody does but its maker, until Adopt lets it take over or
// Discard ends it; one of the two must be called.
type Candidate struct {
	p    *Plugin
	inst *instance
	how  takeover
	over atomic.Bool // adopted or discarded
}

var _ wirecall.Caller = (*Candidate)(nil)

// takeover says what a swap means for the plugin's record.
type takeover int

const (
	reloaded takeover = iota // this is what should serve from now on
	standIn                  // the fallback, while the plugin is disabled
)

// Prepare starts another program, or the same with other options, beside the
// one that serves, which notices nothing. The kind must stay;
// Spec.NeedSnapshot does. An error says in a line why the program cannot serve.
func (p *Plugin) Prepare(ctx context.Context, spec Spec) (*Candidate, error) {
	const op = "pluginhost.Prepare"
	if spec.Kind != p.kind {
		return nil, errs.Newf(op, errs.Invalid, "%s cannot replace a plugin of the kind %s", title(spec.Kind, spec.Name), p.kind)
	}
	if spec.Timeout == 0 {
		spec.Timeout = defaultTimeout
	}
	inst, err := p.launch(ctx, spec)
	if err != nil {
		return nil, err
	}
	return &Candidate{p: p, inst: inst}, nil
}

// PrepareFallback is Prepare of the fallback, which takes over while the
// plugin is disabled.
func (p *Plugin) PrepareFallback(ctx context.Context) (*Candidate, error) {
	p.mu.Lock()
	state := p.state
	p.mu.Unlock()
	if state == stateDisabled {
		return nil, errs.Newf("pluginhost.Disable", errs.State, "%s is disabled already", title(p.kind, p.Name()))
	}
	spec, err := p.standIn()
	if err != nil {
		return nil, err
	}
	c, err := p.Prepare(ctx, fallbackOf(spec))
	if err == nil {
		c.how = standIn
	}
	return c, err
}

// standIn is the plugin's spec, if another can take over from it.
func (p *Plugin) standIn() (Spec, error) {
	spec := p.Spec()
	switch {
	case spec.Fallback == "":
		return spec, errs.Newf("pluginhost.Disable", errs.Unsupport,
			"%s cannot be disabled, since nothing could take over; reload another plugin in its place", title(p.kind, spec.Name))
	case spec.Fallback == spec.Name && spec.Path == "":
		return spec, errs.Newf("pluginhost.Disable", errs.Unsupport,
			"%s cannot be disabled, since it is the fallback itself", title(p.kind, spec.Name))
	}
	return spec, nil
}

// Spec is what the plugin was last configured or reloaded to be, also while the
// fallback serves.
func (p *Plugin) Spec() Spec {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.spec
}

// Disabled reports whether an administrator took the plugin out of service.
func (p *Plugin) Disabled() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.disabled
}

// Respec changes what a disabled plugin will be when it is enabled. It reports
// false, and does nothing, for one that is in service.
func (p *Plugin) Respec(spec Spec) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.disabled {
		return false
	}
	if spec.Timeout == 0 {
		spec.Timeout = defaultTimeout
	}
	spec.NeedSnapshot = p.spec.NeedSnapshot
	p.spec = spec
	return true
}

// Disable ends the service of a plugin that others can do without
// (Spec.Optional), until Enable or a swap. Its calls fail meanwhile.
func (p *Plugin) Disable(ctx context.Context) error {
	const op = "pluginhost.Disable"
	p.mu.Lock()
	spec, disabled := p.spec, p.disabled
	p.mu.Unlock()
	switch {
	case disabled:
		return errs.Newf(op, errs.State, "%s is disabled already", title(p.kind, spec.Name))
	case !spec.Optional:
		return errs.Newf(op, errs.Unsupport, "%s cannot be disabled: it is needed", title(p.kind, spec.Name))
	}
	return p.swapTo(ctx, op, swap{done: make(chan struct{})})
}

// Call is wirecall.Caller's, bounded by Spec.Timeout.
func (c *Candidate) Call(ctx context.Context, kind, method string, payload []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.inst.spec.Timeout)
	defer cancel()
	return c.inst.sess.Call(ctx, kind, method, payload)
}

// Stream is wirecall.Caller's. Only ctx bounds it.
func (c *Candidate) Stream(ctx context.Context, kind, method string, payload []byte, yield func([]byte) error) error {
	return c.inst.sess.Stream(ctx, kind, method, payload, yield)
}

// Epoch is as Plugin.Epoch, for the candidate's own mirror.
func (c *Candidate) Epoch() uint64 { return 1 + c.inst.lost.Load() }

// PushState is as Plugin.PushState, for the candidate's own mirror.
func (c *Candidate) PushState(epoch uint64, frames [][]byte) error {
	if now := c.Epoch(); now != epoch {
		return errs.Newf("pluginhost.PushState", errs.State, "epoch %d is over, it is %d", epoch, now)
	}
	return c.inst.sess.PushState(frames)
}

// Info tells about the candidate's process.
func (c *Candidate) Info() *ctlv1.PluginInfo {
	i := &ctlv1.PluginInfo{Kind: c.p.kind, State: stateStarting, Host: c.p.host.cfg.HostName}
	c.inst.describe(i)
	return i
}

// Check says why the candidate cannot take over; nil while it can.
func (c *Candidate) Check() error {
	const op = "pluginhost.Check"
	name := title(c.p.kind, c.inst.spec.Name)
	select {
	case <-c.inst.proc.Exited():
		return errs.Newf(op, errs.Unavail, "%s ended while it was tried: %s", name, c.inst.proc.State())
	case <-c.inst.sess.Done():
		select { // the exit status says more
		case <-c.inst.proc.Exited():
			return c.Check()
		case <-time.After(statusWait):
		}
		return errs.Newf(op, errs.Unavail, "%s ended its session while it was tried: %v", name, c.inst.sess.Err())
	default:
		return nil
	}
}

// Adopt lets the candidate serve. Calls that run end where they began; the old
// process is drained and ended meanwhile. On an error the old one still serves
// and the candidate is gone.
func (c *Candidate) Adopt(ctx context.Context) error {
	const op = "pluginhost.Adopt"
	if c.over.Swap(true) {
		return errs.Newf(op, errs.Internal, "adopted twice")
	}
	err := c.Check()
	if err == nil {
		err = c.p.swapTo(ctx, op, swap{inst: c.inst, how: c.how, done: make(chan struct{})})
	}
	if err != nil {
		c.inst.stop()
	}
	return err
}

// Discard ends the candidate. It may be called after Adopt, and does nothing
// then.
func (c *Candidate) Discard() {
	if !c.over.Swap(true) {
		c.inst.stop()
	}
}

// swapTo hands a swap to the watcher.
func (p *Plugin) swapTo(ctx context.Context, op string, s swap) error {
	select {
	case p.swaps <- s:
		<-s.done
		return nil
	case <-p.ctx.Done():
		return errs.Newf(op, errs.Unavail, "%s is being closed", title(p.kind, p.Name()))
	case <-ctx.Done():
		return errs.Newf(op, errs.Deadline, "%w", ctx.Err())
	}
}

// Replace prepares another program and lets it take over between two calls. On
// an error everything stays as it was.
func (p *Plugin) Replace(ctx context.Context, spec Spec) error {
	c, err := p.Prepare(ctx, spec)
	if err != nil {
		return err
	}
	return c.Adopt(ctx)
}

// fallbackOf is what to start in place of a plugin.
func fallbackOf(spec Spec) Spec {
	f := spec
	f.Name, f.Path, f.Options = spec.Fallback, "", nil
	f.Shared = append(append([]Option(nil), spec.Shared...), spec.Options...)
	return f
}

func (s Spec) String() string { return fmt.Sprintf("%s/%s", s.Kind, s.Name) }
