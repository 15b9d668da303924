package topology

import (
	"fmt"
	"slices"

	"github.com/sluice-hpc/sluice/sdk/hostlist"
)

// Query selects what [Topology.Show] shows; the zero value is everything.
type Query struct {
	Name string // of a switch or a block; else
	Node string // what a node is below
}

// Show returns the lines of scontrol show topology, lowest level first.
func (t *Topology) Show(q Query) (lines []string) {
	if t.Kind == Block {
		return t.showBlocks(q)
	}
	order := places(0, len(t.Switches))
	slices.SortStableFunc(order, func(a, b int) int { return t.Switches[a].level - t.Switches[b].level })
	for _, i := range order {
		s := &t.Switches[i]
		if q.Name != "" && q.Name != s.Name || q.Node != "" && !slices.Contains(s.nodes, q.Node) {
			continue
		}
		speed := s.LinkSpeed
		if speed == "" {
			speed = "1"
		}
		line := fmt.Sprintf("SwitchName=%s Level=%d LinkSpeed=%s Nodes=%s", s.Name, s.level, speed, hostlist.Compress(s.nodes))
		if s.Children != "" {
			line += " Switches=" + s.Children
		}
		lines = append(lines, line)
	}
	return lines
}

func (t *Topology) showBlocks(q Query) (lines []string) {
	index := 0
	for _, u := range t.Units() {
		if u.Root { // all blocks together are no aggregate of BlockSizes
			continue
		}
		var names, nodes []string
		for _, l := range u.Leaves {
			names, nodes = append(names, t.Blocks[l].Name), append(nodes, t.Blocks[l].nodes...)
		}
		name, key := hostlist.Compress(names), "AggregatedBlock"
		if u.Level == 0 {
			key = "BlockName"
		}
		if (q.Name == "" || slices.Contains(names, q.Name)) && (q.Node == "" || slices.Contains(nodes, q.Node)) {
			lines = append(lines, fmt.Sprintf("%s=%s BlockIndex=%d Nodes=%s BlockSize=%d", key, name, index, hostlist.Compress(nodes), t.BlockSizes[u.Level]))
		}
		index++
	}
	return lines
}
