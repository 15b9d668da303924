package squeue

import (
	"io"
	"testing"

	"github.com/sluice-hpc/sluice/tools/internal/peertest"
)

// pending is a cluster with 10,000 pending jobs.
func pending() *peertest.Fake {
	f := peertest.New(19)
	one := f.JobList[5]
	f.JobList = nil
	for range 10000 {
		f.JobList = append(f.JobList, one)
	}
	return f
}

func bench(b *testing.B, args ...string) {
	f := pending()
	o, err := Parse(args, func(string) string { return "" }, peertest.Names())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		f.Asked = nil
		if Run(b.Context(), o, f, io.Discard, io.Discard) != 0 {
			b.Fatal("failed")
		}
	}
}

func BenchmarkList10k(b *testing.B) { bench(b) }
func BenchmarkJSON10k(b *testing.B) { bench(b, "--json") }
