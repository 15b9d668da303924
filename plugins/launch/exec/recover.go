package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/launch/v1"
	"github.com/sluice-hpc/sluice/sdk/stepd"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// lockWait bounds how long a supervisor that is just starting, or just
// ending, is waited for.
const lockWait = 5 * time.Second

// young is how long a directory without events may be that of a launch in
// progress: far longer than a supervisor takes to begin.
const young = 2 * time.Second

// lockPause is the time between two looks at a lock.
const lockPause = 10 * time.Millisecond

// Recover finds the steps of a spool, running or ended. Directories of steps
// that never began are removed, under the lock.
func (l *launcher) Recover(_ context.Context, spool string) (*launchv1.RecoverReply, error) {
	l.recovering.Lock()
	defer l.recovering.Unlock()
	entries, err := os.ReadDir(spool)
	if err != nil {
		return nil, errs.Newf("launch/exec.Recover", errs.Unavail, "reading the spool: %w", err)
	}
	reply := &launchv1.RecoverReply{}
	for _, d := range entries {
		key, ok := parseDir(d.Name())
		if !ok || !d.IsDir() {
			continue
		}
		if s := l.adopt(key, filepath.Join(spool, d.Name())); s != nil {
			reply.Steps = append(reply.Steps, l.running(s))
		}
	}
	return reply, nil
}

// parseDir reads a directory's name, <job>.<step>.
func parseDir(name string) (k stepKey, ok bool) {
	job, step, ok := strings.Cut(name, ".")
	if !ok {
		return k, false
	}
	j, err := strconv.ParseUint(job, 10, 32)
	if err != nil {
		return k, false
	}
	s, err := wlm.ParseStepID(step)
	if err != nil {
		return k, false
	}
	return stepKey{uint32(j), uint32(s)}, true
}

// adopt takes over a step that an earlier launcher started; nil: there was
// none.
func (l *launcher) adopt(key stepKey, dir string) *step {
	l.mu.Lock()
	have := l.steps[key]
	l.mu.Unlock()
	if have != nil {
		return have
	}
	events := begun(dir)
	if len(events) == 0 || neverRan(dir) {
		return nil
	}
	b := &events[0]
	s := &step{key: key, dir: dir, node: b.Node, restarts: b.Restarts, uid: b.UID, ids: b.TaskIDs, pid: b.PID}
	l.mu.Lock()
	if have = l.steps[s.key]; have == nil {
		l.steps[s.key] = s
	}
	l.mu.Unlock()
	if have != nil {
		return have // launched meanwhile
	}
	for i := range events {
		l.happened(s, i, &events[i])
	}
	if l.isGone(s) {
		return s
	}
	if lock, err := stepd.Lock(dir); !errors.Is(err, stepd.ErrLocked) {
		l.bury(s, lock, err)
	} else {
		go l.settle(s)
	}
	return s
}

// neverRan reports whether a step's supervisor died before it forked a task, and
// removes the step then: it can be launched again.
func neverRan(dir string) bool {
	lock, err := stepd.Lock(dir)
	if err != nil {
		return false // it lives, or cannot be told
	}
	defer lock.Close()
	events, err := stepd.ReadEvents(dir)
	if err != nil || len(events) != 1 || events[0].Kind != stepd.Began {
		return false
	}
	return os.RemoveAll(dir) == nil
}

// begun reads a step's events, waiting for the first of a supervisor that is
// just starting. A directory without a supervisor and without events is
// removed.
func begun(dir string) []stepd.Event {
	for end := time.Now().Add(lockWait); ; time.Sleep(lockPause) {
		events, err := stepd.ReadEvents(dir)
		if len(events) > 0 {
			return events
		}
		// A young directory may be in the making, by a launch that goes on beside
		// this: its supervisor must find neither the directory gone nor the lock
		// taken.
		if st, serr := os.Stat(dir); serr == nil && time.Since(st.ModTime()) < young {
			continue
		}
		lock, lerr := stepd.Lock(dir)
		switch {
		case err != nil || lerr == nil:
			os.RemoveAll(dir)
			if lock != nil {
				lock.Close()
			}
			return nil
		case time.Now().After(end):
			return nil
		}
	}
}

// running describes a step for the node.
func (l *launcher) running(s *step) *launchv1.RunningStep {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := &launchv1.RunningStep{Step: &launchv1.StepRef{Job: s.key.job, Step: s.key.step, Node: s.node},
		Restarts: s.restarts, TaskIds: s.ids, Pids: s.pids, Socket: s.socket(), Supervisor: uint32(s.pid), Uid: s.uid}
	for _, h := range s.told {
		if t := h.GetTask(); t != nil {
			m.Exits = append(m.Exits, t)
		}
		if g := h.GetGone(); g != nil {
			m.Gone = g
		}
	}
	return m
}

// orphaned ends a step whose supervisor was killed: what is left of its tasks'
// sessions is killed too.
func orphaned(s *step, cause error) *stepd.Event {
	killSessions(s)
	text := "slurmstepd was killed"
	if cause != nil {
		text = fmt.Sprintf("%s: %v", text, cause)
	}
	return &stepd.Event{Kind: stepd.Gone, Time: time.Now().Unix(), Error: text,
		Status: uint32(wlm.SignalStatus(int(syscall.SIGKILL)))}
}

// killSessions kills processes in the sessions of the step's tasks. The kernel
// may have given a task's number to somebody else since: only processes that
// carry the job's id in their environment are touched.
func killSessions(s *step) {
	if len(s.pids) == 0 {
		return
	}
	mark := []byte("\x00SLURM_JOB_ID=" + strconv.Itoa(int(s.key.job)) + "\x00")
	names, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return
	}
	for _, dir := range names {
		stat, err := os.ReadFile(dir + "/stat")
		if err != nil {
			continue
		}
		f := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		const session = 3 // of the fields after the name
		if len(f) <= session {
			continue
		}
		sid, err := strconv.ParseUint(string(f[session]), 10, 32)
		if err != nil || !slices.Contains(s.pids, uint32(sid)) {
			continue
		}
		env, err := os.ReadFile(dir + "/environ")
		if err != nil || !bytes.Contains(append([]byte{0}, env...), mark) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}
