package sinfo

import (
	"strings"

	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/tools/internal/column"
	"github.com/sluice-hpc/sluice/tools/internal/nodetext"
	"github.com/sluice-hpc/sluice/tools/internal/users"
)

// group is a line: nodes of a partition that have in common what the line
// shows of them. A partition none of whose nodes is shown is a group without
// nodes.
type group struct {
	part  *nodetext.Part
	rank  int // of the partition in the configuration
	nodes []*nodetext.Node
	names *users.Names

	seen                       map[string]bool // nodes, by name
	allocated, idle, other     int             // nodes
	cpuAlloc, cpuIdle, cpuRest int
}

func (g *group) add(n *nodetext.Node) {
	if g.seen[string(n.Name)] {
		return
	}
	if g.seen == nil {
		g.seen = map[string]bool{}
	}
	g.seen[string(n.Name)] = true
	g.nodes = append(g.nodes, n)
	switch {
	case n.Unavailable():
		g.other++
	case n.AllocCPUs > 0 || n.Completing:
		g.allocated++
	default:
		g.idle++
	}
	a, i, o := n.CPUs()
	g.cpuAlloc, g.cpuIdle, g.cpuRest = g.cpuAlloc+a, g.cpuIdle+i, g.cpuRest+o
}

// first is the node that stands for all; nil when there is none.
func (g *group) first() *nodetext.Node {
	if len(g.nodes) == 0 {
		return nil
	}
	return g.nodes[0]
}

func (g *group) list(of func(*nodetext.Node) string) string {
	if len(g.nodes) == 1 {
		return of(g.nodes[0])
	}
	names := make([]string, len(g.nodes))
	for i, n := range g.nodes {
		names[i] = of(n)
	}
	return hostlist.Compress(names)
}

// How a field takes part in forming groups.
const (
	byAlways uint = 1 << iota // nodes that differ in it are never on one line
	byExact                   // only with --exact
	ofPart                    // it is of the partition
)

// collect forms the groups: nodes in table order, each in its partitions in
// the order of the configuration.
func collect(o *Options, f column.Format[*group], nodes []*nodetext.Node, parts []*nodetext.Part) []*group {
	var keyed []*column.Field[*group]
	for i := range f {
		field := f[i].Field
		if field == nil || field.Needs&byAlways == 0 && (field.Needs&byExact == 0 || !o.Exact) {
			continue
		}
		keyed = append(keyed, field)
	}
	member := memberships(parts)
	byKey := map[string]*group{}
	var groups []*group
	shown := make([]bool, len(parts))
	for _, n := range nodes {
		if !o.wants(n) {
			continue
		}
		for _, i := range member[string(n.Name)] {
			if !o.wantsPart(parts[i]) {
				continue
			}
			shown[i] = true
			single := &group{part: parts[i], rank: i, names: o.names}
			single.add(n)
			key := keyOf(keyed, single)
			if o.NodeMode {
				key += "\x00" + string(n.Name) + "\x00" + parts[i].Name
			}
			if g := byKey[key]; g != nil {
				g.add(n)
				continue
			}
			byKey[key] = single
			groups = append(groups, single)
		}
	}
	if o.NodeMode || o.Reasons || f.Needs()&ofPart == 0 {
		return groups
	}
	for i, p := range parts {
		if !shown[i] && o.wantsPart(p) {
			groups = append(groups, &group{part: p, rank: i, names: o.names})
		}
	}
	return groups
}

func keyOf(fields []*column.Field[*group], g *group) string {
	var b strings.Builder
	for _, f := range fields {
		b.WriteString(f.Value(g))
		b.WriteByte(0)
	}
	return b.String()
}

// memberships gives each node the partitions it is in.
func memberships(parts []*nodetext.Part) map[string][]int {
	m := map[string][]int{}
	for i, p := range parts {
		for _, n := range p.NodeNames {
			m[string(n)] = append(m[string(n)], i)
		}
		if len(p.NodeNames) == 0 {
			names, _ := hostlist.Expand(p.Nodes) //nolint:errcheck // the controller checked it
			for _, n := range names {
				m[n] = append(m[n], i)
			}
		}
	}
	return m
}
