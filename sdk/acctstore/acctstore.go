// Package acctstore is the contract of accounting storage
// (AccountingStorageType). Records are those of sdk/proto/acctstore/v1.
package acctstore

import (
	"context"

	"github.com/sluice-hpc/sluice/sdk/proto/acctstore/v1"
)

// Kind is the kind's name in slurm.conf and in binaries' names.
const Kind = "accounting_storage"

// Contract is the newest version of the wire contract that this package speaks.
const Contract = 1

// A Store keeps accounting records. Append is called from one goroutine;
// queries run concurrently with it.
type Store interface {
	// Append stores a batch durably and returns the highest number stored.
	// Records may arrive again after a restart of either side; storing one
	// twice changes nothing.
	Append(ctx context.Context, cluster string, records []*acctstorev1.Record) (acked uint64, err error)
	// Jobs yields the runs that match, in order of job id and submission.
	Jobs(ctx context.Context, q *acctstorev1.Query, yield func(*acctstorev1.JobRow) error) error
}
