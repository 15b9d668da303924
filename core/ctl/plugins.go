package ctl

import (
	"context"
	"sync"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// asked are the nodes that were asked to change a plugin and have not answered.
// A step is asked once at a time: answers carry no step.
type asked struct {
	mu      sync.Mutex
	id      uint64
	waiting map[wlm.NodeName]chan *nodev1.PluginChanged
}

// ChangePlugin sends one step of a change of a plugin to nodes, waits for their
// answers, and returns why those that did not do it did not. ctx bounds it.
func (n *Nodes) ChangePlugin(ctx context.Context, nodes []wlm.NodeName, m *nodev1.ChangePlugin) map[wlm.NodeName]error {
	const op = "ctl.ChangePlugin"
	failed := map[wlm.NodeName]error{}
	answers := make(map[wlm.NodeName]chan *nodev1.PluginChanged, len(nodes))
	for _, node := range nodes {
		answers[node] = make(chan *nodev1.PluginChanged, 1)
	}
	n.asked.mu.Lock()
	n.asked.id, n.asked.waiting = m.GetId(), answers
	n.asked.mu.Unlock()
	for node := range answers {
		if !n.Orders.Send.Send(node, &nodev1.ToNode{Body: &nodev1.ToNode_ChangePlugin{ChangePlugin: m}}) {
			failed[node] = errs.Newf(op, errs.Unavail, "it is not connected")
		}
	}
	for node, ch := range answers {
		if failed[node] != nil {
			continue
		}
		select {
		case a := <-ch:
			if a.GetKind() != 0 {
				failed[node] = errs.Newf(op, errs.Kind(a.GetKind()), "%s", a.GetText())
			} else if a.GetPlugins() != nil {
				n.hear(node, a.GetPlugins())
			}
		case <-ctx.Done():
			failed[node] = errs.Newf(op, errs.Deadline, "it gave no answer in time")
		}
	}
	return failed
}

// PluginChanged implements fleet.PluginSink.
func (n *Nodes) PluginChanged(node wlm.NodeName, a *nodev1.PluginChanged) {
	n.asked.mu.Lock()
	defer n.asked.mu.Unlock()
	if ch := n.asked.waiting[node]; ch != nil && a.GetId() == n.asked.id {
		select {
		case ch <- a:
		default: // answered already
		}
	}
}
