package acctstoretest

import (
	"cmp"
	"math"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/proto/acctstore/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/wlm/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// model answers queries from a whole stream, in the plainest way that the
// contract allows. A store that was given the stream in any order must agree.
type model struct {
	runs  []*modelRun
	steps []*wlmv1.Step // of each step the last record
}

// modelRun is a run as the last record about it says, and its history.
type modelRun struct {
	job     *wlmv1.Job
	over    bool
	stopped [][2]int64 // intervals of suspension
}

// newModel reads a stream in its own order.
func newModel(records []*acctstorev1.Record) *model {
	m := &model{}
	for _, r := range records {
		m.event(r.Event)
	}
	m.runs = slices.DeleteFunc(m.runs, func(r *modelRun) bool {
		j := r.job
		return j.ArrayJob != 0 && j.ArrayTask == wlm.Unset && len(j.ArrayTasks) == 0 && !r.over
	})
	slices.SortFunc(m.runs, func(a, b *modelRun) int {
		return cmp.Or(cmp.Compare(a.job.Id, b.job.Id), cmp.Compare(a.job.Submit, b.job.Submit), cmp.Compare(a.job.Restarts, b.job.Restarts))
	})
	slices.SortFunc(m.steps, func(a, b *wlmv1.Step) int { return cmp.Compare(int32(a.Id), int32(b.Id)) })
	return m
}

func (m *model) event(e *eventv1.Event) {
	if e.Kind == eventv1.Kind_JOB_REQUEUED {
		before := m.run(e.Previous)
		before.over = true
		if !wlm.JobState(before.job.State).Ended() {
			before.job.Flags |= uint32(wlm.FlagRequeued)
			before.job.End = e.Time
		}
	}
	if e.Job != nil {
		r := m.run(e.Job)
		switch e.Kind {
		case eventv1.Kind_JOB_SUSPENDED:
			r.stopped = append(r.stopped, [2]int64{e.Job.SuspendedAt, math.MaxInt64})
		case eventv1.Kind_JOB_RESUMED:
			r.stopped[len(r.stopped)-1][1] = e.Time
		}
	}
	if e.Step != nil {
		s := proto.CloneOf(e.Step)
		i := slices.IndexFunc(m.steps, func(o *wlmv1.Step) bool {
			return o.Job == s.Job && o.JobSubmit == s.JobSubmit && o.Restarts == s.Restarts && o.Id == s.Id
		})
		if i < 0 {
			m.steps = append(m.steps, s)
		} else {
			m.steps[i] = s
		}
	}
}

// run replaces what is known about a run.
func (m *model) run(j *wlmv1.Job) *modelRun {
	i := slices.IndexFunc(m.runs, func(r *modelRun) bool {
		return r.job.Id == j.Id && r.job.Submit == j.Submit && r.job.Restarts == j.Restarts
	})
	if i < 0 {
		i = len(m.runs)
		m.runs = append(m.runs, &modelRun{})
	}
	r := m.runs[i]
	r.job = proto.CloneOf(j)
	r.over = wlm.JobState(j.State).Ended()
	r.job.Flags &= uint32(wlm.FlagRequeued | wlm.FlagRevoked | wlm.FlagResizing)
	if !r.over {
		r.job.Flags &^= uint32(wlm.FlagRequeued)
	}
	if j.State == uint32(wlm.Pending) {
		r.job.Alloc, r.job.AllocTres, r.job.BatchHost, r.job.Cleaning = nil, "", "", nil
	}
	return r
}

// end is when the run was over.
func (r *modelRun) end() int64 {
	if r.over {
		return r.job.End
	}
	return math.MaxInt64
}

// jobs answers a query about one cluster.
func (m *model) jobs(cluster string, q *acctstorev1.Query) (out []*acctstorev1.JobRow) {
	for _, r := range m.runs {
		row := &acctstorev1.JobRow{Cluster: cluster, Job: r.job}
		if !m.matches(r, q) || !m.stepsOf(row, q) {
			continue
		}
		if n := len(out); n > 0 && !q.Duplicates && out[n-1].Job.Id == r.job.Id {
			out = out[:n-1]
		}
		out = append(out, row)
	}
	return out
}

// stepsOf fills in the steps of a row that a query wants; it is false when
// the query names steps and the run has none of them.
func (m *model) stepsOf(row *acctstorev1.JobRow, q *acctstorev1.Query) bool {
	if q.AllocationsOnly {
		return true
	}
	refs := refsOf(row.Job, q)
	all := len(q.Jobs) == 0 || slices.ContainsFunc(refs, func(r *acctstorev1.JobRef) bool { return !r.HasStep })
	for _, s := range m.steps {
		named := slices.ContainsFunc(refs, func(r *acctstorev1.JobRef) bool { return r.HasStep && r.Step == s.Id })
		if sameRun(s, row.Job) && (all || named) {
			row.Steps = append(row.Steps, s)
		}
	}
	return all || len(row.Steps) > 0
}

func sameRun(s *wlmv1.Step, j *wlmv1.Job) bool {
	return s.Job == j.Id && s.JobSubmit == j.Submit && s.Restarts == j.Restarts
}

// refsOf lists the references of a query that mean a job.
func refsOf(j *wlmv1.Job, q *acctstorev1.Query) (out []*acctstorev1.JobRef) {
	for _, ref := range q.Jobs {
		switch {
		case !ref.HasTask && (ref.Job == j.Id || ref.Job == j.ArrayJob || ref.Job == j.HetJob),
			ref.HasTask && ref.Job == j.ArrayJob && (ref.Task == j.ArrayTask || slices.ContainsFunc(j.ArrayTasks,
				func(r *wlmv1.IDRange) bool { return r.First <= ref.Task && ref.Task <= r.Last })):
			out = append(out, ref)
		}
	}
	return out
}

func (m *model) matches(r *modelRun, q *acctstorev1.Query) bool {
	j := r.job
	cpus, hosts := uint32(0), []string(nil)
	for _, n := range j.GetAlloc().GetNodes() {
		hosts = append(hosts, n.Node)
		cpus += uint32(wlm.CPUSet(n.Cpus).Count())
	}
	among := func(list []string, word string) bool { return len(list) == 0 || slices.Contains(list, word) }
	between := func(n, lo, hi uint32) bool { return n >= lo && (hi == 0 || n <= hi) }
	wanted, _ := hostlist.Parse(q.Nodes)
	return (len(q.Jobs) == 0 || len(refsOf(j, q)) > 0) &&
		(len(q.Users) == 0 || slices.Contains(q.Users, j.Spec.User)) &&
		(len(q.Groups) == 0 || slices.Contains(q.Groups, j.Spec.Group)) &&
		among(q.Accounts, j.Spec.Account) && among(q.Partitions, j.Partition) && among(q.Names, j.Spec.Name) &&
		among(q.Qos, j.Spec.Qos) && among(q.Wckeys, j.Spec.Wckey) &&
		between(cpus, q.MinCpus, q.MaxCpus) && between(uint32(len(hosts)), q.MinNodes, q.MaxNodes) &&
		(q.Nodes == "" || slices.ContainsFunc(hosts, wanted.Has)) &&
		r.inWindow(q)
}

func (r *modelRun) inWindow(q *acctstorev1.Query) bool {
	start, end := q.Start, q.End
	if end == 0 {
		end = math.MaxInt64 - 1
	}
	j := r.job
	eligible := j.Eligible
	if eligible == 0 && start == 0 {
		eligible = j.Submit
	}
	// held in [from, to): does that meet the window?
	held := func(from, to int64) bool {
		return from != 0 && from <= end && (to > start || start < end && from >= start)
	}
	if len(q.States) == 0 {
		return eligible != 0 && eligible <= end && r.end() >= start
	}
	return slices.ContainsFunc(q.States, func(number uint32) bool {
		switch state := wlm.JobState(number); {
		case number > 0xff:
			return j.Flags&(number>>8) != 0 && r.end() >= start && (!r.over || r.end() <= end)
		case state == wlm.Pending:
			if j.Start != 0 {
				return held(eligible, j.Start)
			}
			return held(eligible, r.end())
		case state == wlm.Running:
			return (j.Alloc != nil && j.Start != 0) && held(j.Start, r.end())
		case state == wlm.Suspended:
			return slices.ContainsFunc(r.stopped, func(s [2]int64) bool { return held(s[0], min(s[1], r.end())) })
		default:
			return r.over && wlm.JobState(j.State) == state && r.end() >= start && r.end() <= end
		}
	})
}
