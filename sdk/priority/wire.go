package priority

import (
	"context"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/plugin/wirecall"
	"github.com/sluice-hpc/sluice/sdk/proto/priority/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

const methodRank = "Rank"

// Handler answers the kind's calls with p.
func Handler(p Prioritizer) wirecall.Handler {
	return wirecall.Handler{Kind: Kind, Contracts: Contracts, Serial: true,
		Serve: func(ctx context.Context, r wirecall.Request) ([]byte, error) {
			if r.Method != methodRank {
				return nil, wirecall.UnknownMethod(Kind, r.Method)
			}
			return wirecall.Answer(ctx, r, new(priorityv1.RankRequest), func(ctx context.Context, in *priorityv1.RankRequest) (*priorityv1.RankReply, error) {
				v, err := wirecall.View("priority.Rank", r.Mirror, in.GetRev(), in.GetNow())
				if err != nil {
					return nil, err
				}
				rank, err := p.Rank(ctx, v, Request{All: in.GetAll(), Jobs: ids[wlm.JobID](in.GetJobs()), Highest: in.GetHighest(), Lowest: in.GetLowest()})
				if err != nil {
					return nil, err
				}
				return rankingToWire(&rank)
			})
		}}
}

// Client is the host's side: a prioritizer in another process, whose view is
// the mirror that the host feeds it.
type Client struct{ caller wirecall.Caller }

// NewClient returns a client that reaches the plugin through c.
func NewClient(c wirecall.Caller) *Client { return &Client{c} }

// Rank asks for priorities, on the cluster at rev, seen at now. errs.State
// means that the plugin's mirror is not at rev.
func (c *Client) Rank(ctx context.Context, rev uint64, now wlm.Time, r Request) (Ranking, error) {
	out := new(priorityv1.RankReply)
	err := wirecall.Ask(ctx, c.caller, Kind, methodRank, &priorityv1.RankRequest{Rev: rev, Now: int64(now), All: r.All,
		Jobs: ids[uint32](r.Jobs), Highest: r.Highest, Lowest: r.Lowest}, out)
	if err != nil {
		return Ranking{}, err
	}
	return rankingOfWire(out)
}

func ids[B, A ~uint32](list []A) []B {
	if len(list) == 0 {
		return nil
	}
	out := make([]B, len(list))
	for i, x := range list {
		out[i] = B(x)
	}
	return out
}

func rankingToWire(r *Ranking) (*priorityv1.RankReply, error) {
	if len(r.Priorities) != len(r.Jobs) || len(r.Factors) != 0 && len(r.Factors) != len(r.Jobs) {
		return nil, errs.Newf("priority.Rank", errs.Internal, "%d jobs with %d priorities and %d rows of factors",
			len(r.Jobs), len(r.Priorities), len(r.Factors))
	}
	m := &priorityv1.RankReply{Jobs: ids[uint32](r.Jobs), Priorities: r.Priorities, Names: r.Names}
	if len(r.Factors) > 0 {
		m.Factors = make([]float64, 0, len(r.Factors)*len(r.Names))
	}
	for i, row := range r.Factors {
		if len(row) != len(r.Names) {
			return nil, errs.Newf("priority.Rank", errs.Internal, "job %v has %d factors, %d are named", r.Jobs[i], len(row), len(r.Names))
		}
		m.Factors = append(m.Factors, row...)
	}
	return m, nil
}

func rankingOfWire(m *priorityv1.RankReply) (Ranking, error) {
	n, names := len(m.GetJobs()), len(m.GetNames())
	if len(m.GetPriorities()) != n || len(m.GetFactors()) != 0 && len(m.GetFactors()) != n*names {
		return Ranking{}, errs.Newf("priority.Rank", errs.Internal, "%d jobs with %d priorities and %d factors of %d names",
			n, len(m.GetPriorities()), len(m.GetFactors()), names)
	}
	r := Ranking{Jobs: ids[wlm.JobID](m.GetJobs()), Priorities: m.GetPriorities(), Names: m.GetNames()}
	if f := m.GetFactors(); len(f) > 0 {
		r.Factors = make([][]float64, n)
		for i := range r.Factors {
			r.Factors[i] = f[i*names : (i+1)*names : (i+1)*names]
		}
	}
	return r, nil
}
