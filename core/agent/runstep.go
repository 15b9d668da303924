package agent

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/launch/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/stepd"
	"github.com/sluice-hpc/sluice/sdk/wire"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"google.golang.org/grpc"
)

// session is one srun that is attached to a step on one node.
//
// The stream's first message is Launch. The answer is Launched; then Output and
// TaskEnded come in the order in which the supervisor tells them, and StepDone
// is the last message. When the stream breaks before, the step goes on, and
// srun may attach again; when it does not, the step is ended after a while.
type session struct {
	a      *Agent
	s      *step
	stream grpc.BidiStreamingServer[nodev1.RunStepIn, nodev1.RunStepOut]
	told   map[uint32]bool // tasks whose end was sent
	cancel context.CancelFunc
}

// RunStep runs this node's share of a step, or attaches to it.
func (p *API) RunStep(stream grpc.BidiStreamingServer[nodev1.RunStepIn, nodev1.RunStepOut]) error {
	return wire.ErrorToStatus(p.runStep(stream))
}

func (p *API) runStep(stream grpc.BidiStreamingServer[nodev1.RunStepIn, nodev1.RunStepOut]) error {
	const op = "agent.RunStep"
	in, err := stream.Recv()
	if err != nil {
		return err
	}
	l := in.GetLaunch()
	if l == nil || l.GetWork() == nil && !l.GetAttach() {
		return errs.Newf(op, errs.Invalid, "the first message must be a launch")
	}
	a, err := p.nodeOf(op, l)
	if err != nil {
		return err
	}
	sc, c, err := a.verifyStep(op, l, time.Now())
	if err != nil {
		return err
	}
	if err := a.awaitFound(stream.Context(), op); err != nil {
		return err
	}
	if err := mayAct(stream.Context(), op, c.GetUid()); err != nil {
		return err
	}
	var s *step
	launched := make(chan error, 1)
	if !a.ask(func() { s, err = a.openStep(op, l, sc, c, launched) }) {
		return errs.Newf(op, errs.Unavail, "slurmd is shutting down")
	}
	if err != nil {
		return err
	}
	x := &session{a: a, s: s, stream: stream, told: make(map[uint32]bool)}
	defer a.post(func() { a.closeSession(s) })
	select {
	case err := <-launched:
		if err != nil {
			stream.Send(&nodev1.RunStepOut{Body: &nodev1.RunStepOut_Launched{Launched: &nodev1.Launched{Error: err.Error()}}})
			return nil
		}
	case <-stream.Context().Done():
		return context.Cause(stream.Context())
	}
	return x.run()
}

// nodeOf finds the node that a launch is for.
func (p *API) nodeOf(op string, l *nodev1.RunLaunch) (*Agent, error) {
	if len(p.agents) == 1 {
		return p.agents[0], nil
	}
	for _, a := range p.agents {
		if _, _, err := a.verifyStep(op, l, time.Now()); err == nil {
			return a, nil
		}
	}
	return nil, errs.Coded(op, errs.InvalidCredential, "the step has no share of any node here")
}

// openStep launches a step, or finds it. launched hears how it went.
func (a *Agent) openStep(op string, l *nodev1.RunLaunch, sc *nodev1.StepCredential, c *nodev1.Credential, launched chan error) (*step, error) {
	job, id := wlm.JobID(sc.GetJob()), wlm.StepID(sc.GetStep())
	r := a.runs[job]
	if l.GetAttach() {
		if r == nil || r.restarts != c.GetRestarts() || r.steps[id] == nil {
			return nil, errs.Coded(op, errs.InvalidStep, "step "+job.String()+"."+id.String()+" is not on node "+string(a.Node))
		}
		r.steps[id].sessions++
		launched <- nil
		return r.steps[id], nil
	}
	a.forgetNonces()
	_, used := a.nonces[sc.GetNonce()]
	switch {
	case used || r != nil && r.restarts == c.GetRestarts() && r.steps[id] != nil:
		return nil, errs.Coded(op, errs.InvalidCredential, "step "+job.String()+"."+id.String()+" was launched before")
	case r != nil && r.restarts != c.GetRestarts():
		return nil, errs.Coded(op, errs.InvalidCredential, "another run of the job is here")
	case r != nil && r.term != nil:
		return nil, errs.Coded(op, errs.AlreadyDone)
	}
	if _, over := a.over[runKey{job, c.GetRestarts()}]; over {
		return nil, errs.Coded(op, errs.AlreadyDone)
	}
	if r == nil {
		r = &run{job: job, restarts: c.GetRestarts(), uid: c.GetUid(), steps: make(map[wlm.StepID]*step)}
		a.runs[job] = r
	}
	a.nonces[sc.GetNonce()] = sc.GetExpires()
	q, err := a.launchRequest(r, sc, c, l)
	if err != nil {
		return nil, errs.Newf(op, errs.Invalid, "%w", err)
	}
	s := a.newStep(r, id, q.GetTaskIds())
	s.sessions++
	go a.launch(s, q, func(err error) { launched <- err })
	return s, nil
}

// nonceSweep is how many used credentials are remembered before expired ones
// are looked for.
const nonceSweep = 1024

func (a *Agent) forgetNonces() {
	if len(a.nonces) < nonceSweep {
		return
	}
	now := time.Now().Unix()
	for n, expires := range a.nonces {
		if now > expires {
			delete(a.nonces, n)
		}
	}
}

func (a *Agent) closeSession(s *step) {
	s.sessions--
	if s.sessions > 0 {
		return
	}
	if s.gone != nil {
		a.forgetLater(s)
		return
	}
	if s.state != stepLaunching || a.runs[s.run.job] == s.run {
		a.orphaned(s)
	}
}

// run carries the session from the launch to the step's end.
func (x *session) run() error {
	var pids []uint32
	var socket string
	x.a.ask(func() { pids, socket = x.s.pids, x.s.socket })
	if err := x.send(&nodev1.RunStepOut{Body: &nodev1.RunStepOut_Launched{Launched: &nodev1.Launched{TaskIds: x.s.ids, Pids: pids}}}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(x.stream.Context())
	defer cancel()
	x.cancel = cancel
	var conn *stepd.Conn
	if socket != "" {
		var err error
		if conn, err = stepd.Dial(socket, stepd.Frame{Kind: stepd.Attach}); err != nil {
			conn = nil // it has ended, and everything was delivered
		}
	}
	go x.input(ctx, conn)
	if conn != nil {
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		defer stop()
		defer conn.Close()
		if done, err := x.output(conn); done || err != nil {
			return err
		}
	}
	return x.await(ctx)
}

func (x *session) send(m *nodev1.RunStepOut) error { return x.stream.Send(m) }

// output passes on what the supervisor says, until it closes. done: the
// step's end was sent.
func (x *session) output(conn *stepd.Conn) (done bool, err error) {
	var gone *stepd.Event
	for {
		f, rerr := conn.Recv()
		if rerr != nil {
			if x.stream.Context().Err() != nil {
				return false, context.Cause(x.stream.Context())
			}
			if gone == nil {
				return false, nil
			}
			return true, x.done(gone.Status, gone.Error)
		}
		switch f.Kind {
		case stepd.Stdout, stepd.Stderr:
			err = x.send(&nodev1.RunStepOut{Body: &nodev1.RunStepOut_Output{Output: &nodev1.Output{
				Task: f.Task, Err: f.Kind == stepd.Stderr, Data: f.Data, Eof: len(f.Data) == 0}}})
		case stepd.Happened:
			var e stepd.Event
			if json.Unmarshal(f.Data, &e) != nil {
				continue
			}
			switch e.Kind {
			case stepd.Exited:
				err = x.taskEnded(&launchv1.TaskExit{TaskId: e.Task, Status: e.Status, Oom: e.OOM, Core: e.Core})
			case stepd.Gone:
				gone = &e
				x.a.post(func() { x.a.stepGone(x.s, goneOf(&e)) })
			}
		}
		if err != nil {
			return false, err
		}
	}
}

// goneOf is what the launcher will tell as well, somewhat later.
func goneOf(e *stepd.Event) *launchv1.StepGone {
	g := &launchv1.StepGone{Status: e.Status, Oom: e.OOM, Error: e.Error, Time: e.Time, Usage: &launchv1.Usage{}}
	if u := e.Usage; u != nil {
		g.Usage = &launchv1.Usage{UserUsec: u.UserUsec, SysUsec: u.SysUsec, MaxRssKib: u.MaxRSSKiB, ReadBytes: u.Read, WrittenBytes: u.Written}
	}
	return g
}

// await tells the end of a step that has no supervisor to hear it from: a
// pretended one, or one whose supervisor is gone.
func (x *session) await(ctx context.Context) error {
	select {
	case <-x.s.ended:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-x.a.ended:
		return errs.Newf("agent.RunStep", errs.Unavail, "slurmd is shutting down")
	}
	var exits []*launchv1.TaskExit
	var gone *launchv1.StepGone
	if !x.a.ask(func() { exits, gone = x.s.exits, x.s.gone }) {
		return errs.Newf("agent.RunStep", errs.Unavail, "slurmd is shutting down")
	}
	for _, t := range exits {
		if err := x.taskEnded(t); err != nil {
			return err
		}
	}
	for _, id := range x.s.ids {
		if err := x.taskEnded(&launchv1.TaskExit{TaskId: id, Status: gone.GetStatus(), Oom: gone.GetOom()}); err != nil {
			return err
		}
	}
	return x.done(gone.GetStatus(), gone.GetError())
}

func (x *session) taskEnded(t *launchv1.TaskExit) error {
	if x.told[t.GetTaskId()] {
		return nil
	}
	x.told[t.GetTaskId()] = true
	return x.send(&nodev1.RunStepOut{Body: &nodev1.RunStepOut_Ended{Ended: &nodev1.TaskEnded{
		Task: t.GetTaskId(), Status: t.GetStatus(), Oom: t.GetOom(), Core: t.GetCore()}}})
}

func (x *session) done(status uint32, text string) error {
	if err := x.send(&nodev1.RunStepOut{Body: &nodev1.RunStepOut_Done{Done: &nodev1.StepDone{Status: status, Error: text}}}); err != nil {
		return err
	}
	x.a.post(func() { x.s.delivered = true })
	return nil
}

// input passes on what srun sends. The end of its stream is only the end of
// what it has to say, unless the stream broke.
func (x *session) input(ctx context.Context, conn *stepd.Conn) {
	for {
		m, err := x.stream.Recv()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				x.cancel()
			}
			return
		}
		switch b := m.GetBody().(type) {
		case *nodev1.RunStepIn_Stdin:
			if conn == nil {
				continue
			}
			if len(b.Stdin.GetData()) > 0 {
				conn.Send(stepd.Frame{Kind: stepd.Stdin, Task: b.Stdin.GetTask(), Data: b.Stdin.GetData()})
			}
			if b.Stdin.GetEof() {
				conn.Send(stepd.Frame{Kind: stepd.StdinEOF, Task: b.Stdin.GetTask()})
			}
		case *nodev1.RunStepIn_Window:
			if conn != nil {
				size := binary.BigEndian.AppendUint16(nil, uint16(b.Window.GetRows()))
				size = binary.BigEndian.AppendUint16(size, uint16(b.Window.GetCols()))
				conn.Send(stepd.Frame{Kind: stepd.Window, Task: stepd.AllTasks, Data: size})
			}
		case *nodev1.RunStepIn_Signal:
			x.a.post(func() {
				x.a.signalJob(&nodev1.SignalJob{Job: uint32(x.s.run.job), Signal: b.Signal.GetSignal(), HasStep: true, Step: uint32(x.s.id)})
			})
		}
	}
}
