package sim

import (
	"bufio"
	"container/heap"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Faults are nodes that fail and come back: listed, or drawn at random, each
// node on its own, with exponential times between failures and to repair. The
// same seed draws the same faults, whatever the policy.
type Faults struct {
	List []Fault
	MTBF time.Duration // of one node, mean; 0: none are drawn
	MTTR time.Duration // mean
	Seed uint64
	// Keep says that a job which loses a node ends with NODE_FAIL; otherwise it
	// is requeued and starts anew from nothing.
	Keep bool
}

// Fault is a node that is away from At, counted from the workload's start, for
// Down seconds.
type Fault struct {
	Node     wlm.NodeName
	At, Down wlm.Time
}

// ReadFaults reads lines of SECONDS NODES SECONDS_AWAY; # begins a comment.
// Nodes may be a list such as n[1-4]. Errors name the line.
func ReadFaults(r io.Reader) ([]Fault, error) {
	const op = "sim.ReadFaults"
	var out []Fault
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		f := strings.Fields(text)
		if len(f) == 0 {
			continue
		}
		if len(f) != 3 {
			return nil, errs.Newf(op, errs.Invalid, "line %d: %d fields, wanted are SECONDS NODES SECONDS_AWAY", n, len(f))
		}
		at, err1 := strconv.ParseUint(f[0], 10, 40)
		down, err2 := strconv.ParseUint(f[2], 10, 40)
		names, err3 := hostlist.Expand(f[1])
		if err1 != nil || err2 != nil || err3 != nil || down == 0 {
			return nil, errs.Newf(op, errs.Invalid, "line %d: %q is not SECONDS NODES SECONDS_AWAY", n, strings.TrimSpace(text))
		}
		for _, name := range names {
			out = append(out, Fault{wlm.NodeName(name), wlm.Time(at), wlm.Time(down)})
		}
	}
	if err := lines.Err(); err != nil {
		return nil, errs.Newf(op, errs.Invalid, "%w", err)
	}
	return out, nil
}

// outage is a moment at which a node fails or comes back.
type outage struct {
	end           // at, and the node's index in place of a job
	back bool     // it comes back
	down wlm.Time // of a failure: for how long
	draw bool     // drawn: the node's next failure follows its repair
}

type outages []outage

func (o outages) Len() int { return len(o) }

// Less breaks ties by node, and lets repairs come first.
func (o outages) Less(i, j int) bool {
	a, b := o[i], o[j]
	switch {
	case a.at != b.at:
		return a.at < b.at
	case a.job != b.job:
		return a.job < b.job
	}
	return a.back && !b.back
}
func (o outages) Swap(i, j int) { o[i], o[j] = o[j], o[i] }
func (o *outages) Push(x any)   { *o = append(*o, x.(outage)) }
func (o *outages) Pop() any {
	old := *o
	x := old[len(old)-1]
	*o = old[:len(old)-1]
	return x
}

// plague is the faults of a run under way.
type plague struct {
	Faults
	queue outages
	draws []*rand.Rand // by node
	away  map[wlm.NodeIndex]bool
}

func newPlague(f *Faults, c *cluster.Cluster, begin wlm.Time) (*plague, error) {
	if f == nil {
		return nil, nil
	}
	p := &plague{Faults: *f, away: map[wlm.NodeIndex]bool{}}
	for _, x := range f.List {
		i, known := c.NodeIndex(x.Node)
		if !known {
			return nil, errs.Newf("sim.Run", errs.Invalid, "faults: node %s is not one of the machine's", x.Node)
		}
		p.queue = append(p.queue, outage{end: end{begin + x.At, wlm.JobID(i)}, down: x.Down})
	}
	if f.MTBF > 0 {
		for i := range c.Nodes {
			p.draws = append(p.draws, rand.New(rand.NewPCG(f.Seed, uint64(i))))
			p.fail(i, begin)
		}
	}
	heap.Init(&p.queue)
	return p, nil
}

// fail draws a node's next failure after at.
func (p *plague) fail(node int, at wlm.Time) {
	d := func(mean time.Duration) wlm.Time { return 1 + wlm.Time(p.draws[node].ExpFloat64()*mean.Seconds()) }
	after, down := d(p.MTBF), d(p.MTTR)
	p.queue = append(p.queue, outage{end: end{at + after, wlm.JobID(node)}, down: down, draw: true})
}

// next is the moment of the next failure or repair.
func (p *plague) next() (wlm.Time, bool) {
	if p == nil || len(p.queue) == 0 {
		return 0, false
	}
	return p.queue[0].at, true
}

// strike lets nodes fail and come back whose moment has come.
func (s *sim) strike(ctx context.Context) error {
	p := s.faults
	for p != nil && len(p.queue) > 0 && p.queue[0].at <= s.now {
		o := heap.Pop(&p.queue).(outage)
		i := wlm.NodeIndex(o.job)
		name := s.c.Nodes[i].Name
		switch {
		case o.back:
			delete(p.away, i)
			if err := s.repair(ctx, name); err != nil {
				return err
			}
			if o.draw {
				p.fail(int(i), s.now)
				heap.Fix(&p.queue, len(p.queue)-1)
			}
		case p.away[i]: // a listed fault of a node that is away
		default:
			p.away[i] = true
			s.result.NodeFailures++
			if _, err := s.Do(ctx, &cluster.Silent{Node: name}); err != nil {
				return err
			}
			s.clean(ctx)
			heap.Push(&p.queue, outage{end: end{s.now + o.down, o.job}, back: true, draw: o.draw})
		}
	}
	return nil
}

// repair lets a node register anew; where the rules leave it down, an
// administrator resumes it at once.
func (s *sim) repair(ctx context.Context, name wlm.NodeName) error {
	n := s.c.Node(name)
	m := &nodev1.Register{Cpus: n.CPUs, RealMemory: uint64(n.RealMemory), BootTime: int64(s.now), DaemonStart: int64(s.now), Version: "sim"}
	if _, err := s.Do(ctx, &cluster.Register{Node: name, Msg: m}); err != nil {
		return err
	}
	if s.c.Node(name).Available() {
		return nil
	}
	_, err := s.Do(ctx, &cluster.UpdateNode{Nodes: string(name), Set: map[string]string{"state": "RESUME"}, Caller: cluster.Caller{Admin: true}})
	return err
}

// requeued enters that a job lost a node and waits again.
func (s *sim) requeued(i int, was, j *wlm.Job) error {
	r := &s.result.Jobs[i]
	s.result.Requeues++
	r.Requeues++
	r.Lost += int64(s.now-was.Start) * int64(r.Procs)
	r.started = false
	if len(j.Cleaning) > 0 {
		s.gone = append(s.gone, leaving{j.ID, was.Restarts, slices.Clone(j.Cleaning)})
	}
	return s.book.release(j.ID)
}

// String is how --faults would be given again.
func (f *Faults) String() string {
	if f.MTBF > 0 {
		return fmt.Sprintf("mtbf=%s,mttr=%s", f.MTBF, f.MTTR)
	}
	return fmt.Sprintf("%d listed", len(f.List))
}
