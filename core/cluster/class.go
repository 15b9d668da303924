package cluster

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Class is a resource request as a comparable value: jobs of equal classes ask
// for the same. Time limits are not part of it.
type Class struct {
	Partitions                                          string // comma separated, in the user's order
	MinNodes, MaxNodes                                  uint32
	NodeSizes, ReqNodes, ExcNodes                       string
	NTasks, CPUsPerTask                                 uint32
	TasksPerNode, TasksPerCore, TasksPerSocket          uint32
	SocketsPerNode, CoresPerSocket, ThreadsPerCore      uint32
	MinCPUsPerNode                                      uint32
	MemPerNode, MemPerCPU                               wlm.MiB
	MemAll                                              bool
	TmpDisk                                             wlm.MiB
	Features, Prefer                                    string
	TresPerJob, TresPerNode, TresPerSocket, TresPerTask string
	Share                                               wlm.Exclusivity
	Contiguous, Overcommit, SpreadJob, UseMinNodes      bool
	CoreSpec                                            uint32
	Licenses, Reservation                               string
	Dist, GresFlags                                     string
	CPUsPerGPU, TasksPerGPU                             uint32
	MemPerGPU                                           wlm.MiB
	Switches, SwitchWait, Segment                       uint32
}

// ClassOf returns the class of a request.
func ClassOf(s *wlm.Spec) Class {
	return Class{
		Partitions: strings.Join(s.Partitions, ","),
		MinNodes:   s.MinNodes, MaxNodes: s.MaxNodes, NodeSizes: s.NodeSizes, ReqNodes: s.ReqNodes, ExcNodes: s.ExcNodes,
		NTasks: s.NTasks, CPUsPerTask: s.CPUsPerTask, TasksPerNode: s.TasksPerNode, TasksPerCore: tasksPerCore(s),
		TasksPerSocket: s.TasksPerSocket, SocketsPerNode: s.SocketsPerNode, CoresPerSocket: s.CoresPerSocket,
		ThreadsPerCore: s.ThreadsPerCore, MinCPUsPerNode: s.MinCPUsPerNode, MemPerNode: s.MemPerNode, MemPerCPU: s.MemPerCPU,
		MemAll: s.MemAll, TmpDisk: s.TmpDisk, Features: s.Features, Prefer: s.Prefer, TresPerJob: s.TresPerJob,
		TresPerNode: s.TresPerNode, TresPerSocket: s.TresPerSocket, TresPerTask: s.TresPerTask, Share: s.Share,
		Contiguous: s.Contiguous, Overcommit: s.Overcommit, SpreadJob: s.SpreadJob, UseMinNodes: s.UseMinNodes,
		CoreSpec: s.CoreSpec, Licenses: s.Licenses, Reservation: s.Reservation, Dist: s.Distribution,
		GresFlags: s.Option("gres-flags"), CPUsPerGPU: s.CPUsPerGPU, TasksPerGPU: s.TasksPerGPU, MemPerGPU: s.MemPerGPU,
		Switches: s.Switches, SwitchWait: s.SwitchWait, Segment: segmentOf(s),
	}
}

// tasksPerCore is the bound on tasks of a core; --hint=multithread lifts that of
// CR_ONE_TASK_PER_CORE.
func tasksPerCore(s *wlm.Spec) uint32 {
	const many = 1<<16 - 1
	if s.TasksPerCore == 0 && s.Hint == "multithread" {
		return many
	}
	return s.TasksPerCore
}

// MinCPUs is the number of CPUs that the request needs in all, at least.
func (k *Class) MinCPUs() uint32 {
	n := max(k.NTasks, k.MinNodes, 1)
	if k.TasksPerNode > 0 && k.NTasks == 0 {
		n = max(k.MinNodes, 1) * k.TasksPerNode
	}
	if k.Overcommit {
		n = max(k.MinNodes, 1)
	}
	return max(n*max(k.CPUsPerTask, 1), max(k.MinNodes, 1)*k.MinCPUsPerNode)
}

// cpusPerNode is the number of CPUs that any one node of the request needs.
func (k *Class) cpusPerNode() uint32 {
	n := max(k.CPUsPerTask, 1)
	if k.TasksPerNode > 0 {
		n *= k.TasksPerNode
	}
	if k.MaxNodes == 1 && k.NTasks > 1 && !k.Overcommit {
		n = max(n, k.NTasks*max(k.CPUsPerTask, 1))
	}
	return max(n, k.MinCPUsPerNode)
}

// feasibility remembers whether nodes as configured can ever serve a class.
type feasibility struct{ err error }

// feasible says whether the class could run if every node of its partitions
// were up and idle, as Slurm checks at submission. How many nodes there are is
// not checked: such a job waits with reason PartitionNodeLimit.
func (c *Cluster) feasible(op string, k Class) error {
	if f := c.classes[k]; f != nil {
		return f.err
	}
	err := c.testClass(op, &k)
	const bound = 10000 // classes remembered
	if len(c.classes) >= bound {
		clear(c.classes)
	}
	c.classes[k] = &feasibility{err}
	return err
}

func (c *Cluster) testClass(op string, k *Class) error {
	var expr *wlm.FeatureExpr
	if k.Features != "" {
		x, err := wlm.ParseFeatures(k.Features)
		if err != nil {
			return errs.Coded(op, errs.InvalidFeature, fmt.Sprintf("--constraint=%s: %v", k.Features, err))
		}
		if name := c.unknownFeature(x); name != "" {
			return errs.Coded(op, errs.InvalidFeature, fmt.Sprintf("--constraint=%s: no node has %s", k.Features, name))
		}
		if err := testCounts(op, k, x); err != nil {
			return err
		}
		expr = x
	}
	if k.Prefer != "" {
		x, err := wlm.ParseFeatures(k.Prefer)
		if err != nil {
			return errs.Coded(op, errs.InvalidPrefer).With("--prefer=%s: %v", k.Prefer, err)
		}
		if name := c.unknownFeature(x); name != "" {
			return errs.Coded(op, errs.InvalidPrefer).With("--prefer=%s: no node has %s", k.Prefer, name)
		}
	}
	required, err := c.namedNodes(op, k.ReqNodes)
	if err != nil {
		return err
	}
	excluded, err := c.namedNodes(op, k.ExcNodes)
	if err != nil {
		return err
	}
	for _, n := range c.Nodes {
		if required[n.Name] && excluded[n.Name] {
			return errs.Coded(op, errs.InvalidNodeName).With("--nodelist=%s --exclude=%s: both name %s", k.ReqNodes, k.ExcNodes, n.Name)
		}
	}
	var worst error
	for _, name := range strings.Split(k.Partitions, ",") {
		p := c.Partition(name)
		if p == nil {
			continue
		}
		if worst = c.testPartition(op, k, p, expr, required, excluded); worst == nil {
			return nil
		}
	}
	return worst
}

// census is what the nodes of a partition could give to a request.
type census struct {
	nodes, topo, cpus, mem, disk, feat int
	rooms                              []int                    // tasks, of each node that fits
	totals                             map[wlm.GresCount]uint64 // of what the job asks for as a whole
	total                              uint32
	maxCPU                             uint32
	maxMem                             wlm.MiB
}

func (c *Cluster) testPartition(op string, k *Class, p *wlm.Partition, expr *wlm.FeatureExpr, required, excluded map[wlm.NodeName]bool) error {
	in, lacks := 0, wlm.NodeName("")
	var t census
	for _, name := range p.NodeNames {
		n := c.Node(name)
		if n == nil {
			continue
		}
		if t.nodes++; excluded[name] {
			continue
		}
		if required[name] {
			in++
			if expr != nil && !featureMayMatch(expr, n.Features) {
				lacks = name
			}
		}
		c.count(&t, k, p, n, expr)
	}
	need, _ := c.nodeNeed(k)
	refuse := func(text string) *errs.Error { return errs.Coded(op, errs.NodeConfigUnavailable, text) }
	switch {
	case in < len(required):
		return errs.Coded(op, errs.NodesNotInPartition, fmt.Sprintf("--nodelist=%s: partition %s has only %s", k.ReqNodes, p.Name, p.Nodes))
	case lacks != "":
		return errs.Coded(op, errs.NodeConfigUnavailable).With("--nodelist=%s: node %s has not what --constraint=%s asks for", k.ReqNodes, lacks, k.Features)
	case len(t.rooms) > 0:
		return c.testTotal(op, k, p, &t)
	case expr != nil && t.feat == 0:
		return errs.Coded(op, errs.NodeConfigUnavailable).With("--constraint=%s: no node of partition %s that may be used has it", k.Features, p.Name)
	case t.topo == 0:
		return refuse("Socket, core and/or thread specification can not be satisfied")
	case t.cpus == 0:
		return refuse("CPU count per node can not be satisfied").
			With("needs %d CPUs on a node, the largest of partition %s has %d", need, p.Name, t.maxCPU)
	case t.mem == 0:
		return refuse("Memory specification can not be satisfied").
			With("needs %d MiB on a node, the largest of partition %s has %d", max(k.MemPerNode, k.MemPerCPU*wlm.MiB(need)), p.Name, t.maxMem)
	case t.disk == 0:
		return refuse("Temporary disk specification can not be satisfied")
	}
	return errs.Coded(op, errs.NodeConfigUnavailable).With("no node of partition %s has all that is asked for", p.Name)
}

// nodeNeed is what one node must have: CPUs and memory.
func (c *Cluster) nodeNeed(k *Class) (cpus uint32, mem wlm.MiB) {
	cpus = k.cpusPerNode()
	if mem = k.MemPerNode; k.MemPerCPU > 0 {
		mem = k.MemPerCPU * wlm.MiB(cpus)
	}
	if !c.settings.TrackMemory {
		mem = 0
	}
	return cpus, mem
}

// count adds a node to the census.
func (c *Cluster) count(t *census, k *Class, p *wlm.Partition, n *wlm.Node, expr *wlm.FeatureExpr) {
	need, memNeed := c.nodeNeed(k)
	memory := n.RealMemory - min(n.MemSpecLimit, n.RealMemory)
	t.total += n.CPUs
	t.maxCPU, t.maxMem = max(t.maxCPU, n.CPUs), max(t.maxMem, memory)
	limit := p.MaxCPUsPerNode
	if limit == 0 || limit == wlm.Unset || c.settings.WholeNodes {
		limit = n.CPUs
	}
	feat := expr == nil || featureMayMatch(expr, n.Features)
	topo := n.Sockets >= k.SocketsPerNode && n.CoresPerSocket >= k.CoresPerSocket && (k.ThreadsPerCore == wlm.Unset || n.ThreadsPerCore >= k.ThreadsPerCore)
	cpus := min(n.CPUs, limit) >= need
	mem := memory >= memNeed
	disk := n.TmpDisk >= k.TmpDisk
	for _, x := range []struct {
		ok bool
		n  *int
	}{{feat, &t.feat}, {topo, &t.topo}, {cpus, &t.cpus}, {mem, &t.mem}, {disk, &t.disk}} {
		if x.ok {
			*x.n++
		}
	}
	room, totals, gres := gresRoom(k, n, k.room(n, limit, memory, &c.settings))
	if feat && topo && cpus && mem && disk && gres && room > 0 {
		t.rooms = append(t.rooms, room)
		for a, have := range totals {
			if t.totals == nil {
				t.totals = map[wlm.GresCount]uint64{}
			}
			t.totals[a] += have
		}
	}
}

// room is how many tasks the whole node holds, of which jobs may use limit
// CPUs; 0 when that is too few to be of use.
func (k *Class) room(n *wlm.Node, limit uint32, memory wlm.MiB, s *Settings) int {
	threads := max(n.ThreadsPerCore, 1)
	use := threads
	if k.ThreadsPerCore > 0 && k.ThreadsPerCore < threads {
		use = k.ThreadsPerCore
	}
	cpus := n.CPUs - min(uint32(n.SpecCPUs().Count()), n.CPUs)
	if k.Share == wlm.ShareNever && cpus > limit {
		return 0
	}
	usable := min(cpus, limit) / threads * use
	if k.MemPerCPU > 0 && s.TrackMemory {
		usable = min(usable, uint32(memory/k.MemPerCPU))
	}
	tasks := int(usable / max(k.CPUsPerTask, 1))
	if k.TasksPerCore == 1 || k.TasksPerCore == 0 && s.OneTaskPerCore {
		each := (max(k.CPUsPerTask, 1) + use - 1) / use
		tasks = min(tasks, int(min(cpus, limit)/threads/each))
	}
	switch {
	case k.Overcommit && tasks > 0:
		tasks = int(max(k.NTasks, 1))
	case tasks < int(k.TasksPerNode):
		return 0
	case k.TasksPerNode > 0:
		return int(k.TasksPerNode)
	}
	return tasks
}

// testTotal refuses what all fitting nodes together cannot give. What the whole
// partition is too small for waits: the partition may grow.
func (c *Cluster) testTotal(op string, k *Class, p *wlm.Partition, t *census) error {
	slices.SortFunc(t.rooms, func(a, b int) int { return b - a })
	most := len(t.rooms)
	if k.MaxNodes > 0 {
		most = min(most, int(k.MaxNodes))
	}
	if p.MaxNodes > 0 && p.MaxNodes != wlm.Unset {
		most = min(most, int(p.MaxNodes))
	}
	sum := 0
	for _, r := range t.rooms[:most] {
		sum += r
	}
	fewNodes := int(k.MinNodes) > len(t.rooms) && int(k.MinNodes) <= t.nodes
	fewCPUs := sum < int(k.NTasks) && k.NTasks*max(k.CPUsPerTask, 1) <= t.total
	if k.TasksPerNode > 0 && k.NTasks > 0 && p.MaxNodes < wlm.Unset && most < int(k.NTasks+k.TasksPerNode-1)/int(k.TasksPerNode) {
		fewCPUs = false // PartitionNodeLimit
	}
	asks, _ := wlm.ParseGres(k.TresPerJob)
	for _, a := range asks {
		if have := t.totals[a]; have < a.Count {
			return errs.Coded(op, errs.NodeConfigUnavailable).With("%s: partition %s has %d", a, p.Name, have)
		}
	}
	if fewNodes || fewCPUs {
		return errs.Coded(op, errs.NodeConfigUnavailable).
			With("%d nodes of partition %s fit, %d of them hold %d tasks", len(t.rooms), p.Name, most, sum)
	}
	return nil
}

// featureMayMatch is the node-by-node part of a constraint: counts and
// same-for-all brackets are the selector's business.
func featureMayMatch(x *wlm.FeatureExpr, have []string) bool {
	return x.Match(have) || len(x.Counts()) > 0
}

// namedNodes resolves a host list of the request to nodes that exist.
func (c *Cluster) namedNodes(op, list string) (map[wlm.NodeName]bool, error) {
	if list == "" {
		return nil, nil
	}
	names, err := hostlist.Expand(list)
	if err != nil {
		return nil, errs.Coded(op, errs.InvalidNodeName, fmt.Sprintf("%s: %v", list, err))
	}
	out := make(map[wlm.NodeName]bool, len(names))
	for _, n := range names {
		if c.Node(wlm.NodeName(n)) == nil {
			return nil, errs.Coded(op, errs.InvalidNodeName, fmt.Sprintf("node %s is not configured", n))
		}
		out[wlm.NodeName(n)] = true
	}
	return out, nil
}
