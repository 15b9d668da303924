package place

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/selector"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// nodesNotThere is Slurm's word for a job that waits for nodes to come back,
// or for those that a partition of higher tier keeps.
const nodesNotThere = "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions"

// block decides what it means that a job cannot start, and explains it.
func (q *round) block(j *mirror.Job, sh *shape, en *sched.Entry) {
	p := q.p
	if len(sh.tries) == 0 && j.ReservedOnly && len(sh.req.needs) > 0 {
		q.shared(sh, j, selector.Verdict{Reason: wlm.WaitReservation, Text: "it may use none of the reservations that it asks for"})
		return
	}
	if len(sh.tries) == 0 {
		q.shared(sh, j, selector.Verdict{Reason: wlm.FailBadConstraints, Text: "no partition of the job exists"})
		return
	}
	waits := q.waits[:0] // for resources that running jobs will give back
	var behind wlm.JobID
	for i := range sh.tries {
		tr := &sh.tries[i]
		if stop := q.stopped[tr.need.part]; stop != 0 && tr.resv == nil && !q.impossible(j, tr) {
			behind = stop
		} else if !q.barred(j, tr) && p.possible(tr) == possible {
			waits = append(waits, tr)
		}
	}
	q.waits = waits
	counter := q.shortAll(sh)
	switch {
	case counter >= 0 && (len(waits) > 0 || behind != 0):
		v := q.lacks(counter, sh.req.class)
		if len(waits) > 0 && en.WhenBlocked == sched.Reserve && q.mayReserve(waits) && q.reserve(j, waits, p.now, &v) {
			v.Jobs = []wlm.JobID{j.ID}
			q.verdict(v)
			return
		}
		q.shared(sh, j, v)
	case len(waits) > 0 && q.waitReserved(j, sh, en, waits):
	case len(waits) > 0:
		q.wait(j, sh, en, waits)
	case behind != 0:
		v := selector.Verdict{Reason: wlm.WaitPriority}
		if !q.told(sh) {
			v.Text = fmt.Sprintf("behind job %d", behind)
		}
		q.shared(sh, j, v)
	default:
		reason, text := q.hopeless(j, &sh.tries[0])
		q.explain(j, sh, en, reason, text)
	}
}

func amountOf(c *mirror.Class, counter uint32) uint64 {
	for _, u := range c.Counters {
		if u.Counter == counter {
			return u.Amount
		}
	}
	return 0
}

// impossible is barred without looking at who is stopped.
func (q *round) impossible(j *mirror.Job, tr *try) bool {
	part := &q.p.t.parts[tr.need.part]
	return tr.need.never != 0 || !part.Starts || overTime(j, part) || q.p.possible(tr) != possible
}

// hopeless explains why no end of a running job would help.
func (q *round) hopeless(j *mirror.Job, tr *try) (wlm.Reason, string) {
	p, n := q.p, tr.need
	part := &p.t.parts[n.part]
	switch {
	case n.never != 0:
		return n.never, n.text
	case !part.Starts:
		return wlm.WaitPartDown, "partition " + part.Name + " starts no jobs now"
	case overTime(j, part):
		limit := "no time limit"
		if j.Limit > 0 {
			limit = wlm.FormatShort(int64(j.Limit))
		}
		return wlm.WaitPartTimeLimit, fmt.Sprintf("asks for %s, partition %s allows %s",
			limit, part.Name, wlm.FormatShort(int64(part.MaxTime)*60))
	case p.possible(tr) == requiredDown:
		var down []string
		for _, r := range n.required {
			if !p.usable.has(p.t.slot[r]) {
				down = append(down, string(p.t.nodes[r].Name))
			}
		}
		return wlm.WaitNodeNotAvail, "ReqNodeNotAvail, UnavailableNodes:" + hostlist.Compress(down)
	}
	return wlm.WaitResources, nodesNotThere
}

// wait handles a job that resources alone keep from starting: it may stop its
// partitions, or reserve its start.
func (q *round) wait(j *mirror.Job, sh *shape, en *sched.Entry, waits []*try) {
	head := false
	for _, tr := range waits {
		part := tr.need.part
		if tr.resv.bounded() {
			head = true // it keeps nobody else waiting
			continue
		}
		if q.blocked[part] == 0 {
			q.blocked[part], head = j.ID, true
		}
		if en.WhenBlocked == sched.Stop {
			q.stop(part, j.ID)
		}
	}
	plan := en.WhenBlocked == sched.Reserve && q.mayReserve(waits)
	if !head && !plan && q.told(sh) {
		q.shared(sh, j, selector.Verdict{Reason: wlm.WaitPriority})
		return
	}
	v := selector.Verdict{Reason: wlm.WaitPriority, Text: q.shortage(waits[0])}
	if head {
		v.Reason = wlm.WaitResources
	}
	if plan && q.reserve(j, waits, q.p.now, &v) || head {
		v.Jobs = []wlm.JobID{j.ID}
		q.verdict(v)
		return
	}
	q.shared(sh, j, v)
}

// told reports whether the shape's jobs share a verdict of Priority already.
func (q *round) told(sh *shape) bool {
	return sh.verdict > 0 && q.result.Verdicts[sh.verdict-1].Reason == wlm.WaitPriority
}

// mayReserve reports whether one of the partitions may hold another reservation.
func (q *round) mayReserve(waits []*try) bool {
	bound := q.req.Agenda.Reservations
	return bound == 0 || slices.ContainsFunc(waits, func(tr *try) bool { return q.reservations[tr.need.part] < bound })
}

// stop lets nothing more start in a partition, nor, from partitions of lower
// tier, on its nodes.
func (q *round) stop(part int32, j wlm.JobID) {
	if q.stopped[part] != 0 {
		return
	}
	q.stopped[part] = j
	t := q.p.t
	q.p.barriers = append(q.p.barriers, barrier{t.parts[part].Tier, t.partSlots[part]})
}

// shortage says what a try needs and how much of it is free.
func (q *round) shortage(tr *try) string {
	n := tr.need
	for _, b := range q.p.barriers {
		if b.tier > q.p.t.parts[n.part].Tier && n.slots.countAnd(b.slots) > 0 {
			rest := newBitmap(len(q.p.t.nodes))
			copy(rest, n.slots)
			rest.andNot(b.slots)
			if rest.and(q.p.usable); !n.enough(q.p.t, rest) {
				return nodesNotThere
			}
		}
	}
	if n.min == 1 && tr.free == 0 {
		return n.describe + ": no node has them free now"
	}
	if n.tasks > n.min {
		return fmt.Sprintf("%s: %s room for some of them now", n.describe, strings.Replace(plural(tr.free, "node")+" have", "1 node have", "1 node has", 1))
	}
	return fmt.Sprintf("%s: %d %s them free now", n.describe, tr.free, haveOrHas(tr.free))
}

func haveOrHas(n int) string {
	if n == 1 {
		return "has"
	}
	return "have"
}

// reserve plans the earliest start over all partitions that may still hold a
// reservation, claims it, and writes the forecast into v.
func (q *round) reserve(j *mirror.Job, waits []*try, from int64, v *selector.Verdict) bool {
	p, bound := q.p, q.req.Agenda.Reservations
	var best *try
	var start int64
	for _, tr := range waits {
		if bound > 0 && q.reservations[tr.need.part] >= bound {
			continue
		}
		at, ok := p.plan(tr, max(from, tr.planned))
		if !ok {
			continue
		}
		if from == p.now {
			tr.planned = at
		}
		if best == nil || at < start {
			best, start = tr, at
		}
	}
	// Whoever follows could delay a job that should have had a reservation.
	if q.over = p.ctx.Err() != nil; q.over || best == nil {
		return false
	}
	if len(waits) > 1 { // the picker holds what was planned last
		start, _ = p.plan(best, start)
	}
	if w := q.window; w > 0 && start-p.now > w {
		return false // bf_window: nothing is planned beyond it
	}
	q.reservations[best.need.part]++
	nodes := p.claim(best, j.User, start)
	if start-p.now < knownEnd { // beyond it, the forecast is only that some job has no limit

		v.Start, v.Nodes = wlm.Time(start), nodes
		v.Text += ", next " + when(start, p.now)
	}
	return true
}

// when words a moment for people who read it today.
func when(at, now int64) string {
	t := time.Unix(at, 0)
	const day = 24 * 3600
	if at-now < day {
		return "at " + t.Format("15:04")
	}
	return "at " + t.Format("2006-01-02T15:04")
}

// explain gives a job a reason that needs no further thought, and still
// reserves its start when the entry says so and there is a time for it.
func (q *round) explain(j *mirror.Job, sh *shape, en *sched.Entry, reason wlm.Reason, text string) {
	v := selector.Verdict{Reason: reason, Text: text}
	if at := int64(en.NotBefore); at > q.p.now && en.WhenBlocked == sched.Reserve {
		var waits []*try
		for i := range sh.tries {
			if tr := &sh.tries[i]; !q.barred(j, tr) && q.p.possible(tr) == possible {
				waits = append(waits, tr)
			}
		}
		if q.reserve(j, waits, at, &v) {
			v.Jobs = []wlm.JobID{j.ID}
			q.verdict(v)
			return
		}
	}
	if reason == wlm.WaitTime || en.Placement != nil {
		v.Jobs = []wlm.JobID{j.ID}
		q.verdict(v)
		return
	}
	q.shared(sh, j, v)
}

// shared gives a job the verdict of its shape, which is v if it has none yet.
func (q *round) shared(sh *shape, j *mirror.Job, v selector.Verdict) {
	if sh.verdict > 0 {
		if have := &q.result.Verdicts[sh.verdict-1]; have.Reason == v.Reason {
			have.Jobs = append(have.Jobs, j.ID)
			return
		}
	}
	v.Jobs = []wlm.JobID{j.ID}
	q.verdict(v)
	sh.verdict = len(q.result.Verdicts)
}

func (q *round) verdict(v selector.Verdict) { q.result.Verdicts = append(q.result.Verdicts, v) }
