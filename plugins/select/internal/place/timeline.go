package place

import (
	"cmp"
	"math"
	"slices"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

const (
	// endless is how long a job without a limit is taken to run, in seconds:
	// a year, as in Slurm, so that a job that waits for it has a place in time.
	endless        = 365 * 24 * 3600
	startedAlready = math.MinInt64
	never          = math.MaxInt64
)

// span is what a job holds of a node from start up to end, in Unix seconds.
// A start after the pass's now makes it a claim.
type span struct {
	start, end int64
	mem        int64
	cores      []uint64
	node       int32
	part       int32
	cpus       int32
	user       wlm.UID
	gres       []gresTake
	resv       uint32 // of a reservation: its ID
	layers     int8   // above 1: jobs of the partition may share its cores
	whole      bool   // the rest of the node is not to be used either
	exclusive  bool   // nor by another user
	light      bool   // no CPUs: a suspended job's
	skip       skip
	next       int32
	job        *mirror.Job // that runs; nil: of a job that waits, or starts now
}

// skip says what to leave out of account of a span while room is made for a job.
type skip uint8

const (
	skipNothing skip = iota
	skipCores        // the job sleeps, or would
	skipAll          // the job leaves, or would
)

// timeline holds the spans of every node, ordered by end once somebody asks.
type timeline struct {
	spans  []span
	head   []int32 // first span of a node, -1: none
	linked bool

	claims   int
	claimed  bitmap // slots with a claim
	multi    bitmap // slots with several
	starts   []claimStart
	barriers []barrier

	// Scratch of plan.
	queue []event
	fits  []int32
	mask  []uint64
	stack [][]uint64
}

// claimStart says when a set of slots begins to be claimed.
type claimStart struct {
	at    int64
	slots bitmap
}

// barrier keeps the nodes of a stopped partition from partitions of lower tier.
type barrier struct {
	tier  uint32
	slots bitmap
}

func (tl *timeline) init(nodes int, spans []span) {
	tl.spans = spans[:0]
	tl.head = make([]int32, nodes)
	tl.claimed, tl.multi = newBitmap(nodes), newBitmap(nodes)
}

// add notes a span. Before link it only keeps it.
func (tl *timeline) add(s span) {
	tl.spans = append(tl.spans, s)
	if tl.linked {
		tl.insert(int32(len(tl.spans) - 1))
	}
}

// link orders what was added so far, the first time that time is looked at.
func (tl *timeline) link() {
	if tl.linked {
		return
	}
	tl.linked = true
	for i := range tl.head {
		tl.head[i] = -1
	}
	order := make([]int32, len(tl.spans))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int { return cmp.Compare(tl.spans[b].end, tl.spans[a].end) })
	for _, i := range order {
		s := &tl.spans[i]
		s.next, tl.head[s.node] = tl.head[s.node], i
	}
}

// insert puts a span in its place among its node's.
func (tl *timeline) insert(i int32) {
	s := &tl.spans[i]
	at := &tl.head[s.node]
	for *at >= 0 && tl.spans[*at].end < s.end {
		at = &tl.spans[*at].next
	}
	s.next, *at = *at, i
}

// blocks reports whether a span keeps the whole node from the try's job.
func (s *span) blocks(tr *try) bool {
	if s.light || s.skip != skipNothing {
		return false
	}
	if s.resv != 0 {
		return s.whole || tr.need.whole
	}
	return s.whole || tr.need.whole || (s.exclusive || tr.need.exclusive) && s.user != tr.shape.user
}

// fitAt is how many tasks node i takes if the try's job runs from start on.
func (p *pass) fitAt(tr *try, i int32, start int64) int {
	fit, _ := p.windowFit(tr, i, start)
	return fit
}

// windowFit is fitAt, and until when the start may move without meeting
// another span; never if it may move for ever.
func (p *pass) windowFit(tr *try, i int32, start int64) (fit int, until int64) {
	n, g := tr.need, &p.t.geo[i]
	end := start + tr.shape.duration
	until = never
	mask := append(p.mask[:0], p.t.full[g.off:g.off+g.words]...)
	p.mask = mask
	room, mem, later := n.maxCPUs, g.memory, 0
	blocked := false
	p.unstack(n, len(mask))
	for k := p.head[i]; k >= 0; k = p.spans[k].next {
		s := &p.spans[k]
		switch {
		case s.end <= start || s.skip == skipAll || tr.passes(s):
			continue
		case s.start >= end:
			until = min(until, s.start-tr.shape.duration)
			continue
		case s.blocks(tr):
			blocked = true
			continue
		}
		mem -= s.mem
		if s.skip == skipCores {
			continue
		}
		p.occupy(tr, mask, s)
		if s.start > start {
			later++
		}
		if s.part == n.part && room < unbounded {
			room -= int(s.cpus)
		}
	}
	if blocked {
		return 0, until
	}
	p.bound(tr, i, mask)
	if later > 0 && p.t.params.memory {
		mem = g.memory - p.peak(i, start, end)
	}
	return p.t.fitGres(n, i, p.gresAt(n, i, start, end), p.t.usableCores(g, mask), mem, room, mask), until
}

// peak is the most memory of node i that is held at one moment of a window.
func (p *pass) peak(i int32, start, end int64) int64 {
	at := func(when int64) (sum int64) {
		for k := p.head[i]; k >= 0; k = p.spans[k].next {
			if s := &p.spans[k]; s.start <= when && s.end > when && s.skip != skipAll {
				sum += s.mem
			}
		}
		return sum
	}
	most := at(start)
	for k := p.head[i]; k >= 0; k = p.spans[k].next {
		if s := &p.spans[k]; s.start > start && s.start < end {
			most = max(most, at(s.start))
		}
	}
	return most
}

// unstack prepares p.stack for the spans of another node.
func (p *pass) unstack(n *need, words int) {
	if n.layers < 2 {
		return
	}
	for len(p.stack) < n.layers-1 {
		p.stack = append(p.stack, nil)
	}
	for l := range n.layers - 1 {
		p.stack[l] = append(p.stack[l][:0], make([]uint64, words)...)
	}
}

// occupy takes a span's cores out of mask. Cores that the try's job may share
// with it go only once as many jobs have them as may: p.stack[l] has the cores
// that more than l jobs use.
func (p *pass) occupy(tr *try, mask []uint64, s *span) {
	n := tr.need
	words := min(len(mask), len(s.cores))
	if n.layers < 2 || s.layers < 2 || s.part != n.part {
		for w := range words {
			mask[w] &^= s.cores[w]
		}
		return
	}
	for w := range words {
		carry := s.cores[w]
		for _, layer := range p.stack[:n.layers-1] {
			layer[w], carry = layer[w]|carry, layer[w]&carry
		}
		mask[w] &^= carry
	}
}

// windowMask is the mask of the cores of node i that the try's job may have
// throughout.
func (p *pass) windowMask(tr *try, i int32, start, end int64) []uint64 {
	g := &p.t.geo[i]
	p.unstack(tr.need, int(g.words))
	mask := slices.Clone(p.t.full[g.off : g.off+g.words])
	for k := p.head[i]; k >= 0; k = p.spans[k].next {
		s := &p.spans[k]
		if s.end <= start || s.start >= end || s.skip != skipNothing || tr.passes(s) {
			continue
		}
		if s.whole {
			clear(mask)
		} else {
			p.occupy(tr, mask, s)
		}
	}
	p.bound(tr, i, mask)
	return mask
}

// firstFit is the earliest start at or after from at which node i fits.
func (p *pass) firstFit(tr *try, i int32, from int64) int64 {
	if !p.claimed.has(p.t.slot[i]) && !p.owns && !tr.need.exclusive && !tr.need.whole && tr.need.layers < 2 && len(tr.need.gres) == 0 && tr.need.maxCPUs == unbounded {
		return p.firstRelease(tr, i, from)
	}
	if fit, _ := p.windowFit(tr, i, from); fit > 0 {
		return from
	}
	last := int64(math.MinInt64)
	for k := p.head[i]; k >= 0; k = p.spans[k].next {
		if s := &p.spans[k]; s.end > from && s.end != last {
			last = s.end
			if fit, _ := p.windowFit(tr, i, s.end); fit > 0 {
				return s.end
			}
		}
	}
	return never
}

// firstRelease is firstFit on a node whose spans have all begun:
// each end only adds to what is free.
func (p *pass) firstRelease(tr *try, i int32, from int64) int64 {
	n, g := tr.need, &p.t.geo[i]
	mask := append(p.mask[:0], p.free[g.off:g.off+g.words]...)
	p.mask = mask
	mem := p.mem[i]
	if k := p.head[i]; k < 0 || p.spans[k].end > from {
		if n.fit(&p.t.params, g, p.cores[i], mem, n.maxCPUs, mask) > 0 {
			return from
		}
	}
	for k := p.head[i]; k >= 0; k = p.spans[k].next {
		s := &p.spans[k]
		for w := range min(len(mask), len(s.cores)) {
			mask[w] |= s.cores[w]
		}
		if s.whole {
			copy(mask, p.t.full[g.off:g.off+g.words])
		}
		mem += s.mem
		if s.next >= 0 && (p.spans[s.next].end == s.end || p.spans[s.next].end <= from) {
			continue
		}
		if n.fit(&p.t.params, g, p.t.usableCores(g, mask), mem, n.maxCPUs, mask) > 0 {
			return max(s.end, from)
		}
	}
	return never
}

// nextEnd is the first end of a span of node i after at.
func (p *pass) nextEnd(i int32, at int64) int64 {
	for k := p.head[i]; k >= 0; k = p.spans[k].next {
		if p.spans[k].end > at {
			return p.spans[k].end
		}
	}
	return never
}

// event is a moment at which what node can take changes.
type event struct {
	at   int64
	node int32
}

func (tl *timeline) push(e event) {
	q := append(tl.queue, e)
	i := len(q) - 1
	for i > 0 && q[(i-1)/2].at > q[i].at {
		q[i], q[(i-1)/2] = q[(i-1)/2], q[i]
		i = (i - 1) / 2
	}
	tl.queue = q
}

func (tl *timeline) pop() event {
	q := tl.queue
	top, last := q[0], len(q)-1
	q[0] = q[last]
	q = q[:last]
	for i := 0; ; {
		c := 2*i + 1
		if c >= last {
			break
		}
		if c+1 < last && q[c+1].at < q[c].at {
			c++
		}
		if q[i].at <= q[c].at {
			break
		}
		q[i], q[c] = q[c], q[i]
		i = c
	}
	tl.queue = q
	return top
}

// planNodes is plan without counters. It walks over the moments at which some
// node becomes, or ceases to be, good for a part of the job.
func (p *pass) planNodes(tr *try, from int64) (start int64, ok bool) {
	p.link()
	n := tr.need
	opens, before := tr.opens(p.now)
	if from = max(from, opens); from >= before {
		return 0, false
	}
	p.queue = p.queue[:0]
	if p.fits == nil {
		p.fits = make([]int32, len(p.t.nodes))
	}
	active := newBitmap(len(p.t.nodes))
	slots := p.slotsOfTry(tr)
	for s := slots.next(0); s >= 0; s = slots.next(s + 1) {
		i := p.t.order[s]
		if at := p.firstFit(tr, i, from); at != never {
			p.push(event{at, i})
		}
	}
	count, sum := 0, 0
	least := max(n.min, len(n.required))
	room := newHistogram(n)
	for len(p.queue) > 0 {
		at := p.queue[0].at
		if at >= before {
			return 0, false
		}
		for len(p.queue) > 0 && p.queue[0].at == at {
			i := p.pop().node
			s := p.t.slot[i]
			if active.has(s) {
				active.clear(s)
				count, sum = count-1, sum-int(p.fits[i])
				room.add(int(p.fits[i]), -1)
			}
			if fit := p.refit(tr, i, at); fit > 0 {
				active.set(s)
				p.fits[i] = int32(min(fit, unbounded))
				count, sum = count+1, sum+int(p.fits[i])
				room.add(int(p.fits[i]), 1)
			}
		}
		if count < least || sum < n.tasks || !room.enough(n) {
			continue
		}
		if at > p.now {
			p.pick.first = p.busy(tr, active)
		}
		ok := p.pick.run(n, slices.Clone(active), func(i int32) int { return int(p.fits[i]) }, p.cores)
		p.pick.first = nil
		if ok {
			return at, true
		}
		if p.ctx.Err() != nil {
			return 0, false
		}
	}
	return 0, false
}

// busy returns those of some slots whose nodes have too little free now. A
// claim takes them first, and leaves what is free now to jobs that start now.
func (p *pass) busy(tr *try, slots bitmap) bitmap {
	b := slices.Clone(slots)
	if l := coreLevel(max(tr.need.leastCores, 1)); l >= 0 {
		b.andNot(p.levels[l])
	}
	return b
}

// histogram counts nodes by how many of a job's tasks they hold.
type histogram []int

// newHistogram is nil for a need of which any nodes will do, if there are
// enough of them.
func newHistogram(n *need) histogram {
	if n.tasks == 0 || n.max >= n.tasks {
		return nil
	}
	return make(histogram, min(n.tasks, max(n.bestFit, 1))+1)
}

func (h histogram) add(fit, sign int) {
	if h != nil {
		h[min(fit, len(h)-1)] += sign
	}
}

// enough reports whether the best of the nodes, as many as are allowed, hold
// all tasks.
func (h histogram) enough(n *need) bool {
	if h == nil {
		return true
	}
	left, room := n.max, 0
	for fit := len(h) - 1; fit > 0 && left > 0; fit-- {
		take := min(h[fit], left)
		left, room = left-take, room+take*fit
		if room >= n.tasks {
			return true
		}
	}
	return false
}

// refit is node i's fit at a moment, and queues the next moment at which to
// look at it again.
func (p *pass) refit(tr *try, i int32, at int64) int {
	n := tr.need
	fit, until := p.windowFit(tr, i, at)
	if fit == 0 {
		if next := p.firstFit(tr, i, at+1); next != never {
			p.push(event{next, i})
		}
		return 0
	}
	again := int64(never)
	if until != never {
		again = until + 1
	}
	if fit < n.tasks && fit < n.taskCap {
		again = min(again, p.nextEnd(i, at))
	}
	if again != never {
		p.push(event{again, i})
	}
	return fit
}

// claim reserves the picker's nodes for the try's job from start on, and
// returns them.
func (p *pass) claim(tr *try, user wlm.UID, start int64) []wlm.NodeIndex {
	if p.claims == 0 {
		for l := range p.open {
			p.open[l] = slices.Clone(p.levels[l])
		}
	}
	slots := newBitmap(len(p.t.nodes))
	var nodes []wlm.NodeIndex
	for _, sh := range p.pick.shares(tr.need) {
		mask := p.windowMask(tr, sh.node, start, start+tr.shape.duration)
		g := &p.t.geo[sh.node]
		better := slices.Clone(mask)
		for w := range better {
			better[w] &^= p.free[int(g.off)+w]
		}
		p.add(p.spanOf(tr, user, sh, mask, better, start))
		slot := p.t.slot[sh.node]
		if p.claimed.has(slot) {
			p.multi.set(slot)
		}
		p.claimed.set(slot)
		slots.set(slot)
		nodes = append(nodes, wlm.NodeIndex(sh.node))
	}
	p.claims++
	p.owns = p.owns || tr.need.exclusive // from now on, shapes are told apart by user
	for _, n := range nodes {
		p.reopen(int32(n))
	}
	p.starts = append(p.starts, claimStart{start, slots})
	p.count(tr.need.class, start, start+tr.shape.duration)
	return nodes
}

// reopen lowers the open levels of a node with claims.
func (p *pass) reopen(n int32) {
	g, slot := &p.t.geo[n], p.t.slot[n]
	mask := append(p.mask[:0], p.free[g.off:g.off+g.words]...)
	p.mask = mask
	for k := p.head[n]; k >= 0; k = p.spans[k].next {
		s := &p.spans[k]
		if s.start == startedAlready {
			continue
		}
		for w := range mask {
			if s.whole {
				mask[w] = 0
			} else if w < len(s.cores) {
				mask[w] &^= s.cores[w]
			}
		}
	}
	cores := p.t.usableCores(g, mask)
	for l := len(coreLevels) - 1; l >= 0 && coreLevels[l] > cores; l-- {
		p.open[l].clear(slot)
	}
}

// beforeClaims drops the nodes of a try that are of no use to it because of
// claims or barriers that came up since it was last looked at: nodes with one
// claim that begins before the try's job would end, and with too little beside
// it. Nodes with several claims stay, and are looked at one by one.
func (p *pass) beforeClaims(tr *try) {
	tier := p.t.parts[tr.need.part].Tier
	for ; tr.barriers < len(p.barriers); tr.barriers++ {
		if b := p.barriers[tr.barriers]; b.tier > tier && tr.resv == nil {
			tr.nodes.andNot(b.slots)
		}
	}
	if tr.claims == len(p.starts) {
		return
	}
	open := p.open[max(coreLevel(tr.need.leastCores), 0)]
	for ; tr.claims < len(p.starts); tr.claims++ {
		c := p.starts[tr.claims]
		if c.at >= p.now+tr.shape.duration {
			continue
		}
		for w := range tr.nodes {
			tr.nodes[w] &^= c.slots[w] &^ (open[w] | p.multi[w])
		}
	}
}
