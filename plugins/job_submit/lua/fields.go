package main

import (
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/wlm"
	glua "github.com/yuin/gopher-lua"
)

func parseNumber(s string) (glua.LNumber, error) {
	n, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	return glua.LNumber(n), err
}

// fields are those of job_desc, by Slurm's names.
var fields = map[string]field{
	// Who and where.
	"account":       text(func(s *wlm.Spec) *string { return &s.Account }),
	"admin_comment": text(func(s *wlm.Spec) *string { return &s.AdminNote }),
	"alloc_node":    readOnly(func(s *wlm.Spec) glua.LValue { return orNil(s.AllocNode) }),
	"alloc_sid":     readOnly(func(s *wlm.Spec) glua.LValue { return glua.LNumber(s.AllocSID) }),
	"clusters":      readOnly(func(s *wlm.Spec) glua.LValue { return orNil(s.Cluster) }),
	"comment":       text(func(s *wlm.Spec) *string { return &s.Comment }),
	"extra":         text(func(s *wlm.Spec) *string { return &s.Extra }),
	"group_id":      readOnly(func(s *wlm.Spec) glua.LValue { return glua.LNumber(s.Group) }),
	"group_name":    readOnly(func(s *wlm.Spec) glua.LValue { return orNil(s.GroupName) }),
	"mcs_label":     text(func(s *wlm.Spec) *string { return &s.MCSLabel }),
	"name":          text(func(s *wlm.Spec) *string { return &s.Name }),
	"partition":     partition,
	"qos":           text(func(s *wlm.Spec) *string { return &s.QOS }),
	"reservation":   text(func(s *wlm.Spec) *string { return &s.Reservation }),
	"submit_line":   readOnly(func(s *wlm.Spec) glua.LValue { return orNil(s.SubmitLine) }),
	"user_id":       readOnly(func(s *wlm.Spec) glua.LValue { return glua.LNumber(s.User) }),
	"user_name":     readOnly(func(s *wlm.Spec) glua.LValue { return orNil(s.UserName) }),
	"wckey":         text(func(s *wlm.Spec) *string { return &s.WCKey }),

	// Resources. Memory is MiB.
	"contiguous":        flag(func(s *wlm.Spec) *bool { return &s.Contiguous }, noVal16),
	"core_spec":         coreSpec,
	"cores_per_socket":  count(func(s *wlm.Spec) *uint32 { return &s.CoresPerSocket }, noVal16),
	"cpus_per_task":     count(func(s *wlm.Spec) *uint32 { return &s.CPUsPerTask }, noVal16),
	"exc_nodes":         text(func(s *wlm.Spec) *string { return &s.ExcNodes }),
	"features":          text(func(s *wlm.Spec) *string { return &s.Features }),
	"gres":              text(func(s *wlm.Spec) *string { return &s.TresPerNode }), // the older name of tres_per_node
	"licenses":          text(func(s *wlm.Spec) *string { return &s.Licenses }),
	"max_nodes":         count(func(s *wlm.Spec) *uint32 { return &s.MaxNodes }, noVal),
	"min_cpus":          count(func(s *wlm.Spec) *uint32 { return &s.NTasks }, noVal),
	"min_mem_per_cpu":   memory(perCPU, perNode),
	"min_mem_per_node":  memory(perNode, perCPU),
	"min_nodes":         minNodes,
	"network":           text(func(s *wlm.Spec) *string { return &s.Network }),
	"ntasks_per_core":   count(func(s *wlm.Spec) *uint32 { return &s.TasksPerCore }, noVal16),
	"ntasks_per_gpu":    count(func(s *wlm.Spec) *uint32 { return &s.TasksPerGPU }, noVal16),
	"ntasks_per_node":   count(func(s *wlm.Spec) *uint32 { return &s.TasksPerNode }, noVal16),
	"ntasks_per_socket": count(func(s *wlm.Spec) *uint32 { return &s.TasksPerSocket }, noVal16),
	"ntasks_per_tres":   count(func(s *wlm.Spec) *uint32 { return &s.TasksPerGPU }, noVal16),
	"num_tasks":         count(func(s *wlm.Spec) *uint32 { return &s.NTasks }, noVal),
	"overcommit":        flag(func(s *wlm.Spec) *bool { return &s.Overcommit }, noVal8),
	"pn_min_cpus":       count(func(s *wlm.Spec) *uint32 { return &s.MinCPUsPerNode }, noVal16),
	"pn_min_memory":     rawMemory,
	"pn_min_tmp_disk": {
		read: func(s *wlm.Spec) glua.LValue { return orNoVal(uint32(s.TmpDisk)) },
		write: func(s *wlm.Spec, v glua.LValue) {
			n, ok := number(v)
			if s.TmpDisk = 0; ok {
				s.TmpDisk = wlm.MiB(n)
			}
		},
	},
	"prefer":           text(func(s *wlm.Spec) *string { return &s.Prefer }),
	"req_nodes":        text(func(s *wlm.Spec) *string { return &s.ReqNodes }),
	"req_switch":       count(func(s *wlm.Spec) *uint32 { return &s.Switches }, noVal),
	"shared":           shared,
	"sockets_per_node": count(func(s *wlm.Spec) *uint32 { return &s.SocketsPerNode }, noVal16),
	"threads_per_core": count(func(s *wlm.Spec) *uint32 { return &s.ThreadsPerCore }, noVal16),
	"tres_per_job":     text(func(s *wlm.Spec) *string { return &s.TresPerJob }),
	"tres_per_node":    text(func(s *wlm.Spec) *string { return &s.TresPerNode }),
	"tres_per_socket":  text(func(s *wlm.Spec) *string { return &s.TresPerSocket }),
	"tres_per_task":    text(func(s *wlm.Spec) *string { return &s.TresPerTask }),
	"wait4switch":      count(func(s *wlm.Spec) *uint32 { return &s.SwitchWait }, noVal),

	// Time: limits in minutes, moments in Unix seconds.
	"begin_time": when(func(s *wlm.Spec) *wlm.Time { return &s.Begin }),
	"deadline":   when(func(s *wlm.Spec) *wlm.Time { return &s.Deadline }),
	"time_limit": minutes(func(s *wlm.Spec) *wlm.Minutes { return &s.TimeLimit }),
	"time_min":   minutes(func(s *wlm.Spec) *wlm.Minutes { return &s.TimeMin }),

	// Policy.
	"array_inx":         readOnly(func(s *wlm.Spec) glua.LValue { return orNil(s.Array) }),
	"delay_boot":        count(func(s *wlm.Spec) *uint32 { return &s.DelayBoot }, noVal),
	"dependency":        text(func(s *wlm.Spec) *string { return &s.Dependency }),
	"immediate":         readOnly(func(s *wlm.Spec) glua.LValue { return bit(s.Immediate) }),
	"kill_on_node_fail": readOnly(func(s *wlm.Spec) glua.LValue { return bit(!s.NoKill) }),
	"mail_type":         mailType,
	"mail_user":         text(func(s *wlm.Spec) *string { return &s.MailUser }),
	"nice":              nice,
	"priority":          priority,
	"reboot":            flag(func(s *wlm.Spec) *bool { return &s.Reboot }, noVal16),
	"requeue":           tristate(func(s *wlm.Spec) *wlm.Tristate { return &s.Requeue }),
	"wait_all_nodes":    tristate(func(s *wlm.Spec) *wlm.Tristate { return &s.WaitAllNodes }),
	"warn_signal":       count(func(s *wlm.Spec) *uint32 { return &s.Signal }, 0),
	"warn_time":         count(func(s *wlm.Spec) *uint32 { return &s.SignalSeconds }, 0),

	// Work.
	"acctg_freq":    text(func(s *wlm.Spec) *string { return &s.AcctFreq }),
	"argc":          readOnly(func(s *wlm.Spec) glua.LValue { return glua.LNumber(len(s.Argv)) }),
	"container":     text(func(s *wlm.Spec) *string { return &s.Container }),
	"cpu_bind":      text(func(s *wlm.Spec) *string { return &s.CPUBind }),
	"mem_bind":      text(func(s *wlm.Spec) *string { return &s.MemBind }),
	"oom_kill_step": tristate(func(s *wlm.Spec) *wlm.Tristate { return &s.OOMKill }),
	"std_err":       text(func(s *wlm.Spec) *string { return &s.StdErr }),
	"std_in":        text(func(s *wlm.Spec) *string { return &s.StdIn }),
	"std_out":       text(func(s *wlm.Spec) *string { return &s.StdOut }),
	"work_dir":      text(func(s *wlm.Spec) *string { return &s.WorkDir }),
}

func bit(b bool) glua.LValue {
	if b {
		return glua.LNumber(1)
	}
	return glua.LNumber(0)
}
