// Package pass runs scheduling passes: what changed goes out to the mirrors of
// the plugins, an agenda and placements come in, and the cluster commits those
// that hold.
//
// A pass crosses to each plugin a fixed number of times, whatever the number of
// jobs and nodes:
//
//  1. the events since the last pass become one change, encoded once, and are
//     pushed to every plugin (a plugin that started anew gets a snapshot);
//  2. jobs without a priority are ranked, all of them when priorities age;
//  3. the scheduler plans an agenda, the selector places it;
//  4. one Start command commits the placements; those refused are told to the
//     selector in the next pass;
//  5. readers get the verdicts as outlooks.
//
// Passes never run at the same time. One starts as soon as something changed
// that could let a job start, but never takes more than half of the time, so
// that a long queue does not starve the controller. A plugin that is away costs
// passes, nothing else.
package pass

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/plugin/wirecall"
	"github.com/sluice-hpc/sluice/sdk/priority"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/selector"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"golang.org/x/time/rate"
)

// Plugin is a plugin with a mirror; *pluginhost.Plugin is one.
type Plugin interface {
	wirecall.Caller
	Epoch() uint64
	PushState(epoch uint64, frames [][]byte) error
}

// Loop takes the commands of a pass; *ctl.Loop is one.
type Loop interface {
	Do(ctx context.Context, cmd cluster.Command) (any, error)
}

// Options of a runner. Sched, Select and Priority may be the same plugin.
type Options struct {
	Loop     Loop
	Sched    Plugin
	Select   Plugin
	Priority Plugin
	// Outlooks hears what each pass found out about the jobs that wait.
	Outlooks func(map[wlm.JobID]*wlm.Outlook)
	Settings map[string]string // of slurm.conf, for policies
	Age      time.Duration     // how often all priorities are computed; 0: 5 minutes
	Idle     time.Duration     // a pass at least this often; 0: 30 seconds
	Now      func() time.Time  // nil: time.Now
	Log      *slog.Logger
}

// Stats are a runner's figures, for sdiag and metrics.
type Stats struct {
	Passes, Failed, Started, Refused uint64
	Last, Max, Total                 time.Duration
	// Parts of Total: encoding and sending changes, and waiting for each plugin
	// and for the commit.
	Push, Rank, Plan, Place, Commit time.Duration
}

// Runner runs passes. Publish and Wake may be called from anywhere.
type Runner struct {
	o    Options
	mu   sync.Mutex // guards queue and settings, never held across a call
	in   []*cluster.Event
	set  map[string]string
	wake chan struct{}

	passing   sync.Mutex // held during a pass and a forecast: guards what follows
	feed      *feed
	fed       map[Plugin]uint64 // epoch fed last
	followers []*follower       // candidates
	shadows   []*Shadow
	refused   []selector.Refused
	aged      time.Time
	lowest    uint32
	highest   uint32
	cause     bool // something that could let a job start came since the last plan

	sched                             *sched.Client
	sel                               *selector.Client
	prio                              *priority.Client
	passes, failed, started, refusals atomic.Uint64
	last, longest, total              atomic.Int64
	due                               atomic.Int64 // when the policy asked to be woken; 0: never
	push, ranking, plan, placing, com atomic.Int64
}

// New returns a runner for the cluster as it is in t; events after that come by
// Publish.
func New(o Options, t *cluster.Tables) *Runner {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Age == 0 {
		o.Age = 5 * time.Minute
	}
	if o.Idle == 0 {
		o.Idle = 30 * time.Second
	}
	r := &Runner{o: o, wake: make(chan struct{}, 1), feed: newFeed(), fed: map[Plugin]uint64{}, cause: true, aged: o.Now(),
		sched: sched.NewClient(o.Sched), sel: selector.NewClient(o.Select), prio: priority.NewClient(o.Priority)}
	r.feed.seed(t)
	r.feed.set(o.Settings)
	return r
}

// Publish is a ctl.Listener.
func (r *Runner) Publish(events []*cluster.Event) {
	r.mu.Lock()
	r.in = append(r.in, events...)
	r.mu.Unlock()
	r.Wake()
}

// Configure changes the settings that policies read.
func (r *Runner) Configure(settings map[string]string) {
	r.mu.Lock()
	r.set = settings
	r.mu.Unlock()
	r.Wake()
}

// Wake asks for a pass, because a plugin is new or something outside the events
// changed.
func (r *Runner) Wake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Stats returns the figures so far.
func (r *Runner) Stats() Stats {
	d := func(v *atomic.Int64) time.Duration { return time.Duration(v.Load()) }
	return Stats{Passes: r.passes.Load(), Failed: r.failed.Load(), Started: r.started.Load(), Refused: r.refusals.Load(),
		Last: d(&r.last), Max: d(&r.longest), Total: d(&r.total),
		Push: d(&r.push), Rank: d(&r.ranking), Plan: d(&r.plan), Place: d(&r.placing), Commit: d(&r.com)}
}

// spend adds the time since begin to one of the parts of a pass.
func (r *Runner) spend(part *atomic.Int64, begin time.Time) {
	part.Add(int64(r.o.Now().Sub(begin)))
}

// Due is when the policy asked for another pass, whatever happens until then;
// 0: it did not.
func (r *Runner) Due() wlm.Time { return wlm.Time(r.due.Load()) }

// alarm rings when the policy asked for another pass.
func (r *Runner) alarm() <-chan time.Time {
	at := r.due.Load()
	if at == 0 {
		return nil
	}
	return time.After(time.Unix(at, 0).Sub(r.o.Now()))
}

// Passes come at once after a change, until many follow each other: what a pass
// costs does not depend on how many jobs it starts, so that a stream of single
// submissions is served in passes of several jobs.
const (
	passEvery = 25 * time.Millisecond
	passBurst = 4
)

// Run takes passes until ctx ends.
func (r *Runner) Run(ctx context.Context) error {
	idle := time.NewTicker(r.o.Idle)
	defer idle.Stop()
	tempo := rate.NewLimiter(rate.Every(passEvery), passBurst)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-idle.C:
			r.passing.Lock()
			r.cause = true
			r.passing.Unlock()
		case <-r.alarm():
		case <-r.wake:
		}
		before := r.passes.Load()
		begin := r.o.Now()
		again, err := r.Pass(ctx)
		took := r.o.Now().Sub(begin)
		rest := took
		if err != nil && ctx.Err() == nil {
			r.failed.Add(1)
			r.o.Log.Warn("pass failed", "err", err)
			const pause = 100 * time.Millisecond
			rest, again = max(rest, pause), true
		}
		if again {
			r.Wake()
		}
		// A pass never takes more than half of the time; short ones need no rest.
		const short = 5 * time.Millisecond
		if rest > short {
			select {
			case <-ctx.Done():
			case <-time.After(min(rest, time.Second)):
			}
		}
		if r.passes.Load() != before {
			_ = tempo.Wait(ctx) // an error is ctx's, seen above
		}
	}
}

// Pass takes one pass if there is cause for one. again asks for another soon.
func (r *Runner) Pass(ctx context.Context) (again bool, err error) {
	r.passing.Lock()
	defer r.passing.Unlock()
	begin := r.o.Now()
	now := wlm.TimeOf(begin)
	r.take()
	if at := r.due.Load(); at != 0 && at <= int64(now) {
		r.due.Store(0)
		r.cause = true
	}
	if len(r.feed.pending) == 0 {
		if r.feed.tables.AnyAsleep() {
			return false, r.awaken(ctx)
		}
		return false, nil // what changed waits in the feed until somebody asks for it
	}
	if err := r.sync(now); err != nil {
		return false, err
	}
	if err := r.rank(ctx, now); err != nil {
		return false, err
	}
	if !r.cause {
		return false, nil
	}
	r.cause = false
	again, err = r.place(ctx, now)
	if err == nil && r.feed.tables.AnyAsleep() {
		err = r.awaken(ctx)
	}
	if at := r.feed.exempt(now); at != 0 && (r.due.Load() == 0 || int64(at) < r.due.Load()) {
		r.due.Store(int64(at))
	}
	if err != nil {
		r.cause = true
	}
	took := r.o.Now().Sub(begin)
	r.passes.Add(1)
	r.last.Store(int64(took))
	r.total.Add(int64(took))
	r.longest.Store(max(r.longest.Load(), int64(took)))
	return again, err
}

// awaken lets jobs run on that made room and whose CPUs are free again.
func (r *Runner) awaken(ctx context.Context) error {
	_, err := r.o.Loop.Do(ctx, &cluster.Awaken{})
	r.take()
	return err
}

// take moves what was published into the feed.
func (r *Runner) take() {
	r.mu.Lock()
	events, set := r.in, r.set
	r.in, r.set = nil, nil
	r.mu.Unlock()
	for _, s := range r.shadows {
		s.hear(events, set)
	}
	for _, e := range events {
		if r.feed.put(e) {
			r.cause = true
		}
	}
	if set != nil {
		r.feed.set(set)
		r.cause = true
	}
}

// plugins lists the distinct plugins with a mirror.
func (r *Runner) plugins() []Plugin {
	var out []Plugin
	for _, p := range []Plugin{r.o.Priority, r.o.Sched, r.o.Select} {
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// sync brings every plugin's mirror to the feed's state.
func (r *Runner) sync(now wlm.Time) error {
	defer r.spend(&r.push, r.o.Now())
	var frames [][]byte
	if r.feed.dirty() || r.feed.encoder.Rev() == 0 {
		var over bool
		if frames, over = r.feed.frames(now); over {
			clear(r.fed)
		}
		r.syncFollowers(frames, over)
	}
	var snapshot [][]byte
	var failed error // the first; the others' mirrors must not miss the frames
	for _, p := range r.plugins() {
		epoch, push := p.Epoch(), frames
		if r.fed[p] != epoch || epoch == 0 {
			if snapshot == nil {
				snapshot = r.feed.snapshot(now)
			}
			push = snapshot
			r.cause = true
		}
		if len(push) == 0 {
			continue
		}
		delete(r.fed, p)
		if err := p.PushState(epoch, push); err != nil {
			if failed == nil {
				failed = err
			}
			continue
		}
		r.fed[p] = epoch
	}
	return failed
}

// rank gives priorities to the jobs that have none, or to all as they age.
func (r *Runner) rank(ctx context.Context, now wlm.Time) error {
	req := priority.Request{Highest: r.highest, Lowest: r.lowest}
	if r.o.Now().Sub(r.aged) >= r.o.Age {
		req.All = true
	} else {
		for id := range r.feed.unranked {
			req.Jobs = append(req.Jobs, id)
		}
		if len(req.Jobs) == 0 {
			return nil
		}
		slices.Sort(req.Jobs)
	}
	begin := r.o.Now()
	ranking, err := r.prio.Rank(ctx, r.feed.encoder.Rev(), now, req)
	r.spend(&r.ranking, begin)
	if err != nil {
		return err
	}
	if req.All {
		r.aged = r.o.Now()
	}
	for _, p := range ranking.Priorities {
		r.highest = max(r.highest, p)
		if r.lowest == 0 || p < r.lowest {
			r.lowest = p
		}
	}
	if _, err := r.o.Loop.Do(ctx, &cluster.Rank{Jobs: ranking.Jobs, Priorities: ranking.Priorities}); err != nil {
		return err
	}
	r.take()
	return r.sync(now)
}

// place plans, places and commits.
func (r *Runner) place(ctx context.Context, now wlm.Time) (again bool, err error) {
	rev := r.feed.encoder.Rev()
	planned := r.o.Now()
	begin := planned
	agenda, err := r.sched.Plan(ctx, rev, now)
	r.spend(&r.plan, begin)
	if err != nil {
		return false, err
	}
	r.due.Store(0)
	if agenda.Wake > now {
		r.due.Store(int64(agenda.Wake))
	}
	if len(agenda.Entries) == 0 {
		r.closeShadows(planned, r.o.Now().Sub(planned))
		r.look(nil)
		return false, nil
	}
	begin = r.o.Now()
	result, err := r.sel.Place(ctx, rev, now, selector.Request{Agenda: agenda, Refused: r.refused, MaxStarts: r.feed.maxStarts()})
	r.spend(&r.placing, begin)
	if err != nil {
		return false, err
	}
	r.refused = nil
	took := r.o.Now().Sub(planned)
	var reply *cluster.StartReply
	if len(result.Placements) > 0 {
		if reply, err = r.commit(ctx, result.Placements); err != nil {
			return false, err
		}
		r.outlived(&agenda, result.Placements, now)
	}
	r.closeShadows(planned, took)
	if reply != nil {
		r.take() // what started counts towards the limits of arrays
	}
	r.look(result.Verdicts)
	if most := r.feed.maxStarts(); most > 0 && len(result.Placements) >= most {
		again, r.cause = true, true
	}
	return again, nil
}

// outlived asks for a pass when the first of the jobs that just started has run
// for as long as the policy expected it to.
func (r *Runner) outlived(a *sched.Agenda, placements []selector.Placement, now wlm.Time) {
	expected := map[wlm.JobID]uint32{}
	for i := range a.Entries {
		if e := &a.Entries[i]; e.Expected > 0 {
			expected[e.Job] = e.Expected
		}
	}
	if len(expected) == 0 {
		return
	}
	due := r.due.Load()
	for i := range placements {
		if s := expected[placements[i].Job]; s > 0 && (due == 0 || int64(now)+int64(s) < due) {
			due = int64(now) + int64(s)
		}
	}
	r.due.Store(due)
}

// commit starts what holds and remembers what does not.
func (r *Runner) commit(ctx context.Context, placements []selector.Placement) (*cluster.StartReply, error) {
	defer r.spend(&r.com, r.o.Now())
	start := &cluster.Start{Placements: make([]cluster.Placement, 0, len(placements))}
	for i := range placements {
		if p, ok := r.feed.placement(&placements[i]); ok {
			start.Placements = append(start.Placements, p)
		}
	}
	value, err := r.o.Loop.Do(ctx, start)
	if err != nil {
		return nil, err
	}
	reply, ok := value.(*cluster.StartReply)
	if !ok {
		return nil, errs.Newf("pass.commit", errs.Internal, "reply of type %T", value)
	}
	r.started.Add(uint64(len(reply.Started)))
	r.refusals.Add(uint64(len(reply.Refused)))
	for _, x := range reply.Refused {
		r.o.Log.Warn("placement refused", "job", x.Job, "why", x.Text)
		r.refused = append(r.refused, selector.Refused{Job: x.Job, Text: x.Text})
	}
	return reply, nil
}

// placement names nodes and partition of a selector's answer; false for one
// that names what does not exist.
func (f *feed) placement(p *selector.Placement) (cluster.Placement, bool) {
	t := f.tables
	if p.Partition < 0 || p.Partition >= len(t.Partitions) {
		return cluster.Placement{}, false
	}
	out := cluster.Placement{Job: p.Job, Partition: t.Partitions[p.Partition].Name, Scheduler: "Main", Victims: p.Victims, Limit: p.Limit,
		Reservation: p.Reservation, Nodes: make([]wlm.NodeAlloc, 0, len(p.Uses))}
	if p.Backfilled {
		out.Scheduler = "Backfill"
	}
	for _, u := range p.Uses {
		if int(u.Node) >= len(t.Nodes) {
			return cluster.Placement{}, false
		}
		out.Nodes = append(out.Nodes, wlm.NodeAlloc{Node: t.Nodes[u.Node].Name, CPUs: u.CPUs, Mem: u.Mem, Gres: u.Gres})
	}
	return out, true
}

// look publishes the verdicts; jobs with the same verdict share one outlook.
func (r *Runner) look(verdicts []selector.Verdict) {
	if r.o.Outlooks == nil {
		return
	}
	n := 0
	for i := range verdicts {
		n += len(verdicts[i].Jobs)
	}
	m := make(map[wlm.JobID]*wlm.Outlook, n)
	for i := range verdicts {
		v := &verdicts[i]
		o := &wlm.Outlook{Reason: v.Reason, Text: v.Text, Start: v.Start, Nodes: r.nodeNames(v.Nodes), Words: words(v)}
		for _, id := range v.Jobs {
			m[id] = o
		}
		if v.Reason == wlm.WaitPartDown {
			r.inactive(m, v.Jobs, *o)
		}
	}
	for id := range r.feed.arrays {
		if j := r.feed.tables.Job(id); j != nil && j.Reason == wlm.ReasonNone && r.feed.tables.TasksReady(j) == 0 {
			m[id] = &wlm.Outlook{Reason: wlm.WaitArrayTaskLimit,
				Text: fmt.Sprintf("as many tasks run as the limit of %d allows", j.Spec.ArrayMaxRunning)}
		}
	}
	r.o.Outlooks(m)
}

// inactive tells jobs of partitions that are INACTIVE rather than DOWN so.
func (r *Runner) inactive(m map[wlm.JobID]*wlm.Outlook, jobs []wlm.JobID, o wlm.Outlook) {
	o.Reason = wlm.WaitPartInactive
	for _, id := range jobs {
		if j := r.feed.tables.Job(id); j != nil {
			if p := r.feed.tables.Partition(j.Partition); p != nil && p.State == wlm.PartInactive {
				m[id] = &o
			}
		}
	}
}

// words returns a verdict's text where it is Slurm's own for the reason, which
// users' tools match, and not one of ours with numbers.
func words(v *selector.Verdict) string {
	for _, begin := range []string{"ReqNodeNotAvail, ", "Nodes required for job are DOWN, "} {
		if strings.HasPrefix(v.Text, begin) {
			return v.Text
		}
	}
	return ""
}

func (r *Runner) nodeNames(list []wlm.NodeIndex) string {
	names := make([]string, 0, len(list))
	for _, n := range list {
		if int(n) < len(r.feed.tables.Nodes) {
			names = append(names, string(r.feed.tables.Nodes[n].Name))
		}
	}
	if len(names) == 0 {
		return ""
	}
	return hostlist.Compress(names)
}

// Forecast tells when and where a job would start that is not submitted. The
// answer has a placement when it could start now.
func (r *Runner) Forecast(ctx context.Context, j *wlm.Job) (*wlm.Outlook, int, string, error) {
	r.passing.Lock()
	defer r.passing.Unlock()
	now := wlm.TimeOf(r.o.Now())
	r.take()
	if err := r.sync(now); err != nil {
		return nil, 0, "", err
	}
	m := &mirror.Job{Class: r.feed.class(j), Ready: true, Submit: now, Eligible: now, User: j.Spec.User, Tasks: 1}
	if j.TimeLimit != wlm.Unlimited {
		m.Limit = uint32(j.TimeLimit) * 60
	}
	result, err := r.sel.WhatIf(ctx, r.feed.encoder.Rev(), now, m)
	if err != nil {
		return nil, 0, "", err
	}
	if len(result.Placements) > 0 {
		if p, ok := r.feed.placement(&result.Placements[0]); ok {
			cpus := 0
			var names []string
			for _, n := range p.Nodes {
				cpus += n.CPUs.Count()
				names = append(names, string(n.Node))
			}
			return &wlm.Outlook{Start: now, Nodes: hostlist.Compress(names)}, cpus, p.Partition, nil
		}
	}
	k := cluster.ClassOf(j.Spec)
	if len(result.Verdicts) > 0 {
		v := &result.Verdicts[0]
		return &wlm.Outlook{Reason: v.Reason, Text: v.Text, Start: v.Start, Nodes: r.nodeNames(v.Nodes)}, int(k.MinCPUs()), j.Partition, nil
	}
	return &wlm.Outlook{}, int(k.MinCPUs()), j.Partition, nil
}
