package agent

import (
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/core/steps"
	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// stepManagerVar tells srun where the step manager of its job is.
const stepManagerVar = "SLUICE_STEP_MANAGER"

// endless is what an unlimited job shows as its time limit, in seconds.
const endless = 365 * 24 * 3600

// environ is an environment under construction; the last of a name counts.
type environ struct {
	list []string
	at   map[string]int
}

func newEnviron(entries []string) *environ {
	e := &environ{at: make(map[string]int, len(entries)+64)}
	for _, s := range entries {
		e.add(s)
	}
	return e
}

// get is a variable's value; empty when it is not set.
func (e *environ) get(name string) string {
	if i, ok := e.at[name]; ok {
		return strings.TrimPrefix(e.list[i], name+"=")
	}
	return ""
}

// add sets NAME=value; anything else is left out.
func (e *environ) add(entry string) {
	if name, value, ok := strings.Cut(entry, "="); ok && name != "" {
		e.set(name, value)
	}
}

func (e *environ) set(name, value string) {
	if i, ok := e.at[name]; ok {
		e.list[i] = name + "=" + value
		return
	}
	e.at[name] = len(e.list)
	e.list = append(e.list, name+"="+value)
}

func (e *environ) num(name string, n uint64) { e.set(name, strconv.FormatUint(n, 10)) }

// numIf and setIf leave out what was not asked for.
func (e *environ) numIf(name string, n uint64) {
	if n != 0 {
		e.num(name, n)
	}
}

func (e *environ) setIf(name, value string) {
	if value != "" {
		e.set(name, value)
	}
}

// unset takes a variable away.
func (e *environ) unset(name string) {
	i, ok := e.at[name]
	if !ok {
		return
	}
	delete(e.at, name)
	e.list = append(e.list[:i:i], e.list[i+1:]...)
	for other, k := range e.at {
		if k > i {
			e.at[other] = k - 1
		}
	}
}

// setDefault sets what the user's environment does not have.
func (e *environ) setDefault(name, value string) {
	if _, ok := e.at[name]; !ok && value != "" {
		e.set(name, value)
	}
}

// envFacts is what the environment of a job's processes is made from. It is
// the same on all nodes of the job.
type envFacts struct {
	Job         *wlm.Job
	Cluster     string
	ConfPath    string
	StepManager string // host:port of the first node
	Where       Where
	Nodes       []steps.Node
}

// allocation sets what batch script and tasks hear of the job.
func (f *envFacts) allocation(e *environ) {
	j, s := f.Job, f.Job.Spec
	e.setIf("SLURM_CONF", f.ConfPath)
	e.set("SLURM_CLUSTER_NAME", f.Cluster)
	for _, name := range []string{"SLURM_JOB_ID", "SLURM_JOBID"} {
		e.num(name, uint64(j.ID))
	}
	e.set("SLURM_JOB_NAME", s.Name)
	e.setIf("SLURM_JOB_ACCOUNT", s.Account)
	e.setIf("SLURM_JOB_QOS", s.QOS)
	e.setIf("SLURM_JOB_RESERVATION", j.ReservationName())
	e.setIf("SLURM_JOB_LICENSES", s.Licenses)
	e.set("SLURM_JOB_PARTITION", j.Partition)
	e.num("SLURM_JOB_UID", uint64(s.User))
	e.num("SLURM_JOB_GID", uint64(s.Group))
	e.set("SLURM_JOB_USER", s.UserName)
	for _, name := range []string{"SLURM_JOB_NODELIST", "SLURM_NODELIST"} {
		e.set(name, f.nodeList())
	}
	for _, name := range []string{"SLURM_JOB_NUM_NODES", "SLURM_NNODES"} {
		e.num(name, uint64(len(f.Nodes)))
	}
	e.set("SLURM_JOB_CPUS_PER_NODE", wlm.FormatCPURep(f.cpus()))
	e.set("SLURM_TASKS_PER_NODE", wlm.FormatCPURep(f.tasksPerNode()))
	e.num("SLURM_JOB_START_TIME", uint64(j.Start))
	end := j.End
	if end == 0 || j.TimeLimit == wlm.Unlimited {
		end = j.Start + endless
	}
	e.num("SLURM_JOB_END_TIME", uint64(end))
	e.set(stepManagerVar, f.StepManager)
	if j.Restarts > 0 {
		e.num("SLURM_RESTART_COUNT", uint64(j.Restarts))
	}
	if j.ArrayJob != 0 {
		e.num("SLURM_ARRAY_JOB_ID", uint64(j.ArrayJob))
		e.num("SLURM_ARRAY_TASK_ID", uint64(j.ArrayTask))
		e.num("SLURM_ARRAY_TASK_COUNT", uint64(j.ArrayCount))
		e.num("SLURM_ARRAY_TASK_MIN", uint64(j.ArrayMin))
		e.num("SLURM_ARRAY_TASK_MAX", uint64(j.ArrayMax))
		e.num("SLURM_ARRAY_TASK_STEP", uint64(max(j.ArrayStep, 1)))
	}
	oom := "0"
	if s.OOMKill == wlm.Yes {
		oom = "1"
	}
	e.set("SLURM_OOM_KILL_STEP", oom)
}

// echo sets what repeats the request.
func (f *envFacts) echo(e *environ) {
	s := f.Job.Spec
	e.numIf("SLURM_NTASKS", uint64(s.NTasks))
	e.numIf("SLURM_NPROCS", uint64(s.NTasks))
	e.numIf("SLURM_NTASKS_PER_NODE", uint64(s.TasksPerNode))
	e.numIf("SLURM_CPUS_PER_TASK", uint64(s.CPUsPerTask))
	if s.CPUsPerTask > 0 {
		e.setDefault("SLURM_TRES_PER_TASK", "cpu="+strconv.Itoa(int(s.CPUsPerTask)))
	}
	e.numIf("SLURM_MEM_PER_CPU", uint64(s.MemPerCPU))
	if s.MemPerCPU == 0 {
		e.numIf("SLURM_MEM_PER_NODE", uint64(s.MemPerNode))
	}
	e.numIf("SLURM_THREADS_PER_CORE", uint64(s.ThreadsPerCore))
}

func (f *envFacts) nodeList() string {
	if f.Job.Alloc != nil && f.Job.Alloc.NodeList != "" {
		return f.Job.Alloc.NodeList
	}
	names := make([]string, len(f.Nodes))
	for i, n := range f.Nodes {
		names[i] = string(n.Name)
	}
	return hostlist.Compress(names)
}

func (f *envFacts) cpus() []int {
	out := make([]int, len(f.Nodes))
	for i, n := range f.Nodes {
		out[i] = n.CPUs.Count()
	}
	return out
}

// tasksPerNode is where the job's tasks would run: as many on each node as its
// CPUs allow when their number was not given.
func (f *envFacts) tasksPerNode() []int {
	s := f.Job.Spec
	rooms := f.cpus()
	total := 0
	for i := range rooms {
		rooms[i] = max(rooms[i]/int(max(s.CPUsPerTask, 1)), 1)
		if s.TasksPerNode > 0 {
			rooms[i] = int(s.TasksPerNode)
		}
		total += rooms[i]
	}
	if s.NTasks == 0 || int(s.NTasks) >= total {
		return rooms
	}
	return steps.Deal(int(s.NTasks), rooms)
}

// batchEnv is the environment of the batch script: the user's, then the job's.
func (f *envFacts) batchEnv(node wlm.NodeName, user []string) []string {
	e := newEnviron(user)
	f.allocation(e)
	f.echo(e)
	s := f.Job.Spec
	e.setDefault("SLURM_SUBMIT_DIR", s.WorkDir)
	e.setDefault("SLURM_SUBMIT_HOST", s.AllocNode)
	e.setDefault("SLURM_PRIO_PROCESS", "0")
	e.setDefault("USER", s.UserName)
	e.setDefault("LOGNAME", s.UserName)
	e.set("ENVIRONMENT", "BATCH")
	e.set("HOSTNAME", string(node))
	cpus := 0
	if len(f.Nodes) > 0 {
		cpus = f.Nodes[0].CPUs.Count()
	}
	nodeEnv(e, node, cpus, f.Where)
	return e.list
}

// Where tells a node's place in the topology of a partition, and what the words
// between the dots of it are.
type Where func(node wlm.NodeName, partition string) (addr, pattern string)

// nodeEnv sets what differs by node. Without where, a node is its own place.
func nodeEnv(e *environ, node wlm.NodeName, cpus int, where Where) {
	e.set("SLURMD_NODENAME", string(node))
	e.num("SLURM_CPUS_ON_NODE", uint64(cpus))
	addr, pattern := string(node), "node"
	if where != nil {
		addr, pattern = where(node, e.get("SLURM_JOB_PARTITION"))
	}
	e.set("SLURM_TOPOLOGY_ADDR", addr)
	e.set("SLURM_TOPOLOGY_ADDR_PATTERN", pattern)
	e.setDefault("TMPDIR", "/tmp")
}

// stepFacts is what srun passes on to the tasks of a step.
func (f *envFacts) stepFacts(g *steps.Grant, group string, echoCPUs bool) []string {
	e := newEnviron(nil)
	f.allocation(e)
	e.set("SLURM_JOB_GROUP", group)
	names := make([]string, len(g.Shares))
	tasks := make([]int, len(g.Shares))
	for i, s := range g.Shares {
		names[i] = string(f.Nodes[s.Index].Name)
		tasks[i] = len(s.TaskIDs)
	}
	id := g.Step.String()
	if g.Step >= wlm.StepInteractive {
		id = strconv.FormatUint(uint64(g.Step), 10)
	}
	e.set("SLURM_STEP_ID", id)
	e.set("SLURM_STEPID", id)
	e.set("SLURM_STEP_NODELIST", hostlist.Compress(names))
	e.num("SLURM_STEP_NUM_NODES", uint64(len(names)))
	e.num("SLURM_STEP_NUM_TASKS", uint64(g.NTasks))
	e.set("SLURM_STEP_TASKS_PER_NODE", wlm.FormatCPURep(tasks))
	e.num("SLURM_NNODES", uint64(len(names)))
	e.num("SLURM_NTASKS", uint64(g.NTasks))
	e.num("SLURM_NPROCS", uint64(g.NTasks))
	e.set("SLURM_TASKS_PER_NODE", wlm.FormatCPURep(tasks))
	if echoCPUs {
		e.num("SLURM_CPUS_PER_TASK", uint64(g.CPUsPerTask))
		e.set("SLURM_TRES_PER_TASK", "cpu="+strconv.Itoa(int(g.CPUsPerTask)))
	}
	e.setIf("SLURM_DISTRIBUTION", g.Dist)
	return e.list
}

// taskEnv is the environment of a step's tasks on one node, but for what the
// supervisor sets by task.
func taskEnv(srun []string, node wlm.NodeName, cpus int, where Where) []string {
	e := newEnviron(srun)
	e.set("SLURMD_DEBUG", "2")
	nodeEnv(e, node, cpus, where)
	return e.list
}
