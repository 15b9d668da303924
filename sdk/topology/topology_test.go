package topology

import (
	"slices"
	"strings"
	"testing"
)

// tree is two leaves below a root, and a leaf apart.
func tree() Topology {
	return Topology{Name: "default", Kind: Tree, Default: true, Switches: []Switch{
		{Name: "root", Children: "s[0-1]"}, {Name: "s0", Nodes: "n[0-3]", LinkSpeed: "10"}, {Name: "s1", Nodes: "n[4-7]"}}}
}

func blocks(sizes ...int) Topology {
	return Topology{Name: "b", Kind: Block, BlockSizes: sizes, Blocks: []BaseBlock{
		{Name: "b1", Nodes: "n[1-4]"}, {Name: "b2", Nodes: "n[5-8]"}, {Name: "b3", Nodes: "n[9-12]"}, {Name: "b4", Nodes: "n[13-16]"}}}
}

func TestShow(t *testing.T) {
	for _, tt := range []struct {
		name string
		top  Topology
		q    Query
		want string
	}{
		{"a tree, lowest level first", tree(), Query{}, `SwitchName=s0 Level=0 LinkSpeed=10 Nodes=n[0-3]
SwitchName=s1 Level=0 LinkSpeed=1 Nodes=n[4-7]
SwitchName=root Level=1 LinkSpeed=1 Nodes=n[0-7] Switches=s[0-1]`},
		{"one switch", tree(), Query{Name: "s1"}, "SwitchName=s1 Level=0 LinkSpeed=1 Nodes=n[4-7]"},
		{"what a node is below", tree(), Query{Node: "n0"}, `SwitchName=s0 Level=0 LinkSpeed=10 Nodes=n[0-3]
SwitchName=root Level=1 LinkSpeed=1 Nodes=n[0-7] Switches=s[0-1]`},
		{"nothing", tree(), Query{Name: "x"}, ""},
		{"blocks and aggregates", blocks(4, 8), Query{}, `BlockName=b1 BlockIndex=0 Nodes=n[1-4] BlockSize=4
BlockName=b2 BlockIndex=1 Nodes=n[5-8] BlockSize=4
BlockName=b3 BlockIndex=2 Nodes=n[9-12] BlockSize=4
BlockName=b4 BlockIndex=3 Nodes=n[13-16] BlockSize=4
AggregatedBlock=b[1-2] BlockIndex=4 Nodes=n[1-8] BlockSize=8
AggregatedBlock=b[3-4] BlockIndex=5 Nodes=n[9-16] BlockSize=8`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if bad := tt.top.Check(nil); len(bad) > 0 {
				t.Fatal(bad[0])
			}
			if got := strings.Join(tt.top.Show(tt.q), "\n"); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	known := func(n string) bool { return n != "x" }
	for _, tt := range []struct {
		name string
		top  Topology
		at   int
		want string
	}{
		{"twice", Topology{Kind: Tree, Switches: []Switch{{Name: "a", Nodes: "n1"}, {Name: "a", Nodes: "n2"}}}, 1, "a is defined twice"},
		{"no name", Topology{Kind: Tree, Switches: []Switch{{Nodes: "n1"}}}, 0, "a name is missing"},
		{"both", Topology{Kind: Tree, Switches: []Switch{{Name: "a", Nodes: "n1", Children: "a"}}}, 0, "switch a has Nodes and Switches: one of them is allowed"},
		{"neither", Topology{Kind: Tree, Switches: []Switch{{Name: "a"}}}, 0, "switch a has neither Nodes nor Switches"},
		{"no child", Topology{Kind: Tree, Switches: []Switch{{Name: "a", Children: "b"}}}, 0, "in Switches=b: switch b is not defined"},
		{"a loop", Topology{Kind: Tree, Switches: []Switch{{Name: "a", Children: "b"}, {Name: "b", Children: "a"}}}, 0, "switch a is below itself"},
		{"two parents", Topology{Kind: Tree, Switches: []Switch{{Name: "a", Children: "c"}, {Name: "b", Children: "c"}, {Name: "c", Nodes: "n1"}}}, 1, "switch c is below two others"},
		{"a node twice", Topology{Kind: Tree, Switches: []Switch{{Name: "a", Nodes: "n1"}, {Name: "b", Nodes: "n[1-2]"}}}, 1, "node n1 is below two of them"},
		{"an unknown node", Topology{Kind: Tree, Switches: []Switch{{Name: "a", Nodes: "x"}}}, 0, "in Nodes=x: node x is not defined"},
		{"a bad list", Topology{Kind: Tree, Switches: []Switch{{Name: "a", Nodes: "n[1"}}}, 0, "in Nodes=n[1"},
		{"sizes", blocks(4, 12), -1, "BlockSizes=4,12: want growing sizes, each the first times a power of two"},
		{"a small block", blocks(5), 0, "block b1 has 4 nodes, BlockSizes says at least 5"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bad := tt.top.Check(known)
			if len(bad) == 0 || bad[0].Index != tt.at || !strings.HasPrefix(bad[0].Text, tt.want) {
				t.Errorf("got %+v, want %d: %s", bad, tt.at, tt.want)
			}
		})
	}
}

func TestAddress(t *testing.T) {
	tr, bl := tree(), blocks()
	tr.Check(nil)
	bl.Check(nil)
	for _, tt := range []struct {
		top           *Topology
		node          string
		addr, pattern string
	}{
		{&tr, "n5", "root.s1.n5", "switch.switch.node"},
		{&tr, "other", "other", "node"},
		{&bl, "n5", "b2.n5", "block.node"},
		{nil, "n5", "n5", "node"},
	} {
		if a, p := tt.top.Address(tt.node); a != tt.addr || p != tt.pattern {
			t.Errorf("%s: %s %s, want %s %s", tt.node, a, p, tt.addr, tt.pattern)
		}
	}
}

func TestSite(t *testing.T) {
	s := &Site{Topologies: []Topology{tree(), blocks(4), {Name: "none", Kind: Flat}}, Partitions: map[string]string{"p": "b", "q": "none"}, Optional: true}
	back, err := Decode(s.Encode())
	if err != nil || !back.Optional || len(back.Topologies) != 3 {
		t.Fatalf("%+v, %v", back, err)
	}
	for part, want := range map[string]string{"p": "b", "q": "", "other": "default"} {
		got := ""
		if top := back.Of(part); top != nil {
			got = top.Name
		}
		if got != want {
			t.Errorf("partition %s has topology %q, want %q", part, got, want)
		}
	}
	if u := back.Topologies[0].Units(); len(u) != 3 || !u[2].Root || !slices.Equal(u[2].Leaves, []int{0, 1}) {
		t.Errorf("units %+v", u)
	}
	if _, err := Decode("{"); err == nil {
		t.Error("half a site was read")
	}
}

func FuzzDecode(f *testing.F) {
	s := &Site{Topologies: []Topology{tree(), blocks(4, 8)}}
	f.Add(s.Encode())
	f.Add(`{"Topologies":[{"Kind":"block","Blocks":[{"Name":"a","Nodes":"n1"}],"BlockSizes":[0]}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Decode(text)
		if err != nil {
			return
		}
		for i := range s.Topologies {
			s.Topologies[i].Show(Query{})
			s.Topologies[i].Units()
			s.Topologies[i].Address("n1")
		}
	})
}
