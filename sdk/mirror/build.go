package mirror

import "github.com/sluice-hpc/sluice/sdk/wlm"

// Build makes a mirror at rev 1 from whole tables, for tests and benchmarks of
// plugins. Nodes and partitions get the index of their place; the tables
// belong to the mirror afterwards.
func Build(nodes []Node, parts []Partition, classes []*Class, jobs []*Job, settings map[string]string, counters ...Counter) *Mirror {
	m := &Mirror{
		rev:        1,
		nodes:      nodes,
		partitions: parts,
		counters:   counters,
		classes:    make(map[uint32]*Class, len(classes)),
		jobs:       make(map[wlm.JobID]*Job, len(jobs)),
		settings:   settings,
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
		m.jobs[j.ID] = j
	}
	return m
}
