// Package schedtest is the conformance suite of schedulers. [Run] holds one to
// the contract of sdk/sched in this process, through the adapters of both ends;
// [RunBinary] does the same to a built program. Each failure is explained in a
// sentence.
//
// The suite asks for nothing that is policy: a scheduler may order and leave
// out as it likes, as long as what it lists makes sense.
package schedtest

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
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Run runs the suite. open returns a new scheduler for each test.
func Run(t *testing.T, open func(t *testing.T) sched.Scheduler) {
	run(t, func(t *testing.T) plugintest.Feeder { return wirecall.NewLocal(sched.Handler(open(t))) })
	t.Run("an-ended-context-is-no-error", func(t *testing.T) { testEnded(t, open(t)) })
	t.Run("the-view-stays-as-it-is", func(t *testing.T) { testView(t, open(t)) })
}

// RunBinary runs the suite on a program, started with options for each test.
func RunBinary(t *testing.T, path string, options map[string]string) {
	t.Run("program", func(t *testing.T) { plugintest.Run(t, path, sched.Kind, options) })
	run(t, func(t *testing.T) plugintest.Feeder { return plugintest.Start(t, path, sched.Kind, options) })
}

func run(t *testing.T, open func(t *testing.T) plugintest.Feeder) {
	for _, test := range []struct {
		name string
		run  func(*subject)
	}{
		{"an empty cluster has an empty agenda", testEmpty},
		{"a lone ready job is listed", testLone},
		{"jobs that cannot start are not listed", testNotReady},
		{"the agenda follows the cluster", testFollows},
		{"the same view gives the same agenda", testSame},
		{"ten thousand jobs are planned in time", testMany},
		{"random clusters have sensible agendas", testRandom},
	} {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) { test.run(&subject{T: t, plugin: open(t)}) })
	}
}

// subject is the scheduler of one test.
type subject struct {
	*testing.T
	plugin plugintest.Feeder
}

// plan feeds what changed and returns a checked agenda.
func (s *subject) plan(c *mirrortest.Cluster) sched.Agenda {
	s.Helper()
	frames, rev := c.Frames()
	if err := s.plugin.PushState(frames); err != nil {
		s.Fatalf("the plugin must take the state of the cluster: %v", err)
	}
	return s.planAt(c, rev)
}

func (s *subject) planAt(c *mirrortest.Cluster, rev uint64) sched.Agenda {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), time.Minute)
	defer cancel()
	a, err := sched.NewClient(s.plugin).Plan(ctx, rev, c.Now)
	if err != nil {
		s.Fatalf("Plan must not fail: an error means a broken plugin, not a full cluster: %v", err)
	}
	s.check(c, a)
	return a
}

func (s *subject) check(c *mirrortest.Cluster, a sched.Agenda) {
	s.Helper()
	if a.Reservations < 0 {
		s.Errorf("Reservations must not be negative, it is %d", a.Reservations)
	}
	seen := map[wlm.JobID]bool{}
	for i, e := range a.Entries {
		j := c.Jobs[e.Job]
		switch {
		case j == nil:
			s.Errorf("entry %d: there is no job %d; a plugin must not keep jobs that the mirror forgot", i, e.Job)
			return
		case j.Running:
			s.Errorf("entry %d: job %d runs already", i, e.Job)
		case !j.Ready:
			s.Errorf("entry %d: job %d is not ready (held or waiting for something); trying it is in vain", i, e.Job)
		case seen[e.Job]:
			s.Errorf("entry %d: job %d is listed twice; an array is listed once for all its tasks", i, e.Job)
		}
		seen[e.Job] = true
		nodes := append(append([]wlm.NodeIndex(nil), e.Prefer...), e.Avoid...)
		for _, u := range e.Placement {
			nodes = append(nodes, u.Node)
		}
		for _, n := range nodes {
			if int(n) >= len(c.Nodes) {
				s.Errorf("entry %d: job %d names node %d of %d", i, e.Job, n, len(c.Nodes))
			}
		}
	}
}

func testEmpty(s *subject) {
	if a := s.plan(mirrortest.New(3, 4, 1000)); len(a.Entries) != 0 {
		s.Errorf("a cluster without jobs must have an empty agenda, got %v", a.Entries)
	}
}

func testLone(s *subject) {
	c := mirrortest.New(3, 4, 1000)
	j := c.Submit(mirror.Class{}, 3600)
	if a := s.plan(c); len(a.Entries) != 1 || a.Entries[0].Job != j.ID {
		s.Errorf("a job that is ready on an idle cluster must be listed, or it never starts; got %v", a.Entries)
	}
}

func testNotReady(s *subject) {
	c := mirrortest.New(3, 4, 1000)
	held := *c.Submit(mirror.Class{}, 3600)
	held.Ready, held.Held, held.Priority = false, true, 0
	c.Put(&held)
	runs := c.Submit(mirror.Class{}, 3600)
	c.Run(runs, 0, mirrortest.Cores(0, 0, 1, 100))
	if a := s.plan(c); len(a.Entries) != 0 {
		s.Errorf("held and running jobs must not be listed, got %v", a.Entries)
	}
}

func testFollows(s *subject) {
	c := mirrortest.New(3, 4, 1000)
	a, b := c.Submit(mirror.Class{}, 3600), c.Submit(mirror.Class{}, 3600)
	s.plan(c)
	c.Run(a, 0, mirrortest.Cores(0, 0, 1, 100))
	c.Drop(b.ID)
	last := c.Submit(mirror.Class{}, 3600)
	if got := s.plan(c); len(got.Entries) != 1 || got.Entries[0].Job != last.ID {
		s.Errorf("after one job started and one was cancelled, only the new one must be listed, got %v", got.Entries)
	}
}

func testSame(s *subject) {
	c := mirrortest.Random(mirrortest.Rand(s.T))
	frames, rev := c.Frames()
	if err := s.plugin.PushState(frames); err != nil {
		s.Fatal(err)
	}
	if a, b := s.planAt(c, rev), s.planAt(c, rev); !reflect.DeepEqual(a, b) {
		s.Errorf("the same view at the same time must give the same agenda: passes are repeated and compared\nfirst  %v\nsecond %v", a, b)
	}
}

func testMany(s *subject) {
	c := mirrortest.New(100, 16, 64000)
	for i := range 10000 {
		c.Submit(mirror.Class{MinNodes: uint32(1 + i%7)}, uint32(60+i%1000))
	}
	if a := s.plan(c); len(a.Entries) == 0 {
		s.Error("ten thousand ready jobs must not give an empty agenda")
	}
}

func testRandom(s *subject) {
	r := mirrortest.Rand(s.T)
	c := mirrortest.Random(r)
	for range 50 {
		c.Step(r)
		s.plan(c)
	}
}

func testEnded(t *testing.T, s sched.Scheduler) {
	c := mirrortest.New(3, 4, 1000)
	c.Submit(mirror.Class{}, 3600)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Plan(ctx, view(t, c)); err != nil {
		t.Errorf("when its context ends Plan must return what it has and no error, got %v", err)
	}
}

func view(t *testing.T, c *mirrortest.Cluster) mirror.View {
	t.Helper()
	m := new(mirror.Mirror)
	frames, _ := c.Frames()
	for _, f := range frames {
		if _, err := m.ApplyBytes(f); err != nil {
			t.Fatal(err)
		}
	}
	return m.View(c.Now)
}

func testView(t *testing.T, s sched.Scheduler) {
	c := mirrortest.Random(mirrortest.Rand(t))
	v := view(t, c)
	before := snapshot(v)
	if _, err := s.Plan(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(before, snapshot(v)) {
		t.Error("Plan must not change the view: others read it, and changes never reach the cluster")
	}
}

func snapshot(v mirror.View) []any {
	jobs := map[wlm.JobID]mirror.Job{}
	for j := range v.Pending() {
		jobs[j.ID] = *j
	}
	for j := range v.Running() {
		jobs[j.ID] = *j
	}
	return []any{jobs, append([]mirror.Node(nil), v.Nodes...), append([]mirror.Partition(nil), v.Partitions...)}
}
