package main

import (
	"cmp"
	"slices"

	"github.com/sluice-hpc/sluice/core/sim"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// reference is backfilling as the textbooks have it, on a machine that is
// nothing but a number of processors. It tries everything at every moment and
// is right because it is simple. Jobs are in order of submission.
type reference struct {
	procs        int
	jobs         []sim.Job
	conservative bool
	predict      bool // with the mean of the user's last two runtimes
	shortest     bool // what is behind the reservation is tried shortest first

	now     int64
	free    int
	queue   []int // waiting
	running []int
	next    int
	start   []int64
	expect  []int64 // seconds that a job is expected to run
	past    map[wlm.UID][]int
}

// starts replays all jobs and returns when each starts.
func (r *reference) starts() []int64 {
	r.free, r.now = r.procs, -1
	r.start, r.expect = make([]int64, len(r.jobs)), make([]int64, len(r.jobs))
	r.past = map[wlm.UID][]int{}
	for r.advance() {
		if r.conservative {
			r.planAll()
		} else {
			r.easy()
		}
	}
	return r.start
}

func (r *reference) limit(i int) int64 { return int64(r.jobs[i].Limit) * 60 }

func (r *reference) ends(i int) int64 { return r.start[i] + min(int64(r.jobs[i].Run), r.limit(i)) }

// planned is when a running job is expected to end.
func (r *reference) planned(i int) int64 {
	if at := r.start[i] + r.expect[i]; at > r.now {
		return at
	}
	return max(r.start[i]+r.limit(i), r.now+1)
}

// advance goes to the next moment at which something happens.
func (r *reference) advance() bool {
	at := int64(-1)
	consider := func(t int64) {
		if t > r.now && (at < 0 || t < at) {
			at = t
		}
	}
	if r.next < len(r.jobs) {
		consider(int64(r.jobs[r.next].Submit))
	}
	for _, i := range r.running {
		consider(r.ends(i))
		consider(r.start[i] + r.expect[i])
	}
	if at < 0 {
		return false
	}
	r.now = at
	r.running = slices.DeleteFunc(r.running, func(i int) bool {
		if r.ends(i) > at {
			return false
		}
		r.free += int(r.jobs[i].Procs)
		u := append(r.past[r.jobs[i].User], i)
		slices.Sort(u) // by submission
		r.past[r.jobs[i].User] = u[max(len(u)-2, 0):]
		return true
	})
	for ; r.next < len(r.jobs) && int64(r.jobs[r.next].Submit) <= at; r.next++ {
		r.queue = append(r.queue, r.next)
		r.expect[r.next] = r.prediction(r.next)
	}
	return true
}

func (r *reference) prediction(i int) int64 {
	past := r.past[r.jobs[i].User]
	if !r.predict || len(past) == 0 {
		return r.limit(i)
	}
	sum := int64(0)
	for _, p := range past {
		sum += max(min(int64(r.jobs[p].Run), r.limit(p)), 1)
	}
	return min(sum/int64(len(past)), r.limit(i))
}

func (r *reference) begin(i int) {
	r.start[i] = r.now
	r.free -= int(r.jobs[i].Procs)
	r.running = append(r.running, i)
}

// easy starts the head while it fits, then whatever does not delay it.
func (r *reference) easy() {
	for len(r.queue) > 0 && int(r.jobs[r.queue[0]].Procs) <= r.free {
		r.begin(r.queue[0])
		r.queue = r.queue[1:]
	}
	if len(r.queue) == 0 {
		return
	}
	head := r.queue[0]
	order := slices.Clone(r.running)
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(r.planned(a), r.planned(b)) })
	avail, shadow := r.free, int64(-1)
	for _, i := range order {
		if shadow >= 0 && r.planned(i) > shadow {
			break
		}
		if avail += int(r.jobs[i].Procs); avail >= int(r.jobs[head].Procs) && shadow < 0 {
			shadow = r.planned(i)
		}
	}
	extra := avail - int(r.jobs[head].Procs)
	behind := slices.Clone(r.queue[1:])
	if r.shortest {
		slices.SortStableFunc(behind, func(a, b int) int { return cmp.Compare(r.expect[a], r.expect[b]) })
	}
	for _, i := range behind {
		procs := int(r.jobs[i].Procs)
		early := r.now+r.expect[i] <= shadow
		if procs > r.free || !early && procs > extra {
			continue
		}
		if !early {
			extra -= procs
		}
		r.begin(i)
		r.queue = slices.DeleteFunc(r.queue, func(q int) bool { return q == i })
	}
}

// planAll gives every job, in order, the earliest start that the jobs before it
// leave, and begins those whose start is now.
func (r *reference) planAll() {
	type use struct {
		from, to int64
		procs    int
	}
	var plan []use
	for _, i := range r.running {
		plan = append(plan, use{r.now, r.planned(i), int(r.jobs[i].Procs)})
	}
	fits := func(at, length int64, procs int) bool {
		moments := []int64{at}
		for _, u := range plan {
			if u.from > at && u.from < at+length {
				moments = append(moments, u.from)
			}
		}
		for _, m := range moments {
			used := 0
			for _, u := range plan {
				if u.from <= m && m < u.to {
					used += u.procs
				}
			}
			if used+procs > r.procs {
				return false
			}
		}
		return true
	}
	for _, i := range slices.Clone(r.queue) {
		moments := []int64{r.now}
		for _, u := range plan {
			moments = append(moments, u.to)
		}
		slices.Sort(moments)
		for _, at := range moments {
			if at < r.now || !fits(at, r.expect[i], int(r.jobs[i].Procs)) {
				continue
			}
			plan = append(plan, use{at, at + r.expect[i], int(r.jobs[i].Procs)})
			if at == r.now {
				r.begin(i)
				r.queue = slices.DeleteFunc(r.queue, func(q int) bool { return q == i })
			}
			break
		}
	}
}
