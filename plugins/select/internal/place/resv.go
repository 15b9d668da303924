package place

import (
	"fmt"
	"slices"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/selector"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// resv is a reservation in a pass. What it keeps are spans with its ID, which
// keep out every job but its own; nodes with such spans count as claimed, so
// that they are always looked at over time.
type resv struct {
	*mirror.Reservation                  // the first occurrence that is not over
	start, end          int64            // of that
	slots               bitmap           // of its nodes
	cores               [][]uint64       // by node, of nodes of which it has cores only; nil: none such
	used                map[uint32]int64 // of its counters, by its own jobs
}

// bounded reports whether the reservation's jobs run on its nodes only.
func (r *resv) bounded() bool { return r != nil && !r.Flex && !r.AnyNodes && r.slots != nil }

// reserve lays the reservations' spans.
func (p *pass) reserve() {
	if len(p.v.Reservations) == 0 {
		return
	}
	n := len(p.t.nodes)
	p.resvs = map[uint32]*resv{}
	for i := range p.v.Reservations {
		m := &p.v.Reservations[i]
		s, e := m.At(p.v.Now)
		start, end := int64(s), int64(e)
		if end <= p.now {
			continue
		}
		r := p.resvs[m.ID]
		if r == nil {
			r = &resv{Reservation: m, start: start, end: end, slots: newBitmap(n), used: map[uint32]int64{}}
			p.resvs[m.ID] = r
		}
		if start <= p.now {
			start = startedAlready
		}
		for k := range m.Uses {
			p.reserveNode(r, &m.Uses[k], start, end)
		}
	}
	for _, r := range p.resvs {
		p.resvOrder = append(p.resvOrder, r.ID)
	}
	slices.Sort(p.resvOrder)
	for j := range p.v.Running() {
		for _, id := range j.Reservations {
			p.useCounters(p.resvs[id], j.Class)
		}
	}
	for l := range p.open {
		p.open[l] = slices.Clone(p.levels[l])
	}
	p.claims = 1
	p.link() // from now on every look at those nodes is one over time
}

// reserveNode lays the span of one node.
func (p *pass) reserveNode(r *resv, u *mirror.NodeUse, start, end int64) {
	if int(u.Node) >= len(p.t.nodes) {
		return
	}
	node, g, slot := int32(u.Node), &p.t.geo[u.Node], p.t.slot[u.Node]
	s := span{node: node, start: start, end: end, whole: u.Whole, part: -1, layers: 1, resv: r.ID}
	if !u.Whole {
		s.cores = p.t.coresOf(g, u.CPUs)
		if r.cores == nil {
			r.cores = make([][]uint64, len(p.t.nodes))
		}
		r.cores[node] = s.cores
	}
	p.add(s)
	r.slots.set(slot)
	p.claimed.set(slot)
	p.multi.set(slot)
}

// useCounters notes what a job of r uses of r's counters.
func (p *pass) useCounters(r *resv, c *mirror.Class) {
	if r == nil || c == nil {
		return
	}
	for _, u := range c.Counters {
		r.used[u.Counter] += int64(min(u.Amount, 1<<40))
	}
}

// passes reports whether a reservation's span does not concern the try: it is
// of the try's own, or that may use what others reserve.
func (tr *try) passes(s *span) bool {
	return s.resv != 0 && tr.resv != nil && (tr.resv.ID == s.resv || tr.resv.Overlap)
}

// bound leaves of mask the cores of node i that the try's reservation has.
func (p *pass) bound(tr *try, i int32, mask []uint64) {
	if !tr.resv.bounded() || tr.resv.cores == nil || tr.resv.cores[i] == nil {
		return
	}
	for w := range mask {
		if w < len(tr.resv.cores[i]) {
			mask[w] &= tr.resv.cores[i][w]
		} else {
			mask[w] = 0
		}
	}
}

// slotsOfTry are the slots that may serve a try and are up.
func (p *pass) slotsOfTry(tr *try) bitmap {
	b := slices.Clone(tr.need.slots)
	b.and(p.usable)
	if tr.resv.bounded() {
		b.and(tr.resv.slots)
	}
	return b
}

// opens is when the try's reservation lets jobs start: from its start, and
// before its end, unless it is FLEX.
func (tr *try) opens(now int64) (from, before int64) {
	if tr.resv == nil || tr.resv.Flex {
		return now, never
	}
	return max(now, tr.resv.start), tr.resv.end
}

// addTries gives a shape its tries: in the job's reservations first and then,
// unless it asks for those, in none.
func (q *round) addTries(sh *shape, j *mirror.Job, relaxed bool) {
	needs := slices.Clone(sh.req.needs)
	for i, n := range needs {
		if relaxed && n.leaves > 0 {
			loose := *n
			loose.leaves, needs[i] = 0, &loose
		}
	}
	for _, id := range j.Reservations {
		r := q.p.resvs[id]
		if r == nil {
			continue
		}
		in := sh
		if !r.Flex { // it is over with its reservation
			cut := *sh
			cut.duration = min(sh.duration, r.end-max(r.start, q.p.now))
			in = &cut
		}
		for _, n := range needs {
			sh.tries = append(sh.tries, try{need: n, shape: in, resv: r})
		}
	}
	if j.ReservedOnly {
		return
	}
	for _, n := range needs {
		sh.tries = append(sh.tries, try{need: n, shape: sh})
	}
}

// resvKey tells shapes of jobs with other reservations apart.
func resvKey(j *mirror.Job) string {
	if len(j.Reservations) == 0 && !j.ReservedOnly {
		return ""
	}
	return fmt.Sprint(j.Reservations, j.ReservedOnly)
}

// shortFor is short, with what other reservations keep of counters.
func (p *pass) shortFor(tr *try) int {
	c := tr.need.class
	if i := p.short(c, tr.shape.duration); i >= 0 || len(p.resvOrder) == 0 {
		return i
	}
	for _, u := range c.Counters {
		i, ok := p.counter[u.Counter]
		if !ok {
			continue
		}
		left := p.counters[i]
		for _, id := range p.resvOrder {
			if r := p.resvs[id]; r != tr.resv && r.start < p.now+tr.shape.duration {
				for _, k := range r.Counters {
					if k.Counter == u.Counter {
						left -= max(int64(min(k.Amount, 1<<40))-r.used[u.Counter], 0)
					}
				}
			}
		}
		if left < int64(min(u.Amount, 1<<40)) {
			return i
		}
	}
	return -1
}

// Slurm's words for jobs that reservations keep from starting.
const (
	mayBeReserved = "ReqNodeNotAvail, May be reserved for other job"
	maintenance   = "ReqNodeNotAvail, Reserved for maintenance"
)

// reservedAway reports whether the try's job could run if nobody else had
// reserved nodes, but not beside those reservations, and Slurm's words for it.
func (p *pass) reservedAway(tr *try) (words string, away bool) {
	if len(p.resvOrder) == 0 {
		return "", false
	}
	left := p.slotsOfTry(tr)
	maint, end := true, p.now+tr.shape.duration
	for _, id := range p.resvOrder {
		r := p.resvs[id]
		if r == tr.resv || tr.resv != nil && tr.resv.Overlap || r.start >= end || left.countAnd(r.slots) == 0 {
			continue
		}
		for s := r.slots.next(0); s >= 0; s = r.slots.next(s + 1) {
			if i := p.t.order[s]; left.has(s) && p.fitAlone(tr, i, r) == 0 {
				left.clear(s)
				maint = maint && r.Maint
			}
		}
	}
	for _, r := range tr.need.required {
		if !left.has(p.t.slot[r]) {
			away = true
		}
	}
	if !away && tr.need.enough(p.t, left) {
		return "", false
	}
	if maint {
		return maintenance, true
	}
	return mayBeReserved, true
}

// fitAlone is how many of the try's tasks node i takes beside a reservation, if
// nothing else is there.
func (p *pass) fitAlone(tr *try, i int32, r *resv) int {
	if r.cores == nil || r.cores[i] == nil {
		return 0
	}
	n, g := tr.need, &p.t.geo[i]
	mask := slices.Clone(p.t.full[g.off : g.off+g.words])
	for w := range min(len(mask), len(r.cores[i])) {
		mask[w] &^= r.cores[i][w]
	}
	return n.fit(&p.t.params, g, p.t.usableCores(g, mask), g.memory, n.maxCPUs, mask)
}

// waitReserved handles a job that waits for its own reservation to begin, or
// for somebody else's to end: it stops nobody.
func (q *round) waitReserved(j *mirror.Job, sh *shape, en *sched.Entry, waits []*try) bool {
	var v selector.Verdict
	for i, tr := range waits {
		from, _ := tr.opens(q.p.now)
		words, away := q.p.reservedAway(tr)
		switch {
		case from > q.p.now:
			v.Reason, v.Text = wlm.WaitReservation, fmt.Sprintf("reservation %s begins %s", tr.resv.Name, when(from, q.p.now))
		case away && v.Reason == 0:
			v.Reason, v.Text = wlm.WaitNodeNotAvail, words
		case !away:
			if i == 0 || tr.resv == nil {
				return false
			}
		}
		if v.Reason == wlm.WaitReservation {
			break
		}
	}
	if v.Reason == 0 {
		return false // as of nearly all jobs: nothing may be allocated until here
	}
	return q.tellReserved(j, sh, en, waits, v)
}

// tellReserved forecasts the start of a job that waits for a reservation.
func (q *round) tellReserved(j *mirror.Job, sh *shape, en *sched.Entry, waits []*try, v selector.Verdict) bool {
	v.Jobs = []wlm.JobID{j.ID}
	if en.WhenBlocked == sched.Reserve && q.mayReserve(waits) && q.req.Agenda.Reservations == 0 {
		text := v.Text
		q.reserve(j, waits, q.p.now, &v)
		v.Text = text
	} else if en.WhenBlocked == sched.Reserve && q.forecasts < mostForecasts {
		q.forecasts++
		for _, tr := range waits {
			if at, ok := q.p.plan(tr, q.p.now); ok && at-q.p.now < knownEnd && (v.Start == 0 || at < int64(v.Start)) {
				v.Start, v.Nodes = wlm.Time(at), nil
				for _, s := range q.p.pick.shares(tr.need) {
					v.Nodes = append(v.Nodes, wlm.NodeIndex(s.node))
				}
			}
		}
	}
	if q.over = q.p.ctx.Err() != nil; v.Start == 0 && !q.over {
		v.Jobs = nil
		q.shared(sh, j, v)
		return true
	}
	q.verdict(v)
	return true
}

const (
	// mostForecasts bounds the jobs behind reservations whose start a pass forecasts.
	mostForecasts = 50
	// knownEnd is how far ahead a forecast means something: see endless.
	knownEnd = endless - 7*24*3600
)

// id is the number of the try's reservation; 0: none.
func (tr *try) id() uint32 {
	if tr.resv == nil {
		return 0
	}
	return tr.resv.ID
}

// open reports whether the try's reservation, if any, is in force and has the
// nodes of a placement.
func (q *round) open(tr *try, uses []mirror.NodeUse) bool {
	if !tr.openNow(q.p.now) {
		return false
	}
	slots := q.p.slotsOfTry(tr)
	return !slices.ContainsFunc(uses, func(u mirror.NodeUse) bool { return !slots.has(q.p.t.slot[u.Node]) })
}

// shortAll is the place of a counter that has too little left for every try of
// a shape, or -1.
func (q *round) shortAll(sh *shape) int {
	for i := range sh.tries {
		if q.p.shortFor(&sh.tries[i]) < 0 {
			return -1
		}
	}
	return q.p.shortFor(&sh.tries[0])
}

// openNow reports whether a job may start now as far as the try's reservation
// is concerned.
func (tr *try) openNow(now int64) bool {
	from, before := tr.opens(now)
	return from <= now && now < before
}
