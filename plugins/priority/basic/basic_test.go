package main

import (
	"context"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/priority"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"pgregory.net/rapid"
)

func rank(t rapid.TB, b *Basic, r priority.Request, jobs ...*mirror.Job) map[wlm.JobID]uint32 {
	out, err := b.Rank(context.Background(), mirror.Build(nil, nil, nil, jobs, nil).View(1000), r)
	if err != nil || len(out.Jobs) != len(out.Priorities) {
		t.Fatalf("%+v, %v", out, err)
	}
	got := map[wlm.JobID]uint32{}
	for i, id := range out.Jobs {
		got[id] = out.Priorities[i]
	}
	return got
}

func TestFirstJob(t *testing.T) {
	got := rank(t, new(Basic), priority.Request{All: true}, &mirror.Job{ID: 1, Submit: 5})
	if got[1] != 4294901759 {
		t.Errorf("the first job has priority %d, want 4294901759", got[1])
	}
}

func TestContinuesBelowTheLowest(t *testing.T) {
	b := new(Basic)
	got := rank(t, b, priority.Request{All: true, Lowest: 500}, &mirror.Job{ID: 8, Submit: 9}, &mirror.Job{ID: 7, Submit: 3},
		&mirror.Job{ID: 9, Submit: 9}, &mirror.Job{ID: 1, Ranked: true}, &mirror.Job{ID: 2, Held: true})
	if len(got) != 3 || got[7] != 499 || got[8] != 498 || got[9] != 497 {
		t.Errorf("got %v, want 7:499 8:498 9:497", got)
	}
	if got = rank(t, b, priority.Request{Jobs: []wlm.JobID{10, 11}, Lowest: 300}, &mirror.Job{ID: 10}); got[10] != 496 || len(got) != 1 {
		t.Errorf("got %v, want 10:496", got)
	}
}

func TestNice(t *testing.T) {
	got := rank(t, new(Basic), priority.Request{All: true}, &mirror.Job{ID: 1, Submit: 1, Nice: 100}, &mirror.Job{ID: 2, Submit: 2},
		&mirror.Job{ID: 3, Submit: 3, Nice: -50})
	if got[1] != First-100 || got[2] != First-1 || got[3] != First-2+50 {
		t.Errorf("got %v", got)
	}
}

func TestStrictlyDecreasing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var jobs []*mirror.Job
		for i := range rapid.IntRange(1, 50).Draw(t, "jobs") {
			jobs = append(jobs, &mirror.Job{ID: wlm.JobID(i + 1), Submit: wlm.Time(rapid.IntRange(1, 20).Draw(t, "submit"))})
		}
		got := rank(t, new(Basic), priority.Request{All: true}, jobs...)
		for _, a := range jobs {
			for _, b := range jobs {
				if a.Submit < b.Submit && got[a.ID] <= got[b.ID] {
					t.Fatalf("job %d came before %d and has priority %d, not above %d", a.ID, b.ID, got[a.ID], got[b.ID])
				}
			}
		}
	})
}
