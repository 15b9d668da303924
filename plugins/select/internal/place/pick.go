package place

import (
	"cmp"
	"slices"
)

// share is a node's part of a job: how many tasks it takes.
type share struct {
	node  int32
	fit   int // most tasks
	tasks int // given
	place int // among the job's nodes, which are of
	of    int
}

// run is a stretch of neighbouring slots, from lo up to hi.
type run struct{ lo, hi int32 }

// exactNodes is up to how many candidates the best fit is looked for among all
// runs, as Slurm does; among more, the first few that are enough are compared.
const exactNodes = 512

// enoughRuns is how many runs that would do are compared for the best fit.
const enoughRuns = 8

// picker chooses nodes for one need: the required ones, then by weight, and
// within a weight from the shortest run of neighbours that is long enough,
// else from the longest runs.
type picker struct {
	t   *table
	out []share

	n     *need
	nodes bitmap
	fitOf func(node int32) int
	cores []int32 // free, by node; for LLN
	sum   int     // tasks that out holds
	pre   int     // nodes of out that were taken before any run was looked at
	short bitmap  // slots in runs that were not enough; nil: not kept
	first bitmap  // slots to take before any others; nil: none
	some  bitmap  // those of first, when they alone are not enough

	fresh        bitmap // scratch, as what follows
	runs, runsTo []run
	all, allTo   []share
}

// simple reports whether all attempts of a need look at the same nodes for the
// same number of them, so that what one finds out holds for the next.
func (n *need) simple() bool {
	return len(n.sizes) == 0 && len(n.choices) == 0 && len(n.counts) == 0 && len(n.required) == 0 && n.prefer == nil
}

// run looks for nodes among the slots in nodes and leaves them in k.out. Slots
// whose node does not fit are cleared from nodes.
func (k *picker) run(n *need, nodes bitmap, fitOf func(int32) int, cores []int32) bool {
	k.n, k.nodes, k.fitOf, k.cores = n, nodes, fitOf, cores
	if k.first != nil && n.fabric == nil && k.runFirst(nodes) {
		return true
	}
	if n.prefer != nil {
		k.nodes = intersect(nodes, n.prefer)
		if k.anyChoice() {
			return true
		}
		k.nodes = nodes
	}
	return k.anyChoice()
}

// runFirst looks among the slots of k.first only, and then takes all of those
// and the rest from the others.
func (k *picker) runFirst(nodes bitmap) bool {
	some := intersect(nodes, k.first)
	if some.next(0) < 0 || k.n.prefer != nil {
		return false
	}
	short := k.short
	k.short = nil // what is found out about some nodes does not hold for all
	defer func() { k.nodes, k.some, k.short = nodes, nil, short }()
	k.nodes = some
	if k.anyChoice() {
		return true
	}
	if !k.n.simple() || k.n.class.Contiguous || k.n.lln {
		return false
	}
	k.some, k.nodes = some, slices.Clone(nodes)
	k.nodes.andNot(some)
	return k.anyChoice()
}

func intersect(a, b bitmap) bitmap {
	c := slices.Clone(a)
	c.and(b)
	return c
}

// anyChoice tries each alternative of [a|b].
func (k *picker) anyChoice() bool {
	if len(k.n.choices) == 0 {
		return k.anySize()
	}
	all := k.nodes
	defer func() { k.nodes = all }()
	for _, c := range k.n.choices {
		k.nodes = intersect(all, c)
		if k.anySize() {
			return true
		}
	}
	return false
}

// anySize tries each allowed number of nodes.
func (k *picker) anySize() bool {
	if len(k.n.sizes) == 0 {
		return k.attempt(k.n.min, k.n.target, k.n.max)
	}
	for _, size := range k.n.sizes {
		if k.attempt(size, size, size) {
			return true
		}
	}
	return false
}

// limits of an attempt: nodes at least, wanted, and at most.
type limits struct{ min, target, max int }

func (k *picker) attempt(least, target, most int) bool {
	l := limits{least, target, most}
	k.out, k.sum, k.pre = k.out[:0], 0, 0
	if len(k.n.required) == 0 && k.some == nil && k.nodes.count() < least {
		return false
	}
	if !k.takeRequired(l) {
		return false
	}
	if k.some != nil {
		for s := k.some.next(0); s >= 0 && len(k.out) < l.max && !k.enough(l); s = k.some.next(s + 1) {
			if f := k.fitOf(k.t.order[s]); f > 0 {
				k.add(k.t.order[s], f)
			}
		}
	}
	k.pre = len(k.out)
	switch {
	case k.enough(l):
		return true
	case k.n.class.Contiguous:
		return k.contiguous(l)
	case k.n.lln:
		return k.leastLoaded(l)
	case k.n.fabric != nil:
		return k.inFabric(l)
	}
	if k.nodes.count() <= exactNodes {
		return k.bestRuns(l) || k.acceptable(l) || k.widest(l)
	}
	if target == 1 && len(k.out) == 0 && k.single() {
		return true
	}
	for g := 0; g+1 < len(k.t.groups); g++ {
		lo, hi := k.t.groups[g], k.t.groups[g+1]
		if k.oneRun(l, lo, hi) || k.longestRuns(l, lo, hi) {
			return true
		}
	}
	return k.acceptable(l) || k.widest(l)
}

func (k *picker) takeRequired(l limits) bool {
	for _, node := range k.n.required {
		f := k.fitAt(k.t.slot[node])
		if f == 0 || len(k.out) == l.max {
			return false
		}
		k.add(node, f)
	}
	for _, want := range k.n.counts {
		have := 0
		for _, s := range k.out {
			if want.slots.has(k.t.slot[s.node]) {
				have++
			}
		}
		for s := k.nodes.next(0); s >= 0 && have < want.count && len(k.out) < l.max; s = k.nodes.next(s + 1) {
			if !want.slots.has(s) || k.has(k.t.order[s]) {
				continue
			}
			if f := k.fitAt(s); f > 0 {
				k.add(k.t.order[s], f)
				have++
			}
		}
		if have < want.count {
			return false
		}
	}
	return true
}

func (k *picker) add(node int32, fit int) {
	k.out = append(k.out, share{node: node, fit: fit})
	k.sum += fit
}

// has reports whether node was taken.
func (k *picker) has(node int32) bool {
	return slices.ContainsFunc(k.out, func(s share) bool { return s.node == node })
}

// isPre reports whether a node of a run was taken beforehand.
func (k *picker) isPre(node int32) bool {
	return k.pre > 0 && slices.ContainsFunc(k.out[:k.pre], func(s share) bool { return s.node == node })
}

// fitAt is the fit of a slot's node; a slot that does not fit is cleared.
func (k *picker) fitAt(s int32) int {
	if !k.nodes.has(s) {
		return 0
	}
	f := k.fitOf(k.t.order[s])
	if f == 0 {
		k.nodes.clear(s)
	}
	return f
}

// enough reports whether k.out is all that is wanted.
func (k *picker) enough(l limits) bool { return len(k.out) >= l.target && k.sum >= k.n.tasks }

// acceptable reports whether k.out will do when there is nothing more.
func (k *picker) acceptable(l limits) bool { return len(k.out) >= l.min && k.sum >= k.n.tasks }

// stretch is a run of neighbours that fit, from places lo up to hi of k.all.
type stretch struct {
	lo, hi int
	sum    int // tasks, as many as matter
	size   int // see picker.size
}

// bestRuns adds nodes from the run that is enough with fewest tasks to spare,
// or else from that which holds most, until k.out is enough: runs of lower
// weight first, runs with required nodes before all others. Within a run, one
// node that is enough and has least to spare is taken alone; else nodes are
// taken in order, from the first required one on.
func (k *picker) bestRuns(l limits) bool {
	for g := 0; len(k.n.required) > 0 && g+1 < len(k.t.groups); g++ {
		for _, r := range k.stretches(k.t.groups[g], k.t.groups[g+1]) {
			if k.requires(r) && k.takeRun(r, l) {
				return true
			}
		}
	}
	for g := 0; g+1 < len(k.t.groups); g++ {
		runs := k.stretches(k.t.groups[g], k.t.groups[g+1])
		for len(runs) > 0 {
			best := k.bestOf(runs, l)
			r := runs[best]
			runs = slices.Delete(runs, best, best+1)
			if k.takeRun(r, l) {
				return true
			}
		}
	}
	return false
}

// stretches lists the runs among the slots from lo up to hi.
func (k *picker) stretches(lo, hi int32) (runs []stretch) {
	k.all = k.all[:0]
	last := int32(-2)
	for s := k.nodes.next(lo); s >= 0 && s < hi; s = k.nodes.next(s + 1) {
		f := k.fitAt(s)
		if f == 0 {
			continue
		}
		if s != last+1 || k.t.breaks.has(s) {
			runs = append(runs, stretch{lo: len(k.all)})
		}
		last = s
		r := &runs[len(runs)-1]
		k.all = append(k.all, share{node: k.t.order[s], fit: f})
		r.hi, r.sum, r.size = len(k.all), r.sum+min(f, max(k.n.tasks, 1)), r.size+k.size(k.all[len(k.all)-1])
	}
	return runs
}

// requires reports whether a run holds a required node.
func (k *picker) requires(r stretch) bool {
	return slices.ContainsFunc(k.all[r.lo:r.hi], func(s share) bool { return k.isPre(s.node) })
}

// size is how large a node is for the job, to compare with others: CPUs that
// tasks can use.
func (k *picker) size(s share) int {
	if k.n.tasks > 0 && k.n.taskCap == unbounded && !k.n.overcommit {
		return s.fit
	}
	return int(k.cores[s.node] * k.t.geo[s.node].threads)
}

// bestOf is the place of the run to take next.
func (k *picker) bestOf(runs []stretch, l limits) int {
	nodes, tasks := max(l.min-len(k.out), 0), k.n.tasks-k.sum
	best, enough := 0, false
	for i, r := range runs {
		ok := r.sum >= tasks && r.hi-r.lo >= nodes
		if b := runs[best]; i == 0 || ok && (!enough || r.size < b.size) || !ok && !enough && r.size > b.size {
			best, enough = i, ok
		}
	}
	return best
}

// takeRun adds nodes of a run until k.out is enough.
func (k *picker) takeRun(r stretch, l limits) bool {
	in := k.all[r.lo:r.hi]
	from := 0
	if len(k.n.required) > 0 {
		from = max(slices.IndexFunc(in, func(s share) bool { return k.isPre(s.node) }), 0)
	} else if len(k.out) < l.max && l.target-len(k.out) <= 1 {
		if i := k.tightest(in, k.n.tasks-k.sum); i >= 0 {
			k.add(in[i].node, in[i].fit)
			return k.enough(l)
		}
	}
	take := func(s share) bool {
		if len(k.out) < l.max && !k.isPre(s.node) {
			k.add(s.node, s.fit)
		}
		return k.enough(l)
	}
	for _, s := range in[from:] {
		if take(s) {
			return true
		}
	}
	for i := from - 1; i >= 0; i-- {
		if take(in[i]) {
			return true
		}
	}
	return false
}

// tightest is the place of the node that holds tasks with least to spare; -1
// when none holds them.
func (k *picker) tightest(in []share, tasks int) int {
	best := -1
	for i, s := range in {
		if s.fit >= tasks && (best < 0 || k.size(s) < k.size(in[best])) {
			best = i
		}
	}
	return best
}

// single takes the first node when it is good for the whole job.
func (k *picker) single() bool {
	for s := k.nodes.next(0); s >= 0; s = k.nodes.next(s + 1) {
		if f := k.fitAt(s); f > 0 {
			if f < k.n.tasks {
				return false
			}
			k.add(k.t.order[s], f)
			return true
		}
	}
	return false
}

// oneRun looks among the slots from lo up to hi for the shortest run that
// completes k.out, and takes its first nodes. Runs that are not enough are
// noted in k.short and passed over from then on.
func (k *picker) oneRun(l limits, lo, hi int32) bool {
	fixed, fixedSum := len(k.out), k.sum
	least := max(l.target-fixed, 1)
	if k.n.bestFit > 0 {
		least = max(least, ceil(max(k.n.tasks-k.sum, 0), k.n.bestFit))
	}
	fresh := append(k.fresh[:0], k.nodes...)
	k.fresh = fresh
	if k.short != nil {
		fresh.andNot(k.short)
	}
	best, found := run{}, 0
	for s := fresh.next(lo); s >= 0 && s < hi && found < enoughRuns; {
		end := fresh.runEnd(s, hi, k.t.breaks)
		at, done := end, false
		if int(end-s) >= least {
			at, done = k.walk(l, s, end)
			k.out, k.sum = k.out[:fixed], fixedSum
		}
		if done {
			if found++; found == 1 || end-s < best.hi-best.lo {
				best = run{s, end}
			}
			s = fresh.next(end)
			continue
		}
		if k.short != nil {
			for i := s; i < at; i++ {
				k.short.set(i)
			}
		}
		s = fresh.next(max(at, s+1))
	}
	if found == 0 {
		return false
	}
	_, done := k.walk(l, best.lo, best.hi)
	return done
}

// walk adds nodes from lo on until k.out is enough, a node does not fit, or
// there are too many; it returns where it stopped.
func (k *picker) walk(l limits, lo, hi int32) (at int32, enough bool) {
	for s := lo; s < hi; s++ {
		node := k.t.order[s]
		if k.isPre(node) {
			continue
		}
		if len(k.out) == l.max {
			return hi, false
		}
		f := k.fitAt(s)
		if f == 0 {
			return s, false
		}
		k.add(node, f)
		if k.enough(l) {
			return s + 1, true
		}
	}
	return hi, false
}

// longestRuns adds nodes from the runs among the slots from lo up to hi, the
// longest run first.
func (k *picker) longestRuns(l limits, lo, hi int32) bool {
	k.runs = k.runs[:0]
	for s := k.nodes.next(lo); s >= 0 && s < hi; {
		end := k.nodes.runEnd(s, hi, k.t.breaks)
		k.runs = append(k.runs, run{s, end})
		s = k.nodes.next(end)
	}
	k.runs, k.runsTo = sortDown(k.runs, k.runsTo, func(r *run) int { return int(r.hi - r.lo) })
	for _, r := range k.runs {
		for lo := r.lo; lo < r.hi; {
			at, enough := k.walk(l, lo, r.hi)
			if enough {
				return true
			}
			if lo = at + 1; len(k.out) == l.max {
				return false
			}
		}
	}
	return false
}

// widest is the last resort when the number of nodes is bounded: those that
// hold most tasks.
func (k *picker) widest(l limits) bool {
	if k.n.tasks == 0 || l.max >= k.nodes.count() {
		return false
	}
	return k.byKey(l, func(_ int32, fit int) int { return fit })
}

// leastLoaded takes the nodes with most free CPUs.
func (k *picker) leastLoaded(l limits) bool {
	return k.byKey(l, func(node int32, _ int) int { return int(k.cores[node] * k.t.geo[node].threads) }) || k.widest(l)
}

// byKey takes nodes with the largest key first, in slot order among equals.
func (k *picker) byKey(l limits, key func(node int32, fit int) int) bool {
	k.out, k.sum = k.out[:0], 0
	if !k.takeRequired(l) {
		return false
	}
	k.pre = len(k.out)
	k.all = k.all[:0]
	widest := 0
	for s := k.nodes.next(0); s >= 0; s = k.nodes.next(s + 1) {
		node := k.t.order[s]
		if k.isPre(node) {
			continue
		}
		if f := k.fitAt(s); f > 0 {
			k.all = append(k.all, share{node: node, fit: f, tasks: key(node, f)})
			widest = max(widest, f)
		}
	}
	if k.sum+min(l.max-k.pre, len(k.all))*min(widest, unbounded) < k.n.tasks {
		return false
	}
	k.all, k.allTo = sortDown(k.all, k.allTo, func(s *share) int { return s.tasks })
	for _, s := range k.all {
		if k.enough(l) || len(k.out) == l.max {
			break
		}
		k.add(s.node, s.fit)
	}
	return k.acceptable(l)
}

// sortKeys is one more than the largest key that sortDown tells apart: more
// nodes in a row, or CPUs on a node, than matter for which come first.
const sortKeys = 4096

// sortDown sorts by a key, the largest first, equal ones in the order given. It
// returns the sorted slice and in, as room for the next time.
func sortDown[T any](in, room []T, key func(*T) int) (sorted, spare []T) {
	var starts [sortKeys + 1]int32
	for i := range in {
		starts[sortKeys-min(max(key(&in[i]), 0), sortKeys-1)]++
	}
	for i := 1; i <= sortKeys; i++ {
		starts[i] += starts[i-1]
	}
	room = slices.Grow(room[:0], len(in))[:len(in)]
	for i := range in {
		at := sortKeys - min(max(key(&in[i]), 0), sortKeys-1)
		room[starts[at-1]] = in[i]
		starts[at-1]++
	}
	return room, in
}

// contiguous takes nodes without a gap in their indexes, around the required
// ones if there are any, from the shortest run that is long enough.
func (k *picker) contiguous(l limits) bool {
	required := slices.Clone(k.out)
	best := []share(nil)
	bestLen := 0
	var in []share
	flush := func() {
		if got := window(in, required, k.n.tasks, l); got != nil && (best == nil || len(in) < bestLen) {
			best, bestLen = got, len(in)
		}
		in = in[:0]
	}
	for node := range int32(len(k.t.nodes)) {
		f := k.fitAt(k.t.slot[node])
		if f == 0 {
			flush()
			continue
		}
		in = append(in, share{node: node, fit: f})
	}
	flush()
	k.out = append(k.out[:0], best...)
	return best != nil
}

// window finds, in a run without gaps, the first stretch that holds the
// required nodes and is enough; nil if there is none.
func window(in, required []share, tasks int, l limits) []share {
	var best []share
	for lo := range in {
		sum, left := 0, len(required)
		for hi := lo; hi < len(in) && hi-lo < l.max; hi++ {
			sum += in[hi].fit
			if slices.ContainsFunc(required, func(r share) bool { return r.node == in[hi].node }) {
				left--
			}
			if size := hi - lo + 1; left == 0 && sum >= tasks && size >= l.min {
				if best == nil || len(best) < l.target && size > len(best) {
					best = slices.Clone(in[lo : hi+1])
				}
				if size >= l.target {
					return best
				}
			}
		}
	}
	return best
}

// shares orders k.out by node and gives each its tasks: in turns, each node up
// to its cap.
func (k *picker) shares(n *need) []share {
	slices.SortFunc(k.out, func(a, b share) int { return cmp.Compare(a.node, b.node) })
	for i := range k.out {
		k.out[i].place, k.out[i].of = i, len(k.out)
	}
	if n.tasks == 0 {
		for i := range k.out {
			k.out[i].tasks = n.perNode
		}
		return k.out
	}
	caps, left := k.caps(n), n.tasks
	for i := range k.out {
		k.out[i].tasks = 0
	}
	for before := -1; left > 0 && left != before; {
		before = left
		for i := range k.out {
			if left > 0 && k.out[i].tasks < caps[i] {
				k.out[i].tasks++
				left--
			}
		}
	}
	return k.out
}

// caps is the most tasks that each node of k.out is given, as Slurm counts: the
// nodes asked for at least are filled one after the other while each of those
// behind keeps one task, so are further nodes while tasks are left; nodes
// beyond those get one.
func (k *picker) caps(n *need) []int {
	caps, left := make([]int, len(k.out)), n.tasks
	for i := range k.out {
		behind := max(min(n.min, len(k.out))-1-i, 0)
		use := int(n.threadsOf(&k.t.geo[k.out[i].node]))
		keep := behind * n.cpusPerTask // CPUs
		if n.perCore != 1 {
			keep = behind * ceil(n.cpusPerTask, use) * use
		}
		if k.t.params.sockets {
			keep = max(keep, behind*int(k.t.geo[k.out[i].node].perSocket)*use)
		}
		caps[i] = max(min(k.out[i].fit, ceil(left*n.cpusPerTask-keep, n.cpusPerTask)), 1)
		left -= caps[i]
	}
	for i := 0; i < len(caps) && left > 0; i++ { // what nodes behind could not hold after all
		more := min(left, k.out[i].fit-caps[i])
		caps[i], left = caps[i]+more, left-more
	}
	return caps
}
