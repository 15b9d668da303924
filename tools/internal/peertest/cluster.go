package peertest

import (
	"fmt"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/proto/acctstore/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wire"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// T0 is 17:18:00 of the observed day; clock times below are seconds after it.
const T0 = 1795454280

// noNodes is the text in place of Resources when the nodes are not there.
const noNodes = "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions"

// queueOrder is the order in which Slurm listed jobs of equal priority; it
// sorts by priority without a tie-break.
var queueOrder = []wlm.JobID{9, 1, 2, 3, 11, 15, 13, 16, 14, 6, 12, 10, 5, 7, 8, 4}

// ListOrder is the controller's own order.
var ListOrder = []wlm.JobID{1, 2, 3, 4, 5, 7, 8, 6, 9, 10, 11, 12, 13, 14, 15, 16}

// New builds the cluster as it was at T0 + seconds, its jobs in the order of
// the queue.
func New(seconds int64) *Fake {
	f := &Fake{Now: T0 + seconds}
	jobs := jobs()
	f.Order(queueOrder, jobs)
	f.StepList = []*ctlv1.StepsReply{steps(jobs)}
	f.NodeList = nodes()
	f.PartList = partitions()
	f.Rows = rows(jobs)
	return f
}

// Later is the cluster a minute on: job 4 has run into its limit.
func Later() *Fake {
	f := New(99)
	jobs := jobs()
	j := jobs[4]
	j.State, j.Reason, j.End, j.Status = wlm.Timeout, wlm.FailTimeout, T0+92, wlm.SignalStatus(15)
	jobs[15].ReasonText, jobs[16].ReasonText = "", ""
	jobs[15].Reason, jobs[16].Reason = wlm.WaitResources, wlm.WaitResources
	f.Order([]wlm.JobID{9, 1, 2, 3, 11, 15, 16, 13, 14, 6, 12, 10, 5, 7, 8, 4}, jobs)
	f.Rows = rows(jobs)
	for _, s := range f.Rows[3].Steps {
		s.State, s.Status, s.End = uint32(wlm.Cancelled), uint32(wlm.SignalStatus(15)), T0+92
	}
	return f
}

// InListOrder returns the cluster with its jobs in the controller's order.
func InListOrder(seconds int64) *Fake {
	f := New(seconds)
	f.Order(ListOrder, jobs())
	return f
}

// Order puts the jobs in an order.
func (f *Fake) Order(ids []wlm.JobID, jobs map[wlm.JobID]*wlm.Job) {
	f.JobList = nil
	for _, id := range ids {
		j := jobs[id]
		info := &ctlv1.JobInfo{Job: wire.JobToWire(j)}
		if j.Alloc != nil {
			info.Nodelist = j.Alloc.NodeList
		}
		f.JobList = append(f.JobList, info)
	}
}

func cpus(first, count int) wlm.CPUSet {
	var s wlm.CPUSet
	for i := range count {
		s = s.Set(first + i)
	}
	return s
}

func tres(cpu, mem, node int) string {
	return fmt.Sprintf("cpu=%d,mem=%dM,node=%d,billing=%d", cpu, mem, node, cpu)
}

type build struct {
	*wlm.Job
	*wlm.Spec
}

// job makes a job as alice submitted them, pending.
func job(id wlm.JobID, name, sluid string, submit int64, line string) build {
	s := &wlm.Spec{
		Name: name, User: 1001, Group: 1001, UserName: "alice", GroupName: "alice", Account: "research", QOS: "normal",
		Partitions: []string{"main"}, MinNodes: 1, MemPerCPU: 100, CPUsPerTask: 1, CoreSpec: wlm.Unset,
		WorkDir: "/home/alice/run", StdOut: "/dev/null", SubmitLine: line, AllocNode: "localhost", AllocSID: 2572,
	}
	if strings.HasSuffix(line, ".sh") {
		s.Argv = []string{line[strings.LastIndex(line, " ")+1:]}
	}
	j := &wlm.Job{
		ID: id, SLUID: sluid, Spec: s, Priority: 11126, Ranked: true, TimeLimit: wlm.Unlimited, Partition: "main",
		Submit: wlm.Time(T0 + submit), Eligible: wlm.Time(T0 + submit), Accrue: wlm.Time(T0 + submit), LastSched: wlm.Time(T0 + submit),
		SchedulerTag: "Main", ReqTRES: tres(1, 100, 1), KilledBy: wlm.Unset, Requeueable: true, ArrayTask: wlm.Unset, NTasks: 1,
	}
	return build{j, s}
}

// runs puts the job on its nodes.
func (b build) runs(start int64, list string, nodes ...wlm.NodeAlloc) {
	b.State, b.Start, b.LastSched = wlm.Running, wlm.Time(T0+start), wlm.Time(T0+start)
	b.BatchHost, b.AllocTRES = nodes[0].Node, b.ReqTRES
	b.Alloc = &wlm.Alloc{NodeList: list, Nodes: nodes}
	if b.Job.TimeLimit != wlm.Unlimited {
		b.End = b.Start + wlm.Time(b.Job.TimeLimit)*60
	}
}

func (b build) ended(state wlm.JobState, end int64, reason wlm.Reason, status wlm.WaitStatus) {
	b.State, b.End, b.Reason, b.Status = state, wlm.Time(T0+end), reason, status
}

func (b build) waits(reason wlm.Reason) { b.Reason = reason }

func on(node wlm.NodeName, first, count int, mem wlm.MiB) wlm.NodeAlloc {
	return wlm.NodeAlloc{Node: node, CPUs: cpus(first, count), Mem: mem}
}

func jobs() map[wlm.JobID]*wlm.Job {
	all := map[wlm.JobID]*wlm.Job{}
	for _, b := range append(append(startedJobs(), waitingJobs()...), array()...) {
		all[b.Job.ID] = b.Job
	}
	return all
}

func startedJobs() []build {
	j1 := job(1, "ok.sh", "s8THM84PMB5P00", 2, "sbatch -o /dev/null ok.sh")
	j1.runs(5, "n1", on("n1", 0, 1, 100))
	j1.ended(wlm.Completed, 5, wlm.ReasonNone, 0)
	j2 := job(2, "fail.sh", "s8THM84PMB5Q00", 2, "sbatch -o /dev/null fail.sh")
	j2.runs(5, "n1", on("n1", 1, 1, 100))
	j2.ended(wlm.Failed, 5, wlm.FailExitCode, wlm.ExitStatus(3))
	j3 := job(3, "wrap", "s8THM84PMB5R00", 2, "sbatch -o /dev/null --wrap kill -9 $$")
	j3.runs(5, "n1", on("n1", 2, 1, 100))
	j3.ended(wlm.Failed, 5, wlm.FailSignal, wlm.SignalStatus(9))
	j4 := job(4, "wrap", "s8THM84PMB6600", 2, "sbatch -o /dev/null -t 1 --wrap sleep 400")
	j4.Job.TimeLimit = 1
	j4.runs(5, "n1", on("n1", 3, 1, 100))
	return []build{j1, j2, j3, j4, demo(), cancelled(), important()}
}

func demo() build {
	b := job(5, "demo", "s8THM84PMB6Q00", 2, "sbatch -o demo-%j.out demo.sh")
	b.Job.TimeLimit, b.Job.Priority, b.StdOut, b.ReqTRES = 10, 11257, "demo-%j.out", tres(4, 400, 2)
	b.MinNodes, b.Spec.NTasks, b.Job.NTasks = 2, 4, 4
	b.runs(5, "n[1-2]", on("n1", 0, 3, 300), on("n2", 0, 1, 100))
	return b
}

func cancelled() build {
	b := job(9, "tocancel", "s8THM84PMG5P00", 8, "sbatch -o /dev/null -t 10 -J tocancel --wrap sleep 300")
	b.Job.TimeLimit, b.KilledBy = 10, 1001
	b.runs(11, "n1", on("n1", 8, 1, 100))
	b.ended(wlm.Cancelled, 17, wlm.ReasonNone, wlm.SignalStatus(15))
	return b
}

func important() build {
	b := job(10, "hiq", "s8THM84PMG5R00", 8, "sbatch -o /dev/null --qos=high --comment=hello --mem=500 -c 2 -J hiq --wrap sleep 300")
	b.QOS, b.Comment, b.MemPerCPU, b.MemPerNode, b.CPUsPerTask = "high", "hello", 0, 500, 2
	b.Job.Priority, b.ReqTRES = 12128, tres(2, 500, 1)
	b.runs(11, "n1", on("n1", 6, 2, 500))
	return b
}

func array() []build {
	mk := func(id wlm.JobID, sluid string) build {
		b := job(id, "wrap", sluid, 7, "sbatch -o /dev/null --array=1-6%2 --wrap sleep 300")
		b.ArrayJob, b.ArrayMaxRunning, b.Accrue, b.Eligible, b.LastSched = 6, 2, T0+8, T0+8, T0+8
		b.ArrayCount, b.ArrayMin, b.ArrayMax, b.ArrayStep = 6, 1, 6, 1
		return b
	}
	rest := mk(6, "s8THM84PMG3P00")
	rest.ArrayTasks, rest.Eligible = []wlm.IDRange{{First: 3, Last: 6, Step: 1}}, 0
	rest.waits(wlm.WaitArrayTaskLimit)
	one, two := mk(7, "s8THM84PMG4500"), mk(8, "s8THM84PMG4501")
	one.ArrayTask, two.ArrayTask = 1, 2
	one.runs(8, "n1", on("n1", 4, 1, 100))
	two.runs(8, "n1", on("n1", 5, 1, 100))
	return []build{rest, one, two}
}

func waitingJobs() []build {
	big := job(11, "wrap", "s8THM84PMN2Y00", 13, "sbatch -o /dev/null -N4 --exclusive --wrap sleep 300")
	big.MinNodes, big.MaxNodes, big.Job.NTasks, big.Share = 4, 4, 4, wlm.ShareNever
	big.Job.Priority, big.ReqTRES, big.LastSched, big.ReasonText = 11507, tres(4, 400, 4), T0+18, noNodes
	big.waits(wlm.WaitResources)
	held := job(12, "ok.sh", "s8THM84PMN3J00", 13, "sbatch -H -o /dev/null ok.sh")
	held.Job.Priority, held.Held, held.Eligible, held.Accrue, held.MaxNodes = 0, true, 0, 0, 1
	held.waits(wlm.WaitHeldUser)
	later := job(13, "later", "s8THM84PMN4400", 13, "sbatch -o /dev/null --begin=now+3600 -J later ok.sh")
	later.Begin, later.Eligible, later.Accrue = T0+3613, T0+3613, 0
	later.waits(wlm.WaitTime)
	dep := job(14, "dep", "s8THM84PMN4P00", 13, "sbatch --parsable -o /dev/null --dependency=afterok:5 -J dep ok.sh")
	dep.Eligible, dep.Accrue = 0, 0
	dep.Deps = []wlm.Dep{{Kind: wlm.DepAfterOK, Job: 5, TaskID: wlm.Unset}}
	dep.waits(wlm.WaitDependency)
	return append([]build{big, held, later, dep}, heterogeneous()...)
}

func heterogeneous() []build {
	const line = "sbatch -o /dev/null -N2 -J het : -N1 --wrap sleep 5"
	a, b := job(15, "het", "s8THM84PMN5800", 13, line), job(16, "het", "s8THM84PMN5801", 13, line)
	a.HetJob, b.HetJob, b.HetOffset, a.HetSet, b.HetSet = 15, 15, 1, "15-16", "15-16"
	a.MinNodes, a.MaxNodes, a.Job.NTasks, a.ReqTRES = 2, 2, 2, tres(2, 200, 2)
	a.Job.Priority, a.LastSched, b.MaxNodes = 11253, T0+18, 1
	return []build{a, b}
}

// step makes a step of a job that still runs.
func step(job wlm.JobID, id wlm.StepID, name string, start int64, nodes string, count, tasks, cpus uint32) *wlm.Step {
	return &wlm.Step{
		Job: job, ID: id, Name: name, User: 1001, State: wlm.Running, Start: wlm.Time(T0 + start), NodeList: nodes,
		Nodes: count, NTasks: tasks, CPUs: cpus, TRES: fmt.Sprintf("cpu=%d,mem=%dM,node=%d", cpus, cpus*100, count),
		Partition: "main", KilledBy: wlm.Unset,
	}
}

func liveSteps() []*wlm.Step {
	first := step(5, 0, "sleep", 5, "n1", 1, 1, 3)
	first.Dist, first.SrunHost, first.SrunPID = "Cyclic", "vm", 31743
	second := step(5, 1, "sleep", 5, "n[1-2]", 2, 4, 4)
	second.Dist, second.SrunHost, second.SrunPID = "Block", "vm", 31742
	hiq := step(10, wlm.StepBatch, "batch", 11, "n1", 1, 1, 2)
	hiq.TRES = "cpu=2,mem=500M,node=1"
	return []*wlm.Step{
		step(4, wlm.StepBatch, "batch", 5, "n1", 1, 1, 1), step(5, wlm.StepBatch, "batch", 5, "n1", 1, 1, 3), first, second,
		step(7, wlm.StepBatch, "batch", 8, "n1", 1, 1, 1), step(8, wlm.StepBatch, "batch", 8, "n1", 1, 1, 1), hiq,
	}
}

func steps(jobs map[wlm.JobID]*wlm.Job) *ctlv1.StepsReply {
	m := &ctlv1.StepsReply{}
	sent := map[wlm.JobID]bool{}
	for _, s := range liveSteps() {
		m.Steps = append(m.Steps, wire.StepToWire(s))
		if !sent[s.Job] {
			sent[s.Job] = true
			m.Jobs = append(m.Jobs, &ctlv1.JobInfo{Job: wire.JobToWire(jobs[s.Job])})
		}
	}
	return m
}

// rows are the records of accounting.
func rows(jobs map[wlm.JobID]*wlm.Job) []*acctstorev1.JobRow {
	over := func(job wlm.JobID, start, end int64, state wlm.JobState, status wlm.WaitStatus) *wlm.Step {
		s := step(job, wlm.StepBatch, "batch", start, "n1", 1, 1, 1)
		s.End, s.State, s.Status = wlm.Time(T0+end), state, status
		return s
	}
	all := append(liveSteps(),
		over(1, 5, 5, wlm.Completed, 0), over(2, 5, 5, wlm.Failed, wlm.ExitStatus(3)),
		over(3, 5, 5, wlm.Cancelled, wlm.SignalStatus(9)), over(9, 11, 17, wlm.Cancelled, wlm.SignalStatus(15)))
	all[len(all)-3].UserUsec = 2883
	var out []*acctstorev1.JobRow
	for id := wlm.JobID(1); id <= 16; id++ {
		j := jobs[id]
		if id == 6 {
			continue // Slurm had not stored the pending tasks
		}
		r := &acctstorev1.JobRow{Cluster: "peer", Job: wire.JobToWire(j)}
		for _, s := range all {
			if s.Job == id {
				r.Steps = append(r.Steps, wire.StepToWire(s))
			}
		}
		out = append(out, r)
	}
	return out
}

func nodes() []*ctlv1.NodeInfo {
	var out []*ctlv1.NodeInfo
	for i := range 4 {
		n := &wlm.Node{
			Name: wlm.NodeName(fmt.Sprintf("n%d", i+1)), Index: wlm.NodeIndex(i), Hostname: "vm", Addr: "127.0.0.1", Port: uint32(16001 + i),
			CPUs: 64, Boards: 1, Sockets: 64, CoresPerSocket: 1, ThreadsPerCore: 1, RealMemory: 8000, Weight: 1,
			State: wlm.NodeUp, LastBusy: T0 + 2, BootTime: T0 - 3739, DaemonStart: T0 + 2, Version: "25.11.7", Arch: "x86_64",
			OS: "Linux 6.18.44-fc-v669 #1 SMP PREEMPT_DYNAMIC @0", CPULoad: 1271, FreeMem: 22386, Registered: true,
		}
		info := &ctlv1.NodeInfo{Partitions: []string{"main"}}
		switch i {
		case 0:
			info.AllocCpus, info.AllocMem, info.Partitions = 8, 1100, []string{"main", "small"}
		case 1:
			info.AllocCpus, info.AllocMem = 1, 100
		case 3:
			n.Flags, n.Reason, n.ReasonTime, n.FreeMem = wlm.NodeDrain, "disk broken", T0+17, 22385
		}
		info.Node = wire.NodeToWire(n)
		out = append(out, info)
	}
	return out
}

func partitions() []*ctlv1.PartitionInfo {
	mk := func(name, nodes string, names ...wlm.NodeName) *wlm.Partition {
		return &wlm.Partition{
			Name: name, Nodes: nodes, NodeNames: names, MaxTime: wlm.Unlimited, MaxNodes: wlm.Unset,
			MaxCPUsPerNode: wlm.Unset, MaxCPUsPerSock: wlm.Unset, PriorityJob: 1, PriorityTier: 1, OverSubCount: 1, OverTimeLimit: wlm.Unset,
		}
	}
	main := mk("main", "n[1-4]", "n1", "n2", "n3", "n4")
	main.Default = true
	small := mk("small", "n1", "n1")
	small.MaxNodes, small.MaxTime = 1, 10
	return []*ctlv1.PartitionInfo{
		{Partition: wire.PartitionToWire(main), TotalNodes: 4, TotalCpus: 256, TotalMem: 32000},
		{Partition: wire.PartitionToWire(small), TotalNodes: 1, TotalCpus: 64, TotalMem: 8000},
	}
}
