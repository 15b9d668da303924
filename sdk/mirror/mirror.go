// Package mirror is a plugin's copy of the cluster.
//
// The host feeds a [Mirror] one stream of frames: a snapshot, then what
// changed, each piece with a rev (see sdk/proto/mirror/v1). Author code never
// sees the stream: it gets a [View] of one rev, which does not change while a
// call runs, because frames are applied between calls only.
//
// Nodes and partitions are named by index within their tables; the tables are
// stable between two snapshots. Memory is MiB, durations are whole seconds.
package mirror

import (
	"iter"
	"slices"

	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Node is a node as a policy needs it.
type Node struct {
	Index          wlm.NodeIndex
	Name           wlm.NodeName
	CPUs           int
	Sockets        int
	CoresPerSocket int
	ThreadsPerCore int
	Memory         wlm.MiB // that jobs may have
	TmpDisk        wlm.MiB
	Weight         uint32
	Features       []string // active
	Gres           string
	Usable         bool       // jobs may start here
	SpecCPUs       wlm.CPUSet // CPUs that jobs never get
	GresConf       string     // what gres.conf says of the node
}

// Partition is a partition as a policy needs it.
type Partition struct {
	Index          int
	Name           string
	Nodes          []wlm.NodeIndex
	Tier           uint32
	JobFactor      uint32
	Starts         bool // its state lets jobs start
	MinNodes       uint32
	MaxNodes       uint32 // wlm.Unset: no limit
	MaxCPUsPerNode uint32 // wlm.Unset: no limit
	MaxTime        wlm.Minutes
	LLN            bool // least loaded nodes first
	OverSubscribe  wlm.OverSub
	OverCount      uint32
	ExclusiveUser  bool
	MaxCPUsPerSock uint32 // 0 or wlm.Unset: no limit
}

// Class is a resource request that many jobs may share: jobs of one class with
// one limit have one answer in a pass.
type Class struct {
	ID             uint32
	Partitions     []int // indexes, in the user's order
	MinNodes       uint32
	MaxNodes       uint32 // 0: no bound
	NodeSizes      string
	ReqNodes       string
	ExcNodes       string
	NTasks         uint32
	CPUsPerTask    uint32
	TasksPerNode   uint32
	TasksPerCore   uint32
	TasksPerSocket uint32
	SocketsPerNode uint32
	CoresPerSocket uint32
	ThreadsPerCore uint32
	MinCPUsPerNode uint32
	MemPerNode     wlm.MiB
	MemPerCPU      wlm.MiB
	MemAll         bool
	TmpDisk        wlm.MiB
	Features       string
	Prefer         string
	TresPerJob     string
	TresPerNode    string
	TresPerSocket  string
	TresPerTask    string
	Share          wlm.Exclusivity
	Contiguous     bool
	Overcommit     bool
	Spread         bool
	UseMinNodes    bool
	CoreSpec       uint32
	Licenses       string
	Reservation    string
	Counters       []CounterUse
	Dist           string // --distribution
	CPUsPerGPU     uint32
	MemPerGPU      wlm.MiB
	TasksPerGPU    uint32
	GresFlags      string
	Switches       uint32
	SwitchWait     uint32 // seconds
	Segment        uint32 // --segment: nodes that have to be in one block together; 0: not asked for
}

// CounterUse is how much of a counter a job uses while it runs.
type CounterUse struct {
	Counter uint32
	Amount  uint64
}

// Counter is anything cluster-wide that jobs use up.
type Counter struct {
	ID       uint32
	Name     string
	Capacity uint64
	Reason   wlm.Reason // when it is short
}

// Reservation keeps resources for the jobs that may use it.
type Reservation struct {
	ID       uint32
	Name     string
	Start    wlm.Time // of this or the next occurrence; further ones follow as entries with the same ID
	End      wlm.Time
	Float    uint32    // its start is always this many seconds ahead, at its length; 0: Start tells
	Uses     []NodeUse // what it keeps: whole nodes, or CPUs of them
	Counters []CounterUse
	Flex     bool // its jobs may run outside of its time and nodes
	AnyNodes bool // its jobs may run on any node
	Overlap  bool // its jobs may use what others reserve
	Maint    bool // for maintenance
}

// At returns when the reservation begins and ends, as seen at now.
func (r *Reservation) At(now wlm.Time) (start, end wlm.Time) {
	if r.Float > 0 {
		start = now + wlm.Time(r.Float)
		return start, start + r.End - r.Start
	}
	return r.Start, r.End
}

// NodeUse is a job's share of one node.
type NodeUse struct {
	Node  wlm.NodeIndex
	CPUs  wlm.CPUSet
	Mem   wlm.MiB
	Whole bool   // nobody else may use the node
	Gres  string // with device indexes, as wlm.FormatGresUse prints it
}

// Job is a pending or running job. An array's pending tasks are one Job. Jobs that
// are held, and have nothing on a node any more, come only once they are released.
type Job struct {
	ID       wlm.JobID
	User     wlm.UID
	Class    *Class
	Priority uint32
	Running  bool
	Ready    bool // pending, and nothing but resources and policy holds it
	Held     bool // while it leaves its nodes
	Ranked   bool // has a priority
	Submit   wlm.Time
	Eligible wlm.Time
	Account  string
	QOS      string
	Limit    uint32 // seconds; 0: none
	TimeMin  uint32 // seconds
	Nice     int32

	ReservedOnly bool    // it asks for Reservations and runs nowhere else
	Preempt      Preempt // what may be done to it, when it runs, to make room for a job of a higher tier
	Leaving      bool    // it runs and is about to give back what it holds
	Asleep       bool    // suspended to make room: its CPUs are free to those who may preempt it, and to them alone

	Tasks int // array tasks that may start now; 1 for a plain job
	// Reservations that a pending job may use, in the order in which to try them;
	// the one that a running job is in.
	Reservations []uint32

	// Of a running job:
	Start     wlm.Time
	End       wlm.Time // when its limit ends it; 0: never
	Partition int
	Uses      []NodeUse
	Exempt    wlm.Time // until when nothing may be done to it to make room

	rev  uint64 // of the last change
	tier uint32 // highest of its partitions
	gone bool   // no longer in the mirror, though perhaps still in a line
}

// Preempt is what may be done to a running job to make room for another.
type Preempt uint8

// What may be done to a running job.
const (
	PreemptOff     Preempt = iota // nothing
	PreemptEnd                    // it is cancelled or requeued: all that it holds becomes free
	PreemptSuspend                // it is suspended: its CPUs become free
)

// Ended is a job that ran and is over.
type Ended struct {
	ID      wlm.JobID
	User    wlm.UID
	Account string
	Name    string
	CPUs    uint32
	Limit   uint32 // seconds; 0: none
	Submit  wlm.Time
	Start   wlm.Time
	End     wlm.Time

	rev uint64 // at which the mirror learned of it
}

// View is the cluster at one rev. It is valid during the call it was handed to
// and must not be changed.
type View struct {
	Rev uint64
	Now wlm.Time

	Nodes      []Node      // by index
	Partitions []Partition // by index
	Counters   []Counter
	// Reservations that are not over, by ID and start.
	Reservations []Reservation

	m *Mirror
}

// Job returns the job, or nil.
func (v View) Job(id wlm.JobID) *Job { return v.m.job(id) }

// Running yields the running jobs in no order.
func (v View) Running() iter.Seq[*Job] { return values(v.m.runs) }

// PendingBySubmit yields the ready pending jobs, oldest first.
func (v View) PendingBySubmit() iter.Seq[*Job] { return v.m.submit.all() }

// PendingByPriority yields the ready pending jobs in Slurm's main order: tier
// of the partition (the highest of those asked for), priority, submission, id.
func (v View) PendingByPriority() iter.Seq[*Job] { return v.m.priority.all() }

// Pending yields every pending job, ready or not, in no order.
func (v View) Pending() iter.Seq[*Job] { return v.m.pending }

// EndedSince yields the jobs of which the mirror learned after rev that they
// have ended, in that order. It knows some thousand of the newest, and may tell
// again of jobs that it told of, after it was fed a snapshot.
func (v View) EndedSince(rev uint64) iter.Seq[Ended] {
	return func(yield func(Ended) bool) {
		list := v.m.ended
		i, _ := slices.BinarySearchFunc(list, rev, func(e Ended, rev uint64) int {
			if e.rev <= rev {
				return -1
			}
			return 1
		})
		for _, e := range list[i:] {
			if !yield(e) {
				return
			}
		}
	}
}

// Setting is a value of slurm.conf that policies read, such as
// "SchedulerParameters"; empty when it is not set.
func (v View) Setting(key string) string { return v.m.settings[key] }
