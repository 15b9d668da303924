package shepherd

import (
	"net"
	"slices"
	"sync"
	"time"

	"github.com/sluice-hpc/sluice/sdk/stepd"
)

// hub passes events and output to whoever is connected, and keeps output
// while nobody is attached.
type hub struct {
	mu       sync.Mutex // guards all below; not held over writes to a socket
	change   *sync.Cond
	history  []stepd.Frame // events so far
	held     []stepd.Frame // output for the next client that attaches
	heldSize int
	attached bool // some client was, once
	clients  []*client
}

// client is one connection that hears events, and output if it is attached.
type client struct {
	conn   net.Conn
	attach bool
	queue  []stepd.Frame
	size   int // bytes in queue
	busy   bool
	dead   bool
}

func newHub() *hub {
	h := &hub{}
	h.change = sync.NewCond(&h.mu)
	return h
}

// event tells everybody an event, without waiting.
func (h *hub) event(line []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := stepd.Frame{Kind: stepd.Happened, Data: line}
	h.history = append(h.history, f)
	for _, c := range h.clients {
		c.queue = append(c.queue, f)
	}
	h.change.Broadcast()
}

// output passes on what a task wrote; it waits while there is no room.
func (h *hub) output(f stepd.Frame) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for !h.roomLocked(len(f.Data)) {
		h.change.Wait()
	}
	h.putLocked(f)
}

// force is output that does not wait.
func (h *hub) force(f stepd.Frame) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.putLocked(f)
}

func (h *hub) roomLocked(n int) bool {
	listeners := false
	for _, c := range h.clients {
		if c.attach {
			listeners = true
			if c.size+n > stepd.Buffer {
				return false
			}
		}
	}
	return listeners || n == 0 || h.heldSize+n <= stepd.Buffer
}

func (h *hub) putLocked(f stepd.Frame) {
	listeners := false
	for _, c := range h.clients {
		if c.attach {
			listeners = true
			c.queue = append(c.queue, f)
			c.size += len(f.Data)
		}
	}
	if !listeners {
		h.held = append(h.held, f)
		h.heldSize += len(f.Data)
	}
	h.change.Broadcast()
}

// add connects a client and writes to it until the connection ends.
func (h *hub) add(conn net.Conn, attach bool) *client {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := &client{conn: conn, attach: attach, queue: slices.Clone(h.history)}
	if attach {
		h.attached = true
		c.queue = append(c.queue, h.held...)
		c.size, h.held, h.heldSize = h.heldSize, nil, 0
	}
	h.clients = append(h.clients, c)
	h.change.Broadcast()
	go h.write(c)
	return c
}

func (h *hub) write(c *client) {
	for {
		h.mu.Lock()
		c.busy = false
		h.change.Broadcast()
		for len(c.queue) == 0 && !c.dead {
			h.change.Wait()
		}
		if c.dead {
			h.mu.Unlock()
			return
		}
		f := c.queue[0]
		c.queue = c.queue[1:]
		c.busy = true
		h.mu.Unlock()
		err := stepd.WriteFrame(c.conn, f)
		h.mu.Lock()
		if f.Kind != stepd.Happened {
			c.size -= len(f.Data)
		}
		if err != nil {
			c.queue = append([]stepd.Frame{f}, c.queue...)
			h.mu.Unlock()
			h.remove(c)
			return
		}
		h.mu.Unlock()
	}
}

// remove takes a client off; output that did not reach it waits for another.
func (h *hub) remove(c *client) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c.dead {
		return
	}
	c.dead, c.busy = true, false
	c.conn.Close()
	h.clients = slices.DeleteFunc(h.clients, func(o *client) bool { return o == c })
	if c.attach && !slices.ContainsFunc(h.clients, func(o *client) bool { return o.attach }) {
		for _, f := range c.queue {
			if f.Kind != stepd.Happened {
				h.held = append(h.held, f)
				h.heldSize += len(f.Data)
			}
		}
	}
	h.change.Broadcast()
}

// pending reports whether output waits for a reader.
func (h *hub) pending() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.clients {
		if c.size > 0 {
			return true
		}
	}
	return h.heldSize > 0
}

// waitUntil waits for ok, at most for limit or until stop closes; it returns
// ok's last word. ok is called with the lock held.
func (h *hub) waitUntil(limit time.Duration, stop <-chan struct{}, ok func() bool) bool {
	over := false
	end := func() {
		h.mu.Lock()
		over = true
		h.change.Broadcast()
		h.mu.Unlock()
	}
	timer := time.AfterFunc(limit, end)
	defer timer.Stop()
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-stop:
			end()
		case <-done:
		}
	}()
	h.mu.Lock()
	defer h.mu.Unlock()
	for !ok() && !over {
		h.change.Wait()
	}
	return ok()
}

// waitAttached waits until somebody attached and took what was held.
func (h *hub) waitAttached(limit time.Duration, stop <-chan struct{}) bool {
	return h.waitUntil(limit, stop, func() bool { return h.attached && len(h.held) == 0 })
}

// drain waits until every client has everything, then closes.
func (h *hub) drain(limit time.Duration) {
	h.waitUntil(limit, nil, func() bool {
		for _, c := range h.clients {
			if len(c.queue) > 0 || c.busy {
				return false
			}
		}
		return true
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.clients {
		c.conn.Close()
	}
}
