package rpc

import (
	"errors"
	"net"
	"sync/atomic"
)

// preface is what every HTTP/2 client says first.
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

var errGarbage = errors.New("the peer does not speak HTTP/2")

// listener turns away peers that do not speak HTTP/2, before anything of
// theirs is interpreted.
type listener struct {
	net.Listener
	garbage *atomic.Uint64
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, rest: preface, garbage: l.garbage}, nil
}

// conn compares the first bytes it reads with the preface. One goroutine reads.
type conn struct {
	net.Conn
	rest    string // of the preface; empty once it was seen
	bad     bool
	garbage *atomic.Uint64
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	if c.bad {
		return 0, errGarbage
	}
	n, err := c.Conn.Read(b)
	if c.rest == "" {
		return n, err
	}
	m := min(n, len(c.rest))
	if string(b[:m]) != c.rest[:m] || err != nil && n == 0 && len(c.rest) < len(preface) {
		c.bad = true
		c.garbage.Add(1)
		return 0, errGarbage
	}
	c.rest = c.rest[m:]
	return n, err
}
