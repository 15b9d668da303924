package cluster

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// arrayIndex is what follows from the records of one array, kept as they come
// and go, so that a task that ends costs the same in an array of ten tasks and
// in one of a million.
type arrayIndex struct {
	records map[wlm.JobID]struct{}
	tasks   map[uint32]wlm.JobID   // tasks with a record of their own
	parts   map[wlm.JobID]struct{} // records of several tasks: pending, or cancelled together
	open    int                    // records that are not over
	waiting int                    // records that have not started, nor ended
	failed  int                    // records that are over and did not complete
}

func (t *Tables) indexArray(j *wlm.Job, d int) {
	x := t.arrays[j.ArrayJob]
	if x == nil {
		x = &arrayIndex{records: map[wlm.JobID]struct{}{}, tasks: map[uint32]wlm.JobID{}, parts: map[wlm.JobID]struct{}{}}
		t.arrays[j.ArrayJob] = x
	}
	switch {
	case !over(j):
		x.open += d
	case j.State != wlm.Completed:
		x.failed += d
	}
	if j.Start == 0 && !j.State.Ended() {
		x.waiting += d
	}
	if d > 0 {
		x.records[j.ID] = struct{}{}
		if j.IsArrayRecord() {
			x.parts[j.ID] = struct{}{}
		} else {
			x.tasks[j.ArrayTask] = j.ID
		}
		return
	}
	delete(x.records, j.ID)
	delete(x.parts, j.ID)
	if !j.IsArrayRecord() && x.tasks[j.ArrayTask] == j.ID {
		delete(x.tasks, j.ArrayTask)
	}
	if len(x.records) == 0 {
		delete(t.arrays, j.ArrayJob)
	}
}

// ArrayRecords returns all records of an array, rising by id.
func (t *Tables) ArrayRecords(array wlm.JobID) []*wlm.Job {
	x := t.arrays[array]
	if x == nil {
		return nil
	}
	return t.sorted(x.records)
}

// ArrayParts returns the records that stand for several tasks of an array,
// rising by id: those that are pending, and those that were cancelled together.
func (t *Tables) ArrayParts(array wlm.JobID) []*wlm.Job {
	x := t.arrays[array]
	if x == nil {
		return nil
	}
	return t.sorted(x.parts)
}

func (t *Tables) sorted(ids map[wlm.JobID]struct{}) []*wlm.Job {
	out := make([]*wlm.Job, 0, len(ids))
	for id := range ids {
		out = append(out, t.jobs[id])
	}
	slices.SortFunc(out, func(a, b *wlm.Job) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// ArrayTask returns the record of one task, or nil when it has none of its own.
func (t *Tables) ArrayTask(array wlm.JobID, task uint32) *wlm.Job {
	if x := t.arrays[array]; x != nil {
		if id, has := x.tasks[task]; has {
			return t.jobs[id]
		}
	}
	return nil
}

// taskRecord returns the record that one task of an array is part of, or nil.
func (t *Tables) taskRecord(array wlm.JobID, task uint32) *wlm.Job {
	if j := t.ArrayTask(array, task); j != nil {
		return j
	}
	for _, j := range t.ArrayParts(array) {
		if wlm.IDRanges(j.ArrayTasks).Has(task) {
			return j
		}
	}
	return nil
}

// IsArray reports whether id is that of an array known here.
func (t *Tables) IsArray(id wlm.JobID) bool { return t.arrays[id] != nil }

// splitTasks takes tasks off an array's pending record: one as a record of its
// own, several as a record that stands for them together. The caller puts both.
func (c *Cluster) splitTasks(array *wlm.Job, tasks wlm.IDRanges) (t, rest *wlm.Job) {
	if tasks.Count() == 1 {
		return c.split(array, tasks[0].First)
	}
	t, rest = array.Clone(), array.Clone()
	t.ID, t.ArrayTasks = c.NextJob, tasks
	t.SLUID = sluid(t.ID, array.Submit)
	rest.ArrayTasks = wlm.IDRanges(array.ArrayTasks).Without(tasks)
	return t, rest
}

// split takes one task off an array's pending record; the caller puts both.
func (c *Cluster) split(array *wlm.Job, task uint32) (t, rest *wlm.Job) {
	t = array.Clone()
	t.ID, t.ArrayTask, t.ArrayTasks = c.NextJob, task, nil
	t.SLUID = sluid(t.ID, array.Submit)
	rest = array.Clone()
	rest.ArrayTasks = wlm.IDRanges(array.ArrayTasks).Remove(task)
	return t, rest
}

// ownSpec reports whether a record that is new must carry its Spec in the
// journal, because replay would not find it at the array's first record.
func (c *Cluster) ownSpec(j *wlm.Job) bool {
	if c.jobs[j.ID] != nil || j.ArrayJob == 0 {
		return false
	}
	first := c.jobs[j.ArrayJob]
	return first == nil || first.Spec != j.Spec
}

// String shows all of it, for tests that compare tables.
func (x *arrayIndex) String() string {
	return fmt.Sprint(x.records, x.tasks, x.parts, x.open, x.waiting, x.failed)
}
