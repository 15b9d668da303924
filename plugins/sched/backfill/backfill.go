// Command backfill is the plugin sched/backfill: jobs are tried in the order
// of their priority, one that cannot start gets its earliest start reserved,
// and those behind it may start if that delays no reservation.
//
// With mode easy (the default) the first blocked jobs of each partition hold a
// reservation, one unless the option reservations says otherwise; with mode
// conservative every blocked job holds one.
//
// With predict=recent the policy plans with how long the user's last two jobs
// ran instead of with time limits, which stay the moment at which jobs are
// ended. With order=shortest the jobs behind the reservations are tried by the
// time that they are expected to run.
//
// Of SchedulerParameters it reads
//
//	bf_max_job_test            jobs that a pass tries
//	default_queue_depth        the same; the larger of the two counts
//	bf_max_job_user            jobs of one user that a pass tries
//	bf_max_job_part            jobs of one partition that a pass tries
//	partition_job_depth        the same; the smaller of the two counts
//	bf_max_job_assoc           jobs of one user and account that a pass tries
//	bf_max_job_user_part       jobs of one user in one partition that a pass tries
//	bf_job_part_count_reserve  reservations of a partition
//	bf_min_prio_reserve        priority below which nothing is reserved
//	bf_min_age_reserve         seconds of waiting below which nothing is reserved
//
// and tries all jobs when no depth is set.
package main

import (
	"context"

	"github.com/sluice-hpc/sluice/plugins/sched/internal/params"
	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Backfill plans with reservations. Use it from one goroutine; an agenda is good until
// the next call.
type Backfill struct {
	Conservative bool
	Reservations int  // of a partition in mode easy; 0: one
	Depth        int  // jobs tried in a pass; 0: all
	Predict      bool // plan with predicted runtimes
	Shortest     bool // what is behind the reservations is tried shortest first

	predictor *predictor    // with Predict
	entries   []sched.Entry // of the pass before: the agenda of the next takes them over
}

var _ sched.Scheduler = (*Backfill)(nil)

// rules are the options and SchedulerParameters of one pass.
type rules struct {
	depth, perUser, perPart int
	perAssoc, perUserPart   int
	minPriority             uint32
	minAge                  wlm.Time
}

// least is the lower of two bounds of which 0 is none.
func least(a, b int) int {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

// Plan implements [sched.Scheduler].
func (b *Backfill) Plan(ctx context.Context, v sched.View) (sched.Agenda, error) {
	p := params.Parse(v.Setting("SchedulerParameters"))
	r := rules{
		depth:       max(p.Positive("bf_max_job_test", 0), p.Positive("default_queue_depth", 0)),
		perUser:     p.Positive("bf_max_job_user", 0),
		perPart:     least(p.Positive("bf_max_job_part", 0), p.Positive("partition_job_depth", 0)),
		perAssoc:    p.Positive("bf_max_job_assoc", 0),
		perUserPart: p.Positive("bf_max_job_user_part", 0),
		minPriority: uint32(p.Positive("bf_min_prio_reserve", 0)),
		minAge:      wlm.Time(p.Positive("bf_min_age_reserve", 0)),
	}
	if r.depth == 0 {
		r.depth = b.Depth
	}
	a := sched.Agenda{Reservations: b.reservations(p), ShortestFirst: b.Shortest}
	if b.Predict {
		if b.predictor == nil {
			b.predictor = newPredictor()
		}
		b.predictor.learn(v)
		b.predictor.running(v, &a)
	}
	clear(b.entries)
	a.Entries = b.entries[:0]
	counts := newCounts(r, len(v.Partitions))
	preempts := params.MayPreempt(v)
	for job := range v.PendingByPriority() {
		if r.depth > 0 && len(a.Entries) == r.depth {
			break
		}
		if counts.take(job) {
			a.Add(job.ID, r.whenBlocked(job, v.Now))
			a.Entries[len(a.Entries)-1].MayPreempt = preempts(job)
			if b.Predict {
				a.Entries[len(a.Entries)-1].Expected = b.predictor.expect(job)
			}
		}
		const checkEvery = 1024
		if len(a.Entries)%checkEvery == 0 && ctx.Err() != nil {
			break
		}
	}
	b.entries = a.Entries
	return a, nil
}

// reservations is the bound of a partition; 0 is none.
func (b *Backfill) reservations(p params.Map) int {
	if b.Conservative {
		return 0
	}
	return p.Positive("bf_job_part_count_reserve", max(b.Reservations, 1))
}

func (r *rules) whenBlocked(job *mirror.Job, now wlm.Time) sched.WhenBlocked {
	if job.Priority < r.minPriority || r.minAge > 0 && now-job.Eligible < r.minAge {
		return sched.Skip
	}
	return sched.Reserve
}

// counts holds how many jobs of a user or partition were taken.
type counts struct {
	rules  rules
	users  map[wlm.UID]int
	parts  []int
	assocs map[assoc]int
	both   map[userPart]int
}

type assoc struct {
	user    wlm.UID
	account string
}

type userPart struct {
	user wlm.UID
	part int
}

func newCounts(r rules, parts int) counts {
	return counts{rules: r, users: map[wlm.UID]int{}, parts: make([]int, parts), assocs: map[assoc]int{}, both: map[userPart]int{}}
}

// take reports whether the job is within the limits, and counts it.
func (c *counts) take(job *mirror.Job) bool {
	r := &c.rules
	if r.perPart+r.perUser+r.perAssoc+r.perUserPart == 0 {
		return true
	}
	part := -1
	if job.Class != nil && len(job.Class.Partitions) > 0 {
		if p := job.Class.Partitions[0]; p >= 0 && p < len(c.parts) {
			part = p
		}
	}
	full := func(bound, n int) bool { return bound > 0 && n >= bound }
	a, b := assoc{job.User, job.Account}, userPart{job.User, part}
	if part >= 0 && full(r.perPart, c.parts[part]) || full(r.perUser, c.users[job.User]) ||
		full(r.perAssoc, c.assocs[a]) || part >= 0 && full(r.perUserPart, c.both[b]) {
		return false
	}
	if part >= 0 {
		c.parts[part]++
		c.both[b]++
	}
	c.users[job.User]++
	c.assocs[a]++
	return true
}
