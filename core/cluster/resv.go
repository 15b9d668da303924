package cluster

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// UpdateReservation creates, changes or deletes a reservation by scontrol's
// names in lower case, with a + or - behind that adds or takes away. Times are
// Unix seconds, durations seconds. The reply is the reservation's name.
type UpdateReservation struct {
	Name   string // empty at creation: one is made
	Verb   ctlv1.UpdateReservationRequest_Verb
	Set    map[string]string
	Groups map[string][]string // members of the groups that Set names
	User   string              // the caller's name
	Caller Caller
}

// Op implements Command.
func (*UpdateReservation) Op() string { return "cluster.UpdateReservation" }

func (u *UpdateReservation) apply(c *Cluster, now wlm.Time) (any, error) {
	op, old := u.Op(), c.Reservation(u.Name)
	if u.Verb == ctlv1.UpdateReservationRequest_DELETE {
		return u.Name, u.remove(c, old, now)
	}
	if !u.Caller.Admin {
		return nil, errs.Coded(op, errs.UserIDMissing)
	}
	switch {
	case u.Verb == ctlv1.UpdateReservationRequest_CREATE && old != nil:
		return nil, errs.Coded(op, errs.ReservationDuplicate)
	case u.Verb == ctlv1.UpdateReservationRequest_UPDATE && old == nil:
		return nil, errs.Coded(op, errs.ReservationInvalid).With("no reservation is called %q", u.Name)
	}
	r := &wlm.Reservation{Name: u.Name, ID: c.NextResv, Used: now}
	if old != nil {
		r = old.Clone()
	}
	for _, key := range resvKeys {
		for _, sign := range []string{"", "+", "-"} {
			v, given := u.Set[key+sign]
			if !given {
				continue
			}
			if err := u.edit(c, r, key, sign, v, now); err != nil {
				return nil, err
			}
		}
	}
	if err := u.whole(c, old, r, now); err != nil {
		return nil, err
	}
	if r.Name == "" {
		r.Name = autoName(r)
	}
	r.Active = r.ActiveAt(now)
	c.emit(&Event{Kind: eventv1.Kind_RESERVATION_CHANGED, Time: now, Reservation: r})
	c.rejudgeReserved(r.Name, now)
	return r.Name, nil
}

// resvKeys are the keys of a reservation in the order in which they are read:
// flags decide what the rest means.
var resvKeys = []string{"flags", "starttime", "endtime", "duration", "users", "groups", "accounts", "qos", "allowedpartitions",
	"partitionname", "features", "licenses", "tres", "nodes", "nodecnt", "corecnt", "maxstartdelay", "comment", "burstbuffer", "skip"}

// autoName is the first of those that the reservation is for, and its number.
func autoName(r *wlm.Reservation) string {
	for _, list := range [][]string{r.Accounts, r.Users, r.Groups, r.QOS, r.AllowedPartitions} {
		if len(list) > 0 {
			return fmt.Sprintf("%s_%d", list[0], r.ID)
		}
	}
	return fmt.Sprintf("resv_%d", r.ID)
}

// edit changes one key of r.
func (u *UpdateReservation) edit(c *Cluster, r *wlm.Reservation, key, sign, v string, now wlm.Time) error {
	op := u.Op()
	number := func() (wlm.Time, error) {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return 0, errs.Coded(op, errs.InvalidTime).With("%s=%s", key, v)
		}
		return wlm.Time(n), nil
	}
	switch key {
	case "flags":
		return u.flags(r, sign, v)
	case "starttime":
		t, err := number()
		if err != nil {
			return err
		}
		if r.Active && u.Verb == ctlv1.UpdateReservationRequest_UPDATE {
			return errs.Coded(op, errs.ReservationStarted)
		}
		if r.Flags&wlm.ResvTimeFloat != 0 {
			r.Float = uint32(min(max(t-now, 0), math.MaxInt32))
		}
		r.Start, r.End = t, r.End+t-r.Start
	case "endtime":
		t, err := number()
		r.End = t
		return err
	case "duration":
		if strings.EqualFold(v, "unlimited") {
			r.End = r.Start + resvYear
			return nil
		}
		t, err := number()
		r.End = r.Start + t
		return err
	case "users":
		return u.members(&r.Users, &r.DenyUsers, sign, v, errs.UserIDMissing)
	case "accounts":
		return u.members(&r.Accounts, &r.DenyAccounts, sign, v, errs.InvalidAccount)
	case "groups":
		var deny bool
		if err := u.members(&r.Groups, &deny, sign, v, errs.GroupIDMissing); err != nil || deny {
			return errs.Coded(op, errs.GroupIDMissing).With("groups=%s: groups can not be denied", v)
		}
		r.GroupUsers = nil
		for _, g := range r.Groups {
			r.GroupUsers = append(r.GroupUsers, u.Groups[g]...)
		}
		slices.Sort(r.GroupUsers)
		r.GroupUsers = slices.Compact(r.GroupUsers)
	case "qos":
		r.QOS = list(v)
	case "allowedpartitions":
		r.AllowedPartitions = list(v)
	case "partitionname":
		if v != "" && c.Partition(v) == nil {
			return errs.Coded(op, errs.InvalidPartition)
		}
		r.Partition = v
	case "features":
		if u.Verb == ctlv1.UpdateReservationRequest_UPDATE && v != "" {
			return errs.Coded(op, errs.NotSupported)
		}
		r.Features = v
	case "licenses":
		r.Licenses = v
	case "maxstartdelay":
		t, err := number()
		r.MaxStartDelay = uint32(t)
		return err
	case "comment":
		r.Comment = v
	case "burstbuffer":
		return errs.Coded(op, errs.NotSupported)
	case "skip":
		return u.skip(r)
	}
	return nil
}

// resvYear is how long a reservation without an end lasts, as in Slurm.
const resvYear = 365 * 24 * 3600

// skip moves a repeating reservation to its next occurrence.
func (u *UpdateReservation) skip(r *wlm.Reservation) error {
	next := r.Next(r.Start)
	if next == 0 {
		return errs.Coded(u.Op(), errs.ReservationNoSkip)
	}
	r.Start, r.End, r.Active = next, r.End+next-r.Start, false
	return nil
}

// flags changes a reservation's flags.
func (u *UpdateReservation) flags(r *wlm.Reservation, sign, v string) error {
	f, purge, err := wlm.ParseResvFlags(v)
	if err != nil {
		return err
	}
	if f&wlm.ResvTimeFloat != 0 && u.Verb == ctlv1.UpdateReservationRequest_UPDATE {
		return errs.Coded(u.Op(), errs.NotSupported)
	}
	switch {
	case sign == "-":
		r.Flags &^= f
	default:
		r.Flags |= f
		if f&wlm.ResvPurge != 0 {
			r.PurgeAfter = purge
		}
	}
	if r.Flags&wlm.ResvPurge == 0 {
		r.PurgeAfter = 0
	}
	if r.Flags&wlm.ResvTimeFloat != 0 && r.Flags&wlm.ResvRepeats != 0 {
		return errs.Coded(u.Op(), errs.NotSupported)
	}
	return nil
}

// members changes a list of who may, or (with - before every name) may not. A
// change to names with - takes those away from a list of who may.
func (u *UpdateReservation) members(have *[]string, deny *bool, sign, v string, code errs.Code) error {
	names, out := list(v), []string(nil)
	denied := 0
	for _, n := range names {
		name, minus := strings.CutPrefix(n, "-")
		if minus {
			denied++
		}
		out = append(out, name)
	}
	if denied != 0 && denied != len(out) {
		return errs.Coded(u.Op(), code).With("%s: either all are denied or none", v)
	}
	less := denied > 0 && u.Verb == ctlv1.UpdateReservationRequest_UPDATE
	switch {
	case sign == "" && !less || len(*have) == 0:
		*have, *deny = out, denied > 0 || sign == "-" && len(out) > 0
	case (sign == "-" || denied > 0) == *deny: // one more of the same
		*have = append(slices.Clone(*have), out...)
	default: // one less
		*have = slices.DeleteFunc(slices.Clone(*have), func(n string) bool { return slices.Contains(out, n) })
	}
	seen := map[string]bool{}
	*have = slices.DeleteFunc(slices.Clone(*have), func(n string) bool { dup := seen[n]; seen[n] = true; return dup })
	if len(*have) == 0 {
		*have, *deny = nil, false
	}
	return nil
}

// whole checks a reservation as it would be, and gives it its nodes.
func (u *UpdateReservation) whole(c *Cluster, old, r *wlm.Reservation, now wlm.Time) error {
	op := u.Op()
	const late = 300 // seconds that a request may take
	start, end := r.At(now)
	repeats := r.Flags&wlm.ResvRepeats != 0
	switch {
	case end <= start, end <= now && !repeats, old == nil && start < now-late && r.Flags&wlm.ResvForceStart == 0:
		return errs.Coded(op, errs.InvalidTime).With("it would begin %d and end %d seconds from now", start-now, end-now)
	case len(r.Users)+len(r.Groups)+len(r.Accounts)+len(r.QOS)+len(r.AllowedPartitions) == 0:
		return errs.Coded(op, errs.ReservationEmpty)
	case len(r.Users) > 0 && len(r.Groups) > 0:
		return errs.Coded(op, errs.ReservationUsers)
	}
	for r.End <= now { // of a repeating one whose first occurrences are over
		next := r.Next(r.Start)
		if next == 0 {
			return errs.Coded(op, errs.InvalidTime)
		}
		r.Start, r.End = next, r.End+next-r.Start
	}
	ask, err := u.ask(r)
	if err != nil {
		return err
	}
	if err := c.reserveLicenses(op, r, now); err != nil {
		return err
	}
	if old != nil && !ask.given() {
		if r.Start == old.Start && r.End == old.End || r.Flags&(wlm.ResvMaint|wlm.ResvOverlap) != 0 {
			return nil
		}
		for i := range r.Nodes {
			if c.contested(r, &r.Nodes[i], now) {
				return errs.Coded(op, errs.ReservationOverlap)
			}
		}
		return nil
	}
	if old != nil && old.CoreBased {
		return errs.Coded(op, errs.ReservationCores)
	}
	return c.reserveNodes(op, r, old, ask, now)
}

// nodeAsk is what nodes and cores a request is for.
type nodeAsk struct {
	nodes string
	named bool // nodes, perhaps empty, were given
	count int  // -1: not given
	cores []int
}

func (a *nodeAsk) given() bool { return a.named || a.count >= 0 || len(a.cores) > 0 }

// ask reads the keys that say which nodes and cores; TRES goes before.
func (u *UpdateReservation) ask(r *wlm.Reservation) (*nodeAsk, error) {
	op, a := u.Op(), &nodeAsk{count: -1}
	bad := func(k, v string) error {
		return errs.Newf(op, errs.Invalid, "%s=%s: allowed is a number, or a list of numbers", k, v)
	}
	count := func(k, v string) error {
		a.count = 0
		for _, item := range list(v) { // together, as Slurm has no geometry any longer
			n, err := strconv.ParseUint(strings.TrimRight(item, "kK"), 10, 20)
			if err != nil {
				return bad(k, v)
			}
			if strings.HasSuffix(strings.ToLower(item), "k") {
				n *= 1024
			}
			a.count += int(n)
		}
		return nil
	}
	cores := func(k, v string) error {
		a.cores = nil
		for _, item := range list(v) {
			n, err := strconv.ParseUint(item, 10, 20)
			if err != nil {
				return bad(k, v)
			}
			a.cores = append(a.cores, int(n))
		}
		return nil
	}
	a.nodes, a.named = u.Set["nodes"]
	if v, ok := u.Set["nodecnt"]; ok {
		if err := count("NodeCnt", v); err != nil {
			return nil, err
		}
	}
	if v, ok := u.Set["corecnt"]; ok {
		if err := cores("CoreCnt", v); err != nil {
			return nil, err
		}
	}
	last := ""
	for item := range strings.SplitSeq(u.Set["tres"], ",") {
		k, v, pair := strings.Cut(item, "=")
		switch name := strings.ToLower(k); {
		case item == "":
		case !pair && last == "cpu": // another node's
			n, err := strconv.ParseUint(item, 10, 20)
			if err != nil {
				return nil, bad("TRES", item)
			}
			a.cores = append(a.cores, int(n))
		case name == "cpu":
			if err := cores("TRES", v); err != nil {
				return nil, err
			}
			last = "cpu"
		case name == "node":
			if err := count("TRES", v); err != nil {
				return nil, err
			}
		case strings.HasPrefix(name, "license/"):
			r.Licenses = strings.TrimPrefix(r.Licenses+","+k[len("license/"):]+":"+v, ",")
		default:
			return nil, errs.Newf(op, errs.Invalid, "TRES=%s: allowed are cpu, node, license/NAME", item)
		}
	}
	return a, nil
}

// remove deletes a reservation that no job is in or waits for.
func (u *UpdateReservation) remove(c *Cluster, r *wlm.Reservation, now wlm.Time) error {
	op := u.Op()
	allowed := u.Caller.Admin || r != nil && r.Flags&wlm.ResvUserDelete != 0 && r.Admits(u.User, "", "", "")
	switch {
	case !allowed:
		return errs.Coded(op, errs.UserIDMissing)
	case r == nil:
		return errs.Coded(op, errs.ReservationInvalid).With("no reservation is called %q", u.Name)
	case c.resvInUse(r):
		return errs.Coded(op, errs.ReservationBusy)
	}
	c.dropReservation(r, now)
	return nil
}

// runningIn are the jobs that run in a reservation, rising by id.
func (t *Tables) runningIn(name string) []*wlm.Job {
	var out []*wlm.Job
	for _, j := range t.jobs {
		if j.Reservation == name && (j.State == wlm.Running || j.State == wlm.Suspended) {
			out = append(out, j)
		}
	}
	slices.SortFunc(out, func(a, b *wlm.Job) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// waitingFor are the pending jobs that ask for a reservation, rising by id.
func (t *Tables) waitingFor(name string) []*wlm.Job {
	var out []*wlm.Job
	for _, j := range t.jobs {
		if j.State == wlm.Pending && slices.Contains(list(j.Spec.Reservation), name) {
			out = append(out, j)
		}
	}
	slices.SortFunc(out, func(a, b *wlm.Job) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// dropReservation takes a reservation out. Jobs that asked for it alone are
// held, unless its flags let them run elsewhere.
func (c *Cluster) dropReservation(r *wlm.Reservation, now wlm.Time) {
	c.emit(&Event{Kind: eventv1.Kind_RESERVATION_REMOVED, Time: now, Reservation: r})
	for _, j := range c.waitingFor(r.Name) {
		n, spec := j.Clone(), *j.Spec
		rest := slices.DeleteFunc(list(spec.Reservation), func(name string) bool { return name == r.Name })
		switch {
		case len(rest) > 0 || r.Flags&wlm.ResvNoHold != 0:
		default:
			n.Held, n.Reason, n.Flags = true, wlm.WaitResvDeleted, n.Flags|wlm.FlagResvDelHold
		}
		spec.Reservation = strings.Join(rest, ",")
		n.Spec = &spec
		c.judge(n, now)
		if n.Reason == wlm.WaitResvDeleted {
			n.ReasonText = fmt.Sprintf("Reservation %s was deleted", r.Name)
		}
		c.emit(&Event{Kind: eventv1.Kind_JOB_CHANGED, Time: now, Job: n, respec: true})
	}
}

// rejudgeReserved looks again at jobs that ask for a reservation.
func (c *Cluster) rejudgeReserved(name string, now wlm.Time) {
	for _, j := range c.waitingFor(name) {
		c.rejudge(j, now)
	}
}

// Reservation returns a reservation's record, or nil.
func (t *Tables) Reservation(name string) *wlm.Reservation {
	for _, r := range t.Reservations {
		if r.Name == name {
			return r
		}
	}
	return nil
}

// putReservation places a record; records stand in the order of their numbers.
func (t *Tables) putReservation(r *wlm.Reservation) {
	out := slices.Clone(t.Reservations)
	t.NextResv = max(t.NextResv, r.ID+1)
	for i := range out {
		if out[i].Name == r.Name {
			out[i] = r
			t.Reservations = out
			return
		}
	}
	t.Reservations = append(out, r)
}

func (t *Tables) removeReservation(name string) {
	t.Reservations = slices.DeleteFunc(slices.Clone(t.Reservations), func(r *wlm.Reservation) bool { return r.Name == name })
}
