package scontrol

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/wlm/v1"
	"github.com/sluice-hpc/sluice/sdk/version"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/command"
	"github.com/sluice-hpc/sluice/tools/internal/peertest"
)

// ctl is the observed controller, with what scontrol asks beyond lists.
type ctl struct {
	*peertest.Fake
	t       testing.TB
	user    string
	jobs    []*ctlv1.UpdateJobRequest
	nodes   []*ctlv1.UpdateNodeRequest
	parts   []*ctlv1.UpdatePartitionRequest
	resvs   []*ctlv1.UpdateReservationRequest
	down    bool
	warned  []string
	plugins []*ctlv1.ChangePluginRequest
	wiring  string
}

func (c *ctl) Topology(context.Context) (string, error) { return c.wiring, nil }

func (c *ctl) Config(context.Context) (*ctlv1.ConfigReply, error) {
	m := &ctlv1.ConfigReply{Now: c.Now}
	for l := range strings.Lines(peertest.Load(c.t, "scontrol_show_config.txt").Stdout) {
		if k, v, ok := strings.Cut(strings.TrimSuffix(l, "\n"), " = "); ok {
			m.Values = append(m.Values, &ctlv1.ConfigValue{Key: strings.TrimSpace(k), Value: v})
		}
	}
	return m, nil
}

func (c *ctl) Script(_ context.Context, r *ctlv1.ScriptRequest) (*ctlv1.ScriptReply, error) {
	if r.Job != 5 {
		return nil, errs.Coded("test", errs.InvalidJobID)
	}
	return &ctlv1.ScriptReply{Script: []byte("#!/bin/bash\n#SBATCH --job-name=demo\n#SBATCH -N2 -n4\n#SBATCH -t 10\nsrun -n4 sleep 200 &\nsrun --overlap -n1 sleep 200 &\nwait\n")}, nil
}

func (c *ctl) Plugins(_ context.Context, r *ctlv1.PluginsRequest) (*ctlv1.PluginsReply, error) {
	if r.Name == "nope" {
		return nil, errs.Coded("test", errs.UnknownPlugin)
	}
	return &ctlv1.PluginsReply{Plugins: []*ctlv1.PluginInfo{{
		Kind: "sched", Name: "backfill", Version: "0.1.0", Path: "/opt/sluice/libexec/sluice/sched_backfill", Pid: 4711, Since: c.Now - 60,
		State: "serving", Contract: 1, Calls: 128, P50Us: 850, P99Us: 12400, MaxUs: 31000, Restarts: 1, Host: "slurmctld", Rev: 907,
		CpuSeconds: 1.25, Rss: 14 << 20, LastError: "killed", Options: []*ctlv1.ConfigValue{{Key: "bf_window", Value: "1440", Origin: "default", Default: "1440", Unit: "minutes"}},
	}}}, nil
}

func (c *ctl) ChangePlugin(_ context.Context, r *ctlv1.ChangePluginRequest) (*ctlv1.ChangePluginReply, error) {
	c.plugins = append(c.plugins, r)
	switch r.GetName() {
	case "sched/bad":
		return nil, errs.Newf("slurmctld.Try", errs.Unavail, "sched/bad ended while it was tried: exit status 2")
	case "sched/nope":
		return nil, errs.Coded("pluginhost.Find", errs.UnknownPlugin, "sched/nope: no program sched_nope in PluginDir=/x")
	}
	return &ctlv1.ChangePluginReply{Messages: []string{"done"}}, c.admin()
}

func (c *ctl) Explain(_ context.Context, r *ctlv1.ExplainRequest) (*ctlv1.ExplainReply, error) {
	if r.GetRef().GetJob() != 11 {
		return nil, errs.Coded("rpc.Explain", errs.InvalidJobID)
	}
	return &ctlv1.ExplainReply{Now: c.Now, Reason: "Resources", Summary: "it is next in line and waits for resources",
		Job:    &ctlv1.JobInfo{Job: &wlmv1.Job{Id: 11, Priority: 100, Spec: &wlmv1.Spec{}}},
		Queues: []*ctlv1.ExplainQueue{{Partition: "main", Place: 2, Of: 13, NotReady: 1}},
		Plan:   &ctlv1.ExplainPlan{Start: c.Now + 600, Nodes: "n[1-2]", Partition: "main", Reserved: true, Assumes: "running jobs end at their time limits, no job of higher priority comes"},
		Obstacles: []*ctlv1.ExplainObstacle{{Kind: "nodes", Text: "needs 2 nodes with 4 CPUs", Partition: "main", Needed: 2, Free: 1, Total: 4,
			Nodes:   []*ctlv1.ExplainNodes{{Why: "free now", Count: 1, Nodes: "n3"}, {Why: "too little free: held by jobs", Count: 3, Nodes: "n[1-2,4]"}},
			Holders: []*ctlv1.ExplainHolder{{Job: "5", User: "ann", Until: c.Now + 600, Nodes: "n[1-2]"}, {}}},
			{Kind: "licenses", Text: "needs 2 of license x: 1 of 2 are free", SetBy: "/etc/slurm.conf:7 Licenses=x:2", Holders: []*ctlv1.ExplainHolder{{Job: "6", User: "bob", Amount: 1}}}},
		Ahead: []*ctlv1.ExplainAhead{{Job: "10", User: "ann", Priority: 200, Start: c.Now + 60, Nodes: "n3"}, {Job: "9", Priority: 150}},
		Ways:  []*ctlv1.ExplainWay{{Change: "--nodes=1", Start: c.Now, Nodes: "n3", Text: "instead of 2"}},
		Notes: []string{"one note"}}, nil
}

func (c *ctl) Shadows(context.Context) (*ctlv1.ShadowsReply, error) {
	return &ctlv1.ShadowsReply{Shadows: []*ctlv1.ShadowReport{{Kind: "sched", Name: "mine", Version: "1", Live: "sched/backfill", State: "shadow", Pid: 3,
		Since: c.Now - 60, Passes: 10, Missed: 1, Agreed: 6, Sooner: 2, Later: 1, Never: 1, Agreement: 60, Compared: 9, Path: "/x/sched_mine",
		LiveSide:   &ctlv1.ShadowSide{WaitMean: 12.5, WaitP95: 40, Slowdown: 1.5, Utilization: 80, PassP50Us: 900, PassP99Us: 1000, PassMaxUs: 2000},
		ShadowSide: &ctlv1.ShadowSide{WaitMean: 10, WaitP95: 30, Slowdown: 1.25, Utilization: 85, PassP50Us: 1900, PassP99Us: 3000, PassMaxUs: 4000},
		Examples:   []*ctlv1.ShadowJob{{Job: 7, Live: c.Now, Shadow: c.Now - 5}}}}}, nil
}

func (c *ctl) Ping(context.Context) (*ctlv1.PingReply, error) {
	if c.down {
		return nil, errs.Coded("test", errs.ControllerUnreachable, "127.0.0.1:6817: connection refused")
	}
	return &ctlv1.PingReply{Host: "vm", Mode: "primary", Warnings: c.warned}, nil
}

func (c *ctl) WaitStarted(context.Context, uint32) (*ctlv1.JobInfo, error) { return c.JobList[0], nil }

func (c *ctl) UpdateJob(_ context.Context, r *ctlv1.UpdateJobRequest) (*ctlv1.UpdateJobReply, error) {
	c.jobs = append(c.jobs, r)
	m := &ctlv1.UpdateJobReply{}
	for _, ref := range r.Filter.Refs {
		code := errs.Code(0)
		switch {
		case ref.Job == 99999999:
			code = errs.InvalidJobID
		case ref.Job == 27:
			code = errs.UserIDMissing
		case r.Verb == ctlv1.UpdateJobRequest_SUSPEND:
			code = errs.AccessDenied
		case r.Set["numnodes"] != "":
			code = errs.NotSupported
		case r.Set["partition"] != "":
			return nil, errs.Coded("test", errs.JobNotPending)
		}
		if code != 0 {
			m.Results = append(m.Results, &ctlv1.SignalResult{Ref: ref, Code: uint32(code), Text: code.String()})
		}
	}
	return m, nil
}

func (c *ctl) admin() error {
	if c.user == "root" {
		return nil
	}
	return errs.Coded("test", errs.AccessDenied)
}

func (c *ctl) UpdateNode(_ context.Context, r *ctlv1.UpdateNodeRequest) (*ctlv1.UpdateReply, error) {
	c.nodes = append(c.nodes, r)
	if r.Nodes == "nonode" {
		return nil, errs.Coded("test", errs.InvalidNodeName)
	}
	return &ctlv1.UpdateReply{}, c.admin()
}

func (c *ctl) UpdatePartition(_ context.Context, r *ctlv1.UpdatePartitionRequest) (*ctlv1.UpdateReply, error) {
	c.parts = append(c.parts, r)
	if r.Name == "nope" {
		return nil, errs.Coded("test", errs.InvalidPartition)
	}
	return &ctlv1.UpdateReply{}, c.admin()
}

func (c *ctl) Reservations(_ context.Context, r *ctlv1.ReservationsRequest) (*ctlv1.ReservationsReply, error) {
	if r.GetName() != "" {
		return nil, errs.Coded("test", errs.ReservationInvalid)
	}
	return &ctlv1.ReservationsReply{}, nil
}

func (c *ctl) UpdateReservation(_ context.Context, r *ctlv1.UpdateReservationRequest) (*ctlv1.UpdateReservationReply, error) {
	c.resvs = append(c.resvs, r)
	if r.Name == "nope" || r.Name == "x" {
		return nil, errs.Coded("test", errs.ReservationInvalid)
	}
	return &ctlv1.UpdateReservationReply{Name: "root_1"}, c.admin()
}

func (c *ctl) Reconfigure(context.Context) (*ctlv1.ReconfigureReply, error) {
	return &ctlv1.ReconfigureReply{Changes: []string{"SchedulerType: sched/backfill"}, Warnings: []string{"x"}}, c.admin()
}

func (c *ctl) Shutdown(context.Context, *ctlv1.ShutdownRequest) (*ctlv1.UpdateReply, error) {
	return nil, c.admin()
}

func (c *ctl) StepStats(_ context.Context, addr string, job, step uint32) (*nodev1.StepStatsReply, error) {
	if addr != "127.0.0.1:16001" || job != 5 {
		return nil, errs.Coded("test", errs.InvalidStep)
	}
	m := &nodev1.StepStatsReply{Pids: []uint32{31741, 31752}, TaskPids: []uint32{31741}, TaskIds: []uint32{0}}
	if step == 1 {
		m = &nodev1.StepStatsReply{Pids: []uint32{31792, 31799}, TaskPids: []uint32{31792, 31799}, TaskIds: []uint32{2, 3}}
	}
	return m, nil
}

func (c *ctl) Token(_ context.Context, r *ctlv1.TokenRequest) (*ctlv1.TokenReply, error) {
	return &ctlv1.TokenReply{Token: r.User + "." + wlm.FormatShort(int64(r.Lifespan))}, nil
}

func (c *ctl) SetDebug(context.Context, *ctlv1.SetDebugRequest) (*ctlv1.UpdateReply, error) {
	return &ctlv1.UpdateReply{}, c.admin()
}

func scontrol(t *testing.T, c *ctl, stdin string, args ...string) (int, string, string) {
	t.Helper()
	var out, stderr bytes.Buffer
	c.t = t
	env := command.Env{Args: args, Getenv: func(string) string { return "" }, Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &stderr}
	o, err := Parse(args, env.Getenv)
	if err != nil {
		cmd := New()
		return cmd.Fail(err, env, 1), out.String(), stderr.String()
	}
	return Run(t.Context(), o, c, env, peertest.Names(), "vm"), out.String(), stderr.String()
}

func at(seconds int64) *ctl { return &ctl{Fake: peertest.InListOrder(seconds), user: "root"} }

func TestObserved(t *testing.T) {
	later := &ctl{Fake: peertest.Later(), user: "root"}
	six := at(20)
	six.JobList = append(six.JobList[7:8:8], six.JobList[6], six.JobList[5])
	tests := []struct {
		file string
		c    *ctl
	}{
		{"scontrol_show_job.txt", at(20)},
		{"scontrol_show_job_5.txt", at(20)},
		{"scontrol_show_job_6.txt", six},
		{"scontrol_show_job_8.txt", at(20)},
		{"alice_scontrol_show_job_8.txt", at(24)},
		{"scontrol_-d_show_job_5.txt", at(20)},
		{"scontrol_-o_show_job_5.txt", at(20)},
		{"later_scontrol_show_job_2.txt", later},
		{"later_scontrol_show_job_4.txt", later},
		{"later_scontrol_show_job_9.txt", later},
		{"scontrol_show_node.txt", at(20)},
		{"scontrol_show_node_n4.txt", at(20)},
		{"scontrol_-o_show_nodes.txt", at(20)},
		{"scontrol_show_partition.txt", at(20)},
		{"scontrol_show_partition_main.txt", at(20)},
		{"scontrol_show_step.txt", at(20)},
		{"scontrol_show_step_5.0.txt", at(20)},
		{"scontrol_show_config.txt", at(21)},
		{"scontrol_show_aliases.txt", at(20)},
		{"scontrol_show_bbstat.txt", at(20)},
		{"scontrol_show_daemons.txt", at(20)},
		{"scontrol_show_hostlist_n1,n2,n3,n9.txt", at(20)},
		{"scontrol_show_hostnames_n_1-3,7_.txt", at(20)},
		{"scontrol_show_hosts.txt", at(20)},
		{"scontrol_show_licenses.txt", at(20)},
		{"scontrol_show_topology.txt", at(20)},
		{"scontrol_ping.txt", at(20)},
		{"scontrol_write_batch_script_5_-.txt", at(20)},
	}
	for _, tt := range tests {
		t.Run(tt.file, func(t *testing.T) {
			o := peertest.Load(t, tt.file)
			status, out, errs := scontrol(t, tt.c, "", o.Args()...)
			o.Check(t, status, out, errs)
		})
	}
}

func TestObservedMistakes(t *testing.T) {
	for _, o := range peertest.Errors(t, "scontrol") {
		if strings.Contains(o.Stderr, "Error creating the reservation: Invalid") {
			continue // what the controller says of reservations, which ours does not have
		}
		t.Run(o.Line, func(t *testing.T) {
			c := at(20)
			c.user = o.User
			status, out, errs := scontrol(t, c, "", o.Args()...)
			o.Check(t, status, out, errs)
		})
	}
}

func TestVersion(t *testing.T) {
	if _, out, _ := scontrol(t, at(20), "", "version"); out != version.String()+"\n" {
		t.Errorf("got %q", out)
	}
}

func TestJobVerbs(t *testing.T) {
	tests := []struct {
		line string
		verb ctlv1.UpdateJobRequest_Verb
		ids  []uint32
		set  map[string]string
	}{
		{"hold 5,6", ctlv1.UpdateJobRequest_HOLD, []uint32{5, 6}, nil},
		{"uhold 5 6", ctlv1.UpdateJobRequest_UHOLD, []uint32{5, 6}, nil},
		{"release 6_[1-3]", ctlv1.UpdateJobRequest_RELEASE, []uint32{6}, nil},
		{"requeue Incomplete 5", ctlv1.UpdateJobRequest_REQUEUE, []uint32{5}, nil},
		{"requeuehold State=SpecialExit 5", ctlv1.UpdateJobRequest_REQUEUE_HOLD, []uint32{5}, map[string]string{"state": "specialexit"}},
		{"resume 5", ctlv1.UpdateJobRequest_RESUME, []uint32{5}, nil},
		{"top 5", ctlv1.UpdateJobRequest_TOP, []uint32{5}, nil},
		{"update JobId=5 TimeLimit=+10 Name=x Nice", ctlv1.UpdateJobRequest_SET, []uint32{5}, map[string]string{"timelimit": "+10", "name": "x", "nice": ""}},
		{"update job=5 Shared=yes EligibleTime=now", ctlv1.UpdateJobRequest_SET, []uint32{5}, map[string]string{"oversubscribe": "yes", "starttime": "now"}},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			c := at(20)
			status, out, errs := scontrol(t, c, "", strings.Fields(tt.line)...)
			if status != 0 || out+errs != "" || len(c.jobs) != 1 {
				t.Fatalf("status %d, %q %q, %d requests", status, out, errs, len(c.jobs))
			}
			r := c.jobs[0]
			var ids []uint32
			for _, ref := range r.Filter.Refs {
				ids = append(ids, ref.Job)
			}
			if r.Verb != tt.verb || len(ids) != len(tt.ids) || ids[0] != tt.ids[0] || !maps.Equal(r.Set, tt.set) && len(r.Set)+len(tt.set) > 0 {
				t.Errorf("asked %v", r)
			}
		})
	}
}

// A name selects when there is no id.
func TestUpdateByName(t *testing.T) {
	c := at(20)
	scontrol(t, c, "", "update", "jobname=demo", "userid=alice", "comment=a b")
	r := c.jobs[0]
	if len(r.Filter.Names) != 1 || r.Filter.Names[0] != "demo" || r.Filter.Users[0] != 1001 || r.Set["comment"] != "a b" {
		t.Errorf("asked %v", r)
	}
}

func TestNodesAndPartitions(t *testing.T) {
	c := at(20)
	for _, line := range []string{
		"update nodename=n[1-2] state=drain reason=x", "update nodename=ALL weight=3", "cancel_reboot n1", "power down asap n3 reason=cold",
		"update partitionname=main maxtime=10 nodes+=n9", "create partitionname=new nodes=n1 shared=yes:4", "delete partitionname=new",
	} {
		if status, out, errs := scontrol(t, c, "", strings.Fields(line)...); status != 0 || out+errs != "" {
			t.Errorf("%s: status %d, %q %q", line, status, out, errs)
		}
	}
	if n := c.nodes; n[0].Set["state"] != "DRAIN" || n[1].Nodes != "n[1-4]" || n[2].Set["state"] != "CANCEL_REBOOT" ||
		n[3].Set["state"] != "POWER_DOWN_ASAP" || n[3].Set["reason"] != "cold" {
		t.Errorf("asked %v", n)
	}
	if p := c.parts; p[0].Set["nodes+"] != "n9" || p[1].Verb != ctlv1.UpdatePartitionRequest_CREATE || p[1].Set["oversubscribe"] != "yes:4" ||
		p[2].Verb != ctlv1.UpdatePartitionRequest_DELETE {
		t.Errorf("asked %v", p)
	}
}

const wantPlugin = `PluginName=sched/backfill Version=0.1.0
   State=SERVING Pid=4711 Host=slurmctld Since=2026-11-23T17:17:20
   Restarts=1 Calls=128 Overruns=0 Rev=907 Contract=1
   P50=0.850ms P99=12.400ms Max=31.000ms CPUTime=1.25s RSS=14M
   Path=/opt/sluice/libexec/sluice/sched_backfill
   Option=bf_window Value=1440 minutes Default=1440 minutes Origin=default
   LastError=killed

`

const wantShadow = `ShadowName=sched/mine Version=1 Live=sched/backfill
   State=SHADOW Pid=3 Since=2026-11-23T17:17:20
   Passes=10 Missed=1 Agreement=60.0%
   Agreed=6 Sooner=2 Later=1 NotAtAll=1 Compared=9
   WaitMean=12.5s/10.0s WaitP95=40s/30s BoundedSlowdown=1.50/1.25 Utilization=80.0%/85.0% (live/shadow)
   PassP50=0.900ms/1.900ms PassP99=1.000ms/3.000ms PassMax=2.000ms/4.000ms (live/shadow)
   Path=/x/sched_mine

`

func TestChangePlugins(t *testing.T) {
	c := at(20)
	program := filepath.Join(t.TempDir(), "sched_mine")
	if err := os.WriteFile(program, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		line, out, errs string
		status          int
	}{
		{"reload plugin sched", "done\n", "", 0},
		{"reload plugin sched/mine " + program, "done\n", "", 0},
		{"disable plugin job_submit/x", "done\n", "", 0},
		{"enable plugin job_submit/x", "done\n", "", 0},
		{"shadow plugin sched/mine", "done\n", "", 0},
		{"promote shadow", "done\n", "", 0},
		{"stop shadow sched/mine", "done\n", "", 0},
		{"reload plugin sched/bad", "", "scontrol: error: sched/bad ended while it was tried: exit status 2\n", 1},
		{"reload plugin sched/nope", "", "scontrol: error: sched/nope: no program sched_nope in PluginDir=/x: No such plugin\n", 1},
		{"reload plugin sched /nonexistent/sched_x", "", "scontrol: error: stat /nonexistent/sched_x: no such file or directory\n", 1},
		{"reload job 5", "", "invalid entity:job for keyword:reload\n", 1},
		{"stop plugin", "", "invalid entity:plugin for keyword:stop\n", 1},
		{"reload plugin", "", "too few arguments for keyword:reload\n", 1},
	} {
		if status, out, errs := scontrol(t, c, "", strings.Fields(tt.line)...); status != tt.status || out != tt.out || errs != tt.errs {
			t.Errorf("%s: status %d, %q, %q", tt.line, status, out, errs)
		}
	}
	if p := c.plugins; p[1].GetPath() != program || p[1].GetName() != "sched/mine" || p[5].GetVerb() != ctlv1.ChangePluginRequest_PROMOTE || p[6].GetName() != "sched/mine" {
		t.Errorf("asked %v", p)
	}
	if _, out, _ := scontrol(t, c, "", "show", "shadow"); out != wantShadow {
		t.Errorf("got\n%s", out)
	}
	if status, out, _ := scontrol(t, c, "", "show", "shadow", "sched/other"); status != 1 || out != "Shadow sched/other not found\n" {
		t.Errorf("status %d, %q", status, out)
	}
}

func TestPlugins(t *testing.T) {
	if _, out, _ := scontrol(t, at(20), "", "show", "plugin"); out != wantPlugin {
		t.Errorf("got\n%s", out)
	}
	_, out, _ := scontrol(t, at(20), "", "-o", "show", "plugin", "sched")
	if strings.Count(out, "\n") != 1 || !strings.Contains(out, "Version=0.1.0 State=SERVING") {
		t.Errorf("one line: %q", out)
	}
	if status, out, _ := scontrol(t, at(20), "", "show", "plugin", "nope"); status != 1 || out != "Plugin nope not found\n" {
		t.Errorf("status %d, %q", status, out)
	}
}

func TestPing(t *testing.T) {
	c := at(20)
	c.warned = []string{"sched/backfill serves as fallback"}
	if status, out, errs := scontrol(t, c, "", "ping"); status != 0 || out != "Slurmctld(primary) at vm is UP\n" ||
		errs != "scontrol: warning: sched/backfill serves as fallback\n" {
		t.Errorf("status %d, %q, %q", status, out, errs)
	}
	c.down = true
	if status, out, errs := scontrol(t, c, "", "ping"); status != 1 || out != "Slurmctld(primary) at vm is DOWN\n" || !strings.Contains(errs, "connection refused") {
		t.Errorf("status %d, %q, %q", status, out, errs)
	}
}

// Every structured output is whole JSON.
func TestStructured(t *testing.T) {
	for _, line := range []string{
		"show job", "show job 5", "show node", "show partition", "show step", "show plugin", "show shadow", "show config", "ping",
	} {
		status, out, errs := scontrol(t, at(20), "", append([]string{"--json"}, strings.Fields(line)...)...)
		var v map[string]any
		if err := json.Unmarshal([]byte(out), &v); err != nil || status != 0 || errs != "" || v["meta"] == nil {
			t.Errorf("%s: status %d, %v, %s\n%s", line, status, err, errs, out)
		}
	}
}

func TestInteractive(t *testing.T) {
	_, out, errs := scontrol(t, at(20), "ping\n\n!!\noneliner\nshow step 5.0\nfoo\nexit\nping\n")
	const want = "scontrol: Slurmctld(primary) at vm is UP\nscontrol: scontrol: Slurmctld(primary) at vm is UP\nscontrol: scontrol: StepId=5.0 "
	if !strings.HasPrefix(out, want) || strings.Count(out, "\n") != 3 {
		t.Errorf("got %q", out)
	}
	if errs != "invalid keyword: foo\n" {
		t.Errorf("errors %q", errs)
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "script")
	if _, out, _ := scontrol(t, at(20), "", "write", "batch_script", "5", file); out != "batch script for job 5 written to "+file+"\n" {
		t.Errorf("got %q", out)
	}
	if b, err := os.ReadFile(file); err != nil || !bytes.HasPrefix(b, []byte("#!/bin/bash\n")) {
		t.Errorf("wrote %q, %v", b, err)
	}
	list := filepath.Join(dir, "hosts")
	if err := os.WriteFile(list, []byte("n3\nn1\nn2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, out, _ := scontrol(t, at(20), "", "show", "hostlistsorted", list); out != "n[1-3]\n" {
		t.Errorf("got %q", out)
	}
}

func TestSmallVerbs(t *testing.T) {
	tests := []struct {
		line   string
		status int
		out    string
		err    string
	}{
		{"token lifespan=60 username=alice", 0, "SLURM_JWT=alice.1:00\n", ""},
		{"errnumstr 2017", 0, "Invalid job id specified\n", ""},
		{"getaddrs n[1-2]", 0, "n1: 127.0.0.1:16001\nn2: 127.0.0.1:16002\n", ""},
		{"-v reconfigure", 0, "SchedulerType: sched/backfill\n", "scontrol: warning: x\n"},
		{"setdebug debug2", 0, "", ""},
		{"show reservation", 0, "No reservations in the system\n", ""},
		{"listpids 5.1 n1", 0, "PID      JOBID    STEPID   LOCALID GLOBALID\n31792    5        1        0       2       \n31799    5        1        1       3       \n", ""},
		{"listpids 5.batch", 0, "PID      JOBID    STEPID   LOCALID GLOBALID\n31741    5        batch    0       0       \n31752    5        batch    -       -       \n", ""},
		{"listpids 5.7 n1", 1, "", "StepId=5.7 does not exist on node n1.\n"},
		{"listpids 5 n4", 1, "", "There are no steps for job 5 on node n4.\n"},
		{"listpids x", 1, "", "\"x\" does not look like a jobid\n"},
		{"-Q listpids x", 1, "", ""},
		{"setdebugflags -backfill", 1, "", "scontrol: error: setdebugflags is not supported: set DebugFlags in slurm.conf and scontrol reconfigure\n"},
		{"create foo", 1, "", "scontrol: error: Invalid creation entity: foo\n"},
		{"delete job=1", 1, "", "Invalid deletion entity: job=1\n"},
		{"hold", 1, "", "too few arguments for keyword:hold\n"},
		{"show node n1,nonode", 1, "", ""},
		{"show job=5", 0, "", ""},
		{"explain 99", 1, "", "slurm_load_jobs error: Invalid job id specified\n"},
		{"explain x", 1, "", "scontrol_print_job error: Invalid job id specified\n"},
		{"explain", 1, "", "too few arguments for keyword:explain\n"},
		{"update nodename=n1 state=sleepy", 1, "", ""},
		{"--bogus", 1, "", "scontrol: unrecognized option '--bogus'\nTry \"scontrol --help\" for more information\n"},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			status, out, errs := scontrol(t, at(20), "", strings.Fields(tt.line)...)
			if status != tt.status || tt.out != "" && out != tt.out || tt.err != "" && errs != tt.err {
				t.Errorf("status %d, %q, %q", status, out, errs)
			}
		})
	}
}

func FuzzWords(f *testing.F) {
	f.Add("show job 5\nupdate jobid=5 x=y\nhold 1_[1-3]")
	f.Fuzz(func(t *testing.T, lines string) {
		if strings.Contains(lines, "wri") || strings.Contains(lines, "/") || strings.Contains(lines, "-") {
			t.Skip("writes and reads files")
		}
		scontrol(t, at(20), lines)
	})
}
