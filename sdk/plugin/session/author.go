package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/plugin/wirecall"
	"github.com/sluice-hpc/sluice/sdk/proto/plugin/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Author is what the plugin's end of a session needs.
type Author struct {
	// Open makes the kinds' handlers from the options; its error refuses them.
	Open func(*pluginv1.Open) ([]wirecall.Handler, error)
	// Logs is told where log records go while the session lasts, nil afterwards.
	Logs func(send func(*pluginv1.Log))
}

// ErrPanic is returned by Serve when the author's code panicked.
var ErrPanic = errors.New("the plugin's code panicked")

// plugin is the plugin's end of a session.
type plugin struct {
	ctx      context.Context
	epoch    uint64
	handlers map[string]wirecall.Handler

	sendMu sync.Mutex // held while the stream takes a frame
	stream PluginStream
	ended  bool // Serve has returned: the stream may not be used

	failed chan error // capacity 1
	work   sync.WaitGroup

	mu    sync.Mutex
	calls map[uint64]*running
	asked map[uint64]chan *pluginv1.HostReply // capacity 1 each
	asks  uint64

	serial serialQueue
	mirror mirror.Mirror
	fed    int         // bytes of state since memory was given back; of the serial goroutine
	tidy   *time.Timer // gives memory back; nil: nothing much came yet
	rev    atomic.Uint64
	digest atomic.Uint64
}

// running is a call that arrives or runs.
type running struct {
	call    *pluginv1.Call
	payload []byte
	ctx     context.Context
	cancel  context.CancelFunc
	credit  chan struct{} // one token per item that may be sent
}

// Serve runs the plugin's end of a session until the host ends it or drains
// it, and returns nil, or until the author's code panics. ctx must end with
// the stream.
func Serve(ctx context.Context, stream PluginStream, a Author) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := &plugin{ctx: ctx, stream: stream, calls: map[uint64]*running{}, asked: map[uint64]chan *pluginv1.HostReply{}, failed: make(chan error, 1)}
	p.serial.wake = make(chan struct{}, 1)
	defer p.end()
	first, err := stream.Recv()
	if err != nil {
		return endOf(err)
	}
	p.epoch = first.GetEpoch()
	if first.GetOpen() == nil {
		return errs.Newf("plugin.Serve", errs.Invalid, "the first frame of a session must be Open, not %T", first.GetBody())
	}
	if err := p.open(a, first.GetOpen()); err != nil {
		return err
	}
	if a.Logs != nil {
		a.Logs(func(l *pluginv1.Log) {
			p.send(&pluginv1.PluginFrame{Body: &pluginv1.PluginFrame_Log{Log: l}})
		})
		defer a.Logs(nil)
	}
	go p.runSerial()
	received := make(chan error, 1)
	go func() { received <- p.receive() }()
	select {
	case err = <-received:
		if errors.Is(err, errDrain) {
			p.finish()
			err = nil
		}
	case err = <-p.failed:
	}
	return err
}

// finish waits for the calls that run; none is added any more.
func (p *plugin) finish() {
	done := make(chan struct{})
	go func() {
		p.work.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-p.ctx.Done():
	}
}

func (p *plugin) open(a Author, o *pluginv1.Open) (err error) {
	answer := &pluginv1.Opened{}
	handlers, err := p.guardedOpen(a, o)
	if err != nil {
		answer.Error = err.Error()
	}
	p.handlers = map[string]wirecall.Handler{}
	for _, h := range handlers {
		p.handlers[h.Kind] = h
	}
	if serr := p.send(&pluginv1.PluginFrame{Body: &pluginv1.PluginFrame_Opened{Opened: answer}}); serr != nil {
		return serr
	}
	return err
}

func (p *plugin) guardedOpen(a Author, o *pluginv1.Open) (h []wirecall.Handler, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", ErrPanic, r)
			slog.Error("panic while opening", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
		}
	}()
	return a.Open(o)
}

func (p *plugin) send(f *pluginv1.PluginFrame) error {
	f.Epoch = p.epoch
	p.sendMu.Lock()
	defer p.sendMu.Unlock()
	return p.sendLocked(f)
}

func (p *plugin) sendLocked(f *pluginv1.PluginFrame) error {
	if p.ended {
		return io.EOF
	}
	return p.stream.Send(f)
}

func (p *plugin) end() {
	p.sendMu.Lock()
	p.ended = true
	p.sendMu.Unlock()
}

var errDrain = errors.New("drain")

// receive reads frames until the stream ends; it never waits for author code.
func (p *plugin) receive() error {
	for {
		f, err := p.stream.Recv()
		if err != nil {
			return endOf(err)
		}
		if f.GetEpoch() != p.epoch {
			continue
		}
		switch b := f.GetBody().(type) {
		case *pluginv1.HostFrame_State:
			if len(b.State.GetPayload()) == 0 {
				p.sendSynced(false)
				continue
			}
			p.serial.put(func() { p.apply(b.State.GetPayload()) })
		case *pluginv1.HostFrame_Call:
			p.arrive(b.Call)
		case *pluginv1.HostFrame_Cancel:
			if c := p.find(b.Cancel.GetId()); c != nil {
				c.cancel()
			}
		case *pluginv1.HostFrame_Credit:
			p.grant(b.Credit)
		case *pluginv1.HostFrame_Reply:
			p.answered(b.Reply)
		case *pluginv1.HostFrame_Drain:
			return errDrain
		}
	}
}

func (p *plugin) sendSynced(resend bool) {
	p.send(&pluginv1.PluginFrame{Body: &pluginv1.PluginFrame_Synced{
		Synced: &pluginv1.Synced{Rev: p.rev.Load(), Digest: p.digest.Load(), Resend: resend}}})
}

// apply runs in the serial goroutine.
func (p *plugin) apply(frame []byte) {
	p.shed(len(frame))
	done, err := p.mirror.ApplyBytes(frame)
	if err != nil {
		slog.Warn("mirror lost, asking for a snapshot", "error", err)
		p.sendSynced(true)
		return
	}
	if done {
		p.rev.Store(p.mirror.Rev())
		p.digest.Store(p.mirror.Digest())
		p.holdSynced()
	}
}

// holdSynced is sendSynced with the answer to the call that follows, if one does:
// runSerial flushes.
func (p *plugin) holdSynced() {
	s, ok := p.stream.(holder[*pluginv1.PluginFrame])
	if !ok {
		p.sendSynced(false)
		return
	}
	p.sendMu.Lock()
	defer p.sendMu.Unlock()
	if !p.ended {
		_ = s.Hold(&pluginv1.PluginFrame{Epoch: p.epoch, Body: &pluginv1.PluginFrame_Synced{ // the reader learns of an error
			Synced: &pluginv1.Synced{Rev: p.rev.Load(), Digest: p.digest.Load()}}})
	}
}

func (p *plugin) flush() {
	if s, ok := p.stream.(holder[*pluginv1.PluginFrame]); ok {
		p.sendMu.Lock()
		defer p.sendMu.Unlock()
		if !p.ended {
			_ = s.Flush() // the reader learns of an error
		}
	}
}

// What a snapshot leaves behind is as much again as what it says: it goes back to
// the system once nothing of that size has come for a moment.
const (
	shedBytes = 1 << 20
	shedAfter = time.Second
)

func (p *plugin) shed(n int) {
	if p.fed += n; p.fed < shedBytes {
		return
	}
	p.fed = 0
	if p.tidy == nil {
		p.tidy = time.AfterFunc(shedAfter, debug.FreeOSMemory)
	} else {
		p.tidy.Reset(shedAfter)
	}
}

func (p *plugin) find(id uint64) *running {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls[id]
}

func (p *plugin) grant(c *pluginv1.Credit) {
	r := p.find(c.GetId())
	if r == nil {
		return
	}
	for range min(c.GetItems(), itemWindow) {
		select {
		case r.credit <- struct{}{}:
		default: // more than were sent: nothing to add
		}
	}
}

// arrive takes a piece of a call and starts the call with its last piece.
func (p *plugin) arrive(c *pluginv1.Call) {
	r := p.find(c.GetId())
	if r == nil {
		r = &running{call: c}
		r.ctx, r.cancel = context.WithCancel(p.ctx)
		if ms := c.GetDeadlineMs(); ms > 0 {
			r.ctx, r.cancel = context.WithTimeout(p.ctx, time.Duration(min(ms, 1<<40))*time.Millisecond)
		}
		p.mu.Lock()
		p.calls[c.GetId()] = r
		p.mu.Unlock()
	}
	var err error
	if r.payload, err = join(r.call.GetKind(), r.payload, c.GetPayload()); err != nil {
		p.answer(r, nil, err)
		return
	}
	if c.GetMore() {
		return
	}
	h, ok := p.handlers[r.call.GetKind()]
	if !ok {
		p.answer(r, nil, errs.Newf(r.call.GetKind(), errs.Unsupport, "this plugin does not serve the kind %s", r.call.GetKind()))
		return
	}
	r.credit = make(chan struct{}, itemWindow)
	for range itemWindow {
		r.credit <- struct{}{}
	}
	p.work.Add(1)
	run := func() {
		defer p.work.Done()
		p.run(h, r)
	}
	if h.Serial {
		p.serial.put(run)
		return
	}
	go run()
}

// run makes one call of the author's code and answers it.
func (p *plugin) run(h wirecall.Handler, r *running) {
	if err := r.ctx.Err(); err != nil {
		p.answer(r, nil, err) // its time ended while it waited
		return
	}
	req := wirecall.Request{Method: r.call.GetMethod(), Payload: r.payload, Send: func(b []byte) error { return p.item(r, b) },
		Ask: func(ctx context.Context, method string, b []byte) ([]byte, error) {
			return p.ask(ctx, r.call.GetKind(), method, b)
		}}
	if h.Serial {
		req.Mirror = &p.mirror
	}
	b, err, panicked := guarded(r.ctx, h, req)
	p.answer(r, b, err)
	if panicked {
		select {
		case p.failed <- ErrPanic:
		default:
		}
	}
}

func guarded(ctx context.Context, h wirecall.Handler, req wirecall.Request) (b []byte, err error, panicked bool) {
	defer func() {
		if v := recover(); v != nil {
			slog.Error("panic in a call", "kind", h.Kind, "method", req.Method, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			b, err, panicked = nil, errs.Newf(h.Kind+"."+req.Method, errs.Internal, "panic: %v", v), true
		}
	}()
	b, err = h.Serve(ctx, req)
	return b, err, false
}

// ask puts a question to the host and waits for the answer.
func (p *plugin) ask(ctx context.Context, kind, method string, payload []byte) ([]byte, error) {
	op := kind + "." + method
	answer := make(chan *pluginv1.HostReply, 1)
	p.mu.Lock()
	p.asks++
	id := p.asks
	p.asked[id] = answer
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.asked, id)
		p.mu.Unlock()
	}()
	if err := p.send(&pluginv1.PluginFrame{Body: &pluginv1.PluginFrame_Query{
		Query: &pluginv1.HostQuery{Id: id, Method: method, Payload: payload, Kind: kind}}}); err != nil {
		return nil, errs.Newf(op, errs.Unavail, "the host is gone: %w", err)
	}
	select {
	case r := <-answer:
		if r.GetError() != "" {
			return nil, errs.Newf(op, errs.Unsupport, "%s", r.GetError())
		}
		return r.GetPayload(), nil
	case <-ctx.Done():
		return nil, errs.Newf(op, errs.Deadline, "the host has not answered: %w", ctx.Err())
	case <-p.ctx.Done():
		return nil, errs.Newf(op, errs.Unavail, "the host is gone")
	}
}

func (p *plugin) answered(r *pluginv1.HostReply) {
	p.mu.Lock()
	answer := p.asked[r.GetId()]
	delete(p.asked, r.GetId())
	p.mu.Unlock()
	if answer != nil {
		answer <- r
	}
}

// item sends one item of a streaming call, once the reader has room for it.
func (p *plugin) item(r *running, b []byte) error {
	select {
	case <-r.credit:
	case <-r.ctx.Done():
		return r.ctx.Err()
	}
	return p.sendReply(r, b, &pluginv1.Reply{Item: true})
}

func (p *plugin) answer(r *running, b []byte, err error) {
	r.cancel()
	p.mu.Lock()
	delete(p.calls, r.call.GetId())
	p.mu.Unlock()
	if len(b) > maxPayload {
		b, err = nil, errs.Newf(r.call.GetKind()+"."+r.call.GetMethod(), errs.Internal, "a reply of %d MiB, at most %d are allowed", len(b)>>20, maxPayload>>20)
	}
	if err != nil {
		b = nil
	}
	p.sendReply(r, b, &pluginv1.Reply{Error: wirecall.ErrorToWire(err)})
}

// sendReply sends a payload in pieces that no other piece of the same call
// comes between: Send may be called by several of the author's goroutines.
func (p *plugin) sendReply(r *running, b []byte, last *pluginv1.Reply) error {
	p.sendMu.Lock()
	defer p.sendMu.Unlock()
	return cut(b, func(piece []byte, more bool) error {
		f := &pluginv1.Reply{Id: r.call.GetId(), Payload: piece, More: more}
		if !more {
			f.Item, f.Error = last.GetItem(), last.GetError()
		}
		return p.sendLocked(&pluginv1.PluginFrame{Epoch: p.epoch, Body: &pluginv1.PluginFrame_Reply{Reply: f}})
	})
}

// serialQueue is the work of the serial goroutine, in order. It has no bound:
// the host sends a call only after the one before was answered or abandoned,
// and restarts a plugin that lets too many be abandoned.
type serialQueue struct {
	mu   sync.Mutex
	work []func()
	wake chan struct{}
}

func (q *serialQueue) put(f func()) {
	q.mu.Lock()
	q.work = append(q.work, f)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (p *plugin) runSerial() {
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-p.serial.wake:
		}
		for {
			p.serial.mu.Lock()
			work := p.serial.work
			p.serial.work = nil
			p.serial.mu.Unlock()
			if len(work) == 0 {
				break
			}
			for i, f := range work {
				f()
				work[i] = nil
			}
		}
		p.flush()
	}
}

// endOf is why a stream ended, nil when the other end closed it in order.
func endOf(err error) error {
	if errors.Is(err, io.EOF) || status.Code(err) == codes.Canceled {
		return nil
	}
	return err
}
