package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/sluice-hpc/sluice/core/auth"
)

// What a connection under TLS carries, as its ALPN protocol says.
const (
	protocolCalls  = "h2"
	protocolVoters = "sluice-voters/1"
)

const (
	tlsRecord  = 0x16 // first byte of a TLS handshake
	queueTime  = 30 * time.Second
	acceptWait = 20 * time.Millisecond
)

// Port is a listening port that a controller shares between the calls of
// commands and nodes, and the connections of the other controllers. The first
// byte tells which is which: calls begin as HTTP/2 does, others with TLS.
//
// Connections that nobody takes at the moment wait for a while: a controller
// that changes from standing by to leading keeps its port.
type Port struct {
	l             net.Listener
	tls           *tls.Config
	calls, voters chan net.Conn
	done          chan struct{}
	once          sync.Once
}

// NewPort serves l until it is closed. Whoever connects as a voter proves that
// it has the key.
func NewPort(l net.Listener, key auth.Key) (*Port, error) {
	c, err := key.TLS(protocolVoters, protocolCalls)
	if err != nil {
		return nil, err
	}
	p := &Port{l: l, tls: c, calls: make(chan net.Conn), voters: make(chan net.Conn), done: make(chan struct{})}
	go p.accept()
	return p, nil
}

// Calls listens for calls. Closing it leaves the port open for the next one.
func (p *Port) Calls() net.Listener { return newBranch(p, p.calls) }

// Voters listens for other controllers.
func (p *Port) Voters() net.Listener { return newBranch(p, p.voters) }

// Addr is where the port listens.
func (p *Port) Addr() net.Addr { return p.l.Addr() }

// Close closes the port.
func (p *Port) Close() error {
	p.once.Do(func() { close(p.done) })
	return p.l.Close()
}

// DialVoter connects to another controller's port as a voter.
func DialVoter(key auth.Key) (func(ctx context.Context, addr string) (net.Conn, error), error) {
	c, err := key.TLS(protocolVoters)
	if err != nil {
		return nil, err
	}
	d := tls.Dialer{Config: c}
	return func(ctx context.Context, addr string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }, nil
}

func (p *Port) accept() {
	for {
		c, err := p.l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			slog.Warn("port cannot accept", "err", err)
			time.Sleep(acceptWait) // out of descriptors, most likely
			continue
		}
		go p.sort(c)
	}
}

// sort hands c to whom it is for, or closes it.
func (p *Port) sort(c net.Conn) {
	var first [1]byte
	c.SetDeadline(time.Now().Add(handshakeTime)) //nolint:errcheck // a socket always takes a deadline
	if _, err := c.Read(first[:]); err != nil {
		c.Close()
		return
	}
	to := p.calls
	c = &unread{Conn: c, byte: first[0], has: true}
	if first[0] == tlsRecord {
		s := tls.Server(c, p.tls)
		if err := s.Handshake(); err != nil {
			slog.Warn("a controller or daemon was turned away", "addr", c.RemoteAddr(), "err", err)
			c.Close()
			return
		}
		if s.ConnectionState().NegotiatedProtocol == protocolVoters {
			to = p.voters
		}
		c = s
	}
	c.SetDeadline(time.Time{}) //nolint:errcheck // as above
	select {
	case to <- c:
	case <-p.done:
		c.Close()
	case <-time.After(queueTime):
		c.Close()
	}
}

// unread is a connection whose first byte was read already.
type unread struct {
	net.Conn
	byte byte
	has  bool
}

// Read implements net.Conn.
func (u *unread) Read(b []byte) (int, error) {
	if !u.has || len(b) == 0 {
		return u.Conn.Read(b)
	}
	u.has = false
	b[0] = u.byte
	return 1, nil
}

// branch is a listener for one kind of a port's connections.
type branch struct {
	port   *Port
	conns  <-chan net.Conn
	closed chan struct{}
	once   *sync.Once
}

func newBranch(p *Port, conns <-chan net.Conn) net.Listener {
	return branch{p, conns, make(chan struct{}), &sync.Once{}}
}

// Accept implements net.Listener.
func (b branch) Accept() (net.Conn, error) {
	select {
	case c := <-b.conns:
		return c, nil
	case <-b.closed:
		return nil, net.ErrClosed
	case <-b.port.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (b branch) Close() error {
	b.once.Do(func() { close(b.closed) })
	return nil
}

// Addr implements net.Listener.
func (b branch) Addr() net.Addr { return b.port.l.Addr() }
