package sinfo

import (
	"cmp"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/column"
	"github.com/sluice-hpc/sluice/tools/internal/jobtext"
	"github.com/sluice-hpc/sluice/tools/internal/nodetext"
)

type field = column.Field[*group]

// fields are all fields of sinfo(1).
var fields = column.Table[*group]{
	part('a', "AVAIL", func(p *nodetext.Part) string { return avail(p.State) }, "Available"),
	{Letter: 'A', Names: []string{"NodeAI"}, Header: "NODES(A/I)", Value: func(g *group) string { return fmt.Sprintf("%d/%d", g.allocated, g.idle) }},
	node('b', "ACTIVE_FEATURES", func(n *nodetext.Node) string { return jobtext.OrNull(strings.Join(n.ActiveFeatures, ",")) }, "features_act"),
	part('B', "MAX_CPUS_PER_NODE", func(p *nodetext.Part) string { return nodetext.Bound(p.MaxCPUsPerNode, "UNLIMITED") }, "MaxCPUsPerNode"),
	least('c', "CPUS", func(n *nodetext.Node) uint64 { return uint64(n.Node.CPUs) }, "CPUs"),
	{Letter: 'C', Names: []string{"CPUsState"}, Header: "CPUS(A/I/O/T)", Value: func(g *group) string {
		return fmt.Sprintf("%d/%d/%d/%d", g.cpuAlloc, g.cpuIdle, g.cpuRest, g.cpuAlloc+g.cpuIdle+g.cpuRest)
	}},
	least('d', "TMP_DISK", func(n *nodetext.Node) uint64 { return uint64(n.TmpDisk) }, "Disk"),
	{Letter: 'D', Names: []string{"Nodes"}, Header: "NODES", Value: func(g *group) string { return strconv.Itoa(len(g.nodes)) },
		Order: func(a, b *group) int { return cmp.Compare(len(a.nodes), len(b.nodes)) }},
	{Letter: 'e', Names: []string{"FreeMem"}, Header: "FREE_MEM", Value: freeMem, Needs: byExact},
	node('E', "REASON", reason, "Reason"),
	node('f', "AVAIL_FEATURES", func(n *nodetext.Node) string { return jobtext.OrNull(strings.Join(n.Features, ",")) }, "Features"),
	{Letter: 'F', Names: []string{"NodeAIOT"}, Header: "NODES(A/I/O/T)", Value: func(g *group) string {
		return fmt.Sprintf("%d/%d/%d/%d", g.allocated, g.idle, g.other, len(g.nodes))
	}},
	part('g', "GROUPS", func(p *nodetext.Part) string { return nodetext.OrAll(p.AllowGroups, "all") }, "Groups"),
	node('G', "GRES", func(n *nodetext.Node) string { return jobtext.OrNull(n.Gres) }, "Gres"),
	part('h', "OVERSUBSCRIBE", (*nodetext.Part).Sharing, "OverSubscribe"),
	node('H', "TIMESTAMP", func(n *nodetext.Node) string { return stamp(n.ReasonTime) }, "TimeStamp"),
	part('I', "PRIO_JOB_FACTOR", func(p *nodetext.Part) string { return num(p.PriorityJob) }, "PriorityJobFactor"),
	{Letter: 'i', Names: []string{"Reservation"}, Header: "RESERVATION", Value: func(*group) string { return "" }, Needs: byAlways},
	part('l', "TIMELIMIT", func(p *nodetext.Part) string { return wlm.FormatMinutesInfinite(p.MaxTime) }, "Time"),
	part('L', "DEFAULTTIME", func(p *nodetext.Part) string { return wlm.FormatMinutesInfinite(p.DefaultTime) }, "DefaultTime"),
	least('m', "MEMORY", func(n *nodetext.Node) uint64 { return uint64(n.RealMemory) }, "Memory"),
	part('M', "PREEMPT_MODE", (*nodetext.Part).Preempt, "PreemptMode"),
	{Letter: 'n', Names: []string{"NodeHost"}, Header: "HOSTNAMES", Value: func(g *group) string { return g.list(hostname) }, Needs: byAlways},
	{Letter: 'N', Names: []string{"NodeList"}, Header: "NODELIST", Value: func(g *group) string { return g.list(nodeName) }, Order: byNode},
	{Letter: 'o', Names: []string{"NodeAddr"}, Header: "NODE_ADDR", Value: func(g *group) string { return g.list(func(n *nodetext.Node) string { return n.Addr }) }, Needs: byAlways},
	{Letter: 'O', Names: []string{"CPUsLoad"}, Header: "CPU_LOAD", Value: cpuLoad, Needs: byExact},
	part('p', "PRIO_TIER", func(p *nodetext.Part) string { return num(p.PriorityTier) }, "PriorityTier", "Priority"),
	{Letter: 'P', Names: []string{"Partition"}, Header: "PARTITION", Value: partition, Order: byPartition, Needs: byAlways | ofPart},
	part('r', "ROOT", func(p *nodetext.Part) string { return strings.ToLower(jobtext.YesNo(p.RootOnly)) }, "Root"),
	part('R', "PARTITION", func(p *nodetext.Part) string { return p.Name }, "PartitionName"),
	part('s', "JOB_SIZE", jobSize, "Size"),
	part('S', "ALLOCNODES", func(p *nodetext.Part) string { return nodetext.OrAll(p.AllocNodes, "all") }, "AllocNodes"),
	state('t', "STATE", (*nodetext.Node).Short, "StateCompact"),
	state('T', "STATE", (*nodetext.Node).Long, "StateLong"),
	{Letter: 'u', Names: []string{"User"}, Header: "USER", Value: func(g *group) string { return g.reasonUser(false) }, Needs: byAlways},
	{Letter: 'U', Names: []string{"UserLong"}, Header: "USER", Value: func(g *group) string { return g.reasonUser(true) }, Needs: byAlways},
	node('v', "VERSION", func(n *nodetext.Node) string { return jobtext.OrNull(n.Version) }, "Version"),
	{Letter: 'V', Names: []string{"Cluster"}, Header: "CLUSTER", Value: func(*group) string { return "N/A" }},
	least('w', "WEIGHT", func(n *nodetext.Node) uint64 { return uint64(n.Weight) }, "Weight"),
	least('X', "SOCKETS", func(n *nodetext.Node) uint64 { return uint64(n.Sockets) }, "Sockets"),
	least('Y', "CORES", func(n *nodetext.Node) uint64 { return uint64(n.CoresPerSocket) }, "Cores"),
	least('Z', "THREADS", func(n *nodetext.Node) uint64 { return uint64(n.ThreadsPerCore) }, "Threads"),
	{Letter: 'z', Names: []string{"SocketCoreThread"}, Header: "S:C:T", Value: shape, Needs: byExact},

	{Names: []string{"AllocMem"}, Header: "ALLOCMEM", Value: func(g *group) string {
		return span(g, func(n *nodetext.Node) uint64 { return uint64(n.AllocMem) })
	}, Needs: byExact},
	node(0, "COMMENT", func(n *nodetext.Node) string { return jobtext.OrNull(n.Comment) }, "Comment"),
	node(0, "EXTRA", func(n *nodetext.Node) string { return jobtext.OrNull(n.Extra) }, "Extra"),
	node(0, "GRES_USED", func(n *nodetext.Node) string { return jobtext.OrNull(n.GresUsed) }, "GresUsed"),
	node(0, "PORT", func(n *nodetext.Node) string { return num(n.Port) }, "Port"),
	part(0, "SHARE", (*nodetext.Part).Sharing, "Share"),
	node(0, "STATECOMPLETE", func(n *nodetext.Node) string { return strings.ToLower(strings.Join(n.Words(), "+")) }, "StateComplete"),
}

// part is a field of partitions.
func part(letter byte, header string, value func(*nodetext.Part) string, names ...string) field {
	return field{Letter: letter, Names: names, Header: header, Value: func(g *group) string { return value(g.part) }, Needs: byAlways | ofPart}
}

// node is a field in which all nodes of a line agree.
func node(letter byte, header string, value func(*nodetext.Node) string, names ...string) field {
	return field{Letter: letter, Names: names, Header: header, Needs: byAlways, Value: func(g *group) string {
		if n := g.first(); n != nil {
			return value(n)
		}
		return ""
	}}
}

// state is a node's state; a line without nodes has none.
func state(letter byte, header string, value func(*nodetext.Node) string, names ...string) field {
	f := node(letter, header, value, names...)
	inner := f.Value
	f.Value = func(g *group) string {
		if g.first() == nil {
			return "n/a"
		}
		return inner(g)
	}
	f.Order = func(a, b *group) int { return cmp.Compare(stateRank(a), stateRank(b)) }
	return f
}

func stateRank(g *group) uint64 {
	if n := g.first(); n != nil {
		return n.StateRank()
	}
	return 0
}

// least is a number that shows its least value, with "+" when nodes differ.
func least(letter byte, header string, value func(*nodetext.Node) uint64, names ...string) field {
	low := func(g *group) uint64 { l, _ := extremes(g, value); return l }
	return field{
		Letter: letter, Names: names, Header: header, Needs: byExact,
		Value: func(g *group) string { return span(g, value) },
		Order: func(a, b *group) int { return cmp.Compare(low(a), low(b)) },
	}
}

func extremes(g *group, value func(*nodetext.Node) uint64) (low, high uint64) {
	for i, n := range g.nodes {
		v := value(n)
		if i == 0 || v < low {
			low = v
		}
		high = max(high, v)
	}
	return low, high
}

func span(g *group, value func(*nodetext.Node) uint64) string {
	low, high := extremes(g, value)
	s := strconv.FormatUint(low, 10)
	if high > low {
		s += "+"
	}
	return s
}

func num(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

func avail(s wlm.PartState) string {
	return strings.ToLower(s.String())
}

func partition(g *group) string {
	if g.part.Default {
		return g.part.Name + "*"
	}
	return g.part.Name
}

// byPartition is the alphabet; --sort=#P takes the configuration's order.
func byPartition(a, b *group) int { return strings.Compare(a.part.Name, b.part.Name) }

func nodeName(n *nodetext.Node) string { return string(n.Name) }

func hostname(n *nodetext.Node) string {
	if n.Hostname == "" {
		return string(n.Name)
	}
	return n.Hostname
}

func byNode(a, b *group) int {
	x, y := a.first(), b.first()
	switch {
	case x == nil && y == nil:
		return 0
	case x == nil:
		return -1
	case y == nil:
		return 1
	}
	return hostlist.Compare(string(x.Name), string(y.Name))
}

func reason(n *nodetext.Node) string {
	if n.Reason == "" {
		return "none"
	}
	return n.Reason
}

func (g *group) reasonUser(withID bool) string {
	n := g.first()
	if n == nil || n.ReasonTime == 0 {
		return "Unknown"
	}
	name := g.names.User(uint32(n.ReasonUser))
	if withID {
		return name + "(" + num(uint32(n.ReasonUser)) + ")"
	}
	return name
}

func stamp(t wlm.Time) string {
	if format := os.Getenv("SLURM_TIME_FORMAT"); format != "" && format != "standard" {
		return wlm.FormatTimeAs(t, "Unknown", format, time.Now())
	}
	return wlm.FormatTime(t, "Unknown")
}

func jobSize(p *nodetext.Part) string {
	low := max(p.MinNodes, 1)
	high := nodetext.Bound(p.MaxNodes, "infinite")
	if s := num(low); s != high {
		return s + "-" + high
	}
	return high
}

func freeMem(g *group) string {
	low, high := extremes(g, func(n *nodetext.Node) uint64 { return uint64(n.FreeMem) })
	switch {
	case high == 0:
		return "N/A"
	case low == high:
		return strconv.FormatUint(low, 10)
	}
	return fmt.Sprintf("%d-%d", low, high)
}

func cpuLoad(g *group) string {
	if n := g.first(); n == nil || n.CPULoad == wlm.Unset {
		return "N/A"
	}
	low, high := extremes(g, func(n *nodetext.Node) uint64 { return uint64(n.CPULoad) })
	if low == high {
		return nodetext.Hundredths(uint32(low))
	}
	return nodetext.Hundredths(uint32(low)) + "-" + nodetext.Hundredths(uint32(high))
}

func shape(g *group) string {
	return span(g, func(n *nodetext.Node) uint64 { return uint64(n.Sockets) }) + ":" +
		span(g, func(n *nodetext.Node) uint64 { return uint64(n.CoresPerSocket) }) + ":" +
		span(g, func(n *nodetext.Node) uint64 { return uint64(n.ThreadsPerCore) })
}
