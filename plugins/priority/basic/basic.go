// Command basic is the plugin priority/basic: first come, first served. Each
// job gets a priority one below the lowest given before, less its nice value,
// and keeps it.
package main

import (
	"context"
	"slices"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/priority"
)

// First is the priority of a cluster's first job. It is Slurm's.
const First = 0xffff0000 - 1

// Basic ranks by submission. Use it from one goroutine.
type Basic struct {
	next uint32 // priority of the next job before its nice value; 0: not known
}

var _ priority.Prioritizer = (*Basic)(nil)

// Rank implements [priority.Prioritizer]. A job that has a priority keeps it
// when all are asked for; one that is named gets a new one.
func (b *Basic) Rank(ctx context.Context, v mirror.View, r priority.Request) (priority.Ranking, error) {
	jobs := wanted(v, r)
	slices.SortFunc(jobs, func(a, b *mirror.Job) int {
		if a.Submit != b.Submit {
			return int(a.Submit - b.Submit)
		}
		return int(int64(a.ID) - int64(b.ID))
	})
	b.resume(r)
	var out priority.Ranking
	for i, j := range jobs {
		const checkEvery = 1024
		if i%checkEvery == 0 && ctx.Err() != nil {
			break
		}
		out.Jobs = append(out.Jobs, j.ID)
		out.Priorities = append(out.Priorities, withNice(b.next, j.Nice))
		b.next = max(b.next-1, 2)
	}
	return out, nil
}

func wanted(v mirror.View, r priority.Request) []*mirror.Job {
	var jobs []*mirror.Job
	if r.All {
		for j := range v.Pending() {
			if !j.Ranked && !j.Held {
				jobs = append(jobs, j)
			}
		}
		return jobs
	}
	for _, id := range r.Jobs {
		if j := v.Job(id); j != nil && !j.Running {
			jobs = append(jobs, j)
		}
	}
	return jobs
}

// resume goes on below the lowest priority given so far. What this process
// gave counts before what was told: a nice value lowers its own job only.
func (b *Basic) resume(r priority.Request) {
	if b.next != 0 {
		return
	}
	b.next = First
	if r.Lowest > 2 {
		b.next = r.Lowest - 1
	}
}

// withNice lowers a priority by a nice value, which may be negative.
func withNice(p uint32, nice int32) uint32 {
	return uint32(min(max(int64(p)-int64(nice), 1), 0xffffffff-2))
}
