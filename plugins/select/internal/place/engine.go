package place

import (
	"cmp"
	"context"
	"math/bits"
	"slices"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/selector"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Engine is a selector. It is used by one goroutine at a time.
type Engine struct {
	linear bool
	table  *table
	passes uint64
	rev    uint64 // of the view that Place last answered
	spans  []span // arena of the last pass, for the next
}

var _ selector.Selector = (*Engine)(nil)

// Cores returns an engine that gives away cores (select/cons_tres).
func Cores() *Engine { return &Engine{} }

// Nodes returns an engine that gives away whole nodes (select/linear).
func Nodes() *Engine { return &Engine{linear: true} }

// Place implements [selector.Selector].
func (e *Engine) Place(ctx context.Context, v mirror.View, r selector.Request) (selector.Result, error) {
	p := e.open(ctx, v, expected(r.Agenda.Running))
	defer e.close(p)
	q := newRound(e, p, r)
	if v.Rev == e.rev {
		for _, ref := range r.Refused {
			q.refused[ref.Job] = ref.Text
		}
	}
	e.rev = v.Rev
	const checkEvery = 128
	for i := range r.Agenda.Entries {
		if i%checkEvery == 0 && ctx.Err() != nil || q.over || q.full() {
			break
		}
		if en := &r.Agenda.Entries[i]; !q.later(en) {
			q.entry(en)
		}
	}
	q.shortestFirst()
	return q.result, nil
}

// expected is by job how long it is expected to run, in seconds; nil: as long
// as its limit lets it, always.
func expected(list []sched.Expectation) map[wlm.JobID]int64 {
	if len(list) == 0 {
		return nil
	}
	m := make(map[wlm.JobID]int64, len(list))
	for _, x := range list {
		m[x.Job] = int64(x.Expected)
	}
	return m
}

// later puts an entry off until all others were tried if the agenda wants the
// shortest first and no partition of the job may hold another reservation. What
// was put off is tried before any job of a lower tier.
func (q *round) later(en *sched.Entry) bool {
	if !q.req.Agenda.ShortestFirst || q.req.Agenda.Reservations == 0 {
		return false
	}
	j := q.p.v.Job(en.Job)
	if j == nil || j.Running || j.Class == nil {
		return false
	}
	var tier uint32
	open := false
	for _, part := range j.Class.Partitions {
		if part >= 0 && part < len(q.reservations) {
			tier = max(tier, q.p.t.parts[part].Tier)
			open = open || q.reservations[part] < q.req.Agenda.Reservations
		}
	}
	if len(q.putOff) > 0 && tier < q.putOffTier {
		q.shortestFirst()
	}
	if !open {
		q.putOff, q.putOffTier = append(q.putOff, en), tier
	}
	return !open
}

// shortestFirst tries what was put off.
func (q *round) shortestFirst() {
	runs := func(en *sched.Entry) int64 {
		if en.Expected > 0 {
			return int64(en.Expected)
		}
		if j := q.p.v.Job(en.Job); j != nil && j.Limit > 0 {
			return int64(j.Limit)
		}
		return endless
	}
	slices.SortStableFunc(q.putOff, func(a, b *sched.Entry) int { return cmp.Compare(runs(a), runs(b)) })
	for i, en := range q.putOff {
		const checkEvery = 128
		if i%checkEvery == 0 && q.p.ctx.Err() != nil || q.over || q.full() {
			break
		}
		q.entry(en)
	}
	q.putOff = q.putOff[:0]
}

// WhatIf implements [selector.Selector].
func (e *Engine) WhatIf(ctx context.Context, v mirror.View, job *mirror.Job) (selector.Result, error) {
	p := e.open(ctx, v, nil)
	defer e.close(p)
	q := newRound(e, p, selector.Request{Agenda: sched.Agenda{Reservations: 1}})
	one := *job
	one.Tasks = min(one.Tasks, 1)
	q.try(&one, &sched.Entry{Job: job.ID, WhenBlocked: sched.Reserve})
	return q.result, nil
}

func (e *Engine) open(ctx context.Context, v mirror.View, expected map[wlm.JobID]int64) *pass {
	pr := parseParams(v.Setting("SelectTypeParameters"), e.linear)
	if e.table == nil || !e.table.current(v, pr) {
		e.table = newTable(v, pr)
	}
	e.passes++
	return newPass(ctx, e.table, v, e.spans, expected)
}

// close keeps what the next pass can use, and forgets classes that are gone.
func (e *Engine) close(p *pass) {
	clear(p.spans)
	e.spans = p.spans[:0]
	const spare = 1024
	used := 0
	for _, r := range e.table.requests {
		if r.seen == e.passes {
			used++
		}
	}
	if len(e.table.requests) > 2*used+spare {
		for c, r := range e.table.requests {
			if r.seen != e.passes {
				delete(e.table.requests, c)
			}
		}
	}
}

// round is the walk over an agenda.
type round struct {
	e       *Engine
	p       *pass
	req     selector.Request
	result  selector.Result
	refused map[wlm.JobID]string
	shapes  map[shapeKey]*shape

	blocked      []wlm.JobID // by partition: the first job that waits for resources
	stopped      []wlm.JobID // by partition: the job behind which nothing may start
	reservations []int       // by partition
	waits        []*try      // scratch of block
	forecasts    int         // made for jobs behind reservations
	over         bool        // the time is up: nothing more is tried
	window       int64       // how far ahead starts are planned, seconds; 0: as far as they are

	putOff     []*sched.Entry // see later
	putOffTier uint32
}

// shapeKey tells shapes apart; user counts only where nodes are for one user.
type shapeKey struct {
	class    *mirror.Class
	duration int64
	user     int64
	relaxed  bool   // it waited for few switches long enough
	resv     string // of jobs that may use reservations
}

func newRound(e *Engine, p *pass, r selector.Request) *round {
	n := len(p.t.parts)
	return &round{e: e, p: p, req: r, window: windowOf(p.v.Setting("SchedulerParameters")), refused: map[wlm.JobID]string{}, shapes: map[shapeKey]*shape{},
		blocked: make([]wlm.JobID, n), stopped: make([]wlm.JobID, n), reservations: make([]int, n)}
}

func (q *round) full() bool {
	return q.req.MaxStarts > 0 && len(q.result.Placements) >= q.req.MaxStarts
}

// entry handles one line of the agenda.
func (q *round) entry(en *sched.Entry) {
	j := q.p.v.Job(en.Job)
	if j == nil || j.Running {
		return
	}
	if text, ok := q.refused[j.ID]; ok {
		q.verdict(selector.Verdict{Reason: wlm.WaitResources, Text: "not started: " + text, Jobs: []wlm.JobID{j.ID}})
		return
	}
	q.try(j, en)
}

// try starts as many of a job's tasks as fit, and explains the rest.
func (q *round) try(j *mirror.Job, en *sched.Entry) {
	sh := q.shape(j, en)
	if int64(en.NotBefore) > q.p.now {
		q.explain(j, sh, en, wlm.WaitTime, "starts "+when(int64(en.NotBefore), q.p.now)+" or later")
		return
	}
	if en.Placement != nil {
		if !q.given(j, sh, en) {
			q.explain(j, sh, en, wlm.WaitResources, "the placement that the scheduler chose is not free")
		}
		return
	}
	for range max(j.Tasks, 1) {
		if q.full() {
			return
		}
		if q.start(j, sh, en) || q.shorter(j, en) {
			continue
		}
		switch q.makeRoom(j, sh, en) {
		case roomNow:
		case roomSoon:
			if j.Tasks <= 1 {
				return
			}
		default:
			q.block(j, sh, en)
			return
		}
	}
}

// plain reports whether an entry's job may share what is known of its shape.
func plain(en *sched.Entry) bool { return len(en.Prefer) == 0 && len(en.Avoid) == 0 }

// shape finds or makes the shape of a job. Entries with wishes of their own
// get one for themselves.
func (q *round) shape(j *mirror.Job, en *sched.Entry) *shape {
	duration := int64(j.Limit)
	if en.Expected > 0 {
		duration = int64(en.Expected)
	}
	if duration <= 0 {
		duration = endless
	}
	k := shapeKey{j.Class, duration, -1, q.relaxed(j), resvKey(j)}
	if q.p.owns || q.userMatters(j.Class) {
		k.user = int64(j.User)
	}
	if plain(en) {
		if sh := q.shapes[k]; sh != nil {
			return sh
		}
	}
	sh := &shape{req: q.request(j.Class), duration: duration, user: j.User}
	q.addTries(sh, j, k.relaxed)
	if plain(en) {
		q.shapes[k] = sh
	}
	return sh
}

func (q *round) userMatters(c *mirror.Class) bool {
	if c == nil {
		return false
	}
	if c.Share == wlm.ShareUser {
		return true
	}
	for _, p := range c.Partitions {
		if p >= 0 && p < len(q.p.t.parts) && q.p.t.parts[p].ExclusiveUser {
			return true
		}
	}
	return false
}

var noClass = &mirror.Class{}

func (q *round) request(c *mirror.Class) *request {
	if c == nil {
		c = noClass
	}
	t := q.p.t
	r := t.requests[c]
	if r == nil {
		r = t.compile(c)
		t.requests[c] = r
	}
	r.seen = q.e.passes
	return r
}

// start tries the partitions in turn.
func (q *round) start(j *mirror.Job, sh *shape, en *sched.Entry) bool {
	p := q.p
	for i := range sh.tries {
		tr := &sh.tries[i]
		if tr.failed || p.shortFor(tr) >= 0 || q.barred(j, tr) || !q.choose(tr, en) {
			continue
		}
		uses := p.start(j, tr)
		q.result.Placements = append(q.result.Placements, selector.Placement{Job: j.ID, Partition: int(tr.need.part),
			Uses: uses, Backfilled: q.blocked[tr.need.part] != 0, Reservation: tr.id()})
		return true
	}
	return false
}

// barred reports whether a try is out of the question in this pass, whatever
// is free.
func (q *round) barred(j *mirror.Job, tr *try) bool {
	return q.barredFor(tr, j.Limit)
}

// barredFor is barred for a limit.
func (q *round) barredFor(tr *try, limit uint32) bool {
	part := &q.p.t.parts[tr.need.part]
	stopped := tr.resv == nil && q.stopped[tr.need.part] != 0
	return tr.need.never != 0 || !part.Starts || stopped || overLimit(limit, part)
}

// overTime reports whether a job's limit is more than its partition allows.
func overTime(j *mirror.Job, part *mirror.Partition) bool { return overLimit(j.Limit, part) }

func overLimit(limit uint32, part *mirror.Partition) bool {
	if part.MaxTime == 0 || part.MaxTime == wlm.Unlimited {
		return false
	}
	return limit == 0 || int64(limit) > int64(part.MaxTime)*60
}

// choose is pass.choose with the entry's wishes: first the preferred nodes,
// then all but the avoided, then any.
func (q *round) choose(tr *try, en *sched.Entry) bool {
	p := q.p
	if plain(en) {
		return p.choose(tr)
	}
	b := p.candidates(tr)
	fit := func(i int32) int { return p.fitNow(tr, i) }
	if len(en.Prefer) > 0 && p.pick.run(tr.need, intersect(b, p.slotsOf(en.Prefer)), fit, p.cores) {
		return true
	}
	if len(en.Avoid) > 0 {
		rest := newBitmap(len(p.t.nodes))
		copy(rest, b)
		rest.andNot(p.slotsOf(en.Avoid))
		if p.pick.run(tr.need, rest, fit, p.cores) {
			return true
		}
	}
	return p.choose(tr)
}

func (p *pass) slotsOf(nodes []wlm.NodeIndex) bitmap {
	b := newBitmap(len(p.t.nodes))
	for _, n := range nodes {
		if int(n) < len(p.t.nodes) {
			b.set(p.t.slot[n])
		}
	}
	return b
}

// given starts a job on the placement that the agenda brings along, if all of
// it is free for as long as the job runs.
func (q *round) given(j *mirror.Job, sh *shape, en *sched.Entry) bool {
	p := q.p
	if len(sh.tries) == 0 {
		return false
	}
	var tr *try
	for i := range sh.tries {
		if n := sh.tries[i].need; !q.barred(j, &sh.tries[i]) && p.shortFor(&sh.tries[i]) < 0 && q.within(n, en.Placement) && q.open(&sh.tries[i], en.Placement) {
			tr = &sh.tries[i]
			break
		}
	}
	if tr == nil {
		return false
	}
	p.link()
	for i := range en.Placement {
		u := &en.Placement[i]
		if !p.freeFor(tr, u) {
			return false
		}
	}
	for i := range en.Placement {
		u := &en.Placement[i]
		g := &p.t.geo[u.Node]
		s := span{node: int32(u.Node), start: startedAlready, end: p.now + sh.duration, cores: p.t.coresOf(g, u.CPUs),
			mem: int64(u.Mem), whole: u.Whole, exclusive: tr.need.exclusive, user: j.User, part: tr.need.part,
			cpus: int32(u.CPUs.Count()), gres: p.takesOf(int32(u.Node), u.Gres)}
		p.take(&s)
		p.add(s)
		p.reindex(s.node)
	}
	p.count(sh.req.class, startedAlready, p.now+sh.duration)
	p.useCounters(tr.resv, sh.req.class)
	q.result.Placements = append(q.result.Placements, selector.Placement{Job: j.ID, Partition: int(tr.need.part),
		Uses: en.Placement, Backfilled: q.blocked[tr.need.part] != 0, Reservation: tr.id()})
	return true
}

// within reports whether a placement lies on distinct nodes of a need's partition.
func (q *round) within(n *need, uses []mirror.NodeUse) bool {
	seen := newBitmap(len(q.p.t.nodes))
	for i := range uses {
		if int(uses[i].Node) >= len(q.p.t.nodes) {
			return false
		}
		slot := q.p.t.slot[uses[i].Node]
		if seen.has(slot) || !q.p.t.partSlots[n.part].has(slot) || !q.p.usable.has(slot) {
			return false
		}
		seen.set(slot)
	}
	return len(uses) > 0
}

// freeFor reports whether a use of the agenda's own is free from now on.
func (p *pass) freeFor(tr *try, u *mirror.NodeUse) bool {
	i, g := int32(u.Node), &p.t.geo[u.Node]
	end := p.now + tr.shape.duration
	whole := *tr
	need := *tr.need
	need.whole = need.whole || u.Whole
	whole.need = &need
	for k := p.head[i]; k >= 0; k = p.spans[k].next {
		if s := &p.spans[k]; s.end > p.now && s.start < end && !tr.passes(s) && s.blocks(&whole) {
			return false
		}
	}
	for _, k := range p.takesOf(i, u.Gres) {
		pools := p.t.pools[g.kind]
		need.gres = []gresAsk{{}} // any: to look at what is taken
		st := p.gresAt(&need, i, p.now, end)
		if st[k.pool].count+k.count > pools[k.pool].count || k.devs&^pools[k.pool].free(st, k.pool, "", k.count) != 0 {
			return false
		}
	}
	free := p.windowMask(&whole, i, p.now, end)
	for w, x := range p.t.coresOf(g, u.CPUs) {
		if w >= len(free) && x != 0 || w < len(free) && x&^free[w] != 0 {
			return false
		}
	}
	return !p.t.params.memory || bits.Len64(uint64(u.Mem)) < 63 && p.peak(i, p.now, end)+int64(u.Mem) <= g.memory
}
