package cluster

import (
	"testing"

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
