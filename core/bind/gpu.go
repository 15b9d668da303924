package bind

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// GPURequest is what a step asks of its GPUs on a node.
type GPURequest struct {
	Devices     []int                    // of the step, by their place among the node's
	Near        func(dev int) wlm.CPUSet // abstract CPUs; nil: all are near
	CPUs        []wlm.CPUSet             // of each task; nil: not bound
	Tasks       int                      // on the node
	Bind        string                   // --gpu-bind or --tres-bind
	PerTask     int                      // --gpus-per-task
	TasksPerGPU int
	Relative    bool // lists and masks count the step's devices, not the node's
}

// GPUs is the answer.
type GPUs struct {
	Tasks   []wlm.CPUSet // the devices of each task; nil: all see all of the step's
	Hidden  bool         // none: tasks are told of no device
	Verbose bool
	Errors  []string // for the step's stderr
}

// gpuWords finds the part of a --gpu-bind or --tres-bind that is about GPUs.
func gpuWords(text string) (kind, list string, verbose bool) {
	if rest, ok := strings.CutPrefix(strings.ToLower(text), "verbose,"); ok {
		verbose, text = true, rest
	}
	for item := range strings.SplitSeq(text, "+") {
		item = strings.ToLower(item)
		for _, prefix := range []string{"gres/gpu:", "gres:gpu:", "gpu:"} {
			item = strings.TrimPrefix(item, prefix)
		}
		if rest, ok := strings.CutPrefix(item, "verbose,"); ok {
			verbose, item = true, rest
		}
		if strings.HasPrefix(item, "gres") {
			continue // of another name
		}
		kind, list, _ = strings.Cut(item, ":")
		return kind, list, verbose
	}
	return "", "", verbose
}

// BindGPUs deals a step's GPUs out.
func BindGPUs(r GPURequest) (out GPUs) {
	kind, list, verbose := gpuWords(r.Bind)
	out.Verbose = verbose
	switch {
	case kind != "":
	case r.PerTask > 0:
		kind, list = "per_task", strconv.Itoa(r.PerTask)
	case r.TasksPerGPU > 0:
		kind, list = "single", strconv.Itoa(r.TasksPerGPU)
	}
	if kind == "" || len(r.Devices) == 0 {
		return out
	}
	count, err := strconv.Atoi(list)
	if err != nil || count < 1 {
		count = 1
	}
	out.Tasks = make([]wlm.CPUSet, r.Tasks)
	switch kind {
	case "none":
		out.Tasks, out.Hidden = nil, true
	case "closest":
		for t := range out.Tasks {
			out.Tasks[t] = setOf(r.closest(t))
		}
	case "single":
		before := map[string]int{}
		for t := range out.Tasks {
			from := r.closest(t)
			key := fmt.Sprint(from)
			out.Tasks[t] = setOf(from[before[key]/count%len(from):][:1])
			before[key]++
		}
	case "per_task":
		left := slices.Clone(r.Devices)
		for t := range out.Tasks {
			out.Tasks[t] = setOf(r.take(t, count, &left))
		}
	case "map_gpu", "mask_gpu":
		r.listed(kind, list, &out)
	}
	return out
}

func setOf(devices []int) wlm.CPUSet {
	s := wlm.CPUSet{}
	for _, d := range devices {
		s = s.Set(d)
	}
	return s
}

// closest are the devices near a task's CPUs, or all when none is.
func (r *GPURequest) closest(task int) (out []int) {
	if r.Near == nil || task >= len(r.CPUs) || r.CPUs[task].Count() == 0 {
		return r.Devices
	}
	for _, d := range r.Devices {
		if near := r.Near(d); near.Count() == 0 || near.Overlaps(r.CPUs[task]) {
			out = append(out, d)
		}
	}
	if out == nil {
		return r.Devices
	}
	return out
}

// take removes devices from what is left, those near the task first.
func (r *GPURequest) take(task, count int, left *[]int) (out []int) {
	for _, from := range [][]int{r.closest(task), r.Devices} {
		for _, d := range from {
			if i := slices.Index(*left, d); i >= 0 && len(out) < count {
				out = append(out, d)
				*left = slices.Delete(*left, i, i+1)
			}
		}
	}
	if len(out) == 0 {
		return r.Devices[:min(count, len(r.Devices))]
	}
	return out
}

// listed reads map_gpu and mask_gpu.
func (r *GPURequest) listed(kind, list string, out *GPUs) {
	lists, err := sets(list, kind == "mask_gpu")
	if err != nil {
		out.Tasks = nil
		out.Errors = append(out.Errors, fmt.Sprintf("--gpu-bind=%s:%s: %v", kind, list, err))
		return
	}
	outside := false
	for t := range out.Tasks {
		s := wlm.CPUSet{}
		for d := range lists[t%len(lists)].All {
			switch {
			case r.Relative && d < len(r.Devices):
				s = s.Set(r.Devices[d])
			case !r.Relative && slices.Contains(r.Devices, d):
				s = s.Set(d)
			}
		}
		if s.Count() == 0 {
			s, outside = s.Set(r.Devices[0]), true
		}
		out.Tasks[t] = s
	}
	if outside {
		out.Errors = append(out.Errors, fmt.Sprintf("Bind request %s:%s does not specify any devices within the allocation. "+
			"Binding to the first device in the allocation instead.", kind, list))
	}
}

// GPUNote is the line that --gpu-bind=verbose writes for a task.
func GPUNote(use, all wlm.CPUSet, global, local string) string {
	return fmt.Sprintf("gpu-bind: usable_gres=0x%s; bit_alloc=0x%s; local_inx=0; global_list=%s; local_list=%s",
		strings.ToUpper(hex(use, 1)), strings.ToUpper(hex(all, 1)), global, local)
}
