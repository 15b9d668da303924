package place

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/selector"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"pgregory.net/rapid"
)

const testNow = 1_000_000

// cluster is a small world for tests.
type cluster struct {
	nodes    []mirror.Node
	parts    []mirror.Partition
	classes  []*mirror.Class
	jobs     []*mirror.Job
	counters []mirror.Counter
	settings map[string]string
	linear   bool
}

// newCluster has n nodes n1..nN of sockets x cores x threads and one
// partition over all of them.
func newCluster(n, sockets, cores, threads int) *cluster {
	c := &cluster{settings: map[string]string{}}
	for i := range n {
		c.nodes = append(c.nodes, mirror.Node{Index: wlm.NodeIndex(i), Name: wlm.NodeName(fmt.Sprintf("n%d", i+1)),
			CPUs: sockets * cores * threads, Sockets: sockets, CoresPerSocket: cores, ThreadsPerCore: threads,
			Memory: 8000, Weight: 1, Usable: true})
	}
	c.part("main", 1)
	return c
}

// part adds a partition over the nodes, or those listed.
func (c *cluster) part(name string, tier uint32, nodes ...wlm.NodeIndex) *mirror.Partition {
	if len(nodes) == 0 {
		for i := range c.nodes {
			nodes = append(nodes, wlm.NodeIndex(i))
		}
	}
	c.parts = append(c.parts, mirror.Partition{Index: len(c.parts), Name: name, Nodes: nodes, Tier: tier, Starts: true,
		MaxNodes: wlm.Unset, MaxCPUsPerNode: wlm.Unset, MaxTime: wlm.Unlimited})
	return &c.parts[len(c.parts)-1]
}

// job adds a pending job of a class of its own.
func (c *cluster) job(limit uint32, k mirror.Class) *mirror.Job {
	k.ID = uint32(len(c.classes) + 1)
	if k.Partitions == nil {
		k.Partitions = []int{0}
	}
	c.classes = append(c.classes, &k)
	return c.same(limit, &k)
}

// same adds a pending job of a class.
func (c *cluster) same(limit uint32, k *mirror.Class) *mirror.Job {
	j := &mirror.Job{ID: wlm.JobID(len(c.jobs) + 1), Class: k, Ready: true, Ranked: true, Limit: limit, Tasks: 1,
		Submit: wlm.Time(len(c.jobs)), Eligible: wlm.Time(len(c.jobs)), Priority: uint32(100000 - len(c.jobs))}
	c.jobs = append(c.jobs, j)
	return j
}

// run makes a job a running one.
func (c *cluster) run(j *mirror.Job, end wlm.Time, uses ...mirror.NodeUse) {
	j.Running, j.Ready, j.Start, j.End, j.Uses = true, false, testNow-10, end, uses
}

func (c *cluster) view() mirror.View {
	return mirror.Build(c.nodes, c.parts, c.classes, c.jobs, c.settings, c.counters...).View(testNow)
}

// place answers an agenda of all pending jobs in order.
func (c *cluster) place(t rapid.TB, when sched.WhenBlocked, reservations int) selector.Result {
	t.Helper()
	a := sched.Agenda{Reservations: reservations}
	for _, j := range c.jobs {
		if !j.Running {
			a.Add(j.ID, when)
		}
	}
	e := Cores()
	if c.linear {
		e = Nodes()
	}
	r, err := e.Place(context.Background(), c.view(), selector.Request{Agenda: a})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func use(node int, mem wlm.MiB, cpus ...int) mirror.NodeUse {
	u := mirror.NodeUse{Node: wlm.NodeIndex(node), Mem: mem}
	for _, cpu := range cpus {
		u.CPUs = u.CPUs.Set(cpu)
	}
	return u
}

// layout prints placements as "1@main n1:0-3/100 n2:0!" (memory behind /, ! for whole).
func layout(c *cluster, r selector.Result) string {
	var lines []string
	for _, p := range r.Placements {
		line := fmt.Sprintf("%d", p.Job)
		for _, u := range p.Uses {
			line += fmt.Sprintf(" %s:%s", c.nodes[u.Node].Name, u.CPUs)
			if u.Mem > 0 {
				line += fmt.Sprintf("/%d", u.Mem)
			}
			if u.Whole {
				line += "!"
			}
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func verdictOf(r selector.Result, id wlm.JobID) (selector.Verdict, bool) {
	for _, v := range r.Verdicts {
		if slices.Contains(v.Jobs, id) {
			return v, true
		}
	}
	return selector.Verdict{}, false
}

func TestLayouts(t *testing.T) {
	type K = mirror.Class
	flat := func() *cluster { return newCluster(4, 1, 4, 1) }
	smt := func() *cluster { return newCluster(2, 2, 4, 2) }
	with := func(c *cluster, params string) *cluster {
		c.settings["SelectTypeParameters"] = params
		return c
	}
	for _, tc := range []struct {
		name string
		c    *cluster
		jobs []K
		want string
	}{
		{"-N1 -n1 takes the first node", flat(), []K{{MinNodes: 1, MaxNodes: 1, NTasks: 1}}, "1 n1:0"},
		{"-n6 fills node after node", flat(), []K{{NTasks: 6}}, "1 n1:0-3 n2:0-1"},
		{"-N4 -n4 one each", flat(), []K{{MinNodes: 4, MaxNodes: 4, NTasks: 4}}, "1 n1:0 n2:0 n3:0 n4:0"},
		{"-N2 alone is a CPU each", flat(), []K{{MinNodes: 2, MaxNodes: 2}}, "1 n1:0 n2:0"},
		{"-N2 -n4 -c2 keeps a task for the second node", newCluster(4, 1, 64, 1),
			[]K{{MinNodes: 2, MaxNodes: 2, NTasks: 4, CPUsPerTask: 2, MemPerCPU: 50}}, "1 n1:0-5/300 n2:0-1/100"},
		{"-N2 -n4 per CPU memory as observed", newCluster(4, 1, 64, 1),
			[]K{{MinNodes: 2, MaxNodes: 2, NTasks: 4, MemPerCPU: 100}}, "1 n1:0-2/300 n2:0/100"},
		{"jobs share a node", flat(), []K{{NTasks: 1}, {NTasks: 2}, {NTasks: 2}}, "1 n1:0\n2 n1:1-2\n3 n2:0-1"},
		{"--ntasks-per-node", flat(), []K{{NTasks: 4, TasksPerNode: 2}}, "1 n1:0-1 n2:0-1"},
		{"--ntasks-per-node without -n", flat(), []K{{MinNodes: 2, MaxNodes: 2, TasksPerNode: 3}}, "1 n1:0-2 n2:0-2"},
		{"-N1-3 takes as many as it may", flat(), []K{{MinNodes: 1, MaxNodes: 3, NTasks: 3}}, "1 n1:0 n2:0 n3:0"},
		{"--use-min-nodes takes as few", flat(), []K{{MinNodes: 1, MaxNodes: 3, NTasks: 3, UseMinNodes: true}}, "1 n1:0-2"},
		{"node sizes: the largest that fits", flat(), []K{{MinNodes: 1, MaxNodes: 5, NodeSizes: "1,3,5", NTasks: 5}}, "1 n1:0-2 n2:0 n3:0"},
		{"--exclusive", flat(), []K{{Share: wlm.ShareNever, MemPerNode: 100}, {NTasks: 1}}, "1 n1:0-3/100!\n2 n2:0"},
		{"--exclusive with memory per CPU counts all CPUs", flat(), []K{{Share: wlm.ShareNever, MemPerCPU: 100}}, "1 n1:0-3/400!"},
		{"--mem=0 is all memory", flat(), []K{{MemAll: true}, {MemPerNode: 1}}, "1 n1:0/8000\n2 n2:0/1"},
		{"two jobs of 60% memory do not share", flat(), []K{{MemPerNode: 4800}, {MemPerNode: 4800}}, "1 n1:0/4800\n2 n2:0/4800"},
		{"memory is not counted with CR_Core", with(flat(), "CR_Core"), []K{{MemPerNode: 4800}, {MemPerNode: 4800}}, "1 n1:0\n2 n1:1"},
		{"--exclude", flat(), []K{{MinNodes: 2, MaxNodes: 2, ExcNodes: "n[1,3]"}}, "1 n2:0 n4:0"},
		{"--nodelist", flat(), []K{{ReqNodes: "n3"}}, "1 n3:0"},
		{"--nodelist with more nodes", flat(), []K{{ReqNodes: "n3", MinNodes: 2, MaxNodes: 2}}, "1 n3:0 n4:0"},
		{"--mincpus", flat(), []K{{NTasks: 1, MinCPUsPerNode: 3}}, "1 n1:0-2"},
		{"-O needs one CPU", flat(), []K{{NTasks: 9, MinNodes: 1, MaxNodes: 1, Overcommit: true}}, "1 n1:0"},
		{"--spread-job", flat(), []K{{NTasks: 6, Spread: true}}, "1 n1:0-1 n2:0-1 n3:0 n4:0"},
		{"a CPU on two-thread cores takes both threads", smt(), []K{{NTasks: 1, MemPerCPU: 10}}, "1 n1:0-1/20"},
		{"-n2 shares a core of two threads", smt(), []K{{NTasks: 2}}, "1 n1:0-1"},
		{"--hint=nomultithread takes a core per task, over the sockets", smt(), []K{{NTasks: 2, ThreadsPerCore: 1}}, "1 n1:0-1,8-9"},
		{"block distribution stays on a socket", with(smt(), "CR_Core,CR_CORE_DEFAULT_DIST_BLOCK"), []K{{NTasks: 2, ThreadsPerCore: 1}}, "1 n1:0-3"},
		{"CR_ONE_TASK_PER_CORE", with(smt(), "CR_Core,CR_ONE_TASK_PER_CORE"), []K{{NTasks: 2}}, "1 n1:0-1,8-9"},
		{"CR_CPU gives what was asked, no core is shared", with(smt(), "CR_CPU"), []K{{NTasks: 1}, {NTasks: 3}}, "1 n1:0\n2 n1:2-4"},
		{"CR_Socket gives sockets", with(smt(), "CR_Socket"), []K{{NTasks: 1}, {NTasks: 9}}, "1 n1:0-7\n2 n2:0-15"},
		{"--ntasks-per-socket", smt(), []K{{NTasks: 4, TasksPerSocket: 2, CPUsPerTask: 2}}, "1 n1:0-3,8-11"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, k := range tc.jobs {
				tc.c.job(3600, k)
			}
			r := tc.c.place(t, sched.Skip, 0)
			if got := layout(tc.c, r); got != tc.want {
				t.Errorf("got:\n%s\nwant:\n%s\nverdicts: %+v", got, tc.want, r.Verdicts)
			}
		})
	}
}

func TestOrderOfNodes(t *testing.T) {
	type K = mirror.Class
	for _, tc := range []struct {
		name string
		make func() *cluster
		job  K
		want string
	}{
		{"lowest weight first", func() *cluster {
			c := newCluster(4, 1, 4, 1)
			c.nodes[0].Weight, c.nodes[1].Weight = 10, 5
			return c
		}, K{MinNodes: 3, MaxNodes: 3}, "9 n2:0 n3:0 n4:0"},
		{"the shortest run of neighbours that is long enough", func() *cluster {
			c := newCluster(10, 1, 1, 1)
			c.run(c.job(60, K{}), testNow+60, use(3, 0, 0), use(6, 0, 0))
			return c
		}, K{MinNodes: 2, MaxNodes: 2}, "9 n5:0 n6:0"},
		{"else the longest runs", func() *cluster {
			c := newCluster(8, 1, 1, 1)
			c.run(c.job(60, K{}), testNow+60, use(1, 0, 0), use(4, 0, 0))
			return c
		}, K{MinNodes: 5, MaxNodes: 5}, "9 n3:0 n4:0 n6:0 n7:0 n8:0"},
		{"CR_LLN: most free CPUs", func() *cluster {
			c := newCluster(3, 1, 4, 1)
			c.settings["SelectTypeParameters"] = "CR_Core,CR_LLN"
			c.run(c.job(60, K{}), testNow+60, use(0, 0, 0, 1), use(1, 0, 0))
			return c
		}, K{NTasks: 1}, "9 n3:0"},
		{"--contiguous", func() *cluster {
			c := newCluster(6, 1, 1, 1)
			c.run(c.job(60, K{}), testNow+60, use(1, 0, 0))
			return c
		}, K{MinNodes: 3, MaxNodes: 3, Contiguous: true}, "9 n3:0 n4:0 n5:0"},
		{"features with & and |", func() *cluster {
			c := newCluster(4, 1, 1, 1)
			c.nodes[1].Features, c.nodes[3].Features = []string{"a", "b"}, []string{"c"}
			return c
		}, K{MinNodes: 2, MaxNodes: 2, Features: "a&b|c"}, "9 n2:0 n4:0"},
		{"[a|b]: all nodes of one choice", func() *cluster {
			c := newCluster(4, 1, 1, 1)
			for i, f := range []string{"a", "b", "b", "a"} {
				c.nodes[i].Features = []string{f}
			}
			c.run(c.job(60, K{}), testNow+60, use(0, 0, 0))
			return c
		}, K{MinNodes: 2, MaxNodes: 2, Features: "[a|b]"}, "9 n2:0 n3:0"},
		{"b*1: one node of a kind", func() *cluster {
			c := newCluster(4, 1, 1, 1)
			c.nodes[3].Features = []string{"b"}
			return c
		}, K{MinNodes: 2, MaxNodes: 2, Features: "b*1"}, "9 n1:0 n4:0"},
		{"--prefer is followed when it can be", func() *cluster {
			c := newCluster(4, 1, 1, 1)
			c.nodes[2].Features = []string{"p"}
			return c
		}, K{Prefer: "p"}, "9 n3:0"},
		{"at most two nodes: the widest", func() *cluster {
			c := newCluster(3, 1, 8, 1)
			c.run(c.job(60, K{}), testNow+60, use(0, 0, 0, 1, 2, 3, 4, 5))
			return c
		}, K{MinNodes: 1, MaxNodes: 2, NTasks: 12}, "9 n2:0-7 n3:0-3"},
		{"MaxCPUsPerNode counts all jobs of the partition", func() *cluster {
			c := newCluster(2, 1, 4, 1)
			c.parts[0].MaxCPUsPerNode = 2
			c.run(c.job(60, K{}), testNow+60, use(0, 0, 0))
			return c
		}, K{NTasks: 3}, "9 n1:1 n2:0-1"},
		{"--exclusive=user keeps others off", func() *cluster {
			c := newCluster(2, 1, 4, 1)
			j := c.job(60, K{Share: wlm.ShareUser})
			j.User = 7
			c.run(j, testNow+60, use(0, 0, 0))
			return c
		}, K{NTasks: 1}, "9 n2:0"},
		{"a class of several partitions: tier, then the user's order", func() *cluster {
			c := newCluster(3, 1, 4, 1)
			c.part("low", 1, 1)
			c.part("high", 5, 2)
			return c
		}, K{Partitions: []int{1, 0, 2}}, "9 n3:0"},
		{"OverSubscribe=EXCLUSIVE", func() *cluster {
			c := newCluster(2, 1, 4, 1)
			c.parts[0].OverSubscribe = wlm.OverSubExclusive
			return c
		}, K{NTasks: 1}, "9 n1:0-3!"},
		{"CPUs for the system are never given", func() *cluster {
			c := newCluster(1, 1, 4, 1)
			c.nodes[0].SpecCPUs = c.nodes[0].SpecCPUs.Set(0)
			return c
		}, K{Share: wlm.ShareNever}, "9 n1:1-3!"},
		{"linear gives whole nodes", func() *cluster {
			c := newCluster(3, 1, 4, 1)
			c.linear = true
			return c
		}, K{NTasks: 5}, "9 n1:0-3! n2:0-3!"},
		{"more cores than a word, over the sockets", func() *cluster { return newCluster(1, 2, 64, 2) }, K{NTasks: 200}, "9 n1:0-99,128-227"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := tc.make()
			for len(c.jobs) < 8 {
				c.jobs = append(c.jobs, &mirror.Job{ID: wlm.JobID(100 + len(c.jobs)), Running: true})
			}
			c.job(3600, tc.job)
			if got := layout(c, c.place(t, sched.Skip, 0)); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
