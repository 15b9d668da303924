package wlm

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
)

// ResvFlags are a reservation's flags.
type ResvFlags uint64

// The flags, in the order in which they are printed.
const (
	ResvMaint ResvFlags = 1 << iota
	ResvFlex
	ResvOverlap
	ResvIgnoreJobs
	ResvHourly
	ResvDaily
	ResvWeekday
	ResvWeekend
	ResvWeekly
	ResvSpecNodes
	ResvAllNodes
	ResvAnyNodes
	ResvStatic
	ResvPartNodes
	ResvFirstCores
	ResvTimeFloat
	ResvReplace
	ResvReplaceDown
	ResvPurge
	ResvNoHold
	ResvMagnetic
	ResvUserDelete
	ResvForceStart
)

// resvShown are the flags that say how a reservation came to its nodes.
const resvShown = ResvSpecNodes | ResvAllNodes

// ResvRepeats are the flags of reservations that come again.
const ResvRepeats = ResvHourly | ResvDaily | ResvWeekday | ResvWeekend | ResvWeekly

var resvFlagNames = []string{"MAINT", "FLEX", "OVERLAP", "IGNORE_JOBS", "HOURLY", "DAILY", "WEEKDAY", "WEEKEND", "WEEKLY",
	"SPEC_NODES", "ALL_NODES", "ANY_NODES", "STATIC_ALLOC", "PART_NODES", "FIRST_CORES", "TIME_FLOAT", "REPLACE", "REPLACE_DOWN",
	"PURGE_COMP", "NO_HOLD_JOBS_AFTER_END", "MAGNETIC", "USER_DELETE", "FORCE_START"}

// Names lists the flags as scontrol prints them; PURGE_COMP is without its time.
func (f ResvFlags) Names() []string {
	var out []string
	for i, name := range resvFlagNames {
		if f>>i&1 != 0 {
			out = append(out, name)
		}
	}
	return out
}

// ParseResvFlags reads a list of flags, each of which may be cut short;
// SPEC_NODES and ALL_NODES are only shown. purge is the time of PURGE_COMP in
// seconds.
func ParseResvFlags(list string) (f ResvFlags, purge uint32, err error) {
	bad := errs.Newf("wlm.ParseResvFlags", errs.Invalid, "%q: allowed are %s, LICENSE_ONLY", list, strings.Join((^resvShown).Names(), ", "))
	for word := range strings.SplitSeq(list, ",") {
		name, value, timed := strings.Cut(strings.ToUpper(strings.TrimSpace(word)), "=")
		i := slices.IndexFunc(resvFlagNames, func(full string) bool { return name != "" && strings.HasPrefix(full, name) })
		switch {
		case name != "" && strings.HasPrefix("LICENSE_ONLY", name):
			f |= ResvAnyNodes
		case i < 0, resvShown>>i&1 != 0, timed && 1<<i != ResvPurge:
			return 0, 0, bad
		case 1<<i == ResvPurge:
			f |= ResvPurge
			purge = 5 * 60
			if timed {
				m, err := ParseMinutes(value)
				if err != nil || m == Unlimited {
					return 0, 0, bad
				}
				purge = uint32(m) * 60
			}
		default:
			f |= 1 << i
		}
	}
	return f, purge, nil
}

// Reservation keeps nodes, cores or licenses for some jobs during a time.
// Immutable once published.
type Reservation struct {
	Name       string
	ID         uint32
	Start, End Time        // of this or the next occurrence
	Float      uint32      // TIME_FLOAT: seconds from now to the start
	Nodes      []NodeAlloc // in node-table order; no CPUs: the whole node
	Cores      uint32
	CPUs       uint32
	WantNodes  uint32 // nodes that the controller chose; 0: they were named
	CoreBased  bool   // cores were asked for

	Partition, Features string
	Flags               ResvFlags
	Users               []string
	DenyUsers           bool // Users are those who may not
	Accounts            []string
	DenyAccounts        bool
	Groups              []string
	GroupUsers          []string // the groups' members when they were named
	QOS                 []string
	AllowedPartitions   []string
	Licenses            string
	PurgeAfter          uint32 // PURGE_COMP: seconds; 0: never
	MaxStartDelay       uint32 // seconds
	Comment             string
	BurstBuffer         string
	Used                Time // when a job last had it, as far as was looked
	Active              bool // its start has come
}

// Clone returns a copy that may be changed; its slices may not.
func (r *Reservation) Clone() *Reservation { c := *r; return &c }

// At returns when the reservation begins and ends, as seen at now.
func (r *Reservation) At(now Time) (start, end Time) {
	if r.Flags&ResvTimeFloat != 0 {
		start = now + Time(r.Float)
		return start, start + r.End - r.Start
	}
	return r.Start, r.End
}

// ActiveAt reports whether now is in the reservation's time.
func (r *Reservation) ActiveAt(now Time) bool {
	start, end := r.At(now)
	return start <= now && now < end
}

// Next returns the start of the occurrence after the one that starts at start;
// 0: there is none. Days are those of the local time zone.
func (r *Reservation) Next(start Time) Time {
	days := func(n int) Time {
		t := time.Unix(int64(start), 0)
		return Time(time.Date(t.Year(), t.Month(), t.Day()+n, t.Hour(), t.Minute(), t.Second(), 0, t.Location()).Unix())
	}
	weekday := time.Unix(int64(start), 0).Weekday()
	switch {
	case r.Flags&ResvHourly != 0:
		return start + 3600
	case r.Flags&ResvDaily != 0:
		return days(1)
	case r.Flags&ResvWeekday != 0:
		return days(max(1, map[time.Weekday]int{time.Friday: 3, time.Saturday: 2}[weekday]))
	case r.Flags&ResvWeekend != 0 && weekday == time.Saturday:
		return days(1)
	case r.Flags&ResvWeekend != 0:
		return days(max(1, int(time.Saturday-weekday)))
	case r.Flags&ResvWeekly != 0:
		return days(7)
	}
	return 0
}

// Admits reports whether a job of that user, account, QOS and partition may use
// the reservation. Each list that is set must agree.
func (r *Reservation) Admits(user, account, qos, partition string) bool {
	switch {
	case len(r.Users) > 0 && slices.Contains(r.Users, user) == r.DenyUsers,
		len(r.Groups) > 0 && !slices.Contains(r.GroupUsers, user),
		len(r.Accounts) > 0 && slices.Contains(r.Accounts, account) == r.DenyAccounts,
		len(r.QOS) > 0 && !slices.Contains(r.QOS, qos),
		len(r.AllowedPartitions) > 0 && !slices.Contains(r.AllowedPartitions, partition):
		return false
	}
	return true
}

// Node returns what the reservation has of a node, or nil.
func (r *Reservation) Node(name NodeName) *NodeAlloc {
	for i := range r.Nodes {
		if r.Nodes[i].Node == name {
			return &r.Nodes[i]
		}
	}
	return nil
}

// NodeList names the reservation's nodes one by one.
func (r *Reservation) NodeList() []string {
	out := make([]string, len(r.Nodes))
	for i := range r.Nodes {
		out[i] = string(r.Nodes[i].Node)
	}
	return out
}

// FlagText prints the flags as scontrol does.
func (r *Reservation) FlagText() string {
	names := r.Flags.Names()
	for i, n := range names {
		switch n {
		case "STATIC_ALLOC": // Slurm's other name of it
			names[i] = "STATIC"
		case "PURGE_COMP":
			names[i] = fmt.Sprintf("PURGE_COMP=%s", FormatElapsed(int64(r.PurgeAfter)))
		}
	}
	return strings.Join(names, ",")
}

// ReservationName is the reservation that a job runs in or, while it waits, the
// list that it asks for.
func (j *Job) ReservationName() string {
	if j.Reservation != "" && j.State != Pending {
		return j.Reservation
	}
	return j.Spec.Reservation
}
