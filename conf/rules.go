package conf

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/conf/slurmconf"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// rules finds what is missing and what contradicts itself across lines.
func (l *loader) rules() {
	c := l.cfg
	for i := range c.Nodes {
		c.Nodes[i].Comment = "" // see addNodes
	}
	whole := slurmconf.Pos{File: c.Path}
	if c.ClusterName == "" {
		l.fail(whole, "ClusterName", "is not set; every cluster has a name")
	} else if len(c.ClusterName) > maxClusterName || strings.ContainsAny(c.ClusterName, " \t/,\"'%") {
		l.failKey("ClusterName", fmt.Sprintf("%q is not allowed: want up to %d letters, digits, - and _", c.ClusterName, maxClusterName))
	}
	if len(c.values["slurmctldhost"].all) == 0 {
		l.fail(whole, "SlurmctldHost", "is not set; want the name of the controller's host, or name(address)")
	}
	if len(c.Nodes) == 0 && len(l.nodeRecs) == 0 && c.MaxNodeCount == 0 {
		l.fail(whole, "NodeName", "no node is defined; write NodeName lines, or MaxNodeCount for dynamic nodes")
	}
	if len(c.Partitions) == 0 && len(l.partRecs) == 0 {
		l.fail(whole, "PartitionName", "no partition is defined")
	}
	if c.FirstJobId > c.MaxJobId {
		l.failKey("FirstJobId", fmt.Sprintf("%d is more than MaxJobId=%d", c.FirstJobId, c.MaxJobId))
	}
	l.counts()
	l.memory()
	l.selection()
	l.preemption()
	l.parameters("SchedulerParameters", c.SchedulerParameters)
	l.parameters("SlurmctldParameters", c.SlurmctldParameters)
	l.misc()
}

// maxClusterName is what the accounting tables have room for.
const maxClusterName = 40

// failKey reports a problem at the line of a global key.
func (l *loader) failKey(key, text string) {
	v := l.cfg.values[strings.ToLower(key)]
	pos := v.pos()
	if pos == (slurmconf.Pos{}) {
		pos.File = l.cfg.Path
	}
	l.fail(pos, key, text)
}

func (l *loader) isSetKey(key string) bool {
	v := l.cfg.values[strings.ToLower(key)]
	return v != nil && v.set && v.text != ""
}

// Room for accounting messages, as slurm.conf(5) says.
const (
	minDBDMsgs      = 10000
	dbdMsgsPerJob   = 2
	dbdMsgsPerNode  = 4
	warnSuspendTime = "has no effect without SuspendProgram and ResumeProgram"
)

func (l *loader) counts() {
	c := l.cfg
	n := uint32(len(c.Nodes))
	if c.MaxNodeCount != 0 && c.MaxNodeCount < n {
		l.failKey("MaxNodeCount", fmt.Sprintf("%d is less than the %d nodes of the file", c.MaxNodeCount, n))
	}
	c.MaxNodeCount = max(c.MaxNodeCount, n)
	least := max(minDBDMsgs, uint64(dbdMsgsPerJob)*uint64(c.MaxJobCount)+uint64(dbdMsgsPerNode)*uint64(n))
	if uint64(c.MaxDBDMsgs) < least {
		if l.isSetKey("MaxDBDMsgs") {
			l.warn(c.values["maxdbdmsgs"].pos(), "MaxDBDMsgs", fmt.Sprintf("is raised to %d, 2 for each of MaxJobCount and 4 for each node", least))
		}
		c.MaxDBDMsgs = uint32(min(least, uint64(Infinite)))
	}
}

func (l *loader) memory() {
	c := l.cfg
	first := ""
	for _, k := range []string{"DefMemPerCPU", "DefMemPerNode", "DefMemPerGPU"} {
		if m, ok := c.values[strings.ToLower(k)].parsed.(wlm.MiB); ok && m > 0 {
			if first != "" {
				l.failKey(k, "excludes "+first+"; give one of them")
			}
			first = k
		}
	}
	if c.MaxMemPerCPU > 0 && c.MaxMemPerNode > 0 {
		l.failKey("MaxMemPerNode", "excludes MaxMemPerCPU; give one of them")
	}
	if c.MaxMemPerCPU > 0 && c.DefMemPerCPU > c.MaxMemPerCPU {
		l.failKey("DefMemPerCPU", fmt.Sprintf("%d is more than MaxMemPerCPU=%d", c.DefMemPerCPU, c.MaxMemPerCPU))
	}
	if c.MaxMemPerNode > 0 && c.DefMemPerNode > c.MaxMemPerNode {
		l.failKey("DefMemPerNode", fmt.Sprintf("%d is more than MaxMemPerNode=%d", c.DefMemPerNode, c.MaxMemPerNode))
	}
}

// selection checks SelectTypeParameters against SelectType.
func (l *loader) selection() {
	c := l.cfg
	s := c.SelectTypeParameters
	if !l.isSetKey("SelectTypeParameters") {
		return
	}
	switch c.SelectType {
	case "select/linear":
		if s.CPU || s.Core || s.Socket || s.LLN || s.PackNodes {
			l.failKey("SelectTypeParameters", s.Raw+" does not fit select/linear, which gives whole nodes: want CR_Memory, CR_ONE_TASK_PER_CORE or nothing")
		}
	case "select/cons_tres":
		n := 0
		for _, on := range []bool{s.CPU, s.Core, s.Socket} {
			if on {
				n++
			}
		}
		if n > 1 {
			l.failKey("SelectTypeParameters", s.Raw+" names several consumable resources: want one of CR_CPU, CR_Core and CR_Socket, each perhaps with _Memory")
		}
		if s.LLN && s.PackNodes {
			l.failKey("SelectTypeParameters", "CR_LLN and CR_Pack_Nodes exclude each other")
		}
	}
}

func (l *loader) preemption() {
	c := l.cfg
	on := false
	for _, m := range []string{"CANCEL", "REQUEUE", "SUSPEND"} {
		on = on || c.PreemptMode.Has(m)
	}
	switch {
	case c.PreemptType == "preempt/qos":
		l.failKey("PreemptType", "preempt/qos needs QOS records, which this release does not keep; allowed are preempt/partition_prio and preempt/none")
	case on && c.PreemptType == "":
		l.failKey("PreemptMode", c.PreemptMode.Raw+" needs PreemptType=preempt/partition_prio")
	case c.PreemptType != "" && !on:
		l.failKey("PreemptType", c.PreemptType+" needs PreemptMode=CANCEL, REQUEUE or SUSPEND")
	case c.PreemptMode.Has("SUSPEND") && !c.PreemptMode.Has("GANG"):
		l.failKey("PreemptMode", "SUSPEND needs GANG; write PreemptMode=SUSPEND,GANG")
	}
}

// parameters checks the options of SchedulerParameters and
// SlurmctldParameters. Slurm ignores unknown ones, so they are warnings.
func (l *loader) parameters(key string, p Params) {
	v := l.cfg.values[strings.ToLower(key)]
	for _, item := range p.Items {
		name, val, has := strings.Cut(item, "=")
		k, ok := LookupKey(key, name)
		if !ok {
			hint := ""
			var names []string
			for n := range keys().by["slurm.conf/"+key] {
				names = append(names, n)
			}
			if n := nearest(name, names); n != "" {
				hint = "; did you mean " + n + "?"
			}
			l.warn(v.pos(), key, "unknown option "+name+hint)
			continue
		}
		switch {
		case k.Kind == "flag" && has && val != "yes" && val != "no":
			l.fail(v.pos(), key, name+" is a flag and takes no value")
		case k.Kind == "int":
			if _, err := strconv.ParseInt(val, 10, 64); err != nil {
				l.fail(v.pos(), key, fmt.Sprintf("%s=%s: want a whole number%s", name, val, inUnit(k.Unit)))
			}
		case k.Kind == "text" && val == "":
			l.fail(v.pos(), key, name+" needs a value: "+k.Doc)
		}
	}
}

func inUnit(unit string) string {
	if unit == "" {
		return ""
	}
	return " of " + unit
}

func (l *loader) misc() {
	c := l.cfg
	if l.isSetKey("PropagateResourceLimits") && l.isSetKey("PropagateResourceLimitsExcept") {
		l.failKey("PropagateResourceLimitsExcept", "excludes PropagateResourceLimits; give one of them")
	}
	if c.UnkillableStepTimeout < unkillableFactor*c.MessageTimeout {
		l.warn(c.values["unkillablesteptimeout"].pos(), "UnkillableStepTimeout", fmt.Sprintf("is raised to %s, five times MessageTimeout", unkillableFactor*c.MessageTimeout))
		c.UnkillableStepTimeout = unkillableFactor * c.MessageTimeout
	}
	if len(c.AccountingStorageEnforce.Items) > 0 && c.AccountingStorageType == "" {
		l.failKey("AccountingStorageEnforce", c.AccountingStorageEnforce.Raw+" needs an AccountingStorageType; there is nothing to enforce")
	}
	if l.isSetKey("SuspendTime") && c.SuspendTime != Forever && (c.SuspendProgram == "" || c.ResumeProgram == "") {
		l.warn(c.values["suspendtime"].pos(), "SuspendTime", warnSuspendTime)
	}
	if n := int(c.SlurmctldPorts.Last) - int(c.SlurmctldPorts.First); c.SlurmctldPorts.First == 0 {
		l.failKey("SlurmctldPort", "0 is not a port from 1 to 65535")
	} else if n > maxPortSpread {
		l.failKey("SlurmctldPort", fmt.Sprintf("%s is a range of more than %d ports", c.SlurmctldPorts, maxPortSpread))
	}
	if r := c.SrunPortRange; r.First != 0 && r.First == r.Last {
		l.failKey("SrunPortRange", fmt.Sprintf("%d is one port: want low-high", r.First))
	}
	sameLocation := c.SlurmdSpoolDir != "" && c.SlurmdSpoolDir == c.StateSaveLocation
	if sameLocation {
		l.failKey("SlurmdSpoolDir", c.SlurmdSpoolDir+" is also StateSaveLocation; they cannot share a directory")
	}
}

// maxPortSpread bounds the controller's range of ports.
const maxPortSpread = 1000
