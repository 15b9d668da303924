package squeue

import (
	"cmp"
	"context"
	"slices"

	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/wlm/v1"
	"github.com/sluice-hpc/sluice/sdk/wire"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/column"
	"github.com/sluice-hpc/sluice/tools/internal/jobtext"
	"github.com/sluice-hpc/sluice/tools/internal/users"
)

// stepRow is a step as a line of the list.
type stepRow struct {
	*wlm.Step
	job   *jobtext.Job // nil when the controller did not send it
	names *users.Names
	now   wlm.Time
}

type stepField = column.Field[*stepRow]

// stepFields are all fields of squeue(1) that steps have.
var stepFields = column.Table[*stepRow]{
	{Letter: 'A', Names: []string{"NumTasks"}, Header: "TASKS", Value: func(s *stepRow) string { return num(s.NTasks) }},
	{Letter: 'b', Names: []string{"tres-per-node"}, Header: "TRES_PER_JOB", Value: func(*stepRow) string { return "N/A" }},
	{Letter: 'i', Names: []string{"StepId"}, Header: "STEPID", Value: (*stepRow).id, Order: byStep},
	{Letter: 'j', Names: []string{"StepName"}, Header: "NAME", Value: func(s *stepRow) string { return s.Name }},
	{Letter: 'l', Names: []string{"TimeLimit"}, Header: "TIME_LIMIT", Value: func(s *stepRow) string { return wlm.FormatMinutesShort(s.limit()) }},
	{Letter: 'M', Names: []string{"TimeUsed"}, Header: "TIME", Value: func(s *stepRow) string { return wlm.FormatShort(s.elapsed()) }, Whole: true,
		Order: func(a, b *stepRow) int { return cmp.Compare(a.elapsed(), b.elapsed()) }},
	{Letter: 'N', Names: []string{"Nodes"}, Header: "NODELIST", Value: func(s *stepRow) string { return s.NodeList }},
	{Letter: 'P', Names: []string{"Partition"}, Header: "PARTITION", Value: func(s *stepRow) string { return s.Partition }},
	{Letter: 'S', Names: []string{"StartTime"}, Header: "START_TIME", Value: func(s *stepRow) string { return stamp(s.Start, "N/A") },
		Order: func(a, b *stepRow) int { return cmp.Compare(a.Start, b.Start) }},
	{Letter: 'U', Names: []string{"UserId"}, Header: "UID", Value: func(s *stepRow) string { return num(s.User) }},
	{Letter: 'u', Names: []string{"UserName"}, Header: "USER", Value: (*stepRow).user},

	stepText("ArrayJobId", "ARRAY_JOB_ID", func(s *stepRow) string {
		if s.job == nil {
			return s.Job.String()
		}
		return arrayJob(s.job).String()
	}),
	stepText("ArrayTaskId", "ARRAY_TASK_ID", func(s *stepRow) string {
		if s.job == nil {
			return "N/A"
		}
		return orNA(s.job.Tasks(bitStrLen()))
	}),
	stepText("Cluster", "CLUSTER", func(*stepRow) string { return "N/A" }),
	stepText("Container", "CONTAINER", func(s *stepRow) string { return jobtext.OrNull(s.Container) }),
	stepText("ContainerId", "CONTAINERID", func(*stepRow) string { return "(null)" }),
	stepText("CPUFreq", "CPU_FREQ", func(*stepRow) string { return "N/A" }),
	stepText("cpus-per-tres", "CPUS_PER_TRES", func(*stepRow) string { return "N/A" }),
	stepText("Gres", "TRES_PER_JOB", func(*stepRow) string { return "N/A" }),
	stepText("JobId", "JOB_ID", func(s *stepRow) string { return s.Job.String() }),
	stepText("mem-per-tres", "MEM_PER_TRES", func(*stepRow) string { return "N/A" }),
	stepText("Network", "NETWORK", func(*stepRow) string { return "(null)" }),
	stepText("NumCPUs", "NUM_CPUS", func(s *stepRow) string { return num(s.CPUs) }),
	stepText("ResvPorts", "RESERVED_PORTS", func(*stepRow) string { return "(null)" }),
	stepText("StdErr", "STDERR", func(s *stepRow) string { return s.StdErr }),
	stepText("StdIn", "STDIN", func(s *stepRow) string { return s.StdIn }),
	stepText("StdOut", "STDOUT", func(s *stepRow) string { return s.StdOut }),
	stepText("StepState", "STATE", func(s *stepRow) string { return wlm.StateName(s.State, s.Flags) }),
	stepText("tres-bind", "TRES_BIND", func(*stepRow) string { return "N/A" }),
	stepText("tres-freq", "TRES_FREQ", func(*stepRow) string { return "N/A" }),
	stepText("tres-per-job", "TRES_PER_STEP", func(*stepRow) string { return "N/A" }, "tres-per-step"),
	stepText("tres-per-socket", "TRES_PER_SOCKET", func(*stepRow) string { return "N/A" }),
	stepText("tres-per-task", "TRES_PER_TASK", func(*stepRow) string { return "N/A" }),
}

func stepText(name, header string, value func(*stepRow) string, aliases ...string) stepField {
	return stepField{Names: append([]string{name}, aliases...), Header: header, Value: value}
}

func (s *stepRow) id() string {
	if s.job == nil {
		return s.Job.String() + "." + s.ID.String()
	}
	return s.job.ID(bitStrLen()) + "." + s.ID.String()
}

func (s *stepRow) user() string {
	if s.job != nil && s.job.Spec.User == s.User && s.job.Spec.UserName != "" {
		return s.job.Spec.UserName
	}
	return s.names.User(uint32(s.User))
}

func (s *stepRow) limit() wlm.Minutes {
	if s.TimeLimit == 0 {
		return wlm.Unlimited
	}
	return s.TimeLimit
}

func (s *stepRow) elapsed() int64 {
	if s.End != 0 && s.State.Ended() {
		return int64(s.End - s.Start)
	}
	return int64(s.now - s.Start)
}

func byStep(a, b *stepRow) int {
	x, y := a.Job, b.Job
	if a.job != nil && b.job != nil {
		x, y = arrayJob(a.job), arrayJob(b.job)
	}
	return cmp.Or(cmp.Compare(x, y), cmp.Compare(a.Job, b.Job), cmp.Compare(a.ID, b.ID))
}

// steps fetches and prints the steps.
func (r *run) steps(ctx context.Context) error {
	reply, err := r.source.Steps(ctx, &ctlv1.StepsRequest{Filter: r.opts.filter(), Hide: r.opts.hides()})
	if err != nil {
		return err
	}
	now := reply.GetNow()
	if now == 0 {
		now = r.clock().Unix()
	}
	jobs := map[uint32]*jobtext.Job{}
	for _, j := range reply.GetJobs() {
		jobs[j.GetJob().GetId()] = jobtext.Of(j, now)
	}
	var rows []*stepRow
	for _, m := range reply.GetSteps() {
		s := &stepRow{Step: wire.StepOfWire(m), job: jobs[m.GetJob()], names: r.opts.names, now: wlm.Time(now)}
		if r.opts.wantsStep(s) {
			rows = append(rows, s)
		}
	}
	keys, err := column.ParseSort(stepFields, r.opts.sortOr("P,i"))
	if err != nil {
		return err
	}
	slices.SortStableFunc(rows, func(a, b *stepRow) int { return column.Compare(keys, a, b) })
	f := parseFormat(r, stepFields, "%.15i %.8j %.9P %.8u %.9M %N")
	r.head(now)
	if !r.opts.NoHeader {
		f.WriteHeader(r.out)
	}
	for _, s := range rows {
		f.WriteRow(r.out, s)
	}
	return nil
}

// wantsStep selects what the controller's filter cannot say.
func (o *Options) wantsStep(s *stepRow) bool {
	if len(o.Names) > 0 && !slices.Contains(o.Names, s.Name) {
		return false
	}
	if len(o.Steps) == 0 {
		return true
	}
	return slices.ContainsFunc(o.Steps, func(ref *ctlv1.JobRef) bool {
		if ref.GetHasStep() && wlm.StepID(ref.GetStep()) != s.ID {
			return false
		}
		if s.Job == wlm.JobID(ref.GetJob()) {
			return true
		}
		return s.job != nil && s.job.ArrayJob == wlm.JobID(ref.GetJob()) && hasTask(ref, s.job.ArrayTask)
	})
}

func hasTask(ref *ctlv1.JobRef, task uint32) bool {
	if len(ref.GetTasks()) == 0 {
		return true
	}
	return slices.ContainsFunc(ref.GetTasks(), func(t *wlmv1.IDRange) bool {
		return task >= t.GetFirst() && task <= t.GetLast() && (task-t.GetFirst())%max(t.GetStep(), 1) == 0
	})
}
