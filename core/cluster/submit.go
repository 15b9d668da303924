package cluster

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Submit asks for a new job. The Spec becomes the cluster's: defaults are filled
// in. The reply is a *SubmitReply.
type Submit struct {
	Spec     *wlm.Spec
	Script   []byte
	Env      []byte // NAME=value, each ended by a zero byte
	Key      string // idempotency key; empty: none
	Caller   Caller
	TestOnly bool // validate only: the reply's job has the id it would get, and no event is made
}

// SubmitReply tells the job that was made, or had been made under the same key.
type SubmitReply struct {
	Job      *wlm.Job
	Repeated bool
}

// Op implements Command.
func (*Submit) Op() string { return "cluster.Submit" }

func (s *Submit) apply(c *Cluster, now wlm.Time) (any, error) {
	if k, ok := c.keys[s.Key]; ok && s.Key != "" {
		if j := c.jobs[k.job]; j != nil {
			return &SubmitReply{Job: j, Repeated: true}, nil
		}
		return &SubmitReply{Job: &wlm.Job{ID: k.job, Spec: s.Spec}, Repeated: true}, nil
	}
	j, err := s.newJob(c, now)
	if err != nil {
		return nil, err
	}
	if s.TestOnly {
		return &SubmitReply{Job: j}, nil
	}
	j.SLUID = sluid(j.ID, now)
	j.Script, j.Env = c.store(s.Script, now), c.store(s.Env, now)
	c.jobEvent(eventv1.Kind_JOB_SUBMITTED, now, j)
	c.correspond(j, nil, now)
	if rest := c.jobs[j.ID]; rest != j {
		c.rejudge(rest, now) // what others left may be decided alone
	}
	if s.Key != "" {
		c.emit(&Event{Kind: eventv1.Kind_KEY_REMEMBERED, Time: now, Text: s.Key, IDs: []wlm.JobID{j.ID}})
	}
	return &SubmitReply{Job: j}, nil
}

// newJob validates the request and returns the record it would become.
func (s *Submit) newJob(c *Cluster, now wlm.Time) (*wlm.Job, error) {
	op, spec := s.Op(), s.Spec
	if n := len(c.jobs); c.settings.MaxJobCount > 0 && n >= c.settings.MaxJobCount {
		return nil, errs.Coded(op, errs.MaxJobCount, fmt.Sprintf("MaxJobCount=%d jobs are known already", n))
	}
	if c.settings.MaxJobID > 0 && c.NextJob > c.settings.MaxJobID {
		return nil, errs.Newf(op, errs.Exhausted, "every job id up to MaxJobId=%d was used", c.settings.MaxJobID)
	}
	if spec.Kind == wlm.KindBatch && len(s.Script) == 0 {
		return nil, errs.Coded(op, errs.JobScriptMissing)
	}
	if limit := c.settings.MaxScriptBytes; limit > 0 && len(s.Script) > limit {
		return nil, errs.Coded(op, errs.ScriptTooLarge, fmt.Sprintf("the script has %d bytes, max_script_size allows %d", len(s.Script), limit))
	}
	if spec.Priority != wlm.Unset && spec.Priority != 0 && !s.Caller.Admin {
		return nil, errs.Coded(op, errs.AccessDenied, "--priority is for operators")
	}
	if spec.Nice < 0 && !s.Caller.Admin {
		return nil, errs.Coded(op, errs.InvalidNice, fmt.Sprintf("--nice=%d: only operators may use negative values", spec.Nice))
	}
	part, err := c.choosePartitions(op, spec, s.Caller)
	if err != nil {
		return nil, err
	}
	if err := c.testReservations(op, spec); err != nil {
		return nil, err
	}
	c.switchWait(spec)
	if err := c.sizes(op, spec, part); err != nil {
		return nil, err
	}
	j := &wlm.Job{
		Spec: spec, ArrayTask: wlm.Unset, State: wlm.Pending, Partition: part.Name, TimeLimit: spec.TimeLimit,
		Submit: now, LastSched: now, KilledBy: wlm.Unset, NTasks: ntasks(spec), Held: spec.Hold,
		Requeueable: spec.Kind == wlm.KindBatch && (spec.Requeue == wlm.Yes || spec.Requeue == wlm.Unsaid && c.settings.JobRequeue),
	}
	if spec.Priority != wlm.Unset {
		j.Priority, j.Ranked = spec.Priority, spec.Priority != 0
		j.Held = j.Held || spec.Priority == 0
	}
	if err := c.timeLimit(op, j, part); err != nil {
		return nil, err
	}
	if err := c.array(op, j); err != nil {
		return nil, err
	}
	if spec.Dependency != "" {
		if j.Deps, err = c.dependencies(op, spec.Dependency, 0); err != nil {
			return nil, err
		}
	}
	if spec.Deadline != 0 && spec.Deadline <= now {
		return nil, errs.Newf(op, errs.Invalid, "--deadline=%d is in the past", spec.Deadline)
	}
	spec.Features = strings.ReplaceAll(spec.Features, ",", "&") // as Slurm keeps it
	if err := testBatch(op, spec); err != nil {
		return nil, err
	}
	if err := c.feasible(op, ClassOf(spec)); err != nil {
		return nil, err
	}
	if s.TestOnly && !c.everFits(spec) {
		return nil, errs.Coded(op, errs.NodeConfigUnavailable)
	}
	j.ReqTRES = c.requestTRES(spec)
	if j.ID = c.NextJob; j.ArrayTasks != nil {
		j.ArrayJob = j.ID
	}
	c.judge(j, now)
	return j, nil
}

// everFits reports whether one of the partitions has and allows that many
// nodes.
func (c *Cluster) everFits(spec *wlm.Spec) bool {
	return slices.ContainsFunc(spec.Partitions, func(name string) bool {
		p := c.Partition(name)
		return int(spec.MinNodes) <= len(p.NodeNames) && (p.MaxNodes == 0 || p.MaxNodes == wlm.Unset || spec.MinNodes <= p.MaxNodes)
	})
}

// sizes checks node, task and memory counts and fills in defaults.
func (c *Cluster) sizes(op string, spec *wlm.Spec, p *wlm.Partition) error {
	if spec.MinNodes == 0 {
		spec.MinNodes = 1
	}
	if spec.MaxNodes != 0 && spec.MaxNodes < spec.MinNodes {
		return errs.Coded(op, errs.InvalidNodeCount, fmt.Sprintf("--nodes: at most %d is less than at least %d", spec.MaxNodes, spec.MinNodes))
	}
	if spec.ThreadsPerCore == 0 {
		switch spec.Hint {
		case "nomultithread", "compute_bound", "memory_bound":
			spec.ThreadsPerCore = 1
		}
	}
	if err := c.gresDefaults(op, spec, p); err != nil {
		return err
	}
	if err := c.testLicenses(op, spec.Licenses); err != nil {
		return err
	}
	if spec.MemPerCPU == 0 && spec.MemPerNode == 0 && !spec.MemAll && spec.MemPerGPU == 0 {
		switch {
		case p.DefMemPerCPU > 0:
			spec.MemPerCPU = p.DefMemPerCPU
		case p.DefMemPerNode > 0:
			spec.MemPerNode = p.DefMemPerNode
		case c.settings.DefMemPerCPU > 0:
			spec.MemPerCPU = c.settings.DefMemPerCPU
		case c.settings.DefMemPerNode > 0:
			spec.MemPerNode = c.settings.DefMemPerNode
		}
	}
	maxCPU, maxNode := c.settings.MaxMemPerCPU, c.settings.MaxMemPerNode
	if p.MaxMemPerCPU > 0 || p.MaxMemPerNode > 0 {
		maxCPU, maxNode = p.MaxMemPerCPU, p.MaxMemPerNode
	}
	if maxNode > 0 && spec.MemPerNode > maxNode {
		return errs.Coded(op, errs.InvalidMemory, fmt.Sprintf("--mem=%dM: at most %dM a node are allowed", spec.MemPerNode, maxNode))
	}
	if maxCPU > 0 && spec.MemAll {
		return c.allMemory(op, spec, p, maxCPU)
	}
	if maxCPU > 0 && spec.MemPerCPU > maxCPU {
		// As Slurm does: more CPUs a task rather than more memory a CPU.
		f := uint32((spec.MemPerCPU + maxCPU - 1) / maxCPU)
		spec.CPUsPerTask = max(spec.CPUsPerTask, 1) * f
		spec.MemPerCPU = (spec.MemPerCPU + wlm.MiB(f) - 1) / wlm.MiB(f)
	}
	if maxCPU > 0 && spec.MemPerNode > maxCPU { // more CPUs a node
		spec.MinCPUsPerNode = max(spec.MinCPUsPerNode, uint32((spec.MemPerNode+maxCPU-1)/maxCPU))
	}
	return nil
}

// allMemory holds --mem=0 to MaxMemPerCPU: a node's memory must come with as
// many CPUs, or the request is refused.
func (c *Cluster) allMemory(op string, spec *wlm.Spec, p *wlm.Partition, maxCPU wlm.MiB) error {
	fits := false
	for _, name := range p.NodeNames {
		n := c.Node(name)
		if n == nil {
			continue
		}
		if cpus := uint32((n.RealMemory - min(n.MemSpecLimit, n.RealMemory) + maxCPU - 1) / maxCPU); cpus <= n.CPUs {
			fits, spec.MinCPUsPerNode = true, max(spec.MinCPUsPerNode, cpus)
		}
	}
	if !fits {
		return errs.Coded(op, errs.InvalidMemory, fmt.Sprintf("--mem=0: at most %dM a CPU are allowed, and nodes of partition %s have more", maxCPU, p.Name))
	}
	return nil
}

// ntasks is how many tasks the request is for.
func ntasks(spec *wlm.Spec) uint32 {
	if spec.NTasks > 0 {
		return spec.NTasks
	}
	if spec.TasksPerNode > 0 {
		return spec.MinNodes * spec.TasksPerNode
	}
	return max(spec.MinNodes, 1)
}

func (c *Cluster) timeLimit(op string, j *wlm.Job, p *wlm.Partition) error {
	if j.TimeLimit == 0 {
		j.TimeLimit = p.DefaultTime
		if j.TimeLimit == 0 {
			j.TimeLimit = p.MaxTime
		}
		if j.TimeLimit == 0 {
			j.TimeLimit = wlm.Unlimited
		}
	}
	if j.Spec.TimeMin > 0 && j.Spec.TimeMin > j.TimeLimit {
		return errs.Coded(op, errs.InvalidTimeLimit, fmt.Sprintf("--time-min is above the time limit of %d minutes", j.TimeLimit))
	}
	return c.enforceLimits(op, j)
}

func (c *Cluster) array(op string, j *wlm.Job) error {
	if j.Spec.Array == "" {
		return nil
	}
	ranges, limit, err := wlm.ParseArray(j.Spec.Array, c.settings.MaxArraySize)
	if err != nil {
		return errs.Coded(op, errs.InvalidArray).With("--array=%s: %v", j.Spec.Array, err)
	}
	if most := c.settings.MaxArrayTasks; most > 0 && ranges.Count() > most {
		return errs.Coded(op, errs.InvalidArray).With("--array=%s has %d tasks, max_array_tasks allows %d", j.Spec.Array, ranges.Count(), most)
	}
	j.ArrayTasks = ranges
	if limit > 0 { // else the request may have it beside the list
		j.Spec.ArrayMaxRunning = limit
	}
	j.ArrayCount = countTasks(ranges)
	j.ArrayMin, j.ArrayMax, j.ArrayStep = ranges[0].First, ranges[0].Last, ranges[0].Step
	for _, r := range ranges[1:] {
		j.ArrayMin, j.ArrayMax = min(j.ArrayMin, r.First), max(j.ArrayMax, r.Last)
		j.ArrayStep = 1
	}
	return nil
}

// requestTRES is what scontrol shows as ReqTRES.
func (c *Cluster) requestTRES(spec *wlm.Spec) string {
	k := ClassOf(spec)
	cpus := k.MinCPUs()
	mem := spec.MemPerNode * wlm.MiB(spec.MinNodes)
	if spec.MemPerCPU > 0 {
		mem = spec.MemPerCPU * wlm.MiB(cpus)
	}
	return c.tres(cpus, mem, spec.MinNodes, requestGres(spec), spec.Licenses, c.Partition(spec.Partitions[0]))
}

// requestGres is what a request needs of generic resources, at least.
func requestGres(spec *wlm.Spec) map[string]uint64 {
	out := map[string]uint64{}
	for i, list := range gresLists(spec) {
		times := [4]uint64{1, uint64(spec.MinNodes), uint64(spec.MinNodes) * uint64(max(spec.SocketsPerNode, 1)), uint64(ntasks(spec))}[i]
		asks, _ := wlm.ParseGres(list)
		for _, a := range asks {
			out["gres/"+a.Name] += a.Count * times
			if a.Type != "" {
				out["gres/"+a.Name+":"+a.Type] += a.Count * times
			}
		}
	}
	return out
}

// sluid is a job's printable id over time: a letter and 13 digits of base 32 of
// the submission second and the job id.
func sluid(id wlm.JobID, now wlm.Time) string {
	const digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	v := uint64(now)<<30 | uint64(id)&(1<<30-1)
	var b [14]byte
	for i := len(b) - 1; i > 0; i-- {
		b[i] = digits[v%32]
		v /= 32
	}
	b[0] = 's'
	return string(b[:])
}
