package agent

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"time"

	"github.com/sluice-hpc/sluice/core/auth"
	"github.com/sluice-hpc/sluice/core/steps"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/launch/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/wire"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"google.golang.org/protobuf/proto"
)

// API serves sluice.node.v1.NodeAPI for the nodes of a process. Callers are
// proven by an auth.Gate before they come here.
type API struct {
	nodev1.UnimplementedNodeAPIServer
	version string
	agents  []*Agent
}

// NewAPI returns the API of these nodes; version is what PingNode answers.
func NewAPI(version string, agents ...*Agent) *API { return &API{version: version, agents: agents} }

// PingNode says who is here; the first node, where there are several.
func (p *API) PingNode(context.Context, *nodev1.PingNodeRequest) (*nodev1.PingNodeReply, error) {
	return &nodev1.PingNodeReply{Node: string(p.agents[0].Node), Version: p.version}, nil
}

// arriveWithin bounds how long a request waits for its job: the controller
// tells srun and the first node at the same time.
const arriveWithin = 10 * time.Second

// firstNode finds the node whose step manager has a job. When none has, it
// waits for the job to arrive.
func (p *API) firstNode(ctx context.Context, op string, job wlm.JobID) (*Agent, error) {
	ctx, cancel := context.WithTimeout(ctx, arriveWithin)
	defer cancel()
	came := make(chan struct{})
	woken := make(chan struct{}, len(p.agents))
	for _, a := range p.agents {
		found := false
		ok := a.ask(func() {
			if r := a.runs[job]; r != nil && r.start != nil {
				found = true
				return
			}
			ch := make(chan struct{})
			a.awaiting[job] = append(a.awaiting[job], ch)
			go func() {
				select {
				case <-ch:
					woken <- struct{}{}
				case <-came:
					a.post(func() { a.unawait(job, ch) })
				}
			}()
		})
		if !ok {
			close(came)
			return nil, errs.Newf(op, errs.Unavail, "slurmd is shutting down")
		}
		if found {
			close(came)
			return a, nil
		}
	}
	defer close(came)
	select {
	case <-woken:
	case <-ctx.Done():
		return nil, errs.Coded(op, errs.InvalidJobID, "job "+job.String()+" has not its first node here")
	}
	for _, a := range p.agents {
		found := false
		a.ask(func() { found = a.runs[job] != nil && a.runs[job].start != nil })
		if found {
			return a, nil
		}
	}
	return nil, errs.Coded(op, errs.AlreadyDone)
}

func (a *Agent) unawait(job wlm.JobID, ch chan struct{}) {
	list := a.awaiting[job]
	for i := range list {
		if list[i] == ch {
			list = append(list[:i:i], list[i+1:]...)
			break
		}
	}
	if len(list) == 0 {
		delete(a.awaiting, job)
		return
	}
	a.awaiting[job] = list
}

// mayAct reports whether the caller of ctx may act on a user's job.
func mayAct(ctx context.Context, op string, uid uint32) error {
	id := auth.From(ctx)
	if id == nil {
		return errs.Coded(op, errs.InvalidAuth)
	}
	if uint32(id.UID) != uid && id.Role < auth.RoleOperator {
		return errs.Coded(op, errs.AccessDenied, "the job belongs to another user")
	}
	return nil
}

// CreateStep gives a step its share of the job, waiting for it if asked to.
func (p *API) CreateStep(ctx context.Context, q *nodev1.CreateStepRequest) (*nodev1.CreateStepReply, error) {
	const op = "agent.CreateStep"
	a, err := p.firstNode(ctx, op, wlm.JobID(q.GetJob()))
	if err != nil {
		return nil, wire.ErrorToStatus(err)
	}
	reply, err := a.createStep(ctx, op, q)
	return reply, wire.ErrorToStatus(err)
}

func (a *Agent) createStep(ctx context.Context, op string, q *nodev1.CreateStepRequest) (reply *nodev1.CreateStepReply, err error) {
	var wait chan admission
	var ticket steps.Ticket
	var r *run
	ok := a.ask(func() {
		if r = a.runs[wlm.JobID(q.GetJob())]; r == nil || r.start == nil || r.term != nil {
			err = errs.Coded(op, errs.AlreadyDone)
			return
		}
		if err = mayAct(ctx, op, r.uid); err != nil {
			return
		}
		a.tickets++
		ticket = a.tickets
		var g *steps.Grant
		if g, err = r.mgr.Ask(ticket, stepRequest(q), q.GetWait()); err != nil {
			return
		}
		if g == nil {
			wait = make(chan admission, 1)
			r.waiting[ticket] = wait
			return
		}
		reply, err = a.grantStep(r, g, q)
	})
	if !ok {
		return nil, errs.Newf(op, errs.Unavail, "slurmd is shutting down")
	}
	if wait == nil {
		return reply, err
	}
	var got admission
	select {
	case got = <-wait:
	case <-ctx.Done():
		a.post(func() {
			select {
			case got := <-wait: // it was admitted just now
				if got.grant != nil {
					r.admit(r.mgr.End(got.grant.Step))
				}
			default:
				delete(r.waiting, ticket)
				r.admit(r.mgr.Cancel(ticket))
			}
		})
		return nil, context.Cause(ctx)
	case <-a.ended:
		return nil, errs.Newf(op, errs.Unavail, "slurmd is shutting down")
	}
	if got.err != nil {
		return nil, got.err
	}
	if !a.ask(func() {
		if a.runs[r.job] != r || r.term != nil {
			err = errs.Coded(op, errs.AlreadyDone)
			return
		}
		reply, err = a.grantStep(r, got.grant, q)
	}) {
		err = errs.Newf(op, errs.Unavail, "slurmd is shutting down")
	}
	return reply, err
}

func stepRequest(q *nodev1.CreateStepRequest) steps.Request {
	r := steps.Request{MinNodes: q.GetMinNodes(), MaxNodes: q.GetMaxNodes(), NTasks: q.GetNtasks(), CPUsPerTask: q.GetCpusPerTask(),
		TasksPerNode: q.GetTasksPerNode(), NodeList: q.GetNodelist(), Exclude: q.GetExclude(), Relative: q.GetRelative(),
		MemPerNode: wlm.MiB(q.GetMemPerNode()), MemPerCPU: wlm.MiB(q.GetMemPerCpu()), Exact: q.GetExact(), Overlap: q.GetOverlap(),
		Whole: q.GetWhole(), Overcommit: q.GetOvercommit(), Distribution: q.GetDistribution(), Interactive: q.GetInteractive(),
		Gres: q.GetGres(), TresPerStep: q.GetTresPerStep(), TresPerTask: q.GetTresPerTask(), TresPerSocket: q.GetTresPerSocket(),
		TasksPerGPU: q.GetTasksPerGpu()}
	if r.Relative == 0 && q.Relative == 0 {
		r.Relative = wlm.Unset
	}
	return r
}

// stepCredentialLife is how long after its creation a step may be launched.
const stepCredentialLife = 10 * time.Minute

// grantStep signs a step and keeps it.
func (a *Agent) grantStep(r *run, g *steps.Grant, q *nodev1.CreateStepRequest) (*nodev1.CreateStepReply, error) {
	now := time.Now()
	nonce := make([]byte, 16)
	if _, err := rand.Read(nonce); err != nil {
		r.admit(r.mgr.End(g.Step))
		return nil, errs.Newf("agent.CreateStep", errs.Internal, "%w", err)
	}
	c := &nodev1.StepCredential{JobCredential: r.start.GetCredential(), JobSignature: r.start.GetSignature(),
		Job: uint32(r.job), Step: uint32(g.Step), Issued: now.Unix(), Expires: now.Add(stepCredentialLife).Unix(),
		Nonce: hex.EncodeToString(nonce), CpusPerTask: g.CPUsPerTask}
	at := make(map[string]*nodev1.NodeAt)
	for _, n := range r.start.GetNodes() {
		at[n.GetName()] = n
	}
	for _, s := range g.Shares {
		n := r.facts.Nodes[s.Index]
		m := &nodev1.NodeAt{Name: string(n.Name), Cpus: uint32(s.CPUs.Count()), CpuSet: s.CPUs, Mem: uint64(s.Mem), Gres: s.GresText()}
		if s.Mem == 0 {
			m.Mem = uint64(n.Mem)
		}
		if o := at[string(n.Name)]; o != nil {
			m.Addr, m.ThreadsPerCore, m.CoresPerSocket, m.Sockets = o.Addr, o.ThreadsPerCore, o.CoresPerSocket, o.Sockets
		}
		c.Nodes = append(c.Nodes, m)
		c.Tasks = append(c.Tasks, uint32(len(s.TaskIDs)))
		c.TaskIds = append(c.TaskIds, s.TaskIDs...)
	}
	msg, err := proto.Marshal(c)
	if err != nil {
		r.admit(r.mgr.End(g.Step))
		return nil, errs.Newf("agent.CreateStep", errs.Internal, "%w", err)
	}
	rec := a.stepRecord(r, g, q)
	reply := &nodev1.CreateStepReply{Step: uint32(g.Step), Credential: msg, Signature: a.signer.Sign(msg),
		Nodes: c.Nodes, Tasks: c.Tasks, TaskIds: c.TaskIds, Nodelist: rec.NodeList,
		JobEnv: r.facts.stepFacts(g, a.GroupName(wlm.GID(r.cred.GetGid())), q.GetCpusPerTask() > 0)}
	if err := a.saveGrant(r, q, reply); err != nil {
		a.Log.Warn("a step is not on disk", "job", r.job, "step", g.Step, "err", err)
	}
	r.grants[g.Step] = &granted{grant: g, rec: rec}
	a.startLater(rec, func() bool { return r.grants[g.Step] != nil })
	return reply, nil
}

func (a *Agent) saveGrant(r *run, q *nodev1.CreateStepRequest, reply *nodev1.CreateStepReply) error {
	qb, err := proto.Marshal(q)
	if err != nil {
		return err
	}
	rb, err := proto.Marshal(&nodev1.CreateStepReply{Step: reply.Step, Credential: reply.Credential})
	if err != nil {
		return err
	}
	return r.log.append(false, appendRecord(appendRecord(nil, recRequest, qb), recGrant, rb))
}

// EndStep frees a step's share: srun saw all its nodes end.
func (p *API) EndStep(ctx context.Context, q *nodev1.EndStepRequest) (*nodev1.SignalStepReply, error) {
	const op = "agent.EndStep"
	err := p.onRun(ctx, op, wlm.JobID(q.GetJob()), func(a *Agent, r *run) error {
		if r.start == nil {
			return errs.Coded(op, errs.InvalidJobID)
		}
		id := wlm.StepID(q.GetStep())
		if s := r.steps[id]; s != nil {
			s.delivered = true
			a.forgetLater(s)
		}
		a.endStep(r, id, wlm.WaitStatus(q.GetStatus()), q.GetCancelled())
		return nil
	})
	return &nodev1.SignalStepReply{}, wire.ErrorToStatus(err)
}

// SignalStep signals this node's share of a step.
func (p *API) SignalStep(ctx context.Context, q *nodev1.SignalStepRequest) (*nodev1.SignalStepReply, error) {
	const op = "agent.SignalStep"
	err := p.onRun(ctx, op, wlm.JobID(q.GetJob()), func(a *Agent, r *run) error {
		return a.signalJob(&nodev1.SignalJob{Job: q.GetJob(), Signal: q.GetSignal(), HasStep: true, Step: q.GetStep()})
	})
	return &nodev1.SignalStepReply{}, wire.ErrorToStatus(err)
}

// StepStats tells what this node's share of a step used so far.
func (p *API) StepStats(ctx context.Context, q *nodev1.StepStatsRequest) (*nodev1.StepStatsReply, error) {
	const op = "agent.StepStats"
	var a *Agent
	var s *step
	err := p.onRun(ctx, op, wlm.JobID(q.GetJob()), func(on *Agent, r *run) error {
		a = on
		if s = r.steps[wlm.StepID(q.GetStep())]; s == nil || s.gone != nil {
			return errs.Coded(op, errs.InvalidStep)
		}
		return nil
	})
	if err != nil {
		return nil, wire.ErrorToStatus(err)
	}
	st, err := a.launcher.Stats(ctx, a.ref(s))
	if err != nil {
		return nil, wire.ErrorToStatus(err)
	}
	return &nodev1.StepStatsReply{Usage: st.GetUsage(), Pids: st.GetPids(), TaskIds: s.ids, TaskPids: s.pids}, nil
}

// awaitFound waits until the node knows its steps: those that ran before a
// restart are there, though not known at once.
func (a *Agent) awaitFound(ctx context.Context, op string) error {
	select {
	case <-a.found:
		return nil
	case <-a.ended:
		return errs.Newf(op, errs.Unavail, "slurmd is shutting down")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// onRun calls f on the loop of every node that has a run of the job, if the
// caller may act on it.
func (p *API) onRun(ctx context.Context, op string, job wlm.JobID, f func(*Agent, *run) error) error {
	err := error(errs.Coded(op, errs.InvalidJobID))
	for _, a := range p.agents {
		if ferr := a.awaitFound(ctx, op); ferr != nil {
			return ferr
		}
		a.ask(func() {
			r := a.runs[job]
			if r == nil {
				return
			}
			if err = mayAct(ctx, op, r.uid); err == nil {
				err = f(a, r)
			}
		})
	}
	return err
}

// verifyStep checks a step's credential: the controller signed the job's,
// which names the key that signed the step's.
func (a *Agent) verifyStep(op string, l *nodev1.RunLaunch, now time.Time) (*nodev1.StepCredential, *nodev1.Credential, error) {
	sc := new(nodev1.StepCredential)
	if err := proto.Unmarshal(l.GetCredential(), sc); err != nil {
		return nil, nil, errs.Coded(op, errs.InvalidCredential, err.Error())
	}
	c, err := a.verifyJob(op, sc.GetJobCredential(), sc.GetJobSignature(), now)
	if err != nil {
		return nil, nil, err
	}
	if err := auth.VerifyCredential(c.GetStepKey(), l.GetCredential(), l.GetSignature()); err != nil {
		return nil, nil, err
	}
	i := int(l.GetNode())
	switch {
	case sc.GetJob() != c.GetJob():
		return nil, nil, errs.Coded(op, errs.InvalidCredential, "the step is of another job")
	case !l.GetAttach() && now.Unix() > sc.GetExpires():
		return nil, nil, errs.Coded(op, errs.InvalidCredential, "the step's credential has expired")
	case i >= len(sc.GetNodes()) || i >= len(sc.GetTasks()) || sc.GetNodes()[i].GetName() != string(a.Node):
		return nil, nil, errs.Coded(op, errs.InvalidCredential, "the step has no share of node "+string(a.Node)+" at that place")
	}
	return sc, c, nil
}

// launchRequest is this node's share of a step.
func (a *Agent) launchRequest(r *run, sc *nodev1.StepCredential, c *nodev1.Credential, l *nodev1.RunLaunch) (*launchv1.LaunchRequest, error) {
	w := proto.Clone(l.GetWork()).(*launchv1.Work)
	at := sc.GetNodes()[l.GetNode()]
	w.Env = taskEnv(w.GetEnv(), a.Node, int(at.GetCpus()), a.Where)
	e := newEnviron(w.Env)
	a.gresEnv(e, "SLURM_STEP_", at.GetGres())
	w.Env = e.list
	q := a.request(r, c, wlm.StepID(sc.GetStep()), w)
	first := 0
	for i := range int(l.GetNode()) {
		first += int(sc.GetTasks()[i])
	}
	q.TaskIds = sc.GetTaskIds()[first:min(first+int(sc.GetTasks()[l.GetNode()]), len(sc.GetTaskIds()))]
	for _, n := range sc.GetTasks() {
		q.Ntasks += n
	}
	q.NodeId, q.Nnodes = l.GetNode(), uint32(len(sc.GetNodes()))
	q.CpuSet, q.Mem, q.CpusPerTask, q.ThreadsPerCore = at.GetCpuSet(), at.GetMem(), sc.GetCpusPerTask(), at.GetThreadsPerCore()
	if r.facts != nil {
		q.JobName = r.facts.Job.Spec.Name
	} else if e := newEnviron(w.GetEnv()); e != nil {
		if i, ok := e.at["SLURM_JOB_NAME"]; ok {
			q.JobName = e.list[i][len("SLURM_JOB_NAME="):]
		}
	}
	return q, a.bindStep(q, at)
}
