package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/launch"
	"github.com/sluice-hpc/sluice/sdk/proto/launch/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

var _ launch.Launcher = (*sim)(nil)

// noteFile is the file in a step's directory that keeps what is pretended.
const noteFile = "sim"

// sim pretends to run steps.
type sim struct {
	fallback time.Duration

	mu    sync.Mutex // guards all below
	steps map[key]*step
	queue []*launchv1.Happening
	wake  chan struct{} // a token: queue is not empty
}

type key struct {
	node      string
	job, step uint32
}

// step is a step that is pretended, and the note of it.
type step struct {
	Node     string
	Job      uint32
	Step     uint32
	Restarts uint32
	UID      uint32
	TaskIDs  []uint32
	End      time.Time
	Status   uint32        // with which it ends, or did
	Over     bool          `json:",omitempty"` // a signal ended it, at End
	Stop     bool          `json:",omitempty"`
	Left     time.Duration `json:",omitempty"` // while it is stopped

	dir   string
	timer *time.Timer
	told  []*launchv1.Happening
	gone  bool
}

func newSim(fallback time.Duration) *sim {
	return &sim{fallback: fallback, steps: make(map[key]*step), wake: make(chan struct{}, 1)}
}

func (s *step) key() key { return key{s.Node, s.Job, s.Step} }
func (s *step) ref() *launchv1.StepRef {
	return &launchv1.StepRef{Job: s.Job, Step: s.Step, Node: s.Node}
}

// Launch starts a timer.
func (l *sim) Launch(_ context.Context, r *launchv1.LaunchRequest) (*launchv1.LaunchReply, error) {
	const op = "launch/sim.Launch"
	length, status, err := l.script(r)
	if err != nil {
		return nil, errs.Newf(op, errs.Invalid, "job %d: %w", r.GetJob(), err)
	}
	s := &step{Node: r.GetNode(), Job: r.GetJob(), Step: r.GetStep(), Restarts: r.GetRestarts(), UID: r.GetUid(),
		TaskIDs: r.GetTaskIds(), Status: uint32(status), End: time.Now().Add(length)}
	s.dir = r.GetStepDir()
	l.mu.Lock() // also while the note is written: Recover must not find half of one
	defer l.mu.Unlock()
	if l.steps[s.key()] != nil {
		return nil, errs.Newf(op, errs.Exists, "job %d step %s was launched before", s.Job, wlm.StepID(s.Step))
	}
	if err := s.write(); err != nil {
		return nil, errs.Newf(op, errs.Exhausted, "writing the step's note: %w", err)
	}
	l.steps[s.key()] = s
	l.startLocked(s, length)
	return &launchv1.LaunchReply{Pids: make([]uint32, len(s.TaskIDs))}, nil
}

// script is how long the step runs and how it ends.
func (l *sim) script(r *launchv1.LaunchRequest) (time.Duration, wlm.WaitStatus, error) {
	length := l.fallback
	if r.GetSimSeconds() > 0 {
		length = time.Duration(r.GetSimSeconds()) * time.Second
	}
	var status wlm.WaitStatus
	for line := range bytes.Lines(r.GetScript()) {
		rest, ok := strings.CutPrefix(string(bytes.TrimSpace(line)), "#SIM ")
		if !ok {
			continue
		}
		for _, f := range strings.Fields(rest) {
			name, value, _ := strings.Cut(f, "=")
			x, err := strconv.ParseFloat(value, 64)
			switch {
			case err != nil || x < 0:
				return 0, 0, errs.Newf("launch/sim.script", errs.Invalid, "#SIM %s: a number of at least 0 is allowed", f)
			case name == "seconds":
				length = time.Duration(x * float64(time.Second))
			case name == "exit":
				status = wlm.ExitStatus(int(x))
			default:
				return 0, 0, errs.Newf("launch/sim.script", errs.Invalid, "#SIM %s: seconds= and exit= are allowed", f)
			}
		}
	}
	return length, status, nil
}

// write replaces the step's note as a whole: whoever is killed here leaves the
// old one or the new one.
func (s *step) write() error {
	if s.dir == "" {
		return nil
	}
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.dir, 0o711); err != nil {
		return err
	}
	fresh := filepath.Join(s.dir, noteFile+".new")
	if err := os.WriteFile(fresh, b, 0o600); err != nil {
		return err
	}
	return os.Rename(fresh, filepath.Join(s.dir, noteFile))
}

func (l *sim) startLocked(s *step, length time.Duration) {
	s.timer = time.AfterFunc(length, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if !s.Stop {
			l.endLocked(s, s.Status)
		}
	})
}

func (l *sim) endLocked(s *step, status uint32) {
	if s.gone {
		return
	}
	if s.timer != nil {
		s.timer.Stop()
	}
	s.gone = true
	now := time.Now().Unix()
	for _, id := range s.TaskIDs {
		s.told = append(s.told, &launchv1.Happening{Step: s.ref(), Restarts: s.Restarts, Body: &launchv1.Happening_Task{
			Task: &launchv1.TaskExit{TaskId: id, Status: status, Time: now}}})
	}
	s.told = append(s.told, &launchv1.Happening{Step: s.ref(), Restarts: s.Restarts, Body: &launchv1.Happening_Gone{
		Gone: &launchv1.StepGone{Status: status, Usage: &launchv1.Usage{}, Time: now}}})
	if l.steps[s.key()] == s {
		l.queue = append(l.queue, s.told...)
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

// Signal ends a step by a signal that would; a stopped step does not end.
func (l *sim) Signal(_ context.Context, r *launchv1.SignalRequest) error {
	const (
		sigkill = 9
		sigusr1 = 10
		sigusr2 = 12
		sigcont = 18
		sigstop = 19
		sigtstp = 20
	)
	l.mu.Lock()
	defer l.mu.Unlock()
	ref := r.GetStep()
	s := l.steps[key{ref.GetNode(), ref.GetJob(), ref.GetStep()}]
	if s == nil || s.gone {
		return errs.Newf("launch/sim.Signal", errs.NotFound, "job %d step %s does not run here", ref.GetJob(), wlm.StepID(ref.GetStep()))
	}
	switch sig := r.GetSignal(); sig {
	case 0, sigusr1, sigusr2, 17, 23, 28: // nothing, or ignored by default
		return nil
	case sigstop, sigtstp:
		if !s.Stop {
			s.timer.Stop()
			s.Stop, s.Left = true, time.Until(s.End)
		}
	case sigcont:
		if s.Stop {
			s.Stop, s.End = false, time.Now().Add(s.Left)
			l.startLocked(s, s.Left)
		}
	default:
		if s.Stop && sig != sigkill {
			return nil
		}
		s.Over, s.Status, s.End = true, sig, time.Now()
		err := s.write() // before anybody hears of it
		l.endLocked(s, sig)
		return noted(err)
	}
	return noted(s.write())
}

func noted(err error) error {
	if err != nil {
		return errs.Newf("launch/sim.Signal", errs.Exhausted, "writing the step's note: %w", err)
	}
	return nil
}

// Watch tells first what is kept of every step, then what happens.
func (l *sim) Watch(ctx context.Context, tell func(*launchv1.Happening) error) error {
	l.mu.Lock()
	var batch []*launchv1.Happening
	for _, s := range l.steps {
		batch = append(batch, s.told...)
	}
	l.queue = nil
	l.mu.Unlock()
	for {
		for _, h := range batch {
			if err := tell(h); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-l.wake:
		}
		l.mu.Lock()
		batch, l.queue = l.queue, nil
		l.mu.Unlock()
	}
}

// Recover goes on with the steps of a spool.
func (l *sim) Recover(_ context.Context, spool string) (*launchv1.RecoverReply, error) {
	notes, err := filepath.Glob(filepath.Join(spool, "*.*", noteFile))
	if err != nil {
		return nil, errs.Newf("launch/sim.Recover", errs.Invalid, "spool %q: %w", spool, err)
	}
	reply := &launchv1.RecoverReply{}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, path := range notes {
		s := &step{dir: filepath.Dir(path)}
		b, err := os.ReadFile(path)
		if err != nil || json.Unmarshal(b, s) != nil || len(s.TaskIDs) == 0 {
			os.RemoveAll(s.dir)
			continue
		}
		if have := l.steps[s.key()]; have != nil {
			s = have
		} else {
			l.steps[s.key()] = s
			switch {
			case s.Over:
				l.endLocked(s, s.Status)
			case s.Stop:
				l.startLocked(s, s.Left)
			default:
				l.startLocked(s, time.Until(s.End))
			}
		}
		m := &launchv1.RunningStep{Step: s.ref(), Restarts: s.Restarts, TaskIds: s.TaskIDs, Uid: s.UID, Pids: make([]uint32, len(s.TaskIDs))}
		for _, h := range s.told {
			if t := h.GetTask(); t != nil {
				m.Exits = append(m.Exits, t)
			}
			if g := h.GetGone(); g != nil {
				m.Gone = g
			}
		}
		reply.Steps = append(reply.Steps, m)
	}
	return reply, nil
}

// Stats has nothing to tell.
func (l *sim) Stats(context.Context, *launchv1.StepRef) (*launchv1.StatsReply, error) {
	return &launchv1.StatsReply{Usage: &launchv1.Usage{}}, nil
}

// Forget drops an ended step.
func (l *sim) Forget(_ context.Context, ref *launchv1.StepRef) error {
	l.mu.Lock()
	k := key{ref.GetNode(), ref.GetJob(), ref.GetStep()}
	s := l.steps[k]
	if s != nil && !s.gone {
		l.mu.Unlock()
		return errs.Newf("launch/sim.Forget", errs.State, "job %d step %s still runs", ref.GetJob(), wlm.StepID(ref.GetStep()))
	}
	delete(l.steps, k)
	l.mu.Unlock()
	if s != nil && s.dir != "" {
		os.RemoveAll(s.dir)
	}
	return nil
}
