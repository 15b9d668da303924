// Package mirrortest makes clusters for tests of plugins that read the mirror:
// small ones by hand and random ones from a seed, with the frames that feed
// them to a plugin.
//
// A [Cluster] is kept the simple way and is what the suites check answers
// against. Random clusters are lawful: what runs fits where it runs.
package mirrortest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Now is the time that the clusters are seen at first.
const Now wlm.Time = 1_700_000_000

// Cluster is a cluster under test. Change it, then call Frames.
type Cluster struct {
	Nodes      []mirror.Node
	Partitions []mirror.Partition
	Counters   []mirror.Counter
	Settings   map[string]string
	Jobs       map[wlm.JobID]*mirror.Job
	Now        wlm.Time

	encoder *mirror.Encoder
	changed map[wlm.JobID]bool
	tables  bool // a table changed: send all of it
	nextID  wlm.JobID
}

// New returns a cluster of n nodes with the given cores of one thread and
// memory, all in the one partition "main".
func New(n, cores int, memory wlm.MiB) *Cluster {
	c := &Cluster{Jobs: map[wlm.JobID]*mirror.Job{}, Now: Now, encoder: mirror.NewEncoder(), changed: map[wlm.JobID]bool{}, tables: true,
		Settings: map[string]string{"SchedulerParameters": "", "SelectTypeParameters": "CR_Core_Memory"}}
	main := mirror.Partition{Name: "main", Tier: 1, JobFactor: 1, Starts: true, MaxNodes: wlm.Unset, MaxCPUsPerNode: wlm.Unset, MaxTime: wlm.Unlimited}
	for i := range n {
		c.Nodes = append(c.Nodes, mirror.Node{Index: wlm.NodeIndex(i), Name: wlm.NodeName(fmt.Sprintf("n%d", i)), CPUs: cores, Sockets: 1,
			CoresPerSocket: cores, ThreadsPerCore: 1, Memory: memory, Weight: 1, Usable: true})
		main.Nodes = append(main.Nodes, wlm.NodeIndex(i))
	}
	c.Partitions = []mirror.Partition{main}
	return c
}

// AddPartition adds a partition like the first one, over some nodes.
func (c *Cluster) AddPartition(name string, nodes ...wlm.NodeIndex) int {
	p := c.Partitions[0]
	p.Index, p.Name, p.Nodes = len(c.Partitions), name, nodes
	c.Partitions = append(c.Partitions, p)
	c.tables = true
	return p.Index
}

// Class interns a request. Nodes that the request does not bound are one to one.
func (c *Cluster) Class(q mirror.Class) *mirror.Class {
	if len(q.Partitions) == 0 {
		q.Partitions = []int{0}
	}
	q.MinNodes = max(q.MinNodes, 1)
	if q.MaxNodes == 0 {
		q.MaxNodes = q.MinNodes
	}
	q.NTasks = max(q.NTasks, q.MinNodes)
	q.CPUsPerTask = max(q.CPUsPerTask, 1)
	if q.CoreSpec == 0 {
		q.CoreSpec = wlm.Unset
	}
	return c.encoder.Class(q)
}

// Submit adds a pending job that is ready, one second after the one before.
func (c *Cluster) Submit(q mirror.Class, limit uint32) *mirror.Job {
	c.nextID++
	j := &mirror.Job{ID: c.nextID, Class: c.Class(q), Ready: true, Ranked: true, Priority: 1000, Limit: limit, Tasks: 1, User: 1000,
		Submit: Now - 10000 + wlm.Time(c.nextID), Eligible: Now - 10000 + wlm.Time(c.nextID), Account: "physics", QOS: "normal"}
	c.Put(j)
	return j
}

// Run makes a pending job run on the first cores of each of the nodes, until its
// limit ends it.
func (c *Cluster) Run(j *mirror.Job, partition int, uses ...mirror.NodeUse) {
	k := *j
	k.Running, k.Ready, k.Partition, k.Uses, k.Start = true, false, partition, uses, c.Now
	if k.End = 0; k.Limit > 0 {
		k.End = c.Now + wlm.Time(k.Limit)
	}
	c.Put(&k)
}

// Cores is the use of a node's cores [from, to), with some memory.
func Cores(node wlm.NodeIndex, from, to int, mem wlm.MiB) mirror.NodeUse {
	u := mirror.NodeUse{Node: node, Mem: mem}
	for cpu := from; cpu < to; cpu++ {
		u.CPUs = u.CPUs.Set(cpu)
	}
	return u
}

// Put adds or replaces a job.
func (c *Cluster) Put(j *mirror.Job) {
	c.nextID = max(c.nextID, j.ID)
	c.Jobs[j.ID] = j
	c.changed[j.ID] = true
}

// Drop forgets a job.
func (c *Cluster) Drop(id wlm.JobID) {
	delete(c.Jobs, id)
	c.changed[id] = true
}

// Touch tells that nodes, partitions, counters or settings were changed.
func (c *Cluster) Touch() { c.tables = true }

// Frames returns what happened since the last call as frames, and the rev.
func (c *Cluster) Frames() ([][]byte, uint64) {
	ch := mirror.Change{Rev: c.encoder.Rev() + 1, Now: c.Now}
	if c.tables {
		ch.Nodes, ch.Partitions, ch.Counters, ch.Settings = c.Nodes, c.Partitions, c.Counters, c.Settings
	}
	for _, id := range slices.Sorted(maps.Keys(c.changed)) {
		if j := c.Jobs[id]; j != nil {
			ch.Jobs = append(ch.Jobs, j)
			continue
		}
		ch.Gone = append(ch.Gone, id)
	}
	c.tables = false
	clear(c.changed)
	return c.encoder.Change(ch), ch.Rev
}

// Reset returns a snapshot of everything: a mirror that takes it forgets what it
// had, and follows the cluster's frames from there.
func (c *Cluster) Reset() ([][]byte, uint64) {
	c.Frames()
	return c.encoder.Snapshot(mirror.Change{Now: c.Now, Nodes: c.Nodes, Partitions: c.Partitions, Counters: c.Counters,
		Settings: c.Settings, Jobs: slices.Collect(maps.Values(c.Jobs))}), c.encoder.Rev()
}

// Ready returns the ready pending jobs by id.
func (c *Cluster) Ready() []*mirror.Job {
	var list []*mirror.Job
	for _, id := range slices.Sorted(maps.Keys(c.Jobs)) {
		if j := c.Jobs[id]; j.Ready && !j.Running {
			list = append(list, j)
		}
	}
	return list
}

// Rand returns a generator from a seed, which it prints: SLUICE_SEED repeats a
// failure, another seed tries another cluster.
func Rand(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64() % 1_000_000
	if s := os.Getenv("SLUICE_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("SLUICE_SEED=%d repeats this", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// Random returns a cluster of up to 12 nodes with random jobs, some running.
func Random(r *rand.Rand) *Cluster {
	c := New(1+r.IntN(12), 1+r.IntN(12), wlm.MiB(1000*(1+r.IntN(8))))
	for i := range c.Nodes {
		n := &c.Nodes[i]
		n.Usable = r.IntN(8) > 0
		n.Weight = uint32(1 + r.IntN(3))
		if r.IntN(2) == 0 {
			n.Features = []string{"big"}
		}
	}
	if r.IntN(2) == 0 {
		var some []wlm.NodeIndex
		for i := range c.Nodes {
			if i == 0 || r.IntN(2) == 0 {
				some = append(some, wlm.NodeIndex(i))
			}
		}
		p := c.AddPartition("other", some...)
		c.Partitions[p].Tier = uint32(r.IntN(3))
		c.Partitions[p].Starts = r.IntN(8) > 0
	}
	for range r.IntN(40) {
		c.Step(r)
	}
	return c
}

// Step makes one random thing happen: a submission, a start, an end, a hold, a
// change of a node.
func (c *Cluster) Step(r *rand.Rand) {
	c.Now += wlm.Time(r.IntN(100))
	ids := slices.Sorted(maps.Keys(c.Jobs))
	var j *mirror.Job
	if len(ids) > 0 {
		j = c.Jobs[ids[r.IntN(len(ids))]]
	}
	switch k := r.IntN(10); {
	case j == nil || k < 5:
		c.submitRandom(r)
	case k < 8:
		if !c.tryRun(j) {
			c.Drop(j.ID)
		}
	case k == 8 && !j.Running:
		h := *j
		h.Held = !h.Held
		h.Ready = !h.Held
		c.Put(&h)
	default:
		n := &c.Nodes[r.IntN(len(c.Nodes))]
		n.Usable = !n.Usable
		c.Touch()
	}
}

func (c *Cluster) submitRandom(r *rand.Rand) {
	q := mirror.Class{Partitions: []int{r.IntN(len(c.Partitions))}, MinNodes: uint32(1 + r.IntN(min(4, len(c.Nodes)+1)))}
	q.NTasks = q.MinNodes * uint32(1+r.IntN(4))
	q.CPUsPerTask = uint32(1 + r.IntN(2))
	switch r.IntN(3) {
	case 0:
		q.MemPerNode = wlm.MiB(100 * (1 + r.IntN(20)))
	case 1:
		q.MemPerCPU = wlm.MiB(100 * (1 + r.IntN(5)))
	}
	if r.IntN(4) == 0 {
		q.Features = "big"
	}
	if r.IntN(6) == 0 {
		q.Share = wlm.ShareNever
	}
	if len(c.Partitions) > 1 && r.IntN(3) == 0 {
		q.Partitions = []int{1, 0}
	}
	j := c.Submit(q, uint32(60*(1+r.IntN(600))))
	j.Priority = uint32(1 + r.IntN(5))
	j.User = wlm.UID(1000 + r.IntN(3))
	if r.IntN(8) == 0 {
		j.Tasks = 1 + r.IntN(5) // an array
	}
}

// tryRun makes a pending job run on free whole nodes of its partition.
func (c *Cluster) tryRun(j *mirror.Job) bool {
	if j.Running || !j.Ready || j.Tasks != 1 {
		return false
	}
	busy := map[wlm.NodeIndex]bool{}
	for _, x := range c.Jobs {
		for _, u := range x.Uses {
			busy[u.Node] = true
		}
	}
	part := j.Class.Partitions[0]
	var uses []mirror.NodeUse
	for _, i := range c.Partitions[part].Nodes {
		if n := &c.Nodes[i]; !busy[i] && n.Usable && len(uses) < int(j.Class.MinNodes) {
			uses = append(uses, Cores(i, 0, n.CPUs, n.Memory))
			uses[len(uses)-1].Whole = true
		}
	}
	if len(uses) < int(j.Class.MinNodes) {
		return false
	}
	c.Run(j, part, uses...)
	return true
}
