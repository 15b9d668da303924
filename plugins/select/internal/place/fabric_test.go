package place

import (
	"fmt"
	"math/bits"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/topology"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"pgregory.net/rapid"
)

// wired gives a cluster a topology.
func (c *cluster) wired(t rapid.TB, s topology.Site) {
	text := s.Encode()
	if _, err := topology.Decode(text); err != nil {
		t.Fatal(err)
	}
	if c.settings == nil {
		c.settings = map[string]string{}
	}
	c.settings["Topology"] = text
}

// leaves is a tree of leaf switches with the nodes n1, n2, ... in turn.
func leaves(sizes ...int) topology.Site {
	t := topology.Topology{Name: "default", Kind: topology.Tree, Default: true}
	at := 1
	for i, n := range sizes {
		t.Switches = append(t.Switches, topology.Switch{Name: fmt.Sprintf("s%d", i), Nodes: fmt.Sprintf("n[%d-%d]", at, at+n-1)})
		at += n
	}
	t.Switches = append(t.Switches, topology.Switch{Name: "root", Children: fmt.Sprintf("s[0-%d]", len(sizes)-1)})
	return topology.Site{Topologies: []topology.Topology{t}}
}

func inBlocks(sizes ...int) topology.Site {
	s := leaves(4, 4, 4)
	t := &s.Topologies[0]
	t.Kind, t.BlockSizes = topology.Block, sizes
	for _, sw := range t.Switches[:3] {
		t.Blocks = append(t.Blocks, topology.BaseBlock{Name: sw.Name, Nodes: sw.Nodes})
	}
	t.Switches = nil
	return s
}

func TestFabric(t *testing.T) {
	optional := leaves(4, 4)
	optional.Optional = true
	named := leaves(4, 4)
	named.Partitions = map[string]string{"main": "flat"}
	named.Topologies = append(named.Topologies, topology.Topology{Name: "flat", Kind: topology.Flat})
	apart := leaves(4, 4)
	apart.Topologies[0].Switches = apart.Topologies[0].Switches[:2]
	for _, tt := range []struct {
		name  string
		nodes int
		site  topology.Site
		busy  []int // nodes, from 1
		class mirror.Class
		want  string // nodes, from 1
	}{
		{"one leaf", 8, leaves(4, 4), nil, mirror.Class{MinNodes: 4}, "1 2 3 4"},
		{"the leaf that is free", 8, leaves(4, 4), []int{2}, mirror.Class{MinNodes: 4}, "5 6 7 8"},
		{"least to spare", 8, leaves(4, 4), []int{5, 6}, mirror.Class{MinNodes: 2}, "7 8"},
		{"two leaves", 8, leaves(4, 4), nil, mirror.Class{MinNodes: 6}, "1 2 3 4 5 6"},
		{"fewest leaves", 9, leaves(2, 2, 5), nil, mirror.Class{MinNodes: 7}, "1 2 5 6 7 8 9"},
		{"too many switches", 8, leaves(4, 4), []int{4, 8}, mirror.Class{MinNodes: 4, Switches: 1, SwitchWait: 60}, ""},
		{"switches after all", 8, leaves(4, 4), []int{4, 8}, mirror.Class{MinNodes: 4, Switches: 1, SwitchWait: 1}, "1 2 3 5"},
		{"near a required node", 8, leaves(4, 4), nil, mirror.Class{MinNodes: 3, ReqNodes: "n6"}, "5 6 7"},
		{"optional and not asked for", 8, optional, []int{2}, mirror.Class{MinNodes: 4}, "3 4 5 6"},
		{"optional and asked for", 8, optional, []int{2}, mirror.Class{MinNodes: 4, Switches: 1, SwitchWait: 60}, "5 6 7 8"},
		{"a partition of another topology", 8, named, []int{2}, mirror.Class{MinNodes: 4}, "3 4 5 6"},
		{"out of reach", 8, apart, nil, mirror.Class{MinNodes: 5}, ""},
		{"a node without a switch", 9, leaves(4, 4), []int{1, 2, 3, 4, 5, 6, 7, 8}, mirror.Class{MinNodes: 1}, "9"},
		{"one block", 12, inBlocks(4, 8), []int{1}, mirror.Class{MinNodes: 4}, "5 6 7 8"},
		{"an aggregate", 12, inBlocks(4, 8), nil, mirror.Class{MinNodes: 6}, "1 2 3 4 5 6"},
		{"all blocks", 12, inBlocks(4, 8), nil, mirror.Class{MinNodes: 10}, "1 2 3 4 5 6 7 8 9 10"},
		{"segments", 12, inBlocks(4, 8), []int{1}, mirror.Class{MinNodes: 4, Segment: 2}, "5 6 7 8"},
		{"segments apart", 12, inBlocks(4), []int{1, 5, 9}, mirror.Class{MinNodes: 6, Segment: 2}, "2 3 6 7 10 11"},
		{"no room for segments", 12, inBlocks(4), []int{1, 5, 9}, mirror.Class{MinNodes: 8, Segment: 2}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCluster(tt.nodes, 1, 4, 1)
			c.wired(t, tt.site)
			for _, n := range tt.busy {
				c.run(c.job(3600, mirror.Class{Partitions: []int{0}}), testNow+3600, use(n-1, 0, 0, 1, 2, 3))
			}
			tt.class.Partitions, tt.class.Share = []int{0}, wlm.ShareNever
			j := c.job(3600, tt.class)
			j.Eligible = testNow - 30
			r := c.place(t, sched.Skip, 0)
			got := []string{}
			if len(r.Placements) > 0 {
				for _, u := range r.Placements[0].Uses {
					got = append(got, fmt.Sprint(u.Node+1))
				}
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("nodes %v, want %s", got, tt.want)
			}
		})
	}
}

// On small trees of equal nodes a job is within the unit of lowest level that
// has enough free nodes, on as few leaves as any choice of nodes in a unit of
// that level.
func TestFewestLeaves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.IntRange(1, 4), 1, 5).Draw(t, "leaves")
		total := 0
		for _, n := range sizes {
			total += n
		}
		s := leaves(sizes...)
		if top := &s.Topologies[0]; len(sizes) > 3 && rapid.Bool().Draw(t, "deep") {
			k := len(sizes)
			top.Switches[k].Children = "m[0-1]"
			top.Switches = append(top.Switches, topology.Switch{Name: "m0", Children: "s[0-1]"},
				topology.Switch{Name: "m1", Children: fmt.Sprintf("s[2-%d]", k-1)})
		}
		c := newCluster(total, 1, 1, 1)
		c.wired(t, s)
		free := 0
		for n := range total {
			if rapid.IntRange(0, 2).Draw(t, "busy") == 0 {
				c.run(c.job(3600, mirror.Class{Partitions: []int{0}}), testNow+3600, use(n, 0, 0))
			} else {
				free |= 1 << n
			}
		}
		want := rapid.IntRange(1, total).Draw(t, "nodes")
		c.job(60, mirror.Class{Partitions: []int{0}, MinNodes: uint32(want), NTasks: uint32(want), MaxNodes: uint32(want)})
		r := c.place(t, sched.Skip, 0)
		level, least := bruteLeaves(t, c, free, want)
		if len(r.Placements) == 0 {
			if least > 0 {
				t.Fatalf("not placed, %d leaves will do", least)
			}
			return
		}
		got := 0
		for _, u := range r.Placements[0].Uses {
			got |= 1 << u.Node
		}
		gotLevel, on := unitOf(t, c, got)
		if bits.OnesCount(uint(got)) != want || gotLevel != level || on != least {
			t.Fatalf("nodes %b at level %d on %d leaves, want level %d on %d", got, gotLevel, on, level, least)
		}
	})
}

// masks are the nodes of each leaf, and the units.
func masks(t rapid.TB, c *cluster) (leaf []int, units []topology.Unit) {
	site, err := topology.Decode(c.settings["Topology"])
	if err != nil {
		t.Fatal(err)
	}
	for _, names := range site.Topologies[0].Leaves() {
		m := 0
		for _, name := range names {
			m |= 1 << slices.IndexFunc(c.nodes, func(n mirror.Node) bool { return string(n.Name) == name })
		}
		leaf = append(leaf, m)
	}
	return leaf, site.Topologies[0].Units()
}

// unitOf is the lowest level at which a unit holds all nodes, and on how many
// leaves they are.
func unitOf(t rapid.TB, c *cluster, nodes int) (level, on int) {
	leaf, units := masks(t, c)
	for _, m := range leaf {
		if m&nodes != 0 {
			on++
		}
	}
	for _, u := range units {
		all := 0
		for _, l := range u.Leaves {
			all |= leaf[l]
		}
		if nodes&^all == 0 {
			return u.Level, on
		}
	}
	return -1, on
}

// bruteLeaves tries every set of so many free nodes.
func bruteLeaves(t rapid.TB, c *cluster, free, want int) (level, least int) {
	level = -1
	for set := free; ; set = (set - 1) & free {
		if bits.OnesCount(uint(set)) == want {
			if l, on := unitOf(t, c, set); l >= 0 && (level < 0 || l < level || l == level && on < least) {
				level, least = l, on
			}
		}
		if set == 0 {
			return level, least
		}
	}
}

// Jobs on a tree are given the nodes that Slurm gives them, see the table.
func TestTreeAsSlurm(t *testing.T) {
	data, err := os.ReadFile("testdata/tree.txt")
	if err != nil {
		t.Fatal(err)
	}
	s := leaves(3, 4, 5)
	top := &s.Topologies[0]
	top.Switches[3].Children = "m1,s2"
	top.Switches = append(top.Switches, topology.Switch{Name: "m1", Children: "s[0-1]"})
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(strings.TrimPrefix(line, "+ "))
		part := strings.Split(line, ": ")
		if len(part) != 3 || line[0] == '-' || line[0] == '#' {
			continue
		}
		c := newCluster(12, 1, 4, 1)
		c.wired(t, s)
		for _, n := range strings.Split(strings.TrimPrefix(part[0], "busy "), ",") {
			if at, err := strconv.Atoi(n); err == nil {
				c.run(c.job(3600, mirror.Class{}), testNow+3600, use(at-1, 0, 0, 1, 2, 3))
			}
		}
		n, err := strconv.Atoi(strings.TrimPrefix(part[1], "-N"))
		if err != nil {
			t.Fatal(err)
		}
		c.job(3600, mirror.Class{MinNodes: uint32(n), Share: wlm.ShareNever})
		got := []string{}
		if r := c.place(t, sched.Skip, 0); len(r.Placements) > 0 {
			for _, u := range r.Placements[0].Uses {
				got = append(got, fmt.Sprint(u.Node+1))
			}
		}
		if strings.Join(got, " ") != part[2] {
			t.Errorf("%s: %s: %s, Slurm gives %s", part[0], part[1], strings.Join(got, " "), part[2])
		}
	}
}
