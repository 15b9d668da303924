package salloc

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/client/clienttest"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/wlm/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/submit/submittest"
)

func TestMistakes(t *testing.T) {
	t.Setenv("SLURM_CONF", "/nonexistent/slurm.conf")
	submittest.Golden(t, "testdata/mistakes.txt", nil, Main)
}

// controller grants job 24 on n[1-2], at once or after a wait.
type controller struct {
	ctlv1.UnimplementedControllerServer
	wait  bool
	never bool // the job pends for ever
	err   error
	ends  chan struct{} // closed when the allocation ends by itself

	mu       sync.Mutex
	spec     *wlmv1.Spec
	complete *ctlv1.CompleteRequest
	cancel   *ctlv1.SignalRequest
}

func (c *controller) job(state wlm.JobState) *ctlv1.JobInfo {
	j := &ctlv1.JobInfo{Job: &wlmv1.Job{Id: 24, State: uint32(state), Partition: "main", Spec: &wlmv1.Spec{Account: "research", Qos: "normal"}}}
	if state != wlm.Pending {
		j.Nodelist = "n[1-2]"
		j.Job.Alloc = &wlmv1.Alloc{Nodes: []*wlmv1.NodeAlloc{{Node: "n1", Cpus: wlm.FullCPUSet(2)}, {Node: "n2", Cpus: wlm.FullCPUSet(1)}}}
		j.Addrs = []*ctlv1.NodeAddr{{Name: "n1", Addr: "127.0.0.1:6818"}, {Name: "n2", Addr: "127.0.0.1:6819"}}
	} else {
		j.Job.Reason = uint32(wlm.WaitResources)
	}
	return j
}

func (c *controller) Submit(_ context.Context, r *ctlv1.SubmitRequest) (*ctlv1.SubmitReply, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spec = r.GetSpec()
	if c.err != nil {
		return nil, c.err
	}
	if c.wait || c.never {
		return &ctlv1.SubmitReply{JobId: 24, Job: c.job(wlm.Pending)}, nil
	}
	return &ctlv1.SubmitReply{JobId: 24, Job: c.job(wlm.Running)}, nil
}

func (c *controller) WatchJob(r *ctlv1.WatchJobRequest, s ctlv1.Controller_WatchJobServer) error {
	if r.GetUntilStarted() {
		if err := s.Send(c.job(wlm.Pending)); err != nil {
			return err
		}
		if !c.never {
			return s.Send(c.job(wlm.Running))
		}
	}
	select {
	case <-c.ends:
		return s.Send(c.job(wlm.Timeout))
	case <-s.Context().Done():
		return nil
	}
}

func (c *controller) Complete(_ context.Context, r *ctlv1.CompleteRequest) (*ctlv1.UpdateReply, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.complete = r
	return &ctlv1.UpdateReply{}, nil
}

func (c *controller) Signal(_ context.Context, r *ctlv1.SignalRequest) (*ctlv1.SignalReply, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cancel = r
	return &ctlv1.SignalReply{}, nil
}

func salloc(t *testing.T, c *controller, args ...string) submittest.Result {
	t.Helper()
	if c.ends == nil {
		c.ends = make(chan struct{})
	}
	t.Setenv("SLURM_CONF", clienttest.Serve(t, clienttest.Services{Controller: c}).Conf)
	return submittest.Run{Args: args, Env: []string{"PATH=/bin:/usr/bin"}}.Do(t, "salloc", Main)
}

const granted = "salloc: Granted job allocation 24\nsalloc: Nodes n[1-2] are ready for job\n"

func TestCommandRunsInTheAllocation(t *testing.T) {
	c := &controller{}
	got := salloc(t, c, "-N2", "-n3", "sh", "-c", "env; exit 5")
	if got.Code != 5 || got.Stderr != granted+"salloc: Relinquishing job allocation 24\n" {
		t.Errorf("%+v", got)
	}
	for _, want := range []string{"SLURM_JOB_ID=24", "SLURM_JOBID=24", "SLURM_JOB_CPUS_PER_NODE=2,1", "SLURM_TASKS_PER_NODE=2,1", "SLURM_NTASKS=3",
		"SLURM_NPROCS=3", "SLURM_JOB_NODELIST=n[1-2]", "SLURM_NNODES=2", "SLURM_JOB_NAME=interactive", "SLURM_JOB_ACCOUNT=research", "SLURM_JOB_QOS=normal",
		"SLURM_CLUSTER_NAME=test", "SLURM_JOB_PARTITION=main", "SLUICE_STEP_MANAGER=127.0.0.1:6818"} {
		if !strings.Contains(got.Stdout, want+"\n") {
			t.Errorf("no %s in\n%s", want, got.Stdout)
		}
	}
	if wlm.WaitStatus(c.complete.GetStatus()) != wlm.ExitStatus(5) || wlm.JobKind(c.spec.GetKind()) != wlm.KindAlloc {
		t.Errorf("complete %v, spec %v", c.complete, c.spec)
	}
}

func TestWaitIsTold(t *testing.T) {
	got := salloc(t, &controller{wait: true}, "--no-shell")
	want := "salloc: Pending job allocation 24\nsalloc: job 24 queued and waiting for resources\n" +
		"salloc: job 24 has been allocated resources\n" + granted
	if got.Code != 0 || got.Stderr != want {
		t.Errorf("%+v", got)
	}
}

func TestQuietSaysNothing(t *testing.T) {
	if got := salloc(t, &controller{wait: true}, "-Q", "true"); got.Stderr != "" || got.Code != 0 {
		t.Errorf("%+v", got)
	}
}

func TestImmediateGivesUp(t *testing.T) {
	c := &controller{never: true}
	got := salloc(t, c, "-I1", "true")
	if got.Code != 1 || !strings.HasSuffix(got.Stderr, "salloc: error: Job submit/allocate failed: Requested nodes are busy\n") {
		t.Errorf("%+v", got)
	}
	if c.cancel.GetFilter().GetRefs()[0].GetJob() != 24 {
		t.Errorf("cancel %v", c.cancel)
	}
}

func TestRefusal(t *testing.T) {
	got := salloc(t, &controller{err: errs.Coded("x", errs.InvalidPartition, "invalid partition specified: nopart")}, "-p", "nopart", "true")
	want := "salloc: error: invalid partition specified: nopart\nsalloc: error: Job submit/allocate failed: Invalid partition name specified\n"
	if got.Code != 1 || got.Stderr != want {
		t.Errorf("%+v", got)
	}
}

func TestRevokedAllocationSignalsTheCommand(t *testing.T) {
	c := &controller{ends: make(chan struct{})}
	close(c.ends)
	got := salloc(t, c, "-KUSR1", "sleep", "60")
	if got.Code != 128+10 || got.Stderr != granted+"salloc: Job allocation 24 has been revoked.\n" || c.complete != nil {
		t.Errorf("%+v", got)
	}
}

func TestCommandThatCannotRun(t *testing.T) {
	c := &controller{}
	got := salloc(t, c, "/nonexistent/command")
	if got.Code != 1 || got.Stderr != granted+"salloc: error: Unable to exec \"/nonexistent/command\": No such file or directory\n"+
		"salloc: Relinquishing job allocation 24\n" || c.complete == nil {
		t.Errorf("%+v", got)
	}
}
