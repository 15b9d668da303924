package cluster

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// resvAdmits reports whether a job may use a reservation, by who it is.
func resvAdmits(r *wlm.Reservation, s *wlm.Spec) bool {
	if len(s.Partitions) == 0 {
		return r.Admits(s.UserName, s.Account, s.QOS, "")
	}
	return slices.ContainsFunc(s.Partitions, func(p string) bool { return r.Admits(s.UserName, s.Account, s.QOS, p) })
}

// ReservationsOf are the reservations that a pending job may use: of those that
// it asks for, or else the magnetic ones. only reports that it runs nowhere else.
func (t *Tables) ReservationsOf(s *wlm.Spec) (list []*wlm.Reservation, only bool) {
	if len(t.Reservations) == 0 && s.Reservation == "" {
		return nil, false
	}
	asked := splitList(s.Reservation)
	for _, name := range asked {
		if r := t.Reservation(name); r != nil && resvAdmits(r, s) {
			list = append(list, r)
		}
	}
	if len(asked) > 0 {
		return list, true
	}
	for _, r := range t.Reservations {
		if r.Flags&wlm.ResvMagnetic != 0 && resvAdmits(r, s) {
			list = append(list, r)
		}
	}
	return list, false
}

func splitList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' })
}

// testReservations checks --reservation at submission.
func (c *Cluster) testReservations(op string, s *wlm.Spec) error {
	for _, name := range splitList(s.Reservation) {
		r := c.Reservation(name)
		if r == nil {
			return errs.Coded(op, errs.ReservationInvalid, fmt.Sprintf("--reservation=%s: no reservation is called %s", s.Reservation, name))
		}
		if !resvAdmits(r, s) {
			return errs.Coded(op, errs.ReservationAccess, fmt.Sprintf("--reservation=%s: %s is not for user %s, account %q", s.Reservation, name, s.UserName, s.Account))
		}
	}
	if s.Reservation == "" || s.ReqNodes == "" {
		return nil
	}
	names, err := hostlist.Expand(s.ReqNodes)
	if err != nil {
		return nil // found elsewhere
	}
	rs, _ := c.ReservationsOf(s)
	for _, r := range rs {
		if r.Flags&(wlm.ResvFlex|wlm.ResvAnyNodes) != 0 || len(r.Nodes) == 0 ||
			!slices.ContainsFunc(names, func(n string) bool { return r.Node(wlm.NodeName(n)) == nil }) {
			return nil
		}
	}
	return errs.Coded(op, errs.NodeConfigUnavailable, fmt.Sprintf("--nodelist=%s: reservation %s has other nodes", s.ReqNodes, s.Reservation))
}

// reservation moves a job to other reservations; empty: to none. One that runs
// goes to one that has what it uses.
func (e *edit) reservation(v string) error {
	e.spec.Reservation = v
	if err := e.c.testReservations(e.op, e.spec); err != nil {
		return err
	}
	if e.old.State == wlm.Pending {
		return nil
	}
	e.job.Reservation, e.job.ReservationID = "", 0
	for _, name := range splitList(v) {
		r := e.c.Reservation(name)
		p := &Placement{Job: e.job.ID, Nodes: e.job.Alloc.Nodes}
		if outside(r, p, e.now) == "" {
			e.job.Reservation, e.job.ReservationID = r.Name, r.ID
			return nil
		}
	}
	if v != "" {
		return errs.Coded(e.op, errs.ReservationInvalid, fmt.Sprintf("ReservationName=%s: the job runs on what is not in it", v))
	}
	return nil
}

// orphaned reports whether a job asks for reservations of which none is there.
func (c *Cluster) orphaned(s *wlm.Spec) bool {
	names := splitList(s.Reservation)
	return len(names) > 0 && !slices.ContainsFunc(names, func(n string) bool { return c.Reservation(n) != nil })
}

// resvEnd is when a job that starts at now in r (nil: in none) is over at the
// latest; 0: never.
func resvEnd(j *wlm.Job, r *wlm.Reservation, now wlm.Time) (end wlm.Time) {
	if j.TimeLimit != wlm.Unlimited && j.TimeLimit != 0 {
		end = now + wlm.Time(j.TimeLimit)*60
	}
	if r != nil && r.Flags&wlm.ResvFlex == 0 {
		if _, over := r.At(now); end == 0 || over < end {
			end = over
		}
	}
	return end
}

// refuseReserved says why a placement is not in keeping with reservations:
// neither may it use what others reserved, nor what its own has not. Empty: it is.
func (c *Cluster) refuseReserved(p *Placement, j *wlm.Job, now wlm.Time) string {
	if len(c.Reservations) == 0 && j.Spec.Reservation == "" && p.Reservation == 0 {
		return ""
	}
	may, only := c.ReservationsOf(j.Spec)
	var own *wlm.Reservation
	for _, r := range may {
		if r.ID == p.Reservation {
			own = r
		}
	}
	switch {
	case own == nil && p.Reservation != 0:
		return "the reservation that it would use is not open to it"
	case own == nil && only:
		return "it asks for reservation " + j.Spec.Reservation
	case own != nil:
		if why := outside(own, p, now); why != "" {
			return why
		}
	}
	end := resvEnd(j, own, now)
	for _, r := range c.Reservations {
		if r == own || own != nil && own.Flags&(wlm.ResvMaint|wlm.ResvOverlap) != 0 {
			continue
		}
		start, over := r.At(now)
		if over <= now || end != 0 && end <= start {
			continue
		}
		for i := range p.Nodes {
			a := &p.Nodes[i]
			if b := r.Node(a.Node); b != nil && (len(b.CPUs) == 0 || a.CPUs.Overlaps(b.CPUs)) {
				return fmt.Sprintf("node %s is reserved by %s", a.Node, r.Name)
			}
		}
	}
	return c.refuseReservedLicenses(j.Spec.Licenses, own, now, end)
}

// outside says what a placement uses that its reservation has not.
func outside(r *wlm.Reservation, p *Placement, now wlm.Time) string {
	if r.Flags&wlm.ResvFlex != 0 {
		return ""
	}
	if !r.ActiveAt(now) {
		return "reservation " + r.Name + " is not active"
	}
	if r.Flags&wlm.ResvAnyNodes != 0 {
		return ""
	}
	for i := range p.Nodes {
		a := &p.Nodes[i]
		b := r.Node(a.Node)
		if b == nil || len(b.CPUs) > 0 && a.CPUs.AndNot(b.CPUs).Count() > 0 {
			return fmt.Sprintf("reservation %s has not what it would use of node %s", r.Name, a.Node)
		}
	}
	return ""
}

// refuseReservedLicenses says why licenses are short of what others reserved.
func (c *Cluster) refuseReservedLicenses(licenses string, own *wlm.Reservation, now, end wlm.Time) string {
	want, _ := ParseLicenses(licenses)
	for _, l := range want {
		kept := uint64(0)
		for _, r := range c.Reservations {
			n := licenseOf(r.Licenses, l.Name)
			start, over := r.At(now)
			if r == own || n == 0 || over <= now || end != 0 && end <= start {
				continue
			}
			used := uint64(0)
			for _, j := range c.runningIn(r.Name) {
				used += licenseOf(j.Spec.Licenses, l.Name)
			}
			kept += n - min(used, n)
		}
		for _, h := range c.settings.Licenses {
			if h.Name == l.Name && c.licensed[l.Name]+l.Total+kept > h.Total {
				return fmt.Sprintf("%d of license %s are reserved", kept, l.Name)
			}
		}
	}
	return ""
}

// tickReservations begins, repeats, replenishes and ends reservations.
func (c *Cluster) tickReservations(now wlm.Time) {
	if len(c.Reservations) == 0 || c.resvLook > now {
		return
	}
	for _, r := range slices.Clone(c.Reservations) {
		c.tickReservation(r, now)
	}
	const often = 30 // seconds between looks at what no event tells
	c.resvLook = now + 24*3600
	for _, r := range c.Reservations {
		start, end := r.At(now)
		for _, t := range []wlm.Time{start, end} {
			if t > now && r.Flags&wlm.ResvTimeFloat == 0 {
				c.resvLook = min(c.resvLook, t)
			}
		}
		if r.PurgeAfter > 0 || end <= now || follows(r) {
			c.resvLook = min(c.resvLook, now+often)
		}
	}
}

// follows reports whether a reservation's nodes change with the cluster.
func follows(r *wlm.Reservation) bool {
	return r.Flags&wlm.ResvPartNodes != 0 || r.WantNodes > 0 && !r.CoreBased && r.Flags&(wlm.ResvStatic|wlm.ResvSpecNodes) == 0
}

func (c *Cluster) tickReservation(r *wlm.Reservation, now wlm.Time) {
	n := r.Clone()
	if n.Flags&wlm.ResvTimeFloat == 0 && n.End <= now && !c.emptied(n, now) {
		return // its last jobs run on for a while
	}
	for n.Flags&wlm.ResvTimeFloat == 0 && n.End <= now {
		next := n.Next(n.Start)
		if next == 0 {
			c.dropReservation(r, now)
			return
		}
		n.Start, n.End, n.Active = next, n.End+next-n.Start, false
	}
	n.Active = n.ActiveAt(now)
	if n.PurgeAfter > 0 && n.Active {
		n.Used = max(n.Used, n.Start)
		if c.resvInUse(n) {
			n.Used = now
		}
		if now-n.Used >= wlm.Time(n.PurgeAfter) {
			c.dropReservation(r, now)
			return
		}
	}
	if follows(n) {
		c.follow(n, now)
	}
	if n.Active != r.Active || n.Start != r.Start || n.Used != r.Used && n.Used-r.Used >= 30 || !sameAllocs(n.Nodes, r.Nodes) {
		c.emit(&Event{Kind: eventv1.Kind_RESERVATION_CHANGED, Time: now, Reservation: n})
	}
}

func sameAllocs(a, b []wlm.NodeAlloc) bool {
	return slices.EqualFunc(a, b, func(x, y wlm.NodeAlloc) bool { return x.Node == y.Node && slices.Equal(x.CPUs, y.CPUs) })
}

// emptied ends the jobs of an ended reservation once ResvOverRun is used up, and
// reports whether nothing keeps it any longer.
func (c *Cluster) emptied(r *wlm.Reservation, now wlm.Time) bool {
	if r.Flags&wlm.ResvFlex != 0 {
		return true
	}
	jobs := c.runningIn(r.Name)
	if len(jobs) == 0 {
		return true
	}
	if o := c.settings.ResvOverRun; o == wlm.Unlimited || r.End+wlm.Time(o)*60 > now {
		return false
	}
	for _, j := range jobs {
		c.end(j, now, outcome{state: wlm.Timeout, reason: wlm.FailTimeout, killedBy: wlm.Unset})
	}
	return true
}

// resvInUse reports whether a job runs in a reservation or waits for it.
func (c *Cluster) resvInUse(r *wlm.Reservation) bool {
	return len(c.runningIn(r.Name)) > 0 || len(c.waitingFor(r.Name)) > 0
}

// follow brings a reservation's nodes in line with its partition, or puts idle
// nodes in the place of those that are down or, with REPLACE, in use.
func (c *Cluster) follow(r *wlm.Reservation, now wlm.Time) {
	if r.Flags&wlm.ResvPartNodes != 0 {
		p := c.Partition(r.Partition)
		if p == nil {
			return
		}
		r.Nodes, r.Cores, r.CPUs = nil, 0, 0
		for _, n := range c.Nodes {
			if c.hasNode(p, n.Name) {
				c.take(r, n, -1, now)
			}
		}
		return
	}
	lost := func(name wlm.NodeName) bool {
		n := c.Node(name)
		return n == nil || !n.Available() || r.Flags&wlm.ResvReplace != 0 && len(c.Usage[n.Index].Jobs) > 0
	}
	kept := slices.DeleteFunc(slices.Clone(r.Nodes), func(a wlm.NodeAlloc) bool { return lost(a.Node) })
	if missing := int(r.WantNodes) - len(kept); missing > 0 {
		c.replace(r, kept, missing, lost, now)
	}
}

// replace adds idle nodes for those that are missing, as far as there are any.
func (c *Cluster) replace(r *wlm.Reservation, kept []wlm.NodeAlloc, missing int, lost func(wlm.NodeName) bool, now wlm.Time) {
	pool, _, err := c.pool("cluster.Tick", r.Clone(), nil, &nodeAsk{count: missing})
	if err != nil {
		return
	}
	have := r.Nodes
	r.Nodes, r.Cores, r.CPUs = nil, 0, 0
	for _, n := range pool {
		free := n.Available() && len(c.Usage[n.Index].Jobs) == 0 &&
			!slices.ContainsFunc(have, func(a wlm.NodeAlloc) bool { return a.Node == n.Name }) &&
			!c.contested(r, &wlm.NodeAlloc{Node: n.Name}, now)
		if free && missing > 0 {
			kept = append(kept, wlm.NodeAlloc{Node: n.Name})
			missing--
		}
	}
	for _, a := range have { // what nothing replaces stays
		if missing > 0 && lost(a.Node) && c.Node(a.Node) != nil {
			kept = append(kept, a)
			missing--
		}
	}
	for _, n := range c.Nodes {
		if slices.ContainsFunc(kept, func(a wlm.NodeAlloc) bool { return a.Node == n.Name }) {
			c.take(r, n, -1, now)
		}
	}
}

// NodeReservation returns the flags that reservations in force give a node, and
// the name of the first of them.
func NodeReservation(list []*wlm.Reservation, name wlm.NodeName) (f wlm.NodeFlags, first string) {
	for _, r := range list {
		if !r.Active || r.Node(name) == nil {
			continue
		}
		f |= wlm.NodeReserved
		if r.Flags&wlm.ResvMaint != 0 {
			f |= wlm.NodeMaint
		}
		if first == "" {
			first = r.Name
		}
	}
	return f, first
}
