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

const (
	methodPlace  = "Place"
	methodWhatIf = "WhatIf"
)

// Handler answers the kind's calls with s.
func Handler(s Selector) wirecall.Handler {
	var entries []sched.Entry // of the agenda before; calls are made one after the other
	return wirecall.Handler{Kind: Kind, Contracts: Contracts, Serial: true,
		Serve: func(ctx context.Context, r wirecall.Request) ([]byte, error) {
			switch r.Method {
			case methodPlace:
				return wirecall.Answer(ctx, r, new(selectorv1.PlaceRequest), func(ctx context.Context, in *selectorv1.PlaceRequest) (*selectorv1.PlaceReply, error) {
					return place(ctx, s, r.Mirror, in, &entries)
				})
			case methodWhatIf:
				return wirecall.Answer(ctx, r, new(selectorv1.WhatIfRequest), func(ctx context.Context, in *selectorv1.WhatIfRequest) (*selectorv1.PlaceReply, error) {
					v, err := wirecall.View("select.WhatIf", r.Mirror, in.GetRev(), in.GetNow())
					if err != nil {
						return nil, err
					}
					res, err := s.WhatIf(ctx, v, mirror.JobOfWire(in.GetJob(), mirror.ClassOfWire(in.GetClass())))
					if err != nil {
						return nil, err
					}
					return resultToWire(&res), nil
				})
			case methodAdvise:
				return serveAdvise(ctx, s, r)
			}
			return nil, wirecall.UnknownMethod(Kind, r.Method)
		}}
}

func place(ctx context.Context, s Selector, m *mirror.Mirror, in *selectorv1.PlaceRequest, entries *[]sched.Entry) (*selectorv1.PlaceReply, error) {
	v, err := wirecall.View("select.Place", m, in.GetRev(), in.GetNow())
	if err != nil {
		return nil, err
	}
	agenda, err := sched.AgendaInto(*entries, in.GetAgenda())
	if err != nil {
		return nil, err
	}
	*entries = agenda.Entries
	q := Request{Agenda: agenda, MaxStarts: int(in.GetMaxStarts())}
	for _, r := range in.GetRefused() {
		q.Refused = append(q.Refused, Refused{Job: wlm.JobID(r.GetJob()), Text: r.GetText()})
	}
	res, err := s.Place(ctx, v, q)
	if err != nil {
		return nil, err
	}
	return resultToWire(&res), nil
}

// Client is the host's side: a selector in another process, whose view is the
// mirror that the host feeds it.
type Client struct{ caller wirecall.Caller }

// NewClient returns a client that reaches the plugin through c.
func NewClient(c wirecall.Caller) *Client { return &Client{c} }

// Place asks where the agenda's jobs run, on the cluster at rev, seen at now.
// errs.State means that the plugin's mirror is not at rev.
func (c *Client) Place(ctx context.Context, rev uint64, now wlm.Time, r Request) (Result, error) {
	in := &selectorv1.PlaceRequest{Rev: rev, Now: int64(now), Agenda: sched.AgendaToWire(&r.Agenda), MaxStarts: uint32(max(r.MaxStarts, 0))}
	for _, x := range r.Refused {
		in.Refused = append(in.Refused, &selectorv1.Refused{Job: uint32(x.Job), Text: strings.ToValidUTF8(x.Text, "\uFFFD")})
	}
	out := new(selectorv1.PlaceReply)
	if err := wirecall.Ask(ctx, c.caller, Kind, methodPlace, in, out); err != nil {
		return Result{}, err
	}
	return resultOfWire(out), nil
}

// WhatIf asks the same about one job that is not in the mirror.
func (c *Client) WhatIf(ctx context.Context, rev uint64, now wlm.Time, job *mirror.Job) (Result, error) {
	if job == nil {
		return Result{}, errs.Newf("select.WhatIf", errs.Invalid, "no job given")
	}
	in := &selectorv1.WhatIfRequest{Rev: rev, Now: int64(now), Job: mirror.JobToWire(job), Class: mirror.ClassToWire(job.Class)}
	out := new(selectorv1.PlaceReply)
	if err := wirecall.Ask(ctx, c.caller, Kind, methodWhatIf, in, out); err != nil {
		return Result{}, err
	}
	return resultOfWire(out), nil
}

// words turns a list of numbers of one kind into one of another.
func words[B, A ~uint32](list []A) []B {
	if len(list) == 0 {
		return nil
	}
	out := make([]B, len(list))
	for i, x := range list {
		out[i] = B(x)
	}
	return out
}

func resultToWire(r *Result) *selectorv1.PlaceReply {
	m := &selectorv1.PlaceReply{}
	for i := range r.Placements {
		p := &r.Placements[i]
		m.Placements = append(m.Placements, &selectorv1.Placement{Job: uint32(p.Job), Partition: uint32(p.Partition),
			Uses: mirror.UsesToWire(p.Uses), Backfilled: p.Backfilled, Victims: words[uint32](p.Victims), Limit: p.Limit,
			Reservation: p.Reservation})
	}
	for i := range r.Verdicts {
		v := &r.Verdicts[i]
		jobs := make([]uint32, len(v.Jobs))
		for i, id := range v.Jobs {
			jobs[i] = uint32(id)
		}
		m.Verdicts = append(m.Verdicts, &selectorv1.Verdict{Reason: uint32(v.Reason), Text: strings.ToValidUTF8(v.Text, "\uFFFD"),
			Start: int64(v.Start), Nodes: mirror.NodesToWire(v.Nodes), Jobs: jobs})
	}
	return m
}

func resultOfWire(m *selectorv1.PlaceReply) Result {
	var r Result
	for _, p := range m.GetPlacements() {
		r.Placements = append(r.Placements, Placement{Job: wlm.JobID(p.GetJob()), Partition: int(p.GetPartition()),
			Uses: mirror.UsesOfWire(p.GetUses()), Backfilled: p.GetBackfilled(), Victims: words[wlm.JobID](p.GetVictims()), Limit: p.GetLimit(),
			Reservation: p.GetReservation()})
	}
	for _, v := range m.GetVerdicts() {
		jobs := make([]wlm.JobID, len(v.GetJobs()))
		for i, id := range v.GetJobs() {
			jobs[i] = wlm.JobID(id)
		}
		r.Verdicts = append(r.Verdicts, Verdict{Reason: wlm.Reason(v.GetReason()), Text: v.GetText(), Start: wlm.Time(v.GetStart()),
			Nodes: mirror.NodesOfWire(v.GetNodes()), Jobs: jobs})
	}
	return r
}
