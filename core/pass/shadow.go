package pass

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/selector"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// A Shadow plans the passes of a [Runner] again with other plugins, and starts
// nothing. It has a feed of its own in a goroutine of its own: the live pass
// appends its events and decisions to a list and never waits. A shadow that is
// slow leaves passes out; one that falls too far behind fails.
//
// What it sees at each pass is what the live plugins saw, so that it compares
// decisions: see contrib/docs/adr/0004.
type Shadow struct {
	o ShadowOptions

	mu     sync.Mutex // guards what the live pass hands over; never held across a call
	open   []*cluster.Event
	set    map[string]string // nil: unchanged
	closed []ticket
	events int // in open and closed
	failed error

	wake chan struct{}
	seed []*cluster.Event // what there was when it began

	feed *feed             // these belong to Run's goroutine
	fed  map[Plugin]uint64 // epoch fed last

	tally tally
}

// ShadowOptions say who plans.
type ShadowOptions struct {
	Sched, Select Plugin // the candidate and an instance of the live other one
	Log           *slog.Logger
}

// ticket is one live pass: what came before it, and what it decided.
type ticket struct {
	events []*cluster.Event
	set    map[string]string
	at     time.Time
	starts []start // by the live plugins
	took   time.Duration
}

// start is a job, or a task of an array, that one side starts.
type start struct {
	key  wlm.JobID // the array's id for its tasks
	job  wlm.JobID
	cpus int
	due  wlm.Time // since when it could have run
}

const maxBehind = 500_000 // events that a shadow may have before it

// NewShadow returns a shadow. [Runner.Attach] gives it something to do, Run
// makes it work.
func NewShadow(o ShadowOptions) *Shadow {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return &Shadow{o: o, wake: make(chan struct{}, 1), feed: newFeed(), fed: map[Plugin]uint64{}, tally: newTally()}
}

// Attach begins to hand the runner's passes to a shadow.
func (r *Runner) Attach(s *Shadow) {
	r.passing.Lock()
	defer r.passing.Unlock()
	r.take()
	t := r.feed.tables
	for _, n := range t.Nodes {
		s.seed = append(s.seed, &cluster.Event{Kind: eventv1.Kind_NODE_CHANGED, Node: n})
	}
	for _, p := range t.Partitions {
		s.seed = append(s.seed, &cluster.Event{Kind: eventv1.Kind_PARTITION_CHANGED, Partition: p})
	}
	for j := range t.AllJobs {
		s.seed = append(s.seed, &cluster.Event{Kind: eventv1.Kind_JOB_CHANGED, Job: j})
	}
	s.set = r.feed.all
	r.shadows = append(slices.Clip(r.shadows), s)
	r.cause = true
	r.Wake()
}

// Detach ends what Attach began.
func (r *Runner) Detach(s *Shadow) {
	r.passing.Lock()
	defer r.passing.Unlock()
	r.shadows = slices.DeleteFunc(slices.Clone(r.shadows), func(x *Shadow) bool { return x == s })
}

// hear takes what comes between two live passes.
func (s *Shadow) hear(events []*cluster.Event, set map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return
	}
	s.open = append(s.open, events...)
	if set != nil {
		s.set = set
	}
	if s.events += len(events); s.events > maxBehind {
		s.failed = errs.Newf("pass.Shadow", errs.Exhausted, "it fell %d events behind the live plugins", s.events)
		s.open, s.closed = nil, nil
		s.poke()
	}
}

// close takes what a live pass decided on all that was heard before.
func (s *Shadow) close(at time.Time, starts []start, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return
	}
	s.closed = append(s.closed, ticket{s.open, s.set, at, starts, took})
	s.open, s.set = nil, nil
	s.poke()
}

func (s *Shadow) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// closeShadows hands a live pass to the shadows.
func (r *Runner) closeShadows(at time.Time, reply *cluster.StartReply, took time.Duration) {
	if len(r.shadows) == 0 {
		return
	}
	var starts []start
	if reply != nil {
		for _, j := range reply.Started {
			x := start{key: keyOf(j), job: j.ID, due: dueOf(j)}
			for i := range j.Alloc.Nodes {
				x.cpus += j.Alloc.Nodes[i].CPUs.Count()
			}
			starts = append(starts, x)
		}
	}
	for _, s := range r.shadows {
		s.close(at, starts, took)
	}
}

func keyOf(j *wlm.Job) wlm.JobID {
	if j.ArrayJob != 0 {
		return j.ArrayJob
	}
	return j.ID
}

func dueOf(j *wlm.Job) wlm.Time { return max(j.Submit, j.Eligible) }

// Run plans until ctx ends or the shadow fails, and returns why it failed.
func (s *Shadow) Run(ctx context.Context) error {
	slices.SortStableFunc(s.seed, func(a, b *cluster.Event) int {
		if a.Job == nil || b.Job == nil {
			return 0
		}
		return int(a.Job.ID) - int(b.Job.ID)
	})
	for _, e := range s.seed {
		s.feed.put(e)
	}
	s.seed = nil
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		}
		s.mu.Lock()
		closed, failed := s.closed, s.failed
		s.closed, s.events = nil, len(s.open)
		s.mu.Unlock()
		if failed != nil {
			return failed
		}
		for i := range closed {
			t := &closed[i]
			s.put(t)
			if i < len(closed)-1 {
				s.tally.miss(t)
				continue
			}
			if err := s.judge(ctx, t); err != nil && ctx.Err() == nil {
				s.tally.miss(t)
				s.tally.problem(err)
				s.o.Log.Warn("a shadow made no plan", "err", err)
			}
		}
	}
}

func (s *Shadow) put(t *ticket) {
	for _, e := range t.events {
		s.feed.put(e)
		if j := e.Job; j != nil && j.State.Ended() {
			s.tally.ended(j)
		}
	}
	if t.set != nil {
		s.feed.set(t.set)
	}
}

// judge plans one pass and compares.
func (s *Shadow) judge(ctx context.Context, t *ticket) error {
	now := wlm.TimeOf(t.at)
	if err := s.sync(now); err != nil {
		return err
	}
	rev, begin := s.feed.encoder.Rev(), time.Now()
	agenda, err := sched.NewClient(s.o.Sched).Plan(ctx, rev, now)
	if err != nil {
		return err
	}
	result := selector.Result{}
	if len(agenda.Entries) > 0 {
		if result, err = selector.NewClient(s.o.Select).Place(ctx, rev, now, selector.Request{Agenda: agenda}); err != nil {
			return err
		}
	}
	took := time.Since(begin)
	starts := s.valid(result.Placements)
	forecast := map[wlm.JobID]wlm.Time{}
	for i := range result.Verdicts {
		if v := &result.Verdicts[i]; v.Start > now {
			for _, id := range v.Jobs {
				forecast[id] = v.Start
			}
		}
	}
	usable, used := s.capacity()
	s.tally.judge(t, took, starts, forecast, usable, used)
	return nil
}

// sync brings the mirrors of both plugins to the feed's state.
func (s *Shadow) sync(now wlm.Time) error {
	var frames, snapshot [][]byte
	if s.feed.dirty() || s.feed.encoder.Rev() == 0 {
		var over bool
		if frames, over = s.feed.frames(now); over {
			clear(s.fed)
		}
	}
	plugins := []Plugin{s.o.Sched, s.o.Select}
	if s.o.Sched == s.o.Select {
		plugins = plugins[:1]
	}
	var failed error
	for _, p := range plugins {
		epoch, push := p.Epoch(), frames
		if s.fed[p] != epoch || epoch == 0 {
			if snapshot == nil {
				snapshot = s.feed.snapshot(now)
			}
			push = snapshot
		}
		delete(s.fed, p)
		if err := p.PushState(epoch, push); err != nil {
			failed = err
			continue
		}
		s.fed[p] = epoch
	}
	return failed
}

// valid are the placements that the cluster would have taken, had it been
// asked: a shadow that starts everything everywhere is no better for it.
func (s *Shadow) valid(placements []selector.Placement) []start {
	t := s.feed.tables
	taken := map[wlm.NodeIndex]wlm.CPUSet{}
	tasks := map[wlm.JobID]int{}
	var out []start
	for i := range placements {
		p := &placements[i]
		j := t.Job(p.Job)
		if j == nil || j.State != wlm.Pending || j.Held || j.Reason != wlm.ReasonNone || len(p.Uses) < int(j.Spec.MinNodes) || len(p.Uses) == 0 ||
			tasks[p.Job] >= t.TasksReady(j) {
			continue
		}
		x := start{key: keyOf(j), job: j.ID, due: dueOf(j)}
		ok := true
		for _, u := range p.Uses {
			if int(u.Node) >= len(t.Nodes) || !t.Nodes[u.Node].Available() || t.Usage[u.Node].CPUs.Overlaps(u.CPUs) || taken[u.Node].Overlaps(u.CPUs) {
				ok = false
				break
			}
			x.cpus += u.CPUs.Count()
		}
		if k := cluster.ClassOf(j.Spec); !ok || x.cpus < int(k.MinCPUs()) {
			continue
		}
		for _, u := range p.Uses {
			taken[u.Node] = taken[u.Node].Or(u.CPUs)
		}
		tasks[p.Job]++
		out = append(out, x)
	}
	return out
}

// capacity counts the usable CPUs and those in use.
func (s *Shadow) capacity() (usable, used int) {
	t := s.feed.tables
	for i, n := range t.Nodes {
		if n.Available() {
			usable += int(n.CPUs)
		}
		used += t.Usage[i].CPUs.Count()
	}
	return usable, used
}
