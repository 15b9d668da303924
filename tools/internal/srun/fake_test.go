package srun

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/client/clienttest"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/launch/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/wlm/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/submit/submittest"
)

// task is what a pretended task can do.
type task struct {
	id     uint32
	in     chan []byte // closed at the end of input
	signal chan uint32
	print  func(err bool, text string)
}

// cluster pretends a controller and the daemons of all nodes, behind one
// address. Tasks run program, whose result is their wait status.
type cluster struct {
	ctlv1.UnimplementedControllerServer
	nodev1.UnimplementedNodeAPIServer

	nodes   []string // of the step, in order
	perNode int      // tasks of each
	program func(*task) wlm.WaitStatus
	busy    int  // CreateStep says so this often
	pending bool // the submission has to wait
	breaks  bool // the first stream breaks before tasks end
	refuse  string

	addr string
	mu   sync.Mutex
	got  struct {
		submit   *ctlv1.SubmitRequest
		create   []*nodev1.CreateStepRequest
		work     []*launchv1.Work
		end      *nodev1.EndStepRequest
		complete *ctlv1.CompleteRequest
		attached int
	}
}

func (c *cluster) job(state wlm.JobState) *ctlv1.JobInfo {
	j := &wlmv1.Job{Id: 5, State: uint32(state), Spec: &wlmv1.Spec{Account: "research", Qos: "normal"}, Partition: "main"}
	info := &ctlv1.JobInfo{Job: j}
	if state == wlm.Running {
		j.Alloc = &wlmv1.Alloc{}
		for _, n := range c.nodes {
			j.Alloc.Nodes = append(j.Alloc.Nodes, &wlmv1.NodeAlloc{Node: n, Cpus: wlm.FullCPUSet(2)})
			info.Addrs = append(info.Addrs, &ctlv1.NodeAddr{Name: n, Addr: c.addr})
		}
		info.Nodelist = strings.Join(c.nodes, ",")
	}
	return info
}

func (c *cluster) Submit(_ context.Context, r *ctlv1.SubmitRequest) (*ctlv1.SubmitReply, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got.submit = r
	if c.pending {
		return &ctlv1.SubmitReply{JobId: 5, Job: c.job(wlm.Pending)}, nil
	}
	return &ctlv1.SubmitReply{JobId: 5, Job: c.job(wlm.Running)}, nil
}

func (c *cluster) WatchJob(_ *ctlv1.WatchJobRequest, s ctlv1.Controller_WatchJobServer) error {
	waiting := c.job(wlm.Pending)
	waiting.Job.Reason = uint32(wlm.WaitResources)
	if err := s.Send(waiting); err != nil {
		return err
	}
	return s.Send(c.job(wlm.Running))
}

func (c *cluster) Complete(_ context.Context, r *ctlv1.CompleteRequest) (*ctlv1.UpdateReply, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got.complete = r
	return &ctlv1.UpdateReply{}, nil
}

func (c *cluster) CreateStep(_ context.Context, r *nodev1.CreateStepRequest) (*nodev1.CreateStepReply, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got.create = append(c.got.create, r)
	if c.busy > 0 {
		c.busy--
		return nil, errs.Coded("steps", errs.NodesBusy)
	}
	reply := &nodev1.CreateStepReply{Step: 3, Nodelist: strings.Join(c.nodes, ","), JobEnv: []string{"SLURM_JOB_ID=5"}}
	for i, n := range c.nodes {
		reply.Nodes = append(reply.Nodes, &nodev1.NodeAt{Name: n, Addr: c.addr})
		reply.Tasks = append(reply.Tasks, uint32(c.perNode))
		for k := range c.perNode {
			reply.TaskIds = append(reply.TaskIds, uint32(i*c.perNode+k))
		}
	}
	return reply, nil
}

func (c *cluster) EndStep(_ context.Context, r *nodev1.EndStepRequest) (*nodev1.SignalStepReply, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got.end = r
	return &nodev1.SignalStepReply{}, nil
}

// RunStep runs the tasks of one node.
func (c *cluster) RunStep(s nodev1.NodeAPI_RunStepServer) error {
	m, err := s.Recv()
	if err != nil {
		return err
	}
	l := m.GetLaunch()
	c.mu.Lock()
	c.got.work = append(c.got.work, l.GetWork())
	if l.GetAttach() {
		c.got.attached++
	}
	c.mu.Unlock()
	if why, ok := strings.CutPrefix(c.refuse, "launched: "); ok { // and the stream ends
		return s.Send(&nodev1.RunStepOut{Body: &nodev1.RunStepOut_Launched{Launched: &nodev1.Launched{Error: why}}})
	}
	if c.refuse != "" {
		return s.Send(&nodev1.RunStepOut{Body: &nodev1.RunStepOut_Done{Done: &nodev1.StepDone{Error: c.refuse}}})
	}
	launched := &nodev1.Launched{}
	tasks := map[uint32]*task{}
	var sendMu sync.Mutex
	send := func(m *nodev1.RunStepOut) {
		sendMu.Lock()
		defer sendMu.Unlock()
		s.Send(m) //nolint:errcheck // srun may be gone
	}
	for k := range c.perNode {
		t := &task{id: l.GetNode()*uint32(c.perNode) + uint32(k), in: make(chan []byte, 64), signal: make(chan uint32, 8)}
		t.print = func(err bool, text string) {
			send(&nodev1.RunStepOut{Body: &nodev1.RunStepOut_Output{Output: &nodev1.Output{Task: t.id, Err: err, Data: []byte(text)}}})
		}
		tasks[t.id] = t
		launched.TaskIds = append(launched.TaskIds, t.id)
	}
	send(&nodev1.RunStepOut{Body: &nodev1.RunStepOut_Launched{Launched: launched}})
	if c.breaks && !l.GetAttach() {
		return errs.Newf("slurmd", errs.Unavail, "restarting")
	}
	go feed(s, tasks)
	var wg sync.WaitGroup
	for _, t := range tasks {
		wg.Go(func() {
			status := c.program(t)
			send(&nodev1.RunStepOut{Body: &nodev1.RunStepOut_Ended{Ended: &nodev1.TaskEnded{Task: t.id, Status: uint32(status)}}})
		})
	}
	wg.Wait()
	send(&nodev1.RunStepOut{Body: &nodev1.RunStepOut_Done{Done: &nodev1.StepDone{}}})
	return nil
}

func feed(s nodev1.NodeAPI_RunStepServer, tasks map[uint32]*task) {
	open := true
	for {
		m, err := s.Recv()
		if err != nil {
			return
		}
		for id, t := range tasks {
			if in := m.GetStdin(); in != nil && (in.GetTask() == allTasks || in.GetTask() == id) {
				if len(in.GetData()) > 0 {
					t.in <- in.GetData()
				}
				if in.GetEof() && open {
					close(t.in)
				}
			}
			if sig := m.GetSignal(); sig != nil {
				t.signal <- sig.GetSignal()
			}
		}
	}
}

// start serves c and returns the environment of an srun inside its job.
func (c *cluster) start(t testing.TB) []string {
	t.Helper()
	if c.perNode == 0 {
		c.perNode = 1
	}
	if c.nodes == nil {
		c.nodes = []string{"n1"}
	}
	served := clienttest.Serve(t, clienttest.Services{Controller: c, Node: c})
	c.addr = served.Addr
	t.Setenv("SLURM_CONF", served.Conf)
	return []string{"SLURM_JOB_ID=5", "SLUICE_STEP_MANAGER=" + c.addr, "PATH=/bin"}
}

// run runs srun inside of c's job.
func (c *cluster) run(t *testing.T, stdin string, args ...string) submittest.Result {
	t.Helper()
	env := c.start(t)
	return submittest.Run{Dir: t.TempDir(), Args: args, Env: env, Stdin: stdin}.Do(t, "srun", Main)
}

// exits is a program whose task n ends with the n-th status.
func exits(statuses ...wlm.WaitStatus) func(*task) wlm.WaitStatus {
	return func(t *task) wlm.WaitStatus { return statuses[t.id] }
}

// cat copies its input to its output.
func cat(t *task) wlm.WaitStatus {
	for b := range t.in {
		t.print(false, string(b))
	}
	return 0
}

// echo prints its number.
func echo(t *task) wlm.WaitStatus {
	t.print(false, "task "+strconv.Itoa(int(t.id))+"\n")
	return 0
}

// stubborn ends by SIGTERM only.
func stubborn(t *task) wlm.WaitStatus {
	for s := range t.signal {
		if s == 15 {
			return wlm.SignalStatus(15)
		}
	}
	return 0
}

var errReader = errors.New("nobody reads")

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errReader }

var _ io.Writer = brokenPipe{}
