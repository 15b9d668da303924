package place

import (
	"cmp"
	"slices"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/selector"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Making room: a job that may preempt and does not fit looks for running jobs of
// lower tiers without which it would. What jobs hold that leave anyway, or that
// sleep, costs nothing; beyond that it takes no victim that could be left out.
// Victims are sought, in this order, in lower tiers, among lower priorities, and
// among jobs that started later; with youngest_first the start comes before the
// priority.

// room is what came of making room.
type room uint8

const (
	noRoom   room = iota
	roomNow       // the job starts in this pass
	roomSoon      // it waits for others to leave, and its place is kept
)

// makeRoom tries to make room for one job, or one task of it.
func (q *round) makeRoom(j *mirror.Job, sh *shape, en *sched.Entry) room {
	p := q.p
	if !en.MayPreempt || sh.noRoom || en.Placement != nil || p.short(sh.req.class, sh.duration) >= 0 {
		return noRoom
	}
	p.rankVictims()
	for i := range sh.tries {
		tr := &sh.tries[i]
		if q.barred(j, tr) || !tr.openNow(p.now) || p.possible(tr) != possible {
			continue
		}
		if r := q.roomIn(j, tr, en); r != noRoom {
			return r
		}
	}
	sh.noRoom = true // what follows in this pass only leaves less
	return noRoom
}

// rankVictims lists the jobs that could make room, those that should go first at
// the front, and those that leave or sleep.
func (p *pass) rankVictims() {
	if p.spansOf != nil {
		return
	}
	p.link()
	p.spansOf = map[*mirror.Job][]int32{}
	for k := range p.spans {
		if j := p.spans[k].job; j != nil {
			p.spansOf[j] = append(p.spansOf[j], int32(k))
		}
	}
	for j := range p.spansOf {
		if p.tierOf(j) < maxTier(p.t.parts) && (j.Leaving || j.Asleep || j.Preempt != mirror.PreemptOff) {
			p.victims = append(p.victims, j)
		}
	}
	young := false
	for word := range strings.SplitSeq(strings.ToLower(p.v.Setting("PreemptParameters")), ",") {
		young = young || strings.TrimSpace(word) == "youngest_first"
	}
	slices.SortFunc(p.victims, func(a, b *mirror.Job) int {
		byTier, byPriority, byStart := cmp.Compare(p.tierOf(a), p.tierOf(b)), cmp.Compare(a.Priority, b.Priority), cmp.Compare(b.Start, a.Start)
		if young {
			byPriority, byStart = byStart, byPriority
		}
		return cmp.Or(byTier, byPriority, byStart, cmp.Compare(b.ID, a.ID))
	})
}

func maxTier(parts []mirror.Partition) (tier uint32) {
	for i := range parts {
		tier = max(tier, parts[i].Tier)
	}
	return tier
}

func (p *pass) tierOf(j *mirror.Job) uint32 {
	if j.Partition >= 0 && j.Partition < len(p.t.parts) {
		return p.t.parts[j.Partition].Tier
	}
	return 0
}

// trial is the search for victims of one try.
type trial struct {
	p     *pass
	tr    *try
	fits  []int32 // tasks by node, with what is skipped
	slots bitmap
	mine  []*mirror.Job // victims that could be taken, by rank
}

// roomIn makes room in the partition of a try.
func (q *round) roomIn(j *mirror.Job, tr *try, en *sched.Entry) room {
	p := q.p
	t := newTrial(p, tr)
	defer t.restore()
	asleep, leaving := t.sort(p.now)
	t.skip(asleep, skipCores)
	if len(asleep) > 0 && t.ok() {
		q.enter(j, tr, nil)
		return roomNow
	}
	t.skip(leaving, skipAll)
	if len(leaving) > 0 && t.ok() {
		q.keep(j, tr, "waits for jobs to leave")
		return roomSoon
	}
	chosen := t.choose()
	if len(chosen) == 0 || !t.ok() {
		return noRoom
	}
	now := !slices.ContainsFunc(chosen, func(v *mirror.Job) bool { return v.Preempt != mirror.PreemptSuspend }) && !t.touches(leaving)
	if now {
		q.enter(j, tr, chosen)
	} else {
		uses := q.keep(j, tr, "waits for the jobs that make room for it")
		q.result.Placements = append(q.result.Placements, selector.Placement{Job: j.ID, Partition: int(tr.need.part), Reservation: tr.id(),
			Uses: uses, Victims: ids(chosen)})
	}
	for _, v := range chosen {
		p.chosen(v)
	}
	if now {
		return roomNow
	}
	return roomSoon
}

func ids(jobs []*mirror.Job) []wlm.JobID {
	out := make([]wlm.JobID, len(jobs))
	for i, j := range jobs {
		out[i] = j.ID
	}
	slices.Sort(out)
	return out
}

// chosen notes that a job makes room, so that it counts as gone for the next.
func (p *pass) chosen(v *mirror.Job) {
	c := *v
	c.Leaving, c.Asleep = v.Preempt != mirror.PreemptSuspend, v.Preempt == mirror.PreemptSuspend
	p.spansOf[&c] = p.spansOf[v]
	delete(p.spansOf, v)
	for _, k := range p.spansOf[&c] {
		p.spans[k].job = &c
	}
	p.victims[slices.Index(p.victims, v)] = &c
}

func newTrial(p *pass, tr *try) *trial {
	t := &trial{p: p, tr: tr, fits: make([]int32, len(p.t.nodes)), slots: p.slotsOfTry(tr)}
	t.slots.and(p.usable)
	tier := p.t.parts[tr.need.part].Tier
	for _, b := range p.barriers {
		if b.tier > tier {
			t.slots.andNot(b.slots)
		}
	}
	for s := t.slots.next(0); s >= 0; s = t.slots.next(s + 1) {
		t.refit(p.t.order[s])
	}
	return t
}

func (t *trial) refit(node int32) {
	t.fits[node] = int32(min(t.p.fitAt(t.tr, node, t.p.now), unbounded))
}

// sort tells those who sleep, or leave, from those who could be victims.
func (t *trial) sort(now int64) (asleep, leaving []*mirror.Job) {
	tier := t.p.t.parts[t.tr.need.part].Tier
	for _, j := range t.p.victims {
		switch lower := t.p.tierOf(j) < tier; {
		case j.Leaving:
			leaving = append(leaving, j)
		case !lower:
		case j.Asleep:
			asleep = append(asleep, j)
		case j.Preempt != mirror.PreemptOff && int64(j.Exempt) <= now:
			t.mine = append(t.mine, j)
		}
	}
	return asleep, leaving
}

// skip leaves jobs out of account, or puts them back.
func (t *trial) skip(jobs []*mirror.Job, how skip) {
	for _, j := range jobs {
		for _, k := range t.p.spansOf[j] {
			s := &t.p.spans[k]
			s.skip = how
			if t.slots.has(t.p.t.slot[s.node]) {
				t.refit(s.node)
			}
		}
	}
}

// remove leaves possible victims out of account in the way in which each makes room.
func (t *trial) remove(jobs ...*mirror.Job) {
	for i, j := range jobs {
		how := skipAll
		if j.Preempt == mirror.PreemptSuspend {
			how = skipCores
		}
		t.skip(jobs[i:i+1], how)
	}
}

func (t *trial) restore() {
	for _, list := range t.p.spansOf {
		for _, k := range list {
			t.p.spans[k].skip = skipNothing
		}
	}
}

// ok reports whether the job fits now, and leaves the nodes in the picker.
func (t *trial) ok() bool {
	return t.p.pick.run(t.tr.need, slices.Clone(t.slots), func(i int32) int { return int(t.fits[i]) }, t.p.cores)
}

// touches reports whether one of some jobs holds something of the picker's nodes.
func (t *trial) touches(jobs []*mirror.Job) bool {
	for _, j := range jobs {
		for _, k := range t.p.spansOf[j] {
			if t.p.pick.has(t.p.spans[k].node) {
				return true
			}
		}
	}
	return false
}

// choose returns victims without which the job fits, none of which could be left
// out, and leaves the others in account; none: no victims help.
func (t *trial) choose() []*mirror.Job {
	lo, hi := 0, len(t.mine)
	t.remove(t.mine...)
	if hi == 0 || !t.ok() {
		return nil
	}
	at := hi
	for lo < hi { // the shortest front of the list that is enough
		mid := (lo + hi) / 2
		if mid < at {
			t.skip(t.mine[mid:at], skipNothing)
		} else {
			t.remove(t.mine[at:mid]...)
		}
		if at = mid; t.ok() {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	t.remove(t.mine[at:hi]...)
	set := t.prune(slices.Clone(t.mine[:hi]))
	for i := len(set) - 1; i >= 0; i-- {
		t.skip(set[i:i+1], skipNothing)
		if !t.ok() {
			t.remove(set[i])
			continue
		}
		set = slices.Delete(set, i, i+1)
		if t.p.ctx.Err() != nil {
			return nil
		}
	}
	return set
}

// prune drops from a set that is enough those who hold nothing of the nodes that
// the picker took.
func (t *trial) prune(set []*mirror.Job) []*mirror.Job {
	if !t.ok() {
		return nil
	}
	out := set[:0]
	for i, j := range set {
		if t.touches(set[i : i+1]) {
			out = append(out, j)
			continue
		}
		t.skip(set[i:i+1], skipNothing)
	}
	return out
}

// enter starts a job on the picker's nodes, on CPUs that are free once those who
// sleep, and the victims, are out of account.
func (q *round) enter(j *mirror.Job, tr *try, victims []*mirror.Job) {
	sharing := tr.sharing
	tr.sharing = true // the masks are those of the moment, not of what was free before
	uses := q.p.start(j, tr)
	tr.sharing = sharing
	q.result.Placements = append(q.result.Placements, selector.Placement{Job: j.ID, Partition: int(tr.need.part), Reservation: tr.id(),
		Uses: uses, Backfilled: q.blocked[tr.need.part] != 0, Victims: ids(victims)})
}

// keep claims the picker's nodes for a job that others make room for, and says so.
func (q *round) keep(j *mirror.Job, tr *try, text string) []mirror.NodeUse {
	p := q.p
	uses := p.planned(tr, j.User)
	nodes := p.claim(tr, j.User, p.now+1)
	v := selector.Verdict{Reason: wlm.WaitResources, Text: text, Nodes: nodes, Jobs: []wlm.JobID{j.ID}}
	if q.blocked[tr.need.part] == 0 {
		q.blocked[tr.need.part] = j.ID
	}
	q.verdict(v)
	return uses
}

// planned is what the picker's shares would be if the try's job started now.
func (p *pass) planned(tr *try, user wlm.UID) []mirror.NodeUse {
	n := tr.need
	shares := p.pick.shares(n)
	uses := p.useArena(len(shares))
	for k, sh := range shares {
		mask := p.windowMask(tr, sh.node, p.now, p.now+tr.shape.duration)
		s := p.spanOf(tr, user, sh, mask, nil, p.now)
		uses[k] = mirror.NodeUse{Node: wlm.NodeIndex(sh.node), CPUs: p.cpuSet(n, &p.t.geo[sh.node], sh.tasks, s.cores, int(s.cpus)),
			Mem: wlm.MiB(s.mem), Whole: n.whole, Gres: p.t.gresWords(sh.node, s.gres)}
	}
	return uses
}

// shorter starts a job with --time-min before its full limit has room, with the
// longest limit that delays no reservation.
func (q *round) shorter(j *mirror.Job, en *sched.Entry) bool {
	p := q.p
	if j.TimeMin == 0 || p.claims == 0 || j.Limit > 0 && j.TimeMin >= j.Limit || en.Expected > 0 && en.Expected < j.TimeMin {
		return false
	}
	least := *en
	least.Expected = j.TimeMin
	sh := q.shape(j, &least)
	if p.short(sh.req.class, sh.duration) >= 0 {
		return false
	}
	for i := range sh.tries {
		tr := &sh.tries[i]
		if tr.failed || q.barredFor(tr, j.TimeMin) || !q.choose(tr, &least) {
			continue
		}
		limit := int64(j.Limit)
		if limit == 0 {
			limit = endless
		}
		for _, s := range p.pick.out {
			for k := p.head[s.node]; k >= 0; k = p.spans[k].next {
				if at := p.spans[k].start; at > p.now {
					limit = min(limit, at-p.now)
				}
			}
		}
		const minute = 60
		limit = max(limit/minute*minute, int64(j.TimeMin))
		sh.duration = limit
		uses := p.start(j, tr)
		sh.duration = int64(j.TimeMin)
		q.result.Placements = append(q.result.Placements, selector.Placement{Job: j.ID, Partition: int(tr.need.part), Reservation: tr.id(),
			Uses: uses, Backfilled: q.blocked[tr.need.part] != 0, Limit: uint32(limit)})
		return true
	}
	return false
}
