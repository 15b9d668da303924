// Package selectortest is the conformance suite of selectors. [Run] holds one to
// the contract of sdk/selector in this process, through the adapters of both
// ends; [RunBinary] does the same to a built program. Each failure is explained
// in a sentence.
//
// Whatever a selector's taste in nodes, its placements must be lawful (what they
// use exists, is free and belongs to the job's partition) and the three answers
// to a blocked job (Skip, Stop, Reserve) must mean what package sched says.
package selectortest

import (
	"context"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/mirror/mirrortest"
	"github.com/sluice-hpc/sluice/sdk/plugin/plugintest"
	"github.com/sluice-hpc/sluice/sdk/plugin/wirecall"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/selector"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Run runs the suite. open returns a new selector for each test.
func Run(t *testing.T, open func(t *testing.T) selector.Selector) {
	run(t, func(t *testing.T) plugintest.Feeder { return wirecall.NewLocal(selector.Handler(open(t))) })
}

// RunBinary runs the suite on a program, started with options for each test.
func RunBinary(t *testing.T, path string, options map[string]string) {
	t.Run("program", func(t *testing.T) { plugintest.Run(t, path, selector.Kind, options) })
	run(t, func(t *testing.T) plugintest.Feeder { return plugintest.Start(t, path, selector.Kind, options) })
}

func run(t *testing.T, open func(t *testing.T) plugintest.Feeder) {
	for _, test := range []struct {
		name string
		run  func(*subject)
	}{
		{"an empty agenda starts nothing", testEmpty},
		{"a job that fits starts", testFits},
		{"jobs share a cluster without overlap", testNoOverlap},
		{"a bound on starts is kept", testMaxStarts},
		{"a skipped job lets others pass", testSkip},
		{"a stopped partition starts nothing more", testStop},
		{"a reservation is not delayed", testReserve},
		{"a job that can never run is refused with a text", testNever},
		{"a down partition starts nothing", testDownPartition},
		{"arrays start up to their number of tasks", testArray},
		{"counters are kept", testCounters},
		{"what-if starts nothing", testWhatIf},
		{"the same question gets the same answer", testSame},
		{"random clusters get lawful placements", testRandom},
	} {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) { test.run(&subject{T: t, plugin: open(t)}) })
	}
}

type subject struct {
	*testing.T
	plugin plugintest.Feeder
}

// place feeds what changed, asks and returns a checked answer.
func (s *subject) place(c *mirrortest.Cluster, r selector.Request) selector.Result {
	s.Helper()
	frames, rev := c.Frames()
	if err := s.plugin.PushState(frames); err != nil {
		s.Fatalf("the plugin must take the state of the cluster: %v", err)
	}
	return s.placeAt(c, rev, r)
}

func (s *subject) placeAt(c *mirrortest.Cluster, rev uint64, r selector.Request) selector.Result {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), time.Minute)
	defer cancel()
	got, err := selector.NewClient(s.plugin).Place(ctx, rev, c.Now, r)
	if err != nil {
		s.Fatalf("Place must not fail: what does not fit gets a verdict: %v", err)
	}
	s.check(c, r, got)
	return got
}

// agenda lists jobs with one answer to "when blocked".
func agenda(when sched.WhenBlocked, jobs ...*mirror.Job) sched.Agenda {
	a := sched.Agenda{Reservations: 1}
	for _, j := range jobs {
		a.Add(j.ID, when)
	}
	return a
}

func starts(r selector.Result, id wlm.JobID) int {
	n := 0
	for _, p := range r.Placements {
		if p.Job == id {
			n++
		}
	}
	return n
}

func verdict(r selector.Result, id wlm.JobID) *selector.Verdict {
	for i := range r.Verdicts {
		for _, j := range r.Verdicts[i].Jobs {
			if j == id {
				return &r.Verdicts[i]
			}
		}
	}
	return nil
}

func testEmpty(s *subject) {
	c := mirrortest.New(2, 4, 1000)
	c.Submit(mirror.Class{}, 3600)
	if r := s.place(c, selector.Request{}); len(r.Placements) != 0 {
		s.Errorf("only jobs of the agenda may start, got %v", r.Placements)
	}
}

func testFits(s *subject) {
	c := mirrortest.New(2, 4, 1000)
	j := c.Submit(mirror.Class{MinNodes: 2, NTasks: 4, MemPerNode: 500}, 3600)
	r := s.place(c, selector.Request{Agenda: agenda(sched.Skip, j)})
	if starts(r, j.ID) != 1 || len(r.Placements[0].Uses) != 2 {
		s.Errorf("a job of two nodes must start on the two idle ones, got %v, verdicts %v", r.Placements, r.Verdicts)
	}
}

func testNoOverlap(s *subject) {
	c := mirrortest.New(4, 8, 8000)
	var jobs []*mirror.Job
	for range 50 {
		jobs = append(jobs, c.Submit(mirror.Class{NTasks: 3, MemPerCPU: 500}, 3600))
	}
	r := s.place(c, selector.Request{Agenda: agenda(sched.Skip, jobs...)})
	if n := len(r.Placements); n < 4 || n > 8 {
		s.Errorf("four nodes of 8 cores hold 4 to 8 jobs of 3 cores, %d started", n)
	}
}

func testMaxStarts(s *subject) {
	c := mirrortest.New(4, 8, 8000)
	a := agenda(sched.Skip, c.Submit(mirror.Class{}, 60), c.Submit(mirror.Class{}, 60), c.Submit(mirror.Class{}, 60))
	if r := s.place(c, selector.Request{Agenda: a, MaxStarts: 2}); len(r.Placements) != 2 {
		s.Errorf("of three jobs that fit MaxStarts lets two start, %d did", len(r.Placements))
	}
}

// halfBusy is a cluster of two nodes, one busy for an hour, and a job that needs both.
func halfBusy() (*mirrortest.Cluster, *mirror.Job) {
	c := mirrortest.New(2, 4, 4000)
	busy := c.Submit(mirror.Class{NTasks: 4}, 3600)
	use := mirrortest.Cores(0, 0, 4, 4000)
	use.Whole = true
	c.Run(busy, 0, use)
	return c, c.Submit(mirror.Class{MinNodes: 2, NTasks: 8}, 3600)
}

func testSkip(s *subject) {
	c, wide := halfBusy()
	small := c.Submit(mirror.Class{}, 36000)
	r := s.place(c, selector.Request{Agenda: agenda(sched.Skip, wide, small)})
	if starts(r, wide.ID) != 0 || starts(r, small.ID) != 1 {
		s.Errorf("Skip: the wide job must wait and the small one behind it start, got %v", r.Placements)
	}
	if v := verdict(r, wide.ID); v == nil || v.Reason == wlm.ReasonNone {
		s.Errorf("a job that was tried and waits must have a verdict with a reason, got %v", r.Verdicts)
	}
}

func testStop(s *subject) {
	c, wide := halfBusy()
	p := c.AddPartition("other", 1)
	behind := c.Submit(mirror.Class{}, 60)
	elsewhere := c.Submit(mirror.Class{Partitions: []int{p}}, 60)
	r := s.place(c, selector.Request{Agenda: agenda(sched.Stop, wide, behind, elsewhere)})
	if starts(r, behind.ID) != 0 {
		s.Errorf("Stop: nothing of the blocked job's partition behind it may start, job %d did", behind.ID)
	}
	if starts(r, elsewhere.ID) != 1 {
		s.Errorf("Stop: a job of another partition must start, got %v, verdicts %v", r.Placements, r.Verdicts)
	}
}

func testReserve(s *subject) {
	c, wide := halfBusy()
	long := c.Submit(mirror.Class{}, 10*3600)
	short := c.Submit(mirror.Class{}, 600)
	r := s.place(c, selector.Request{Agenda: agenda(sched.Reserve, wide, long, short)})
	if starts(r, long.ID) != 0 {
		s.Error("Reserve: a job of ten hours on the free node would delay the reserved one, which can start in one hour")
	}
	if starts(r, short.ID) != 1 {
		s.Errorf("Reserve: a job of ten minutes delays nobody and must start, got %v, verdicts %v", r.Placements, r.Verdicts)
	}
	const slack = 600 // a selector may plan in steps
	if v := verdict(r, wide.ID); v == nil || v.Start < c.Now+3600 || v.Start > c.Now+3600+slack {
		s.Errorf("the reserved job must have a forecast for the end of the running one, in an hour, got %v", r.Verdicts)
	}
}

func testNever(s *subject) {
	c := mirrortest.New(2, 4, 1000)
	for _, q := range []mirror.Class{{MinNodes: 3}, {NTasks: 100}, {MemPerNode: 99999}, {Features: "nosuch"}, {ReqNodes: "elsewhere"}} {
		j := c.Submit(q, 3600)
		r := s.place(c, selector.Request{Agenda: agenda(sched.Skip, j)})
		if v := verdict(r, j.ID); len(r.Placements) != 0 || v == nil || v.Reason == wlm.ReasonNone || v.Start != 0 {
			s.Errorf("a job that no state of the cluster could start (%+v) must have a verdict with a reason and no forecast, got %v, %v",
				q, r.Placements, r.Verdicts)
		}
	}
}

func testDownPartition(s *subject) {
	c := mirrortest.New(2, 4, 1000)
	c.Partitions[0].Starts = false
	j := c.Submit(mirror.Class{}, 3600)
	if r := s.place(c, selector.Request{Agenda: agenda(sched.Skip, j)}); len(r.Placements) != 0 {
		s.Error("a partition whose state lets no job start must start none")
	}
}

func testArray(s *subject) {
	c := mirrortest.New(4, 4, 4000)
	j := *c.Submit(mirror.Class{}, 3600)
	j.Tasks = 3
	c.Put(&j)
	if r := s.place(c, selector.Request{Agenda: agenda(sched.Skip, &j)}); starts(r, j.ID) != 3 {
		s.Errorf("all three tasks of an array fit and must start, each with a placement of its own; %d did", starts(r, j.ID))
	}
}

func testCounters(s *subject) {
	c := mirrortest.New(4, 4, 4000)
	c.Counters = []mirror.Counter{{ID: 1, Name: "license/matlab", Capacity: 5, Reason: wlm.WaitLicenses}}
	use := []mirror.CounterUse{{Counter: 1, Amount: 2}}
	var jobs []*mirror.Job
	for range 4 {
		jobs = append(jobs, c.Submit(mirror.Class{Counters: use}, 3600))
	}
	r := s.place(c, selector.Request{Agenda: agenda(sched.Skip, jobs...)})
	if len(r.Placements) != 2 {
		s.Errorf("a counter of 5 lets two jobs of 2 each start, %d did", len(r.Placements))
	}
	if v := verdict(r, jobs[3].ID); v == nil || v.Reason != wlm.WaitLicenses {
		s.Errorf("a job that waits for a counter must have the counter's reason, got %v", r.Verdicts)
	}
}

func testWhatIf(s *subject) {
	c, _ := halfBusy()
	frames, rev := c.Frames()
	if err := s.plugin.PushState(frames); err != nil {
		s.Fatal(err)
	}
	ask := func(q mirror.Class) selector.Result {
		ctx, cancel := context.WithTimeout(s.Context(), time.Minute)
		defer cancel()
		q.ID, q.Partitions, q.CoreSpec = 9999, []int{0}, wlm.Unset
		q.MaxNodes, q.NTasks, q.CPUsPerTask = q.MinNodes, q.MinNodes, 1
		r, err := selector.NewClient(s.plugin).WhatIf(ctx, rev, c.Now, &mirror.Job{ID: 9999, Class: &q, Ready: true, Limit: 60, Tasks: 1, User: 1000})
		if err != nil {
			s.Fatalf("WhatIf must not fail: %v", err)
		}
		return r
	}
	for range 2 { // twice: the first answer must not take the node
		if r := ask(mirror.Class{MinNodes: 1}); len(r.Placements) != 1 {
			s.Errorf("a job that could start now must get a placement, got %v, verdicts %v", r.Placements, r.Verdicts)
		}
	}
	if r := ask(mirror.Class{MinNodes: 2}); len(r.Placements) != 0 || len(r.Verdicts) != 1 || r.Verdicts[0].Start < c.Now+3600 {
		s.Errorf("a job that could start in an hour must get a verdict with that forecast, got %v, verdicts %v", r.Placements, r.Verdicts)
	}
	if r := ask(mirror.Class{MinNodes: 50}); len(r.Placements) != 0 || len(r.Verdicts) != 1 || r.Verdicts[0].Start != 0 {
		s.Errorf("a job that could never start must get a verdict without a forecast, got %v, verdicts %v", r.Placements, r.Verdicts)
	}
}

func testSame(s *subject) {
	c := mirrortest.Random(mirrortest.Rand(s.T))
	frames, rev := c.Frames()
	if err := s.plugin.PushState(frames); err != nil {
		s.Fatal(err)
	}
	q := selector.Request{Agenda: agenda(sched.Reserve, c.Ready()...)}
	if a, b := s.placeAt(c, rev, q), s.placeAt(c, rev, q); !reflect.DeepEqual(a, b) {
		s.Errorf("the same question about the same view must get the same answer: passes are repeated and compared\nfirst  %+v\nsecond %+v", a, b)
	}
}

// testRandom plays passes on random clusters: what was placed runs in the next
// pass. Each cluster begins with a snapshot.
func testRandom(s *subject) {
	r := mirrortest.Rand(s.T)
	for range 10 {
		c := mirrortest.Random(r)
		frames, _ := c.Reset()
		if err := s.plugin.PushState(frames); err != nil {
			s.Fatalf("the plugin must take a snapshot at any time: %v", err)
		}
		for range 8 {
			a := agenda(sched.WhenBlocked(r.IntN(3)), c.Ready()...)
			a.Reservations = r.IntN(3)
			got := s.place(c, selector.Request{Agenda: a, MaxStarts: r.IntN(2) * 3})
			if s.Failed() {
				return
			}
			for _, p := range got.Placements {
				if j := c.Jobs[p.Job]; j.Tasks == 1 {
					c.Run(j, p.Partition, p.Uses...)
				}
			}
			c.Step(r)
		}
	}
}
