package pass

import (
	"container/heap"
	"slices"

	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// history is what a shadow made of the cluster since it began: jobs that waited
// then, or came later, start when the shadow starts them, on a cluster of its own
// that commits by the same rules. All else (nodes, partitions, submissions,
// priorities, what holds a job back, how long it runs) is the live side's.
//
// How long a job runs is known when it has ended on the live side. Of a job that
// started sooner here, that is after its end here: it runs as long as the user's
// jobs did lately, as a part of their limits. What that was too long or too short
// by, in CPU seconds, later such jobs give back, so that the history has neither
// more nor less work to do than the live side.
//
// It is for one goroutine.
type history struct {
	c      *cluster.Cluster
	feed   *feed
	tally  *tally
	lives  map[lifeKey]*life
	seen   map[wlm.JobID]bool    // arrays
	runs   map[wlm.JobID]lifeKey // what the history started, by its id there
	ends   runEnds
	used   ledger // here
	live   ledger
	habits map[wlm.UID]*habit
	all    habit
	debt   float64 // CPU seconds by which guessed runs were too short, less those too long
	cause  bool    // something that could let a job start came since the last pass
	now    wlm.Time
}

// lifeKey is a job, or a task of an array.
type lifeKey struct {
	job  wlm.JobID // of a task, the array
	task uint32    // wlm.Unset: no task
}

func lifeOf(j *wlm.Job) lifeKey {
	if j.ArrayJob != 0 {
		return lifeKey{j.ArrayJob, j.ArrayTask}
	}
	return lifeKey{j.ID, wlm.Unset}
}

// life is what became of a job on both sides. A task of an array that waits on
// both has none.
type life struct {
	old    bool      // it ran when the history began: both sides have the same
	sample *sample   // nil for old ones
	id     wlm.JobID // of its own record here; 0: none
	start  wlm.Time  // here; 0: it waits
	over   bool      // it has ended here
	until  wlm.Time  // then: when
	cpus   int       // that it holds here
	live   wlm.Time  // its live start; 0: it waits
	gone   bool      // its live run is over, and its nodes are clean
	hold   wlm.Time  // then: from its start until it held nothing any more
}

// ledger sums up CPUs that jobs hold.
type ledger struct {
	jobs  map[wlm.JobID]int
	total int
}

func (l *ledger) put(j *wlm.Job) {
	n := 0
	for i := range cluster.Held(j) {
		n += j.Alloc.Nodes[i].CPUs.Count()
	}
	l.set(j.ID, n)
}

func (l *ledger) set(id wlm.JobID, n int) {
	l.total += n - l.jobs[id]
	if n == 0 {
		delete(l.jobs, id)
		return
	}
	l.jobs[id] = n
}

// runEnd is when a run of the history's ends, as far as is known.
type runEnd struct {
	at    wlm.Time
	id    wlm.JobID
	start wlm.Time // of the run that is meant
	guess bool     // it is not known yet when the live run ends
}

type runEnds []runEnd

func (e runEnds) Len() int { return len(e) }

// Less breaks ties by job, so that a history does the same again.
func (e runEnds) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].id < e[j].id
}
func (e runEnds) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *runEnds) Push(x any)   { *e = append(*e, x.(runEnd)) }
func (e *runEnds) Pop() any {
	old := *e
	x := old[len(old)-1]
	*e = old[:len(old)-1]
	return x
}

// habit is how long jobs lately ran, and how long they could have.
type habit struct{ run, limit, limited, jobs float64 }

// add forgets what was a hundred jobs ago.
func (h *habit) add(run, limit float64) {
	const keep = 0.99
	h.run, h.jobs = keep*h.run+run, keep*h.jobs+1
	h.limit, h.limited = keep*h.limit+limit, keep*h.limited
	if limit > 0 {
		h.limited += run
	}
}

// learn takes how long a job held its nodes on the live side.
func (h *history) learn(j *wlm.Job, run wlm.Time) {
	x := h.habits[j.Spec.User]
	if x == nil {
		const most = 10_000 // users
		if len(h.habits) == most {
			clear(h.habits)
		}
		x = &habit{}
		h.habits[j.Spec.User] = x
	}
	limit := float64(0)
	if j.TimeLimit != wlm.Unlimited {
		limit = float64(j.TimeLimit) * 60
	}
	x.add(float64(run), limit)
	h.all.add(float64(run), limit)
}

// guess is how long a job that starts now will hold its nodes; 0: that cannot be
// told.
func (h *history) guess(j *wlm.Job) wlm.Time {
	const enough = 3 // jobs
	x := &h.all
	if own := h.habits[j.Spec.User]; own != nil && own.jobs >= enough {
		x = own
	}
	switch {
	case j.End > 0 && x.limit > 0:
		return max(min(wlm.Time(float64(j.End-j.Start)*x.limited/x.limit), j.End-j.Start), 1)
	case j.End > 0:
		return j.End - j.Start
	case x.jobs > 0:
		return max(wlm.Time(x.run/x.jobs), 1)
	}
	return 0
}

// repay makes a guessed run longer or shorter by what former ones were misjudged.
func (h *history) repay(run wlm.Time, j *wlm.Job, cpus int) wlm.Time {
	if run == 0 || cpus == 0 {
		return run
	}
	more := wlm.Time(h.debt / float64(cpus))
	most := 2 * run // so that one job does not pay for all
	if j.End > 0 {
		most = min(most, j.End-j.Start)
	}
	paid := max(min(run+more, most), run/2, 1)
	h.debt -= float64(paid-run) * float64(cpus)
	return paid
}

// firstOwn is the first id of tasks that a history starts; live ones are below.
const firstOwn wlm.JobID = 1 << 31

func newHistory(rules cluster.Settings, t *tally) *history {
	return &history{c: cluster.Beside(rules, firstOwn), feed: newFeed(), tally: t, lives: map[lifeKey]*life{}, seen: map[wlm.JobID]bool{},
		habits: map[wlm.UID]*habit{},
		runs:   map[wlm.JobID]lifeKey{}, used: ledger{jobs: map[wlm.JobID]int{}}, live: ledger{jobs: map[wlm.JobID]int{}}}
}

// seed takes what there is when the history begins.
func (h *history) seed(events []*cluster.Event) error {
	for _, e := range events {
		if err := h.hear(e); err != nil {
			return err
		}
	}
	return nil
}

// put changes the history's cluster and what the shadow's mirrors are fed.
func (h *history) put(e *cluster.Event) error {
	if err := h.c.Replay(e); err != nil {
		return errs.Newf("pass.Shadow", errs.State, "its history and the cluster do not go together any more: %w", err)
	}
	if h.feed.put(e) {
		h.cause = true
	}
	if e.Job != nil {
		h.used.put(e.Job)
	}
	return nil
}

// hear takes an event of the live side.
func (h *history) hear(e *cluster.Event) error {
	if e.Time > h.now {
		if err := h.advance(e.Time); err != nil {
			return err
		}
	}
	switch e.Kind {
	case eventv1.Kind_JOB_PURGED:
		return nil // what has ended here is purged at once
	case eventv1.Kind_JOB_RANKED:
		own := &cluster.Event{Kind: e.Kind, Time: e.Time}
		for i, id := range e.IDs {
			if j := h.c.Job(id); j != nil && j.State == wlm.Pending && i < len(e.Priorities) {
				own.IDs, own.Priorities = append(own.IDs, id), append(own.Priorities, e.Priorities[i])
			}
		}
		if len(own.IDs) == 0 {
			return nil
		}
		return h.put(own)
	}
	switch {
	case e.Job != nil && e.Step == nil:
		return h.job(e)
	case e.Node != nil, e.Partition != nil, e.Reservation != nil, e.Kind == eventv1.Kind_EPOCH:
		return h.put(e)
	}
	return nil
}

func (h *history) job(e *cluster.Event) error {
	j := e.Job
	h.live.put(j)
	if j.IsArrayRecord() {
		return h.array(e)
	}
	k := lifeOf(j)
	l := h.lives[k]
	switch {
	case l == nil && j.State.Ended() && j.Flags&wlm.FlagCompleting == 0:
		return h.never(j, k)
	case l == nil:
		l = &life{}
		h.lives[k] = l
		if h.now == 0 && j.State != wlm.Pending { // while it is seeded
			l.old = true
		}
	}
	switch {
	case l.old && j.State == wlm.Pending: // requeued
		*l = life{}
		return h.wait(e, k, l)
	case l.old:
		if err := h.put(e); err != nil || !j.State.Ended() || j.Flags&wlm.FlagCompleting != 0 {
			return err
		}
		delete(h.lives, k)
		return h.purge(j.ID)
	case j.State == wlm.Pending:
		return h.waits(e, k, l)
	case !j.State.Ended() || j.Flags&wlm.FlagCompleting != 0:
		if l.live == 0 && j.Start > 0 {
			l.live = j.Start
			h.sampleOf(l, j)
			h.tally.liveStart(l.sample, j.Start)
		}
		return nil
	}
	return h.ended(e, k, l)
}

// sampleOf makes a job's sample when one side starts it.
func (h *history) sampleOf(l *life, j *wlm.Job) {
	if l.sample == nil {
		l.sample = &sample{job: j.ID, key: keyOf(j), due: dueOf(j), run: -1}
	}
}

// never takes a job that ended on the live side without a life: it waited, or
// was over when the history began.
func (h *history) never(j *wlm.Job, k lifeKey) error {
	if err := h.withdraw(k.job, j); err != nil {
		return err
	}
	if h.now == 0 {
		h.feed.over(j)
	}
	return nil
}

// waits takes a job that waits on the live side, perhaps again.
func (h *history) waits(e *cluster.Event, k lifeKey, l *life) error {
	switch {
	case e.Kind == eventv1.Kind_JOB_REQUEUED || l.live != 0:
		if err := h.stop(k, l); err != nil {
			return err
		}
		*l = life{}
	case l.start != 0:
		return nil // it has started here
	}
	return h.wait(e, k, l)
}

// wait lets a job wait here, with the record that it has on the live side.
func (h *history) wait(e *cluster.Event, k lifeKey, l *life) error {
	j := e.Job
	if k.task != wlm.Unset {
		if err := h.withdraw(k.job, j); err != nil {
			return err
		}
	}
	if j.Flags&wlm.FlagCompleting != 0 { // its former run leaves nodes that are others' here
		j = j.Clone()
		j.Flags, j.Alloc, j.Cleaning = j.Flags&^wlm.FlagCompleting, nil, nil
	}
	if w := h.c.Job(j.ID); w != nil && lifeOf(w) != k { // the array's id is in use here
		j = j.Clone()
		j.ID = h.c.NextJob
	}
	if l.id != 0 && l.id != j.ID {
		j = j.Clone()
		j.ID = l.id
	}
	l.id = j.ID
	return h.put(&cluster.Event{Kind: eventv1.Kind_JOB_CHANGED, Time: e.Time, Job: j})
}

// ended takes the end of a live run, or of a job that never ran there.
func (h *history) ended(e *cluster.Event, k lifeKey, l *life) error {
	j := e.Job
	if l.live == 0 && j.Start > 0 && j.Alloc != nil {
		l.live = j.Start
		h.sampleOf(l, j)
		h.tally.liveStart(l.sample, j.Start)
	}
	if l.live == 0 { // cancelled while it waited there
		h.tally.drop(l.sample)
		delete(h.lives, k)
		if err := h.stop(k, l); err != nil {
			return err
		}
		return h.withdraw(k.job, j)
	}
	if l.gone {
		return nil
	}
	l.gone, l.hold = true, max(e.Time-l.live, 0)
	h.learn(j, l.hold)
	h.tally.ran(l.sample, float64(max(j.End-l.live, 0)))
	if l.start == 0 {
		return nil
	}
	until := h.now
	if l.over {
		until = l.until
	}
	if late := float64(until-l.start-l.hold) * float64(l.cpus); late > 0 || l.over {
		h.debt -= late
		h.tally.misjudged(late)
	}
	if l.over {
		delete(h.lives, k)
		return nil
	}
	heap.Push(&h.ends, runEnd{l.start + l.hold, l.id, l.start, false})
	return h.advance(h.now)
}

// stop takes a job out of the history, whether it waits or runs there.
func (h *history) stop(k lifeKey, l *life) error {
	h.tally.drop(l.sample)
	id := l.id
	l.id = 0
	if id == 0 || l.over {
		return nil
	}
	delete(h.runs, id)
	return h.finish(id)
}

// finish ends a record of the history.
func (h *history) finish(id wlm.JobID) error {
	j := h.c.Job(id)
	if j == nil {
		return nil
	}
	n := j.Clone()
	n.State, n.Flags, n.End, n.Cleaning = wlm.Completed, 0, max(h.now, j.Start), nil
	if j.State == wlm.Pending {
		n.State, n.Alloc = wlm.Cancelled, nil
	}
	if err := h.put(&cluster.Event{Kind: eventv1.Kind_JOB_ENDED, Time: h.now, Job: n}); err != nil {
		return err
	}
	h.cause = true
	return h.purge(id)
}

func (h *history) purge(id wlm.JobID) error {
	h.used.set(id, 0)
	return h.put(&cluster.Event{Kind: eventv1.Kind_JOB_PURGED, Time: h.now, IDs: []wlm.JobID{id}})
}

// array takes a record of several tasks.
func (h *history) array(e *cluster.Event) error {
	j := e.Job
	tasks := wlm.IDRanges(j.ArrayTasks)
	if j.State != wlm.Pending { // cancelled together
		if err := h.withdraw(j.ArrayJob, j); err != nil {
			return err
		}
		for k, l := range h.lives { // those that this side has started
			if k.job == j.ArrayJob && k.task != wlm.Unset && tasks.Has(k.task) && l.live == 0 {
				delete(h.lives, k)
				if err := h.stop(k, l); err != nil {
					return err
				}
			}
		}
		return nil
	}
	var mine wlm.IDRanges
	if own := h.c.Job(j.ID); own != nil && own.IsArrayRecord() && own.State == wlm.Pending {
		mine = own.ArrayTasks
	}
	if !h.seen[j.ArrayJob] || e.Kind == eventv1.Kind_JOB_REQUEUED { // it is new, or cancelled tasks wait again
		h.seen[j.ArrayJob] = true
		mine = tasks
	} else {
		for _, other := range h.c.ArrayParts(j.ArrayJob) { // what the live side moved to this record
			if other.ID == j.ID || other.State != wlm.Pending {
				continue
			}
			moved := wlm.IDRanges(other.ArrayTasks).Common(tasks)
			if moved.Count() == 0 {
				continue
			}
			if err := h.without(other, moved); err != nil {
				return err
			}
			if len(mine) == 0 {
				mine = moved
				continue
			}
			for id := range moved.All() {
				mine = mine.Add(id)
			}
		}
	}
	if mine.Count() == 0 {
		return nil
	}
	n := j.Clone()
	n.ArrayTasks = mine
	return h.put(&cluster.Event{Kind: eventv1.Kind_JOB_CHANGED, Time: e.Time, Job: n})
}

// withdraw takes a job, or tasks of an array, out of what waits here.
func (h *history) withdraw(array wlm.JobID, j *wlm.Job) error {
	if j.ArrayJob == 0 {
		if w := h.c.Job(j.ID); w != nil && w.State == wlm.Pending && !w.IsArrayRecord() {
			return h.finish(j.ID)
		}
		return nil
	}
	tasks := wlm.IDRanges(j.ArrayTasks)
	if !j.IsArrayRecord() {
		tasks = wlm.IDRanges{{First: j.ArrayTask, Last: j.ArrayTask, Step: 1}}
	}
	for _, part := range h.c.ArrayParts(array) {
		if part.State != wlm.Pending {
			continue
		}
		if own := wlm.IDRanges(part.ArrayTasks).Common(tasks); own.Count() > 0 {
			if err := h.without(part, own); err != nil {
				return err
			}
		}
	}
	return nil
}

// without takes tasks off a record that waits here.
func (h *history) without(part *wlm.Job, tasks wlm.IDRanges) error {
	rest := wlm.IDRanges(part.ArrayTasks).Without(tasks)
	if rest.Count() == 0 {
		return h.finish(part.ID)
	}
	n := part.Clone()
	n.ArrayTasks = rest
	return h.put(&cluster.Event{Kind: eventv1.Kind_JOB_CHANGED, Time: h.now, Job: n})
}

// advance ends the runs that are over by then.
func (h *history) advance(now wlm.Time) error {
	for len(h.ends) > 0 && h.ends[0].at <= now {
		x := heap.Pop(&h.ends).(runEnd)
		k, runs := h.runs[x.id]
		l := h.lives[k]
		if !runs || l == nil || l.id != x.id || l.start != x.start || l.over {
			continue // it has ended before
		}
		if x.guess && l.live != 0 && (l.live <= l.start || x.at-l.live >= x.at-x.start) {
			continue // the live run's end will be known in time
		}
		h.tick(max(h.now, x.at))
		delete(h.runs, x.id)
		l.over, l.until = true, h.now
		if l.gone {
			delete(h.lives, k)
		}
		if err := h.finish(x.id); err != nil {
			return err
		}
	}
	h.tick(now)
	return nil
}

// tick lets time pass.
func (h *history) tick(now wlm.Time) {
	if now <= h.now {
		return
	}
	if h.now > 0 {
		usable := 0
		for _, n := range h.c.Nodes {
			if n.Available() {
				usable += int(n.CPUs)
			}
		}
		h.tally.area(float64(now-h.now), usable, h.live.total, h.used.total)
	}
	h.now = now
	h.tally.at(now)
}

// begin starts the clock after the seed.
func (h *history) begin(now wlm.Time) { h.tick(max(now, 1)) }

// due is when the next run ends; 0: none does.
func (h *history) due() wlm.Time {
	if len(h.ends) == 0 {
		return 0
	}
	return h.ends[0].at
}

// commit starts what a pass of the shadow placed, and returns what did not hold.
func (h *history) commit(s *cluster.Start, at wlm.Time) ([]cluster.Refusal, error) {
	value, err := h.c.Apply(s, at)
	if err != nil {
		return nil, err
	}
	for _, e := range h.c.TakeTurn() {
		if h.feed.put(e) {
			h.cause = true
		}
		if e.Job == nil {
			continue
		}
		h.used.put(e.Job)
		if e.Kind == eventv1.Kind_JOB_STARTED {
			h.started(e.Job)
		}
	}
	reply, ok := value.(*cluster.StartReply)
	if !ok {
		return nil, errs.Newf("pass.Shadow", errs.Internal, "reply of type %T", value)
	}
	return slices.Clone(reply.Refused), nil
}

func (h *history) started(j *wlm.Job) {
	k := lifeOf(j)
	l := h.lives[k]
	if l == nil {
		l = &life{}
		h.lives[k] = l
	}
	l.id, l.start, l.cpus = j.ID, j.Start, h.used.jobs[j.ID]
	h.runs[j.ID] = k
	h.sampleOf(l, j)
	h.tally.shadowStart(l.sample, j.Start)
	switch {
	case l.gone:
		heap.Push(&h.ends, runEnd{j.Start + l.hold, j.ID, j.Start, false})
	case l.live == 0:
		if run := h.repay(h.guess(j), j, l.cpus); run > 0 {
			heap.Push(&h.ends, runEnd{j.Start + run, j.ID, j.Start, true})
		}
	}
}
