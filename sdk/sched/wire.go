package sched

import (
	"context"
	"fmt"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/plugin/wirecall"
	"github.com/sluice-hpc/sluice/sdk/proto/sched/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

const methodPlan = "Plan"

// Handler answers the kind's calls with s.
func Handler(s Scheduler) wirecall.Handler {
	return wirecall.Handler{Kind: Kind, Contracts: Contracts, Serial: true,
		Serve: func(ctx context.Context, r wirecall.Request) ([]byte, error) {
			if r.Method != methodPlan {
				return nil, wirecall.UnknownMethod(Kind, r.Method)
			}
			return wirecall.Answer(ctx, r, new(schedv1.PlanRequest), func(ctx context.Context, in *schedv1.PlanRequest) (*schedv1.Agenda, error) {
				v, err := wirecall.View("sched.Plan", r.Mirror, in.GetRev(), in.GetNow())
				if err != nil {
					return nil, err
				}
				a, err := s.Plan(ctx, v)
				if err != nil {
					return nil, err
				}
				return AgendaToWire(&a), nil
			})
		}}
}

// Client is the host's side: a scheduler in another process, whose view is the
// mirror that the host feeds it.
type Client struct {
	caller  wirecall.Caller
	entries []Entry // of the agenda before, used again
}

// NewClient returns a client that reaches the plugin through c. It is used by one
// goroutine.
func NewClient(c wirecall.Caller) *Client { return &Client{caller: c} }

// Plan asks for the agenda of the cluster at rev, seen at now. errs.State means
// that the plugin's mirror is not at rev. The agenda holds until the next Plan.
func (c *Client) Plan(ctx context.Context, rev uint64, now wlm.Time) (Agenda, error) {
	out := new(schedv1.Agenda)
	err := wirecall.Ask(ctx, c.caller, Kind, methodPlan, &schedv1.PlanRequest{Rev: rev, Now: int64(now)}, out)
	if err != nil {
		return Agenda{}, err
	}
	a, err := AgendaInto(c.entries, out)
	c.entries = a.Entries
	return a, err
}

// AgendaToWire encodes an agenda in columns: about five bytes an entry.
func AgendaToWire(a *Agenda) *schedv1.Agenda {
	m := &schedv1.Agenda{Jobs: make([]uint32, len(a.Entries)), Reservations: uint32(max(a.Reservations, 0)),
		Wake: int64(a.Wake), ShortestFirst: a.ShortestFirst}
	for _, x := range a.Running {
		m.RunningJobs = append(m.RunningJobs, uint32(x.Job))
		m.RunningExpected = append(m.RunningExpected, x.Expected)
	}
	if len(a.Entries) == 0 {
		return m
	}
	same := true
	for i := range a.Entries {
		e := &a.Entries[i]
		m.Jobs[i] = uint32(e.Job)
		same = same && e.WhenBlocked == a.Entries[0].WhenBlocked
		if x := extraToWire(i, e); x != nil {
			m.Extras = append(m.Extras, x)
		}
	}
	m.DefaultBlocked = uint32(a.Entries[0].WhenBlocked)
	if !same {
		m.WhenBlocked = make([]byte, len(a.Entries))
		for i := range a.Entries {
			m.WhenBlocked[i] = byte(a.Entries[i].WhenBlocked)
		}
	}
	return m
}

func extraToWire(position int, e *Entry) *schedv1.Extra {
	if e.Expected == 0 && e.NotBefore == 0 && !e.MayPreempt && len(e.Prefer)+len(e.Avoid)+len(e.Placement) == 0 {
		return nil
	}
	x := &schedv1.Extra{Position: uint32(position), Expected: e.Expected, NotBefore: int64(e.NotBefore),
		Prefer: mirror.NodesToWire(e.Prefer), Avoid: mirror.NodesToWire(e.Avoid), MayPreempt: e.MayPreempt}
	for _, u := range e.Placement {
		x.Placement = append(x.Placement, &schedv1.Use{Node: uint32(u.Node), Cpus: u.CPUs, Mem: uint64(u.Mem), Whole: u.Whole})
	}
	return x
}

// AgendaOfWire undoes AgendaToWire. It refuses columns that contradict each
// other, with errs.Internal: they come from another process.
func AgendaOfWire(m *schedv1.Agenda) (Agenda, error) { return AgendaInto(nil, m) }

// AgendaInto is AgendaOfWire into entries that nobody needs any more: those of a
// large queue are ten megabytes, and fresh memory costs more than filling it.
func AgendaInto(entries []Entry, m *schedv1.Agenda) (Agenda, error) {
	const spare = 4 // times as much as is needed, at most
	if n := len(m.GetJobs()); n > 0 && n <= cap(entries) && cap(entries) <= spare*n {
		entries = entries[:n]
	} else {
		entries = make([]Entry, n)
	}
	a := Agenda{Entries: entries, Reservations: int(m.GetReservations()),
		Wake: wlm.Time(m.GetWake()), ShortestFirst: m.GetShortestFirst()}
	if len(m.GetRunningExpected()) != len(m.GetRunningJobs()) {
		return Agenda{}, bad("%d expectations for %d running jobs", len(m.GetRunningExpected()), len(m.GetRunningJobs()))
	}
	for i, id := range m.GetRunningJobs() {
		a.Running = append(a.Running, Expectation{wlm.JobID(id), m.GetRunningExpected()[i]})
	}
	if len(m.GetWhenBlocked()) > len(a.Entries) {
		return Agenda{}, bad("%d answers to \"when blocked\" for %d jobs", len(m.GetWhenBlocked()), len(a.Entries))
	}
	for i, id := range m.GetJobs() {
		when := m.GetDefaultBlocked()
		if i < len(m.GetWhenBlocked()) {
			when = uint32(m.GetWhenBlocked()[i])
		}
		if when > uint32(Reserve) {
			return Agenda{}, bad("entry %d, job %d: \"when blocked\" is %d, allowed are 0 to %d", i, id, when, Reserve)
		}
		a.Entries[i] = Entry{Job: wlm.JobID(id), WhenBlocked: WhenBlocked(when)}
	}
	for _, x := range m.GetExtras() {
		if int(x.GetPosition()) >= len(a.Entries) {
			return Agenda{}, bad("details for entry %d of %d", x.GetPosition(), len(a.Entries))
		}
		e := &a.Entries[x.GetPosition()]
		e.Expected, e.NotBefore, e.MayPreempt = x.GetExpected(), wlm.Time(x.GetNotBefore()), x.GetMayPreempt()
		e.Prefer, e.Avoid = mirror.NodesOfWire(x.GetPrefer()), mirror.NodesOfWire(x.GetAvoid())
		for _, u := range x.GetPlacement() {
			e.Placement = append(e.Placement, mirror.NodeUse{Node: wlm.NodeIndex(u.GetNode()), CPUs: u.GetCpus(),
				Mem: wlm.MiB(u.GetMem()), Whole: u.GetWhole()})
		}
	}
	return a, nil
}

func bad(format string, args ...any) error {
	return errs.Newf("sched.Plan", errs.Internal, "agenda: %s", fmt.Sprintf(format, args...))
}
