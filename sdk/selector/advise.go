package selector

import (
	"context"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/plugin/wirecall"
	"github.com/sluice-hpc/sluice/sdk/proto/selector/v1"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

const methodAdvise = "Advise"

// Question asks when each variant of a job would start, each by itself, behind
// the entries of an agenda.
type Question struct {
	Agenda   sched.Agenda
	Variants []*mirror.Job // each with a class; their ids may be those of jobs in the view
}

// Supply sorts the nodes of a partition by what keeps a job from them.
type Supply struct {
	Partition int    // index
	Needs     string // what the job needs there, in words
	Unfit     []wlm.NodeIndex
	Away      []wlm.NodeIndex // would do, but are not usable now
	Busy      []wlm.NodeIndex // have too little free now
	Promised  []wlm.NodeIndex // have enough free now, but jobs ahead will need it too soon
	Free      []wlm.NodeIndex
	Reason    wlm.Reason // when the partition can never serve, or not now
	Text      string
}

// Advice answers a [Question].
type Advice struct {
	Answers  []Result // one to a variant: a placement now, or a verdict with a forecast
	Supplies []Supply // of the first variant, by partition
	Ahead    Result   // what became of the agenda's entries
}

// An Advisor is a selector that can tell what would let a job start sooner. One
// that is not answers [Selector.WhatIf] only, and explanations say less.
type Advisor interface {
	// Advise starts nothing and remembers nothing. When ctx ends it returns
	// what it has.
	Advise(ctx context.Context, v mirror.View, q Question) (Advice, error)
}

// serveAdvise answers the call with s, if it can.
func serveAdvise(ctx context.Context, s Selector, r wirecall.Request) ([]byte, error) {
	a, ok := s.(Advisor)
	if !ok {
		return nil, wirecall.UnknownMethod(Kind, r.Method)
	}
	return wirecall.Answer(ctx, r, new(selectorv1.AdviseRequest), func(ctx context.Context, in *selectorv1.AdviseRequest) (*selectorv1.AdviseReply, error) {
		v, err := wirecall.View("select.Advise", r.Mirror, in.GetRev(), in.GetNow())
		if err != nil {
			return nil, err
		}
		agenda, err := sched.AgendaOfWire(in.GetAgenda())
		if err != nil {
			return nil, err
		}
		q := Question{Agenda: agenda}
		for _, x := range in.GetVariants() {
			if x.GetJob() == nil || x.GetClass() == nil {
				return nil, errs.Newf("select.Advise", errs.Invalid, "a variant without job or class")
			}
			q.Variants = append(q.Variants, mirror.JobOfWire(x.GetJob(), mirror.ClassOfWire(x.GetClass())))
		}
		out, err := a.Advise(ctx, v, q)
		if err != nil {
			return nil, err
		}
		return adviceToWire(&out), nil
	})
}

// Advise asks when each variant of a job would start. errs.Unsupport means that
// the plugin is no [Advisor].
func (c *Client) Advise(ctx context.Context, rev uint64, now wlm.Time, q Question) (Advice, error) {
	in := &selectorv1.AdviseRequest{Rev: rev, Now: int64(now), Agenda: sched.AgendaToWire(&q.Agenda)}
	for _, j := range q.Variants {
		in.Variants = append(in.Variants, &selectorv1.Variant{Job: mirror.JobToWire(j), Class: mirror.ClassToWire(j.Class)})
	}
	out := new(selectorv1.AdviseReply)
	if err := wirecall.Ask(ctx, c.caller, Kind, methodAdvise, in, out); err != nil {
		return Advice{}, err
	}
	return adviceOfWire(out), nil
}

func adviceToWire(a *Advice) *selectorv1.AdviseReply {
	m := &selectorv1.AdviseReply{Ahead: resultToWire(&a.Ahead)}
	for i := range a.Answers {
		m.Answers = append(m.Answers, resultToWire(&a.Answers[i]))
	}
	for i := range a.Supplies {
		s := &a.Supplies[i]
		m.Supplies = append(m.Supplies, &selectorv1.Supply{Partition: uint32(s.Partition), Needs: strings.ToValidUTF8(s.Needs, "\uFFFD"),
			Unfit: mirror.NodesToWire(s.Unfit), Away: mirror.NodesToWire(s.Away), Busy: mirror.NodesToWire(s.Busy),
			Promised: mirror.NodesToWire(s.Promised), Free: mirror.NodesToWire(s.Free),
			Reason: uint32(s.Reason), Text: strings.ToValidUTF8(s.Text, "\uFFFD")})
	}
	return m
}

func adviceOfWire(m *selectorv1.AdviseReply) Advice {
	var a Advice
	if m.GetAhead() != nil {
		a.Ahead = resultOfWire(m.GetAhead())
	}
	for _, r := range m.GetAnswers() {
		a.Answers = append(a.Answers, resultOfWire(r))
	}
	for _, s := range m.GetSupplies() {
		a.Supplies = append(a.Supplies, Supply{Partition: int(s.GetPartition()), Needs: s.GetNeeds(),
			Unfit: mirror.NodesOfWire(s.GetUnfit()), Away: mirror.NodesOfWire(s.GetAway()), Busy: mirror.NodesOfWire(s.GetBusy()),
			Promised: mirror.NodesOfWire(s.GetPromised()), Free: mirror.NodesOfWire(s.GetFree()),
			Reason: wlm.Reason(s.GetReason()), Text: s.GetText()})
	}
	return a
}
