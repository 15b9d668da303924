package agent

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/sluice-hpc/sluice/core/steps"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/proto/launch/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/wire"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"google.golang.org/protobuf/proto"
)

// run is one run of a job, as far as this node knows it. All of it is the
// loop's.
type run struct {
	job      wlm.JobID
	restarts uint32
	uid      uint32
	steps    map[wlm.StepID]*step // that run here, or ended and are not forgotten

	// Of the job's first node only; start is nil elsewhere.
	start   *nodev1.StartJob
	cred    *nodev1.Credential
	facts   *envFacts
	mgr     *steps.Manager
	grants  map[wlm.StepID]*granted
	waiting map[steps.Ticket]chan admission
	log     jobLog

	suspended bool
	term      *termination
	next      *nodev1.StartJob // a later run, which starts when this one is gone
}

func (r *run) key() runKey { return runKey{r.job, r.restarts} }

// alive reports whether processes of the run are, or may be, on the node.
func (r *run) alive() bool {
	for _, s := range r.steps {
		if s.gone == nil {
			return true
		}
	}
	return false
}

// stepState is how far a step's launch is.
type stepState uint8

const (
	stepLaunching stepState = iota
	stepUnsure              // the launcher went away; Recover will tell
	stepRunning
)

// step is this node's share of a step.
type step struct {
	run     *run
	id      wlm.StepID
	state   stepState
	began   wlm.Time
	ids     []uint32
	pids    []uint32
	socket  string
	exits   []*launchv1.TaskExit
	gone    *launchv1.StepGone
	ended   chan struct{} // closed when gone is set
	signals []signalling
	sending bool
	tries   int  // launches that found the step's directory taken
	doubted bool // it was said that nobody knows whether it runs

	sessions  int  // streams that are attached
	delivered bool // some stream told srun the end
	dropped   bool
	orphan    *time.Timer
}

// granted is a step of the job, wherever it runs. Only the first node has it.
type granted struct {
	grant *steps.Grant
	rec   *wlm.Step
	here  *launchv1.StepGone // how this node's share ended; nil: it runs, or there is none
}

func (a *Agent) ref(s *step) *launchv1.StepRef {
	return &launchv1.StepRef{Job: uint32(s.run.job), Step: uint32(s.id), Node: string(a.Node)}
}

func (a *Agent) stepDir(job wlm.JobID, id wlm.StepID) string {
	return filepath.Join(a.Spool, job.String()+"."+id.String())
}

// newRun makes the run of a job whose first node this is.
func (a *Agent) newRun(m *nodev1.StartJob, cred *nodev1.Credential) *run {
	id := wlm.JobID(cred.GetJob())
	r := a.runs[id]
	if r == nil {
		r = &run{job: id, restarts: cred.GetRestarts(), steps: make(map[wlm.StepID]*step)}
		a.runs[id] = r
	}
	r.uid, r.start, r.cred = cred.GetUid(), m, cred
	r.grants, r.waiting = make(map[wlm.StepID]*granted), make(map[steps.Ticket]chan admission)
	r.log = jobLog{filepath.Join(a.Spool, "jobs", id.String())}
	job := wire.JobOfWire(m.GetJob())
	job.Restarts = cred.GetRestarts()
	r.facts = &envFacts{Job: job, Cluster: a.Cluster, ConfPath: a.ConfPath, StepManager: a.Addr, Where: a.Where}
	for _, n := range m.GetNodes() {
		cpus := wlm.CPUSet(n.GetCpuSet())
		if len(cpus) == 0 {
			cpus = wlm.FullCPUSet(int(n.GetCpus()))
		}
		r.facts.Nodes = append(r.facts.Nodes, steps.Node{Name: wlm.NodeName(n.GetName()), CPUs: cpus,
			Mem: wlm.MiB(n.GetMem()), ThreadsPerCore: n.GetThreadsPerCore(), Gres: usesOf(n.GetGres())})
		if n.GetName() == string(a.Node) && n.GetAddr() != "" {
			r.facts.StepManager = n.GetAddr()
		}
	}
	r.mgr = steps.New(r.facts.Nodes, job.Spec.NTasks)
	r.mgr.Skip(wlm.StepID(job.NextStep))
	return r
}

// save writes the run's file.
func (a *Agent) save(r *run, m *nodev1.StartJob) error {
	kept := &nodev1.StartJob{Credential: m.Credential, Signature: m.Signature, Job: m.Job, Nodes: m.Nodes}
	b, err := proto.Marshal(kept)
	if err != nil {
		return err
	}
	return r.log.append(true, appendRecord(nil, recStart, b))
}

// restore brings back a run from its file. Whether its batch script runs, the
// launcher will tell.
func (a *Agent) restore(s *savedRun) {
	cred := new(nodev1.Credential)
	if err := proto.Unmarshal(s.start.GetCredential(), cred); err != nil || s.start.GetJob() == nil || s.start.GetJob().GetSpec() == nil {
		a.Log.Warn("the file of a job says nothing of use", "job", s.start.GetJob().GetId(), "err", err)
		return
	}
	r := a.newRun(s.start, cred)
	r.mgr.Skip(s.next)
	index := make(map[string]int)
	for i, n := range r.facts.Nodes {
		index[string(n.Name)] = i
	}
	for _, g := range s.grants {
		sc := new(nodev1.StepCredential)
		if proto.Unmarshal(g.reply.GetCredential(), sc) != nil || g.request == nil {
			continue
		}
		grant := &steps.Grant{Step: wlm.StepID(sc.GetStep()), CPUsPerTask: sc.GetCpusPerTask(),
			Overlap: g.request.GetOverlap() || g.request.GetInteractive()}
		ids := sc.GetTaskIds()
		for i, n := range sc.GetNodes() {
			if i >= len(sc.GetTasks()) || int(sc.GetTasks()[i]) > len(ids) {
				break
			}
			mine := ids[:sc.GetTasks()[i]]
			ids = ids[len(mine):]
			i := index[n.GetName()]
			grant.Shares = append(grant.Shares, steps.Share{Index: i, CPUs: n.GetCpuSet(), TaskIDs: mine,
				Gres: r.facts.Nodes[i].RestoreGres(n.GetGres())})
			grant.NTasks += uint32(len(mine))
		}
		r.mgr.Restore(grant)
		r.grants[grant.Step] = &granted{grant: grant, rec: a.stepRecord(r, grant, g.request)}
	}
}

// usesOf reads what a job has of a node.
func usesOf(text string) []wlm.GresUse {
	uses, _ := wlm.ParseGresUse(text)
	return uses
}

// batchEnv is the environment of a job's script on this node.
func (a *Agent) batchEnv(r *run) []string {
	e := newEnviron(r.facts.batchEnv(a.Node, r.start.GetEnv()))
	a.gresEnv(e, "SLURM_JOB_", gresOf(r.facts.Job, a.Node))
	return e.list
}

// launchBatch runs the job's script.
func (a *Agent) launchBatch(r *run) {
	j := r.facts.Job
	spec := j.Spec
	appendTo := spec.OpenMode == wlm.OpenAppend || spec.OpenMode == wlm.OpenDefault && a.JobFileAppend
	out := spec.StdOut
	if out == "" {
		out = wlm.DefaultOutput
		if j.ArrayJob != 0 {
			out = wlm.DefaultArrayOutput
		}
	}
	w := &launchv1.Work{Argv: spec.Argv, Env: a.batchEnv(r), Cwd: spec.WorkDir, Umask: spec.Umask,
		Stdout:  &launchv1.Stream{Kind: launchv1.Stream_FILE, Path: out, Append: appendTo},
		Stderr:  &launchv1.Stream{Kind: launchv1.Stream_JOINED},
		CpuBind: spec.CPUBind, MemBind: spec.MemBind}
	if len(w.Argv) == 0 {
		w.Argv = []string{"slurm_script"}
	}
	if spec.StdErr != "" {
		w.Stderr = &launchv1.Stream{Kind: launchv1.Stream_FILE, Path: spec.StdErr, Append: appendTo}
	}
	if spec.StdIn != "" {
		w.Stdin = &launchv1.Stream{Kind: launchv1.Stream_FILE, Path: spec.StdIn}
	}
	for i := range spec.Limits {
		w.Limits = append(w.Limits, wire.RLimitToWire(&spec.Limits[i]))
	}
	q := a.request(r, r.cred, wlm.StepBatch, w)
	q.TaskIds, q.Ntasks, q.Nnodes = []uint32{0}, 1, 1
	q.Script = r.start.GetScript()
	if n := r.start.GetNodes(); len(n) > 0 {
		q.CpuSet, q.Mem, q.ThreadsPerCore = n[0].GetCpuSet(), n[0].GetMem(), n[0].GetThreadsPerCore()
		a.bindBatch(q, n[0], gresOf(j, a.Node))
	}
	q.CpusPerTask = max(spec.CPUsPerTask, 1)
	q.JobName = spec.Name
	s := a.newStep(r, wlm.StepBatch, q.TaskIds)
	go a.launch(s, q, nil)
}

// request is what all launches of a job share.
func (a *Agent) request(r *run, c *nodev1.Credential, id wlm.StepID, w *launchv1.Work) *launchv1.LaunchRequest {
	return &launchv1.LaunchRequest{Job: uint32(r.job), Step: uint32(id), Restarts: r.restarts, Node: string(a.Node),
		Uid: c.GetUid(), Gid: c.GetGid(), Gids: c.GetGids(), UserName: c.GetUserName(), Work: w,
		StepDir: a.stepDir(r.job, id), ArrayJob: c.GetArrayJob(), ArrayTask: c.GetArrayTask(),
		ConstrainCores: a.ConstrainCores, ConstrainMemory: a.ConstrainMemory, CgroupRoot: a.CgroupRoot, SimSeconds: -1}
}

func (a *Agent) newStep(r *run, id wlm.StepID, ids []uint32) *step {
	s := &step{run: r, id: id, began: wlm.TimeOf(time.Now()), ids: ids, ended: make(chan struct{})}
	r.steps[id] = s
	return s
}

// launchTimeout bounds a launch: opening files on a slow file system is part
// of it.
const launchTimeout = 2 * time.Minute

// launch starts a step's tasks, away from the loop. done, if not nil, hears on
// the loop how it went.
func (a *Agent) launch(s *step, q *launchv1.LaunchRequest, done func(error)) {
	a.launches <- struct{}{}
	if s.id == wlm.StepBatch {
		a.addLogin(q)
	}
	ctx, cancel := context.WithTimeout(context.Background(), launchTimeout)
	reply, err := a.launcher.Launch(ctx, q)
	cancel()
	<-a.launches
	a.post(func() { a.launched(s, q, reply, err, done) })
}

func (a *Agent) launched(s *step, q *launchv1.LaunchRequest, reply *launchv1.LaunchReply, err error, done func(error)) {
	kind := errs.KindOf(err)
	switch {
	case kind == errs.Unavail || kind == errs.Exists && s.tries < existsTries:
		// The launcher died under the call: the step may run. Or an earlier
		// launcher, or an earlier run, left its directory. Recover knows.
		if !s.doubted {
			s.doubted = true
			a.Log.Warn("the launcher does not say whether a step runs", "node", a.Node, "job", s.run.job, "step", s.id, "err", err)
		}
		if kind == errs.Exists {
			s.tries++
		}
		s.state = stepUnsure
		go a.findOut(s, q, done)
		return
	case err != nil:
		delete(s.run.steps, s.id)
		s.gone = &launchv1.StepGone{Status: uint32(wlm.ExitStatus(1)), Error: err.Error(), Time: time.Now().Unix()}
		close(s.ended)
		a.Log.Error("launch failed", "node", a.Node, "job", s.run.job, "step", s.id, "err", err)
		if s.id == wlm.StepBatch {
			a.launchFailed(s.run, err)
		} else if s.run.term != nil || s.run.start == nil {
			a.settle(s.run)
		}
	default:
		s.pids, s.socket = reply.GetPids(), reply.GetSocket()
		a.stepRuns(s)
	}
	if done != nil {
		done(err)
	}
}

// existsTries is how often a step is launched again whose directory is there
// and not its own: what is left in it takes a moment to be forgotten.
const existsTries = 100

// findOut looks, away from the loop, for a step whose launch went an unknown
// way, and launches it again when it is not there.
func (a *Agent) findOut(s *step, q *launchv1.LaunchRequest, done func(error)) {
	select {
	case <-a.ended:
		return
	case <-time.After(watchPause):
	}
	ctx, cancel := context.WithTimeout(context.Background(), launchTimeout)
	defer cancel()
	a.look(ctx, func(found *launchv1.RecoverReply, _ map[*step]bool, err error) {
		switch {
		case s.state != stepUnsure || s.gone != nil || err == nil && a.adopt(s, found):
			if done != nil {
				done(nil)
			}
		case err != nil:
			go a.findOut(s, q, done)
		case s.run.term != nil: // it never ran, and need not any more
			a.stepGone(s, &launchv1.StepGone{Status: uint32(wlm.SignalStatus(int(syscall.SIGTERM))), Time: time.Now().Unix()})
			if done != nil {
				done(nil)
			}
		default:
			s.state = stepLaunching
			go a.launch(s, q, done)
		}
	})
}

// stepRuns notes that a step runs.
func (a *Agent) stepRuns(s *step) {
	if s.gone != nil {
		return
	}
	s.state = stepRunning
	if s.id == wlm.StepBatch {
		if s.run.start != nil {
			a.startLater(a.batchRecord(s), func() bool { return s.gone == nil })
		}
	}
	a.sendSignals(s)
}

// launchFailed reports a job that never ran here.
func (a *Agent) launchFailed(r *run, err error) {
	kind := errs.KindOf(err)
	reason := "batch job launch failed: " + err.Error()
	a.report(&nodev1.Report{Body: &nodev1.Report_LaunchFailed{LaunchFailed: &nodev1.LaunchFailed{
		Job: uint32(r.job), Restarts: r.restarts, Reason: reason,
		Drain: kind == errs.Internal || kind == errs.Exhausted}}}, func() { a.unsave(r) })
	a.drop(r)
}

// unsave removes the file of a run that is over, unless a later run of the job
// has taken its place.
func (a *Agent) unsave(r *run) {
	if now := a.runs[r.job]; r.log.path != "" && (now == nil || now == r) {
		r.log.remove()
	}
}

// look asks the launcher what is there, away from the loop, and hands the answer
// to then, on the loop, with the steps that ran before. What ended while the
// launcher looked is left out: its answer may be older than that.
func (a *Agent) look(ctx context.Context, then func(found *launchv1.RecoverReply, before map[*step]bool, err error)) error {
	before := make(map[*step]bool)
	a.ask(func() {
		a.looking++
		for _, r := range a.runs {
			for _, s := range r.steps {
				before[s] = s.state == stepRunning
			}
		}
	})
	found, err := a.launcher.Recover(ctx, a.Spool)
	if found == nil {
		found = &launchv1.RecoverReply{}
	}
	a.post(func() {
		found.Steps = slices.DeleteFunc(found.GetSteps(), func(m *launchv1.RunningStep) bool {
			_, ended := a.lately[share{runKey{wlm.JobID(m.GetStep().GetJob()), m.GetRestarts()}, wlm.StepID(m.GetStep().GetStep())}]
			return ended
		})
		if a.looking--; a.looking == 0 {
			clear(a.lately)
		}
		then(found, before, err)
	})
	return err
}

// noteOld notes a step of which a search that goes on may say what was.
func (a *Agent) noteOld(s share) {
	if a.looking > 0 {
		a.lately[s] = struct{}{}
	}
}

// share is this node's share of a step of a run.
type share struct {
	run  runKey
	step wlm.StepID
}

// recoverSteps finds the steps that run or ended while nobody looked.
func (a *Agent) recoverSteps(ctx context.Context) error {
	return a.look(ctx, func(found *launchv1.RecoverReply, before map[*step]bool, err error) {
		if err != nil {
			a.Log.Warn("steps not recovered", "node", a.Node, "err", err)
			return
		}
		a.recovered(found, before)
	})
}

// recovered takes what the launcher found. A step that it did not find is lost
// if it ran before the launcher looked; others were launched meanwhile.
func (a *Agent) recovered(found *launchv1.RecoverReply, before map[*step]bool) {
	seen := make(map[*step]bool)
	for _, m := range found.GetSteps() {
		if m.GetStep().GetNode() != "" && m.GetStep().GetNode() != string(a.Node) {
			continue
		}
		if s := a.foundStep(m); s != nil {
			seen[s] = true
		}
	}
	for _, r := range a.runs {
		for _, s := range r.steps {
			if before[s] && !seen[s] && s.gone == nil {
				a.stepGone(s, &launchv1.StepGone{Status: uint32(wlm.SignalStatus(int(syscall.SIGKILL))), Error: "the launcher lost the step", Time: time.Now().Unix()})
			}
		}
		// A batch job whose script never began: the controller starts it again.
		if first := !a.isFound(); first && r.start != nil && r.steps[wlm.StepBatch] == nil &&
			wlm.JobKind(r.start.GetJob().GetSpec().GetKind()) == wlm.KindBatch && !r.alive() {
			r.log.remove()
			delete(a.runs, r.job)
		}
	}
	if !a.isFound() {
		close(a.found)
	}
}

func (a *Agent) isFound() bool {
	select {
	case <-a.found:
		return true
	default:
		return false
	}
}

// adopt looks for one step among those that the launcher found.
func (a *Agent) adopt(s *step, found *launchv1.RecoverReply) bool {
	for _, m := range found.GetSteps() {
		if m.GetStep().GetJob() == uint32(s.run.job) && m.GetStep().GetStep() == uint32(s.id) {
			return a.foundStep(m) == s
		}
	}
	return false
}

// foundStep takes over a step that the launcher found; nil: it was over.
func (a *Agent) foundStep(m *launchv1.RunningStep) *step {
	job, id := wlm.JobID(m.GetStep().GetJob()), wlm.StepID(m.GetStep().GetStep())
	r := a.runs[job]
	if r == nil || r.restarts != m.GetRestarts() {
		_, told := a.gone[runKey{job, m.GetRestarts()}]
		if m.GetGone() != nil && (told || r != nil) {
			a.forget(m.GetStep(), m.GetRestarts())
			return nil
		}
		if r != nil {
			return nil
		}
		r = &run{job: job, restarts: m.GetRestarts(), uid: m.GetUid(), steps: make(map[wlm.StepID]*step)}
		a.runs[job] = r
	}
	s := r.steps[id]
	if s == nil {
		if _, told := a.gone[r.key()]; told && id == wlm.StepBatch && m.GetGone() != nil {
			a.forget(m.GetStep(), m.GetRestarts())
			return nil
		}
		s = a.newStep(r, id, m.GetTaskIds())
	}
	if s.state == stepLaunching && len(m.GetPids()) == 0 && m.GetGone() == nil {
		return s // its launch is under way
	}
	s.ids, s.pids, s.socket, s.exits = m.GetTaskIds(), m.GetPids(), m.GetSocket(), m.GetExits()
	if s.state != stepRunning {
		a.stepRuns(s)
	}
	if m.GetGone() != nil {
		a.stepGone(s, m.GetGone())
	} else if id != wlm.StepBatch && s.sessions == 0 {
		a.orphaned(s)
	}
	return s
}

// happened takes what the launcher tells of a step.
func (a *Agent) happened(h *launchv1.Happening) {
	r := a.runs[wlm.JobID(h.GetStep().GetJob())]
	if r == nil || r.restarts != h.GetRestarts() {
		return
	}
	s := r.steps[wlm.StepID(h.GetStep().GetStep())]
	if s == nil {
		return
	}
	if t := h.GetTask(); t != nil && !slices.ContainsFunc(s.exits, func(x *launchv1.TaskExit) bool { return x.GetTaskId() == t.GetTaskId() }) {
		s.exits = append(s.exits, t)
	}
	if g := h.GetGone(); g != nil {
		a.stepGone(s, g)
	}
}

// stepGone: nothing of a step is left on this node.
func (a *Agent) stepGone(s *step, g *launchv1.StepGone) {
	if s.gone != nil {
		return
	}
	s.gone = g
	close(s.ended)
	a.noteOld(share{s.run.key(), s.id})
	if g.GetError() != "" {
		a.Log.Warn("step ended", "node", a.Node, "job", s.run.job, "step", s.id, "err", g.GetError())
	}
	r := s.run
	if gr := r.grants[s.id]; gr != nil {
		gr.here = g
	}
	if s.id != wlm.StepBatch {
		a.forgetLater(s)
		a.settle(r)
		return
	}
	delete(r.steps, s.id)
	clean := !r.alive()
	if clean || r.term != nil {
		a.endGrants(r)
	}
	ref := a.ref(s)
	a.report(a.endReport(a.batchRecord(s), r.restarts, g, clean), func() {
		if clean {
			a.unsave(r)
		}
		a.forget(ref, r.restarts)
	})
	if clean {
		a.drop(r)
		return
	}
	a.settle(r)
}

// settle finishes a run that is to end and has nothing left here; a node that
// is not the first forgets a run with its last step, once srun knows its end.
func (a *Agent) settle(r *run) {
	switch {
	case a.runs[r.job] != r || r.alive():
	case r.term != nil:
		a.finish(r, false)
	case r.start == nil && !r.untold():
		a.drop(r)
	}
}

// untold reports whether srun may still come to hear how a step ended.
func (r *run) untold() bool {
	for _, s := range r.steps {
		if s.gone != nil && !s.delivered && !s.dropped {
			return true
		}
	}
	return false
}

// finish reports that nothing of a run is left.
func (a *Agent) finish(r *run, unkillable bool) {
	a.endGrants(r)
	a.jobGone(r.key(), unkillable)
	a.unsave(r)
	a.drop(r)
}

func (a *Agent) jobGone(k runKey, unkillable bool) {
	a.noteOver(k)
	a.report(&nodev1.Report{Body: &nodev1.Report_JobGone{JobGone: &nodev1.JobGone{
		Job: uint32(k.job), Restarts: k.restarts, Unkillable: unkillable}}}, nil)
}

// drop takes a run off the node's books. Steps of it that ended are forgotten.
func (a *Agent) drop(r *run) {
	if a.runs[r.job] == r {
		delete(a.runs, r.job)
	}
	if r.start != nil || r.term != nil {
		a.noteOver(r.key())
	}
	if r.term != nil && r.term.kill != nil {
		r.term.kill.Stop()
	}
	r.refuseWaiting(errs.Coded("agent.CreateStep", errs.AlreadyDone))
	for _, s := range r.steps {
		if s.gone != nil && s.sessions == 0 {
			a.forgetNow(s)
		}
	}
	if m := r.next; m != nil {
		r.next = nil
		if err := a.startJob(m); err != nil {
			a.Log.Warn("order not carried out", "node", a.Node, "job", r.job, "err", err)
		}
	}
}

// lingerFor is how long an ended step waits for srun to come back and hear of
// it.
const lingerFor = time.Minute

// forgetLater drops an ended step's directory once srun knows its end.
func (a *Agent) forgetLater(s *step) {
	switch {
	case s.gone == nil || s.sessions > 0 || s.dropped:
	case s.delivered || a.runs[s.run.job] != s.run:
		a.forgetNow(s)
	default:
		a.after(lingerFor, func() {
			if s.sessions == 0 {
				a.forgetNow(s)
			}
		})
	}
}

func (a *Agent) forgetNow(s *step) {
	if s.dropped || s.id == wlm.StepBatch {
		return
	}
	s.dropped = true
	if s.run.steps[s.id] == s {
		delete(s.run.steps, s.id)
	}
	a.forget(a.ref(s), s.run.restarts)
	// The grant of an srun that never came back ends with it.
	if g := s.run.grants[s.id]; g != nil && !s.delivered {
		a.endStep(s.run, s.id, wlm.WaitStatus(s.gone.GetStatus()), true)
	}
	a.settle(s.run)
}

// orphanAfter is how long a step runs on after srun was lost.
const orphanAfter = time.Minute

// orphaned ends a step to which srun does not come back.
func (a *Agent) orphaned(s *step) {
	if s.orphan != nil {
		s.orphan.Stop()
	}
	s.orphan = a.after(orphanAfter, func() {
		if s.sessions == 0 && s.gone == nil {
			a.Log.Warn("srun is gone; its step is ended", "node", a.Node, "job", s.run.job, "step", s.id)
			a.signal(s, signalling{signals: []syscall.Signal{syscall.SIGCONT, syscall.SIGTERM}})
			a.after(a.KillWait, func() { a.signal(s, signalling{signals: []syscall.Signal{syscall.SIGKILL}}) })
		}
	})
}

// batchRecord is the batch step as accounting knows it.
func (a *Agent) batchRecord(s *step) *wlm.Step {
	r := s.run
	rec := &wlm.Step{Job: r.job, ID: wlm.StepBatch, Name: "batch", User: wlm.UID(r.uid), State: wlm.Running, Start: s.began,
		NodeList: string(a.Node), Nodes: 1, NTasks: 1, KilledBy: wlm.Unset, Restarts: r.restarts}
	if r.facts != nil && len(r.facts.Nodes) > 0 {
		rec.CPUs, rec.Mem = uint32(r.facts.Nodes[0].CPUs.Count()), r.facts.Nodes[0].Mem
	}
	rec.TRES = tres(rec)
	return rec
}

func tres(s *wlm.Step) string {
	out := fmt.Sprintf("cpu=%d", s.CPUs)
	if s.Mem > 0 {
		out += fmt.Sprintf(",mem=%dM", s.Mem)
	}
	return out + fmt.Sprintf(",node=%d", s.Nodes)
}

// gresTRES is what a step has of generic resources, as accounting counts it.
func gresTRES(g *steps.Grant) string {
	sum := map[string]uint64{}
	for _, s := range g.Shares {
		for _, u := range s.Gres {
			if sum["gres/"+u.Name] += u.Count; u.Type != "" {
				sum["gres/"+u.Name+":"+u.Type] += u.Count
			}
		}
	}
	out := ""
	for _, name := range slices.Sorted(maps.Keys(sum)) {
		if sum[name] > 0 {
			out += fmt.Sprintf(",%s=%d", name, sum[name])
		}
	}
	return out
}

// stepRecord is a granted step as accounting knows it.
func (a *Agent) stepRecord(r *run, g *steps.Grant, q *nodev1.CreateStepRequest) *wlm.Step {
	rec := &wlm.Step{Job: r.job, ID: g.Step, Name: q.GetName(), User: wlm.UID(r.uid), State: wlm.Running,
		Start: wlm.TimeOf(time.Now()), Nodes: uint32(len(g.Shares)), NTasks: g.NTasks, Dist: g.Dist, KilledBy: wlm.Unset,
		TimeLimit: wlm.Minutes(q.GetTimeLimit()), SrunHost: q.GetSrunHost(), SrunPID: q.GetSrunPid(),
		SubmitCmd: q.GetSubmitCmd(), Restarts: r.restarts}
	if g.Step == wlm.StepInteractive && rec.Name == "" {
		rec.Name = "interactive"
	}
	var names []string
	for _, s := range g.Shares {
		n := r.facts.Nodes[s.Index]
		names = append(names, string(n.Name))
		rec.CPUs += uint32(s.CPUs.Count())
		mem := s.Mem
		if mem == 0 {
			mem = n.Mem
		}
		rec.Mem += mem
	}
	rec.NodeList = hostlist.Compress(names)
	rec.TRES = tres(rec) + gresTRES(g)
	return rec
}

// endReport closes a step's record with how it ended here.
func (a *Agent) endReport(rec *wlm.Step, restarts uint32, g *launchv1.StepGone, clean bool) *nodev1.Report {
	rec.End = wlm.Time(g.GetTime())
	if rec.End == 0 {
		rec.End = wlm.TimeOf(time.Now())
	}
	rec.Status = wlm.WaitStatus(g.GetStatus())
	r := a.runs[rec.Job]
	switch {
	case g.GetOom():
		rec.State, rec.Status = wlm.OutOfMemory, wlm.SignalStatus(oomSignal)
	case r != nil && r.term != nil:
		rec.State = wlm.Cancelled
	case rec.Status.Signal() != 0:
		rec.State = wlm.Cancelled // as Slurm calls it, whoever sent the signal
	case rec.Status == 0:
		rec.State = wlm.Completed
	default:
		rec.State = wlm.Failed
	}
	addUsage(rec, g.GetUsage())
	return &nodev1.Report{Body: &nodev1.Report_StepEnded{StepEnded: &nodev1.StepEnded{
		Step: wire.StepToWire(rec), Clean: clean, Restarts: restarts, Oom: g.GetOom()}}}
}

// oomSignal is what Slurm shows as the signal of a step that ran out of memory.
const oomSignal = 125

func addUsage(rec *wlm.Step, u *launchv1.Usage) {
	const second, mib = 1e6, 1024
	rec.UserSec, rec.UserUsec = uint32(u.GetUserUsec()/second), uint32(u.GetUserUsec()%second)
	rec.SysSec, rec.SysUsec = uint32(u.GetSysUsec()/second), uint32(u.GetSysUsec()%second)
	rec.MaxRSS = wlm.MiB((u.GetMaxRssKib() + mib - 1) / mib)
}

// endStep frees a granted step's resources, reports its end and admits those
// who waited.
func (a *Agent) endStep(r *run, id wlm.StepID, status wlm.WaitStatus, cancelled bool) {
	g := r.grants[id]
	if g == nil {
		return
	}
	delete(r.grants, id)
	gone := &launchv1.StepGone{Status: uint32(status), Usage: g.here.GetUsage(), Oom: g.here.GetOom()}
	rep := a.endReport(g.rec, r.restarts, gone, false)
	if e := rep.GetStepEnded(); cancelled && !gone.GetOom() {
		e.Step.State = uint32(wlm.Cancelled)
	}
	a.report(rep, nil)
	if err := r.log.append(false, appendRecord(nil, recEnded, binary.BigEndian.AppendUint32(nil, uint32(id)))); err != nil && a.runs[r.job] == r {
		a.Log.Warn("the end of a step is not on disk", "job", r.job, "step", id, "err", err)
	}
	r.admit(r.mgr.End(id))
}

// endGrants closes the steps of a run that ends.
func (a *Agent) endGrants(r *run) {
	r.refuseWaiting(errs.Coded("agent.CreateStep", errs.AlreadyDone))
	for id := range r.grants {
		a.endStep(r, id, wlm.WaitStatus(r.grants[id].here.GetStatus()), true)
	}
}

// admission is the answer to a request that waited for its step.
type admission struct {
	grant *steps.Grant
	err   error
}

func (r *run) admit(out []steps.Admitted) {
	for _, x := range out {
		if ch := r.waiting[x.Ticket]; ch != nil {
			delete(r.waiting, x.Ticket)
			ch <- admission{grant: x.Grant}
		}
	}
}

func (r *run) refuseWaiting(err error) {
	for t, ch := range r.waiting {
		delete(r.waiting, t)
		r.mgr.Cancel(t)
		ch <- admission{err: err}
	}
}
