package pass

import (
	"math"
	"slices"
	"sync"
	"time"

	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// tally compares a shadow's starts with the live ones. Report may be called
// from anywhere, the rest from the shadow's goroutine.
type tally struct {
	mu *sync.Mutex // guards all

	passes, missed                uint64
	agreed, sooner, later, never  uint64
	problemText                   string
	ahead                         map[wlm.JobID][]mark // starts of the shadow that the live side has not made
	samples                       []sample             // a ring of jobs that both sides started
	next                          int
	byJob                         map[wlm.JobID]int // index in samples
	examples                      []*ctlv1.ShadowJob
	live, shadow                  times
	last                          time.Time // of the last pass judged
	liveNow, shadowNow            float64   // share in use after it
	liveArea, shadowArea, seconds float64
}

// mark is when the shadow would have started something.
type mark struct {
	pass uint64
	at   wlm.Time
}

// sample is a job that both sides started, or would have.
type sample struct {
	job               wlm.JobID
	due, live, shadow wlm.Time
	run               float64 // seconds; negative: it has not ended
}

const (
	maxSamples  = 20_000
	maxExamples = 20
	shortRun    = 10.0 // seconds, the bound of the bounded slowdown
	percent     = 100
)

func newTally() tally {
	return tally{mu: new(sync.Mutex), ahead: map[wlm.JobID][]mark{}, byJob: map[wlm.JobID]int{}}
}

// judge counts one pass that both sides made.
func (t *tally) judge(k *ticket, took time.Duration, starts []start, forecast map[wlm.JobID]wlm.Time, usable, used int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.passes++
	t.live.add(k.took)
	t.shadow.add(took)
	now := wlm.TimeOf(k.at)
	proposed := map[wlm.JobID]int{}
	cpus := 0
	for _, s := range starts {
		cpus += s.cpus
		if proposed[s.key]++; proposed[s.key] > len(t.ahead[s.key]) {
			t.ahead[s.key] = append(t.ahead[s.key], mark{t.passes, now})
		}
	}
	shadowUsed := used + cpus
	for _, s := range k.starts {
		used += s.cpus
		t.started(s, now, forecast)
	}
	t.area(k.at, usable, used, shadowUsed)
}

// started counts one live start.
func (t *tally) started(s start, now wlm.Time, forecast map[wlm.JobID]wlm.Time) {
	m, known := t.pop(s.key)
	x := sample{job: s.job, due: s.due, live: now, shadow: m.at, run: -1}
	switch {
	case known && m.pass == t.passes:
		t.agreed++
	case known:
		t.sooner++
	case forecast[s.key] > now:
		x.shadow = forecast[s.key]
		t.later++
	default:
		t.never++
	}
	if !known || m.pass != t.passes {
		if len(t.examples) == maxExamples {
			t.examples = t.examples[1:]
		}
		t.examples = append(t.examples, &ctlv1.ShadowJob{Job: uint32(s.job), Live: int64(now), Shadow: int64(x.shadow)})
	}
	if x.shadow == 0 {
		return
	}
	if len(t.samples) < maxSamples {
		t.byJob[s.job] = len(t.samples)
		t.samples = append(t.samples, x)
		return
	}
	delete(t.byJob, t.samples[t.next].job)
	t.samples[t.next], t.byJob[s.job] = x, t.next
	t.next = (t.next + 1) % maxSamples
}

// pop takes the oldest start of the shadow that is ahead of the live side.
func (t *tally) pop(key wlm.JobID) (mark, bool) {
	list := t.ahead[key]
	if len(list) == 0 {
		return mark{}, false
	}
	if len(list) == 1 {
		delete(t.ahead, key)
	} else {
		t.ahead[key] = list[1:]
	}
	return list[0], true
}

// area weights the share in use after the pass before with the time since.
func (t *tally) area(at time.Time, usable, live, shadow int) {
	if !t.last.IsZero() {
		dt := at.Sub(t.last).Seconds()
		t.liveArea += dt * t.liveNow
		t.shadowArea += dt * t.shadowNow
		t.seconds += dt
	}
	t.last, t.liveNow, t.shadowNow = at, 0, 0
	if usable > 0 {
		t.liveNow, t.shadowNow = float64(live)/float64(usable), float64(min(shadow, usable))/float64(usable)
	}
}

// miss counts a live pass that the shadow did not make. Of the jobs that
// started then, only those count that it had started before.
func (t *tally) miss(k *ticket) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.missed++
	t.live.add(k.took)
	now := wlm.TimeOf(k.at)
	for _, s := range k.starts {
		if len(t.ahead[s.key]) > 0 {
			t.started(s, now, nil)
		}
	}
}

func (t *tally) problem(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.problemText = err.Error()
}

// ended notes a job's runtime, or that it will not start any more.
func (t *tally) ended(j *wlm.Job) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i, ok := t.byJob[j.ID]; ok && j.Start > 0 && j.End >= j.Start {
		t.samples[i].run = float64(j.End - j.Start)
	}
	delete(t.ahead, j.ID)
}

// Report tells how the shadow compares so far. Who the shadow is, the caller
// knows.
func (s *Shadow) Report() *ctlv1.ShadowReport {
	t := &s.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	r := &ctlv1.ShadowReport{Passes: t.passes, Missed: t.missed, Agreed: t.agreed, Sooner: t.sooner, Later: t.later, Never: t.never,
		LastError: t.problemText, Compared: uint64(len(t.samples)), Examples: slices.Clone(t.examples),
		LiveSide: &ctlv1.ShadowSide{}, ShadowSide: &ctlv1.ShadowSide{}}
	for _, list := range t.ahead { // those that wait still on the live side
		if list[0].pass < t.passes {
			r.Sooner += uint64(len(list))
		}
	}
	if all := r.Agreed + r.Sooner + r.Later + r.Never; all > 0 {
		r.Agreement = percent * float64(r.Agreed) / float64(all)
	}
	t.live.fill(r.LiveSide)
	t.shadow.fill(r.ShadowSide)
	t.waits(r.LiveSide, func(x *sample) wlm.Time { return x.live })
	t.waits(r.ShadowSide, func(x *sample) wlm.Time { return x.shadow })
	if t.seconds > 0 {
		r.LiveSide.Utilization = percent * t.liveArea / t.seconds
		r.ShadowSide.Utilization = percent * t.shadowArea / t.seconds
	} else {
		r.LiveSide.Utilization, r.ShadowSide.Utilization = percent*t.liveNow, percent*t.shadowNow
	}
	return r
}

// waits fills in the figures of the jobs that both sides started.
func (t *tally) waits(side *ctlv1.ShadowSide, at func(*sample) wlm.Time) {
	var waits []float64
	var sum, slow float64
	ended := 0
	for i := range t.samples {
		x := &t.samples[i]
		w := float64(max(at(x)-x.due, 0))
		waits = append(waits, w)
		sum += w
		if x.run >= 0 {
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
