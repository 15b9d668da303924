// Package selector is the contract of resource selection (SelectType): it turns
// an agenda into placements, forecasts and reasons. It owns cores, memory,
// devices, weights, sharing, and the time profile behind reservations.
package selector

import (
	"context"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Kind is the kind's name in slurm.conf and in binaries' names.
const Kind = "select"

// Contract is the newest version of the wire contract that this package speaks.
const Contract = 1

// Contracts are the versions that this package speaks at both ends, newest
// first: the current one and those before it.
var Contracts = []uint32{Contract}

// Placement starts one job, or one task of an array, now.
type Placement struct {
	Job        wlm.JobID
	Partition  int // index
	Uses       []mirror.NodeUse
	Backfilled bool // started ahead of a job before it in the agenda
	// Victims are running jobs that must make room before the job can start.
	// None of them may be left out.
	Victims []wlm.JobID
	// Limit is the job's time limit in seconds when it must be shorter than
	// asked, but not below the job's TimeMin; 0: the job's own.
	Limit uint32
	// Reservation is the ID of the one whose resources it uses; 0: none.
	Reservation uint32
}

// Verdict says why jobs of the agenda did not start, with numbers in Text.
type Verdict struct {
	Reason wlm.Reason
	Text   string
	Start  wlm.Time        // forecast; 0: none
	Nodes  []wlm.NodeIndex // forecast
	Jobs   []wlm.JobID
}

// Refused is a placement of the pass before that the commit did not take.
type Refused struct {
	Job  wlm.JobID
	Text string
}

// Request is one pass's question.
type Request struct {
	Agenda    sched.Agenda
	MaxStarts int // 0: no bound
	Refused   []Refused
}

// Result is its answer: placements to start now, in order, none conflicting
// with another, and a verdict for every other job of the agenda that was tried.
type Result struct {
	Placements []Placement
	Verdicts   []Verdict
}

// A Selector places jobs. The host calls it from one goroutine.
type Selector interface {
	// Place answers an agenda. When ctx ends it returns what it has. The agenda is
	// the caller's: it holds during the call.
	Place(ctx context.Context, v mirror.View, r Request) (Result, error)
	// WhatIf answers for one job that is not in the view: a placement if it
	// could start now, else a verdict with a forecast.
	WhatIf(ctx context.Context, v mirror.View, job *mirror.Job) (Result, error)
}
