// Package acctstore is the contract of accounting storage
// (AccountingStorageType). Records are those of sdk/proto/acctstore/v1; the
// conformance suite in acctstoretest holds a store to everything said here.
package acctstore

import (
	"context"

	"github.com/sluice-hpc/sluice/sdk/proto/acctstore/v1"
)

// Kind is the kind's name in slurm.conf and in binaries' names.
const Kind = "accounting_storage"

// Contract is the newest version of the wire contract that this package speaks.
const Contract = 1

// Contracts are the versions that this package speaks at both ends, newest
// first: the current one and those before it.
var Contracts = []uint32{Contract}

// A Store keeps accounting records. Append is called from one goroutine for
// each cluster; queries run concurrently with it.
type Store interface {
	// Append stores a batch durably, whole or not at all, and returns the
	// highest number stored.
	//
	// A run of a job is known by (cluster, job id, submit time, restarts), a
	// step by its run and number. Each record has the whole job or step as it
	// is then. Records may arrive again after a restart of either side, and in
	// any order; the outcome is the same: a run that waits, then runs, then is
	// over never goes back, and within such a phase the record of the highest
	// number holds. Over is each state that sdk/wlm calls ended, and also the
	// run in previous of JOB_REQUEUED, which gets the flag REQUEUED if its state
	// says nothing better, and the event's time as its end. A step without a
	// job_submit belongs to the newest run of its job.
	//
	// Records that a store has no use for are acknowledged like the others.
	// Records passed in are not changed, and not kept after the call.
	Append(ctx context.Context, cluster string, records []*acctstorev1.Record) (acked uint64, err error)

	// Jobs yields the runs that match a query, in order of job id, submission
	// and restarts, each with its steps in sacct's order: interactive, batch,
	// extern, 0, 1, ... Of several matching runs of a job only the last is
	// shown, unless the query asks for duplicates. An error of yield ends the
	// query and is returned.
	//
	// All fields that are set must hold; of a list, one element. No cluster means
	// all. Jobs: the id of the run, of its heterogeneous job, or of its array with
	// the run's task or none; the record of waiting tasks is meant by each of them.
	// A reference with a step limits steps to those named, and the run must have
	// one. Nodes: one of them was allocated. CPUs and nodes count what was
	// allocated; a run that waits holds nothing, whatever of an earlier run its
	// record still lists. The flags that pass in seconds (COMPLETING, CONFIGURING,
	// ...) are not kept, and neither is an array's record once no task of it waits.
	//
	// The window is [start, end], both included, as in sacct(1):
	//   - Without states, the run became eligible by end and was not over
	//     before start. A run that never became eligible (a held job) has no
	//     place in a window; only if start is open it counts from its submission.
	//   - An end state: the run ended in it, within the window.
	//   - PENDING, RUNNING, SUSPENDED: it was in that state at some moment of the
	//     window, whatever it is now. A state left at a moment was not held at
	//     that moment; but one entered and left within a second counts in a
	//     window longer than a moment.
	//   - A flag: it has the flag, and was over within the window or is not yet.
	Jobs(ctx context.Context, q *acctstorev1.Query, yield func(*acctstorev1.JobRow) error) error
}
