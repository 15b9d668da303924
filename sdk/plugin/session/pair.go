package session

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/sluice-hpc/sluice/sdk/proto/plugin/v1"
	"google.golang.org/protobuf/proto"
)

// A pair is the stream of a session over a pair of connected sockets, of which the
// plugin inherits one: the same frames as over gRPC, each behind its length in four
// bytes, the lowest first. It exists because a call over gRPC wakes a dozen
// goroutines on its way, and one over a pair four.
//
// A length of all ones ends the stream: an error's text follows, or nothing when it
// ends in order. A connection that breaks without it is an error, too.
const (
	pairHead = 4
	pairEnd  = 1<<32 - 1
	pairMost = 4 << 20  // bytes of a frame
	pairKeep = 64 << 10 // bytes of a buffer worth keeping
)

// sockets is one end. Send may be called by one goroutine at a time, Recv by another.
type sockets struct {
	conn net.Conn
	in   *bufio.Reader
	rbuf []byte
	wmu  sync.Mutex // held while a frame is written: End may come at any time
	wbuf []byte
}

func newSockets(conn net.Conn) *sockets {
	return &sockets{conn: conn, in: bufio.NewReaderSize(conn, pairKeep)}
}

// hold encodes a frame behind those that are held. A lot is written at once.
func (p *sockets) hold(m proto.Message) error {
	p.wmu.Lock()
	defer p.wmu.Unlock()
	at := len(p.wbuf)
	b, err := proto.MarshalOptions{}.MarshalAppend(append(p.wbuf, make([]byte, pairHead)...), m)
	if err != nil {
		return err
	}
	n := len(b) - at - pairHead
	if n > pairMost {
		return fmt.Errorf("a frame of %d bytes", n)
	}
	binary.LittleEndian.PutUint32(b[at:], uint32(n))
	if p.wbuf = b; len(b) < pairKeep {
		return nil
	}
	return p.writeLocked()
}

// flush writes what is held.
func (p *sockets) flush() error {
	p.wmu.Lock()
	defer p.wmu.Unlock()
	return p.writeLocked()
}

func (p *sockets) writeLocked() error {
	b := p.wbuf
	if len(b) == 0 {
		return nil
	}
	if p.wbuf = b[:0]; cap(b) > pairKeep {
		p.wbuf = nil
	}
	_, err := p.conn.Write(b)
	return err
}

func (p *sockets) put(m proto.Message) error {
	if err := p.hold(m); err != nil {
		return err
	}
	return p.flush()
}

func (p *sockets) get(m proto.Message) error {
	var head [pairHead]byte
	if _, err := io.ReadFull(p.in, head[:]); err != nil {
		return broken(err)
	}
	n := binary.LittleEndian.Uint32(head[:])
	switch {
	case n == pairEnd:
		const most = 4096
		text, _ := io.ReadAll(io.LimitReader(p.in, most)) // the other end closes behind it
		if len(text) > 0 {
			return errors.New(string(text))
		}
		return io.EOF
	case n > pairMost:
		return fmt.Errorf("a frame of %d bytes", n)
	}
	if cap(p.rbuf) < int(n) {
		p.rbuf = make([]byte, n)
	}
	b := p.rbuf[:n]
	if cap(p.rbuf) > pairKeep {
		p.rbuf = nil
	}
	if _, err := io.ReadFull(p.in, b); err != nil {
		return broken(err)
	}
	return proto.Unmarshal(b, m)
}

// broken is the error of a connection that ended without saying so. One that this
// end has closed has ended in order.
func broken(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return io.EOF
	}
	return fmt.Errorf("the connection broke: %v", err) // not io.EOF, which is an end in order
}

// PairHost is the host's end of a pair.
type PairHost struct{ *sockets }

// NewPairHost makes a stream of the host's socket.
func NewPairHost(conn net.Conn) PairHost { return PairHost{newSockets(conn)} }

var _ HostStream = PairHost{}

// Send implements [HostStream].
func (p PairHost) Send(f *pluginv1.HostFrame) error { return p.put(f) }

// Hold is Send at the next Send or Flush.
func (p PairHost) Hold(f *pluginv1.HostFrame) error { return p.hold(f) }

// Flush sends what is held.
func (p PairHost) Flush() error { return p.flush() }

// Recv implements [HostStream].
func (p PairHost) Recv() (*pluginv1.PluginFrame, error) {
	f := new(pluginv1.PluginFrame)
	return f, p.get(f)
}

// Close ends the stream, for both ends.
func (p PairHost) Close() { p.conn.Close() } //nolint:errcheck // nothing is left to lose

// PairPlugin is the plugin's end of a pair.
type PairPlugin struct{ *sockets }

// NewPairPlugin makes a stream of the socket that a plugin inherited.
func NewPairPlugin(conn net.Conn) PairPlugin { return PairPlugin{newSockets(conn)} }

var _ PluginStream = PairPlugin{}

// Send implements [PluginStream].
func (p PairPlugin) Send(f *pluginv1.PluginFrame) error { return p.put(f) }

// Hold is Send at the next Send or Flush.
func (p PairPlugin) Hold(f *pluginv1.PluginFrame) error { return p.hold(f) }

// Flush sends what is held.
func (p PairPlugin) Flush() error { return p.flush() }

// Recv implements [PluginStream].
func (p PairPlugin) Recv() (*pluginv1.HostFrame, error) {
	f := new(pluginv1.HostFrame)
	return f, p.get(f)
}

// Wait returns once the host's first frame is there, false if the host never uses
// the pair.
func (p PairPlugin) Wait() bool {
	_, err := p.in.Peek(1)
	return err == nil
}

// End ends the stream and tells the host why; nil: in order.
func (p PairPlugin) End(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	p.wmu.Lock()
	_ = p.writeLocked()
	_, _ = p.conn.Write(append(binary.LittleEndian.AppendUint32(nil, pairEnd), text...)) // the host may be gone
	p.wmu.Unlock()
	p.conn.Close() //nolint:errcheck // nothing is left to lose
}
