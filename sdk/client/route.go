package client

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wire"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	firstPause = 20 * time.Millisecond
	maxPause   = 2 * time.Second
	dialOne    = 2 * time.Second // for one controller when there are others
)

// once lists the calls that must not be repeated when their outcome is not
// known. All others are reads, or say which state they want, or carry a key.
var once = []string{
	ctlv1.Controller_UpdateJob_FullMethodName,
	ctlv1.Controller_UpdatePartition_FullMethodName,
	ctlv1.Controller_UpdateReservation_FullMethodName,
	ctlv1.Controller_Shutdown_FullMethodName,
	ctlv1.Controller_Reconfigure_FullMethodName,
	ctlv1.Controller_ChangePlugin_FullMethodName,
}

// route is a grpc.ClientConnInterface that finds the controller that serves.
type route struct {
	addrs   []string
	timeout time.Duration
	dial    func(ctx context.Context, addr string) (net.Conn, error)
	token   tokenSource
	single  bool // calls are tried once

	mu     sync.Mutex
	at     int // index in addrs of the controller to use
	conn   *grpc.ClientConn
	closed bool
}

var _ grpc.ClientConnInterface = (*route)(nil)

// Invoke is a unary call, repeated as the package comment says.
func (r *route) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	return r.try(ctx, method, func(cc *grpc.ClientConn) error {
		ctx, cancel := context.WithTimeout(r.with(ctx), r.timeout)
		defer cancel()
		return cc.Invoke(ctx, method, args, reply, opts...)
	})
}

// NewStream opens a stream; see [stream] for how it is repeated.
func (r *route) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s := &stream{route: r, ctx: ctx, desc: desc, method: method, opts: opts}
	return s, s.open()
}

// with adds the token to ctx.
func (r *route) with(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, TokenKey, r.token.get(ctx))
}

// try calls do with a connection until it succeeds, fails for a reason that
// another try does not mend, or time is up.
func (r *route) try(ctx context.Context, method string, do func(*grpc.ClientConn) error) error {
	deadline := time.Now().Add(r.timeout)
	var wait backoff
	for {
		cc, err := r.connect(ctx)
		again := err != nil
		if err == nil {
			raw := do(cc)
			err = wire.ErrorOfStatus(raw)
			again = r.another(cc, method, err) || r.left(cc, method, raw)
		}
		if err == nil || !again || r.single || time.Now().After(deadline) || ctx.Err() != nil {
			return unreachable(err)
		}
		if len(r.addrs) > 1 && wait.tries < len(r.addrs)-1 {
			wait.tries++ // the others first, without a pause
			continue
		}
		if !wait.sleep(ctx) {
			return unreachable(err)
		}
	}
}

// another tells whether err may be mended by another try, and moves on to the
// next controller if so.
func (r *route) another(cc *grpc.ClientConn, method string, err error) bool {
	switch {
	case err == nil:
		return false
	case errs.CodeOf(err) == errs.StandbyMode:
	case errs.KindOf(err) == errs.Unavail && errs.CodeOf(err) == 0 && !slices.Contains(once, method):
	default:
		return false
	}
	r.drop(cc)
	return true
}

// left tells whether a call ended because another one gave up the connection
// that both had, so that it is to be made again.
func (r *route) left(cc *grpc.ClientConn, method string, raw error) bool {
	if status.Code(raw) != codes.Canceled || slices.Contains(once, method) {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.conn != cc && !r.closed
}

// connect returns the present connection, or dials each controller once.
func (r *route) connect(ctx context.Context) (*grpc.ClientConn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, errs.Newf("client.connect", errs.Unavail, "the client is closed")
	}
	if r.conn != nil {
		return r.conn, nil
	}
	limit := r.timeout
	if len(r.addrs) > 1 {
		limit = min(limit, dialOne)
	}
	var lines []string
	for range r.addrs {
		addr := r.addrs[r.at]
		dctx, cancel := context.WithTimeout(ctx, limit)
		c, err := r.dial(dctx, addr)
		cancel()
		if err == nil {
			r.conn, err = newConn(addr, c, r.dial)
			if err == nil {
				return r.conn, nil
			}
			c.Close()
		}
		lines = append(lines, "controller "+addr+": "+reason(err))
		r.at = (r.at + 1) % len(r.addrs)
	}
	return nil, errs.Coded("client.connect", errs.ControllerUnreachable, lines...)
}

// drop gives up cc and moves to the next controller, unless that was done.
func (r *route) drop(cc *grpc.ClientConn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn == cc {
		r.conn = nil
		r.at = (r.at + 1) % len(r.addrs)
		cc.Close()
	}
}

func (r *route) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.conn == nil {
		return nil
	}
	cc := r.conn
	r.conn = nil
	return cc.Close()
}

// stream is a client stream that starts again elsewhere as long as nothing
// was received from it. What was sent until then is kept for that.
type stream struct {
	route  *route
	ctx    context.Context
	desc   *grpc.StreamDesc
	method string
	opts   []grpc.CallOption

	grpc.ClientStream
	cc       *grpc.ClientConn
	sent     []any
	closed   bool // the caller has sent everything
	received bool
}

func (s *stream) open() error {
	return s.route.try(s.ctx, s.method, func(cc *grpc.ClientConn) error {
		cs, err := cc.NewStream(s.route.with(s.ctx), s.desc, s.method, s.opts...)
		if err != nil {
			return err
		}
		s.cc, s.ClientStream = cc, cs
		for _, m := range s.sent {
			if err := cs.SendMsg(m); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
		}
		if s.closed {
			return cs.CloseSend()
		}
		return nil
	})
}

// SendMsg keeps m in case that the stream must start again. A stream that has
// ended takes it silently: RecvMsg has the reason.
func (s *stream) SendMsg(m any) error {
	if !s.received {
		s.sent = append(s.sent, m)
	}
	if err := s.ClientStream.SendMsg(m); err != nil && !errors.Is(err, io.EOF) {
		return wire.ErrorOfStatus(err)
	}
	return nil
}

func (s *stream) CloseSend() error {
	s.closed = true
	return s.ClientStream.CloseSend()
}

func (s *stream) RecvMsg(m any) error {
	deadline := time.Now().Add(s.route.timeout)
	var wait backoff
	for {
		err := s.ClientStream.RecvMsg(m)
		if err == nil {
			s.received, s.sent = true, nil
			return nil
		}
		if errors.Is(err, io.EOF) {
			return err
		}
		err = wire.ErrorOfStatus(err)
		if s.received || s.ctx.Err() != nil || !s.route.another(s.cc, s.method, err) ||
			time.Now().After(deadline) || !wait.sleep(s.ctx) {
			return unreachable(err)
		}
		if err := s.open(); err != nil {
			return err
		}
	}
}

// direct is one connection to a node daemon, with tokens and our errors.
type direct struct {
	cc    *grpc.ClientConn
	route *route
}

func (d *direct) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	return wire.ErrorOfStatus(d.cc.Invoke(d.route.with(ctx), method, args, reply, opts...))
}

func (d *direct) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := d.cc.NewStream(d.route.with(ctx), desc, method, opts...)
	if err != nil {
		return nil, wire.ErrorOfStatus(err)
	}
	return plain{s}, nil
}

// plain is a stream whose errors are ours.
type plain struct{ grpc.ClientStream }

func (p plain) RecvMsg(m any) error {
	err := p.ClientStream.RecvMsg(m)
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return wire.ErrorOfStatus(err)
}

// backoff pauses between tries: doubling, half of it by chance, so that a
// thousand clients do not come back together.
type backoff struct {
	tries int
	pause time.Duration
}

// sleep pauses; false: ctx ended first.
func (b *backoff) sleep(ctx context.Context) bool {
	b.pause = min(max(2*b.pause, firstPause), maxPause)
	t := time.NewTimer(b.pause/2 + rand.N(b.pause/2))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// unreachable gives a break of the connection the code that users know, and
// silence Slurm's text.
func unreachable(err error) error {
	if errs.KindOf(err) == errs.Deadline && errs.CodeOf(err) == 0 {
		return errs.Newf("client", errs.Deadline, "Socket timed out on send/recv operation")
	}
	if errs.KindOf(err) != errs.Unavail || errs.CodeOf(err) != 0 {
		return err
	}
	return errs.Coded("client", errs.ControllerUnreachable, strings.TrimSpace(err.Error()))
}

// reason is the short cause of a dial error: "connection refused".
func reason(err error) string {
	if no, ok := errors.AsType[syscall.Errno](err); ok {
		return no.Error()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer"
	}
	return err.Error()
}
