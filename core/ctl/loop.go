// Package ctl is the controller's event loop.
//
// One goroutine, in [Loop.Run], owns the cluster. Everyone else sends it a
// command with [Loop.Do] and waits for the reply, so nothing here locks the
// cluster. A turn has four parts, always in this order:
//
//  1. take every command that waits, up to a bound;
//  2. apply each, which changes the cluster and makes events;
//  3. append all events to the journal as one entry, and wait until it is
//     durable;
//  4. publish the events to the listeners, and reply to the callers.
//
// Invariant: 3 comes before 4. Whoever has seen a job id will find that job
// after a crash, and no node is told anything that a crash could undo. Recovery
// is the same with part 4 left out, see [Open].
//
// Listeners hear every event in order, on the loop's goroutine, and must be
// quick: the view, the pass, the orders to nodes, the watchers of accounting.
package ctl

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/core/journal"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Log is the durable log as the loop needs it; *journal.Journal is one.
type Log interface {
	Append(*eventv1.Batch) error
	SnapshotDue() bool
	Snapshot(img journal.Image, done func(error))
	Free() (uint64, error)
}

// Listener hears the events of a turn once they are durable. It is called on
// the loop's goroutine and must not call Do.
type Listener func(events []*cluster.Event)

// Options of a loop.
type Options struct {
	Now func() time.Time // nil: time.Now
	Log *slog.Logger     // nil: slog.Default
}

// Loop owns the cluster.
type Loop struct {
	cluster   *cluster.Cluster
	journal   Log
	listeners []Listener
	now       func() time.Time
	log       *slog.Logger
	queue     chan *request
	stopped   chan struct{}
	err       error // why it stopped; set before stopped is closed
	freeAt    time.Time
	free      uint64

	// Counters, for sdiag and metrics.
	Turns    atomic.Uint64
	Commands atomic.Uint64
	Events   atomic.Uint64
}

type request struct {
	cmd   cluster.Command
	look  func(*cluster.Cluster) // instead of cmd: read-only, between turns
	value any
	err   error
	done  chan struct{}
}

const (
	// turnCommands bounds a turn, so that its caller's wait is bounded too.
	turnCommands = 1024
	tickEvery    = time.Second
	// freeEvery is how old a reading of the disk's free space may be.
	freeEvery = 100 * time.Millisecond
)

// New returns a loop over a cluster that was brought up to date; Run starts it.
// Listeners are called in the order given.
func New(c *cluster.Cluster, j Log, o Options, listeners ...Listener) *Loop {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return &Loop{cluster: c, journal: j, listeners: listeners, now: o.Now, log: o.Log,
		queue: make(chan *request, turnCommands), stopped: make(chan struct{})}
}

// Do carries out cmd and returns its reply once its events are durable. When
// ctx ends first, the command may still be carried out.
func (l *Loop) Do(ctx context.Context, cmd cluster.Command) (any, error) {
	return l.wait(ctx, &request{cmd: cmd, done: make(chan struct{})})
}

// Look calls f with the cluster between two turns. f must not keep or change
// what it sees, but for records, which are immutable.
func (l *Loop) Look(ctx context.Context, f func(*cluster.Cluster)) error {
	_, err := l.wait(ctx, &request{look: f, done: make(chan struct{})})
	return err
}

func (l *Loop) wait(ctx context.Context, r *request) (any, error) {
	select {
	case l.queue <- r:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.stopped:
		return nil, l.gone()
	}
	select {
	case <-r.done:
		return r.value, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.stopped:
		select {
		case <-r.done: // it was part of the last turn
			return r.value, r.err
		default:
			return nil, l.gone()
		}
	}
}

func (l *Loop) gone() error {
	return errs.Newf("ctl.Do", errs.Unavail, "the controller is stopping")
}

// Run takes turns until ctx ends, which is no error, or the journal fails.
func (l *Loop) Run(ctx context.Context) error {
	defer close(l.stopped)
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	batch := make([]*request, 0, turnCommands)
	for {
		batch = batch[:0]
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			batch = append(batch, &request{cmd: &cluster.Tick{}, done: make(chan struct{})})
		case r := <-l.queue:
			batch = append(batch, r)
		}
		batch = l.drain(batch)
		if err := l.turn(batch); err != nil {
			l.err = err
			return err
		}
	}
}

// drain adds whatever else waits.
func (l *Loop) drain(batch []*request) []*request {
	for len(batch) < turnCommands {
		select {
		case r := <-l.queue:
			batch = append(batch, r)
		default:
			return batch
		}
	}
	return batch
}

// turn is parts 2 to 4. An error is the journal's, and final.
func (l *Loop) turn(batch []*request) error {
	t := l.now()
	now := wlm.TimeOf(t)
	for _, r := range batch {
		l.apply(r, t, now)
	}
	events := l.cluster.TakeTurn()
	l.Turns.Add(1)
	l.Commands.Add(uint64(len(batch)))
	if len(events) > 0 {
		l.Events.Add(uint64(len(events)))
		b := &eventv1.Batch{Events: make([]*eventv1.Event, len(events))}
		for i, e := range events {
			b.Events[i] = e.ToWire(e.Kind == eventv1.Kind_JOB_SUBMITTED)
		}
		if err := l.journal.Append(b); err != nil {
			return fmt.Errorf("ctl: the turn could not be made durable: %w", err)
		}
		for _, hear := range l.listeners {
			hear(events)
		}
	}
	for _, r := range batch {
		close(r.done)
	}
	if l.journal.SnapshotDue() {
		l.journal.Snapshot(l.cluster.Image(), func(err error) {
			if err != nil {
				l.log.Error("snapshot not written", "err", err)
			}
		})
	}
	return nil
}

// apply carries out one request. A verb that panics is a bug in a verb, not a
// reason to stop a machine room: but events may be half made, so the loop stops
// for a restart from the journal, which has only whole turns.
func (l *Loop) apply(r *request, t time.Time, now wlm.Time) {
	if r.look != nil {
		r.look(l.cluster)
		return
	}
	if _, is := r.cmd.(*cluster.Submit); is && !l.room(t) {
		r.err = errs.Coded("ctl.Do", errs.StateSaveFull, fmt.Sprintf("%d MiB are free, %d MiB are kept for running jobs", l.free>>20, uint64(journal.Reserve)>>20))
		return
	}
	r.value, r.err = l.cluster.Apply(r.cmd, now)
}

// room reports whether the disk has space for more than running jobs need.
func (l *Loop) room(t time.Time) bool {
	if t.Sub(l.freeAt) > freeEvery {
		free, err := l.journal.Free()
		if err != nil {
			l.log.Error("free space of StateSaveLocation is not known", "err", err)
			return true
		}
		l.free, l.freeAt = free, t
	}
	return l.free >= journal.Reserve
}

// machine restores a cluster from its journal; see [Open].
type machine struct{ c *cluster.Cluster }

// Restore implements journal.Machine.
func (m *machine) Restore(part *eventv1.Snapshot, reset bool) error {
	if reset {
		*m.c = *cluster.New(m.c.Settings())
	}
	return m.c.Restore(part)
}

// Image implements journal.Imager.
func (m *machine) Image() journal.Image { return m.c.Image() }

// Replay implements journal.Machine.
func (m *machine) Replay(b *eventv1.Batch) error {
	for _, w := range b.GetEvents() {
		if err := m.c.Replay(cluster.EventOfWire(w)); err != nil {
			return err
		}
	}
	return nil
}

// Open opens the journal and returns the cluster as it was left. With a group of
// controllers the cluster is another's, and still changing, until
// [journal.Journal.Lead] returns.
func Open(o journal.Options, s cluster.Settings) (*cluster.Cluster, *journal.Journal, error) {
	c := cluster.New(s)
	j, err := journal.Open(o, &machine{c})
	if err != nil {
		return nil, nil, err
	}
	return c, j, nil
}
