package pass

import (
	"slices"

	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// reserved notes that reservations changed. Jobs that ask for one, or that a
// magnetic one may draw, are told again what they may use.
func (f *feed) reserved() {
	f.resvs = true
	draws := slices.ContainsFunc(f.tables.Reservations, func(r *wlm.Reservation) bool { return r.Flags&wlm.ResvMagnetic != 0 })
	for id := range f.known {
		j := f.tables.Job(id)
		if j != nil && (draws || f.magnetic || j.Reservation != "" || j.Spec.Reservation != "") {
			f.jobs[id] = struct{}{}
		}
	}
	f.magnetic = draws
}

// occurrences is how many times of a repeating reservation policies are told.
const occurrences = 7

// reservations are those that are not over, as policies see them.
func (f *feed) reservations() []mirror.Reservation {
	out := []mirror.Reservation{}
	for _, r := range f.tables.Reservations {
		m := mirror.Reservation{ID: r.ID, Name: r.Name, Start: r.Start, End: r.End, Float: r.Float,
			Flex: r.Flags&wlm.ResvFlex != 0, AnyNodes: r.Flags&wlm.ResvAnyNodes != 0,
			Overlap: r.Flags&(wlm.ResvOverlap|wlm.ResvMaint) != 0, Maint: r.Flags&wlm.ResvMaint != 0}
		for i := range r.Nodes {
			a := &r.Nodes[i]
			if ni, ok := f.tables.NodeIndex(a.Node); ok {
				m.Uses = append(m.Uses, mirror.NodeUse{Node: ni, CPUs: a.CPUs, Whole: len(a.CPUs) == 0})
			}
		}
		licenses, _ := cluster.ParseLicenses(r.Licenses)
		for _, l := range licenses {
			if i := slices.IndexFunc(f.licenses, func(h cluster.License) bool { return h.Name == l.Name }); i >= 0 {
				m.Counters = append(m.Counters, mirror.CounterUse{Counter: uint32(i + 1), Amount: l.Total})
			}
		}
		for range occurrences {
			out = append(out, m)
			next := r.Next(m.Start)
			if next == 0 {
				break
			}
			m.Start, m.End = next, m.End+next-m.Start
		}
	}
	return out
}

// access tells which reservations a pending job may use, or the one that a
// running job is in, with whose end it ends.
func (f *feed) access(m *mirror.Job, j *wlm.Job) {
	if len(f.tables.Reservations) == 0 && j.Spec.Reservation == "" {
		return
	}
	if j.State == wlm.Pending {
		list, only := f.tables.ReservationsOf(j.Spec)
		for _, r := range list {
			m.Reservations = append(m.Reservations, r.ID)
		}
		m.ReservedOnly = only
		return
	}
	if r := f.tables.Reservation(j.Reservation); r != nil {
		m.Reservations = []uint32{r.ID}
	}
}

// reservedEnd is when a running job is over at the latest: with its reservation.
func (f *feed) reservedEnd(j *wlm.Job) wlm.Time {
	r := f.tables.Reservation(j.Reservation)
	if r == nil || r.Flags&(wlm.ResvFlex|wlm.ResvTimeFloat) != 0 || j.End != 0 && j.End <= r.End {
		return j.End
	}
	return r.End
}

// kept sorts nodes by the active reservation of others that has them, "" for
// none; the names are in the order of their first nodes.
func (x *explanation) kept(nodes []wlm.NodeIndex) (by map[string][]wlm.NodeIndex, names []string) {
	t := x.r.feed.tables
	may, _ := t.ReservationsOf(x.j.Spec)
	by = map[string][]wlm.NodeIndex{}
	for _, i := range nodes {
		name := ""
		for _, r := range t.Reservations {
			if int(i) < len(t.Nodes) && r.ActiveAt(x.now) && !slices.Contains(may, r) && r.Node(t.Nodes[i].Name) != nil {
				name = r.Name
				break
			}
		}
		if name != "" && len(by[name]) == 0 {
			names = append(names, name)
		}
		by[name] = append(by[name], i)
	}
	return by, names
}
