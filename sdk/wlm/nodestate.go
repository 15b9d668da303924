package wlm

import (
	"slices"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/errs"
)

// NodeBase is a node's base state under its present load, as scontrol names it.
type NodeBase string

// The base states that are shown.
const (
	BaseUnknown   NodeBase = "UNKNOWN"
	BaseDown      NodeBase = "DOWN"
	BaseFuture    NodeBase = "FUTURE"
	BaseIdle      NodeBase = "IDLE"
	BaseMixed     NodeBase = "MIXED"
	BaseAllocated NodeBase = "ALLOCATED"
)

// BaseOf returns the base state of n when active jobs hold allocCPUs of it.
func BaseOf(n *Node, allocCPUs int) NodeBase {
	switch {
	case n.State == NodeDown:
		return BaseDown
	case n.State == NodeFuture:
		return BaseFuture
	case n.State != NodeUp:
		return BaseUnknown
	case allocCPUs <= 0:
		return BaseIdle
	case allocCPUs < int(n.CPUs):
		return BaseMixed
	}
	return BaseAllocated
}

// nodeWord is a state as sinfo shows it, long and short.
type nodeWord struct{ long, short string }

var (
	wordInval     = nodeWord{"inval", "inval"}
	wordMaint     = nodeWord{"maint", "maint"}
	wordReboot    = nodeWord{"reboot", "boot"}
	wordDraining  = nodeWord{"draining", "drng"}
	wordDrained   = nodeWord{"drained", "drain"}
	wordFailing   = nodeWord{"failing", "failg"}
	wordFail      = nodeWord{"fail", "fail"}
	wordDown      = nodeWord{"down", "down"}
	wordFuture    = nodeWord{"future", "futr"}
	wordUnknown   = nodeWord{"unknown", "unk"}
	wordAllocated = nodeWord{"allocated", "alloc"}
	wordMixed     = nodeWord{"mixed", "mix"}
	wordComp      = nodeWord{"completing", "comp"}
	wordReserved  = nodeWord{"reserved", "resv"}
	wordBlocked   = nodeWord{"blocked", "block"}
	wordPlanned   = nodeWord{"planned", "plnd"}
	wordIdle      = nodeWord{"idle", "idle"}
)

// NodeStateLong is the word and suffix that sinfo -l and %T print: idle,
// drained*, mixed-. Active jobs hold allocCPUs of n; completing says that jobs
// that ended are still being cleaned up on it.
func NodeStateLong(n *Node, allocCPUs int, completing bool) string {
	w, suffix := nodeDisplay(n, allocCPUs, completing)
	return w.long + suffix
}

// NodeStateShort is the compact form of [NodeStateLong], for sinfo and %t.
func NodeStateShort(n *Node, allocCPUs int, completing bool) string {
	w, suffix := nodeDisplay(n, allocCPUs, completing)
	return w.short + suffix
}

func nodeDisplay(n *Node, allocCPUs int, completing bool) (nodeWord, string) {
	completing = completing || n.Flags&NodeCompleting != 0
	base := BaseOf(n, allocCPUs)
	w := chooseWord(n.Flags, base, completing)
	suffix := nodeSuffix(n.Flags, w)
	if suffix == "" && w == wordAllocated && completing {
		suffix = "+"
	}
	return w, suffix
}

// chooseWord picks the state that matters most to an administrator.
func chooseWord(f NodeFlags, base NodeBase, completing bool) nodeWord {
	busy := completing || base == BaseAllocated || base == BaseMixed
	switch {
	case f&NodeInvalidReg != 0:
		return wordInval
	case f&NodeMaint != 0 && base == BaseIdle && !busy && f&(NodeDrain|NodeFailFlag) == 0:
		return wordMaint
	case f&(NodeRebootRequested|NodeRebootIssued) != 0 && !busy:
		return wordReboot
	case f&NodeDrain != 0 && busy:
		return wordDraining
	case f&NodeDrain != 0:
		return wordDrained
	case f&NodeFailFlag != 0 && busy:
		return wordFailing
	case f&NodeFailFlag != 0:
		return wordFail
	}
	switch base {
	case BaseDown:
		return wordDown
	case BaseFuture:
		return wordFuture
	case BaseAllocated:
		return wordAllocated
	case BaseMixed:
		return wordMixed
	case BaseIdle:
		switch {
		case completing:
			return wordComp
		case f&NodeReserved != 0:
			return wordReserved
		case f&NodeBlocked != 0:
			return wordBlocked
		case f&NodePlanned != 0:
			return wordPlanned
		}
		return wordIdle
	}
	return wordUnknown
}

// nodeSuffix is the one sign behind the word; the first that applies.
func nodeSuffix(f NodeFlags, w nodeWord) string {
	switch {
	case f&NodeMaint != 0 && w != wordMaint:
		return "$"
	case f&NodeRebootIssued != 0:
		return "^"
	case f&NodeRebootRequested != 0:
		return "@"
	case f&(NodePoweringUp|NodePowerUp) != 0:
		return "#"
	case f&NodePoweringDown != 0:
		return "%"
	case f&NodePoweredDown != 0:
		return "~"
	case f&NodePowerDown != 0:
		return "!"
	case f&NodeNotResponding != 0:
		return "*"
	case f&NodePlanned != 0 && w == wordMixed:
		return "-"
	}
	return ""
}

// NodeStateWords lists the base state and then the flags in the order of
// scontrol, which is alphabetical: IDLE, CLOUD, POWERED_DOWN.
func NodeStateWords(n *Node, allocCPUs int, completing bool) []string {
	f := n.Flags
	if completing {
		f |= NodeCompleting
	}
	flags := f.Names()
	slices.Sort(flags)
	return append([]string{string(BaseOf(n, allocCPUs))}, flags...)
}

// NodeStateFull joins [NodeStateWords] with "+", as scontrol's State= does:
// IDLE+DRAIN, DOWN+NOT_RESPONDING.
func NodeStateFull(n *Node, allocCPUs int, completing bool) string {
	return strings.Join(NodeStateWords(n, allocCPUs, completing), "+")
}

// NodeStateWord is a state that sinfo -t selects by, in its long spelling.
type NodeStateWord string

// nodeMatch decides whether a node is in a state.
type nodeMatch func(f NodeFlags, base NodeBase, completing bool) bool

func byFlag(mask NodeFlags) nodeMatch {
	return func(f NodeFlags, _ NodeBase, _ bool) bool { return f&mask != 0 }
}

func byBase(want NodeBase) nodeMatch {
	return func(_ NodeFlags, base NodeBase, _ bool) bool { return base == want }
}

func byWord(want nodeWord) nodeMatch {
	return func(f NodeFlags, base NodeBase, completing bool) bool { return chooseWord(f, base, completing) == want }
}

// nodeStates are the states of sinfo -t in the order in which it lists them.
var nodeStates = []struct {
	word    NodeStateWord
	aliases []string
	match   nodeMatch
}{
	{"unknown", []string{"unk"}, byBase(BaseUnknown)},
	{"down", nil, byBase(BaseDown)},
	{"idle", nil, byWord(wordIdle)},
	{"allocated", []string{"alloc"}, byBase(BaseAllocated)},
	{"mixed", []string{"mix"}, byBase(BaseMixed)},
	{"future", []string{"futr"}, byBase(BaseFuture)},
	{"drain", nil, byFlag(NodeDrain)},
	{"drained", nil, byWord(wordDrained)},
	{"draining", []string{"drng"}, byWord(wordDraining)},
	{"no_respond", []string{"not_responding", "noresp"}, byFlag(NodeNotResponding)},
	{"reserved", []string{"resv"}, byFlag(NodeReserved)},
	{"planned", []string{"plnd"}, byFlag(NodePlanned)},
	{"blocked", []string{"block"}, byFlag(NodeBlocked)},
	{"cloud", nil, byFlag(NodeCloud)},
	{"completing", []string{"comp"}, func(f NodeFlags, _ NodeBase, c bool) bool { return c }},
	{"powering_down", nil, byFlag(NodePoweringDown)},
	{"powered_down", nil, byFlag(NodePoweredDown)},
	{"power_down", nil, byFlag(NodePowerDown)},
	{"powering_up", nil, byFlag(NodePoweringUp)},
	{"power_up", nil, byFlag(NodePowerUp)},
	{"inval", []string{"invalid_reg"}, byFlag(NodeInvalidReg)},
	{"fail", []string{"failing", "failg"}, byFlag(NodeFailFlag)},
	{"maint", []string{"maintenance"}, byFlag(NodeMaint)},
	{"reboot", []string{"boot", "reboot_requested"}, byFlag(NodeRebootRequested | NodeRebootIssued)},
	{"reboot^", []string{"boot^", "reboot_issued"}, byFlag(NodeRebootIssued)},
	{"external", nil, byFlag(0)},
	{"dynamic_future", nil, byFlag(0)},
	{"dynamic_norm", nil, byFlag(NodeDynamic)},
}

// ValidNodeStates lists what [ParseNodeState] reads, comma separated, as sinfo
// does after a bad one.
func ValidNodeStates() string {
	words := make([]string, len(nodeStates))
	for i, s := range nodeStates {
		words[i] = string(s.word)
	}
	return strings.Join(words, ",")
}

// ParseNodeState reads a state of sinfo -t, long or short, in any case. The
// error's text is the first line that sinfo prints after "error: "; the second
// is "valid states: " and [ValidNodeStates].
func ParseNodeState(s string) (NodeStateWord, error) {
	for _, st := range nodeStates {
		if strings.EqualFold(s, string(st.word)) || slices.ContainsFunc(st.aliases, func(a string) bool { return strings.EqualFold(s, a) }) {
			return st.word, nil
		}
	}
	return "", errs.Newf("wlm.ParseNodeState", errs.Invalid, "Bad state string: %q", clip(s))
}

// Matches reports whether n, of which active jobs hold allocCPUs, is in the
// state. DRAIN is draining or drained; DOWN, ALLOCATED and MIXED look at the
// base state alone.
func (w NodeStateWord) Matches(n *Node, allocCPUs int, completing bool) bool {
	completing = completing || n.Flags&NodeCompleting != 0
	for _, st := range nodeStates {
		if st.word == w {
			return st.match(n.Flags, BaseOf(n, allocCPUs), completing)
		}
	}
	return false
}

// NodeVerb is what scontrol update nodename= state= does to a node.
type NodeVerb string

// The verbs of state=.
const (
	NodeSetCancelReboot   NodeVerb = "CANCEL_REBOOT"
	NodeSetDown           NodeVerb = "DOWN"
	NodeSetDrain          NodeVerb = "DRAIN"
	NodeSetFail           NodeVerb = "FAIL"
	NodeSetFuture         NodeVerb = "FUTURE"
	NodeSetIdle           NodeVerb = "IDLE"
	NodeSetNoResp         NodeVerb = "NORESP"
	NodeSetPowerDown      NodeVerb = "POWER_DOWN"
	NodeSetPowerDownASAP  NodeVerb = "POWER_DOWN_ASAP"
	NodeSetPowerDownForce NodeVerb = "POWER_DOWN_FORCE"
	NodeSetPowerUp        NodeVerb = "POWER_UP"
	NodeSetResume         NodeVerb = "RESUME"
	NodeSetUndrain        NodeVerb = "UNDRAIN"
)

var nodeVerbs = []NodeVerb{NodeSetCancelReboot, NodeSetDown, NodeSetDrain, NodeSetFail, NodeSetFuture, NodeSetIdle,
	NodeSetNoResp, NodeSetPowerDown, NodeSetPowerDownASAP, NodeSetPowerDownForce, NodeSetPowerUp, NodeSetResume, NodeSetUndrain}

// ParseNodeVerb reads the value of state= in any case. The error carries
// Slurm's code for a bad node state.
func ParseNodeVerb(s string) (NodeVerb, error) {
	for _, v := range nodeVerbs {
		if strings.EqualFold(s, string(v)) {
			return v, nil
		}
	}
	words := make([]string, len(nodeVerbs))
	for i, v := range nodeVerbs {
		words[i] = string(v)
	}
	return "", errs.Coded("wlm.ParseNodeVerb", errs.InvalidNodeState,
		"state="+clip(s)+" is none of "+strings.Join(words, ", "))
}
