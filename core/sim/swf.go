package sim

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/errs"
)

// Trace is a workload in the Standard Workload Format of the Parallel Workloads
// Archive: lines of 18 numbers, one a job, after a header of "; Key: value".
type Trace struct {
	Header []HeaderLine
	Jobs   []TraceJob // by submission, then number
}

// HeaderLine is one "; Key: value" of a trace.
type HeaderLine struct{ Key, Value string }

// TraceJob is one line of a trace. Times are seconds, memory is KiB a processor;
// -1 is "not known".
type TraceJob struct {
	Number    int64
	Submit    int64 // since the trace's start
	Wait      int64
	Run       int64
	Procs     int64 // allocated
	CPUTime   float64
	Memory    int64
	ReqProcs  int64
	ReqTime   int64
	ReqMemory int64
	Status    int64
	User      int64
	Group     int64
	Program   int64
	Queue     int64
	Partition int64
	After     int64 // the job that must end first
	Think     int64 // from that end to the submission
}

// swfFields are the names of the format's fields, for errors.
var swfFields = [18]string{"job number", "submit time", "wait time", "run time", "allocated processors", "average CPU time",
	"used memory", "requested processors", "requested time", "requested memory", "status", "user", "group", "program",
	"queue", "partition", "preceding job", "think time"}

// maxLine bounds a line of a trace; headers have long notes.
const maxLine = 1 << 20

// ReadTrace reads a trace, compressed by gzip or not. An error names the line
// and the field.
func ReadTrace(r io.Reader) (*Trace, error) {
	const op = "sim.ReadTrace"
	b := bufio.NewReader(r)
	if magic, _ := b.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, errs.Newf(op, errs.Invalid, "a broken gzip header: %w", err)
		}
		defer z.Close() //nolint:errcheck // only reads
		b = bufio.NewReader(z)
	}
	t := &Trace{}
	lines := bufio.NewScanner(b)
	lines.Buffer(nil, maxLine)
	var bad error
	n := 1
	for ; bad == nil && lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		switch {
		case text == "":
		case text[0] == ';':
			if key, value, ok := strings.Cut(text[1:], ":"); ok {
				t.Header = append(t.Header, HeaderLine{strings.TrimSpace(key), strings.TrimSpace(value)})
			}
		default:
			j, err := traceJob(text)
			if err != nil {
				bad = errs.Newf(op, errs.Invalid, "line %d: %w", n, err)
				continue
			}
			t.Jobs = append(t.Jobs, j)
		}
	}
	for bad != nil && lines.Scan() { // the file may end before its time, which is the cause then
	}
	switch err := lines.Err(); {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, errs.Newf(op, errs.Invalid, "line %d or behind it: the compressed file ends before its time: %w", max(n-1, 1), err)
	case err != nil:
		return nil, errs.Newf(op, errs.Invalid, "line %d or behind it: %w", max(n-1, 1), err)
	case bad != nil:
		return nil, bad
	}
	slices.SortStableFunc(t.Jobs, func(a, b TraceJob) int {
		return cmp.Or(cmp.Compare(a.Submit, b.Submit), cmp.Compare(a.Number, b.Number))
	})
	return t, nil
}

func traceJob(line string) (TraceJob, error) {
	var v [len(swfFields)]float64
	fields := strings.Fields(line)
	if len(fields) != len(v) {
		return TraceJob{}, fmt.Errorf("%d fields, a job has %d", len(fields), len(v))
	}
	const most = 1 << 53 // what a float64 holds exactly
	for i, f := range fields {
		x, err := strconv.ParseFloat(f, 64)
		if err != nil || math.IsNaN(x) || math.Abs(x) > most {
			return TraceJob{}, fmt.Errorf("field %d (%s): %q is not a number of the format", i+1, swfFields[i], f)
		}
		v[i] = x
	}
	n := func(i int) int64 { return int64(v[i-1]) }
	if n(2) < 0 {
		return TraceJob{}, fmt.Errorf("field 2 (%s): %d is negative", swfFields[1], n(2))
	}
	return TraceJob{n(1), n(2), n(3), n(4), n(5), v[5], n(7), n(8), n(9), n(10), n(11), n(12), n(13), n(14), n(15), n(16), n(17), n(18)}, nil
}

// Write writes the trace as it would be read.
func (t *Trace) Write(w io.Writer) error {
	b := bufio.NewWriter(w)
	for _, h := range t.Header {
		fmt.Fprintf(b, "; %s: %s\n", h.Key, h.Value) //nolint:errcheck // Flush tells
	}
	for i := range t.Jobs {
		j := &t.Jobs[i]
		fmt.Fprintf(b, "%d %d %d %d %d %s %d %d %d %d %d %d %d %d %d %d %d %d\n", j.Number, j.Submit, j.Wait, j.Run, j.Procs, //nolint:errcheck // Flush tells
			strconv.FormatFloat(j.CPUTime, 'f', -1, 64), j.Memory, j.ReqProcs, j.ReqTime, j.ReqMemory, j.Status, j.User, j.Group,
			j.Program, j.Queue, j.Partition, j.After, j.Think)
	}
	return b.Flush()
}

// HeaderInt is a number of the header, such as MaxProcs; 0 when it is not there.
func (t *Trace) HeaderInt(key string) int64 {
	for _, h := range t.Header {
		if strings.EqualFold(h.Key, key) {
			if n, err := strconv.ParseInt(strings.Fields(h.Value + " 0")[0], 10, 64); err == nil && n > 0 {
				return n
			}
		}
	}
	return 0
}

// Processors is how many processors a job is for: the larger of what it asked
// for and what it got; 0 when the trace does not know.
func (j *TraceJob) Processors() int64 { return max(j.ReqProcs, j.Procs, 0) }
