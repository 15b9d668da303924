package cluster

import (
	"fmt"
	"slices"
	"sort"

	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// A job on n nodes ends with n reports that a node is clean. Each is a
// JOB_CLEANED that names the job and the nodes that leave it, and nothing else:
// with the whole record in each, ending a job would take space in the journal
// and work in every table that grow with the square of its nodes. Journals of
// before have the record; it is still taken as it is.

// clean emits that nodes left a job that goes on cleaning up. A node that left
// before changes nothing.
func (c *Cluster) clean(n *wlm.Job, now wlm.Time, nodes []wlm.NodeName) {
	if len(nodes) == 0 {
		return
	}
	c.emit(&Event{Kind: eventv1.Kind_JOB_CLEANED, Time: now, Job: n, left: nodes})
}

// lean reports whether the journal has only names of e's job and nodes.
func (e *Event) lean() bool { return e.Kind == eventv1.Kind_JOB_CLEANED && len(e.left) > 0 }

// complete makes the record of an event that names only a job and the nodes
// that left it.
func (t *Tables) complete(e *Event) error {
	if e.Kind != eventv1.Kind_JOB_CLEANED || e.Job != nil || len(e.IDs) != 1 {
		return nil
	}
	old := t.jobs[e.IDs[0]]
	if old == nil {
		return fmt.Errorf("%s of job %s, which is not known here", e.Kind, e.IDs[0])
	}
	names, err := hostlist.Expand(e.Text)
	if err != nil || len(names) == 0 {
		return fmt.Errorf("%s of job %s names no node: %q", e.Kind, old.ID, e.Text)
	}
	for _, name := range names {
		e.left = append(e.left, wlm.NodeName(name))
	}
	n := old.Clone()
	n.Cleaning = t.without(old.Cleaning, e.left)
	e.Job, e.IDs, e.Text = n, nil, ""
	return nil
}

// putCleaned places the record of a job that some nodes left, and reports
// whether it could: the work is that of those nodes, not of the allocation.
func (t *Tables) putCleaned(e *Event) bool {
	j, old := e.Job, t.jobs[e.Job.ID]
	if !e.lean() || old == nil || old.Alloc == nil || j.Alloc != old.Alloc || j.State != old.State ||
		j.Flags != old.Flags || old.Flags&wlm.FlagCompleting == 0 || len(old.Cleaning)-len(j.Cleaning) != len(e.left) {
		return false
	}
	if j.Spec == nil {
		j.Spec = old.Spec
	}
	t.jobs[j.ID] = j
	nodes := j.Alloc.Nodes
	for _, name := range e.left {
		i := t.place(len(nodes), func(i int) wlm.NodeName { return nodes[i].Node }, name)
		if ni, ok := t.nodes[name]; ok && i >= 0 {
			t.leave(j, &nodes[i], &t.Usage[ni])
			t.Usage[ni].Completing--
			t.Usage[ni].LastBusy = max(t.Usage[ni].LastBusy, e.Time)
		}
	}
	return true
}

// leave takes a job off one node.
func (t *Tables) leave(j *wlm.Job, a *wlm.NodeAlloc, u *Usage) {
	delete(u.Jobs, j.ID)
	cpus := a.CPUs
	if !holdsCPUs(j) {
		cpus = nil
	}
	for w, bits := range cpus {
		u.CPUs[w] &^= bits
	}
	if len(cpus) > 0 && layers(t.Partition(j.Partition), j.Spec) > 1 {
		t.keepShared(u, a.Node)
	}
	u.Mem -= a.Mem
}

// place finds a node in a list of n names that is in node-table order, as
// allocations are: by halves, and one by one where the table has changed since.
// It returns -1 when the list does not have it.
func (t *Tables) place(n int, at func(int) wlm.NodeName, name wlm.NodeName) int {
	if want, known := t.nodes[name]; known {
		i := sort.Search(n, func(i int) bool { return t.nodes[at(i)] >= want })
		if i < n && at(i) == name {
			return i
		}
	}
	for i := range n {
		if at(i) == name {
			return i
		}
	}
	return -1
}

// without is a list of nodes without those that are gone.
func (t *Tables) without(list, gone []wlm.NodeName) []wlm.NodeName {
	out := list
	for _, name := range gone {
		i := t.place(len(out), func(i int) wlm.NodeName { return out[i] }, name)
		switch {
		case i < 0:
			continue
		case i == 0: // records do not change, so their lists may be shared
			out = out[1:]
		case i == len(out)-1:
			out = out[:i:i]
		default:
			out = slices.Concat(out[:i], out[i+1:])
		}
	}
	return out
}

// among are those of the clean nodes that a list has.
func (t *Tables) among(list, clean []wlm.NodeName) (out []wlm.NodeName) {
	for _, name := range clean {
		if t.place(len(list), func(i int) wlm.NodeName { return list[i] }, name) >= 0 && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}
