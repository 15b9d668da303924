package main

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"golang.org/x/sys/unix"
)

// hardware is what a host has, read from below root ("/" but in tests).
type hardware struct {
	cpus, boards, sockets, cores, threads uint32
	memory, tmp                           uint64 // MiB
}

// detect reads the host. What cannot be read is taken as the simplest case.
func detect(root, tmpFS string) hardware {
	h := hardware{boards: 1, sockets: 1, threads: 1}
	dirs, err := filepath.Glob(filepath.Join(root, "sys/devices/system/cpu/cpu[0-9]*"))
	if err != nil {
		dirs = nil
	}
	packages, cores := map[string]bool{}, map[string]bool{}
	for _, d := range dirs {
		if online, ok := readLine(d + "/online"); ok && online == "0" {
			continue
		}
		pkg, ok1 := readLine(d + "/topology/physical_package_id")
		core, ok2 := readLine(d + "/topology/core_id")
		if !ok1 || !ok2 {
			continue
		}
		h.cpus++
		packages[pkg] = true
		cores[pkg+"/"+core] = true
	}
	if h.cpus == 0 {
		h.cpus = uint32(runtime.NumCPU())
	}
	if len(packages) > 0 {
		h.sockets = uint32(len(packages))
	}
	h.cores = max(h.cpus/h.sockets, 1)
	if n := uint32(len(cores)); n > 0 {
		h.cores = max(n/h.sockets, 1)
		h.threads = max(h.cpus/n, 1)
	}
	const kibPerMiB = 1024
	h.memory = memInfo(root, "MemTotal") / kibPerMiB
	var st syscall.Statfs_t
	if syscall.Statfs(tmpFS, &st) == nil {
		h.tmp = st.Blocks * uint64(st.Bsize) >> 20
	}
	return h
}

// hostCPUs are the kernel's numbers of the host's CPUs, thread by thread, core
// by core, socket by socket.
func hostCPUs(root string) (out []int) {
	type place struct{ socket, core, cpu int }
	var places []place
	dirs, err := filepath.Glob(filepath.Join(root, "sys/devices/system/cpu/cpu[0-9]*"))
	if err != nil {
		return nil
	}
	for _, d := range dirs {
		num := func(file string) int {
			text, _ := readLine(d + file)
			n, err := strconv.Atoi(text)
			if err != nil {
				return -1
			}
			return n
		}
		cpu, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(d), "cpu"))
		if err != nil || num("/online") == 0 || num("/topology/core_id") < 0 {
			continue
		}
		places = append(places, place{num("/topology/physical_package_id"), num("/topology/core_id"), cpu})
	}
	slices.SortFunc(places, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.socket, b.socket), cmp.Compare(a.core, b.core), cmp.Compare(a.cpu, b.cpu))
	})
	for _, p := range places {
		out = append(out, p.cpu)
	}
	if out == nil {
		for c := range runtime.NumCPU() {
			out = append(out, c)
		}
	}
	return out
}

func readLine(path string) (string, bool) {
	b, err := os.ReadFile(path)
	return string(bytes.TrimSpace(b)), err == nil
}

// memInfo reads one row of /proc/meminfo, in KiB; 0 when there is none.
func memInfo(root, key string) uint64 {
	b, err := os.ReadFile(filepath.Join(root, "proc/meminfo"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			n, _ := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return n
		}
	}
	return 0
}

// load is the load average of a minute in hundredths, and the free memory in
// MiB.
func load() (cpuLoad uint32, freeMem uint64) {
	const hundredths, kibPerMiB = 100, 1024
	if s, ok := readLine("/proc/loadavg"); ok {
		if f, err := strconv.ParseFloat(strings.Fields(s + " 0")[0], 64); err == nil {
			cpuLoad = uint32(f*hundredths + 0.5)
		}
	}
	return cpuLoad, memInfo("/", "MemFree") / kibPerMiB
}

// bootTime is when the host started, in Unix seconds.
func bootTime() int64 {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "btime "); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
			return n
		}
	}
	return 0
}

// facts are what every node of this host registers with.
func facts(h hardware, host, version string, boot int64) *nodev1.Register {
	r := &nodev1.Register{Version: version, Hostname: host, Cpus: h.cpus, Boards: h.boards, Sockets: h.sockets,
		CoresPerSocket: h.cores, ThreadsPerCore: h.threads, RealMemory: h.memory, TmpDisk: h.tmp, BootTime: boot,
		DaemonStart: time.Now().Unix()}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		r.Arch = unix.ByteSliceToString(u.Machine[:])
		r.Os = unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:]) + " " + unix.ByteSliceToString(u.Version[:])
	}
	return r
}

// confLine is what slurmd -C prints.
func confLine(h hardware, host string, up time.Duration) string {
	s := int(up.Seconds())
	const minute, hour, day = 60, 3600, 86400
	return fmt.Sprintf("NodeName=%s CPUs=%d Boards=%d SocketsPerBoard=%d CoresPerSocket=%d ThreadsPerCore=%d RealMemory=%d\nUpTime=%d-%02d:%02d:%02d\n",
		host, h.cpus, h.boards, h.sockets/h.boards, h.cores, h.threads, h.memory, s/day, s%day/hour, s%hour/minute, s%minute)
}
