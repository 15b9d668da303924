package cluster

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// overlap reports whether two reservations are ever in force at the same time,
// their repetitions within the next years included.
func overlap(a, b *wlm.Reservation, now wlm.Time) bool {
	const most = 20000 // occurrences looked at
	as, ae := a.At(now)
	bs, be := b.At(now)
	al, bl := ae-as, be-bs
	for range most {
		if as < bs+bl && bs < as+al {
			return true
		}
		switch { // the one that is over first goes on
		case as+al <= bs:
			if as = a.Next(as); as == 0 {
				return false
			}
		default:
			if bs = b.Next(bs); bs == 0 {
				return false
			}
		}
	}
	return false
}

// rivals reports whether two reservations may not have the same resources.
func rivals(a, b *wlm.Reservation) bool {
	return a.Name != b.Name && (a.Flags|b.Flags)&(wlm.ResvMaint|wlm.ResvOverlap) == 0
}

// contested reports whether another reservation has what a reserves of a node.
func (c *Cluster) contested(r *wlm.Reservation, a *wlm.NodeAlloc, now wlm.Time) bool {
	for _, o := range c.Reservations {
		if !rivals(r, o) || !overlap(r, o, now) {
			continue
		}
		if b := o.Node(a.Node); b != nil && (len(a.CPUs) == 0 || len(b.CPUs) == 0 || a.CPUs.Overlaps(b.CPUs)) {
			return true
		}
	}
	return false
}

// occupied are the CPUs of a node that jobs will still have when r begins.
func (c *Cluster) occupied(r *wlm.Reservation, n *wlm.Node, now wlm.Time) (cpus wlm.CPUSet) {
	start, _ := r.At(now)
	for id := range c.Usage[n.Index].Jobs {
		j := c.jobs[id]
		if j.Reservation == r.Name && r.Name != "" || j.Flags&wlm.FlagCompleting != 0 || j.End != 0 && j.End <= start {
			continue
		}
		for i := range j.Alloc.Nodes {
			if j.Alloc.Nodes[i].Node == n.Name {
				cpus = cpus.Or(j.Alloc.Nodes[i].CPUs)
			}
		}
	}
	return cpus
}

// reserveNodes gives r the nodes or cores that it asks for.
func (c *Cluster) reserveNodes(op string, r, old *wlm.Reservation, a *nodeAsk, now wlm.Time) error {
	if !a.given() && r.Partition == "" {
		if r.Flags&wlm.ResvAnyNodes == 0 {
			return errs.Coded(op, errs.InvalidNodeName).With("neither nodes nor a number of them are given")
		}
		r.Nodes, r.Cores, r.CPUs = nil, 0, 0
		return nil
	}
	if r.Flags&wlm.ResvAnyNodes != 0 {
		return errs.Coded(op, errs.ReservationInvalid).With("ANY_NODES is for reservations of licenses only")
	}
	pool, named, err := c.pool(op, r, old, a)
	if err != nil {
		return err
	}
	if named && a.count < 0 {
		r.Flags |= wlm.ResvSpecNodes
		r.WantNodes = 0
		return c.reserveNamed(op, r, pool, a.cores, now)
	}
	want := a.count
	if old != nil && want < 0 { // "nodes=": others in their place
		want = len(old.Nodes)
	}
	r.Flags &^= wlm.ResvSpecNodes
	if err := c.reserveSome(op, r, pool, want, a.cores, now); err != nil {
		return err
	}
	r.WantNodes = uint32(len(r.Nodes))
	if named {
		r.Flags |= wlm.ResvSpecNodes
	}
	return nil
}

// pool are the nodes from which a reservation is made; named reports that they
// are to be taken all.
func (c *Cluster) pool(op string, r, old *wlm.Reservation, a *nodeAsk) (nodes []*wlm.Node, named bool, err error) {
	all := strings.EqualFold(a.nodes, "ALL")
	if a.nodes != "" && !all {
		names, err := hostlist.Expand(a.nodes)
		if err != nil {
			return nil, false, errs.Coded(op, errs.InvalidNodeName).With("Nodes=%s: %v", a.nodes, err)
		}
		for _, name := range names {
			n := c.Node(wlm.NodeName(name))
			if n == nil {
				return nil, false, errs.Coded(op, errs.InvalidNodeName).With("node %s is not configured", name)
			}
			nodes = append(nodes, n)
		}
		slices.SortFunc(nodes, func(a, b *wlm.Node) int { return int(a.Index) - int(b.Index) })
		return slices.Compact(nodes), true, nil
	}
	whole := all || !a.given()
	p := c.Partition(r.Partition)
	if p == nil && !whole {
		for _, d := range c.Partitions {
			if d.Default {
				p = d
				r.Partition = d.Name
			}
		}
	}
	if p == nil {
		if r.Flags |= wlm.ResvAllNodes; !whole {
			r.Flags &^= wlm.ResvAllNodes
		}
		nodes = slices.Clone(c.Nodes)
	} else {
		for _, n := range c.Nodes {
			if c.hasNode(p, n.Name) {
				nodes = append(nodes, n)
			}
		}
	}
	if r.Features != "" {
		x, err := wlm.ParseFeatures(r.Features)
		if err != nil {
			return nil, false, errs.Coded(op, errs.InvalidFeature).With("Features=%s: %v", r.Features, err)
		}
		nodes = slices.DeleteFunc(nodes, func(n *wlm.Node) bool { return !x.Match(n.Features) })
	}
	if old != nil { // its nodes first: it may only have become smaller
		slices.SortStableFunc(nodes, func(a, b *wlm.Node) int {
			return rank(old.Node(b.Name) != nil) - rank(old.Node(a.Name) != nil)
		})
	}
	return nodes, whole, nil
}

func rank(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// coresOf is how a node's CPUs go together: those of core n are n*threads and
// the following.
func coresOf(n *wlm.Node) (cores, threads int) {
	cores, threads = int(n.Sockets*n.CoresPerSocket), 1
	if cores <= 0 || int(n.CPUs) < cores || int(n.CPUs)%cores != 0 {
		return int(n.CPUs), 1
	}
	return cores, int(n.CPUs) / cores
}

// take adds cores of a node to r: all for -1, else the lowest that are free. It
// returns how many it took.
func (c *Cluster) take(r *wlm.Reservation, n *wlm.Node, want int, now wlm.Time) int {
	cores, threads := coresOf(n)
	if want < 0 {
		r.Nodes = append(r.Nodes, wlm.NodeAlloc{Node: n.Name})
		r.Cores, r.CPUs = r.Cores+uint32(cores), r.CPUs+n.CPUs
		return cores
	}
	var busy wlm.CPUSet
	if r.Flags&wlm.ResvIgnoreJobs == 0 {
		busy = busy.Or(c.occupied(r, n, now))
	}
	for _, o := range c.Reservations {
		if b := o.Node(n.Name); b != nil && rivals(r, o) && overlap(r, o, now) {
			if len(b.CPUs) == 0 {
				return 0
			}
			busy = busy.Or(b.CPUs)
		}
	}
	busy = busy.Or(n.SpecCPUs())
	set, got := make(wlm.CPUSet, (n.CPUs+63)/64), 0
	for core := 0; core < cores && got < want; core++ {
		free := true
		for t := range threads {
			free = free && !busy.Has(core*threads+t)
		}
		if !free {
			continue
		}
		for t := range threads {
			set.Set(core*threads + t)
		}
		got++
	}
	if got > 0 {
		r.Nodes = append(r.Nodes, wlm.NodeAlloc{Node: n.Name, CPUs: set})
		r.Cores, r.CPUs = r.Cores+uint32(got), r.CPUs+uint32(got*threads)
	}
	return got
}

// reserveNamed takes all of some nodes, or cores of each.
func (c *Cluster) reserveNamed(op string, r *wlm.Reservation, nodes []*wlm.Node, cores []int, now wlm.Time) error {
	r.Nodes, r.Cores, r.CPUs, r.CoreBased = nil, 0, 0, len(cores) > 0
	if len(nodes) == 0 {
		return errs.Coded(op, errs.InvalidNodeName).With("no node is left to reserve")
	}
	if r.CoreBased && len(cores) != len(nodes) {
		return errs.Coded(op, errs.ReservationCoreCount).With("%d numbers of cores for %d nodes", len(cores), len(nodes))
	}
	for i, n := range nodes {
		want := -1
		if r.CoreBased {
			want = cores[i]
		} else {
			if c.contested(r, &wlm.NodeAlloc{Node: n.Name}, now) {
				return errs.Coded(op, errs.ReservationOverlap).With("node %s is in another reservation", n.Name)
			}
			if r.Flags&wlm.ResvIgnoreJobs == 0 && c.occupied(r, n, now).Count() > 0 {
				return errs.Coded(op, errs.NodesBusy).With("jobs run on node %s beyond the start; IGNORE_JOBS reserves it all the same", n.Name)
			}
		}
		if got := c.take(r, n, want, now); got < want {
			if c.contested(r, &wlm.NodeAlloc{Node: n.Name}, now) {
				return errs.Coded(op, errs.ReservationOverlap).With("node %s has %d of %d cores that no reservation has", n.Name, got, want)
			}
			return errs.Coded(op, errs.NodesBusy).With("node %s has %d of %d cores free", n.Name, got, want)
		}
	}
	return nil
}

// reserveSome takes as many nodes as are asked for, or cores of them, nodes on
// which nothing runs first.
func (c *Cluster) reserveSome(op string, r *wlm.Reservation, pool []*wlm.Node, want int, cores []int, now wlm.Time) error {
	r.Nodes, r.Cores, r.CPUs, r.CoreBased = nil, 0, 0, len(cores) > 0
	r.Active = false
	total, each := 0, map[int]int{}
	for i, n := range cores {
		total += n
		each[i] = n
	}
	if len(cores) == 1 && want > 0 {
		if r.Flags&wlm.ResvFirstCores != 0 {
			total *= want
		}
		each = map[int]int{}
		for i := range want {
			each[i] = (total + want - 1 - i) / want
		}
	}
	usable := func(n *wlm.Node) bool {
		return n.Available() && (r.CoreBased || !c.contested(r, &wlm.NodeAlloc{Node: n.Name}, now) &&
			(r.Flags&wlm.ResvIgnoreJobs != 0 || c.occupied(r, n, now).Count() == 0))
	}
	pool = slices.DeleteFunc(slices.Clone(pool), func(n *wlm.Node) bool { return !usable(n) })
	busy := func(n *wlm.Node) bool { // by others than r's own jobs
		for id := range c.Usage[n.Index].Jobs {
			if r.Name == "" || c.jobs[id].Reservation != r.Name {
				return true
			}
		}
		return false
	}
	slices.SortStableFunc(pool, func(a, b *wlm.Node) int { return rank(busy(a)) - rank(busy(b)) })
	got := 0
	for _, n := range pool {
		i := len(r.Nodes)
		switch {
		case want >= 0 && i >= want, want < 0 && got >= total:
			continue
		case !r.CoreBased:
			c.take(r, n, -1, now)
		case want >= 0:
			before := *r
			if c.take(r, n, each[i], now) < each[i] {
				*r = before
			}
		default:
			got += c.take(r, n, total-got, now)
		}
	}
	if want >= 0 && len(r.Nodes) < want || want < 0 && got < total {
		return errs.Coded(op, errs.NodesBusy).With("%s", shortOf(want, len(r.Nodes), total, got))
	}
	slices.SortFunc(r.Nodes, func(a, b wlm.NodeAlloc) int { return int(c.nodes[a.Node]) - int(c.nodes[b.Node]) })
	return nil
}

func shortOf(want, nodes, cores, got int) string {
	if want >= 0 {
		return fmt.Sprintf("%d of %d nodes are free then", nodes, want)
	}
	return fmt.Sprintf("%d of %d cores are free then", got, cores)
}

// reserveLicenses checks the licenses of a reservation.
func (c *Cluster) reserveLicenses(op string, r *wlm.Reservation, now wlm.Time) error {
	want, err := ParseLicenses(r.Licenses)
	if err != nil {
		return errs.Coded(op, errs.InvalidLicenses).With("Licenses=%s: %v", r.Licenses, err)
	}
	for _, l := range want {
		taken := l.Total
		for _, o := range c.Reservations {
			if o.Licenses != "" && rivals(r, o) && overlap(r, o, now) {
				taken += licenseOf(o.Licenses, l.Name)
			}
		}
		i := slices.IndexFunc(c.settings.Licenses, func(h License) bool { return h.Name == l.Name })
		if i < 0 || taken > c.settings.Licenses[i].Total {
			return errs.Coded(op, errs.InvalidLicenses).With("%d of license %s would be reserved", taken, l.Name)
		}
	}
	return nil
}

// licenseOf is how many of a license a list has.
func licenseOf(licenses, name string) (n uint64) {
	have, _ := ParseLicenses(licenses)
	for _, l := range have {
		if l.Name == name {
			n += l.Total
		}
	}
	return n
}
