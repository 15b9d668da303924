package wlm

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// JobID numbers a job; 0 is no job. Ids are never used twice.
type JobID uint32

// String prints the id in decimal.
func (id JobID) String() string { return strconv.FormatUint(uint64(id), 10) }

// UID and GID are the kernel's numbers.
type (
	UID uint32
	GID uint32
)

// NodeName is a node's name in slurm.conf, not its host name.
type NodeName string

// NodeIndex is a node's place in the controller's node table. It is stable
// while the table is (see mirror), and never stored.
type NodeIndex uint32

// MiB is an amount of memory or disk in mebibytes.
type MiB uint64

// Minutes is a time limit. Zero is "not set"; see [Unlimited].
type Minutes uint32

// Unlimited is the limit without a limit.
const Unlimited Minutes = 0xffffffff

// Unset marks an optional number that the user did not give, where zero would
// be an answer. It is Slurm's NO_VAL.
const Unset uint32 = 0xfffffffe

// Time is a moment in Unix seconds; 0 is "never" or "not known".
type Time int64

// TimeOf converts a clock reading.
func TimeOf(t time.Time) Time {
	if t.IsZero() {
		return 0
	}
	return Time(t.Unix())
}

// Std returns t for printing with package time.
func (t Time) Std() time.Time { return time.Unix(int64(t), 0) }

// StepID numbers a step within its job; the special steps have names.
type StepID uint32

// The special steps, with Slurm's numbers.
const (
	StepPending     StepID = 0xfffffffd
	StepExtern      StepID = 0xfffffffc
	StepBatch       StepID = 0xfffffffb
	StepInteractive StepID = 0xfffffffa
)

// String prints the id as commands do: a number, or the name of a special step.
func (id StepID) String() string {
	switch id {
	case StepPending:
		return "TBD"
	case StepExtern:
		return "extern"
	case StepBatch:
		return "batch"
	case StepInteractive:
		return "interactive"
	}
	return strconv.FormatUint(uint64(id), 10)
}

// ParseStepID reads what String prints.
func ParseStepID(s string) (StepID, error) {
	switch s {
	case "TBD":
		return StepPending, nil
	case "extern":
		return StepExtern, nil
	case "batch":
		return StepBatch, nil
	case "interactive":
		return StepInteractive, nil
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("step id %q is neither a number nor batch, extern, interactive or TBD", s)
	}
	return StepID(n), nil
}

// WaitStatus is a 16-bit status as wait(2) returns it.
type WaitStatus uint32

// ExitStatus makes the status of a process that exited with code.
func ExitStatus(code int) WaitStatus { return WaitStatus(code&0xff) << 8 }

// SignalStatus makes the status of a process that signal ended.
func SignalStatus(signal int) WaitStatus { return WaitStatus(signal & 0x7f) }

// Code is the exit code, 0 when a signal ended the process.
func (w WaitStatus) Code() int {
	if w.Signal() != 0 {
		return 0
	}
	return int(w>>8) & 0xff
}

// Signal is the signal that ended the process, or 0.
func (w WaitStatus) Signal() int { return int(w) & 0x7f }

// String prints exit:signal, as sacct and scontrol do.
func (w WaitStatus) String() string { return fmt.Sprintf("%d:%d", w.Code(), w.Signal()) }

// CPUSet is a set of a node's abstract CPU numbers, 64 to a word. CPU number
// n is thread n%ThreadsPerCore of core n/ThreadsPerCore. A published set is
// never changed; the methods that change clone first.
type CPUSet []uint64

// Has reports whether cpu is in the set.
func (s CPUSet) Has(cpu int) bool { return cpu/64 < len(s) && s[cpu/64]&(1<<(cpu%64)) != 0 }

// Set adds cpu in place, growing the set as needed, and returns it.
func (s CPUSet) Set(cpu int) CPUSet {
	for len(s) <= cpu/64 {
		s = append(s, 0)
	}
	s[cpu/64] |= 1 << (cpu % 64)
	return s
}

// Count is the number of CPUs in the set.
func (s CPUSet) Count() int {
	n := 0
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

// Clone returns a copy that may be changed.
func (s CPUSet) Clone() CPUSet { return append(CPUSet(nil), s...) }

// Overlaps reports whether the two sets share a CPU.
func (s CPUSet) Overlaps(t CPUSet) bool {
	for i := range min(len(s), len(t)) {
		if s[i]&t[i] != 0 {
			return true
		}
	}
	return false
}

// Or returns the union as a new set.
func (s CPUSet) Or(t CPUSet) CPUSet {
	if len(s) < len(t) {
		s, t = t, s
	}
	u := s.Clone()
	for i, w := range t {
		u[i] |= w
	}
	return u
}

// AndNot returns s without t as a new set.
func (s CPUSet) AndNot(t CPUSet) CPUSet {
	u := s.Clone()
	for i := range min(len(u), len(t)) {
		u[i] &^= t[i]
	}
	return u
}

// All calls yield with each CPU in rising order.
func (s CPUSet) All(yield func(int) bool) {
	for i, w := range s {
		for w != 0 {
			if !yield(i*64 + bits.TrailingZeros64(w)) {
				return
			}
			w &= w - 1
		}
	}
}

// String prints ranges, as "0-3,7".
func (s CPUSet) String() string {
	var b strings.Builder
	first, last := -2, -2
	flush := func() {
		if first < 0 {
			return
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(first))
		if last > first {
			b.WriteByte('-')
			b.WriteString(strconv.Itoa(last))
		}
	}
	for cpu := range s.All {
		if cpu == last+1 {
			last = cpu
			continue
		}
		flush()
		first, last = cpu, cpu
	}
	flush()
	return b.String()
}

// ParseCPUSet reads what [CPUSet.String] prints: numbers and ranges, "0-3,8".
func ParseCPUSet(s string) (set CPUSet, err error) {
	const most = 1 << 16
	for part := range strings.SplitSeq(s, ",") {
		if part == "" {
			continue
		}
		low, high, ranged := strings.Cut(part, "-")
		if !ranged {
			high = low
		}
		lo, ok := digitsOnly(low)
		hi, ok2 := digitsOnly(high)
		if !ok || !ok2 || lo > hi || hi >= most {
			return nil, fmt.Errorf("%q is not a number or a rising range of numbers below %d", clip(part), most)
		}
		for n := lo; n <= hi; n++ {
			set = set.Set(int(n))
		}
	}
	return set, nil
}

// FullCPUSet returns {0 .. n-1}.
func FullCPUSet(n int) CPUSet {
	s := make(CPUSet, (n+63)/64)
	for i := range s {
		s[i] = ^uint64(0)
	}
	if r := n % 64; r != 0 {
		s[len(s)-1] = 1<<r - 1
	}
	return s
}
