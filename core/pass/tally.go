package pass

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// tally compares a shadow's history with the live one. Report may be called from
// anywhere, the rest from the shadow's goroutine.
type tally struct {
	mu sync.Mutex // guards all

	passes, missed         uint64
	agreed, sooner, later  uint64 // of jobs that both sides started
	problemText            string
	half                   map[*sample]struct{} // jobs that one side has started
	both                   []*sample            // a ring of jobs that both started
	next                   int
	examples               []*ctlv1.ShadowJob
	live, shadow           times
	now                    wlm.Time
	liveArea, shadowArea   float64 // CPU seconds
	usable                 float64 // CPU seconds
	overheld, underheld    float64 // CPU seconds
	liveShare, shadowShare float64 // of the usable CPUs, now
}

// sample is a job that either side has started.
type sample struct {
	job, key          wlm.JobID // key is the array of a task
	due, live, shadow wlm.Time  // 0: it waits on that side
	forecast          wlm.Time  // of the shadow, at its last pass; 0: none
	run               float64   // seconds on the live side; negative: it has not ended
}

const (
	maxSamples  = 20_000
	maxExamples = 20
	shortRun    = 10.0 // seconds, the bound of the bounded slowdown
	percent     = 100
	same        = 1 // seconds: starts no farther apart are one decision
)

func newTally() *tally { return &tally{half: map[*sample]struct{}{}} }

// judged counts a live pass that the shadow kept up with. took is its own pass;
// 0: it had nothing to plan.
func (t *tally) judged(live, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.passes++
	t.live.add(live)
	if took > 0 {
		t.shadow.add(took)
	}
}

// own counts a pass of the shadow's that no live pass caused.
func (t *tally) own(took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.shadow.add(took)
}

// miss counts a live pass that the shadow left out.
func (t *tally) miss(live time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.missed++
	t.live.add(live)
}

func (t *tally) liveStart(s *sample, at wlm.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.live = at
	t.started(s)
}

func (t *tally) shadowStart(s *sample, at wlm.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.shadow = at
	t.started(s)
}

// started files a job that one more side has started.
func (t *tally) started(s *sample) {
	if s.live == 0 || s.shadow == 0 {
		t.half[s] = struct{}{}
		return
	}
	delete(t.half, s)
	switch {
	case s.shadow+same < s.live:
		t.sooner++
	case s.live+same < s.shadow:
		t.later++
	default:
		t.agreed++
	}
	if d := s.shadow - s.live; d > same || d < -same {
		if len(t.examples) == maxExamples {
			t.examples = t.examples[1:]
		}
		t.examples = append(t.examples, &ctlv1.ShadowJob{Job: uint32(s.job), Live: int64(s.live), Shadow: int64(s.shadow)})
	}
	if len(t.both) < maxSamples {
		t.both = append(t.both, s)
		return
	}
	t.both[t.next] = s
	t.next = (t.next + 1) % maxSamples
}

// drop forgets a job that one side took back; s may be nil.
func (t *tally) drop(s *sample) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.half, s)
}

// ran notes how long a job ran.
func (t *tally) ran(s *sample, seconds float64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.run = seconds
}

// forecast notes when the shadow would start what it has not started.
func (t *tally) forecast(by map[wlm.JobID]wlm.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for s := range t.half {
		if s.shadow == 0 {
			s.forecast = by[s.key]
		}
	}
}

// area counts seconds with so many CPUs in use on either side.
func (t *tally) area(seconds float64, usable, live, shadow int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.usable += seconds * float64(usable)
	t.liveArea += seconds * float64(live)
	t.shadowArea += seconds * float64(shadow)
}

// misjudged counts CPU seconds that the shadow's history gave to a job that would
// have ended, or, negative, took from one that would have run on.
func (t *tally) misjudged(cpuSeconds float64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if cpuSeconds > 0 {
		t.overheld += cpuSeconds
	} else {
		t.underheld -= cpuSeconds
	}
}

// at says how late it is.
func (t *tally) at(now wlm.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now = now
}

// share says how many CPUs are in use after a pass.
func (t *tally) share(usable, live, shadow int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.liveShare, t.shadowShare = 0, 0
	if usable > 0 {
		t.liveShare, t.shadowShare = float64(live)/float64(usable), float64(shadow)/float64(usable)
	}
}

func (t *tally) problem(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.problemText = err.Error()
}

// Report tells how the shadow compares so far. Who the shadow is, the caller
// knows.
func (s *Shadow) Report() *ctlv1.ShadowReport {
	t := s.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	r := &ctlv1.ShadowReport{Passes: t.passes, Missed: t.missed, Agreed: t.agreed, Sooner: t.sooner, Later: t.later,
		LastError: t.problemText, OverheldCpuSeconds: t.overheld, UnderheldCpuSeconds: t.underheld, LiveSide: &ctlv1.ShadowSide{}, ShadowSide: &ctlv1.ShadowSide{}}
	waiting := t.halves(r)
	if all := r.Agreed + r.Sooner + r.Later + r.Never; all > 0 {
		r.Agreement = percent * float64(r.Agreed) / float64(all)
	}
	r.Examples = slices.Clone(t.examples)
	for _, x := range waiting[max(len(waiting)+len(r.Examples)-maxExamples, 0):] {
		r.Examples = append(r.Examples, &ctlv1.ShadowJob{Job: uint32(x.job), Live: int64(x.live), Shadow: int64(x.forecast)})
	}
	t.live.fill(r.LiveSide)
	t.shadow.fill(r.ShadowSide)
	r.Compared = uint64(len(t.both) + len(t.half))
	t.waits(r.LiveSide, func(x *sample) wlm.Time { return x.live })
	t.waits(r.ShadowSide, func(x *sample) wlm.Time { return x.shadow })
	r.LiveSide.Utilization, r.ShadowSide.Utilization = percent*t.liveShare, percent*t.shadowShare
	if t.usable > 0 {
		r.LiveSide.Utilization = percent * t.liveArea / t.usable
		r.ShadowSide.Utilization = percent * max(t.shadowArea-t.overheld+t.underheld, 0) / t.usable
	}
	return r
}

// halves counts the jobs that one side has started, and returns those that the
// shadow keeps waiting, the latest last.
func (t *tally) halves(r *ctlv1.ShadowReport) (waiting []*sample) {
	for x := range t.half {
		switch {
		case x.live == 0 && x.shadow+same < t.now:
			r.Sooner++
		case x.live == 0:
		case x.forecast > 0 && x.live+same < t.now:
			r.Later++
			waiting = append(waiting, x)
		case x.live+same < t.now || x.forecast == 0:
			r.Never++
			waiting = append(waiting, x)
		}
	}
	slices.SortFunc(waiting, func(a, b *sample) int { return cmp.Or(cmp.Compare(a.live, b.live), cmp.Compare(a.job, b.job)) })
	return waiting
}

// waits fills in the figures of the jobs that either side started; one that
// still waits has waited as long as it has so far.
func (t *tally) waits(side *ctlv1.ShadowSide, at func(*sample) wlm.Time) {
	waits := make([]float64, 0, len(t.both)+len(t.half))
	var sum, slow float64
	ended := 0
	add := func(x *sample) float64 {
		start := at(x)
		if start == 0 {
			start = t.now
		}
		w := float64(max(start-x.due, 0))
		waits = append(waits, w)
		sum += w
		return w
	}
	for x := range t.half {
		add(x)
	}
	for _, x := range t.both {
		if w := add(x); x.run >= 0 {
			slow += math.Max(1, (w+x.run)/math.Max(x.run, shortRun))
			ended++
		}
	}
	if len(waits) > 0 {
		slices.Sort(waits)
		side.WaitMean, side.WaitP95 = sum/float64(len(waits)), waits[len(waits)*95/percent]
	}
	if ended > 0 {
		side.Slowdown = slow / float64(ended)
	}
}

// times are the latest durations of passes.
type times struct {
	ring [512]time.Duration
	n    int
	max  time.Duration
}

func (t *times) add(d time.Duration) {
	t.ring[t.n%len(t.ring)] = d
	t.n++
	t.max = max(t.max, d)
}

func (t *times) fill(side *ctlv1.ShadowSide) {
	list := slices.Clone(t.ring[:min(t.n, len(t.ring))])
	if len(list) == 0 {
		return
	}
	slices.Sort(list)
	side.PassP50Us, side.PassP99Us = uint64(list[len(list)/2].Microseconds()), uint64(list[len(list)*99/percent].Microseconds())
	side.PassMaxUs = uint64(t.max.Microseconds())
}
