package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/proto/launch/v1"
	"github.com/sluice-hpc/sluice/sdk/stepd"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"golang.org/x/sys/unix"
)

// cgroupMount is where the kernel's control groups are mounted.
const cgroupMount = "/sys/fs/cgroup"

// cgroups are the groups that the step's tasks run in, when cores or memory
// are constrained. Which version the host has is seen by its mounts. A host
// whose groups cannot be used runs the step without; the supervisor says so.
func cgroups(r *launchv1.LaunchRequest) []stepd.Cgroup {
	if !r.GetConstrainCores() && !r.GetConstrainMemory() && !r.GetConstrainDevices() {
		return nil
	}
	root := strings.Trim(r.GetCgroupRoot(), "/")
	if root == "" {
		root = "sluice"
	}
	path := "/" + root + "/" + r.GetNode() + "_job_" + strconv.Itoa(int(r.GetJob())) + "_step_" + wlm.StepID(r.GetStep()).String()
	cpus := boundCPUs(r)
	bytes := strconv.FormatUint(r.GetMem()<<20, 10)
	memory := r.GetConstrainMemory() && r.GetMem() > 0
	if _, err := os.Stat(cgroupMount + "/cgroup.controllers"); err == nil {
		delegate(root)
		g := stepd.Cgroup{Dir: cgroupMount + path, OOM: "memory.events"}
		if memory {
			g.Values = append(g.Values, stepd.CgroupValue{File: "memory.max", Value: bytes})
		}
		if len(cpus) > 0 {
			g.Values = append(g.Values, stepd.CgroupValue{File: "cpuset.cpus", Value: numbers(cpus)})
		}
		return []stepd.Cgroup{g}
	}
	var out []stepd.Cgroup
	if memory && isDir(cgroupMount+"/memory") {
		out = append(out, stepd.Cgroup{Dir: cgroupMount + "/memory" + path, OOM: "memory.oom_control",
			Values: []stepd.CgroupValue{{File: "memory.limit_in_bytes", Value: bytes}}})
	}
	if len(cpus) > 0 && isDir(cgroupMount+"/cpuset") {
		if mems, err := inheritCpuset(cgroupMount+"/cpuset", root); err == nil {
			out = append(out, stepd.Cgroup{Dir: cgroupMount + "/cpuset" + path, Values: []stepd.CgroupValue{
				{File: "cpuset.mems", Value: mems}, {File: "cpuset.cpus", Value: numbers(cpus)}}})
		}
	}
	if r.GetConstrainDevices() && isDir(cgroupMount+"/devices") {
		out = append(out, deviceGroups(r, cgroupMount+"/devices"+path)...)
	}
	return out
}

// deviceGroups are the groups of version 1 that keep a step, and its tasks,
// from devices that are not theirs. A new group may use what its parent may.
func deviceGroups(r *launchv1.LaunchRequest, dir string) []stepd.Cgroup {
	deny := func(files []string) (out []stepd.CgroupValue) {
		for _, f := range files {
			var st unix.Stat_t
			if unix.Stat(f, &st) != nil {
				continue
			}
			kind := "c"
			switch st.Mode & unix.S_IFMT {
			case unix.S_IFBLK:
				kind = "b"
			case unix.S_IFCHR:
			default:
				continue // a file that stands for a device
			}
			out = append(out, stepd.CgroupValue{File: "devices.deny",
				Value: fmt.Sprintf("%s %d:%d rwm", kind, unix.Major(st.Rdev), unix.Minor(st.Rdev))})
		}
		return out
	}
	out := []stepd.Cgroup{{Dir: dir, Values: deny(r.GetDenyDevices())}}
	for i, t := range r.GetTasks() {
		if values := deny(t.GetDenyDevices()); len(values) > 0 {
			out = append(out, stepd.Cgroup{Dir: dir + "/task_" + strconv.Itoa(int(r.GetTaskIds()[i])), Values: values, Task: i + 1})
		}
	}
	return out
}

func numbers(cpus []int) string {
	var s wlm.CPUSet
	for _, c := range cpus {
		s = s.Set(c)
	}
	return s.String()
}

// inheritCpuset makes the groups of version 1 from mount down to root usable: a
// new cpuset has neither processors nor memory nodes, and takes no process until
// it has both. It returns the memory nodes.
func inheritCpuset(mount, root string) (mems string, err error) {
	dir := mount
	for _, part := range strings.Split(root, "/") {
		up := dir
		dir += "/" + part
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return "", err
		}
		for _, file := range []string{"/cpuset.cpus", "/cpuset.mems"} {
			own, err := os.ReadFile(dir + file)
			if err != nil {
				return "", err
			}
			if mems = strings.TrimSpace(string(own)); mems != "" {
				continue
			}
			given, err := os.ReadFile(up + file)
			if err != nil {
				return "", err
			}
			if err := os.WriteFile(dir+file, given, 0); err != nil {
				return "", err
			}
			mems = strings.TrimSpace(string(given))
		}
	}
	return mems, nil
}

// delegate lets groups below root have the controllers that steps use. Where
// that is not allowed, the step's own settings fail, which is told then.
func delegate(root string) {
	os.MkdirAll(cgroupMount+"/"+root, 0o755)
	for _, dir := range []string{cgroupMount, cgroupMount + "/" + root} {
		for _, c := range []string{"+memory", "+cpuset"} {
			os.WriteFile(dir+"/cgroup.subtree_control", []byte(c), 0)
		}
	}
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}
