package agent

import (
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// gpuVars are what the makers' libraries read to learn which GPUs they may use,
// and the flag of gres.conf that asks for each.
var gpuVars = [][2]string{{"CUDA_VISIBLE_DEVICES", "nvidia_gpu_env"}, {"ROCR_VISIBLE_DEVICES", "amd_gpu_env"},
	{"ZE_AFFINITY_MASK", "intel_gpu_env"}, {"GPU_DEVICE_ORDINAL", "opencl_env"}}

// gpuEnv lists the variables that tell of GPUs with these flags: those asked
// for, or all.
func gpuEnv(flags string) (names []string) {
	flags = strings.ToLower(flags)
	if strings.Contains(flags, "no_gpu_env") {
		return nil
	}
	for _, v := range gpuVars {
		if strings.Contains(flags, v[1]) || !strings.Contains(flags, "_env") {
			names = append(names, v[0])
		}
	}
	return names
}

// gresEnv tells processes what they have of the node's generic resources.
// prefix is SLURM_JOB_ or SLURM_STEP_. Whoever has no GPU hears of none, not
// even of those that the environment of the job's script names.
func (a *Agent) gresEnv(e *environ, prefix, text string) {
	uses, _ := wlm.ParseGresUse(text)
	gpus, devices, pool := uint64(0), wlm.CPUSet{}, ""
	for _, v := range gpuVars {
		e.unset(v[0])
	}
	for _, name := range []string{prefix + "GPUS", "SLURM_GPUS_ON_NODE", "SLURM_SHARDS_ON_NODE", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"} {
		e.unset(name)
	}
	for _, u := range uses {
		switch u.Name {
		case "gpu":
			gpus += u.Count
		case "shard":
			e.num("SLURM_SHARDS_ON_NODE", u.Count)
			gpus += uint64(u.Devices.Count())
		case "mps":
			e.num("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", u.Count)
			gpus += uint64(u.Devices.Count())
		default:
			continue
		}
		if u.Devices.Count() > 0 {
			devices, pool = devices.Or(u.Devices), u.Name
		}
	}
	if gpus == 0 {
		return
	}
	e.num("SLURM_GPUS_ON_NODE", gpus)
	if pool == "" {
		return
	}
	for _, v := range a.visible(prefix, pool, devices) {
		e.set(v[0], v[1])
	}
}

// visible are the variables of those who use devices of a pool. Where devices
// are constrained, the makers' libraries find no others, and count from 0.
func (a *Agent) visible(prefix, pool string, devices wlm.CPUSet) (out [][2]string) {
	var global, local []string
	flags := ""
	for d := range devices.All {
		global = append(global, a.deviceNumber(pool, d))
		local = append(local, strconv.Itoa(len(local)))
		if dev := a.device(pool, d); dev != nil {
			flags += dev.Flags
		}
	}
	seen := global
	if a.ConstrainDevices {
		seen = local
	}
	out = append(out, [2]string{prefix + "GPUS", strings.Join(global, ",")})
	for _, name := range gpuEnv(flags) {
		out = append(out, [2]string{name, strings.Join(seen, ",")})
	}
	return out
}

// device is one of a pool's devices, or nil.
func (a *Agent) device(name string, index int) *wlm.GresDevice {
	for i := range a.Gres {
		if p := &a.Gres[i]; p.Name == name && index < len(p.Devices) {
			return &p.Devices[index]
		}
	}
	return nil
}

// deviceNumber is the number in the name of an NVIDIA device's file, which is
// what its library counts by, or else the place among the node's devices.
func (a *Agent) deviceNumber(name string, index int) string {
	const nvidia = "/dev/nvidia"
	if dev := a.device(name, index); dev != nil {
		file, _, _ := strings.Cut(dev.File, wlm.FileSeparator)
		if n, err := strconv.Atoi(strings.TrimPrefix(file, nvidia)); err == nil && strings.HasPrefix(file, nvidia) {
			return strconv.Itoa(n)
		}
	}
	return strconv.Itoa(index)
}

// denied are the device files of the node that whoever has only this of its
// resources may not open.
func (a *Agent) denied(text string) (out []string) {
	uses, _ := wlm.ParseGresUse(text)
	mine := map[string]bool{}
	for _, u := range uses {
		for d := range u.Devices.All {
			for _, f := range a.files(u.Name, d) {
				mine[f] = true
			}
		}
	}
	for _, p := range a.Gres {
		for d := range p.Devices {
			for _, f := range a.files(p.Name, d) {
				if !mine[f] {
					mine[f] = true
					out = append(out, f)
				}
			}
		}
	}
	return out
}

func (a *Agent) files(name string, index int) []string {
	dev := a.device(name, index)
	if dev == nil || dev.File == "" {
		return nil
	}
	return strings.Split(dev.File, wlm.FileSeparator)
}

// gresOf is what a job has of a node.
func gresOf(j *wlm.Job, node wlm.NodeName) string {
	if j.Alloc != nil {
		for i := range j.Alloc.Nodes {
			if j.Alloc.Nodes[i].Node == node {
				return j.Alloc.Nodes[i].Gres
			}
		}
	}
	return ""
}
