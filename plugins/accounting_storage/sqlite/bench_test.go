package main

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/sluice-hpc/sluice/plugins/accounting_storage/internal/acctsql"
	"github.com/sluice-hpc/sluice/sdk/proto/acctstore/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/wlm/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

func openTemp(tb testing.TB) *acctsql.Store {
	tb.Helper()
	store, err := open(tb.Context(), options{Path: filepath.Join(tb.TempDir(), "accounting.db")})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := store.Close(); err != nil {
			tb.Error(err)
		}
	})
	return store
}

// life writes the five records of an ordinary batch job.
func life(number uint64, id uint32) []*acctstorev1.Record {
	now := int64(1_700_000_000) + int64(id)/30
	spec := &wlmv1.Spec{Name: "wrap", User: 1000 + id%50, Group: 1000, UserName: "alice", GroupName: "users", Account: "research",
		Qos: "normal", Partitions: []string{"main"}, MinNodes: 1, Ntasks: 1, WorkDir: "/home/alice/run", SubmitLine: "sbatch --wrap true"}
	at := func(state wlm.JobState, end int64) *wlmv1.Job {
		j := &wlmv1.Job{Id: id, Sluid: fmt.Sprint("s", id), Spec: spec, State: uint32(state), Partition: "main", Submit: now, Eligible: now,
			ReqTres: "cpu=1,mem=100M,node=1,billing=1", KilledBy: wlm.Unset}
		if state != wlm.Pending {
			j.Start, j.End = now+1, end
			j.AllocTres = j.ReqTres
			j.Alloc = &wlmv1.Alloc{NodeList: "n1", Nodes: []*wlmv1.NodeAlloc{{Node: "n1", Cpus: []uint64{1}, Mem: 100}}}
		}
		return j
	}
	step := func(state wlm.JobState, end int64) *wlmv1.Step {
		return &wlmv1.Step{Job: id, Id: uint32(wlm.StepBatch), Name: "batch", State: uint32(state), Start: now + 1, End: end,
			NodeList: "n1", Nodes: 1, Ntasks: 1, Cpus: 1, Tres: "cpu=1,mem=100M,node=1", JobSubmit: now}
	}
	return []*acctstorev1.Record{
		{Number: number, Event: &eventv1.Event{Kind: eventv1.Kind_JOB_SUBMITTED, Time: now, Job: at(wlm.Pending, 0)}},
		{Number: number + 1, Event: &eventv1.Event{Kind: eventv1.Kind_JOB_STARTED, Time: now + 1, Job: at(wlm.Running, now+3600)}},
		{Number: number + 2, Event: &eventv1.Event{Kind: eventv1.Kind_STEP_STARTED, Time: now + 1, Step: step(wlm.Running, 0)}},
		{Number: number + 3, Event: &eventv1.Event{Kind: eventv1.Kind_STEP_ENDED, Time: now + 2, Step: step(wlm.Completed, now+2)}},
		{Number: number + 4, Event: &eventv1.Event{Kind: eventv1.Kind_JOB_ENDED, Time: now + 2, Job: at(wlm.Completed, now+2)}},
	}
}

// BenchmarkAppend stores records in batches of 2,000: of whole lives of jobs,
// and, the worst case, each of another job.
func BenchmarkAppend(b *testing.B) {
	const size = 2000
	for _, bench := range []struct {
		name string
		keep func(i int) bool // of the records of a life
	}{
		{"lives", func(int) bool { return true }},
		{"distinct", func(i int) bool { return i == 4 }},
	} {
		b.Run(bench.name, func(b *testing.B) {
			store := openTemp(b)
			var batch []*acctstorev1.Record
			id, number, records := uint32(0), uint64(0), 0
			for b.Loop() {
				batch = batch[:0]
				for len(batch) < size {
					id++
					for i, r := range life(number+1, id) {
						if bench.keep(i) {
							batch = append(batch, r)
						}
					}
					number += 5
				}
				if _, err := store.Append(b.Context(), "c", batch); err != nil {
					b.Fatal(err)
				}
				records += len(batch)
			}
			b.ReportMetric(float64(records)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// BenchmarkJobs asks a database of 1,000,000 runs, an hour's worth of 100,000
// ending in the last hour.
func BenchmarkJobs(b *testing.B) {
	const rows, size = 1_000_000, 2000
	store := openTemp(b)
	var batch []*acctstorev1.Record
	for id := uint32(1); id <= rows; id++ {
		batch = append(batch, life(uint64(id)*5, id)[4])
		if len(batch) == size {
			if _, err := store.Append(b.Context(), "c", batch); err != nil {
				b.Fatal(err)
			}
			batch = batch[:0]
		}
	}
	newest := int64(1_700_000_000) + rows/30
	for _, bench := range []struct {
		name string
		q    *acctstorev1.Query
	}{
		{"one job", &acctstorev1.Query{Cluster: "c", Jobs: []*acctstorev1.JobRef{{Job: 654_321}}}},
		{"a user's last 100 seconds", &acctstorev1.Query{Cluster: "c", Users: []uint32{1007}, Start: newest - 100}},
		{"failed ones of the last hour", &acctstorev1.Query{Cluster: "c", States: []uint32{uint32(wlm.Failed)}, Start: newest - 3600}},
		{"all of the last hour", &acctstorev1.Query{Cluster: "c", Start: newest - 3600}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			found := 0
			for b.Loop() {
				found = 0
				err := store.Jobs(b.Context(), bench.q, func(*acctstorev1.JobRow) error { found++; return nil })
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(found), "jobs")
		})
	}
}
