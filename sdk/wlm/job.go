package wlm

import "strings"

// JobKind says who runs a job's work.
type JobKind uint8

// The kinds of a job.
const (
	KindBatch JobKind = iota // a script, started by the first node
	KindAlloc                // salloc: a command on the submit host
	KindRun                  // srun with an allocation of its own
)

// Exclusivity says with whom a job shares its nodes (--exclusive, --oversubscribe).
type Exclusivity uint8

// The forms of exclusivity.
const (
	ShareDefault Exclusivity = iota // as the partition says
	ShareNever                      // --exclusive: whole nodes
	ShareUser                       // --exclusive=user
	ShareMCS                        // --exclusive=mcs
	ShareTopo                       // --exclusive=topo
	ShareAllow                      // --oversubscribe
)

// OpenMode says what happens to an output file that exists.
type OpenMode uint8

// The open modes.
const (
	OpenDefault OpenMode = iota // as JobFileAppend says
	OpenTruncate
	OpenAppend
)

// Tristate is yes, no, or not said.
type Tristate uint8

// The values of a Tristate.
const (
	Unsaid Tristate = iota
	No
	Yes
)

// Spec is what a user asked for. A job's tasks, and all tasks of an array,
// share one Spec; it is immutable once published.
//
// A number that was not given is 0 unless its comment says Unset.
type Spec struct {
	Name       string
	Kind       JobKind
	User       UID
	Group      GID
	UserName   string
	GroupName  string
	Account    string
	QOS        string
	WCKey      string
	Partitions []string // in the order asked for; the default partition is filled in at submission

	// Resources. Class is computed from these, see [Spec.Class].
	MinNodes       uint32
	MaxNodes       uint32 // 0: no bound
	NodeSizes      string // a --nodes size list such as "1,5,9" or "1-15:4"; empty: MinNodes to MaxNodes
	ReqNodes       string // --nodelist
	ExcNodes       string // --exclude
	NTasks         uint32
	CPUsPerTask    uint32
	TasksPerNode   uint32
	TasksPerCore   uint32
	TasksPerSocket uint32
	TasksPerGPU    uint32
	SocketsPerNode uint32
	CoresPerSocket uint32
	ThreadsPerCore uint32
	MinCPUsPerNode uint32
	MemPerNode     MiB
	MemPerCPU      MiB
	MemPerGPU      MiB
	MemAll         bool // --mem=0: all memory of each node
	TmpDisk        MiB
	Features       string // --constraint
	Prefer         string
	TresPerJob     string // "gres/gpu:tesla:2,..."
	TresPerNode    string
	TresPerSocket  string
	TresPerTask    string
	CPUsPerGPU     uint32
	Licenses       string
	Share          Exclusivity
	Contiguous     bool
	Overcommit     bool
	SpreadJob      bool
	UseMinNodes    bool
	Switches       uint32
	SwitchWait     uint32 // seconds
	CoreSpec       uint32 // Unset: not asked for
	Distribution   string
	Hint           string
	Network        string
	Reservation    string

	// Time.
	TimeLimit Minutes // 0: the partition's default
	TimeMin   Minutes
	Begin     Time
	Deadline  Time

	// Policy.
	Dependency        string
	Nice              int32
	Priority          uint32 // Unset: computed
	Hold              bool
	Requeue           Tristate
	KillOnInvalidDep  Tristate
	NoKill            bool
	Reboot            bool
	Array             string // --array as given, canonical
	ArrayMaxRunning   uint32 // the %limit; 0: none
	Immediate         bool
	Signal            uint32 // --signal number; 0: none
	SignalSeconds     uint32 // before the end
	SignalBatch       bool   // B:
	SignalReservation bool   // R:
	WaitAllNodes      Tristate
	DelayBoot         uint32

	// Work.
	Argv       []string // script name and arguments, or the command
	WorkDir    string
	StdIn      string // pattern, empty: /dev/null
	StdOut     string // pattern, empty: the default pattern
	StdErr     string // pattern, empty: joined to StdOut
	OpenMode   OpenMode
	Umask      uint32
	Limits     []RLimit // resource limits to set in tasks
	ExportEnv  string   // --export as given
	Container  string
	CPUBind    string
	MemBind    string
	AcctFreq   string
	Profile    string
	OOMKill    Tristate
	MCSLabel   string
	Comment    string
	AdminNote  string
	SystemNote string
	Extra      string
	MailType   string
	MailUser   string
	SubmitLine string
	AllocNode  string // the submitting host
	AllocSID   uint32 // session or process id there
	Cluster    string
	HetGroup   uint32
	Options    []string // name=value of options that are kept with the job but that nothing acts upon yet
}

// Option is the value of an option that is kept in Options; empty when it was
// not given.
func (s *Spec) Option(name string) string {
	for _, o := range s.Options {
		if k, v, ok := strings.Cut(o, "="); ok && k == name {
			return v
		}
	}
	return ""
}

// RLimit is one resource limit by its kernel name ("NOFILE"); the maximum
// uint64 is unlimited.
type RLimit struct {
	Name string
	Soft uint64
	Hard uint64
}

// IDRange is a set of array task ids: First, First+Step, ... up to Last.
type IDRange struct {
	First uint32
	Last  uint32
	Step  uint32 // never 0
}

// DepKind is what a dependency waits for.
type DepKind uint8

// The kinds of a dependency, with sbatch's words.
const (
	DepAfter DepKind = iota
	DepAfterAny
	DepAfterOK
	DepAfterNotOK
	DepAfterCorr
	DepSingleton
	DepAfterBurstBuffer
	DepExpand
)

// DepState is how far a dependency is.
type DepState uint8

// The states of a dependency.
const (
	DepUnfulfilled DepState = iota
	DepFulfilled
	DepFailed // can never hold
)

// Dep is one term of a job's dependency list.
type Dep struct {
	Kind   DepKind
	Job    JobID
	TaskID uint32 // array task; Unset: the whole job; see AllTasks
	Delay  Minutes
	State  DepState
	Or     bool // the list is separated by "?"
}

// AllTasks in Dep.TaskID is "_*".
const AllTasks uint32 = 0xfffffffd

// Alloc is what a job holds while it runs, and what it held once it ended.
type Alloc struct {
	NodeList string // compressed host list, in node-table order
	Nodes    []NodeAlloc
}

// NodeAlloc is a job's share of one node.
type NodeAlloc struct {
	Node NodeName
	CPUs CPUSet // abstract CPUs
	Mem  MiB    // 0: memory is not a consumable resource, or nothing asked
	Gres string
}

// CPUCount is the number of CPUs of the allocation.
func (a *Alloc) CPUCount() int {
	n := 0
	if a != nil {
		for i := range a.Nodes {
			n += a.Nodes[i].CPUs.Count()
		}
	}
	return n
}

// Job is a job's record: a plain job, a pending array (one record for all its
// pending tasks), or one array task that has started. Immutable once published.
type Job struct {
	ID    JobID
	SLUID string // printable unique id over clusters and time
	Spec  *Spec

	ArrayJob   JobID     // the array's id; 0: not of an array
	ArrayTask  uint32    // the task's index; Unset on the record of pending tasks
	ArrayTasks []IDRange // pending tasks; only on the record of pending tasks
	ArrayCount uint32    // tasks in the array as submitted
	ArrayMin   uint32
	ArrayMax   uint32
	ArrayStep  uint32

	HetJob    JobID  // the first component's id; 0: not of a heterogeneous job
	HetOffset uint32 // component number
	HetSet    string // ids of all components: "15-16"

	Reservation string // the one it runs in, or ran in; empty: none

	ReservationID uint32 // of Reservation

	State      JobState
	Flags      JobFlags
	Reason     Reason
	ReasonText string // what the code cannot say; empty: the code's own word
	Held       bool   // by anyone; Reason says by whom
	Priority   uint32 // 0: held or not yet ranked
	Ranked     bool   // a priority was computed or given
	TimeLimit  Minutes
	Partition  string // the one it runs in, or the first asked for

	Submit       Time
	Eligible     Time // when nothing but resources and policy held it; 0: not yet
	Accrue       Time
	Start        Time
	End          Time // while it runs: when its limit ends it
	SuspendedAt  Time
	PreSuspend   uint32 // seconds run before the last suspension
	SuspendTotal uint32 // seconds
	LastSched    Time
	Preempted    Time   // when it was chosen to make room for another job; 0: never, or it runs again
	SchedulerTag string // "Main" or "Backfill"

	Deps []Dep

	Alloc       *Alloc // also after the end
	ReqTRES     string // "cpu=1,mem=100M,node=1,billing=1"
	AllocTRES   string
	BatchHost   NodeName
	NTasks      uint32 // tasks that the allocation holds
	Cleaning    []NodeName
	Restarts    uint32
	Status      WaitStatus // of the batch script, or as srun or salloc told
	Derived     WaitStatus // highest status of a step
	KilledBy    uint32     // uid of whoever cancelled; Unset: nobody
	FailedNode  NodeName
	NextStep    uint32
	Requeueable bool
	SignalSent  bool // --signal was delivered

	Script []byte // content key of the script, see blob in core/cluster
	Env    []byte // content key of the environment
}

// Clone returns a shallow copy that may be changed; what it points to may not.
func (j *Job) Clone() *Job { c := *j; return &c }

// IsArrayRecord reports whether j stands for the pending tasks of an array.
func (j *Job) IsArrayRecord() bool { return j.ArrayJob != 0 && j.ArrayTask == Unset }

// Step is a step's record. Immutable once published.
type Step struct {
	Job       JobID
	ID        StepID
	Name      string
	User      UID
	State     JobState
	Flags     JobFlags
	Start     Time
	End       Time
	TimeLimit Minutes // 0: the job's
	NodeList  string
	Nodes     uint32
	NTasks    uint32
	CPUs      uint32
	Mem       MiB
	TRES      string
	Dist      string
	Partition string
	Status    WaitStatus // highest of its tasks
	KilledBy  uint32     // Unset: nobody
	SrunHost  string
	SrunPID   uint32
	UserSec   uint32 // CPU time, whole seconds and microseconds
	UserUsec  uint32
	SysSec    uint32
	SysUsec   uint32
	MaxRSS    MiB // highest of a task, kibibytes rounded up to MiB
	SubmitCmd string
	Container string
	StdIn     string
	StdOut    string
	StdErr    string
	JobSubmit Time   // with Restarts: which run of the job the step belongs to
	Restarts  uint32 // the job's when the step began
}
