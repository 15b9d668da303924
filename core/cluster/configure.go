package cluster

import (
	"fmt"
	"slices"

	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Configure brings settings, nodes and partitions in line with a configuration.
// Nodes keep what they registered and what administrators did to them; nodes
// that left the configuration go once nothing runs there. The reply is
// []string: what changed.
type Configure struct {
	Settings   Settings
	Nodes      []wlm.Node
	Partitions []wlm.Partition

	// ReconfigFlags: whether what administrators changed of partitions stays, or
	// their state alone; else the configuration holds.
	KeepPartInfo, KeepPartState bool
}

// Op implements Command.
func (*Configure) Op() string { return "cluster.Configure" }

func (f *Configure) apply(c *Cluster, now wlm.Time) (any, error) {
	var changes []string
	c.settings = f.Settings
	clear(c.classes)
	c.emit(&Event{Kind: eventv1.Kind_CONFIGURED, Time: now})
	want := map[wlm.NodeName]bool{}
	for i := range f.Nodes {
		want[f.Nodes[i].Name] = true
		if what := c.configureNode(&f.Nodes[i], now); what != "" {
			changes = append(changes, what)
		}
	}
	for _, n := range slices.Clone(c.Nodes) {
		switch {
		case want[n.Name]:
		case len(c.Usage[c.nodes[n.Name]].Jobs) > 0: // its index falls as others go
			changes = append(changes, fmt.Sprintf("node %s left the configuration but runs jobs: it is drained", n.Name))
			c.drain(n.Name, now, "removed from the configuration")
		default:
			changes = append(changes, fmt.Sprintf("node %s removed", n.Name))
			c.emit(&Event{Kind: eventv1.Kind_NODE_REMOVED, Time: now, Node: n})
		}
	}
	return append(changes, c.configurePartitions(c.keepPartitions(f), now)...), nil
}

// configureNode merges a configured node with what is known of it.
func (c *Cluster) configureNode(cfg *wlm.Node, now wlm.Time) string {
	old := c.Node(cfg.Name)
	if old == nil {
		n := cfg.Clone()
		n.Index = wlm.NodeIndex(len(c.Nodes))
		if n.Flags&wlm.NodeNotResponding == 0 && n.State != wlm.NodeFuture {
			n.Flags |= wlm.NodeNotResponding
		}
		n.ActiveFeatures = cfg.Features
		n.CPULoad = wlm.Unset
		c.emit(&Event{Kind: eventv1.Kind_NODE_CHANGED, Time: now, Node: n})
		return fmt.Sprintf("node %s added", n.Name)
	}
	n := old.Clone()
	n.Hostname, n.Addr, n.Port = cfg.Hostname, cfg.Addr, cfg.Port
	n.CPUs, n.Boards, n.Sockets, n.CoresPerSocket, n.ThreadsPerCore = cfg.CPUs, cfg.Boards, cfg.Sockets, cfg.CoresPerSocket, cfg.ThreadsPerCore
	n.RealMemory, n.TmpDisk, n.Weight, n.Gres = cfg.RealMemory, cfg.TmpDisk, cfg.Weight, cfg.Gres
	n.GresConf = cfg.GresConf
	n.CoreSpecCount, n.CPUSpecList, n.MemSpecLimit = cfg.CoreSpecCount, cfg.CPUSpecList, cfg.MemSpecLimit
	if !slices.Equal(n.Features, cfg.Features) {
		n.Features, n.ActiveFeatures = cfg.Features, cfg.Features
	}
	if n.Registered {
		c.judgeNode(n, now, false, "")
	}
	if sameNode(old, n) {
		return ""
	}
	c.emit(&Event{Kind: eventv1.Kind_NODE_CHANGED, Time: now, Node: n})
	return fmt.Sprintf("node %s changed", n.Name)
}

func sameNode(a, b *wlm.Node) bool {
	x, y := *a, *b
	x.Features, y.Features, x.ActiveFeatures, y.ActiveFeatures = nil, nil, nil, nil
	return fmt.Sprint(x) == fmt.Sprint(y) && slices.Equal(a.Features, b.Features)
}

func (c *Cluster) configurePartitions(parts []wlm.Partition, now wlm.Time) (changes []string) {
	want := map[string]bool{}
	for i := range parts {
		p := &parts[i]
		want[p.Name] = true
		if old := c.Partition(p.Name); old != nil && fmt.Sprintf("%+v", *old) == fmt.Sprintf("%+v", *p) {
			continue
		} else if old != nil {
			changes = append(changes, fmt.Sprintf("partition %s changed", p.Name))
		} else {
			changes = append(changes, fmt.Sprintf("partition %s added", p.Name))
		}
		c.emit(&Event{Kind: eventv1.Kind_PARTITION_CHANGED, Time: now, Partition: p.Clone()})
	}
	for _, p := range slices.Clone(c.Partitions) {
		if want[p.Name] {
			continue
		}
		changes = append(changes, fmt.Sprintf("partition %s removed", p.Name))
		c.emit(&Event{Kind: eventv1.Kind_PARTITION_REMOVED, Time: now, Partition: p})
	}
	return changes
}
