package submit

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/sluice-hpc/sluice/sdk/client"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/request"
)

const (
	patience         = 500 * time.Millisecond // before a wait is worth a message
	immediateDefault = 1                      // seconds, as --immediate without a value
)

// ErrRevoked: the allocation ended before it began, and the user was told.
var ErrRevoked = errors.New("the allocation was revoked")

// Queue tells the user that a job waits, and that it waits no longer.
type Queue interface {
	Waits(job uint32)
	Started(job uint32)
}

// Allocate submits m and waits until the allocation begins. An interrupt
// meanwhile cancels the job; so does the end of --immediate's time.
func (c *Command) Allocate(ctx context.Context, m *ctlv1.SubmitRequest, q Queue) (*ctlv1.JobInfo, error) {
	stops := make(chan os.Signal, 1)
	signal.Notify(stops, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(stops)
	r, err := c.Send(ctx, m)
	if err != nil {
		return nil, err
	}
	id := r.GetJobId()
	if started(r.GetJob()) {
		return r.GetJob(), nil
	}
	return c.await(ctx, id, stops, q)
}

func started(j *ctlv1.JobInfo) bool {
	s := wlm.JobState(j.GetJob().GetState())
	return (s == wlm.Running || s == wlm.Suspended) && j.GetJob().GetAlloc() != nil
}

func (c *Command) await(ctx context.Context, id uint32, stops <-chan os.Signal, q Queue) (*ctlv1.JobInfo, error) {
	wctx, cancel := context.WithCancel(ctx)
	defer cancel()
	news := make(chan *ctlv1.JobInfo)
	fail := make(chan error, 1)
	go func() {
		fail <- c.Client.WatchJob(wctx, &ctlv1.WatchJobRequest{Job: id, UntilStarted: true}, func(j *ctlv1.JobInfo) error {
			select {
			case news <- j:
				return nil
			case <-wctx.Done():
				return client.ErrStop
			}
		})
	}()
	told := false
	tell := func() {
		if !told {
			told = true
			q.Waits(id)
		}
	}
	slow := time.NewTimer(patience)
	defer slow.Stop()
	limit := c.limit()
	for {
		select {
		case j := <-news:
			state := wlm.JobState(j.GetJob().GetState())
			switch {
			case started(j):
				if told {
					q.Started(id)
				}
				return j, nil
			case state.Ended():
				c.Infof("Job allocation %d has been revoked.", id)
				return nil, ErrRevoked
			case state == wlm.Pending && waits(j):
				tell()
			}
		case err := <-fail:
			if err == nil {
				err = errs.Newf("submit.Allocate", errs.Unavail, "the controller stopped telling about job %d before it started", id)
			}
			return nil, err
		case <-slow.C:
			tell()
		case <-limit:
			c.revoke(id)
			return nil, errs.Coded("submit.Allocate", errs.NodesBusy)
		case <-stops:
			c.revoke(id)
			c.Infof("Job allocation %d has been revoked.", id)
			return nil, ErrRevoked
		}
	}
}

// waits: a pass found no place for the job, so it will take a while.
func waits(j *ctlv1.JobInfo) bool {
	none := func(r uint32) bool { return wlm.Reason(r) == wlm.ReasonNone }
	return !none(j.GetOutlook().GetReason()) || !none(j.GetJob().GetReason())
}

// limit ends --immediate's patience; nil when there is none.
func (c *Command) limit() <-chan time.Time {
	if !c.Request.Spec.Immediate {
		return nil
	}
	n := max(c.Request.ImmediateSeconds, immediateDefault)
	return time.After(time.Duration(n) * time.Second)
}

// ImmediateExit is the exit code when --immediate was not possible.
func (c *Command) ImmediateExit(err error, code int) int {
	if v, ok := c.Context.Env("SLURM_EXIT_IMMEDIATE"); ok && errs.CodeOf(err) == errs.NodesBusy {
		if n, err := strconv.Atoi(v); err == nil && n > 0 && n < 256 {
			return n
		}
	}
	return code
}

// revoke cancels the job, whatever became of the caller.
func (c *Command) revoke(id uint32) {
	ctx, cancel := context.WithTimeout(context.Background(), c.Conf.MessageTimeout)
	defer cancel()
	_, err := c.Client.Controller.Signal(ctx, &ctlv1.SignalRequest{Filter: &ctlv1.JobFilter{Refs: []*ctlv1.JobRef{{Job: id}}}})
	if err != nil {
		c.Failure("cannot cancel job "+strconv.FormatUint(uint64(id), 10), err)
	}
}

// Release ends an allocation with the status of what ran in it.
func (c *Command) Release(id uint32, status wlm.WaitStatus) error {
	ctx, cancel := context.WithTimeout(context.Background(), c.Conf.MessageTimeout)
	defer cancel()
	_, err := c.Client.Controller.Complete(ctx, &ctlv1.CompleteRequest{Job: id, Status: uint32(status)})
	switch errs.CodeOf(err) {
	case errs.AlreadyDone, errs.InvalidJobID:
		return nil
	}
	return err
}

// CPUsPerNode lists the CPUs that an allocation has on each node.
func CPUsPerNode(j *ctlv1.JobInfo) []int {
	var out []int
	for _, n := range j.GetJob().GetAlloc().GetNodes() {
		out = append(out, wlm.CPUSet(n.GetCpus()).Count())
	}
	return out
}

// TasksPerNode spreads tasks over nodes in blocks, each node taking as many as
// its CPUs serve; with tasks 0, every node takes that many.
func TasksPerNode(cpus []int, tasks, cpusPerTask, perNode int) []int {
	out := make([]int, len(cpus))
	left := tasks
	for i, n := range cpus {
		room := max(n/max(cpusPerTask, 1), 1)
		if perNode > 0 {
			room = perNode
		}
		if tasks > 0 {
			room = min(room, max(left-(len(cpus)-i-1), 1)) // each later node gets one
			left -= room
		}
		out[i] = room
	}
	if tasks > 0 && left > 0 && len(out) > 0 {
		out[len(out)-1] += left
	}
	return out
}

// AllocEnviron adds what a command in an allocation on this host is told.
func (c *Command) AllocEnviron(e *request.Environ, j *ctlv1.JobInfo) {
	job := j.GetJob()
	s := &c.Request.Spec
	cpus := CPUsPerNode(j)
	e.SetNumber("SLURM_JOB_ID", uint64(job.GetId()))
	e.SetNumber("SLURM_JOBID", uint64(job.GetId()))
	e.Set("SLURM_JOB_NODELIST", j.GetNodelist())
	e.Set("SLURM_NODELIST", j.GetNodelist())
	e.SetNumber("SLURM_JOB_NUM_NODES", uint64(len(cpus)))
	e.SetNumber("SLURM_NNODES", uint64(len(cpus)))
	e.Set("SLURM_JOB_CPUS_PER_NODE", wlm.FormatCPURep(cpus))
	e.Set("SLURM_TASKS_PER_NODE", wlm.FormatCPURep(TasksPerNode(cpus, int(s.NTasks), int(s.CPUsPerTask), int(s.TasksPerNode))))
	e.Set("SLURM_JOB_PARTITION", job.GetPartition())
	for name, v := range map[string]string{"SLURM_JOB_ACCOUNT": job.GetSpec().GetAccount(), "SLURM_JOB_QOS": job.GetSpec().GetQos(),
		"SLURM_JOB_RESERVATION": s.Reservation} {
		if v != "" {
			e.Set(name, v)
		}
	}
	e.Set("SLURM_CLUSTER_NAME", c.Conf.ClusterName)
	e.Set("SLURM_CONF", c.Conf.Path)
	if a := j.GetAddrs(); len(a) > 0 {
		e.Set(request.StepManager, a[0].GetAddr())
	}
}
