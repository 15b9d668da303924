package selectortest

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/selector"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// broken places every job on the first node of its partition, whatever runs
// there, and answers nothing else.
type broken struct{}

func (broken) Place(_ context.Context, v mirror.View, r selector.Request) (out selector.Result, err error) {
	for _, e := range r.Agenda.Entries {
		if j := v.Job(e.Job); j != nil {
			part := j.Class.Partitions[0]
			n := v.Nodes[v.Partitions[part].Nodes[0]]
			out.Placements = append(out.Placements, selector.Placement{Job: e.Job, Partition: part,
				Uses: []mirror.NodeUse{{Node: n.Index, CPUs: wlm.FullCPUSet(n.CPUs), Mem: n.Memory}}})
		}
	}
	return out, nil
}

func (broken) WhatIf(context.Context, mirror.View, *mirror.Job) (out selector.Result, err error) {
	return out, nil
}

// The suite can fail: run on a broken selector, each of its tests but those
// that any answer passes explains what is wrong.
func TestBrokenSelectorFails(t *testing.T) {
	if os.Getenv("SELECTORTEST_BROKEN") != "" {
		Run(t, func(*testing.T) selector.Selector { return broken{} })
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestBrokenSelectorFails$", "-test.v")
	cmd.Env = append(os.Environ(), "SELECTORTEST_BROKEN=1")
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatalf("a broken selector passes:\n%s", out)
	}
	for _, name := range []string{"a-job-that-fits-starts", "jobs-share-a-cluster-without-overlap", "a-bound-on-starts-is-kept",
		"a-skipped-job-lets-others-pass", "a-stopped-partition-starts-nothing-more", "a-reservation-is-not-delayed",
		"a-job-that-can-never-run-is-refused-with-a-text", "a-down-partition-starts-nothing", "arrays-start-up-to-their-number-of-tasks",
		"counters-are-kept", "what-if-starts-nothing", "random-clusters-get-lawful-placements"} {
		if !strings.Contains(string(out), "--- FAIL: TestBrokenSelectorFails/"+name) {
			t.Errorf("the test %q does not notice a broken selector", name)
		}
	}
}
