package cluster

import (
	"strings"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

var root = Caller{Admin: true}

// configured is the configuration of a cluster of four nodes in two partitions.
func configured(s Settings) *Configure {
	f := &Configure{Settings: s}
	for _, n := range []wlm.NodeName{"n1", "n2", "n3", "n4"} {
		f.Nodes = append(f.Nodes, wlm.Node{Name: n, CPUs: 4, Sockets: 1, CoresPerSocket: 4, ThreadsPerCore: 1, RealMemory: 1000})
	}
	part := func(name string, nodes ...wlm.NodeName) wlm.Partition {
		return wlm.Partition{Name: name, NodeNames: nodes, MaxTime: wlm.Unlimited, MaxNodes: wlm.Unset, MaxCPUsPerNode: wlm.Unset,
			MaxCPUsPerSock: wlm.Unset, PriorityTier: 1, PriorityJob: 1}
	}
	a, b := part("a", "n1", "n2", "n3", "n4"), part("b", "n1", "n2")
	a.Default, b.MaxTime = true, 10
	f.Partitions = []wlm.Partition{a, b}
	return f
}

func do(t *testing.T, c *Cluster, cmd Command) (any, error) {
	t.Helper()
	r, err := c.Apply(cmd, 1000)
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	return r, err
}

func must(t *testing.T, c *Cluster, cmd Command) any {
	t.Helper()
	r, err := do(t, c, cmd)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func site(t *testing.T, s Settings) *Cluster {
	t.Helper()
	c := New(s)
	must(t, c, configured(s))
	return c
}

func request(partitions string, change func(*wlm.Spec)) *Submit {
	s := &wlm.Spec{Name: "j", Partitions: strings.Split(partitions, ","), Priority: wlm.Unset, MinNodes: 1, User: 7, UserName: "u"}
	if change != nil {
		change(s)
	}
	return &Submit{Spec: s, Script: []byte("#!/bin/sh\n")}
}

func change(name string, set ...string) *UpdatePartition {
	u := &UpdatePartition{Name: name, Caller: root, Set: map[string]string{}}
	for _, s := range set {
		k, v, _ := strings.Cut(s, "=")
		u.Set[k] = v
	}
	return u
}

// EnforcePartLimits: ALL partitions have to take the job, or ANY, or none.
func TestEnforcePartLimits(t *testing.T) {
	long := func(s *wlm.Spec) { s.TimeLimit = 60 }
	wide := func(s *wlm.Spec) { s.MinNodes = 3 }
	for _, tt := range []struct {
		mode, partitions string
		job              func(*wlm.Spec)
		refused          bool
	}{
		{"ALL", "a", long, false}, {"ALL", "b", long, true}, {"ALL", "a,b", long, true}, {"ALL", "b,a", wide, true},
		{"ANY", "b", long, true}, {"ANY", "a,b", long, false}, {"ANY", "b,a", long, false}, {"ANY", "b,a", wide, false},
		{"NO", "b", long, false}, {"", "b", wide, false},
	} {
		c := site(t, Settings{EnforceLimits: tt.mode, MaxJobCount: 100})
		if _, err := do(t, c, request(tt.partitions, tt.job)); (err != nil) != tt.refused {
			t.Errorf("EnforcePartLimits=%s -p %s: %v", tt.mode, tt.partitions, err)
		}
	}
}

func TestPartitionChanges(t *testing.T) {
	for _, tt := range []struct {
		set, wrong string
		holds      func(*wlm.Partition) bool
	}{
		{"oversubscribe=FORCE:2", "", func(p *wlm.Partition) bool { return p.OverSubscribe == wlm.OverSubForce && p.OverSubCount == 2 }},
		{"oversubscribe=EXCLUSIVE", "", func(p *wlm.Partition) bool { return p.OverSubscribe == wlm.OverSubExclusive }},
		{"oversubscribe=NO:2", "only YES and FORCE take a count", nil},
		{"oversubscribe=MAYBE", "allowed are NO, EXCLUSIVE", nil},
		{"defmempercpu=2G", "", func(p *wlm.Partition) bool { return p.DefMemPerCPU == 2048 && p.DefMemPerNode == 0 }},
		{"maxmempernode=UNLIMITED", "", func(p *wlm.Partition) bool { return p.MaxMemPerNode == 0 }},
		{"maxmempercpu=lots", "allowed is an amount", nil},
		{"maxcpuspersocket=3", "", func(p *wlm.Partition) bool { return p.MaxCPUsPerSock == 3 }},
		{"reqresv=YES", "", func(p *wlm.Partition) bool { return p.ReqResv }},
		{"exclusivetopo=YES", "", func(p *wlm.Partition) bool { return p.ExclusiveTopo }},
		{"denyqos=x,y", "", func(p *wlm.Partition) bool { return len(p.DenyQOS) == 2 }},
		{"nodes-=n[1-2]", "", func(p *wlm.Partition) bool { return p.Nodes == "n[3-4]" }},
		{"allowaccounts+=x", "", func(p *wlm.Partition) bool { return len(p.AllowAccounts) == 1 }},
		{"nodes=n9", "not configured", nil},
		{"colour=red", "not supported", nil},
	} {
		c := site(t, Settings{MaxJobCount: 100})
		_, err := do(t, c, change("a", tt.set))
		if tt.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), tt.wrong) {
				t.Errorf("%s: %v, want %s", tt.set, err, tt.wrong)
			}
		} else if p := c.Partition("a"); err != nil || !tt.holds(p) {
			t.Errorf("%s: %v, %+v", tt.set, err, p)
		}
	}
}

// A partition goes only once no job is in it or waits for it.
func TestDeletePartition(t *testing.T) {
	c := site(t, Settings{MaxJobCount: 100})
	j := must(t, c, request("a,b", nil)).(*SubmitReply).Job
	del := &UpdatePartition{Name: "b", Verb: ctlv1.UpdatePartitionRequest_DELETE, Caller: root}
	if _, err := do(t, c, del); err == nil || !strings.Contains(err.Error(), "Partition is in use") {
		t.Fatalf("deleted beneath job %d: %v", j.ID, err)
	}
	must(t, c, &Kill{Signal: 9, Filter: &ctlv1.JobFilter{Refs: []*ctlv1.JobRef{{Job: uint32(j.ID)}}}, Caller: root})
	must(t, c, del)
	if c.Partition("b") != nil {
		t.Error("the partition is still there")
	}
}

// Reconfiguring forgets what scontrol changed, unless ReconfigFlags keeps it.
func TestReconfigFlags(t *testing.T) {
	for _, tt := range []struct {
		name        string
		info, state bool
		tier        uint32
		up, made    bool
	}{
		{"neither", false, false, 1, true, false},
		{"KeepPartState", false, true, 1, false, false},
		{"KeepPartInfo", true, false, 5, false, true},
	} {
		c := site(t, Settings{MaxJobCount: 100})
		must(t, c, change("a", "prioritytier=5", "state=DOWN"))
		made := change("new", "nodes=n1")
		made.Verb = ctlv1.UpdatePartitionRequest_CREATE
		must(t, c, made)
		f := configured(Settings{MaxJobCount: 100})
		f.KeepPartInfo, f.KeepPartState = tt.info, tt.state
		must(t, c, f)
		if p := c.Partition("a"); p.PriorityTier != tt.tier || (p.State == wlm.PartUp) != tt.up || (c.Partition("new") != nil) != tt.made {
			t.Errorf("%s: %+v, new %v", tt.name, p, c.Partition("new"))
		}
	}
}

func TestAdmission(t *testing.T) {
	c := site(t, Settings{MaxJobCount: 100})
	must(t, c, change("b", "reqresv=YES"))
	if _, err := do(t, c, request("b", nil)); err == nil || !strings.Contains(err.Error(), "ReqResv=YES") {
		t.Errorf("no reservation: %v", err)
	}
	must(t, c, change("b", "reqresv=NO", "state=DRAIN"))
	if _, err := do(t, c, request("b", nil)); err == nil || !strings.Contains(err.Error(), "takes no jobs") {
		t.Errorf("drained: %v", err)
	}
	must(t, c, change("b", "alternate=a"))
	if j := must(t, c, request("b", nil)).(*SubmitReply).Job; j.Partition != "a" {
		t.Errorf("the job is in %s, not in the alternate", j.Partition)
	}
	must(t, c, change("a", "state=DRAIN", "alternate=b"))
	if _, err := do(t, c, request("b", nil)); err == nil {
		t.Error("two drained partitions took a job")
	}
	must(t, c, change("a", "state=UP"))
	for _, tt := range []struct {
		job  func(*wlm.Spec)
		want string
	}{
		{func(s *wlm.Spec) { s.Features = "nosuch" }, "Invalid feature specification"},
		{func(s *wlm.Spec) { s.Features = "a&" }, "--constraint=a&"},
		{func(s *wlm.Spec) { s.ReqNodes = "n9" }, "n9"},
		{func(s *wlm.Spec) { s.CPUsPerTask = 5 }, "CPU count per node can not be satisfied"},
		{func(s *wlm.Spec) { s.TmpDisk = 5 }, "Temporary disk specification can not be satisfied"},
	} {
		if _, err := do(t, c, request("a", tt.job)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v, want %s", err, tt.want)
		}
	}
	j := must(t, c, request("a", func(s *wlm.Spec) { s.Switches, s.SwitchWait = 1, 4000 })).(*SubmitReply).Job
	if j.Spec.SwitchWait != 300 {
		t.Errorf("the job waits %d s for switches, max_switch_wait is 300", j.Spec.SwitchWait)
	}
}
