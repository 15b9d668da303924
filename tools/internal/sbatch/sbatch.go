// Package sbatch is the command sbatch: it submits a script, and with --wait
// waits for its end.
//
// Everything that can be checked here is checked before anything is sent: the
// script's form, its directives, options. A submission carries a key, so that
// repeating it after a broken connection cannot make two jobs.
package sbatch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sluice-hpc/sluice/sdk/client"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/request"
	"github.com/sluice-hpc/sluice/tools/internal/submit"
)

// Main runs the command and returns its exit code.
func Main(ctx context.Context, p *submit.Process) int {
	var text []byte
	c, code, done := submit.Start(request.Sbatch, p, func(r *request.Request) ([]byte, error) {
		var err error
		text, err = script(r, p)
		return text, err
	})
	if done {
		return code
	}
	defer c.Close()
	r := c.Request
	if err := c.Connect(ctx); err != nil {
		return c.FailSubmit(err)
	}
	name(r)
	env, err := r.JobEnviron(p.Env)
	if err != nil {
		return c.FailSubmit(err)
	}
	reply, err := c.Send(ctx, c.Message(text, env.List()))
	if r.TestOnly {
		return c.Forecast(reply, err)
	}
	if err != nil {
		return c.FailSubmit(err)
	}
	switch {
	case r.Batch.Parsable:
		fmt.Fprintln(p.Stdout, reply.GetJobId())
	case !r.Quiet:
		fmt.Fprintf(p.Stdout, "Submitted batch job %d\n", reply.GetJobId())
	}
	if !r.Batch.Wait {
		return 0
	}
	code, err = wait(ctx, c.Client, reply.GetJobId(), r.Spec.Array != "")
	if err != nil {
		return c.Fail("", err)
	}
	return code
}

// name gives the job its default name.
func name(r *request.Request) {
	s := &r.Spec
	if r.Given("job-name") != request.Nowhere {
		return
	}
	switch {
	case r.Given("wrap") != request.Nowhere:
		s.Name = "wrap"
	case len(r.Args) > 0:
		s.Name = request.CommandName(r.Args[0])
	default:
		s.Name = "sbatch"
	}
}

// wait returns the job's exit code: of an array, the highest of its tasks.
func wait(ctx context.Context, cl *client.Client, id uint32, array bool) (int, error) {
	if array {
		return waitArray(ctx, cl, id)
	}
	var last *ctlv1.JobInfo
	err := cl.WatchJob(ctx, &ctlv1.WatchJobRequest{Job: id}, func(j *ctlv1.JobInfo) error {
		last = j
		if ended(j) {
			return client.ErrStop
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return exitCode(last), nil
}

func ended(j *ctlv1.JobInfo) bool {
	return wlm.JobState(j.GetJob().GetState()).Ended() && wlm.JobFlags(j.GetJob().GetFlags())&wlm.FlagCompleting == 0
}

// exitCode is what --wait makes of an ended job: its code, 1 after a signal
// or any other end that was not a success.
func exitCode(j *ctlv1.JobInfo) int {
	status := wlm.WaitStatus(j.GetJob().GetStatus())
	switch {
	case status.Signal() != 0:
		return 1
	case status.Code() != 0:
		return status.Code()
	case wlm.JobState(j.GetJob().GetState()) != wlm.Completed:
		return 1
	}
	return 0
}

const (
	firstLook = 100 * time.Millisecond
	maxLook   = 5 * time.Second // far below MinJobAge, after which ended tasks are forgotten
)

// waitArray looks at all tasks again and again: their records come and go
// while the array runs. Codes of ended tasks are kept.
func waitArray(ctx context.Context, cl *client.Client, id uint32) (int, error) {
	highest, pause := 0, firstLook
	for {
		open, err := lookArray(ctx, cl, id, &highest)
		switch {
		case errs.CodeOf(err) == errs.InvalidJobID || err == nil && open == 0:
			return highest, nil
		case err != nil && errs.KindOf(err) != errs.Unavail:
			return 0, err
		}
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			return 0, ctx.Err()
		case <-t.C:
		}
		pause = min(2*pause, maxLook)
	}
}

func lookArray(ctx context.Context, cl *client.Client, id uint32, highest *int) (open int, err error) {
	s, err := cl.Controller.Jobs(ctx, &ctlv1.JobsRequest{MustExist: true,
		Filter: &ctlv1.JobFilter{Refs: []*ctlv1.JobRef{{Job: id}}, AllStates: true}})
	if err != nil {
		return 0, err
	}
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return open, nil
		}
		if err != nil {
			return 0, err
		}
		for _, j := range m.GetJobs() {
			if !ended(j) {
				open++
				continue
			}
			*highest = max(*highest, exitCode(j))
		}
	}
}
