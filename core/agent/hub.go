package agent

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/sluice-hpc/sluice/sdk/launch"
	"github.com/sluice-hpc/sluice/sdk/proto/launch/v1"
)

// watchPause is how long a launcher that stopped telling is left alone.
const watchPause = 100 * time.Millisecond

// Hub shares one launcher among the nodes of a process: it watches, and hands
// each happening to its node. After a break, which is how a restart of the
// plugin looks, every node looks for its steps again.
type Hub struct {
	l   launch.Launcher
	log *slog.Logger

	mu     sync.Mutex // guards agents
	agents map[string]*Agent
}

// NewHub returns a hub for l.
func NewHub(l launch.Launcher, log *slog.Logger) *Hub {
	return &Hub{l: l, log: log, agents: make(map[string]*Agent)}
}

// Run watches until ctx ends. Agents must be opened before.
func (h *Hub) Run(ctx context.Context) {
	for ctx.Err() == nil {
		h.mu.Lock()
		agents := make([]*Agent, 0, len(h.agents))
		for _, a := range h.agents {
			agents = append(agents, a)
		}
		h.mu.Unlock()
		for _, a := range agents {
			a.recoverSteps(ctx)
		}
		if err := h.l.Watch(ctx, h.tell); err != nil && ctx.Err() == nil {
			h.log.Warn("the launcher is away", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(watchPause):
		}
	}
}

func (h *Hub) tell(x *launchv1.Happening) error {
	h.mu.Lock()
	a := h.agents[x.GetStep().GetNode()]
	if a == nil && len(h.agents) == 1 {
		for _, only := range h.agents {
			a = only
		}
	}
	h.mu.Unlock()
	if a != nil {
		a.post(func() { a.happened(x) })
	}
	return nil
}
