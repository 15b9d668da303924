package agent

import (
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// gpuVars are what the makers' libraries read to learn which GPUs they may use.
var gpuVars = []string{"CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ZE_AFFINITY_MASK"}

// gresEnv tells processes what their job has of the node's generic resources.
// prefix is SLURM_JOB_ or SLURM_STEP_. A job without GPUs where there are any
// is told to use none.
func (a *Agent) gresEnv(e *environ, prefix, text string) {
	uses, _ := wlm.ParseGresUse(text)
	numbers, gpus := []string(nil), uint64(0)
	for _, u := range uses {
		switch u.Name {
		case "gpu":
			gpus += u.Count
		case "shard", "mps":
			name := "SLURM_" + strings.ToUpper(u.Name) + "S_ON_NODE"
			if u.Name == "mps" {
				name = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"
			}
			e.num(name, u.Count)
			gpus += uint64(u.Devices.Count())
		default:
			continue
		}
		for d := range u.Devices.All {
			numbers = append(numbers, a.deviceNumber(u.Name, d))
		}
	}
	if gpus == 0 {
		if a.hasGPUs() {
			for _, name := range gpuVars[:1] {
				e.set(name, "NoDevFiles")
			}
		}
		return
	}
	e.num("SLURM_GPUS_ON_NODE", gpus)
	if len(numbers) == 0 {
		return
	}
	list := strings.Join(numbers, ",")
	e.set(prefix+"GPUS", list)
	for _, name := range gpuVars {
		e.set(name, list)
	}
}

func (a *Agent) hasGPUs() bool {
	for _, p := range a.Gres {
		if p.Name == "gpu" && len(p.Devices) > 0 {
			return true
		}
	}
	return false
}

// deviceNumber is the number in a device's file name, /dev/nvidia3, or else its
// place among the node's devices.
func (a *Agent) deviceNumber(name string, index int) string {
	for _, p := range a.Gres {
		if p.Name != name || index >= len(p.Devices) {
			continue
		}
		file := p.Devices[index].File
		digits := file[len(strings.TrimRight(file, "0123456789")):]
		if digits != "" {
			return strings.TrimLeft(digits[:len(digits)-1], "0") + digits[len(digits)-1:]
		}
	}
	return strconv.Itoa(index)
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
