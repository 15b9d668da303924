package ctl

import (
	"context"
	"log/slog"
	"os/user"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sluice-hpc/sluice/core/auth"
	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/wire"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"google.golang.org/protobuf/proto"
)

// Sender reaches nodes; *fleet.Fleet is one. A send that fails is no loss: what
// a node must know is derived again when it registers.
type Sender interface {
	Send(node wlm.NodeName, msgs ...*nodev1.ToNode) bool
	Connected(node wlm.NodeName) bool
}

// Reader finds what orders are made of; *view.View is one.
type Reader interface {
	Node(name wlm.NodeName) *wlm.Node
	Blob(key []byte) []byte
}

// OrderOptions of an Orders.
type OrderOptions struct {
	Cluster  string
	Send     Sender
	Read     Reader
	Signer   *auth.Signer
	Term     uint64
	KillWait func() time.Duration
	NodeAddr func(*wlm.Node) string // host:port of the node's own service
	Now      func() time.Time
	Log      *slog.Logger
}

// Orders turns events into what nodes are told. It listens to the loop and acts
// on a goroutine of its own, in the order of the events.
type Orders struct {
	OrderOptions
	groups groups

	mu      sync.Mutex
	queue   []order
	wake    chan struct{}
	keysMu  sync.Mutex
	stepKey map[wlm.NodeName][]byte // public keys of the nodes' step managers
}

// order is an event to act on, or a message to send.
type order struct {
	event *cluster.Event
	start *wlm.Job // start it, whatever the event
	end   *wlm.Job // terminate it on node
	node  wlm.NodeName
	msg   *nodev1.ToNode
}

// NewOrders returns an Orders; Run starts it.
func NewOrders(o OrderOptions) *Orders {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return &Orders{OrderOptions: o, wake: make(chan struct{}, 1), stepKey: map[wlm.NodeName][]byte{}}
}

// Hear is a Listener.
func (o *Orders) Hear(events []*cluster.Event) {
	var add []order
	for _, e := range events {
		switch e.Kind {
		case eventv1.Kind_JOB_STARTED, eventv1.Kind_JOB_ENDING, eventv1.Kind_JOB_REQUEUED, eventv1.Kind_JOB_SIGNALED,
			eventv1.Kind_JOB_SUSPENDED, eventv1.Kind_JOB_RESUMED:
			add = append(add, order{event: e})
		}
	}
	o.push(add...)
}

func (o *Orders) push(add ...order) {
	if len(add) == 0 {
		return
	}
	o.mu.Lock()
	o.queue = append(o.queue, add...)
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// Run acts until ctx ends.
func (o *Orders) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-o.wake:
		}
		o.mu.Lock()
		todo := o.queue
		o.queue = nil
		o.mu.Unlock()
		for i := range todo {
			o.act(&todo[i])
		}
	}
}

func (o *Orders) act(a *order) {
	switch {
	case a.msg != nil:
		o.Send.Send(a.node, a.msg)
	case a.start != nil:
		o.start(a.start)
	case a.end != nil:
		o.terminate(a.end, a.node)
	case a.event != nil:
		o.onEvent(a.event)
	}
}

func (o *Orders) onEvent(e *cluster.Event) {
	j := e.Job
	switch e.Kind {
	case eventv1.Kind_JOB_STARTED:
		o.start(j)
	case eventv1.Kind_JOB_ENDING, eventv1.Kind_JOB_REQUEUED:
		if e.Previous != nil && e.Previous.State == wlm.Preempted {
			o.leave(j)
			return
		}
		for _, n := range j.Cleaning {
			o.terminate(j, n)
		}
	case eventv1.Kind_JOB_SIGNALED:
		m := &nodev1.SignalJob{Job: uint32(j.ID), Signal: uint32(e.Position), BatchOnly: e.Text == cluster.ScopeBatch, Full: e.Text == cluster.ScopeFull}
		if text, ok := strings.CutPrefix(e.Text, cluster.ScopeNotify); ok {
			m.Notice, m.BatchOnly, m.Full = "slurmstepd: error: "+text, j.Spec.Kind == wlm.KindBatch, j.Spec.Kind != wlm.KindBatch
		}
		if id, err := wlm.ParseStepID(e.Text); err == nil {
			m.HasStep, m.Step = true, uint32(id)
		}
		o.toAll(j, &nodev1.ToNode{Body: &nodev1.ToNode_Signal{Signal: m}})
	case eventv1.Kind_JOB_SUSPENDED, eventv1.Kind_JOB_RESUMED:
		m := &nodev1.SuspendJob{Job: uint32(j.ID), Resume: e.Kind == eventv1.Kind_JOB_RESUMED}
		o.toAll(j, &nodev1.ToNode{Body: &nodev1.ToNode_Suspend{Suspend: m}})
	}
}

func (o *Orders) toAll(j *wlm.Job, m *nodev1.ToNode) {
	if j.Alloc == nil {
		return
	}
	for i := range j.Alloc.Nodes {
		o.Send.Send(j.Alloc.Nodes[i].Node, m)
	}
}

// start tells a job's first node to hold it and, for a batch job, to run it.
func (o *Orders) start(j *wlm.Job) {
	m, err := o.startMessage(j)
	if err != nil {
		o.Log.Error("job could not be made an order", "job", j.ID, "err", err)
		return
	}
	o.Send.Send(j.BatchHost, &nodev1.ToNode{Body: &nodev1.ToNode_Start{Start: m}})
}

// credentialSlack is how much longer than its job a credential lives, and how
// long one lives whose job has no limit.
const (
	credentialSlack = 3600
	credentialLong  = 10 * 365 * 24 * 3600
)

func (o *Orders) startMessage(j *wlm.Job) (*nodev1.StartJob, error) {
	nodes := o.nodesAt(j)
	now := o.Now().Unix()
	expires := now + credentialLong
	if j.End > 0 {
		expires = int64(j.End) + credentialLong
	}
	c := &nodev1.Credential{
		Cluster: o.Cluster, Job: uint32(j.ID), Restarts: j.Restarts, Uid: uint32(j.Spec.User), Gid: uint32(j.Spec.Group),
		Gids: o.groups.of(j.Spec.UserName, j.Spec.Group), UserName: j.Spec.UserName, Nodes: nodes,
		Issued: now, Expires: expires + credentialSlack, Term: o.Term, ArrayJob: uint32(j.ArrayJob), ArrayTask: j.ArrayTask,
		StepKey: o.keyOf(j.BatchHost),
	}
	msg, err := proto.Marshal(c)
	if err != nil {
		return nil, errs.Newf("ctl.start", errs.Internal, "%v", err)
	}
	s := &nodev1.StartJob{Credential: msg, Signature: o.Signer.Sign(msg), Job: wire.JobToWire(j), Nodes: nodes,
		Script: o.Read.Blob(j.Script)}
	if env := o.Read.Blob(j.Env); len(env) > 0 {
		s.Env = strings.Split(strings.TrimSuffix(string(env), "\x00"), "\x00")
	}
	return s, nil
}

func (o *Orders) nodesAt(j *wlm.Job) []*nodev1.NodeAt {
	out := make([]*nodev1.NodeAt, 0, len(j.Alloc.Nodes))
	for i := range j.Alloc.Nodes {
		a := &j.Alloc.Nodes[i]
		at := &nodev1.NodeAt{Name: string(a.Node), Cpus: uint32(a.CPUs.Count()), CpuSet: a.CPUs, Mem: uint64(a.Mem), Gres: a.Gres}
		if n := o.Read.Node(a.Node); n != nil {
			at.Addr = o.NodeAddr(n)
			at.ThreadsPerCore, at.CoresPerSocket, at.Sockets = n.ThreadsPerCore, n.CoresPerSocket, n.Sockets
		}
		out = append(out, at)
	}
	return out
}

// leave tells a job's nodes that it is requeued to make room for another.
func (o *Orders) leave(j *wlm.Job) {
	for _, n := range j.Cleaning {
		m := &nodev1.Terminate{Job: uint32(j.ID), Restarts: j.Restarts - 1, KillWait: uint32(o.KillWait() / time.Second),
			State: uint32(j.State), Notice: preemptNotice}
		o.Send.Send(n, &nodev1.ToNode{Body: &nodev1.ToNode_Terminate{Terminate: m}})
	}
}

const preemptNotice = "DUE TO PREEMPTION"

// terminate tells a node to end everything of a job. For a requeued job it is
// the run before that must go.
func (o *Orders) terminate(j *wlm.Job, node wlm.NodeName) {
	m := &nodev1.Terminate{Job: uint32(j.ID), Restarts: j.Restarts, KillWait: uint32(o.KillWait() / time.Second), State: uint32(j.State), Notice: notice(j)}
	if j.State == wlm.Pending {
		m.Restarts = j.Restarts - 1
	}
	o.Send.Send(node, &nodev1.ToNode{Body: &nodev1.ToNode_Terminate{Terminate: m}})
}

// notice is what is written to a job's stderr after "CANCELLED AT <time>".
func notice(j *wlm.Job) string {
	switch j.State {
	case wlm.Timeout:
		return "DUE TO TIME LIMIT"
	case wlm.Preempted:
		return preemptNotice
	case wlm.Pending:
		return "DUE TO JOB REQUEUE"
	case wlm.NodeFail:
		return "DUE TO NODE FAILURE, SEE SLURMCTLD LOG FOR DETAILS"
	case wlm.Cancelled:
		return "DUE to SIGNAL Terminated"
	}
	return ""
}

func (o *Orders) keyOf(n wlm.NodeName) []byte {
	o.keysMu.Lock()
	defer o.keysMu.Unlock()
	return o.stepKey[n]
}

func (o *Orders) setKey(n wlm.NodeName, key []byte) {
	o.keysMu.Lock()
	defer o.keysMu.Unlock()
	o.stepKey[n] = key
}

// groups remembers users' supplementary groups for a while.
type groups struct {
	mu    sync.Mutex
	known map[string]knownGroups
}

type knownGroups struct {
	ids []uint32
	at  time.Time
}

const groupLife = time.Minute

func (g *groups) of(name string, primary wlm.GID) []uint32 {
	g.mu.Lock()
	defer g.mu.Unlock()
	if k, ok := g.known[name]; ok && time.Since(k.at) < groupLife {
		return k.ids
	}
	ids := []uint32{uint32(primary)}
	if u, err := user.Lookup(name); err == nil {
		if list, err := u.GroupIds(); err == nil {
			for _, s := range list {
				if id, err := strconv.ParseUint(s, 10, 32); err == nil && uint32(id) != uint32(primary) {
					ids = append(ids, uint32(id))
				}
			}
		}
	}
	if g.known == nil {
		g.known = map[string]knownGroups{}
	}
	g.known[name] = knownGroups{ids, time.Now()}
	return ids
}
