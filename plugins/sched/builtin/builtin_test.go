package main

import (
	"context"
	"slices"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

func view(settings string, jobs int) mirror.View {
	class := &mirror.Class{ID: 1, Partitions: []int{0}}
	var all []*mirror.Job
	for i := range jobs {
		all = append(all, &mirror.Job{ID: wlm.JobID(i + 1), Class: class, Ready: true, Tasks: 1, Priority: uint32(i * 7919 % jobs)})
	}
	return mirror.Build(nil, []mirror.Partition{{Name: "main", Starts: true}}, []*mirror.Class{class}, all,
		map[string]string{"SchedulerParameters": settings}).View(1000)
}

func TestStrictOrder(t *testing.T) {
	v := view("", 100)
	a, err := new(Builtin).Plan(context.Background(), v)
	if err != nil || len(a.Entries) != 100 {
		t.Fatalf("%d entries, %v", len(a.Entries), err)
	}
	sorted := slices.IsSortedFunc(a.Entries, func(x, y sched.Entry) int {
		return int(v.Job(y.Job).Priority) - int(v.Job(x.Job).Priority)
	})
	if !sorted {
		t.Error("the agenda is not in order of priority")
	}
	for _, e := range a.Entries {
		if e.WhenBlocked != sched.Stop {
			t.Fatalf("job %d: when blocked is %d, want Stop", e.Job, e.WhenBlocked)
		}
	}
}

func TestQueueDepth(t *testing.T) {
	a, _ := new(Builtin).Plan(context.Background(), view("defer,default_queue_depth=7", 100))
	if len(a.Entries) != 7 {
		t.Errorf("%d entries, want 7", len(a.Entries))
	}
}

func TestDeadlineEndsThePlan(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	a, err := new(Builtin).Plan(ctx, view("", 5000))
	if err != nil || len(a.Entries) == 5000 {
		t.Errorf("%d entries, %v: want fewer, and no error", len(a.Entries), err)
	}
}

func BenchmarkPlan(b *testing.B) {
	v := view("", 100_000)
	s := new(Builtin)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = s.Plan(context.Background(), v)
	}
}
