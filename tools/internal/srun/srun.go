// Package srun is the command srun: it runs a step, in the allocation that it
// is called in or in one of its own.
//
// The parties are srun, the controller, and the node daemons of the step; the
// one of the job's first node manages the job's steps.
//
//  1. Without an allocation: submit, wait until the job runs (the controller).
//  2. Create the step (first node). When its resources are busy, the user is
//     told, and the same question is asked again, this time to be answered
//     when they are free.
//  3. Open a stream to every node of the step and launch. Output, task ends
//     and the node's end come back; input and signals go there.
//  4. End the step (first node), and the allocation if it is ours.
//
// A stream that breaks is opened again and attached to the running step: a
// daemon that restarts disturbs nobody. Inside an allocation the controller
// is not asked at all.
//
// Protocol and exit code are Slurm's: the highest of the tasks' codes, 128
// and the signal for a task that a signal ended.
package srun

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/request"
	"github.com/sluice-hpc/sluice/tools/internal/submit"
)

// mpis are the MPI types that steps can have.
var mpis = []string{"none"}

// Main runs the command and returns its exit code.
func Main(ctx context.Context, p *submit.Process) int {
	c, code, done := submit.Start(request.Srun, p, nil)
	if done {
		return code
	}
	defer c.Close()
	r := c.Request
	if r.Step.MPI == "list" {
		io.WriteString(p.Stdout, "MPI plugin types are...\n\t"+strings.Join(mpis, "\n\t")+"\n") //nolint:errcheck // nowhere to tell
		return 0
	}
	if code := check(c); code != 0 {
		return code
	}
	if err := c.Connect(ctx); err != nil {
		return c.FailSubmit(err)
	}
	if r.Step.MPI == "" {
		r.Step.MPI, _, _ = c.Conf.Lookup("MpiDefault")
	}
	if !runHook(c, r.Step.Prolog, "SrunProlog") {
		return 1
	}
	if r.Step.Job != 0 && !r.TestOnly {
		code = inside(ctx, c)
	} else {
		code = alone(ctx, c)
	}
	runHook(c, r.Step.Epilog, "SrunEpilog")
	return code
}

// check refuses what needs no cluster to be refused.
func check(c *submit.Command) int {
	r := c.Request
	if len(r.Args) == 0 {
		c.Fatalf("No command given to execute.")
		return 1
	}
	if t := r.Step.MPI; t != "" && !slices.Contains(mpis, t) {
		c.Errorf("MPI: Cannot create context for mpi/%s", t)
		c.Errorf("MPI: Unable to load any plugin")
		c.Errorf("Invalid MPI type '%s', --mpi=list for acceptable types", t)
		return 1
	}
	if r.Step.MultiProg {
		if _, err := os.ReadFile(programs(r)); err != nil {
			c.Errorf("Could not open multi_prog config file %s", r.Args[0])
			return 1
		}
	}
	return 0
}

// programs is the file of --multi-prog.
func programs(r *request.Request) string { return absIn(r.Spec.WorkDir, r.Args[0]) }

// runHook runs --prolog or --epilog, or what the configuration says instead.
func runHook(c *submit.Command, path, key string) bool {
	if path == "" {
		path, _, _ = c.Conf.Lookup(key)
	}
	if path == "" || strings.EqualFold(path, "none") {
		return true
	}
	cmd := exec.Command(path, c.Request.Args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = c.Env, c.Stdout, c.Stderr
	if err := cmd.Run(); err != nil {
		c.Errorf("%s failed: %v", path, err)
		return false
	}
	return true
}

// queue tells about a wait with srun's words.
type queue struct{ c *submit.Command }

func (q queue) Waits(id uint32)   { q.c.Infof("job %d queued and waiting for resources", id) }
func (q queue) Started(id uint32) { q.c.Infof("job %d has been allocated resources", id) }

// alone runs the step in an allocation of its own.
func alone(ctx context.Context, c *submit.Command) int {
	r := c.Request
	if r.Given("job-name") == request.Nowhere {
		r.Spec.Name = request.CommandName(r.Args[0])
	}
	r.Spec.Argv = r.Args
	m := c.Message(nil, nil)
	if r.TestOnly {
		return c.Forecast(c.Client.Controller.Submit(ctx, m))
	}
	job, err := c.Allocate(ctx, m, queue{c})
	switch {
	case errors.Is(err, submit.ErrRevoked):
		return 1
	case err != nil:
		return c.ImmediateExit(err, c.FailSubmit(err))
	}
	id := job.GetJob().GetId()
	if len(job.GetAddrs()) == 0 {
		c.Errorf("Unable to create step for job %d: the controller did not say where its nodes are", id)
		c.Release(id, wlm.ExitStatus(1)) //nolint:errcheck // already failing
		return 1
	}
	s := &step{Command: c, job: id, manager: job.GetAddrs()[0].GetAddr(), alloc: job}
	code, status := s.run(ctx)
	if err := c.Release(id, status); err != nil {
		c.Failure("Unable to clean up job allocation", err)
	}
	return code
}

// inside runs the step in the allocation that --jobid or the environment
// names.
func inside(ctx context.Context, c *submit.Command) int {
	r := c.Request
	s := &step{Command: c, job: uint32(r.Step.Job)}
	addr, told := c.Context.Env(request.StepManager)
	env, _ := c.Context.Env("SLURM_JOB_ID")
	if told && env == r.Step.Job.String() {
		s.manager = addr
	} else if code := s.find(ctx); code != 0 {
		return code
	}
	code, _ := s.run(ctx)
	return code
}

// find asks the controller where the job's first node is.
func (s *step) find(ctx context.Context) int {
	stream, err := s.Client.Controller.Jobs(ctx, &ctlv1.JobsRequest{WithSpec: true, MustExist: true,
		Filter: &ctlv1.JobFilter{Refs: []*ctlv1.JobRef{{Job: s.job}}, AllStates: true}})
	var m *ctlv1.JobsReply
	if err == nil {
		m, err = stream.Recv()
	}
	if err != nil {
		return s.expired(err)
	}
	for _, j := range m.GetJobs() {
		state := wlm.JobState(j.GetJob().GetState())
		switch {
		case state == wlm.Pending:
			err = errs.Coded("srun", errs.JobPending)
		case state.Ended():
			err = errs.Coded("srun", errs.AlreadyDone)
		case len(j.GetAddrs()) > 0:
			s.manager, s.alloc = j.GetAddrs()[0].GetAddr(), j
			return 0
		}
	}
	if err == nil {
		err = errs.Coded("srun", errs.InvalidJobID)
	}
	return s.expired(err)
}

// expired tells why the allocation cannot be used.
func (s *step) expired(err error) int {
	code := s.Fail("Unable to confirm allocation for job "+wlm.JobID(s.job).String(), err)
	if errs.CodeOf(err) == errs.InvalidJobID {
		s.Infof("Check SLURM_JOB_ID environment variable. Expired or invalid job %d", s.job)
	}
	return code
}
