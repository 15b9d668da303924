// Package sacct is the command that shows what accounting knows of jobs and
// steps.
//
// [Parse] turns a command line into a query of the accounting store and a list
// of columns; [Run] sends the query and prints rows as they arrive. Which time
// is looked at when none is given, and whose jobs, follows sacct(1) of Slurm
// 25.11, as do columns, widths, texts and exit codes. What the store does not
// keep (disk and page statistics, energy) is blank, as in Slurm without the
// plugins for it.
package sacct

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/acctstore/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wire"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/command"
	"github.com/sluice-hpc/sluice/tools/internal/dump"
	"github.com/sluice-hpc/sluice/tools/internal/jobtext"
	"github.com/sluice-hpc/sluice/tools/internal/remote"
	"github.com/sluice-hpc/sluice/tools/internal/structured"
	"github.com/sluice-hpc/sluice/tools/internal/users"
)

// Source is what sacct asks.
type Source interface {
	AcctJobs(context.Context, *acctstorev1.Query, func(*acctstorev1.JobsReply) error) error
	Script(context.Context, *ctlv1.ScriptRequest) (*ctlv1.ScriptReply, error)
	ClusterName() string
}

// New returns the command.
func New() *command.Command {
	c := &command.Command{Name: "sacct", Short: "show accounting of jobs and steps", Usage: usage, Options: optionTable(newParser())}
	c.Run = func(ctx context.Context, env command.Env) int {
		o, err := Parse(env.Args, env.Getenv, users.System())
		if err != nil {
			return c.Fail(err, env, 1)
		}
		s, err := remote.Open(ctx, "sacct", cmp.Or(o.Clusters, env.Getenv("SLURM_CLUSTERS")))
		if err != nil {
			return c.Fail(err, env, 1)
		}
		defer s.Close()
		return Run(ctx, o, s, env.Stdout, env.Stderr)
	}
	return c
}

// Run prints what o asks for and returns the exit status.
func Run(ctx context.Context, o *Options, source Source, stdout, stderr io.Writer) int {
	o.Query.Cluster = source.ClusterName()
	if o.Verbose > 0 {
		fmt.Fprintf(stderr, "sacct: Jobs eligible from %s - %s\n", stamp(o.from), stamp(o.to))
	}
	var err error
	switch {
	case o.Dump:
		err = write(ctx, o, source, stdout)
	case o.BatchScript || o.Environments:
		err = scripts(ctx, o, source, stdout)
	default:
		err = list(ctx, o, source, stdout)
	}
	if err == nil {
		return 0
	}
	text := err.Error()
	var e *errs.Error
	if errors.As(err, &e) && e.Code != 0 {
		for _, d := range e.Details {
			fmt.Fprintf(stderr, "%s\n", d)
		}
		text = e.Code.String()
	}
	fmt.Fprintf(stderr, "sacct: error: Problem talking to the database: %s\n", text)
	return 1
}

// each calls show with each job that is asked for, and its steps.
func each(ctx context.Context, o *Options, source Source, show func(*jobtext.Job, []*wlm.Step, *acctstorev1.JobRow)) error {
	ask := source.AcctJobs
	if len(o.Query.Jobs) > 0 {
		ask = inOrder(ask)
	}
	return ask(ctx, o.Query, func(m *acctstorev1.JobsReply) error {
		for _, row := range m.GetJobs() {
			j := jobtext.Of(&ctlv1.JobInfo{Job: row.GetJob()}, int64(o.now))
			if j.Spec.Cluster == "" {
				spec := *j.Spec
				spec.Cluster = row.GetCluster()
				j.Spec = &spec
			}
			if !o.wants(j) {
				continue
			}
			steps := make([]*wlm.Step, len(row.GetSteps()))
			for i, s := range row.GetSteps() {
				steps[i] = wire.StepOfWire(s)
			}
			show(j, steps, row)
		}
		return nil
	})
}

type askJobs func(context.Context, *acctstorev1.Query, func(*acctstorev1.JobsReply) error) error

// inOrder lets the tasks of an array follow one another by their index: the
// last one to start has the id of the array, which is the lowest.
func inOrder(ask askJobs) askJobs {
	return func(ctx context.Context, q *acctstorev1.Query, each func(*acctstorev1.JobsReply) error) error {
		all := &acctstorev1.JobsReply{}
		if err := ask(ctx, q, func(m *acctstorev1.JobsReply) error {
			all.Jobs = append(all.Jobs, m.GetJobs()...)
			return nil
		}); err != nil {
			return err
		}
		slices.SortStableFunc(all.Jobs, func(a, b *acctstorev1.JobRow) int {
			x, y := a.GetJob(), b.GetJob()
			return cmp.Or(cmp.Compare(cmp.Or(x.GetArrayJob(), x.GetId()), cmp.Or(y.GetArrayJob(), y.GetId())),
				cmp.Compare(x.GetArrayTask(), y.GetArrayTask()), cmp.Compare(x.GetId(), y.GetId()))
		})
		return each(all)
	}
}

// wants selects what the query cannot say. Without -j, jobs that were never
// eligible are not shown.
func (o *Options) wants(j *jobtext.Job) bool {
	switch {
	case len(o.Query.Jobs) == 0 && j.State == wlm.Pending && (j.Eligible == 0 || j.Eligible > o.to):
		return false
	case o.LimitMin != 0 && o.LimitMax == 0 && j.TimeLimit != o.LimitMin,
		o.LimitMax != 0 && o.LimitMin != 0 && (j.TimeLimit < o.LimitMin || j.TimeLimit > o.LimitMax):
		return false
	case len(o.Constraints) > 0 && !slices.ContainsFunc(o.Constraints, func(c string) bool { return strings.Contains(j.Spec.Features, c) }),
		len(o.Reasons) > 0 && !slices.ContainsFunc(o.Reasons, func(r string) bool { return strings.EqualFold(r, j.ReasonNow().String()) }),
		len(o.Schedulers) > 0 && !slices.ContainsFunc(o.Schedulers, func(f string) bool { return strings.EqualFold(f, "Sched"+j.SchedulerTag) }):
		return false
	}
	return true
}

// steps says whether the job's own line is asked for, and which steps are.
func (o *Options) steps(j *jobtext.Job, all []*wlm.Step) (own bool, steps []*wlm.Step) {
	if o.Query.AllocationsOnly {
		return true, nil
	}
	if len(o.Query.Jobs) == 0 {
		return true, all
	}
	var some []uint32
	for _, r := range o.Query.Jobs {
		id := wlm.JobID(r.GetJob())
		if id != j.Job.ID && (id != j.ArrayJob || r.GetHasTask() && r.GetTask() != j.ArrayTask) {
			continue
		}
		if !r.GetHasStep() {
			return true, all
		}
		some = append(some, r.GetStep())
	}
	if some == nil {
		return true, all // found by another id than asked for
	}
	for _, s := range all {
		if slices.Contains(some, uint32(s.ID)) {
			steps = append(steps, s)
		}
	}
	return false, steps
}

func list(ctx context.Context, o *Options, source Source, stdout io.Writer) error {
	t := &table{columns: o.Columns, delimiter: o.Delimiter, trailing: o.Trailing}
	out := bufio.NewWriterSize(stdout, 64<<10)
	started := false
	begin := func() {
		if !started && !o.NoHeader {
			t.header(out)
		}
		started = true
	}
	err := each(ctx, o, source, func(j *jobtext.Job, all []*wlm.Step, _ *acctstorev1.JobRow) {
		begin()
		own, steps := o.steps(j, all)
		if own {
			for _, one := range o.expand(j) {
				t.line(out, &line{o: o, job: one, all: all})
			}
		}
		for _, s := range steps {
			t.line(out, &line{o: o, job: j, step: s})
		}
	})
	if err == nil {
		begin()
	}
	if ferr := out.Flush(); err == nil {
		err = ferr
	}
	return err
}

// expand makes a job of each pending task of an array, with --array.
func (o *Options) expand(j *jobtext.Job) []*jobtext.Job {
	if !o.Array || !j.IsArrayRecord() {
		return []*jobtext.Job{j}
	}
	var out []*jobtext.Job
	for task := range wlm.IDRanges(j.ArrayTasks).All() {
		c := *j
		c.Job = j.Clone()
		c.ArrayTask, c.ArrayTasks = task, nil
		out = append(out, &c)
	}
	return out
}

// scripts prints the scripts of jobs, which the controller has for as long as
// it knows them. Environments are not kept for reading.
func scripts(ctx context.Context, o *Options, source Source, stdout io.Writer) error {
	const rule = "--------------------------------------------------------------------------------"
	return each(ctx, o, source, func(j *jobtext.Job, _ []*wlm.Step, _ *acctstorev1.JobRow) {
		if o.Environments {
			fmt.Fprintf(stdout, "Environment used for %s (must be batch to display)\n%s\nNONE\n", j.ID(0), rule)
		}
		if !o.BatchScript {
			return
		}
		text := "NONE\n"
		if m, err := source.Script(ctx, &ctlv1.ScriptRequest{Job: uint32(j.Job.ID)}); err == nil && len(m.GetScript()) > 0 {
			text = string(m.GetScript())
		}
		fmt.Fprintf(stdout, "Batch Script for %s\n%s\n%s", j.ID(0), rule, text)
	})
}

func write(ctx context.Context, o *Options, source Source, stdout io.Writer) error {
	w := structured.New(stdout, o.Form)
	w.List("jobs")
	err := each(ctx, o, source, func(j *jobtext.Job, all []*wlm.Step, _ *acctstorev1.JobRow) {
		_, steps := o.steps(j, all)
		o.job(w, j, all, steps)
	})
	if err != nil {
		return err
	}
	w.End()
	dump.Trailer(w, dump.Meta{Command: []string{"sacct"}, Cluster: source.ClusterName(), Names: o.names})
	return w.Close()
}
