package acctstoretest

import (
	"fmt"
	"math/rand/v2"

	"github.com/sluice-hpc/sluice/sdk/proto/acctstore/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/wlm/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// randomScript writes a history of some actions on up to a few dozen jobs.
func randomScript(r *rand.Rand, actions int) *script {
	s := &script{}
	var jobs []*wlmv1.Job // not over
	type stepOf struct{ job, restarts, step uint32 }
	used := map[stepOf]bool{}
	second, id := int64(0), uint32(0)
	pick := func(states ...wlm.JobState) *wlmv1.Job {
		for range 20 {
			if len(jobs) == 0 {
				return nil
			}
			j := jobs[r.IntN(len(jobs))]
			for _, state := range states {
				if j.State == uint32(state) && !(arrayRecord(j) && len(j.ArrayTasks) == 0) {
					return j
				}
			}
		}
		return nil
	}
	for range actions {
		second += int64(r.IntN(4))
		switch r.IntN(14) {
		case 0, 1, 2, 3:
			id++
			jobs = append(jobs, s.submit(second, id, func(j *wlmv1.Job) { randomJob(r, j) }))
		case 4, 5, 6:
			j := pick(wlm.Pending)
			if j == nil {
				continue
			}
			if arrayRecord(j) {
				id++
				j = s.split(second, j, id)
				jobs = append(jobs, j)
			}
			if j.Eligible == 0 {
				j.Eligible = epoch + second // released
			}
			nodes := []string{fmt.Sprint("n", 1+r.IntN(4))}
			if r.IntN(3) == 0 {
				nodes = append(nodes, fmt.Sprint("m", 1+r.IntN(4)))
			}
			s.start(second, j, 1+r.IntN(8), nodes...)
		case 7, 8:
			if j := pick(wlm.Running); j != nil {
				id := wlm.StepID(r.IntN(3))
				if r.IntN(2) == 0 {
					id = wlm.StepBatch
				}
				key := stepOf{j.Id, j.Restarts, uint32(id)}
				if used[key] {
					continue // a number is used once in a run
				}
				used[key] = true
				st := s.step(second, j, id)
				if r.IntN(2) == 0 {
					s.endStep(second+int64(r.IntN(3)), st, wlm.Completed+wlm.JobState(r.IntN(4)))
				}
			}
		case 9:
			second++ // at a second of its own, so that intervals do not touch
			if j := pick(wlm.Running); j != nil {
				s.suspend(second, j)
			}
			second++
		case 10:
			second++
			if j := pick(wlm.Suspended); j != nil {
				s.resume(second, j)
			}
			second++
		case 11, 12:
			j := pick(wlm.Running, wlm.Suspended, wlm.Pending)
			switch {
			case j == nil:
			case j.State == uint32(wlm.Pending):
				s.cancel(second, j)
			case r.IntN(3) == 0:
				s.requeue(second, j, []wlm.JobState{wlm.NodeFail, wlm.Preempted, wlm.JobState(j.State)}[r.IntN(3)])
			default:
				s.end(second, j, wlm.Completed+wlm.JobState(r.IntN(4)))
			}
		case 13:
			if j := pick(wlm.Pending, wlm.Running); j != nil {
				j.Spec.Comment = fmt.Sprint("changed at ", second)
				s.job(eventv1.Kind_JOB_CHANGED, second, j)
			}
		}
		jobs = alive(jobs)
	}
	return s
}

func alive(jobs []*wlmv1.Job) (out []*wlmv1.Job) {
	for _, j := range jobs {
		if !wlm.JobState(j.State).Ended() {
			out = append(out, j)
		}
	}
	return out
}

func arrayRecord(j *wlmv1.Job) bool { return j.ArrayJob != 0 && j.ArrayTask == wlm.Unset }

// randomJob varies what queries filter by.
func randomJob(r *rand.Rand, j *wlmv1.Job) {
	j.Spec.User = 1000 + r.Uint32N(3)
	j.Spec.Group = 100 + r.Uint32N(2)
	j.Spec.Account = []string{"bio", "chem"}[r.IntN(2)]
	j.Spec.Name = []string{"a", "b", "c"}[r.IntN(3)]
	j.Partition = []string{"main", "small"}[r.IntN(2)]
	switch r.IntN(6) {
	case 0:
		j.Eligible, j.Held = 0, true
	case 1:
		j.ArrayJob, j.ArrayTasks = j.Id, ranges(1, 2, 5)
	case 2:
		j.HetJob = j.Id - r.Uint32N(2)
	}
}

// randomQuery asks for anything that a random history may have.
func randomQuery(r *rand.Rand) *acctstorev1.Query {
	q := &acctstorev1.Query{Duplicates: r.IntN(2) == 0, AllocationsOnly: r.IntN(3) == 0}
	maybe := func() bool { return r.IntN(4) == 0 }
	switch r.IntN(4) {
	case 0:
		q.Start = epoch + r.Int64N(200)
	case 1:
		q.End = epoch + r.Int64N(200)
	case 2:
		q.Start = epoch + r.Int64N(200)
		q.End = q.Start + r.Int64N(20)
	}
	for maybe() || r.IntN(3) == 0 {
		state := []wlm.JobState{wlm.Pending, wlm.Running, wlm.Suspended, wlm.Completed, wlm.Cancelled, wlm.Failed, wlm.NodeFail}[r.IntN(7)]
		q.States = append(q.States, uint32(state))
		if maybe() {
			q.States = append(q.States, uint32(wlm.FlagRequeued)<<8)
		}
	}
	for maybe() {
		ref := &acctstorev1.JobRef{Job: 1 + r.Uint32N(40)}
		if maybe() {
			ref.HasTask, ref.Task = true, r.Uint32N(6)
		}
		if maybe() {
			ref.HasStep, ref.Step = true, []uint32{0, 1, uint32(wlm.StepBatch)}[r.IntN(3)]
		}
		q.Jobs = append(q.Jobs, ref)
	}
	if maybe() {
		q.Users = []uint32{1000 + r.Uint32N(4)}
	}
	if maybe() {
		q.Names = []string{"a", "b"}[:1+r.IntN(2)]
	}
	if maybe() {
		q.Partitions = []string{"small"}
	}
	if maybe() {
		q.Nodes = []string{"n1", "n[1-2]", "m[1-4]"}[r.IntN(3)]
	}
	if maybe() {
		q.MinCpus = r.Uint32N(5)
		q.MaxCpus = q.MinCpus + r.Uint32N(8)
	}
	return q
}
