package place

import (
	"context"
	"slices"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/selector"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"pgregory.net/rapid"
)

// tiers is a cluster of n nodes of four cores with partitions low (0), mid (1)
// and high (2) over all of them.
func tiers(n int) *cluster {
	c := newCluster(n, 1, 4, 1)
	c.part("mid", 2)
	c.part("high", 3)
	return c
}

// runs adds a job that runs in a partition and may be preempted.
func (c *cluster) runs(part int, how mirror.Preempt, uses ...mirror.NodeUse) *mirror.Job {
	j := c.job(6000, mirror.Class{Partitions: []int{part}})
	c.run(j, testNow+6000, uses...)
	j.Partition, j.Preempt = part, how
	return j
}

// preempting places all pending jobs, in the order of their tiers, each of which
// may preempt.
func (c *cluster) preempting(t *testing.T) selector.Result {
	t.Helper()
	v := c.view()
	var a sched.Agenda
	for j := range v.PendingByPriority() {
		a.Add(j.ID, sched.Reserve)
		a.Entries[len(a.Entries)-1].MayPreempt = true
	}
	a.Reservations = 1
	r, err := Cores().Place(context.Background(), v, selector.Request{Agenda: a})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestVictims(t *testing.T) {
	high := mirror.Class{Partitions: []int{2}, NTasks: 4}
	cores := func(node int) mirror.NodeUse { return use(node, 0, 0, 1, 2, 3) }
	for _, tc := range []struct {
		name    string
		setup   func(c *cluster)
		victims []wlm.JobID // nil: nothing is placed for job 3
		started bool        // without victims, or with such that sleep
	}{
		{"the lower tier goes first", func(c *cluster) {
			c.runs(1, mirror.PreemptEnd, cores(0))
			c.runs(0, mirror.PreemptEnd, cores(1))
		}, []wlm.JobID{2}, false},
		{"the lower priority goes first", func(c *cluster) {
			c.runs(0, mirror.PreemptEnd, cores(0)).Priority = 7
			c.runs(0, mirror.PreemptEnd, cores(1)).Priority = 9
		}, []wlm.JobID{1}, false},
		{"the youngest goes first", func(c *cluster) {
			c.settings["PreemptParameters"] = "strict_order,youngest_first"
			c.runs(0, mirror.PreemptEnd, cores(0)).Priority = 7
			c.runs(0, mirror.PreemptEnd, cores(1)).Start = testNow - 3
		}, []wlm.JobID{2}, false},
		{"an equal tier never goes", func(c *cluster) {
			c.runs(2, mirror.PreemptEnd, cores(0))
			c.runs(2, mirror.PreemptEnd, cores(1))
		}, nil, false},
		{"who is exempt stays", func(c *cluster) {
			c.runs(0, mirror.PreemptEnd, cores(0)).Exempt = testNow + 1
			c.runs(1, mirror.PreemptEnd, cores(1)).Exempt = testNow
		}, []wlm.JobID{2}, false},
		{"whose preemption is off stays", func(c *cluster) {
			c.runs(0, mirror.PreemptOff, cores(0))
			c.runs(1, mirror.PreemptEnd, cores(1))
		}, []wlm.JobID{2}, false},
		{"who leaves already is waited for", func(c *cluster) {
			c.runs(0, mirror.PreemptEnd, cores(0)).Leaving = true
			c.runs(0, mirror.PreemptEnd, cores(1))
		}, nil, false},
		{"who sleeps is in nobody's way", func(c *cluster) {
			c.runs(0, mirror.PreemptSuspend, cores(0)).Asleep = true
			c.runs(0, mirror.PreemptEnd, cores(1))
		}, []wlm.JobID{}, true},
		{"who can sleep makes room at once", func(c *cluster) {
			c.runs(0, mirror.PreemptSuspend, cores(0))
			c.runs(1, mirror.PreemptEnd, cores(1))
		}, []wlm.JobID{1}, true},
		{"who sleeps keeps memory", func(c *cluster) {
			u := cores(0)
			u.Mem = 8000
			c.runs(0, mirror.PreemptSuspend, u)
			c.runs(1, mirror.PreemptEnd, cores(1))
		}, []wlm.JobID{2}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := tiers(2)
			tc.setup(c)
			k := high
			k.MemPerNode = 100
			c.job(600, k)
			r := c.preempting(t)
			_, waits := verdictOf(r, 3)
			if tc.victims == nil {
				if len(r.Placements) != 0 || !waits {
					t.Errorf("placed %+v, want that it waits", r.Placements)
				}
				return
			}
			if len(r.Placements) != 1 || !slices.Equal(r.Placements[0].Victims, tc.victims) || waits == tc.started {
				t.Errorf("placed %+v, verdicts %+v, want victims %v, started %v", r.Placements, r.Verdicts, tc.victims, tc.started)
			}
		})
	}
}

// Jobs of a lower tier do not take what one who sleeps will come back to.
func TestSleepersKeepTheirPlaceAmongEquals(t *testing.T) {
	c := tiers(1)
	c.runs(0, mirror.PreemptSuspend, use(0, 0, 0, 1, 2, 3)).Asleep = true
	c.job(60, mirror.Class{})
	if r := c.preempting(t); len(r.Placements) != 0 {
		t.Errorf("placed %+v", r.Placements)
	}
	c.job(60, mirror.Class{Partitions: []int{1}})
	if got := started(c.preempting(t)); !slices.Equal(got, []wlm.JobID{3}) {
		t.Errorf("started %v, want [3]", got)
	}
}

// What is made free for one job is not given to another in the same pass.
func TestRoomIsForWhomItWasMade(t *testing.T) {
	c := tiers(2)
	for i := range 2 {
		c.runs(0, mirror.PreemptEnd, use(i, 0, 0, 1, 2, 3))
	}
	c.job(60, mirror.Class{Partitions: []int{2}, NTasks: 4})
	c.job(60, mirror.Class{Partitions: []int{2}, NTasks: 4})
	c.job(60, mirror.Class{Partitions: []int{2}, NTasks: 4})
	r := c.preempting(t)
	if len(r.Placements) != 2 || r.Placements[0].Victims[0] == r.Placements[1].Victims[0] {
		t.Fatalf("placed %+v, want two jobs with a victim each", r.Placements)
	}
	if v, _ := verdictOf(r, 5); v.Reason != wlm.WaitPriority {
		t.Errorf("the third job: %+v", v)
	}
}

// Whatever runs: victims are of a lower tier and not exempt, none could be left
// out, and when victims could make room, some do.
func TestVictimsAreFew(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const cores = 4
		n := rapid.IntRange(1, 6).Draw(t, "nodes")
		c := tiers(n)
		free := make([][]int, n)
		for i := range free {
			free[i] = []int{0, 1, 2, 3}
		}
		for range rapid.IntRange(0, 12).Draw(t, "running") {
			var uses []mirror.NodeUse
			for i := range free {
				take := rapid.IntRange(0, 3).Draw(t, "cores")
				if take == 0 || take > len(free[i]) || rapid.Bool().Draw(t, "elsewhere") {
					continue
				}
				uses = append(uses, use(i, 0, free[i][:take]...))
				free[i] = free[i][take:]
			}
			if len(uses) == 0 {
				continue
			}
			how := mirror.Preempt(rapid.IntRange(0, 2).Draw(t, "how"))
			j := c.runs(rapid.IntRange(0, 2).Draw(t, "partition"), how, uses...)
			j.Priority = rapid.Uint32Range(1, 3).Draw(t, "priority")
			j.Exempt = wlm.Time(rapid.SampledFrom([]int{0, 0, testNow + 5}).Draw(t, "exempt"))
		}
		need, each := rapid.IntRange(1, n).Draw(t, "need"), rapid.IntRange(1, cores).Draw(t, "each")
		job := c.job(600, mirror.Class{Partitions: []int{2}, MinNodes: uint32(need), MaxNodes: uint32(need), MinCPUsPerNode: uint32(each)})
		legal := func(j *mirror.Job) bool {
			return j.Running && j.Partition < 2 && j.Preempt != mirror.PreemptOff && j.Exempt <= testNow
		}
		fits := func(gone func(*mirror.Job) bool) bool {
			left := make([]int, n)
			for i := range left {
				left[i] = cores
			}
			for _, j := range c.jobs {
				if !j.Running || gone(j) {
					continue
				}
				for _, u := range j.Uses {
					left[u.Node] -= u.CPUs.Count()
				}
			}
			ok := 0
			for _, l := range left {
				if l >= each {
					ok++
				}
			}
			return ok >= need
		}
		v := c.view()
		a := sched.Agenda{Reservations: 1}
		a.Add(job.ID, sched.Reserve)
		a.Entries[0].MayPreempt = true
		r, err := Cores().Place(context.Background(), v, selector.Request{Agenda: a})
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case len(r.Placements) == 0:
			if fits(legal) {
				t.Fatalf("nothing is done, though victims would make room: %+v", r.Verdicts)
			}
			return
		case len(r.Placements) > 1:
			t.Fatalf("%d placements", len(r.Placements))
		}
		victims := r.Placements[0].Victims
		for i, id := range victims {
			if j := v.Job(id); !legal(j) {
				t.Fatalf("victim %+v", j)
			}
			others := slices.Delete(slices.Clone(victims), i, i+1)
			if fits(func(j *mirror.Job) bool { return slices.Contains(others, j.ID) }) {
				t.Fatalf("victims %v: %d could be left out", victims, id)
			}
		}
		if !fits(func(j *mirror.Job) bool { return slices.Contains(victims, j.ID) }) {
			t.Fatalf("victims %v are not enough", victims)
		}
	})
}

// A job with --time-min starts with the longest limit that delays nobody.
func TestTimeMin(t *testing.T) {
	for _, tc := range []struct {
		least, want uint32
	}{{60, 540}, {540, 540}, {600, 0}, {0, 0}} {
		c := four()
		c.jobs[0].End = testNow + 590 // the head's reservation begins then
		c.job(9000, mirror.Class{}).TimeMin = tc.least
		r := c.place(t, sched.Reserve, 1)
		switch {
		case tc.want == 0 && len(r.Placements) != 0:
			t.Errorf("time-min %d: placed %+v", tc.least, r.Placements)
		case tc.want > 0 && (len(r.Placements) != 1 || r.Placements[0].Limit != tc.want):
			t.Errorf("time-min %d: placed %+v, want a limit of %d s", tc.least, r.Placements, tc.want)
		}
	}
}

// Beyond bf_window nothing is planned.
func TestWindow(t *testing.T) {
	for params, want := range map[string]wlm.Time{"bf_window=9": 0, "defer,bf_window=10": testNow + 600, "": testNow + 600} {
		c := four()
		c.settings["SchedulerParameters"] = params
		if v, _ := verdictOf(c.place(t, sched.Reserve, 1), 2); v.Start != want {
			t.Errorf("%q: start %d, want %d", params, v.Start, want)
		}
	}
}
