package conf

import (
	"maps"
	"slices"
	"strings"

	"github.com/sluice-hpc/sluice/conf/slurmconf"
)

// obsolete gives old keys their meaning today, with a warning each. A value
// under the new name wins over one under the old.
func (l *loader) obsolete(old []slurmconf.Pair) {
	by := map[string]slurmconf.Pair{}
	for _, p := range old {
		by[strings.ToLower(p.Key)] = p
	}
	l.oldHosts(by)
	for _, p := range old {
		k, _ := LookupKey("global", p.Key)
		if k.Arg == "SlurmctldHost" {
			continue
		}
		if k.Arg == "" {
			l.warn(p.Pos, p.Key, "is obsolete and ignored")
			continue
		}
		l.renamed(k, p)
	}
}

// renamed sets the new key from the old one's value.
func (l *loader) renamed(k *Key, p slurmconf.Pair) {
	to, _ := LookupKey("global", k.Arg)
	if _, taken := l.cfg.values[strings.ToLower(k.Arg)]; taken {
		l.warn(p.Pos, p.Key, "is obsolete and ignored, because "+k.Arg+" is set")
		return
	}
	text := p.Value
	switch k.Name {
	case "CryptoType":
		text = strings.Replace(strings.ToLower(text), "crypto/", "cred/", 1)
	case "AcctGatherInfinibandType":
		text = strings.Replace(text, "acct_gather_infiniband/", "acct_gather_interconnect/", 1)
	case "JobContainerType":
		text = strings.Replace(text, "job_container/", "namespace/", 1)
	case "AccountingStoreJobComment":
		on, err := parseBool(text)
		if err != nil {
			l.fail(p.Pos, p.Key, err.Error())
			return
		}
		text = ""
		if on {
			text = "job_comment"
		}
	case "KeepAliveTime":
		text = "keepalivetime=" + text
	case "RoutePlugin":
		_, name, _ := strings.Cut(text, "/")
		if text = ""; strings.EqualFold(name, "topology") {
			text = "RouteTree"
		}
	case "SallocDefaultCommand":
		text = "use_interactive_step"
	}
	if text == "" {
		l.warn(p.Pos, p.Key, "is obsolete and ignored")
		return
	}
	l.warn(p.Pos, p.Key, "is obsolete; write "+k.Arg+"="+text)
	l.set(to, text, p.Pos)
}

// oldHosts turns ControlMachine and its companions into SlurmctldHost.
func (l *loader) oldHosts(by map[string]slurmconf.Pair) {
	_, taken := l.cfg.values["slurmctldhost"]
	to, _ := LookupKey("global", "SlurmctldHost")
	for _, role := range [][2]string{{"controlmachine", "controladdr"}, {"backupcontroller", "backupaddr"}} {
		names, ok := by[role[0]]
		addrs, hasAddr := by[role[1]]
		switch {
		case taken && ok:
			l.warn(names.Pos, names.Key, "is obsolete and ignored, because SlurmctldHost is set")
			continue
		case taken || !ok:
			if hasAddr {
				l.warn(addrs.Pos, addrs.Key, "is obsolete and ignored")
			}
			continue
		}
		list := strings.Split(addrs.Value, ",")
		for i, name := range strings.Split(names.Value, ",") {
			host := strings.TrimSpace(name)
			if i < len(list) && strings.TrimSpace(list[i]) != "" {
				host += "(" + strings.TrimSpace(list[i]) + ")"
			}
			l.warn(names.Pos, names.Key, "is obsolete; write SlurmctldHost="+host)
			l.set(to, host, names.Pos)
		}
	}
}

// retired maps plugins that are gone to what took their place; an empty value
// is "none".
var retired = map[string]map[string]string{
	"SelectType":        {"select/cons_res": "select/cons_tres", "select/serial": "select/linear"},
	"TopologyPlugin":    {"topology/none": "topology/flat", "topology/default": "topology/flat", "topology/3d_torus": "topology/flat"},
	"JobAcctGatherType": {"jobacct_gather/aix": ""},
	"ProctrackType":     {"proctrack/lua": "proctrack/linuxproc", "proctrack/sgi_job": "proctrack/linuxproc", "proctrack/aix": "proctrack/linuxproc"},
	"SchedulerType":     {"sched/wiki": "sched/builtin", "sched/wiki2": "sched/builtin", "sched/hold": "sched/builtin"},
	"PreemptType":       {"preempt/job_prio": ""},
	"LaunchType":        {"launch/slurm": "launch/exec"},
}

// replaceRetired swaps plugins that are gone, before their values are read.
func (l *loader) replaceRetired() {
	for _, key := range slices.Sorted(maps.Keys(retired)) {
		names := retired[key]
		v := l.cfg.values[strings.ToLower(key)]
		if v == nil {
			continue
		}
		name := strings.ToLower(v.text)
		if !strings.Contains(name, "/") {
			name = v.key.Arg + "/" + name
		}
		if now, gone := names[name]; gone {
			text := "is gone; " + now + " takes its place"
			if now == "" {
				text = "is gone and ignored"
			}
			l.warn(v.pos(), v.key.Name, v.text+" "+text)
			v.text = now
		}
	}
}
