package main

import (
	"os"
	"path/filepath"
	"testing"
)

// Nodes that fail cost work and time, never a job, and the same seed gives the
// same schedule; the books and the core's tables are verified at every step.
func TestNodesFail(t *testing.T) {
	run := func(faults string) policyDocument {
		return simulated(t, "--synthetic", "jobs=150,load=0.8", "--processors", "64", "--nodes", "16", "--seed", "7",
			"--faults", faults, "--check-every", "1").Policies[0]
	}
	drawn, again, kept := run("mtbf=40h,mttr=1h"), run("mtbf=40h,mttr=1h"), run("mtbf=40h,mttr=1h,requeue=no")
	if drawn.NodeFailures == 0 || drawn.Requeued == 0 || drawn.LostSeconds == 0 || drawn.NodeFailed != 0 || drawn.Jobs != 150 {
		t.Errorf("%d failures, %d requeued, %.0f s lost, %d ended, %d jobs", drawn.NodeFailures, drawn.Requeued, drawn.LostSeconds, drawn.NodeFailed, drawn.Jobs)
	}
	if drawn.MeanWait != again.MeanWait || drawn.NodeFailures != again.NodeFailures || drawn.MeanBoundedSlowdown != again.MeanBoundedSlowdown {
		t.Errorf("the same seed gave %+v and %+v", drawn.Summary, again.Summary)
	}
	if kept.NodeFailed == 0 || kept.Requeued != 0 || kept.Jobs != 150 {
		t.Errorf("requeue=no: %d ended, %d requeued, %d jobs", kept.NodeFailed, kept.Requeued, kept.Jobs)
	}
}

func TestListedFaults(t *testing.T) {
	dir := t.TempDir()
	trace, faults := filepath.Join(dir, "t.swf"), filepath.Join(dir, "faults")
	write := func(name, text string) {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// One job of 4 processors for 100 s; a node is away from 50 to 80.
	write(trace, "; MaxProcs: 4\n1 0 0 100 4 -1 -1 4 600 -1 1 1 1 1 1 1 -1 -1\n")
	write(faults, "# the second node\n50 n00002 30\n60 n00002 5 # is away already\n")
	p := simulated(t, "--trace", trace, "--nodes", "4", "--faults", faults).Policies[0]
	if p.Requeued != 1 || p.LostSeconds != 200 || p.Makespan != 180 || p.NodeFailures != 1 {
		t.Errorf("requeued %d, lost %.0f s, makespan %.0f s, failures %d; want 1, 200, 180, 1", p.Requeued, p.LostSeconds, p.Makespan, p.NodeFailures)
	}
}
