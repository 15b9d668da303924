package place

import (
	"cmp"
	"slices"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// geometry is a node's shape. Masks of all nodes lie one after the other in
// slices of table.masks words; a node's is [off:off+words].
type geometry struct {
	off, words int32
	cores      int32
	threads    int32 // CPUs of a core
	sockets    int32
	perSocket  int32 // cores
	avail      int32 // cores that jobs may have
	kind       int32
	memory     int64
}

// kind is a set of nodes of one configuration.
type kind struct {
	node  int32 // one of them
	slots bitmap
}

// table is what can be said of nodes and partitions without looking at jobs.
// Slots are places in the order in which nodes are taken: weight, then index.
type table struct {
	params params
	nodes  []mirror.Node
	parts  []mirror.Partition

	geo       []geometry // by node
	masks     int32
	full      []uint64 // cores that jobs may have
	order     []int32  // slot to node
	slot      []int32  // node to slot
	breaks    bitmap   // slots at which a run of neighbours cannot go on
	groups    []int32  // first slot of each weight, and the number of slots
	kinds     []kind
	pools     [][]pool // generic resources, by kind
	partSlots []bitmap
	names     map[string]int32
	mostCores int32
	wiring    string    // the setting that fabrics is of
	fabrics   []*fabric // by partition; nil: any nodes are as good

	requests map[*mirror.Class]*request
}

// newTable copies what it keeps: the view's tables may change in place later.
func newTable(v mirror.View, p params) *table {
	t := &table{
		params:   p,
		nodes:    slices.Clone(v.Nodes),
		parts:    slices.Clone(v.Partitions),
		geo:      make([]geometry, len(v.Nodes)),
		slot:     make([]int32, len(v.Nodes)),
		order:    make([]int32, len(v.Nodes)),
		breaks:   newBitmap(len(v.Nodes)),
		names:    make(map[string]int32, len(v.Nodes)),
		requests: map[*mirror.Class]*request{},
		wiring:   v.Setting("Topology"),
	}
	for i := range t.nodes {
		n := &t.nodes[i]
		n.Features = slices.Clone(n.Features)
		n.SpecCPUs = n.SpecCPUs.Clone()
		t.names[string(n.Name)] = int32(i)
		t.measure(int32(i))
	}
	t.arrange()
	t.sortKinds()
	for i := range t.parts {
		p := &t.parts[i]
		p.Nodes = slices.Clone(p.Nodes)
		slots := newBitmap(len(t.nodes))
		for _, n := range p.Nodes {
			if int(n) < len(t.nodes) {
				slots.set(t.slot[n])
			}
		}
		t.partSlots = append(t.partSlots, slots)
	}
	t.wire()
	return t
}

// measure fills in the geometry of node i. When CPUs are no multiple of cores,
// each CPU counts as a core.
func (t *table) measure(i int32) {
	n, g := &t.nodes[i], &t.geo[i]
	cpus, cores, sockets := max(n.CPUs, 0), n.Sockets*n.CoresPerSocket, n.Sockets
	if cores <= 0 || cpus < cores || cpus%cores != 0 {
		cores = cpus
		if sockets <= 0 || cores%sockets != 0 {
			sockets = 1
		}
	}
	*g = geometry{off: t.masks, words: int32(cores+63) / 64, cores: int32(cores), threads: 1,
		sockets: int32(sockets), memory: int64(n.Memory)}
	if cores > 0 {
		g.threads, g.perSocket = int32(cpus/cores), int32(cores/sockets)
	}
	mask := wlm.FullCPUSet(cores)
	for cpu := range n.SpecCPUs.All {
		if core := cpu / int(g.threads); core < cores {
			mask[core/64] &^= 1 << (core % 64)
		}
	}
	g.avail = int32(mask.Count())
	t.mostCores = max(t.mostCores, g.avail)
	t.full = append(t.full, mask...)
	t.masks += g.words
}

// arrange orders the slots and finds where neighbours are none.
func (t *table) arrange() {
	for i := range t.order {
		t.order[i] = int32(i)
	}
	slices.SortStableFunc(t.order, func(a, b int32) int { return cmp.Compare(t.nodes[a].Weight, t.nodes[b].Weight) })
	for s, n := range t.order {
		t.slot[n] = int32(s)
		other := s == 0 || t.nodes[n].Weight != t.nodes[t.order[s-1]].Weight
		if other {
			t.groups = append(t.groups, int32(s))
		}
		if other || n != t.order[s-1]+1 {
			t.breaks.set(int32(s))
		}
	}
	t.groups = append(t.groups, int32(len(t.order)))
}

func (t *table) sortKinds() {
	for i := range t.nodes {
		n := &t.nodes[i]
		k := slices.IndexFunc(t.kinds, func(k kind) bool { return sameKind(n, &t.nodes[k.node]) })
		if k < 0 {
			k = len(t.kinds)
			t.kinds = append(t.kinds, kind{int32(i), newBitmap(len(t.nodes))})
		}
		if len(t.pools) < len(t.kinds) {
			t.pools = append(t.pools, t.poolsOf(n, t.geo[i].words))
		}
		t.geo[i].kind = int32(k)
		t.kinds[k].slots.set(t.slot[i])
	}
}

// sameKind compares everything that a request may ask of a node.
func sameKind(a, b *mirror.Node) bool {
	return a.CPUs == b.CPUs && a.Sockets == b.Sockets && a.CoresPerSocket == b.CoresPerSocket &&
		a.ThreadsPerCore == b.ThreadsPerCore && a.Memory == b.Memory && a.TmpDisk == b.TmpDisk &&
		a.Gres == b.Gres && a.GresConf == b.GresConf && slices.Equal(a.Features, b.Features) && slices.Equal(a.SpecCPUs, b.SpecCPUs)
}

// current reports whether the table still says what the view says.
func (t *table) current(v mirror.View, p params) bool {
	if t.params != p || t.wiring != v.Setting("Topology") || len(t.nodes) != len(v.Nodes) || len(t.parts) != len(v.Partitions) {
		return false
	}
	for i := range t.nodes {
		a, b := &t.nodes[i], &v.Nodes[i]
		if a.Name != b.Name || a.Weight != b.Weight || !sameKind(a, b) {
			return false
		}
	}
	for i := range t.parts {
		if !samePartition(t.parts[i], v.Partitions[i]) {
			return false
		}
	}
	return true
}

func samePartition(a, b mirror.Partition) bool {
	return a.Name == b.Name && a.Tier == b.Tier && a.Starts == b.Starts && a.MinNodes == b.MinNodes &&
		a.MaxNodes == b.MaxNodes && a.MaxCPUsPerNode == b.MaxCPUsPerNode && a.MaxTime == b.MaxTime &&
		a.LLN == b.LLN && a.OverSubscribe == b.OverSubscribe && a.ExclusiveUser == b.ExclusiveUser &&
		slices.Equal(a.Nodes, b.Nodes)
}

// coresOf turns a set of CPUs of a node into the mask of their cores. The
// result may share memory with cpus.
func (t *table) coresOf(g *geometry, cpus wlm.CPUSet) []uint64 {
	if g.threads == 1 {
		return cpus
	}
	mask := make([]uint64, g.words)
	for cpu := range cpus.All {
		if core := int32(cpu) / g.threads; core < g.cores {
			mask[core/64] |= 1 << (core % 64)
		}
	}
	return mask
}

// usableCores counts the cores of mask that can be given away: with whole
// sockets, only those of sockets with nothing taken.
func (t *table) usableCores(g *geometry, mask []uint64) int32 {
	if !t.params.sockets {
		return int32(count(mask))
	}
	full, n := t.full[g.off:g.off+g.words], 0
	for s := range g.sockets {
		lo, hi := s*g.perSocket, (s+1)*g.perSocket
		if free := countRange(mask, lo, hi); free == countRange(full, lo, hi) {
			n += free
		}
	}
	return int32(n)
}
