package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sluice-hpc/sluice/core/auth"
	"github.com/sluice-hpc/sluice/core/fleet"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/launch/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/wlm/v1"
	"github.com/sluice-hpc/sluice/sdk/wire"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
)

const patience = 20 * time.Second

// fakeLauncher "runs" steps until the test ends them. It outlives agents, as
// supervisors outlive slurmd.
type fakeLauncher struct {
	mu      sync.Mutex
	steps   map[string]*fakeStep
	tell    func(*launchv1.Happening) error
	down    chan struct{} // closed: the present Watch breaks
	fail    error
	launchc chan *launchv1.LaunchRequest
	signals chan string
	forgot  chan string
	listed  chan chan struct{} // nil, or takes a channel that a Recover waits for after it has looked
	strange bool               // it knows no step, as one that has just started
}

type fakeStep struct {
	q    *launchv1.LaunchRequest
	gone *launchv1.StepGone
}

func newFake() *fakeLauncher {
	return &fakeLauncher{steps: map[string]*fakeStep{}, down: make(chan struct{}), launchc: make(chan *launchv1.LaunchRequest, 100),
		signals: make(chan string, 100), forgot: make(chan string, 100)}
}

func name(job, step uint32) string { return fmt.Sprintf("%d.%s", job, wlm.StepID(step)) }

func (f *fakeLauncher) Launch(_ context.Context, r *launchv1.LaunchRequest) (*launchv1.LaunchReply, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return nil, f.fail
	}
	if f.steps[name(r.Job, r.Step)] != nil {
		return nil, errs.Newf("launch", errs.Exists, "launched before")
	}
	f.steps[name(r.Job, r.Step)] = &fakeStep{q: r}
	f.launchc <- r
	return &launchv1.LaunchReply{Pids: make([]uint32, len(r.TaskIds))}, nil
}

func (f *fakeLauncher) Signal(_ context.Context, r *launchv1.SignalRequest) error {
	f.mu.Lock()
	strange := f.strange
	f.mu.Unlock()
	if strange {
		f.signals <- "unknown"
		return errs.Newf("launch", errs.NotFound, "no such step")
	}
	f.signals <- fmt.Sprintf("%s %d", name(r.Step.Job, r.Step.Step), r.Signal)
	return nil
}

func (f *fakeLauncher) end(job, step, status uint32) {
	f.mu.Lock()
	s := f.steps[name(job, step)]
	s.gone = &launchv1.StepGone{Status: status, Time: time.Now().Unix(), Usage: &launchv1.Usage{UserUsec: 2500000}}
	tell := f.tell
	f.mu.Unlock()
	if tell != nil {
		tell(happening(s))
	}
}

func happening(s *fakeStep) *launchv1.Happening {
	return &launchv1.Happening{Step: &launchv1.StepRef{Job: s.q.Job, Step: s.q.Step, Node: s.q.Node}, Restarts: s.q.Restarts,
		Body: &launchv1.Happening_Gone{Gone: s.gone}}
}

func (f *fakeLauncher) Watch(ctx context.Context, tell func(*launchv1.Happening) error) error {
	f.mu.Lock()
	for _, s := range f.steps {
		if s.gone != nil {
			tell(happening(s))
		}
	}
	f.tell = tell
	down := f.down
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.tell = nil
		f.mu.Unlock()
	}()
	select {
	case <-ctx.Done():
		return nil
	case <-down:
		return errs.Newf("launch", errs.Unavail, "the plugin died")
	}
}

func (f *fakeLauncher) Recover(context.Context, string) (*launchv1.RecoverReply, error) {
	f.mu.Lock()
	listed := f.listed
	out := f.list()
	f.mu.Unlock()
	if listed != nil {
		hold := make(chan struct{})
		listed <- hold
		<-hold
	}
	return out, nil
}

func (f *fakeLauncher) list() *launchv1.RecoverReply {
	out := &launchv1.RecoverReply{}
	for _, s := range f.steps {
		out.Steps = append(out.Steps, &launchv1.RunningStep{Step: &launchv1.StepRef{Job: s.q.Job, Step: s.q.Step, Node: s.q.Node},
			Restarts: s.q.Restarts, TaskIds: s.q.TaskIds, Pids: []uint32{1}, Gone: s.gone, Uid: s.q.Uid})
	}
	return out
}

func (f *fakeLauncher) Stats(context.Context, *launchv1.StepRef) (*launchv1.StatsReply, error) {
	return &launchv1.StatsReply{}, nil
}

func (f *fakeLauncher) Forget(_ context.Context, r *launchv1.StepRef) error {
	f.mu.Lock()
	delete(f.steps, name(r.Job, r.Step))
	f.mu.Unlock()
	f.forgot <- name(r.Job, r.Step)
	return nil
}

// controller is the other end of the fleet.
type controller struct {
	fleet     *fleet.Fleet
	signer    *auth.Signer
	registers chan *nodev1.Register
	reports   chan *nodev1.Report
	refuse    chan struct{} // while it holds a token, one batch of reports is refused
	client    nodev1.FleetClient
}

func (c *controller) Register(_ context.Context, _ wlm.NodeName, r *nodev1.Register) (*nodev1.Registered, error) {
	c.registers <- r
	return &nodev1.Registered{Accepted: true, PublicKey: c.signer.Public(), Heartbeat: 1}, nil
}
func (c *controller) Heartbeat(wlm.NodeName, *nodev1.Heartbeat) {}
func (c *controller) Reports(_ context.Context, _ wlm.NodeName, r []*nodev1.Report) error {
	select {
	case <-c.refuse:
		return errors.New("the disk is on fire")
	default:
	}
	for _, x := range r {
		c.reports <- x
	}
	return nil
}
func (c *controller) Disconnected(wlm.NodeName) {}

// as makes every caller of a server somebody.
func as(id *auth.Identity) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.StreamInterceptor(func(v any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
			return h(v, auth.WithStream(ss, auth.With(ss.Context(), id)))
		}),
		grpc.UnaryInterceptor(func(ctx context.Context, in any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
			return h(auth.With(ctx, id), in)
		}),
	}
}

func connect(t *testing.T, register func(*grpc.Server), id *auth.Identity) *grpc.ClientConn {
	t.Helper()
	l := bufconn.Listen(1 << 20)
	srv := grpc.NewServer(as(id)...)
	register(srv)
	go srv.Serve(l)
	cc, err := grpc.NewClient("passthrough:x", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close(); srv.Stop() })
	return cc
}

func newController(t *testing.T) *controller {
	c := &controller{signer: auth.GenerateSigner(), registers: make(chan *nodev1.Register, 100), reports: make(chan *nodev1.Report, 1000), refuse: make(chan struct{}, 1)}
	c.fleet = fleet.New(c, slog.New(slog.DiscardHandler))
	c.client = nodev1.NewFleetClient(connect(t, func(s *grpc.Server) { nodev1.RegisterFleetServer(s, c.fleet) }, &auth.Identity{Role: auth.RoleSlurmUser}))
	return c
}

// world is one node, its launcher and its controller.
type world struct {
	t     *testing.T
	ctl   *controller
	l     *fakeLauncher
	a     *Agent
	spool string
	stop  func()
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, ctl: newController(t), l: newFake(), spool: t.TempDir()}
	w.boot()
	t.Cleanup(func() { w.stop() })
	return w
}

// boot starts slurmd's part, and waits until it has registered.
func (w *world) boot() *nodev1.Register {
	w.t.Helper()
	w.start()
	return next(w.t, w.ctl.registers)
}

// start starts slurmd's part.
func (w *world) start() {
	w.t.Helper()
	hub := NewHub(w.l, slog.New(slog.DiscardHandler))
	a, err := Open(Config{Node: "n1", Cluster: "peer", Spool: w.spool, Addr: "n1:1", Hub: hub, KillWait: time.Hour,
		Controllers: func() []string { return []string{"c"} }, Connect: func(string) (nodev1.FleetClient, error) { return w.ctl.client, nil },
		GroupName: func(wlm.GID) string { return "alice" }, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		w.t.Fatal(err)
	}
	w.a = a
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { a.Run(ctx) })
	wg.Go(func() { hub.Run(ctx) })
	w.stop = func() { cancel(); wg.Wait() }
}

func next[T any](t *testing.T, ch chan T) T {
	t.Helper()
	select {
	case x := <-ch:
		return x
	case <-time.After(patience):
		var zero T
		t.Fatalf("no %T came", zero)
		return zero
	}
}

func none[T any](t *testing.T, ch chan T) {
	t.Helper()
	select {
	case x := <-ch:
		t.Errorf("unexpected %v", x)
	default:
	}
}

// startJob is an order to run a job on n1 and, with more CPUs named, others.
func (w *world) startJob(id uint32, kind wlm.JobKind, cpus ...int) *nodev1.ToNode {
	cred := &nodev1.Credential{Cluster: "peer", Job: id, Uid: 1001, Gid: 1001, UserName: "alice", Issued: time.Now().Unix(),
		StepKey: w.a.signer.Public()}
	for i, c := range cpus {
		cred.Nodes = append(cred.Nodes, &nodev1.NodeAt{Name: fmt.Sprintf("n%d", i+1), Addr: fmt.Sprintf("n%d:1", i+1), Cpus: uint32(c), CpuSet: wlm.FullCPUSet(c)})
	}
	msg, err := proto.Marshal(cred)
	if err != nil {
		w.t.Fatal(err)
	}
	return &nodev1.ToNode{Body: &nodev1.ToNode_Start{Start: &nodev1.StartJob{Credential: msg, Signature: w.ctl.signer.Sign(msg),
		Job: &wlmv1.Job{Id: id, Partition: "main", Spec: &wlmv1.Spec{Name: "j", Kind: uint32(kind), User: 1001, Group: 1001,
			UserName: "alice", WorkDir: "/tmp", Argv: []string{"job.sh"}}},
		Script: []byte("#!/bin/sh\n"), Env: []string{"A=b"}, Nodes: cred.Nodes}}}
}

func (w *world) send(m ...*nodev1.ToNode) {
	w.t.Helper()
	if !w.ctl.fleet.Send("n1", m...) {
		w.t.Fatal("n1 is not connected")
	}
}

const batch = uint32(wlm.StepBatch)

func terminate(job uint32, state wlm.JobState, wait uint32) *nodev1.ToNode {
	return &nodev1.ToNode{Body: &nodev1.ToNode_Terminate{Terminate: &nodev1.Terminate{Job: job, State: uint32(state), KillWait: wait}}}
}

func TestBatchJobIsOneReport(t *testing.T) {
	w := newWorld(t)
	w.send(w.startJob(7, wlm.KindBatch, 2), w.startJob(7, wlm.KindBatch, 2))
	q := next(t, w.l.launchc)
	if q.Work.Stdout.Path != "slurm-%j.out" || q.Uid != 1001 || !slices.Contains(q.Work.Env, "SLURM_JOB_ID=7") || q.StepDir != w.spool+"/7.batch" {
		t.Errorf("launched %v", q)
	}
	w.l.end(7, batch, 3<<8)
	e := next(t, w.ctl.reports).GetStepEnded()
	if !e.GetClean() || e.GetStep().GetState() != uint32(wlm.Failed) || e.GetStep().GetStatus() != 3<<8 || e.GetStep().GetUserSec() != 2 || e.GetStep().GetUserUsec() != 500000 {
		t.Errorf("reported %v", e)
	}
	next(t, w.l.forgot)
	w.send(w.startJob(8, wlm.KindBatch, 2))
	if q := next(t, w.l.launchc); q.Job != 8 {
		t.Errorf("the order was carried out twice: %v", q)
	}
	none(t, w.ctl.reports)
	if _, err := os.Stat(filepath.Join(w.spool, "jobs", "7")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the job's file is still there: %v", err)
	}
}

func TestTerminate(t *testing.T) {
	w := newWorld(t)
	t.Run("an allocation without steps", func(t *testing.T) {
		w.send(w.startJob(5, wlm.KindAlloc, 2), terminate(5, wlm.Completed, 30))
		if g := next(t, w.ctl.reports).GetJobGone(); g.GetJob() != 5 || g.GetUnkillable() {
			t.Errorf("reported %v", g)
		}
	})
	t.Run("a job that is not here", func(t *testing.T) {
		w.send(terminate(99, wlm.Cancelled, 30))
		if g := next(t, w.ctl.reports).GetJobGone(); g.GetJob() != 99 {
			t.Errorf("reported %v", g)
		}
	})
	t.Run("a batch job", func(t *testing.T) {
		w.send(w.startJob(6, wlm.KindBatch, 2))
		next(t, w.l.launchc)
		w.send(terminate(6, wlm.Cancelled, 3000), terminate(6, wlm.Cancelled, 3000))
		for _, want := range []string{"6.batch 18", "6.batch 15"} {
			if got := next(t, w.l.signals); got != want {
				t.Errorf("signal %q, want %q", got, want)
			}
		}
		w.send(terminate(6, wlm.Cancelled, 0))
		if got := next(t, w.l.signals); got != "6.batch 9" {
			t.Errorf("signal %q", got)
		}
		w.l.end(6, batch, 15)
		e := next(t, w.ctl.reports).GetStepEnded()
		if !e.GetClean() || e.GetStep().GetState() != uint32(wlm.Cancelled) || e.GetStep().GetStatus() != 15 {
			t.Errorf("reported %v", e)
		}
	})
}

func TestLaunchFailed(t *testing.T) {
	w := newWorld(t)
	w.l.fail = errs.Newf("launch", errs.Exhausted, "no space left")
	w.send(w.startJob(7, wlm.KindBatch, 1))
	f := next(t, w.ctl.reports).GetLaunchFailed()
	if f.GetJob() != 7 || !f.GetDrain() || f.GetReason() != "batch job launch failed: no space left" {
		t.Errorf("reported %v", f)
	}
}

func TestCredentials(t *testing.T) {
	w := newWorld(t)
	forged := w.startJob(7, wlm.KindBatch, 1)
	forged.GetStart().Signature[3] ^= 1
	other := w.startJob(8, wlm.KindBatch, 1)
	other.GetStart().Job.Id = 9
	w.send(forged, other, w.startJob(10, wlm.KindBatch, 1))
	if q := next(t, w.l.launchc); q.Job != 10 {
		t.Errorf("launched job %d", q.Job)
	}
}

// slurmd is restarted while one job runs and one has ended unheard: the first
// goes on, the second is reported, and neither is started again.
func TestRestart(t *testing.T) {
	w := newWorld(t)
	w.send(w.startJob(1, wlm.KindBatch, 1), w.startJob(2, wlm.KindBatch, 1), w.startJob(3, wlm.KindAlloc, 1))
	next(t, w.l.launchc)
	next(t, w.l.launchc)
	for !w.has(3) {
	}
	w.stop()
	w.l.end(2, batch, 0)
	reg := w.boot()
	var held []uint32
	for _, j := range reg.GetJobs() {
		held = append(held, j.GetJob())
	}
	slices.Sort(held)
	if !slices.Equal(held, []uint32{1, 2, 3}) {
		t.Errorf("registered with jobs %v", held)
	}
	if e := next(t, w.ctl.reports).GetStepEnded(); e.GetStep().GetJob() != 2 || !e.GetClean() {
		t.Errorf("reported %v", e)
	}
	w.send(w.startJob(1, wlm.KindBatch, 1))
	w.l.end(1, batch, 0)
	if e := next(t, w.ctl.reports).GetStepEnded(); e.GetStep().GetJob() != 1 {
		t.Errorf("reported %v", e)
	}
	none(t, w.l.launchc)
}

// While the launcher looks for steps after a restart, one job starts and another
// ends: the first is not taken for lost, the second does not come back.
func TestStartsWhileLooking(t *testing.T) {
	w := newWorld(t)
	w.send(w.startJob(1, wlm.KindBatch, 1))
	next(t, w.l.launchc)
	w.l.mu.Lock()
	w.l.listed = make(chan chan struct{})
	close(w.l.down)
	w.l.down = make(chan struct{})
	w.l.mu.Unlock()
	hold := next(t, w.l.listed)
	w.send(w.startJob(2, wlm.KindBatch, 1))
	next(t, w.l.launchc)
	running := func() (ok bool) {
		w.a.ask(func() {
			r := w.a.runs[2]
			ok = r != nil && r.steps[wlm.StepBatch] != nil && r.steps[wlm.StepBatch].state == stepRunning
		})
		return ok
	}
	for !running() {
	}
	end := &launchv1.StepGone{Status: 0, Time: time.Now().Unix()}
	w.a.ask(func() { w.a.stepGone(w.a.runs[1].steps[wlm.StepBatch], end) })
	if e := next(t, w.ctl.reports).GetStepEnded(); e.GetStep().GetJob() != 1 {
		t.Errorf("reported %v", e)
	}
	next(t, w.l.forgot)
	close(hold)
	w.l.mu.Lock()
	w.l.listed = nil
	w.l.mu.Unlock()
	for ok := false; !ok; {
		w.a.ask(func() { ok = w.a.looking == 0 })
	}
	if w.has(1) {
		t.Error("the ended job is back")
	}
	w.l.tellAgain(t)
	w.l.end(2, batch, 3<<8)
	if e := next(t, w.ctl.reports).GetStepEnded(); e.GetStep().GetJob() != 2 || e.GetStep().GetStatus() != 3<<8 {
		t.Errorf("reported %v", e)
	}
}

// tellAgain waits until the launcher is watched.
func (f *fakeLauncher) tellAgain(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		f.mu.Lock()
		ok := f.tell != nil
		f.mu.Unlock()
		if ok {
			return
		}
	}
	t.Fatal("nobody watches the launcher")
}

func (w *world) has(job wlm.JobID) (ok bool) {
	w.a.ask(func() { ok = w.a.runs[job] != nil })
	return ok
}

// A job whose file was written but whose script never began is not held: the
// controller gives the order again.
func TestRestartBeforeLaunch(t *testing.T) {
	w := newWorld(t)
	w.send(w.startJob(1, wlm.KindBatch, 1))
	next(t, w.l.launchc)
	w.stop()
	w.l.mu.Lock()
	clear(w.l.steps)
	w.l.mu.Unlock()
	if reg := w.boot(); len(reg.GetJobs()) != 0 {
		t.Errorf("registered with %v", reg.GetJobs())
	}
	w.send(w.startJob(1, wlm.KindBatch, 1))
	next(t, w.l.launchc)
}

// The controller does not take reports, then is away, then slurmd restarts:
// the report arrives in the end.
func TestReportsAreKept(t *testing.T) {
	w := newWorld(t)
	w.ctl.refuse <- struct{}{}
	w.send(w.startJob(1, wlm.KindBatch, 1))
	next(t, w.l.launchc)
	w.l.end(1, batch, 0)
	if reg := next(t, w.ctl.registers); len(reg.GetJobs()) != 1 || reg.GetFirstReport() != 1 {
		t.Errorf("registered with %v", reg)
	}
	if e := next(t, w.ctl.reports); e.GetNumber() != 1 || e.GetStepEnded().GetStep().GetJob() != 1 {
		t.Errorf("reported %v", e)
	}
}

// The launch plugin dies and comes back.
func TestLauncherRestarts(t *testing.T) {
	w := newWorld(t)
	w.send(w.startJob(1, wlm.KindBatch, 1))
	next(t, w.l.launchc)
	w.l.mu.Lock()
	down := w.l.down
	w.l.down = make(chan struct{})
	w.l.mu.Unlock()
	close(down)
	w.l.end(1, batch, 0) // perhaps while nobody watches
	if e := next(t, w.ctl.reports).GetStepEnded(); e.GetStep().GetJob() != 1 {
		t.Errorf("reported %v", e)
	}
}

// watched reports whether somebody watches the launcher.
func (w *world) watched() bool {
	w.l.mu.Lock()
	defer w.l.mu.Unlock()
	return w.l.tell != nil
}

// running waits until a job's batch step runs, as far as the agent knows.
func (w *world) running(job wlm.JobID) {
	w.t.Helper()
	for end := time.Now().Add(patience); ; runtime.Gosched() {
		ok := false
		w.a.ask(func() {
			r := w.a.runs[job]
			ok = r != nil && r.steps[wlm.StepBatch] != nil && r.steps[wlm.StepBatch].state == stepRunning
		})
		if ok {
			return
		}
		if time.Now().After(end) {
			w.t.Fatalf("job %d does not run", job)
		}
	}
}

// A signal that reaches a launcher which has just been started, and does not
// know the step yet, is sent again.
func TestSignalToNewLauncher(t *testing.T) {
	w := newWorld(t)
	w.send(w.startJob(1, wlm.KindBatch, 1))
	next(t, w.l.launchc)
	w.running(1)
	w.l.mu.Lock()
	w.l.strange = true
	w.l.mu.Unlock()
	w.send(terminate(1, wlm.Cancelled, 3000))
	if got := next(t, w.l.signals); got != "unknown" {
		t.Fatalf("signal %q", got)
	}
	w.l.mu.Lock()
	w.l.strange = false
	w.l.mu.Unlock()
	for _, want := range []string{"1.batch 18", "1.batch 15"} {
		got := next(t, w.l.signals)
		for got == "unknown" {
			got = next(t, w.l.signals)
		}
		if got != want {
			t.Errorf("signal %q, want %q", got, want)
		}
	}
}

// again is a later run of a job.
func (w *world) again(id, restarts uint32) *nodev1.ToNode {
	m := w.startJob(id, wlm.KindBatch, 1)
	cred := new(nodev1.Credential)
	if err := proto.Unmarshal(m.GetStart().GetCredential(), cred); err != nil {
		w.t.Fatal(err)
	}
	cred.Restarts = restarts
	msg, err := proto.Marshal(cred)
	if err != nil {
		w.t.Fatal(err)
	}
	m.GetStart().Credential, m.GetStart().Signature = msg, w.ctl.signer.Sign(msg)
	return m
}

// The controller starts a job anew while its earlier run is still here: that
// run is ended, then the later one starts, and its file stays.
func TestLaterRun(t *testing.T) {
	w := newWorld(t)
	w.send(w.startJob(1, wlm.KindBatch, 1))
	next(t, w.l.launchc)
	w.running(1)
	w.send(w.again(1, 1))
	if got := next(t, w.l.signals); got != "1.batch 18" {
		t.Errorf("signal %q", got)
	}
	none(t, w.l.launchc)
	w.l.end(1, batch, 15)
	next(t, w.ctl.reports)
	if q := next(t, w.l.launchc); q.Restarts != 1 {
		t.Errorf("launched %v", q)
	}
	w.running(1)
	next(t, w.l.forgot)
	w.a.ask(func() {})
	if _, err := os.Stat(filepath.Join(w.spool, "jobs", "1")); err != nil {
		t.Errorf("the later run's file: %v", err)
	}
}

// A later run that was cancelled before it could start does not start.
func TestLaterRunCancelled(t *testing.T) {
	w := newWorld(t)
	w.send(w.startJob(1, wlm.KindBatch, 1))
	next(t, w.l.launchc)
	end := terminate(1, wlm.Cancelled, 30)
	end.GetTerminate().Restarts = 1
	w.send(w.again(1, 1), end)
	if g := next(t, w.ctl.reports).GetJobGone(); g.GetRestarts() != 1 {
		t.Errorf("reported %v", g)
	}
	w.l.end(1, batch, 15)
	if e := next(t, w.ctl.reports).GetStepEnded(); e.GetRestarts() != 0 {
		t.Errorf("reported %v", e)
	}
	next(t, w.l.forgot)
	w.send(w.startJob(2, wlm.KindBatch, 1))
	if q := next(t, w.l.launchc); q.Job != 2 {
		t.Errorf("launched %v", q)
	}
}

// api serves the node's API to alice, or to somebody else.
func (w *world) api(uid wlm.UID) nodev1.NodeAPIClient {
	return nodev1.NewNodeAPIClient(connect(w.t, func(s *grpc.Server) { nodev1.RegisterNodeAPIServer(s, NewAPI("v", w.a)) }, &auth.Identity{UID: uid}))
}

func TestSteps(t *testing.T) {
	w := newWorld(t)
	c := w.api(1001)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	one := &nodev1.CreateStepRequest{Job: 4, Name: "true", Ntasks: 1, Exact: true, Wait: true, Relative: wlm.Unset}
	early := make(chan *nodev1.CreateStepReply, 1)
	go func() { // before the job is known here
		r, err := c.CreateStep(ctx, one)
		if err != nil {
			t.Error(err)
		}
		early <- r
	}()
	w.send(w.startJob(4, wlm.KindAlloc, 1))
	r := next(t, early)
	if r.GetStep() != 0 || len(r.GetNodes()) != 1 || !slices.Contains(r.GetJobEnv(), "SLURM_STEP_ID=0") {
		t.Fatalf("step %v", r)
	}
	if _, err := w.api(1002).CreateStep(ctx, one); errs.CodeOf(wire.ErrorOfStatus(err)) != errs.AccessDenied {
		t.Errorf("another user: %v", err)
	}
	run := func(r *nodev1.CreateStepReply) grpc.BidiStreamingClient[nodev1.RunStepIn, nodev1.RunStepOut] {
		st, err := c.RunStep(ctx)
		if err != nil {
			t.Fatal(err)
		}
		st.Send(&nodev1.RunStepIn{Body: &nodev1.RunStepIn_Launch{Launch: &nodev1.RunLaunch{Credential: r.GetCredential(),
			Signature: r.GetSignature(), Work: &launchv1.Work{Argv: []string{"true"}}}}})
		return st
	}
	st := run(r)
	if m, err := st.Recv(); err != nil || m.GetLaunched().GetError() != "" {
		t.Fatalf("launched %v, %v", m, err)
	}
	if _, err := run(r).Recv(); errs.CodeOf(wire.ErrorOfStatus(err)) != errs.InvalidCredential {
		t.Errorf("the same credential twice: %v", err)
	}
	second := make(chan *nodev1.CreateStepReply, 1)
	go func() {
		r, err := c.CreateStep(ctx, one)
		if err != nil {
			t.Error(err)
		}
		second <- r
	}()
	w.l.end(4, 0, 0)
	if m, err := st.Recv(); err != nil || m.GetEnded() == nil {
		t.Fatalf("task ended %v, %v", m, err)
	}
	if m, err := st.Recv(); err != nil || m.GetDone() == nil {
		t.Fatalf("step done %v, %v", m, err)
	}
	none(t, second)
	if _, err := c.EndStep(ctx, &nodev1.EndStepRequest{Job: 4, Step: 0}); err != nil {
		t.Fatal(err)
	}
	if r := next(t, second); r.GetStep() != 1 {
		t.Errorf("second step %v", r)
	}
	if e := next(t, w.ctl.reports).GetStepEnded(); e.GetStep().GetId() != 0 || e.GetStep().GetState() != uint32(wlm.Completed) || e.GetStep().GetUserSec() != 2 || e.GetClean() {
		t.Errorf("reported %v", e)
	}
	// A third waits, and the job is ended.
	third := make(chan error, 1)
	go func() {
		_, err := c.CreateStep(ctx, one)
		third <- err
	}()
	for waiting := 0; waiting == 0; {
		w.a.ask(func() { waiting = len(w.a.runs[4].waiting) })
	}
	w.send(terminate(4, wlm.Completed, 30))
	if err := next(t, third); errs.CodeOf(wire.ErrorOfStatus(err)) != errs.AlreadyDone {
		t.Errorf("third step: %v", err)
	}
	if e := next(t, w.ctl.reports).GetStepEnded(); e.GetStep().GetId() != 1 || e.GetStep().GetState() != uint32(wlm.Cancelled) {
		t.Errorf("reported %v", e)
	}
	if g := next(t, w.ctl.reports).GetJobGone(); g.GetJob() != 4 {
		t.Errorf("reported %v", g)
	}
}

// A step that lasts is reported when it has lasted a second, and a restart of
// slurmd remembers which CPUs it holds.
// A call that comes before a restarted slurmd has found its steps waits for them.
func TestCallBeforeStepsAreFound(t *testing.T) {
	w := newWorld(t)
	w.send(w.startJob(1, wlm.KindBatch, 1))
	next(t, w.l.launchc)
	w.running(1)
	w.stop()
	w.l.mu.Lock()
	w.l.listed = make(chan chan struct{})
	w.l.mu.Unlock()
	w.start()
	hold := next(t, w.l.listed)
	done := make(chan error, 1)
	go func() {
		_, err := w.api(1001).SignalStep(t.Context(), &nodev1.SignalStepRequest{Job: 1, Step: batch, Signal: 10})
		done <- err
	}()
	w.l.mu.Lock()
	w.l.listed = nil
	w.l.mu.Unlock()
	close(hold)
	if err := next(t, done); err != nil {
		t.Fatal(err)
	}
	if got := next(t, w.l.signals); got != "1.batch 10" {
		t.Errorf("signal %q", got)
	}
}

// A step of a job whose first node is another one ended while slurmd was away:
// it stays until srun came back to hear of it.
func TestEndedStepWaitsForSrun(t *testing.T) {
	w := newWorld(t)
	w.stop()
	w.l.mu.Lock()
	w.l.steps["9.0"] = &fakeStep{q: &launchv1.LaunchRequest{Job: 9, Node: "n1", TaskIds: []uint32{0}}, gone: &launchv1.StepGone{Status: 3 << 8, Time: 1}}
	w.l.mu.Unlock()
	w.boot()
	if !w.has(9) {
		t.Fatal("the step is forgotten")
	}
	none(t, w.l.forgot)
	w.a.ask(func() { // as a session that told its end does
		s := w.a.runs[9].steps[0]
		s.delivered = true
		w.a.forgetLater(s)
	})
	if got := next(t, w.l.forgot); got != "9.0" || w.has(9) {
		t.Errorf("forgot %s; the run is there: %v", got, w.has(9))
	}
}

func TestLongStep(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	w.send(w.startJob(4, wlm.KindAlloc, 2))
	one := &nodev1.CreateStepRequest{Job: 4, Ntasks: 1, Exact: true, Relative: wlm.Unset}
	r, err := w.api(1001).CreateStep(ctx, one)
	if err != nil {
		t.Fatal(err)
	}
	if s := next(t, w.ctl.reports).GetStepStarted(); s.GetStep().GetId() != 0 || s.GetStep().GetCpus() != 1 {
		t.Errorf("reported %v", s)
	}
	w.stop()
	w.boot()
	r2, err := w.api(1001).CreateStep(ctx, one)
	if err != nil {
		t.Fatal(err)
	}
	a, b := wlm.CPUSet(r.GetNodes()[0].GetCpuSet()), wlm.CPUSet(r2.GetNodes()[0].GetCpuSet())
	if r2.GetStep() != 1 || a.Overlaps(b) {
		t.Errorf("step %d has CPUs %v beside %v", r2.GetStep(), b, a)
	}
	if _, err := w.api(1001).CreateStep(ctx, one); errs.CodeOf(wire.ErrorOfStatus(err)) != errs.NodesBusy {
		t.Errorf("a third step: %v", err)
	}
}

// Numbers of reports go on after a restart, also when none waits: one that was
// given again would count as acknowledged.
func TestReportNumbersGoOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "reports")
	log := slog.New(slog.DiscardHandler)
	for round := range uint64(3) {
		l, err := openReports(path, log)
		if err != nil {
			t.Fatal(err)
		}
		if got := l.last(); got != 2*round {
			t.Fatalf("round %d: the last number is %d, want %d", round, got, 2*round)
		}
		for i := range uint64(2) {
			done := make(chan struct{})
			l.add(&nodev1.Report{Number: 2*round + i + 1}, func() { close(done) })
			next(t, done)
		}
		if got := len(l.unacked()); got != 2 {
			t.Errorf("round %d: %d reports wait, want 2", round, got)
		}
		l.ack(2*round + 2)
		l.close()
	}
}

// What a full disk does not take is not taken for kept, and leaves nothing torn
// behind: it is written once there is room.
func TestReportsAndFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "reports")
	l, err := openReports(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	kept := make(chan uint64, 3)
	add := func(n uint64) { l.add(&nodev1.Report{Number: n}, func() { kept <- n }) }
	add(1)
	next(t, kept)
	good := l.f
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full here")
	}
	l.f = full // the writer rests: nothing waits
	add(2)
	add(3)
	l.ack(2) // what is acknowledged needs no disk
	if n := next(t, kept); n != 2 {
		t.Errorf("report %d was taken for kept", n)
	}
	if n := next(t, kept); n != 3 { // rewritten, since /dev/full cannot be cut
		t.Errorf("report %d, want 3", n)
	}
	good.Close()
	l.close()
	again, err := openReports(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer again.close()
	if u := again.unacked(); len(u) != 1 || u[0].GetNumber() != 3 {
		t.Errorf("after a restart: %v", u)
	}
}

func TestTornLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "reports")
	log := slog.New(slog.DiscardHandler)
	l, err := openReports(path, log)
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(3) {
		done := make(chan struct{})
		l.add(&nodev1.Report{Number: i + 1, Body: &nodev1.Report_JobGone{JobGone: &nodev1.JobGone{Job: uint32(i)}}}, func() { close(done) })
		<-done
	}
	l.ack(1)
	l.close()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := len(b); cut >= 0; cut-- {
		if err := os.WriteFile(path, b[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := openReports(path, log)
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		got := len(l.unacked())
		l.close()
		if cut == len(b) && got != 2 && got != 3 {
			t.Errorf("whole: %d reports", got)
		}
		if got > 3 {
			t.Errorf("cut at %d: %d reports", cut, got)
		}
	}
}

func FuzzRecords(f *testing.F) {
	f.Add(appendRecord(nil, recReport, []byte("x")))
	f.Add(appendRecord(appendRecord(nil, recAck, []byte("12345678")), recGrant, nil)[:20])
	f.Fuzz(func(t *testing.T, b []byte) {
		var again []byte
		whole, err := readRecords(b, func(kind byte, p []byte) error {
			again = appendRecord(again, kind, p)
			return nil
		})
		if err != nil || whole > len(b) || string(again) != string(b[:whole]) {
			t.Fatalf("%d of %d bytes are whole, %v", whole, len(b), err)
		}
	})
}

// A plugin that is replaced between the search for steps and the watch tells
// nothing of them before it was made to look: it is, once it says that it hears.
func TestLauncherReplacedBeforeWatch(t *testing.T) {
	w := newWorld(t)
	w.send(w.startJob(1, wlm.KindBatch, 1))
	next(t, w.l.launchc)
	w.running(1)
	for !w.watched() {
		runtime.Gosched()
	}
	w.l.mu.Lock()
	tell := w.l.tell
	w.l.steps[name(1, batch)].gone = &launchv1.StepGone{Status: 3 << 8, Time: 1} // nobody is told
	w.l.mu.Unlock()
	if err := tell(&launchv1.Happening{}); err != nil {
		t.Fatal(err)
	}
	if e := next(t, w.ctl.reports).GetStepEnded(); e.GetStep().GetStatus() != 3<<8 {
		t.Errorf("reported %v", e)
	}
}
