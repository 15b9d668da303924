package sim

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Job is one job of a workload.
type Job struct {
	Number    int64    // its own, for reports
	Submit    wlm.Time // seconds since the start of the workload
	Run       uint32   // seconds, if nothing ends it sooner
	Limit     wlm.Minutes
	Procs     uint32
	MemPerCPU wlm.MiB // 0: not asked for
	User      wlm.UID
	Partition string // empty: the default one
}

// Workload is what is submitted, and what of its trace cannot be.
type Workload struct {
	Jobs    []Job       // by submission
	Skipped []SkipCount // lines of the trace that are no jobs for this machine
}

// SkipCount says how many lines of a trace were left out, and why.
type SkipCount struct {
	Why   string
	Count int
}

// firstUser keeps users of traces apart from root and daemons.
const firstUser = 1000

// WorkOptions say how lines of a trace become jobs.
type WorkOptions struct {
	Processors int  // of the machine; larger jobs are skipped
	Jobs       int  // only the first ones; 0: all
	Exact      bool // the time limit is the runtime: users know everything
	Memory     bool // ask for the memory that the trace asks for
}

// Workload makes jobs of the trace's lines. A job without a time limit gets its
// runtime as the limit, as is usual with such traces; limits are rounded up to
// minutes, which is what the cluster counts in.
func (t *Trace) Workload(o WorkOptions) *Workload {
	w := &Workload{}
	skipped := map[string]int{}
	for i := range t.Jobs {
		j := &t.Jobs[i]
		if o.Jobs > 0 && len(w.Jobs) == o.Jobs {
			break
		}
		procs := j.Processors()
		switch {
		case procs == 0:
			skipped["the number of processors is not known"]++
		case j.Run < 0:
			skipped["the runtime is not known"]++
		case procs > int64(o.Processors):
			skipped[fmt.Sprintf("more processors than the machine's %d", o.Processors)]++
		default:
			limit := j.ReqTime
			if limit <= 0 || o.Exact {
				limit = max(j.Run, 1)
			}
			const longest = 100 * 365 * 24 * 3600 // seconds
			x := Job{Number: j.Number, Submit: wlm.Time(j.Submit), Run: uint32(min(j.Run, longest)),
				Limit: wlm.Minutes((min(limit, longest) + 59) / 60), Procs: uint32(procs), User: wlm.UID(firstUser + max(j.User, 0)%(1<<24))}
			if o.Memory && j.ReqMemory > 0 {
				x.MemPerCPU = wlm.MiB((j.ReqMemory + 1023) / 1024)
			}
			w.Jobs = append(w.Jobs, x)
		}
	}
	for why, n := range skipped {
		w.Skipped = append(w.Skipped, SkipCount{why, n})
	}
	slices.SortFunc(w.Skipped, func(a, b SkipCount) int { return cmp.Compare(a.Why, b.Why) })
	return w
}

// Synthetic says what kind of workload Generate makes.
type Synthetic struct {
	Jobs       int
	Processors int     // of the machine
	MaxProcs   int     // of a job; 0: a quarter of the machine
	Load       float64 // work offered over what the machine could do; 0: 0.9
	Users      int     // 0: 64
	Shapes     int     // distinct requests; 0: as they come
	AtOnce     bool    // all at the start instead of over time
	Seed       uint64
}

// Generate makes a trace in the manner of logged ones: sizes favour powers of
// two, runtimes are lognormal around half an hour, limits are a few times the
// runtime rounded to what people type, users come back with similar jobs. The
// same Synthetic gives the same trace.
func Generate(s Synthetic) *Trace {
	if s.MaxProcs <= 0 {
		s.MaxProcs = max(s.Processors/4, 1)
	}
	if s.Load <= 0 {
		s.Load = 0.9
	}
	if s.Users <= 0 {
		s.Users = 64
	}
	rnd := rand.New(rand.NewPCG(s.Seed, 0x5e1))
	t := &Trace{Header: []HeaderLine{{"Note", fmt.Sprintf("synthetic, seed %d", s.Seed)},
		{"MaxProcs", fmt.Sprint(s.Processors)}}}
	shapes := make([]TraceJob, 0, s.Shapes)
	work := 0.0
	for n := range s.Jobs {
		var j TraceJob
		if s.Shapes > 0 && len(shapes) == s.Shapes {
			j = shapes[rnd.IntN(len(shapes))]
		} else {
			j = synthetic(rnd, &s)
			if s.Shapes > 0 {
				shapes = append(shapes, j)
			}
		}
		j.Number, j.User = int64(n+1), int64(math.Abs(rnd.NormFloat64())*float64(s.Users)/3)%int64(s.Users)+1
		work += float64(j.Run * j.ReqProcs)
		t.Jobs = append(t.Jobs, j)
	}
	if s.AtOnce {
		return t
	}
	span := work / float64(s.Processors) / s.Load
	for i := range t.Jobs {
		t.Jobs[i].Submit = int64(rnd.Float64() * span)
	}
	slices.SortStableFunc(t.Jobs, func(a, b TraceJob) int { return cmp.Compare(a.Submit, b.Submit) })
	for i := range t.Jobs {
		t.Jobs[i].Number = int64(i + 1)
	}
	return t
}

func synthetic(rnd *rand.Rand, s *Synthetic) TraceJob {
	size := math.Exp2(rnd.Float64() * math.Log2(float64(s.MaxProcs)))
	if rnd.Float64() < 0.75 {
		size = math.Exp2(math.Round(math.Log2(size)))
	}
	procs := min(max(int64(size), 1), int64(s.MaxProcs))
	const typical, spread, longest = 1800, 1.6, 36 * 3600 // seconds
	run := min(max(int64(typical*math.Exp(rnd.NormFloat64()*spread)), 5), longest)
	limit := int64(longest) * 2
	for _, typed := range []int64{300, 900, 1800, 3600, 2 * 3600, 4 * 3600, 8 * 3600, 12 * 3600, 24 * 3600, 48 * 3600} {
		if float64(run)*(1+3*rnd.Float64()) <= float64(typed) {
			limit = typed
			break
		}
	}
	return TraceJob{Wait: -1, Run: run, Procs: procs, CPUTime: -1, Memory: -1, ReqProcs: procs, ReqTime: limit, ReqMemory: -1,
		Status: 1, Group: 1, Program: -1, Queue: -1, Partition: -1, After: -1, Think: -1}
}
