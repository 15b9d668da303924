package wlm

import "slices"

// Node is a node's record: what slurm.conf says of it, what it registered,
// and what administrators did to it. What jobs use of it is derived from the
// jobs and not part of it. Immutable once published.
type Node struct {
	Name     NodeName
	Index    NodeIndex // place in the node table
	Hostname string
	Addr     string
	Port     uint32

	CPUs           uint32
	Boards         uint32
	Sockets        uint32
	CoresPerSocket uint32
	ThreadsPerCore uint32
	RealMemory     MiB
	TmpDisk        MiB
	Weight         uint32
	Features       []string // available
	ActiveFeatures []string
	Gres           string
	GresConf       string // what gres.conf says of the node, see [ParseNodeGres]
	CoreSpecCount  uint32
	CPUSpecList    string
	MemSpecLimit   MiB

	State       NodeState
	Flags       NodeFlags
	Reason      string
	ReasonUser  UID
	ReasonTime  Time
	Comment     string
	Extra       string
	LastBusy    Time
	LastHeard   Time // last message; soft
	BootTime    Time
	DaemonStart Time
	Version     string
	Arch        string
	OS          string
	CPULoad     uint32 // hundredths; Unset: not known
	FreeMem     MiB    // 0: not known
	Registered  bool   // since the controller started
	RegCPUs     uint32 // as the node itself found
	RegMemory   MiB
}

// Clone returns a copy that may be changed; its slices may not.
func (n *Node) Clone() *Node { c := *n; return &c }

// Available reports whether jobs may start on n, leaving its load aside.
func (n *Node) Available() bool {
	const not = NodeDrain | NodeNotResponding | NodeFailFlag | NodeInvalidReg | NodeBlocked |
		NodePoweredDown | NodePoweringDown | NodeRebootRequested | NodeRebootIssued
	return n.State == NodeUp && n.Flags&not == 0
}

// SpecCPUs are the CPUs that jobs never get: those of CPUSpecList, or all of
// CoreSpecCount cores, the last core of the last socket first, then the last
// of the socket before it, and so on.
func (n *Node) SpecCPUs() CPUSet {
	set, _ := ParseCPUSet(n.CPUSpecList)
	sockets, cores, threads := int(max(n.Sockets, 1)), int(max(n.CoresPerSocket, 1)), int(max(n.ThreadsPerCore, 1))
	for i := range min(int(n.CoreSpecCount), sockets*cores) {
		core := (sockets-1-i%sockets)*cores + cores - 1 - i/sockets
		for t := range threads {
			set = set.Set(core*threads + t)
		}
	}
	return set
}

// PartState says what a partition lets through.
type PartState uint8

// The states of a partition.
const (
	PartUp       PartState = iota
	PartDown               // accepts jobs, starts none
	PartDrain              // starts jobs, accepts none
	PartInactive           // neither
)

// String is the word of scontrol.
func (s PartState) String() string {
	switch s {
	case PartUp:
		return "UP"
	case PartDown:
		return "DOWN"
	case PartDrain:
		return "DRAIN"
	case PartInactive:
		return "INACTIVE"
	}
	return "?"
}

// OverSub is a partition's OverSubscribe.
type OverSub uint8

// The values of OverSubscribe.
const (
	OverSubNo OverSub = iota
	OverSubExclusive
	OverSubYes
	OverSubForce
)

// Partition is a partition's record. Immutable once published.
type Partition struct {
	Name           string
	Nodes          string // host list as configured, expanded ALL and node sets
	NodeNames      []NodeName
	Default        bool
	State          PartState
	Hidden         bool
	RootOnly       bool
	DisableRoot    bool
	ExclusiveUser  bool
	ExclusiveTopo  bool
	LLN            bool
	ReqResv        bool
	MaxTime        Minutes // Unlimited: none
	DefaultTime    Minutes // 0: MaxTime
	MinNodes       uint32
	MaxNodes       uint32 // Unset: none
	MaxCPUsPerNode uint32 // Unset: none
	MaxCPUsPerSock uint32 // Unset: none
	DefMemPerCPU   MiB    // 0: the cluster's
	DefMemPerNode  MiB
	MaxMemPerCPU   MiB
	MaxMemPerNode  MiB
	PriorityJob    uint32 // PriorityJobFactor
	PriorityTier   uint32
	OverSubscribe  OverSub
	OverSubCount   uint32
	OverTimeLimit  uint32 // minutes; Unset: the cluster's
	GraceTime      uint32 // seconds
	PreemptMode    string
	AllowGroups    []string // empty: all
	AllowAccounts  []string
	DenyAccounts   []string
	AllowQOS       []string
	DenyQOS        []string
	AllocNodes     []string
	Alternate      string
	QOS            string
	SelectParams   string
	JobDefaults    string
	TRESWeights    string
	CPUBind        string
}

// Admits reports whether AllowGroups lets somebody in who is in these groups.
func (p *Partition) Admits(groups []string) bool {
	return len(p.AllowGroups) == 0 || slices.ContainsFunc(groups, func(g string) bool { return slices.Contains(p.AllowGroups, g) })
}

// Clone returns a copy that may be changed; its slices may not.
func (p *Partition) Clone() *Partition { c := *p; return &c }

// Outlook is what the last pass found out about a pending job. It is soft:
// kept for readers, never written to the journal.
type Outlook struct {
	Reason Reason
	Text   string // with numbers, for people
	Start  Time   // forecast; 0: none
	Nodes  string // forecast node list
	Rank   uint32 // place in the agenda, from 1
	Words  string // Slurm's own longer words, shown in place of the reason's; empty: none
}
