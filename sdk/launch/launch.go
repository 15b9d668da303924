// Package launch is the contract of step launchers (LaunchType): how a node
// runs its share of a step. Messages are those of sdk/proto/launch/v1.
//
// A launcher keeps no truth. Whatever runs must outlive it: Recover finds the
// steps again from the node's spool after a restart of the plugin or of slurmd.
package launch

import (
	"context"

	"github.com/sluice-hpc/sluice/sdk/proto/launch/v1"
)

// Kind is the kind's name in slurm.conf and in binaries' names.
const Kind = "launch"

// Contract is the newest version of the wire contract that this package speaks.
const Contract = 1

// Contracts are the versions that this package speaks at both ends, newest
// first: the current one and those before it.
var Contracts = []uint32{Contract}

// A Launcher runs steps. Calls run concurrently; each step is launched once.
type Launcher interface {
	// Launch starts the tasks and returns when all are started, or why not. When
	// ctx is cancelled the caller is gone, by a crash perhaps: the step is left
	// alone, for Recover to find. When its deadline passes the step is killed.
	Launch(ctx context.Context, r *launchv1.LaunchRequest) (*launchv1.LaunchReply, error)
	// Signal sends a signal to every process of a step.
	Signal(ctx context.Context, r *launchv1.SignalRequest) error
	// Watch calls tell for everything that happens to any step until ctx
	// ends; only one Watch runs at a time.
	Watch(ctx context.Context, tell func(*launchv1.Happening) error) error
	// Recover finds the steps that an earlier launcher left, ended or not.
	Recover(ctx context.Context, spool string) (*launchv1.RecoverReply, error)
	// Stats tells what a running step used so far.
	Stats(ctx context.Context, step *launchv1.StepRef) (*launchv1.StatsReply, error)
	// Forget drops what is kept of an ended step.
	Forget(ctx context.Context, step *launchv1.StepRef) error
}
