package place

import (
	"slices"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// licensed is a cluster with two licences, of which job 1 has one for 600 s.
func licensed() *cluster {
	c := newCluster(4, 1, 1, 1)
	c.counters = []mirror.Counter{{ID: 1, Name: "matlab", Capacity: 2, Reason: wlm.WaitLicenses}}
	c.run(c.job(600, wants(1)), testNow+600, use(0, 0, 0))
	return c
}

func wants(n uint64) mirror.Class {
	return mirror.Class{Counters: []mirror.CounterUse{{Counter: 1, Amount: n}}}
}

// TestCountersAreReservedOverTime: a job that waits for licences has a forecast
// that respects their holders, and nobody behind it takes them away.
func TestCountersAreReservedOverTime(t *testing.T) {
	c := licensed()
	c.job(600, wants(2))  // 2: from 600
	c.job(601, wants(1))  // 3: would delay 2
	c.job(300, wants(1))  // 4: is over in time
	c.job(60, wants(0))   // 5: needs none
	c.job(9000, wants(3)) // 6: never
	r := c.place(t, sched.Reserve, 0)
	if got := started(r); !slices.Equal(got, []wlm.JobID{4, 5}) {
		t.Errorf("started %v, want [4 5]", got)
	}
	for id, want := range map[wlm.JobID]wlm.Time{2: testNow + 600, 3: testNow + 1200, 6: 0} {
		if v, _ := verdictOf(r, id); v.Start != want || v.Reason != wlm.WaitLicenses {
			t.Errorf("job %d: %+v, want a start at %d", id, v, want)
		}
	}
}

// TestCountersOfLaterClaimsAreFree: what is promised for later is of use to
// jobs that are over by then.
func TestCountersOfLaterClaimsAreFree(t *testing.T) {
	c := licensed()
	c.run(c.job(60, mirror.Class{}), testNow+900, use(1, 0, 0))
	wide := wants(1)
	wide.MinNodes, wide.MaxNodes = 4, 4
	c.job(600, wide)     // 3: from 900, when all nodes are free
	c.job(900, wants(1)) // 4: over by then
	c.job(901, wants(1)) // 5: not, and the nodes are promised too
	if got := started(c.place(t, sched.Reserve, 0)); !slices.Equal(got, []wlm.JobID{4}) {
		t.Errorf("started %v, want [4]", got)
	}
}
