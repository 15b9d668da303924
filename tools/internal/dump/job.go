package dump

import (
	"strings"

	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/jobtext"
	"github.com/sluice-hpc/sluice/tools/internal/structured"
)

// endless is how far ahead Slurm puts the end of a job without a limit.
const endless = 365 * 24 * 60 * 60

// Job writes a job as an element of the list "jobs".
func Job(w *structured.Writer, j *jobtext.Job, cluster string) {
	s := j.Spec
	if s.Cluster != "" {
		cluster = s.Cluster
	}
	w.Object("")
	w.Str("account", s.Account)
	w.Set("accrue_time", int64(j.Accrue))
	w.Str("admin_comment", s.AdminNote)
	w.Str("allocating_node", s.AllocNode)
	jobArray(w, j)
	w.Int("association_id", 0)
	w.Str("batch_features", "")
	w.Bool("batch_flag", s.Kind == wlm.KindBatch)
	w.Str("batch_host", string(j.BatchHost))
	w.Strs("flags", jobFlags(j)...)
	w.Str("burst_buffer", "")
	w.Str("burst_buffer_state", "")
	w.Str("cluster", cluster)
	w.Str("cluster_features", "")
	w.Str("command", j.Command())
	w.Str("comment", s.Comment)
	w.Str("container", s.Container)
	w.Str("container_id", "")
	w.Bool("contiguous", s.Contiguous)
	w.Int("core_spec", known(s.CoreSpec))
	w.Int("thread_spec", 0)
	optional(w, "cores_per_socket", s.CoresPerSocket)
	billing(w, j)
	w.Set("cpus_per_task", int64(max(s.CPUsPerTask, 1)))
	w.Unset("cpu_frequency_minimum")
	w.Unset("cpu_frequency_maximum")
	w.Unset("cpu_frequency_governor")
	w.Str("cpus_per_tres", "")
	w.Str("cron", "")
	w.Set("deadline", int64(s.Deadline))
	w.Set("delay_boot", int64(s.DelayBoot))
	w.Str("dependency", wlm.FormatDependency(j.Deps))
	Status(w, "derived_exit_code", j.Derived)
	w.Set("eligible_time", int64(j.EligibleFrom()))
	w.Set("end_time", jobEnd(j))
	w.Str("excluded_nodes", s.ExcNodes)
	Status(w, "exit_code", j.Status)
	w.Str("extra", s.Extra)
	w.Str("failed_node", string(j.FailedNode))
	w.Str("features", s.Features)
	w.Str("federation_origin", "")
	w.Str("federation_siblings_active", "")
	w.Str("federation_siblings_viable", "")
	w.Strs("gres_detail")
	w.Int("group_id", int64(s.Group))
	w.Str("group_name", s.GroupName)
	w.Set("het_job_id", int64(j.HetJob))
	w.Str("het_job_id_set", j.HetSet)
	w.Set("het_job_offset", int64(j.HetOffset))
	w.Int("job_id", int64(j.Job.ID))
	resources(w, j)
	w.Strs("job_size_str")
	w.Strs("job_state", strings.Split(wlm.StateFull(j.State, j.Flags), ",")...)
	w.Set("last_sched_evaluation", int64(j.LastSched))
	jobSizes(w, j)
	jobPolicy(w, j)
	jobFiles(w, j)
	w.End()
}

func known(n uint32) int64 {
	if n == wlm.Unset {
		return 0
	}
	return int64(n)
}

// optional writes a number that is unset when nobody asked for it.
func optional(w *structured.Writer, key string, n uint32) {
	if n == 0 || n == wlm.Unset {
		w.Unset(key)
		return
	}
	w.Set(key, int64(n))
}

func jobArray(w *structured.Writer, j *jobtext.Job) {
	w.Set("array_job_id", int64(j.ArrayJob))
	if j.ArrayJob != 0 && !j.IsArrayRecord() {
		w.Set("array_task_id", int64(j.ArrayTask))
	} else {
		w.Unset("array_task_id")
	}
	w.Set("array_max_tasks", int64(j.Spec.ArrayMaxRunning))
	tasks := ""
	if j.IsArrayRecord() {
		tasks = j.Tasks(0)
	}
	w.Str("array_task_string", tasks)
}

func billing(w *structured.Writer, j *jobtext.Job) {
	w.Object("billable_tres")
	w.Bool("set", j.AllocTRES != "")
	w.Bool("infinite", false)
	w.Float("number", float64(jobtext.Count(j.AllocTRES, "billing")))
	w.End()
}

func jobFlags(j *jobtext.Job) []string {
	var flags []string
	if j.State != wlm.Pending {
		flags = append(flags, "JOB_WAS_RUNNING")
	}
	if j.Spec.MemPerNode != 0 {
		flags = append(flags, "EXACT_MEMORY_REQUESTED")
	}
	if j.Spec.NTasks != 0 {
		flags = append(flags, "EXACT_TASK_COUNT_REQUESTED")
	}
	if len(j.Deps) > 0 {
		flags = append(flags, "DEPENDENT")
	}
	if j.Partition != "" {
		flags = append(flags, "PARTITION_ASSIGNED")
	}
	return flags
}

func jobEnd(j *jobtext.Job) int64 {
	at, never := j.EndOrForecast()
	if never {
		return int64(j.StartOrForecast()) + endless
	}
	return int64(at)
}

// Status writes how a process ended.
func Status(w *structured.Writer, key string, st wlm.WaitStatus) {
	w.Object(key)
	word := "SUCCESS"
	switch {
	case st.Signal() != 0:
		word = "SIGNALED"
	case st.Code() != 0:
		word = "ERROR"
	}
	w.Strs("status", word)
	w.Set("return_code", int64(st.Code()))
	w.Object("signal")
	name := ""
	if n := st.Signal(); n != 0 {
		w.Set("id", int64(n))
		name = strings.TrimPrefix(wlm.SignalName(n), "SIG")
	} else {
		w.Unset("id")
	}
	w.Str("name", name)
	w.End()
	w.End()
}

func resources(w *structured.Writer, j *jobtext.Job) {
	if j.Alloc == nil || j.State == wlm.Pending || j.State.Ended() {
		w.Null("job_resources")
		return
	}
	w.Object("job_resources")
	w.Strs("select_type", "CORE")
	w.Object("nodes")
	w.Int("count", int64(len(j.Alloc.Nodes)))
	w.Strs("select_type", "ONE_ROW")
	w.Str("list", j.NodeList)
	w.Bool("whole", j.Spec.Share == wlm.ShareNever)
	w.List("allocation")
	for i := range j.Alloc.Nodes {
		n := &j.Alloc.Nodes[i]
		w.Object("")
		w.Int("index", int64(i))
		w.Str("name", string(n.Node))
		w.Object("cpus")
		w.Int("count", int64(n.CPUs.Count()))
		w.Int("used", 0)
		w.End()
		w.Object("memory")
		w.Int("used", 0)
		w.Int("allocated", int64(n.Mem))
		w.End()
		w.End()
	}
	w.End()
	w.End()
	w.Int("cpus", int64(j.Alloc.CPUCount()))
	w.Unset("threads_per_core")
	w.End()
}

func jobSizes(w *structured.Writer, j *jobtext.Job) {
	s := j.Spec
	w.Str("licenses", s.Licenses)
	licenses := ""
	if j.State != wlm.Pending {
		licenses = s.Licenses
	}
	w.Str("licenses_allocated", licenses)
	var mail []string
	if s.MailType != "" && s.MailType != "NONE" {
		mail = strings.Split(s.MailType, ",")
	}
	w.Strs("mail_type", mail...)
	w.Str("mail_user", s.MailUser)
	w.Set("max_cpus", 0)
	maxNodes := s.MaxNodes
	if j.State != wlm.Pending {
		maxNodes = 0
	}
	w.Set("max_nodes", int64(maxNodes))
	w.Str("mcs_label", s.MCSLabel)
	w.Str("memory_per_tres", "")
	w.Str("name", s.Name)
	w.Str("network", s.Network)
	w.Str("nodes", j.NodeList)
	w.Int("nice", int64(s.Nice))
	orInfinite(w, "tasks_per_core", s.TasksPerCore)
	w.Set("tasks_per_tres", 0)
	w.Set("tasks_per_node", int64(s.TasksPerNode))
	orInfinite(w, "tasks_per_socket", s.TasksPerSocket)
	w.Set("tasks_per_board", 0)
	w.Set("cpus", int64(j.CPUCount()))
	w.Set("node_count", int64(j.NodeCount()))
	w.Set("tasks", int64(j.TaskCount()))
	w.Str("partition", j.Partition)
	w.Str("prefer", s.Prefer)
	if m, perCPU := j.MinMemory(); perCPU {
		w.Set("memory_per_cpu", int64(m))
		w.Unset("memory_per_node")
	} else {
		w.Unset("memory_per_cpu")
		w.Set("memory_per_node", int64(m))
	}
	w.Set("minimum_cpus_per_node", int64(j.MinCPUs()))
	w.Set("minimum_tmp_disk_per_node", int64(s.TmpDisk))
}

func orInfinite(w *structured.Writer, key string, n uint32) {
	if n == 0 || n == wlm.Unset {
		w.Infinite(key)
		return
	}
	w.Set(key, int64(n))
}

func jobPolicy(w *structured.Writer, j *jobtext.Job) {
	s := j.Spec
	w.Object("power")
	w.Strs("flags")
	w.End()
	w.Set("preempt_time", int64(j.Preempted))
	w.Set("preemptable_time", 0)
	w.Set("pre_sus_time", int64(j.PreSuspend))
	w.Bool("hold", j.Held)
	w.Set("priority", int64(j.Priority))
	w.Strs("priority_by_partition")
	profile := "NOT_SET"
	if s.Profile != "" {
		profile = strings.ToUpper(s.Profile)
	}
	w.Strs("profile", profile)
	w.Str("qos", s.QOS)
	w.Bool("reboot", s.Reboot)
	w.Str("required_nodes", s.ReqNodes)
	w.Int("required_switches", int64(s.Switches))
	w.Bool("requeue", j.Requeueable)
	w.Set("resize_time", 0)
	w.Int("restart_cnt", int64(j.Restarts))
	w.Str("resv_name", s.Reservation)
	scheduled := ""
	if j.Outlook != nil {
		scheduled = j.Outlook.Nodes
	}
	w.Str("scheduled_nodes", scheduled)
	w.Int("segment_size", 0)
	w.Str("selinux_context", "")
	w.Strs("shared", shared(s.Share)...)
	w.Object("step_id")
	w.Str("sluid", j.SLUID)
	w.Set("job_id", int64(j.Job.ID))
	w.Unset("step_het_component")
	w.Str("step_id", "entire")
	w.End()
	w.Int("sockets_per_board", 0)
	optional(w, "sockets_per_node", s.SocketsPerNode)
	w.Set("start_time", int64(j.StartOrForecast()))
	w.Str("state_description", description(j))
	w.Str("state_reason", j.ReasonNow().String())
}

// description is the reason in a sentence, where there is one.
func description(j *jobtext.Job) string {
	if text := j.Job.ReasonText; text != "" {
		return text
	}
	if j.Outlook != nil {
		return j.Outlook.Text
	}
	return ""
}

func shared(s wlm.Exclusivity) []string {
	switch s {
	case wlm.ShareNever:
		return []string{"none"}
	case wlm.ShareUser:
		return []string{"user"}
	case wlm.ShareMCS:
		return []string{"mcs"}
	case wlm.ShareTopo:
		return []string{"topo"}
	case wlm.ShareAllow:
		return []string{"oversubscribe"}
	}
	return nil
}

func jobFiles(w *structured.Writer, j *jobtext.Job) {
	s := j.Spec
	var in, out, errs, inX, outX, errsX string
	if s.Kind == wlm.KindBatch {
		in, out, errs = j.Patterns()
		inX, outX, errsX = j.Files()
	}
	w.Str("standard_input", in)
	w.Str("standard_output", out)
	w.Str("standard_error", errs)
	w.Str("stdin_expanded", inX)
	w.Str("stdout_expanded", outX)
	w.Str("stderr_expanded", errsX)
	w.Set("submit_time", int64(j.Submit))
	w.Str("submit_line", s.SubmitLine)
	w.Set("suspend_time", int64(j.SuspendedAt))
	w.Str("system_comment", s.SystemNote)
	switch j.TimeLimit {
	case wlm.Unlimited:
		w.Infinite("time_limit")
	case 0:
		w.Unset("time_limit")
	default:
		w.Set("time_limit", int64(j.TimeLimit))
	}
	w.Set("time_minimum", int64(s.TimeMin))
	optional(w, "threads_per_core", s.ThreadsPerCore)
	w.Str("tres_bind", "")
	w.Str("tres_freq", "")
	w.Str("tres_per_job", s.TresPerJob)
	w.Str("tres_per_node", s.TresPerNode)
	w.Str("tres_per_socket", s.TresPerSocket)
	w.Str("tres_per_task", j.TresPerTask())
	w.Str("tres_req_str", j.ReqTRES)
	w.Str("tres_alloc_str", j.AllocTRES)
	w.Int("user_id", int64(s.User))
	w.Str("user_name", s.UserName)
	w.Int("maximum_switch_wait_time", int64(s.SwitchWait))
	w.Str("wckey", s.WCKey)
	w.Str("current_working_directory", s.WorkDir)
}
