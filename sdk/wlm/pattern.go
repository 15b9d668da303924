package wlm

import (
	"strconv"
	"strings"
)

// The names of output files that sbatch uses when none is given.
const (
	DefaultOutput      = "slurm-%j.out"
	DefaultArrayOutput = "slurm-%A_%a.out"
)

// PatternFields are the values of a file name pattern's symbols. A pointer or
// an empty text means not known here; the symbol then stays as written, for
// the program that does know.
type PatternFields struct {
	Job      JobID
	ArrayJob JobID   // 0: not of an array, where %A is the job's id
	Task     *uint32 // array index; outside of an array %a is 4294967294, as in Slurm
	Step     *StepID
	JobName  string
	User     string
	Host     string  // short name of the node
	Node     *uint32 // number of the node within the job
	Rank     *uint32 // number of the task within the step
	Restarts *uint32
}

// maxPad is the widest that a number is padded to.
const maxPad = 10

// ExpandPattern replaces the symbols of a file name pattern:
//
//	%%  a percent sign             %N  short host name
//	%A  the array's job id         %n  number of the node within the job
//	%a  array index                %r  restart count
//	%b  array index modulo 10      %S  stepid
//	%J  jobid.stepid, or jobid     %s  stepid
//	%j  jobid                      %t  number of the task within the step
//	%u  user name                  %x  job name
//
// A number after the percent sign pads with zeros (up to 10 places; texts are
// not padded). A pattern that starts with a backslash is taken literally,
// without the backslashes in front. An unknown symbol stays as written.
func ExpandPattern(pattern string, f PatternFields) string {
	if strings.HasPrefix(pattern, `\`) {
		return strings.TrimLeft(pattern, `\`)
	}
	var b strings.Builder
	for rest := pattern; ; {
		text, after, found := strings.Cut(rest, "%")
		b.WriteString(text)
		if !found {
			return b.String()
		}
		i := 0
		for i < len(after) && after[i] >= '0' && after[i] <= '9' {
			i++
		}
		if i == len(after) {
			b.WriteString("%" + after)
			return b.String()
		}
		width, _ := strconv.Atoi(after[:i])
		value, ok := f.value(after[i], min(width, maxPad))
		if !ok {
			value = "%" + after[:i+1]
		}
		b.WriteString(value)
		rest = after[i+1:]
	}
}

// value is what symbol stands for; ok is false when that is not known.
func (f *PatternFields) value(symbol byte, width int) (s string, ok bool) {
	switch symbol {
	case '%':
		return "%", true
	case 'A':
		if f.ArrayJob != 0 {
			return zeros(uint32(f.ArrayJob), width), true
		}
		return zeros(uint32(f.Job), width), true
	case 'a':
		if f.Task == nil {
			return zeros(Unset, width), true
		}
		return zeros(*f.Task, width), true
	case 'b':
		if f.Task == nil {
			return zeros(Unset%10, width), true
		}
		return zeros(*f.Task%10, width), true
	case 'j':
		return zeros(uint32(f.Job), width), true
	case 'J':
		if f.Step == nil || *f.Step == StepBatch {
			return zeros(uint32(f.Job), width), true
		}
		return zeros(uint32(f.Job), width) + "." + f.Step.String(), true
	case 's', 'S':
		if f.Step == nil {
			return "", false
		}
		if *f.Step >= StepInteractive {
			return f.Step.String(), true
		}
		return zeros(uint32(*f.Step), width), true
	case 'n':
		return optional(f.Node, width)
	case 't':
		return optional(f.Rank, width)
	case 'r':
		return optional(f.Restarts, width)
	case 'N':
		return f.Host, f.Host != ""
	case 'u':
		return f.User, f.User != ""
	case 'x':
		return f.JobName, f.JobName != ""
	}
	return "", false
}

func optional(n *uint32, width int) (string, bool) {
	if n == nil {
		return "", false
	}
	return zeros(*n, width), true
}

func zeros(n uint32, width int) string {
	s := strconv.FormatUint(uint64(n), 10)
	if len(s) < width {
		return strings.Repeat("0", width-len(s)) + s
	}
	return s
}
