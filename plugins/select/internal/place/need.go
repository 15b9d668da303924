package place

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// unbounded stands for "no limit" in counts.
const unbounded = 1 << 30

// need is a class in one of its partitions, worked out against the table.
type need struct {
	class *mirror.Class
	part  int32

	never wlm.Reason // when no pass can ever start it
	text  string

	slots    bitmap   // of nodes that may serve, whatever their state
	prefer   bitmap   // of those, the preferred ones; nil: no preference
	choices  []bitmap // all nodes must be of one of these; nil: no choice
	counts   []counted
	required []int32 // nodes

	min, max, target int // nodes
	sizes            []int
	tasks            int // in all; 0: perNode on each
	perNode          int
	perNodeOf        int // tasks asked for beside perNode; 0: none
	taskCap          int // most tasks on a node
	taskMin          int // fewest tasks that a node must be good for
	bestFit          int // most tasks that an empty node holds

	cpusPerTask int
	threads     int32 // of a core that tasks use; 0: all
	perCore     int   // most tasks on a core; 0: no bound
	perSocket   int
	minCPUs     int
	maxCPUs     int // of all the partition's jobs on a node; unbounded
	memNode     int64
	memCPU      int64
	memAll      bool
	block       bool // fill socket after socket, whatever a task needs
	layers      int  // jobs that may share a core; 1: none does
	whole       bool
	exclusive   bool // no other user on its nodes
	overcommit  bool
	lln         bool

	gres       []gresAsk
	enforce    bool // only devices near the job's cores
	unbound    bool // any devices
	cpusPerGPU int
	memPerGPU  int64
	fabric     *fabric // nil: any nodes are as good
	leaves     int     // most leaf switches; 0: no bound
	segment    int     // nodes in one block together; 0: no matter

	spread int // nodes over which a job's total is shared; 0: not known yet

	leastCores int32 // a node with fewer cores or less memory need not be looked at
	leastMem   int64
	describe   string // "needs 4 nodes with 8 CPUs"
}

// counted asks for count nodes among slots.
type counted struct {
	count int
	slots bitmap
}

// request is a class with its needs in the order in which they are tried.
type request struct {
	class *mirror.Class
	needs []*need
	seen  uint64 // pass that used it last
}

// compile works out a class: partitions of higher tier first, then the user's order.
func (t *table) compile(c *mirror.Class) *request {
	r := &request{class: c}
	parts := slices.Clone(c.Partitions)
	parts = slices.DeleteFunc(parts, func(p int) bool { return p < 0 || p >= len(t.parts) })
	slices.SortStableFunc(parts, func(a, b int) int { return cmp.Compare(t.parts[b].Tier, t.parts[a].Tier) })
	for _, p := range parts {
		r.needs = append(r.needs, t.compileIn(c, int32(p)))
	}
	return r
}

func (t *table) compileIn(c *mirror.Class, part int32) *need {
	p := &t.parts[part]
	n := &need{class: c, part: part, maxCPUs: limitOf(p.MaxCPUsPerNode),
		whole:     c.Share == wlm.ShareNever || p.OverSubscribe == wlm.OverSubExclusive || t.params.linear,
		exclusive: c.Share == wlm.ShareUser || p.ExclusiveUser,
		lln:       t.params.lln || p.LLN, layers: layersOf(c.Share, p)}
	if n.whole {
		n.layers = 1
	}
	if t.params.linear {
		n.maxCPUs = unbounded // a node has one job, of any size
	}
	n.takeTasks(c, t.params)
	n.takeNodes(c, p)
	n.takeWiring(t, c)
	n.takeGres(t, c)
	if n.never == 0 {
		n.chooseNodes(t)
	}
	n.describe = n.words()
	return n
}

// layersOf is how many jobs may share a core, this one included
// (OverSubscribe).
func layersOf(share wlm.Exclusivity, p *mirror.Partition) int {
	const most = 64
	if p.OverSubscribe == wlm.OverSubForce && share != wlm.ShareNever ||
		p.OverSubscribe == wlm.OverSubYes && share == wlm.ShareAllow {
		return min(max(int(p.OverCount), 1), most)
	}
	return 1
}

// limitOf reads a limit of a partition, where 0 and the unset numbers are none.
func limitOf(v uint32) int {
	if v == 0 || v >= wlm.Unset {
		return unbounded
	}
	return min(int(v), unbounded)
}

// takeTasks reads what a task and a node's share are.
func (n *need) takeTasks(c *mirror.Class, pr params) {
	n.cpusPerTask = max(int(c.CPUsPerTask), 1)
	n.perCore, n.perSocket = int(c.TasksPerCore), int(c.TasksPerSocket)
	if pr.oneTask && n.perCore == 0 {
		n.perCore = 1
	}
	if c.ThreadsPerCore < wlm.Unset {
		n.threads = int32(c.ThreadsPerCore)
	}
	n.minCPUs = int(c.MinCPUsPerNode)
	n.block = blockOf(c.Dist, pr.block || pr.cpus)
	n.memNode, n.memCPU, n.memAll = int64(c.MemPerNode), int64(c.MemPerCPU), c.MemAll
	n.overcommit = c.Overcommit
	n.tasks, n.perNode, n.taskCap = int(c.NTasks), 1, unbounded
	if c.TasksPerNode > 0 {
		n.perNode, n.taskCap = int(c.TasksPerNode), int(c.TasksPerNode)
	}
	if n.perNode > 1 && n.tasks > 0 && c.TasksPerNode > 0 { // every node is given its full number
		n.perNodeOf, n.tasks = n.tasks, 0
	}
	if n.tasks == 0 {
		n.taskCap = n.perNode
	}
}

// blockOf reports whether --distribution fills one socket after the other; the
// default is to deal tasks out over the sockets.
func blockOf(dist string, byDefault bool) bool {
	dist, _, _ = strings.Cut(dist, ",")
	nodes, rest, _ := strings.Cut(dist, ":")
	sockets, _, _ := strings.Cut(rest, ":")
	switch {
	case strings.HasPrefix(nodes, "plane"):
		return true
	case sockets == "" || sockets == "*":
		return byDefault
	}
	return sockets == "block"
}

// takeNodes reads how many nodes, within the partition's limits.
func (n *need) takeNodes(c *mirror.Class, p *mirror.Partition) {
	n.min, n.max = max(int(c.MinNodes), 1), unbounded
	if c.MaxNodes > 0 {
		n.max = max(int(c.MaxNodes), n.min)
	}
	if n.perNodeOf > 0 {
		n.min = max(n.min, ceil(n.perNodeOf, n.perNode))
		if c.MaxNodes == 0 {
			n.max = n.min
		}
	}
	n.target = n.min
	if c.MaxNodes > 0 && !c.UseMinNodes || c.Spread {
		n.target = n.max
	}
	most := limitOf(p.MaxNodes)
	if n.min > most || n.max < int(p.MinNodes) {
		n.refuse(wlm.WaitPartNodeLimit, "asks for %s, partition %s allows %s",
			nodeCount(n.min), p.Name, allowed(int(p.MinNodes), most))
		return
	}
	n.min, n.max = max(n.min, int(p.MinNodes)), min(n.max, most)
	if n.tasks > 0 {
		n.tasks = max(n.tasks, n.min)
		n.max = min(n.max, n.tasks)
		if n.taskCap < unbounded {
			n.min = max(n.min, (n.tasks+n.taskCap-1)/n.taskCap)
		}
	}
	if n.target = min(max(n.target, n.min), n.max); n.target == unbounded {
		n.target = n.min
	}
	if n.min > n.max {
		n.refuse(wlm.FailBadConstraints, "asks for %d tasks with at most %d on each of %s", n.tasks, n.taskCap, nodeCount(n.max))
	}
	n.takeSizes(c)
}

func allowed(least, most int) string {
	switch {
	case most == unbounded:
		return fmt.Sprintf("%d or more", least)
	case least <= 1:
		return fmt.Sprintf("at most %d", most)
	}
	return fmt.Sprintf("%d to %d", least, most)
}

// takeSizes reads a list of node counts, best first.
func (n *need) takeSizes(c *mirror.Class) {
	if c.NodeSizes == "" {
		return
	}
	counts, err := wlm.ParseNodes(c.NodeSizes)
	if err != nil {
		n.refuse(wlm.FailBadConstraints, "node counts %q cannot be read", c.NodeSizes)
		return
	}
	for size := n.min; size <= min(n.max, int(counts.Max)); size++ {
		if counts.Allows(uint32(size)) {
			n.sizes = append(n.sizes, size)
		}
	}
	if len(n.sizes) == 0 {
		n.refuse(wlm.WaitPartNodeLimit, "none of the node counts %s is allowed", c.NodeSizes)
		return
	}
	if !c.UseMinNodes {
		slices.Reverse(n.sizes)
	}
}

func (n *need) refuse(r wlm.Reason, format string, args ...any) {
	if n.never == 0 {
		n.never, n.text = r, fmt.Sprintf(format, args...)
	}
}

// chooseNodes finds the nodes that may serve, whatever their present state.
func (n *need) chooseNodes(t *table) {
	c := n.class
	expr, err := wlm.ParseFeatures(c.Features)
	if err != nil {
		n.refuse(wlm.FailBadConstraints, "constraint %q cannot be read", c.Features)
		return
	}
	fits := make([]int, len(t.kinds))
	n.slots = newBitmap(len(t.nodes))
	for k := range t.kinds {
		node := &t.nodes[t.kinds[k].node]
		if expr.Match(node.Features) && n.suits(node) {
			fits[k] = n.emptyFit(t, k)
			n.bestFit = max(n.bestFit, fits[k])
		}
	}
	n.taskMin = n.perNode
	if n.tasks > 0 {
		n.taskMin = max(1, n.tasks-(n.max-1)*min(n.bestFit, n.tasks))
	}
	for k := range t.kinds {
		if fits[k] >= n.taskMin {
			n.slots.or(t.kinds[k].slots)
		}
	}
	n.slots.and(t.partSlots[n.part])
	n.takeLists(t)
	n.takeChoices(t, expr)
	n.leastNeeds(t)
	if n.never == 0 && !n.enough(t, n.slots) {
		n.refuse(n.beyond(t), "%s, which %s of partition %s can give%s", strings.TrimPrefix(n.words(), "needs "),
			nodesCan(n.slots.count()), t.parts[n.part].Name, featureNote(c.Features))
	}
}

// beyond is the reason for a need that its partition can never serve: some of
// its limits, or that the partition as a whole is too small, which may change.
func (n *need) beyond(t *table) wlm.Reason {
	p, cpus := &t.parts[n.part], 0
	for _, i := range p.Nodes {
		if int(i) < len(t.nodes) {
			cpus += t.nodes[i].CPUs
		}
	}
	switch {
	case int(n.class.MinNodes) > len(p.Nodes):
		return wlm.WaitPartNodeLimit
	case n.tasks*n.cpusPerTask > cpus && !n.overcommit:
		return wlm.WaitPartConfig
	}
	return wlm.FailBadConstraints
}

func nodesCan(n int) string {
	if n == 0 {
		return "no node"
	}
	return "only " + nodeCount(n)
}

func featureNote(features string) string {
	if features == "" {
		return ""
	}
	return " under constraint " + features
}

// suits reports whether the request's demands on hardware leave the node in.
func (n *need) suits(node *mirror.Node) bool {
	c := n.class
	atLeast := func(have int, want uint32) bool { return want >= wlm.Unset || uint32(max(have, 0)) >= want }
	return atLeast(node.Sockets, c.SocketsPerNode) && atLeast(node.CoresPerSocket, c.CoresPerSocket) &&
		atLeast(node.ThreadsPerCore, c.ThreadsPerCore) && node.TmpDisk >= c.TmpDisk && node.Memory >= c.MemPerNode
}

// emptyFit is how many tasks an empty node of the kind holds.
func (n *need) emptyFit(t *table, k int) int {
	g := &t.geo[t.kinds[k].node]
	mask := t.full[g.off : g.off+g.words]
	one := *n
	one.taskMin = 1
	return t.fitGres(&one, t.kinds[k].node, newUse(t.pools[k]), t.usableCores(g, mask), g.memory, n.maxCPUs, mask)
}

// takeLists applies --nodelist and --exclude.
func (n *need) takeLists(t *table) {
	excluded, err := hostlist.Expand(n.class.ExcNodes)
	if err != nil {
		n.refuse(wlm.FailBadConstraints, "excluded nodes %q cannot be read", n.class.ExcNodes)
	}
	for _, name := range excluded {
		if node, ok := t.names[name]; ok {
			n.slots.clear(t.slot[node])
		}
	}
	required, err := hostlist.Expand(n.class.ReqNodes)
	if err != nil {
		n.refuse(wlm.FailBadConstraints, "nodes %q cannot be read", n.class.ReqNodes)
	}
	slices.Sort(required)
	for _, name := range slices.Compact(required) {
		node, ok := t.names[name]
		if !ok || !n.slots.has(t.slot[node]) {
			n.refuse(wlm.FailBadConstraints, "node %s cannot serve the request in partition %s", name, t.parts[n.part].Name)
			return
		}
		n.required = append(n.required, node)
	}
	if n.tasks > 0 && len(n.required) > n.tasks && n.class.MaxNodes == 0 {
		n.required = n.required[:n.tasks] // a node without a task is no part of the job
	}
	if len(n.required) > n.max {
		n.refuse(wlm.FailBadConstraints, "asks for at most %s and names %d", nodeCount(n.max), len(n.required))
	}
	slices.Sort(n.required)
}

// takeChoices works out [a|b], counts of nodes, and --prefer.
func (n *need) takeChoices(t *table, expr *wlm.FeatureExpr) {
	with := func(e *wlm.FeatureExpr) bitmap {
		b := newBitmap(len(t.nodes))
		for k := range t.kinds {
			if e.Match(t.nodes[t.kinds[k].node].Features) {
				b.or(t.kinds[k].slots)
			}
		}
		b.and(n.slots)
		return b
	}
	if expr != nil {
		if all := expr.Alternatives(); len(all) > 1 {
			for _, e := range all {
				n.choices = append(n.choices, with(e))
			}
		}
		for _, e := range expr.Counts() {
			want := counted{int(e.Count), with(e.Plain())}
			if want.slots.count() < want.count {
				n.refuse(wlm.FailBadConstraints, "asks for %s with %s, %d have it", nodeCount(want.count), e.Plain(), want.slots.count())
			}
			n.counts = append(n.counts, want)
		}
	}
	if n.class.Prefer != "" {
		if e, err := wlm.ParseFeatures(n.class.Prefer); err == nil && e != nil {
			n.prefer = with(e)
		}
	}
}

// leastNeeds finds bounds below which no node can serve.
func (n *need) leastNeeds(t *table) {
	n.leastCores, n.leastMem = t.mostCores, 1<<62
	for k := range t.kinds {
		if t.kinds[k].slots.countAnd(n.slots) == 0 {
			continue
		}
		g := &t.geo[t.kinds[k].node]
		cores := n.coresFor(g, n.taskMin)
		if n.whole {
			cores = g.avail
		}
		n.leastCores = min(n.leastCores, cores)
		n.leastMem = min(n.leastMem, n.memory(&t.params, g, n.cpusFor(&t.params, g, n.taskMin, cores)))
	}
	n.leastCores = max(n.leastCores, 1)
}

// enough reports whether empty nodes among slots could serve the request.
func (n *need) enough(t *table, slots bitmap) bool {
	if len(n.choices) > 0 {
		return slices.ContainsFunc(n.choices, func(c bitmap) bool {
			both := slices.Clone(slots)
			both.and(c)
			return n.enoughOf(t, both)
		})
	}
	return n.enoughOf(t, slots)
}

func (n *need) enoughOf(t *table, slots bitmap) bool {
	if n.fabric != nil {
		return slices.ContainsFunc(n.fabric.roots, func(r bitmap) bool { return n.enoughIn(t, intersect(slots, r)) })
	}
	return n.enoughIn(t, slots)
}

// enoughIn is enoughOf for nodes that are all within reach of each other.
func (n *need) enoughIn(t *table, slots bitmap) bool {
	if slots.count() < n.min {
		return false
	}
	for _, r := range n.required {
		if !slots.has(t.slot[r]) {
			return false
		}
	}
	if n.tasks == 0 {
		return true
	}
	type share struct{ fit, nodes int }
	var shares []share
	for k := range t.kinds {
		if nodes := t.kinds[k].slots.countAnd(slots); nodes > 0 {
			shares = append(shares, share{n.emptyFit(t, k), nodes})
		}
	}
	slices.SortFunc(shares, func(a, b share) int { return cmp.Compare(b.fit, a.fit) })
	room, left := 0, n.max
	for _, s := range shares {
		take := min(s.nodes, left)
		room, left = room+take*min(s.fit, n.tasks), left-take
		if room >= n.tasks {
			return true
		}
	}
	return false
}

// words says what is needed: "needs 4 nodes with 8 CPUs and 2000M each".
func (n *need) words() string {
	var b strings.Builder
	cpus := n.cpusPerTask * max(n.taskMin, n.perNode)
	switch {
	case n.whole:
		fmt.Fprintf(&b, "needs %s", strings.Replace(nodeCount(n.min), " ", " whole ", 1))
	case n.tasks > 0 && n.max == 1:
		fmt.Fprintf(&b, "needs 1 node with %s", plural(n.tasks*n.cpusPerTask, "CPU"))
	case n.tasks > n.min:
		fmt.Fprintf(&b, "needs %s on %s or more", plural(n.tasks*n.cpusPerTask, "CPU"), nodeCount(n.min))
	default:
		fmt.Fprintf(&b, "needs %s with %s", nodeCount(n.min), plural(max(cpus, n.minCPUs), "CPU"))
	}
	switch {
	case n.memAll:
		b.WriteString(" and all memory")
	case n.memNode > 0:
		fmt.Fprintf(&b, " and %dM", n.memNode)
	case n.memCPU > 0:
		fmt.Fprintf(&b, " and %dM per CPU", n.memCPU)
	}
	b.WriteString(n.switchNote())
	return b.String()
}

func nodeCount(n int) string { return plural(n, "node") }

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}
