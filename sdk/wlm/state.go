package wlm

import "strings"

// JobState is the base state of a job or step. The numbers are Slurm's.
type JobState uint8

// The twelve base states.
const (
	Pending JobState = iota
	Running
	Suspended
	Completed
	Cancelled
	Failed
	Timeout
	NodeFail
	Preempted
	BootFail
	Deadline
	OutOfMemory
	jobStateCount
)

var jobStates = [jobStateCount]struct{ long, short string }{
	Pending: {"PENDING", "PD"}, Running: {"RUNNING", "R"}, Suspended: {"SUSPENDED", "S"},
	Completed: {"COMPLETED", "CD"}, Cancelled: {"CANCELLED", "CA"}, Failed: {"FAILED", "F"},
	Timeout: {"TIMEOUT", "TO"}, NodeFail: {"NODE_FAIL", "NF"}, Preempted: {"PREEMPTED", "PR"},
	BootFail: {"BOOT_FAIL", "BF"}, Deadline: {"DEADLINE", "DL"}, OutOfMemory: {"OUT_OF_MEMORY", "OOM"},
}

// Ended reports whether the state is terminal.
func (s JobState) Ended() bool { return s >= Completed && s < jobStateCount }

// String is the long name.
func (s JobState) String() string {
	if s >= jobStateCount {
		return "?"
	}
	return jobStates[s].long
}

// Short is the compact name.
func (s JobState) Short() string {
	if s >= jobStateCount {
		return "?"
	}
	return jobStates[s].short
}

// JobFlags refine a base state.
type JobFlags uint32

// The state flags, in the order in which they win the displayed name.
const (
	FlagCompleting JobFlags = 1 << iota
	FlagStageOut
	FlagConfiguring
	FlagExpediting
	FlagResizing
	FlagRequeued
	FlagRequeueFed
	FlagRequeueHold
	FlagSpecialExit
	FlagStopped
	FlagRevoked
	FlagResvDelHold
	FlagSignaling
	FlagLaunchFailed // from here on never the displayed name
	FlagPowerUpNode
	FlagReconfigFail
)

var jobFlags = []struct{ long, short string }{
	{"COMPLETING", "CG"}, {"STAGE_OUT", "SO"}, {"CONFIGURING", "CF"}, {"EXPEDITING", ""},
	{"RESIZING", "RS"}, {"REQUEUED", "RQ"}, {"REQUEUE_FED", "RF"}, {"REQUEUE_HOLD", "RH"},
	{"SPECIAL_EXIT", "SE"}, {"STOPPED", "ST"}, {"REVOKED", "RV"}, {"RESV_DEL_HOLD", "RD"},
	{"SIGNALING", "SI"}, {"LAUNCH_FAILED", ""}, {"POWER_UP_NODE", ""}, {"RECONFIG_FAIL", ""},
}

const displayFlags = 13

// StateName is the one word that squeue and sacct print for a state with flags.
func StateName(s JobState, f JobFlags) string {
	for i := range displayFlags {
		if f&(1<<i) != 0 {
			return jobFlags[i].long
		}
	}
	return s.String()
}

// StateShort is the compact form of [StateName].
func StateShort(s JobState, f JobFlags) string {
	for i := range displayFlags {
		if f&(1<<i) != 0 && jobFlags[i].short != "" {
			return jobFlags[i].short
		}
	}
	return s.Short()
}

// StateFull lists the base state and every flag, comma separated, base first.
func StateFull(s JobState, f JobFlags) string {
	out := s.String()
	for i := range jobFlags {
		if f&(1<<i) != 0 {
			out += "," + jobFlags[i].long
		}
	}
	return out
}

// ParseJobState reads a state's or flag's long or compact name in any case.
// Exactly one of the results is meaningful: flag is 0 for a base state.
func ParseJobState(name string) (s JobState, flag JobFlags, ok bool) {
	for i := range jobStates {
		if strings.EqualFold(name, jobStates[i].long) || strings.EqualFold(name, jobStates[i].short) {
			return JobState(i), 0, true
		}
	}
	for i := range jobFlags {
		if strings.EqualFold(name, jobFlags[i].long) || name != "" && strings.EqualFold(name, jobFlags[i].short) {
			return 0, 1 << i, true
		}
	}
	return 0, 0, false
}

// NodeState is a node's base state. IDLE, ALLOCATED and MIXED are not stored:
// they are what NodeUp looks like under its present allocation.
type NodeState uint8

// The base states of a node.
const (
	NodeUnknown NodeState = iota
	NodeDown
	NodeUp
	NodeFuture
)

// NodeFlags refine a node's base state.
type NodeFlags uint32

// The node flags, with the words of scontrol.
const (
	NodeDrain NodeFlags = 1 << iota
	NodeCompleting
	NodeNotResponding
	NodeFailFlag
	NodeMaint
	NodeReserved
	NodePlanned
	NodeBlocked
	NodeCloud
	NodeDynamic
	NodePoweredDown
	NodePoweringDown
	NodePowerDown
	NodePoweringUp
	NodePowerUp
	NodePowerDrain
	NodeRebootRequested
	NodeRebootIssued
	NodeInvalidReg
)

var nodeFlagNames = []string{"DRAIN", "COMPLETING", "NOT_RESPONDING", "FAIL", "MAINTENANCE", "RESERVED",
	"PLANNED", "BLOCKED", "CLOUD", "DYNAMIC_NORM", "POWERED_DOWN", "POWERING_DOWN", "POWER_DOWN",
	"POWERING_UP", "POWER_UP", "POWER_DRAIN", "REBOOT_REQUESTED", "REBOOT_ISSUED", "INVALID_REG"}

// Names lists the flags' words in order.
func (f NodeFlags) Names() []string {
	var out []string
	for i, n := range nodeFlagNames {
		if f&(1<<i) != 0 {
			out = append(out, n)
		}
	}
	return out
}
