package sim

import (
	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// book is the simulator's own account of who holds what, kept from the events
// alone and apart from the core's. Whatever contradicts it is a violation.
type book struct {
	t       *cluster.Tables // for the nodes' sizes only
	memory  bool            // memory is a consumable resource
	held    []wlm.CPUSet    // by node index
	mem     []wlm.MiB
	running map[wlm.JobID]*wlm.Job
}

func newBook(c *cluster.Cluster) *book {
	return &book{t: &c.Tables, memory: c.Settings().TrackMemory, held: make([]wlm.CPUSet, len(c.Nodes)),
		mem: make([]wlm.MiB, len(c.Nodes)), running: map[wlm.JobID]*wlm.Job{}}
}

func violation(format string, args ...any) error {
	return errs.Newf("sim.Run", errs.Internal, "invariant violated: "+format, args...)
}

// start enters a job that starts.
func (b *book) start(j *wlm.Job, procs uint32) error {
	switch {
	case b.running[j.ID] != nil:
		return violation("job %s starts twice", j.ID)
	case j.Alloc == nil || uint32(j.Alloc.CPUCount()) < procs:
		return violation("job %s asked for %d processors and got %d", j.ID, procs, j.Alloc.CPUCount())
	case j.Start < j.Submit:
		return violation("job %s starts %d s before it was submitted", j.ID, j.Submit-j.Start)
	}
	for i := range j.Alloc.Nodes {
		a := &j.Alloc.Nodes[i]
		n := b.t.Node(a.Node)
		switch {
		case n == nil || !n.Available():
			return violation("job %s starts on node %s, which is not available", j.ID, a.Node)
		case b.held[n.Index].Overlaps(a.CPUs):
			return violation("job %s starts on CPUs %s of node %s, of which %s are held", j.ID, a.CPUs, a.Node, b.held[n.Index])
		}
		b.held[n.Index] = b.held[n.Index].Or(a.CPUs)
		b.mem[n.Index] += a.Mem
		if b.memory && n.RealMemory > 0 && b.mem[n.Index] > n.RealMemory {
			return violation("node %s has %d MiB, %d are held when job %s starts", a.Node, n.RealMemory, b.mem[n.Index], j.ID)
		}
		for cpu := range a.CPUs.All {
			if cpu >= int(n.CPUs) {
				return violation("job %s starts on CPU %d of node %s, which has %d", j.ID, cpu, a.Node, n.CPUs)
			}
		}
	}
	b.running[j.ID] = j
	return nil
}

// end enters a job that holds nothing any more. It may run on for grace seconds
// after its limit.
func (b *book) end(j *wlm.Job, grace wlm.Time) error {
	was := b.running[j.ID]
	if was == nil {
		return violation("job %s ends and did not run", j.ID)
	}
	if was.End > 0 && j.End > was.End+grace {
		return violation("job %s ends %d s after its limit", j.ID, j.End-was.End)
	}
	return b.release(j.ID)
}

// release enters that a run is over, or was taken off its nodes.
func (b *book) release(id wlm.JobID) error {
	was := b.running[id]
	if was == nil {
		return violation("job %s is requeued and did not run", id)
	}
	for i := range was.Alloc.Nodes {
		a := &was.Alloc.Nodes[i]
		n := b.t.Node(a.Node)
		b.held[n.Index] = b.held[n.Index].AndNot(a.CPUs)
		b.mem[n.Index] -= a.Mem
	}
	delete(b.running, id)
	return nil
}
