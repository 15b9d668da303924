package scontrol

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/dump"
	"github.com/sluice-hpc/sluice/tools/internal/jobtext"
	"github.com/sluice-hpc/sluice/tools/internal/remote"
	"github.com/sluice-hpc/sluice/tools/internal/structured"
)

// showJobs is "show job [id]".
func (s *session) showJobs(ctx context.Context, id string) {
	request := &ctlv1.JobsRequest{Filter: &ctlv1.JobFilter{AllStates: true}, WithSpec: true, Hide: !s.All && id == ""}
	for _, one := range hostlist.Split(id) {
		ref, err := remote.Ref(one)
		if err != nil {
			s.failf("scontrol_print_job error: Invalid job id specified")
			return
		}
		request.Filter.Refs = append(request.Filter.Refs, ref)
		request.MustExist = true
	}
	if s.Dump {
		s.dumpJobs(ctx, request)
		return
	}
	n := 0
	err := s.source.Jobs(ctx, request, func(m *ctlv1.JobsReply) error {
		for _, info := range m.GetJobs() {
			n++
			s.record(s.jobBlock(jobtext.Of(info, m.GetNow())))
		}
		return nil
	})
	switch {
	case err != nil:
		s.fail("slurm_load_jobs error: ", err)
	case n == 0 && id == "":
		s.line("No jobs in the system")
	case n == 0:
		s.notFound("Job " + id)
	}
}

func (s *session) dumpJobs(ctx context.Context, request *ctlv1.JobsRequest) {
	w := structured.New(s.out, s.Form)
	w.List("jobs")
	now := time.Now().Unix()
	err := s.source.Jobs(ctx, request, func(m *ctlv1.JobsReply) error {
		now = m.GetNow()
		for _, info := range m.GetJobs() {
			dump.Job(w, jobtext.Of(info, now), s.source.ClusterName())
		}
		return w.Flush()
	})
	if err != nil {
		s.fail("slurm_load_jobs error: ", err)
		return
	}
	w.End()
	w.Set("last_backfill", 0)
	w.Set("last_update", now)
	s.trailer(w)
}

// trailer ends a structured document.
func (s *session) trailer(w *structured.Writer) {
	dump.Trailer(w, dump.Meta{Command: append([]string{"scontrol"}, s.Words...), Cluster: s.source.ClusterName(), Names: s.names})
	if err := w.Close(); err != nil {
		s.fail("", err)
	}
}

// stamp prints a time as SLURM_TIME_FORMAT says.
func stamp(t wlm.Time, none string) string {
	if format := os.Getenv("SLURM_TIME_FORMAT"); format != "" && format != "standard" {
		return wlm.FormatTimeAs(t, none, format, time.Now())
	}
	return wlm.FormatTime(t, none)
}

// block collects the lines of a record.
type block struct{ strings.Builder }

func (b *block) linef(format string, args ...any) {
	b.WriteString("\n   ")
	fmt.Fprintf(b, format, args...)
}

// textf adds a line unless the value is empty.
func (b *block) textf(key, value string) {
	if value != "" {
		b.linef("%s=%s", key, value)
	}
}

func (s *session) jobBlock(j *jobtext.Job) string {
	b := &block{}
	s.jobHead(b, j)
	s.jobTimes(b, j)
	s.jobNodes(b, j)
	jobSizes(b, j)
	s.jobGres(b, j)
	jobNeeds(b, j)
	s.jobWork(b, j)
	return b.String()
}

func (s *session) jobHead(b *block, j *jobtext.Job) {
	spec := j.Spec
	fmt.Fprintf(b, "JobId=%v ", j.Job.ID)
	if j.ArrayJob != 0 {
		fmt.Fprintf(b, "ArrayJobId=%v ArrayTaskId=%s ", j.ArrayJob, j.Tasks(bitStrLen(s.getenv)))
		if spec.ArrayMaxRunning != 0 {
			fmt.Fprintf(b, "ArrayTaskThrottle=%d ", spec.ArrayMaxRunning)
		}
	}
	if j.HetJob != 0 {
		fmt.Fprintf(b, "HetJobId=%v HetJobOffset=%d ", j.HetJob, j.HetOffset)
	}
	fmt.Fprintf(b, "JobName=%s", spec.Name)
	if s.Details > 0 {
		b.textf("SLUID", j.SLUID)
	}
	b.textf("HetJobIdSet", j.HetSet)
	b.linef("UserId=%s(%d) GroupId=%s(%d) MCS_label=%s", spec.UserName, spec.User, spec.GroupName, spec.Group, orNA(spec.MCSLabel))
	b.linef("Priority=%d Nice=%d Account=%s QOS=%s", j.Priority, spec.Nice, jobtext.OrNull(spec.Account), jobtext.OrNull(spec.QOS))
	if spec.WCKey != "" {
		b.WriteString(" WCKey=" + spec.WCKey)
	}
	b.linef("JobState=%s Reason=%s ", wlm.StateName(j.State, j.Flags), strings.ReplaceAll(j.ReasonText(), " ", "_"))
	if j.FailedNode != "" {
		b.WriteString("FailedNode=" + string(j.FailedNode) + " ")
	}
	b.WriteString("Dependency=" + jobtext.OrNull(wlm.FormatDependency(j.Deps)))
	if s.Details > 0 && j.Outlook != nil && j.Outlook.Text != "" {
		b.linef("Outlook=%s", j.Outlook.Text)
	}
	b.linef("Requeue=%s Restarts=%d BatchFlag=%s Reboot=%s ExitCode=%v", jobtext.ZeroOne(j.Requeueable), j.Restarts,
		jobtext.ZeroOne(spec.Kind == wlm.KindBatch), jobtext.ZeroOne(spec.Reboot), j.Status)
	if s.Details > 0 {
		b.linef("DerivedExitCode=%v", j.Derived)
	}
}

func bitStrLen(getenv func(string) string) int {
	if n, err := strconv.Atoi(getenv("SLURM_BITSTR_LEN")); err == nil && n >= 0 {
		return n
	}
	return jobtext.BitStrLen
}

func orNA(v string) string {
	if v == "" {
		return "N/A"
	}
	return v
}

func (s *session) jobTimes(b *block, j *jobtext.Job) {
	timeMin := "N/A"
	if j.Spec.TimeMin != 0 {
		timeMin = wlm.FormatMinutes(j.Spec.TimeMin)
	}
	b.linef("RunTime=%s TimeLimit=%s TimeMin=%s", wlm.FormatElapsed(j.Elapsed()), wlm.FormatMinutes(j.TimeLimit), timeMin)
	b.linef("SubmitTime=%s EligibleTime=%s", stamp(j.Submit, "Unknown"), stamp(j.EligibleFrom(), "Unknown"))
	b.linef("AccrueTime=%s", stamp(j.Accrue, "Unknown"))
	end, _ := j.EndOrForecast()
	b.linef("StartTime=%s EndTime=%s Deadline=%s", stamp(j.StartOrForecast(), "Unknown"), stamp(end, "Unknown"), stamp(j.Spec.Deadline, "N/A"))
	if j.Preempted != 0 {
		b.linef("PreemptEligibleTime=%s PreemptTime=%s", stamp(j.Start, "None"), stamp(j.Preempted, "None"))
	}
	scheduler := j.SchedulerTag
	if scheduler == "" {
		scheduler = "Main"
	}
	b.linef("SuspendTime=%s SecsPreSuspend=%d LastSchedEval=%s Scheduler=%s", stamp(j.SuspendedAt, "None"), j.PreSuspend,
		stamp(j.LastSched, "N/A"), scheduler)
}

func (s *session) jobNodes(b *block, j *jobtext.Job) {
	partition := j.Partition
	if j.State == wlm.Pending && len(j.Spec.Partitions) > 1 {
		partition = strings.Join(j.Spec.Partitions, ",")
	}
	b.linef("Partition=%s AllocNode:Sid=%s:%d", partition, jobtext.OrNull(j.Spec.AllocNode), j.Spec.AllocSID)
	b.linef("ReqNodeList=%s ExcNodeList=%s", jobtext.OrNull(j.Spec.ReqNodes), jobtext.OrNull(j.Spec.ExcNodes))
	b.linef("NodeList=%s", j.NodeList)
	if j.Outlook != nil && j.Outlook.Nodes != "" {
		b.WriteString(" SchedNodeList=" + j.Outlook.Nodes)
	}
	b.textf("BatchHost", string(j.BatchHost))
}

func jobSizes(b *block, j *jobtext.Job) {
	spec := j.Spec
	nodes := strconv.FormatUint(j.NodeCount(), 10)
	if j.State == wlm.Pending && spec.MaxNodes != 0 {
		nodes += "-" + strconv.FormatUint(uint64(spec.MaxNodes), 10)
	}
	b.linef("NumNodes=%s NumCPUs=%d NumTasks=%d CPUs/Task=%d ReqB:S:C:T=0:%d:%s:%s", nodes, j.CPUCount(), j.TaskCount(),
		max(spec.CPUsPerTask, 1), spec.SocketsPerNode, orStar(spec.CoresPerSocket), orStar(spec.ThreadsPerCore))
	b.linef("ReqTRES=%s", jobtext.OrNull(j.ReqTRES))
	b.linef("AllocTRES=%s", jobtext.OrNull(j.AllocTRES))
	b.linef("Socks/Node=%s NtasksPerN:B:S:C=%d:0:%s:%s CoreSpec=%s", orStar(spec.SocketsPerNode), spec.TasksPerNode,
		orStar(spec.TasksPerSocket), orStar(spec.TasksPerCore), orStar(spec.CoreSpec))
}

func orStar(n uint32) string {
	if n == 0 || n == wlm.Unset {
		return "*"
	}
	return strconv.FormatUint(uint64(n), 10)
}

// jobGres lists what the job holds on its nodes; nodes alike share a line.
func (s *session) jobGres(b *block, j *jobtext.Job) {
	if s.Details == 0 || j.Alloc == nil || j.State == wlm.Pending {
		return
	}
	b.linef("JOB_GRES=%s", jobtext.OrNull(""))
	all := j.Alloc.Nodes
	for i := 0; i < len(all); {
		first := &all[i]
		var names []string
		for ; i < len(all) && all[i].CPUs.String() == first.CPUs.String() && all[i].Mem == first.Mem && all[i].Gres == first.Gres; i++ {
			names = append(names, string(all[i].Node))
		}
		fmt.Fprintf(b, "\n     Nodes=%s CPU_IDs=%v Mem=%d GRES=%s", hostlist.CompressOrdered(names), first.CPUs, first.Mem, first.Gres)
	}
}

func jobNeeds(b *block, j *jobtext.Job) {
	spec := j.Spec
	mem, perCPU := j.MinMemory()
	word := "MinMemoryNode"
	if perCPU {
		word = "MinMemoryCPU"
	}
	b.linef("MinCPUsNode=%d %s=%s MinTmpDiskNode=%s", j.MinCPUs(), word, wlm.FormatMiB(mem), wlm.FormatMiB(spec.TmpDisk))
	b.linef("Features=%s DelayBoot=%s", jobtext.OrNull(spec.Features), wlm.FormatElapsed(int64(spec.DelayBoot)))
	b.textf("Prefer", spec.Prefer)
	b.textf("Reservation", j.ReservationName())
	held := ""
	if j.State != wlm.Pending {
		held = spec.Licenses
	}
	b.linef("OverSubscribe=%s Contiguous=%s Licenses=%s LicensesAlloc=%s Network=%s", j.OverSubscribe(), jobtext.ZeroOne(spec.Contiguous),
		jobtext.OrNull(spec.Licenses), jobtext.OrNull(held), jobtext.OrNull(spec.Network))
}

func (s *session) jobWork(b *block, j *jobtext.Job) {
	spec := j.Spec
	b.linef("Command=%s", jobtext.OrNull(j.Command()))
	b.textf("SubmitLine", spec.SubmitLine)
	b.linef("WorkDir=%s", spec.WorkDir)
	b.textf("AdminComment", spec.AdminNote)
	b.textf("SystemComment", spec.SystemNote)
	b.textf("Comment", spec.Comment)
	b.textf("Extra", spec.Extra)
	if spec.Kind == wlm.KindBatch {
		in, out, errs := j.Files()
		b.linef("StdErr=%s", errs)
		b.linef("StdIn=%s", in)
		b.linef("StdOut=%s", out)
	}
	if spec.Switches != 0 {
		b.linef("Switches=%d@%s", spec.Switches, wlm.FormatElapsed(int64(spec.SwitchWait)))
	}
	if spec.OOMKill != wlm.Unsaid {
		b.linef("OOMKillStep=%s", jobtext.ZeroOne(spec.OOMKill == wlm.Yes))
	}
	b.textf("TresPerJob", spec.TresPerJob)
	b.textf("TresPerNode", spec.TresPerNode)
	b.textf("TresPerSocket", spec.TresPerSocket)
	b.textf("TresPerTask", j.TresPerTask())
	if spec.MailType != "" && spec.MailType != "NONE" {
		b.linef("MailUser=%s MailType=%s", spec.MailUser, spec.MailType)
	}
	b.textf("Container", spec.Container)
}
