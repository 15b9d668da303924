package conf

import (
	"fmt"
	"os/user"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Value is a line of "scontrol show config".
type Value struct {
	Key    string // in that command's spelling
	Value  string // in that command's form, "(null)" when nothing is set
	Origin string // file:line; "default"; or "runtime" for what only the daemon knows
}

// form says how scontrol prints a key.
type form uint8

const (
	plain   form = iota // the text; a number as it is
	runtime             // filled in by the caller
	sec
	minute
	usec
	rate    // nodes/min
	percent // of something
	yesno
	num      // a truth value as 0 or 1
	upper    // flags in capitals
	span     // days-hours:minutes:seconds
	login    // name(uid)
	lines    // Key[0], Key[1], ...; nothing when there is none
	optional // like sec, but absent when not set
	special  // see showSpecial
)

// shown is the order of scontrol show config. Keys without a form print as
// they are written.
var shown = []struct {
	key string
	form
}{
	{"AccountingStorageBackupHost", 0}, {"AccountingStorageEnforce", special}, {"AccountingStorageHost", 0},
	{"AccountingStorageExternalHost", 0}, {"AccountingStorageParameters", 0}, {"AccountingStoragePort", 0},
	{"AccountingStorageTRES", special}, {"AccountingStorageType", 0}, {"AccountingStoreFlags", 0},
	{"AcctGatherEnergyType", 0}, {"AcctGatherFilesystemType", 0}, {"AcctGatherInterconnectType", 0},
	{"AcctGatherNodeFreq", sec}, {"AcctGatherProfileType", 0}, {"AllowSpecResourcesUsage", yesno},
	{"AuthAltTypes", 0}, {"AuthAltParameters", 0}, {"AuthInfo", 0}, {"AuthType", 0}, {"BatchStartTimeout", sec},
	{"BcastExclude", 0}, {"BcastParameters", 0}, {"BOOT_TIME", runtime}, {"BurstBufferType", 0},
	{"CertgenParameters", 0}, {"CertgenType", special}, {"CertmgrParameters", 0}, {"CertmgrType", 0},
	{"CliFilterParameters", 0}, {"CliFilterPlugins", 0}, {"ClusterName", 0}, {"CommunicationParameters", 0},
	{"CompleteWait", sec}, {"CpuFreqDef", special}, {"CpuFreqGovernors", 0}, {"CredType", 0},
	{"DataParserParameters", 0}, {"DebugFlags", 0}, {"DefMem", special}, {"DependencyParameters", 0},
	{"DisableRootJobs", yesno}, {"EioTimeout", 0}, {"EnforcePartLimits", special}, {"Epilog", lines},
	{"EpilogMsgTime", usec}, {"EpilogSlurmctld", lines}, {"EpilogTimeout", optional}, {"FairShareDampeningFactor", 0},
	{"FederationParameters", 0}, {"FirstJobId", 0}, {"GresTypes", 0}, {"GpuFreqDef", 0}, {"GroupUpdateForce", num},
	{"GroupUpdateTime", sec}, {"HASH_VAL", runtime}, {"HashPlugin", 0}, {"HealthCheckInterval", sec},
	{"HealthCheckNodeState", upper}, {"HealthCheckProgram", 0}, {"HttpParserType", 0}, {"InactiveLimit", sec},
	{"InteractiveStepOptions", 0}, {"JobAcctGatherFrequency", 0}, {"JobAcctGatherType", 0}, {"JobAcctGatherParams", 0},
	{"JobCompHost", 0}, {"JobCompLoc", 0}, {"JobCompParams", 0}, {"JobCompPass", special}, {"JobCompPort", 0},
	{"JobCompType", 0}, {"JobCompUser", 0}, {"JobDefaults", special}, {"JobFileAppend", num}, {"JobRequeue", num},
	{"JobSubmitPlugins", 0}, {"KillOnBadExit", num}, {"KillWait", sec}, {"LaunchParameters", 0}, {"LaunchType", 0},
	{"Licenses", 0}, {"LogTimeFormat", 0}, {"MailDomain", 0}, {"MailProg", 0}, {"MaxArraySize", 0},
	{"MaxBatchRequeue", 0}, {"MaxDBDMsgs", special}, {"MaxJobCount", 0}, {"MaxJobId", 0}, {"MaxMem", special},
	{"MaxNodeCount", special}, {"MaxStepCount", 0}, {"MaxTasksPerNode", 0}, {"MCSPlugin", 0}, {"MCSParameters", 0},
	{"MessageTimeout", sec}, {"MetricsType", 0}, {"MinJobAge", sec}, {"MpiDefault", 0}, {"MpiParams", 0},
	{"MULTIPLE_SLURMD", special}, {"NamespaceType", 0}, {"NEXT_JOB_ID", runtime}, {"NodeFeaturesPlugins", 0},
	{"OverTimeLimit", minute}, {"PluginDir", 0}, {"PluginOptions", lines}, {"PluginUser", 0}, {"PlugStackConfig", 0},
	{"PreemptMode", upper}, {"PreemptParameters", 0}, {"PreemptType", 0}, {"PreemptExemptTime", span},
	{"PrEpParameters", 0}, {"PrEpPlugins", 0}, {"PriorityParameters", 0}, {"PrioritySiteFactorParameters", 0},
	{"PrioritySiteFactorPlugin", 0}, {"PriorityDecayHalfLife", span}, {"PriorityCalcPeriod", span},
	{"PriorityFavorSmall", yesno}, {"PriorityFlags", special}, {"PriorityMaxAge", span}, {"PriorityType", 0},
	{"PriorityUsageResetPeriod", 0}, {"PriorityWeightAge", 0}, {"PriorityWeightAssoc", 0},
	{"PriorityWeightFairShare", 0}, {"PriorityWeightJobSize", 0}, {"PriorityWeightPartition", 0},
	{"PriorityWeightQOS", 0}, {"PriorityWeightTRES", 0}, {"PrivateData", special}, {"ProctrackType", 0},
	{"Prolog", lines}, {"PrologEpilogTimeout", special}, {"PrologFlags", 0}, {"PrologSlurmctld", lines},
	{"PrologTimeout", optional}, {"PropagatePrioProcess", 0}, {"PropagateResourceLimits", 0},
	{"PropagateResourceLimitsExcept", 0}, {"RebootProgram", 0}, {"ReconfigFlags", 0}, {"RequeueExit", 0},
	{"RequeueExitHold", 0}, {"ResumeFailProgram", 0}, {"ResumeProgram", 0}, {"ResumeRate", rate},
	{"ResumeTimeout", sec}, {"ResvEpilog", 0}, {"ResvOverRun", minute}, {"ResvProlog", 0}, {"ReturnToService", 0},
	{"SchedulerParameters", 0}, {"SchedulerTimeSlice", sec}, {"SchedulerType", 0}, {"ScronParameters", 0},
	{"SelectType", 0}, {"SelectTypeParameters", special}, {"SlurmUser", login}, {"SlurmctldAddr", 0},
	{"SlurmctldDebug", 0}, {"SlurmctldHost", lines}, {"SlurmctldLogFile", 0}, {"SlurmctldPort", 0},
	{"SlurmctldSyslogDebug", 0}, {"SlurmctldPrimaryOffProg", 0}, {"SlurmctldPrimaryOnProg", 0},
	{"SlurmctldTimeout", sec}, {"SlurmctldParameters", 0}, {"SlurmdDebug", 0}, {"SlurmdLogFile", 0},
	{"SlurmdParameters", 0}, {"SlurmdPidFile", 0}, {"SlurmdPort", 0}, {"SlurmdSpoolDir", 0}, {"SlurmdSyslogDebug", 0},
	{"SlurmdTimeout", sec}, {"SlurmdUser", login}, {"SlurmSchedLogFile", 0}, {"SlurmSchedLogLevel", 0},
	{"SlurmctldPidFile", 0}, {"SLURM_CONF", special}, {"SLURM_VERSION", runtime}, {"SrunEpilog", 0},
	{"SrunPortRange", special}, {"SrunProlog", 0}, {"StateSaveLocation", 0}, {"SuspendExcNodes", 0},
	{"SuspendExcParts", 0}, {"SuspendExcStates", 0}, {"SuspendProgram", 0}, {"SuspendRate", rate},
	{"SuspendTime", sec}, {"SuspendTimeout", sec}, {"SwitchParameters", 0}, {"SwitchType", 0}, {"TaskEpilog", 0},
	{"TaskPlugin", 0}, {"TaskPluginParam", special}, {"TaskProlog", 0}, {"TCPTimeout", sec}, {"TLSParameters", 0},
	{"TLSType", special}, {"TmpFS", 0}, {"TopologyParam", 0}, {"TopologyPlugin", 0}, {"TrackWCKey", yesno},
	{"TreeWidth", 0}, {"UsePam", yesno}, {"UnkillableStepProgram", 0}, {"UnkillableStepTimeout", special},
	{"UrlParserType", 0}, {"VSizeFactor", percent}, {"WaitTime", sec}, {"X11Parameters", 0},
}

// All lists every value, defaults included, in the order, spelling and form
// of "scontrol show config". What only a running daemon knows (BOOT_TIME,
// HASH_VAL, NEXT_JOB_ID, SLURM_VERSION) has Origin "runtime" and no value.
func (c *Config) All() []Value {
	out := make([]Value, 0, len(shown)+4)
	for _, s := range shown {
		v := c.values[strings.ToLower(s.key)]
		switch s.form {
		case runtime:
			out = append(out, Value{s.key, "", "runtime"})
		case special:
			key, text := c.showSpecial(s.key, v)
			_, origin, _ := c.Raw(key)
			if origin == "" {
				origin = "default"
			}
			out = append(out, Value{key, text, origin})
		case lines:
			for i, text := range v.all {
				out = append(out, Value{fmt.Sprintf("%s[%d]", s.key, i), text, v.at[i].String()})
			}
		case optional:
			if v.set {
				out = append(out, Value{s.key, v.text + " sec", v.pos().String()})
			}
		default:
			_, origin, _ := c.Raw(s.key)
			out = append(out, Value{s.key, s.show(v), origin})
		}
	}
	return out
}

// show prints a value in its form.
func (f form) show(v *value) string {
	if v.text == "" {
		return "(null)"
	}
	n, isNum := v.parsed.(uint64)
	if isNum && n == infinite {
		if v.key.Name == "SuspendTime" {
			return "INFINITE"
		}
		return "UNLIMITED"
	}
	on, _ := v.parsed.(bool)
	switch f {
	case sec:
		return v.text + " sec"
	case minute:
		return v.text + " min"
	case usec:
		return v.text + " usec"
	case rate:
		return v.text + " nodes/min"
	case percent:
		return v.text + " percent"
	case yesno:
		if on {
			return "yes"
		}
		return "no"
	case num:
		if on {
			return "1"
		}
		return "0"
	case upper:
		return strings.ToUpper(v.text)
	case span:
		d, _ := v.parsed.(time.Duration)
		return clock(d)
	case login:
		return withUID(v.text)
	}
	return v.plain()
}

// plain prints a plugin by its whole name and a level by its word.
func (v *value) plain() string {
	switch p := v.parsed.(type) {
	case Level:
		return p.String()
	case string:
		if p == "" {
			return "(null)"
		}
		return p
	case []string:
		if len(p) == 0 {
			return "(null)"
		}
		return strings.Join(p, ",")
	}
	return v.text
}

// clock prints [days-]hours:minutes:seconds.
func clock(d time.Duration) string {
	if d == Forever {
		return "INFINITE"
	}
	s := int64(d / time.Second)
	text := fmt.Sprintf("%02d:%02d:%02d", s/3600%24, s/60%60, s%60)
	if days := s / 86400; days > 0 {
		return fmt.Sprintf("%d-%s", days, text)
	}
	return text
}

// withUID prints name(uid); the uid is missing for a name nobody has here.
func withUID(name string) string {
	if _, err := strconv.ParseUint(name, 10, 32); err == nil {
		if u, err := user.LookupId(name); err == nil {
			return u.Username + "(" + name + ")"
		}
		return name + "(" + name + ")"
	}
	if u, err := user.Lookup(name); err == nil {
		return name + "(" + u.Uid + ")"
	}
	return name
}

// showSpecial prints the keys that fit no form. It returns the key too, since
// DefMem and MaxMem stand for whichever of several is set.
func (c *Config) showSpecial(key string, v *value) (string, string) {
	or := func(s, def string) string {
		if s == "" {
			return def
		}
		return s
	}
	switch key {
	case "AccountingStorageEnforce":
		return key, or(c.AccountingStorageEnforce.Raw, "none")
	case "AccountingStorageTRES":
		return key, strings.Join(c.AccountingStorageTRES, ",")
	case "CertgenType":
		if !v.set {
			return key, "(null)"
		}
		return key, v.plain()
	case "CpuFreqDef":
		return key, or(v.text, "Unknown")
	case "DefMem":
		return memoryKey([]memoryLimit{{"DefMemPerCPU", c.DefMemPerCPU}, {"DefMemPerGPU", c.DefMemPerGPU}, {"DefMemPerNode", c.DefMemPerNode}})
	case "MaxMem":
		return memoryKey([]memoryLimit{{"MaxMemPerCPU", c.MaxMemPerCPU}, {"MaxMemPerNode", c.MaxMemPerNode}})
	case "EnforcePartLimits":
		return key, c.EnforcePartLimits
	case "JobCompPass":
		if v.text != "" {
			return key, "****"
		}
		return key, "(null)"
	case "JobDefaults":
		return key, c.jobDefaults()
	case "MaxDBDMsgs":
		return key, strconv.FormatUint(uint64(c.MaxDBDMsgs), 10)
	case "MaxNodeCount":
		return key, strconv.FormatUint(uint64(c.MaxNodeCount), 10)
	case "MULTIPLE_SLURMD":
		return key, "yes"
	case "PriorityFlags":
		return key, strings.ToUpper(v.text)
	case "PrivateData":
		return key, or(v.text, "none")
	case "PrologEpilogTimeout":
		return key, or(v.text, "65534")
	case "SelectTypeParameters":
		return key, or(c.SelectTypeParameters.Raw, "NONE")
	case "SLURM_CONF":
		return key, c.Path
	case "SrunPortRange":
		return key, fmt.Sprintf("%d-%d", c.SrunPortRange.First, c.SrunPortRange.Last)
	case "TaskPluginParam":
		return key, or(v.text, "(null type)")
	case "TLSType":
		return key, or(c.TLSType, "tls/none")
	case "UnkillableStepTimeout":
		return key, fmt.Sprintf("%d sec", c.UnkillableStepTimeout/time.Second)
	}
	return key, v.plain()
}

type memoryLimit struct {
	key string
	mib wlm.MiB
}

// memoryKey picks the key that is set; the last one stands for none.
func memoryKey(limits []memoryLimit) (string, string) {
	for _, m := range limits {
		if m.mib > 0 {
			return m.key, strconv.FormatUint(uint64(m.mib), 10)
		}
	}
	return limits[len(limits)-1].key, "UNLIMITED"
}

func (c *Config) jobDefaults() string {
	var out []string
	if c.DefCPUPerGPU > 0 {
		out = append(out, fmt.Sprintf("DefCpuPerGPU=%d", c.DefCPUPerGPU))
	}
	if c.DefMemPerGPU > 0 {
		out = append(out, fmt.Sprintf("DefMemPerGPU=%d", c.DefMemPerGPU))
	}
	if len(out) == 0 {
		return "(null)"
	}
	return strings.Join(out, ",")
}
