package agent

import (
	"slices"
	"strings"

	"github.com/sluice-hpc/sluice/core/bind"
	"github.com/sluice-hpc/sluice/sdk/proto/launch/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Binding is how tasks are bound to CPUs on this host.
type Binding struct {
	Affinity bool   // TaskPlugin has task/affinity
	Block    bool   // CR_CORE_DEFAULT_DIST_BLOCK
	Auto     string // TaskPluginParam's Autobind=, in --cpu-bind's word; empty: none
	Verbose  bool   // TaskPluginParam=Verbose
	HostCPUs []int  // the kernel's numbers, thread by thread, core by core, socket by socket
}

// layout is how this node's CPUs lie, and where they are on the host.
func (a *Agent) layout(at *nodev1.NodeAt) *bind.Node {
	n := &bind.Node{Name: string(a.Node), Sockets: int(max(at.GetSockets(), 1)), Cores: int(max(at.GetCoresPerSocket(), 1)),
		Threads: int(max(at.GetThreadsPerCore(), 1)), Width: len(a.HostCPUs)}
	if n.Sockets*n.Cores*n.Threads == len(a.HostCPUs) {
		n.Host = a.HostCPUs
	}
	return n
}

// onHost are the kernel's numbers of CPUs, nil when the host does not have all
// of them.
func (a *Agent) onHost(n *bind.Node, s wlm.CPUSet) wlm.CPUSet {
	out := n.HostSet(s)
	for c := range out.All {
		if !slices.Contains(a.HostCPUs, c) {
			return nil
		}
	}
	return out
}

// usable are the CPUs of a set that the host has; when it has none of them, the
// set itself, to which nothing can be bound.
func (a *Agent) usable(n *bind.Node, s wlm.CPUSet) (out wlm.CPUSet) {
	for c := range s.All {
		if slices.Contains(a.HostCPUs, slices.Collect(n.HostSet(wlm.CPUSet{}.Set(c)).All)[0]) {
			out = out.Set(c)
		}
	}
	if out == nil {
		return s
	}
	return out
}

// bindBatch gives a job's script all of the job's CPUs and devices here.
func (a *Agent) bindBatch(q *launchv1.LaunchRequest, at *nodev1.NodeAt, gres string) {
	n := a.layout(at)
	q.HostCpus = a.onHost(n, q.GetCpuSet())
	if a.Affinity {
		q.Tasks = []*launchv1.TaskSettings{{Cpus: a.onHost(n, a.usable(n, q.GetCpuSet()))}}
	}
	if q.ConstrainDevices = a.ConstrainDevices; q.ConstrainDevices {
		q.DenyDevices = a.denied(gres)
	}
}

// bindStep gives each task of a step its CPUs and GPUs, and tells it so.
func (a *Agent) bindStep(q *launchv1.LaunchRequest, at *nodev1.NodeAt) error {
	a.bindBatch(q, at, at.GetGres())
	if wlm.StepID(q.GetStep()) >= wlm.StepInteractive {
		return nil
	}
	n := a.layout(at)
	e := newEnviron(q.GetWork().GetEnv())
	q.Tasks = make([]*launchv1.TaskSettings, len(q.GetTaskIds()))
	for t := range q.Tasks {
		q.Tasks[t] = &launchv1.TaskSettings{}
	}
	var cpus []wlm.CPUSet
	if a.Affinity {
		c, err := n.Bind(bind.CPURequest{CPUs: a.usable(n, q.GetCpuSet()), Tasks: len(q.GetTaskIds()), CPUsPerTask: int(q.GetCpusPerTask()),
			Bind: q.GetWork().GetCpuBind(), Distribution: q.GetWork().GetDistribution(), Block: a.Block, Auto: a.Auto, Verbose: a.Verbose})
		if err != nil {
			return err
		}
		cpus = slices.Clone(c.Tasks)
		for t := range q.Tasks {
			if len(cpus) > t {
				q.Tasks[t].Cpus = a.onHost(n, cpus[t])
			}
			if c.Verbose {
				q.Tasks[t].Notes = append(q.Tasks[t].Notes, c.Note(n, q.GetTaskIds()[t], t, len(q.Tasks[t].Cpus) > 0))
			}
		}
		for _, v := range c.Env() {
			e.set(v[0], v[1])
		}
	}
	a.bindGPUs(q, at, e, n, cpus)
	q.Work.Env = e.list
	return nil
}

// bindGPUs lets each task see its own of the step's GPUs.
func (a *Agent) bindGPUs(q *launchv1.LaunchRequest, at *nodev1.NodeAt, e *environ, n *bind.Node, cpus []wlm.CPUSet) {
	uses, _ := wlm.ParseGresUse(at.GetGres())
	all := wlm.CPUSet{}
	for _, u := range uses {
		if u.Name == "gpu" {
			all = all.Or(u.Devices)
		}
	}
	if q.GetNtasks() < 2 || all.Count() == 0 {
		return // one task has what the step has
	}
	near := func(d int) (out wlm.CPUSet) {
		dev := a.device("gpu", d)
		if dev == nil {
			return nil
		}
		for core := range dev.Cores.All {
			for t := range n.Threads {
				out = out.Set(core*n.Threads + t)
			}
		}
		return out
	}
	for t := range cpus { // a task that has all of the step's CPUs is near all that these are near to
		if cpus[t].Count() == a.usable(n, q.GetCpuSet()).Count() {
			cpus[t] = q.GetCpuSet()
		}
	}
	g := bind.BindGPUs(bind.GPURequest{Devices: slices.Collect(all.All), Near: near, CPUs: cpus, Tasks: len(q.Tasks),
		Bind: q.GetWork().GetTresBind(), Relative: a.ConstrainDevices})
	if g.Hidden {
		e.unset("SLURM_STEP_GPUS")
		for _, v := range gpuVars {
			e.unset(v[0])
		}
	}
	for t, s := range q.Tasks {
		if t == 0 {
			for _, text := range g.Errors {
				s.Notes = append(s.Notes, "slurmstepd-"+string(a.Node)+": error: "+text)
			}
		}
		use := all
		if len(g.Tasks) > t {
			use = g.Tasks[t]
			for _, v := range a.visible("SLURM_STEP_", "gpu", use) {
				s.Env = append(s.Env, v[0]+"="+v[1])
			}
			if a.ConstrainDevices {
				s.DenyDevices = a.others(all, use)
			}
		}
		if g.Verbose {
			s.Notes = append(s.Notes, bind.GPUNote(use, all, numbers(use), a.localNumbers(use)))
		}
	}
}

// others are the files of the devices of all that are not in use.
func (a *Agent) others(all, use wlm.CPUSet) (out []string) {
	for d := range all.AndNot(use).All {
		out = append(out, a.files("gpu", d)...)
	}
	return out
}

func numbers(s wlm.CPUSet) string {
	var b strings.Builder
	for d := range s.All {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(wlm.CPUSet{}.Set(d).String())
	}
	return b.String()
}

func (a *Agent) localNumbers(use wlm.CPUSet) string {
	if a.ConstrainDevices {
		return numbers(wlm.FullCPUSet(use.Count()))
	}
	return numbers(use)
}
