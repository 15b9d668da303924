// Package fleet is the controller's side of its node connections.
//
// Node daemons dial the controller and keep one stream, which carries one node
// or several (simulated ones). A node is connected from its Register until its
// stream ends or another stream registers it.
//
// Send never blocks. Orders are not kept anywhere: what a node should do is
// derived from the cluster's state whenever it registers, so an order that is
// lost with its stream is given again, and a node whose queue is full is
// disconnected rather than waited for. Orders given while a node's Register is
// being applied are held and follow the answer.
//
// Reports are handed to the [Sink] in batches, whatever is waiting in one
// call, and acknowledged when the sink says that they are durable. A report
// that was not acknowledged is sent again by the node, so the sink hears some
// twice.
package fleet

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/sluice-hpc/sluice/core/auth"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/wire"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"google.golang.org/grpc"
)

// A Sink is who the fleet works for: the controller. Calls for one node come
// one at a time, except Disconnected.
type Sink interface {
	// Register applies a registration; the answer goes to the node. An error
	// ends the stream; the node tries again.
	Register(ctx context.Context, node wlm.NodeName, r *nodev1.Register) (*nodev1.Registered, error)
	Heartbeat(node wlm.NodeName, h *nodev1.Heartbeat)
	// Reports returns when the reports are durable. An error ends the stream,
	// and the node repeats them.
	Reports(ctx context.Context, node wlm.NodeName, r []*nodev1.Report) error
	// Disconnected says that a node that had registered is no longer
	// connected. It may still run its jobs.
	Disconnected(node wlm.NodeName)
}

// A ReplySink also wants the nodes' answers to orders.
type ReplySink interface {
	Replied(node wlm.NodeName, r *nodev1.OrderReply)
}

// A PluginSink also wants the nodes' answers to changes of plugins.
type PluginSink interface {
	PluginChanged(node wlm.NodeName, a *nodev1.PluginChanged)
}

// queueMax is how many orders may wait for one stream, and reportsMax how many
// reports before the stream is read no further.
const (
	queueMax   = 20000
	reportsMax = 4096
)

// Fleet serves sluice.node.v1.Fleet. Its methods may be called concurrently.
type Fleet struct {
	nodev1.UnimplementedFleetServer
	sink Sink
	log  *slog.Logger
	term atomic.Uint64

	mu    sync.Mutex // guards nodes; taken before a conn's
	nodes map[wlm.NodeName]*conn
}

// New returns a fleet without nodes.
func New(sink Sink, log *slog.Logger) *Fleet {
	return &Fleet{sink: sink, log: log, nodes: make(map[wlm.NodeName]*conn)}
}

// SetTerm is the leader's term, which fences its orders.
func (f *Fleet) SetTerm(term uint64) { f.term.Store(term) }

// Connected reports whether a node has a stream.
func (f *Fleet) Connected(node wlm.NodeName) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.nodes[node] != nil
}

// Nodes is the number of connected nodes.
func (f *Fleet) Nodes() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.nodes)
}

// Send gives orders to a node; only the body of each message is used, so a
// body may be sent to many nodes. It reports whether the node is connected.
func (f *Fleet) Send(node wlm.NodeName, msgs ...*nodev1.ToNode) bool {
	f.mu.Lock()
	c := f.nodes[node]
	f.mu.Unlock()
	return c != nil && c.send(node, msgs)
}

// Disconnect ends a node's stream, if it has one.
func (f *Fleet) Disconnect(node wlm.NodeName) {
	f.mu.Lock()
	c := f.nodes[node]
	f.mu.Unlock()
	if c != nil {
		c.stop(errs.Newf("fleet.Disconnect", errs.Unavail, "disconnected by the controller"))
	}
}

// conn is one stream.
type conn struct {
	f      *Fleet
	stream grpc.BidiStreamingServer[nodev1.FromNode, nodev1.ToNode]
	ctx    context.Context
	stop   context.CancelCauseFunc

	mu      sync.Mutex // guards all below; not held over calls of the sink or stream
	queue   []*nodev1.ToNode
	held    map[wlm.NodeName][]*nodev1.ToNode // of nodes whose Register is being applied
	number  uint64
	reports map[wlm.NodeName][]*nodev1.Report
	waiting int           // reports in the map
	toSend  chan struct{} // a token: queue is not empty
	toSink  chan struct{} // a token: reports is not empty
	room    chan struct{} // a token: reports were taken
}

// Connect serves one node daemon.
func (f *Fleet) Connect(stream grpc.BidiStreamingServer[nodev1.FromNode, nodev1.ToNode]) error {
	id := auth.From(stream.Context())
	if id == nil || id.Role < auth.RoleSlurmUser {
		return wire.ErrorToStatus(errs.Coded("fleet.Connect", errs.AccessDenied, "only node daemons may connect as nodes"))
	}
	ctx, stop := context.WithCancelCause(stream.Context())
	c := &conn{f: f, stream: stream, ctx: ctx, stop: stop,
		held: make(map[wlm.NodeName][]*nodev1.ToNode), reports: make(map[wlm.NodeName][]*nodev1.Report),
		toSend: make(chan struct{}, 1), toSink: make(chan struct{}, 1), room: make(chan struct{}, 1)}
	var wg sync.WaitGroup
	wg.Go(c.write)
	wg.Go(c.sinkReports)
	wg.Go(c.read)
	<-ctx.Done()
	f.drop(c)
	// read ends when this returns; the others see ctx.
	err := context.Cause(ctx)
	go func() {
		wg.Wait()
		f.drop(c) // a Register that was being applied meanwhile
	}()
	return wire.ErrorToStatus(err)
}

// drop forgets a stream's nodes.
func (f *Fleet) drop(c *conn) {
	var gone []wlm.NodeName
	f.mu.Lock()
	for n, o := range f.nodes {
		if o == c {
			delete(f.nodes, n)
			gone = append(gone, n)
		}
	}
	f.mu.Unlock()
	for _, n := range gone {
		f.sink.Disconnected(n)
	}
}

func (c *conn) read() {
	for {
		m, err := c.stream.Recv()
		if err != nil {
			c.stop(err)
			return
		}
		node := wlm.NodeName(m.GetNode())
		switch b := m.GetBody().(type) {
		case *nodev1.FromNode_Register:
			if node == "" {
				node = wlm.NodeName(b.Register.GetNode())
			}
			if err := c.register(node, b.Register); err != nil {
				c.stop(err)
				return
			}
			continue
		case nil:
			continue
		}
		c.f.mu.Lock()
		mine := c.f.nodes[node] == c
		c.f.mu.Unlock()
		if !mine {
			continue // not registered, or by another stream since
		}
		switch b := m.GetBody().(type) {
		case *nodev1.FromNode_Heartbeat:
			c.f.sink.Heartbeat(node, b.Heartbeat)
		case *nodev1.FromNode_Report:
			c.report(node, b.Report)
		case *nodev1.FromNode_Reply:
			if s, ok := c.f.sink.(ReplySink); ok {
				s.Replied(node, b.Reply)
			}
		case *nodev1.FromNode_PluginChanged:
			if s, ok := c.f.sink.(PluginSink); ok {
				s.PluginChanged(node, b.PluginChanged)
			}
		}
	}
}

// register applies a node's registration and makes this its stream.
func (c *conn) register(node wlm.NodeName, r *nodev1.Register) error {
	c.mu.Lock()
	c.held[node] = []*nodev1.ToNode{}
	c.mu.Unlock()
	c.f.mu.Lock()
	old := c.f.nodes[node]
	c.f.nodes[node] = c
	c.f.mu.Unlock()
	if old != nil && old != c {
		old.stop(errs.Newf("fleet.Connect", errs.State, "node %s has another connection", node))
	}
	reply, err := c.f.sink.Register(c.ctx, node, r)
	if err == nil && !reply.GetAccepted() {
		c.f.log.Warn("registration refused", "node", node, "why", reply.GetText())
	}
	c.mu.Lock()
	held := c.held[node]
	delete(c.held, node)
	if err == nil {
		c.queueLocked(node, &nodev1.ToNode{Body: &nodev1.ToNode_Registered{Registered: reply}})
		if reply.GetAccepted() {
			for _, m := range held {
				c.queueLocked(node, m)
			}
		}
	}
	c.mu.Unlock()
	if err == nil && !reply.GetAccepted() {
		c.f.mu.Lock()
		if c.f.nodes[node] == c {
			delete(c.f.nodes, node)
		}
		c.f.mu.Unlock()
	}
	return err
}

func (c *conn) send(node wlm.NodeName, msgs []*nodev1.ToNode) bool {
	if c.ctx.Err() != nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue)+len(msgs) > queueMax {
		c.f.log.Warn("node does not take its orders", "node", node, "waiting", len(c.queue))
		c.stop(errs.Newf("fleet.Send", errs.Exhausted, "%d orders wait", len(c.queue)))
		return false
	}
	if held, ok := c.held[node]; ok {
		c.held[node] = append(held, msgs...)
		return true
	}
	for _, m := range msgs {
		c.queueLocked(node, m)
	}
	return true
}

func (c *conn) queueLocked(node wlm.NodeName, m *nodev1.ToNode) {
	c.number++
	c.queue = append(c.queue, &nodev1.ToNode{Term: c.f.term.Load(), Number: c.number, Node: string(node), Body: m.GetBody()})
	token(c.toSend)
}

func token(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

func (c *conn) write() {
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-c.toSend:
		}
		c.mu.Lock()
		batch := c.queue
		c.queue = nil
		c.mu.Unlock()
		for _, m := range batch {
			if err := c.stream.Send(m); err != nil {
				c.stop(err)
				return
			}
		}
	}
}

// report queues a report for the sink, waiting while too many are queued.
func (c *conn) report(node wlm.NodeName, r *nodev1.Report) {
	for {
		c.mu.Lock()
		if c.waiting < reportsMax {
			c.reports[node] = append(c.reports[node], r)
			c.waiting++
			c.mu.Unlock()
			token(c.toSink)
			return
		}
		c.mu.Unlock()
		select {
		case <-c.room:
		case <-c.ctx.Done():
			return
		}
	}
}

// sinkReports hands over whatever is waiting and acknowledges it.
func (c *conn) sinkReports() {
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-c.toSink:
		}
		c.mu.Lock()
		batch := c.reports
		c.reports, c.waiting = make(map[wlm.NodeName][]*nodev1.Report), 0
		c.mu.Unlock()
		token(c.room)
		for node, r := range batch {
			if err := c.f.sink.Reports(c.ctx, node, r); err != nil {
				c.f.log.Warn("reports not taken", "node", node, "err", err)
				c.stop(err)
				return
			}
			c.send(node, []*nodev1.ToNode{{Body: &nodev1.ToNode_Ack{Ack: &nodev1.AckReports{Upto: r[len(r)-1].GetNumber()}}}})
		}
	}
}
