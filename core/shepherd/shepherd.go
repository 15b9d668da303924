// Package shepherd supervises one step on one node: it forks the tasks as
// their user, carries their stdio, signals and reaps them, and writes what
// happened to the step's directory before it tells anyone. Package stepd
// describes the parties and the protocol.
//
// A shepherd needs neither slurmd nor the launch plugin: both may be killed
// and find it again. It is a subreaper, so that no process of the step can
// leave it; when the last task ended, whatever else is left is killed, and
// only then is the step gone. If the shepherd itself is killed, the kernel
// kills its tasks (PDEATHSIG) and the launcher, which sees the lock free,
// kills what is left of their sessions.
//
// Privileges: run by root, tasks get the user's ids before exec, and files of
// the user are opened with the user's file system ids. Run by somebody else,
// it runs tasks of that user only.
//
// The process is started for each step, so start-up time is the cost: this
// package imports little, and must not import gRPC, net/http or regexp.
package shepherd

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluice-hpc/sluice/sdk/stepd"
	"golang.org/x/sys/unix"
)

// lingerMax is how long output that nobody collected keeps the shepherd alive
// after the step's end.
const lingerMax = 60 * time.Second

// flushMax bounds how long the end waits for streams that a process outside
// of the step still holds open.
const flushMax = 2 * time.Second

// shepherd is the whole state of one step's supervisor.
type shepherd struct {
	spec   *stepd.Spec
	tasks  []*task
	hub    *hub
	lock   *os.File      // the events file
	tell   int           // descriptor that lines are told on; -1 when nobody listens
	untold []byte        // lines recorded that the next told line takes along
	last   bool          // no task is left
	forget chan struct{} // closed: nobody will attach any more
	ready  chan struct{} // closed: every task was forked, or none will be
	pumps  sync.WaitGroup

	limitsOwn bool // tasks inherit the step's limits, see ownLimits

	mu    sync.Mutex // guards usage; never held while blocking
	usage stepd.Usage

	forgetOnce sync.Once
	garbage    atomic.Uint64 // connections that said nothing of the protocol
}

// Main reads a spec from standard input, runs the step and returns the exit
// status of the process. Version is printed for -V.
func Main(args []string, version string) int {
	for _, a := range args {
		if a == "-V" || a == "--version" {
			os.Stdout.WriteString("slurm " + version + "\n")
			return 0
		}
	}
	if len(args) > 0 {
		os.Stderr.WriteString("slurmstepd: error: unexpected argument " + strconv.Quote(args[0]) +
			"; slurmd starts slurmstepd with a step on its standard input (-V prints the version)\n")
		return 2
	}
	unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
	unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

	b, err := io.ReadAll(os.Stdin)
	os.Stdin.Close()
	var spec stepd.Spec
	if err == nil {
		err = json.Unmarshal(b, &spec)
	}
	if err != nil {
		logf("reading the step from standard input: " + err.Error())
		return 1
	}
	var lock *os.File
	if spec.EventsFD != 0 {
		lock, err = stepd.LockFD(spec.EventsFD)
	} else {
		lock, err = stepd.Lock(spec.Dir)
	}
	if err != nil {
		logf(spec.Dir + ": " + err.Error())
		return 1
	}
	s := &shepherd{spec: &spec, lock: lock, tell: 1, forget: make(chan struct{}), ready: make(chan struct{}), hub: newHub()}
	return s.run()
}

// run carries the step from start to end.
func (s *shepherd) run() int {
	sp := s.spec
	if err := s.record(&stepd.Event{Kind: stepd.Began, Node: sp.Node, Job: sp.Job, Step: sp.Step,
		Restarts: sp.Restarts, UID: sp.UID, PID: os.Getpid(), TaskIDs: sp.TaskIDs}); err != nil {
		logf("recording the step's start: " + err.Error())
		return 1
	}
	if s.usesCaller() {
		if err := s.settleIn(); err != nil {
			return s.fail(failedStatus, err)
		}
	} else {
		time.AfterFunc(settleAfter, func() {
			if err := s.settleIn(); err != nil {
				logf("the step cannot be signalled: " + err.Error())
			}
		})
	}
	if err := s.makeCgroups(); err != nil {
		logf("cgroups are not used: " + err.Error())
		sp.Cgroups = nil
	}
	if status, err := s.openStreams(); err != nil {
		return s.fail(status, err)
	}
	if err := s.record(&stepd.Event{Kind: stepd.Forking}); err != nil {
		return s.fail(failedStatus, err) // nobody could tell later whether it ran
	}
	s.forkAll()
	pids := make([]uint32, len(s.tasks))
	for i, t := range s.tasks {
		pids[i] = uint32(t.pid)
	}
	s.closeTaskEnds()
	close(s.ready)
	if err := s.record(&stepd.Event{Kind: stepd.Started, PIDs: pids}); err != nil {
		// The disk is full: go on, the end matters more.
		logf("recording the tasks: " + err.Error())
	}
	s.startPumps()
	for _, t := range s.tasks {
		if t.failed {
			s.exited(t, syscall.WaitStatus(t.status))
		}
	}
	s.reap()
	s.removeCgroups()
	return s.finish(0, nil)
}

// settleAfter is how long a step runs before its supervisor opens a socket. At
// high job rates most steps are shorter, and the socket would be much of their
// cost; who has a signal for one waits for the socket or for the end.
const settleAfter = 20 * time.Millisecond

// settleIn makes the supervisor reachable, and deaf to signals that are meant
// for others.
func (s *shepherd) settleIn() error {
	// Handlers, unlike ignored signals, are not inherited by tasks.
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM,
		unix.SIGPIPE, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU)
	return s.listen()
}

// failedStatus is the status of a step that could not be set up.
const failedStatus = 1 << 8

// fail ends a step that never ran.
func (s *shepherd) fail(status uint32, err error) int {
	logf(err.Error())
	close(s.ready)
	for _, t := range s.tasks {
		s.record(&stepd.Event{Kind: stepd.Exited, Task: t.id, Status: status})
	}
	return s.finish(status, err)
}

// finish records the end, tells it, and stays until output is collected.
func (s *shepherd) finish(status uint32, cause error) int {
	e := stepd.Event{Kind: stepd.Gone, Status: status}
	for _, t := range s.tasks {
		e.Status = worse(e.Status, uint32(t.status))
		e.OOM = e.OOM || t.oom
	}
	if cause != nil {
		e.Error = cause.Error()
	}
	s.mu.Lock()
	u := s.usage
	s.mu.Unlock()
	e.Usage = &u
	if err := s.record(&e); err != nil {
		logf("recording the step's end: " + err.Error())
	}
	unix.Close(s.tell)
	s.linger()
	return 0
}

// linger waits, for a while, until attached clients have all output.
func (s *shepherd) linger() {
	flushed := make(chan struct{})
	go func() {
		s.pumps.Wait()
		close(flushed)
	}()
	limit := time.NewTimer(lingerMax)
	defer limit.Stop()
	if !s.hub.pending() {
		limit.Reset(flushMax)
	}
	select {
	case <-flushed:
	case <-limit.C:
	case <-s.forget:
		return
	}
	if s.usesCaller() && !s.hub.waitAttached(lingerMax, s.forget) {
		return
	}
	s.hub.drain(lingerMax)
}

// usesCaller reports whether somebody is expected to attach.
func (s *shepherd) usesCaller() bool {
	return s.spec.Pty || s.spec.Stdout.Kind == stepd.Caller || s.spec.Stderr.Kind == stepd.Caller ||
		s.spec.Stdin.Kind == stepd.Caller || s.spec.Stdin.Kind == stepd.Task
}

// worse is the status that a step gets of two of its tasks': the one that a
// shell would show as the greater number.
func worse(a, b uint32) uint32 {
	if rank(b) > rank(a) {
		return b
	}
	return a
}

func rank(status uint32) uint32 {
	if sig := status & 0x7f; sig != 0 {
		return 128 + sig
	}
	return status >> 8 & 0xff
}

// record appends e to the events file, and only then tells it. What another event
// follows at once waits for that one: each telling wakes the launcher.
func (s *shepherd) record(e *stepd.Event) error {
	e.Time = time.Now().Unix()
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	line := append(b, '\n')
	_, err = s.lock.Write(line)
	if s.tell >= 0 {
		s.untold = append(s.untold, line...)
	}
	wait := e.Kind == stepd.Began || e.Kind == stepd.Forking || e.Kind == stepd.Exited && s.last
	if len(s.untold) > 0 && !wait {
		if _, terr := unix.Write(s.tell, s.untold); errors.Is(terr, unix.EPIPE) {
			s.tell = -1
		}
		s.untold = nil
	}
	s.hub.event(b)
	return err
}

// logf writes a line of the supervisor's own to the log that the launcher
// gave it as standard error.
func logf(text string) {
	var b bytes.Buffer
	b.WriteString(stamp(time.Now()))
	b.WriteString(" slurmstepd: error: ")
	b.WriteString(text)
	b.WriteByte('\n')
	unix.Write(2, b.Bytes())
}

// stamp is a time as Slurm's logs print it.
func stamp(t time.Time) string { return "[" + t.Format("2006-01-02T15:04:05.000") + "]" }

// reap collects children until none is left. When the last task has ended,
// what remains is killed.
func (s *shepherd) reap() {
	byPID := make(map[int]*task, len(s.tasks))
	left := 0
	for _, t := range s.tasks {
		if !t.failed {
			byPID[t.pid] = t
			left++
		}
	}
	if left == 0 {
		s.killStrays()
	}
	for {
		var ws syscall.WaitStatus
		var ru syscall.Rusage
		pid, err := syscall.Wait4(-1, &ws, 0, &ru)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return // ECHILD: nothing is left
		}
		s.account(&ru)
		if t := byPID[pid]; t != nil {
			delete(byPID, pid)
			left--
			s.last = left == 0
			s.exited(t, ws)
		}
		if left == 0 {
			s.killStrays()
		}
	}
}

// exited records a task's end.
func (s *shepherd) exited(t *task, ws syscall.WaitStatus) {
	t.status = uint32(ws) & 0xff7f // without the core flag
	t.oom = ws.Signaled() && ws.Signal() == unix.SIGKILL && s.oomKilled()
	if err := s.record(&stepd.Event{Kind: stepd.Exited, Task: t.id, Status: t.status, OOM: t.oom,
		Core: ws.Signaled() && ws.CoreDump()}); err != nil {
		logf("recording the end of task " + strconv.Itoa(int(t.id)) + ": " + err.Error())
	}
}

// account adds what an ended process used.
func (s *shepherd) account(ru *syscall.Rusage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.usage.UserUsec += uint64(ru.Utime.Sec)*1e6 + uint64(ru.Utime.Usec)
	s.usage.SysUsec += uint64(ru.Stime.Sec)*1e6 + uint64(ru.Stime.Usec)
	s.usage.MaxRSSKiB = max(s.usage.MaxRSSKiB, uint64(ru.Maxrss))
	s.usage.Read += uint64(ru.Inblock) * 512
	s.usage.Written += uint64(ru.Oublock) * 512
}
