package acctstoretest

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/sluice-hpc/sluice/sdk/acctstore"
	"github.com/sluice-hpc/sluice/sdk/proto/acctstore/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/wlm/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// epoch is the second that the times of a script count from.
const epoch = 1_700_000_000

// script writes a cluster's stream of records, as a controller does.
type script struct {
	records []*acctstorev1.Record
}

// add appends an event, with copies of what it carries.
func (s *script) add(kind eventv1.Kind, second int64, e *eventv1.Event) {
	e = proto.CloneOf(e)
	e.Kind, e.Time = kind, epoch+second
	s.records = append(s.records, &acctstorev1.Record{Number: uint64(len(s.records) + 1), Event: e})
}

func (s *script) job(kind eventv1.Kind, second int64, j *wlmv1.Job) {
	s.add(kind, second, &eventv1.Event{Job: j})
}

// submit begins the life of a job that is eligible at once.
func (s *script) submit(second int64, id uint32, change func(j *wlmv1.Job)) *wlmv1.Job {
	j := &wlmv1.Job{Id: id, Sluid: fmt.Sprint("s", id), State: uint32(wlm.Pending), KilledBy: wlm.Unset,
		Submit: epoch + second, Eligible: epoch + second, Partition: "main", ArrayTask: wlm.Unset,
		Spec: &wlmv1.Spec{Name: fmt.Sprint("job", id), User: 1001, Group: 100, UserName: "alice", GroupName: "users",
			Account: "research", Qos: "normal", Partitions: []string{"main"}}}
	if change != nil {
		change(j)
	}
	s.job(eventv1.Kind_JOB_SUBMITTED, second, j)
	return j
}

// start starts a job with some CPUs on each of its nodes.
func (s *script) start(second int64, j *wlmv1.Job, cpus int, nodes ...string) {
	j.State, j.Start, j.End = uint32(wlm.Running), epoch+second, epoch+second+3600
	j.Flags, j.Cleaning = uint32(wlm.FlagConfiguring), nil
	j.Alloc = &wlmv1.Alloc{NodeList: strings.Join(nodes, ",")}
	for _, n := range nodes {
		j.Alloc.Nodes = append(j.Alloc.Nodes, &wlmv1.NodeAlloc{Node: n, Cpus: wlm.FullCPUSet(cpus)})
	}
	s.job(eventv1.Kind_JOB_STARTED, second, j)
}

// end ends a job: first its cause is known, then its nodes are clean.
func (s *script) end(second int64, j *wlmv1.Job, state wlm.JobState) {
	j.State, j.End, j.Flags = uint32(state), epoch+second, uint32(wlm.FlagCompleting)
	s.job(eventv1.Kind_JOB_ENDING, second, j)
	j.Flags = 0
	s.job(eventv1.Kind_JOB_ENDED, second+1, j)
}

// cancel ends a job that waits.
func (s *script) cancel(second int64, j *wlmv1.Job) {
	j.State, j.Start, j.End, j.KilledBy = uint32(wlm.Cancelled), epoch+second, epoch+second, 1001
	s.job(eventv1.Kind_JOB_ENDED, second, j)
}

// requeue ends a run and begins the next one.
func (s *script) requeue(second int64, j *wlmv1.Job, state wlm.JobState) {
	before := proto.CloneOf(j)
	before.State = uint32(state)
	if state.Ended() {
		before.End = epoch + second
	}
	j.State, j.Flags = uint32(wlm.Pending), uint32(wlm.FlagRequeued|wlm.FlagCompleting)
	j.Submit, j.Eligible, j.Start, j.End = epoch+second, epoch+second, 0, 0
	j.Cleaning, j.AllocTres, j.BatchHost = []string{"n1"}, "cpu=1", "n1" // and Alloc: until the nodes are clean
	j.Restarts++
	s.add(eventv1.Kind_JOB_REQUEUED, second, &eventv1.Event{Job: j, Previous: before})
}

func (s *script) suspend(second int64, j *wlmv1.Job) {
	j.State, j.SuspendedAt = uint32(wlm.Suspended), epoch+second
	s.job(eventv1.Kind_JOB_SUSPENDED, second, j)
}

func (s *script) resume(second int64, j *wlmv1.Job) {
	j.State, j.SuspendedAt = uint32(wlm.Running), 0
	s.job(eventv1.Kind_JOB_RESUMED, second, j)
}

// split makes a task of an array's record, without starting it; the record's
// tasks are in ranges of one.
func (s *script) split(second int64, array *wlmv1.Job, id uint32) *wlmv1.Job {
	j := proto.CloneOf(array)
	j.Id, j.ArrayTask, j.ArrayTasks = id, array.ArrayTasks[0].First, nil
	array.ArrayTasks = array.ArrayTasks[1:]
	s.job(eventv1.Kind_TASK_SPLIT, second, array)
	return j
}

// step begins a step of a job's present run.
func (s *script) step(second int64, j *wlmv1.Job, id wlm.StepID) *wlmv1.Step {
	st := &wlmv1.Step{Job: j.Id, Id: uint32(id), Name: id.String(), State: uint32(wlm.Running), Start: epoch + second,
		NodeList: j.Alloc.GetNodeList(), Nodes: 1, Ntasks: 1, Cpus: 1, JobSubmit: j.Submit, Restarts: j.Restarts, KilledBy: wlm.Unset}
	s.add(eventv1.Kind_STEP_STARTED, second, &eventv1.Event{Step: st})
	return st
}

func (s *script) endStep(second int64, st *wlmv1.Step, state wlm.JobState) {
	st.State, st.End = uint32(state), epoch+second
	s.add(eventv1.Kind_STEP_ENDED, second, &eventv1.Event{Step: st})
}

// ranges makes ranges of one task each.
func ranges(tasks ...uint32) (out []*wlmv1.IDRange) {
	for _, task := range tasks {
		out = append(out, &wlmv1.IDRange{First: task, Last: task, Step: 1})
	}
	return out
}

// put appends records and fails the test unless all are acknowledged.
func put(t *testing.T, store acctstore.Store, cluster string, records []*acctstorev1.Record) {
	t.Helper()
	var want uint64
	for _, r := range records {
		want = max(want, r.Number)
	}
	acked, err := store.Append(t.Context(), cluster, records)
	if err != nil {
		t.Fatalf("Append of %d records failed, and no record here is wrong: %v", len(records), err)
	}
	if acked != want {
		t.Fatalf("Append acknowledged %d, but it was given records up to %d: the sender would drop or repeat some", acked, want)
	}
}

// ask runs a query and returns whole rows.
func ask(t *testing.T, store acctstore.Store, q *acctstorev1.Query) []*acctstorev1.JobRow {
	t.Helper()
	var rows []*acctstorev1.JobRow
	err := acctstore.JoinRows(func(part func(*acctstorev1.JobRow) error) error { return store.Jobs(t.Context(), q, part) },
		func(row *acctstorev1.JobRow) error {
			if row.Job == nil {
				t.Fatal("Jobs yielded a row without a job, which is not the continuation of another")
			}
			rows = append(rows, row)
			return nil
		})
	if err != nil {
		t.Fatalf("Jobs(%v) failed: %v", q, err)
	}
	return rows
}

// show writes rows as "1:COMPLETED 6_1:RUNNING 6_[3,4]:PENDING 5:FAILED(batch:FAILED 0:COMPLETED)".
func show(rows []*acctstorev1.JobRow) string {
	var out []string
	for _, row := range rows {
		out = append(out, showRow(row))
	}
	return strings.Join(out, " ")
}

func showRow(row *acctstorev1.JobRow) string {
	j := row.Job
	name := fmt.Sprint(j.Id)
	switch {
	case j.ArrayJob != 0 && j.ArrayTask == wlm.Unset:
		var tasks []string
		for _, r := range j.ArrayTasks {
			for task := r.First; task <= r.Last; task += max(r.Step, 1) {
				tasks = append(tasks, fmt.Sprint(task))
			}
		}
		name = fmt.Sprintf("%d_[%s]", j.ArrayJob, strings.Join(tasks, ","))
	case j.ArrayJob != 0:
		name = fmt.Sprintf("%d_%d", j.ArrayJob, j.ArrayTask)
	}
	name += ":" + wlm.StateName(wlm.JobState(j.State), wlm.JobFlags(j.Flags))
	if len(row.Steps) == 0 {
		return name
	}
	var steps []string
	for _, s := range row.Steps {
		steps = append(steps, wlm.StepID(s.Id).String()+":"+wlm.JobState(s.State).String())
	}
	return name + "(" + strings.Join(steps, " ") + ")"
}
