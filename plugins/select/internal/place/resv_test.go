package place

import (
	"testing"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/selector"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"pgregory.net/rapid"
)

// Whatever reservations there are, no job overlaps in time what one that it may
// not use keeps, and a job that asks for one stays inside.
func TestReservationsAreKept(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const now, nodes, cpus = 1000, 4, 4
		var ns []mirror.Node
		var all []wlm.NodeIndex
		for i := range nodes {
			ns = append(ns, mirror.Node{Name: wlm.NodeName(rune('a' + i)), CPUs: cpus, Sockets: 1, CoresPerSocket: cpus, ThreadsPerCore: 1, Memory: 1000, Usable: true})
			all = append(all, wlm.NodeIndex(i))
		}
		part := mirror.Partition{Name: "main", Nodes: all, Tier: 1, Starts: true, MaxNodes: wlm.Unset, MaxCPUsPerNode: wlm.Unset, MaxTime: wlm.Unlimited}
		var resvs []mirror.Reservation
		for id := range rapid.IntRange(0, 4).Draw(t, "reservations") {
			r := mirror.Reservation{ID: uint32(id + 1), Name: "r", Start: wlm.Time(now + rapid.IntRange(-100, 300).Draw(t, "start")),
				Flex: rapid.Bool().Draw(t, "flex"), Overlap: rapid.IntRange(0, 4).Draw(t, "overlap") == 0}
			r.End = r.Start + wlm.Time(rapid.IntRange(1, 300).Draw(t, "length"))
			for _, n := range rapid.SliceOfNDistinct(rapid.IntRange(0, nodes-1), 1, nodes, rapid.ID).Draw(t, "nodes") {
				u := mirror.NodeUse{Node: wlm.NodeIndex(n), Whole: true}
				if rapid.Bool().Draw(t, "cores") {
					u.Whole, u.CPUs = false, wlm.CPUSet{uint64(rapid.IntRange(1, 15).Draw(t, "which"))}
				}
				r.Uses = append(r.Uses, u)
			}
			resvs = append(resvs, r)
		}
		var classes []*mirror.Class
		var jobs []*mirror.Job
		agenda := sched.Agenda{Reservations: rapid.IntRange(0, 2).Draw(t, "bound")}
		for i := range rapid.IntRange(1, 8).Draw(t, "jobs") {
			c := &mirror.Class{ID: uint32(i + 1), Partitions: []int{0}, MinNodes: uint32(rapid.IntRange(1, 3).Draw(t, "n")), NTasks: 0, CPUsPerTask: uint32(rapid.IntRange(1, 4).Draw(t, "c"))}
			j := &mirror.Job{ID: wlm.JobID(i + 1), Class: c, Ready: true, Ranked: true, Priority: 1, Tasks: 1, Limit: uint32(rapid.IntRange(1, 400).Draw(t, "limit"))}
			if len(resvs) > 0 && rapid.Bool().Draw(t, "asks") {
				j.Reservations = []uint32{uint32(rapid.IntRange(1, len(resvs)).Draw(t, "which"))}
				j.ReservedOnly = rapid.Bool().Draw(t, "only")
			}
			classes, jobs = append(classes, c), append(jobs, j)
			agenda.Entries = append(agenda.Entries, sched.Entry{Job: j.ID, WhenBlocked: sched.WhenBlocked(rapid.IntRange(0, 2).Draw(t, "blocked"))})
		}
		m := mirror.Build(ns, []mirror.Partition{part}, classes, jobs, map[string]string{"SelectTypeParameters": "CR_Core"})
		m.Reserve(resvs...)
		res, err := Cores().Place(t.Context(), m.View(now), selector.Request{Agenda: agenda})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range res.Placements {
			judgeReserved(t, now, jobs[p.Job-1], p, resvs)
		}
	})
}

// judgeReserved fails if a placement is not in keeping with the reservations.
func judgeReserved(t *rapid.T, now wlm.Time, j *mirror.Job, p selector.Placement, resvs []mirror.Reservation) {
	end := now + wlm.Time(j.Limit)
	var own *mirror.Reservation
	if p.Reservation != 0 {
		own = &resvs[p.Reservation-1]
		if len(j.Reservations) != 1 || j.Reservations[0] != own.ID {
			t.Fatalf("job %d is in reservation %d, it may use %v", j.ID, own.ID, j.Reservations)
		}
		if !own.Flex {
			end = min(end, own.End)
		}
	} else if j.ReservedOnly {
		t.Fatalf("job %d runs outside of %v", j.ID, j.Reservations)
	}
	for _, u := range p.Uses {
		inside := own == nil || own.Flex
		for i := range resvs {
			r := &resvs[i]
			for _, k := range r.Uses {
				if k.Node != u.Node {
					continue
				}
				if r == own {
					inside = inside || k.Whole || u.CPUs.AndNot(k.CPUs).Count() == 0
				} else if (own == nil || !own.Overlap) && r.Start < end && r.End > now && (k.Whole || k.CPUs.Overlaps(u.CPUs)) {
					t.Fatalf("job %d until %d uses node %d CPUs %s, which reservation %+v keeps", j.ID, end, u.Node, u.CPUs, *r)
				}
			}
		}
		if !inside || own != nil && !own.Flex && (own.Start > now || own.End <= now) {
			t.Fatalf("job %d is outside of its reservation %+v: %+v", j.ID, *own, u)
		}
	}
}
