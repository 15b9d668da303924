package agent

import (
	"bytes"
	"context"
	"strings"
	"syscall"
	"time"

	"github.com/sluice-hpc/sluice/core/auth"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/launch/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"google.golang.org/protobuf/proto"
)

// order carries out what the controller says; an error ends the stream.
func (a *Agent) order(m *nodev1.ToNode) error {
	if m.GetTerm() < a.term {
		a.Log.Warn("ignored an order of a controller that no longer leads", "term", m.GetTerm(), "newest", a.term)
		return nil
	}
	a.term = m.GetTerm()
	var err error
	switch b := m.GetBody().(type) {
	case *nodev1.ToNode_Registered:
		return a.registered(b.Registered)
	case *nodev1.ToNode_Ack:
		a.acknowledged(b.Ack.GetUpto())
		return nil
	case *nodev1.ToNode_Start:
		err = a.startJob(b.Start)
	case *nodev1.ToNode_Signal:
		err = a.signalJob(b.Signal)
	case *nodev1.ToNode_Terminate:
		a.terminateJob(b.Terminate)
	case *nodev1.ToNode_Suspend:
		err = a.suspendJob(b.Suspend)
	case *nodev1.ToNode_Update:
		a.updateJob(b.Update)
	case *nodev1.ToNode_Reconfigured:
		if a.OnReconfigure != nil {
			go a.OnReconfigure()
		}
	case *nodev1.ToNode_ChangePlugin:
		go a.changePlugin(b.ChangePlugin)
	case *nodev1.ToNode_Shutdown:
		if a.OnShutdown != nil {
			go a.OnShutdown()
		}
	}
	if err != nil {
		a.Log.Warn("order not carried out", "node", a.Node, "err", err)
		if a.link != nil {
			a.link.send(&nodev1.FromNode{Node: string(a.Node), Body: &nodev1.FromNode_Reply{Reply: &nodev1.OrderReply{
				Number: m.GetNumber(), Code: uint32(errs.CodeOf(err)), Text: err.Error()}}})
		}
	}
	return nil
}

// changePlugin carries out one step of a change and answers. Steps of a job
// are not touched by it.
func (a *Agent) changePlugin(m *nodev1.ChangePlugin) {
	var err error = errs.Newf("agent.ChangePlugin", errs.Unsupport, "this node's plugins cannot be changed")
	if a.OnPlugin != nil {
		err = a.OnPlugin(m)
	}
	answer := &nodev1.PluginChanged{Id: m.GetId()}
	if err != nil {
		answer.Kind, answer.Text = uint32(errs.KindOf(err)), err.Error()
		a.Log.Error("plugin not changed", "node", a.Node, "kind", m.GetKind(), "name", m.GetName(), "step", m.GetStep().String(), "err", err)
	} else if m.GetStep() == nodev1.ChangePlugin_COMMIT && a.Plugins != nil {
		answer.Plugins = a.Plugins()
	}
	a.post(func() {
		if a.link != nil {
			a.link.send(&nodev1.FromNode{Node: string(a.Node), Body: &nodev1.FromNode_PluginChanged{PluginChanged: answer}})
		}
	})
}

// verifyJob checks a job's credential and returns what it says.
func (a *Agent) verifyJob(op string, msg, sig []byte, now time.Time) (*nodev1.Credential, error) {
	pub := a.ctldKey.Load()
	if pub == nil {
		return nil, errs.Newf(op, errs.Unavail, "node %s has not registered yet and knows no controller", a.Node)
	}
	if err := auth.VerifyCredential(*pub, msg, sig); err != nil {
		return nil, err
	}
	c := new(nodev1.Credential)
	if err := proto.Unmarshal(msg, c); err != nil {
		return nil, errs.Coded(op, errs.InvalidCredential, err.Error())
	}
	switch {
	case c.GetCluster() != a.Cluster:
		return nil, errs.Coded(op, errs.InvalidCredential, "the credential is for cluster "+c.GetCluster()+", not "+a.Cluster)
	case c.GetExpires() != 0 && now.Unix() > c.GetExpires():
		return nil, errs.Coded(op, errs.InvalidCredential, "the credential has expired")
	}
	for _, n := range c.GetNodes() {
		if n.GetName() == string(a.Node) {
			return c, nil
		}
	}
	return nil, errs.Coded(op, errs.InvalidCredential, "the credential does not name node "+string(a.Node))
}

// startJob makes this node the first of a job, and runs its batch script.
func (a *Agent) startJob(m *nodev1.StartJob) error {
	const op = "agent.StartJob"
	cred, err := a.verifyJob(op, m.GetCredential(), m.GetSignature(), time.Now())
	if err != nil {
		return err
	}
	if m.GetJob() == nil || m.GetJob().GetSpec() == nil || m.GetJob().GetId() != cred.GetJob() {
		return errs.Coded(op, errs.InvalidCredential, "the credential is for another job")
	}
	key := runKey{wlm.JobID(cred.GetJob()), cred.GetRestarts()}
	if _, over := a.gone[key]; over {
		return nil // it ran, and its end is on its way
	}
	if r := a.runs[key.job]; r != nil {
		switch {
		case r.restarts == key.restarts && r.start != nil:
			return nil // the order is repeated
		case r.restarts == key.restarts:
			// Steps of it ran here before it was known that this node is the first.
		case r.restarts > key.restarts:
			return errs.Newf(op, errs.State, "a later run of job %d is here", key.job)
		default:
			// The controller has given the earlier run up, and may have lost sight
			// of it. The later one starts when nothing of it is left.
			r.next = m
			if r.term == nil {
				a.terminateJob(&nodev1.Terminate{Job: uint32(key.job), Restarts: r.restarts,
					State: uint32(wlm.Pending), KillWait: uint32(a.KillWait / time.Second)})
			}
			return nil
		}
	}
	if len(cred.GetStepKey()) > 0 && !bytes.Equal(cred.GetStepKey(), a.signer.Public()) {
		a.Log.Warn("a job's credential names an old key of this node; its steps will be refused by others", "job", key.job)
	}
	r := a.newRun(m, cred)
	if err := a.save(r, m); err != nil {
		delete(a.runs, r.job)
		a.launchFailed(r, errs.Newf(op, errs.Exhausted, "keeping the job in SlurmdSpoolDir: %w", err))
		return nil
	}
	if wlm.JobKind(m.GetJob().GetSpec().GetKind()) == wlm.KindBatch {
		a.launchBatch(r)
	}
	for _, ch := range a.awaiting[r.job] {
		close(ch)
	}
	delete(a.awaiting, r.job)
	return nil
}

// signalJob signals what the controller names of a job.
func (a *Agent) signalJob(m *nodev1.SignalJob) error {
	r := a.runs[wlm.JobID(m.GetJob())]
	if r == nil {
		return nil // it has ended
	}
	for id, s := range r.steps {
		batch := id == wlm.StepBatch
		switch {
		case m.GetHasStep() && id != wlm.StepID(m.GetStep()),
			!m.GetHasStep() && m.GetBatchOnly() && !batch,
			!m.GetHasStep() && !m.GetBatchOnly() && !m.GetFull() && batch:
			continue
		}
		notice := m.GetNotice()
		if sig := syscall.Signal(m.GetSignal()); notice == "" && m.GetHasStep() && (sig == syscall.SIGKILL || sig == syscall.SIGTERM) {
			notice = a.notice(s, "DUE to SIGNAL "+wlm.SignalText(int(sig)))
		}
		a.signal(s, signalling{notice: notice, shell: batch && m.GetBatchOnly(), signals: []syscall.Signal{syscall.Signal(m.GetSignal())}})
	}
	return nil
}

// suspendGrace is the time between SIGTSTP, which programs may heed, and
// SIGSTOP.
const suspendGrace = 2 * time.Second

func (a *Agent) suspendJob(m *nodev1.SuspendJob) error {
	r := a.runs[wlm.JobID(m.GetJob())]
	if r == nil {
		return nil
	}
	if r.suspended && !m.GetResume() {
		return nil // the order is repeated
	}
	r.suspended = !m.GetResume()
	if m.GetResume() {
		a.signalAll(r, syscall.SIGCONT)
		return nil
	}
	a.signalAll(r, syscall.SIGTSTP)
	a.after(suspendGrace, func() {
		if r.suspended && a.runs[r.job] == r {
			a.signalAll(r, syscall.SIGSTOP)
		}
	})
	return nil
}

func (a *Agent) updateJob(m *nodev1.UpdateRunning) {
	if r := a.runs[wlm.JobID(m.GetJob())]; r != nil && r.facts != nil {
		j := r.facts.Job.Clone()
		j.TimeLimit, j.End = wlm.Minutes(m.GetTimeLimit()), wlm.Time(m.GetEnd())
		r.facts.Job = j
	}
}

// terminateJob ends everything of a run: SIGCONT and SIGTERM, KillWait,
// SIGKILL. JobGone follows when nothing is left, or when that took too long.
func (a *Agent) terminateJob(m *nodev1.Terminate) {
	key := runKey{wlm.JobID(m.GetJob()), m.GetRestarts()}
	r := a.runs[key.job]
	if r == nil || r.restarts != key.restarts {
		if r != nil && r.next != nil && r.restarts < key.restarts {
			r.next = nil // it need not start any more
		}
		if _, told := a.gone[key]; !told {
			a.jobGone(key, false)
		}
		return
	}
	now := m.GetKillWait() == 0 || r.suspended
	if r.term != nil && !now {
		return // the order is repeated
	}
	first := r.term == nil
	if first {
		r.term = &termination{state: wlm.JobState(m.GetState()), why: reasonText(m)}
		r.refuseWaiting(errs.Coded("agent.CreateStep", errs.AlreadyDone))
	}
	if !r.alive() {
		a.finish(r, false)
		return
	}
	if first {
		for _, s := range r.steps {
			a.terminateStep(s, now)
		}
		if !now {
			r.term.kill = a.after(time.Duration(m.GetKillWait())*time.Second, func() { a.killHard(r) })
		}
	}
	if now {
		a.killHard(r)
	}
}

// termination is how far the end of a run is.
type termination struct {
	state wlm.JobState // the job's
	why   string       // the end of the notice
	kill  *time.Timer
	hard  bool
}

// reasonText is what a notice says after the time.
func reasonText(m *nodev1.Terminate) string {
	if n := m.GetNotice(); n != "" {
		return n
	}
	switch wlm.JobState(m.GetState()) {
	case wlm.Timeout:
		return "DUE TO TIME LIMIT"
	case wlm.Preempted:
		return "DUE TO PREEMPTION"
	case wlm.NodeFail:
		return "DUE TO NODE FAILURE, SEE SLURMCTLD LOG FOR DETAILS"
	case wlm.Pending:
		return "DUE TO JOB REQUEUE"
	case wlm.Cancelled:
		return "DUE to SIGNAL " + wlm.SignalText(int(syscall.SIGTERM))
	}
	return ""
}

// notice is the line that tells a step's reader why it ends. A text with
// asterisks is whole already.
func (a *Agent) notice(s *step, why string) string {
	const prefix = "slurmstepd: error: "
	if strings.Contains(why, "***") {
		return prefix + strings.TrimPrefix(why, prefix)
	}
	what := "STEP " + s.run.job.String() + "." + s.id.String()
	if s.id == wlm.StepBatch {
		what = "JOB " + s.run.job.String()
	}
	if why != "" {
		why = " " + why
	}
	return prefix + "*** " + what + " ON " + string(a.Node) + " CANCELLED AT " + time.Now().Format("2006-01-02T15:04:05") + why + " ***"
}

func (a *Agent) terminateStep(s *step, now bool) {
	g := signalling{notice: a.notice(s, s.run.term.why), signals: []syscall.Signal{syscall.SIGCONT, syscall.SIGTERM}}
	if now {
		g.signals = []syscall.Signal{syscall.SIGKILL}
	}
	a.signal(s, g)
}

// killHard kills what did not end by itself, and gives up on what cannot be
// killed.
func (a *Agent) killHard(r *run) {
	if a.runs[r.job] != r || r.term == nil || r.term.hard {
		return
	}
	r.term.hard = true
	if r.term.kill != nil {
		r.term.kill.Stop()
	}
	a.signalAll(r, syscall.SIGKILL)
	a.after(a.UnkillableTimeout, func() {
		if a.runs[r.job] == r && r.alive() {
			a.Log.Error("processes of a job cannot be killed", "node", a.Node, "job", r.job)
			a.finish(r, true)
		}
	})
}

// signalling is what a step's processes are sent, in order.
type signalling struct {
	notice  string
	shell   bool // the batch shell's own process only
	signals []syscall.Signal
}

func (a *Agent) signalAll(r *run, sig syscall.Signal) {
	for _, s := range r.steps {
		a.signal(s, signalling{signals: []syscall.Signal{sig}})
	}
}

// signal sends signals to a step, in the order of the calls; to one that is
// being launched, when it runs.
func (a *Agent) signal(s *step, g signalling) {
	if s.gone != nil {
		return
	}
	s.signals = append(s.signals, g)
	if s.state == stepRunning {
		a.sendSignals(s)
	}
}

// sendSignals sends what waits for a step, one call at a time.
func (a *Agent) sendSignals(s *step) {
	if s.sending || len(s.signals) == 0 {
		return
	}
	batch := s.signals
	s.signals, s.sending = nil, true
	ref := a.ref(s)
	go func() {
		for _, g := range batch {
			for i, sig := range g.signals {
				r := &launchv1.SignalRequest{Step: ref, Signal: uint32(sig), BatchShellOnly: g.shell}
				if i == 0 {
					r.Notice = g.notice
				}
				err := a.sendSignal(s, r)
				if err != nil && errs.KindOf(err) != errs.NotFound {
					a.Log.Warn("signal not sent", "job", ref.GetJob(), "step", wlm.StepID(ref.GetStep()), "signal", int(sig), "err", err)
				}
			}
		}
		a.post(func() {
			s.sending = false
			a.sendSignals(s)
		})
	}()
}

// sendSignal sends one signal, away from the loop. A launcher that does not know
// the step may have been started just now, and will know it soon.
func (a *Agent) sendSignal(s *step, r *launchv1.SignalRequest) error {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	for {
		err := a.launcher.Signal(ctx, r)
		if errs.KindOf(err) != errs.NotFound {
			return err
		}
		select {
		case <-s.ended:
			return nil
		case <-a.ended:
			return nil
		case <-ctx.Done():
			return err
		case <-time.After(watchPause):
		}
	}
}
