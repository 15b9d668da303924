package agent

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/wire"
	"google.golang.org/grpc"
)

// Pauses between attempts to reach a controller grow between these, each
// jittered, so that a fleet does not come back in one moment.
const (
	pauseMin = 50 * time.Millisecond
	pauseMax = 3 * time.Second

	standbyPause = 400 * time.Millisecond
)

// defaultHeartbeat is used until the controller says otherwise.
const defaultHeartbeat = 10 * time.Second

// registerTimeout bounds how long a controller may take to answer.
const registerTimeout = 20 * time.Second

// link is one stream to the controller. Sending never waits.
type link struct {
	gen        uint64
	registered bool // the loop's
	heartbeat  time.Duration

	mu    sync.Mutex // guards queue
	queue []*nodev1.FromNode
	wake  chan struct{}
}

func (l *link) send(m *nodev1.FromNode) {
	l.mu.Lock()
	l.queue = append(l.queue, m)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// dial keeps a stream to some controller until ctx ends. It starts once the
// node's steps are known, since a registration lists them.
func (a *Agent) dial(ctx context.Context) {
	select {
	case <-a.found:
	case <-ctx.Done():
		return
	}
	pause, lost := pauseMin, false
	for i := 0; ctx.Err() == nil; i++ {
		addrs := a.Controllers()
		others := false // that were not asked in this round
		if len(addrs) > 0 {
			addr := addrs[i%len(addrs)]
			start := time.Now()
			err := a.connect(ctx, addr)
			if ctx.Err() != nil {
				return
			}
			// Said once: attempts go on until a controller answers.
			level := slog.LevelDebug
			if !lost || time.Since(start) > registerTimeout {
				level, lost = slog.LevelWarn, true
			}
			a.Log.Log(ctx, level, "no controller", "node", a.Node, "addr", addr, "err", wire.ErrorOfStatus(err))
			others = (i+1)%len(addrs) != 0
			switch {
			case time.Since(start) > registerTimeout:
				pause = pauseMin
			case errs.CodeOf(wire.ErrorOfStatus(err)) == errs.StandbyMode:
				pause = min(pause, standbyPause) // they are choosing a leader
			}
		}
		if others {
			continue
		}
		jittered := pause/2 + rand.N(pause)
		select {
		case <-ctx.Done():
			return
		case <-time.After(jittered):
		}
		pause = min(pause*2, pauseMax)
	}
}

var errNotAccepted = errors.New("the controller does not accept this node")

// connect serves one stream until it ends.
func (a *Agent) connect(parent context.Context, addr string) error {
	client, err := a.Connect(addr)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	stream, err := client.Connect(ctx)
	if err != nil {
		return err
	}
	l := &link{wake: make(chan struct{}, 1), heartbeat: defaultHeartbeat}
	if !a.ask(func() {
		a.linkGen++
		l.gen = a.linkGen
		a.link = l
		l.send(&nodev1.FromNode{Node: string(a.Node), Body: &nodev1.FromNode_Register{Register: a.registration()}})
	}) {
		return context.Canceled
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		if err := l.write(ctx, stream); err != nil {
			cancel(err)
		}
	}()
	slow := time.AfterFunc(registerTimeout, func() { cancel(errors.New("no answer to the registration")) })
	for err == nil {
		var m *nodev1.ToNode
		if m, err = stream.Recv(); err == nil {
			if m.GetRegistered() != nil {
				slow.Stop()
				go l.beat(ctx, a)
			}
			a.post(func() {
				if a.linkGen == l.gen {
					if oerr := a.order(m); oerr != nil {
						cancel(oerr)
					}
				}
			})
		}
	}
	slow.Stop()
	if cause := context.Cause(ctx); cause != nil && parent.Err() == nil {
		err = cause
	}
	cancel(err)
	<-sent
	a.post(func() {
		if a.link == l {
			a.link = nil
		}
	})
	return err
}

func (l *link) write(ctx context.Context, stream grpc.BidiStreamingClient[nodev1.FromNode, nodev1.ToNode]) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.wake:
		}
		l.mu.Lock()
		batch := l.queue
		l.queue = nil
		l.mu.Unlock()
		for _, m := range batch {
			if err := stream.Send(m); err != nil {
				return nil //nolint:nilerr // Recv tells why
			}
		}
	}
}

// beat sends heartbeats until ctx ends.
func (l *link) beat(ctx context.Context, a *Agent) {
	for {
		var every time.Duration
		if !a.ask(func() { every = l.heartbeat }) {
			return
		}
		const jitter = 5 // a fifth, either way
		select {
		case <-ctx.Done():
			return
		case <-time.After(every - every/jitter + rand.N(2*every/jitter)):
		}
		h := &nodev1.Heartbeat{}
		h.CpuLoad, h.FreeMem = a.Load()
		if a.Plugins != nil {
			h.Plugins = a.Plugins()
		}
		l.send(&nodev1.FromNode{Node: string(a.Node), Body: &nodev1.FromNode_Heartbeat{Heartbeat: h}})
	}
}

// registered takes the controller's answer to the registration.
func (a *Agent) registered(m *nodev1.Registered) error {
	if !m.GetAccepted() {
		a.Log.Error("registration refused", "node", a.Node, "why", m.GetText())
		return errNotAccepted
	}
	if pub := m.GetPublicKey(); len(pub) > 0 {
		a.ctldKey.Store(&pub)
		if err := saveIfNew(a.publicKeyPath(), pub); err != nil && !errors.Is(err, os.ErrNotExist) {
			a.Log.Warn("the controller's key is not on disk", "err", err)
		}
	}
	if h := m.GetHeartbeat(); h > 0 {
		a.link.heartbeat = time.Duration(h) * time.Second
	}
	for _, id := range m.GetUnknownJobs() {
		a.Log.Error("the controller does not know a job of this node; it is kept", "node", a.Node, "job", id)
	}
	a.link.registered = true
	for _, r := range a.reports.unacked() {
		a.link.send(&nodev1.FromNode{Node: string(a.Node), Body: &nodev1.FromNode_Report{Report: r}})
	}
	a.Log.Info("registered", "node", a.Node, "jobs", len(a.runs))
	return nil
}
