package mirror

import "github.com/sluice-hpc/sluice/sdk/wlm"

// Reserve replaces the reservations of a mirror that [Build] made.
func (m *Mirror) Reserve(list ...Reservation) { m.resvs = list }

// Build makes a mirror at rev 1 from whole tables, for tests and benchmarks of
// plugins. Nodes and partitions get the index of their place; the tables
// belong to the mirror afterwards.
func Build(nodes []Node, parts []Partition, classes []*Class, jobs []*Job, settings map[string]string, counters ...Counter) *Mirror {
	m := &Mirror{state: newState()}
	m.rev, m.nodes, m.partitions, m.counters = 1, nodes, parts, counters
	if settings != nil {
		m.settings = settings
	}
	for i := range nodes {
		nodes[i].Index = wlm.NodeIndex(i)
	}
	for i := range parts {
		parts[i].Index = i
	}
	for _, c := range classes {
		m.classes[c.ID] = c
	}
	for _, j := range jobs {
		if j.Class == nil {
			j.Class = m.classes[0]
		}
		j.rev, j.tier = m.rev, m.tier(j.Class)
		m.put(j)
	}
	return m
}
