package sim

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Result is what became of a workload.
type Result struct {
	Jobs       []JobResult // as in the workload
	Skipped    []SkipCount
	Nodes      int
	Processors int

	Steps             int // moments at which something happened
	Started           int
	RefusedPlacements int // by the core, which a correct plugin never sees
	NodeFailures      int // of virtual nodes
	Requeues          int // of jobs that lost a node
	Failures          int // of passes, because a plugin was away

	Passes       []time.Duration // how long each took, on the wall clock
	SchedTime    time.Duration   // in calls of the plugins, both ways
	SelectTime   time.Duration
	PriorityTime time.Duration
	Wall         time.Duration
}

// PassTime is how long all passes took together.
func (r *Result) PassTime() (sum time.Duration) {
	for _, d := range r.Passes {
		sum += d
	}
	return sum
}

// JobResult is what became of one job. Times are seconds since the start.
type JobResult struct {
	Number     int64
	Submit     wlm.Time
	Start      wlm.Time
	End        wlm.Time
	Run        uint32 // what it would have run
	Limit      uint32 // seconds
	Procs      uint32
	User       wlm.UID
	State      string
	Backfilled bool
	Forecast   wlm.Time // of its start, when it first had one; -1: never
	ForecastAt wlm.Time
	Promise    wlm.Time // its forecast when it was first the oldest that waits; -1: it never waited as such
	Requeues   int      // because a node failed
	Lost       int64    // processor seconds of runs that a failing node ended
	Refused    string   // why it was not accepted; empty: it was

	started bool
}

// Wait is how long the job waited, in seconds.
func (j *JobResult) Wait() int64 { return int64(j.Start - j.Submit) }

// BoundedSlowdown is the time from submission to end over the runtime, neither
// of which counts as less than threshold seconds, and at least 1.
func (j *JobResult) BoundedSlowdown(threshold float64) float64 {
	run := float64(j.End - j.Start)
	return max(1, (float64(j.Wait())+run)/max(run, threshold))
}

// Threshold is the usual bound of the bounded slowdown, in seconds.
const Threshold = 10

// Summary is a run in numbers. Times are seconds unless the name says otherwise.
type Summary struct {
	Name                string  `json:"name"`
	Jobs                int     `json:"jobs"`
	Skipped             int     `json:"skipped"`
	Refused             int     `json:"refused"`
	TimedOut            int     `json:"timed_out"`
	Backfilled          int     `json:"backfilled"`
	Processors          int     `json:"processors"`
	Nodes               int     `json:"nodes"`
	MeanBoundedSlowdown float64 `json:"mean_bounded_slowdown"`
	P50BoundedSlowdown  float64 `json:"p50_bounded_slowdown"`
	P95BoundedSlowdown  float64 `json:"p95_bounded_slowdown"`
	MeanWait            float64 `json:"mean_wait_s"`
	P50Wait             float64 `json:"p50_wait_s"`
	P95Wait             float64 `json:"p95_wait_s"`
	MaxWait             float64 `json:"max_wait_s"`
	Utilization         float64 `json:"utilization"` // of the processors, from the first submission to the last end
	Makespan            float64 `json:"makespan_s"`
	Users               int     `json:"users"`
	// Fairness is Jain's index over the users' mean bounded slowdowns: 1 when
	// all fare alike, 1/users when one alone suffers.
	Fairness         float64 `json:"fairness_jain"`
	WorstUser        float64 `json:"worst_user_bounded_slowdown"`
	Forecasts        int     `json:"forecasts"`
	ForecastError    float64 `json:"forecast_error_mean_s"` // mean distance between first forecast and start
	ForecastMedian   float64 `json:"forecast_error_median_s"`
	ForecastP95      float64 `json:"forecast_error_p95_s"`
	ForecastLate     int     `json:"forecast_late"`           // jobs that started later than first told
	ForecastInTime   float64 `json:"forecast_in_time_share"`  // of those with a forecast, that did not
	ForecastSubmit   int     `json:"forecasts_at_submission"` // jobs told a start in the pass after they came
	SubmitErrorMean  float64 `json:"forecast_submit_mean_s"`  // these alone: distance between forecast and start
	SubmitErrorMed   float64 `json:"forecast_submit_median_s"`
	SubmitErrorP95   float64 `json:"forecast_submit_p95_s"`
	Passes           int     `json:"passes"`
	PassMeanMicros   float64 `json:"pass_mean_us"`
	PassP50Micros    float64 `json:"pass_p50_us"`
	PassP99Micros    float64 `json:"pass_p99_us"`
	PassMaxMicros    float64 `json:"pass_max_us"`
	SchedSeconds     float64 `json:"sched_calls_wall_s"`
	SelectSeconds    float64 `json:"select_calls_wall_s"`
	PrioritySeconds  float64 `json:"priority_calls_wall_s"`
	WallSeconds      float64 `json:"wall_s"`
	Speed            float64 `json:"times_real_time"`
	RefusedPlacement int     `json:"refused_placements"`
	NodeFailures     int     `json:"node_failures"`
	NodeFailed       int     `json:"node_failed"` // jobs that ended for it
	Requeued         int     `json:"requeued"`    // runs that began anew for it
	LostSeconds      float64 `json:"lost_processor_s"`
}

// Summary computes the figures.
func (r *Result) Summary(name string) Summary {
	s := Summary{Name: name, NodeFailures: r.NodeFailures, Requeued: r.Requeues, Processors: r.Processors, Nodes: r.Nodes, Passes: len(r.Passes), RefusedPlacement: r.RefusedPlacements,
		SchedSeconds: r.SchedTime.Seconds(), SelectSeconds: r.SelectTime.Seconds(), PrioritySeconds: r.PriorityTime.Seconds(),
		WallSeconds: r.Wall.Seconds()}
	for _, k := range r.Skipped {
		s.Skipped += k.Count
	}
	jobs := r.accepted()
	s.Refused = len(r.Jobs) - len(jobs)
	s.Jobs = len(jobs)
	if len(jobs) == 0 {
		return s
	}
	r.waits(&s, jobs)
	first, last, busy := jobs[0].Submit, wlm.Time(0), 0.0
	for _, j := range jobs {
		first, last = min(first, j.Submit), max(last, j.End)
		busy += float64(j.End-j.Start) * float64(j.Procs)
		s.LostSeconds += float64(j.Lost)
		if j.State == "NODE_FAIL" {
			s.NodeFailed++
		}
		if j.State == "TIMEOUT" {
			s.TimedOut++
		}
		if j.Backfilled {
			s.Backfilled++
		}
		if j.Forecast >= 0 {
			s.Forecasts++
			if j.Start > j.Forecast {
				s.ForecastLate++
			}
		}
	}
	forecasts(&s, jobs)
	s.Makespan = float64(last - first)
	s.Utilization = busy / max(s.Makespan*float64(r.Processors), 1)
	s.Speed = s.Makespan / max(s.WallSeconds, 1e-9)
	users := r.Users()
	s.Users = len(users)
	s.Fairness, s.WorstUser = jain(users)
	r.passes(&s)
	return s
}

// forecasts measures how far first forecasts were from what came true.
func forecasts(s *Summary, jobs []*JobResult) {
	var all, fresh []float64
	for _, j := range jobs {
		if j.Forecast < 0 {
			continue
		}
		off := math.Abs(float64(j.Start - j.Forecast))
		all = append(all, off)
		if j.ForecastAt == j.Submit {
			fresh = append(fresh, off)
		}
	}
	figures := func(x []float64) (avg, median, p95 float64) {
		if len(x) == 0 {
			return 0, 0, 0
		}
		slices.Sort(x)
		return mean(x), quantile(x, 0.5), quantile(x, 0.95)
	}
	s.ForecastError, s.ForecastMedian, s.ForecastP95 = figures(all)
	s.ForecastSubmit = len(fresh)
	s.SubmitErrorMean, s.SubmitErrorMed, s.SubmitErrorP95 = figures(fresh)
	if s.Forecasts > 0 {
		s.ForecastInTime = 1 - float64(s.ForecastLate)/float64(s.Forecasts)
	}
}

func (r *Result) accepted() []*JobResult {
	var jobs []*JobResult
	for i := range r.Jobs {
		if j := &r.Jobs[i]; j.Refused == "" && j.started {
			jobs = append(jobs, j)
		}
	}
	return jobs
}

func (r *Result) waits(s *Summary, jobs []*JobResult) {
	waits, slow := make([]float64, len(jobs)), make([]float64, len(jobs))
	for i, j := range jobs {
		waits[i], slow[i] = float64(j.Wait()), j.BoundedSlowdown(Threshold)
	}
	s.MeanWait, s.MeanBoundedSlowdown = mean(waits), mean(slow)
	slices.Sort(waits)
	slices.Sort(slow)
	s.P50Wait, s.P95Wait, s.MaxWait = quantile(waits, 0.5), quantile(waits, 0.95), waits[len(waits)-1]
	s.P50BoundedSlowdown, s.P95BoundedSlowdown = quantile(slow, 0.5), quantile(slow, 0.95)
}

func (r *Result) passes(s *Summary) {
	if len(r.Passes) == 0 {
		return
	}
	us := make([]float64, len(r.Passes))
	for i, d := range r.Passes {
		us[i] = float64(d.Nanoseconds()) / 1e3
	}
	s.PassMeanMicros = mean(us)
	slices.Sort(us)
	s.PassP50Micros, s.PassP99Micros, s.PassMaxMicros = quantile(us, 0.5), quantile(us, 0.99), us[len(us)-1]
}

// UserResult is how one user fared.
type UserResult struct {
	User                wlm.UID `json:"user"`
	Jobs                int     `json:"jobs"`
	MeanWait            float64 `json:"mean_wait_s"`
	MeanBoundedSlowdown float64 `json:"mean_bounded_slowdown"`
	ProcessorSeconds    float64 `json:"processor_seconds"`
}

// Users returns how each user fared, by uid.
func (r *Result) Users() []UserResult {
	by := map[wlm.UID]*UserResult{}
	for _, j := range r.accepted() {
		u := by[j.User]
		if u == nil {
			u = &UserResult{User: j.User}
			by[j.User] = u
		}
		u.Jobs++
		u.MeanWait += float64(j.Wait())
		u.MeanBoundedSlowdown += j.BoundedSlowdown(Threshold)
		u.ProcessorSeconds += float64(j.End-j.Start) * float64(j.Procs)
	}
	out := make([]UserResult, 0, len(by))
	for _, u := range by {
		u.MeanWait /= float64(u.Jobs)
		u.MeanBoundedSlowdown /= float64(u.Jobs)
		out = append(out, *u)
	}
	slices.SortFunc(out, func(a, b UserResult) int { return cmp.Compare(a.User, b.User) })
	return out
}

// jain is (sum x)^2 / (n sum x^2) over the users' slowdowns, and the worst one.
func jain(users []UserResult) (index, worst float64) {
	sum, squares := 0.0, 0.0
	for _, u := range users {
		x := u.MeanBoundedSlowdown
		sum, squares, worst = sum+x, squares+x*x, max(worst, x)
	}
	if squares == 0 {
		return 1, worst
	}
	return sum * sum / (float64(len(users)) * squares), worst
}

func mean(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v
	}
	return sum / max(float64(len(x)), 1)
}

// quantile of sorted values.
func quantile(sorted []float64, q float64) float64 {
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}
