package rpc

import (
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
)

const (
	freeFrames = 2 // messages of a listing that are sent at once, some thousand jobs
	holdAtMost = 5 * time.Second
	restRatio  = 2 // time that a long listing rests beside submissions, for each it worked
	restAtMost = 100 * time.Millisecond
)

// pacer keeps listings from taking the machine away from submissions. Listings
// of some thousand jobs pass untouched. Longer ones go one after the other,
// since side by side they would only share the same processors; and while
// submissions come in, a listing rests between its messages. A reader that
// stops reading holds up the others for holdAtMost, once.
type pacer struct {
	turn    chan struct{} // holds a token while a long listing has its turn
	submits atomic.Uint64 // grows with every submission
}

func newPacer() *pacer { return &pacer{turn: make(chan struct{}, 1)} }

func (p *pacer) sink(stream grpc.ServerStream) *streamSink {
	return &streamSink{pacer: p, stream: stream}
}

// streamSink sends the frames of one listing on a stream.
type streamSink struct {
	pacer  *pacer
	stream grpc.ServerStream
	sent   int
	seen   uint64    // submissions when it last looked
	last   time.Time // it last rested, or began to be long

	end   func() // ends its turn; nil when it never had one
	timer *time.Timer
}

// Buffer implements view.Sink.
func (*streamSink) Buffer() []byte { return *frames.Get(0) }

// Send implements view.Sink.
func (s *streamSink) Send(b []byte) error {
	if s.sent++; s.sent > freeFrames {
		if err := s.pace(); err != nil {
			return err
		}
	}
	return s.stream.SendMsg(frame{mem.NewBuffer(&b, frames)})
}

// pace waits for the listing's turn at first, and rests later on.
func (s *streamSink) pace() error {
	done := s.stream.Context().Done()
	if s.sent == freeFrames+1 {
		select {
		case s.pacer.turn <- struct{}{}:
		case <-done:
			return s.stream.Context().Err()
		}
		s.end = sync.OnceFunc(func() { <-s.pacer.turn })
		s.timer = time.AfterFunc(holdAtMost, s.end)
		s.last, s.seen = time.Now(), s.pacer.submits.Load()
		return nil
	}
	now := time.Now()
	if n := s.pacer.submits.Load(); n != s.seen {
		s.seen = n
		rest := time.NewTimer(min(restRatio*now.Sub(s.last), restAtMost))
		select {
		case now = <-rest.C:
		case <-done:
			rest.Stop()
			return s.stream.Context().Err()
		}
	}
	s.last = now
	return nil
}

// close ends the listing's turn, if it has one.
func (s *streamSink) close() {
	if s.end != nil {
		s.timer.Stop()
		s.end()
	}
}
