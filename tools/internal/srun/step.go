package srun

import (
	"context"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/launch/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/wlm/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/request"
	"github.com/sluice-hpc/sluice/tools/internal/submit"
)

// allTasks as a task id is every task.
const allTasks = math.MaxUint32

// step is a step from its request to its end.
type step struct {
	*submit.Command
	job     uint32
	manager string         // host:port of the job's first node
	alloc   *ctlv1.JobInfo // nil inside of an allocation that srun did not ask about

	api   nodev1.NodeAPIClient // of manager
	conn  io.Closer
	reply *nodev1.CreateStepReply
	nodes []*node
	work  *launchv1.Work
	out   *output

	status *tasks

	restore func() // gives the terminal back; may be called twice
}

// String is how messages name the step.
func (s *step) String() string {
	return "StepId=" + wlm.JobID(s.job).String() + "." + wlm.StepID(s.reply.GetStep()).String()
}

// run takes the step from creation to its end. The second result is what the
// allocation ends with.
func (s *step) run(ctx context.Context) (int, wlm.WaitStatus) {
	sigs := newSignals()
	defer sigs.stop()
	if err := s.create(ctx, sigs); err != nil {
		if !errors.Is(err, submit.ErrRevoked) {
			return s.failCreate(err), wlm.ExitStatus(1)
		}
		return 1, wlm.ExitStatus(1)
	}
	defer s.conn.Close()
	if err := s.prepare(); err != nil {
		s.end(wlm.ExitStatus(1), true)
		return s.Fail("", err), wlm.ExitStatus(1)
	}
	s.restore = s.terminal()
	defer s.restore()
	code, status := s.supervise(ctx, sigs)
	s.out.close()
	s.end(status, s.status.killed)
	return code, status
}

// failCreate tells why there is no step.
func (s *step) failCreate(err error) int {
	if errs.CodeOf(err) == errs.InvalidJobID && s.alloc == nil {
		return s.expired(err)
	}
	what := "Unable to create step for job " + wlm.JobID(s.job).String()
	if errs.CodeOf(err) == errs.InvalidGres { // which a submission tells without a word before it
		s.Failure(what, err)
		return 1
	}
	return s.ImmediateExit(err, s.Fail(what, err))
}

// create gets the step from the step manager.
func (s *step) create(ctx context.Context, sigs *signals) (err error) {
	if s.api, s.conn, err = s.Client.Node(ctx, s.manager); err != nil {
		return err
	}
	m := s.message()
	s.reply, err = s.ask(ctx, m, sigs)
	if errs.CodeOf(err) == errs.NodesBusy && !s.Request.Spec.Immediate {
		s.Infof("Job %d step creation temporarily disabled, retrying (%s)", s.job, errs.NodesBusy)
		m.Wait = true
		if s.reply, err = s.ask(ctx, m, sigs); err == nil {
			s.Infof("Step created for %s", s)
		}
	}
	if err != nil {
		s.conn.Close()
	}
	return err
}

// firstSight is the first pause while the node has not yet heard of a job
// that the controller has started.
const firstSight = 2 * time.Millisecond

// ask calls CreateStep; an interrupt gives up. A node that does not know the
// job yet is asked again for a while if the controller has just started it.
func (s *step) ask(ctx context.Context, m *nodev1.CreateStepRequest, sigs *signals) (*nodev1.CreateStepReply, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	interrupted := sigs.interruptOf(ctx, cancel)
	deadline := time.Now().Add(s.Conf.MessageTimeout)
	for pause := firstSight; ; pause = min(2*pause, 100*time.Millisecond) {
		r, err := s.api.CreateStep(ctx, m)
		if interrupted() {
			return nil, submit.ErrRevoked
		}
		if errs.CodeOf(err) != errs.InvalidJobID || s.alloc == nil || time.Now().After(deadline) {
			return r, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// message is what the step manager is asked for.
func (s *step) message() *nodev1.CreateStepRequest {
	r, q := s.Request, &s.Request.Spec
	name := q.Name
	if r.Given("job-name") != request.FromCommand {
		name = request.CommandName(r.Args[0])
	}
	m := &nodev1.CreateStepRequest{
		Job: s.job, Name: name,
		MinNodes: q.MinNodes, MaxNodes: q.MaxNodes, Ntasks: q.NTasks, CpusPerTask: q.CPUsPerTask, TasksPerNode: q.TasksPerNode,
		Nodelist: q.ReqNodes, Exclude: q.ExcNodes,
		MemPerNode: uint64(q.MemPerNode), MemPerCpu: uint64(q.MemPerCPU), MemAll: q.MemAll,
		Exact: r.Step.Exact, Overlap: r.Step.Overlap, Whole: r.Step.Whole, Overcommit: q.Overcommit,
		Distribution: q.Distribution, SubmitCmd: q.SubmitLine, SrunHost: request.Hostname(), SrunPid: uint32(os.Getpid()),
		Interactive: r.Step.Interactive, Gres: q.TresPerNode, Relative: r.Step.Relative, ThreadsPerCore: q.ThreadsPerCore,
		TresPerStep: q.TresPerJob, TresPerTask: q.TresPerTask, TresPerSocket: q.TresPerSocket, TasksPerGpu: q.TasksPerGPU,
	}
	if r.Step.NoGres {
		m.Gres = "none"
	}
	if q.TimeLimit != wlm.Unlimited && r.Given("time") == request.FromCommand {
		m.TimeLimit = uint32(q.TimeLimit)
	}
	return m
}

// tresBind is which GPUs each task sees: as asked, or as follows from how many
// each task has, or how many tasks each GPU.
func tresBind(q *wlm.Spec) string {
	for _, o := range []string{"gpu-bind", "tres-bind"} {
		if text := q.Option(o); text != "" {
			return text
		}
	}
	counts, _ := wlm.ParseGres(q.TresPerTask)
	for _, c := range counts {
		if c.Name == "gpu" && c.Count > 0 {
			return "per_task:" + strconv.FormatUint(c.Count, 10)
		}
	}
	if q.TasksPerGPU > 0 {
		return "single:" + strconv.FormatUint(uint64(q.TasksPerGPU), 10)
	}
	return ""
}

// prepare makes the work and the outputs of the step that was created.
func (s *step) prepare() error {
	r, q := s.Request, &s.Request.Spec
	s.status = newTasks(s)
	s.makeNodes()
	s.work = &launchv1.Work{
		Argv: r.Args, Cwd: q.WorkDir, Umask: r.Umask(), CpuBind: q.CPUBind, MemBind: q.MemBind, TresBind: tresBind(q),
		Distribution:  q.Distribution,
		KillOnBadExit: s.killOnBadExit(), Label: r.Step.Label, Unbuffered: r.Step.Unbuffered, Mpi: r.Step.MPI,
		TaskProlog: r.Step.TaskProlog, TaskEpilog: r.Step.TaskEpilog, Pty: r.Step.Pty,
	}
	for _, l := range q.Limits {
		s.work.Limits = append(s.work.Limits, &wlmv1.RLimit{Name: l.Name, Soft: l.Soft, Hard: l.Hard})
	}
	if r.Step.MultiProg {
		text, err := os.ReadFile(programs(r))
		if err != nil {
			return err
		}
		s.work.MultiProg, s.work.MultiProgText = true, string(text)
	}
	if err := s.streams(); err != nil {
		return err
	}
	s.work.Env = s.environ().List()
	return nil
}

// makeNodes lists the step's nodes with their tasks.
func (s *step) makeNodes() {
	ids := s.reply.GetTaskIds()
	for i, n := range s.reply.GetNodes() {
		count := 0
		if i < len(s.reply.GetTasks()) {
			count = min(int(s.reply.GetTasks()[i]), len(ids))
		}
		s.nodes = append(s.nodes, &node{step: s, index: uint32(i), name: n.GetName(), addr: n.GetAddr(), tasks: ids[:count],
			up: make(chan struct{})})
		for _, id := range ids[:count] {
			s.status.add(id, s.nodes[i])
		}
		ids = ids[count:]
	}
}

func (s *step) killOnBadExit() bool {
	if k := s.Request.Step.KillOnBadExit; k != wlm.Unsaid {
		return k == wlm.Yes
	}
	v, _, _ := s.Conf.Lookup("KillOnBadExit")
	return v != "" && v != "0" && !strings.EqualFold(v, "no")
}

// waitTime is how long tasks may outlive the first one, in seconds; 0: any time.
func (s *step) waitTime() uint32 {
	if s.Request.Step.Wait != wlm.Unset {
		return s.Request.Step.Wait
	}
	return uint32(s.Conf.Seconds("WaitTime", 0) / time.Second)
}

// environ is the environment of the tasks: that of srun as --export lets it
// through, the facts of the allocation, and those of the step.
func (s *step) environ() *request.Environ {
	r, q := s.Request, &s.Request.Spec
	e := request.NewEnviron(s.Env)
	e.Export(q.ExportEnv)
	if q.ExportEnv != "" {
		e.Set("SLURM_EXPORT_ENV", q.ExportEnv)
	}
	if r.Step.Job == 0 {
		e.Set("SLURM_SUBMIT_DIR", s.Context.Cwd)
		e.Set("SLURM_SUBMIT_HOST", request.Hostname())
		e.Set("SLURM_JOB_NAME", q.Name)
	}
	if s.alloc != nil {
		s.AllocEnviron(e, s.alloc)
	}
	for _, v := range s.reply.GetJobEnv() {
		name, value, _ := strings.Cut(v, "=")
		if _, had := e.Get(name); !had || !r.Step.PreserveEnv || !slices.Contains(sizes, name) {
			e.Set(name, value)
		}
	}
	e.Set(request.StepManager, s.manager)
	r.Echo(e)
	s.stepFacts(e)
	return e
}

// sizes are the variables that --preserve-env keeps as the job has them.
var sizes = []string{"SLURM_NTASKS", "SLURM_NPROCS", "SLURM_NNODES", "SLURM_NODELIST", "SLURM_TASKS_PER_NODE"}

func (s *step) stepFacts(e *request.Environ) {
	id := strconv.FormatUint(uint64(s.reply.GetStep()), 10) // also of a step that has a name
	ntasks := uint64(len(s.reply.GetTaskIds()))
	nodes := uint64(len(s.nodes))
	perNode := make([]int, len(s.nodes))
	for i, n := range s.nodes {
		perNode[i] = len(n.tasks)
	}
	layout := wlm.FormatCPURep(perNode)
	host, port, _ := strings.Cut(s.manager, ":")
	for _, v := range [][2]string{
		{"SLURM_STEP_ID", id}, {"SLURM_STEPID", id}, {"SLURM_STEP_NODELIST", s.reply.GetNodelist()},
		{"SLURM_STEP_TASKS_PER_NODE", layout}, {"SLURM_STEP_LAUNCHER_PORT", port},
		{"SLURM_SRUN_COMM_HOST", host}, {"SLURM_SRUN_COMM_PORT", port}, {"SLURM_LAUNCH_NODE_IPADDR", host},
		{"SLURM_UMASK", octal(s.Request.Umask())}, {"SLURMD_DEBUG", "2"}, {"SRUN_DEBUG", strconv.Itoa(3 + s.Request.Verbose)},
	} {
		e.Set(v[0], v[1])
	}
	e.SetNumber("SLURM_STEP_NUM_NODES", nodes)
	e.SetNumber("SLURM_STEP_NUM_TASKS", ntasks)
	if _, ok := e.Get("SLURM_PRIO_PROCESS"); !ok {
		e.Set("SLURM_PRIO_PROCESS", "0")
	}
	if _, had := e.Get("SLURM_NTASKS"); !had || !s.Request.Step.PreserveEnv {
		e.SetNumber("SLURM_NTASKS", ntasks)
		e.SetNumber("SLURM_NPROCS", ntasks)
		e.SetNumber("SLURM_NNODES", nodes)
		e.Set("SLURM_TASKS_PER_NODE", layout)
	}
	if _, ok := e.Get("SLURM_DISTRIBUTION"); !ok && s.Request.Step.Job != 0 {
		e.Set("SLURM_DISTRIBUTION", "block")
	}
	if s.Request.Step.Label {
		e.Set("SLURM_LABELIO", "1")
	}
}

func octal(mask uint32) string {
	t := strconv.FormatUint(uint64(mask), 8)
	const width = 4
	return strings.Repeat("0", max(width-len(t), 0)) + t
}

// end tells the step manager that the step is over.
func (s *step) end(status wlm.WaitStatus, cancelled bool) {
	ctx, cancel := context.WithTimeout(context.Background(), s.Conf.MessageTimeout)
	defer cancel()
	_, err := s.api.EndStep(ctx, &nodev1.EndStepRequest{Job: s.job, Step: s.reply.GetStep(), Status: uint32(status), Cancelled: cancelled})
	if err != nil && errs.CodeOf(err) != errs.InvalidStep && errs.CodeOf(err) != errs.AlreadyDone && errs.CodeOf(err) != errs.InvalidJobID {
		s.Verbosef(1, "cannot tell that %s is over: %v", s, err)
	}
}

func absIn(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
