// Package outbox carries accounting records to the storage plugin: at least
// once, in order, however long the store is away.
//
// The records themselves wait in the cluster, numbered, as part of the journal
// ([Source]). The pump sends them in batches, one batch at a time, and tells the
// source how far the store has them. What it holds itself is a position and
// nothing else: after a crash of either side it begins again behind the last
// position that the journal knows, and the store tolerates repetition.
//
// Invariants: batch n+1 is not sent before batch n is stored; [Source.Acked] is
// called with rising numbers, and only with numbers that the store answered; no
// record is ever skipped, also none that the store refuses. While the store
// fails, the pump tries again after growing, jittered pauses and says so in
// [Pump.Stats] and, once a failure, in the log.
//
// Each batch costs the store a transaction and the journal an acknowledgement,
// so batches that follow one another closely are gathered: after one that was
// not full the next waits for [Options.Gap]. Who reads the store and wants to
// see what has happened until now calls [Pump.Flush] before.
package outbox

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/acctstore/v1"
)

// A Source keeps the records that are not stored yet, in rising order of their
// numbers. Its methods are called from the goroutine of [Pump.Run], Last from
// any.
type Source interface {
	// Last returns the number of the newest record.
	Last() uint64
	// Records returns the first max records, or fewer, with numbers above
	// after. The result belongs to the source and is not changed by either side.
	Records(after uint64, max int) []*acctstorev1.Record
	// Wait returns nil once there is a record above after, or the context's error.
	Wait(ctx context.Context, after uint64) error
	// Acked says that everything up to a number is stored. The source may
	// forget those records; when it writes that down is its own affair.
	Acked(upto uint64)
}

// A Sink stores batches durably. Each [github.com/sluice-hpc/sluice/sdk/acctstore.Store] is one.
type Sink interface {
	Append(ctx context.Context, cluster string, records []*acctstorev1.Record) (acked uint64, err error)
}

// Options of a pump. The zero value of each field but Cluster is a good choice.
type Options struct {
	Cluster    string        // ClusterName
	After      uint64        // everything up to this number is stored already
	MaxRecords int           // of a batch; 0: 2000
	MaxBytes   int           // of a batch's records on the wire; 0: 512 KiB
	Timeout    time.Duration // of one Append; 0: 30 s
	Gap        time.Duration // between two batches of which the first was not full; 0: 100 ms
	MinPause   time.Duration // after the first failure; 0: 100 ms
	MaxPause   time.Duration // after many; 0: 15 s
	Log        *slog.Logger  // nil: the default logger
}

// Stats says how a pump is doing.
type Stats struct {
	Acked    uint64    // everything up to this number is stored
	Seen     uint64    // highest number that the pump has read from its source
	Queued   uint64    // records read and not yet stored: Seen - Acked where numbers are dense
	Batches  uint64    // stored since the start
	Records  uint64    // stored since the start, repetitions included
	Failures uint64    // failed attempts since the start
	Err      error     // last failure; nil while the store answers
	Since    time.Time // when the store began to fail; zero while it answers
}

// Pump moves records from one source to one sink.
type Pump struct {
	source Source
	sink   Sink
	opts   Options
	kick   chan struct{}
	hurry  chan struct{} // holds a token while somebody flushes

	mu    sync.Mutex // guards what follows; never held across a call of source or sink
	stats Stats
	moved chan struct{} // closed and replaced when stats change
}

// New makes a pump; nothing moves before [Pump.Run].
func New(source Source, sink Sink, opts Options) *Pump {
	if opts.MaxRecords <= 0 {
		opts.MaxRecords = 2000
	}
	if opts.MaxBytes <= 0 {
		opts.MaxBytes = 512 << 10
	}
	if opts.Timeout <= 0 {
		opts.Timeout = 30 * time.Second
	}
	if opts.Gap <= 0 {
		opts.Gap = 100 * time.Millisecond
	}
	if opts.MinPause <= 0 {
		opts.MinPause = 100 * time.Millisecond
	}
	if opts.MaxPause <= 0 {
		opts.MaxPause = 15 * time.Second
	}
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	return &Pump{source: source, sink: sink, opts: opts, kick: make(chan struct{}, 1),
		hurry: make(chan struct{}, 1), moved: make(chan struct{}), stats: Stats{Acked: opts.After, Seen: opts.After}}
}

// Run moves records until the context ends, and returns its error. It is
// called once.
func (p *Pump) Run(ctx context.Context) error {
	after, failures := p.opts.After, 0
	var next time.Time // not before: the gap after a batch that was not full
	for ctx.Err() == nil {
		if err := p.source.Wait(ctx, after); err == nil {
			p.gather(ctx, next)
		} else if ctx.Err() == nil {
			p.failed(err)
			p.pause(ctx, failures)
			failures++
			continue
		}
		records := p.source.Records(after, p.opts.MaxRecords)
		batch := p.cut(records)
		if len(batch) == 0 {
			continue
		}
		acked, err := p.send(ctx, after, batch)
		if err != nil {
			if ctx.Err() != nil {
				break
			}
			p.failed(err)
			p.pause(ctx, failures)
			failures++
			continue
		}
		p.source.Acked(acked)
		p.stored(acked, len(batch))
		after, failures = acked, 0
		next = time.Time{}
		if len(batch) == len(records) && len(batch) < p.opts.MaxRecords {
			next = time.Now().Add(p.opts.Gap)
		}
	}
	return ctx.Err()
}

// gather waits for more records until a time, or until somebody flushes.
func (p *Pump) gather(ctx context.Context, until time.Time) {
	d := time.Until(until)
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-p.hurry:
	}
}

// Flush waits until everything that the source has now is stored, or the store
// fails, which is returned, or the context ends. Safe from any goroutine.
func (p *Pump) Flush(ctx context.Context) error {
	last := p.source.Last()
	for {
		p.mu.Lock()
		acked, err, moved := p.stats.Acked, p.stats.Err, p.moved
		p.mu.Unlock()
		if acked >= last || err != nil {
			return err
		}
		select {
		case p.hurry <- struct{}{}:
		default:
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-moved:
		}
	}
}

// change wakes those who flush. The caller holds mu.
func (p *Pump) change() {
	close(p.moved)
	p.moved = make(chan struct{})
}

// cut shortens a run of records to what one batch may hold; at least one.
func (p *Pump) cut(records []*acctstorev1.Record) []*acctstorev1.Record {
	bytes := 0
	for i, r := range records {
		bytes += proto.Size(r) + 4 // its tag and length in the request
		if i > 0 && bytes > p.opts.MaxBytes || i == p.opts.MaxRecords {
			return records[:i]
		}
	}
	return records
}

// send stores one batch and returns the new position, which is above after.
func (p *Pump) send(ctx context.Context, after uint64, batch []*acctstorev1.Record) (uint64, error) {
	last := batch[len(batch)-1].Number
	p.mu.Lock()
	p.stats.Seen = max(p.stats.Seen, last)
	p.stats.Queued = p.stats.Seen - p.stats.Acked
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, p.opts.Timeout)
	defer cancel()
	acked, err := p.sink.Append(ctx, p.opts.Cluster, batch)
	if err != nil {
		return 0, err
	}
	if acked <= after {
		return 0, errs.Newf("outbox.send", errs.Internal,
			"accounting storage acknowledged record %d after a batch of %d to %d", acked, batch[0].Number, last)
	}
	return min(acked, last), nil
}

func (p *Pump) stored(acked uint64, records int) {
	p.mu.Lock()
	recovered := p.stats.Err != nil
	since := p.stats.Since
	p.stats.Acked = acked
	p.stats.Queued = p.stats.Seen - acked
	p.stats.Batches++
	p.stats.Records += uint64(records)
	p.stats.Err, p.stats.Since = nil, time.Time{}
	p.change()
	p.mu.Unlock()
	if recovered {
		p.opts.Log.Info("accounting storage answers again", "acked", acked, "away", time.Since(since).Round(time.Millisecond))
	}
}

func (p *Pump) failed(err error) {
	p.mu.Lock()
	first := p.stats.Err == nil || fmt.Sprint(p.stats.Err) != fmt.Sprint(err)
	if p.stats.Since.IsZero() {
		p.stats.Since = time.Now()
	}
	p.stats.Err = err
	p.stats.Failures++
	p.change()
	queued := p.stats.Queued
	p.mu.Unlock()
	if first {
		p.opts.Log.Warn("accounting storage fails, records wait", "queued", queued, "err", err)
	}
}

// pause waits before the next attempt: MinPause doubled for each failure in a
// row up to MaxPause, the upper half of it at random, or until [Pump.Kick].
func (p *Pump) pause(ctx context.Context, failures int) {
	d := min(p.opts.MinPause<<min(failures, 20), p.opts.MaxPause)
	if d <= 0 {
		d = p.opts.MaxPause
	}
	timer := time.NewTimer(d/2 + rand.N(d/2+1))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-p.kick:
	}
}

// Kick ends a present pause, or the next one: whoever restarts the store calls
// it. Safe from any goroutine.
func (p *Pump) Kick() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// Stats returns the present figures. Safe from any goroutine.
func (p *Pump) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats
}
