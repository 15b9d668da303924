package conf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/sluice-hpc/sluice/conf/slurmconf"
	"github.com/sluice-hpc/sluice/sdk/topology"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// topology reads how the nodes are wired: topology.yaml beside slurm.conf if it
// is there, else topology.conf if TopologyPlugin is tree or block.
func (l *loader) topology() {
	c := l.cfg
	dir := filepath.Dir(c.Path)
	c.Topology = &topology.Site{Optional: c.TopologyParam.Has("TopoOptional")}
	file := filepath.Join(dir, "topology.yaml")
	if _, err := os.Stat(file); err == nil {
		c.Files = append(c.Files, file)
		l.topologyYAML(file)
	} else if kind := topology.Kind(strings.TrimPrefix(c.TopologyPlugin, "topology/")); kind == topology.Tree || kind == topology.Block {
		file = filepath.Join(dir, "topology.conf")
		if _, err := os.Stat(file); err != nil {
			l.warn(c.values["topologyplugin"].pos(), "TopologyPlugin", "there is no topology.conf: nodes are placed as with topology/flat")
			return
		}
		l.topologyConf(file, kind)
	}
	if len(l.bad) > 0 {
		return
	}
	for i := range c.Partitions {
		p := &c.Partitions[i]
		name := l.topoOf[p.Name]
		if name == "" {
			continue
		}
		if !hasTopology(c.Topology, name) {
			l.fail(l.partAt[i], "Topology", fmt.Sprintf("%q is not a topology of topology.yaml", name))
			continue
		}
		if c.Topology.Partitions == nil {
			c.Topology.Partitions = map[string]string{}
		}
		c.Topology.Partitions[p.Name] = name
	}
}

func hasTopology(s *topology.Site, name string) bool {
	for i := range s.Topologies {
		if s.Topologies[i].Name == name {
			return true
		}
	}
	return false
}

// knownNode reports whether slurm.conf defines a node.
func (l *loader) knownNode(name string) bool {
	_, ok := l.nodeAt[wlm.NodeName(name)]
	return ok
}

// topologyConf reads topology.conf, which has one topology.
func (l *loader) topologyConf(path string, kind topology.Kind) {
	f, warned, err := LoadCompanion(path)
	l.warned = append(l.warned, warned...)
	if bad, ok := err.(slurmconf.Problems); ok {
		l.bad = append(l.bad, bad...)
	}
	if f == nil {
		return
	}
	l.cfg.Files = append(l.cfg.Files, f.Files...)
	t := topology.Topology{Name: "default", Kind: kind, Default: true}
	var at []slurmconf.Pos
	for _, r := range f.Records {
		o := r.Opts
		_, isSwitch := o["SwitchName"]
		if isSwitch != (kind == topology.Tree) {
			l.fail(r.Pos, "", fmt.Sprintf("this line is not for TopologyPlugin=topology/%s", kind))
			continue
		}
		at = append(at, r.Pos)
		if isSwitch {
			t.Switches = append(t.Switches, topology.Switch{Name: o["SwitchName"], Nodes: o["Nodes"], Children: o["Switches"], LinkSpeed: o["LinkSpeed"]})
		} else {
			t.Blocks = append(t.Blocks, topology.BaseBlock{Name: o["BlockName"], Nodes: o["Nodes"]})
		}
		if sizes := o["BlockSizes"]; sizes != "" {
			t.BlockSizes = l.blockSizes(r.Pos, sizes)
		}
	}
	if sizes, ok := f.values["blocksizes"]; ok {
		t.BlockSizes = l.blockSizes(sizes.Pos, sizes.Value)
	}
	if len(at) == 0 {
		l.fail(slurmconf.Pos{File: path}, "", "has no SwitchName or BlockName line")
		return
	}
	l.addTopology(t, func(i int) slurmconf.Pos {
		if i < 0 {
			return slurmconf.Pos{File: path, Line: at[0].Line}
		}
		return at[i]
	})
}

func (l *loader) addTopology(t topology.Topology, pos func(int) slurmconf.Pos) {
	for _, m := range t.Check(l.knownNode) {
		l.fail(pos(m.Index), "", m.Text)
	}
	l.cfg.Topology.Topologies = append(l.cfg.Topology.Topologies, t)
}

func (l *loader) blockSizes(pos slurmconf.Pos, text string) (out []int) {
	for _, word := range strings.Split(text, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(word))
		if err != nil || n < 1 {
			l.fail(pos, "BlockSizes", fmt.Sprintf("%q: want numbers of nodes with commas between", text))
			return nil
		}
		out = append(out, n)
	}
	return out
}

// The shape of topology.yaml: a list of named topologies. Lines of its entries
// are kept, to say where a mistake is.
type (
	yamlTopology struct {
		Topology string     `yaml:"topology"`
		Default  bool       `yaml:"cluster_default"`
		Flat     bool       `yaml:"flat"`
		Tree     *yamlTree  `yaml:"tree"`
		Block    *yamlBlock `yaml:"block"`
		line     int
	}
	yamlTree struct {
		Switches []yamlSwitch `yaml:"switches"`
	}
	yamlSwitch struct {
		Switch    string `yaml:"switch"`
		Children  string `yaml:"children"`
		Nodes     string `yaml:"nodes"`
		LinkSpeed string `yaml:"link_speed"`
		line      int
	}
	yamlBlock struct {
		Sizes  []int           `yaml:"block_sizes"`
		Blocks []yamlBaseBlock `yaml:"blocks"`
	}
	yamlBaseBlock struct {
		Block string `yaml:"block"`
		Nodes string `yaml:"nodes"`
		line  int
	}
)

// decodeAt decodes a mapping that has only the keys given, and returns its line.
func decodeAt(n *yaml.Node, into any, keys ...string) (int, error) {
	if n.Kind != yaml.MappingNode {
		return 0, fmt.Errorf("line %d: want a mapping with %s", n.Line, strings.Join(keys, ", "))
	}
next:
	for i := 0; i+1 < len(n.Content); i += 2 {
		for _, k := range keys {
			if n.Content[i].Value == k {
				continue next
			}
		}
		return 0, fmt.Errorf("line %d: unknown key %q: want %s", n.Content[i].Line, n.Content[i].Value, strings.Join(keys, ", "))
	}
	return n.Line, n.Decode(into)
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (y *yamlTopology) UnmarshalYAML(n *yaml.Node) (err error) {
	type plain yamlTopology
	line, err := decodeAt(n, (*plain)(y), "topology", "cluster_default", "flat", "tree", "block")
	y.line = line
	return err
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (y *yamlTree) UnmarshalYAML(n *yaml.Node) error {
	type plain yamlTree
	_, err := decodeAt(n, (*plain)(y), "switches")
	return err
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (y *yamlSwitch) UnmarshalYAML(n *yaml.Node) error {
	type plain yamlSwitch
	line, err := decodeAt(n, (*plain)(y), "switch", "children", "nodes", "link_speed")
	y.line = line
	return err
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (y *yamlBlock) UnmarshalYAML(n *yaml.Node) error {
	type plain yamlBlock
	_, err := decodeAt(n, (*plain)(y), "block_sizes", "blocks")
	return err
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (y *yamlBaseBlock) UnmarshalYAML(n *yaml.Node) error {
	type plain yamlBaseBlock
	line, err := decodeAt(n, (*plain)(y), "block", "nodes")
	y.line = line
	return err
}

var yamlLine = regexp.MustCompile(`line (\d+): (.*)`)

// topologyYAML reads topology.yaml.
func (l *loader) topologyYAML(path string) {
	data, err := os.ReadFile(path)
	if err != nil {
		l.fail(slurmconf.Pos{File: path}, "", err.Error())
		return
	}
	var list []yamlTopology
	if err := yaml.Unmarshal(data, &list); err != nil {
		text := err.Error()
		var typed *yaml.TypeError
		if errors.As(err, &typed) && len(typed.Errors) > 0 {
			text = typed.Errors[0]
		}
		pos := slurmconf.Pos{File: path}
		if m := yamlLine.FindStringSubmatch(text); m != nil {
			pos.Line, _ = strconv.Atoi(m[1])
			text = m[2]
		}
		l.fail(pos, "", text)
		return
	}
	defaults := 0
	for _, y := range list {
		pos := slurmconf.Pos{File: path, Line: y.line}
		t := topology.Topology{Name: y.Topology, Kind: topology.Flat, Default: y.Default}
		lines := []int{}
		kinds := 0
		if y.Flat {
			kinds++
		}
		if y.Tree != nil {
			kinds++
			t.Kind = topology.Tree
			for _, s := range y.Tree.Switches {
				t.Switches = append(t.Switches, topology.Switch{Name: s.Switch, Nodes: s.Nodes, Children: s.Children, LinkSpeed: s.LinkSpeed})
				lines = append(lines, s.line)
			}
		}
		if y.Block != nil {
			kinds++
			t.Kind, t.BlockSizes = topology.Block, y.Block.Sizes
			for _, b := range y.Block.Blocks {
				t.Blocks = append(t.Blocks, topology.BaseBlock{Name: b.Block, Nodes: b.Nodes})
				lines = append(lines, b.line)
			}
		}
		if y.Default {
			defaults++
		}
		switch {
		case t.Name == "" || hasTopology(l.cfg.Topology, t.Name):
			l.fail(pos, "topology", "want a name that no other topology has")
		case kinds != 1:
			l.fail(pos, "topology", t.Name+" has to be one of tree, block and flat")
		case defaults > 1:
			l.fail(pos, "cluster_default", "more than one topology is the default")
		}
		l.addTopology(t, func(i int) slurmconf.Pos {
			if i < 0 {
				return pos
			}
			return slurmconf.Pos{File: path, Line: lines[i]}
		})
	}
	if defaults == 0 && len(list) > 0 {
		l.cfg.Topology.Topologies[0].Default = true // as Slurm: the first
	}
}
