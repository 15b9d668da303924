package mirror

import (
	"cmp"
	"iter"
	"slices"

	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Mirror holds the state behind a View. One goroutine applies frames and makes
// views; the zero value is empty and ready.
type Mirror struct {
	rev        uint64
	nodes      []Node
	partitions []Partition
	counters   []Counter
	classes    map[uint32]*Class
	jobs       map[wlm.JobID]*Job
	settings   map[string]string
}

type order func(a, b *Job) int

func bySubmit(a, b *Job) int { return cmp.Or(cmp.Compare(a.Submit, b.Submit), cmp.Compare(a.ID, b.ID)) }

func byPriority(a, b *Job) int {
	return cmp.Or(cmp.Compare(b.Priority, a.Priority), bySubmit(a, b))
}

// View returns the cluster at the mirror's rev, seen at now.
func (m *Mirror) View(now wlm.Time) View {
	return View{Rev: m.rev, Now: now, Nodes: m.nodes, Partitions: m.partitions, Counters: m.counters, m: m}
}

func (m *Mirror) running() iter.Seq[*Job] {
	return func(yield func(*Job) bool) {
		for _, j := range m.jobs {
			if j.Running && !yield(j) {
				return
			}
		}
	}
}

func (m *Mirror) allPending() iter.Seq[*Job] {
	return func(yield func(*Job) bool) {
		for _, j := range m.jobs {
			if !j.Running && !yield(j) {
				return
			}
		}
	}
}

func (m *Mirror) pending(by order) iter.Seq[*Job] {
	var ready []*Job
	for _, j := range m.jobs {
		if !j.Running && j.Ready {
			ready = append(ready, j)
		}
	}
	slices.SortFunc(ready, by)
	return slices.Values(ready)
}
