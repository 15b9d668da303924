// Package agent is the node daemon's loop.
//
// One goroutine, in [Agent.Run], owns what the node knows of its jobs.
// Everyone else posts a function to it: the stream from the controller, the
// launcher's happenings, the calls of srun, timers. Functions never wait; what
// takes time (launching, signalling, writing) runs elsewhere and posts its
// result. It has the shape of the controller's loop.
//
// Parties: the controller (orders in, reports out, over one stream that the
// agent dials), the launcher (runs steps), srun (asks for steps and carries
// their stdio, see [API]).
//
// Invariants:
//   - a run of a job is started once: orders are told apart by job and restart
//     count, and a step's directory can be made only once;
//   - what was reported and not acknowledged is on disk before anything of the
//     step is forgotten;
//   - a node never ends a job because the controller does not know it;
//   - a restart of the agent, of slurmd or of the launcher disturbs no task.
//
// Failure modes: without a controller, jobs go on and reports wait; without a
// launcher, launches wait until it is back; with a full disk, launches fail and
// are reported, and reports stay in memory, and what they tell of in the spool.
package agent

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/sluice-hpc/sluice/core/auth"
	"github.com/sluice-hpc/sluice/core/steps"
	"github.com/sluice-hpc/sluice/sdk/launch"
	"github.com/sluice-hpc/sluice/sdk/proto/launch/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/wire"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Config is what an agent is made of.
type Config struct {
	Node     wlm.NodeName
	Cluster  string
	Spool    string // directory of this node alone; made if need be
	ConfPath string // slurm.conf, for SLURM_CONF of jobs
	Addr     string // host:port where this node's API is served
	// Facts are what the node registers with; the agent fills in its jobs.
	Facts *nodev1.Register
	Gres  []wlm.GresPool // of this node, for the environment of jobs
	// Load returns the load in hundredths and the free memory in MiB.
	Load func() (cpuLoad uint32, freeMem uint64)
	Hub  *Hub
	// Controllers are the addresses to try, in order; Connect returns a client
	// for one of them. Connections are shared and kept by whoever provides it.
	Controllers func() []string
	Connect     func(addr string) (nodev1.FleetClient, error)

	KillWait          time.Duration // from SIGTERM to SIGKILL
	UnkillableTimeout time.Duration // from SIGKILL to giving up
	JobFileAppend     bool
	ConstrainCores    bool
	ConstrainMemory   bool
	ConstrainDevices  bool
	Binding           // of tasks to CPUs
	CgroupRoot        string
	GroupName         func(gid wlm.GID) string
	// LoginEnv returns the environment that a user has after logging in here,
	// as NAME=value; nil: jobs that ask for it get none.
	LoginEnv      func(ctx context.Context, user string) ([]string, error)
	Where         Where                         // of nodes in the topology; nil: nodes have no address beside their name
	Plugins       func() []*nodev1.PluginReport // nil: none
	OnReconfigure func()                        // nil: nothing
	OnShutdown    func()                        // nil: nothing
	// OnPlugin carries out one step of a change of a plugin; nil: none can be.
	OnPlugin func(*nodev1.ChangePlugin) error
	Log      *slog.Logger
}

// Agent is one node. Its exported methods may be called concurrently.
type Agent struct {
	Config
	launcher launch.Launcher
	signer   *auth.Signer           // of steps
	ctldKey  atomic.Pointer[[]byte] // verifies job credentials; nil: not known yet
	reports  *reportLog
	cmds     chan func()
	ended    chan struct{} // closed when the loop has ended
	found    chan struct{} // closed when the steps were recovered once
	launches chan struct{} // slots for launches at the same time

	// The loop's own.
	runs     map[wlm.JobID]*run
	awaiting map[wlm.JobID][]chan struct{} // CreateStep calls that came before their job
	gone     map[runKey]struct{}           // runs whose end is reported but not acknowledged
	over     map[runKey]int64              // runs that ended here, until no credential for them is good
	overMax  int
	looking  int                // calls of Recover under way
	lately   map[share]struct{} // what ended or was forgotten meanwhile
	lastNum  uint64
	link     *link // nil: not connected
	linkGen  uint64
	term     uint64
	starting []*lateStart
	lateOn   bool
	tickets  steps.Ticket
	nonces   map[string]int64 // of step credentials used, until they expire
	stopping bool
}

// launchSlots bounds how many launches of a node run at the same time.
const launchSlots = 16

// Open reads the spool and returns the agent; nothing runs yet.
func Open(cfg Config) (*Agent, error) {
	for _, d := range []string{cfg.Spool, filepath.Join(cfg.Spool, "jobs")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, fmt.Errorf("SlurmdSpoolDir: %w", err)
		}
	}
	if cfg.KillWait == 0 {
		cfg.KillWait = 30 * time.Second
	}
	if cfg.UnkillableTimeout == 0 {
		cfg.UnkillableTimeout = time.Minute
	}
	if cfg.Load == nil {
		cfg.Load = func() (uint32, uint64) { return wlm.Unset, 0 }
	}
	if cfg.GroupName == nil {
		cfg.GroupName = func(g wlm.GID) string { return fmt.Sprint(uint32(g)) }
	}
	a := &Agent{Config: cfg, launcher: cfg.Hub.l, cmds: make(chan func(), 1024), ended: make(chan struct{}),
		found: make(chan struct{}), launches: make(chan struct{}, launchSlots),
		runs: make(map[wlm.JobID]*run), awaiting: make(map[wlm.JobID][]chan struct{}),
		gone: make(map[runKey]struct{}), over: make(map[runKey]int64), lately: make(map[share]struct{}), overMax: overSweep, nonces: make(map[string]int64)}
	var err error
	if a.signer, err = auth.NewSigner(cfg.Spool); err != nil {
		return nil, fmt.Errorf("the step manager's key: %w", err)
	}
	if pub, err := os.ReadFile(a.publicKeyPath()); err == nil && len(pub) == ed25519.PublicKeySize {
		a.ctldKey.Store(&pub)
	}
	if a.reports, err = openReports(filepath.Join(cfg.Spool, "reports"), cfg.Log); err != nil {
		return nil, err
	}
	a.lastNum = a.reports.last()
	for _, r := range a.reports.unacked() {
		if k, ok := endOf(r); ok {
			a.gone[k] = struct{}{}
		}
	}
	saved, err := readJobs(filepath.Join(cfg.Spool, "jobs"), cfg.Log)
	if err != nil {
		return nil, err
	}
	for _, s := range saved {
		a.restore(s)
	}
	cfg.Hub.mu.Lock()
	cfg.Hub.agents[string(cfg.Node)] = a
	cfg.Hub.mu.Unlock()
	return a, nil
}

func (a *Agent) publicKeyPath() string { return filepath.Join(a.Spool, "controller.pub") }

// Run is the loop. It returns when ctx ends; what runs on the node goes on.
func (a *Agent) Run(ctx context.Context) {
	go a.dial(ctx)
	for {
		select {
		case f := <-a.cmds:
			f()
			continue
		default:
		}
		select {
		case f := <-a.cmds:
			f()
		case <-ctx.Done():
			a.stopping = true
			close(a.ended)
			a.reports.close()
			return
		}
	}
}

// post hands f to the loop. After the loop's end it does nothing.
func (a *Agent) post(f func()) {
	select {
	case a.cmds <- f:
	case <-a.ended:
	}
}

// ask runs f on the loop and waits for it; false: the loop has ended.
func (a *Agent) ask(f func()) bool {
	done := make(chan struct{})
	a.post(func() { f(); close(done) })
	select {
	case <-done:
		return true
	case <-a.ended:
		return false
	}
}

// after runs f on the loop once d has passed.
func (a *Agent) after(d time.Duration, f func()) *time.Timer {
	return time.AfterFunc(d, func() { a.post(f) })
}

// runKey is one run of a job.
type runKey struct {
	job      wlm.JobID
	restarts uint32
}

// endOf is the run whose end a report tells.
func endOf(r *nodev1.Report) (runKey, bool) {
	switch b := r.GetBody().(type) {
	case *nodev1.Report_StepEnded:
		if wlm.StepID(b.StepEnded.GetStep().GetId()) == wlm.StepBatch {
			return runKey{wlm.JobID(b.StepEnded.GetStep().GetJob()), b.StepEnded.GetRestarts()}, true
		}
	case *nodev1.Report_JobGone:
		return runKey{wlm.JobID(b.JobGone.GetJob()), b.JobGone.GetRestarts()}, true
	case *nodev1.Report_LaunchFailed:
		return runKey{wlm.JobID(b.LaunchFailed.GetJob()), b.LaunchFailed.GetRestarts()}, true
	}
	return runKey{}, false
}

// overSweep is how many ended runs are remembered before old ones are looked
// for.
const overSweep = 1024

// noteOver remembers that a run is over: a step's credential may still be on its
// way.
func (a *Agent) noteOver(k runKey) {
	now := time.Now().Unix()
	a.over[k] = now + int64(stepCredentialLife/time.Second)
	if len(a.over) < a.overMax {
		return
	}
	for k, until := range a.over {
		if now > until {
			delete(a.over, k)
		}
	}
	a.overMax = max(2*len(a.over), overSweep)
}

// report numbers a report, keeps it and sends it. then runs on the loop once
// the report cannot be lost any more.
func (a *Agent) report(r *nodev1.Report, then func()) {
	a.lastNum++
	r.Number = a.lastNum
	if k, ok := endOf(r); ok {
		a.gone[k] = struct{}{}
	}
	var after func()
	if then != nil {
		after = func() { a.post(then) }
	}
	a.reports.add(r, after)
	if a.link != nil && a.link.registered {
		a.link.send(&nodev1.FromNode{Node: string(a.Node), Body: &nodev1.FromNode_Report{Report: r}})
	}
}

// acknowledged drops reports that the controller has made durable.
func (a *Agent) acknowledged(upto uint64) {
	for _, r := range a.reports.unacked() {
		if r.GetNumber() > upto {
			break
		}
		if k, ok := endOf(r); ok {
			delete(a.gone, k)
		}
	}
	a.reports.ack(upto)
}

// registration is what the node tells of itself now.
func (a *Agent) registration() *nodev1.Register {
	m := &nodev1.Register{}
	if a.Facts != nil {
		f := a.Facts
		m = &nodev1.Register{Version: f.Version, Hostname: f.Hostname, Cpus: f.Cpus, Boards: f.Boards, Sockets: f.Sockets,
			CoresPerSocket: f.CoresPerSocket, ThreadsPerCore: f.ThreadsPerCore, RealMemory: f.RealMemory, TmpDisk: f.TmpDisk,
			Arch: f.Arch, Os: f.Os, BootTime: f.BootTime, DaemonStart: f.DaemonStart, Gres: f.Gres, Features: f.Features}
	}
	m.Node, m.Addr = string(a.Node), a.Addr
	m.CpuLoad, m.FreeMem = a.Load()
	m.StepKey = a.signer.Public()
	if a.Plugins != nil {
		m.Plugins = a.Plugins()
	}
	if u := a.reports.unacked(); len(u) > 0 {
		m.FirstReport = u[0].GetNumber()
	}
	held := make(map[runKey]*nodev1.JobOnNode)
	for k := range a.gone {
		held[k] = &nodev1.JobOnNode{Job: uint32(k.job), Restarts: k.restarts}
	}
	for _, r := range a.runs {
		j := &nodev1.JobOnNode{Job: uint32(r.job), Restarts: r.restarts}
		for id := range r.steps {
			j.Steps = append(j.Steps, uint32(id))
		}
		held[r.key()] = j
	}
	for _, j := range held {
		m.Jobs = append(m.Jobs, j)
	}
	return m
}

// lateStart is a step whose start is reported once it has lasted a while:
// short steps are told with their end alone.
type lateStart struct {
	at   time.Time
	step *wlm.Step
	live func() bool
}

// lateAfter is how long a step runs before its start is reported.
const lateAfter = time.Second

func (a *Agent) startLater(s *wlm.Step, live func() bool) {
	a.starting = append(a.starting, &lateStart{time.Now(), s, live})
	if !a.lateOn {
		a.lateOn = true
		a.after(lateAfter, a.reportStarts)
	}
}

func (a *Agent) reportStarts() {
	now := time.Now()
	for len(a.starting) > 0 && now.Sub(a.starting[0].at) >= lateAfter {
		s := a.starting[0]
		a.starting = a.starting[1:]
		if s.live() {
			a.report(&nodev1.Report{Body: &nodev1.Report_StepStarted{StepStarted: &nodev1.StepStarted{Step: wire.StepToWire(s.step)}}}, nil)
		}
	}
	if a.lateOn = len(a.starting) > 0; a.lateOn {
		a.after(lateAfter-now.Sub(a.starting[0].at), a.reportStarts)
	}
}

// forget drops an ended step's directory, away from the loop.
func (a *Agent) forget(ref *launchv1.StepRef, restarts uint32) {
	a.noteOld(share{runKey{wlm.JobID(ref.GetJob()), restarts}, wlm.StepID(ref.GetStep())})
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
		defer cancel()
		if err := a.launcher.Forget(ctx, ref); err != nil {
			a.Log.Warn("a step's directory stays until the launcher restarts", "job", ref.GetJob(), "step", wlm.StepID(ref.GetStep()), "err", err)
		}
	}()
}

// callTimeout bounds calls of the launcher that answer at once.
const callTimeout = 30 * time.Second
