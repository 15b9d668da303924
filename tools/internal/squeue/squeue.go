// Package squeue is the command that shows the queue: pending and running jobs,
// or their steps.
//
// [Parse] turns a command line into [Options]; [Run] asks a [Source] once and
// prints. Lists are sorted, so they are read whole; --json and --yaml are
// written chunk by chunk as they arrive. The columns, widths, orders and texts
// are those of squeue(1) of Slurm 25.11.
package squeue

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/column"
	"github.com/sluice-hpc/sluice/tools/internal/command"
	"github.com/sluice-hpc/sluice/tools/internal/dump"
	"github.com/sluice-hpc/sluice/tools/internal/jobtext"
	"github.com/sluice-hpc/sluice/tools/internal/remote"
	"github.com/sluice-hpc/sluice/tools/internal/structured"
	"github.com/sluice-hpc/sluice/tools/internal/users"
)

// Source is what squeue asks the controller.
type Source interface {
	Jobs(context.Context, *ctlv1.JobsRequest, func(*ctlv1.JobsReply) error) error
	Steps(context.Context, *ctlv1.StepsRequest) (*ctlv1.StepsReply, error)
	Nodes(context.Context, *ctlv1.NodesRequest, func(*ctlv1.NodesReply) error) error
	ClusterName() string
}

// New returns the command.
func New() *command.Command {
	c := &command.Command{Name: "squeue", Short: "show jobs and steps in the queue", Usage: usage,
		Options: table(&parser{o: &Options{}})}
	c.Run = func(ctx context.Context, env command.Env) int {
		o, err := Parse(env.Args, env.Getenv, users.System())
		if err != nil {
			return c.Fail(err, env, 1)
		}
		s, err := remote.Open(ctx, "squeue", cmp.Or(o.Clusters, env.Getenv("SLURM_CLUSTERS")))
		if err != nil {
			return c.Fail(err, env, 1)
		}
		defer s.Close()
		return Run(ctx, o, s, env.Stdout, env.Stderr)
	}
	return c
}

type run struct {
	opts   *Options
	source Source
	out    *bufio.Writer
	stdout io.Writer
	stderr io.Writer
	clock  func() time.Time
}

// Run prints what o asks for and returns the exit status.
func Run(ctx context.Context, o *Options, source Source, stdout, stderr io.Writer) int {
	r := &run{opts: o, source: source, out: bufio.NewWriterSize(stdout, 64<<10), stdout: stdout, stderr: stderr, clock: time.Now}
	for _, w := range o.Warnings {
		fmt.Fprintln(stderr, w)
	}
	for {
		err := r.once(ctx)
		if ferr := r.out.Flush(); err == nil {
			err = ferr
		}
		if err != nil {
			return r.fail(err)
		}
		if o.Iterate == 0 {
			return 0
		}
		fmt.Fprintln(stdout)
		select {
		case <-ctx.Done():
			return 0
		case <-time.After(o.Iterate):
		}
	}
}

// fail tells err as squeue does.
func (r *run) fail(err error) int {
	var exit *command.Exit
	if errors.As(err, &exit) {
		io.WriteString(r.stderr, exit.Stderr) //nolint:errcheck // nowhere to tell
		return exit.Status
	}
	var e *errs.Error
	text := err.Error()
	if errors.As(err, &e) && e.Code != 0 {
		for _, d := range e.Details {
			fmt.Fprintf(r.stderr, "squeue: error: %s\n", d)
		}
		text = e.Code.String()
	}
	fmt.Fprintf(r.stderr, "slurm_load_jobs error: %s\n", text)
	return 1
}

func (r *run) once(ctx context.Context) error {
	if err := r.checkNodes(ctx); err != nil {
		return err
	}
	switch {
	case r.opts.StepMode:
		return r.steps(ctx)
	case r.opts.Dump:
		return r.dump(ctx)
	}
	return r.jobs(ctx)
}

// checkNodes refuses nodes that the cluster does not have.
func (r *run) checkNodes(ctx context.Context) error {
	if len(r.opts.Nodes) == 0 {
		return nil
	}
	known := map[string]bool{}
	err := r.source.Nodes(ctx, &ctlv1.NodesRequest{Nodes: hostlist.Compress(r.opts.Nodes)}, func(m *ctlv1.NodesReply) error {
		for _, n := range m.GetNodes() {
			known[n.GetNode().GetName()] = true
		}
		return nil
	})
	if err != nil && errs.CodeOf(err) != errs.InvalidNodeName {
		return err
	}
	for _, n := range r.opts.Nodes {
		if !known[n] {
			return failf("Invalid node name %s", n)
		}
	}
	return nil
}

// jobs fetches, sorts and prints the list.
func (r *run) jobs(ctx context.Context) error {
	o := r.opts
	f := parseFormat(r, jobFields, o.format())
	keys, err := column.ParseSort(jobFields, o.sortOr(o.defaultSort()))
	if err != nil {
		return failf("%v", err)
	}
	rows, now, err := r.fetch(ctx, f.Needs() != 0 || len(o.Licenses) > 0)
	if err != nil {
		return err
	}
	slices.SortStableFunc(rows, func(a, b row) int { return column.Compare(keys, a, b) })
	r.head(now)
	if !o.NoHeader {
		f.WriteHeader(r.out)
	}
	for _, j := range rows {
		f.WriteRow(r.out, j)
	}
	return nil
}

// format is the format in letters when no other is asked for.
func (o *Options) format() string {
	switch {
	case o.OnlyState:
		return "%.18i %.2t"
	case o.Start:
		return "%.18i %.9P %.8j %.8u %.2t %.19S %.6D %20Y %R"
	case o.Long:
		return "%.18i %.9P %.8j %.8u %.8T %.10M %.9l %.6D %R"
	}
	return "%.18i %.9P %.8j %.8u %.2t %.10M %.6D %R"
}

func (o *Options) defaultSort() string {
	if o.Start {
		return "S"
	}
	return "P,t,-p"
}

// parseFormat reads the format asked for, or def.
func parseFormat[T any](r *run, t column.Table[T], def string) column.Format[T] {
	bad := func(what string) {
		fmt.Fprintf(r.stderr, "squeue: error: Invalid job format specification: %s\n", what)
	}
	switch {
	case r.opts.FormatNames != "":
		return column.ParseNames(t, r.opts.FormatNames, bad)
	case r.opts.Format != "":
		return column.ParseLetters(t, r.opts.Format, bad)
	}
	return column.ParseLetters(t, def, bad)
}

// fetch returns the jobs that o selects, and the controller's clock.
func (r *run) fetch(ctx context.Context, withSpec bool) (rows []row, now int64, err error) {
	o := r.opts
	if o.NoUser {
		return nil, r.clock().Unix(), nil
	}
	request := &ctlv1.JobsRequest{Filter: o.filter(), WithSpec: withSpec, MustExist: len(o.Jobs) == 1, Hide: o.hides()}
	err = r.source.Jobs(ctx, request, func(m *ctlv1.JobsReply) error {
		now = m.GetNow()
		for _, info := range m.GetJobs() {
			j := jobtext.Of(info, now)
			j.Expand = o.Expand
			if o.wants(j) {
				rows = o.lines(rows, j)
			}
		}
		return nil
	})
	if now == 0 {
		now = r.clock().Unix()
	}
	return rows, now, err
}

// lines appends the lines that a job takes.
func (o *Options) lines(rows []row, j row) []row {
	switch {
	case o.Array && j.IsArrayRecord():
		for task := range wlm.IDRanges(j.ArrayTasks).All() {
			c := *j
			c.Job = j.Clone()
			c.ArrayTask, c.ArrayTasks = task, nil
			rows = append(rows, &c)
		}
		return rows
	case o.PerPartition && j.State == wlm.Pending && len(j.Spec.Partitions) > 1:
		for _, p := range j.Spec.Partitions {
			c := *j
			c.Job = j.Clone()
			spec := *j.Spec
			spec.Partitions = []string{p}
			c.Spec, c.Partition = &spec, p
			rows = append(rows, &c)
		}
		return rows
	}
	return append(rows, j)
}

// head prints the time above long and repeated lists.
func (r *run) head(now int64) {
	if !r.opts.NoHeader && (r.opts.Long || r.opts.Iterate > 0) {
		fmt.Fprintln(r.out, time.Unix(now, 0).Format(time.ANSIC))
	}
}

// dump writes everything about the jobs, as it arrives.
func (r *run) dump(ctx context.Context) error {
	w := structured.New(r.stdout, r.opts.Form)
	w.List("jobs")
	now := r.clock().Unix()
	request := &ctlv1.JobsRequest{Filter: r.opts.filter(), WithSpec: true, MustExist: len(r.opts.Jobs) == 1, Hide: r.opts.hides()}
	cluster := r.source.ClusterName()
	if !r.opts.NoUser {
		err := r.source.Jobs(ctx, request, func(m *ctlv1.JobsReply) error {
			now = m.GetNow()
			for _, info := range m.GetJobs() {
				if j := jobtext.Of(info, now); r.opts.wants(j) {
					dump.Job(w, j, cluster)
				}
			}
			return w.Flush()
		})
		if err != nil {
			return err
		}
	}
	w.End()
	w.Set("last_backfill", 0)
	w.Set("last_update", now)
	dump.Trailer(w, dump.Meta{Command: []string{"squeue"}, Cluster: cluster, Names: r.opts.names})
	return w.Close()
}
