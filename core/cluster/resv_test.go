package cluster

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

const resvNow wlm.Time = 1_000_000

// resvCluster has four nodes of four CPUs in one partition.
func resvCluster(t *testing.T) *Cluster {
	t.Helper()
	c := New(Settings{MaxJobCount: 100, FirstJobID: 1, MaxArraySize: 10, MinJobAge: 300, Licenses: []License{{"matlab", 4}}})
	p := &wlm.Partition{Name: "main", Default: true, MaxTime: wlm.Unlimited, MaxNodes: wlm.Unset, MaxCPUsPerNode: wlm.Unset, OverTimeLimit: wlm.Unset}
	for i := range 4 {
		name := wlm.NodeName(fmt.Sprintf("n%d", i+1))
		c.emit(&Event{Kind: eventv1.Kind_NODE_CHANGED, Node: &wlm.Node{Name: name, Index: wlm.NodeIndex(i), CPUs: 4, Sockets: 1,
			CoresPerSocket: 4, ThreadsPerCore: 1, RealMemory: 1000, State: wlm.NodeUp, Registered: true}})
		p.NodeNames = append(p.NodeNames, name)
	}
	c.emit(&Event{Kind: eventv1.Kind_PARTITION_CHANGED, Partition: p})
	return c
}

func reserve(c *Cluster, name string, set map[string]string) error {
	_, err := c.Apply(&UpdateReservation{Name: name, Verb: ctlv1.UpdateReservationRequest_CREATE, Set: set, Caller: Caller{Admin: true}}, resvNow)
	return err
}

// from is a reservation's time, in seconds from now.
func from(start, length int, more ...string) map[string]string {
	set := map[string]string{"starttime": fmt.Sprint(int(resvNow) + start), "duration": fmt.Sprint(length), "users": "ann"}
	for i := 0; i < len(more); i += 2 {
		set[more[i]] = more[i+1]
	}
	return set
}

func resvSubmit(t *testing.T, c *Cluster, user, resv string, limit wlm.Minutes, now wlm.Time) wlm.JobID {
	t.Helper()
	v, err := c.Apply(&Submit{Spec: &wlm.Spec{UserName: user, Reservation: resv, TimeLimit: limit, Kind: wlm.KindBatch, Priority: wlm.Unset},
		Script: []byte("#!/bin/sh\n")}, now)
	if err != nil {
		t.Fatal(err)
	}
	id := v.(*SubmitReply).Job.ID
	if _, err := c.Apply(&Rank{Jobs: []wlm.JobID{id}, Priorities: []uint32{5}}, now); err != nil {
		t.Fatal(err)
	}
	return id
}

// resvStart says why a placement is refused; empty: it started.
func resvStart(t *testing.T, c *Cluster, id wlm.JobID, node string, cpu int, resv uint32, now wlm.Time) string {
	t.Helper()
	v, err := c.Apply(&Start{Placements: []Placement{{Job: id, Partition: "main", Reservation: resv,
		Nodes: []wlm.NodeAlloc{{Node: wlm.NodeName(node), CPUs: wlm.CPUSet{1 << cpu}}}}}}, now)
	if err != nil {
		t.Fatal(err)
	}
	if r := v.(*StartReply); len(r.Refused) > 0 {
		return r.Refused[0].Text
	}
	return ""
}

func TestReservationRequests(t *testing.T) {
	c := resvCluster(t)
	if err := reserve(c, "a", from(0, 600, "nodes", "n1")); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		set  map[string]string
		want errs.Code
	}{
		{"a", from(0, 600, "nodes", "n2"), errs.ReservationDuplicate},
		{"b", from(100, 600, "nodes", "n1"), errs.ReservationOverlap},
		{"b", from(100, 600, "nodes", "n1", "flags", "daily"), errs.ReservationOverlap},
		{"b", from(-86000, 600, "nodes", "n1", "flags", "daily,force_start"), errs.ReservationOverlap},
		{"b", from(600, 600, "nodes", "n9"), errs.InvalidNodeName},
		{"b", from(0, 600, "nodecnt", "4"), errs.NodesBusy},
		{"b", from(-1000, 600, "nodes", "n2"), errs.InvalidTime},
		{"b", from(0, 600, "licenses", "matlab:5", "flags", "any_nodes"), errs.InvalidLicenses},
		{"b", from(0, 600, "licenses", "matlab:2"), errs.InvalidNodeName},
		{"b", from(0, 600, "nodes", "n2", "users", ""), errs.ReservationEmpty},
		{"b", from(0, 600, "nodes", "n2", "users", "ann,-bob"), errs.UserIDMissing},
		{"b", from(0, 600, "nodes", "n2", "flags", "time_float,daily"), errs.NotSupported},
		{"b", from(0, 600, "nodes", "n[2-3]", "corecnt", "2"), errs.ReservationCoreCount},
	} {
		if err := reserve(c, tt.name, tt.set); errs.CodeOf(err) != tt.want {
			t.Errorf("%s %v: %v, want %v", tt.name, tt.set, err, tt.want)
		}
	}
	for name, set := range map[string]map[string]string{
		"after": from(600, 600, "nodes", "n1"), "maint": from(0, 600, "nodes", "n1", "flags", "maint"), "some": from(0, 600, "nodecnt", "2")} {
		if err := reserve(c, name, set); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The commit itself keeps jobs out of what others reserved, whatever a plugin says.
func TestReservationsHoldAtCommit(t *testing.T) {
	c := resvCluster(t)
	for name, set := range map[string]map[string]string{"now": from(0, 600, "nodes", "n1"), "later": from(3600, 600, "nodes", "n2"),
		"cores": from(0, 600, "nodes", "n3", "corecnt", "2")} {
		if err := reserve(c, name, set); err != nil {
			t.Fatal(err)
		}
	}
	id := func(name string) uint32 { return c.Reservation(name).ID }
	for _, tt := range []struct {
		user, resv string
		limit      wlm.Minutes
		node       string
		cpu        int
		in         uint32
		ok         bool
	}{
		{"bob", "", 1, "n1", 0, 0, false},
		{"bob", "", 1, "n1", 0, id("now"), false},
		{"bob", "", 61, "n2", 0, 0, false}, // its limit crosses the start
		{"bob", "", 59, "n2", 0, 0, true},
		{"bob", "", 1, "n3", 1, 0, false},
		{"bob", "", 1, "n3", 2, 0, true},
		{"ann", "", 1, "n1", 0, 0, false}, // she did not ask
		{"ann", "now", 1, "n1", 0, 0, false},
		{"ann", "now", 1, "n4", 0, id("now"), false}, // outside
		{"ann", "now", 1, "n1", 1, id("now"), true},
		{"ann", "later", 1, "n2", 1, id("later"), false}, // not yet
		{"ann", "cores", 1, "n3", 3, id("cores"), false},
		{"ann", "cores", 1, "n3", 1, id("cores"), true},
	} {
		j := resvSubmit(t, c, tt.user, tt.resv, tt.limit, resvNow)
		if why := resvStart(t, c, j, tt.node, tt.cpu, tt.in, resvNow); (why == "") != tt.ok {
			t.Errorf("%+v: refused %q", tt, why)
		}
	}
	if _, err := c.Apply(&Submit{Spec: &wlm.Spec{UserName: "bob", Reservation: "now", Kind: wlm.KindBatch, Priority: wlm.Unset}, Script: []byte("x")}, resvNow); errs.CodeOf(err) != errs.ReservationAccess {
		t.Errorf("bob asks for ann's: %v", err)
	}
}

// What ends lets its running jobs end too, holds those that wait for it, and
// comes again if it repeats; a snapshot keeps all of it.
func TestReservationEnds(t *testing.T) {
	c := resvCluster(t)
	for name, set := range map[string]map[string]string{"once": from(0, 600, "nodes", "n1"), "daily": from(0, 600, "nodes", "n2", "flags", "daily")} {
		if err := reserve(c, name, set); err != nil {
			t.Fatal(err)
		}
	}
	runs, waits := resvSubmit(t, c, "ann", "once", 60, resvNow), resvSubmit(t, c, "ann", "once", 60, resvNow)
	if why := resvStart(t, c, runs, "n1", 0, c.Reservation("once").ID, resvNow); why != "" {
		t.Fatal(why)
	}
	d := New(c.Settings())
	for m := range c.Image().Parts {
		if err := d.Restore(m); err != nil {
			t.Fatal(err)
		}
	}
	if len(d.Reservations) != 2 || d.NextResv != c.NextResv || d.Job(runs).Reservation != "once" {
		t.Errorf("a snapshot gave %d reservations, next %d, job in %q", len(d.Reservations), d.NextResv, d.Job(runs).Reservation)
	}
	for range 2 {
		if _, err := c.Apply(&Tick{}, resvNow+600); err != nil {
			t.Fatal(err)
		}
	}
	if c.Reservation("once") != nil {
		t.Error("it is still there after its end")
	}
	if j := c.Job(runs); j.State != wlm.Timeout {
		t.Errorf("its running job is %s", wlm.StateFull(j.State, j.Flags))
	}
	if j := c.Job(waits); !j.Held || j.Reason != wlm.WaitResvDeleted || !strings.Contains(wlm.StateFull(j.State, j.Flags), "RESV_DEL_HOLD") {
		t.Errorf("the job that waits for it: held %v, %s, %s", j.Held, j.Reason, wlm.StateFull(j.State, j.Flags))
	}
	if r := c.Reservation("daily"); r == nil || r.Start <= resvNow || r.End-r.Start != 600 || r.Active {
		t.Errorf("the daily one is %+v", r)
	}
}

// PURGE_COMP counts while nobody is in it.
func TestUnusedReservationIsPurged(t *testing.T) {
	for after, want := range map[wlm.Time]bool{119: true, 120: false} {
		for _, busy := range []bool{false, true} {
			c := resvCluster(t)
			if err := reserve(c, "r", from(0, 7200, "nodes", "n1", "flags", "purge_comp=2")); err != nil {
				t.Fatal(err)
			}
			if busy {
				job := resvSubmit(t, c, "ann", "r", 60, resvNow)
				if why := resvStart(t, c, job, "n1", 0, c.Reservation("r").ID, resvNow); why != "" {
					t.Fatal(why)
				}
			}
			for _, at := range []wlm.Time{0, after} { // the first tick begins it
				if _, err := c.Apply(&Tick{}, resvNow+at); err != nil {
					t.Fatal(err)
				}
			}
			if got := c.Reservation("r") != nil; got != want && !busy || busy && !got {
				t.Errorf("after %d s, in use %v: there %v", after, busy, got)
			}
		}
	}
}
