package pass

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/plugin/wirecall"
	"github.com/sluice-hpc/sluice/sdk/priority"
	"github.com/sluice-hpc/sluice/sdk/proto/mirror/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/selector"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"google.golang.org/protobuf/proto"
)

// policy is scheduler, selector and prioritizer in one: by id, first fit of one
// CPU, priority one.
type policy struct {
	broken  error // if set, what Plan says
	lazy    bool  // Plan finds nothing to do
	bad     bool  // Place puts every job on CPU 0 of node 0
	told    []selector.Refused
	plans   int
	seen    []string // node names at the last Plan
	pending int      // jobs that were ready at the last Plan
}

func (p *policy) Plan(_ context.Context, v sched.View) (a sched.Agenda, err error) {
	p.plans++
	p.seen, p.pending = nil, 0
	for _, n := range v.Nodes {
		p.seen = append(p.seen, string(n.Name))
	}
	for j := range v.PendingByPriority() {
		if !j.Ready {
			continue
		}
		p.pending++
		for range j.Tasks {
			if !p.lazy {
				a.Add(j.ID, sched.Skip)
			}
		}
	}
	return a, p.broken
}

func (p *policy) Rank(_ context.Context, _ mirror.View, r priority.Request) (out priority.Ranking, err error) {
	for _, id := range r.Jobs {
		out.Jobs, out.Priorities = append(out.Jobs, id), append(out.Priorities, 1)
	}
	return out, nil
}

func (p *policy) Place(_ context.Context, v mirror.View, r selector.Request) (out selector.Result, err error) {
	p.told = append(p.told, r.Refused...)
	used := make([]wlm.CPUSet, len(v.Nodes))
	for j := range v.Running() {
		for _, u := range j.Uses {
			used[u.Node] = used[u.Node].Or(u.CPUs)
		}
	}
	for _, e := range r.Agenda.Entries {
		for i, n := range v.Nodes {
			cpu := 0
			for !p.bad && cpu < n.CPUs && used[i].Overlaps(wlm.CPUSet{}.Set(cpu)) {
				cpu++
			}
			if cpu >= n.CPUs || !n.Usable {
				continue
			}
			set := wlm.CPUSet{}.Set(cpu)
			used[i] = used[i].Or(set)
			out.Placements = append(out.Placements, selector.Placement{Job: e.Job, Uses: []mirror.NodeUse{{Node: n.Index, CPUs: set}}})
			break
		}
	}
	return out, nil
}

func (p *policy) WhatIf(context.Context, mirror.View, *mirror.Job) (selector.Result, error) {
	return selector.Result{}, nil
}

// process is a policy as a plugin that may die and come back.
type process struct {
	*wirecall.Local
	policy *policy
	epoch  uint64
	during func() // called while a call runs; may be nil

	pushes, snapshots int
}

func (x *process) Call(ctx context.Context, kind, method string, payload []byte) ([]byte, error) {
	if x.during != nil {
		x.during()
	}
	return x.Local.Call(ctx, kind, method, payload)
}

func newProcess(p *policy) *process {
	x := &process{policy: p}
	x.restart()
	return x
}

func (x *process) restart() {
	x.epoch++
	x.Local = wirecall.NewLocal(sched.Handler(x.policy), selector.Handler(x.policy), priority.Handler(x.policy))
}

func (x *process) Epoch() uint64 { return x.epoch }

func (x *process) PushState(epoch uint64, frames [][]byte) error {
	if epoch != x.epoch {
		return errors.New("another epoch")
	}
	x.pushes++
	for _, f := range frames {
		var m mirrorv1.Frame
		if err := proto.Unmarshal(f, &m); err == nil && m.GetReset_() {
			x.snapshots++
		}
	}
	return x.Local.PushState(frames)
}

// world is a cluster with a runner, without goroutines.
type world struct {
	t   *testing.T
	c   *cluster.Cluster
	r   *Runner
	pol *policy
	px  *process
	cfg *cluster.Configure
	now time.Time
}

func (w *world) Do(_ context.Context, cmd cluster.Command) (any, error) {
	v, err := w.c.Apply(cmd, wlm.TimeOf(w.now))
	if w.r != nil {
		w.r.Publish(w.c.TakeTurn())
	}
	return v, err
}

func (w *world) do(cmd cluster.Command) any {
	w.t.Helper()
	v, err := w.Do(w.t.Context(), cmd)
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

func (w *world) submit(s wlm.Spec) wlm.JobID {
	w.t.Helper()
	s.Name, s.User, s.Priority, s.CoreSpec = "job", 1000, wlm.Unset, wlm.Unset
	return w.do(&cluster.Submit{Spec: &s, Script: []byte("#!"), Caller: cluster.Caller{UID: 1000}}).(*cluster.SubmitReply).Job.ID
}

func (w *world) pass() {
	w.t.Helper()
	if _, err := w.r.Pass(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	if err := w.c.Check(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) running(want int) {
	w.t.Helper()
	if got := w.c.RunningCount(); got != want {
		w.t.Fatalf("%d jobs run, want %d", got, want)
	}
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, pol: &policy{}, now: time.Unix(1_000_000, 0)}
	w.cfg = &cluster.Configure{Settings: cluster.Settings{FirstJobID: 1, MaxArraySize: 100, MinJobAge: 300, JobRequeue: true}}
	p := wlm.Partition{Name: "main", Nodes: "n[1-3]", Default: true, MaxTime: wlm.Unlimited, MaxNodes: wlm.Unset, MaxCPUsPerNode: wlm.Unset, PriorityTier: 1}
	for _, n := range []wlm.NodeName{"n1", "n2", "n3"} {
		w.cfg.Nodes = append(w.cfg.Nodes, wlm.Node{Name: n, CPUs: 2, Sockets: 1, CoresPerSocket: 2, ThreadsPerCore: 1})
		p.NodeNames = append(p.NodeNames, n)
	}
	w.cfg.Partitions = []wlm.Partition{p}
	w.c = cluster.New(w.cfg.Settings)
	w.do(w.cfg)
	for _, n := range p.NodeNames {
		w.do(&cluster.Register{Node: n, Msg: &nodev1.Register{Cpus: 2}})
	}
	w.c.TakeTurn()
	w.px = newProcess(w.pol)
	w.r = New(Options{Loop: w, Sched: w.px, Select: w.px, Priority: w.px, Now: func() time.Time { return w.now },
		Log: slog.New(slog.NewTextHandler(io.Discard, nil))}, &w.c.Tables)
	return w
}

// end lets a job end on its node.
func (w *world) end(id wlm.JobID) {
	w.t.Helper()
	w.do(&cluster.Complete{Job: id, Caller: cluster.Caller{Admin: true}})
	for _, n := range w.c.Job(id).Cleaning {
		w.do(&cluster.Reports{Node: n, Reports: []*nodev1.Report{{Body: &nodev1.Report_JobGone{JobGone: &nodev1.JobGone{Job: uint32(id)}}}}})
	}
}

func TestAJobIsRankedPlannedPlacedAndStarted(t *testing.T) {
	w := newWorld(t)
	id := w.submit(wlm.Spec{})
	w.pass()
	w.running(1)
	j := w.c.Job(id)
	if !j.Ranked || j.Priority != 1 || j.Alloc.NodeList != "n1" || j.SchedulerTag != "Main" {
		t.Errorf("ranked %v, priority %d, nodes %s, scheduler %s", j.Ranked, j.Priority, j.Alloc.NodeList, j.SchedulerTag)
	}
	plans := w.pol.plans
	w.pass()
	w.pass()
	if w.pol.plans > plans+1 {
		t.Errorf("%d plans with no cause", w.pol.plans-plans)
	}
	w.end(id)
	w.submit(wlm.Spec{})
	w.pass()
	w.running(1)
}

func TestANewProcessGetsEverything(t *testing.T) {
	w := newWorld(t)
	w.submit(wlm.Spec{})
	w.pass()
	w.px.restart()
	w.submit(wlm.Spec{})
	w.pass()
	w.running(2)
}

func TestARefusedPlacementIsToldInTheNextPass(t *testing.T) {
	w := newWorld(t)
	w.submit(wlm.Spec{})
	w.pass()
	w.pol.bad = true // CPU 0 of n1 is taken
	id := w.submit(wlm.Spec{})
	w.pass()
	w.running(1)
	w.pol.bad = false
	w.submit(wlm.Spec{})
	w.pass()
	w.running(3)
	if len(w.pol.told) != 1 || w.pol.told[0].Job != id || w.pol.told[0].Text == "" {
		t.Errorf("told %+v", w.pol.told)
	}
	if s := w.r.Stats(); s.Refused != 1 || s.Started != 3 {
		t.Errorf("stats %+v", s)
	}
}

func TestAnArrayKeepsItsLimit(t *testing.T) {
	w := newWorld(t)
	w.submit(wlm.Spec{Array: "0-4%2"})
	w.pass()
	w.running(2)
	w.pass()
	w.running(2)
	for range 3 {
		for j := range w.c.AllJobs {
			if j.State == wlm.Running {
				w.end(j.ID)
				break
			}
		}
		w.pass()
		w.running(2)
	}
}

func TestARemovedNodeRestartsTheMirrors(t *testing.T) {
	w := newWorld(t)
	w.pass()
	w.cfg.Nodes = w.cfg.Nodes[1:]
	w.do(w.cfg)
	w.submit(wlm.Spec{})
	w.pass()
	w.running(1)
	if len(w.pol.seen) != 2 || w.pol.seen[0] != "n2" {
		t.Errorf("the plugin sees %q", w.pol.seen)
	}
}

func TestAFailingPluginCostsAPass(t *testing.T) {
	w := newWorld(t)
	w.pol.broken = errors.New("out of order")
	w.submit(wlm.Spec{})
	if _, err := w.r.Pass(t.Context()); err == nil {
		t.Fatal("no error")
	}
	w.running(0)
	w.pol.broken = nil
	w.pass()
	w.running(1)
}

// A plugin that cannot be reached must not cost the others their frames.
func TestAPushThatFailsLeavesTheOthersUpToDate(t *testing.T) {
	w := newWorld(t)
	away := &unreachable{process: newProcess(w.pol)}
	w.r = New(Options{Loop: w, Sched: w.px, Select: w.px, Priority: away, Now: func() time.Time { return w.now },
		Log: slog.New(slog.NewTextHandler(io.Discard, nil))}, &w.c.Tables)
	w.pass()
	away.gone = true
	w.submit(wlm.Spec{})
	if _, err := w.r.Pass(t.Context()); err == nil {
		t.Fatal("no error")
	}
	away.gone = false
	away.restart()
	w.pass()
	w.running(1)
}

type unreachable struct {
	*process
	gone bool
}

func (u *unreachable) PushState(epoch uint64, frames [][]byte) error {
	if u.gone {
		return errors.New("connection refused")
	}
	return u.process.PushState(epoch, frames)
}

func TestAPartitionIsInactiveOrDown(t *testing.T) {
	w := newWorld(t)
	id := w.submit(wlm.Spec{})
	w.pass()
	for state, want := range map[wlm.PartState]wlm.Reason{wlm.PartDown: wlm.WaitPartDown, wlm.PartInactive: wlm.WaitPartInactive} {
		w.cfg.Partitions[0].State = state
		w.do(w.cfg)
		w.r.take()
		var got map[wlm.JobID]*wlm.Outlook
		w.r.o.Outlooks = func(m map[wlm.JobID]*wlm.Outlook) { got = m }
		w.r.look([]selector.Verdict{{Reason: wlm.WaitPartDown, Text: "down", Jobs: []wlm.JobID{id}}})
		if o := got[id]; o == nil || o.Reason != want {
			t.Errorf("state %v: %+v, want %v", state, o, want)
		}
	}
}
