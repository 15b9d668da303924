package ctl

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// listener is a loop that notes which nodes were set down.
type listener struct{ silent chan wlm.NodeName }

func (l listener) Do(_ context.Context, cmd cluster.Command) (any, error) {
	if s, ok := cmd.(*cluster.Silent); ok {
		l.silent <- s.Node
	}
	return nil, nil
}

// nobody is a fleet without connections.
type nobody struct{}

func (nobody) Send(wlm.NodeName, ...*nodev1.ToNode) bool { return false }
func (nobody) Connected(wlm.NodeName) bool               { return false }

type deaf struct{}

func (deaf) SetLoad(wlm.NodeName, uint32, wlm.MiB, wlm.Time) {}

// A node that is silent is set down once, and again when it was heard in between,
// however short that was.
func TestSilentNodesAreSetDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := listener{make(chan wlm.NodeName, 10)}
		n := &Nodes{Loop: l, Loads: deaf{}, Orders: &Orders{OrderOptions: OrderOptions{Send: nobody{}}}, Now: time.Now, Log: slog.New(slog.DiscardHandler),
			Silence: func() time.Duration { return 5 * time.Second }, Names: func() []wlm.NodeName { return []wlm.NodeName{"n1"} }}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- n.Watch(ctx) }()
		count := func() int { synctest.Wait(); return len(l.silent) }
		<-time.After(4 * time.Second)
		if count() != 0 {
			t.Error("set down too early")
		}
		<-time.After(10 * time.Second)
		if got := count(); got != 1 {
			t.Errorf("set down %d times, want once", got)
		}
		n.Heartbeat("n1", &nodev1.Heartbeat{})
		<-time.After(4 * time.Second)
		if got := count(); got != 1 {
			t.Errorf("set down %d times, want once until it is silent again", got)
		}
		<-time.After(10 * time.Second)
		if got := count(); got != 2 {
			t.Errorf("set down %d times, want twice", got)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
