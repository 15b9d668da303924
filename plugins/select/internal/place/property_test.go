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

// drawCluster makes a small cluster of mixed nodes with overlapping partitions.
func drawCluster(t *rapid.T) *cluster {
	c := &cluster{settings: map[string]string{}}
	c.settings["SelectTypeParameters"] = rapid.SampledFrom([]string{"CR_Core", "CR_Core_Memory", "CR_CPU_Memory", "CR_Socket_Memory"}).Draw(t, "params")
	c.linear = rapid.IntRange(0, 5).Draw(t, "linear") == 0
	n := rapid.IntRange(1, 5).Draw(t, "nodes")
	for i := range n {
		sockets, cores, threads := rapid.IntRange(1, 2).Draw(t, "sockets"), rapid.IntRange(1, 3).Draw(t, "cores"), rapid.IntRange(1, 2).Draw(t, "threads")
		c.nodes = append(c.nodes, mirror.Node{Index: wlm.NodeIndex(i), Name: wlm.NodeName("n" + string(rune('1'+i))),
			CPUs: sockets * cores * threads, Sockets: sockets, CoresPerSocket: cores, ThreadsPerCore: threads,
			Memory: wlm.MiB(rapid.IntRange(8, 24).Draw(t, "memory")), Usable: rapid.IntRange(0, 7).Draw(t, "usable") > 0,
			Weight: uint32(rapid.IntRange(1, 2).Draw(t, "weight"))})
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "counters") {
		c.counters = append(c.counters, mirror.Counter{ID: uint32(i + 1), Name: "lic", Capacity: uint64(rapid.IntRange(0, 3).Draw(t, "capacity")), Reason: wlm.WaitLicenses})
	}
	c.part("all", 1)
	c.part("some", uint32(rapid.IntRange(1, 2).Draw(t, "tier")), rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) wlm.NodeIndex {
		return wlm.NodeIndex(rapid.IntRange(0, n-1).Draw(t, "member"))
	}), 1, n, rapid.ID[wlm.NodeIndex]).Draw(t, "members")...)
	return c
}

func drawClass(t *rapid.T, withUsers bool) mirror.Class {
	k := mirror.Class{Partitions: rapid.SampledFrom([][]int{{0}, {1}, {0, 1}}).Draw(t, "partitions")}
	k.MinNodes = uint32(rapid.IntRange(0, 3).Draw(t, "min"))
	if rapid.Bool().Draw(t, "bounded") {
		k.MaxNodes = max(k.MinNodes, 1) + uint32(rapid.IntRange(0, 1).Draw(t, "more"))
	}
	k.NTasks = uint32(rapid.IntRange(0, 6).Draw(t, "tasks"))
	k.CPUsPerTask = uint32(rapid.IntRange(0, 3).Draw(t, "cpus"))
	switch rapid.IntRange(0, 4).Draw(t, "memkind") {
	case 0:
		k.MemPerNode = wlm.MiB(rapid.IntRange(1, 12).Draw(t, "mem"))
	case 1:
		k.MemPerCPU = wlm.MiB(rapid.IntRange(1, 4).Draw(t, "mem"))
	case 2:
		k.MemAll = rapid.Bool().Draw(t, "all")
	}
	if rapid.IntRange(0, 4).Draw(t, "exclusive") == 0 {
		k.Share = wlm.ShareNever
	}
	for id := range rapid.IntRange(0, 2).Draw(t, "kinds of counters") {
		k.Counters = append(k.Counters, mirror.CounterUse{Counter: uint32(id + 1), Amount: uint64(rapid.IntRange(0, 3).Draw(t, "amount"))})
	}
	if withUsers && rapid.IntRange(0, 4).Draw(t, "own") == 0 {
		k.Share = wlm.ShareUser
	}
	return k
}

// checkSpans holds the invariant of the package: at no moment is a core, a
// MiB, some of a counter, or a node wanted whole, given twice.
func checkSpans(t *rapid.T, p *pass) {
	for i, holds := range p.holds {
		for _, h := range holds {
			sum := int64(0)
			for _, o := range holds {
				if o.start <= max(h.start, p.now) && o.end > max(h.start, p.now) {
					sum += o.amount
				}
			}
			if sum > int64(p.v.Counters[i].Capacity) {
				t.Fatalf("%d of counter %d are in use at now+%d, there are %d: %+v", sum, i, max(h.start, p.now)-p.now, p.v.Counters[i].Capacity, holds)
			}
		}
	}
	for n := range p.t.geo {
		g := &p.t.geo[n]
		for i := range p.spans {
			a := &p.spans[i]
			if int(a.node) != n {
				continue
			}
			at, mem := max(a.start, p.now), int64(0)
			for k := range p.spans {
				b := &p.spans[k]
				if b.node != a.node || max(b.start, p.now) > at || b.end <= at {
					continue
				}
				mem += b.mem
				if i == k {
					continue
				}
				if a.whole || b.whole {
					t.Fatalf("node %d: spans %d %+v and %d %+v overlap, one of them whole", n, i, *a, k, *b)
				}
				if wlm.CPUSet(a.cores).Overlaps(b.cores) {
					t.Fatalf("node %d: spans %d %+v and %d %+v share a core", n, i, *a, k, *b)
				}
				if (a.exclusive || b.exclusive) && a.user != b.user {
					t.Fatalf("node %d: users %d and %d share it against their will", n, a.user, b.user)
				}
			}
			if p.t.params.memory && mem > g.memory {
				t.Fatalf("node %d: %d of %d MiB in use at %d", n, mem, g.memory, at)
			}
		}
	}
}

// checkPlacement holds a placement against the request.
func checkPlacement(t *rapid.T, c *cluster, j *mirror.Job, pl selector.Placement) {
	k := j.Class
	nodes, cpus := 0, 0
	for i, u := range pl.Uses {
		n := &c.nodes[u.Node]
		if i > 0 && pl.Uses[i-1].Node >= u.Node {
			t.Fatalf("job %d: nodes are not in order: %+v", j.ID, pl.Uses)
		}
		if !n.Usable || !slices.Contains(c.parts[pl.Partition].Nodes, u.Node) {
			t.Fatalf("job %d: node %s is down or not of the partition", j.ID, n.Name)
		}
		if u.CPUs.Count() == 0 {
			t.Fatalf("job %d: no CPU on %s", j.ID, n.Name)
		}
		nodes++
		cpus += u.CPUs.Count()
	}
	if most := int(k.MaxNodes); nodes < int(max(k.MinNodes, 1)) || most > 0 && nodes > most {
		t.Fatalf("job %d: %d nodes, asked for %d to %d", j.ID, nodes, k.MinNodes, k.MaxNodes)
	}
	if want := int(max(k.NTasks, 1) * max(k.CPUsPerTask, 1)); cpus < want {
		t.Fatalf("job %d: %d CPUs, asked for %d", j.ID, cpus, want)
	}
	if !slices.Contains(k.Partitions, pl.Partition) {
		t.Fatalf("job %d: partition %d", j.ID, pl.Partition)
	}
}

// reference answers by trying every set of nodes whether a job can start at a
// time, given the spans, and counting cores one by one. It knows plain
// requests on cores only.
func reference(p *pass, n *need, duration, start int64, spans []span, holds [][]hold) bool {
	if !referenceCounters(p, n.class, duration, start, holds) {
		return false
	}
	var nodes []int
	for i := range p.t.nodes {
		if p.usable.has(p.t.slot[i]) && p.t.partSlots[n.part].has(p.t.slot[i]) {
			nodes = append(nodes, i)
		}
	}
	c := n.class
	tasks, least, most := int(c.NTasks), max(int(c.MinNodes), 1), int(c.MaxNodes)
	if tasks > 0 {
		tasks = max(tasks, least)
	}
	for set := 1; set < 1<<len(nodes); set++ {
		size, room, ok := 0, 0, true
		for b, node := range nodes {
			if set>>b&1 == 0 {
				continue
			}
			fit := referenceFit(p, n, node, duration, start, spans, max(tasks, 1))
			size, room, ok = size+1, room+fit, ok && fit > 0
		}
		if ok && size >= least && (most == 0 || size <= most) && (tasks == 0 || room >= tasks && size <= tasks) {
			return true
		}
	}
	return false
}

// referenceCounters looks at every second.
func referenceCounters(p *pass, c *mirror.Class, duration, start int64, holds [][]hold) bool {
	for _, u := range c.Counters {
		i, ok := p.counter[u.Counter]
		for at := start; ok && at < start+min(duration, 1000); at++ {
			left := int64(p.v.Counters[i].Capacity)
			if holds != nil {
				for _, h := range holds[i] {
					if h.start <= at && h.end > at {
						left -= h.amount
					}
				}
			}
			if left < int64(u.Amount) {
				return false
			}
		}
	}
	return true
}

// referenceFit tries numbers of tasks from most to 1.
func referenceFit(p *pass, n *need, node int, duration, start int64, spans []span, most int) int {
	g, c := &p.t.geo[node], n.class
	busy := map[int]bool{}
	peak := int64(0)
	for i := range spans {
		s := &spans[i]
		if int(s.node) != node || s.end <= start || s.start >= start+duration {
			continue
		}
		if s.whole || n.whole || (s.exclusive || n.exclusive) && s.user != refUser {
			return 0
		}
		for core := range wlm.CPUSet(s.cores).All {
			busy[core] = true
		}
		at, sum := max(s.start, start), int64(0)
		for k := range spans {
			if o := &spans[k]; int(o.node) == node && o.start <= at && o.end > at {
				sum += o.mem
			}
		}
		peak = max(peak, sum)
	}
	for tasks := most; tasks > 0; tasks-- {
		cpt := max(int(c.CPUsPerTask), 1)
		cores := (tasks*cpt + int(g.threads) - 1) / int(g.threads)
		cpus := cores * int(g.threads)
		if p.t.params.cpus {
			cpus = tasks * cpt
		}
		if n.whole {
			cpus = int(g.cores * g.threads)
		}
		var mem int64
		switch {
		case c.MemAll:
			mem = g.memory
		case c.MemPerCPU > 0:
			mem = int64(c.MemPerCPU) * int64(cpus)
			if n.whole {
				mem = min(mem, g.memory)
			}
		default:
			mem = int64(c.MemPerNode)
		}
		if int64(c.MemPerNode) > g.memory {
			return 0 // no such node, counted or not
		}
		if int(g.cores)-len(busy) >= cores && (!p.t.params.memory || peak+mem <= g.memory) {
			return tasks
		}
	}
	return 0
}

// refUser is the user of all jobs in TestAgainstReference.
const refUser = 0

// earliest is the first of now and the ends of spans at which the job can start.
func earliest(p *pass, n *need, duration int64, spans []span, holds [][]hold) int64 {
	times := []int64{p.now}
	for _, list := range holds {
		for _, h := range list {
			times = append(times, max(h.end, p.now))
		}
	}
	for i := range spans {
		times = append(times, max(spans[i].end, p.now))
	}
	slices.Sort(times)
	for _, at := range slices.Compact(times) {
		if reference(p, n, duration, at, spans, holds) {
			return at
		}
	}
	return never
}

// walk runs an agenda entry by entry and shows each step.
func (c *cluster) walk(t *rapid.T, a sched.Agenda, step func(p *pass, q *round, j *mirror.Job, before, starts int)) *round {
	e := Cores()
	if c.linear {
		e = Nodes()
	}
	p := e.open(context.Background(), c.view(), nil)
	q := newRound(e, p, selector.Request{Agenda: a})
	for i := range a.Entries {
		before, starts := len(p.spans), len(q.result.Placements)
		q.entry(&a.Entries[i])
		step(p, q, p.v.Job(a.Entries[i].Job), before, starts)
	}
	checkSpans(t, p)
	return q
}

// settle makes running jobs: it places some and lets them end at random.
func settle(t *rapid.T, c *cluster, withUsers bool) {
	for range rapid.IntRange(0, 6).Draw(t, "running") {
		j := c.job(100, drawClass(t, withUsers))
		if withUsers {
			j.User = wlm.UID(rapid.IntRange(0, 1).Draw(t, "user"))
		}
	}
	r := c.place(t, sched.Skip, 0)
	for _, j := range c.jobs {
		j.Ready, j.Held = false, true
	}
	for _, pl := range r.Placements {
		j := c.jobs[pl.Job-1]
		c.run(j, testNow+wlm.Time(rapid.IntRange(-5, 60).Draw(t, "end")), pl.Uses...)
		j.Held, j.Partition = false, pl.Partition
		if rapid.IntRange(0, 9).Draw(t, "endless") == 0 {
			j.End = 0
		}
	}
}

func drawAgenda(t *rapid.T, c *cluster, whens []sched.WhenBlocked, withUsers bool) sched.Agenda {
	a := sched.Agenda{Reservations: rapid.IntRange(0, 3).Draw(t, "reservations")}
	for range rapid.IntRange(1, 10).Draw(t, "pending") {
		var j *mirror.Job
		if len(c.jobs) > 0 && rapid.IntRange(0, 3).Draw(t, "same") == 0 {
			j = c.same(c.jobs[len(c.jobs)-1].Limit, c.classes[len(c.classes)-1])
		} else {
			j = c.job(uint32(rapid.IntRange(1, 60).Draw(t, "limit")), drawClass(t, withUsers))
		}
		j.Tasks = rapid.IntRange(1, 2).Draw(t, "copies")
		if withUsers {
			j.User = wlm.UID(rapid.IntRange(0, 1).Draw(t, "user"))
		}
		a.Add(j.ID, rapid.SampledFrom(whens).Draw(t, "when"))
	}
	return a
}

func TestNothingIsGivenTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCluster(t)
		settle(t, c, true)
		a := drawAgenda(t, c, []sched.WhenBlocked{sched.Skip, sched.Stop, sched.Reserve}, true)
		held := make([]int, len(c.parts))
		q := c.walk(t, a, func(p *pass, q *round, j *mirror.Job, before, starts int) {
			for _, pl := range q.result.Placements[starts:] {
				checkPlacement(t, c, j, pl)
				if q.stopped[pl.Partition] != 0 && q.stopped[pl.Partition] != j.ID {
					t.Fatalf("job %d started in a stopped partition", j.ID)
				}
			}
			for part := range held {
				if a.Reservations > 0 && q.reservations[part] > a.Reservations {
					t.Fatalf("%d reservations in partition %d", q.reservations[part], part)
				}
			}
		})
		told := map[wlm.JobID]int{}
		for _, v := range q.result.Verdicts {
			for _, id := range v.Jobs {
				told[id]++
			}
			if v.Reason == 0 || v.Text == "" {
				t.Fatalf("a verdict says nothing: %+v", v)
			}
		}
		for _, en := range a.Entries {
			started := 0
			for _, pl := range q.result.Placements {
				if pl.Job == en.Job {
					started++
				}
			}
			j := c.jobs[en.Job-1]
			if started < j.Tasks && told[en.Job] != 1 || started == j.Tasks && told[en.Job] != 0 {
				t.Fatalf("job %d: %d of %d started, %d verdicts", en.Job, started, j.Tasks, told[en.Job])
			}
		}
	})
}

// TestAgainstReference compares every start, every refusal and every forecast
// with the answer found by trying everything.
func TestAgainstReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCluster(t)
		if c.settings["SelectTypeParameters"] == "CR_Socket_Memory" {
			c.settings["SelectTypeParameters"] = "CR_Core_Memory"
		}
		settle(t, c, false)
		a := drawAgenda(t, c, []sched.WhenBlocked{sched.Skip, sched.Reserve}, false)
		c.walk(t, a, func(p *pass, q *round, j *mirror.Job, before, starts int) {
			sh := q.shape(j, &sched.Entry{})
			claimed := len(p.spans)
			for claimed > before && p.spans[claimed-1].start != startedAlready {
				claimed--
			}
			known, holds := p.spans[:claimed], make([][]hold, len(p.counters))
			copy(holds, p.holds)
			for _, u := range j.Class.Counters {
				if i, ok := p.counter[u.Counter]; ok && u.Amount > 0 && claimed < len(p.spans) {
					holds[i] = holds[i][:len(holds[i])-1]
				}
			}
			if len(q.result.Placements)-starts < j.Tasks {
				for i := range sh.tries {
					if n := sh.tries[i].need; reference(p, n, sh.duration, p.now, known, holds) {
						t.Fatalf("job %d (%+v) is blocked in partition %d, but can start now; verdicts %+v", j.ID, *j.Class, n.part, q.result.Verdicts)
					}
				}
			}
			if claimed == len(p.spans) {
				return
			}
			best := int64(never)
			for i := range sh.tries {
				n := sh.tries[i].need
				if a.Reservations == 0 || q.reservations[n.part] < a.Reservations || p.spans[claimed].part == n.part {
					best = min(best, earliest(p, n, sh.duration, known, holds))
				}
			}
			if got := p.spans[claimed].start; got != best {
				t.Fatalf("job %d (%+v) is planned at now+%d, the earliest start is now+%d", j.ID, *j.Class, got-p.now, best-p.now)
			}
		})
	})
}
