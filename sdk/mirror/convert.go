package mirror

import (
	"strings"

	"github.com/sluice-hpc/sluice/sdk/proto/mirror/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// text makes s fit for the wire, which takes valid UTF-8 only.
func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func texts(list []string) []string {
	for i, s := range list {
		if t := text(s); t != s {
			clean := append([]string(nil), list...)
			clean[i] = t
			return append(clean[:i+1], texts(list[i+1:])...)
		}
	}
	return list
}

// words turns a list of numbers of one kind into one of another.
func words[B, A ~int | ~uint32 | ~uint64](list []A) []B {
	if len(list) == 0 {
		return nil
	}
	out := make([]B, len(list))
	for i, x := range list {
		out[i] = B(x)
	}
	return out
}

// NodesToWire turns node indexes into their numbers.
func NodesToWire(list []wlm.NodeIndex) []uint32 { return words[uint32](list) }

// NodesOfWire undoes NodesToWire.
func NodesOfWire(list []uint32) []wlm.NodeIndex { return words[wlm.NodeIndex](list) }

func nodeToWire(n *Node) *mirrorv1.Node {
	return &mirrorv1.Node{
		Index: uint32(n.Index), Name: text(string(n.Name)), Cpus: uint32(n.CPUs), Sockets: uint32(n.Sockets),
		CoresPerSocket: uint32(n.CoresPerSocket), ThreadsPerCore: uint32(n.ThreadsPerCore),
		Memory: uint64(n.Memory), TmpDisk: uint64(n.TmpDisk), Weight: n.Weight, Features: texts(n.Features),
		Gres: text(n.Gres), Usable: n.Usable, ReservedCores: len(n.SpecCPUs) > 0, SpecCpus: n.SpecCPUs, GresConf: text(n.GresConf),
	}
}

func nodeOfWire(m *mirrorv1.Node) Node {
	return Node{
		Index: wlm.NodeIndex(m.GetIndex()), Name: wlm.NodeName(m.GetName()), CPUs: int(m.GetCpus()),
		Sockets: int(m.GetSockets()), CoresPerSocket: int(m.GetCoresPerSocket()), ThreadsPerCore: int(m.GetThreadsPerCore()),
		Memory: wlm.MiB(m.GetMemory()), TmpDisk: wlm.MiB(m.GetTmpDisk()), Weight: m.GetWeight(), Features: m.GetFeatures(),
		Gres: m.GetGres(), Usable: m.GetUsable(), SpecCPUs: m.GetSpecCpus(), GresConf: m.GetGresConf(),
	}
}

func partitionToWire(p *Partition) *mirrorv1.Partition {
	return &mirrorv1.Partition{
		Index: uint32(p.Index), Name: text(p.Name), Nodes: NodesToWire(p.Nodes), Tier: p.Tier, JobFactor: p.JobFactor,
		Starts: p.Starts, MaxNodes: p.MaxNodes, MinNodes: p.MinNodes, MaxCpusPerNode: p.MaxCPUsPerNode,
		MaxTime: uint32(p.MaxTime), Lln: p.LLN, OverSubscribe: uint32(p.OverSubscribe), OverCount: p.OverCount,
		ExclusiveUser: p.ExclusiveUser, MaxCpusPerSocket: p.MaxCPUsPerSock,
	}
}

func partitionOfWire(m *mirrorv1.Partition) Partition {
	return Partition{
		Index: int(m.GetIndex()), Name: m.GetName(), Nodes: NodesOfWire(m.GetNodes()), Tier: m.GetTier(),
		JobFactor: m.GetJobFactor(), Starts: m.GetStarts(), MaxNodes: m.GetMaxNodes(), MinNodes: m.GetMinNodes(),
		MaxCPUsPerNode: m.GetMaxCpusPerNode(), MaxTime: wlm.Minutes(m.GetMaxTime()), LLN: m.GetLln(),
		OverSubscribe: wlm.OverSub(m.GetOverSubscribe()), OverCount: m.GetOverCount(), ExclusiveUser: m.GetExclusiveUser(),
		MaxCPUsPerSock: m.GetMaxCpusPerSocket(),
	}
}

// ClassToWire encodes a class; nil stays nil.
func ClassToWire(c *Class) *mirrorv1.Class {
	if c == nil {
		return nil
	}
	m := &mirrorv1.Class{
		Id: c.ID, Partitions: words[uint32](c.Partitions), MinNodes: c.MinNodes, MaxNodes: c.MaxNodes,
		NodeSizes: text(c.NodeSizes), ReqNodes: text(c.ReqNodes), ExcNodes: text(c.ExcNodes), Ntasks: c.NTasks,
		CpusPerTask: c.CPUsPerTask, TasksPerNode: c.TasksPerNode, TasksPerCore: c.TasksPerCore,
		TasksPerSocket: c.TasksPerSocket, SocketsPerNode: c.SocketsPerNode, CoresPerSocket: c.CoresPerSocket,
		ThreadsPerCore: c.ThreadsPerCore, MinCpusPerNode: c.MinCPUsPerNode, MemPerNode: uint64(c.MemPerNode),
		MemPerCpu: uint64(c.MemPerCPU), MemAll: c.MemAll, TmpDisk: uint64(c.TmpDisk), Features: text(c.Features),
		Prefer: text(c.Prefer), TresPerJob: text(c.TresPerJob), TresPerNode: text(c.TresPerNode),
		TresPerSocket: text(c.TresPerSocket), TresPerTask: text(c.TresPerTask), Share: uint32(c.Share),
		Contiguous: c.Contiguous, Overcommit: c.Overcommit, Spread: c.Spread, UseMinNodes: c.UseMinNodes,
		CoreSpec: c.CoreSpec, Licenses: text(c.Licenses), Reservation: text(c.Reservation), Dist: text(c.Dist),
		CpusPerGpu: c.CPUsPerGPU, MemPerGpu: uint64(c.MemPerGPU), TasksPerGpu: c.TasksPerGPU, GresFlags: text(c.GresFlags),
		Switches: c.Switches, SwitchWait: c.SwitchWait, Segment: c.Segment,
	}
	for _, u := range c.Counters {
		m.Counters = append(m.Counters, &mirrorv1.CounterUse{Counter: u.Counter, Amount: u.Amount})
	}
	return m
}

func classOfWire(m *mirrorv1.Class) *Class {
	c := &Class{
		ID: m.GetId(), Partitions: words[int](m.GetPartitions()), MinNodes: m.GetMinNodes(), MaxNodes: m.GetMaxNodes(),
		NodeSizes: m.GetNodeSizes(), ReqNodes: m.GetReqNodes(), ExcNodes: m.GetExcNodes(), NTasks: m.GetNtasks(),
		CPUsPerTask: m.GetCpusPerTask(), TasksPerNode: m.GetTasksPerNode(), TasksPerCore: m.GetTasksPerCore(),
		TasksPerSocket: m.GetTasksPerSocket(), SocketsPerNode: m.GetSocketsPerNode(), CoresPerSocket: m.GetCoresPerSocket(),
		ThreadsPerCore: m.GetThreadsPerCore(), MinCPUsPerNode: m.GetMinCpusPerNode(), MemPerNode: wlm.MiB(m.GetMemPerNode()),
		MemPerCPU: wlm.MiB(m.GetMemPerCpu()), MemAll: m.GetMemAll(), TmpDisk: wlm.MiB(m.GetTmpDisk()), Features: m.GetFeatures(),
		Prefer: m.GetPrefer(), TresPerJob: m.GetTresPerJob(), TresPerNode: m.GetTresPerNode(),
		TresPerSocket: m.GetTresPerSocket(), TresPerTask: m.GetTresPerTask(), Share: wlm.Exclusivity(m.GetShare()),
		Contiguous: m.GetContiguous(), Overcommit: m.GetOvercommit(), Spread: m.GetSpread(), UseMinNodes: m.GetUseMinNodes(),
		CoreSpec: m.GetCoreSpec(), Licenses: m.GetLicenses(), Reservation: m.GetReservation(), Dist: m.GetDist(),
		CPUsPerGPU: m.GetCpusPerGpu(), MemPerGPU: wlm.MiB(m.GetMemPerGpu()), TasksPerGPU: m.GetTasksPerGpu(),
		GresFlags: m.GetGresFlags(), Switches: m.GetSwitches(), SwitchWait: m.GetSwitchWait(), Segment: m.GetSegment(),
	}
	for _, u := range m.GetCounters() {
		c.Counters = append(c.Counters, CounterUse{Counter: u.GetCounter(), Amount: u.GetAmount()})
	}
	return c
}

// ClassOfWire decodes a class; nil becomes the class that asks for nothing.
func ClassOfWire(m *mirrorv1.Class) *Class { return classOfWire(m) }

func counterToWire(c *Counter) *mirrorv1.Counter {
	return &mirrorv1.Counter{Id: c.ID, Name: text(c.Name), Capacity: c.Capacity, Reason: uint32(c.Reason)}
}

func counterOfWire(m *mirrorv1.Counter) Counter {
	return Counter{ID: m.GetId(), Name: m.GetName(), Capacity: m.GetCapacity(), Reason: wlm.Reason(m.GetReason())}
}

func reservationToWire(r *Reservation) *mirrorv1.Reservation {
	m := &mirrorv1.Reservation{Id: r.ID, Name: text(r.Name), Start: int64(r.Start), End: int64(r.End), Float: r.Float,
		Uses: UsesToWire(r.Uses), Flex: r.Flex, AnyNodes: r.AnyNodes, Overlap: r.Overlap, Maint: r.Maint}
	for _, u := range r.Counters {
		m.Counters = append(m.Counters, &mirrorv1.CounterUse{Counter: u.Counter, Amount: u.Amount})
	}
	return m
}

func reservationOfWire(m *mirrorv1.Reservation) Reservation {
	r := Reservation{ID: m.GetId(), Name: m.GetName(), Start: wlm.Time(m.GetStart()), End: wlm.Time(m.GetEnd()), Float: m.GetFloat(),
		Uses: UsesOfWire(m.GetUses()), Flex: m.GetFlex(), AnyNodes: m.GetAnyNodes(), Overlap: m.GetOverlap(), Maint: m.GetMaint()}
	for _, u := range m.GetCounters() {
		r.Counters = append(r.Counters, CounterUse{Counter: u.GetCounter(), Amount: u.GetAmount()})
	}
	return r
}

// JobToWire encodes a job, with its class by number only.
func JobToWire(j *Job) *mirrorv1.Job {
	m := &mirrorv1.Job{
		Id: uint32(j.ID), Priority: j.Priority, Running: j.Running, Ready: j.Ready, Held: j.Held, Ranked: j.Ranked,
		Submit: int64(j.Submit), Eligible: int64(j.Eligible), User: uint32(j.User), Account: text(j.Account), Qos: text(j.QOS),
		Limit: j.Limit, TimeMin: j.TimeMin, Nice: j.Nice, Tasks: uint32(j.Tasks),
		Start: int64(j.Start), End: int64(j.End), Partition: uint32(j.Partition), Uses: UsesToWire(j.Uses), Rev: j.rev,
		Preempt: uint32(j.Preempt), ExemptUntil: int64(j.Exempt), Leaving: j.Leaving, Asleep: j.Asleep,
		Reservations: j.Reservations, ReservedOnly: j.ReservedOnly,
	}
	if j.Class != nil {
		m.Class = j.Class.ID
	}
	return m
}

// JobOfWire decodes a job of a class.
func JobOfWire(m *mirrorv1.Job, class *Class) *Job {
	return &Job{
		ID: wlm.JobID(m.GetId()), Class: class, Priority: m.GetPriority(), Running: m.GetRunning(), Ready: m.GetReady(),
		Held: m.GetHeld(), Ranked: m.GetRanked(), Submit: wlm.Time(m.GetSubmit()), Eligible: wlm.Time(m.GetEligible()),
		User: wlm.UID(m.GetUser()), Account: m.GetAccount(), QOS: m.GetQos(), Limit: m.GetLimit(), TimeMin: m.GetTimeMin(),
		Nice: m.GetNice(), Tasks: int(m.GetTasks()), Start: wlm.Time(m.GetStart()), End: wlm.Time(m.GetEnd()),
		Partition: int(m.GetPartition()), Uses: UsesOfWire(m.GetUses()),
		Preempt: Preempt(m.GetPreempt()), Exempt: wlm.Time(m.GetExemptUntil()), Leaving: m.GetLeaving(), Asleep: m.GetAsleep(),
		Reservations: m.GetReservations(), ReservedOnly: m.GetReservedOnly(),
	}
}

// UsesToWire encodes a job's share of its nodes.
func UsesToWire(uses []NodeUse) []*mirrorv1.NodeUse {
	if len(uses) == 0 {
		return nil
	}
	rows := make([]mirrorv1.NodeUse, len(uses))
	out := make([]*mirrorv1.NodeUse, len(uses))
	for i := range uses {
		out[i] = &rows[i]
		out[i].Node, out[i].Cpus = uint32(uses[i].Node), uses[i].CPUs
		out[i].Mem, out[i].Whole, out[i].Gres = uint64(uses[i].Mem), uses[i].Whole, text(uses[i].Gres)
	}
	return out
}

// UsesOfWire undoes UsesToWire.
func UsesOfWire(rows []*mirrorv1.NodeUse) []NodeUse {
	if len(rows) == 0 {
		return nil
	}
	out := make([]NodeUse, len(rows))
	for i, m := range rows {
		out[i] = NodeUse{Node: wlm.NodeIndex(m.GetNode()), CPUs: m.GetCpus(), Mem: wlm.MiB(m.GetMem()), Whole: m.GetWhole(), Gres: m.GetGres()}
	}
	return out
}

func endedToWire(e *Ended) *mirrorv1.Ended {
	return &mirrorv1.Ended{Id: uint32(e.ID), User: uint32(e.User), Account: text(e.Account), Name: text(e.Name), Cpus: e.CPUs,
		Limit: e.Limit, Submit: int64(e.Submit), Start: int64(e.Start), End: int64(e.End)}
}

func endedOfWire(m *mirrorv1.Ended) Ended {
	return Ended{ID: wlm.JobID(m.GetId()), User: wlm.UID(m.GetUser()), Account: m.GetAccount(), Name: m.GetName(), CPUs: m.GetCpus(),
		Limit: m.GetLimit(), Submit: wlm.Time(m.GetSubmit()), Start: wlm.Time(m.GetStart()), End: wlm.Time(m.GetEnd())}
}
