package srun

import (
	"context"
	"os"
	"syscall"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

const (
	together    = 20 * time.Millisecond // ends of tasks within this are told in one line
	twice       = time.Second           // two interrupts within this mean it
	warnAfter   = 60 * time.Second      // of tasks that outlive the first
	defaultKill = 30 * time.Second      // Slurm's KillWait
	aborted     = 130                   // exit code after the third interrupt
)

// supervisor is the loop of a running step: one goroutine, which hears of
// everything and decides.
type supervisor struct {
	*step
	ctx   context.Context
	news  chan event
	open  int // nodes that run
	sigs  *signals
	timer struct{ flush, wait, warn, kill <-chan time.Time }

	interrupts  int
	interrupted time.Time
	aborting    bool
	launchError string
}

// supervise launches the step on its nodes and returns when all are done:
// srun's exit code, and the status of the step.
func (s *step) supervise(ctx context.Context, sigs *signals) (int, wlm.WaitStatus) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	v := &supervisor{step: s, ctx: ctx, news: make(chan event, 64), open: len(s.nodes), sigs: sigs}
	threads := make(chan struct{}, max(s.Request.Step.MaxThreads, 64))
	for _, n := range s.nodes {
		go func() {
			threads <- struct{}{}
			n.run(ctx, v.news)
			<-threads
		}()
	}
	s.startInput(ctx)
	for v.open > 0 {
		select {
		case e := <-v.news:
			v.hear(e)
		case sig := <-sigs.c:
			if code := v.signalled(sig); code != 0 {
				return code, wlm.SignalStatus(int(syscall.SIGINT))
			}
		case <-v.timer.flush:
			v.timer.flush = nil
			s.status.flush()
		case <-v.timer.wait:
			s.Infof("First task exited %ds ago", s.waitTime())
			s.status.report()
			v.terminate()
		case <-v.timer.warn:
			v.timer.warn = nil
			s.Warningf("First task exited %ds ago", int(warnAfter.Seconds()))
			s.status.report()
		case <-v.timer.kill:
			v.timer.kill = nil
			v.signal(syscall.SIGKILL)
		case <-s.out.broken:
			s.out.broken = nil
			v.signal(syscall.SIGPIPE)
		}
	}
	return v.result()
}

// result is how the step went.
func (v *supervisor) result() (int, wlm.WaitStatus) {
	v.restore()
	v.status.flush()
	if v.launchError != "" {
		v.Errorf("Application launch failed: %s", v.launchError)
		v.Infof("Job step aborted")
		return max(v.status.code, 1), wlm.ExitStatus(max(v.status.code, 1))
	}
	if v.status.signal && !v.status.killed {
		v.Infof("Force Terminated %s", v.step)
	}
	return v.status.code, v.status.status
}

// hear takes news of a node.
func (v *supervisor) hear(e event) {
	switch m := e.msg; {
	case e.over:
		v.open--
		v.over(e)
	case m.GetLaunched() != nil:
		if text := m.GetLaunched().GetError(); text != "" {
			v.failLaunch(e.node, text)
			return
		}
		v.status.launched(m.GetLaunched())
		v.Verbosef(1, "%s: launched %d tasks", e.node.name, len(m.GetLaunched().GetTaskIds()))
	case m.GetEnded() != nil:
		v.ended(e.node, m.GetEnded())
	case m.GetDone() != nil:
		if text := m.GetDone().GetError(); text != "" {
			v.failLaunch(e.node, text)
		}
	}
}

// over ends a node's share, well or not.
func (v *supervisor) over(e event) {
	if e.err == nil || v.status.allOf(e.node) {
		return
	}
	if !e.node.launched {
		v.failLaunch(e.node, text(e.err))
	} else if v.ctx.Err() == nil {
		v.status.flush()
		v.Errorf("Node failure on %s: %s", e.node.name, text(e.err))
		if !v.Request.Spec.NoKill {
			v.terminate()
		}
	}
	v.status.lose(e.node)
}

// text is the short form of an error.
func text(err error) string {
	if c := errs.CodeOf(err); c != 0 {
		return c.String()
	}
	return err.Error()
}

// failLaunch: a node could not start its tasks, so no node shall run any.
func (v *supervisor) failLaunch(n *node, why string) {
	v.Errorf("Task launch for %s failed on node %s: %s", v.step, n.name, why)
	v.status.lose(n)
	if v.launchError == "" {
		v.launchError = why
		v.signal(syscall.SIGKILL)
		v.status.killed = true
	}
}

// ended takes note of a task's end, and ends the step if that is asked for.
func (v *supervisor) ended(n *node, m *nodev1.TaskEnded) {
	v.status.end(m)
	if v.status.allOf(n) {
		v.status.flush()
	} else if v.timer.flush == nil {
		v.timer.flush = time.After(together)
	}
	if v.work.GetKillOnBadExit() && v.status.failed && !v.status.killed {
		v.status.flush()
		v.terminate()
	}
	if v.status.ended == 1 && len(v.status.ids) > 1 {
		if w := v.waitTime(); w > 0 {
			v.timer.wait = time.After(time.Duration(w) * time.Second)
		} else {
			v.timer.warn = time.After(warnAfter)
		}
	}
}

// terminate ends the step's tasks: SIGCONT, SIGTERM, and SIGKILL after
// KillWait.
func (v *supervisor) terminate() {
	v.timer.wait, v.timer.warn = nil, nil
	if v.status.killed {
		return
	}
	v.status.killed = true
	v.Infof("Terminating %s", v.step)
	v.kill()
}

func (v *supervisor) kill() {
	v.signal(syscall.SIGCONT)
	v.signal(syscall.SIGTERM)
	v.timer.kill = time.After(v.killWait())
}

func (v *supervisor) killWait() time.Duration { return v.Conf.Seconds("KillWait", defaultKill) }

// signal sends sig to all tasks.
func (v *supervisor) signal(sig syscall.Signal) {
	for _, n := range v.nodes {
		n.send(&nodev1.RunStepIn{Body: &nodev1.RunStepIn_Signal{Signal: &nodev1.TaskSignal{Signal: uint32(sig)}}})
	}
}

// signalled handles a signal to srun: interrupts by their own rules, others
// go on to the tasks. A result other than 0 ends srun at once.
func (v *supervisor) signalled(sig os.Signal) int {
	switch sig {
	case syscall.SIGWINCH:
		v.resize()
	case syscall.SIGINT:
		return v.interrupt()
	case syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGCHLD, syscall.SIGURG, syscall.SIGPIPE:
	default:
		v.signal(sig.(syscall.Signal))
	}
	return 0
}

func (v *supervisor) interrupt() int {
	now := time.Now()
	again := v.interrupts > 0 && now.Sub(v.interrupted) <= twice
	v.interrupts++
	v.interrupted = now
	switch {
	case v.aborting:
		v.Infof("forcing job termination")
		return aborted
	case v.Request.Step.Pty:
		v.signal(syscall.SIGINT)
	case !again && v.Request.Step.NoStatus && !v.Request.Step.QuitOnIntr:
		v.Infof("sending Ctrl-C to %s", v.step)
		v.signal(syscall.SIGINT)
	case again, v.Request.Step.QuitOnIntr:
		v.aborting, v.status.killed = true, true
		v.Infof("sending Ctrl-C to %s", v.step)
		v.signal(syscall.SIGINT)
		const grace = 2 * time.Second // beyond KillWait, as Slurm counts
		v.Infof("Job step aborted: Waiting up to %d seconds for job step to finish.", int((v.killWait() + grace).Seconds()))
		v.kill()
	default:
		v.Infof("interrupt (one more within 1 sec to abort)")
		v.status.report()
	}
	return 0
}
