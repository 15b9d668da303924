package sacct

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/jobtext"
)

// line is a job, or one of its steps.
type line struct {
	o    *Options
	job  *jobtext.Job
	step *wlm.Step // nil: the job itself
	all  []*wlm.Step
}

// field is a column of sacct. What is not known is blank.
type field struct {
	name  string
	width int // negative: to the left
	value func(*line) string
}

// fields are all fields of --helpformat, in its order.
var fields = []field{
	{"Account", 10, func(l *line) string { return l.job.Spec.Account }},
	{"AdminComment", 15, ofJob(func(j *jobtext.Job) string { return j.Spec.AdminNote })},
	{"AllocCPUS", 10, func(l *line) string { return num(l.cpus()) }},
	{"AllocNodes", 10, func(l *line) string { return num(l.nodes()) }},
	{"AllocTRES", 10, (*line).allocTRES},
	{"AssocID", 7, blank},
	{"AveCPU", 10, sampled((*line).aveCPU)},
	{"AveCPUFreq", 10, ofStep(func(*wlm.Step) string { return "0" })},
	{"AveDiskRead", 14, blank},
	{"AveDiskWrite", 14, blank},
	{"AvePages", 10, blank},
	{"AveRSS", 10, sampled((*line).rss)},
	{"AveVMSize", 10, blank},
	{"BlockID", 16, blank},
	{"Cluster", 10, func(l *line) string { return l.job.Spec.Cluster }},
	{"Comment", 14, ofJob(func(j *jobtext.Job) string { return j.Spec.Comment })},
	{"Constraints", 19, ofJob(func(j *jobtext.Job) string { return j.Spec.Features })},
	{"ConsumedEnergy", 14, (*line).energy},
	{"ConsumedEnergyRaw", 17, (*line).energy},
	{"Container", 19, func(l *line) string {
		return l.pick(l.job.Spec.Container, func(s *wlm.Step) string { return s.Container })
	}},
	{"CPUTime", 10, func(l *line) string { return wlm.FormatElapsed(l.cpuTime()) }},
	{"CPUTimeRAW", 10, func(l *line) string { return num(l.cpuTime()) }},
	{"DBIndex", -21, ofJob(func(j *jobtext.Job) string { return j.SLUID })},
	{"DerivedExitCode", 15, ofJob(func(j *jobtext.Job) string { return j.Derived.String() })},
	{"Elapsed", 10, func(l *line) string { return wlm.FormatElapsed(l.elapsed()) }},
	{"ElapsedRaw", 10, func(l *line) string { return num(l.elapsed()) }},
	{"Eligible", 19, ofJob(func(j *jobtext.Job) string { return stamp(j.EligibleFrom()) })},
	{"End", 19, func(l *line) string { return stamp(l.end()) }},
	{"ExitCode", 8, (*line).exitCode},
	{"Extra", 14, ofJob(func(j *jobtext.Job) string { return j.Spec.Extra })},
	{"FailedNode", 8, ofJob(func(j *jobtext.Job) string { return string(j.FailedNode) })},
	{"Flags", 19, ofJob(flags)},
	{"GID", 6, ofJob(func(j *jobtext.Job) string { return num(j.Spec.Group) })},
	{"Group", 9, ofJob(func(j *jobtext.Job) string { return j.Spec.GroupName })},
	{"JobID", -12, (*line).id},
	{"JobIDRaw", -12, (*line).rawID},
	{"JobName", 10, func(l *line) string { return l.pick(l.job.Spec.Name, func(s *wlm.Step) string { return s.Name }) }},
	{"Layout", 9, ofStep(func(s *wlm.Step) string { return s.Dist })},
	{"Licenses", 10, ofJob(func(j *jobtext.Job) string { return j.Spec.Licenses })},
	{"MaxDiskRead", 12, blank},
	{"MaxDiskReadNode", 15, blank},
	{"MaxDiskReadTask", 15, blank},
	{"MaxDiskWrite", 12, blank},
	{"MaxDiskWriteNode", 16, blank},
	{"MaxDiskWriteTask", 16, blank},
	{"MaxPages", 8, blank},
	{"MaxPagesNode", 12, blank},
	{"MaxPagesTask", 14, blank},
	{"MaxRSS", 10, sampled((*line).rss)},
	{"MaxRSSNode", 10, sampled(func(l *line) string { return l.onlyNode() })},
	{"MaxRSSTask", 10, sampled(func(l *line) string { return l.onlyTask() })},
	{"MaxVMSize", 10, blank},
	{"MaxVMSizeNode", 14, blank},
	{"MaxVMSizeTask", 14, blank},
	{"McsLabel", 12, ofJob(func(j *jobtext.Job) string { return j.Spec.MCSLabel })},
	{"MinCPU", 10, sampled(func(l *line) string {
		if l.step.NTasks == 1 {
			return l.aveCPU()
		}
		return ""
	})},
	{"MinCPUNode", 10, sampled(func(l *line) string { return l.onlyNode() })},
	{"MinCPUTask", 10, sampled(func(l *line) string { return l.onlyTask() })},
	{"NCPUS", 10, func(l *line) string { return num(l.cpus()) }},
	{"NNodes", 8, func(l *line) string { return num(l.nodes()) }},
	{"NodeList", 15, (*line).nodeList},
	{"NTasks", 8, ofStep(func(s *wlm.Step) string { return num(s.NTasks) })},
	{"Partition", 10, ofJob(func(j *jobtext.Job) string { return j.Partition })},
	{"Planned", 10, ofJob(func(j *jobtext.Job) string { return wlm.FormatElapsed(planned(j)) })},
	{"PlannedCPU", 10, ofJob(func(j *jobtext.Job) string { return wlm.FormatElapsed(planned(j) * int64(j.CPUCount())) })},
	{"PlannedCPURAW", 13, ofJob(func(j *jobtext.Job) string { return num(planned(j) * int64(j.CPUCount())) })},
	{"Priority", 10, ofJob(func(j *jobtext.Job) string { return num(j.Priority) })},
	{"QOS", 10, ofJob(func(j *jobtext.Job) string { return j.Spec.QOS })},
	{"QOSRAW", 6, blank},
	{"QOSREQ", 10, ofJob(func(j *jobtext.Job) string { return j.Spec.QOS })},
	{"Reason", 22, ofJob(func(j *jobtext.Job) string { return j.ReasonText() })},
	{"ReqCPUFreq", 10, (*line).cpuFreq},
	{"ReqCPUFreqGov", 13, (*line).cpuFreq},
	{"ReqCPUFreqMax", 13, (*line).cpuFreq},
	{"ReqCPUFreqMin", 13, (*line).cpuFreq},
	{"ReqCPUS", 8, (*line).reqCPUs},
	{"ReqMem", 10, ofJob(reqMem)},
	{"ReqNodes", 8, (*line).reqNodes},
	{"ReqTRES", 10, ofJob(func(j *jobtext.Job) string { return byName(j.ReqTRES) })},
	{"Reservation", 20, ofJob(func(j *jobtext.Job) string { return j.ReservationName() })},
	{"ReservationId", 8, ofJob(func(j *jobtext.Job) string {
		if j.ReservationID == 0 {
			return ""
		}
		return num(j.ReservationID)
	})},
	{"ReqReservation", 20, ofJob(func(j *jobtext.Job) string { return j.Spec.Reservation })},
	{"Restarts", 8, ofJob(func(j *jobtext.Job) string { return num(j.Restarts) })},
	{"SegmentSize", 11, blank},
	{"SLUID", 14, ofJob(func(j *jobtext.Job) string { return j.SLUID })},
	{"Start", 19, func(l *line) string { return stamp(l.start()) }},
	{"State", 10, (*line).state},
	{"StdErr", 20, func(l *line) string { _, _, e := l.files(); return e }},
	{"StdIn", 20, func(l *line) string { in, _, _ := l.files(); return in }},
	{"StdOut", 20, func(l *line) string { _, out, _ := l.files(); return out }},
	{"Submit", 19, func(l *line) string {
		if l.step != nil {
			return stamp(l.step.Start)
		}
		return stamp(l.job.Submit)
	}},
	{"SubmitLine", 20, func(l *line) string {
		return l.pick(l.job.Spec.SubmitLine, func(s *wlm.Step) string { return s.SubmitCmd })
	}},
	{"Suspended", 10, func(l *line) string {
		return l.pick(wlm.FormatElapsed(int64(l.job.SuspendTotal)), func(*wlm.Step) string { return "00:00:00" })
	}},
	{"SystemComment", 15, ofJob(func(j *jobtext.Job) string { return j.Spec.SystemNote })},
	{"SystemCPU", 10, func(l *line) string { _, sys := l.usage(); return cpuClock(sys) }},
	{"Timelimit", 10, ofJob(func(j *jobtext.Job) string { return wlm.FormatMinutes(j.TimeLimit) })},
	{"TimelimitRaw", 10, ofJob(func(j *jobtext.Job) string {
		if j.TimeLimit == wlm.Unlimited || j.TimeLimit == 0 {
			return wlm.FormatMinutes(j.TimeLimit)
		}
		return num(j.TimeLimit)
	})},
	{"TotalCPU", 10, func(l *line) string { user, sys := l.usage(); return cpuClock(user + sys) }},
	{"TRESUsageInAve", 14, (*line).usageIn},
	{"TRESUsageInMax", 14, sampled((*line).usageIn)},
	{"TRESUsageInMaxNode", 18, blank},
	{"TRESUsageInMaxTask", 18, blank},
	{"TRESUsageInMin", 14, blank},
	{"TRESUsageInMinNode", 18, blank},
	{"TRESUsageInMinTask", 18, blank},
	{"TRESUsageInTot", 14, (*line).usageIn},
	{"TRESUsageOutAve", 15, (*line).usageOut},
	{"TRESUsageOutMax", 15, blank},
	{"TRESUsageOutMaxNode", 19, blank},
	{"TRESUsageOutMaxTask", 19, blank},
	{"TRESUsageOutMin", 15, blank},
	{"TRESUsageOutMinNode", 19, blank},
	{"TRESUsageOutMinTask", 19, blank},
	{"TRESUsageOutTot", 15, (*line).usageOut},
	{"UID", 6, ofJob(func(j *jobtext.Job) string { return num(j.Spec.User) })},
	{"User", 9, ofJob(func(j *jobtext.Job) string { return j.Spec.UserName })},
	{"UserCPU", 10, func(l *line) string { user, _ := l.usage(); return cpuClock(user) }},
	{"WCKey", 10, ofJob(func(j *jobtext.Job) string { return j.Spec.WCKey })},
	{"WCKeyID", 10, blank},
	{"WorkDir", 20, ofJob(func(j *jobtext.Job) string { return j.Spec.WorkDir })},
}

func blank(*line) string { return "" }

// ofJob is a value that steps do not have.
func ofJob(value func(*jobtext.Job) string) func(*line) string {
	return func(l *line) string {
		if l.step != nil {
			return ""
		}
		return value(l.job)
	}
}

// ofStep is a value that jobs do not have.
func ofStep(value func(*wlm.Step) string) func(*line) string {
	return func(l *line) string {
		if l.step == nil {
			return ""
		}
		return value(l.step)
	}
}

// sampled is a value of steps whose use of memory was measured.
func sampled(value func(*line) string) func(*line) string {
	return func(l *line) string {
		if l.step == nil || l.step.MaxRSS == 0 {
			return ""
		}
		return value(l)
	}
}

func (l *line) pick(job string, step func(*wlm.Step) string) string {
	if l.step != nil {
		return step(l.step)
	}
	return job
}

func num[T ~uint32 | ~uint64 | ~int64 | ~int](n T) string { return strconv.FormatInt(int64(n), 10) }

func stamp(t wlm.Time) string {
	if format := os.Getenv("SLURM_TIME_FORMAT"); format != "" && format != "standard" {
		return wlm.FormatTimeAs(t, "Unknown", format, time.Now())
	}
	return wlm.FormatTime(t, "Unknown")
}

// id is the job as users write it, with the step.
func (l *line) id() string {
	j := l.job
	id := j.Job.ID.String()
	switch {
	case j.HetJob != 0 && j.State == wlm.Pending: // accounting learns of components when they start
	default:
		id = j.ID(jobtext.BitStrLen)
	}
	return l.withStep(id)
}

func (l *line) rawID() string { return l.withStep(l.job.Job.ID.String()) }

func (l *line) withStep(id string) string {
	if l.step != nil {
		return id + "." + l.step.ID.String()
	}
	return id
}

func (l *line) cpus() uint64 {
	switch {
	case l.step != nil:
		return uint64(l.step.CPUs)
	case l.job.Start == 0:
		return 0
	}
	return l.job.CPUCount()
}

func (l *line) nodes() uint64 {
	if l.step != nil {
		return uint64(l.step.Nodes)
	}
	return l.job.NodeCount()
}

func (l *line) nodeList() string {
	list := l.pick(l.job.NodeList, func(s *wlm.Step) string { return s.NodeList })
	if list == "" {
		return "None assigned"
	}
	return list
}

func (l *line) reqCPUs() string {
	if l.step != nil {
		return num(l.step.CPUs)
	}
	return num(jobtext.Count(l.job.ReqTRES, "cpu"))
}

func (l *line) reqNodes() string {
	if l.step != nil {
		return num(l.step.Nodes)
	}
	return num(jobtext.Count(l.job.ReqTRES, "node"))
}

// byName prints a TRES list in the order of accounting, the alphabet's.
func byName(list string) string {
	t, err := wlm.ParseTRES(list)
	if err != nil {
		return list
	}
	return wlm.FormatTRESByName(t)
}

func (l *line) allocTRES() string {
	return byName(l.pick(l.job.AllocTRES, func(s *wlm.Step) string { return s.TRES }))
}

func reqMem(j *jobtext.Job) string {
	t, err := wlm.ParseTRES(j.ReqTRES)
	if err != nil || t.Get("mem") == 0 {
		return "0"
	}
	return wlm.FormatMiB(wlm.MiB(t.Get("mem")))
}

// start and end are clipped to the window with --truncate.
func (l *line) start() wlm.Time {
	t := l.job.Start
	if l.step != nil {
		t = l.step.Start
	}
	if l.o.Truncate && t != 0 && t < l.o.from {
		return l.o.from
	}
	return t
}

func (l *line) ended() bool {
	if l.step != nil {
		return l.step.State.Ended()
	}
	return l.job.State.Ended()
}

func (l *line) end() wlm.Time {
	var t wlm.Time
	if l.ended() {
		t = l.job.End
		if l.step != nil {
			t = l.step.End
		}
	}
	if l.o.Truncate && l.start() != 0 && (t == 0 || t > l.o.to) {
		return l.o.to
	}
	return t
}

func (l *line) elapsed() int64 {
	start, end := l.start(), l.end()
	if start == 0 {
		return 0
	}
	if end == 0 {
		if l.step == nil && !l.o.Truncate {
			return l.job.Elapsed()
		}
		end = l.o.now
	}
	n := int64(end - start)
	if l.step == nil {
		n -= int64(l.job.SuspendTotal)
	}
	return max(0, n)
}

func (l *line) cpuTime() int64 { return l.elapsed() * int64(l.cpus()) }

func planned(j *jobtext.Job) int64 {
	if j.Eligible == 0 {
		return 0
	}
	end := j.Start
	if end == 0 {
		end = j.Now
	}
	return max(0, int64(end-j.Eligible))
}

// exitCode leaves the signal out that ended a job which was not its own
// master: cancelled, out of time, preempted.
func (l *line) exitCode() string {
	if l.step != nil {
		return l.step.Status.String()
	}
	switch l.job.State {
	case wlm.Cancelled, wlm.Timeout, wlm.Preempted, wlm.Deadline, wlm.NodeFail:
		if l.job.Status.Signal() != 0 {
			return wlm.ExitStatus(0).String()
		}
	}
	return l.job.Status.String()
}

func (l *line) state() string {
	st, by := l.job.State, l.job.KilledBy
	fl := l.job.Flags
	if l.step != nil {
		st, by, fl = l.step.State, l.step.KilledBy, l.step.Flags
	}
	if st == wlm.Cancelled && by != wlm.Unset && l.step == nil {
		return st.String() + " by " + num(by)
	}
	if st.Ended() {
		fl = 0 // accounting knows how it ended, not what is still being cleaned up
	}
	return wlm.StateName(st, fl)
}

func flags(j *jobtext.Job) string {
	if j.Start == 0 || j.SchedulerTag == "" {
		return ""
	}
	return "Sched" + j.SchedulerTag
}

func (l *line) energy() string {
	if l.step != nil || l.job.State == wlm.Pending {
		return "0"
	}
	return ""
}

func (l *line) cpuFreq() string {
	if l.step != nil && l.step.ID == wlm.StepBatch {
		return "0"
	}
	return "Unknown"
}

// usage is the CPU time of the step, or of all steps.
func (l *line) usage() (user, sys time.Duration) {
	of := l.all
	if l.step != nil {
		of = []*wlm.Step{l.step}
	}
	for _, s := range of {
		user += time.Duration(s.UserSec)*time.Second + time.Duration(s.UserUsec)*time.Microsecond
		sys += time.Duration(s.SysSec)*time.Second + time.Duration(s.SysUsec)*time.Microsecond
	}
	return user, sys
}

// cpuClock prints CPU time; below an hour with milliseconds.
func cpuClock(d time.Duration) string {
	if d < time.Hour {
		return fmt.Sprintf("%02d:%02d.%03d", d/time.Minute, d/time.Second%60, d/time.Millisecond%1000)
	}
	return wlm.FormatElapsed(int64(d / time.Second))
}

func (l *line) aveCPU() string {
	user, sys := l.usage()
	return wlm.FormatElapsed(int64((user + sys) / time.Second / time.Duration(max(l.step.NTasks, 1))))
}

func (l *line) rss() string { return l.o.size(uint64(l.step.MaxRSS) << 10) }

// size prints KiB in the unit asked for.
func (o *Options) size(kib uint64) string {
	if o.Units == 0 {
		return num(kib) + "K"
	}
	v := float64(kib)
	for _, u := range "KMGTP" {
		if byte(u) == o.Units {
			break
		}
		v /= 1024
	}
	return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 2, 64), ".00") + string(rune(o.Units))
}

// onlyNode and onlyTask are who it was when there was only one.
func (l *line) onlyNode() string {
	if n, err := hostlist.Count(l.step.NodeList); err != nil || n != 1 {
		return ""
	}
	return l.step.NodeList
}

func (l *line) onlyTask() string {
	if l.step.NTasks != 1 {
		return ""
	}
	return "0"
}

func (l *line) usageIn() string {
	switch {
	case l.step == nil || !l.step.State.Ended():
		return ""
	case l.step.MaxRSS == 0:
		return "energy=0"
	}
	return "cpu=" + l.aveCPU() + ",energy=0,mem=" + l.rss()
}

func (l *line) usageOut() string {
	if l.step == nil || !l.step.State.Ended() {
		return ""
	}
	return "energy=0"
}

func (l *line) files() (in, out, errs string) {
	if l.step != nil {
		return l.step.StdIn, l.step.StdOut, l.step.StdErr
	}
	if l.job.Spec.Kind != wlm.KindBatch {
		return "", "", ""
	}
	if l.o.Expand {
		return l.job.Files()
	}
	return l.job.Patterns()
}
