// Package priority is the contract of job priorities (PriorityType).
package priority

import (
	"context"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Kind is the kind's name in slurm.conf and in binaries' names.
const Kind = "priority"

// Contract is the newest version of the wire contract that this package speaks.
const Contract = 1

// Contracts are the versions that this package speaks at both ends, newest
// first: the current one and those before it.
var Contracts = []uint32{Contract}

// Request names the jobs to rank: all pending ones, or those listed.
type Request struct {
	All     bool
	Jobs    []wlm.JobID
	Highest uint32 // highest and lowest priority given so far; 0: none
	Lowest  uint32
}

// Ranking has parallel columns.
type Ranking struct {
	Jobs       []wlm.JobID
	Priorities []uint32    // at least 1; 0 would mean held
	Names      []string    // of the factors: "Age", "JobSize", ...
	Factors    [][]float64 // per job, weighted, in the order of Names; may be empty
}

// A Prioritizer ranks pending jobs, in bulk. The host calls it from one goroutine.
type Prioritizer interface {
	Rank(ctx context.Context, v mirror.View, r Request) (Ranking, error)
}
