package place

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/selector"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

func started(r selector.Result) []wlm.JobID {
	var ids []wlm.JobID
	for _, p := range r.Placements {
		ids = append(ids, p.Job)
	}
	return ids
}

// four has 4 nodes of one core: job 1 runs on three of them for 10 minutes,
// job 2 needs all four.
func four() *cluster {
	c := newCluster(4, 1, 1, 1)
	c.run(c.job(600, mirror.Class{}), testNow+600, use(0, 0, 0), use(1, 0, 0), use(2, 0, 0))
	c.job(600, mirror.Class{MinNodes: 4, MaxNodes: 4})
	return c
}

func TestBackfillDoesNotDelay(t *testing.T) {
	c := four()
	c.job(300, mirror.Class{})                         // 3: ends in time
	c.job(1200, mirror.Class{})                        // 4: would delay job 2
	c.job(1200, mirror.Class{Partitions: []int{0, 0}}) // 5: another class, the same
	r := c.place(t, sched.Reserve, 1)
	if got := started(r); !slices.Equal(got, []wlm.JobID{3}) || !r.Placements[0].Backfilled {
		t.Fatalf("started %v, want [3] by backfill", got)
	}
	head, _ := verdictOf(r, 2)
	if head.Reason != wlm.WaitResources || head.Start != testNow+600 || len(head.Nodes) != 4 ||
		!strings.HasPrefix(head.Text, "needs 4 nodes with 1 CPU: 1 has them free now, next at ") {
		t.Errorf("the head's verdict is %+v", head)
	}
	for _, id := range []wlm.JobID{4, 5} {
		if v, _ := verdictOf(r, id); v.Reason != wlm.WaitPriority || v.Start != 0 {
			t.Errorf("job %d: verdict %+v, want Priority without a forecast", id, v)
		}
	}
}

func TestWhatFitsBesideAReservationStarts(t *testing.T) {
	c := newCluster(2, 1, 4, 1)
	c.run(c.job(600, mirror.Class{}), testNow+600, use(0, 0, 0, 1, 2, 3))
	c.job(600, mirror.Class{MinNodes: 2, MaxNodes: 2, NTasks: 4, TasksPerNode: 2}) // 2: two cores of each, at 600
	c.job(9000, mirror.Class{NTasks: 2})                                           // 3: fits beside it for long
	c.job(9000, mirror.Class{NTasks: 2})                                           // 4: does not
	r := c.place(t, sched.Reserve, 1)
	if got := started(r); !slices.Equal(got, []wlm.JobID{3}) {
		t.Fatalf("started %v, want [3]: %+v", got, r.Verdicts)
	}
}

func TestConservativeKeepsEveryReservation(t *testing.T) {
	c := newCluster(1, 1, 2, 1)
	c.run(c.job(600, mirror.Class{}), testNow+600, use(0, 0, 0))
	c.job(600, mirror.Class{NTasks: 2})  // 2: from 600
	c.job(100, mirror.Class{NTasks: 2})  // 3: from 1200
	c.job(600, mirror.Class{NTasks: 1})  // 4: starts now, ends at 600
	c.job(1300, mirror.Class{NTasks: 1}) // 5: from 1300
	r := c.place(t, sched.Reserve, 0)
	for id, want := range map[wlm.JobID]wlm.Time{2: 600, 3: 1200, 5: 1300} {
		if v, _ := verdictOf(r, id); v.Start != testNow+want {
			t.Errorf("job %d: %+v, want a start in %d s", id, v, want)
		}
	}
	if got := started(r); !slices.Equal(got, []wlm.JobID{4}) {
		t.Errorf("started %v, want [4]", got)
	}
}

func TestJobsWithoutLimitsDoNotStarveTheHead(t *testing.T) {
	c := newCluster(2, 1, 1, 1)
	c.run(c.job(0, mirror.Class{}), 0, use(0, 0, 0))
	c.job(0, mirror.Class{MinNodes: 2, MaxNodes: 2})
	c.job(0, mirror.Class{})
	c.job(60, mirror.Class{})
	r := c.place(t, sched.Reserve, 1)
	if got := started(r); !slices.Equal(got, []wlm.JobID{4}) {
		t.Errorf("started %v, want [4]", got)
	}
	if v, _ := verdictOf(r, 2); v.Start != 0 || v.Reason != wlm.WaitResources {
		t.Errorf("a forecast a year ahead says nothing: %+v", v)
	}
}

func TestStop(t *testing.T) {
	c := four()
	c.part("other", 1, 3)
	c.part("low", 0, 3)
	c.job(60, mirror.Class{})                        // 3: behind the head
	c.job(60, mirror.Class{Partitions: []int{2}})    // 4: of lower tier, on the head's nodes
	c.job(60, mirror.Class{Partitions: []int{0, 1}}) // 5: may go where nobody stands before it
	r := c.place(t, sched.Stop, 0)
	if got := started(r); !slices.Equal(got, []wlm.JobID{5}) || r.Placements[0].Partition != 1 {
		t.Errorf("started %+v, want job 5 in partition 1", r.Placements)
	}
	for id, want := range map[wlm.JobID]string{2: "Resources: needs 4 nodes", 3: "Priority: behind job 2",
		4: "Resources: " + nodesNotThere} {
		v, _ := verdictOf(r, id)
		if got := v.Reason.String() + ": " + v.Text; !strings.HasPrefix(got, want) {
			t.Errorf("job %d: %q, want %q", id, got, want)
		}
	}
}

func TestVerdicts(t *testing.T) {
	type K = mirror.Class
	for _, tc := range []struct {
		name  string
		limit uint32
		job   K
		make  func(c *cluster)
		want  string
	}{
		{"all nodes, one of them drained", 60, K{MinNodes: 4, MaxNodes: 4}, func(c *cluster) { c.nodes[3].Usable = false },
			"Resources: " + nodesNotThere},
		{"a required node is drained", 60, K{ReqNodes: "n[3-4]"}, func(c *cluster) { c.nodes[3].Usable = false },
			"ReqNodeNotAvail: ReqNodeNotAvail, UnavailableNodes:n4"},
		{"too many nodes for the partition", 60, K{MinNodes: 3, MaxNodes: 3}, func(c *cluster) { c.parts[0].MaxNodes = 2 },
			"PartitionNodeLimit: asks for 3 nodes, partition main allows at most 2"},
		{"too few nodes for the partition", 60, K{MinNodes: 1, MaxNodes: 1}, func(c *cluster) { c.parts[0].MinNodes = 2 },
			"PartitionNodeLimit: asks for 1 node, partition main allows 2 or more"},
		{"too long for the partition", 7200, K{}, func(c *cluster) { c.parts[0].MaxTime = 60 },
			"PartitionTimeLimit: asks for 2:00:00, partition main allows 1:00:00"},
		{"no limit in a partition with one", 0, K{}, func(c *cluster) { c.parts[0].MaxTime = 60 },
			"PartitionTimeLimit: asks for no time limit, partition main allows 1:00:00"},
		{"the partition is down", 60, K{}, func(c *cluster) { c.parts[0].Starts = false },
			"PartitionDown: partition main starts no jobs now"},
		{"more than there is", 60, K{MinNodes: 1, MaxNodes: 1, NTasks: 8}, func(c *cluster) {},
			"BadConstraints: 1 node with 8 CPUs, which no node of partition main can give"},
		{"nobody has the feature", 60, K{Features: "gpu"}, func(c *cluster) {},
			"BadConstraints: 1 node with 1 CPU, which no node of partition main can give under constraint gpu"},
		{"a node that does not exist", 60, K{ReqNodes: "n9"}, func(c *cluster) {},
			"BadConstraints: node n9 cannot serve the request in partition main"},
		{"licences are out", 60, K{Counters: []mirror.CounterUse{{Counter: 5, Amount: 3}}}, func(c *cluster) {
			c.counters = []mirror.Counter{{ID: 5, Name: "matlab", Capacity: 4, Reason: wlm.WaitLicenses}}
			c.run(c.job(60, K{Counters: []mirror.CounterUse{{Counter: 5, Amount: 2}}}), testNow+60, use(0, 0, 0))
		}, "Licenses: needs 3 of matlab: 2 of 4 are free now"},
		{"CPUs are short", 60, K{NTasks: 16}, func(c *cluster) {
			c.run(c.job(60, K{}), testNow+60, use(0, 0, 0))
		}, "Resources: needs 16 CPUs on 1 node or more: 4 nodes have room for some of them now"},
		{"no partition", 60, K{Partitions: []int{}}, func(c *cluster) {}, "BadConstraints: no partition of the job exists"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newCluster(4, 1, 4, 1)
			tc.make(c)
			j := c.job(tc.limit, tc.job)
			r := c.place(t, sched.Stop, 0)
			v, ok := verdictOf(r, j.ID)
			if got := v.Reason.String() + ": " + v.Text; !ok || got != tc.want {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
		})
	}
}

func TestWhatCannotRunBlocksNobody(t *testing.T) {
	c := newCluster(4, 1, 4, 1)
	c.nodes[3].Usable = false
	c.job(60, mirror.Class{MinNodes: 4, MaxNodes: 4})
	c.job(60, mirror.Class{MinNodes: 9, MaxNodes: 9})
	c.job(60, mirror.Class{})
	for _, when := range []sched.WhenBlocked{sched.Stop, sched.Reserve} {
		if got := started(c.place(t, when, 1)); !slices.Equal(got, []wlm.JobID{3}) {
			t.Errorf("started %v, want [3]", got)
		}
	}
}

func TestArraysStartAsFarAsTheyFit(t *testing.T) {
	c := newCluster(2, 1, 2, 1)
	c.job(60, mirror.Class{NTasks: 1}).Tasks = 7
	r := c.place(t, sched.Reserve, 1)
	if got := layout(c, r); got != "1 n1:0\n1 n1:1\n1 n2:0\n1 n2:1" {
		t.Errorf("got:\n%s", got)
	}
	if v, ok := verdictOf(r, 1); !ok || v.Reason != wlm.WaitResources || v.Start != testNow+60 {
		t.Errorf("verdict of the rest: %+v", v)
	}
}

func TestJobsOfAShapeShareAVerdict(t *testing.T) {
	c := newCluster(1, 1, 1, 1)
	k := c.job(60, mirror.Class{}).Class
	for range 50 {
		c.same(60, k)
	}
	r := c.place(t, sched.Reserve, 1)
	if len(r.Placements) != 1 || len(r.Verdicts) != 2 || len(r.Verdicts[1].Jobs) != 49 {
		t.Errorf("%d starts, %d verdicts", len(r.Placements), len(r.Verdicts))
	}
}

// ask answers entries as given.
func (c *cluster) ask(t *testing.T, e *Engine, r selector.Request) selector.Result {
	t.Helper()
	res, err := e.Place(context.Background(), c.view(), r)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestEntries(t *testing.T) {
	c := newCluster(4, 1, 4, 1)
	j := c.job(60, mirror.Class{NTasks: 2})
	one := func(en sched.Entry) selector.Result {
		en.Job = j.ID
		return c.ask(t, Cores(), selector.Request{Agenda: sched.Agenda{Entries: []sched.Entry{en}}})
	}
	for _, tc := range []struct {
		name string
		en   sched.Entry
		want string
	}{
		{"prefer", sched.Entry{Prefer: []wlm.NodeIndex{2}}, "1 n3:0-1"},
		{"avoid", sched.Entry{Avoid: []wlm.NodeIndex{0, 1}}, "1 n3:0-1"},
		{"avoid in vain", sched.Entry{Avoid: []wlm.NodeIndex{0, 1, 2, 3}}, "1 n1:0-1"},
		{"a placement of its own", sched.Entry{Placement: []mirror.NodeUse{use(1, 0, 2, 3)}}, "1 n2:2-3"},
		{"not before", sched.Entry{NotBefore: testNow + 50}, ""},
		{"a placement on a node twice", sched.Entry{Placement: []mirror.NodeUse{use(1, 0, 2), use(1, 0, 2)}}, ""},
		{"a placement on CPUs that do not exist", sched.Entry{Placement: []mirror.NodeUse{use(1, 0, 99)}}, ""},
		{"a placement on a node that does not exist", sched.Entry{Placement: []mirror.NodeUse{use(77, 0, 0)}}, ""},
		{"a placement with too much memory", sched.Entry{Placement: []mirror.NodeUse{use(1, 9000, 0)}}, ""},
	} {
		r := one(tc.en)
		if got := layout(c, r); got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
		if _, told := verdictOf(r, 1); told == (tc.want != "") {
			t.Errorf("%s: verdicts %+v", tc.name, r.Verdicts)
		}
	}
	if r := one(sched.Entry{NotBefore: testNow + 50, WhenBlocked: sched.Reserve}); r.Verdicts[0].Reason != wlm.WaitTime || r.Verdicts[0].Start != testNow+50 {
		t.Errorf("not before, reserved: %+v", r.Verdicts)
	}
}

func TestExpectedRuntimeCountsBeforeTheLimit(t *testing.T) {
	c := four()
	c.job(7200, mirror.Class{})
	a := sched.Agenda{Reservations: 1, Entries: []sched.Entry{{Job: 2, WhenBlocked: sched.Reserve}, {Job: 3, Expected: 300}}}
	if got := started(c.ask(t, Cores(), selector.Request{Agenda: a})); !slices.Equal(got, []wlm.JobID{3}) {
		t.Errorf("started %v, want [3]", got)
	}
}

func TestMaxStartsAndRefusals(t *testing.T) {
	c := newCluster(1, 1, 4, 1)
	c.job(60, mirror.Class{}).Tasks = 3
	c.job(60, mirror.Class{})
	a := sched.Agenda{Entries: []sched.Entry{{Job: 1}, {Job: 2}}}
	e := Cores()
	if r := c.ask(t, e, selector.Request{Agenda: a, MaxStarts: 2}); len(r.Placements) != 2 {
		t.Errorf("%d starts, want 2", len(r.Placements))
	}
	refused := []selector.Refused{{Job: 1, Text: "node n1 went down"}}
	r := c.ask(t, e, selector.Request{Agenda: a, Refused: refused})
	if v, _ := verdictOf(r, 1); !slices.Equal(started(r), []wlm.JobID{2}) || !strings.Contains(v.Text, "node n1 went down") {
		t.Errorf("at the same rev, the refused job is not proposed again: %+v", r)
	}
	e.rev = 0 // something changed
	if r := c.ask(t, e, selector.Request{Agenda: a, Refused: refused}); len(r.Placements) != 4 {
		t.Errorf("at another rev it is: %+v", r)
	}
}

func TestWhatIf(t *testing.T) {
	c := four()
	job := &mirror.Job{ID: 99, Class: &mirror.Class{Partitions: []int{0}, MinNodes: 2, MaxNodes: 2}, Limit: 60, Tasks: 5}
	r, err := Cores().WhatIf(context.Background(), c.view(), job)
	if err != nil || len(r.Placements) != 0 || len(r.Verdicts) != 1 || r.Verdicts[0].Start != testNow+600 || len(r.Verdicts[0].Nodes) != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	job.Class = &mirror.Class{Partitions: []int{0}}
	if r, _ = Cores().WhatIf(context.Background(), c.view(), job); layout(c, r) != "99 n4:0" || len(r.Verdicts) != 0 {
		t.Errorf("%+v", r)
	}
}

func TestTheTableFollowsTheNodes(t *testing.T) {
	c := newCluster(2, 1, 4, 1)
	c.job(60, mirror.Class{Features: "new"})
	e := Cores()
	a := selector.Request{Agenda: sched.Agenda{Entries: []sched.Entry{{Job: 1}}}}
	if r := c.ask(t, e, a); len(r.Placements) != 0 {
		t.Fatal("there is no such feature yet")
	}
	c.nodes[1].Features = []string{"new"}
	if got := layout(c, c.ask(t, e, a)); got != "1 n2:0" {
		t.Errorf("got %q", got)
	}
	c.nodes[1].Usable = false
	if r := c.ask(t, e, a); len(r.Placements) != 0 {
		t.Error("the node is not usable any more")
	}
}

func TestDeadlineEndsThePass(t *testing.T) {
	c := newCluster(1, 1, 4, 1)
	c.job(60, mirror.Class{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r, err := Cores().Place(ctx, c.view(), selector.Request{Agenda: sched.Agenda{Entries: []sched.Entry{{Job: 1}, {Job: 77}}}})
	if err != nil || len(r.Placements)+len(r.Verdicts) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}
