package acctstore

import (
	"github.com/sluice-hpc/sluice/sdk/proto/acctstore/v1"
)

// maxSteps bounds the steps of one row, so that a row stays far below the
// largest message of the wire.
const maxSteps = 1000

// SplitRow yields a run with any number of steps in rows of at most 1000. A
// store calls it for each run that it found.
func SplitRow(row *acctstorev1.JobRow, yield func(*acctstorev1.JobRow) error) error {
	if len(row.Steps) <= maxSteps {
		return yield(row)
	}
	rest := row.Steps
	part := &acctstorev1.JobRow{Cluster: row.Cluster, Job: row.Job}
	for {
		part.Steps = rest[:min(maxSteps, len(rest))]
		rest = rest[len(part.Steps):]
		if err := yield(part); err != nil || len(rest) == 0 {
			return err
		}
		part = &acctstorev1.JobRow{Cluster: row.Cluster, Continued: true}
	}
}

// JoinRows undoes [SplitRow]: it calls query with a function to yield parts to,
// and passes whole runs on to yield. Whoever shows rows to people wraps its
// query in it.
func JoinRows(query func(part func(*acctstorev1.JobRow) error) error, yield func(*acctstorev1.JobRow) error) error {
	var held *acctstorev1.JobRow
	err := query(func(row *acctstorev1.JobRow) error {
		if row.Continued && held != nil {
			held.Steps = append(held.Steps, row.Steps...)
			return nil
		}
		last := held
		held = row
		if last == nil {
			return nil
		}
		return yield(last)
	})
	if err != nil || held == nil {
		return err
	}
	return yield(held)
}
