package pluginhost

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Limits bound what a plugin's process may use. Where the kernel's control
// groups can be written, they hold the process and its children to them: more
// memory ends the process, more CPU waits. Elsewhere memory is bounded by
// RLIMIT_DATA, and a process that uses more CPU for a minute is restarted.
type Limits struct {
	Memory uint64  // bytes; 0: no limit
	CPUs   float64 // 0: no limit
}

const (
	cgroupMount  = "/sys/fs/cgroup"
	cgroupPeriod = 100_000 // µs, the kernel's default
	maxFiles     = 1024    // descriptors of a limited plugin
	cpuWindow    = time.Minute
)

// cage is where a limited process is.
type cage struct {
	limits Limits
	dirs   []string // cgroups to remove
	memory string   // what holds it: cgroup, rlimit; empty: nothing
	cpu    string

	windowStart time.Time // of the watch over the CPU time
	windowUsed  float64   // CPU seconds at its start
}

// confine puts a process that has just started under its limits. Limits that
// cannot be set are told by describe, and do not keep a plugin from serving.
func confine(pid int, name string, l Limits) *cage {
	c := &cage{limits: l}
	if l == (Limits{}) {
		return c
	}
	for which, n := range map[int]uint64{unix.RLIMIT_CORE: 0, unix.RLIMIT_NOFILE: maxFiles} {
		_ = unix.Prlimit(pid, which, &unix.Rlimit{Cur: n, Max: n}, nil) // tighter is better, but not needed
	}
	group := filepath.Join("sluice", "plugins", name+"-"+strconv.Itoa(pid))
	if _, err := os.Stat(cgroupMount + "/cgroup.controllers"); err == nil {
		delegate("sluice", "sluice/plugins")
		dir := filepath.Join(cgroupMount, group)
		if c.join(pid, dir, "") {
			c.set(&c.memory, l.Memory > 0, dir, "memory.max", strconv.FormatUint(l.Memory, 10))
			c.set(&c.cpu, l.CPUs > 0, dir, "cpu.max", fmt.Sprintf("%d %d", int64(l.CPUs*cgroupPeriod), cgroupPeriod))
		}
	} else {
		if dir := filepath.Join(cgroupMount, "memory", group); l.Memory > 0 && c.join(pid, dir, "memory") {
			c.set(&c.memory, true, dir, "memory.limit_in_bytes", strconv.FormatUint(l.Memory, 10))
		}
		if dir := filepath.Join(cgroupMount, "cpu", group); l.CPUs > 0 && c.join(pid, dir, "cpu") {
			c.set(&c.cpu, true, dir, "cpu.cfs_quota_us", strconv.FormatInt(int64(l.CPUs*cgroupPeriod), 10))
		}
	}
	if l.Memory > 0 && c.memory == "" && unix.Prlimit(pid, unix.RLIMIT_DATA, &unix.Rlimit{Cur: l.Memory, Max: l.Memory}, nil) == nil {
		c.memory = "rlimit"
	}
	if l.CPUs > 0 && c.cpu == "" {
		c.cpu = "watch"
	}
	return c
}

// delegate lets groups below have the controllers. Where that is not allowed
// the settings fail, and limits are held otherwise.
func delegate(groups ...string) {
	for _, g := range append([]string{""}, groups...) {
		dir := filepath.Join(cgroupMount, g)
		_ = os.MkdirAll(dir, 0o755)
		for _, c := range []string{"+memory", "+cpu"} {
			_ = os.WriteFile(dir+"/cgroup.subtree_control", []byte(c), 0)
		}
	}
}

// join makes a group and moves the process into it. On v1 the controller must
// be mounted, and the group is made where its mount is.
func (c *cage) join(pid int, dir, controller string) bool {
	if controller != "" {
		if st, err := os.Stat(filepath.Join(cgroupMount, controller, "tasks")); err != nil || !st.Mode().IsRegular() {
			return false
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return false
	}
	if err := os.WriteFile(dir+"/cgroup.procs", []byte(strconv.Itoa(pid)), 0); err != nil {
		_ = os.Remove(dir)
		return false
	}
	c.dirs = append(c.dirs, dir)
	return true
}

func (c *cage) set(by *string, want bool, dir, file, value string) {
	if want && os.WriteFile(filepath.Join(dir, file), []byte(value), 0) == nil {
		*by = "cgroup"
	}
}

// excess says that the process used more CPU than it may, where only a watch
// holds it; it is asked now and then.
func (c *cage) excess(pid int, now time.Time) string {
	if c.cpu != "watch" {
		return ""
	}
	used, _ := usage(pid)
	if c.windowStart.IsZero() {
		c.windowStart, c.windowUsed = now, used
		return ""
	}
	passed := now.Sub(c.windowStart)
	if passed < cpuWindow {
		return ""
	}
	over := (used - c.windowUsed) / passed.Seconds()
	c.windowStart, c.windowUsed = now, used
	if over <= c.limits.CPUs {
		return ""
	}
	return fmt.Sprintf("it used %.1f CPUs for a minute, its cpu_limit is %g", over, c.limits.CPUs)
}

// describe lists the limits and what holds them.
func (c *cage) describe() []string {
	var out []string
	if c.limits.Memory > 0 {
		out = append(out, fmt.Sprintf("memory=%dM (%s)", c.limits.Memory>>20, held(c.memory)))
	}
	if c.limits.CPUs > 0 {
		out = append(out, fmt.Sprintf("cpus=%s (%s)", strings.TrimSuffix(fmt.Sprintf("%.1f", c.limits.CPUs), ".0"), held(c.cpu)))
	}
	return out
}

func held(by string) string {
	if by == "" {
		return "not enforced here"
	}
	return by
}

// remove removes the groups of a process that has ended.
func (c *cage) remove() {
	for _, dir := range c.dirs {
		_ = os.Remove(dir)
	}
}
