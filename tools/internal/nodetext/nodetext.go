// Package nodetext says what commands show of a node and of a partition, in
// Slurm's words.
//
// A [Node] is a node's record together with its present load; a [Part] is a
// partition's together with its totals. Nothing here changes a record.
package nodetext

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wire"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Node is a node as a reader sees it.
type Node struct {
	*wlm.Node
	AllocCPUs  int
	AllocMem   wlm.MiB
	Completing bool
	Partitions []string
	GresUsed   string
	// Reservation is the first of those in force that have the node.
	Reservation string
}

// Of turns an answer of the controller into a Node.
func Of(info *ctlv1.NodeInfo) *Node {
	n := &Node{
		Node: wire.NodeOfWire(info.GetNode()), AllocCPUs: int(info.GetAllocCpus()), AllocMem: wlm.MiB(info.GetAllocMem()),
		Completing: info.GetCompletingJobs() > 0, Partitions: info.GetPartitions(), GresUsed: info.GetGresUsed(), Reservation: info.GetReservation(),
	}
	if n.Node == nil {
		n.Node = &wlm.Node{}
	}
	n.Completing = n.Completing || n.Flags&wlm.NodeCompleting != 0
	return n
}

// Base is the base state under the present load.
func (n *Node) Base() wlm.NodeBase { return wlm.BaseOf(n.Node, n.AllocCPUs) }

// Short and Long are the state as sinfo prints it; Full as scontrol does.
func (n *Node) Short() string { return wlm.NodeStateShort(n.Node, n.AllocCPUs, n.Completing) }

// Long is the state in sinfo's long form.
func (n *Node) Long() string { return wlm.NodeStateLong(n.Node, n.AllocCPUs, n.Completing) }

// Words are the base state and the flags.
func (n *Node) Words() []string { return wlm.NodeStateWords(n.Node, n.AllocCPUs, n.Completing) }

// CPUs returns how many CPUs are allocated, idle, and neither.
func (n *Node) CPUs() (alloc, idle, other int) {
	free := max(0, int(n.Node.CPUs)-n.AllocCPUs)
	if n.Unavailable() {
		return n.AllocCPUs, 0, free
	}
	return n.AllocCPUs, free, 0
}

// Unavailable reports whether nothing more may start on n.
func (n *Node) Unavailable() bool {
	const not = wlm.NodeDrain | wlm.NodeFailFlag | wlm.NodeInvalidReg | wlm.NodeMaint
	return n.State != wlm.NodeUp || n.Flags&not != 0
}

// Effective is the number of CPUs that jobs may use.
func (n *Node) Effective() uint32 {
	reserved := uint32(n.SpecCPUs().Count())
	if reserved >= n.Node.CPUs {
		return n.Node.CPUs
	}
	return n.Node.CPUs - reserved
}

// Load is the load with two decimals, N/A when it is not known.
func (n *Node) Load() string {
	if n.CPULoad == wlm.Unset {
		return "N/A"
	}
	return Hundredths(n.CPULoad)
}

// Hundredths prints 1271 as 12.71.
func Hundredths(v uint32) string { return fmt.Sprintf("%d.%02d", v/100, v%100) }

// Free is the free memory in MiB, N/A when it is not known.
func (n *Node) Free() string {
	if n.FreeMem == 0 {
		return "N/A"
	}
	return strconv.FormatUint(uint64(n.FreeMem), 10)
}

// sortBits gives each flag the weight it has in Slurm's number for a state, by
// which sinfo sorts; the numbers are bit positions there.
var sortBits = []struct {
	flag wlm.NodeFlags
	bit  uint
}{
	{wlm.NodeReserved, 5}, {wlm.NodeCloud, 7}, {wlm.NodeDrain, 9}, {wlm.NodeCompleting, 10},
	{wlm.NodeNotResponding, 11}, {wlm.NodePoweredDown, 12}, {wlm.NodeFailFlag, 13}, {wlm.NodePoweringUp, 14},
	{wlm.NodeMaint, 15}, {wlm.NodeRebootRequested, 16}, {wlm.NodePoweringDown, 18}, {wlm.NodeRebootIssued, 20},
	{wlm.NodePlanned, 21}, {wlm.NodeInvalidReg, 22}, {wlm.NodePowerDown, 23}, {wlm.NodePowerUp, 24},
	{wlm.NodePowerDrain, 25}, {wlm.NodeDynamic, 26}, {wlm.NodeBlocked, 27},
}

var baseRank = map[wlm.NodeBase]uint64{
	wlm.BaseUnknown: 0, wlm.BaseDown: 1, wlm.BaseIdle: 2, wlm.BaseAllocated: 3, wlm.BaseMixed: 5, wlm.BaseFuture: 6,
}

// StateRank orders states as Slurm's numbers do.
func (n *Node) StateRank() uint64 {
	rank := baseRank[n.Base()]
	flags := n.Flags
	if n.Completing {
		flags |= wlm.NodeCompleting
	}
	for _, b := range sortBits {
		if flags&b.flag != 0 {
			rank |= 1 << b.bit
		}
	}
	return rank
}

// Part is a partition as a reader sees it.
type Part struct {
	*wlm.Partition
	TotalNodes, TotalCPUs uint32
	TotalMem              wlm.MiB
}

// PartOf turns an answer of the controller into a Part.
func PartOf(info *ctlv1.PartitionInfo) *Part {
	p := &Part{
		Partition:  wire.PartitionOfWire(info.GetPartition()),
		TotalNodes: info.GetTotalNodes(), TotalCPUs: info.GetTotalCpus(), TotalMem: wlm.MiB(info.GetTotalMem()),
	}
	if p.Partition == nil {
		p.Partition = &wlm.Partition{}
	}
	return p
}

// TRES is what the partition has in all.
func (p *Part) TRES() string {
	return fmt.Sprintf("cpu=%d,mem=%s,node=%d,billing=%d", p.TotalCPUs, Mem(p.TotalMem), p.TotalNodes, p.TotalCPUs)
}

// Mem prints memory as TRES lists have it.
func Mem(m wlm.MiB) string { return strconv.FormatUint(uint64(m), 10) + "M" }

// Sharing is OverSubscribe with its count: NO, YES:4, FORCE:2, EXCLUSIVE.
func (p *Part) Sharing() string {
	count := ":" + strconv.FormatUint(uint64(p.OverSubCount), 10)
	if p.OverSubCount == 0 {
		count = ""
	}
	switch p.OverSubscribe {
	case wlm.OverSubExclusive:
		return "EXCLUSIVE"
	case wlm.OverSubYes:
		return "YES" + count
	case wlm.OverSubForce:
		return "FORCE" + count
	}
	return "NO"
}

// Preempt is the preemption mode.
func (p *Part) Preempt() string {
	if p.PreemptMode == "" {
		return "OFF"
	}
	return strings.ToUpper(p.PreemptMode)
}

// Bound prints a limit, or what stands for none.
func Bound(n uint32, none string) string {
	if n == wlm.Unset || n == uint32(wlm.Unlimited) {
		return none
	}
	return strconv.FormatUint(uint64(n), 10)
}

// OrAll joins names, or stands for all of them.
func OrAll(names []string, all string) string {
	if len(names) == 0 {
		return all
	}
	return strings.Join(names, ",")
}
