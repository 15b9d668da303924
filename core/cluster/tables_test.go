package cluster

import (
	"testing"

	"pgregory.net/rapid"

	eventv1 "github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// A job's own script outlives every change of its record, and goes with it.
func TestScriptStaysWithItsJob(t *testing.T) {
	key := []byte("key")
	tab := NewTables()
	put := func(e *Event) {
		t.Helper()
		if err := tab.Put(e); err != nil {
			t.Fatal(err)
		}
	}
	put(&Event{Kind: eventv1.Kind_BLOB_STORED, Key: key, Data: []byte("#!/bin/sh\n")})
	j := &wlm.Job{ID: 1, Spec: &wlm.Spec{}, State: wlm.Pending, Script: key}
	put(&Event{Kind: eventv1.Kind_JOB_SUBMITTED, Job: j})
	for range 3 {
		j = j.Clone()
		put(&Event{Kind: eventv1.Kind_JOB_CHANGED, Job: j})
		if got := tab.Blob(key); string(got) != "#!/bin/sh\n" {
			t.Fatalf("after a change the script is %q", got)
		}
	}
	put(&Event{Kind: eventv1.Kind_JOB_PURGED, IDs: []wlm.JobID{1}})
	if got := tab.Blob(key); got != nil {
		t.Errorf("after the purge there is still %q", got)
	}
}

// Ended steps are kept as ranges, in whatever order they end.
func TestStepsOver(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tables := NewTables()
		want := map[wlm.StepID]bool{}
		for _, n := range rapid.SliceOf(rapid.Uint32Range(0, 20)).Draw(t, "ids") {
			id := wlm.StepID(n)
			if n > 17 {
				id = ^wlm.StepID(0) - wlm.StepID(20-n)
			}
			tables.over[1] = withID(tables.over[1], id)
			want[id] = true
		}
		ranges := tables.over[1]
		for i := 1; i < len(ranges); i++ {
			if ranges[i-1].last+1 >= ranges[i].first {
				t.Fatalf("ranges %v", ranges)
			}
		}
		for n := range wlm.StepID(25) {
			for _, id := range []wlm.StepID{n, ^n} {
				if tables.stepOver(1, id) != want[id] {
					t.Errorf("step %d: %v, of %v", id, !want[id], ranges)
				}
			}
		}
	})
}
