package main

import (
	"testing"
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
