package wlm

import (
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/errs"
)

// signals are Linux's, by number, with the texts of strsignal(3).
var signals = [...]struct{ name, text string }{
	1: {"HUP", "Hangup"}, 2: {"INT", "Interrupt"}, 3: {"QUIT", "Quit"}, 4: {"ILL", "Illegal instruction"},
	5: {"TRAP", "Trace/breakpoint trap"}, 6: {"ABRT", "Aborted"}, 7: {"BUS", "Bus error"},
	8: {"FPE", "Floating point exception"}, 9: {"KILL", "Killed"}, 10: {"USR1", "User defined signal 1"},
	11: {"SEGV", "Segmentation fault"}, 12: {"USR2", "User defined signal 2"}, 13: {"PIPE", "Broken pipe"},
	14: {"ALRM", "Alarm clock"}, 15: {"TERM", "Terminated"}, 16: {"STKFLT", "Stack fault"},
	17: {"CHLD", "Child exited"}, 18: {"CONT", "Continued"}, 19: {"STOP", "Stopped (signal)"},
	20: {"TSTP", "Stopped"}, 21: {"TTIN", "Stopped (tty input)"}, 22: {"TTOU", "Stopped (tty output)"},
	23: {"URG", "Urgent I/O condition"}, 24: {"XCPU", "CPU time limit exceeded"},
	25: {"XFSZ", "File size limit exceeded"}, 26: {"VTALRM", "Virtual timer expired"},
	27: {"PROF", "Profiling timer expired"}, 28: {"WINCH", "Window changed"}, 29: {"IO", "I/O possible"},
	30: {"PWR", "Power failure"}, 31: {"SYS", "Bad system call"},
}

// maxSignal is Linux's highest real-time signal.
const maxSignal = 64

// ParseSignal reads a signal's number, or its name in any case with or without
// SIG.
func ParseSignal(s string) (int, error) {
	if n, ok := digitsOnly(s); ok {
		if n >= 1 && n <= maxSignal {
			return int(n), nil
		}
	} else if name := strings.TrimPrefix(strings.ToUpper(s), "SIG"); name != "" {
		for n, sig := range signals {
			if sig.name == name {
				return n, nil
			}
		}
	}
	return 0, errs.Newf("wlm.ParseSignal", errs.Invalid, "unknown signal %q: want a name such as TERM or a number up to %d", clip(s), maxSignal)
}

// SignalName is the name with SIG, or the number when it has none.
func SignalName(n int) string {
	if n > 0 && n < len(signals) {
		return "SIG" + signals[n].name
	}
	return strconv.Itoa(n)
}

// SignalText is what a shell says of a process that the signal ended: Killed,
// Segmentation fault, ...
func SignalText(n int) string {
	const realTime = 34 // the first that the C library leaves to programs
	switch {
	case n > 0 && n < len(signals):
		return signals[n].text
	case n >= realTime && n <= maxSignal:
		return "Real-time signal " + strconv.Itoa(n-realTime)
	}
	return "Unknown signal " + strconv.Itoa(n)
}

// JobSignal is what --signal asks for.
type JobSignal struct {
	Signal      int
	Seconds     uint32 // before the time limit
	Batch       bool   // B: only the batch shell
	Reservation bool   // R: may overlap a reservation with MaxStartDelay
}

// defaultSignalSeconds is how long before the limit a signal without @ comes.
const defaultSignalSeconds = 60

// ParseJobSignal reads --signal: [R|B|RB:]signal[@seconds], at most 65535.
func ParseJobSignal(s string) (JobSignal, error) {
	bad := func(why string) (JobSignal, error) {
		return JobSignal{}, errs.Newf("wlm.ParseJobSignal", errs.Invalid, "invalid signal specification %q: %s", clip(s), why)
	}
	j := JobSignal{Seconds: defaultSignalSeconds}
	rest := s
	if options, after, found := strings.Cut(s, ":"); found {
		for _, c := range strings.ToUpper(options) {
			switch c {
			case 'B':
				j.Batch = true
			case 'R':
				j.Reservation = true
			default:
				return bad("before \":\" only R and B are allowed")
			}
		}
		if options == "" {
			return bad("before \":\" comes R or B")
		}
		rest = after
	}
	name, seconds, timed := strings.Cut(rest, "@")
	n, err := ParseSignal(name)
	if err != nil {
		return bad(err.Error())
	}
	j.Signal = n
	if timed {
		const most = 65535
		sec, ok := digitsOnly(seconds)
		if !ok || sec > most {
			return bad("the time after @ is a number of seconds up to 65535")
		}
		j.Seconds = uint32(sec)
	}
	return j, nil
}

// String prints the signal as [ParseJobSignal] reads it.
func (j JobSignal) String() string {
	s := ""
	if j.Reservation {
		s += "R"
	}
	if j.Batch {
		s += "B"
	}
	if s != "" {
		s += ":"
	}
	return s + strings.TrimPrefix(SignalName(j.Signal), "SIG") + "@" + strconv.FormatUint(uint64(j.Seconds), 10)
}
