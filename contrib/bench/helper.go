package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// This program is also its own helper: the command of an allocation, and the
// parent of a command whose memory is measured.
const (
	stepsArg = "run-steps" // N LOOPS: run N steps, print the microseconds it took
	peakArg  = "peak-of"   // COMMAND...: run it, print the most memory it had, in KiB
)

func helper(args []string) (code int, helped bool) {
	const least = 2
	if len(args) < least {
		return 0, false
	}
	switch args[0] {
	case stepsArg:
		return stepLoops(args[1:]), true
	case peakArg:
		return peakOf(args[1:]), true
	}
	return 0, false
}

// stepLoops runs srun many times from concurrent loops.
func stepLoops(args []string) int {
	const want = 2
	if len(args) != want {
		return 2
	}
	n, err1 := strconv.Atoi(args[0])
	loops, err2 := strconv.Atoi(args[1])
	if err1 != nil || err2 != nil {
		return 2
	}
	var all sync.WaitGroup
	bad := make(chan string, n)
	began := time.Now()
	for i := range loops {
		all.Go(func() {
			for j := i; j < n; j += loops {
				if out, err := exec.Command("srun", "-n1", "--exact", "--mem=10", "true").CombinedOutput(); err != nil {
					bad <- fmt.Sprintf("%v: %s", err, out)
				}
			}
		})
	}
	all.Wait()
	took := time.Since(began)
	close(bad)
	if text, ok := <-bad; ok {
		fmt.Fprintln(os.Stderr, "a step failed:", text)
		return 1
	}
	fmt.Println(took.Microseconds())
	return 0
}

// peakOf needs a process of its own because a child's figure starts with that
// of its parent, and the bench's holds the results of whole tests.
func peakOf(line []string) int {
	cmd := exec.Command(line[0], line[1:]...)
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return 1
	}
	fmt.Println(u.Maxrss)
	return 0
}

// ownMemory is a process's own memory now and at its most, in MiB. Only
// anonymous pages count for now: machines that reclaim early drop the file pages
// of idle processes.
func ownMemory(pid int) (now, most float64) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	check(err)
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		key, value, _ := strings.Cut(s.Text(), ":")
		if key != "RssAnon" && key != "VmHWM" {
			continue
		}
		kib, err := strconv.ParseFloat(strings.Fields(value)[0], 64)
		check(err)
		const unit = 1024
		if key == "VmHWM" {
			most = kib / unit
		} else {
			now = kib / unit
		}
	}
	if now == 0 {
		fail("process %d tells no RssAnon", pid)
	}
	return now, most
}

// cpuTime is what a process has used of the processors.
func cpuTime(pid int) time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	check(err)
	// The name, in parentheses, may contain anything; user and system time are
	// the 12th and 13th fields behind it, in ticks of 10 ms.
	f := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	const user, system, tick = 11, 12, 10 * time.Millisecond
	u, err1 := strconv.Atoi(f[user])
	s, err2 := strconv.Atoi(f[system])
	check(err1)
	check(err2)
	return time.Duration(u+s) * tick
}

// familyTime is cpuTime of a process and of its children: a daemon and its
// plugins.
func familyTime(pid int) time.Duration {
	total := cpuTime(pid)
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	check(err)
	for _, t := range tasks {
		list, _ := os.ReadFile(t) // a thread may have ended
		for _, f := range strings.Fields(string(list)) {
			child, err := strconv.Atoi(f)
			check(err)
			total += cpuTime(child)
		}
	}
	return total
}

// ownTime is cpuTime of this process.
func ownTime() time.Duration {
	var u syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
