// Package sched is the contract of scheduling policies (SchedulerType).
//
// A [Scheduler] answers once a pass with an [Agenda]: in which order jobs are
// tried, and what happens to those that cannot start now. Where they run is
// the selector's business (package selector).
package sched

import (
	"context"
	"slices"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Kind is the kind's name in slurm.conf and in binaries' names.
const Kind = "sched"

// Contract is the newest version of the wire contract that this package speaks.
const Contract = 1

// Contracts are the versions that this package speaks at both ends, newest
// first: the current one and those before it.
var Contracts = []uint32{Contract}

// View is the cluster that Plan plans for.
type View = mirror.View

// WhenBlocked says what a job that cannot start means for those behind it.
type WhenBlocked uint8

// The answers to "what when this job is blocked".
const (
	Skip    WhenBlocked = iota // try the next
	Stop                       // nothing of its partition behind it may start
	Reserve                    // plan its earliest start; whoever follows must not delay it
)

// Entry is a job's place in an agenda.
type Entry struct {
	Job         wlm.JobID
	WhenBlocked WhenBlocked
	MayPreempt  bool
	Expected    uint32           // seconds it is expected to run, when the next pass is due; 0: its limit
	NotBefore   wlm.Time         // 0: now
	Prefer      []wlm.NodeIndex  // nodes to try first
	Avoid       []wlm.NodeIndex  // nodes to try last
	Placement   []mirror.NodeUse // a whole placement of its own
}

// Agenda is the ordered list of jobs to try in a pass.
type Agenda struct {
	Entries []Entry
	// Reservations is how many Reserve entries a partition may hold; further
	// ones are skipped. Zero is no bound.
	Reservations int
	// ShortestFirst tries the jobs behind a partition's last reservation in
	// the order of the time that they are expected to run, instead of that of
	// the agenda.
	ShortestFirst bool
	// Running says how long running jobs are expected to run where that is not
	// their limit. The limit stays the time at which they are ended.
	Running []Expectation
	// Wake asks for another pass at that time, even if nothing changes until
	// then; 0: no wish.
	Wake wlm.Time
}

// Expectation is how long a running job is expected to run in all.
type Expectation struct {
	Job      wlm.JobID
	Expected uint32 // seconds from its start
}

// Add appends a job.
func (a *Agenda) Add(job wlm.JobID, when WhenBlocked) {
	if n := len(a.Entries); n == cap(a.Entries) {
		a.Entries = slices.Grow(a.Entries, max(n, 64)) // append alone copies a long agenda five times
	}
	a.Entries = append(a.Entries, Entry{Job: job, WhenBlocked: when})
}

// A Scheduler decides in which order pending jobs are tried, and what happens
// to those that cannot start now.
//
// The host calls Plan from one goroutine, with a View that does not change.
// Plan only proposes: every placement made from its agenda is checked again
// before it is committed, so a mistaken plan costs time, never correctness.
type Scheduler interface {
	// Plan returns the agenda of this pass. A job that it leaves out waits
	// for the next pass, with reason Priority.
	//
	// Plan takes the time from v.Now and never reads the clock. When ctx
	// ends, Plan returns what it has, with a nil error. An error means the
	// plugin is broken, not that the cluster is full: the host drops the
	// agenda and retries after a pause.
	Plan(ctx context.Context, v View) (Agenda, error)
}
