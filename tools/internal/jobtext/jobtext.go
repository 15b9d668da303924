// Package jobtext says what commands show of a job: its id as users write it,
// its times, sizes, reason and files, each in Slurm's words.
//
// A [Job] is a job's record together with what readers know beyond it: the
// outlook of the last pass and the controller's clock. Nothing here changes a
// record. A record that came without its Spec is shown as if the user had
// asked for nothing.
package jobtext

import (
	"path"
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wire"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Job is a job as a reader sees it.
type Job struct {
	*wlm.Job // Spec is never nil
	Outlook  *wlm.Outlook
	NodeList string   // of the allocation
	Now      wlm.Time // the controller's clock
	Expand   bool     // for commands that show file patterns as given unless asked to expand them
}

// Of turns an answer of the controller into a Job.
func Of(info *ctlv1.JobInfo, now int64) *Job {
	j := &Job{Job: wire.JobOfWire(info.GetJob()), NodeList: info.GetNodelist(), Now: wlm.Time(now)}
	if j.Job == nil {
		j.Job = &wlm.Job{}
	}
	if j.Spec == nil {
		j.Spec = &wlm.Spec{}
	}
	if info.GetOutlook() != nil && j.State == wlm.Pending {
		j.Outlook = wire.OutlookOfWire(info.GetOutlook())
	}
	if j.NodeList == "" && j.Alloc != nil {
		j.NodeList = j.Alloc.NodeList
	}
	return j
}

// BitStrLen is the default of SLURM_BITSTR_LEN: how many bytes of a list of
// task ids are shown.
const BitStrLen = 64

// ID is the id as users write it: 5, 6_1, 6_[3-6%2], 15+0. At most limit
// bytes of a list of tasks are shown; 0: all.
func (j *Job) ID(limit int) string {
	switch {
	case j.HetJob != 0:
		return u(j.HetJob) + "+" + u(j.HetOffset)
	case j.IsArrayRecord():
		return u(j.ArrayJob) + "_[" + j.Tasks(limit) + "]"
	case j.ArrayJob != 0:
		return u(j.ArrayJob) + "_" + u(j.ArrayTask)
	}
	return u(j.Job.ID)
}

// Tasks is the array index, or the indices of the pending tasks: 1, 3-6%2.
// Empty for a job that is not of an array.
func (j *Job) Tasks(limit int) string {
	switch {
	case j.IsArrayRecord():
		return wlm.FormatArrayWithin(j.ArrayTasks, j.Spec.ArrayMaxRunning, limit)
	case j.ArrayJob != 0:
		return u(j.ArrayTask)
	}
	return ""
}

func u[T ~uint32](n T) string { return strconv.FormatUint(uint64(n), 10) }

// ReasonNow is why the job waits, or why it ended as it did.
func (j *Job) ReasonNow() wlm.Reason {
	if j.State == wlm.Pending && !j.Held && j.Outlook != nil && j.Outlook.Reason != wlm.ReasonNone {
		return j.Outlook.Reason
	}
	return j.Reason
}

// ReasonText is the reason in Slurm's words: the code's, or the longer text
// that stands in for it.
func (j *Job) ReasonText() string {
	if j.LongReason() != "" {
		return j.LongReason()
	}
	return j.ReasonNow().String()
}

// LongReason is the text that stands in for the reason's own word; empty when
// there is none.
func (j *Job) LongReason() string {
	switch {
	case j.Job.ReasonText != "":
		return j.Job.ReasonText
	case j.State == wlm.Pending && !j.Held && j.Outlook != nil && j.Outlook.Words != "":
		return j.Outlook.Words
	case j.Reason == wlm.FailSignal && j.Status.Signal() != 0:
		n := j.Status.Signal()
		return "RaisedSignal:" + strconv.Itoa(n) + "(" + wlm.SignalText(n) + ")"
	}
	return ""
}

// NodesOrReason is squeue's last column: where the job runs or ran, or in
// parentheses why it does not, or why it failed.
func (j *Job) NodesOrReason() string {
	switch j.State {
	case wlm.Pending, wlm.Failed, wlm.Timeout, wlm.Deadline, wlm.OutOfMemory:
		return "(" + j.ReasonText() + ")"
	}
	return j.NodeList
}

// Elapsed is how long the job has run, in seconds, without suspensions.
func (j *Job) Elapsed() int64 {
	switch {
	case j.State == wlm.Pending || j.Start == 0:
		return 0
	case j.State == wlm.Suspended:
		return int64(j.PreSuspend)
	case j.State.Ended():
		return max(0, int64(j.End-j.Start)-int64(j.SuspendTotal))
	}
	return int64(j.Now-j.Start) - int64(j.SuspendTotal)
}

// StartOrForecast is when the job started, or will as far as is known; 0: not
// known.
func (j *Job) StartOrForecast() wlm.Time {
	switch {
	case j.State != wlm.Pending:
		return j.Start
	case j.Outlook != nil && j.Outlook.Start != 0:
		return j.Outlook.Start
	case j.Spec.Begin > j.Now:
		return j.Spec.Begin
	}
	return 0
}

// EndOrForecast is when the job ended, or its limit will end it; never tells
// that no limit will.
func (j *Job) EndOrForecast() (at wlm.Time, never bool) {
	if j.State.Ended() {
		return j.End, false
	}
	start := j.StartOrForecast()
	switch {
	case start == 0:
		return 0, false
	case j.TimeLimit == wlm.Unlimited:
		return 0, true
	case j.State != wlm.Pending && j.End != 0:
		return j.End, false
	case j.TimeLimit == 0:
		return 0, false
	}
	return start + wlm.Time(j.TimeLimit)*60 + wlm.Time(j.SuspendTotal), false
}

// NodeCount is the number of nodes of the allocation, or the least asked for.
func (j *Job) NodeCount() uint64 {
	if j.State != wlm.Pending {
		if n := Count(j.AllocTRES, "node"); n > 0 {
			return n
		}
		if n, err := hostlist.Count(j.NodeList); err == nil && n > 0 {
			return uint64(n)
		}
	}
	if n := Count(j.ReqTRES, "node"); n > 0 {
		return n
	}
	return uint64(max(j.Spec.MinNodes, 1))
}

// CPUCount is the number of CPUs of the allocation, or of those asked for.
func (j *Job) CPUCount() uint64 {
	if j.State != wlm.Pending {
		if n := Count(j.AllocTRES, "cpu"); n > 0 {
			return n
		}
		if n := j.Alloc.CPUCount(); n > 0 {
			return uint64(n)
		}
	}
	if n := Count(j.ReqTRES, "cpu"); n > 0 {
		return n
	}
	return uint64(j.TaskCount()) * uint64(max(j.Spec.CPUsPerTask, 1))
}

// TaskCount is the number of tasks.
func (j *Job) TaskCount() uint32 {
	switch {
	case j.NTasks != 0:
		return j.NTasks
	case j.Spec.NTasks != 0:
		return j.Spec.NTasks
	case j.Spec.TasksPerNode != 0:
		return j.Spec.TasksPerNode * max(j.Spec.MinNodes, 1)
	}
	return max(j.Spec.MinNodes, 1)
}

// MinCPUs is the least number of CPUs on each node.
func (j *Job) MinCPUs() uint32 {
	perNode := max(j.Spec.CPUsPerTask, 1) * max(j.Spec.TasksPerNode, 1)
	return max(j.Spec.MinCPUsPerNode, perNode)
}

// EligibleFrom is since when the job may start, or from when on it may where
// only its begin time holds it; 0 when nobody knows.
func (j *Job) EligibleFrom() wlm.Time {
	if j.Eligible == 0 && j.State == wlm.Pending && j.ReasonNow() == wlm.WaitTime {
		return j.Spec.Begin
	}
	return j.Eligible
}

// MinMemory is the least memory per CPU or per node.
func (j *Job) MinMemory() (m wlm.MiB, perCPU bool) {
	if j.Spec.MemPerCPU != 0 {
		return j.Spec.MemPerCPU, true
	}
	return j.Spec.MemPerNode, false
}

// OverSubscribe is whether the job shares what it holds.
func (j *Job) OverSubscribe() string {
	switch j.Spec.Share {
	case wlm.ShareNever:
		return "NO"
	case wlm.ShareUser:
		return "USER"
	case wlm.ShareMCS:
		return "MCS"
	case wlm.ShareTopo:
		return "TOPO"
	case wlm.ShareAllow:
		return "YES"
	}
	return "OK"
}

// Command is the script or program with its arguments; empty for --wrap.
func (j *Job) Command() string {
	argv := j.Spec.Argv
	if len(argv) == 0 || argv[0] == "" {
		return ""
	}
	name := argv[0]
	if j.Spec.Kind == wlm.KindBatch && !path.IsAbs(name) {
		name = path.Join(j.Spec.WorkDir, name)
	}
	return strings.Join(append([]string{name}, argv[1:]...), " ")
}

// Files are the paths of a batch job's standard input, output and error,
// their symbols replaced. Errors that go to the output have no path.
func (j *Job) Files() (in, out, errs string) {
	return j.file(j.Patterns())
}

// Patterns are the paths as the user gave them, with the defaults filled in.
func (j *Job) Patterns() (in, out, errs string) {
	in, out, errs = j.Spec.StdIn, j.Spec.StdOut, j.Spec.StdErr
	if in == "" {
		in = "/dev/null"
	}
	if out == "" {
		out = wlm.DefaultOutput
		if j.ArrayJob != 0 {
			out = wlm.DefaultArrayOutput
		}
	}
	return j.abs(in), j.abs(out), j.abs(errs)
}

func (j *Job) abs(p string) string {
	if p == "" || path.IsAbs(p) {
		return p
	}
	return path.Join(j.Spec.WorkDir, p)
}

func (j *Job) file(in, out, errs string) (string, string, string) {
	f := wlm.PatternFields{
		Job: j.Job.ID, ArrayJob: j.ArrayJob, JobName: j.Spec.Name, User: j.Spec.UserName,
		Host: string(j.BatchHost), Restarts: &j.Restarts,
	}
	if j.ArrayJob != 0 && !j.IsArrayRecord() {
		f.Task = &j.ArrayTask
	}
	expand := func(p string) string {
		if !strings.Contains(p, "%") {
			return p
		}
		return wlm.ExpandPattern(p, f)
	}
	return expand(in), expand(out), expand(errs)
}

// Count reads the amount of one resource out of a TRES list such as
// "cpu=4,mem=400M,node=2", without its unit; 0 when it is not there.
func Count(tres, name string) uint64 {
	for item := range strings.SplitSeq(tres, ",") {
		if k, v, _ := strings.Cut(item, "="); k == name {
			v = strings.TrimRight(v, "KMGTPE")
			n, err := strconv.ParseUint(v, 10, 64)
			if err != nil {
				return 0
			}
			return n
		}
	}
	return 0
}

// OrNull is s, or Slurm's "(null)" for nothing.
func OrNull(s string) string {
	if s == "" {
		return "(null)"
	}
	return s
}

// YesNo is Slurm's YES or NO.
func YesNo(b bool) string {
	if b {
		return "YES"
	}
	return "NO"
}

// ZeroOne is 1 or 0.
func ZeroOne(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// TresPerTask is what each task holds, the CPUs of -c included.
func (j *Job) TresPerTask() string {
	if j.Spec.CPUsPerTask <= 1 || strings.HasPrefix(j.Spec.TresPerTask, "cpu") {
		return j.Spec.TresPerTask
	}
	cpus := "cpu=" + u(j.Spec.CPUsPerTask)
	if j.Spec.TresPerTask == "" {
		return cpus
	}
	return cpus + "," + j.Spec.TresPerTask
}
