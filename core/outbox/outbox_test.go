package outbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/sluice-hpc/sluice/sdk/proto/acctstore/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
)

// queue is a source in memory. What it forgets on Acked is journalled: a
// restart keeps records and acked.
type queue struct {
	mu      sync.Mutex
	records []*acctstorev1.Record
	acked   uint64
	acks    []uint64
	more    chan struct{}
}

func newQueue() *queue { return &queue{more: make(chan struct{})} }

func (q *queue) put(texts ...string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, text := range texts {
		n := q.acked + 1
		if len(q.records) > 0 {
			n = q.records[len(q.records)-1].Number + 1
		}
		q.records = append(q.records, &acctstorev1.Record{Number: n,
			Event: &eventv1.Event{Kind: eventv1.Kind_JOB_STARTED, Text: text}})
	}
	close(q.more)
	q.more = make(chan struct{})
}

func (q *queue) Last() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.records) == 0 {
		return q.acked
	}
	return q.records[len(q.records)-1].Number
}

func (q *queue) Records(after uint64, max int) []*acctstorev1.Record {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []*acctstorev1.Record
	for _, r := range q.records {
		if r.Number > after && len(out) < max {
			out = append(out, r)
		}
	}
	return out
}

func (q *queue) Wait(ctx context.Context, after uint64) error {
	for {
		q.mu.Lock()
		n, more := len(q.records), q.more
		ready := n > 0 && q.records[n-1].Number > after
		q.mu.Unlock()
		if ready {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-more:
		}
	}
}

func (q *queue) Acked(upto uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.acked = upto
	q.acks = append(q.acks, upto)
	for len(q.records) > 1 && q.records[0].Number <= upto { // keeps one, for its number
		q.records = q.records[1:]
	}
}

// store keeps records by number, as an idempotent store does, and the order in
// which each arrived first.
type store struct {
	mu      sync.Mutex
	have    map[uint64]string
	order   []uint64
	batches []int
	fail    func(batch []*acctstorev1.Record) (stored int, err error) // nil: all is well
}

func (s *store) Append(_ context.Context, cluster string, batch []*acctstorev1.Record) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := len(batch), error(nil)
	if s.fail != nil {
		n, err = s.fail(batch)
	}
	s.batches = append(s.batches, n)
	var acked uint64
	for _, r := range batch[:n] {
		if _, old := s.have[r.Number]; !old {
			s.order = append(s.order, r.Number)
		}
		s.have[r.Number] = cluster + " " + r.Event.Text
		acked = r.Number
	}
	return acked, err
}

func newStore() *store { return &store{have: map[uint64]string{}} }

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func TestDeliversInBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := newQueue(), newStore()
		for i := range 25 {
			q.put(fmt.Sprint(i))
		}
		p := New(q, s, Options{Cluster: "c", MaxRecords: 10, Log: quiet()})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		synctest.Wait()
		if want := []int{10, 10, 5}; !slices.Equal(s.batches, want) {
			t.Errorf("batches of %v, want %v", s.batches, want)
		}
		q.put("late")
		time.Sleep(100 * time.Millisecond) // virtual: the gap
		synctest.Wait()
		if s.have[26] != "c late" {
			t.Errorf("a record that came while the pump slept was not delivered: %v", s.have[26])
		}
		if st := p.Stats(); st.Acked != 26 || st.Queued != 0 || st.Records != 26 || st.Err != nil {
			t.Errorf("stats %+v", st)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
	})
}

// The first record after a quiet time goes at once; those that follow closely
// are gathered, unless somebody flushes.
func TestGathers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := newQueue(), newStore()
		p := New(q, s, Options{Gap: 47 * time.Millisecond, Log: quiet()})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		for range 20 {
			q.put("a")
			time.Sleep(10 * time.Millisecond)
		}
		synctest.Wait()
		s.mu.Lock()
		got := slices.Clone(s.batches)
		s.mu.Unlock()
		if want := []int{1, 4, 5, 5, 4}; !slices.Equal(got, want) {
			t.Errorf("batches of %v, want %v", got, want)
		}
		time.Sleep(time.Second)
		q.put("b")
		synctest.Wait()
		q.put("c")
		at := time.Now()
		if err := p.Flush(ctx); err != nil || !time.Now().Equal(at) || p.Stats().Acked != 22 {
			t.Errorf("a flush took %v and gave %v", time.Since(at), err)
		}
		if err := p.Flush(ctx); err != nil {
			t.Errorf("a flush of nothing gave %v", err)
		}
		down := errors.New("disk full")
		s.mu.Lock()
		s.fail = func([]*acctstorev1.Record) (int, error) { return 0, down }
		s.mu.Unlock()
		q.put("d")
		if err := p.Flush(ctx); !errors.Is(err, down) {
			t.Errorf("a flush with a broken store gave %v", err)
		}
		cancel()
		if err := p.Flush(ctx); err == nil {
			t.Error("a flush after the end gave no error")
		}
		<-done
	})
}

func TestBatchesAreBoundedInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := newQueue(), newStore()
		small, big := strings.Repeat("s", 300), strings.Repeat("b", 5000)
		q.put(small, small, small, small, big, small)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- New(q, s, Options{MaxBytes: 1000, Log: quiet()}).Run(ctx) }()
		synctest.Wait()
		if want := []int{3, 1, 1, 1}; !slices.Equal(s.batches, want) {
			t.Errorf("batches of %v, want %v", s.batches, want)
		}
		cancel()
		<-done
	})
}

func TestWaitsForABrokenStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := newQueue(), newStore()
		down := errors.New("disk full")
		s.fail = func([]*acctstorev1.Record) (int, error) { return 0, down }
		q.put("a", "b")
		p := New(q, s, Options{Log: quiet()})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		start := time.Now()
		go func() { done <- p.Run(ctx) }()
		time.Sleep(time.Hour) // virtual
		st := p.Stats()
		if !errors.Is(st.Err, down) || st.Queued != 2 || st.Acked != 0 || !st.Since.Equal(start) {
			t.Errorf("stats of a pump with a broken store: %+v", st)
		}
		if st.Failures < 240 || st.Failures > 600 { // 7.5 to 15 s apart
			t.Errorf("%d attempts in an hour", st.Failures)
		}
		s.mu.Lock()
		s.fail = nil
		s.mu.Unlock()
		p.Kick()
		synctest.Wait()
		if st := p.Stats(); st.Acked != 2 || st.Err != nil || !st.Since.IsZero() {
			t.Errorf("stats after the store came back: %+v", st)
		}
		cancel()
		<-done
	})
}

func TestAStoreThatAcknowledgesNothingIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := newQueue(), newStore()
		answers := 0
		s.fail = func(b []*acctstorev1.Record) (int, error) {
			if answers++; answers < 3 {
				return 0, nil // no error, and no progress
			}
			return len(b), nil
		}
		q.put("a")
		p := New(q, s, Options{Log: quiet()})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		time.Sleep(time.Minute) // virtual
		if st := p.Stats(); st.Acked != 1 || st.Failures != 2 {
			t.Errorf("stats %+v", st)
		}
		cancel()
		<-done
	})
}

// TestNothingIsLost drives pump, source and store through random failures,
// half-stored batches, lost answers and restarts of both sides.
func TestNothingIsLost(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		total := rapid.IntRange(1, 60).Draw(rt, "records")
		lives := rapid.IntRange(1, 5).Draw(rt, "lives of the pump")
		faults := rapid.SliceOfN(rapid.IntRange(0, 4), 0, 40).Draw(rt, "faults")
		synctest.Test(t, func(t *testing.T) {
			q, s := newQueue(), newStore()
			s.fail = func(b []*acctstorev1.Record) (int, error) {
				if len(faults) == 0 {
					return len(b), nil
				}
				fault := faults[0]
				faults = faults[1:]
				switch fault {
				case 1:
					return 0, errors.New("away")
				case 2:
					return len(b), errors.New("stored, but the answer was lost")
				case 3:
					return len(b) / 2, errors.New("stored half, then died")
				case 4:
					return len(b) / 2, nil // acknowledges half
				}
				return len(b), nil
			}
			put := 0
			for life := range lives {
				ctx, cancel := context.WithCancel(t.Context())
				p := New(q, s, Options{Cluster: "c", After: q.acked, MaxRecords: 7, Log: quiet()})
				done := make(chan struct{})
				go func() { defer close(done); p.Run(ctx) }()
				for ; put < total*(life+1)/lives; put++ {
					q.put(fmt.Sprint(put + 1))
				}
				if life == lives-1 {
					time.Sleep(time.Hour) // virtual
				} else {
					time.Sleep(50 * time.Millisecond)
				}
				cancel()
				<-done
			}
			if len(s.have) != total || !slices.IsSorted(s.order) {
				t.Errorf("stored %d records of %d, first seen in order %v", len(s.have), total, s.order)
			}
			for n, text := range s.have {
				if text != fmt.Sprintf("c %d", n) {
					t.Errorf("record %d is %q", n, text)
				}
			}
			if !slices.IsSorted(q.acks) || len(q.acks) == 0 || q.acks[len(q.acks)-1] != uint64(total) {
				t.Errorf("acknowledged %v of %d", q.acks, total)
			}
		})
	})
}
