package acctsql

import (
	"math"
	"math/bits"

	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/proto/acctstore/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/wlm/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// open is the column ended of what is not over.
const open = math.MaxInt64

// keptFlags are the flags that accounting shows; the others pass in seconds.
const keptFlags = wlm.FlagRequeued | wlm.FlagRevoked | wlm.FlagResizing

// phase orders the facts about a run or step: a later phase is never undone by
// a record of an earlier one, whenever that arrives.
type phase uint8

const (
	waiting phase = iota
	begun
	over
)

// fact is the place of a record among those of the same key: of two facts, the
// one of the later phase holds, and within a phase the one of the higher number.
type fact struct {
	phase  phase
	number uint64
}

func (f fact) after(g fact) bool {
	return f.phase > g.phase || f.phase == g.phase && f.number > g.number
}

// runKey names a run of a job within a cluster.
type runKey struct {
	job      uint32
	submit   int64
	restarts uint32
}

func keyOf(j *wlmv1.Job) runKey { return runKey{j.Id, j.Submit, j.Restarts} }

// run is a row of job_runs. Its record belongs to the caller of Append and is
// never changed: state, flags and ended have the last word over it.
type run struct {
	key    runKey
	fact   fact
	state  wlm.JobState
	flags  wlm.JobFlags
	ended  int64
	record *wlmv1.Job
}

// hidden reports whether the run is an array's record whose tasks are all gone.
func (r *run) hidden() bool {
	return r.fact.phase == waiting && arrayRecord(r.record) && len(r.record.ArrayTasks) == 0
}

func arrayRecord(j *wlmv1.Job) bool { return j.ArrayJob != 0 && j.ArrayTask == wlm.Unset }

// array returns the columns array_job and array_task.
func (r *run) array() (job, task int64) {
	j := r.record
	if j.ArrayJob == 0 || j.ArrayTask == wlm.Unset {
		return int64(j.ArrayJob), -1
	}
	return int64(j.ArrayJob), int64(j.ArrayTask)
}

// alloc is what the run holds or held. A run that waits holds nothing, though
// the record of a requeued job lists its nodes until they are clean.
func (r *run) alloc() *wlmv1.Alloc {
	if r.fact.phase == waiting {
		return nil
	}
	return r.record.Alloc
}

// allocated returns the columns cpus and nodes.
func (r *run) allocated() (cpus, nodes int) {
	a := r.alloc()
	if a == nil {
		return 0, 0
	}
	for _, n := range a.Nodes {
		for _, w := range n.Cpus {
			cpus += bits.OnesCount64(w)
		}
	}
	if nodes = len(a.Nodes); nodes == 0 {
		nodes, _ = hostlist.Count(a.NodeList)
	}
	return cpus, nodes
}

// newRun makes the row that a record says. closed: the run is over whatever
// the state says, since its job was requeued at time now.
func newRun(number uint64, j *wlmv1.Job, now int64, closed bool) *run {
	r := &run{key: keyOf(j), state: wlm.JobState(j.State), flags: wlm.JobFlags(j.Flags) & keptFlags, ended: open, record: j}
	r.fact = fact{phaseOf(r.state, closed), number}
	if r.fact.phase != over {
		r.flags &^= wlm.FlagRequeued // of the run before
		return r
	}
	if !r.state.Ended() {
		r.flags |= wlm.FlagRequeued
	}
	r.ended = j.End
	if r.ended == 0 || !r.state.Ended() {
		r.ended = now
	}
	return r
}

func phaseOf(s wlm.JobState, closed bool) phase {
	switch {
	case closed || s.Ended():
		return over
	case s == wlm.Pending:
		return waiting
	}
	return begun
}

// stepKey names a step within a cluster; step is signed, so that the special
// steps come first, as in sacct.
type stepKey struct {
	runKey
	step int32
}

// step is a row of job_steps.
type step struct {
	key    stepKey
	fact   fact
	ended  int64
	record *wlmv1.Step
}

// suspension is a row of job_suspensions.
type suspension struct {
	run    runKey
	moment int64
	on     bool
}

// nodeEvent is a row of node_events.
type nodeEvent struct {
	number uint64
	moment int64
	up     bool
	record *wlmv1.Node
}

// rows is a batch, folded: each key occurs once, with the fact that holds.
// Slices are in order of first appearance.
type rows struct {
	runs        []*run
	steps       []*step
	suspensions []suspension
	nodes       []nodeEvent
	last        uint64 // highest record number

	byRun   map[runKey]*run
	byStep  map[stepKey]*step
	present map[uint32]runKey // the run that each job of the batch is in
}

// fold reduces records to rows. Events that accounting does not know, or that
// lack what their kind promises, leave no row. present tells which run a job
// is in before the batch; it is asked only for steps that do not say it.
func fold(records []*acctstorev1.Record, present func(job uint32) (runKey, error)) (*rows, error) {
	b := &rows{byRun: make(map[runKey]*run, len(records)), byStep: map[stepKey]*step{}, present: map[uint32]runKey{}}
	for _, r := range records {
		b.last = max(b.last, r.GetNumber())
		if e := r.GetEvent(); e != nil {
			if err := b.event(r.Number, e, present); err != nil {
				return nil, err
			}
		}
	}
	return b, nil
}

func (b *rows) event(number uint64, e *eventv1.Event, present func(job uint32) (runKey, error)) error {
	switch e.Kind {
	case eventv1.Kind_JOB_REQUEUED:
		if e.Previous != nil {
			b.run(newRun(number, e.Previous, e.Time, true))
		}
		if e.Job != nil {
			b.run(newRun(number, e.Job, e.Time, false))
		}
	case eventv1.Kind_JOB_SUBMITTED, eventv1.Kind_JOB_CHANGED, eventv1.Kind_JOB_STARTED, eventv1.Kind_JOB_ENDING,
		eventv1.Kind_JOB_ENDED, eventv1.Kind_JOB_SUSPENDED, eventv1.Kind_JOB_RESUMED, eventv1.Kind_TASK_SPLIT:
		if e.Job == nil {
			return nil
		}
		b.run(newRun(number, e.Job, e.Time, false))
		switch e.Kind {
		case eventv1.Kind_JOB_SUSPENDED:
			moment := e.Job.SuspendedAt
			if moment == 0 {
				moment = e.Time
			}
			b.suspensions = append(b.suspensions, suspension{keyOf(e.Job), moment, true})
		case eventv1.Kind_JOB_RESUMED:
			b.suspensions = append(b.suspensions, suspension{keyOf(e.Job), e.Time, false})
		}
	case eventv1.Kind_STEP_STARTED, eventv1.Kind_STEP_ENDED:
		if e.Step != nil {
			return b.step(number, e, present)
		}
	case eventv1.Kind_NODE_DOWN, eventv1.Kind_NODE_UP:
		if e.Node != nil {
			b.nodes = append(b.nodes, nodeEvent{number, e.Time, e.Kind == eventv1.Kind_NODE_UP, e.Node})
		}
	}
	return nil
}

func (b *rows) run(r *run) {
	b.present[r.key.job] = r.key
	old := b.byRun[r.key]
	switch {
	case old == nil:
		b.byRun[r.key] = r
		b.runs = append(b.runs, r)
	case r.fact.after(old.fact):
		*old = *r
	}
}

func (b *rows) step(number uint64, e *eventv1.Event, present func(job uint32) (runKey, error)) error {
	s := e.Step
	key := stepKey{runKey{s.Job, s.JobSubmit, s.Restarts}, int32(s.Id)}
	if s.JobSubmit == 0 {
		at, known := b.present[s.Job]
		if !known {
			var err error
			if at, err = present(s.Job); err != nil {
				return err
			}
			b.present[s.Job] = at
		}
		key.runKey = at
	}
	row := &step{key: key, fact: fact{phaseOf(wlm.JobState(s.State), e.Kind == eventv1.Kind_STEP_ENDED), number}, ended: open, record: s}
	if row.fact.phase == over {
		if row.ended = s.End; row.ended == 0 {
			row.ended = e.Time
		}
	}
	old := b.byStep[key]
	switch {
	case old == nil:
		b.byStep[key] = row
		b.steps = append(b.steps, row)
	case row.fact.after(old.fact):
		*old = *row
	}
	return nil
}
