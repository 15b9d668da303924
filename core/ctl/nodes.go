package ctl

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Doer takes commands; *Loop is one.
type Doer interface {
	Do(ctx context.Context, cmd cluster.Command) (any, error)
}

// Loads hears the soft values of nodes; *view.View is one.
type Loads interface {
	SetLoad(node wlm.NodeName, cpu uint32, free wlm.MiB, heard wlm.Time)
}

// Nodes is the fleet's sink: it turns what nodes say into commands, and watches
// for those that say nothing.
type Nodes struct {
	Loop      Doer
	Loads     Loads
	Orders    *Orders
	PublicKey []byte
	Beat      time.Duration        // between heartbeats
	Silence   func() time.Duration // SlurmdTimeout; 0: silent nodes stay up
	Names     func() []wlm.NodeName
	Now       func() time.Time
	Log       *slog.Logger

	breaks sync.Mutex // one broken connection at a time

	mu    sync.Mutex
	heard map[wlm.NodeName]time.Time
	info  map[wlm.NodeName][]*nodev1.PluginReport

	asked asked
}

// Register implements fleet.Sink.
func (n *Nodes) Register(ctx context.Context, node wlm.NodeName, r *nodev1.Register) (*nodev1.Registered, error) {
	n.Orders.setKey(node, r.GetStepKey())
	value, err := n.Loop.Do(ctx, &cluster.Register{Node: node, Msg: r})
	if errs.CodeOf(err) == errs.InvalidNodeName {
		return &nodev1.Registered{Text: err.Error()}, nil
	}
	if err != nil {
		return nil, err
	}
	reply, ok := value.(*cluster.RegisterReply)
	if !ok {
		return nil, errs.Newf("ctl.Register", errs.Internal, "reply of type %T", value)
	}
	n.hear(node, r.GetPlugins())
	n.Loads.SetLoad(node, r.GetCpuLoad(), wlm.MiB(r.GetFreeMem()), wlm.TimeOf(n.Now()))
	out := &nodev1.Registered{Accepted: true, PublicKey: n.PublicKey, Heartbeat: uint32(n.Beat / time.Second)}
	for _, id := range reply.Unknown {
		n.Log.Warn("node holds a job that is not known here: it is kept", "node", node, "job", id)
		out.UnknownJobs = append(out.UnknownJobs, uint32(id))
	}
	for _, j := range reply.Start {
		n.Orders.push(order{start: j})
	}
	for _, j := range reply.Terminate {
		n.Orders.push(order{end: j, node: node})
	}
	for _, j := range reply.Suspend {
		m := &nodev1.SuspendJob{Job: uint32(j.ID), Resume: j.State != wlm.Suspended}
		n.Orders.push(order{node: node, msg: &nodev1.ToNode{Body: &nodev1.ToNode_Suspend{Suspend: m}}})
	}
	for _, run := range reply.Stale {
		m := &nodev1.Terminate{Job: uint32(run.Job), Restarts: run.Restarts, KillWait: uint32(n.Orders.KillWait() / time.Second)}
		n.Orders.push(order{node: node, msg: &nodev1.ToNode{Body: &nodev1.ToNode_Terminate{Terminate: m}}})
	}
	n.Log.Info("node registered", "node", node, "version", r.GetVersion(), "jobs", len(r.GetJobs()))
	return out, nil
}

// Heartbeat implements fleet.Sink.
func (n *Nodes) Heartbeat(node wlm.NodeName, h *nodev1.Heartbeat) {
	n.hear(node, h.GetPlugins())
	n.Loads.SetLoad(node, h.GetCpuLoad(), wlm.MiB(h.GetFreeMem()), wlm.TimeOf(n.Now()))
}

func (n *Nodes) hear(node wlm.NodeName, plugins []*nodev1.PluginReport) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.heard == nil {
		n.heard, n.info = map[wlm.NodeName]time.Time{}, map[wlm.NodeName][]*nodev1.PluginReport{}
	}
	n.heard[node] = n.Now()
	if plugins != nil {
		n.info[node] = plugins
	}
}

// Plugins is what nodes last told of their plugins.
func (n *Nodes) Plugins() map[wlm.NodeName][]*nodev1.PluginReport {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make(map[wlm.NodeName][]*nodev1.PluginReport, len(n.info))
	for k, v := range n.info {
		out[k] = v
	}
	return out
}

// Reports implements fleet.Sink.
func (n *Nodes) Reports(ctx context.Context, node wlm.NodeName, r []*nodev1.Report) error {
	n.hear(node, nil)
	_, err := n.Loop.Do(ctx, &cluster.Reports{Node: node, Reports: r})
	return err
}

// Disconnected implements fleet.Sink. The node may be back by now, and what its
// registration says must not be overtaken by the news of the break before.
func (n *Nodes) Disconnected(node wlm.NodeName) {
	const patience = 10 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	n.breaks.Lock()
	defer n.breaks.Unlock()
	quiet := !n.Orders.Send.Connected(node)
	for range 2 {
		if _, err := n.Loop.Do(ctx, &cluster.Quiet{Node: node, Quiet: quiet}); err != nil {
			if ctx.Err() == nil {
				n.Log.Debug("node not marked as quiet", "node", node, "err", err)
			}
			return
		}
		if !quiet || !n.Orders.Send.Connected(node) {
			return
		}
		quiet = false // it came back meanwhile
	}
}

// Watch sets nodes down that were silent for too long, until ctx ends. A node
// that was not heard of since start counts from then.
func (n *Nodes) Watch(ctx context.Context) error {
	start := n.Now()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	// When a node that was set down had been heard last: the view may show it
	// up for a moment more. A node that came back was heard since.
	down := map[wlm.NodeName]time.Time{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		limit := n.Silence()
		if limit <= 0 {
			continue
		}
		for _, name := range n.Names() {
			if n.Orders.Send.Connected(name) {
				n.hear(name, nil)
				continue
			}
			n.mu.Lock()
			last, ok := n.heard[name]
			n.mu.Unlock()
			if !ok {
				last = start
			}
			if !down[name].Equal(last) && n.Now().Sub(last) > limit {
				down[name] = last
				n.Log.Warn("node is silent", "node", name, "since", last)
				if _, err := n.Loop.Do(ctx, &cluster.Silent{Node: name}); err != nil {
					return err
				}
			}
		}
	}
}
