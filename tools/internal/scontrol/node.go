package scontrol

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/dump"
	"github.com/sluice-hpc/sluice/tools/internal/jobtext"
	"github.com/sluice-hpc/sluice/tools/internal/nodetext"
	"github.com/sluice-hpc/sluice/tools/internal/structured"
)

// loadNodes fetches nodes; names that the cluster does not have come back in
// missing.
func (s *session) loadNodes(ctx context.Context, list string) (nodes []*nodetext.Node, missing []string, now int64, err error) {
	take := func(m *ctlv1.NodesReply) error {
		now = m.GetNow()
		for _, n := range m.GetNodes() {
			nodes = append(nodes, nodetext.Of(n))
		}
		return nil
	}
	err = s.source.Nodes(ctx, &ctlv1.NodesRequest{Nodes: list}, take)
	if errs.CodeOf(err) != errs.InvalidNodeName {
		return nodes, nil, now, err
	}
	names, err := hostlist.Expand(list)
	if err != nil {
		return nil, []string{list}, now, nil
	}
	nodes = nil
	if err = s.source.Nodes(ctx, &ctlv1.NodesRequest{}, take); err != nil {
		return nil, nil, now, err
	}
	var found []*nodetext.Node
	for _, name := range names {
		i := slices.IndexFunc(nodes, func(n *nodetext.Node) bool { return string(n.Name) == name })
		if i < 0 {
			missing = append(missing, name)
			continue
		}
		found = append(found, nodes[i])
	}
	return found, missing, now, nil
}

// showNodes is "show node [list]".
func (s *session) showNodes(ctx context.Context, list string) {
	nodes, missing, now, err := s.loadNodes(ctx, list)
	if err != nil {
		s.fail("slurm_load_node error: ", err)
		return
	}
	if list == "" && !s.Future {
		nodes = slices.DeleteFunc(nodes, func(n *nodetext.Node) bool { return n.State == wlm.NodeFuture })
	}
	if s.Dump {
		w := structured.New(s.out, s.Form)
		w.List("nodes")
		for _, n := range nodes {
			dump.Node(w, n, s.source.ClusterName(), s.names)
		}
		w.End()
		w.Set("last_update", now)
		s.trailer(w)
		return
	}
	for _, n := range nodes {
		s.record(s.nodeBlock(n))
	}
	for _, name := range missing {
		s.notFound("Node " + name)
	}
	if len(nodes)+len(missing) == 0 {
		s.line("No nodes in the system")
	}
}

func (s *session) nodeBlock(n *nodetext.Node) string {
	b := &block{}
	fmt.Fprintf(b, "NodeName=%s ", n.Name)
	if n.Arch != "" {
		fmt.Fprintf(b, "Arch=%s ", n.Arch)
	}
	fmt.Fprintf(b, "CoresPerSocket=%d ", n.CoresPerSocket)
	b.linef("CPUAlloc=%d CPUEfctv=%d CPUTot=%d CPULoad=%s", n.AllocCPUs, n.Effective(), n.Node.CPUs, n.Load())
	b.linef("AvailableFeatures=%s", jobtext.OrNull(strings.Join(n.Features, ",")))
	b.linef("ActiveFeatures=%s", jobtext.OrNull(strings.Join(n.ActiveFeatures, ",")))
	b.linef("Gres=%s", jobtext.OrNull(n.Gres))
	if s.Details > 0 {
		b.linef("GresDrain=N/A")
		b.linef("GresUsed=%s", jobtext.OrNull(n.GresUsed))
	}
	b.linef("NodeAddr=%s NodeHostName=%s ", orName(n.Addr, n), orName(n.Hostname, n))
	if n.Port != 0 {
		fmt.Fprintf(b, "Port=%d ", n.Port)
	}
	if n.Version != "" {
		b.WriteString("Version=" + n.Version)
	}
	if n.OS != "" {
		b.linef("OS=%s ", n.OS)
	}
	b.linef("RealMemory=%d AllocMem=%d FreeMem=%s Sockets=%d Boards=%d", n.RealMemory, n.AllocMem, n.Free(), n.Sockets, max(n.Boards, 1))
	if n.CoreSpecCount != 0 || n.CPUSpecList != "" || n.MemSpecLimit != 0 {
		b.linef("CoreSpecCount=%d CPUSpecList=%s MemSpecLimit=%d", n.CoreSpecCount, n.CPUSpecList, n.MemSpecLimit)
	}
	b.linef("State=%s ThreadsPerCore=%d TmpDisk=%d Weight=%d Owner=N/A MCS_label=N/A", strings.Join(n.Words(), "+"),
		n.ThreadsPerCore, n.TmpDisk, n.Weight)
	if len(n.Partitions) > 0 {
		b.linef("Partitions=%s ", strings.Join(n.Partitions, ","))
	}
	b.linef("BootTime=%s SlurmdStartTime=%s", stamp(n.BootTime, "None"), stamp(n.DaemonStart, "None"))
	b.linef("LastBusyTime=%s ResumeAfterTime=None", stamp(n.LastBusy, "None"))
	b.linef("CfgTRES=cpu=%d,mem=%s,billing=%d", n.Node.CPUs, nodetext.Mem(n.RealMemory), n.Node.CPUs)
	b.linef("AllocTRES=%s", allocTRES(n))
	b.linef("CurrentWatts=0 AveWatts=0")
	if n.Reason != "" {
		b.linef("Reason=%s", n.Reason)
		if n.ReasonTime != 0 {
			fmt.Fprintf(b, " [%s@%s]", s.names.User(uint32(n.ReasonUser)), stamp(n.ReasonTime, "Unknown"))
		}
	}
	if n.Reservation != "" {
		b.linef("ReservationName=%s", n.Reservation)
	}
	b.textf("Comment", n.Comment)
	b.textf("Extra", n.Extra)
	return b.String()
}

func orName(v string, n *nodetext.Node) string {
	if v == "" {
		return string(n.Name)
	}
	return v
}

func allocTRES(n *nodetext.Node) string {
	var parts []string
	if n.AllocCPUs > 0 {
		parts = append(parts, fmt.Sprintf("cpu=%d", n.AllocCPUs))
	}
	if n.AllocMem > 0 {
		parts = append(parts, "mem="+nodetext.Mem(n.AllocMem))
	}
	return strings.Join(parts, ",")
}

// showAliases lists the nodes of a host, by default this one.
func (s *session) showAliases(ctx context.Context, host string) {
	if host == "" {
		host = s.host
	}
	nodes, _, _, err := s.loadNodes(ctx, "")
	if err != nil {
		s.fail("slurm_load_node error: ", err)
		return
	}
	var names []string
	for _, n := range nodes {
		if n.Hostname == host || n.Hostname == "" && string(n.Name) == host {
			names = append(names, string(n.Name))
		}
	}
	if names == nil {
		s.failf("No node aliases found for host %s", host)
		return
	}
	s.line(strings.Join(names, " "))
}

func (s *session) getaddrs(ctx context.Context, words []string) {
	nodes, missing, _, err := s.loadNodes(ctx, words[0])
	if err != nil {
		s.fail("slurm_load_node error: ", err)
		return
	}
	for _, n := range nodes {
		s.line(fmt.Sprintf("%s: %s:%d", n.Name, orName(n.Addr, n), n.Port))
	}
	for _, name := range missing {
		s.notFound("Node " + name)
	}
}

// showPartitions is "show partition [name]".
func (s *session) showPartitions(ctx context.Context, name string) {
	m, err := s.source.Partitions(ctx, &ctlv1.PartitionsRequest{Name: name, Hide: !s.All})
	switch {
	case errs.CodeOf(err) == errs.InvalidPartition:
		s.notFound("Partition " + name)
		return
	case err != nil:
		s.fail("slurm_load_partitions error: ", err)
		return
	}
	var parts []*nodetext.Part
	for _, info := range m.GetPartitions() {
		parts = append(parts, nodetext.PartOf(info))
	}
	if s.Dump {
		w := structured.New(s.out, s.Form)
		w.List("partitions")
		for _, p := range parts {
			dump.Partition(w, "", p)
		}
		w.End()
		s.trailer(w)
		return
	}
	for _, p := range parts {
		s.record(partBlock(p))
	}
	if len(parts) == 0 {
		s.line("No partitions in the system")
	}
}

func partBlock(p *nodetext.Part) string {
	b := &block{}
	yes := jobtext.YesNo
	fmt.Fprintf(b, "PartitionName=%s", p.Name)
	b.linef("AllowGroups=%s %s %s", nodetext.OrAll(p.AllowGroups, "ALL"),
		access("Accounts", p.AllowAccounts, p.DenyAccounts), access("Qos", p.AllowQOS, p.DenyQOS))
	b.linef("AllocNodes=%s Default=%s QoS=%s", nodetext.OrAll(p.AllocNodes, "ALL"), yes(p.Default), orNA(p.QOS))
	b.textf("Alternate", p.Alternate)
	defaultTime := "NONE"
	if p.DefaultTime != 0 {
		defaultTime = wlm.FormatMinutes(p.DefaultTime)
	}
	b.linef("DefaultTime=%s DisableRootJobs=%s ExclusiveUser=%s ExclusiveTopo=%s GraceTime=%d Hidden=%s", defaultTime,
		yes(p.DisableRoot), yes(p.ExclusiveUser), yes(p.ExclusiveTopo), p.GraceTime, yes(p.Hidden))
	b.linef("MaxNodes=%s MaxTime=%s MinNodes=%d LLN=%s MaxCPUsPerNode=%s MaxCPUsPerSocket=%s", nodetext.Bound(p.MaxNodes, "UNLIMITED"),
		wlm.FormatMinutes(p.MaxTime), p.MinNodes, yes(p.LLN), nodetext.Bound(p.MaxCPUsPerNode, "UNLIMITED"), nodetext.Bound(p.MaxCPUsPerSock, "UNLIMITED"))
	b.linef("Nodes=%s", jobtext.OrNull(p.Nodes))
	b.linef("PriorityJobFactor=%d PriorityTier=%d RootOnly=%s ReqResv=%s OverSubscribe=%s", p.PriorityJob, p.PriorityTier,
		yes(p.RootOnly), yes(p.ReqResv), p.Sharing())
	b.linef("OverTimeLimit=%s PreemptMode=%s", nodetext.Bound(p.OverTimeLimit, "NONE"), p.Preempt())
	b.linef("State=%s TotalCPUs=%d TotalNodes=%d SelectTypeParameters=%s", p.State, p.TotalCPUs, p.TotalNodes, orNone(p.SelectParams))
	b.linef("JobDefaults=%s", jobtext.OrNull(p.JobDefaults))
	b.linef("%s %s", memory("Def", p.DefMemPerCPU, p.DefMemPerNode), memory("Max", p.MaxMemPerCPU, p.MaxMemPerNode))
	b.linef("TRES=%s", p.TRES())
	b.textf("TRESBillingWeights", p.TRESWeights)
	return b.String()
}

func access(what string, allow, deny []string) string {
	if len(deny) > 0 && len(allow) == 0 {
		return "Deny" + what + "=" + strings.Join(deny, ",")
	}
	return "Allow" + what + "=" + nodetext.OrAll(allow, "ALL")
}

func memory(what string, perCPU, perNode wlm.MiB) string {
	switch {
	case perCPU != 0:
		return fmt.Sprintf("%sMemPerCPU=%d", what, perCPU)
	case perNode != 0:
		return fmt.Sprintf("%sMemPerNode=%d", what, perNode)
	}
	return what + "MemPerNode=UNLIMITED"
}

func orNone(v string) string {
	if v == "" {
		return "NONE"
	}
	return v
}
