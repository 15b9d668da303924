package main

import (
	"testing"

	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// BenchmarkBatch runs batch jobs through a slurmd of its own process, 32 at a
// time, from the order to the report.
func BenchmarkBatch(b *testing.B) {
	s := newSite(b, "")
	s.slurmd()
	const inFlight = 32
	sent, done := uint32(0), 0
	b.ResetTimer()
	for done < b.N {
		for int(sent) < b.N && int(sent)-done < inFlight {
			sent++
			s.start(sent, "#!/bin/sh\ntrue\n")
		}
		if e := next(b, s.reports).GetStepEnded(); e != nil {
			done++
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
}

// BenchmarkStep is what srun does for one task inside an allocation, one step
// after the other, but for its own start.
func BenchmarkStep(b *testing.B) {
	s := newSite(b, "")
	s.slurmd()
	s.start(1, "")
	ctx := b.Context()
	c := s.user()
	b.ResetTimer()
	for range b.N {
		r, err := c.CreateStep(ctx, &nodev1.CreateStepRequest{Job: 1, Name: "true", Ntasks: 1, Relative: wlm.Unset, Wait: true})
		if err != nil {
			b.Fatal(err)
		}
		st, err := c.RunStep(ctx)
		if err != nil {
			b.Fatal(err)
		}
		st.Send(launchOf(r, false, "/bin/true"))
		if _, status, err := all(st); err != nil || len(status) != 1 {
			b.Fatal(status, err)
		}
		if _, err := c.EndStep(ctx, &nodev1.EndStepRequest{Job: 1, Step: r.GetStep()}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "steps/s")
}
