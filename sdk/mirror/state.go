package mirror

import (
	"errors"
	"iter"

	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// ErrLost means that the mirror missed something: a frame, or a piece of one.
// It stays as it is, and useless, until a snapshot arrives.
var ErrLost = errors.New("the mirror missed a change and needs a snapshot")

// Mirror holds the state behind a View. One goroutine applies frames and makes
// views; a view may be read by several. The zero value is empty and ready.
type Mirror struct {
	state
	lost  bool
	aside *Mirror // the snapshot that is arriving
	parts change  // the pieces of a change that is arriving
}

// state is what one rev consists of.
type state struct {
	rev        uint64
	digest     uint64 // sum of mix(id, rev) over all jobs
	nodes      []Node
	partitions []Partition
	counters   []Counter
	resvs      []Reservation
	classes    map[uint32]*Class
	runs       map[wlm.JobID]*Job
	index      index // of all jobs
	settings   map[string]string
	words      map[string]string // accounts and QOS, each kept once
	submit     *line             // ready pending jobs by submission
	priority   *line             // and by priority
	ended      []Ended           // by rev, the newest
}

// KeepEnded is how many ended jobs a mirror knows at least, if there were so many.
const KeepEnded = 4096

func (s *state) over(e Ended, rev uint64) {
	e.rev = rev
	if len(s.ended) >= 2*KeepEnded {
		s.ended = append([]Ended(nil), s.ended[len(s.ended)-KeepEnded:]...) // views may still read the old one
	}
	s.ended = append(s.ended, e)
}

func newState() state {
	return state{
		classes:  map[uint32]*Class{0: {}},
		runs:     map[wlm.JobID]*Job{},
		index:    index{},
		settings: map[string]string{},
		words:    map[string]string{},
		submit:   &line{key: submitKey},
		priority: &line{key: priorityKey},
	}
}

// Rev is the rev of the last complete snapshot or change.
func (m *Mirror) Rev() uint64 { return m.rev }

// Digest sums up which rev of which job the mirror has.
func (m *Mirror) Digest() uint64 { return m.digest }

// Lost reports whether the mirror needs a snapshot.
func (m *Mirror) Lost() bool { return m.lost }

// View returns the cluster at the mirror's rev, seen at now.
func (m *Mirror) View(now wlm.Time) View {
	if m.index == nil {
		m.state = newState()
	}
	return View{Rev: m.rev, Now: now, Nodes: m.nodes, Partitions: m.partitions, Counters: m.counters, Reservations: m.resvs, m: m}
}

func (s *state) job(id wlm.JobID) *Job { return s.index.get(id) }

// pending yields the jobs that do not run.
func (s *state) pending(yield func(*Job) bool) {
	for _, p := range s.index {
		for _, j := range p.jobs {
			if j != nil && !j.Running && !yield(j) {
				return
			}
		}
	}
}

func values(jobs map[wlm.JobID]*Job) iter.Seq[*Job] {
	return func(yield func(*Job) bool) {
		for _, j := range jobs {
			if !yield(j) {
				return
			}
		}
	}
}

// put replaces a job. The old value is left as it was: a line still sorts by it.
func (s *state) put(j *Job) {
	s.drop(j.ID)
	s.digest += mix(j.ID, j.rev)
	s.index.put(j)
	if j.Running {
		s.runs[j.ID] = j
		return
	}
	if j.Ready {
		s.submit.add(j)
		s.priority.add(j)
	}
}

func (s *state) drop(id wlm.JobID) {
	j := s.job(id)
	if j == nil {
		return
	}
	s.index.drop(id)
	s.digest -= mix(id, j.rev)
	switch {
	case j.Running:
		delete(s.runs, id)
	case j.Ready:
		j.gone = true
		s.submit.remove(j)
		s.priority.remove(j)
	}
}

// rank gives a pending job another priority, in place.
func (s *state) rank(id wlm.JobID, priority uint32, rev uint64) {
	j := s.job(id)
	if j == nil {
		return
	}
	s.digest += mix(id, rev) - mix(id, j.rev)
	j.rev, j.Ranked = rev, true
	if j.Priority == priority {
		return
	}
	if j.Ready && !j.Running {
		s.priority.rekey()
	}
	j.Priority = priority
}

// retier reads the partitions' tiers again after the partitions changed.
func (s *state) retier() {
	for j := range s.pending {
		if t := s.tier(j.Class); t != j.tier {
			s.priority.rekey()
			j.tier = t
		}
	}
}

func (s *state) tier(c *Class) uint32 {
	var tier uint32
	for _, p := range c.Partitions {
		if p < len(s.partitions) {
			tier = max(tier, s.partitions[p].Tier)
		}
	}
	return tier
}

// mix scatters (id, rev) over 64 bits, so that sums of it tell sets apart.
func mix(id wlm.JobID, rev uint64) uint64 {
	x := uint64(id)*0x9e3779b97f4a7c15 + rev
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}
