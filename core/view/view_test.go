package view

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/wlm/v1"
	"github.com/sluice-hpc/sluice/sdk/wire"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

const nodes = 4

// truth is a cluster whose turns are published to a view.
type truth struct {
	*cluster.Cluster
	view *View
	now  wlm.Time
}

func newTruth(t testing.TB, settings cluster.Settings) *truth {
	t.Helper()
	x := &truth{cluster.New(settings), New(), 1000}
	conf := &cluster.Configure{Settings: settings}
	part := wlm.Partition{Name: "p", Default: true, MaxTime: wlm.Unlimited, MaxNodes: wlm.Unset, MaxCPUsPerNode: wlm.Unset,
		MaxCPUsPerSock: wlm.Unset, OverTimeLimit: wlm.Unset, Nodes: "n[1-4]"}
	for i := range nodes {
		name := nodeName(i)
		conf.Nodes = append(conf.Nodes, wlm.Node{Name: name, Hostname: string(name), CPUs: 8, Boards: 1, Sockets: 1, CoresPerSocket: 8, ThreadsPerCore: 1, RealMemory: 1000})
		part.NodeNames = append(part.NodeNames, name)
	}
	conf.Partitions = []wlm.Partition{part}
	x.must(t, conf)
	for i := range nodes {
		x.must(t, &cluster.Register{Node: nodeName(i), Msg: &nodev1.Register{Cpus: 8, Sockets: 1, CoresPerSocket: 8, ThreadsPerCore: 1, RealMemory: 1000}})
	}
	return x
}

func nodeName(i int) wlm.NodeName { return wlm.NodeName(fmt.Sprintf("n%d", i+1)) }

// do applies a command as a turn of its own.
func (x *truth) do(cmd cluster.Command) (any, error) {
	r, err := x.Apply(cmd, x.now)
	x.view.Publish(x.TakeTurn())
	return r, err
}

func (x *truth) must(t testing.TB, cmd cluster.Command) any {
	t.Helper()
	r, err := x.do(cmd)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func spec(user wlm.UID) *wlm.Spec {
	return &wlm.Spec{Name: "job", User: user, UserName: "ann", MinNodes: 1, NTasks: 1, CPUsPerTask: 1, Priority: wlm.Unset, CoreSpec: wlm.Unset,
		TimeLimit: 10, WorkDir: "/home/ann", SubmitLine: "sbatch job.sh", Argv: []string{"job.sh", "x"}, Options: []string{"a=b"}}
}

func (x *truth) submit(t testing.TB, s *wlm.Spec) wlm.JobID {
	t.Helper()
	return x.must(t, &cluster.Submit{Spec: s, Script: []byte("#!/bin/sh\n"), Env: []byte("A=1\x00"), Caller: cluster.Caller{UID: s.User}}).(*cluster.SubmitReply).Job.ID
}

func (x *truth) start(id wlm.JobID, node, cpu int) {
	set := wlm.CPUSet{1 << cpu}
	x.do(&cluster.Start{Placements: []cluster.Placement{{Job: id, Partition: "p", Scheduler: "Main", //nolint:errcheck // refusals are fine
		Nodes: []wlm.NodeAlloc{{Node: nodeName(node), CPUs: set, Mem: 10}}}}})
}

func (x *truth) ended(j *wlm.Job, status wlm.WaitStatus) {
	s := &wlm.Step{Job: j.ID, ID: wlm.StepBatch, State: wlm.Completed, Status: status}
	x.do(&cluster.Reports{Node: j.BatchHost, Reports: []*nodev1.Report{{Body: &nodev1.Report_StepEnded{ //nolint:errcheck // never fails
		StepEnded: &nodev1.StepEnded{Step: wire.StepToWire(s), Clean: true, Restarts: j.Restarts}}}}})
}

// random does something to the cluster.
func (x *truth) random(t *rapid.T) {
	n := func(label string, max int) int { return rapid.IntRange(0, max).Draw(t, label) }
	id := wlm.JobID(1 + n("job", int(x.NextJob)))
	ref := &ctlv1.JobFilter{Refs: []*ctlv1.JobRef{{Job: uint32(id)}}}
	root := cluster.Caller{Admin: true}
	switch n("verb", 11) {
	case 0, 1, 2:
		s := spec(wlm.UID(n("user", 2)))
		if n("array", 3) == 0 {
			s.Array = "0-3"
		}
		if n("dependent", 3) == 0 {
			s.Dependency = fmt.Sprintf("afterany:%d", id)
		}
		x.do(&cluster.Submit{Spec: s, Script: []byte{byte(n("script", 3))}, Env: []byte{byte(n("env", 3))}, Caller: cluster.Caller{UID: s.User}}) //nolint:errcheck // may be refused
	case 3, 4, 5:
		x.start(id, n("node", nodes-1), n("cpu", 7))
	case 6:
		if j := x.Job(id); j != nil && j.State == wlm.Running {
			x.ended(j, wlm.ExitStatus(n("status", 1)))
		}
	case 7:
		if n("some", 1) == 0 {
			ref.Refs[0].Tasks = []*wlmv1.IDRange{{First: 1, Last: 2, Step: 1}}
		}
		x.do(&cluster.Kill{Filter: ref, Caller: root}) //nolint:errcheck // may be refused
	case 8:
		verb := ctlv1.UpdateJobRequest_Verb(n("update", 5))
		set := map[string]string{}
		if verb == ctlv1.UpdateJobRequest_SET {
			set["timelimit"] = "5"
		}
		x.do(&cluster.UpdateJob{Filter: ref, Verb: verb, Set: set, Caller: root}) //nolint:errcheck // may be refused
	case 9:
		word := rapid.SampledFrom([]string{"DRAIN", "RESUME", "DOWN"}).Draw(t, "state")
		x.do(&cluster.UpdateNode{Nodes: string(nodeName(n("node", nodes-1))), Set: map[string]string{"state": word, "reason": "test"}, Caller: root}) //nolint:errcheck // may be refused
	case 10:
		if j := x.Job(id); j != nil && j.State == wlm.Running {
			s := &wlm.Step{Job: j.ID, ID: wlm.StepID(n("step", 2)), Name: "s"}
			x.do(&cluster.Reports{Node: j.BatchHost, Reports: []*nodev1.Report{{Body: &nodev1.Report_StepStarted{ //nolint:errcheck // never fails
				StepStarted: &nodev1.StepStarted{Step: wire.StepToWire(s)}}}}})
		}
	case 11:
		x.now += wlm.Time(n("seconds", 400))
		x.do(&cluster.Tick{}) //nolint:errcheck // never fails
	}
}

func (x *truth) check(t interface{ Fatalf(string, ...any) }) {
	if !reflect.DeepEqual(&x.Tables, x.view.mu.tables) {
		t.Fatalf("the view's tables differ from the cluster's")
	}
	var want, got []*wlm.Job
	for j := range x.AllJobs {
		want = append(want, j)
	}
	slices.SortFunc(want, func(a, b *wlm.Job) int { return int(a.ID) - int(b.ID) })
	got = slices.Collect(x.view.jobs().all)
	if !slices.Equal(want, got) {
		t.Fatalf("the index has %d jobs, the cluster %d, or they differ", len(got), len(want))
	}
	for _, c := range x.view.mu.index.chunks {
		if len(c.jobs) == 0 || len(c.jobs) != len(c.lean) {
			t.Fatalf("a chunk of %d jobs and %d encodings", len(c.jobs), len(c.lean))
		}
	}
}

func TestViewEqualsCluster(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := newTruth(benchT{}, cluster.Settings{Cluster: "c", MaxArraySize: 1000, MinJobAge: 300, JobRequeue: true})
		for range rapid.IntRange(1, 60).Draw(t, "turns") {
			x.random(t)
			x.check(t)
		}
		seeded := New()
		seeded.Seed(&x.Tables)
		if a, b := list(t, x.view, Query{}), list(t, seeded, Query{}); !slices.EqualFunc(a, b, func(a, b *ctlv1.JobInfo) bool { return proto.Equal(a, b) }) {
			t.Fatalf("a seeded view lists %d jobs, the other %d, or they differ", len(b), len(a))
		}
	})
}

// benchT lets a property use helpers that want a testing.TB.
type benchT struct{ testing.TB }

func (benchT) Helper()        {}
func (benchT) Fatal(a ...any) { panic(fmt.Sprint(a...)) }

// sink keeps what was sent.
type sink struct{ frames [][]byte }

func (*sink) Buffer() []byte        { return make([]byte, 0, FrameSize) }
func (s *sink) Send(b []byte) error { s.frames = append(s.frames, b); return nil }

func list(t interface{ Fatalf(string, ...any) }, v *View, q Query) (out []*ctlv1.JobInfo) {
	var s sink
	if _, err := v.List(q, &s); err != nil {
		t.Fatalf("%v", err)
	}
	for _, b := range s.frames {
		var r ctlv1.JobsReply
		if err := proto.Unmarshal(b, &r); err != nil {
			t.Fatalf("%v", err)
		}
		if r.GetNow() != int64(q.Now) {
			t.Fatalf("now %d", r.GetNow())
		}
		out = append(out, r.GetJobs()...)
	}
	return out
}

func TestListings(t *testing.T) {
	x := newTruth(t, cluster.Settings{Cluster: "c", MaxArraySize: 1000, MinJobAge: 300})
	first := x.submit(t, spec(1))
	second := x.submit(t, spec(2))
	held := spec(1)
	held.Hold = true
	third := x.submit(t, held)
	array := spec(1)
	array.Array = "0-9"
	fourth := x.submit(t, array)
	x.start(second, 0, 0)
	look := &wlm.Outlook{Reason: wlm.WaitResources, Text: "needs 4 nodes", Start: 5000, Nodes: "n[1-2]", Rank: 7}
	x.view.SetOutlooks(map[wlm.JobID]*wlm.Outlook{first: look, second: look, third: look})

	for range 2 { // the second time from what is kept
		lean := list(t, x.view, Query{Now: 77})
		if len(lean) != 4 {
			t.Fatalf("%d jobs", len(lean))
		}
		want := &wlmv1.Outlook{Reason: uint32(look.Reason), Start: 5000, Nodes: "n[1-2]", Rank: 7}
		if !proto.Equal(lean[0].GetOutlook(), want) || lean[1].GetOutlook() != nil || lean[2].GetOutlook() != nil {
			t.Errorf("outlooks %v, %v, %v", lean[0].GetOutlook(), lean[1].GetOutlook(), lean[2].GetOutlook())
		}
		for i, info := range lean {
			if len(info.ProtoReflect().GetUnknown()) > 0 {
				t.Errorf("job %d has unknown fields", i)
			}
			if info.GetJob().GetSpec().GetName() != "job" || info.GetJob().GetSpec().GetSubmitLine() != "" || info.GetJob().GetEnv() != nil {
				t.Errorf("lean job %v", info.GetJob())
			}
		}
		if lean[1].GetNodelist() != "n1" || lean[1].GetJob().GetAllocTres() == "" {
			t.Errorf("running job %v", lean[1])
		}
	}
	whole := list(t, x.view, Query{Whole: true, Decorate: func(j *wlm.Job, i *ctlv1.JobInfo) {
		i.Addrs = append(i.Addrs, &ctlv1.NodeAddr{Name: j.ID.String()})
	}})
	for i, id := range []wlm.JobID{first, second, third, fourth} {
		want := x.view.Info(x.view.Job(id))
		want.Addrs = []*ctlv1.NodeAddr{{Name: id.String()}}
		if !proto.Equal(whole[i], want) {
			t.Errorf("whole job %v, want %v", whole[i], want)
		}
	}
	some := list(t, x.view, Query{Filter: &ctlv1.JobFilter{Users: []uint32{2}}})
	if len(some) != 1 || some[0].GetJob().GetId() != uint32(second) {
		t.Errorf("jobs of user 2: %v", some)
	}
	byRef := list(t, x.view, Query{Filter: &ctlv1.JobFilter{Refs: []*ctlv1.JobRef{
		{Job: uint32(fourth), Tasks: []*wlmv1.IDRange{{First: 2, Last: 3, Step: 1}}}, {Job: uint32(first)}, {Job: uint32(first)}}}})
	if len(byRef) != 2 || byRef[0].GetJob().GetId() != uint32(first) || byRef[1].GetJob().GetArrayTasks()[0].GetLast() != 3 {
		t.Errorf("by reference: %v", byRef)
	}
	if missing, err := x.view.List(Query{Filter: &ctlv1.JobFilter{Refs: []*ctlv1.JobRef{{Job: 999}}}}, &sink{}); err != nil || len(missing) != 1 {
		t.Errorf("missing %v, error %v", missing, err)
	}
	if _, err := x.view.List(Query{Filter: &ctlv1.JobFilter{Nodes: []string{"n[1"}}}, &sink{}); err == nil {
		t.Error("a bad host list was accepted")
	}
}

// The hand-made encoding must know every field that the message has.
func TestFieldNumbers(t *testing.T) {
	tests := []struct {
		m    proto.Message
		want map[string]int
	}{
		{&ctlv1.JobsReply{}, map[string]int{"jobs": replyJobs, "now": replyNow}},
		{&ctlv1.JobInfo{}, map[string]int{"job": infoJob, "outlook": infoLook, "nodelist": infoNodes, "addrs": 4}},
		{&wlmv1.Outlook{}, map[string]int{"reason": lookReason, "text": lookText, "start": lookStart, "nodes": lookNodes, "rank": lookRank, "words": lookWords}},
	}
	for _, tt := range tests {
		fields := tt.m.ProtoReflect().Descriptor().Fields()
		got := map[string]int{}
		for i := range fields.Len() {
			got[string(fields.Get(i).Name())] = int(fields.Get(i).Number())
		}
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%T has fields %v, this package knows %v", tt.m, got, tt.want)
		}
	}
}

func TestNodesAndPartitions(t *testing.T) {
	x := newTruth(t, cluster.Settings{Cluster: "c", MinJobAge: 300})
	id := x.submit(t, spec(1))
	x.start(id, 1, 3)
	x.view.SetLoad("n2", 150, 321, 2000)
	all, err := x.view.Nodes("")
	if err != nil || len(all) != nodes {
		t.Fatalf("%d nodes, error %v", len(all), err)
	}
	n := all[1]
	if n.GetAllocCpus() != 1 || n.GetAllocMem() != 10 || n.GetRunningJobs() != 1 || n.GetNode().GetCpuLoad() != 150 ||
		n.GetNode().GetFreeMem() != 321 || n.GetNode().GetLastHeard() != 2000 || !slices.Equal(n.GetPartitions(), []string{"p"}) {
		t.Errorf("node %v", n)
	}
	x.must(t, &cluster.Kill{Filter: &ctlv1.JobFilter{Refs: []*ctlv1.JobRef{{Job: uint32(id)}}}, Caller: cluster.Caller{Admin: true}})
	some, err := x.view.Nodes("n[3,2],n2")
	if err != nil || len(some) != 2 || some[0].GetNode().GetName() != "n2" || some[0].GetRunningJobs() != 0 || some[0].GetCompletingJobs() != 1 {
		t.Errorf("nodes %v, error %v", some, err)
	}
	for _, bad := range []string{"n9", "n[1"} {
		if _, err := x.view.Nodes(bad); errs.CodeOf(err) != errs.InvalidNodeName {
			t.Errorf("%s: error %v", bad, err)
		}
	}
	p, err := x.view.Partitions("p")
	if err != nil || len(p) != 1 || p[0].GetTotalNodes() != 4 || p[0].GetTotalCpus() != 32 || p[0].GetTotalMem() != 4000 {
		t.Errorf("partition %v, error %v", p, err)
	}
	if _, err := x.view.Partitions("q"); errs.CodeOf(err) != errs.InvalidPartition {
		t.Errorf("error %v", err)
	}
}

func TestWatch(t *testing.T) {
	x := newTruth(t, cluster.Settings{Cluster: "c", MinJobAge: 300})
	w := x.view.Watch()
	id := x.submit(t, spec(1))
	items, err := w.Next(t.Context())
	if err != nil || len(items) != 1 { // neither script nor environment
		t.Fatalf("%d items, error %v", len(items), err)
	}
	if m := items[0].Message(); m.GetJob().GetId() != uint32(id) || m.GetJob().GetSpec() == nil {
		t.Errorf("event %v", m)
	}
	for range 2 * ringSize { // nobody reads, and nobody waits for that
		x.view.Publish([]*cluster.Event{{Kind: 2, Job: x.Job(id)}})
	}
	if _, err := w.Next(t.Context()); !errors.Is(err, ErrLagged) {
		t.Fatalf("error %v", err)
	}
	x.submit(t, spec(1))
	if items, err := w.Next(t.Context()); err != nil || len(items) != 1 {
		t.Errorf("after lagging: %d items, error %v", len(items), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	w.Close()
	if x.view.hub.mu.ring[0] != nil || x.view.hub.mu.watchers != 0 {
		t.Error("events are kept for nobody")
	}
	w = x.view.Watch()
	defer w.Close()
	x.view.Seed(&x.Tables)
	if _, err := w.Next(t.Context()); !errors.Is(err, ErrLagged) {
		t.Errorf("after a seed: error %v", err)
	}
}

func TestWatchJob(t *testing.T) {
	x := newTruth(t, cluster.Settings{Cluster: "c", MaxArraySize: 100, MinJobAge: 300})
	if _, err := x.view.WatchJob(77); errs.CodeOf(err) != errs.InvalidJobID {
		t.Errorf("error %v", err)
	}
	if len(x.view.hub.mu.jobs) != 0 {
		t.Error("a refused watch is kept")
	}
	s := spec(1)
	s.Array = "0-1"
	id := x.submit(t, s)
	w, err := x.view.WatchJob(id)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	next := func(states ...wlm.JobState) (over bool) {
		t.Helper()
		jobs, over, err := w.Next(t.Context())
		var got []wlm.JobState
		for _, j := range jobs {
			got = append(got, j.State)
		}
		if err != nil || !slices.Equal(got, states) {
			t.Fatalf("states %v, error %v, want %v", got, err, states)
		}
		return over
	}
	next(wlm.Pending)
	x.start(id, 0, 0)
	next(wlm.Pending, wlm.Running)
	x.start(id, 0, 1)
	next(wlm.Running)
	for _, j := range x.ArrayRecords(id) {
		x.ended(j, 0)
	}
	if over := next(wlm.Completed, wlm.Completed); !over {
		t.Error("the array is not over")
	}
	x.now += 1000
	x.must(t, &cluster.Tick{})
	if jobs, over, err := w.Next(t.Context()); len(jobs) != 0 || !over || err != nil {
		t.Errorf("after the purge: %v, %v, error %v", jobs, over, err)
	}
}

// Readers, watchers and the publisher at once, for the race detector.
func TestConcurrency(t *testing.T) {
	x := newTruth(t, cluster.Settings{Cluster: "c", MinJobAge: 1})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				switch i {
				case 0, 1:
					list(t, x.view, Query{Whole: i == 1})
				case 2:
					x.view.Nodes("")                 //nolint:errcheck // only for races
					x.view.Steps(&ctlv1.JobFilter{}) //nolint:errcheck // only for races
					x.view.SetLoad("n1", 1, 1, 1)    // as the fleet does
					x.view.SetOutlooks(map[wlm.JobID]*wlm.Outlook{5: {Reason: 1}})
				case 3:
					w := x.view.Watch()
					w.Next(ctx) //nolint:errcheck // only for races
					w.Close()
				}
			}
		})
	}
	deadline := time.Now().Add(time.Second)
	for i := 0; time.Now().Before(deadline); i++ {
		id := x.submit(t, spec(1))
		x.start(id, i%nodes, i%8)
		if j := x.Job(id); j.State == wlm.Running {
			x.ended(j, 0)
		}
		if i%100 == 0 {
			x.now += 10
			x.must(t, &cluster.Tick{})
		}
	}
	cancel()
	wg.Wait()
	x.check(t)
}

func TestIndexKeepsOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var x index
		want := map[wlm.JobID]*wlm.Job{}
		seed := rapid.Uint64().Draw(t, "seed")
		r := rand.New(rand.NewPCG(seed, 1))
		var pic picture
		var kept []*wlm.Job
		for i := range 3000 {
			id := wlm.JobID(r.IntN(2500))
			if r.IntN(3) == 0 {
				x.drop(id)
				delete(want, id)
			} else {
				j := &wlm.Job{ID: id}
				x.put(j)
				want[id] = j
			}
			if i == 1500 {
				pic = x.picture()
				kept = slices.Collect(pic.all)
			}
		}
		if !slices.Equal(slices.Collect(pic.all), kept) {
			t.Fatal("a picture changed")
		}
		n := 0
		last := wlm.JobID(0)
		for j := range picture(x.chunks).all {
			if want[j.ID] != j || n > 0 && j.ID <= last {
				t.Fatalf("job %d is wrong", j.ID)
			}
			n, last = n+1, j.ID
		}
		if n != len(want) {
			t.Fatalf("%d jobs, want %d", n, len(want))
		}
	})
}

func benchView(b *testing.B, jobs int) *truth {
	x := newTruth(b, cluster.Settings{Cluster: "c", MinJobAge: 300})
	looks := map[wlm.JobID]*wlm.Outlook{}
	for range jobs {
		looks[x.submit(b, spec(1))] = &wlm.Outlook{Reason: wlm.WaitResources, Start: 5000, Nodes: "n1", Rank: 7, Text: "needs a node"}
	}
	x.view.SetOutlooks(looks)
	return x
}

type discard struct {
	buf   []byte
	bytes int
}

func (d *discard) Buffer() []byte      { return d.buf[:0] }
func (d *discard) Send(b []byte) error { d.buf, d.bytes = b, d.bytes+len(b); return nil }

func BenchmarkList100k(b *testing.B) {
	x := benchView(b, 100_000)
	for _, whole := range []bool{false, true} {
		b.Run(fmt.Sprintf("whole=%v", whole), func(b *testing.B) {
			d := &discard{buf: make([]byte, 0, 2*FrameSize)}
			x.view.List(Query{Whole: whole}, d) //nolint:errcheck // never fails
			d.bytes = 0
			for b.Loop() {
				x.view.List(Query{Whole: whole}, d) //nolint:errcheck // never fails
			}
			b.ReportMetric(float64(d.bytes)/float64(b.N), "bytes/list")
		})
	}
}

// BenchmarkPublish is what a submission costs the view, alone and beside
// readers that list 100,000 jobs.
func BenchmarkPublish(b *testing.B) {
	for _, readers := range []int{0, 1} {
		b.Run(fmt.Sprintf("readers=%d", readers), func(b *testing.B) {
			x := benchView(b, 100_000)
			ctx, cancel := context.WithCancel(b.Context())
			var wg sync.WaitGroup
			for range readers {
				wg.Go(func() {
					d := &discard{buf: make([]byte, 0, 2*FrameSize)}
					for ctx.Err() == nil {
						x.view.List(Query{}, d) //nolint:errcheck // never fails
					}
				})
			}
			j := x.Job(1)
			e := []*cluster.Event{{Kind: 1}}
			id := x.NextJob
			for b.Loop() {
				n := j.Clone()
				n.ID = id
				id++
				e[0].Job = n
				x.view.Publish(e)
			}
			cancel()
			wg.Wait()
		})
	}
}
