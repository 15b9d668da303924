package place

import (
	"cmp"
	"slices"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/topology"
)

// fabric is how the nodes of a partition are wired. A job is placed within the
// unit of lowest level that is enough for it, on as few leaves as that takes.
type fabric struct {
	leaves   []bitmap // slots of each leaf switch or block
	units    []topology.Unit
	roots    []bitmap // slots of units that nothing larger holds
	optional bool     // only jobs that ask for few switches are placed by it
}

// wire reads the setting Topology. One that cannot be read counts as none: the
// controller checked it.
func (t *table) wire() {
	t.fabrics = make([]*fabric, len(t.parts))
	site, err := topology.Decode(t.wiring)
	if err != nil {
		return
	}
	made := map[*topology.Topology]*fabric{}
	for i := range t.parts {
		top := site.Of(t.parts[i].Name)
		if top == nil {
			continue
		}
		if made[top] == nil {
			made[top] = t.fabricOf(top, site.Optional)
		}
		t.fabrics[i] = made[top]
	}
}

// fabricOf turns node names into slots. Nodes that the topology does not name
// are each a leaf of their own, out of reach of all others.
func (t *table) fabricOf(top *topology.Topology, optional bool) *fabric {
	f := &fabric{units: top.Units(), optional: optional}
	rest := newBitmap(len(t.nodes))
	for s := range t.order {
		rest.set(int32(s))
	}
	for _, names := range top.Leaves() {
		leaf := newBitmap(len(t.nodes))
		for _, name := range names {
			if node, ok := t.names[name]; ok {
				leaf.set(t.slot[node])
			}
		}
		rest.andNot(leaf)
		f.leaves = append(f.leaves, leaf)
	}
	for s := rest.next(0); s >= 0; s = rest.next(s + 1) {
		leaf := newBitmap(len(t.nodes))
		leaf.set(s)
		f.units = append(f.units, topology.Unit{Leaves: []int{len(f.leaves)}, Root: true})
		f.leaves = append(f.leaves, leaf)
	}
	slices.SortStableFunc(f.units, func(a, b topology.Unit) int { return cmp.Compare(a.Level, b.Level) })
	for _, u := range f.units {
		if !u.Root {
			continue
		}
		root := newBitmap(len(t.nodes))
		for _, l := range u.Leaves {
			root.or(f.leaves[l])
		}
		f.roots = append(f.roots, root)
	}
	return f
}

// takeWiring says by what wiring a need is placed.
func (n *need) takeWiring(t *table, c *mirror.Class) {
	f := t.fabrics[n.part]
	if f == nil || c.Spread || f.optional && c.Switches == 0 {
		return
	}
	n.fabric, n.leaves = f, int(c.Switches)
	if n.segment = int(c.Segment); n.segment > 1 && n.min%n.segment != 0 {
		n.min += n.segment - n.min%n.segment // refused at submission unless the partition's limit does it
		n.target = max(n.target, n.min)
	}
}

// relaxed reports whether a job that wants few switches has waited for them
// long enough.
func (q *round) relaxed(j *mirror.Job) bool {
	if j.Class == nil || j.Class.Switches == 0 {
		return false
	}
	return q.p.now-int64(max(j.Eligible, j.Submit)) >= int64(j.Class.SwitchWait)
}

// leaf is what a leaf can give to a job in this attempt.
type leaf struct {
	at    int // place in fabric.leaves
	nodes []share
	sum   int   // tasks
	spare int64 // weight of its lightest node
	pre   bool  // it holds nodes of the job already
}

// inFabric completes k.out within one unit of the fabric.
func (k *picker) inFabric(l limits) bool {
	leaves, pre := k.readLeaves()
	for _, want := range []int{l.target, l.min} {
		l := limits{l.min, want, l.max}
		if k.inUnits(l, leaves, pre) {
			return true
		}
		if want == l.min {
			break
		}
	}
	return false
}

// readLeaves looks at every candidate once.
func (k *picker) readLeaves() (leaves []leaf, pre []int) {
	f := k.n.fabric
	leaves = make([]leaf, len(f.leaves))
	for i := range leaves {
		lf := &leaves[i]
		lf.at = i
		in := intersect(k.nodes, f.leaves[i])
		for s := in.next(0); s >= 0; s = in.next(s + 1) {
			node := k.t.order[s]
			if k.isPre(node) {
				continue
			}
			fit := k.fitAt(s)
			if fit == 0 {
				continue
			}
			if len(lf.nodes) == 0 {
				lf.spare = int64(k.t.nodes[node].Weight)
			}
			lf.nodes = append(lf.nodes, share{node: node, fit: fit})
			lf.sum += min(fit, max(k.n.tasks, 1))
		}
		for _, s := range k.out[:k.pre] {
			if f.leaves[i].has(k.t.slot[s.node]) && !lf.pre {
				lf.pre = true
				pre = append(pre, i)
			}
		}
		if g := k.n.segment; g > 1 && len(lf.nodes)%g != 0 {
			lf.nodes = lf.nodes[:len(lf.nodes)/g*g]
		}
	}
	return leaves, pre
}

// inUnits tries the units of one level after another, and takes the one on
// which the job needs fewest leaves, then the lightest nodes, then the one with
// least to spare.
func (k *picker) inUnits(l limits, leaves []leaf, pre []int) bool {
	f := k.n.fabric
	fixed, fixedSum := slices.Clone(k.out), k.sum
	type found struct {
		out    []share
		sum    int
		leaves int
		weight int64
		spare  int
	}
	var best *found
	for i, u := range f.units {
		if best != nil && u.Level != f.units[i-1].Level {
			break
		}
		if slices.ContainsFunc(pre, func(p int) bool { return !slices.Contains(u.Leaves, p) }) {
			continue
		}
		room, tasks := len(fixed), fixedSum
		for _, at := range u.Leaves {
			room, tasks = room+len(leaves[at].nodes), tasks+leaves[at].sum
		}
		if room < l.target || tasks < k.n.tasks {
			continue
		}
		for _, byTasks := range []bool{false, true} {
			k.out, k.sum = append(k.out[:0], fixed...), fixedSum
			used, weight, ok := k.fill(l, u, leaves, byTasks)
			if ok && (k.n.leaves == 0 || used <= k.n.leaves) {
				x := found{nil, k.sum, used, weight, room}
				if best == nil || cmp.Or(cmp.Compare(x.leaves, best.leaves), cmp.Compare(x.weight, best.weight), cmp.Compare(x.spare, best.spare)) < 0 {
					x.out = slices.Clone(k.out)
					best = &x
				}
			}
		}
	}
	k.out, k.sum = append(k.out[:0], fixed...), fixedSum
	if best == nil {
		return false
	}
	k.out, k.sum = append(k.out[:0], best.out...), best.sum
	return true
}

// fill adds nodes of a unit's leaves to k.out until it is enough: leaves that
// the job is on already first; then the smallest leaf that is enough alone, or
// else the largest, over and over. It returns how many leaves the job is on.
func (k *picker) fill(l limits, u topology.Unit, leaves []leaf, byTasks bool) (used int, weight int64, ok bool) {
	var left []*leaf
	for _, at := range u.Leaves {
		lf := &leaves[at]
		if lf.pre {
			used++
			k.takeLeaf(lf, l, byTasks)
		} else if len(lf.nodes) > 0 {
			left = append(left, lf)
		}
	}
	for !k.enough(l) && len(left) > 0 && len(k.out) < l.max {
		at := k.nextLeaf(left, l, byTasks)
		lf := left[at]
		left = slices.Delete(left, at, at+1)
		used++
		k.takeLeaf(lf, l, byTasks)
	}
	for _, s := range k.out {
		weight += int64(k.t.nodes[s.node].Weight)
	}
	return used, weight, k.enough(l)
}

// nextLeaf is the place of the leaf to take next.
func (k *picker) nextLeaf(left []*leaf, l limits, byTasks bool) int {
	nodes, tasks := l.target-len(k.out), k.n.tasks-k.sum
	best, enough := 0, false
	for i, lf := range left {
		b := left[best]
		alone := len(lf.nodes) >= nodes && lf.sum >= tasks
		var d int
		switch {
		case alone && enough:
			d = cmp.Or(cmp.Compare(lf.spare, b.spare), cmp.Compare(len(lf.nodes), len(b.nodes)), cmp.Compare(lf.sum, b.sum))
		case alone:
			d = -1
		case enough:
			d = 1
		case byTasks:
			d = cmp.Or(cmp.Compare(b.sum, lf.sum), cmp.Compare(len(b.nodes), len(lf.nodes)))
		default:
			d = cmp.Or(cmp.Compare(len(b.nodes), len(lf.nodes)), cmp.Compare(b.sum, lf.sum))
		}
		if i == 0 || d < 0 {
			best, enough = i, alone
		}
	}
	return best
}

// takeLeaf adds nodes of a leaf until k.out is enough: one that is enough and
// has least to spare, else in order, or the widest first.
func (k *picker) takeLeaf(lf *leaf, l limits, widest bool) {
	if len(lf.nodes) > 0 && len(k.out) < l.max && l.target-len(k.out) <= 1 && !k.enough(l) {
		if i := k.tightest(lf.nodes, k.n.tasks-k.sum); i >= 0 {
			k.add(lf.nodes[i].node, lf.nodes[i].fit)
			return
		}
	}
	in := lf.nodes
	if widest {
		in = slices.Clone(in)
		slices.SortStableFunc(in, func(a, b share) int { return cmp.Compare(b.fit, a.fit) })
	}
	for i, s := range in {
		whole := k.n.segment <= 1 || i%k.n.segment == 0
		if len(k.out) == l.max || whole && k.enough(l) {
			return
		}
		k.add(s.node, s.fit)
	}
}

// switchNote words what a bound on switches asks for beside the nodes.
func (n *need) switchNote() string {
	if n.leaves == 0 {
		return ""
	}
	return " on at most " + strings.Replace(plural(n.leaves, "switch"), "switchs", "switches", 1)
}
