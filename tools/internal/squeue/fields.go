package squeue

import (
	"cmp"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/column"
	"github.com/sluice-hpc/sluice/tools/internal/jobtext"
)

// row is a job as a line of the list.
type row = *jobtext.Job

// needSpec marks fields that lists do not carry: the whole Spec must be asked for.
const needSpec = 1

type field = column.Field[row]

// jobFields are all fields of squeue(1), in the order of their letters.
var jobFields = column.Table[row]{
	{Letter: 'a', Names: []string{"Account"}, Header: "ACCOUNT", Value: func(j row) string { return jobtext.OrNull(j.Spec.Account) }},
	{Letter: 'A', Names: []string{"JobId"}, Header: "JOBID", Value: func(j row) string { return j.Job.ID.String() }, Order: byID},
	{Letter: 'B', Names: []string{"BatchHost"}, Header: "EXEC_HOST", Value: batchHost},
	{Letter: 'b', Names: []string{"Gres", "tres-per-node"}, Header: "TRES_PER_NODE", Value: func(j row) string { return orNA(j.Spec.TresPerNode) }, Needs: needSpec},
	{Letter: 'c', Names: []string{"MinCpus"}, Header: "MIN_CPUS", Value: func(j row) string { return num(j.MinCPUs()) }, Order: numeric(func(j row) int64 { return int64(j.MinCPUs()) }), Whole: true, Needs: needSpec},
	{Letter: 'C', Names: []string{"NumCPUs"}, Header: "CPUS", Value: func(j row) string { return num(j.CPUCount()) }, Order: numeric(func(j row) int64 { return int64(j.CPUCount()) })},
	{Letter: 'd', Names: []string{"MinTmpDisk"}, Header: "MIN_TMP_DISK", Value: func(j row) string { return wlm.FormatMiB(j.Spec.TmpDisk) }, Order: numeric(func(j row) int64 { return int64(j.Spec.TmpDisk) }), Needs: needSpec},
	{Letter: 'D', Names: []string{"NumNodes"}, Header: "NODES", Value: func(j row) string { return num(j.NodeCount()) }, Order: numeric(func(j row) int64 { return int64(j.NodeCount()) })},
	{Letter: 'e', Names: []string{"EndTime"}, Header: "END_TIME", Value: endTime, Order: numeric(func(j row) int64 { t, _ := j.EndOrForecast(); return int64(t) })},
	{Letter: 'E', Names: []string{"Dependency"}, Header: "DEPENDENCY", Value: func(j row) string { return jobtext.OrNull(wlm.FormatDependency(j.Deps)) }, Needs: needSpec},
	{Letter: 'f', Names: []string{"Feature"}, Header: "FEATURES", Value: func(j row) string { return jobtext.OrNull(j.Spec.Features) }, Needs: needSpec},
	{Letter: 'F', Names: []string{"ArrayJobId"}, Header: "ARRAY_JOB_ID", Value: func(j row) string { return arrayJob(j).String() }, Order: numeric(func(j row) int64 { return int64(arrayJob(j)) })},
	{Letter: 'g', Names: []string{"GroupName"}, Header: "GROUP", Value: func(j row) string { return j.Spec.GroupName }, Needs: needSpec},
	{Letter: 'G', Names: []string{"GroupId"}, Header: "GROUP", Value: func(j row) string { return num(j.Spec.Group) }, Order: numeric(func(j row) int64 { return int64(j.Spec.Group) }), Needs: needSpec},
	{Letter: 'H', Names: []string{"Sockets"}, Header: "SOCKETS_PER_NODE", Value: func(j row) string { return orStar(j.Spec.SocketsPerNode) }, Needs: needSpec},
	{Letter: 'h', Names: []string{"OverSubscribe", "Shared"}, Header: "OVER_SUBSCRIBE", Value: row.OverSubscribe, Needs: needSpec},
	{Letter: 'i', Names: []string{"JobArrayId"}, Header: "JOBID", Value: func(j row) string { return j.ID(bitStrLen()) }, Order: byID},
	{Letter: 'I', Names: []string{"Cores"}, Header: "CORES_PER_SOCKET", Value: func(j row) string { return orStar(j.Spec.CoresPerSocket) }, Needs: needSpec},
	{Letter: 'j', Names: []string{"Name", "JobName"}, Header: "NAME", Value: func(j row) string { return j.Spec.Name }},
	{Letter: 'J', Names: []string{"Threads"}, Header: "THREADS_PER_CORE", Value: func(j row) string { return orStar(j.Spec.ThreadsPerCore) }, Needs: needSpec},
	{Letter: 'k', Names: []string{"Comment"}, Header: "COMMENT", Value: func(j row) string { return jobtext.OrNull(j.Spec.Comment) }, Needs: needSpec},
	{Letter: 'K', Names: []string{"ArrayTaskId"}, Header: "ARRAY_TASK_ID", Value: func(j row) string { return orNA(j.Tasks(bitStrLen())) }},
	{Letter: 'l', Names: []string{"TimeLimit"}, Header: "TIME_LIMIT", Value: func(j row) string { return wlm.FormatMinutesShort(j.TimeLimit) }, Order: numeric(func(j row) int64 { return int64(j.TimeLimit) })},
	{Letter: 'L', Names: []string{"TimeLeft"}, Header: "TIME_LEFT", Value: timeLeft, Order: numeric(secondsLeft), Whole: true},
	{Letter: 'm', Names: []string{"MinMemory"}, Header: "MIN_MEMORY", Value: func(j row) string { m, _ := j.MinMemory(); return wlm.FormatMiB(m) }, Order: numeric(func(j row) int64 { m, _ := j.MinMemory(); return int64(m) }), Needs: needSpec},
	{Letter: 'M', Names: []string{"TimeUsed"}, Header: "TIME", Value: timeUsed, Order: numeric(row.Elapsed), Whole: true},
	{Letter: 'n', Names: []string{"ReqNodes"}, Header: "REQ_NODES", Value: func(j row) string { return j.Spec.ReqNodes }, Needs: needSpec},
	{Letter: 'N', Names: []string{"NodeList"}, Header: "NODELIST", Value: func(j row) string { return j.NodeList }},
	{Letter: 'o', Names: []string{"Command"}, Header: "COMMAND", Value: func(j row) string { return jobtext.OrNull(j.Command()) }, Needs: needSpec},
	{Letter: 'O', Names: []string{"Contiguous"}, Header: "CONTIGUOUS", Value: func(j row) string { return jobtext.ZeroOne(j.Spec.Contiguous) }, Needs: needSpec},
	{Letter: 'p', Names: []string{"Priority"}, Header: "PRIORITY", Value: func(j row) string { return strconv.FormatFloat(float64(j.Priority)/(1<<32), 'f', 14, 64) }, Order: byPriority},
	{Letter: 'P', Names: []string{"Partition"}, Header: "PARTITION", Value: partition},
	{Letter: 'q', Names: []string{"QOS"}, Header: "QOS", Value: func(j row) string { return jobtext.OrNull(j.Spec.QOS) }},
	{Letter: 'Q', Names: []string{"PriorityLong"}, Header: "PRIORITY", Value: func(j row) string { return num(j.Priority) }, Order: byPriority},
	{Letter: 'r', Names: []string{"Reason"}, Header: "REASON", Value: row.ReasonText},
	{Letter: 'R', Names: []string{"ReasonList"}, Header: "NODELIST(REASON)", Value: row.NodesOrReason},
	{Letter: 's', Names: []string{"SLUID"}, Header: "SLUID", Value: func(j row) string { return j.SLUID }},
	{Letter: 'S', Names: []string{"StartTime"}, Header: "START_TIME", Value: func(j row) string { return stamp(j.StartOrForecast(), "N/A") }, Order: byStart},
	{Letter: 't', Names: []string{"StateCompact"}, Header: "ST", Value: func(j row) string { return wlm.StateShort(j.State, j.Flags) }},
	{Letter: 'T', Names: []string{"State"}, Header: "STATE", Value: func(j row) string { return wlm.StateName(j.State, j.Flags) }},
	{Letter: 'U', Names: []string{"UserId"}, Header: "UID", Value: func(j row) string { return num(j.Spec.User) }, Order: numeric(func(j row) int64 { return int64(j.Spec.User) })},
	{Letter: 'u', Names: []string{"UserName"}, Header: "USER", Value: func(j row) string { return j.Spec.UserName }},
	{Letter: 'v', Names: []string{"Reservation"}, Header: "RESERVATION", Value: func(j row) string { return jobtext.OrNull(j.ReservationName()) }, Needs: needSpec},
	{Letter: 'V', Names: []string{"SubmitTime"}, Header: "SUBMIT_TIME", Value: func(j row) string { return stamp(j.Submit, "N/A") }, Order: numeric(func(j row) int64 { return int64(j.Submit) })},
	{Letter: 'w', Names: []string{"WCKey"}, Header: "WCKEY", Value: func(j row) string { return jobtext.OrNull(j.Spec.WCKey) }, Needs: needSpec},
	{Letter: 'W', Names: []string{"Licenses"}, Header: "LICENSES", Value: func(j row) string { return jobtext.OrNull(j.Spec.Licenses) }, Needs: needSpec},
	{Letter: 'x', Names: []string{"ExcNodes"}, Header: "EXC_NODES", Value: func(j row) string { return j.Spec.ExcNodes }, Needs: needSpec},
	{Letter: 'X', Names: []string{"CoreSpec"}, Header: "CORE_SPEC", Value: coreSpec, Needs: needSpec},
	{Letter: 'y', Names: []string{"Nice"}, Header: "NICE", Value: func(j row) string { return strconv.Itoa(int(j.Spec.Nice)) }, Order: numeric(func(j row) int64 { return int64(j.Spec.Nice) }), Needs: needSpec},
	{Letter: 'Y', Names: []string{"SchedNodes"}, Header: "SCHEDNODES", Value: schedNodes},
	{Letter: 'z', Names: []string{"SCT"}, Header: "S:C:T", Value: func(j row) string {
		return orStar(j.Spec.SocketsPerNode) + ":" + orStar(j.Spec.CoresPerSocket) + ":" + orStar(j.Spec.ThreadsPerCore)
	}, Needs: needSpec},
	{Letter: 'Z', Names: []string{"WorkDir"}, Header: "WORK_DIR", Value: func(j row) string { return j.Spec.WorkDir }, Needs: needSpec},

	text("AccrueTime", "ACCRUE_TIME", func(j row) string { return stamp(j.Accrue, "N/A") }),
	spec("admin_comment", "ADMIN_COMMENT", func(s *wlm.Spec) string { return s.AdminNote }),
	spec("AllocNodes", "ALLOC_NODES", func(s *wlm.Spec) string { return s.AllocNode }),
	text("AllocSID", "ALLOC_SID", func(j row) string { return num(j.Spec.AllocSID) }),
	text("AssocId", "ASSOC_ID", func(row) string { return "0" }),
	text("BatchFlag", "BATCH_FLAG", func(j row) string { return jobtext.ZeroOne(j.Spec.Kind == wlm.KindBatch) }),
	text("BoardsPerNode", "BOARDS_PER_NODE", func(row) string { return "N/A" }),
	spec("BurstBuffer", "BURST_BUFFER", func(*wlm.Spec) string { return "" }),
	spec("BurstBufferState", "BURST_BUFFER_STATE", func(*wlm.Spec) string { return "" }),
	text("Cluster", "CLUSTER", func(j row) string { return orNA(j.Spec.Cluster) }),
	spec("ClusterFeature", "CLUSTER_FEATURES", func(*wlm.Spec) string { return "" }),
	spec("Container", "CONTAINER", func(s *wlm.Spec) string { return s.Container }),
	spec("ContainerId", "CONTAINERID", func(*wlm.Spec) string { return "" }),
	text("CPUsPerTask", "CPUS_PER_TASK", cpusPerTask, "cpus-per-task"),
	text("cpus-per-tres", "CPUS_PER_TRES", func(row) string { return "N/A" }),
	text("CronJob", "CRON_JOB", func(row) string { return "No" }),
	text("Deadline", "DEADLINE", func(j row) string { return stamp(j.Spec.Deadline, "N/A") }),
	text("DelayBoot", "DELAY_BOOT", func(j row) string { return wlm.FormatShort(int64(j.Spec.DelayBoot)) }),
	text("DerivedEC", "DERIVED_EC", func(j row) string { return j.Derived.String() }),
	text("EligibleTime", "ELIGIBLE_TIME", func(j row) string { return stamp(j.EligibleFrom(), "N/A") }),
	text("exit_code", "EXIT_CODE", func(j row) string { return j.Status.String() }),
	text("HetJobId", "HET_JOB_ID", hetJob, "PackJobId"),
	text("HetJobIdSet", "HET_JOB_ID_SET", func(j row) string { return orNA(j.HetSet) }, "PackJobIdSet"),
	text("HetJobOffset", "HET_JOB_OFFSET", hetOffset, "PackJobOffset"),
	text("LastSchedEval", "LAST_SCHED_EVAL", func(j row) string { return stamp(j.LastSched, "N/A") }),
	spec("LicensesAlloc", "LICENSES_ALLOC", func(s *wlm.Spec) string { return s.Licenses }),
	text("MaxCPUs", "MAX_CPUS", func(row) string { return "0" }),
	text("MaxNodes", "MAX_NODES", func(j row) string { return num(j.Spec.MaxNodes) }),
	text("mem-per-tres", "MEM_PER_TRES", func(row) string { return "N/A" }),
	text("MCSLabel", "MCSLABEL", func(j row) string { return orNA(j.Spec.MCSLabel) }),
	text("MinTime", "TIME_MIN", func(j row) string { return wlm.FormatMinutesShort(j.Spec.TimeMin) }),
	spec("Network", "NETWORK", func(s *wlm.Spec) string { return s.Network }),
	text("NTPerCore", "NTASKS_PER_CORE", func(j row) string { return numOrNA(j.Spec.TasksPerCore) }),
	text("NTPerNode", "NTASKS_PER_NODE", func(j row) string { return numOrNA(j.Spec.TasksPerNode) }),
	text("NTPerSocket", "NTASKS_PER_SOCKET", func(j row) string { return numOrNA(j.Spec.TasksPerSocket) }),
	text("NTPerBoard", "NTASKS_PER_BOARD", func(row) string { return "N/A" }),
	text("NumTasks", "TASKS", func(j row) string { return num(j.TaskCount()) }),
	text("Origin", "ORIGIN", func(row) string { return "NA" }),
	text("OriginRaw", "ORIGIN_RAW", func(row) string { return "0" }),
	text("PendingTime", "PENDING_TIME", pendingTime),
	text("PreemptTime", "PREEMPT_TIME", func(j row) string { return stamp(j.Preempted, "N/A") }),
	spec("Prefer", "PREFER", func(s *wlm.Spec) string { return s.Prefer }),
	text("Profile", "PROFILE", func(j row) string { return orNA(j.Spec.Profile) }),
	text("Reboot", "REBOOT", func(j row) string { return jobtext.ZeroOne(j.Spec.Reboot) }),
	text("ReqSwitch", "REQ_SWITCH", func(j row) string { return num(j.Spec.Switches) }),
	text("Requeue", "REQUEUE", func(j row) string { return jobtext.ZeroOne(j.Requeueable) }),
	text("ResizeTime", "RESIZE_TIME", func(row) string { return "N/A" }),
	text("RestartCnt", "RESTART_COUNT", func(j row) string { return num(j.Restarts) }),
	text("SegmentSize", "SEGMENT_SIZE", func(row) string { return "0" }),
	text("SiblingsActive", "ACTIVE_SIBLINGS", func(row) string { return "NA" }),
	text("SiblingsActiveRaw", "ACTIVE_SIBLINGS_RAW", func(row) string { return "NA" }),
	text("SiblingsViable", "VIABLE_SIBLINGS", func(row) string { return "NA" }),
	text("SiblingsViableRaw", "VIALBLE_SIBLINGS_RAW", func(row) string { return "NA" }),
	text("SPerBoard", "SOCKETS_PER_BOARD", func(row) string { return "N/A" }),
	text("StdErr", "STDERR", func(j row) string { _, _, e := files(j); return e }),
	text("StdIn", "STDIN", func(j row) string { in, _, _ := files(j); return in }),
	text("StdOut", "STDOUT", func(j row) string { _, out, _ := files(j); return out }),
	spec("system_comment", "SYSTEM_COMMENT", func(s *wlm.Spec) string { return s.SystemNote }),
	text("Tres", "TRES_ALLOC", tresAlloc, "tres-alloc"),
	text("tres-bind", "TRES_BIND", func(row) string { return "N/A" }),
	text("tres-freq", "TRES_FREQ", func(row) string { return "N/A" }),
	text("tres-per-job", "TRES_PER_JOB", func(j row) string { return orNA(j.Spec.TresPerJob) }),
	text("tres-per-socket", "TRES_PER_SOCKET", func(j row) string { return orNA(j.Spec.TresPerSocket) }),
	text("tres-per-task", "TRES_PER_TASK", func(j row) string { return orNA(j.Spec.TresPerTask) }),
	text("Wait4Switch", "WAIT4SWITCH", func(j row) string { return num(j.Spec.SwitchWait) }),
}

// text is a field that has no letter.
func text(name, header string, value func(row) string, aliases ...string) field {
	return field{Names: append([]string{name}, aliases...), Header: header, Value: value, Needs: needSpec}
}

// spec is a text field that shows (null) for nothing.
func spec(name, header string, value func(*wlm.Spec) string) field {
	return text(name, header, func(j row) string { return jobtext.OrNull(value(j.Spec)) })
}

func num[T ~uint32 | ~uint64 | ~int64](n T) string { return strconv.FormatUint(uint64(n), 10) }

func numeric(value func(row) int64) func(a, b row) int {
	return func(a, b row) int { return cmp.Compare(value(a), value(b)) }
}

func byID(a, b row) int {
	if c := cmp.Compare(arrayJob(a), arrayJob(b)); c != 0 {
		return c
	}
	return cmp.Or(cmp.Compare(a.ArrayTask, b.ArrayTask), cmp.Compare(a.Job.ID, b.Job.ID))
}

func byPriority(a, b row) int { return cmp.Compare(a.Priority, b.Priority) }

// byStart puts jobs whose start nobody knows last.
func byStart(a, b row) int {
	return cmp.Compare(uint64(a.StartOrForecast()-1), uint64(b.StartOrForecast()-1))
}

func arrayJob(j row) wlm.JobID {
	if j.ArrayJob != 0 {
		return j.ArrayJob
	}
	return j.Job.ID
}

func partition(j row) string {
	if j.State == wlm.Pending && len(j.Spec.Partitions) > 1 && j.Partition == j.Spec.Partitions[0] {
		return strings.Join(j.Spec.Partitions, ",")
	}
	return j.Partition
}

// stamp prints a time as SLURM_TIME_FORMAT says.
func stamp(t wlm.Time, none string) string {
	if format != "" && format != "standard" {
		return wlm.FormatTimeAs(t, none, format, time.Now())
	}
	return wlm.FormatTime(t, none)
}

// format is SLURM_TIME_FORMAT, read once; it holds for the whole process.
var format = os.Getenv("SLURM_TIME_FORMAT")

var bits = readBitStrLen(os.Getenv("SLURM_BITSTR_LEN"))

func readBitStrLen(s string) int {
	if n, err := strconv.Atoi(s); err == nil && n >= 0 {
		return n
	}
	return jobtext.BitStrLen
}

func bitStrLen() int { return bits }

func endTime(j row) string {
	t, never := j.EndOrForecast()
	if never {
		return "NONE"
	}
	return stamp(t, "N/A")
}

const maxSeconds = 1<<63 - 1

func secondsLeft(j row) int64 {
	if j.TimeLimit == wlm.Unlimited || j.TimeLimit == 0 {
		return maxSeconds
	}
	return int64(j.TimeLimit)*60 - j.Elapsed()
}

func timeLeft(j row) string {
	switch j.TimeLimit {
	case wlm.Unlimited:
		return "UNLIMITED"
	case 0:
		return "NOT_SET"
	}
	return wlm.FormatShort(secondsLeft(j))
}

func timeUsed(j row) string {
	if n := j.Elapsed(); n != 0 {
		return wlm.FormatShort(n)
	}
	return "0:00" // of every pending job
}

func batchHost(j row) string {
	switch {
	case j.BatchHost != "":
		return string(j.BatchHost)
	case j.State != wlm.Pending && j.Spec.Kind != wlm.KindBatch:
		return orNAlower(j.Spec.AllocNode)
	}
	return "n/a"
}

func orNAlower(s string) string {
	if s == "" {
		return "n/a"
	}
	return s
}

func orNA(s string) string {
	if s == "" {
		return "N/A"
	}
	return s
}

func numOrNA(n uint32) string {
	if n == 0 || n == wlm.Unset {
		return "N/A"
	}
	return num(n)
}

func orStar(n uint32) string {
	if n == 0 || n == wlm.Unset {
		return "*"
	}
	return num(n)
}

func coreSpec(j row) string {
	if j.Spec.CoreSpec == wlm.Unset || j.Spec.CoreSpec == 0 {
		return "N/A"
	}
	return num(j.Spec.CoreSpec)
}

func cpusPerTask(j row) string { return num(max(j.Spec.CPUsPerTask, 1)) }

func schedNodes(j row) string {
	if j.Outlook != nil {
		return jobtext.OrNull(j.Outlook.Nodes)
	}
	return "(null)"
}

func hetJob(j row) string { return numOrNA(uint32(j.HetJob)) }

func hetOffset(j row) string {
	if j.HetJob == 0 {
		return "N/A"
	}
	return num(j.HetOffset)
}

func pendingTime(j row) string {
	end := j.Now
	if j.Start != 0 && j.State != wlm.Pending {
		end = j.Start
	}
	return strconv.FormatInt(max(0, int64(end-j.Submit)), 10)
}

func files(j row) (in, out, errs string) {
	if j.Spec.Kind != wlm.KindBatch {
		return "", "", ""
	}
	if j.Expand {
		return j.Files()
	}
	return j.Patterns()
}

func tresAlloc(j row) string {
	if j.State != wlm.Pending && j.AllocTRES != "" {
		return j.AllocTRES
	}
	return orNA(j.ReqTRES)
}
