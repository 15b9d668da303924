// Package topology describes how a cluster's nodes are wired: trees of switches,
// blocks, or nothing at all. It checks a description, and answers what is shown
// of it and where a node is in it. A [Site] is immutable once it was checked.
package topology

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/hostlist"
)

// Kind is a form of topology, in the words of TopologyPlugin.
type Kind string

// The kinds.
const (
	Tree  Kind = "tree"
	Block Kind = "block"
	Flat  Kind = "flat"
)

// Switch is a switch with nodes (a leaf) or with other switches below it.
type Switch struct {
	Name      string
	Nodes     string `json:",omitempty"` // host list, of a leaf
	Children  string `json:",omitempty"` // names of switches, as a host list
	LinkSpeed string `json:",omitempty"` // as written; nothing acts on it

	level int      // 0: leaf
	nodes []string // of all leaves below, in their order
	below []int    // places of the children
	above int      // place of the parent; -1: none
}

// BaseBlock is a set of nodes that are close to each other.
type BaseBlock struct {
	Name  string
	Nodes string // host list

	nodes []string
}

// Topology is one named topology.
type Topology struct {
	Name       string
	Kind       Kind
	Default    bool        `json:",omitempty"` // of partitions that name none
	Switches   []Switch    `json:",omitempty"`
	Blocks     []BaseBlock `json:",omitempty"`
	BlockSizes []int       `json:",omitempty"` // nodes: of a block, and of the aggregates that are planned with

	leafOf map[string]int // by node: the leaf or block
}

// Site is every topology of a cluster.
type Site struct {
	Topologies []Topology
	Partitions map[string]string `json:",omitempty"` // partition to topology, of those that name one
	Optional   bool              `json:",omitempty"` // TopoOptional: only for jobs with --switches
}

// Mistake is what is wrong with one entry of a topology: that at place Index of
// its switches or blocks, or -1.
type Mistake struct {
	Index int
	Text  string
}

func (m *Mistake) Error() string { return m.Text }

// Check completes a topology, and returns its mistakes in order. known reports
// whether a node exists; nil: every node does.
func (t *Topology) Check(known func(string) bool) (bad []*Mistake) {
	t.leafOf = map[string]int{}
	fail := func(i int, format string, args ...any) { bad = append(bad, &Mistake{i, fmt.Sprintf(format, args...)}) }
	names := map[string]int{}
	name := func(i int, s string) {
		if s == "" {
			fail(i, "a name is missing")
		} else if _, twice := names[s]; twice {
			fail(i, "%s is defined twice", s)
		} else {
			names[s] = i
		}
	}
	take := func(i int, list string) []string {
		nodes, err := hostlist.Expand(list)
		if err != nil {
			fail(i, "in Nodes=%s: %v", list, err)
			return nil
		}
		for _, n := range nodes {
			if known != nil && !known(n) {
				fail(i, "in Nodes=%s: node %s is not defined", list, n)
			} else if _, twice := t.leafOf[n]; twice {
				fail(i, "node %s is below two of them", n)
			} else {
				t.leafOf[n] = i
			}
		}
		return nodes
	}
	for i := range t.Switches {
		s := &t.Switches[i]
		s.above, s.below, s.nodes, s.level = -1, nil, nil, 0
		name(i, s.Name)
		switch {
		case s.Nodes != "" && s.Children != "":
			fail(i, "switch %s has Nodes and Switches: one of them is allowed", s.Name)
		case s.Nodes == "" && s.Children == "":
			fail(i, "switch %s has neither Nodes nor Switches", s.Name)
		case s.Nodes != "":
			s.nodes = take(i, s.Nodes)
		}
	}
	for i := range t.Switches {
		s := &t.Switches[i]
		children, err := hostlist.Expand(s.Children)
		if err != nil {
			fail(i, "in Switches=%s: %v", s.Children, err)
		}
		for _, c := range children {
			at, ok := names[c]
			switch {
			case !ok:
				fail(i, "in Switches=%s: switch %s is not defined", s.Children, c)
			case t.Switches[at].above >= 0:
				fail(i, "switch %s is below two others", c)
			default:
				t.Switches[at].above = i
				s.below = append(s.below, at)
			}
		}
	}
	for i := range t.Switches {
		if t.loops(i) {
			fail(i, "switch %s is below itself", t.Switches[i].Name)
			return bad
		}
	}
	for i := range t.Switches {
		if t.Switches[i].above < 0 {
			t.gather(i)
		}
	}
	for i := range t.Blocks {
		b := &t.Blocks[i]
		name(i, b.Name)
		if b.nodes = take(i, b.Nodes); len(b.nodes) == 0 && len(bad) == 0 {
			fail(i, "block %s has no nodes", b.Name)
		}
	}
	t.checkSizes(fail)
	return bad
}

func (t *Topology) loops(i int) bool {
	steps := 0
	for at := t.Switches[i].above; at >= 0; at = t.Switches[at].above {
		if steps++; at == i || steps > len(t.Switches) {
			return true
		}
	}
	return false
}

// gather sets level and nodes of everything from i down.
func (t *Topology) gather(i int) {
	s := &t.Switches[i]
	for _, c := range s.below {
		t.gather(c)
		s.level = max(s.level, t.Switches[c].level+1)
		s.nodes = append(s.nodes, t.Switches[c].nodes...)
	}
}

func (t *Topology) checkSizes(fail func(int, string, ...any)) {
	if t.Kind != Block || len(t.Blocks) == 0 {
		return
	}
	if len(t.BlockSizes) == 0 {
		least := len(t.Blocks[0].nodes)
		for _, b := range t.Blocks {
			least = min(least, len(b.nodes))
		}
		t.BlockSizes = []int{least}
	}
	base := t.BlockSizes[0]
	for i, s := range t.BlockSizes {
		ratio := 0
		if base > 0 && s > 0 && s%base == 0 {
			ratio = s / base
		}
		if ratio == 0 || ratio&(ratio-1) != 0 || i > 0 && s <= t.BlockSizes[i-1] {
			fail(-1, "BlockSizes=%s: want growing sizes, each the first times a power of two", t.sizes())
			return
		}
	}
	for i, b := range t.Blocks {
		if n := len(b.nodes); n < base {
			fail(i, "block %s has %d nodes, BlockSizes says at least %d", b.Name, n, base)
		}
	}
}

func (t *Topology) sizes() string {
	words := make([]string, len(t.BlockSizes))
	for i, s := range t.BlockSizes {
		words[i] = strconv.Itoa(s)
	}
	return strings.Join(words, ",")
}

// Unit is a set of leaves that a job may be placed within: a switch, a block or
// an aggregate of blocks.
type Unit struct {
	Level  int
	Leaves []int // places in [Topology.Leaves]
	Root   bool  // nothing larger holds it
}

// Leaves lists the nodes of each leaf switch or block. It is nil when t is flat.
func (t *Topology) Leaves() [][]string {
	var out [][]string
	for i := range t.Switches {
		if t.Switches[i].level == 0 {
			out = append(out, t.Switches[i].nodes)
		}
	}
	for i := range t.Blocks {
		out = append(out, t.Blocks[i].nodes)
	}
	return out
}

// Units lists what jobs are placed within, lowest level first.
func (t *Topology) Units() (out []Unit) {
	if t.Kind == Block {
		return t.aggregates()
	}
	leaf := map[int]int{}
	for i := range t.Switches {
		if t.Switches[i].level == 0 {
			leaf[i] = len(leaf)
		}
	}
	var under func(i int) []int
	under = func(i int) (l []int) {
		if at, ok := leaf[i]; ok {
			return []int{at}
		}
		for _, c := range t.Switches[i].below {
			l = append(l, under(c)...)
		}
		return l
	}
	for i := range t.Switches {
		out = append(out, Unit{t.Switches[i].level, under(i), t.Switches[i].above < 0})
	}
	slices.SortStableFunc(out, func(a, b Unit) int { return a.Level - b.Level })
	return out
}

// aggregates are the blocks, the groups of neighbouring blocks of each further
// size of BlockSizes, and all blocks together.
func (t *Topology) aggregates() (out []Unit) {
	level := 0
	for _, size := range t.BlockSizes {
		per := size / t.BlockSizes[0]
		for lo := 0; lo < len(t.Blocks); lo += per {
			out = append(out, Unit{Level: level, Leaves: places(lo, min(lo+per, len(t.Blocks)))})
		}
		level++
	}
	return append(out, Unit{Level: level, Leaves: places(0, len(t.Blocks)), Root: true})
}

func places(lo, hi int) (out []int) {
	for i := lo; i < hi; i++ {
		out = append(out, i)
	}
	return out
}

// Address is where a node is (SLURM_TOPOLOGY_ADDR), and what the words between
// the dots are (SLURM_TOPOLOGY_ADDR_PATTERN).
func (t *Topology) Address(node string) (addr, pattern string) {
	addr, pattern = node, "node"
	if t == nil {
		return addr, pattern
	}
	at, ok := t.leafOf[node]
	switch {
	case !ok:
	case t.Kind == Block:
		return t.Blocks[at].Name + "." + node, "block.node"
	default:
		for ; at >= 0; at = t.Switches[at].above {
			addr, pattern = t.Switches[at].Name+"."+addr, "switch."+pattern
		}
	}
	return addr, pattern
}

// Rank is the place of a node's leaf among the leaves; nodes that are nowhere
// come last.
func (t *Topology) Rank(node string) int {
	if at, ok := t.leafOf[node]; ok {
		return at
	}
	return len(t.Switches) + len(t.Blocks)
}

// Encode prints a site so that [Decode] reads it.
func (s *Site) Encode() string {
	b, err := json.Marshal(s)
	if err != nil {
		panic("topology: " + err.Error()) // strings, numbers and slices of them
	}
	return string(b)
}

// Decode reads what Encode printed; the empty text is a site without topologies.
func Decode(text string) (*Site, error) {
	s := &Site{}
	if text == "" {
		return s, nil
	}
	if err := json.Unmarshal([]byte(text), s); err != nil {
		return nil, fmt.Errorf("topology: %w", err)
	}
	for i := range s.Topologies {
		if bad := s.Topologies[i].Check(nil); len(bad) > 0 {
			return nil, fmt.Errorf("topology %s: %w", s.Topologies[i].Name, bad[0])
		}
	}
	return s, nil
}

// Of is the topology of a partition; nil: it has none that jobs are placed by.
func (s *Site) Of(partition string) *Topology {
	name, named := s.Partitions[partition]
	for i := range s.Topologies {
		t := &s.Topologies[i]
		if named && t.Name == name || !named && t.Default {
			if t.Kind == Flat {
				return nil
			}
			return t
		}
	}
	return nil
}

// Default is the topology of partitions that name none; nil: none.
func (s *Site) Default() *Topology {
	for i := range s.Topologies {
		if s.Topologies[i].Default {
			return &s.Topologies[i]
		}
	}
	return nil
}
