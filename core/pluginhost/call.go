package pluginhost

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/plugin/wirecall"
)

var _ wirecall.Caller = (*Plugin)(nil)

// Call is wirecall.Caller's, bounded by Spec.Timeout. A call that takes longer
// is abandoned and counted.
func (p *Plugin) Call(ctx context.Context, kind, method string, payload []byte) ([]byte, error) {
	inst, timeout, err := p.serving(ctx, kind+"."+method)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	begin := time.Now()
	b, err := inst.sess.Call(ctx, kind, method, payload)
	p.account(inst, kind+"."+method, time.Since(begin), err)
	return b, err
}

// Stream is wirecall.Caller's. Only ctx bounds it.
func (p *Plugin) Stream(ctx context.Context, kind, method string, payload []byte, yield func([]byte) error) error {
	inst, _, err := p.serving(ctx, kind+"."+method)
	if err != nil {
		return err
	}
	p.stats.count()
	return inst.sess.Stream(ctx, kind, method, payload, yield)
}

// Epoch changes whenever the plugin's mirror is empty or lost, so that it needs
// a snapshot before changes. See the package comment.
func (p *Plugin) Epoch() uint64 { return p.epoch.Load() }

// Rev is how far the plugin's mirror was when it last told.
func (p *Plugin) Rev() uint64 {
	if inst := p.current(); inst != nil {
		return inst.rev.Load()
	}
	return 0
}

// PushState sends frames for the mirror of the given epoch; it does not wait
// for them to arrive. errs.State means that the epoch is over, errs.Unavail
// that no process serves: in both cases a later epoch starts with a snapshot.
func (p *Plugin) PushState(epoch uint64, frames [][]byte) error {
	const op = "pluginhost.PushState"
	p.mu.Lock()
	inst, state, now := p.inst, p.state, p.Epoch()
	p.mu.Unlock()
	if inst == nil {
		return errs.Newf(op, errs.Unavail, "%s is %s", title(p.kind, p.Name()), state)
	}
	if now != epoch {
		return errs.Newf(op, errs.State, "epoch %d is over, it is %d", epoch, now)
	}
	return inst.sess.PushState(frames)
}

// Await waits until the plugin serves.
func (p *Plugin) Await(ctx context.Context) error {
	_, err := p.await(ctx, "pluginhost.Await", true)
	return err
}

func (p *Plugin) serving(ctx context.Context, op string) (*instance, time.Duration, error) {
	p.mu.Lock()
	spec := p.spec
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, spec.Timeout)
	defer cancel()
	inst, err := p.await(ctx, op, spec.Wait)
	return inst, spec.Timeout, err
}

func (p *Plugin) await(ctx context.Context, op string, wait bool) (*instance, error) {
	for {
		p.mu.Lock()
		inst, state, changed, last := p.inst, p.state, p.changed, p.lastError
		p.mu.Unlock()
		if inst != nil {
			return inst, nil
		}
		unavailable := errs.Newf(op, errs.Unavail, "plugin %s is %s: %s", title(p.kind, p.Name()), state, last)
		if !wait || state == stateDraining || state == stateDisabled {
			return nil, unavailable
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, unavailable
		}
	}
}

// account counts a call, and an instance's overruns in a row.
func (p *Plugin) account(inst *instance, op string, took time.Duration, err error) {
	p.stats.add(took)
	if err == nil {
		inst.answered.Store(true)
	}
	if errs.KindOf(err) != errs.Deadline {
		if errs.KindOf(err) != errs.Unavail {
			inst.overruns.Store(0)
		}
		return
	}
	n := inst.overruns.Add(1)
	p.stats.overrun()
	p.mu.Lock()
	p.lastError = fmt.Sprintf("%s took longer than %v", op, took.Round(time.Millisecond))
	p.mu.Unlock()
	p.log.Warn("plugin call overran", "call", op, "after", took, "in_a_row", n)
	limit := int32(overrunsInARow)
	if inst.spec.Concurrent {
		limit = overrunsAtOnce
	}
	if n >= limit {
		select {
		case inst.bad <- fmt.Sprintf("%d calls in a row overran, the last was %s", n, op):
		default:
		}
	}
}

// stats are a plugin's calls since the daemon started.
type stats struct {
	mu       sync.Mutex
	calls    uint64
	overruns uint32
	max      time.Duration
	recent   [512]time.Duration // a ring of the last ones
}

func (s *stats) count() {
	s.mu.Lock()
	s.calls++
	s.mu.Unlock()
}

func (s *stats) add(d time.Duration) {
	s.mu.Lock()
	s.recent[s.calls%uint64(len(s.recent))] = d
	s.calls++
	s.max = max(s.max, d)
	s.mu.Unlock()
}

func (s *stats) overrun() {
	s.mu.Lock()
	s.overruns++
	s.mu.Unlock()
}

// summary returns the number of calls and overruns and the median, 99th
// percentile and maximum in microseconds.
func (s *stats) summary() (calls uint64, overruns uint32, p50, p99, most uint64) {
	s.mu.Lock()
	calls, overruns, most = s.calls, s.overruns, uint64(s.max.Microseconds())
	var times []time.Duration
	for _, d := range s.recent {
		if d > 0 {
			times = append(times, d)
		}
	}
	s.mu.Unlock()
	if len(times) > 0 {
		slices.Sort(times)
		p50 = uint64(times[len(times)/2].Microseconds())
		p99 = uint64(times[len(times)*99/100].Microseconds())
	}
	return calls, overruns, p50, p99, most
}
