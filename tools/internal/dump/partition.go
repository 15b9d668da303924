package dump

import (
	"strings"

	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/nodetext"
	"github.com/sluice-hpc/sluice/tools/internal/structured"
)

// Bound writes a limit that may be infinite.
func Bound(w *structured.Writer, key string, n uint32) {
	if n == wlm.Unset || n == uint32(wlm.Unlimited) {
		w.Infinite(key)
		return
	}
	w.Set(key, int64(n))
}

// Partition writes a partition.
func Partition(w *structured.Writer, key string, p *nodetext.Part) {
	w.Object(key)
	w.Object("nodes")
	w.Str("allowed_allocation", strings.Join(p.AllocNodes, ","))
	w.Str("configured", p.Nodes)
	w.Int("total", int64(p.TotalNodes))
	w.End()
	w.Object("accounts")
	w.Str("allowed", strings.Join(p.AllowAccounts, ","))
	w.Str("deny", strings.Join(p.DenyAccounts, ","))
	w.End()
	w.Object("groups")
	w.Str("allowed", strings.Join(p.AllowGroups, ","))
	w.End()
	w.Object("qos")
	w.Str("allowed", strings.Join(p.AllowQOS, ","))
	w.Str("deny", strings.Join(p.DenyQOS, ","))
	w.Str("assigned", p.QOS)
	w.End()
	w.Str("alternate", p.Alternate)
	w.Object("tres")
	w.Str("billing_weights", p.TRESWeights)
	w.Str("configured", p.TRES())
	w.End()
	w.Str("cluster", "")
	w.Strs("select_type")
	w.Object("cpus")
	w.Int("task_binding", 0)
	w.Int("total", int64(p.TotalCPUs))
	w.End()
	w.Object("defaults")
	partMemory(w, p.DefMemPerCPU, p.DefMemPerNode)
	minutes(w, "time", p.DefaultTime)
	w.Str("job", p.JobDefaults)
	w.End()
	w.Int("grace_time", int64(p.GraceTime))
	maximums(w, p)
	w.Object("minimums")
	w.Int("nodes", int64(p.MinNodes))
	w.End()
	w.Str("name", p.Name)
	w.Str("node_sets", "")
	w.Object("priority")
	w.Int("job_factor", int64(p.PriorityJob))
	w.Int("tier", int64(p.PriorityTier))
	w.End()
	w.Object("timeouts")
	w.Unset("resume")
	w.Unset("suspend")
	w.End()
	w.Str("topology", "")
	w.Object("partition")
	w.Strs("state", p.State.String())
	w.End()
	w.Unset("suspend_time")
	w.End()
}

func minutes(w *structured.Writer, key string, m wlm.Minutes) {
	switch m {
	case 0:
		w.Unset(key)
	case wlm.Unlimited:
		w.Infinite(key)
	default:
		w.Set(key, int64(m))
	}
}

func partMemory(w *structured.Writer, perCPU, perNode wlm.MiB) {
	w.Int("memory_per_cpu", int64(perCPU))
	if perCPU != 0 {
		w.Set("partition_memory_per_cpu", int64(perCPU))
		w.Unset("partition_memory_per_node")
		return
	}
	w.Unset("partition_memory_per_cpu")
	w.Set("partition_memory_per_node", int64(perNode))
}

func maximums(w *structured.Writer, p *nodetext.Part) {
	w.Object("maximums")
	Bound(w, "cpus_per_node", p.MaxCPUsPerNode)
	Bound(w, "cpus_per_socket", p.MaxCPUsPerSock)
	partMemory(w, p.MaxMemPerCPU, p.MaxMemPerNode)
	Bound(w, "nodes", p.MaxNodes)
	w.Int("shares", int64(max(p.OverSubCount, 1)))
	w.Object("oversubscribe")
	w.Int("jobs", int64(max(p.OverSubCount, 1)))
	if p.OverSubscribe == wlm.OverSubForce {
		w.Strs("flags", "force")
	} else {
		w.Strs("flags")
	}
	w.End()
	minutes(w, "time", p.MaxTime)
	if p.OverTimeLimit == wlm.Unset {
		w.Unset("over_time_limit")
	} else {
		w.Set("over_time_limit", int64(p.OverTimeLimit))
	}
	w.End()
}
