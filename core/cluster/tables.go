package cluster

import (
	"cmp"
	"fmt"
	"iter"
	"slices"

	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// StepKey names a step.
type StepKey struct {
	Job  wlm.JobID
	Step wlm.StepID
}

// Blob is content that jobs share: a script or an environment.
type Blob struct {
	Data []byte
	refs int
}

// Tables are the records of a cluster and what follows from them. Both the
// cluster and the readers' view are built on Tables; each has its own, fed by
// the same events, and they share the records.
type Tables struct {
	licensed   map[string]uint64 // licenses that running jobs use
	NextJob    wlm.JobID
	Epoch      uint64
	Nodes      []*wlm.Node // by index
	Partitions []*wlm.Partition
	// Reservations in the order of their creation; replaced as a whole.
	Reservations []*wlm.Reservation
	NextResv     uint32
	Usage        []Usage // by node index

	jobs     map[wlm.JobID]*wlm.Job
	steps    map[StepKey]*wlm.Step
	stepsOf  map[wlm.JobID][]wlm.StepID
	nodes    map[wlm.NodeName]wlm.NodeIndex
	blobs    map[string]*Blob
	arrays   map[wlm.JobID]*arrayIndex
	waiting  map[wlm.JobID]map[wlm.JobID]struct{} // job -> jobs that depend on it
	named    map[nameKey]map[wlm.JobID]struct{}   // jobs that are not over by user and name, for singleton
	singles  map[nameKey]map[wlm.JobID]struct{}   // jobs that wait for namesakes
	running  int
	asleep   map[wlm.JobID]struct{}       // jobs that are suspended to make room
	arrayRun map[wlm.JobID]uint32         // running tasks of an array
	derived  map[wlm.JobID]wlm.WaitStatus // highest status of a job's ended steps
	over     map[wlm.JobID][]idRange      // ended steps of the present run of a live job
}

// idRange is the steps from first to last.
type idRange struct{ first, last wlm.StepID }

type nameKey struct {
	user wlm.UID
	name string
}

// Usage is what jobs hold of one node.
type Usage struct {
	CPUs       wlm.CPUSet
	Mem        wlm.MiB
	Jobs       map[wlm.JobID]struct{} // nil when none
	Completing int                    // jobs among them that are ending
	LastBusy   wlm.Time               // when a job last took or left the node; 0: never
}

// NewTables returns empty tables.
func NewTables() *Tables {
	return &Tables{
		NextJob: 1, NextResv: 1, licensed: map[string]uint64{},
		jobs: map[wlm.JobID]*wlm.Job{}, steps: map[StepKey]*wlm.Step{}, stepsOf: map[wlm.JobID][]wlm.StepID{},
		nodes: map[wlm.NodeName]wlm.NodeIndex{}, blobs: map[string]*Blob{},
		arrays: map[wlm.JobID]*arrayIndex{}, waiting: map[wlm.JobID]map[wlm.JobID]struct{}{},
		named: map[nameKey]map[wlm.JobID]struct{}{}, singles: map[nameKey]map[wlm.JobID]struct{}{}, arrayRun: map[wlm.JobID]uint32{}, asleep: map[wlm.JobID]struct{}{},
		derived: map[wlm.JobID]wlm.WaitStatus{}, over: map[wlm.JobID][]idRange{},
	}
}

// Job returns a job's record, or nil. An array's id names the record of its
// pending tasks while there is one, later the task that took over the id.
func (t *Tables) Job(id wlm.JobID) *wlm.Job { return t.jobs[id] }

// JobCount is the number of job records.
func (t *Tables) JobCount() int { return len(t.jobs) }

// RunningCount is the number of jobs that hold resources and are not ending.
func (t *Tables) RunningCount() int { return t.running }

// AllJobs yields every job record in no order.
func (t *Tables) AllJobs(yield func(*wlm.Job) bool) {
	for _, j := range t.jobs {
		if !yield(j) {
			return
		}
	}
}

// Step returns a step's record, or nil.
func (t *Tables) Step(job wlm.JobID, id wlm.StepID) *wlm.Step { return t.steps[StepKey{job, id}] }

// Steps returns the steps of a job in the order in which they began.
func (t *Tables) Steps(job wlm.JobID) []*wlm.Step {
	var out []*wlm.Step
	for _, id := range t.stepsOf[job] {
		out = append(out, t.steps[StepKey{job, id}])
	}
	return out
}

// NodeIndex finds a node by name.
func (t *Tables) NodeIndex(name wlm.NodeName) (wlm.NodeIndex, bool) {
	i, ok := t.nodes[name]
	return i, ok
}

// Node returns a node's record, or nil.
func (t *Tables) Node(name wlm.NodeName) *wlm.Node {
	if i, ok := t.nodes[name]; ok {
		return t.Nodes[i]
	}
	return nil
}

// Partition returns a partition's record, or nil.
func (t *Tables) Partition(name string) *wlm.Partition {
	for _, p := range t.Partitions {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// Blob returns content by its key, or nil.
func (t *Tables) Blob(key []byte) []byte {
	if b := t.blobs[string(key)]; b != nil {
		return b.Data
	}
	return nil
}

// Put applies an event: it places the record and updates what follows from it.
// It completes e.Job with the former record's Spec where the journal left it out.
func (t *Tables) Put(e *Event) error {
	if err := t.complete(e); err != nil {
		return err
	}
	switch e.Kind {
	case eventv1.Kind_JOB_PURGED:
		for _, id := range e.IDs {
			t.dropJob(id)
		}
	case eventv1.Kind_JOB_RANKED:
		if len(e.Priorities) != len(e.IDs) {
			return fmt.Errorf("ranking of %d jobs has %d priorities", len(e.IDs), len(e.Priorities))
		}
		t.putRanks(e)
	case eventv1.Kind_BLOB_STORED:
		if t.blobs[string(e.Key)] == nil {
			t.blobs[string(e.Key)] = &Blob{Data: e.Data}
		}
	case eventv1.Kind_EPOCH:
		t.Epoch = e.Position
		t.forgetContact()
	case eventv1.Kind_STEP_ENDED:
		t.dropStep(e.Step)
	case eventv1.Kind_NODE_REMOVED:
		return t.removeNode(e.Node.Name)
	case eventv1.Kind_PARTITION_REMOVED:
		t.Partitions = slices.DeleteFunc(slices.Clone(t.Partitions), func(p *wlm.Partition) bool { return p.Name == e.Partition.Name })
	case eventv1.Kind_RESERVATION_REMOVED:
		t.removeReservation(e.Reservation.Name)
	case eventv1.Kind_RESERVATION_CHANGED:
		t.putReservation(e.Reservation)
	default:
		if e.Job != nil {
			return t.putJob(e)
		}
		if e.Step != nil {
			t.putStep(e.Step)
		}
		if e.Node != nil {
			t.putNode(e.Node)
		}
		if e.Partition != nil {
			t.putPartition(e.Partition)
		}
	}
	return nil
}

// putRanks gives jobs their priorities. The first tables to put the event make
// the records; the others share them.
func (t *Tables) putRanks(e *Event) {
	if e.ranked == nil {
		e.ranked = make([]*wlm.Job, len(e.IDs))
		for i, id := range e.IDs {
			if j := t.jobs[id]; j != nil {
				c := j.Clone()
				c.Priority, c.Ranked = e.Priorities[i], true
				e.ranked[i] = c
			}
		}
	}
	for i, id := range e.IDs {
		if e.ranked[i] != nil && t.jobs[id] != nil {
			t.jobs[id] = e.ranked[i]
		}
	}
}

func (t *Tables) putStep(s *wlm.Step) {
	k := StepKey{s.Job, s.ID}
	if t.steps[k] == nil {
		t.stepsOf[s.Job] = append(t.stepsOf[s.Job], s.ID)
	}
	t.steps[k] = s
}

// dropStep takes an ended step out; what remains of it is its job's highest status.
func (t *Tables) dropStep(s *wlm.Step) {
	delete(t.steps, StepKey{s.Job, s.ID})
	t.stepsOf[s.Job] = slices.DeleteFunc(t.stepsOf[s.Job], func(id wlm.StepID) bool { return id == s.ID })
	if len(t.stepsOf[s.Job]) == 0 {
		delete(t.stepsOf, s.Job)
	}
	if j := t.jobs[s.Job]; j != nil && (!j.State.Ended() || j.Flags&wlm.FlagCompleting != 0) {
		t.over[s.Job] = withID(t.over[s.Job], s.ID)
	}
	if s.ID < wlm.StepInteractive && worse(s.Status, t.derived[s.Job]) {
		t.derived[s.Job] = s.Status
	}
}

// withID adds a step to sorted ranges, in place where it can.
func withID(list []idRange, id wlm.StepID) []idRange {
	i, _ := slices.BinarySearchFunc(list, id, func(r idRange, id wlm.StepID) int { return cmp.Compare(r.last, id) })
	if i < len(list) && list[i].first <= id {
		return list // it is there
	}
	before := i > 0 && list[i-1].last+1 == id
	behind := i < len(list) && id+1 == list[i].first
	switch {
	case before && behind:
		list[i-1].last = list[i].last
		return slices.Delete(list, i, i+1)
	case before:
		list[i-1].last = id
	case behind:
		list[i].first = id
	default:
		return slices.Insert(list, i, idRange{id, id})
	}
	return list
}

// stepOver reports whether a step of a job's present run has ended.
func (t *Tables) stepOver(job wlm.JobID, id wlm.StepID) bool {
	list := t.over[job]
	i, _ := slices.BinarySearchFunc(list, id, func(r idRange, id wlm.StepID) int { return cmp.Compare(r.last, id) })
	return i < len(list) && list[i].first <= id
}

// worse orders statuses as DerivedExitCode does: the higher exit code, else the
// higher signal.
func worse(a, b wlm.WaitStatus) bool {
	if a.Code() != b.Code() {
		return a.Code() > b.Code()
	}
	return a.Signal() > b.Signal()
}

// forgetContact marks every node as not heard of, as a new controller must.
func (t *Tables) forgetContact() {
	for i, n := range t.Nodes {
		if n.State == wlm.NodeFuture {
			continue
		}
		c := n.Clone()
		c.Flags |= wlm.NodeNotResponding
		c.Registered = false
		t.Nodes[i] = c
	}
}

func (t *Tables) putNode(n *wlm.Node) {
	if i, ok := t.nodes[n.Name]; ok {
		if n.Index != i {
			c := n.Clone()
			c.Index, n = i, c
		}
		t.Nodes[i] = n
		return
	}
	if want := wlm.NodeIndex(len(t.Nodes)); n.Index != want {
		c := n.Clone()
		c.Index, n = want, c
	}
	t.nodes[n.Name] = n.Index
	t.Nodes = append(t.Nodes, n)
	t.Usage = append(t.Usage, Usage{CPUs: make(wlm.CPUSet, (n.CPUs+63)/64)})
}

// removeNode closes the gap, so indexes behind it change: whoever keeps indexes
// takes a fresh snapshot when a node goes.
func (t *Tables) removeNode(name wlm.NodeName) error {
	i, ok := t.nodes[name]
	if !ok {
		return nil
	}
	if len(t.Usage[i].Jobs) > 0 {
		return fmt.Errorf("node %s still has %d jobs", name, len(t.Usage[i].Jobs))
	}
	t.Nodes = slices.Delete(slices.Clone(t.Nodes), int(i), int(i)+1)
	t.Usage = slices.Delete(t.Usage, int(i), int(i)+1)
	delete(t.nodes, name)
	for k := int(i); k < len(t.Nodes); k++ {
		c := t.Nodes[k].Clone()
		c.Index = wlm.NodeIndex(k)
		t.Nodes[k] = c
		t.nodes[c.Name] = c.Index
	}
	return nil
}

func (t *Tables) putPartition(p *wlm.Partition) {
	parts := slices.Clone(t.Partitions)
	for i := range parts {
		if parts[i].Name == p.Name {
			parts[i] = p
			t.Partitions = parts
			return
		}
	}
	t.Partitions = append(parts, p)
}

func (t *Tables) putJob(e *Event) error {
	if t.putCleaned(e) {
		return nil
	}
	j, old := e.Job, t.jobs[e.Job.ID]
	if j.Spec == nil {
		switch {
		case old != nil:
			j.Spec = old.Spec
		case j.ArrayJob != 0 && t.jobs[j.ArrayJob] != nil:
			j.Spec = t.jobs[j.ArrayJob].Spec
		default:
			return fmt.Errorf("%s of job %s, which is not known here", e.Kind, j.ID)
		}
	}
	if e.Previous != nil && e.Previous.Spec == nil {
		if e.Previous.Spec = j.Spec; old != nil {
			e.Previous.Spec = old.Spec
		}
	}
	t.refer(j, +1) // before old lets go, so that what both name stays
	t.unlink(old)
	t.refer(old, -1)
	t.jobs[j.ID] = j
	t.link(j)
	t.busy(j, e.Time)
	if j.ID >= t.NextJob {
		t.NextJob = j.ID + 1
	}
	switch {
	case e.Kind == eventv1.Kind_JOB_REQUEUED:
		t.dropSteps(j.ID)
		delete(t.derived, j.ID)
		delete(t.over, j.ID)
	case j.Derived != 0 && !j.State.Ended():
		t.derived[j.ID] = j.Derived
	case j.State.Ended():
		delete(t.derived, j.ID)
	}
	if j.State.Ended() && j.Flags&wlm.FlagCompleting == 0 {
		delete(t.over, j.ID)
	}
	return nil
}

func (t *Tables) dropJob(id wlm.JobID) {
	t.unlink(t.jobs[id])
	t.refer(t.jobs[id], -1)
	delete(t.jobs, id)
	t.dropSteps(id)
	delete(t.derived, id)
	delete(t.over, id)
}

func (t *Tables) dropSteps(id wlm.JobID) {
	for _, s := range t.stepsOf[id] {
		delete(t.steps, StepKey{id, s})
	}
	delete(t.stepsOf, id)
}

// Holds reports whether the job holds its share of the alloc's i-th node.
func Holds(j *wlm.Job, i int) bool {
	if j.Alloc == nil {
		return false
	}
	if j.Flags&wlm.FlagCompleting != 0 {
		return slices.Contains(j.Cleaning, j.Alloc.Nodes[i].Node)
	}
	return j.State == wlm.Running || j.State == wlm.Suspended
}

// Held yields the nodes of j's allocation, by place, for which Holds is true. It
// takes one walk over both lists: nodes that still clean up are listed in the
// order of the allocation.
func Held(j *wlm.Job) iter.Seq[int] {
	return func(yield func(int) bool) {
		switch {
		case j.Alloc == nil:
		case j.Flags&wlm.FlagCompleting != 0:
			left := j.Cleaning
			for i := 0; i < len(j.Alloc.Nodes) && len(left) > 0; i++ {
				if j.Alloc.Nodes[i].Node != left[0] {
					continue
				}
				if left = left[1:]; !yield(i) {
					return
				}
			}
		case j.State == wlm.Running || j.State == wlm.Suspended:
			for i := range j.Alloc.Nodes {
				if !yield(i) {
					return
				}
			}
		}
	}
}

// holdsCPUs reports whether the job holds the CPUs of its nodes, and not only
// their memory and devices: one that is suspended, or was when its run ended, does
// not.
func holdsCPUs(j *wlm.Job) bool { return j.SuspendedAt == 0 }

// refer counts who names a script or an environment; the last one takes it
// away with it.
func (t *Tables) refer(j *wlm.Job, d int) {
	if j == nil {
		return
	}
	for _, key := range [2][]byte{j.Script, j.Env} {
		if b := t.blobs[string(key)]; b != nil {
			if b.refs += d; b.refs == 0 && d < 0 {
				delete(t.blobs, string(key))
			}
		}
	}
}

// link adds what follows from j's record; unlink takes it back.
func (t *Tables) link(j *wlm.Job)   { t.derive(j, +1) }
func (t *Tables) unlink(j *wlm.Job) { t.derive(j, -1) }

func (t *Tables) derive(j *wlm.Job, d int) {
	if j == nil {
		return
	}
	if j.ArrayJob != 0 {
		t.indexArray(j, d)
		if !j.IsArrayRecord() && (j.State == wlm.Running || j.State == wlm.Suspended || j.Flags&wlm.FlagCompleting != 0) {
			t.arrayRun[j.ArrayJob] += uint32(d)
			if t.arrayRun[j.ArrayJob] == 0 {
				delete(t.arrayRun, j.ArrayJob)
			}
		}
	}
	if !over(j) {
		index(t.named, nameKey{j.Spec.User, j.Spec.Name}, j.ID, d)
	}
	for _, dep := range j.Deps {
		switch {
		case dep.State != wlm.DepUnfulfilled:
		case dep.Kind == wlm.DepSingleton:
			index(t.singles, nameKey{j.Spec.User, j.Spec.Name}, j.ID, d)
		default:
			index(t.waiting, dep.Job, j.ID, d)
		}
	}
	if j.State == wlm.Running {
		t.running += d
	}
	if Asleep(j) {
		if d > 0 {
			t.asleep[j.ID] = struct{}{}
		} else {
			delete(t.asleep, j.ID)
		}
	}
	t.license(j, d)
	t.deriveUsage(j, d)
}

func (t *Tables) deriveUsage(j *wlm.Job, d int) {
	if j.Alloc == nil {
		return
	}
	for i := range Held(j) {
		a := &j.Alloc.Nodes[i]
		ni, ok := t.nodes[a.Node]
		if !ok {
			continue // a node that was removed from the configuration
		}
		u := &t.Usage[ni]
		cpus := a.CPUs
		if !holdsCPUs(j) {
			cpus = nil
		}
		if d > 0 {
			for w, bits := range cpus {
				for len(u.CPUs) <= w {
					u.CPUs = append(u.CPUs, 0)
				}
				u.CPUs[w] |= bits
			}
			u.Mem += a.Mem
			if u.Jobs == nil {
				u.Jobs = map[wlm.JobID]struct{}{}
			}
			u.Jobs[j.ID] = struct{}{}
		} else {
			t.leave(j, a, u)
		}
		if j.Flags&wlm.FlagCompleting != 0 {
			u.Completing += d
		}
	}
}

// busy remembers when a job last took or left its nodes.
func (t *Tables) busy(j *wlm.Job, now wlm.Time) {
	if j.Alloc == nil {
		return
	}
	for i := range j.Alloc.Nodes {
		if ni, ok := t.nodes[j.Alloc.Nodes[i].Node]; ok {
			t.Usage[ni].LastBusy = max(t.Usage[ni].LastBusy, now)
		}
	}
}

// keepShared puts back the CPUs that other jobs of the node have, too.
func (t *Tables) keepShared(u *Usage, node wlm.NodeName) {
	for id := range u.Jobs {
		j := t.jobs[id]
		if j == nil || j.Alloc == nil || !holdsCPUs(j) {
			continue
		}
		for i := range j.Alloc.Nodes {
			if j.Alloc.Nodes[i].Node == node {
				u.CPUs = u.CPUs.Or(j.Alloc.Nodes[i].CPUs)
			}
		}
	}
}

func index[K comparable](m map[K]map[wlm.JobID]struct{}, key K, id wlm.JobID, d int) {
	if d > 0 {
		if m[key] == nil {
			m[key] = map[wlm.JobID]struct{}{}
		}
		m[key][id] = struct{}{}
		return
	}
	delete(m[key], id)
	if len(m[key]) == 0 {
		delete(m, key)
	}
}

// Check verifies the tables' invariants from scratch; for tests and after replay.
func (t *Tables) Check() error {
	cpus := make([]wlm.CPUSet, len(t.Nodes))
	mem := make([]wlm.MiB, len(t.Nodes))
	for _, j := range t.jobs {
		if j.Alloc == nil {
			continue
		}
		for i := range j.Alloc.Nodes {
			a := &j.Alloc.Nodes[i]
			ni, ok := t.nodes[a.Node]
			if !ok || !Holds(j, i) {
				continue
			}
			mem[ni] += a.Mem
			if !holdsCPUs(j) {
				continue
			}
			if cpus[ni].Overlaps(a.CPUs) && layers(t.Partition(j.Partition), j.Spec) < 2 {
				return fmt.Errorf("job %s shares CPUs of %s with another job", j.ID, a.Node)
			}
			cpus[ni] = cpus[ni].Or(a.CPUs)
		}
	}
	for i, n := range t.Nodes {
		if got, want := t.Usage[i].CPUs.Count(), cpus[i].Count(); got != want {
			return fmt.Errorf("node %s: %d CPUs in use by the ledger, %d by the jobs", n.Name, got, want)
		}
		if t.Usage[i].Mem != mem[i] {
			return fmt.Errorf("node %s: %d MiB in use by the ledger, %d by the jobs", n.Name, t.Usage[i].Mem, mem[i])
		}
	}
	return nil
}
