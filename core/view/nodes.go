package view

import (
	"slices"
	"sync"

	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wire"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// load is what a node's last heartbeat said.
type load struct {
	cpu   uint32 // hundredths; wlm.Unset: not known
	free  wlm.MiB
	heard wlm.Time
}

// loads are soft: lost with the controller, never in an event.
type loads struct {
	sync.RWMutex
	of map[wlm.NodeName]load
}

// SetLoad remembers what a heartbeat said: the load in hundredths of a CPU, free
// memory, and when it came.
func (v *View) SetLoad(node wlm.NodeName, cpu uint32, free wlm.MiB, heard wlm.Time) {
	v.loads.Lock()
	defer v.loads.Unlock()
	if v.loads.of == nil {
		v.loads.of = map[wlm.NodeName]load{}
	}
	v.loads.of[node] = load{cpu, free, heard}
}

// members knows the partitions of each node, until a partition changes.
type members struct {
	sync.Mutex
	gen uint64
	of  map[wlm.NodeName][]string
}

func (m *members) get(gen uint64, parts []*wlm.Partition) map[wlm.NodeName][]string {
	m.Lock()
	defer m.Unlock()
	if m.of == nil || m.gen != gen {
		m.gen, m.of = gen, map[wlm.NodeName][]string{}
		for _, p := range parts {
			for _, n := range p.NodeNames {
				m.of[n] = append(m.of[n], p.Name)
			}
		}
	}
	return m.of
}

// use is a node with what jobs hold of it.
type use struct {
	node                      *wlm.Node
	cpus, running, completing int
	mem                       wlm.MiB
	busy                      wlm.Time
	gres                      string
}

// Nodes returns the nodes of a host list, or all for an empty one, in the order
// of the node table. A name that is not configured is an error.
func (v *View) Nodes(list string) ([]*ctlv1.NodeInfo, error) {
	const op = "view.Nodes"
	var want []string
	if list != "" {
		var err error
		if want, err = hostlist.Expand(list); err != nil {
			return nil, errs.Coded(op, errs.InvalidNodeName).With("%s: %v", list, err)
		}
	}
	uses, member, missing := v.uses(want)
	if missing != "" {
		return nil, errs.Coded(op, errs.InvalidNodeName).With("node %s is not configured", missing)
	}
	v.addLoads(uses)
	out := make([]*ctlv1.NodeInfo, len(uses))
	for i, u := range uses {
		n := u.node
		out[i] = &ctlv1.NodeInfo{
			Node: wire.NodeToWire(n), AllocCpus: uint32(u.cpus), AllocMem: uint64(u.mem), Partitions: member[n.Name], GresUsed: u.gres,
			RunningJobs: uint32(u.running), CompletingJobs: uint32(u.completing),
		}
		if flags, name := v.reserved(n.Name); flags != 0 {
			out[i].Node.Flags |= uint32(flags)
			out[i].Reservation = name
		}
		if out[i].Node.LastBusy == 0 && n.Registered {
			out[i].Node.LastBusy = int64(max(u.busy, n.DaemonStart))
		}
	}
	return out, nil
}

// reserved is what the reservations in force make of a node. Only its owner's
// ticks begin and end a reservation, so no clock is read.
func (v *View) reserved(name wlm.NodeName) (f wlm.NodeFlags, first string) {
	v.mu.RLock()
	list := v.mu.tables.Reservations // replaced as a whole, never changed
	v.mu.RUnlock()
	return cluster.NodeReservation(list, name)
}

// addLoads puts what the last heartbeats said into the nodes' records.
func (v *View) addLoads(uses []use) {
	v.loads.RLock()
	defer v.loads.RUnlock()
	if len(v.loads.of) == 0 {
		return
	}
	for i := range uses {
		n := uses[i].node
		if l, ok := v.loads.of[n.Name]; ok {
			n = n.Clone()
			n.CPULoad, n.FreeMem, n.LastHeard = l.cpu, l.free, max(n.LastHeard, l.heard)
			uses[i].node = n
		}
	}
}

// uses copies what the named nodes, or all, have in use.
func (v *View) uses(want []string) (out []use, member map[wlm.NodeName][]string, missing string) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	t := v.mu.tables
	add := func(i int) {
		u := &t.Usage[i]
		out = append(out, use{t.Nodes[i], u.CPUs.Count(), len(u.Jobs) - u.Completing, u.Completing, u.Mem, u.LastBusy, t.GresUsed(t.Nodes[i])})
	}
	member = v.members.get(v.mu.partsGen, t.Partitions)
	if want == nil {
		out = make([]use, 0, len(t.Nodes))
		for i := range t.Nodes {
			add(i)
		}
		return out, member, ""
	}
	places := make([]int, 0, len(want))
	for _, name := range want {
		i, ok := t.NodeIndex(wlm.NodeName(name))
		if !ok {
			return nil, nil, name
		}
		places = append(places, int(i))
	}
	slices.Sort(places)
	for _, i := range slices.Compact(places) {
		add(i)
	}
	return out, member, ""
}

// Partitions returns the partition of that name, or all for an empty one, in
// the order of the configuration.
func (v *View) Partitions(name string) ([]*ctlv1.PartitionInfo, error) {
	v.mu.RLock()
	parts := v.mu.tables.Partitions // replaced as a whole, never changed
	nodes := slices.Clone(v.mu.tables.Nodes)
	v.mu.RUnlock()
	byName := make(map[wlm.NodeName]*wlm.Node, len(nodes))
	for _, n := range nodes {
		byName[n.Name] = n
	}
	var out []*ctlv1.PartitionInfo
	for _, p := range parts {
		if name != "" && p.Name != name {
			continue
		}
		info := &ctlv1.PartitionInfo{Partition: wire.PartitionToWire(p)}
		for _, nn := range p.NodeNames {
			if n := byName[nn]; n != nil {
				info.TotalNodes++
				info.TotalCpus += n.CPUs
				info.TotalMem += uint64(n.RealMemory)
			}
		}
		out = append(out, info)
	}
	if name != "" && out == nil {
		return nil, errs.Coded("view.Partitions", errs.InvalidPartition, "no partition is named "+name)
	}
	return out, nil
}
