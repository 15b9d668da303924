package place

import (
	"fmt"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/selector"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// hold is what one job has of a counter from start up to end, in Unix seconds.
// Counters are planned over time as nodes are: a Reserve entry claims its
// amounts for when it will run, and nobody behind it may be in their way.
type hold struct {
	start, end int64
	amount     int64
}

// mostAmount bounds an amount, so that sums stay in range.
const mostAmount = 1 << 40

func bounded(amount uint64) int64 { return int64(min(amount, mostAmount)) }

// count notes that a class's job has its counters from start up to end. What
// begins now is out of what is free now.
func (p *pass) count(c *mirror.Class, start, end int64) {
	for _, u := range c.Counters {
		i, ok := p.counter[u.Counter]
		if !ok || u.Amount == 0 {
			continue
		}
		if p.holds == nil {
			p.holds = make([][]hold, len(p.counters))
			p.promised = make([]bool, len(p.counters))
		}
		p.holds[i] = append(p.holds[i], hold{start, end, bounded(u.Amount)})
		if start <= p.now {
			p.counters[i] -= bounded(u.Amount)
		} else {
			p.promised[i] = true
		}
	}
}

// short returns the place of a counter of which a job that runs now for so many
// seconds would lack something at some time, or -1.
func (p *pass) short(c *mirror.Class, duration int64) int {
	for _, u := range c.Counters {
		i, ok := p.counter[u.Counter]
		if !ok {
			continue
		}
		if p.counters[i] < bounded(u.Amount) {
			return i
		}
		if p.holds != nil && p.promised[i] && p.lacking(i, bounded(u.Amount), p.now, p.now+duration) != never {
			return i
		}
	}
	return -1
}

// lacking is a moment from start up to end at which counter i has less than
// amount left; never when there is none.
func (p *pass) lacking(i int, amount, start, end int64) int64 {
	capacity := bounded(p.v.Counters[i].Capacity)
	used := func(at int64) (sum int64) {
		for _, h := range p.holds[i] {
			if h.start <= at && h.end > at {
				sum += h.amount
			}
		}
		return sum
	}
	if capacity-used(start) < amount {
		return start
	}
	for _, h := range p.holds[i] {
		if h.start > start && h.start < end && capacity-used(h.start) < amount {
			return h.start
		}
	}
	return never
}

// countersFrom is the earliest start at or after from at which a class's
// counters suffice for so many seconds; never: its job asks for more than there
// is.
func (p *pass) countersFrom(c *mirror.Class, from, duration int64) int64 {
	at := from
	for again := true; again; {
		again = false
		for _, u := range c.Counters {
			i, ok := p.counter[u.Counter]
			if !ok || u.Amount == 0 {
				continue
			}
			if bounded(p.v.Counters[i].Capacity) < bounded(u.Amount) {
				return never
			}
			if p.holds == nil {
				continue
			}
			for {
				bad := p.lacking(i, bounded(u.Amount), at, at+duration)
				if bad == never {
					break
				}
				// Nothing gets better before one of those that hold it then ends.
				next := int64(never)
				for _, h := range p.holds[i] {
					if h.start <= bad && h.end > bad {
						next = min(next, h.end)
					}
				}
				if next == never {
					return never
				}
				at, again = next, true
			}
		}
	}
	return at
}

// plan finds the earliest start at or after from at which the try's job fits
// for its whole duration, counters included, and leaves the nodes in p.pick.
func (p *pass) plan(tr *try, from int64) (start int64, ok bool) {
	c := tr.need.class
	if len(c.Counters) == 0 {
		return p.planNodes(tr, from)
	}
	for {
		if from = p.countersFrom(c, from, tr.shape.duration); from == never {
			return 0, false
		}
		if start, ok = p.planNodes(tr, from); !ok {
			return 0, false
		}
		if from = p.countersFrom(c, start, tr.shape.duration); from == start {
			return start, true
		}
	}
}

// lacks is the verdict on a job that a counter keeps from starting now: it
// delays nobody else, but holds a reservation as others do.
func (q *round) lacks(i int, class *mirror.Class) selector.Verdict {
	p, c := q.p, &q.p.v.Counters[i]
	amount := amountOf(class, c.ID)
	v := selector.Verdict{Reason: c.Reason, Text: fmt.Sprintf("needs %d of %s: %d of %d are free now", amount, c.Name,
		max(p.counters[i], 0), c.Capacity)}
	if p.counters[i] >= bounded(amount) {
		v.Text += ", and promised to jobs ahead before it would end"
	}
	if v.Reason == wlm.ReasonNone {
		v.Reason = wlm.WaitResources
	}
	return v
}
