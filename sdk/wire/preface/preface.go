// Package preface turns away peers that do not speak HTTP/2 before anything of
// theirs is interpreted: it compares the first bytes of each connection with
// what every HTTP/2 client says first.
//
// Invariant: a connection that passes is read unchanged. One that does not is
// closed by whoever reads it, since its reads fail; it holds no memory but that
// of the reader. The package stands alone, so that node daemons, of which a host
// may have many, need not pull in the controller's services.
package preface

import (
	"errors"
	"net"
)

// text is what every HTTP/2 client says first.
const text = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

var errGarbage = errors.New("the peer does not speak HTTP/2")

// Listener returns l with every connection's first bytes checked. Garbage is
// called for each that is something else, on the goroutine that reads it.
func Listener(l net.Listener, garbage func(peer net.Addr)) net.Listener {
	return &listener{Listener: l, garbage: garbage}
}

type listener struct {
	net.Listener
	garbage func(net.Addr)
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return Conn(c, l.garbage), nil
}

// Conn returns c with its first bytes checked as those of a [Listener] are.
func Conn(c net.Conn, garbage func(peer net.Addr)) net.Conn {
	return &conn{Conn: c, rest: text, garbage: garbage}
}

// conn compares the first bytes it reads with the preface. One goroutine reads.
type conn struct {
	net.Conn
	rest    string // of the preface; empty once it was seen
	bad     bool
	garbage func(net.Addr)
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
	if string(b[:m]) != c.rest[:m] || err != nil && n == 0 && len(c.rest) < len(text) {
		c.bad = true
		c.garbage(c.RemoteAddr())
		return 0, errGarbage
	}
	c.rest = c.rest[m:]
	return n, err
}
