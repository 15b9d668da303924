package session

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/plugin/wirecall"
	"github.com/sluice-hpc/sluice/sdk/proto/plugin/v1"
	"google.golang.org/protobuf/proto"
)

// HostConfig is what the host's end of a session needs. Its functions are
// called by the receiving loop and must not wait.
type HostConfig struct {
	Epoch uint64
	Open  *pluginv1.Open
	Log   func(*pluginv1.Log)                       // of the plugin's author; may be nil
	Sync  func(rev, digest uint64, resend bool)     // how far the mirror is; may be nil
	Query func(*pluginv1.HostQuery) ([]byte, error) // host services; nil: none
}

// Host is the host's end of a session. It is a wirecall.Caller.
type Host struct {
	cfg    HostConfig
	stream HostStream
	cancel func() // ends the stream

	out  outbox
	done chan struct{}
	err  error // why, once done is closed

	mu    sync.Mutex
	next  uint64
	calls map[uint64]*call
	pings []chan struct{}
}

var _ wirecall.Caller = (*Host)(nil)

// call is a call that waits for its reply. The receiving loop alone touches
// part; it hands over whole payloads.
type call struct {
	op    string
	part  []byte
	items chan []byte
	last  chan reply // capacity 1
}

type reply struct {
	payload []byte
	err     error
}

// Open sends the options and waits for the plugin to accept them; the error
// says why it did not. cancel must end the stream.
func Open(ctx context.Context, stream HostStream, cancel func(), cfg HostConfig) (*Host, error) {
	h := &Host{cfg: cfg, stream: stream, cancel: cancel, done: make(chan struct{}), calls: map[uint64]*call{}}
	h.out.wake = make(chan struct{}, 1)
	h.out.later = time.AfterFunc(time.Hour, h.out.ring)
	h.out.later.Stop()
	opened := make(chan *pluginv1.Opened, 1)
	var once sync.Once
	go h.receive(func(o *pluginv1.Opened) { once.Do(func() { opened <- o }) })
	go h.send()
	h.post(&pluginv1.HostFrame{Body: &pluginv1.HostFrame_Open{Open: cfg.Open}})
	select {
	case o := <-opened:
		if o.GetError() != "" {
			h.Close()
			return nil, errs.Newf("plugin.Open", errs.Invalid, "%s", o.GetError())
		}
		return h, nil
	case <-h.done:
		return nil, errs.Newf("plugin.Open", errs.Unavail, "the plugin ended before it was ready: %w", h.err)
	case <-ctx.Done():
		h.Close()
		return nil, errs.Newf("plugin.Open", errs.Deadline, "the plugin did not answer its options: %w", ctx.Err())
	}
}

// Done is closed when the session has ended; Err then says why, nil after a drain.
func (h *Host) Done() <-chan struct{} { return h.done }

// Err is why the session ended.
func (h *Host) Err() error {
	select {
	case <-h.done:
		return h.err
	default:
		return nil
	}
}

// Close ends the session at once.
func (h *Host) Close() { h.cancel() }

// Drain lets the plugin finish what runs and waits until it ended the session.
// Calls that never end by themselves, such as launch.Watch, must be cancelled
// by whoever made them.
func (h *Host) Drain(ctx context.Context) error {
	h.post(&pluginv1.HostFrame{Body: &pluginv1.HostFrame_Drain{Drain: &pluginv1.Drain{}}})
	select {
	case <-h.done:
		return nil
	case <-ctx.Done():
		return errs.Newf("plugin.Drain", errs.Deadline, "calls still run: %w", ctx.Err())
	}
}

// Ping waits until the plugin's receiving loop answers, also while a call runs.
func (h *Host) Ping(ctx context.Context) error {
	pong := make(chan struct{}, 1)
	h.mu.Lock()
	h.pings = append(h.pings, pong)
	h.mu.Unlock()
	h.post(&pluginv1.HostFrame{Body: &pluginv1.HostFrame_State{State: &pluginv1.State{}}})
	select {
	case <-pong:
		return nil
	case <-h.done:
		return h.gone("plugin.Ping")
	case <-ctx.Done():
		return errs.Newf("plugin.Ping", errs.Deadline, "no answer: %w", ctx.Err())
	}
}

// PushState sends frames for the plugin's mirror. It does not wait for them to
// arrive: a call made afterwards finds them applied. Small ones wait a moment for
// that call, so that the plugin wakes once for both.
func (h *Host) PushState(frames [][]byte) error {
	size := 0
	for _, f := range frames {
		if err := h.queue(&pluginv1.HostFrame{Body: &pluginv1.HostFrame_State{State: &pluginv1.State{Payload: f}}}); err != nil {
			return err
		}
		size += len(f)
	}
	if size == 0 || size > lazyBytes {
		h.out.ring()
	} else {
		h.out.later.Reset(lazyTime)
	}
	return nil
}

// State up to lazyBytes waits for up to lazyTime.
const (
	lazyBytes = 16 << 10
	lazyTime  = 2 * time.Millisecond
)

// Call is wirecall.Caller's. A plugin is told nine tenths of the time that ctx
// leaves, so that what it has by then arrives in time.
func (h *Host) Call(ctx context.Context, kind, method string, payload []byte) ([]byte, error) {
	id, c, err := h.start(ctx, kind, method, payload)
	if err != nil {
		return nil, err
	}
	defer h.forget(id)
	select {
	case r := <-c.last:
		return r.payload, r.err
	case <-h.done:
		r := h.lastWord(c)
		return r.payload, r.err
	case <-ctx.Done():
		h.abandon(id)
		return nil, late(c.op, ctx)
	}
}

// Stream is wirecall.Caller's.
func (h *Host) Stream(ctx context.Context, kind, method string, payload []byte, yield func([]byte) error) error {
	id, c, err := h.start(ctx, kind, method, payload)
	if err != nil {
		return err
	}
	defer h.forget(id)
	item := func(b []byte) error {
		h.post(&pluginv1.HostFrame{Body: &pluginv1.HostFrame_Credit{Credit: &pluginv1.Credit{Id: id, Items: 1}}})
		return yield(b)
	}
	end := func(r reply) error {
		for len(c.items) > 0 { // those before the last reply
			if err := item(<-c.items); err != nil {
				return err
			}
		}
		return r.err
	}
	for {
		select {
		case b := <-c.items:
			if err := item(b); err != nil {
				h.abandon(id)
				return err
			}
		case r := <-c.last:
			return end(r)
		case <-h.done:
			return end(h.lastWord(c))
		case <-ctx.Done():
			h.abandon(id)
			return late(c.op, ctx)
		}
	}
}

// lastWord is the reply to a call whose session has ended: the one that came
// just before the end, if it did.
func (h *Host) lastWord(c *call) reply {
	select {
	case r := <-c.last:
		return r
	default:
		return reply{nil, h.gone(c.op)}
	}
}

func (h *Host) gone(op string) error {
	if h.err == nil {
		return errs.Newf(op, errs.Unavail, "the plugin has ended")
	}
	return errs.Newf(op, errs.Unavail, "the plugin has ended: %w", h.err)
}

func late(op string, ctx context.Context) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return errs.Newf(op, errs.Other, "%w", context.Canceled)
	}
	return errs.Newf(op, errs.Deadline, "the plugin took too long: %w", ctx.Err())
}

func (h *Host) start(ctx context.Context, kind, method string, payload []byte) (uint64, *call, error) {
	op := kind + "." + method
	if err := ctx.Err(); err != nil {
		return 0, nil, late(op, ctx)
	}
	if len(payload) > maxPayload {
		return 0, nil, errs.Newf(op, errs.Invalid, "a payload of %d MiB, at most %d are allowed", len(payload)>>20, maxPayload>>20)
	}
	var ms uint64
	if d, ok := ctx.Deadline(); ok {
		ms = uint64(max(time.Until(d)*9/10, time.Millisecond) / time.Millisecond)
	}
	c := &call{op: op, items: make(chan []byte, itemWindow), last: make(chan reply, 1)}
	h.mu.Lock()
	h.next++
	id := h.next
	h.calls[id] = c
	h.mu.Unlock()
	err := cut(payload, func(piece []byte, more bool) error {
		return h.post(&pluginv1.HostFrame{Body: &pluginv1.HostFrame_Call{Call: &pluginv1.Call{
			Id: id, Kind: kind, Method: method, Payload: piece, More: more, DeadlineMs: ms}}})
	})
	if err != nil {
		h.forget(id)
		return 0, nil, err
	}
	return id, c, nil
}

func (h *Host) forget(id uint64) {
	h.mu.Lock()
	delete(h.calls, id)
	h.mu.Unlock()
}

func (h *Host) abandon(id uint64) {
	h.post(&pluginv1.HostFrame{Body: &pluginv1.HostFrame_Cancel{Cancel: &pluginv1.Cancel{Id: id}}})
}

// outbox holds what the stream has not taken yet, in order.
type outbox struct {
	mu     sync.Mutex
	frames []*pluginv1.HostFrame
	bytes  int
	wake   chan struct{}
	later  *time.Timer // rings
	full   atomic.Bool
}

// ring wakes the sender.
func (o *outbox) ring() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// post sends a frame, behind those that are queued. It fails when the session has
// ended or the plugin does not read.
func (h *Host) post(f *pluginv1.HostFrame) error {
	if err := h.queue(f); err != nil {
		return err
	}
	h.out.later.Stop()
	h.out.ring()
	return nil
}

// queue is post without waking the sender.
func (h *Host) queue(f *pluginv1.HostFrame) error {
	select {
	case <-h.done:
		return h.gone("plugin.Send")
	default:
	}
	f.Epoch = h.cfg.Epoch
	n := 64 + len(f.GetState().GetPayload()) + len(f.GetCall().GetPayload())
	h.out.mu.Lock()
	if h.out.bytes+n > maxOutbox {
		h.out.mu.Unlock()
		h.out.full.Store(true)
		h.Close()
		return errs.Newf("plugin.Send", errs.Unavail, "the plugin has not read %d MiB", maxOutbox>>20)
	}
	h.out.bytes += n
	h.out.frames = append(h.out.frames, f)
	h.out.mu.Unlock()
	return nil
}

// holder is a stream that can keep frames until the next one, or until Flush, so
// that they leave together.
type holder[F any] interface {
	Hold(F) error
	Flush() error
}

func (h *Host) send() {
	defer h.out.later.Stop()
	one, flush := h.stream.Send, func() error { return nil }
	if s, ok := h.stream.(holder[*pluginv1.HostFrame]); ok {
		one, flush = s.Hold, s.Flush
	}
	for {
		select {
		case <-h.done:
			return
		case <-h.out.wake:
		}
		for {
			h.out.mu.Lock()
			frames := h.out.frames
			h.out.frames = nil
			h.out.mu.Unlock()
			if len(frames) == 0 {
				break
			}
			for i, f := range frames {
				if err := one(f); err != nil {
					return // the receiving loop learns why
				}
				frames[i] = nil
				h.out.mu.Lock()
				h.out.bytes -= 64 + len(f.GetState().GetPayload()) + len(f.GetCall().GetPayload())
				h.out.mu.Unlock()
			}
			if flush() != nil {
				return
			}
		}
	}
}

// receive is the only reader of the stream and the only one to close done.
func (h *Host) receive(opened func(*pluginv1.Opened)) {
	err := h.read(opened)
	if h.out.full.Load() {
		err = fmt.Errorf("it has not read %d MiB", maxOutbox>>20)
	}
	h.err = err
	close(h.done)
	h.cancel()
}

func (h *Host) read(opened func(*pluginv1.Opened)) error {
	for {
		f, err := h.stream.Recv()
		if err != nil {
			return endOf(err)
		}
		if f.GetEpoch() != h.cfg.Epoch {
			continue
		}
		switch b := f.GetBody().(type) {
		case *pluginv1.PluginFrame_Opened:
			opened(b.Opened)
		case *pluginv1.PluginFrame_Reply:
			h.take(b.Reply)
		case *pluginv1.PluginFrame_Log:
			if h.cfg.Log != nil {
				h.cfg.Log(b.Log)
			}
		case *pluginv1.PluginFrame_Query:
			h.query(b.Query)
		case *pluginv1.PluginFrame_Synced:
			h.synced(b.Synced)
		}
	}
}

// take files a piece of a reply. Replies to calls that were abandoned are dropped.
func (h *Host) take(r *pluginv1.Reply) {
	h.mu.Lock()
	c := h.calls[r.GetId()]
	h.mu.Unlock()
	if c == nil {
		return
	}
	var err error
	if c.part, err = join(c.op, c.part, r.GetPayload()); err != nil {
		h.spoil(r.GetId(), c, err)
		return
	}
	switch {
	case r.GetMore():
		return
	case r.GetItem():
		select {
		case c.items <- c.part:
		default:
			h.spoil(r.GetId(), c, errs.Newf(c.op, errs.Internal, "the plugin sent more items than it was allowed"))
		}
	default:
		select {
		case c.last <- reply{c.part, wirecall.ErrorOfWire(c.op, r.GetError())}:
		default: // answered twice
		}
	}
	c.part = nil
}

// spoil answers a call whose replies make no sense.
func (h *Host) spoil(id uint64, c *call, err error) {
	h.forget(id)
	h.abandon(id)
	select {
	case c.last <- reply{nil, err}:
	default:
	}
}

func (h *Host) synced(s *pluginv1.Synced) {
	h.mu.Lock()
	pings := h.pings
	h.pings = nil
	h.mu.Unlock()
	for _, p := range pings {
		p <- struct{}{}
	}
	if h.cfg.Sync != nil {
		h.cfg.Sync(s.GetRev(), s.GetDigest(), s.GetResend())
	}
}

func (h *Host) query(q *pluginv1.HostQuery) {
	r := &pluginv1.HostReply{Id: q.GetId(), Error: "this host answers no queries"}
	if h.cfg.Query != nil {
		b, err := h.cfg.Query(proto.CloneOf(q))
		r = &pluginv1.HostReply{Id: q.GetId(), Payload: b}
		if err != nil {
			r.Error = err.Error()
		}
	}
	h.post(&pluginv1.HostFrame{Body: &pluginv1.HostFrame_Reply{Reply: r}})
}
