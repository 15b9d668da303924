package stepd

import (
	"bufio"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Conn is a client's connection to a supervisor. Send and Recv may be called
// from two goroutines, one each.
type Conn struct {
	c net.Conn
	r *bufio.Reader
}

// Dial connects to the supervisor at socket and sends its first frame.
func Dial(socket string, first Frame) (*Conn, error) {
	path, done, err := SocketPath(socket)
	if err != nil {
		return nil, err
	}
	c, err := net.Dial("unix", path)
	done()
	if err != nil {
		return nil, err
	}
	conn := &Conn{c: c, r: bufio.NewReaderSize(c, 32<<10)}
	if err := conn.Send(first); err != nil {
		c.Close()
		return nil, err
	}
	return conn, nil
}

// maxSocketPath is less than what fits into a Unix socket's address.
const maxSocketPath = 100

// SocketPath returns a name for socket that is short enough for the kernel.
// It is valid until done is called.
func SocketPath(socket string) (path string, done func(), err error) {
	if len(socket) <= maxSocketPath {
		return socket, func() {}, nil
	}
	d, err := os.Open(filepath.Dir(socket))
	if err != nil {
		return "", nil, err
	}
	path = "/proc/self/fd/" + strconv.Itoa(int(d.Fd())) + "/" + filepath.Base(socket)
	return path, func() { d.Close() }, nil
}

// Send writes a frame.
func (c *Conn) Send(f Frame) error { return WriteFrame(c.c, f) }

// Recv reads the next frame; io.EOF when the supervisor has nothing more to
// say.
func (c *Conn) Recv() (Frame, error) { return ReadFrame(c.r) }

// Close ends the connection.
func (c *Conn) Close() error { return c.c.Close() }

// askTimeout bounds a question to a supervisor; it answers in microseconds
// unless it is being stopped.
const askTimeout = 10 * time.Second

// ask sends one frame and reads the one answer.
func ask(socket string, f Frame) (Frame, error) {
	c, err := Dial(socket, f)
	if err != nil {
		return Frame{}, err
	}
	defer c.Close()
	if err := c.c.SetDeadline(time.Now().Add(askTimeout)); err != nil {
		return Frame{}, err
	}
	a, err := c.Recv()
	if err != nil {
		return Frame{}, err
	}
	if a.Kind == Error {
		return Frame{}, errors.New(string(a.Data))
	}
	return a, nil
}

// SendSignal signals a step.
func SendSignal(socket string, r SignalRequest) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = ask(socket, Frame{Kind: Signal, Data: b})
	return err
}

// AskStats asks what a step used so far.
func AskStats(socket string) (s Stats, err error) {
	f, err := ask(socket, Frame{Kind: GetStats})
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(f.Data, &s)
}

// SendForget tells a supervisor that nobody will attach any more.
func SendForget(socket string) error {
	_, err := ask(socket, Frame{Kind: Forget})
	return err
}
