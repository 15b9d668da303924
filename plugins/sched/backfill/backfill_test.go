package main

import (
	"context"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

func view(settings string, jobs int) mirror.View {
	parts := []mirror.Partition{{Name: "low", Tier: 1, Starts: true}, {Name: "high", Tier: 2, Starts: true}}
	classes := []*mirror.Class{{ID: 1, Partitions: []int{0}}, {ID: 2, Partitions: []int{1}}}
	var all []*mirror.Job
	for i := range jobs {
		all = append(all, &mirror.Job{ID: wlm.JobID(i + 1), Class: classes[i%2], Ready: true, Tasks: 1,
			Priority: uint32(i * 7919 % jobs), User: wlm.UID(i % 5), Eligible: wlm.Time(i)})
	}
	return mirror.Build(nil, parts, classes, all, map[string]string{"SchedulerParameters": settings}).View(1000)
}

func TestPlans(t *testing.T) {
	for _, tc := range []struct {
		name         string
		b            Backfill
		settings     string
		entries      int
		reservations int
		reserve      int // entries with Reserve
	}{
		{"EASY by default", Backfill{}, "", 1000, 1, 1000},
		{"more reservations", Backfill{Reservations: 4}, "", 1000, 4, 1000},
		{"conservative has no bound", Backfill{Conservative: true, Reservations: 4}, "", 1000, 0, 1000},
		{"depth option", Backfill{Depth: 10}, "", 10, 1, 10},
		{"bf_max_job_test before the option", Backfill{Depth: 10}, "bf_max_job_test=30", 30, 1, 30},
		{"the larger depth", Backfill{}, "bf_max_job_test=30,default_queue_depth=40", 40, 1, 40},
		{"per user", Backfill{}, "bf_max_job_user=2", 10, 1, 10},
		{"per partition", Backfill{}, "bf_max_job_part=3", 6, 1, 6},
		{"reservations of a partition", Backfill{}, "bf_job_part_count_reserve=9", 1000, 9, 1000},
		{"low priorities reserve nothing", Backfill{}, "bf_min_prio_reserve=400", 1000, 1, 600},
		{"young jobs reserve nothing", Backfill{}, "bf_min_age_reserve=501", 1000, 1, 500},
		{"nonsense is passed over", Backfill{}, "bf_max_job_test=many,=,,bf_continue", 1000, 1, 1000},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, err := tc.b.Plan(context.Background(), view(tc.settings, 1000))
			reserve := 0
			for _, e := range a.Entries {
				if e.WhenBlocked == sched.Reserve {
					reserve++
				}
			}
			if err != nil || len(a.Entries) != tc.entries || a.Reservations != tc.reservations || reserve != tc.reserve {
				t.Errorf("%d entries (%d reserve), bound %d, err %v; want %d (%d), %d",
					len(a.Entries), reserve, a.Reservations, err, tc.entries, tc.reserve, tc.reservations)
			}
		})
	}
}

func TestTiersComeFirst(t *testing.T) {
	v := view("", 1000)
	a, _ := new(Backfill).Plan(context.Background(), v)
	for i, e := range a.Entries {
		if high := v.Job(e.Job).Class.Partitions[0] == 1; high != (i < 500) {
			t.Fatalf("entry %d is job %d of partition %v", i, e.Job, v.Job(e.Job).Class.Partitions)
		}
	}
}

func BenchmarkPlan(b *testing.B) {
	v := view("", 100_000)
	s := new(Backfill)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = s.Plan(context.Background(), v)
	}
}
