// Package view is what readers see of a cluster.
//
// A [View] has tables of its own, fed by the events of each turn of the loop
// once they are durable ([View.Publish]). Records are shared with the loop and
// never change, so a reader copies pointers and does the rest on its own time:
// the lock is held for a lookup, or while the headers of the job index are
// copied, never while anything is encoded or sent. Publish therefore waits for
// readers some microseconds at most, however many there are.
//
// The index of jobs by id is cut into chunks that are copied on write. A listing
// of 100,000 jobs takes the list of chunks, some kilobytes, and has a consistent
// picture; what a job looks like on the wire in lists is kept beside it until
// its record changes, so that repeated listings encode only what is new.
//
// Two things here are soft, never in the journal: what the last pass found out
// about pending jobs ([View.SetOutlooks]) and the load of nodes ([View.SetLoad]).
//
// Watchers ([View.Watch], [View.WatchJob]) are told of events through bounded
// memory: one that cannot follow hears [ErrLagged] and starts over from the
// present, and never makes Publish wait.
//
// Invariant: after Publish returns, the view equals the loop's tables as of the
// last event. An event that does not fit is a bug; it is logged and left out.
package view

import (
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// View is the readers' copy. Publish, Seed and SetOutlooks are for one goroutine
// each; everything else may be called concurrently.
type View struct {
	mu struct {
		sync.RWMutex // held to look up or copy pointers; never while encoding or sending
		tables       *cluster.Tables
		index        index
		partsGen     uint64 // grows when a partition changes
	}
	outlooks atomic.Pointer[map[wlm.JobID]*wlm.Outlook]
	loads    loads
	members  members
	hub      hub
}

// New returns an empty view.
func New() *View {
	v := &View{}
	v.mu.tables = cluster.NewTables()
	v.SetOutlooks(nil)
	v.hub.init()
	return v
}

// Seed makes the view a copy of t, whose owner must not change it meanwhile:
// after recovery, before the first Publish. Watchers must start over.
func (v *View) Seed(t *cluster.Tables) {
	fresh := cluster.NewTables()
	fresh.NextJob, fresh.Epoch = t.NextJob, t.Epoch
	put := func(e *cluster.Event) {
		if err := fresh.Put(e); err != nil {
			slog.Error("view cannot take a record", "event", e.String(), "err", err)
		}
	}
	for _, n := range t.Nodes {
		put(&cluster.Event{Kind: eventv1.Kind_NODE_CHANGED, Node: n})
	}
	for _, p := range t.Partitions {
		put(&cluster.Event{Kind: eventv1.Kind_PARTITION_CHANGED, Partition: p})
	}
	for _, r := range t.Reservations {
		put(&cluster.Event{Kind: eventv1.Kind_RESERVATION_CHANGED, Reservation: r})
	}
	jobs := make([]*wlm.Job, 0, t.JobCount())
	for j := range t.AllJobs {
		jobs = append(jobs, j)
	}
	slices.SortFunc(jobs, func(a, b *wlm.Job) int { return int(a.ID) - int(b.ID) })
	for _, j := range jobs {
		for _, key := range [2][]byte{j.Script, j.Env} {
			if data := t.Blob(key); data != nil {
				put(&cluster.Event{Kind: eventv1.Kind_BLOB_STORED, Key: key, Data: data})
			}
		}
		put(&cluster.Event{Kind: eventv1.Kind_JOB_CHANGED, Job: j})
		for _, s := range t.Steps(j.ID) {
			put(&cluster.Event{Kind: eventv1.Kind_STEP_STARTED, Step: s})
		}
	}
	v.mu.Lock()
	v.mu.tables = fresh
	v.mu.index.reset(jobs)
	v.mu.partsGen++
	v.mu.Unlock()
	v.hub.restart()
}

// Publish shows readers and watchers the events of a turn, which are durable.
func (v *View) Publish(events []*cluster.Event) {
	if len(events) == 0 {
		return
	}
	v.mu.Lock()
	for _, e := range events {
		v.put(e)
	}
	v.mu.Unlock()
	v.hub.publish(events)
}

// put applies one event; the caller holds the lock.
func (v *View) put(e *cluster.Event) {
	t := v.mu.tables
	if err := t.Put(e); err != nil {
		slog.Error("view cannot take an event", "event", e.String(), "err", err)
		return
	}
	switch e.Kind {
	case eventv1.Kind_JOB_PURGED:
		for _, id := range e.IDs {
			v.mu.index.drop(id)
		}
	case eventv1.Kind_JOB_RANKED:
		for _, id := range e.IDs {
			if j := t.Job(id); j != nil {
				v.mu.index.put(j)
			}
		}
	case eventv1.Kind_PARTITION_CHANGED, eventv1.Kind_PARTITION_REMOVED:
		v.mu.partsGen++
	default:
		if e.Job != nil {
			v.mu.index.put(t.Job(e.Job.ID))
		}
	}
}

// SetOutlooks replaces what the last pass found out about pending jobs. The map
// is the view's from now on.
func (v *View) SetOutlooks(m map[wlm.JobID]*wlm.Outlook) { v.outlooks.Store(&m) }

// Outlook is what the last pass found out about a job, where that is the
// reason why it waits; nil otherwise. A job that waits for something of its own
// (a dependency, a hold, a begin time) has no outlook.
func (v *View) Outlook(j *wlm.Job) *wlm.Outlook {
	return outlookOf(*v.outlooks.Load(), j)
}

func outlookOf(all map[wlm.JobID]*wlm.Outlook, j *wlm.Job) *wlm.Outlook {
	if j.State != wlm.Pending || j.Reason != wlm.ReasonNone {
		return nil
	}
	return all[j.ID]
}

// Read calls f with the tables, which f must neither change nor keep, and must
// leave soon: Publish waits for it.
func (v *View) Read(f func(t *cluster.Tables)) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	f(v.mu.tables)
}

// Job returns a job's record, or nil; see [cluster.Tables.Job].
func (v *View) Job(id wlm.JobID) *wlm.Job {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.mu.tables.Job(id)
}

// Node returns a node's record, or nil.
func (v *View) Node(name wlm.NodeName) *wlm.Node {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.mu.tables.Node(name)
}

// Blob returns a script or an environment by its key, or nil. It is shared.
func (v *View) Blob(key []byte) []byte {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.mu.tables.Blob(key)
}

// Find returns the jobs that a filter selects, as [cluster.Tables.Find] does,
// without making Publish wait for a long search.
func (v *View) Find(f *ctlv1.JobFilter) (found []cluster.Match, missing []*ctlv1.JobRef, err error) {
	if len(f.GetRefs()) > 0 {
		v.mu.RLock()
		defer v.mu.RUnlock()
		found, missing, err = v.mu.tables.Find(f)
		return found, missing, badFilter(err)
	}
	matches, err := cluster.Matcher(f)
	if err != nil {
		return nil, nil, badFilter(err)
	}
	for j := range v.jobs().all {
		if matches(j) {
			found = append(found, cluster.Match{Job: j})
		}
	}
	return found, nil, nil
}

// badFilter says that a filter's host list is none.
func badFilter(err error) error {
	if err == nil {
		return nil
	}
	return errs.Coded("view.Find", errs.InvalidNodeName).With("%w", err)
}

// jobs returns a picture of the job index.
func (v *View) jobs() picture {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.mu.index.picture()
}

// Steps returns the steps of the jobs that a filter selects, and those jobs, in
// id order. References to a step select only that step.
func (v *View) Steps(f *ctlv1.JobFilter) (steps []*wlm.Step, jobs []*wlm.Job, err error) {
	found, _, err := v.Find(f)
	if err != nil {
		return nil, nil, err
	}
	v.mu.RLock()
	defer v.mu.RUnlock()
	seen := map[cluster.StepKey]bool{}
	for _, m := range found {
		var hit bool
		for _, s := range v.mu.tables.Steps(m.Job.ID) {
			key := cluster.StepKey{Job: s.Job, Step: s.ID}
			if seen[key] || m.Ref.GetHasStep() && s.ID != wlm.StepID(m.Ref.GetStep()) {
				continue
			}
			seen[key], hit = true, true
			steps = append(steps, s)
		}
		if hit && !slices.Contains(jobs, m.Job) {
			jobs = append(jobs, m.Job)
		}
	}
	return steps, jobs, nil
}

// Counts are sizes for statistics.
type Counts struct {
	Jobs, Running, Nodes, Partitions int
	NextJob                          wlm.JobID
}

// Counts returns the sizes of the tables.
func (v *View) Counts() Counts {
	v.mu.RLock()
	defer v.mu.RUnlock()
	t := v.mu.tables
	return Counts{t.JobCount(), t.RunningCount(), len(t.Nodes), len(t.Partitions), t.NextJob}
}
