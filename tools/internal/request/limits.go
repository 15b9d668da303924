package request

import (
	"io"
	"os"
	"slices"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/nofile"
	"golang.org/x/sys/unix"
)

var limitNumbers = map[string]int{"AS": unix.RLIMIT_AS, "CORE": unix.RLIMIT_CORE, "CPU": unix.RLIMIT_CPU,
	"DATA": unix.RLIMIT_DATA, "FSIZE": unix.RLIMIT_FSIZE, "MEMLOCK": unix.RLIMIT_MEMLOCK,
	"NOFILE": unix.RLIMIT_NOFILE, "NPROC": unix.RLIMIT_NPROC, "RSS": unix.RLIMIT_RSS, "STACK": unix.RLIMIT_STACK}

// Limits reads this process's resource limits that travel with the job:
// those of --propagate, or else those that the configuration names in
// PropagateResourceLimits, or does not name in ...Except.
func (r *Request) Limits(configured, except string) []wlm.RLimit {
	list := r.Propagate
	if list == "" {
		list = strings.ToUpper(configured)
	}
	names := words1(list)
	var without []string
	if r.Propagate == "" && configured == "" {
		without = words1(strings.ToUpper(except))
	}
	all := list == "" || slices.Contains(names, "ALL")
	var out []wlm.RLimit
	for _, n := range limitNames {
		if slices.Contains(names, "NONE") || slices.Contains(without, n) || slices.Contains(without, "ALL") ||
			!all && !slices.Contains(names, n) {
			continue
		}
		var l unix.Rlimit
		if unix.Getrlimit(limitNumbers[n], &l) == nil {
			if soft, ok := nofile.Soft(); ok && n == "NOFILE" {
				l.Cur = soft
			}
			out = append(out, wlm.RLimit{Name: n, Soft: l.Cur, Hard: l.Max})
		}
	}
	return out
}

func words1(list string) []string {
	var out []string
	for w := range strings.SplitSeq(list, ",") {
		out = append(out, strings.TrimPrefix(strings.TrimSpace(w), "RLIMIT_"))
	}
	return out
}

// umask reads the process's mask without changing it for longer than a
// system call.
func umask() uint32 {
	m := unix.Umask(0)
	unix.Umask(m)
	return uint32(m)
}

func sessionID() int {
	sid, err := unix.Getsid(0)
	if err != nil {
		return unix.Getpid()
	}
	return sid
}

// niceness is the process's priority as SLURM_PRIO_PROCESS has it.
func niceness() int {
	// The system call answers 20 minus the value, so that it is never negative.
	const zero = 20
	n, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		return 0
	}
	return zero - n
}

func readAll(f *os.File) ([]byte, error) {
	defer f.Close()
	return io.ReadAll(f)
}
