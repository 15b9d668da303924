package cluster

import (
	"fmt"
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
	Switches, SwitchWait                                uint32
}

// ClassOf returns the class of a request.
func ClassOf(s *wlm.Spec) Class {
	return Class{
		Partitions: strings.Join(s.Partitions, ","),
		MinNodes:   s.MinNodes, MaxNodes: s.MaxNodes, NodeSizes: s.NodeSizes, ReqNodes: s.ReqNodes, ExcNodes: s.ExcNodes,
		NTasks: s.NTasks, CPUsPerTask: s.CPUsPerTask, TasksPerNode: s.TasksPerNode, TasksPerCore: s.TasksPerCore,
		TasksPerSocket: s.TasksPerSocket, SocketsPerNode: s.SocketsPerNode, CoresPerSocket: s.CoresPerSocket,
		ThreadsPerCore: s.ThreadsPerCore, MinCPUsPerNode: s.MinCPUsPerNode, MemPerNode: s.MemPerNode, MemPerCPU: s.MemPerCPU,
		MemAll: s.MemAll, TmpDisk: s.TmpDisk, Features: s.Features, Prefer: s.Prefer, TresPerJob: s.TresPerJob,
		TresPerNode: s.TresPerNode, TresPerSocket: s.TresPerSocket, TresPerTask: s.TresPerTask, Share: s.Share,
		Contiguous: s.Contiguous, Overcommit: s.Overcommit, SpreadJob: s.SpreadJob, UseMinNodes: s.UseMinNodes,
		CoreSpec: s.CoreSpec, Licenses: s.Licenses, Reservation: s.Reservation, Dist: s.Distribution,
		GresFlags: s.Option("gres-flags"), CPUsPerGPU: s.CPUsPerGPU, TasksPerGPU: s.TasksPerGPU, MemPerGPU: s.MemPerGPU,
		Switches: s.Switches, SwitchWait: s.SwitchWait,
	}
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
		expr = x
	}
	required, err := c.namedNodes(op, k.ReqNodes)
	if err != nil {
		return err
	}
	excluded, err := c.namedNodes(op, k.ExcNodes)
	if err != nil {
		return err
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

func (c *Cluster) testPartition(op string, k *Class, p *wlm.Partition, expr *wlm.FeatureExpr, required, excluded map[wlm.NodeName]bool) error {
	var fits, cpus, mem, feat int
	need := k.cpusPerNode()
	memNeed := k.MemPerNode
	if k.MemPerCPU > 0 {
		memNeed = k.MemPerCPU * wlm.MiB(need)
	}
	var maxCPU uint32
	var maxMem wlm.MiB
	in := 0
	for _, name := range p.NodeNames {
		n := c.Node(name)
		if n == nil || excluded[name] {
			continue
		}
		if required[name] {
			in++
		}
		maxCPU, maxMem = max(maxCPU, n.CPUs), max(maxMem, n.RealMemory)
		okFeat := expr == nil || featureMayMatch(expr, n.Features)
		okCPU := n.CPUs >= need && (p.MaxCPUsPerNode == wlm.Unset || p.MaxCPUsPerNode == 0 || p.MaxCPUsPerNode >= need)
		okMem := !c.settings.TrackMemory || n.RealMemory >= memNeed
		if okFeat {
			feat++
		}
		if okCPU {
			cpus++
		}
		if okMem {
			mem++
		}
		if okFeat && okCPU && okMem {
			fits++
		}
	}
	switch {
	case in < len(required):
		return errs.Coded(op, errs.NodesNotInPartition, fmt.Sprintf("--nodelist=%s: partition %s has only %s", k.ReqNodes, p.Name, p.Nodes))
	case fits > 0:
		return nil
	case expr != nil && feat == 0:
		return errs.Coded(op, errs.InvalidFeature, fmt.Sprintf("--constraint=%s: no node of partition %s has it", k.Features, p.Name))
	case cpus == 0:
		return errs.Coded(op, errs.NodeConfigUnavailable, "CPU count per node can not be satisfied").
			With("needs %d CPUs on a node, the largest of partition %s has %d", need, p.Name, maxCPU)
	case mem == 0:
		return errs.Coded(op, errs.NodeConfigUnavailable, "Memory specification can not be satisfied").
			With("needs %d MiB on a node, the largest of partition %s has %d", memNeed, p.Name, maxMem)
	}
	return errs.Coded(op, errs.NodeConfigUnavailable, fmt.Sprintf("no node of partition %s has all that is asked for", p.Name))
}

// featureMayMatch is the node-by-node part of a constraint: counts and
// same-for-all brackets are the selector's business.
func featureMayMatch(x *wlm.FeatureExpr, have []string) bool {
	return x.Match(have) || len(x.Counts()) > 0 || len(x.Choices()) > 0
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
