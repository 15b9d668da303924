package place

import (
	"context"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/selector"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

var _ selector.Advisor = (*Engine)(nil)

// Advise implements [selector.Advisor]: for each variant it walks the agenda
// anew, and then plans the variant behind it, as if it were a Reserve entry
// without a bound.
func (e *Engine) Advise(ctx context.Context, v mirror.View, question selector.Question) (selector.Advice, error) {
	var out selector.Advice
	for i, job := range question.Variants {
		if ctx.Err() != nil {
			break
		}
		p := e.open(ctx, v, expected(question.Agenda.Running))
		q := newRound(e, p, selector.Request{Agenda: question.Agenda})
		for k := range question.Agenda.Entries {
			if k%64 == 0 && ctx.Err() != nil || q.over {
				break
			}
			q.entry(&question.Agenda.Entries[k])
		}
		if i == 0 {
			out.Ahead = q.result
			out.Supplies = q.supplies(job)
		}
		q.result = selector.Result{}
		q.req.Agenda.Reservations = 0
		one := *job
		one.Tasks = 1
		q.try(&one, &sched.Entry{Job: job.ID, WhenBlocked: sched.Reserve})
		out.Answers = append(out.Answers, q.result)
		e.close(p)
	}
	return out, nil
}

// supplies sorts the nodes of each of a job's partitions.
func (q *round) supplies(j *mirror.Job) []selector.Supply {
	p := q.p
	p.link()
	sh := q.shape(j, &sched.Entry{Prefer: nil})
	out := make([]selector.Supply, 0, len(sh.tries))
	for i := range sh.tries {
		tr := &sh.tries[i]
		n := tr.need
		s := selector.Supply{Partition: int(n.part), Needs: n.describe}
		if n.never != 0 || q.barred(j, tr) || p.possible(tr) != possible {
			s.Reason, s.Text = q.hopeless(j, tr)
		}
		for _, i := range p.t.parts[n.part].Nodes {
			if int(i) >= len(p.t.nodes) {
				continue
			}
			switch slot := p.t.slot[i]; {
			case n.slots == nil || !n.slots.has(slot):
				s.Unfit = append(s.Unfit, i)
			case !p.usable.has(slot):
				s.Away = append(s.Away, i)
			case p.fitAt(tr, int32(i), p.now) > 0:
				s.Free = append(s.Free, i)
			case p.fitsFor(tr, i):
				s.Promised = append(s.Promised, i)
			default:
				s.Busy = append(s.Busy, i)
			}
		}
		out = append(out, s)
	}
	return out
}

// fitsFor reports whether a node could take some of a try's job now if the job
// were over at once, so that only what is promised is in its way.
func (p *pass) fitsFor(tr *try, i wlm.NodeIndex) bool {
	brief := *tr.shape
	brief.duration = 1
	short := *tr
	short.shape = &brief
	return p.fitAt(&short, int32(i), p.now) > 0
}
