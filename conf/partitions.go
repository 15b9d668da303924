package conf

import (
	"fmt"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// partitions expands the PartitionName lines.
func (l *loader) partitions() {
	var defaults map[string]option
	at := map[string]int{}
	for _, e := range l.partRecs {
		r := l.record("PartitionName", e, defaults)
		if isDefault(e) {
			defaults = r.opts
			continue
		}
		names := strings.Split(e.Value, ",")
		for _, name := range names {
			old, dup := at[name]
			switch {
			case name == "" || strings.ContainsAny(name, " \t*"):
				l.fail(e.Pos, "PartitionName", fmt.Sprintf("%q cannot name a partition", name))
				continue
			case dup:
				l.fail(e.Pos, "PartitionName", name+" is defined at "+l.partAt[old].String()+" already")
				continue
			}
			at[name] = len(l.cfg.Partitions)
			l.cfg.Partitions = append(l.cfg.Partitions, r.partition(name))
			l.partAt = append(l.partAt, e.Pos)
		}
	}
	l.oneDefault()
	for i := range l.cfg.Partitions {
		p := &l.cfg.Partitions[i]
		if _, ok := at[p.Alternate]; !ok && p.Alternate != "" {
			l.fail(l.partAt[i], "Alternate", p.Alternate+" is not a partition")
		}
	}
}

// oneDefault keeps the last partition that says Default=YES.
func (l *loader) oneDefault() {
	last := -1
	for i := range l.cfg.Partitions {
		if !l.cfg.Partitions[i].Default {
			continue
		}
		if last >= 0 {
			l.warn(l.partAt[i], "Default", fmt.Sprintf("partition %s takes this from %s", l.cfg.Partitions[i].Name, l.cfg.Partitions[last].Name))
			l.cfg.Partitions[last].Default = false
		}
		last = i
	}
}

// partition makes one record.
func (r *record) partition(name string) wlm.Partition {
	c := r.l.cfg
	p := wlm.Partition{
		Name:           name,
		Default:        r.bool("Default", false),
		State:          partState(r.word("State", "UP")),
		Hidden:         r.bool("Hidden", false),
		RootOnly:       r.bool("RootOnly", false),
		DisableRoot:    r.bool("DisableRootJobs", c.DisableRootJobs),
		ExclusiveUser:  r.bool("ExclusiveUser", false),
		ExclusiveTopo:  r.bool("ExclusiveTopo", false),
		LLN:            r.bool("LLN", false),
		ReqResv:        r.bool("ReqResv", false),
		MaxTime:        wlm.Unlimited,
		MinNodes:       r.uint("MinNodes", 0),
		MaxNodes:       unlimited(r.uint("MaxNodes", Infinite)),
		MaxCPUsPerNode: unlimited(r.uint("MaxCPUsPerNode", Infinite)),
		MaxCPUsPerSock: unlimited(r.uint("MaxCPUsPerSocket", Infinite)),
		DefMemPerCPU:   r.mem("DefMemPerCPU", 0),
		DefMemPerNode:  r.mem("DefMemPerNode", 0),
		MaxMemPerCPU:   r.mem("MaxMemPerCPU", 0),
		MaxMemPerNode:  r.mem("MaxMemPerNode", 0),
		PriorityJob:    r.uint("PriorityJobFactor", 1),
		PriorityTier:   r.uint("PriorityTier", 1),
		OverTimeLimit:  wlm.Unset,
		GraceTime:      r.uint("GraceTime", 0),
		PreemptMode:    strings.ToUpper(r.text("PreemptMode")),
		AllowGroups:    r.list("AllowGroups"),
		AllowAccounts:  r.list("AllowAccounts"),
		DenyAccounts:   r.list("DenyAccounts"),
		AllowQOS:       r.list("AllowQos"),
		DenyQOS:        r.list("DenyQos"),
		Alternate:      r.text("Alternate"),
		QOS:            r.text("QOS"),
		SelectParams:   strings.ToUpper(r.text("SelectTypeParameters")),
		TRESWeights:    r.text("TRESBillingWeights"),
		CPUBind:        strings.ToLower(r.text("CpuBind")),
		OverSubCount:   1,
	}
	if m, ok := r.opts["MaxTime"].parsed.(wlm.Minutes); ok && m > 0 {
		p.MaxTime = m
	}
	if m, ok := r.opts["DefaultTime"].parsed.(wlm.Minutes); ok {
		p.DefaultTime = m
	}
	if o, ok := r.opts["OverSubscribe"].parsed.(overSub); ok {
		p.OverSubscribe, p.OverSubCount = o.mode, o.count
	}
	if r.has("OverTimeLimit") {
		p.OverTimeLimit = r.uint("OverTimeLimit", 0)
	}
	if text := r.text("AllocNodes"); text != "" && !strings.EqualFold(text, "ALL") {
		p.AllocNodes = r.hosts("AllocNodes", text)
	}
	if text := r.text("Nodes"); text != "" {
		p.NodeNames = r.known("Nodes", text)
		p.Nodes = compress(p.NodeNames)
	}
	r.l.topoOf[name] = r.text("Topology")
	p.JobDefaults = r.jobDefaults()
	r.checkPartition(&p)
	return p
}

func compress(names []wlm.NodeName) string {
	list := make([]string, len(names))
	for i, n := range names {
		list[i] = string(n)
	}
	return hostlist.Compress(list)
}

func unlimited(n uint32) uint32 {
	if n == Infinite {
		return wlm.Unset
	}
	return n
}

func partState(word string) wlm.PartState {
	switch word {
	case "DOWN":
		return wlm.PartDown
	case "DRAIN":
		return wlm.PartDrain
	case "INACTIVE":
		return wlm.PartInactive
	}
	return wlm.PartUp
}

// jobDefaults joins the per-GPU defaults as scontrol prints them.
func (r *record) jobDefaults() string {
	var out []string
	if r.has("DefCPUPerGPU") {
		out = append(out, "DefCpuPerGPU="+r.text("DefCPUPerGPU"))
	}
	if r.has("DefMemPerGPU") {
		out = append(out, fmt.Sprintf("DefMemPerGPU=%d", r.mem("DefMemPerGPU", 0)))
	}
	return strings.Join(out, ",")
}

// checkPartition finds what contradicts itself within one line.
func (r *record) checkPartition(p *wlm.Partition) {
	if p.MaxNodes != wlm.Unset && p.MinNodes > p.MaxNodes {
		r.fail("MinNodes", fmt.Sprintf("%d is more than MaxNodes=%d", p.MinNodes, p.MaxNodes))
	}
	switch {
	case p.DefaultTime <= p.MaxTime:
	case !r.own["DefaultTime"]:
		r.l.warn(r.name.Pos, "DefaultTime", fmt.Sprintf("%s, a default, is lowered to MaxTime=%s", r.text("DefaultTime"), r.text("MaxTime")))
		p.DefaultTime = p.MaxTime
	default:
		r.fail("DefaultTime", fmt.Sprintf("%s is more than MaxTime=%s", r.text("DefaultTime"), r.text("MaxTime")))
	}
	r.exclusive("DefMemPerCPU", "DefMemPerNode", "DefMemPerGPU")
	r.exclusive("MaxMemPerCPU", "MaxMemPerNode")
	if p.MaxMemPerCPU > 0 && p.DefMemPerCPU > p.MaxMemPerCPU {
		r.fail("DefMemPerCPU", fmt.Sprintf("%d is more than MaxMemPerCPU=%d", p.DefMemPerCPU, p.MaxMemPerCPU))
	}
	if p.MaxMemPerNode > 0 && p.DefMemPerNode > p.MaxMemPerNode {
		r.fail("DefMemPerNode", fmt.Sprintf("%d is more than MaxMemPerNode=%d", p.DefMemPerNode, p.MaxMemPerNode))
	}
	for _, pair := range [][2]string{{"AllowAccounts", "DenyAccounts"}, {"AllowQos", "DenyQos"}} {
		if r.has(pair[0]) && r.has(pair[1]) {
			r.l.warn(r.opts[pair[1]].Pos, pair[1], "is ignored, because "+pair[0]+" is given")
		}
	}
	if r.has("SelectTypeParameters") && !strings.EqualFold(p.SelectParams, "NONE") && r.l.cfg.SelectType == "select/linear" {
		r.fail("SelectTypeParameters", "needs SelectType=select/cons_tres")
	}
}

// exclusive reports options of which a line may have only one.
func (r *record) exclusive(names ...string) {
	first := ""
	for _, n := range names {
		switch {
		case !r.has(n) || r.mem(n, 0) == 0:
		case first == "":
			first = n
		default:
			r.fail(n, "excludes "+first+"; give one of them")
		}
	}
}
