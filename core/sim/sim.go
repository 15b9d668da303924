package sim

import (
	"container/heap"
	"context"
	"log/slog"
	"time"

	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/core/pass"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/wire"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Options of a run.
type Options struct {
	Workload *Workload
	// Configure is the machine: nodes, partitions and rules. How many jobs may
	// be known, and for how long, is not taken from it.
	Configure *cluster.Configure
	Settings  map[string]string // of slurm.conf, for policies
	Sched     pass.Plugin
	Select    pass.Plugin
	Priority  pass.Plugin
	Faults    *Faults       // nodes that fail; nil: none do
	Begin     time.Time     // virtual time of the workload's start; zero: 2001-09-09
	Age       time.Duration // how often all priorities are computed; 0: 5 minutes
	// CheckEvery makes the core verify its own tables from scratch after every
	// so many steps; 0: 1000. The simulator's books are kept at every step.
	CheckEvery int
	// MaxSteps ends the run after so many steps, without asking what became of
	// the jobs: for measuring passes. 0: no bound.
	MaxSteps int
	// Shadow, if set, plans beside the run, in a history of its own. The run goes on
	// until that has nothing more to do either.
	Shadow *pass.Shadow
	// Progress, if set, hears now and then how many jobs have ended.
	Progress func(ended, jobs int, now time.Time)
	Log      *slog.Logger
}

// Run replays a workload and returns what became of it. An error is a bad
// configuration, a plugin that fails, a violated invariant, or ctx's.
func Run(ctx context.Context, o Options) (*Result, error) {
	s, err := newSim(o)
	if err != nil {
		return nil, err
	}
	wall := time.Now()
	if err := s.replay(ctx); err != nil {
		return nil, err
	}
	s.result.Wall = time.Since(wall)
	s.finish()
	if o.MaxSteps > 0 && s.result.Steps >= o.MaxSteps {
		if err := s.c.Check(); err != nil {
			return nil, violation("%w", err)
		}
		return s.result, nil
	}
	return s.result, s.complete()
}

// sim is a run under way.
type sim struct {
	o      Options
	c      *cluster.Cluster
	r      *pass.Runner
	book   *book
	begin  wlm.Time
	now    wlm.Time
	next   int // job of the workload submitted next
	ended  int
	oldest int               // no job of the workload before it waits
	byID   map[wlm.JobID]int // job of the workload
	ends   ends
	gone   []leaving // ending: their nodes report them gone
	faults *plague
	err    error // the first violation
	result *Result
	sched  *timed
	sel    *timed
	prio   *timed
}

// end is a moment at which a job's run is over, by itself or by its limit.
type end struct {
	at  wlm.Time
	job wlm.JobID
}

type ends []end

// leaving is a run whose nodes still clean up.
type leaving struct {
	job      wlm.JobID
	restarts uint32
	nodes    []wlm.NodeName
}

func (e ends) Len() int { return len(e) }

// Less breaks ties by job, so that every run does the same.
func (e ends) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].job < e[j].job
}
func (e ends) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *ends) Push(x any)   { *e = append(*e, x.(end)) }
func (e *ends) Pop() any {
	old := *e
	x := old[len(old)-1]
	*e = old[:len(old)-1]
	return x
}

func newSim(o Options) (*sim, error) {
	const checkEvery, begin = 1000, 1_000_000_000
	if o.CheckEvery == 0 {
		o.CheckEvery = checkEvery
	}
	if o.Begin.IsZero() {
		o.Begin = time.Unix(begin, 0)
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	s := &sim{o: o, begin: wlm.TimeOf(o.Begin), byID: map[wlm.JobID]int{}, result: &Result{Skipped: o.Workload.Skipped}}
	s.now = s.begin
	cfg := *o.Configure
	cfg.Settings.MaxJobCount, cfg.Settings.MaxJobID, cfg.Settings.MinJobAge = 0, 0, 0
	s.c = cluster.New(cfg.Settings)
	if _, err := s.c.Apply(&cfg, s.now); err != nil {
		return nil, err
	}
	for _, n := range s.c.Nodes {
		m := &nodev1.Register{Cpus: n.CPUs, RealMemory: uint64(n.RealMemory), BootTime: int64(s.now), DaemonStart: int64(s.now), Version: "sim"}
		if _, err := s.c.Apply(&cluster.Register{Node: n.Name, Msg: m}, s.now); err != nil {
			return nil, err
		}
		s.result.Processors += int(n.CPUs)
	}
	s.c.TakeTurn()
	s.result.Nodes = len(s.c.Nodes)
	s.result.Jobs = make([]JobResult, len(o.Workload.Jobs))
	s.book = newBook(s.c)
	var err error
	if s.faults, err = newPlague(o.Faults, s.c, s.begin); err != nil {
		return nil, err
	}
	s.sched, s.sel, s.prio = &timed{Plugin: o.Sched}, &timed{Plugin: o.Select}, &timed{Plugin: o.Priority}
	s.r = pass.New(pass.Options{Loop: s, Sched: s.sched, Select: s.sel, Priority: s.prio, Outlooks: s.outlooks,
		Settings: o.Settings, Age: o.Age, Now: func() time.Time { return time.Unix(int64(s.now), 0) }, Log: o.Log}, &s.c.Tables)
	if o.Shadow != nil {
		o.Shadow.Clock(s.r)
		s.r.Attach(o.Shadow)
	}
	return s, nil
}

// timed is a plugin whose calls are timed.
type timed struct {
	pass.Plugin
	spent time.Duration
}

// Call is wirecall.Caller's.
func (t *timed) Call(ctx context.Context, kind, method string, payload []byte) ([]byte, error) {
	begin := time.Now()
	b, err := t.Plugin.Call(ctx, kind, method, payload)
	t.spent += time.Since(begin)
	return b, err
}

// Do implements pass.Loop: commands are applied at once, nothing is journalled.
func (s *sim) Do(_ context.Context, cmd cluster.Command) (any, error) {
	v, err := s.c.Apply(cmd, s.now)
	events := s.c.TakeTurn()
	for _, e := range events {
		s.hear(e)
	}
	if len(events) > 0 {
		s.r.Publish(events)
	}
	return v, err
}

// replay goes from one moment to the next until nothing is left to happen.
func (s *sim) replay(ctx context.Context) error {
	for {
		at, ok := s.following()
		if !ok {
			return nil
		}
		s.now = at
		if err := s.step(ctx); err != nil {
			return err
		}
		if s.result.Steps++; s.result.Steps == s.o.MaxSteps {
			return nil
		}
		if s.result.Steps%s.o.CheckEvery == 0 {
			if err := s.c.Check(); err != nil {
				return violation("%w", err)
			}
		}
		const tellEvery = 64
		if s.o.Progress != nil && s.result.Steps%tellEvery == 0 {
			s.o.Progress(s.ended, len(s.o.Workload.Jobs), time.Unix(int64(s.now), 0))
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// following is the next moment at which something happens.
func (s *sim) following() (at wlm.Time, ok bool) {
	consider := func(t wlm.Time) {
		if !ok || t < at {
			at, ok = t, true
		}
	}
	if s.next < len(s.o.Workload.Jobs) {
		consider(s.begin + s.o.Workload.Jobs[s.next].Submit)
	}
	if len(s.ends) > 0 {
		consider(s.ends[0].at)
	}
	if t, failing := s.faults.next(); failing && (ok || len(s.faults.away) > 0 && s.ended < len(s.o.Workload.Jobs)) {
		consider(t)
	}
	if s.o.Shadow != nil {
		if t := s.o.Shadow.Due(); !t.IsZero() {
			consider(max(wlm.TimeOf(t.Add(time.Second-1)), s.now))
		}
	}
	if due := s.r.Due(); ok && due > s.now { // while there is something to wait for
		consider(due)
	}
	return at, ok
}

// step is everything that happens at one moment.
func (s *sim) step(ctx context.Context) error {
	for len(s.ends) > 0 && s.ends[0].at <= s.now {
		s.over(ctx, heap.Pop(&s.ends).(end).job)
	}
	if err := s.strike(ctx); err != nil {
		return err
	}
	for s.next < len(s.o.Workload.Jobs) && s.begin+s.o.Workload.Jobs[s.next].Submit <= s.now {
		if err := s.submit(ctx); err != nil {
			return err
		}
	}
	for range len(s.o.Workload.Jobs) + 1 {
		if t := s.c.NextTimer(); t == 0 || t > s.now {
			break
		}
		if _, err := s.Do(ctx, &cluster.Tick{}); err != nil {
			return err
		}
		s.clean(ctx)
	}
	if _, err := s.Do(ctx, &cluster.AckRecords{Upto: s.c.LastRecord()}); err != nil {
		return err
	}
	if s.err != nil {
		return s.err
	}
	if err := s.passes(ctx); err != nil {
		return err
	}
	if s.o.Shadow != nil {
		if err := s.o.Shadow.CatchUp(ctx); err != nil {
			return err
		}
	}
	return s.err
}

// passes takes passes until none has cause. A plugin that is being started
// again gets some time.
func (s *sim) passes(ctx context.Context) error {
	const patience = 10 * time.Second
	var since time.Time
	for {
		before := s.r.Stats().Passes
		begin := time.Now()
		again, err := s.r.Pass(ctx)
		took := time.Since(begin)
		if err == nil {
			if s.r.Stats().Passes != before {
				s.result.Passes = append(s.result.Passes, took)
			}
			if !again {
				return nil
			}
			continue
		}
		s.result.Failures++
		if since.IsZero() {
			since = begin
		}
		if kind := errs.KindOf(err); kind != errs.Unavail && kind != errs.State || time.Since(since) > patience {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// submit hands in the next job.
func (s *sim) submit(ctx context.Context) error {
	i := s.next
	s.next++
	j := &s.o.Workload.Jobs[i]
	spec := &wlm.Spec{Name: "job", User: j.User, UserName: "user", GroupName: "users", Priority: wlm.Unset, CoreSpec: wlm.Unset,
		NTasks: j.Procs, TimeLimit: j.Limit, MemPerCPU: j.MemPerCPU, Requeue: wlm.No}
	if s.faults != nil && !s.faults.Keep {
		spec.Requeue = wlm.Yes
	}
	if j.Partition != "" {
		spec.Partitions = []string{j.Partition}
	}
	v, err := s.Do(ctx, &cluster.Submit{Spec: spec, Script: []byte("#!/bin/sh\n"), Caller: cluster.Caller{UID: j.User}})
	s.result.Jobs[i] = JobResult{Number: j.Number, Submit: s.now - s.begin, Procs: j.Procs, User: j.User, Run: j.Run,
		Limit: uint32(min(uint64(j.Limit)*60, 1<<32-1)), Forecast: -1, Promise: -1}
	if err != nil {
		s.result.Jobs[i].Refused = err.Error()
		s.ended++
		return nil
	}
	id := v.(*cluster.SubmitReply).Job.ID
	if _, known := s.byID[id]; known {
		return violation("job id %s is given twice", id)
	}
	s.byID[id] = i
	return nil
}

// hear is what the virtual nodes and the books do about an event.
func (s *sim) hear(e *cluster.Event) {
	if e.Job == nil {
		return
	}
	i, known := s.byID[e.Job.ID]
	note := func(err error) {
		if s.err == nil {
			s.err = err
		}
	}
	switch e.Kind {
	case eventv1.Kind_JOB_STARTED:
		if !known {
			note(violation("job %s starts and was not submitted", e.Job.ID))
			return
		}
		r := &s.result.Jobs[i]
		note(s.book.start(e.Job, r.Procs))
		if r.started {
			note(violation("job %s runs twice", e.Job.ID))
		}
		r.started, r.Start = true, e.Job.Start-s.begin
		r.Backfilled = e.Job.SchedulerTag == "Backfill"
		at := s.now + wlm.Time(r.Run)
		if e.Job.End > 0 {
			at = min(at, e.Job.End+s.grace(e.Job))
		}
		heap.Push(&s.ends, end{at, e.Job.ID})
	case eventv1.Kind_JOB_ENDING:
		s.gone = append(s.gone, leaving{e.Job.ID, e.Job.Restarts, e.Job.Cleaning})
	case eventv1.Kind_JOB_REQUEUED:
		if known && e.Previous != nil {
			note(s.requeued(i, e.Previous, e.Job))
		}
	case eventv1.Kind_JOB_ENDED:
		if !known {
			return
		}
		note(s.book.end(e.Job, s.grace(e.Job)))
		r := &s.result.Jobs[i]
		if e.Job.State == wlm.NodeFail {
			r.Lost += int64(e.Job.End-e.Job.Start) * int64(r.Procs)
		}
		r.End, r.State = e.Job.End-s.begin, wlm.StateName(e.Job.State, e.Job.Flags)
		delete(s.byID, e.Job.ID)
		s.ended++
	}
}

// grace is how long a job may run on after its limit.
func (s *sim) grace(j *wlm.Job) wlm.Time {
	over := s.c.Settings().OverTimeLimit
	if p := s.c.Partition(j.Partition); p != nil && p.OverTimeLimit != wlm.Unset {
		over = wlm.Minutes(p.OverTimeLimit)
	}
	return wlm.Time(over) * 60
}

// over ends the run of a job that is still there: its first node reports the
// script's end. One whose limit comes first is left for the tick to end.
func (s *sim) over(ctx context.Context, id wlm.JobID) {
	j := s.c.Job(id)
	i, known := s.byID[id]
	if !known || j == nil || j.State != wlm.Running || s.now < j.Start+wlm.Time(s.result.Jobs[i].Run) {
		return
	}
	step := &wlm.Step{Job: id, ID: wlm.StepBatch, Name: "batch", State: wlm.Completed, Start: j.Start, End: s.now, KilledBy: wlm.Unset}
	s.report(ctx, j.BatchHost, &nodev1.Report{Body: &nodev1.Report_StepEnded{StepEnded: &nodev1.StepEnded{
		Step: wire.StepToWire(step), Restarts: j.Restarts, Clean: true}}})
	s.clean(ctx)
}

// clean lets the nodes of ending jobs report them gone.
func (s *sim) clean(ctx context.Context) {
	for len(s.gone) > 0 {
		j := s.gone[0]
		s.gone = s.gone[1:]
		for _, n := range j.nodes {
			s.report(ctx, n, &nodev1.Report{Body: &nodev1.Report_JobGone{JobGone: &nodev1.JobGone{Job: uint32(j.job), Restarts: j.restarts}}})
		}
	}
}

func (s *sim) report(ctx context.Context, n wlm.NodeName, r *nodev1.Report) {
	if _, err := s.Do(ctx, &cluster.Reports{Node: n, Reports: []*nodev1.Report{r}}); err != nil && s.err == nil {
		s.err = err
	}
}

// outlooks notes the first forecast that each job got, and the one it got when
// it was the oldest that waits.
func (s *sim) outlooks(m map[wlm.JobID]*wlm.Outlook) {
	for s.oldest < s.next && (s.result.Jobs[s.oldest].started || s.result.Jobs[s.oldest].Refused != "") {
		s.oldest++
	}
	for id, o := range m {
		i, known := s.byID[id]
		if !known || o.Start == 0 {
			continue
		}
		r, told := &s.result.Jobs[i], max(o.Start, s.now)-s.begin
		if r.Forecast < 0 {
			r.Forecast, r.ForecastAt = told, s.now-s.begin
		}
		if i == s.oldest && r.Promise < 0 {
			r.Promise = told
		}
	}
}

// finish takes the runner's figures over.
func (s *sim) finish() {
	st := s.r.Stats()
	s.result.Started, s.result.RefusedPlacements = int(st.Started), int(st.Refused)
	s.result.SchedTime, s.result.SelectTime, s.result.PriorityTime = s.sched.spent, s.sel.spent, s.prio.spent
	if s.o.Progress != nil {
		s.o.Progress(s.ended, len(s.o.Workload.Jobs), time.Unix(int64(s.now), 0))
	}
}

// complete checks that no job was lost.
func (s *sim) complete() error {
	if err := s.c.Check(); err != nil {
		return violation("%w", err)
	}
	if lost := len(s.o.Workload.Jobs) - s.ended; lost > 0 {
		for id := range s.byID {
			j := s.c.Job(id)
			if j == nil {
				return violation("job %s is lost", id)
			}
			return errs.Newf("sim.Run", errs.State, "%d jobs never ended: job %s, for %d processors, is %s: %s", lost, id,
				j.Spec.NTasks, wlm.StateName(j.State, j.Flags), j.Reason)
		}
	}
	return nil
}
