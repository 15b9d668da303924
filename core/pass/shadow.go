package pass

import (
	"context"
	"fmt"
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

// A Shadow plans beside a [Runner] with other plugins, and starts nothing on the
// cluster: what it starts, runs in a history of its own (see history), which
// Report compares with what the live side did.
//
// It has a feed of its own in a goroutine of its own: the live pass appends its
// events to a list and never waits. A shadow makes a pass whenever the live side
// made one, and of its own accord when something that only its history has gives
// cause. One that is slow leaves passes out; one that falls too far behind fails.
type Shadow struct {
	o ShadowOptions

	mu     sync.Mutex // guards what the live pass hands over; never held across a call
	open   []*cluster.Event
	set    map[string]string // nil: unchanged
	rules  *cluster.Settings // nil: unchanged
	closed []ticket
	events int // in open and closed
	failed error

	wake    chan struct{}
	seed    []*cluster.Event // what there was when it began
	began   time.Time
	planted bool // the seed is in the history

	hist    *history // these belong to Run's goroutine
	fed     map[Plugin]uint64
	refused []selector.Refused
	again   time.Time // when it wants a pass of its own; zero: never
	since   time.Time // when something gave cause for a pass that no live pass followed yet; zero: nothing did
	tally   *tally
}

// ShadowOptions say who plans.
type ShadowOptions struct {
	Sched, Select Plugin           // the candidate and an instance of the live other one
	Rules         cluster.Settings // by which its history commits
	Now           func() time.Time // nil: time.Now
	Log           *slog.Logger
}

// ticket is one live pass: what came before it, and how long it planned.
type ticket struct {
	events []*cluster.Event
	set    map[string]string
	rules  *cluster.Settings
	at     time.Time
	took   time.Duration
	own    bool // no live pass, but the shadow's own accord
}

const (
	maxBehind = 500_000 // events that a shadow may have before it
	// settle is how long a shadow waits for the live pass that events cause
	// before it makes a pass without one.
	settle     = 250 * time.Millisecond
	retryAfter = time.Second // after a pass that failed
)

// NewShadow returns a shadow. [Runner.Attach] gives it something to do, Run
// makes it work.
func NewShadow(o ShadowOptions) *Shadow {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	t := newTally()
	return &Shadow{o: o, wake: make(chan struct{}, 1), hist: newHistory(o.Rules, t), fed: map[Plugin]uint64{}, tally: t}
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
	for _, x := range t.Reservations {
		s.seed = append(s.seed, &cluster.Event{Kind: eventv1.Kind_RESERVATION_CHANGED, Reservation: x})
	}
	for j := range t.AllJobs {
		s.seed = append(s.seed, &cluster.Event{Kind: eventv1.Kind_JOB_CHANGED, Job: j})
	}
	s.set, s.began = r.feed.all, r.o.Now()
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

// Clock lets a shadow that was not run yet read the runner's clock.
func (s *Shadow) Clock(r *Runner) { s.o.Now = r.o.Now }

// SetRules changes the rules by which the history commits.
func (s *Shadow) SetRules(rules cluster.Settings) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = &rules
}

// hear takes what comes between two live passes.
func (s *Shadow) hear(events []*cluster.Event, set map[string]string) {
	if len(events) == 0 && set == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return
	}
	if len(s.open) == 0 {
		s.poke()
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

// close takes what a live pass saw of all that was heard before.
func (s *Shadow) close(at time.Time, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return
	}
	s.closed = append(s.closed, s.cut(at, took))
	s.poke()
}

func (s *Shadow) cut(at time.Time, took time.Duration) ticket {
	t := ticket{events: s.open, set: s.set, rules: s.rules, at: at, took: took}
	s.open, s.set, s.rules = nil, nil, nil
	return t
}

func (s *Shadow) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// closeShadows hands a live pass to the shadows.
func (r *Runner) closeShadows(at time.Time, took time.Duration) {
	for _, s := range r.shadows {
		s.close(at, took)
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
	alarm := time.NewTimer(0)
	defer alarm.Stop()
	for {
		if at := s.Due(); at.IsZero() {
			alarm.Stop()
		} else {
			alarm.Reset(at.Sub(s.o.Now()))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		case <-alarm.C:
		}
		if err := s.CatchUp(ctx); err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// Due is when CatchUp has something to do that no live pass announces; zero: not
// before one does. Like CatchUp, it is for one goroutine, which is Run's where
// Run is used.
func (s *Shadow) Due() time.Time {
	at := s.again
	sooner := func(t time.Time) {
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	if end := s.hist.due(); end != 0 && len(s.hist.feed.pending) > 0 {
		sooner(time.Unix(int64(end), 0))
	}
	if !s.since.IsZero() {
		sooner(s.since.Add(settle))
	}
	return at
}

// CatchUp takes in all that the live side has handed over, and makes the passes
// that are due. An error means that the shadow cannot go on. A panic is one, so
// that it takes nobody else along.
func (s *Shadow) CatchUp(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errs.Newf("pass.Shadow", errs.Internal, "%v", p)
		}
	}()
	due, now := s.Due(), s.o.Now()
	s.mu.Lock()
	tickets, failed := s.closed, s.failed
	s.closed, s.events = nil, 0
	rest := s.cut(now, 0)
	s.mu.Unlock()
	if failed != nil {
		return failed
	}
	if err := s.plant(); err != nil {
		return err
	}
	for i := range tickets {
		t := &tickets[i]
		if err := s.put(t); err != nil {
			return err
		}
		if i < len(tickets)-1 {
			s.tally.miss(t.took)
			continue
		}
		s.pass(ctx, t)
	}
	if err := s.put(&rest); err != nil {
		return err
	}
	if len(tickets) == 0 && !due.IsZero() && !due.After(now) {
		rest.own = true
		s.pass(ctx, &rest)
	}
	if s.since = (time.Time{}); s.hist.cause && len(s.hist.feed.pending) > 0 {
		s.since = now
	}
	return nil
}

// plant takes in what there was when the shadow began.
func (s *Shadow) plant() error {
	if s.planted {
		return nil
	}
	s.planted = true
	slices.SortStableFunc(s.seed, func(a, b *cluster.Event) int {
		if a.Job == nil || b.Job == nil {
			return 0
		}
		return int(a.Job.ID) - int(b.Job.ID)
	})
	seed := s.seed
	s.seed = nil
	if err := s.hist.seed(seed); err != nil {
		return err
	}
	s.hist.begin(wlm.TimeOf(s.began))
	return nil
}

func (s *Shadow) put(t *ticket) error {
	if t.rules != nil {
		s.hist.c.SetRules(*t.rules)
	}
	for _, e := range t.events {
		if err := s.hist.hear(e); err != nil {
			return err
		}
	}
	if t.set != nil {
		s.hist.feed.set(t.set)
		s.hist.cause = true
	}
	return s.hist.advance(wlm.TimeOf(t.at))
}

// pass plans for a ticket until nothing is left to be done at that moment.
func (s *Shadow) pass(ctx context.Context, t *ticket) {
	wanted := !s.again.IsZero() && !s.again.After(t.at)
	if t.own && !s.hist.cause && !wanted {
		return
	}
	s.again = time.Time{}
	begin := s.o.Now()
	const rounds = 1000 // bf_max_job_start and the like may ask for many
	idle := len(s.hist.feed.pending) == 0
	for range rounds {
		s.hist.cause = false
		if idle || ctx.Err() != nil {
			break
		}
		more, err := s.plan(ctx, t.at)
		if err != nil {
			if ctx.Err() == nil {
				s.tally.problem(err)
				s.o.Log.Warn("a shadow made no plan", "err", err)
			}
			if !t.own {
				s.tally.miss(t.took)
			}
			s.again = s.o.Now().Add(retryAfter)
			return
		}
		if !more {
			break
		}
	}
	took := max(s.o.Now().Sub(begin), 1)
	switch {
	case !t.own && idle:
		s.tally.judged(t.took, 0)
	case !t.own:
		s.tally.judged(t.took, took)
	case !idle:
		s.tally.own(took)
	}
}

// plan makes one pass. more asks for another at the same moment.
func (s *Shadow) plan(ctx context.Context, at time.Time) (more bool, err error) {
	h, now, begin := s.hist, wlm.TimeOf(at), s.o.Now()
	if err := s.sync(now); err != nil {
		return false, err
	}
	rev := h.feed.encoder.Rev()
	agenda, err := sched.NewClient(s.o.Sched).Plan(ctx, rev, now)
	if err != nil {
		return false, err
	}
	if agenda.Wake > now {
		s.again = time.Unix(int64(agenda.Wake), 0)
	}
	if len(agenda.Entries) == 0 {
		s.tally.forecast(nil)
		return false, nil
	}
	most := h.feed.maxStarts()
	result, err := selector.NewClient(s.o.Select).Place(ctx, rev, now, selector.Request{Agenda: agenda, Refused: s.refused, MaxStarts: most})
	if err != nil {
		return false, err
	}
	s.refused = nil
	if err := s.commit(result.Placements, wlm.TimeOf(at.Add(s.o.Now().Sub(begin)))); err != nil {
		return false, err
	}
	forecast := map[wlm.JobID]wlm.Time{}
	for i := range result.Verdicts {
		if v := &result.Verdicts[i]; v.Start > now {
			for _, id := range v.Jobs {
				forecast[id] = v.Start
			}
		}
	}
	s.tally.forecast(forecast)
	usable := 0
	for _, n := range h.c.Nodes {
		if n.Available() {
			usable += int(n.CPUs)
		}
	}
	s.tally.share(usable, h.live.total, h.used.total)
	return most > 0 && len(result.Placements) >= most, nil
}

// commit starts in the history what would have started: a shadow that starts
// everything everywhere is no better for it. A job starts when the plan is made,
// not when it was asked for.
func (s *Shadow) commit(placements []selector.Placement, at wlm.Time) error {
	start := &cluster.Start{}
	preempting := 0
	for i := range placements {
		p, ok := s.hist.feed.placement(&placements[i])
		switch {
		case !ok:
		case len(p.Victims) > 0:
			preempting++
		default:
			start.Placements = append(start.Placements, p)
		}
	}
	if preempting > 0 {
		s.tally.problem(fmt.Errorf("%d placements of a pass preempt, which a shadow's history leaves out", preempting))
	}
	refused, err := s.hist.commit(start, at)
	for _, x := range refused {
		s.refused = append(s.refused, selector.Refused{Job: x.Job, Text: x.Text})
	}
	return err
}

// sync brings the mirrors of both plugins to the history's state.
func (s *Shadow) sync(now wlm.Time) error {
	f := s.hist.feed
	var frames, snapshot [][]byte
	if f.dirty() || f.encoder.Rev() == 0 {
		var over bool
		if frames, over = f.frames(now); over {
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
				snapshot = f.snapshot(now)
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
