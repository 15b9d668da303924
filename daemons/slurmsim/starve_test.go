package main

import (
	"math/rand/v2"
	"testing"

	"github.com/sluice-hpc/sluice/core/sim"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"pgregory.net/rapid"
)

// A job as large as the machine, in a stream of small ones that never ends
// while it waits, starts by the moment it was first told, whatever comes.
func TestLargeJobsDoNotStarve(t *testing.T) {
	for _, policy := range []string{"easy", "conservative"} {
		t.Run(policy, func(t *testing.T) {
			b := newBench(t, policy)
			for seed := range uint64(12) {
				rnd := rand.New(rand.NewPCG(seed, 1))
				procs := 2 + rnd.IntN(7)
				var jobs []sim.Job
				const large = 30
				at := wlm.Time(0)
				for i := range 100 {
					j := sim.Job{Number: int64(i + 1), Submit: at, Limit: wlm.Minutes(1 + rnd.IntN(6)), Procs: 1, User: 1000}
					j.Run = uint32(1 + rnd.IntN(int(j.Limit)*60))
					if i == large {
						j.Procs, j.User = uint32(procs), 1001
					}
					jobs = append(jobs, j)
					at += wlm.Time(rnd.IntN(240 / procs)) // about as many as the machine takes
				}
				r := b.run(t, procs, []int{1, procs}[rnd.IntN(2)], jobs)
				j := &r.Jobs[large]
				if j.Start > j.Submit && j.Promise < 0 {
					t.Fatalf("job %d waited and was never told when it starts", j.Number)
				}
				if j.Promise >= 0 && j.Start > j.Promise {
					t.Fatalf("the large job was told %d and starts at %d", j.Promise, j.Start)
				}
			}
		})
	}
}

// With conservative backfill every job that waits is told a start in the pass
// after it came. While jobs run as long as their limits say, each starts when
// it was first told or before, whatever else comes.
func TestConservativePromisesEveryStart(t *testing.T) {
	b := newBench(t, "conservative")
	rapid.Check(t, func(t *rapid.T) {
		width := rapid.IntRange(1, 3).Draw(t, "width")
		procs := width * rapid.IntRange(1, 5).Draw(t, "jobs at once")
		jobs := drawJobs(t, procs, true)
		for i := range jobs {
			jobs[i].Procs = uint32(width)
		}
		got := b.run(t, procs, rapid.SampledFrom([]int{1, procs}).Draw(t, "nodes"), jobs)
		for i := range got.Jobs {
			j := &got.Jobs[i]
			if j.Start > j.Submit && (j.Forecast < 0 || j.ForecastAt != j.Submit) {
				t.Fatalf("job %d waits from %d to %d, and was first told a start at %d", j.Number, j.Submit, j.Start, j.ForecastAt)
			}
			if j.Forecast >= 0 && j.Start > j.Forecast {
				t.Fatalf("job %d was told %d and starts at %d", j.Number, j.Forecast, j.Start)
			}
		}
	})
}
