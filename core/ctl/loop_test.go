package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/core/journal"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// paper is a journal in memory whose Append waits for leave.
type paper struct {
	leave chan error // one for each Append; nil: Append returns at once
	free  uint64

	mu      sync.Mutex
	batches []*eventv1.Batch
}

func (p *paper) Append(b *eventv1.Batch) error {
	p.mu.Lock()
	p.batches = append(p.batches, b)
	p.mu.Unlock()
	if p.leave != nil {
		return <-p.leave
	}
	return nil
}

func (p *paper) entries() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.batches)
}

func (p *paper) SnapshotDue() bool                   { return false }
func (p *paper) Snapshot(journal.Image, func(error)) {}
func (p *paper) Free() (uint64, error)               { return p.free, nil }

const plenty = 10 * journal.Reserve

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func settings() cluster.Settings {
	return cluster.Settings{Cluster: "test", MaxJobCount: 10000, FirstJobID: 1, MaxJobID: 100000, MaxArraySize: 100, JobRequeue: true, MinJobAge: 300}
}

func configured(t *testing.T) *cluster.Cluster {
	t.Helper()
	c := cluster.New(settings())
	if _, err := c.Apply(configure(), 1); err != nil {
		t.Fatal(err)
	}
	c.TakeTurn()
	return c
}

func configure() *cluster.Configure {
	return &cluster.Configure{Settings: settings(), Nodes: []wlm.Node{{Name: "n1", CPUs: 4}},
		Partitions: []wlm.Partition{{Name: "main", NodeNames: []wlm.NodeName{"n1"}, Nodes: "n1", Default: true, MaxTime: wlm.Unlimited, MaxNodes: wlm.Unset}}}
}

func submit() *cluster.Submit {
	return &cluster.Submit{Spec: &wlm.Spec{Name: "job", User: 1000, Priority: wlm.Unset, CoreSpec: wlm.Unset}, Script: []byte("#!/bin/sh\n"), Caller: cluster.Caller{UID: 1000}}
}

// running starts l and stops it, with its goroutine, when the test ends.
func running(t *testing.T, l *Loop) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	return func() error { cancel(); return <-ended }
}

func TestNothingIsToldBeforeItIsDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &paper{leave: make(chan error), free: plenty}
		heard, replied := false, false
		l := New(configured(t), p, Options{Log: quiet}, func([]*cluster.Event) { heard = true })
		stop := running(t, l)
		go func() {
			if _, err := l.Do(t.Context(), submit()); err != nil {
				t.Error(err)
			}
			replied = true
		}()
		synctest.Wait()
		if p.entries() != 1 || heard || replied {
			t.Fatalf("before the entry is durable: %d entries, listeners heard %v, caller replied %v", p.entries(), heard, replied)
		}
		p.leave <- nil
		synctest.Wait()
		if !heard || !replied {
			t.Fatalf("after: listeners heard %v, caller replied %v", heard, replied)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestCommandsThatWaitShareAnEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &paper{leave: make(chan error), free: plenty}
		l := New(configured(t), p, Options{Log: quiet})
		stop := running(t, l)
		var all sync.WaitGroup
		ask := func() {
			all.Go(func() {
				if _, err := l.Do(t.Context(), submit()); err != nil {
					t.Error(err)
				}
			})
		}
		ask()
		synctest.Wait() // it is being written; the others wait meanwhile
		const others = 50
		for range others {
			ask()
		}
		synctest.Wait()
		p.leave <- nil
		p.leave <- nil
		all.Wait()
		if n := p.entries(); n != 2 {
			t.Errorf("%d entries, want 2", n)
		}
		if n := len(p.batches[1].GetEvents()); n < others {
			t.Errorf("the second entry has %d events, want those of %d jobs", n, others)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAJournalThatFailsStopsTheLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, broken := &paper{leave: make(chan error), free: plenty}, errors.New("no such device")
		heard := false
		l := New(configured(t), p, Options{Log: quiet}, func([]*cluster.Event) { heard = true })
		stop := running(t, l)
		failed := make(chan error, 1)
		go func() {
			_, err := l.Do(t.Context(), submit())
			failed <- err
		}()
		synctest.Wait()
		p.leave <- broken
		if err := <-failed; errs.KindOf(err) != errs.Unavail {
			t.Errorf("the caller got %v", err)
		}
		if _, err := l.Do(t.Context(), submit()); errs.KindOf(err) != errs.Unavail {
			t.Errorf("a later caller got %v", err)
		}
		if err := stop(); !errors.Is(err, broken) {
			t.Errorf("Run returned %v", err)
		}
		if heard {
			t.Error("listeners heard what is not durable")
		}
	})
}

func TestAFullDiskRefusesJobsButTakesReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &paper{free: journal.Reserve - 1}
		l := New(configured(t), p, Options{Log: quiet})
		stop := running(t, l)
		if _, err := l.Do(t.Context(), submit()); errs.CodeOf(err) != errs.StateSaveFull {
			t.Errorf("a job: %v", err)
		}
		if _, err := l.Do(t.Context(), &cluster.Reports{Node: "n1", Reports: []*nodev1.Report{}}); err != nil {
			t.Errorf("a report: %v", err)
		}
		if _, err := l.Do(t.Context(), &cluster.Register{Node: "n1", Msg: &nodev1.Register{Cpus: 4}}); err != nil {
			t.Errorf("a registration: %v", err)
		}
		p.free = plenty
		time.Sleep(2 * freeEvery) // of the bubble's clock
		if _, err := l.Do(t.Context(), submit()); err != nil {
			t.Errorf("a job, with room again: %v", err)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestCallersLeaveWithTheirContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(configured(t), &paper{free: plenty}, Options{Log: quiet}) // not running
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := l.Do(ctx, submit()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

// TestAKilledControllerLosesNothing never closes the first journal cleanly: the
// directory is copied as it lies on disk after the last reply.
func TestAKilledControllerLosesNothing(t *testing.T) {
	dir := t.TempDir()
	c, j, err := Open(journal.Options{Dir: dir, ID: "ctl", Log: quiet}, settings())
	if err != nil {
		t.Fatal(err)
	}
	l := New(c, j, Options{Log: quiet})
	stop := running(t, l)
	if _, err := l.Do(t.Context(), configure()); err != nil {
		t.Fatal(err)
	}
	want := map[wlm.JobID]bool{}
	for range 20 {
		v, err := l.Do(t.Context(), submit())
		if err != nil {
			t.Fatal(err)
		}
		want[v.(*cluster.SubmitReply).Job.ID] = true
	}
	// What a kill leaves is what is on disk now.
	left := t.TempDir()
	copyTree(t, dir, left)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	c2, j2, err := Open(journal.Options{Dir: left, ID: "ctl", Log: quiet}, settings())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := j2.Close(); err != nil {
			t.Error(err)
		}
	}()
	for id := range want {
		if c2.Job(id) == nil {
			t.Errorf("job %s is lost", id)
		}
	}
	if got := fmt.Sprint(c2.JobCount(), c2.NextJob, c2.LastRecord(), len(c2.Nodes)); got != fmt.Sprint(c.JobCount(), c.NextJob, c.LastRecord(), len(c.Nodes)) {
		t.Errorf("jobs, next id, records, nodes: %s", got)
	}
	if err := c2.Check(); err != nil {
		t.Error(err)
	}
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkOpen is what a controller does before it can answer, with 100,000
// pending jobs in its journal.
func BenchmarkOpen(b *testing.B) {
	const jobs, each = 100_000, 500
	dir := b.TempDir()
	o := journal.Options{Dir: dir, ID: "ctl", Log: quiet}
	big := settings()
	big.MaxJobCount, big.MaxJobID = 2*jobs, 2*jobs
	c, j, err := Open(o, big)
	if err != nil {
		b.Fatal(err)
	}
	l := New(c, j, Options{Log: quiet})
	conf := configure()
	conf.Settings = big
	batch := []*request{{cmd: conf, done: make(chan struct{})}}
	for range jobs / each {
		for range each {
			s := submit()
			s.Spec.Hold, s.Env = true, []byte("PATH=/usr/bin\x00")
			s.Spec.Partitions, s.Spec.WorkDir, s.Spec.UserName = []string{"main"}, "/home/ann", "ann"
			batch = append(batch, &request{cmd: s, done: make(chan struct{})})
		}
		if err := l.turn(batch); err != nil {
			b.Fatal(err)
		}
		batch = batch[:0]
	}
	if err := j.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		c, j, err := Open(o, big)
		if err != nil {
			b.Fatal(err)
		}
		if c.JobCount() != jobs {
			b.Fatalf("%d jobs", c.JobCount())
		}
		if err := j.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
