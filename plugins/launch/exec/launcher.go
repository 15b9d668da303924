package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/launch"
	"github.com/sluice-hpc/sluice/sdk/proto/launch/v1"
	"github.com/sluice-hpc/sluice/sdk/stepd"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

var _ launch.Launcher = (*launcher)(nil)

// launcher starts supervisors and follows them. Everything it knows can be
// read again from the spool.
type launcher struct {
	stepd string // path of slurmstepd
	host  int    // pid of the node daemon, whose death ends this process too

	recovering sync.Mutex // held by Recover: two would mistake each other's locks

	mu      sync.Mutex // guards all below; not held over system calls that wait
	steps   map[stepKey]*step
	queue   []*launchv1.Happening // not yet told
	wake    chan struct{}         // holds a token when queue is not empty
	watches int                   // calls of Watch; only the last one is told
	logs    map[string]*os.File   // by spool
}

type stepKey struct{ job, step uint32 }

// step is what the launcher keeps of one step until Forget.
type step struct {
	key      stepKey
	node     string
	dir      string
	restarts uint32
	uid      uint32
	ids      []uint32
	pids     []uint32
	pid      int // of the supervisor
	seen     int // events handled
	told     []*launchv1.Happening
	gone     bool
}

func newLauncher(stepd string) *launcher {
	return &launcher{stepd: stepd, host: os.Getppid(), steps: make(map[stepKey]*step), wake: make(chan struct{}, 1),
		logs: make(map[string]*os.File)}
}

func (s *step) socket() string { return s.dir + "/" + stepd.SocketFile }

// Launch starts a supervisor and waits until its tasks run.
func (l *launcher) Launch(ctx context.Context, r *launchv1.LaunchRequest) (*launchv1.LaunchReply, error) {
	const op = "launch/exec.Launch"
	s := &step{key: stepKey{r.GetJob(), r.GetStep()}, node: r.GetNode(), dir: r.GetStepDir(),
		restarts: r.GetRestarts(), uid: r.GetUid(), ids: r.GetTaskIds()}
	spec, err := specOf(r)
	if err != nil {
		return nil, errs.Newf(op, errs.Invalid, "job %d step %s: %w", r.GetJob(), wlm.StepID(r.GetStep()), err)
	}
	// Taken before its directory exists, so that Recover leaves that alone.
	l.mu.Lock()
	taken := l.steps[s.key] != nil
	if !taken {
		l.steps[s.key] = s
	}
	l.mu.Unlock()
	if taken {
		return nil, launchedBefore(op, r)
	}
	record, err := l.makeDir(s, r)
	if err != nil {
		l.mu.Lock()
		delete(l.steps, s.key)
		l.mu.Unlock()
		return nil, err
	}
	events, err := l.start(s, spec, record)
	record.Close()
	if err != nil {
		l.drop(s)
		return nil, errs.Newf(op, errs.Internal, "starting %s: %w", l.stepd, err)
	}
	started := make(chan struct{})
	supervisor := s.pid
	go l.follow(s, events, started)
	select {
	case <-started:
	case <-ctx.Done():
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			// The node daemon died or hung up: its next life finds the step running.
			return nil, errs.Newf(op, errs.Unavail, "the step is left to whoever recovers it: %w", context.Cause(ctx))
		}
		// The tasks die with their supervisor.
		syscall.Kill(supervisor, syscall.SIGKILL)
		return nil, errs.Newf(op, errs.Deadline, "the step did not start: %w", context.Cause(ctx))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return &launchv1.LaunchReply{Pids: s.pids, Socket: s.socket(), Supervisor: uint32(supervisor)}, nil
}

// makeDir makes the step's directory and returns its events file, which is what
// makes a second launch of the same step fail.
//
// A launcher may be stopped for long, and its node daemon be killed and started
// again meanwhile, which then launches the step by another launcher. So this one
// looks, once the directory is there, whether its own daemon lives: if it does,
// the next one will find the directory.
func (l *launcher) makeDir(s *step, r *launchv1.LaunchRequest) (*os.File, error) {
	const op = "launch/exec.Launch"
	if err := os.Mkdir(s.dir, 0o711); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, errs.Newf(op, errs.Exhausted, "making the step's directory: %w", err)
	}
	f, err := os.OpenFile(s.dir+"/"+stepd.EventsFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		if errors.Is(err, os.ErrExist) {
			return nil, launchedBefore(op, r)
		}
		return nil, errs.Newf(op, errs.Exhausted, "making the step's events file: %w", err)
	}
	if os.Getppid() != l.host {
		f.Close() // the directory is left to whoever launches the step now
		return nil, errs.Newf(op, errs.Unavail, "slurmd has died")
	}
	if len(r.GetScript()) > 0 {
		if err := writeScript(s.dir+"/"+stepd.ScriptFile, r); err != nil {
			f.Close()
			os.RemoveAll(s.dir)
			return nil, errs.Newf(op, errs.Exhausted, "writing the batch script: %w", err)
		}
	}
	return f, nil
}

func launchedBefore(op string, r *launchv1.LaunchRequest) error {
	return errs.Newf(op, errs.Exists, "job %d step %s was launched before", r.GetJob(), wlm.StepID(r.GetStep()))
}

// writeScript holds off forks while the file is open: a child of another launch
// would have it open for writing until its own exec, and the kernel refuses to
// run such a file (ETXTBSY).
func writeScript(path string, r *launchv1.LaunchRequest) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o500)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(r.GetScript()); err != nil {
		return err
	}
	if os.Getuid() == 0 {
		if err := f.Chown(int(r.GetUid()), int(r.GetGid())); err != nil {
			return err
		}
	}
	return f.Close()
}

// start runs the supervisor in a session of its own and hands it the step. It
// gets the events file as a descriptor: by its name, it could find that of a
// later launch when it comes late.
func (l *launcher) start(s *step, spec *stepd.Spec, record *os.File) (events *os.File, err error) {
	spec.EventsFD = recordFD
	payload, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	inR, inW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer inW.Close()
	outR, outW, err := os.Pipe()
	if err != nil {
		inR.Close()
		return nil, err
	}
	title := "slurmstepd: [" + wlm.JobID(s.key.job).String() + "." + wlm.StepID(s.key.step).String() + "]"
	p, err := os.StartProcess(l.stepd, []string{title}, &os.ProcAttr{Dir: "/", Env: []string{"GOMAXPROCS=1"},
		Files: []*os.File{inR, outW, l.log(s.dir), recordFD: record}, Sys: &syscall.SysProcAttr{Setsid: true}})
	inR.Close()
	outW.Close()
	if err != nil {
		outR.Close()
		return nil, err
	}
	s.pid = p.Pid
	go p.Wait()
	if _, err := inW.Write(payload); err != nil {
		outR.Close()
		return nil, err
	}
	return outR, nil
}

// recordFD is the supervisor's descriptor of its events file.
const recordFD = 3

// log is the file that supervisors of one spool write complaints to.
func (l *launcher) log(dir string) *os.File {
	spool := filepath.Dir(dir)
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.logs[spool]; f != nil {
		return f
	}
	f, err := os.OpenFile(spool+"/slurmstepd.log", os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return os.Stderr
	}
	l.logs[spool] = f
	return f
}

// follow hears a supervisor that this launcher started. started is closed when
// the tasks run, or never will.
func (l *launcher) follow(s *step, events io.ReadCloser, started chan struct{}) {
	defer events.Close()
	r := bufio.NewReader(events)
	for i := 0; ; i++ {
		line, err := r.ReadBytes('\n')
		if err != nil {
			break
		}
		var e stepd.Event
		if json.Unmarshal(line, &e) != nil {
			break
		}
		l.happened(s, i, &e)
		if started != nil && (e.Kind == stepd.Started || e.Kind == stepd.Gone) {
			close(started)
			started = nil
		}
	}
	l.settle(s)
	if started != nil {
		close(started)
	}
}

// watchSocket hears a supervisor that an earlier launcher started.
func (l *launcher) watchSocket(s *step, c *stepd.Conn) {
	for i := 0; ; i++ {
		f, err := c.Recv()
		if err != nil {
			break
		}
		var e stepd.Event
		if f.Kind != stepd.Happened || json.Unmarshal(f.Data, &e) != nil {
			break
		}
		l.happened(s, i, &e)
	}
	c.Close()
	l.settle(s)
}

// settle finds the end of a step whose supervisor says nothing more, or whose
// socket is not there yet. It waits as long as the supervisor is alive.
func (l *launcher) settle(s *step) {
	for !l.isGone(s) {
		lock, err := stepd.Lock(s.dir)
		if !errors.Is(err, stepd.ErrLocked) {
			l.bury(s, lock, err)
			return
		}
		if c, err := stepd.Dial(s.socket(), stepd.Frame{Kind: stepd.Watch}); err == nil {
			l.watchSocket(s, c)
			return
		}
		time.Sleep(lockPause)
	}
}

// bury ends a step that has no supervisor any more: as its events say, or as
// killed.
func (l *launcher) bury(s *step, lock *os.File, err error) {
	if lock != nil {
		defer lock.Close()
	}
	events, rerr := stepd.ReadEvents(s.dir)
	for i := range events {
		l.happened(s, i, &events[i])
	}
	if l.isGone(s) {
		return
	}
	e := orphaned(s, errors.Join(err, rerr))
	if lock != nil {
		if b, err := json.Marshal(e); err == nil {
			lock.Write(append(b, '\n'))
		}
	}
	l.happened(s, len(events), e)
}

func (l *launcher) isGone(s *step) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return s.gone
}

// happened turns the i-th event of a step into what the node is told; events
// that were handled before are skipped.
func (l *launcher) happened(s *step, i int, e *stepd.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i < s.seen || s.gone {
		return
	}
	s.seen = i + 1
	h := &launchv1.Happening{Step: &launchv1.StepRef{Job: s.key.job, Step: s.key.step, Node: s.node}, Restarts: s.restarts}
	switch e.Kind {
	case stepd.Began:
		s.pid = e.PID
		return
	case stepd.Started:
		s.pids = e.PIDs
		return
	case stepd.Exited:
		h.Body = &launchv1.Happening_Task{Task: taskExit(e)}
	case stepd.Gone:
		s.gone = true
		h.Body = &launchv1.Happening_Gone{Gone: stepGone(e)}
	default:
		return
	}
	s.told = append(s.told, h)
	if l.steps[s.key] != s {
		return // it was dropped
	}
	l.queue = append(l.queue, h)
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func taskExit(e *stepd.Event) *launchv1.TaskExit {
	return &launchv1.TaskExit{TaskId: e.Task, Status: e.Status, Oom: e.OOM, Core: e.Core, Time: e.Time}
}

func stepGone(e *stepd.Event) *launchv1.StepGone {
	g := &launchv1.StepGone{Status: e.Status, Oom: e.OOM, Error: e.Error, Time: e.Time, Usage: &launchv1.Usage{}}
	if e.Usage != nil {
		g.Usage = usage(e.Usage)
	}
	return g
}

func usage(u *stepd.Usage) *launchv1.Usage {
	return &launchv1.Usage{UserUsec: u.UserUsec, SysUsec: u.SysUsec, MaxRssKib: u.MaxRSSKiB,
		ReadBytes: u.Read, WrittenBytes: u.Written}
}

// Watch tells first what is kept of every step, then what happens. A Watch that
// is still on its way out takes nothing from the next one.
func (l *launcher) Watch(ctx context.Context, tell func(*launchv1.Happening) error) error {
	l.mu.Lock()
	l.watches++
	mine := l.watches
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
		if l.watches != mine {
			select {
			case l.wake <- struct{}{}:
			default:
			}
			l.mu.Unlock()
			return nil
		}
		batch, l.queue = l.queue, nil
		l.mu.Unlock()
	}
}

// Signal passes a signal on to the step's supervisor.
func (l *launcher) Signal(_ context.Context, r *launchv1.SignalRequest) error {
	const op = "launch/exec.Signal"
	s, err := l.find(op, r.GetStep())
	if err != nil {
		return err
	}
	err = l.reach(s, func() error {
		err := stepd.SendSignal(s.socket(), stepd.SignalRequest{Signal: int(r.GetSignal()),
			Shell: r.GetBatchShellOnly(), Notice: r.GetNotice()})
		if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
			return nil // the step ended while it took the signal, mostly by it
		}
		return err
	})
	if err != nil && notThere(err) {
		return errs.Newf(op, errs.NotFound, "job %d step %s has ended", s.key.job, wlm.StepID(s.key.step))
	}
	return err
}

// reach talks to a step's supervisor; one that has just started has no socket
// yet.
func (l *launcher) reach(s *step, talk func() error) error {
	for end := time.Now().Add(lockWait); ; time.Sleep(lockPause) {
		err := talk()
		if err == nil || !notThere(err) || l.isGone(s) || time.Now().After(end) {
			return err
		}
	}
}

// notThere reports whether a socket has nobody behind it any more.
func notThere(err error) bool {
	return errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE)
}

// Stats asks the step's supervisor.
func (l *launcher) Stats(_ context.Context, ref *launchv1.StepRef) (*launchv1.StatsReply, error) {
	const op = "launch/exec.Stats"
	s, err := l.find(op, ref)
	if err != nil {
		return nil, err
	}
	var st stepd.Stats
	err = l.reach(s, func() (err error) {
		st, err = stepd.AskStats(s.socket())
		return err
	})
	if err != nil {
		return nil, errs.Newf(op, errs.Unavail, "asking the supervisor: %w", err)
	}
	return &launchv1.StatsReply{Usage: usage(&st.Usage), Pids: st.PIDs}, nil
}

// Forget removes what is kept of an ended step.
func (l *launcher) Forget(_ context.Context, ref *launchv1.StepRef) error {
	const op = "launch/exec.Forget"
	s, err := l.find(op, ref)
	if err != nil {
		return nil //nolint:nilerr // it is forgotten
	}
	if !l.isGone(s) {
		return errs.Newf(op, errs.State, "job %d step %s still runs", s.key.job, wlm.StepID(s.key.step))
	}
	l.drop(s)
	return nil
}

// drop removes a step and its directory.
func (l *launcher) drop(s *step) {
	l.mu.Lock()
	if l.steps[s.key] == s {
		delete(l.steps, s.key)
	}
	l.mu.Unlock()
	// Mostly there is no socket: the step was short.
	if _, err := os.Lstat(s.socket()); err == nil {
		stepd.SendForget(s.socket())
		os.Remove(s.socket())
	}
	os.Remove(s.dir + "/" + stepd.ScriptFile)
	os.Remove(s.dir + "/" + stepd.EventsFile)
	if err := os.Remove(s.dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		os.RemoveAll(s.dir)
	}
}

func (l *launcher) find(op string, ref *launchv1.StepRef) (*step, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.steps[stepKey{ref.GetJob(), ref.GetStep()}]; s != nil {
		return s, nil
	}
	return nil, errs.Newf(op, errs.NotFound, "job %d step %s is not on this node", ref.GetJob(), wlm.StepID(ref.GetStep()))
}
