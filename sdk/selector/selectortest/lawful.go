package selectortest

import (
	"slices"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/mirror/mirrortest"
	"github.com/sluice-hpc/sluice/sdk/selector"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// ledger is what is taken of each node.
type ledger struct {
	cpus  []wlm.CPUSet
	mem   []wlm.MiB
	jobs  []int
	whole []bool
	used  map[uint32]uint64 // counters
}

func (l *ledger) take(c *mirror.Class, uses []mirror.NodeUse) {
	for _, u := range uses {
		l.cpus[u.Node] = l.cpus[u.Node].Or(u.CPUs)
		l.mem[u.Node] += u.Mem
		l.jobs[u.Node]++
		l.whole[u.Node] = l.whole[u.Node] || u.Whole
	}
	for _, u := range c.Counters {
		l.used[u.Counter] += u.Amount
	}
}

// check holds an answer to the law, placement by placement, as the commit does.
func (s *subject) check(c *mirrortest.Cluster, r selector.Request, got selector.Result) {
	s.Helper()
	l := &ledger{cpus: make([]wlm.CPUSet, len(c.Nodes)), mem: make([]wlm.MiB, len(c.Nodes)), jobs: make([]int, len(c.Nodes)),
		whole: make([]bool, len(c.Nodes)), used: map[uint32]uint64{}}
	for _, j := range c.Jobs {
		if j.Running {
			l.take(j.Class, j.Uses)
		}
	}
	listed := map[wlm.JobID]bool{}
	for _, e := range r.Agenda.Entries {
		listed[e.Job] = true
	}
	if r.MaxStarts > 0 && len(got.Placements) > r.MaxStarts {
		s.Errorf("%d placements, MaxStarts is %d", len(got.Placements), r.MaxStarts)
	}
	count := map[wlm.JobID]int{}
	for _, p := range got.Placements {
		j := c.Jobs[p.Job]
		if j == nil || !listed[p.Job] || j.Running || !j.Ready {
			s.Errorf("job %d was placed, which is not a ready job of the agenda", p.Job)
			return
		}
		if count[p.Job]++; count[p.Job] > j.Tasks {
			s.Errorf("job %d was placed %d times, it has %d tasks", p.Job, count[p.Job], j.Tasks)
		}
		s.lawful(c, l, j, &p)
		l.take(j.Class, p.Uses)
		for _, k := range c.Counters {
			if l.used[k.ID] > k.Capacity {
				s.Errorf("job %d takes counter %s to %d of %d", p.Job, k.Name, l.used[k.ID], k.Capacity)
			}
		}
	}
	s.checkVerdicts(c, listed, got)
}

func (s *subject) checkVerdicts(c *mirrortest.Cluster, listed map[wlm.JobID]bool, got selector.Result) {
	s.Helper()
	told := map[wlm.JobID]bool{}
	for _, v := range got.Verdicts {
		if v.Reason == wlm.ReasonNone || v.Text == "" {
			s.Errorf("a verdict must have a reason and a text with numbers for the user, got %+v", v)
		}
		if v.Start != 0 && v.Start < c.Now {
			s.Errorf("a forecast must not lie in the past: %+v at %d", v, c.Now)
		}
		for _, n := range v.Nodes {
			if int(n) >= len(c.Nodes) {
				s.Errorf("a forecast names node %d of %d", n, len(c.Nodes))
			}
		}
		for _, id := range v.Jobs {
			if !listed[id] || told[id] {
				s.Errorf("job %d must be in the agenda and in one verdict at most", id)
			}
			told[id] = true
		}
	}
}

// lawful checks one placement against what is free.
func (s *subject) lawful(c *mirrortest.Cluster, l *ledger, j *mirror.Job, p *selector.Placement) {
	s.Helper()
	q := j.Class
	if !slices.Contains(q.Partitions, p.Partition) {
		s.Errorf("job %d asks for partitions %v and was placed in %d", j.ID, q.Partitions, p.Partition)
		return
	}
	part := c.Partitions[p.Partition]
	if !part.Starts {
		s.Errorf("job %d was placed in partition %s, whose state lets no job start", j.ID, part.Name)
	}
	if n := uint32(len(p.Uses)); n < q.MinNodes || q.MaxNodes > 0 && n > q.MaxNodes || n > part.MaxNodes {
		s.Errorf("job %d needs %d to %d nodes and got %d", j.ID, q.MinNodes, q.MaxNodes, n)
	}
	cpus := 0
	seen := map[wlm.NodeIndex]bool{}
	for _, u := range p.Uses {
		if !slices.Contains(part.Nodes, u.Node) || seen[u.Node] {
			s.Errorf("job %d: node %d is not of partition %s, or named twice", j.ID, u.Node, part.Name)
			return
		}
		seen[u.Node] = true
		cpus += u.CPUs.Count()
		s.lawfulUse(c, l, j, &u)
	}
	if want := int(q.NTasks * q.CPUsPerTask); cpus < want && !q.Overcommit {
		s.Errorf("job %d needs %d CPUs (%d tasks of %d) and got %d", j.ID, want, q.NTasks, q.CPUsPerTask, cpus)
	}
}

func (s *subject) lawfulUse(c *mirrortest.Cluster, l *ledger, j *mirror.Job, u *mirror.NodeUse) {
	s.Helper()
	n, q := c.Nodes[u.Node], j.Class
	if !n.Usable {
		s.Errorf("job %d was placed on node %s, where no job may start", j.ID, n.Name)
	}
	if q.Features == "big" && !slices.Contains(n.Features, "big") {
		s.Errorf("job %d asks for the feature %s, which node %s does not have", j.ID, q.Features, n.Name)
	}
	if u.CPUs.Count() == 0 || len(u.CPUs.AndNot(wlm.FullCPUSet(n.CPUs))) > 0 && u.CPUs.AndNot(wlm.FullCPUSet(n.CPUs)).Count() > 0 {
		s.Errorf("job %d: CPUs %v of node %s, which has %d", j.ID, u.CPUs, n.Name, n.CPUs)
	}
	if u.CPUs.Overlaps(n.SpecCPUs) || u.CPUs.Overlaps(l.cpus[u.Node]) {
		s.Errorf("job %d: CPUs %v of node %s are taken: %v", j.ID, u.CPUs, n.Name, l.cpus[u.Node])
	}
	if l.mem[u.Node]+u.Mem > n.Memory {
		s.Errorf("job %d: %d MiB on node %s, which has %d, %d of them taken", j.ID, u.Mem, n.Name, n.Memory, l.mem[u.Node])
	}
	if q.MemPerNode > 0 && u.Mem < q.MemPerNode && !u.Whole {
		s.Errorf("job %d asks for %d MiB per node and got %d", j.ID, q.MemPerNode, u.Mem)
	}
	if alone := u.Whole || q.Share == wlm.ShareNever; l.whole[u.Node] || alone && l.jobs[u.Node] > 0 {
		s.Errorf("job %d shares node %s with a job that may not be shared with", j.ID, n.Name)
	}
	if q.Share == wlm.ShareNever && !u.Whole {
		s.Errorf("job %d is exclusive, so its use of node %s must be whole", j.ID, n.Name)
	}
}
