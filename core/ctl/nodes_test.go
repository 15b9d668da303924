package ctl

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// returning is a fleet, and a loop, in which a node comes back at some moment.
type returning struct {
	looks int    // at the connection
	after int    // so many looks the node is back
	said  []bool // quiet or not
}

func (r *returning) Send(wlm.NodeName, ...*nodev1.ToNode) bool { return true }

func (r *returning) Connected(wlm.NodeName) bool {
	r.looks++
	return r.looks > r.after
}

func (r *returning) Do(_ context.Context, cmd cluster.Command) (any, error) {
	r.said = append(r.said, cmd.(*cluster.Quiet).Quiet)
	return nil, nil
}

// The news of a broken connection must not outlast the one that followed it.
func TestDisconnected(t *testing.T) {
	for _, tt := range []struct {
		name  string
		after int
		last  bool // what was said last
	}{
		{"the node is away", 100, true},
		{"it is back already", 0, false},
		{"it comes back just then", 1, false},
	} {
		r := &returning{after: tt.after}
		n := &Nodes{Loop: r, Orders: NewOrders(OrderOptions{Send: r}), Log: quiet}
		n.Disconnected("n1")
		if len(r.said) == 0 || r.said[len(r.said)-1] != tt.last {
			t.Errorf("%s: said %v, want %v in the end", tt.name, r.said, tt.last)
		}
	}
}

// A run that is over is named with its own number, whatever else the node holds.
func TestStaleRun(t *testing.T) {
	reply := &cluster.RegisterReply{Stale: []cluster.Run{{Job: 3, Restarts: 0}}, Suspend: []*wlm.Job{{ID: 4, State: wlm.Suspended}}}
	o := NewOrders(OrderOptions{KillWait: func() time.Duration { return 0 }})
	n := &Nodes{Loop: registrar{reply}, Loads: noLoads{}, Orders: o, Now: time.Now, Log: quiet}
	if _, err := n.Register(t.Context(), "n1", &nodev1.Register{Jobs: []*nodev1.JobOnNode{{Job: 3, Restarts: 1}, {Job: 3}}}); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(o.queue, func(a order) bool { return a.msg.GetTerminate() != nil })
	if i < 0 || o.queue[i].msg.GetTerminate().GetRestarts() != 0 {
		t.Errorf("orders %v", o.queue)
	}
	if !slices.ContainsFunc(o.queue, func(a order) bool { return a.msg.GetSuspend().GetJob() == 4 && !a.msg.GetSuspend().GetResume() }) {
		t.Errorf("orders %v", o.queue)
	}
}

type registrar struct{ reply *cluster.RegisterReply }

func (r registrar) Do(context.Context, cluster.Command) (any, error) { return r.reply, nil }

type noLoads struct{}

func (noLoads) SetLoad(wlm.NodeName, uint32, wlm.MiB, wlm.Time) {}
