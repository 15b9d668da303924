// Package prioritytest is the conformance suite of prioritizers. [Run] holds
// one to the contract of sdk/priority in this process, through the adapters of
// both ends; [RunBinary] does the same to a built program. Each failure is
// explained in a sentence.
package prioritytest

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/mirror/mirrortest"
	"github.com/sluice-hpc/sluice/sdk/plugin/plugintest"
	"github.com/sluice-hpc/sluice/sdk/plugin/wirecall"
	"github.com/sluice-hpc/sluice/sdk/priority"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Run runs the suite. open returns a new prioritizer for each test.
func Run(t *testing.T, open func(t *testing.T) priority.Prioritizer) {
	run(t, func(t *testing.T) plugintest.Feeder { return wirecall.NewLocal(priority.Handler(open(t))) })
}

// RunBinary runs the suite on a program, started with options for each test.
func RunBinary(t *testing.T, path string, options map[string]string) {
	t.Run("program", func(t *testing.T) { plugintest.Run(t, path, priority.Kind, options) })
	run(t, func(t *testing.T) plugintest.Feeder { return plugintest.Start(t, path, priority.Kind, options) })
}

func run(t *testing.T, open func(t *testing.T) plugintest.Feeder) {
	for _, test := range []struct {
		name string
		run  func(*subject)
	}{
		{"an empty cluster has no ranks", testEmpty},
		{"a new job gets a priority", testNew},
		{"every unranked job is ranked", testAll},
		{"only the jobs asked for are ranked", testListed},
		{"unknown and running jobs are left out", testUnknown},
		{"ten thousand jobs are ranked in time", testMany},
		{"random clusters have sensible ranks", testRandom},
	} {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) { test.run(&subject{T: t, plugin: open(t)}) })
	}
}

type subject struct {
	*testing.T
	plugin plugintest.Feeder
}

// rank feeds what changed and returns a checked ranking, by job.
func (s *subject) rank(c *mirrortest.Cluster, r priority.Request) map[wlm.JobID]uint32 {
	s.Helper()
	frames, rev := c.Frames()
	if err := s.plugin.PushState(frames); err != nil {
		s.Fatalf("the plugin must take the state of the cluster: %v", err)
	}
	ctx, cancel := context.WithTimeout(s.Context(), time.Minute)
	defer cancel()
	got, err := priority.NewClient(s.plugin).Rank(ctx, rev, c.Now, r)
	if err != nil {
		s.Fatalf("Rank must not fail, and its columns must be of one length: %v", err)
	}
	ranks := map[wlm.JobID]uint32{}
	for i, id := range got.Jobs {
		if j := c.Jobs[id]; j == nil || j.Running {
			s.Errorf("job %d is not pending: only pending jobs are ranked", id)
		}
		if got.Priorities[i] == 0 {
			s.Errorf("job %d got priority 0, which would hold it; the lowest is 1", id)
		}
		if _, twice := ranks[id]; twice {
			s.Errorf("job %d is ranked twice", id)
		}
		ranks[id] = got.Priorities[i]
		if len(got.Factors) > 0 {
			for k, f := range got.Factors[i] {
				if math.IsNaN(f) || math.IsInf(f, 0) {
					s.Errorf("job %d: factor %s is %v", id, got.Names[k], f)
				}
			}
		}
	}
	return ranks
}

func unranked(c *mirrortest.Cluster) *mirror.Job {
	j := *c.Submit(mirror.Class{}, 3600)
	j.Ranked, j.Priority = false, 0
	c.Put(&j)
	return &j
}

func testEmpty(s *subject) {
	if got := s.rank(mirrortest.New(3, 4, 1000), priority.Request{All: true}); len(got) != 0 {
		s.Errorf("a cluster without jobs must have no ranks, got %v", got)
	}
}

func testNew(s *subject) {
	c := mirrortest.New(3, 4, 1000)
	j := unranked(c)
	if got := s.rank(c, priority.Request{Jobs: []wlm.JobID{j.ID}}); got[j.ID] == 0 {
		s.Errorf("a job that is asked for by name must get a priority, or it never starts; got %v", got)
	}
}

func testAll(s *subject) {
	c := mirrortest.New(3, 4, 1000)
	for range 20 {
		unranked(c)
	}
	if got := s.rank(c, priority.Request{All: true}); len(got) != 20 {
		s.Errorf("when all are asked for, each job that has no priority yet must get one; got %d of 20", len(got))
	}
}

func testListed(s *subject) {
	c := mirrortest.New(3, 4, 1000)
	a, b := unranked(c), unranked(c)
	if got := s.rank(c, priority.Request{Jobs: []wlm.JobID{b.ID}}); len(got) != 1 || got[a.ID] != 0 {
		s.Errorf("job %d alone was asked for, got %v", b.ID, got)
	}
}

func testUnknown(s *subject) {
	c := mirrortest.New(3, 4, 1000)
	j := c.Submit(mirror.Class{}, 3600)
	c.Run(j, 0, mirrortest.Cores(0, 0, 1, 100))
	if got := s.rank(c, priority.Request{Jobs: []wlm.JobID{j.ID, 4711}}); len(got) != 0 {
		s.Errorf("jobs that run or that the mirror does not have must be left out, got %v", got)
	}
}

func testMany(s *subject) {
	c := mirrortest.New(100, 16, 64000)
	for range 10000 {
		unranked(c)
	}
	if got := s.rank(c, priority.Request{All: true}); len(got) != 10000 {
		s.Errorf("%d of 10,000 jobs were ranked", len(got))
	}
}

func testRandom(s *subject) {
	r := mirrortest.Rand(s.T)
	c := mirrortest.Random(r)
	for range 50 {
		c.Step(r)
		var ids []wlm.JobID
		for _, j := range c.Ready() {
			ids = append(ids, j.ID)
		}
		s.rank(c, priority.Request{All: true, Highest: 5, Lowest: 1})
		if got := s.rank(c, priority.Request{Jobs: ids, Highest: 5, Lowest: 1}); len(got) != len(ids) {
			s.Fatalf("each ready job that is asked for by name must get a priority; got %d of %d", len(got), len(ids))
		}
	}
}
