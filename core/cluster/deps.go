package cluster

import (
	"cmp"
	"container/heap"
	"fmt"
	"slices"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// dependencies parses a dependency list and checks that every job it names is
// known. self is the job that will depend; 0 for a new one.
func (c *Cluster) dependencies(op, text string, self wlm.JobID) ([]wlm.Dep, error) {
	deps, err := wlm.ParseDependency(text)
	if err != nil {
		return nil, errs.Coded(op, errs.DependencyProblem).With("--dependency=%s: %v", text, err)
	}
	var out []wlm.Dep
	for _, d := range deps {
		switch d.Kind {
		case wlm.DepExpand:
			return nil, errs.Coded(op, errs.NotSupported,
				fmt.Sprintf("--dependency=%s: %s is not offered; use after, afterany, afterburstbuffer, aftercorr, afterok, afternotok or singleton", text, d.Kind))
		case wlm.DepSingleton:
			out = append(out, d)
			continue
		}
		if d.Job == self && self != 0 {
			return nil, errs.Coded(op, errs.DependencyProblem).With("--dependency=%s: a job can not depend on itself", text)
		}
		if len(c.targets(&d)) == 0 && d.Kind != wlm.DepAfterAny && d.Kind != wlm.DepAfterBurstBuffer {
			return nil, errs.Coded(op, errs.DependencyProblem).With("--dependency=%s: job %s is not known", text, d.Job)
		}
		if self != 0 && c.reaches(d.Job, self, c.settings.MaxDependDepth) {
			return nil, errs.Coded(op, errs.CircularDependency).With("--dependency=%s: job %s depends on job %s already", text, d.Job, self)
		}
		if d.TaskID == wlm.Unset && c.IsArray(d.Job) {
			d.TaskID = wlm.AllTasks // and is shown so
		}
		if !slices.Contains(out, d) {
			out = append(out, d)
		}
	}
	return out, nil
}

// reaches reports whether from depends on to within depth steps.
func (c *Cluster) reaches(from, to wlm.JobID, depth int) bool {
	if from == to {
		return true
	}
	j := c.jobs[from]
	if j == nil || depth <= 0 {
		return false
	}
	for _, d := range j.Deps {
		if d.State == wlm.DepUnfulfilled && d.Job != 0 && c.reaches(d.Job, to, depth-1) {
			return true
		}
	}
	return false
}

// targets are the records a dependency looks at.
func (c *Cluster) targets(d *wlm.Dep) []*wlm.Job {
	if c.IsArray(d.Job) {
		if wholeArray(d) {
			return c.ArrayRecords(d.Job)
		}
		if j := c.taskRecord(d.Job, d.TaskID); j != nil {
			return []*wlm.Job{j}
		}
		return nil
	}
	if j := c.jobs[d.Job]; j != nil {
		return []*wlm.Job{j}
	}
	return nil
}

// wholeArray reports whether a dependency on an array is on all of its tasks.
func wholeArray(d *wlm.Dep) bool { return d.TaskID == wlm.Unset || d.TaskID == wlm.AllTasks }

// standing is how far the jobs are that a dependency names.
type standing struct {
	any, started, ended, failed bool
	last                        wlm.Time // when the last of them started, for a delay
}

func (c *Cluster) standing(d *wlm.Dep) standing {
	s := standing{started: true, ended: true}
	if x := c.arrays[d.Job]; x != nil && wholeArray(d) {
		s.any, s.started, s.ended, s.failed = true, x.waiting == 0, x.open == 0, x.failed > 0
		if d.Delay == 0 || !s.started {
			return s
		}
	}
	for _, t := range c.targets(d) {
		s.any = true
		s.started = s.started && (t.Start > 0 || t.State.Ended())
		s.ended = s.ended && over(t)
		s.failed = s.failed || over(t) && t.State != wlm.Completed
		s.last = max(s.last, t.Start)
	}
	return s
}

// depState says how far one dependency of j is.
func (c *Cluster) depState(j *wlm.Job, d *wlm.Dep, now wlm.Time) wlm.DepState {
	if d.State != wlm.DepUnfulfilled {
		return d.State // once decided, it stays: its target may be purged meanwhile
	}
	if d.Kind == wlm.DepSingleton {
		if c.olderNamesake(j) {
			return wlm.DepUnfulfilled
		}
		return wlm.DepFulfilled
	}
	if d.Kind == wlm.DepAfterCorr && c.IsArray(d.Job) && wholeArray(d) {
		if j.IsArrayRecord() {
			return c.corrState(j, d, now)
		}
		if j.ArrayJob != 0 {
			d = c.counterpart(d, j.ArrayTask)
		}
	}
	return c.targetState(d, now)
}

// targetState says how far the jobs that a dependency names are.
func (c *Cluster) targetState(d *wlm.Dep, now wlm.Time) wlm.DepState {
	s := c.standing(d)
	switch d.Kind {
	case wlm.DepAfter:
		if s.started && (d.Delay == 0 || s.last+wlm.Time(d.Delay)*60 <= now) {
			return wlm.DepFulfilled
		}
	case wlm.DepAfterAny, wlm.DepAfterBurstBuffer: // nothing is staged out, so far
		if s.ended {
			return wlm.DepFulfilled
		}
	case wlm.DepAfterOK, wlm.DepAfterCorr:
		if s.failed {
			return wlm.DepFailed
		}
		if s.ended && s.any {
			return wlm.DepFulfilled
		}
	case wlm.DepAfterNotOK:
		if s.ended && s.failed {
			return wlm.DepFulfilled
		}
		if s.ended {
			return wlm.DepFailed
		}
	}
	return wlm.DepUnfulfilled
}

// counterpart narrows aftercorr to the task of the same index; where the array
// has none, the whole of it must end well.
func (c *Cluster) counterpart(d *wlm.Dep, task uint32) *wlm.Dep {
	one := *d
	one.TaskID = task
	if c.taskRecord(d.Job, task) == nil {
		return d
	}
	return &one
}

// corrState is aftercorr of an array's pending record: decided when every task
// of it is, in the same way. Tasks that are decided before the others leave the
// record; see correspond.
func (c *Cluster) corrState(j *wlm.Job, d *wlm.Dep, now wlm.Time) wlm.DepState {
	var all wlm.DepState
	first := true
	for task := range wlm.IDRanges(j.ArrayTasks).All() {
		s := c.targetState(c.counterpart(d, task), now)
		if s == wlm.DepUnfulfilled || !first && s != all {
			return wlm.DepUnfulfilled
		}
		all, first = s, false
	}
	return all
}

// correspond gives records of their own to those tasks of an array's pending
// record whose aftercorr is decided while that of others is not. ended is the
// job because of which it is called, nil for any: only the task of the same
// index is looked at, as long as others may decide the rest.
func (c *Cluster) correspond(j, ended *wlm.Job, now wlm.Time) {
	if !j.IsArrayRecord() || j.State != wlm.Pending {
		return
	}
	open := c.corrOpen(j)
	if open == nil || c.settleDeps(j.Clone(), now) != wlm.DepUnfulfilled {
		return
	}
	tasks := wlm.IDRanges(j.ArrayTasks)
	x := c.arrays[open.Job]
	firstFailure := x.failed == 1 && ended != nil && over(ended) && ended.State != wlm.Completed // decides tasks without a counterpart
	if ended != nil && ended.ArrayJob == open.Job && !ended.IsArrayRecord() && x.open > 0 && !firstFailure {
		if tasks = tasks.Common(wlm.IDRanges{{First: ended.ArrayTask, Last: ended.ArrayTask, Step: 1}}); len(tasks) == 0 {
			return
		}
	}
	rest := j
	for task := range tasks.All() {
		d := c.corrOpen(rest)
		if countTasks(rest.ArrayTasks) == 1 || c.targetState(c.counterpart(d, task), now) == wlm.DepUnfulfilled {
			continue
		}
		t, left := c.split(rest, task)
		c.judge(t, now)
		c.jobEvent(eventv1.Kind_JOB_CHANGED, now, t)
		c.jobEvent(eventv1.Kind_TASK_SPLIT, now, left)
		rest = left
	}
}

// corrOpen is the job's first aftercorr on an array that is not decided.
func (c *Cluster) corrOpen(j *wlm.Job) *wlm.Dep {
	for i := range j.Deps {
		if d := &j.Deps[i]; d.Kind == wlm.DepAfterCorr && d.State == wlm.DepUnfulfilled && wholeArray(d) && c.IsArray(d.Job) {
			return d
		}
	}
	return nil
}

// over reports whether a job has ended and nothing of it is left on its nodes.
// That, and not the moment its state was decided, is when jobs that wait for its
// end are looked at.
func over(j *wlm.Job) bool { return j.State.Ended() && j.Flags&wlm.FlagCompleting == 0 }

// olderNamesake reports whether a live job of the same user and name came first.
func (c *Cluster) olderNamesake(j *wlm.Job) bool {
	for id := range c.named[nameKey{j.Spec.User, j.Spec.Name}] {
		o := c.jobs[id]
		if (o.ID < j.ID || j.ID == 0) && (o.ArrayJob == 0 || o.ArrayJob != j.ArrayJob) {
			return true
		}
	}
	return false
}

// settleDeps brings j's dependencies up to date in place and says how the list
// as a whole stands.
func (c *Cluster) settleDeps(j *wlm.Job, now wlm.Time) wlm.DepState {
	if len(j.Deps) == 0 {
		return wlm.DepFulfilled
	}
	deps := slices.Clone(j.Deps)
	or := deps[0].Or
	open, failed, done := 0, 0, 0
	for i := range deps {
		deps[i].State = c.depState(j, &deps[i], now)
		switch deps[i].State {
		case wlm.DepFulfilled:
			done++
		case wlm.DepFailed:
			failed++
		default:
			open++
		}
	}
	j.Deps = deps
	switch {
	case or && done > 0, !or && open+failed == 0:
		return wlm.DepFulfilled
	case !or && failed > 0, or && open == 0:
		return wlm.DepFailed
	}
	return wlm.DepUnfulfilled
}

// judge decides, in place, whether anything but resources and policy holds a
// pending job: its reason, and since when it is eligible.
func (c *Cluster) judge(j *wlm.Job, now wlm.Time) {
	deps := c.settleDeps(j, now)
	j.ReasonText = ""
	if !j.Held {
		j.Flags &^= wlm.FlagResvDelHold
	}
	switch {
	case j.Held:
		switch j.Reason {
		case wlm.WaitHeld, wlm.WaitMaxRequeue, wlm.FailLaunch, wlm.WaitResvDeleted: // who or what holds it
		default:
			j.Reason = wlm.WaitHeldUser
		}
		j.Priority, j.Ranked = 0, false
	case j.Flags&wlm.FlagCompleting != 0:
		j.Reason = wlm.WaitCleaning
	case deps == wlm.DepFailed:
		j.Reason = wlm.WaitDepInvalid
	case deps == wlm.DepUnfulfilled:
		j.Reason = wlm.WaitDependency
	case j.Spec.Begin > now:
		j.Reason = wlm.WaitTime
	case j.Spec.Reservation != "" && c.orphaned(j.Spec):
		j.Reason = wlm.WaitResvInvalid
	default:
		j.Reason = wlm.ReasonNone
	}
	if j.Reason != wlm.ReasonNone {
		j.Eligible, j.Accrue = 0, 0
		return
	}
	if j.Eligible == 0 {
		j.Eligible, j.Accrue = now, now
	}
}

// rejudge re-examines a pending job and emits a change if there is one.
func (c *Cluster) rejudge(j *wlm.Job, now wlm.Time) {
	if j.State != wlm.Pending {
		return
	}
	n := j.Clone()
	c.judge(n, now)
	if n.Reason == wlm.WaitDepInvalid && (j.Spec.KillOnInvalidDep == wlm.Yes || j.Spec.KillOnInvalidDep == wlm.Unsaid && c.settings.KillInvalidDep) {
		c.end(n, now, outcome{state: wlm.Cancelled, reason: wlm.WaitDepInvalid})
		return
	}
	if n.Reason != j.Reason || n.Eligible != j.Eligible || !slices.Equal(n.Deps, j.Deps) {
		c.jobEvent(eventv1.Kind_JOB_CHANGED, now, n)
	}
}

// dependents re-examines the jobs that wait for j or for its array, and those
// that wait for its name, after j started or ended.
func (c *Cluster) dependents(j *wlm.Job, now wlm.Time) {
	var ids []wlm.JobID
	for id := range c.waiting[j.ID] {
		ids = append(ids, id)
	}
	if j.ArrayJob != 0 && j.ArrayJob != j.ID {
		for id := range c.waiting[j.ArrayJob] {
			ids = append(ids, id)
		}
	}
	c.rejudgeAll(ids, j, now)
	if j.State.Ended() {
		c.namesakes(j, now)
	}
}

// namesakes re-examines the jobs that wait for those with j's name.
func (c *Cluster) namesakes(j *wlm.Job, now wlm.Time) {
	var ids []wlm.JobID
	for id := range c.singles[nameKey{j.Spec.User, j.Spec.Name}] {
		ids = append(ids, id)
	}
	c.rejudgeAll(ids, nil, now)
}

func (c *Cluster) rejudgeAll(ids []wlm.JobID, ended *wlm.Job, now wlm.Time) {
	slices.SortFunc(ids, func(a, b wlm.JobID) int { return cmp.Compare(a, b) })
	for _, id := range slices.Compact(ids) {
		if w := c.jobs[id]; w != nil {
			c.correspond(w, ended, now)
			c.rejudge(c.jobs[id], now)
		}
	}
}

// awaited reports whether a pending job still waits for what became of j or of
// its array. Such a job is not forgotten, however old.
func (c *Cluster) awaited(j *wlm.Job) bool {
	for _, target := range [2]wlm.JobID{j.ID, j.ArrayJob} {
		for id := range c.waiting[target] {
			if w := c.jobs[id]; w != nil && w.State == wlm.Pending {
				return true
			}
		}
	}
	return false
}

// letGo sets the timers of ended jobs that old, a former record of a job,
// kept from being forgotten, where the present one does not.
func (c *Cluster) letGo(old, now *wlm.Job) {
	if old == nil || old.State != wlm.Pending {
		return
	}
	for i := range old.Deps {
		d := &old.Deps[i]
		if d.State != wlm.DepUnfulfilled || d.Kind == wlm.DepSingleton {
			continue
		}
		if now.State == wlm.Pending && i < len(now.Deps) && now.Deps[i] == *d {
			continue
		}
		all := *d
		all.TaskID = wlm.AllTasks
		for _, t := range c.targets(&all) {
			if over(t) {
				heap.Push(&c.timers, timer{t.End + wlm.Time(c.settings.MinJobAge), t.ID})
			}
		}
	}
}
