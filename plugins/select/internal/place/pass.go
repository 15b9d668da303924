package place

import (
	"context"
	"slices"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// coreLevels and memLevels index nodes by what they have free: a node is in
// the bitmap of every level that it reaches.
var coreLevels = [...]int32{1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256}

const (
	memLevels   = 20
	memLevelLow = 6 // the first level is 1<<6 MiB
)

func coreLevel(cores int32) int {
	i := 0
	for i < len(coreLevels) && coreLevels[i] <= cores {
		i++
	}
	return i - 1
}

func memLevel(mem int64) int {
	i := 0
	for i < memLevels && int64(1)<<(memLevelLow+i) <= mem {
		i++
	}
	return i - 1
}

// Ownership of a node that somebody wants for one user only.
const (
	manyUsers = 1 << iota // jobs of more than one user run there
	owned                 // a job there forbids other users
)

// pass is the state of one call: what is free, and what is planned.
type pass struct {
	ctx context.Context
	t   *table
	v   mirror.View
	now int64

	free  []uint64 // masks of free cores, as table.full
	cores []int32  // that can be given away
	mem   []int64
	jobs  []int32
	user  []wlm.UID // of the node's jobs; see owner
	owner []uint8
	owns  bool        // some node is owned
	gres  [][]poolUse // by node, what is taken now; nil: nothing was ever

	usable bitmap
	levels [len(coreLevels)]bitmap
	mems   [memLevels]bitmap
	// open is levels counted without the cores of claims.
	open [len(coreLevels)]bitmap

	partUse  map[int32][]int32 // CPUs in use by node, of partitions with MaxCPUsPerNode
	counters []int64           // amount left, by place in the view
	counter  map[uint32]int
	holds    [][]hold // by place in the view, who has it when; nil: nobody
	promised []bool   // by place in the view: somebody is to have it later

	timeline
	victims []*mirror.Job // see room; nil: not looked for yet
	spansOf map[*mirror.Job][]int32

	resvs     map[uint32]*resv
	resvOrder []uint32

	pick  picker
	uses  []mirror.NodeUse // arena
	words []uint64         // arena

	usesGiven, wordsGiven int // that the arenas took so far
}

func newPass(ctx context.Context, t *table, v mirror.View, spans []span, expected map[wlm.JobID]int64) *pass {
	n := len(t.nodes)
	p := &pass{ctx: ctx, t: t, v: v, now: int64(v.Now),
		free: slices.Clone(t.full), cores: make([]int32, n), mem: make([]int64, n),
		jobs: make([]int32, n), user: make([]wlm.UID, n), owner: make([]uint8, n),
		gres: make([][]poolUse, n), usable: newBitmap(n), partUse: map[int32][]int32{}, counter: map[uint32]int{}}
	p.timeline.init(n, spans)
	p.pick.t = t
	for i := range t.parts {
		if limitOf(t.parts[i].MaxCPUsPerNode) < unbounded {
			p.partUse[int32(i)] = make([]int32, n)
		}
	}
	for i, c := range v.Counters {
		p.counter[c.ID] = i
		p.counters = append(p.counters, bounded(c.Capacity))
	}
	for i := range t.nodes {
		p.mem[i] = t.geo[i].memory
		if v.Nodes[i].Usable {
			p.usable.set(t.slot[i])
		}
	}
	for j := range v.Running() {
		p.load(j, expected[j.ID])
	}
	p.index()
	p.reserve()
	return p
}

// load takes what a running job uses out of what is free. Unless it is zero, the
// job is expected to run that many seconds in all, if it has not yet.
func (p *pass) load(j *mirror.Job, expected int64) {
	end := int64(j.End)
	switch soon := int64(j.Start) + expected; {
	case expected > 0 && soon > p.now && (end == 0 || soon < end):
		end = soon
	case end == 0:
		end = int64(j.Start) + endless
	case end <= p.now:
		end = p.now + 1 // it is about to end
	}
	exclusive := j.Class != nil && j.Class.Share == wlm.ShareUser ||
		j.Partition < len(p.t.parts) && p.t.parts[j.Partition].ExclusiveUser
	layers := 1
	if j.Class != nil && j.Partition < len(p.t.parts) {
		layers = layersOf(j.Class.Share, &p.t.parts[j.Partition])
	}
	for i := range j.Uses {
		u := &j.Uses[i]
		if int(u.Node) >= len(p.t.nodes) {
			continue
		}
		n, g := int32(u.Node), &p.t.geo[u.Node]
		s := span{node: n, start: startedAlready, end: end, cores: p.t.coresOf(g, u.CPUs), mem: int64(u.Mem),
			whole: u.Whole, exclusive: exclusive, user: j.User, part: int32(j.Partition), cpus: int32(u.CPUs.Count()), layers: int8(layers),
			gres: p.takesOf(n, u.Gres), job: j, light: len(u.CPUs) == 0}
		if s.light {
			s.whole, s.exclusive = false, false
		}
		p.take(&s)
		p.add(s)
	}
	if j.Class != nil {
		p.count(j.Class, startedAlready, end)
	}
}

// take takes a span that begins now out of what is free.
func (p *pass) take(s *span) {
	n, g := s.node, &p.t.geo[s.node]
	free := p.free[g.off : g.off+g.words]
	for i := range free {
		if s.whole {
			free[i] = 0
		} else if i < len(s.cores) {
			free[i] &^= s.cores[i]
		}
	}
	p.mem[n] -= s.mem
	if !s.light {
		if p.jobs[n] > 0 && p.user[n] != s.user {
			p.owner[n] |= manyUsers
		}
		p.jobs[n]++
		p.user[n] = s.user
	}
	if len(s.gres) > 0 {
		if p.gres[n] == nil {
			p.gres[n] = newUse(p.t.pools[g.kind])
		}
		applyTakes(p.gres[n], s.gres, p.t.pools[g.kind])
	}
	if s.exclusive {
		p.owner[n] |= owned
		p.owns = true
	}
	if use := p.partUse[s.part]; use != nil {
		use[n] += s.cpus
	}
}

// index fills the levels.
func (p *pass) index() {
	n := len(p.t.nodes)
	for i := range p.levels {
		p.levels[i] = newBitmap(n)
	}
	for i := range p.mems {
		p.mems[i] = newBitmap(n)
	}
	for i := range p.t.geo {
		g, slot := &p.t.geo[i], p.t.slot[i]
		p.cores[i] = p.t.usableCores(g, p.free[g.off:g.off+g.words])
		for l := range coreLevel(p.cores[i]) + 1 {
			p.levels[l].set(slot)
		}
		for l := range memLevel(p.mem[i]) + 1 {
			p.mems[l].set(slot)
		}
	}
}

// reindex lowers the levels of a node of which something was taken.
func (p *pass) reindex(n int32) {
	g, slot := &p.t.geo[n], p.t.slot[n]
	p.cores[n] = p.t.usableCores(g, p.free[g.off:g.off+g.words])
	for l := len(coreLevels) - 1; l >= 0 && coreLevels[l] > p.cores[n]; l-- {
		p.levels[l].clear(slot)
	}
	for l := memLevels - 1; l >= 0 && int64(1)<<(memLevelLow+l) > p.mem[n]; l-- {
		p.mems[l].clear(slot)
	}
	if p.claims > 0 && p.claimed.has(slot) {
		p.reopen(n)
	}
}

// shape is what jobs with one answer have in common.
type shape struct {
	req      *request
	duration int64
	user     wlm.UID
	tries    []try
	verdict  int  // place of the verdict its jobs share, from 1
	noRoom   bool // no victims make room for it
}

// try is a shape in one partition.
type try struct {
	need     *need
	shape    *shape
	resv     *resv  // in which it would run; nil: in none
	nodes    bitmap // slots that may still serve; nil: not tried yet
	short    bitmap // slots in runs of neighbours that are not enough
	failed   bool
	sharing  bool // the picker holds nodes on which cores are shared
	free     int  // nodes that could serve when it failed
	state    possibility
	planned  int64 // start planned last for the shape: the next is not sooner
	claims   int   // claims that nodes knows of
	barriers int   // barriers that nodes knows of
}

// possibility says whether the usable nodes, if empty, could serve.
type possibility uint8

const (
	unknown possibility = iota
	possible
	requiredDown // a required node is down
	tooManyDown
)

// possible finds out, once a pass, whether waiting for jobs to end can help.
func (p *pass) possible(tr *try) possibility {
	if tr.state != unknown {
		return tr.state
	}
	n := tr.need
	slots := p.slotsOfTry(tr)
	tr.state = possible
	for _, r := range n.required {
		if !slots.has(p.t.slot[r]) {
			tr.state = requiredDown
		}
	}
	if tr.state == possible && !n.enough(p.t, slots) {
		tr.state = tooManyDown
	}
	return tr.state
}

// candidates brings a try's bitmap up to date with what can be told without
// looking at nodes one by one.
func (p *pass) candidates(tr *try) bitmap {
	n := tr.need
	if tr.nodes == nil {
		tr.nodes = p.slotsOfTry(tr)
	}
	b := tr.nodes
	if l := coreLevel(n.leastCores); l >= 0 {
		b.and(p.levels[l])
	}
	if p.t.params.memory {
		if l := memLevel(n.leastMem); l >= 0 {
			b.and(p.mems[l])
		}
	}
	p.beforeClaims(tr)
	return b
}

// fitNow is how many tasks node n takes if the try's job starts now.
func (p *pass) fitNow(tr *try, i int32) int {
	n := tr.need
	slot := p.t.slot[i]
	g := &p.t.geo[i]
	if p.claims > 0 && p.claimed.has(slot) {
		return p.fitAt(tr, i, p.now)
	}
	if n.whole && p.jobs[i] != 0 {
		return 0
	}
	if p.jobs[i] > 0 && (p.owns || n.exclusive) {
		if (p.owner[i]&owned != 0 || n.exclusive) && (p.owner[i]&manyUsers != 0 || p.user[i] != tr.shape.user) {
			return 0
		}
	}
	room := n.maxCPUs
	if room < unbounded {
		room -= int(p.partUse[n.part][i])
	}
	return p.t.fitGres(n, i, p.gresNow(n, i), p.cores[i], p.mem[i], room, p.free[g.off:g.off+g.words])
}

// gresNow is what is taken of a node's generic resources at present.
func (p *pass) gresNow(n *need, i int32) []poolUse {
	if len(n.gres) > 0 && p.gres[i] == nil {
		p.gres[i] = newUse(p.t.pools[p.t.geo[i].kind])
	}
	return p.gres[i]
}

// choose tries to find nodes on which the try's job can start now. It leaves
// the shares in p.pick.out.
func (p *pass) choose(tr *try) bool {
	n := tr.need
	if !tr.openNow(p.now) {
		tr.failed = true
		return false
	}
	b := p.candidates(tr)
	fit := func(i int32) int { return p.fitNow(tr, i) }
	if n.simple() {
		if tr.short == nil {
			tr.short = newBitmap(len(p.t.nodes))
		}
		p.pick.short = tr.short
	}
	if p.claims > 0 {
		// What is claimed later is of use to short jobs only: they leave the
		// rest to jobs that run beyond the claims.
		p.pick.first = p.claimed
	}
	ok := p.pick.run(n, b, fit, p.cores)
	p.pick.short, p.pick.first = nil, nil
	if tr.sharing = false; !ok && n.layers > 1 {
		ok = p.chooseShared(tr)
	}
	if !ok {
		tr.failed = true
		tr.free = p.countFree(b, fit)
	}
	return ok
}

// chooseShared is choose on cores that other jobs of the partition have, too.
func (p *pass) chooseShared(tr *try) bool {
	p.link()
	b := p.slotsOfTry(tr)
	tr.sharing = p.pick.run(tr.need, b, func(i int32) int { return p.fitAt(tr, i, p.now) }, p.cores)
	return tr.sharing
}

// countFree counts the nodes that fit, for the verdict; it stops looking at
// them one by one when there are many.
func (p *pass) countFree(b bitmap, fit func(int32) int) int {
	const few = 256
	looked := 0
	for s := b.next(0); s >= 0; s = b.next(s + 1) {
		if looked++; looked > few {
			break
		}
		if fit(p.t.order[s]) == 0 {
			b.clear(s)
		}
	}
	return b.count()
}

// start commits the shares of the picker as a placement of j from now on.
func (p *pass) start(j *mirror.Job, tr *try) []mirror.NodeUse {
	n := tr.need
	shares := p.pick.shares(n)
	uses := p.useArena(len(shares))
	for k, sh := range shares {
		g := &p.t.geo[sh.node]
		mask, better := p.free[g.off:g.off+g.words], []uint64(nil)
		if tr.sharing || p.claims > 0 && p.claimed.has(p.t.slot[sh.node]) {
			mask = p.windowMask(tr, sh.node, p.now, p.now+tr.shape.duration)
			better = p.windowMask(tr, sh.node, p.now, never)
			for w := range better {
				better[w] = mask[w] &^ better[w]
			}
		}
		s := p.spanOf(tr, j.User, sh, mask, better, p.now)
		s.start = startedAlready
		p.take(&s)
		p.add(s)
		p.reindex(sh.node)
		uses[k] = mirror.NodeUse{Node: wlm.NodeIndex(sh.node), CPUs: p.cpuSet(n, g, sh.tasks, s.cores, int(s.cpus)),
			Mem: wlm.MiB(s.mem), Whole: n.whole, Gres: p.t.gresWords(sh.node, s.gres)}
	}
	p.count(n.class, startedAlready, p.now+tr.shape.duration)
	p.useCounters(tr.resv, n.class)
	return uses
}

// spanOf makes the span of a share that begins at start, from the cores of
// mask and of those from better first, where any core will do.
func (p *pass) spanOf(tr *try, user wlm.UID, sh share, mask, better []uint64, start int64) span {
	n, g := tr.need, &p.t.geo[sh.node]
	cores := p.wordArena(int(g.words))
	var takes []gresTake
	if pools := p.t.pools[g.kind]; len(pools) > 0 && (len(n.gres) > 0 || n.whole) {
		n = n.onNode(sh)
		st := p.gresNow(n, sh.node)
		if len(n.gres) > 0 && p.linked {
			st = p.gresAt(n, sh.node, start, start+tr.shape.duration)
		}
		if takes, mask = p.t.settle(n, sh, st, mask); better != nil {
			better = intersect(better, mask)
		}
	}
	if better != nil && !n.whole && n.perSocket == 0 && !p.t.params.sockets {
		want := n.coresFor(g, sh.tasks)
		takeCores(better, cores, 0, g.cores, want)
		takeCores(mask, cores, 0, g.cores, want-int32(count(cores)))
	} else {
		p.t.cut(n, sh.node, sh.tasks, mask, cores)
	}
	cpus := n.cpusFor(&p.t.params, g, sh.tasks, int32(count(cores)))
	return span{node: sh.node, start: start, end: start + tr.shape.duration, cores: cores,
		mem: n.memory(&p.t.params, g, cpus), whole: n.whole, exclusive: n.exclusive, user: user, part: n.part, cpus: int32(cpus), layers: int8(n.layers), gres: takes}
}

// cpuSet spreads cpus over the threads of cores, filling one core after the
// other but leaving at least one CPU for each.
func (p *pass) cpuSet(n *need, g *geometry, tasks int, cores []uint64, cpus int) wlm.CPUSet {
	if g.threads == 1 {
		set := wlm.CPUSet(cores)
		for len(set) > 1 && set[len(set)-1] == 0 {
			set = set[:len(set)-1]
		}
		return set[:len(set):len(set)]
	}
	set := wlm.CPUSet(p.wordArena((int(g.cores*g.threads) + 63) / 64))
	left, use := count(cores), int(g.threads)
	if p.t.params.cpus && !n.whole {
		use = int(n.threadsOf(g))
	}
	ones(cores, func(core int32) {
		left--
		for th := range min(use, cpus-left) {
			set.Set(int(core*g.threads) + th)
			cpus--
		}
	})
	for len(set) > 1 && set[len(set)-1] == 0 {
		set = set[:len(set)-1]
	}
	return set[:len(set):len(set)]
}

// Arenas begin small, since most passes start few jobs, and double.
const (
	arenaLeast = 16
	arenaMost  = 1 << 12
)

// chunk is how much to take for an arena that has given n so far.
func chunk(n, given int) int { return max(n, min(max(given, arenaLeast), arenaMost)) }

func (p *pass) useArena(n int) []mirror.NodeUse {
	if len(p.uses) < n {
		size := chunk(n, p.usesGiven)
		p.uses, p.usesGiven = make([]mirror.NodeUse, size), p.usesGiven+size
	}
	u := p.uses[:n:n]
	p.uses = p.uses[n:]
	return u
}

func (p *pass) wordArena(n int) []uint64 {
	if len(p.words) < n {
		size := chunk(n, p.wordsGiven)
		p.words, p.wordsGiven = make([]uint64, size), p.wordsGiven+size
	}
	w := p.words[:n:n]
	p.words = p.words[n:]
	return w
}
