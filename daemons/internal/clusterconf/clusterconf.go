// Package clusterconf turns a configuration into what the core wants: rules,
// nodes and partitions as a command, and the values that policies read. It is
// pure; whatever it is given was checked by package conf.
package clusterconf

import (
	"slices"
	"strconv"
	"time"

	"github.com/sluice-hpc/sluice/conf"
	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/sdk/topology"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Settings are the cluster's rules as the configuration states them.
func Settings(c *conf.Config) cluster.Settings {
	secs := func(d time.Duration) uint32 {
		if d < 0 || d == conf.Forever {
			return 0
		}
		return uint32(d / time.Second)
	}
	s := cluster.Settings{
		Cluster: c.ClusterName, MaxJobCount: int(c.MaxJobCount), FirstJobID: c.FirstJobId, MaxJobID: c.MaxJobId,
		MaxArraySize: c.MaxArraySize, MaxScriptBytes: c.SchedulerParameters.Int("max_script_size", 4<<20),
		DefMemPerCPU: c.DefMemPerCPU, DefMemPerNode: c.DefMemPerNode, MaxMemPerCPU: c.MaxMemPerCPU, MaxMemPerNode: c.MaxMemPerNode,
		TrackMemory: c.SelectTypeParameters.Memory, OneTaskPerCore: c.SelectTypeParameters.OneTaskPerCore,
		WholeNodes: c.SelectType == "select/linear", JobRequeue: c.JobRequeue, MinJobAge: secs(c.MinJobAge), KillWait: secs(c.KillWait),
		OverTimeLimit: c.OverTimeLimit, SlurmdTimeout: secs(c.SlurmdTimeout), ReturnToService: int(c.ReturnToService),
		ConfigOverrides: c.SlurmdParameters.Has("config_overrides"), MaxDependDepth: c.DependencyParameters.Int("max_depend_depth", 10),
		MaxBatchRequeue: c.MaxBatchRequeue, EnforceLimits: c.EnforcePartLimits,
		MaxArrayTasks:  c.SchedulerParameters.Int("max_array_tasks", 0),
		MaxSwitchWait:  uint32(c.SchedulerParameters.Int("max_switch_wait", 300)),
		UserTop:        c.SchedulerParameters.Has("enable_user_top"),
		KillInvalidDep: c.DependencyParameters.Has("kill_invalid_depend") || c.SchedulerParameters.Has("kill_invalid_depend"),
	}
	if v, ok := c.SlurmctldParameters.Get("node_reg_mem_percent"); ok {
		if f, err := strconv.ParseFloat(v, 64); err == nil {
			s.RegMemoryPercent = f
		}
	}
	s.GresTypes, s.TRES, s.MaxTRES = c.GresTypes.Items, c.AccountingStorageTRES, c.PriorityFlags.Has("MAX_TRES")
	s.DefCPUPerGPU, s.DefMemPerGPU = uint32(c.DefCPUPerGPU), c.DefMemPerGPU
	s.ResvOverRun = wlm.Minutes(min(c.ResvOverRun/time.Minute, time.Duration(wlm.Unlimited)))
	for _, l := range c.Licenses {
		s.Licenses = append(s.Licenses, cluster.License{Name: l.Name, Total: uint64(l.Count)})
	}
	s.Preemption = cluster.PreemptionOf(Policy(c))
	s.RequeueDelay = uint32(max(c.SchedulerParameters.Int("requeue_delay", 0), 0))
	for code := range 256 {
		if c.RequeueExit.Has(code) {
			s.RequeueExit = append(s.RequeueExit, code)
		}
		if c.RequeueExitHold.Has(code) {
			s.RequeueExitHold = append(s.RequeueExitHold, code)
		}
	}
	return s
}

// policyKeys are the values of slurm.conf that plugins see.
var policyKeys = []string{"SchedulerParameters", "SchedulerType", "SelectType", "SelectTypeParameters", "PriorityType",
	"PriorityFlags", "PriorityMaxAge", "PriorityFavorSmall", "PriorityCalcPeriod", "PriorityWeightAge", "PriorityWeightAssoc",
	"PriorityWeightFairshare", "PriorityWeightJobSize", "PriorityWeightPartition", "PriorityWeightQOS", "PriorityWeightTRES",
	"Licenses", "TopologyPlugin", "PreemptType", "PreemptMode", "PreemptParameters"}

// Policy returns the values of slurm.conf for the views of plugins.
func Policy(c *conf.Config) map[string]string {
	out := map[string]string{}
	for _, k := range policyKeys {
		if v, _, ok := c.Raw(k); ok && v != "" {
			out[k] = v
		}
	}
	if c.Topology != nil && len(c.Topology.Topologies) > 0 {
		out["Topology"] = c.Topology.Encode()
	}
	if c.PreemptExemptTime > 0 && c.PreemptExemptTime != conf.Forever {
		out["PreemptExemptSeconds"] = strconv.Itoa(int(c.PreemptExemptTime / time.Second))
	}
	return out
}

// Configure returns the command that brings the cluster in line with c.
func Configure(c *conf.Config) *cluster.Configure {
	f := &cluster.Configure{Settings: Settings(c), Nodes: slices.Clone(c.Nodes), Partitions: slices.Clone(c.Partitions),
		KeepPartInfo: c.ReconfigFlags.Has("KeepPartInfo"), KeepPartState: c.ReconfigFlags.Has("KeepPartState")}
	rankNodes(f.Nodes, c)
	for i := range f.Partitions {
		if f.Partitions[i].PriorityJob == 0 {
			f.Partitions[i].PriorityJob = 1
		}
	}
	return f
}

// rankNodes orders nodes by their switch or block if TopologyParam wants that.
func rankNodes(nodes []wlm.Node, c *conf.Config) {
	if c.Topology == nil {
		return
	}
	t := c.Topology.Default()
	if t == nil || !(t.Kind == topology.Tree && c.TopologyParam.Has("SwitchAsNodeRank") ||
		t.Kind == topology.Block && c.TopologyParam.Has("BlockAsNodeRank")) {
		return
	}
	slices.SortStableFunc(nodes, func(a, b wlm.Node) int { return t.Rank(string(a.Name)) - t.Rank(string(b.Name)) })
}
