package srun

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"google.golang.org/grpc"
)

// lostAfter is how long a node whose stream broke may be silent before the
// step goes on without it; a daemon restarts well within that.
const lostAfter = 60 * time.Second

// node is one node's share of a step: a stream, opened again when it breaks.
type node struct {
	*step
	index uint32
	name  string
	addr  string
	tasks []uint32 // global ids

	launched bool
	done     bool // the node told that its share is over

	up     chan struct{} // closed once the launch was sent
	upOnce sync.Once
	sendMu sync.Mutex // held while sending; one sender at a time per stream
	stream grpc.BidiStreamingClient[nodev1.RunStepIn, nodev1.RunStepOut]
	begun  bool                // there was a stream
	early  []*nodev1.RunStepIn // signals from before that
}

// run launches and follows the node's share until its end.
func (n *node) run(ctx context.Context, news chan<- event) {
	err := n.once(ctx, news, false)
	pause := 10 * time.Millisecond
	for silent := time.Now(); err != nil && errs.KindOf(err) == errs.Unavail && ctx.Err() == nil; {
		if n.launched && time.Since(silent) > lostAfter {
			break
		}
		if !n.launched && time.Since(silent) > n.Conf.MessageTimeout {
			break
		}
		select {
		case <-ctx.Done():
			continue
		case <-time.After(pause):
			pause = min(2*pause, time.Second)
		}
		was := time.Now()
		err = n.again(ctx, news)
		if time.Since(was) > time.Second { // it held for a while
			silent, pause = time.Now(), 10*time.Millisecond
		}
	}
	news <- event{node: n, over: true, err: err}
}

// again attaches to the share after a break. Whether it was launched may not
// be known: a node that knows nothing of it is told to launch.
func (n *node) again(ctx context.Context, news chan<- event) error {
	err := n.once(ctx, news, true)
	if !n.launched && (errs.KindOf(err) == errs.NotFound) {
		return n.once(ctx, news, false)
	}
	return err
}

// once is one stream, from launching or attaching to its end.
func (n *node) once(ctx context.Context, news chan<- event, attach bool) error {
	api := n.api
	if n.addr != n.manager || attach {
		a, conn, err := n.Client.Node(ctx, n.addr)
		if err != nil {
			return err
		}
		defer conn.Close()
		api = a
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := api.RunStep(ctx)
	if err != nil {
		return err
	}
	err = s.Send(&nodev1.RunStepIn{Body: &nodev1.RunStepIn_Launch{Launch: &nodev1.RunLaunch{
		Credential: n.reply.GetCredential(), Signature: n.reply.GetSignature(), Work: n.work, Node: n.index, Attach: attach}}})
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	defer n.setStream(nil)
	n.setStream(s)
	n.upOnce.Do(func() { close(n.up) })
	for {
		m, err := s.Recv()
		switch {
		case errors.Is(err, io.EOF) && n.done:
			return nil
		case errors.Is(err, io.EOF):
			return errs.Newf("srun.RunStep", errs.Unavail, "%s closed the stream before its tasks ended", n.name)
		case err != nil:
			return err
		}
		if o := m.GetOutput(); o != nil {
			n.out.take(o)
			continue
		}
		if l := m.GetLaunched(); l != nil {
			n.launched = n.launched || l.GetError() == ""
			n.done = l.GetError() != "" // nothing follows
		}
		n.done = n.done || m.GetDone() != nil
		news <- event{node: n, msg: m}
		if n.done {
			return nil
		}
	}
}

func (n *node) setStream(s grpc.BidiStreamingClient[nodev1.RunStepIn, nodev1.RunStepOut]) {
	n.sendMu.Lock()
	defer n.sendMu.Unlock()
	n.stream = s
	if s == nil {
		return
	}
	n.begun = true
	for _, m := range n.early {
		s.Send(m) //nolint:errcheck // the receiving side learns why
	}
	n.early = nil
}

// ready waits until input can be sent; false: ctx ended first.
func (n *node) ready(ctx context.Context) bool {
	select {
	case <-n.up:
		return true
	case <-ctx.Done():
		return false
	}
}

// send sends m if the node can be reached now, or after its launch if that is not
// sent yet: another node's task may fail that early. What is lost in a break is
// lost: input, as with a broken pipe.
func (n *node) send(m *nodev1.RunStepIn) {
	n.sendMu.Lock()
	defer n.sendMu.Unlock()
	if n.stream != nil {
		n.stream.Send(m) //nolint:errcheck // the receiving side learns why
	} else if !n.begun {
		n.early = append(n.early, m)
	}
}

// event is news of a node.
type event struct {
	node *node
	msg  *nodev1.RunStepOut
	over bool  // the node's share is over, or err says why it cannot go on
	err  error // with over
}
