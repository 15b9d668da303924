package view

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// ErrLagged tells a watcher that events it had not read are gone: it must look
// at the present again and go on from there.
var ErrLagged = errors.New("the watcher fell too far behind")

const (
	ringSize  = 8192 // events kept for watchers
	watchRead = 256  // events that one Next returns at most
)

// Item is an event for watchers. Its message is made once for all of them.
type Item struct {
	Event *cluster.Event
	once  sync.Once
	msg   *eventv1.Event
}

// Message is the event on the wire; it is shared and must not be changed.
func (i *Item) Message() *eventv1.Event {
	i.once.Do(func() { i.msg = i.Event.ToWire(true) })
	return i.msg
}

// hub passes events on. Everything it does in publish is bounded: a slot of the
// ring an event, and a note for each watcher of the event's own job.
type hub struct {
	mu struct {
		sync.Mutex
		ring     [ringSize]*Item
		first    uint64 // position of the oldest event kept
		next     uint64 // position of the next event
		watchers int
		fresh    chan struct{} // closed when next grows; nil when nobody waits
		jobs     map[wlm.JobID][]*JobWatcher
	}
}

func (h *hub) init() {
	h.mu.jobs = map[wlm.JobID][]*JobWatcher{}
	h.mu.first, h.mu.next = 1, 1
}

// private are the kinds that carry content which is its owner's alone, or that
// are the journal's own business.
func private(k cluster.Kind) bool {
	return k == eventv1.Kind_BLOB_STORED || k == eventv1.Kind_KEY_REMEMBERED || k == eventv1.Kind_RECORDS_ACKED
}

func (h *hub) publish(events []*cluster.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.mu.jobs) > 0 {
		for _, e := range events {
			h.tell(e)
		}
	}
	if h.mu.watchers == 0 {
		h.mu.next += uint64(len(events))
		h.mu.first = h.mu.next
		return
	}
	for _, e := range events {
		if private(e.Kind) {
			continue
		}
		h.mu.ring[h.mu.next%ringSize] = &Item{Event: e}
		h.mu.next++
	}
	if h.mu.next-h.mu.first > ringSize {
		h.mu.first = h.mu.next - ringSize
	}
	h.wake()
}

func (h *hub) wake() {
	if h.mu.fresh != nil {
		close(h.mu.fresh)
		h.mu.fresh = nil
	}
}

// restart makes every watcher start over.
func (h *hub) restart() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.next += ringSize + 1
	h.mu.first = h.mu.next
	clear(h.mu.ring[:])
	for id, list := range h.mu.jobs {
		for _, w := range list {
			w.note(id)
		}
	}
	h.wake()
}

// tell notes an event for the watchers of its jobs; the caller holds the lock.
func (h *hub) tell(e *cluster.Event) {
	one := func(id, array wlm.JobID) {
		for _, w := range h.mu.jobs[id] {
			w.note(id)
		}
		if array != 0 && array != id {
			for _, w := range h.mu.jobs[array] {
				w.note(id)
			}
		}
	}
	switch {
	case e.Kind == eventv1.Kind_JOB_RANKED: // a priority is nothing to wait for
	case e.Job != nil:
		one(e.Job.ID, e.Job.ArrayJob)
	case e.Kind == eventv1.Kind_JOB_PURGED:
		for _, id := range e.IDs {
			one(id, 0)
		}
	}
}

// Watcher reads all events from when it was made on. One goroutine uses it.
type Watcher struct {
	hub *hub
	pos uint64
}

// Watch returns a watcher of what comes. Whoever wants the present too looks at
// it after this call, and so misses nothing. Close ends it.
func (v *View) Watch() *Watcher {
	h := &v.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.watchers++
	return &Watcher{h, h.mu.next}
}

// Position is that of the next event.
func (w *Watcher) Position() uint64 { return w.pos }

// Close ends the watch.
func (w *Watcher) Close() {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	if w.hub.mu.watchers--; w.hub.mu.watchers == 0 {
		clear(w.hub.mu.ring[:])
		w.hub.mu.first = w.hub.mu.next
	}
}

// Next waits for events and returns some. After ErrLagged the watcher stands at
// the present.
func (w *Watcher) Next(ctx context.Context) ([]*Item, error) {
	for {
		items, wait, err := w.take()
		if items != nil || err != nil {
			return items, err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (w *Watcher) take() (items []*Item, wait <-chan struct{}, err error) {
	m := &w.hub.mu
	m.Lock()
	defer m.Unlock()
	switch {
	case w.pos < m.first:
		w.pos = m.next
		return nil, nil, ErrLagged
	case w.pos < m.next:
		n := min(m.next-w.pos, watchRead)
		for i := range n {
			items = append(items, m.ring[(w.pos+i)%ringSize])
		}
		w.pos += n
		return items, nil, nil
	}
	if m.fresh == nil {
		m.fresh = make(chan struct{})
	}
	return nil, m.fresh, nil
}

// JobWatcher follows one job, or an array with all its tasks, to the end. States
// that pass faster than they are read are left out; the last never is.
type JobWatcher struct {
	view *View
	id   wlm.JobID
	wake chan struct{} // holds one token when something changed
	live map[wlm.JobID]struct{}

	mu      sync.Mutex
	changed map[wlm.JobID]struct{}
}

// WatchJob follows a job. The first Next returns it as it is. Close ends it.
func (v *View) WatchJob(id wlm.JobID) (*JobWatcher, error) {
	w := &JobWatcher{view: v, id: id, wake: make(chan struct{}, 1), live: map[wlm.JobID]struct{}{}}
	h := &v.hub
	h.mu.Lock()
	h.mu.jobs[id] = append(h.mu.jobs[id], w)
	h.mu.Unlock()
	known := false
	v.Read(func(t *cluster.Tables) {
		if t.IsArray(id) {
			for _, j := range t.ArrayRecords(id) {
				known = true
				w.note(j.ID)
			}
		} else if t.Job(id) != nil {
			known = true
			w.note(id)
		}
	})
	if !known {
		w.Close()
		return nil, errs.Coded("view.WatchJob", errs.InvalidJobID)
	}
	return w, nil
}

// note remembers that a job changed; it never waits.
func (w *JobWatcher) note(id wlm.JobID) {
	w.mu.Lock()
	if w.changed == nil {
		w.changed = map[wlm.JobID]struct{}{}
	}
	w.changed[id] = struct{}{}
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Close ends the watch.
func (w *JobWatcher) Close() {
	h := &w.view.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	left := slices.DeleteFunc(h.mu.jobs[w.id], func(x *JobWatcher) bool { return x == w })
	if len(left) == 0 {
		delete(h.mu.jobs, w.id)
		return
	}
	h.mu.jobs[w.id] = left
}

// Next waits for a change and returns the records that changed, in id order.
// over tells that nothing more will come: the job, and all tasks of an array,
// have ended and are cleaned up, or were forgotten.
func (w *JobWatcher) Next(ctx context.Context) (changed []*wlm.Job, over bool, err error) {
	for {
		select {
		case <-w.wake:
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
		w.mu.Lock()
		ids := w.changed
		w.changed = nil
		w.mu.Unlock()
		w.view.Read(func(t *cluster.Tables) {
			for id := range ids {
				j := t.Job(id)
				if j == nil || j.State.Ended() && j.Flags&wlm.FlagCompleting == 0 {
					delete(w.live, id)
				} else {
					w.live[id] = struct{}{}
				}
				if j != nil {
					changed = append(changed, j)
				}
			}
		})
		slices.SortFunc(changed, func(a, b *wlm.Job) int { return int(a.ID) - int(b.ID) })
		if len(w.live) == 0 || len(changed) > 0 {
			return changed, len(w.live) == 0, nil
		}
	}
}
