package rpc

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
)

// slowStream takes a while for each message.
type slowStream struct {
	grpc.ServerStream
	ctx context.Context
	per time.Duration
}

func (s *slowStream) Context() context.Context { return s.ctx }
func (s *slowStream) SendMsg(any) error {
	select {
	case <-time.After(s.per):
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

// list sends n frames and returns how long that took.
func (p *pacer) list(ctx context.Context, n int, per time.Duration) (time.Duration, error) {
	start := time.Now()
	s := p.sink(&slowStream{ctx: ctx, per: per})
	defer s.close()
	for range n {
		if err := s.Send(s.Buffer()); err != nil {
			return time.Since(start), err
		}
	}
	return time.Since(start), nil
}

func TestListingsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer()
		took := make(chan time.Duration, 3)
		for range 3 {
			go func() {
				d, err := p.list(t.Context(), 12, 10*time.Millisecond)
				if err != nil {
					t.Error(err)
				}
				took <- d
			}()
		}
		for _, want := range []time.Duration{120, 220, 320} {
			if d := <-took; d != want*time.Millisecond {
				t.Errorf("took %v, want %vms", d, int(want))
			}
		}
		if d, _ := p.list(t.Context(), freeFrames, time.Millisecond); d != freeFrames*time.Millisecond {
			t.Errorf("a short listing took %v", d)
		}
	})
}

func TestListingsRestBesideSubmissions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer()
		ctx, cancel := context.WithCancel(t.Context())
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			for ctx.Err() == nil {
				p.submits.Add(1)
				time.Sleep(time.Millisecond)
			}
		}()
		if d, err := p.list(t.Context(), 12, 10*time.Millisecond); err != nil || d < 290*time.Millisecond || d > 330*time.Millisecond {
			t.Errorf("took %v, error %v", d, err)
		}
		cancel()
		<-stopped
	})
}

func TestStuckReaderLosesItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer()
		stuck, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			s := p.sink(&slowStream{ctx: stuck, per: time.Hour})
			s.sent = freeFrames
			defer s.close()
			s.Send(s.Buffer()) //nolint:errcheck // as long as the test
		}()
		synctest.Wait()
		if d, err := p.list(t.Context(), 4, time.Millisecond); err != nil || d < holdAtMost || d > holdAtMost+time.Second {
			t.Errorf("took %v, error %v", d, err)
		}
		gone, leave := context.WithTimeout(t.Context(), time.Millisecond)
		defer leave()
		p.turn <- struct{}{}
		if _, err := p.list(gone, 4, time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
	})
}
