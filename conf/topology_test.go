package conf

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/topology"
)

// loadWired loads a small slurm.conf with one file beside it.
func loadWired(t *testing.T, more, file, text string) (*Config, []Warning, error) {
	t.Helper()
	dir := t.TempDir()
	base := "ClusterName=c\nSlurmctldHost=h\nNodeName=n[1-8] CPUs=1\nPartitionName=p Nodes=ALL Default=YES\n" + more
	for name, body := range map[string]string{"slurm.conf": base, file: text} {
		if name == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Load(filepath.Join(dir, "slurm.conf"))
}

const yamlGood = `---
- topology: fabric
  cluster_default: true
  tree:
    switches:
      - switch: root
        children: s[1-2]
      - switch: s1
        nodes: n[1-4]
      - switch: s2
        nodes: n[5-8]
- topology: racks
  block:
    block_sizes: [2, 4]
    blocks:
      - block: b1
        nodes: n[1-4]
      - block: b2
        nodes: n[5-8]
- topology: none
  flat: true
`

func TestTopologyFiles(t *testing.T) {
	tree := "SwitchName=s1 Nodes=n[1-4] LinkSpeed=10\nSwitchName=s2 Nodes=n[5-8]\nSwitchName=root Switches=s[1-2]\n"
	c, _, err := loadWired(t, "TopologyPlugin=topology/tree\nTopologyParam=TopoOptional\n", "topology.conf", tree)
	if err != nil {
		t.Fatal(err)
	}
	if a, _ := c.Topology.Of("p").Address("n5"); a != "root.s2.n5" || !c.Topology.Optional {
		t.Errorf("n5 is at %s", a)
	}
	c, _, err = loadWired(t, "TopologyPlugin=topology/block\n", "topology.conf", "BlockName=b1 Nodes=n[1-4]\nBlockName=b2 Nodes=n[5-8]\nBlockSizes=4,8\n")
	if err != nil {
		t.Fatal(err)
	}
	if top := c.Topology.Of("p"); top == nil || top.Kind != topology.Block || len(top.BlockSizes) != 2 {
		t.Errorf("got %+v", top)
	}
	c, _, err = loadWired(t, "PartitionName=q Nodes=n1 Topology=racks\nPartitionName=r Nodes=n1 Topology=none\n", "topology.yaml", yamlGood)
	if err != nil {
		t.Fatal(err)
	}
	if p, q, r := c.Topology.Of("p"), c.Topology.Of("q"), c.Topology.Of("r"); p.Name != "fabric" || q.Name != "racks" || r != nil {
		t.Errorf("got %v %v %v", p, q, r)
	}
	if _, warned, err := loadWired(t, "TopologyPlugin=topology/tree\n", "", ""); err != nil || len(warned) == 0 {
		t.Errorf("no topology.conf: %v, %v", warned, err)
	}
}

func TestTopologyMistakes(t *testing.T) {
	for _, tt := range []struct{ name, more, file, text, want string }{
		{"a node that is not there", "TopologyPlugin=topology/tree\n", "topology.conf", "# wires\nSwitchName=s1 Nodes=n[1-9]\n", "topology.conf:2: in Nodes=n[1-9]: node n9 is not defined"},
		{"a misspelt key", "TopologyPlugin=topology/tree\n", "topology.conf", "SwitchName=s1 Node=n1\n", "topology.conf:1: Node: "},
		{"blocks in a tree", "TopologyPlugin=topology/tree\n", "topology.conf", "BlockName=b Nodes=n1\n", "topology.conf:1: this line is not for TopologyPlugin=topology/tree"},
		{"sizes", "TopologyPlugin=topology/block\n", "topology.conf", "BlockName=b Nodes=n1\nBlockSizes=x\n", "topology.conf:2: BlockSizes: "},
		{"nothing", "TopologyPlugin=topology/tree\n", "topology.conf", "", "has no SwitchName or BlockName line"},
		{"a yaml key", "", "topology.yaml", "- topology: a\n  trees: {}\n", `topology.yaml:2: unknown key "trees"`},
		{"a yaml node", "", "topology.yaml", "- topology: a\n  tree:\n    switches:\n      - switch: s\n        nodes: n9\n", "topology.yaml:4: in Nodes=n9: node n9 is not defined"},
		{"no kind", "", "topology.yaml", "- topology: a\n", "topology.yaml:1: topology: a has to be one of tree, block and flat"},
		{"two defaults", "", "topology.yaml", "- {topology: a, cluster_default: true, flat: true}\n- {topology: b, cluster_default: true, flat: true}\n", "topology.yaml:2: cluster_default"},
		{"no yaml", "", "topology.yaml", "- topology: [\n", "topology.yaml:"},
		{"an unknown topology", "PartitionName=q Nodes=n1 Topology=x\n", "topology.yaml", yamlGood, `Topology: "x" is not a topology of topology.yaml`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := loadWired(t, tt.more, tt.file, tt.text)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}
