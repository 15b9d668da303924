// Package acctstoretest is the conformance suite of accounting storage: [Run]
// holds a store to the contract in sdk/acctstore. It runs in process, over the
// wire, or on a built plugin; whoever calls it says how a store is opened.
//
// Each test explains a failure in a sentence. The last one plays random clusters
// to the store in random order, with repetitions, and compares its answers with
// those of a plain model; it prints the seed.
package acctstoretest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/sluice-hpc/sluice/sdk/acctstore"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/acctstore/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/wlm/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// cluster is the name that the tests use where it does not matter.
const cluster = "conform"

// Run runs the suite. open returns a new, empty store for each test, and
// arranges its end with t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) acctstore.Store) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, store acctstore.Store)
	}{
		{"acknowledges what it is given", testAcknowledges},
		{"a life becomes one row", testLife},
		{"repetition changes nothing", testRepetition},
		{"a late start does not reopen an ended job", testLate},
		{"a requeued job has a row for each run", testRequeue},
		{"array tasks leave the record of waiting tasks", testArrays},
		{"components of a heterogeneous job are found by the first", testHet},
		{"steps belong to their run, in order", testSteps},
		{"a run with many steps is whole", testManySteps},
		{"windows and states", testWindows},
		{"filters", testFilters},
		{"clusters do not mix", testClusters},
		{"records and rows are kept whole", testWhole},
		{"bad queries are refused", testBadQueries},
		{"an error of the reader ends the query", testYieldError},
		{"a large batch is stored", testLargeBatch},
		{"queries run while batches are stored", testConcurrency},
		{"any order and repetition gives the same answers", testRandom},
	} {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) { test.run(t, open(t)) })
	}
}

// want fails the test unless a query shows what is wanted; why says what it means.
func want(t *testing.T, store acctstore.Store, q *acctstorev1.Query, rows, why string) {
	t.Helper()
	if got := show(ask(t, store, q)); got != rows {
		t.Errorf("%s:\nquery %v\n got %s\nwant %s", why, q, got, rows)
	}
}

func testAcknowledges(t *testing.T, store acctstore.Store) {
	want(t, store, &acctstorev1.Query{Cluster: cluster}, "", "a new store must be empty, and an unknown cluster is no error")
	if _, err := store.Append(t.Context(), cluster, nil); err != nil {
		t.Errorf("an empty batch must not fail: %v", err)
	}
	node := &wlmv1.Node{Name: "n1", State: uint32(wlm.NodeDown), Reason: "Not responding"}
	put(t, store, cluster, []*acctstorev1.Record{
		{Number: 3},
		{Number: 4, Event: &eventv1.Event{Kind: eventv1.Kind_JOB_STARTED}},
		{Number: 5, Event: &eventv1.Event{Kind: eventv1.Kind_JOB_RANKED, Ids: []uint32{1}}},
		{Number: 6, Event: &eventv1.Event{Kind: 999}},
		{Number: 7, Event: &eventv1.Event{Kind: eventv1.Kind_NODE_DOWN, Time: epoch, Node: node}},
		{Number: 8, Event: &eventv1.Event{Kind: eventv1.Kind_NODE_UP, Time: epoch, Node: node}},
	})
	want(t, store, &acctstorev1.Query{Cluster: cluster}, "", "records without a job must not make job rows")
}

func testLife(t *testing.T, store acctstore.Store) {
	s := &script{}
	sent := 0
	next := func(rows, why string) {
		t.Helper()
		put(t, store, cluster, s.records[sent:])
		sent = len(s.records)
		want(t, store, &acctstorev1.Query{Cluster: cluster}, rows, why)
	}
	j := s.submit(0, 1, nil)
	next("1:PENDING", "a submitted job must show as pending")
	s.start(5, j, 2, "n1")
	next("1:RUNNING", "a started job must show as running; CONFIGURING passes and is not kept")
	b := s.step(5, j, wlm.StepBatch)
	next("1:RUNNING(batch:RUNNING)", "a step must show with its job")
	s.suspend(6, j)
	next("1:SUSPENDED(batch:RUNNING)", "a suspended job must show so")
	s.resume(8, j)
	next("1:RUNNING(batch:RUNNING)", "a resumed job must run again")
	s.endStep(9, b, wlm.Failed)
	j.Status = uint32(wlm.ExitStatus(3))
	s.end(9, j, wlm.Failed)
	next("1:FAILED(batch:FAILED)", "an ended job must show its final state, without COMPLETING")
	j.Spec.Comment = "seen"
	s.job(eventv1.Kind_JOB_CHANGED, 20, j)
	put(t, store, cluster, s.records[sent:])
	got := ask(t, store, &acctstorev1.Query{Cluster: cluster})[0].Job
	if !proto.Equal(got, j) {
		t.Errorf("after its life the row must have the whole last record:\n got %v\nwant %v", got, j)
	}
}

func testRepetition(t *testing.T, store acctstore.Store) {
	s := scene()
	put(t, store, cluster, s.records)
	q := &acctstorev1.Query{Cluster: cluster, Duplicates: true}
	before := ask(t, store, q)
	put(t, store, cluster, s.records)
	put(t, store, cluster, s.records[len(s.records)/2:])
	put(t, store, cluster, s.records[:len(s.records)/2])
	for _, r := range s.records {
		put(t, store, cluster, []*acctstorev1.Record{r})
	}
	same(t, before, ask(t, store, q), "sending records again must change nothing")
}

// same compares whole rows.
func same(t *testing.T, wanted, got []*acctstorev1.JobRow, why string) {
	t.Helper()
	if len(wanted) != len(got) {
		t.Errorf("%s:\n got %s\nwant %s", why, show(got), show(wanted))
		return
	}
	for i := range wanted {
		if !proto.Equal(wanted[i], got[i]) {
			t.Errorf("%s: row %d\n got %v\nwant %v", why, i, got[i], wanted[i])
			return
		}
	}
}

func testLate(t *testing.T, store acctstore.Store) {
	s := &script{}
	j := s.submit(0, 1, nil)
	s.start(5, j, 1, "n1")
	st := s.step(5, j, 0)
	s.endStep(6, st, wlm.Completed)
	s.end(7, j, wlm.Completed)
	late := slices.Clone(s.records)
	slices.Reverse(late)
	for _, r := range late {
		put(t, store, cluster, []*acctstorev1.Record{r})
		if r.Event.Job != nil {
			want(t, store, &acctstorev1.Query{Cluster: cluster, AllocationsOnly: true}, "1:COMPLETED",
				"a record from before the end came after it and must not reopen the job")
		}
	}
	want(t, store, &acctstorev1.Query{Cluster: cluster}, "1:COMPLETED(0:COMPLETED)",
		"a step's start came after its end and must not reopen the step")
	renumbered := proto.CloneOf(s.records[1])
	renumbered.Number = 100
	put(t, store, cluster, []*acctstorev1.Record{renumbered})
	want(t, store, &acctstorev1.Query{Cluster: cluster, AllocationsOnly: true}, "1:COMPLETED",
		"a start with a higher number than the end must not reopen the job either: a run ends once")
}

func testRequeue(t *testing.T, store acctstore.Store) {
	s := &script{}
	j := s.submit(0, 1, nil)
	s.start(5, j, 1, "n1")
	s.step(5, j, wlm.StepBatch)
	s.requeue(10, j, wlm.NodeFail)
	j.Flags = 0
	s.start(10, j, 1, "n2")
	s.step(10, j, wlm.StepBatch)
	s.requeue(12, j, wlm.Running)
	put(t, store, cluster, s.records)
	all := &acctstorev1.Query{Cluster: cluster, AllocationsOnly: true, Duplicates: true}
	want(t, store, all, "1:NODE_FAIL 1:REQUEUED 1:PENDING",
		"each run must have a row: the first lost its node, the second was requeued by request, the third waits")
	rows := ask(t, store, all)
	if n := len(rows); n > 0 && (rows[n-1].Job.Alloc != nil || rows[n-1].Job.AllocTres != "") {
		t.Errorf("a run that waits must not show what the run before it held: %v", rows[n-1].Job)
	}
	if len(rows) == 3 && (rows[1].Job.End != epoch+12 || rows[0].Job.End != epoch+10) {
		t.Errorf("a requeued run must end when it was requeued, at %d and %d: ends are %d and %d",
			epoch+10, epoch+12, rows[0].Job.End, rows[1].Job.End)
	}
	want(t, store, &acctstorev1.Query{Cluster: cluster, AllocationsOnly: true}, "1:PENDING",
		"without duplicates only the last run of a job must show")
	want(t, store, &acctstorev1.Query{Cluster: cluster, AllocationsOnly: true, States: []uint32{uint32(wlm.NodeFail)}}, "1:NODE_FAIL",
		"without duplicates the last run that matches must show")
	j.Flags = 0
	s.start(20, j, 1, "n3")
	b := s.step(20, j, wlm.StepBatch)
	s.endStep(21, b, wlm.Completed)
	s.end(21, j, wlm.Completed)
	put(t, store, cluster, s.records)
	want(t, store, &acctstorev1.Query{Cluster: cluster, Duplicates: true},
		"1:NODE_FAIL(batch:RUNNING) 1:REQUEUED(batch:RUNNING) 1:COMPLETED(batch:COMPLETED)",
		"each run must keep its own batch step, also where two began in the same second")

	anonymous := proto.CloneOf(s.records[len(s.records)-3])
	anonymous.Event.Step.Id, anonymous.Event.Step.JobSubmit, anonymous.Event.Step.Restarts = 7, 0, 0
	anonymous.Number = uint64(len(s.records) + 1)
	put(t, store, cluster, []*acctstorev1.Record{anonymous})
	want(t, store, &acctstorev1.Query{Cluster: cluster}, "1:COMPLETED(batch:COMPLETED 7:COMPLETED)",
		"a step that does not say its run belongs to the newest one")
}

func testArrays(t *testing.T, store acctstore.Store) {
	s := &script{}
	array := s.submit(0, 6, func(j *wlmv1.Job) {
		j.ArrayJob, j.ArrayCount, j.ArrayTasks = 6, 4, ranges(1, 2, 3, 4)
		j.Spec.ArrayMaxRunning = 2
	})
	put(t, store, cluster, s.records)
	q := &acctstorev1.Query{Cluster: cluster}
	want(t, store, q, "6_[1,2,3,4]:PENDING", "an array that waits is one row")
	var tasks []*wlmv1.Job
	for i := range 3 {
		task := s.split(1, array, uint32(7+i))
		s.start(1, task, 1, "n1")
		tasks = append(tasks, task)
	}
	put(t, store, cluster, s.records)
	want(t, store, q, "6_[4]:PENDING 6_1:RUNNING 6_2:RUNNING 6_3:RUNNING", "started tasks have rows of their own, and leave the record")
	ref := func(job uint32, task ...uint32) *acctstorev1.Query {
		r := &acctstorev1.JobRef{Job: job}
		if len(task) > 0 {
			r.HasTask, r.Task = true, task[0]
		}
		return &acctstorev1.Query{Cluster: cluster, Jobs: []*acctstorev1.JobRef{r}}
	}
	want(t, store, ref(6), "6_[4]:PENDING 6_1:RUNNING 6_2:RUNNING 6_3:RUNNING", "an array's id means all of it")
	want(t, store, ref(6, 2), "6_2:RUNNING", "a task is found by array and index")
	want(t, store, ref(8), "6_2:RUNNING", "a task is found by its own id")
	want(t, store, ref(6, 4), "6_[4]:PENDING", "a task that waits is found in the record")
	want(t, store, ref(6, 9), "", "a task that the array does not have is not found")
	want(t, store, ref(7, 1), "", "a task's own id is not an array's id")

	task := s.split(2, array, 10)
	s.start(2, task, 1, "n1")
	s.end(3, tasks[0], wlm.Failed)
	put(t, store, cluster, s.records)
	want(t, store, q, "6_1:FAILED 6_2:RUNNING 6_3:RUNNING 6_4:RUNNING", "the record must disappear with its last waiting task")
	put(t, store, cluster, s.records[:1])
	want(t, store, q, "6_1:FAILED 6_2:RUNNING 6_3:RUNNING 6_4:RUNNING", "the array's submission came again and must not bring the record back")

	s = &script{records: s.records}
	waits := s.submit(10, 20, func(j *wlmv1.Job) { j.ArrayJob, j.ArrayTasks = 20, ranges(0, 5) })
	s.cancel(11, waits)
	put(t, store, cluster, s.records)
	want(t, store, ref(20), "20_[0,5]:CANCELLED", "tasks that were cancelled while they waited stay one row")
}

func testHet(t *testing.T, store acctstore.Store) {
	s := &script{}
	for i := range uint32(3) {
		s.submit(0, 15+i, func(j *wlmv1.Job) { j.HetJob, j.HetOffset = 15, i })
	}
	put(t, store, cluster, s.records)
	jobs := func(id uint32) *acctstorev1.Query {
		return &acctstorev1.Query{Cluster: cluster, Jobs: []*acctstorev1.JobRef{{Job: id}}}
	}
	want(t, store, jobs(15), "15:PENDING 16:PENDING 17:PENDING", "the first component's id means all components")
	want(t, store, jobs(16), "16:PENDING", "another component's id means it alone")
}

func testSteps(t *testing.T, store acctstore.Store) {
	s := &script{}
	j := s.submit(0, 5, nil)
	s.start(1, j, 1, "n1")
	for _, id := range []wlm.StepID{1, wlm.StepExtern, 0, wlm.StepInteractive, 10, wlm.StepBatch} {
		s.step(1, j, id)
	}
	other := s.submit(0, 6, nil)
	s.start(1, other, 1, "n1")
	s.step(1, other, 1)
	plain := s.submit(0, 7, nil)
	s.start(1, plain, 1, "n1")
	put(t, store, cluster, s.records)
	ask := func(refs ...*acctstorev1.JobRef) *acctstorev1.Query {
		return &acctstorev1.Query{Cluster: cluster, Jobs: refs}
	}
	want(t, store, ask(&acctstorev1.JobRef{Job: 5}),
		"5:RUNNING(interactive:RUNNING batch:RUNNING extern:RUNNING 0:RUNNING 1:RUNNING 10:RUNNING)", "steps come in sacct's order")
	want(t, store, &acctstorev1.Query{Cluster: cluster, AllocationsOnly: true}, "5:RUNNING 6:RUNNING 7:RUNNING",
		"allocations_only leaves steps out")
	step := func(job, id uint32) *acctstorev1.JobRef {
		return &acctstorev1.JobRef{Job: job, HasStep: true, Step: id}
	}
	want(t, store, ask(step(5, 1), step(5, uint32(wlm.StepBatch))), "5:RUNNING(batch:RUNNING 1:RUNNING)", "named steps come alone")
	want(t, store, ask(step(5, 1), &acctstorev1.JobRef{Job: 6}), "5:RUNNING(1:RUNNING) 6:RUNNING(1:RUNNING)",
		"a reference with a step limits its own job only")
	want(t, store, ask(step(6, 0)), "", "a job that does not have the named step does not match")
}

func testManySteps(t *testing.T, store acctstore.Store) {
	const steps = 2500
	s := &script{}
	j := s.submit(0, 1, nil)
	s.start(1, j, 1, "n1")
	for i := range steps {
		s.step(1, j, wlm.StepID(i))
	}
	s.submit(2, 2, nil)
	put(t, store, cluster, s.records)
	rows := ask(t, store, &acctstorev1.Query{Cluster: cluster})
	if len(rows) != 2 || len(rows[0].Steps) != steps {
		t.Fatalf("a run with %d steps must come back whole, and then the next: %d rows, the first with %d steps",
			steps, len(rows), len(rows[0].Steps))
	}
	for i, st := range rows[0].Steps {
		if st.Id != uint32(i) {
			t.Fatalf("step %d of the joined row is step %d: parts are out of order", i, st.Id)
		}
	}
}

// scene is a small cluster's history with one of everything, by seconds:
//
//	1    100-110 waits, 110-120 runs on n1 (2 CPUs), COMPLETED
//	2    100-130 waits, 130-150 runs on n2 (4), FAILED; user 1002, account bio, ...
//	3    140-145 waits, 145- runs on n1,n2 (4 each), 150-160 suspended
//	4    105- held
//	5    150- waits
//	6    100- array: 6_1 runs from 115, 6_2 116-165 TIMEOUT, [3,4] wait
//	9    110-125 waits, cancelled
//	10   170 submitted, started on n4 and ended within the second
//	11   100-110 waits, 110-130 runs on n3, NODE_FAIL; 130-140 waits again, 140- runs on n4
func scene() *script {
	s := &script{}
	j1 := s.submit(100, 1, nil)
	j2 := s.submit(100, 2, func(j *wlmv1.Job) {
		j.Partition = "small"
		j.Spec.User, j.Spec.Group, j.Spec.Account, j.Spec.Qos, j.Spec.Wckey, j.Spec.Name = 1002, 200, "bio", "high", "key", "align"
	})
	array := s.submit(100, 6, func(j *wlmv1.Job) { j.ArrayJob, j.ArrayTasks = 6, ranges(1, 2, 3, 4) })
	j11 := s.submit(100, 11, nil)
	s.submit(105, 4, func(j *wlmv1.Job) { j.Eligible, j.Held = 0, true })
	s.start(110, j1, 2, "n1")
	b1 := s.step(110, j1, wlm.StepBatch)
	s.start(110, j11, 1, "n3")
	s.step(110, j11, wlm.StepBatch)
	j9 := s.submit(110, 9, nil)
	j7 := s.split(115, array, 7)
	s.start(115, j7, 1, "n1")
	j8 := s.split(116, array, 8)
	s.start(116, j8, 1, "n1")
	s.endStep(120, b1, wlm.Completed)
	s.end(120, j1, wlm.Completed)
	s.cancel(125, j9)
	s.start(130, j2, 4, "n2")
	s.requeue(130, j11, wlm.NodeFail)
	j3 := s.submit(140, 3, nil)
	s.start(140, j11, 1, "n4")
	s.start(145, j3, 4, "n1", "n2")
	s.suspend(150, j3)
	s.end(150, j2, wlm.Failed)
	s.submit(150, 5, nil)
	s.resume(160, j3)
	s.end(165, j8, wlm.Timeout)
	j10 := s.submit(170, 10, nil)
	s.start(170, j10, 1, "n4")
	s.end(170, j10, wlm.Completed)
	return s
}

func testWindows(t *testing.T, store acctstore.Store) {
	put(t, store, cluster, scene().records)
	const (
		pd, r, su    = uint32(wlm.Pending), uint32(wlm.Running), uint32(wlm.Suspended)
		cd, ca, f    = uint32(wlm.Completed), uint32(wlm.Cancelled), uint32(wlm.Failed)
		to, nf       = uint32(wlm.Timeout), uint32(wlm.NodeFail)
		now, forever = 200, 0
	)
	for _, test := range []struct {
		start, end int64 // 0: open
		states     []uint32
		want       string
		why        string
	}{
		{0, forever, nil, "1:COMPLETED 2:FAILED 3:RUNNING 4:PENDING 5:PENDING 6_[3,4]:PENDING 6_1:RUNNING 6_2:TIMEOUT 9:CANCELLED 10:COMPLETED 11:RUNNING",
			"an open window shows every job, held ones too"},
		{160, now, nil, "3:RUNNING 5:PENDING 6_[3,4]:PENDING 6_1:RUNNING 6_2:TIMEOUT 10:COMPLETED 11:RUNNING",
			"a window shows what was not over before it; a held job is not in it"},
		{0, 109, nil, "1:COMPLETED 2:FAILED 4:PENDING 6_[3,4]:PENDING 6_1:RUNNING 6_2:TIMEOUT 11:NODE_FAIL",
			"what became eligible after the window is not in it, and a requeued job's earlier run is"},
		{120, 120, nil, "1:COMPLETED 2:FAILED 6_[3,4]:PENDING 6_1:RUNNING 6_2:TIMEOUT 9:CANCELLED 11:NODE_FAIL",
			"a job that ended at the window's start is in it"},
		{now, now, []uint32{r}, "3:RUNNING 6_1:RUNNING 11:RUNNING", "sacct -s R: what runs now"},
		{now, now, []uint32{pd}, "5:PENDING 6_[3,4]:PENDING", "sacct -s PD: what waits now, without held jobs"},
		{now, now, []uint32{f}, "", "sacct -s F without a window: nothing fails at this very second"},
		{165, 165, []uint32{r}, "3:RUNNING 6_1:RUNNING 11:RUNNING", "a job that ended at this second does not run any more"},
		{100, now, []uint32{f, to}, "2:FAILED 6_2:TIMEOUT", "end states match ends within the window"},
		{151, now, []uint32{f}, "", "a failure before the window is not in it"},
		{150, 150, []uint32{f}, "2:FAILED", "a failure at the window's only second is in it"},
		{0, 149, []uint32{f}, "", "a failure after the window is not in it"},
		{100, now, []uint32{ca, cd}, "1:COMPLETED 9:CANCELLED 10:COMPLETED", "several states: any of them"},
		{100, 119, []uint32{r}, "1:COMPLETED 6_1:RUNNING 6_2:TIMEOUT 11:NODE_FAIL", "RUNNING means that it ran in the window, whatever it is now"},
		{121, 129, []uint32{r}, "6_1:RUNNING 6_2:TIMEOUT 11:NODE_FAIL", "RUNNING does not match a job that ended before or started after"},
		{166, now, []uint32{r}, "3:RUNNING 6_1:RUNNING 10:COMPLETED 11:RUNNING", "a job that ran for less than a second ran in the window"},
		{121, 124, []uint32{pd}, "2:FAILED 6_[3,4]:PENDING 9:CANCELLED", "PENDING means that it waited in the window"},
		{130, 139, []uint32{pd}, "6_[3,4]:PENDING 11:RUNNING", "a requeued job waits again"},
		{0, 139, []uint32{pd}, "1:COMPLETED 2:FAILED 4:PENDING 6_[3,4]:PENDING 6_1:RUNNING 6_2:TIMEOUT 9:CANCELLED 11:RUNNING",
			"with an open start a held job waited since its submission"},
		{100, 149, []uint32{su}, "", "nothing was suspended before 150"},
		{155, 156, []uint32{su}, "3:RUNNING", "SUSPENDED finds a job that was suspended then and runs now"},
		{161, now, []uint32{su}, "", "and not after it was resumed"},
		{100, now, []uint32{nf}, "11:NODE_FAIL", "an earlier run is found by its own end"},
		{100, now, []uint32{uint32(wlm.FlagRequeued) << 8}, "", "nothing here was requeued without a cause of its own"},
	} {
		q := &acctstorev1.Query{Cluster: cluster, AllocationsOnly: true, States: test.states}
		if test.start != 0 {
			q.Start = epoch + test.start
		}
		if test.end != 0 {
			q.End = epoch + test.end
		}
		want(t, store, q, test.want, fmt.Sprintf("window [%d, %d] states %v: %s", test.start, test.end, test.states, test.why))
	}
}

func testFilters(t *testing.T, store acctstore.Store) {
	put(t, store, cluster, scene().records)
	type query = acctstorev1.Query
	for _, test := range []struct {
		why  string
		q    *query
		want string
	}{
		{"users", &query{Users: []uint32{1002}}, "2:FAILED"},
		{"several users", &query{Users: []uint32{1002, 1001}, Start: epoch + 166}, "3:RUNNING 5:PENDING 6_[3,4]:PENDING 6_1:RUNNING 10:COMPLETED 11:RUNNING"},
		{"an unknown user", &query{Users: []uint32{5}}, ""},
		{"groups", &query{Groups: []uint32{200}}, "2:FAILED"},
		{"accounts", &query{Accounts: []string{"bio", "none"}}, "2:FAILED"},
		{"partitions", &query{Partitions: []string{"small"}}, "2:FAILED"},
		{"names", &query{Names: []string{"align", "job1"}}, "1:COMPLETED 2:FAILED"},
		{"quality of service", &query{Qos: []string{"high"}}, "2:FAILED"},
		{"wckeys", &query{Wckeys: []string{"key"}}, "2:FAILED"},
		{"a name with a quote is a name", &query{Names: []string{"'; DROP TABLE jobs; --"}}, ""},
		{"one node", &query{Nodes: "n2"}, "2:FAILED 3:RUNNING"},
		{"a node list", &query{Nodes: "n[2-3]"}, "2:FAILED 3:RUNNING 11:NODE_FAIL"},
		{"a node of an earlier run", &query{Nodes: "n3"}, "11:NODE_FAIL"},
		{"CPUs from", &query{MinCpus: 4}, "2:FAILED 3:RUNNING"},
		{"CPUs up to", &query{MinCpus: 2, MaxCpus: 4}, "1:COMPLETED 2:FAILED"},
		{"nodes from", &query{MinNodes: 2}, "3:RUNNING"},
		{"nodes up to", &query{MinNodes: 1, MaxNodes: 1, Start: epoch + 166}, "6_1:RUNNING 10:COMPLETED 11:RUNNING"},
		{"jobs", &query{Jobs: []*acctstorev1.JobRef{{Job: 2}, {Job: 9}, {Job: 77}}}, "2:FAILED 9:CANCELLED"},
		{"jobs in a state", &query{Jobs: []*acctstorev1.JobRef{{Job: 2}, {Job: 9}}, States: []uint32{uint32(wlm.Failed)}}, "2:FAILED"},
		{"all filters must hold", &query{Users: []uint32{1002}, Accounts: []string{"research"}}, ""},
		{"duplicates", &query{Jobs: []*acctstorev1.JobRef{{Job: 11}}, Duplicates: true}, "11:NODE_FAIL 11:RUNNING"},
	} {
		test.q.Cluster, test.q.AllocationsOnly = cluster, true
		want(t, store, test.q, test.want, test.why)
	}
	many := &query{Cluster: cluster, AllocationsOnly: true}
	for id := uint32(2); id < 20_000; id += 2 {
		many.Jobs = append(many.Jobs, &acctstorev1.JobRef{Job: id})
	}
	want(t, store, many, "2:FAILED 4:PENDING 6_[3,4]:PENDING 6_1:RUNNING 6_2:TIMEOUT 10:COMPLETED", "a list of 10,000 job ids")
}

func testClusters(t *testing.T, store acctstore.Store) {
	for _, name := range []string{"zeta", "alpha"} {
		s := &script{}
		j := s.submit(0, 1, nil)
		s.submit(0, 2, nil)
		if name == "zeta" {
			s.start(1, j, 1, "n1")
			s.step(1, j, 0)
		}
		put(t, store, name, s.records)
	}
	want(t, store, &acctstorev1.Query{Cluster: "zeta"}, "1:RUNNING(0:RUNNING) 2:PENDING", "a cluster has its own jobs")
	want(t, store, &acctstorev1.Query{Cluster: "alpha"}, "1:PENDING 2:PENDING", "and not those of another with the same ids")
	rows := ask(t, store, &acctstorev1.Query{})
	if got := show(rows); len(rows) != 4 {
		t.Errorf("without a cluster, jobs of all clusters must show: %s", got)
	}
	for _, row := range rows {
		if row.Cluster != "zeta" && row.Cluster != "alpha" {
			t.Errorf("a row must name its cluster, and names %q", row.Cluster)
		}
	}
}

func testWhole(t *testing.T, store acctstore.Store) {
	s := &script{}
	j := s.submit(0, 4_000_000_000, func(j *wlmv1.Job) {
		j.Spec.Name = "ünïcode \x00 '\"%_\n"
		j.Spec.User, j.Spec.Group = 4294967294, 4294967294
		j.Spec.Comment = strings.Repeat("long ", 20_000)
		j.Spec.Limits = []*wlmv1.RLimit{{Name: "NOFILE", Soft: 1 << 63, Hard: ^uint64(0)}}
		j.Script, j.Env = []byte{0, 255}, []byte("key")
	})
	s.start(1, j, 200, "n1", "n2")
	st := s.step(1, j, wlm.StepPending-1)
	st.MaxRss, st.UserUsec = 1<<40, 999_999
	s.endStep(2, st, wlm.OutOfMemory)
	j.Status = uint32(wlm.SignalStatus(9))
	s.end(3, j, wlm.OutOfMemory)
	passed := slices.Clone(s.records)
	for i := range passed {
		passed[i] = proto.CloneOf(passed[i])
	}
	put(t, store, cluster, passed)
	for i := range passed {
		if !proto.Equal(passed[i], s.records[i]) {
			t.Errorf("Append changed record %d, which belongs to its caller", i)
		}
	}
	rows := ask(t, store, &acctstorev1.Query{Cluster: cluster, Names: []string{j.Spec.Name}})
	if len(rows) != 1 || !proto.Equal(rows[0].Job, j) || len(rows[0].Steps) != 1 || !proto.Equal(rows[0].Steps[0], st) {
		t.Errorf("a job and its step must come back with every field:\n got %.300v\nwant %.300v", rows, j)
	}
}

func testBadQueries(t *testing.T, store acctstore.Store) {
	put(t, store, cluster, scene().records)
	for why, q := range map[string]*acctstorev1.Query{
		"a node list that cannot be read":     {Nodes: "n[1-"},
		"a window that ends before it starts": {Start: epoch + 2, End: epoch + 1},
		"a state that does not exist":         {States: []uint32{77}},
	} {
		q.Cluster = cluster
		err := store.Jobs(t.Context(), q, func(*acctstorev1.JobRow) error { return nil })
		if errs.KindOf(err) != errs.Invalid {
			t.Errorf("%s must be refused with an error of kind %v, and the answer is %v", why, errs.Invalid, err)
		}
	}
}

func testYieldError(t *testing.T, store acctstore.Store) {
	put(t, store, cluster, scene().records)
	stop := errors.New("enough")
	calls := 0
	err := store.Jobs(t.Context(), &acctstorev1.Query{Cluster: cluster}, func(*acctstorev1.JobRow) error {
		calls++
		return stop
	})
	if !errors.Is(err, stop) || calls != 1 {
		t.Errorf("Jobs must end with the reader's first error; it called %d times and returned %v", calls, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := store.Jobs(ctx, &acctstorev1.Query{Cluster: cluster}, func(*acctstorev1.JobRow) error { return nil }); err == nil {
		t.Error("Jobs must fail when its context has ended")
	}
	want(t, store, &acctstorev1.Query{Cluster: cluster, Users: []uint32{1002}, AllocationsOnly: true}, "2:FAILED",
		"the store must answer after a query that was broken off")
}

func testLargeBatch(t *testing.T, store acctstore.Store) {
	s := &script{}
	spec := strings.Repeat("x", 200)
	for id := range uint32(500) {
		j := s.submit(int64(id), id+1, func(j *wlmv1.Job) { j.Spec.Comment = spec })
		s.start(int64(id), j, 1, "n1")
		s.end(int64(id)+1, j, wlm.Completed)
	}
	put(t, store, cluster, s.records)
	rows := ask(t, store, &acctstorev1.Query{Cluster: cluster})
	if len(rows) != 500 {
		t.Fatalf("a batch of %d records about 500 jobs must make 500 rows, not %d", len(s.records), len(rows))
	}
	for i, row := range rows {
		if row.Job.Id != uint32(i+1) || row.Job.State != uint32(wlm.Completed) {
			t.Fatalf("row %d must be job %d, COMPLETED: it is %s", i, i+1, showRow(row))
		}
	}
}

func testConcurrency(t *testing.T, store acctstore.Store) {
	const jobs = 400
	s := &script{}
	for id := range uint32(jobs) {
		j := s.submit(int64(id), id+1, nil)
		s.start(int64(id), j, 1, "n1")
		s.end(int64(id)+1, j, wlm.Completed)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	defer readers.Wait()
	defer cancel()
	for range 3 {
		readers.Go(func() {
			seen := 0
			for ctx.Err() == nil {
				last, n := uint32(0), 0
				err := store.Jobs(t.Context(), &acctstorev1.Query{Cluster: cluster}, func(row *acctstorev1.JobRow) error {
					if row.Job.Id <= last {
						return fmt.Errorf("job %d came after job %d", row.Job.Id, last)
					}
					last, n = row.Job.Id, n+1
					return nil
				})
				if err != nil {
					t.Errorf("a query beside Append failed: %v", err)
					return
				}
				if n < seen {
					t.Errorf("a query found %d jobs where one before found %d: stored jobs vanished", n, seen)
					return
				}
				seen = n
			}
		})
	}
	for chunk := range slices.Chunk(s.records, 20) {
		put(t, store, cluster, chunk)
	}
	want := ask(t, store, &acctstorev1.Query{Cluster: cluster})
	if len(want) != jobs {
		t.Errorf("%d jobs were stored beside queries, and %d are there", jobs, len(want))
	}
}

// testRandom plays random histories.
func testRandom(t *testing.T, store acctstore.Store) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for round := range 8 {
		s := randomScript(random, 120)
		m := newModel(s.records)
		name := fmt.Sprint("c", round)
		order := slices.Clone(s.records)
		if round%2 == 1 {
			for range len(order) / 3 {
				order = append(order, order[random.IntN(len(order))])
			}
			random.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		}
		for len(order) > 0 {
			n := 1 + random.IntN(min(40, len(order)))
			put(t, store, name, order[:n])
			order = order[n:]
		}
		for range 60 {
			q := randomQuery(random)
			q.Cluster = name
			wanted, got := m.jobs(name, q), ask(t, store, q)
			if same(t, wanted, got, fmt.Sprintf("seed %d, round %d: a random history was stored, and the store does not answer as the contract says\nquery %v", seed, round, q)); t.Failed() {
				return
			}
		}
	}
}
