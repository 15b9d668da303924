// Package scancel is the command that cancels or signals jobs and steps.
//
// All references and filters go to the controller in one request, which it
// applies in one turn. Only -i and -v ask first which jobs are meant. The exit
// status is that of the last failure, Slurm's error number modulo 256.
package scancel

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/wlm/v1"
	"github.com/sluice-hpc/sluice/tools/internal/command"
	"github.com/sluice-hpc/sluice/tools/internal/jobtext"
	"github.com/sluice-hpc/sluice/tools/internal/remote"
	"github.com/sluice-hpc/sluice/tools/internal/users"
)

// Source is what scancel asks the controller.
type Source interface {
	Signal(context.Context, *ctlv1.SignalRequest) (*ctlv1.SignalReply, error)
	Jobs(context.Context, *ctlv1.JobsRequest, func(*ctlv1.JobsReply) error) error
	UpdateJob(context.Context, *ctlv1.UpdateJobRequest) (*ctlv1.UpdateJobReply, error)
}

// New returns the command.
func New() *command.Command {
	c := &command.Command{Name: "scancel", Short: "cancel or signal jobs and steps", Usage: usage, Options: table(&parser{o: &Options{}})}
	c.Run = func(ctx context.Context, env command.Env) int {
		o, err := Parse(env.Args, env.Getenv, users.System())
		if err != nil {
			return c.Fail(err, env, 1)
		}
		s, err := remote.Open(ctx, "scancel", cmp.Or(o.Clusters, env.Getenv("SLURM_CLUSTERS")))
		if err != nil {
			return c.Fail(err, env, 1)
		}
		defer s.Close()
		return Run(ctx, o, s, env)
	}
	return c
}

// Run signals what o names and returns the exit status.
func Run(ctx context.Context, o *Options, source Source, env command.Env) int {
	refs := o.Refs
	if o.Interactive || o.Verbose > 0 && len(refs) == 0 {
		list, err := candidates(ctx, o, source)
		if err != nil {
			return tell(env.Stderr, refs, err)
		}
		if o.Interactive {
			list = confirm(list, env)
		}
		if len(list) == 0 {
			return 0
		}
		refs = nil
		for _, c := range list {
			refs = append(refs, c.ref)
		}
	}
	if o.Verbose > 0 {
		for _, r := range refs {
			fmt.Fprintf(env.Stderr, "scancel: %s %s\n", o.verb(), target(r))
		}
	}
	if o.AdminComment != "" {
		note := &ctlv1.UpdateJobRequest{Filter: o.filter(refs), Set: map[string]string{"admincomment": o.AdminComment}}
		if _, err := source.UpdateJob(ctx, note); err != nil {
			return tell(env.Stderr, refs, err)
		}
	}
	reply, err := source.Signal(ctx, &ctlv1.SignalRequest{
		Filter: o.filter(refs), Signal: uint32(o.Signal), BatchOnly: o.Batch && !o.Full, Full: o.Full, Hurry: o.Hurry, Cron: o.Cron,
	})
	if err != nil {
		return tell(env.Stderr, refs, err)
	}
	status, last := 0, "" // each record of an array tells the same
	for _, r := range reply.GetResults() {
		code := errs.Code(r.GetCode())
		line := fmt.Sprintf("scancel: error: Kill job error on %s: %s\n", object(r.GetRef()), text(r))
		if done := code == errs.AlreadyDone; (!done || !o.Quiet) && line != last {
			fmt.Fprint(env.Stderr, line)
		}
		last = line
		if code != errs.AlreadyDone || o.Signal != 0 {
			status = exitStatus(code)
		}
	}
	return status
}

func text(r *ctlv1.SignalResult) string {
	if r.GetText() != "" {
		return r.GetText()
	}
	return errs.Code(r.GetCode()).String()
}

func exitStatus(code errs.Code) int {
	if n := code.ExitStatus(); n != 0 {
		return n
	}
	return 1
}

// tell reports a request that failed as a whole.
func tell(w io.Writer, refs []*ctlv1.JobRef, err error) int {
	var e *errs.Error
	code, why := errs.CodeOf(err), err.Error()
	if errors.As(err, &e) && code != 0 {
		for _, d := range e.Details {
			fmt.Fprintf(w, "scancel: error: %s\n", d)
		}
		why = code.String()
	}
	if len(refs) == 1 {
		fmt.Fprintf(w, "scancel: error: Kill job error on %s: %s\n", object(refs[0]), why)
	} else {
		fmt.Fprintf(w, "scancel: error: %s\n", why)
	}
	return exitStatus(code)
}

func object(r *ctlv1.JobRef) string {
	if r.GetHasStep() {
		return "job step id " + remote.RefString(r)
	}
	return "job id " + remote.RefString(r)
}

func target(r *ctlv1.JobRef) string {
	if r.GetHasStep() {
		return "step " + remote.RefString(r)
	}
	return "job " + remote.RefString(r)
}

func (o *Options) verb() string {
	if o.Signal == 0 {
		return "Terminating"
	}
	return fmt.Sprintf("Signal %d to", o.Signal)
}

// chosen is a job that the user may be asked about.
type chosen struct {
	ref  *ctlv1.JobRef
	name string
	part string
}

// candidates asks which jobs o means; a step is meant by its own reference.
func candidates(ctx context.Context, o *Options, source Source) (list []chosen, err error) {
	var jobs []*ctlv1.JobRef
	for _, r := range o.Refs {
		if r.GetHasStep() {
			list = append(list, chosen{ref: r})
		} else {
			jobs = append(jobs, r)
		}
	}
	if len(jobs) == 0 && len(list) > 0 {
		return list, nil
	}
	err = source.Jobs(ctx, &ctlv1.JobsRequest{Filter: o.filter(jobs)}, func(m *ctlv1.JobsReply) error {
		for _, info := range m.GetJobs() {
			j := jobtext.Of(info, m.GetNow())
			if j.State.Ended() {
				continue
			}
			ref := &ctlv1.JobRef{Job: uint32(j.Job.ID)}
			switch {
			case j.IsArrayRecord():
				ref.Job, ref.Tasks = uint32(j.ArrayJob), info.GetJob().GetArrayTasks()
			case j.ArrayJob != 0:
				ref.Job, ref.Tasks = uint32(j.ArrayJob), []*wlmv1.IDRange{{First: j.ArrayTask, Last: j.ArrayTask, Step: 1}}
			}
			list = append(list, chosen{ref: ref, name: j.Spec.Name, part: j.Partition})
		}
		return nil
	})
	return list, err
}

// confirm asks about each; the end of input means no.
func confirm(list []chosen, env command.Env) (yes []chosen) {
	in := bufio.NewScanner(env.Stdin)
	for _, c := range list {
		for {
			if c.ref.GetHasStep() {
				fmt.Fprintf(env.Stdout, "Cancel step_id=%s [y/n]? ", remote.RefString(c.ref))
			} else {
				fmt.Fprintf(env.Stdout, "Cancel job_id=%s name=%s partition=%s [y/n]? ", remote.RefString(c.ref), c.name, c.part)
			}
			if !in.Scan() {
				return yes
			}
			answer := strings.ToLower(strings.TrimSpace(in.Text()))
			if strings.HasPrefix(answer, "y") {
				yes = append(yes, c)
			}
			if strings.HasPrefix(answer, "y") || strings.HasPrefix(answer, "n") {
				break
			}
		}
	}
	return yes
}
