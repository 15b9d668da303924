package cluster

import (
	"container/heap"
	"crypto/sha256"
	"fmt"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Settings are the rules that come from the configuration. Durations are
// seconds unless their type says otherwise.
type Settings struct {
	Cluster         string
	MaxJobCount     int
	FirstJobID      wlm.JobID
	MaxJobID        wlm.JobID
	MaxArraySize    uint32
	MaxArrayTasks   int // of one array; 0: as many as MaxArraySize allows
	MaxScriptBytes  int
	DefMemPerCPU    wlm.MiB
	DefMemPerNode   wlm.MiB
	MaxMemPerCPU    wlm.MiB
	MaxMemPerNode   wlm.MiB
	TrackMemory     bool // memory is a consumable resource
	OneTaskPerCore  bool // CR_ONE_TASK_PER_CORE
	WholeNodes      bool // select/linear, which does not know MaxCPUsPerNode
	JobRequeue      bool
	MinJobAge       uint32
	KillWait        uint32
	OverTimeLimit   wlm.Minutes
	SlurmdTimeout   uint32 // 0: silent nodes are never set down
	ReturnToService int
	ConfigOverrides bool // SlurmdParameters=config_overrides: the configuration wins over what nodes report
	// RegMemoryPercent is how much of RealMemory a node must have; 0: all.
	RegMemoryPercent float64
	MaxDependDepth   int
	RequeueExit      []int
	RequeueExitHold  []int
	MaxBatchRequeue  uint32
	EnforceLimits    string // EnforcePartLimits: "", "NO", "ANY", "ALL"
	MaxSwitchWait    uint32 // seconds; 0: Slurm's default of 300
	KillInvalidDep   bool
	UserTop          bool // SchedulerParameters=enable_user_top
	GresTypes        []string
	Licenses         []License
	TRES             []string    // AccountingStorageTRES: what jobs' TRES list beside the usual
	MaxTRES          bool        // PriorityFlags=MAX_TRES
	ResvOverRun      wlm.Minutes // how long jobs may run on when their reservation is over
	DefCPUPerGPU     uint32
	DefMemPerGPU     wlm.MiB
	Preemption       Preemption
	RequeueDelay     uint32 // how long a requeued job waits, seconds
}

// Caller is who asks, proven by whoever took the request.
type Caller struct {
	UID  wlm.UID
	GIDs []wlm.GID
	// Groups names the caller's groups, where a partition has AllowGroups.
	Groups []string
	Admin  bool // root, SlurmUser, or an operator's role
}

// Owns reports whether the caller may change the job.
func (c Caller) Owns(j *wlm.Job) bool { return c.Admin || c.UID == j.Spec.User }

// A Command is a request, a node's report or the passing of time. Commands
// carry their time; Apply never reads a clock.
type Command interface {
	// Op names the command in errors and logs.
	Op() string
	apply(c *Cluster, now wlm.Time) (any, error)
}

// Cluster is the whole truth. Use New, then Apply from one goroutine.
type Cluster struct {
	Tables
	settings Settings
	turn     []*Event
	timers   timers
	classes  map[Class]*feasibility
	members  map[*wlm.Partition]map[wlm.NodeName]struct{} // see hasNode
	keys     map[string]keyed                             // idempotency keys
	keyOrder []string
	records  records
	resvLook wlm.Time // when reservations are looked at next; 0: at once
	beside   bool     // see Beside
}

type keyed struct {
	job wlm.JobID
	at  wlm.Time
}

// New returns an empty cluster.
func New(s Settings) *Cluster {
	c := &Cluster{Tables: *NewTables(), settings: s, classes: map[Class]*feasibility{}, members: map[*wlm.Partition]map[wlm.NodeName]struct{}{}, keys: map[string]keyed{}}
	if s.FirstJobID > 0 {
		c.NextJob = s.FirstJobID
	}
	c.records.next = 1
	return c
}

// Settings returns the rules in force.
func (c *Cluster) Settings() Settings { return c.settings }

// Apply carries out cmd at now. The events it made join the turn; on an error
// there are none. The value is the command's own reply.
func (c *Cluster) Apply(cmd Command, now wlm.Time) (any, error) {
	return cmd.apply(c, now)
}

// Check verifies the invariants of the tables, and that no node gives more
// memory than it has where memory is a consumable resource.
func (c *Cluster) Check() error {
	if err := c.Tables.Check(); err != nil {
		return err
	}
	for i, n := range c.Nodes {
		if used := c.Usage[i].Mem; c.settings.TrackMemory && n.RealMemory > 0 && used > n.RealMemory {
			return fmt.Errorf("node %s: %d MiB in use of %d", n.Name, used, n.RealMemory)
		}
	}
	return nil
}

// TakeTurn returns the events made since the last call, for the journal and then
// for everyone who listens.
func (c *Cluster) TakeTurn() []*Event {
	t := c.turn
	c.turn = nil
	return t
}

// emit puts an event and adds it to the turn. A Put that fails is a bug: the
// verbs validate before they emit.
func (c *Cluster) emit(e *Event) {
	if e.Job != nil && c.ownSpec(e.Job) {
		e.respec = true
	}
	if err := c.put(e); err != nil {
		panic(errs.Newf("cluster.emit", errs.Internal, "%v", err))
	}
	c.turn = append(c.turn, e)
}

// Replay puts an event of the journal or of a snapshot.
func (c *Cluster) Replay(e *Event) error { return c.put(e) }

func (c *Cluster) put(e *Event) error {
	if err := c.complete(e); err != nil {
		return err
	}
	var old *wlm.Job
	if e.Job != nil {
		old = c.jobs[e.Job.ID]
	}
	if err := c.Tables.Put(e); err != nil {
		return err
	}
	switch e.Kind {
	case eventv1.Kind_KEY_REMEMBERED:
		if len(e.IDs) == 1 {
			c.keys[e.Text] = keyed{e.IDs[0], e.Time}
			c.keyOrder = append(c.keyOrder, e.Text)
		}
	case eventv1.Kind_RECORDS_ACKED:
		c.records.ack(e.Position)
	case eventv1.Kind_RESERVATION_CHANGED, eventv1.Kind_RESERVATION_REMOVED:
		c.resvLook = 0
	case eventv1.Kind_NODE_CHANGED, eventv1.Kind_NODE_REGISTERED, eventv1.Kind_NODE_REMOVED,
		eventv1.Kind_PARTITION_CHANGED, eventv1.Kind_PARTITION_REMOVED:
		clear(c.classes)
		clear(c.members)
	}
	if c.beside {
		return nil
	}
	if e.Job != nil {
		c.schedule(e.Job)
		c.letGo(old, e.Job)
	}
	c.records.add(e)
	return nil
}

// jobEvent emits an event about a job's new record.
func (c *Cluster) jobEvent(kind Kind, now wlm.Time, j *wlm.Job) {
	c.emit(&Event{Kind: kind, Time: now, Job: j})
}

// store emits the content once and returns its key; nil for nothing.
func (c *Cluster) store(data []byte, now wlm.Time) []byte {
	if len(data) == 0 {
		return nil
	}
	sum := sha256.Sum256(data)
	key := sum[:16]
	if c.blobs[string(key)] == nil {
		c.emit(&Event{Kind: eventv1.Kind_BLOB_STORED, Time: now, Key: key, Data: data})
	}
	return key
}

// timer is a moment at which a job wants to be looked at again. Timers are
// hints: a stale one finds a job that no longer minds.
type timer struct {
	at  wlm.Time
	job wlm.JobID
}

type timers []timer

func (t timers) Len() int { return len(t) }

// Less breaks ties by job, so that a replayed cluster does what the first did.
func (t timers) Less(i, j int) bool {
	return t[i].at < t[j].at || t[i].at == t[j].at && t[i].job < t[j].job
}
func (t timers) Swap(i, j int) { t[i], t[j] = t[j], t[i] }
func (t *timers) Push(x any)   { *t = append(*t, x.(timer)) }
func (t *timers) Pop() any {
	old := *t
	x := old[len(old)-1]
	*t = old[:len(old)-1]
	return x
}

// schedule sets the timers that j's present record wants.
func (c *Cluster) schedule(j *wlm.Job) {
	at := func(t wlm.Time) {
		if t > 0 {
			heap.Push(&c.timers, timer{t, j.ID})
		}
	}
	switch {
	case j.State == wlm.Pending:
		if j.Eligible == 0 {
			at(j.Spec.Begin)
			for _, d := range j.Deps {
				if d.Kind == wlm.DepAfter && d.Delay > 0 && d.State == wlm.DepUnfulfilled {
					for _, t := range c.targets(&d) {
						if t.Start > 0 {
							at(t.Start + wlm.Time(d.Delay)*60)
						}
					}
				}
			}
		}
		at(j.Spec.Deadline)
	case j.State == wlm.Running:
		c.delays(j)
		if j.Preempted > 0 {
			at(j.End)
		}
		if j.End > 0 {
			at(j.End + wlm.Time(c.settings.OverTimeLimit)*60)
			if j.Spec.Signal != 0 && !j.SignalSent {
				at(j.End - wlm.Time(j.Spec.SignalSeconds))
			}
		}
		at(j.Spec.Deadline)
	case j.State == wlm.Suspended:
		at(j.Spec.Deadline)
	case over(j):
		c.delays(j) // a job that was cancelled counts as started then
		at(j.End + wlm.Time(c.settings.MinJobAge))
	}
}

// delays sets timers for the jobs that start some minutes after j did.
func (c *Cluster) delays(j *wlm.Job) {
	for _, target := range [2]wlm.JobID{j.ID, j.ArrayJob} {
		for id := range c.waiting[target] {
			for _, d := range c.jobs[id].Deps {
				if d.Kind == wlm.DepAfter && d.Job == target && d.Delay > 0 {
					heap.Push(&c.timers, timer{j.Start + wlm.Time(d.Delay)*60, id})
				}
			}
		}
	}
}

// NextTimer is the moment of the earliest timer; 0: none.
func (c *Cluster) NextTimer() wlm.Time {
	look := max(c.resvLook, 1)
	switch {
	case len(c.timers) == 0 && len(c.Reservations) == 0:
		return 0
	case len(c.Reservations) == 0 || len(c.timers) > 0 && c.timers[0].at < look:
		return c.timers[0].at
	}
	return look
}

func invalidJob(op string, id wlm.JobID) error {
	return errs.Coded(op, errs.InvalidJobID, fmt.Sprintf("no job %s is known here", id))
}

func denied(op string, id wlm.JobID) error {
	return errs.Coded(op, errs.AccessDenied, fmt.Sprintf("job %s belongs to another user", id))
}
