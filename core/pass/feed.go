package pass

import (
	"cmp"
	"slices"
	"strings"

	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// feed turns the cluster's events into what mirrors are fed. It has tables of
// its own and is for one goroutine.
type feed struct {
	tables  *cluster.Tables
	encoder *mirror.Encoder
	classes map[cluster.Class]*mirror.Class
	known   map[wlm.JobID]bool // jobs that the mirrors have
	pending map[wlm.JobID]struct{}
	arrays  map[wlm.JobID]struct{} // records of pending tasks, which a %limit may hold

	jobs       map[wlm.JobID]struct{} // changed since the last frames
	nodes      map[wlm.NodeName]struct{}
	ranks      map[wlm.JobID]struct{}
	parts      bool
	resvs      bool              // reservations changed
	magnetic   bool              // some of them draw jobs
	licenses   []cluster.License // by counter
	settings   map[string]string // changed ones
	preemption cluster.Preemption
	all        map[string]string
	ended      []mirror.Ended         // since the last frames
	recent     []mirror.Ended         // what a snapshot tells of ended jobs
	reset      bool                   // node indexes changed: mirrors start over
	unranked   map[wlm.JobID]struct{} // pending jobs that wait for a priority
}

func newFeed() *feed {
	return &feed{tables: cluster.NewTables(), encoder: mirror.NewEncoder(), classes: map[cluster.Class]*mirror.Class{},
		known: map[wlm.JobID]bool{}, arrays: map[wlm.JobID]struct{}{}, pending: map[wlm.JobID]struct{}{}, jobs: map[wlm.JobID]struct{}{}, nodes: map[wlm.NodeName]struct{}{},
		ranks: map[wlm.JobID]struct{}{}, unranked: map[wlm.JobID]struct{}{}, all: map[string]string{}}
}

// seed puts what a restored cluster has.
func (f *feed) seed(t *cluster.Tables) {
	for _, n := range t.Nodes {
		f.put(&cluster.Event{Kind: eventv1.Kind_NODE_CHANGED, Node: n})
	}
	for _, p := range t.Partitions {
		f.put(&cluster.Event{Kind: eventv1.Kind_PARTITION_CHANGED, Partition: p})
	}
	for _, r := range t.Reservations {
		f.put(&cluster.Event{Kind: eventv1.Kind_RESERVATION_CHANGED, Reservation: r})
	}
	var jobs []*wlm.Job
	for j := range t.AllJobs {
		jobs = append(jobs, j)
	}
	slices.SortFunc(jobs, func(a, b *wlm.Job) int { return int(a.ID) - int(b.ID) })
	for _, j := range jobs {
		f.put(&cluster.Event{Kind: eventv1.Kind_JOB_CHANGED, Job: j})
	}
	slices.SortStableFunc(jobs, func(a, b *wlm.Job) int { return cmp.Compare(a.End, b.End) })
	for _, j := range jobs {
		f.over(j)
	}
}

// put takes one event and reports whether it could let a job start.
func (f *feed) put(e *cluster.Event) bool {
	switch e.Kind {
	case eventv1.Kind_BLOB_STORED, eventv1.Kind_STEP_STARTED, eventv1.Kind_STEP_ENDED, eventv1.Kind_KEY_REMEMBERED,
		eventv1.Kind_RECORDS_ACKED, eventv1.Kind_JOB_SIGNALED:
		return false // nothing that policies see
	}
	if err := f.tables.Put(e); err != nil {
		f.reset = true // cannot be: the cluster has put it before
	}
	switch e.Kind {
	case eventv1.Kind_JOB_RANKED:
		for _, id := range e.IDs {
			if _, first := f.unranked[id]; first {
				f.jobs[id] = struct{}{} // it may be ready now
				delete(f.unranked, id)
			} else {
				f.ranks[id] = struct{}{}
			}
		}
		return true
	case eventv1.Kind_JOB_PURGED:
		for _, id := range e.IDs {
			f.jobs[id] = struct{}{}
			delete(f.arrays, id)
			delete(f.pending, id)
		}
		return false
	case eventv1.Kind_EPOCH:
		for _, n := range f.tables.Nodes {
			f.nodes[n.Name] = struct{}{}
		}
		return false
	case eventv1.Kind_NODE_REMOVED, eventv1.Kind_PARTITION_REMOVED:
		f.reset = true
		return true
	}
	if e.Reservation != nil {
		f.reserved()
		return true
	}
	if e.Node != nil {
		f.nodes[e.Node.Name] = struct{}{}
	}
	if e.Partition != nil {
		f.parts = true
	}
	if e.Job == nil {
		return e.Node != nil || e.Partition != nil
	}
	f.job(e.Job)
	if e.Kind == eventv1.Kind_JOB_ENDED {
		f.over(e.Job)
	}
	if _, fed := f.jobs[e.Job.ID]; !fed {
		return false
	}
	return e.Kind != eventv1.Kind_JOB_STARTED && e.Kind != eventv1.Kind_TASK_SPLIT && e.Kind != eventv1.Kind_JOB_ENDING
}

// over notes a job that ran and ended, for policies that learn from it.
func (f *feed) over(j *wlm.Job) {
	if !j.State.Ended() || j.Flags&wlm.FlagCompleting != 0 || j.Alloc == nil {
		return
	}
	e := mirror.Ended{ID: j.ID, User: j.Spec.User, Account: j.Spec.Account, Name: j.Spec.Name, CPUs: uint32(j.Alloc.CPUCount()),
		Submit: j.Submit, Start: j.Start, End: j.End}
	if j.TimeLimit != wlm.Unlimited {
		e.Limit = uint32(j.TimeLimit) * 60
	}
	f.ended, f.recent = newest(append(f.ended, e)), newest(append(f.recent, e))
}

// newest drops the older half of a list that is twice as long as is of use.
func newest(list []mirror.Ended) []mirror.Ended {
	if len(list) < 2*mirror.KeepEnded {
		return list
	}
	return append(list[:0:0], list[len(list)-mirror.KeepEnded:]...)
}

func (f *feed) job(j *wlm.Job) {
	if !unseen(j) || f.known[j.ID] {
		f.jobs[j.ID] = struct{}{}
	}
	if j.State == wlm.Pending && !j.Held {
		f.pending[j.ID] = struct{}{}
	} else {
		delete(f.pending, j.ID)
	}
	if j.IsArrayRecord() && j.State == wlm.Pending {
		f.arrays[j.ID] = struct{}{}
	} else {
		delete(f.arrays, j.ID)
	}
	if j.ArrayJob != 0 && !j.IsArrayRecord() {
		f.limited(j.ArrayJob)
	}
	if j.State == wlm.Pending && !j.Held && !j.Ranked {
		f.unranked[j.ID] = struct{}{}
	} else {
		delete(f.unranked, j.ID)
	}
}

// limited marks an array's pending records: its %limit may let another task start.
func (f *feed) limited(array wlm.JobID) {
	for _, part := range f.tables.ArrayParts(array) {
		if part.State == wlm.Pending {
			f.jobs[part.ID] = struct{}{}
		}
	}
}

// set changes the settings of slurm.conf that policies read.
func (f *feed) set(s map[string]string) {
	f.settings = map[string]string{}
	for k, v := range s {
		if f.all[k] != v {
			f.settings[k] = v
		}
	}
	for k := range f.all {
		if _, there := s[k]; !there {
			f.settings[k] = ""
		}
	}
	f.all = s
	f.licenses, _ = cluster.ParseLicenses(s["Licenses"])
	if p := cluster.PreemptionOf(s); p != f.preemption {
		f.preemption = p
		f.reset = f.encoder.Rev() > 0 // what may be done to running jobs is another
	}
	clear(f.classes)
}

// counters are the licenses, for policies.
func (f *feed) counters() []mirror.Counter {
	out := make([]mirror.Counter, len(f.licenses))
	for i, l := range f.licenses {
		out[i] = mirror.Counter{ID: uint32(i + 1), Name: l.Name, Capacity: l.Total, Reason: wlm.WaitLicenses}
	}
	return out
}

func (f *feed) dirty() bool {
	return f.reset || f.parts || f.resvs || len(f.jobs)+len(f.nodes)+len(f.ranks)+len(f.settings)+len(f.ended) > 0
}

// frames returns the frames that bring an up-to-date mirror to the next rev.
// none reports that mirrors must start over instead.
func (f *feed) frames(now wlm.Time) (frames [][]byte, startOver bool) {
	if f.reset {
		f.restart()
		return nil, true
	}
	c := mirror.Change{Rev: f.encoder.Rev() + 1, Now: now, Settings: f.settings, Ended: f.ended}
	if f.settings != nil {
		c.Counters = f.counters()
	}
	for name := range f.nodes {
		if n := f.tables.Node(name); n != nil {
			c.Nodes = append(c.Nodes, mirrorNode(n))
		}
	}
	slices.SortFunc(c.Nodes, func(a, b mirror.Node) int { return int(a.Index) - int(b.Index) })
	if f.parts {
		c.Partitions = f.partitions()
		clear(f.classes) // classes name partitions by index
	}
	if f.resvs || f.settings != nil {
		c.Reservations = f.reservations()
	}
	for id := range f.jobs {
		f.change(&c, id, now)
	}
	for id := range f.ranks {
		if _, whole := f.jobs[id]; whole {
			continue
		}
		if j := f.tables.Job(id); j != nil && f.known[id] && j.State == wlm.Pending {
			c.Ranks = append(c.Ranks, mirror.Rank{Job: id, Priority: j.Priority})
		}
	}
	f.forget()
	return f.encoder.Change(c), false
}

// change adds a job to c: as it is, or as gone.
func (f *feed) change(c *mirror.Change, id wlm.JobID, now wlm.Time) {
	if m := f.mirrorJob(f.tables.Job(id), now); m != nil {
		c.Jobs = append(c.Jobs, m)
		f.known[id] = true
		return
	}
	if f.known[id] {
		c.Gone = append(c.Gone, id)
		delete(f.known, id)
	}
}

func (f *feed) forget() {
	clear(f.jobs)
	clear(f.nodes)
	clear(f.ranks)
	f.parts, f.resvs, f.settings, f.ended = false, false, nil, nil
}

// restart makes an encoder anew: the next frames are a snapshot.
func (f *feed) restart() {
	f.encoder = mirror.NewEncoder()
	f.reset = false
	clear(f.classes)
	clear(f.known)
	f.forget()
}

// snapshot returns the frames of everything, at the encoder's rev or the next.
func (f *feed) snapshot(now wlm.Time) [][]byte {
	c := mirror.Change{Rev: max(f.encoder.Rev(), 1), Now: now, Settings: f.all, Partitions: f.partitions(), Ended: f.recent, Counters: f.counters(),
		Reservations: f.reservations()}
	for _, n := range f.tables.Nodes {
		c.Nodes = append(c.Nodes, mirrorNode(n))
	}
	for j := range f.tables.AllJobs {
		if m := f.mirrorJob(j, now); m != nil {
			c.Jobs = append(c.Jobs, m)
			f.known[j.ID] = true
		}
	}
	return f.encoder.Snapshot(c)
}

func mirrorNode(n *wlm.Node) mirror.Node {
	m := mirror.Node{Index: n.Index, Name: n.Name, CPUs: int(n.CPUs), Sockets: int(n.Sockets), CoresPerSocket: int(n.CoresPerSocket),
		ThreadsPerCore: int(n.ThreadsPerCore), Memory: n.RealMemory - min(n.MemSpecLimit, n.RealMemory), TmpDisk: n.TmpDisk,
		Weight: n.Weight, Features: n.ActiveFeatures, Gres: n.Gres, GresConf: n.GresConf, Usable: n.Available()}
	m.SpecCPUs = n.SpecCPUs()
	return m
}

func (f *feed) partitions() []mirror.Partition {
	out := make([]mirror.Partition, len(f.tables.Partitions))
	for i, p := range f.tables.Partitions {
		out[i] = mirror.Partition{Index: i, Name: p.Name, Tier: p.PriorityTier, JobFactor: p.PriorityJob,
			Starts: p.State == wlm.PartUp || p.State == wlm.PartDrain, MinNodes: p.MinNodes, MaxNodes: p.MaxNodes,
			MaxCPUsPerNode: p.MaxCPUsPerNode, MaxTime: p.MaxTime, LLN: p.LLN, OverSubscribe: p.OverSubscribe,
			OverCount: p.OverSubCount, ExclusiveUser: p.ExclusiveUser, MaxCPUsPerSock: p.MaxCPUsPerSock}
		for _, name := range p.NodeNames {
			if ni, ok := f.tables.NodeIndex(name); ok {
				out[i].Nodes = append(out[i].Nodes, ni)
			}
		}
		slices.Sort(out[i].Nodes)
	}
	return out
}

// unseen reports whether policies need not know of a job: it has ended, or its
// owner holds it back, and nothing of it is on a node.
func unseen(j *wlm.Job) bool {
	return (j.State.Ended() || j.State == wlm.Pending && j.Held) && j.Flags&wlm.FlagCompleting == 0
}

// mirrorJob is a job as policies see it; nil for one that they need not know of.
func (f *feed) mirrorJob(j *wlm.Job, now wlm.Time) *mirror.Job {
	if j == nil || unseen(j) {
		return nil
	}
	m := &mirror.Job{ID: j.ID, Class: f.class(j), Priority: j.Priority, Held: j.Held, Ranked: j.Ranked, Submit: j.Submit,
		Eligible: j.Eligible, User: j.Spec.User, Account: j.Spec.Account, QOS: j.Spec.QOS, Nice: j.Spec.Nice, Tasks: 1,
		TimeMin: uint32(j.Spec.TimeMin) * 60}
	if j.TimeLimit != wlm.Unlimited {
		m.Limit = uint32(j.TimeLimit) * 60
	}
	f.access(m, j)
	if j.State == wlm.Pending && j.Flags&wlm.FlagCompleting == 0 {
		m.Tasks = f.tables.TasksReady(j)
		m.Ready = !j.Held && j.Reason == wlm.ReasonNone && j.Eligible != 0 && j.Ranked && m.Tasks > 0
		return m
	}
	m.Running, m.Start, m.End = true, j.Start, f.reservedEnd(j)
	for i, p := range f.tables.Partitions {
		if p.Name == j.Partition {
			m.Partition = i
		}
	}
	if j.Flags&wlm.FlagCompleting != 0 {
		m.Start, m.End = min(max(j.Start, 1), now), now+1 // its nodes are as good as free
	}
	part := f.tables.Partition(j.Partition)
	m.Preempt, m.Exempt = f.preemption.Of(part, j)
	m.Leaving, m.Asleep = cluster.Leaving(j), cluster.Asleep(j)
	if j.State == wlm.Suspended {
		m.End = 0
	}
	awake := j.SuspendedAt == 0
	for i := range cluster.Held(j) {
		a := &j.Alloc.Nodes[i]
		if ni, ok := f.tables.NodeIndex(a.Node); ok {
			u := mirror.NodeUse{Node: ni, CPUs: a.CPUs, Mem: a.Mem, Gres: a.Gres, Whole: j.Spec.Share == wlm.ShareNever}
			if !awake && !m.Asleep { // suspended by hand: its CPUs are for everyone
				u.CPUs, u.Whole = nil, false
			}
			m.Uses = append(m.Uses, u)
		}
	}
	return m
}

func (f *feed) class(j *wlm.Job) *mirror.Class {
	key := cluster.ClassOf(j.Spec)
	if c := f.classes[key]; c != nil && f.encoder.Keeps(c) {
		return c
	} else if c != nil {
		return f.encoder.Class(*c) // the same value again, unless it was forgotten
	}
	c := mirror.Class{MinNodes: key.MinNodes, MaxNodes: key.MaxNodes, NodeSizes: key.NodeSizes, ReqNodes: key.ReqNodes,
		ExcNodes: key.ExcNodes, NTasks: key.NTasks, CPUsPerTask: key.CPUsPerTask, TasksPerNode: key.TasksPerNode,
		TasksPerCore: key.TasksPerCore, TasksPerSocket: key.TasksPerSocket, SocketsPerNode: key.SocketsPerNode,
		CoresPerSocket: key.CoresPerSocket, ThreadsPerCore: key.ThreadsPerCore, MinCPUsPerNode: key.MinCPUsPerNode,
		MemPerNode: key.MemPerNode, MemPerCPU: key.MemPerCPU, MemAll: key.MemAll, TmpDisk: key.TmpDisk, Features: key.Features,
		Prefer: key.Prefer, TresPerJob: key.TresPerJob, TresPerNode: key.TresPerNode, TresPerSocket: key.TresPerSocket,
		TresPerTask: key.TresPerTask, Share: key.Share, Contiguous: key.Contiguous, Overcommit: key.Overcommit,
		Spread: key.SpreadJob, UseMinNodes: key.UseMinNodes, CoreSpec: key.CoreSpec, Licenses: key.Licenses, Reservation: key.Reservation,
		Dist: key.Dist, GresFlags: key.GresFlags, CPUsPerGPU: key.CPUsPerGPU, TasksPerGPU: key.TasksPerGPU, MemPerGPU: key.MemPerGPU,
		Switches: key.Switches, SwitchWait: key.SwitchWait, Segment: key.Segment}
	licenses, _ := cluster.ParseLicenses(key.Licenses)
	for _, l := range licenses {
		if i := slices.IndexFunc(f.licenses, func(h cluster.License) bool { return h.Name == l.Name }); i >= 0 {
			c.Counters = append(c.Counters, mirror.CounterUse{Counter: uint32(i + 1), Amount: l.Total})
		}
	}
	for _, name := range strings.Split(key.Partitions, ",") {
		for i, p := range f.tables.Partitions {
			if p.Name == name {
				c.Partitions = append(c.Partitions, i)
			}
		}
	}
	const bound = 20000
	if len(f.classes) > bound {
		clear(f.classes)
	}
	m := f.encoder.Class(c)
	f.classes[key] = m
	return m
}
