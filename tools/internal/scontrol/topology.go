package scontrol

import (
	"context"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/topology"
)

// showTopology is "show topology [name] [unit=name|node=name]": how the nodes
// are wired. A name without a key may be a topology's, a switch's, a block's or
// a node's; without any, the default topology is shown.
func (s *session) showTopology(ctx context.Context, arg string) {
	text, err := s.source.Topology(ctx)
	if err != nil {
		s.fail("slurm_load_topo error: ", err)
		return
	}
	site, err := topology.Decode(text)
	if err != nil {
		s.fail("slurm_load_topo error: ", err)
		return
	}
	t := site.Default()
	var q topology.Query
	key, name, keyed := strings.Cut(arg, "=")
	switch strings.ToLower(key) {
	case "node":
		q.Node = name
	case "unit", "switch", "switchname", "block", "blockname":
		q.Name = name
	default:
		name, keyed = arg, false
	}
	if t == nil {
		if arg != "" {
			s.failf("Topology information contains no switch or node named %s", name)
		}
		return
	}
	show := func(q topology.Query) bool {
		lines := t.Show(q)
		for _, line := range lines {
			s.line(line)
		}
		return len(lines) > 0
	}
	if keyed || arg == "" {
		if !show(q) && arg != "" {
			s.failf("Topology information contains no switch or node named %s", name)
		}
		return
	}
	for i := range site.Topologies {
		if site.Topologies[i].Name == name {
			t = &site.Topologies[i]
			show(topology.Query{})
			return
		}
	}
	if !show(topology.Query{Name: name}) && !show(topology.Query{Node: name}) {
		s.failf("Topology information contains no switch or node named %s", name)
	}
}
