package pluginhost

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// watch owns the processes of the plugin: it replaces one that went bad, until
// Close. After Start it is the only goroutine that installs. nil is what again
// and rest return after Close.
func (p *Plugin) watch(inst *instance) {
	defer close(p.done)
	defer p.ending.Wait()
	for inst != nil {
		why, next := p.untilBad(inst)
		switch {
		case next != nil && next.inst == nil:
			old := inst
			inst = p.rest(old, next)
		case next != nil:
			p.takeOver(next)
			old := inst
			p.ending.Go(func() { p.retire(old) })
			inst = next.inst
		case why == "":
			p.withdraw(stateDraining, "")
			p.end(inst)
			return
		default:
			p.withdraw(stateRestarting, why)
			p.log.Error("plugin went bad", "serving", title(inst.spec.Kind, inst.spec.Name), "pid", inst.proc.PID(), "why", why)
			inst.stop()
			inst = p.again(inst)
		}
	}
	p.withdraw(stateDraining, "")
}

const statusWait = 50 * time.Millisecond // for the exit status that explains a broken session

// untilBad waits until the instance must go, and tells why, or until another
// one is to take over. No reason and no other instance mean Close.
func (p *Plugin) untilBad(inst *instance) (why string, next *swap) {
	health := time.NewTicker(healthInterval)
	defer health.Stop()
	pinged := make(chan error, 1)
	pinging := false
	for {
		select {
		case <-p.ctx.Done():
			return "", nil
		case s := <-p.swaps:
			return "", &s
		case <-inst.proc.Exited():
			return "the process ended: " + inst.proc.State(), nil
		case <-inst.sess.Done():
			select {
			case <-inst.proc.Exited():
				return "the process ended: " + inst.proc.State(), nil
			case <-time.After(statusWait):
				return fmt.Sprintf("the session ended: %v", inst.sess.Err()), nil
			}
		case why := <-inst.bad:
			return why, nil
		case <-health.C:
			if why := inst.cage.excess(inst.proc.PID(), time.Now()); why != "" {
				return why, nil
			}
			if !pinging {
				pinging = true
				go func() {
					ctx, cancel := context.WithTimeout(p.ctx, healthTimeout)
					defer cancel()
					pinged <- inst.sess.Ping(ctx)
				}()
			}
		case err := <-pinged:
			pinging = false
			if err != nil && p.ctx.Err() == nil {
				return fmt.Sprintf("it does not answer the health check: %v", err), nil
			}
		}
	}
}

// again starts the plugin anew, or its fallback, until one serves; nil after
// Close.
func (p *Plugin) again(old *instance) *instance {
	spec := old.spec
	if time.Since(old.since) > giveUpWindow || old.answered.Load() {
		p.streak = 0 // it works, whatever ended it
	}
	for {
		pause, giveUp := p.countRestart()
		if giveUp {
			if f, ok := p.fallback(); ok {
				spec, pause = f, 0
			} else {
				pause = max(pause, loopPause)
			}
		}
		select {
		case <-p.ctx.Done():
			return nil
		case s := <-p.swaps:
			if s.inst == nil {
				return p.rest(nil, &s)
			}
			p.takeOver(&s)
			return s.inst
		case <-time.After(pause):
		}
		inst, err := p.launch(p.ctx, spec)
		if err == nil {
			p.install(inst)
			return inst
		}
		if p.ctx.Err() != nil {
			return nil
		}
		p.withdraw(stateRestarting, err.Error())
		p.log.Error("plugin does not start", "serving", title(spec.Kind, spec.Name), "error", err)
	}
}

// countRestart notes a restart and says how long to wait before it, and
// whether there were so many that the fallback should take over.
func (p *Plugin) countRestart() (pause time.Duration, giveUp bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.restarts = slices.DeleteFunc(p.restarts, func(t time.Time) bool { return now.Sub(t) > giveUpWindow })
	giveUp = len(p.restarts) >= giveUpRestarts
	p.restarts = append(p.restarts, now)
	p.restarted++
	p.streak++
	if p.streak > 1 {
		pause = min(firstPause<<min(p.streak-2, 20), longestPause)
	}
	return pause, giveUp
}

// fallback is what to start in place of the plugin, once.
func (p *Plugin) fallback() (Spec, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.onward {
		return Spec{}, false
	}
	if p.spec.Fallback == "" || p.spec.Fallback == p.spec.Name && p.spec.Path == "" {
		p.log.Error("plugin ended too often and has no fallback: trying on", "restarts", giveUpRestarts, "within", giveUpWindow, "last", p.lastError)
		return Spec{}, false
	}
	p.onward, p.streak, p.restarts = true, 0, nil
	f := fallbackOf(p.spec)
	p.log.Error("plugin ended too often: the fallback takes over until the plugin is reloaded", "fallback", title(f.Kind, f.Name),
		"restarts", giveUpRestarts, "within", giveUpWindow, "last", p.lastError)
	return f, true
}

// takeOver lets another instance serve, with a clean record.
func (p *Plugin) takeOver(s *swap) {
	p.mu.Lock()
	p.onward, p.disabled, p.streak, p.restarts, p.lastError = s.how == standIn, s.how == standIn, 0, nil, ""
	if s.how == reloaded {
		p.spec = s.inst.spec
	}
	p.mu.Unlock()
	p.install(s.inst)
	close(s.done)
}

// rest keeps a disabled plugin without a process until another takes over; nil
// after Close.
func (p *Plugin) rest(old *instance, s *swap) *instance {
	p.mu.Lock()
	p.disabled = true
	p.mu.Unlock()
	p.withdraw(stateDisabled, "")
	p.log.Warn("plugin disabled by an administrator")
	if old != nil {
		p.ending.Go(func() { p.retire(old) })
	}
	close(s.done)
	for {
		select {
		case <-p.ctx.Done():
			return nil
		case next := <-p.swaps:
			if next.inst == nil {
				close(next.done)
				continue
			}
			p.takeOver(&next)
			return next.inst
		}
	}
}

// retire ends an instance that was swapped out: calls that run may take as long
// as they are allowed to, unless the plugin is closed.
func (p *Plugin) retire(inst *instance) {
	ctx, cancel := context.WithTimeout(context.Background(), min(inst.spec.Timeout, retireTimeout))
	defer cancel()
	stop := context.AfterFunc(p.ctx, func() { time.AfterFunc(drainTimeout, cancel) })
	defer stop()
	p.drain(ctx, inst)
}

// Close drains the plugin and ends its process. Calls that run have until ctx
// ends, two seconds at most.
func (p *Plugin) Close(ctx context.Context) {
	p.mu.Lock()
	if p.closing == nil {
		p.closing = ctx
	}
	p.mu.Unlock()
	p.cancel()
	<-p.done
	p.host.forget(p)
}

// end drains an instance that serves no new calls, then stops it.
func (p *Plugin) end(inst *instance) {
	p.mu.Lock()
	ctx := p.closing
	p.mu.Unlock()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	p.drain(ctx, inst)
}

func (p *Plugin) drain(ctx context.Context, inst *instance) {
	if err := inst.sess.Drain(ctx); err != nil {
		p.log.Warn("plugin was stopped in the middle of calls", "pid", inst.proc.PID(), "error", err)
	}
	inst.stop()
}
