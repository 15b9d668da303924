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
// plugin looks, every node looks for its steps again: before the watch, since
// nodes register with what they find, and once more when the watch is under
// way, since the plugin may have been restarted in between, and a new one tells
// only of steps that it was made to look for.
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
		if h.recover(ctx) {
			if err := h.watch(ctx); err != nil && ctx.Err() == nil {
				h.log.Warn("the launcher is away", "err", err)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(watchPause):
		}
	}
}

// recover makes every node look for its steps; false: the launcher failed.
func (h *Hub) recover(ctx context.Context) bool {
	h.mu.Lock()
	agents := make([]*Agent, 0, len(h.agents))
	for _, a := range h.agents {
		agents = append(agents, a)
	}
	h.mu.Unlock()
	ok := true
	for _, a := range agents {
		ok = a.recoverSteps(ctx) == nil && ok
	}
	return ok
}

// watch hears the launcher until it is away.
func (h *Hub) watch(parent context.Context) error {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	return h.l.Watch(ctx, func(x *launchv1.Happening) error {
		if x.GetStep() == nil { // the launcher tells from now on
			go func() {
				if !h.recover(ctx) {
					cancel() // and begin again
				}
			}()
			return nil
		}
		return h.tell(x)
	})
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
