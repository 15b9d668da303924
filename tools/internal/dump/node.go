package dump

import (
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/nodetext"
	"github.com/sluice-hpc/sluice/tools/internal/structured"
	"github.com/sluice-hpc/sluice/tools/internal/users"
)

// Node writes a node as an element of the list "nodes".
func Node(w *structured.Writer, n *nodetext.Node, cluster string, names *users.Names) {
	alloc, idle, _ := n.CPUs()
	w.Object("")
	w.Str("architecture", n.Arch)
	w.Str("burstbuffer_network_address", "")
	w.Int("boards", int64(max(n.Boards, 1)))
	w.Set("boot_time", int64(n.BootTime))
	w.Str("cluster_name", cluster)
	w.Int("cores", int64(n.CoresPerSocket))
	w.Int("specialized_cores", int64(n.CoreSpecCount))
	w.Int("cpu_binding", 0)
	if n.CPULoad == wlm.Unset {
		w.Int("cpu_load", 0)
	} else {
		w.Int("cpu_load", int64(n.CPULoad))
	}
	w.Number("free_mem", n.FreeMem != 0, false, int64(n.FreeMem))
	w.Int("cpus", int64(n.Node.CPUs))
	w.Int("effective_cpus", int64(n.Effective()))
	w.Str("specialized_cpus", n.CPUSpecList)
	w.Str("extra", n.Extra)
	w.Strs("features", n.Features...)
	w.Strs("active_features", n.ActiveFeatures...)
	w.Str("gres", n.Gres)
	w.Str("gres_drained", "N/A")
	w.Str("gres_used", n.GresUsed)
	w.Set("last_busy", int64(n.LastBusy))
	w.Str("mcs_label", "")
	w.Int("specialized_memory", int64(n.MemSpecLimit))
	w.Str("name", string(n.Name))
	w.Strs("next_state_after_reboot")
	w.Str("address", orName(n.Addr, n))
	w.Str("hostname", orName(n.Hostname, n))
	w.Strs("state", n.Words()...)
	w.Str("operating_system", n.OS)
	w.Str("owner", "")
	w.Strs("partitions", n.Partitions...)
	w.Int("port", int64(n.Port))
	w.Int("real_memory", int64(n.RealMemory))
	w.Str("comment", n.Comment)
	w.Str("reason", n.Reason)
	w.Set("reason_changed_at", int64(n.ReasonTime))
	user := ""
	if n.ReasonTime != 0 {
		user = names.User(uint32(n.ReasonUser))
	}
	w.Str("reason_set_by_user", user)
	w.Set("resume_after", 0)
	w.Str("reservation", "")
	w.Int("alloc_memory", int64(n.AllocMem))
	w.Int("alloc_cpus", int64(alloc))
	w.Int("alloc_idle_cpus", int64(idle))
	w.Str("tres_used", wlm.FormatTRES(wlm.TRES{}.With("cpu", uint64(n.AllocCPUs)).With("mem", uint64(n.AllocMem)).NonZero()))
	w.Set("slurmd_start_time", int64(n.DaemonStart))
	w.Int("sockets", int64(n.Sockets))
	w.Int("threads", int64(n.ThreadsPerCore))
	w.Int("temporary_disk", int64(n.TmpDisk))
	w.Int("weight", int64(n.Weight))
	w.Str("tres", wlm.FormatTRES(wlm.TRES{}.With("cpu", uint64(n.Node.CPUs)).With("mem", uint64(n.RealMemory)).With("billing", uint64(n.Node.CPUs))))
	w.Str("version", n.Version)
	w.End()
}

func orName(v string, n *nodetext.Node) string {
	if v == "" {
		return string(n.Name)
	}
	return v
}
