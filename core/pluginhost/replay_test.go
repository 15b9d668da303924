package pluginhost

import (
	"bytes"
	"context"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-hpc/sluice/sdk/acctstore"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/jobsubmit"
	"github.com/sluice-hpc/sluice/sdk/launch"
	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/mirror/mirrortest"
	"github.com/sluice-hpc/sluice/sdk/plugin/session"
	"github.com/sluice-hpc/sluice/sdk/plugin/wirecall"
	"github.com/sluice-hpc/sluice/sdk/priority"
	"github.com/sluice-hpc/sluice/sdk/proto/acctstore/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/launch/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/plugin/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/wlm/v1"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/selector"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"google.golang.org/protobuf/proto"
)

var record = flag.Bool("record", false, "record the conversations of version 1 again: only before its release")

// peer is who a script talks to: a host's end of a session.
type peer struct {
	wirecall.Caller
	push func([][]byte) error
}

// script is one kind's conversation: what the host says, the answers that the
// plugin gave, and what the host must make of them.
type script struct {
	kind    string
	handler wirecall.Handler // says the answers, when they are recorded
	talk    func(t *testing.T, ctx context.Context, p peer)
}

// scripts has the conversation of version 1 of each kind.
var scripts = []script{
	{sched.Kind, sched.Handler(answers{}), talkSched},
	{selector.Kind, selector.Handler(answers{}), talkSelect},
	{priority.Kind, priority.Handler(answers{}), talkPriority},
	{jobsubmit.Kind, jobsubmit.Handler(answers{}), talkJobSubmit},
	{launch.Kind, launch.Handler(launcher{}), talkLaunch},
	{acctstore.Kind, acctstore.Handler(answers{}), talkStore},
}

// A plugin built for version 1 of its contract works with this host: it
// understands what the host says, and the host what it answers.
func TestVersion1(t *testing.T) {
	if *record {
		for _, s := range scripts {
			recordConversation(t, s)
		}
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "replay")
	if out, err := exec.Command("go", "build", "-o", program, "./testdata/replay").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, s := range scripts {
		t.Run(s.kind, func(t *testing.T) {
			path := filepath.Join(dir, s.kind+"_v1")
			if err := os.Link(program, path); err != nil {
				t.Fatal(err)
			}
			h, _, ctx := newHost(t)
			p, err := h.Start(ctx, Spec{Kind: s.kind, Name: "v1", Path: path, Contracts: contracts[s.kind],
				Query: func(_, method string, _ []byte) ([]byte, error) { return jobsubmit.Answer(method, partitions) }})
			if err != nil {
				t.Fatal(err)
			}
			if got := p.Info().GetContract(); got != 1 {
				t.Errorf("contract version %d was negotiated, want 1", got)
			}
			s.talk(t, ctx, peer{p, func(frames [][]byte) error { return p.PushState(p.Epoch(), frames) }})
			if n := p.Info().GetRestarts(); n != 0 {
				t.Errorf("the plugin ended %d times: see what it said", n)
			}
		})
	}
}

var contracts = map[string][]uint32{sched.Kind: sched.Contracts, selector.Kind: selector.Contracts, priority.Kind: priority.Contracts,
	jobsubmit.Kind: jobsubmit.Contracts, launch.Kind: launch.Contracts, acctstore.Kind: acctstore.Contracts}

// tape is a stream between two ends in this process that notes every frame.
type tape struct {
	ctx                  context.Context
	toPlugin, fromPlugin chan []byte
	mu                   sync.Mutex
	text                 bytes.Buffer
}

func (p *tape) note(who, what string, m proto.Message) ([]byte, error) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	p.mu.Lock()
	fmt.Fprintf(&p.text, "# %s: %s\n%s %s\n", who, what, who, base64.StdEncoding.EncodeToString(b))
	p.mu.Unlock()
	return b, err
}

type hostEnd struct{ *tape }
type pluginEnd struct{ *tape }

func (p hostEnd) Send(f *pluginv1.HostFrame) (err error) {
	var b []byte
	if f.GetCredit() != nil || f.GetDrain() != nil {
		b, err = proto.Marshal(f)
	} else {
		b, err = p.note("host", fmt.Sprintf("%T", f.GetBody()), f)
	}
	p.toPlugin <- b
	return err
}

func (p hostEnd) Recv() (*pluginv1.PluginFrame, error) {
	f := new(pluginv1.PluginFrame)
	return f, take(p.ctx, p.fromPlugin, f)
}

func (p pluginEnd) Send(f *pluginv1.PluginFrame) error {
	b, err := p.note("plugin", fmt.Sprintf("%T", f.GetBody()), f)
	p.fromPlugin <- b
	return err
}

func (p pluginEnd) Recv() (*pluginv1.HostFrame, error) {
	f := new(pluginv1.HostFrame)
	return f, take(p.ctx, p.toPlugin, f)
}

func take(ctx context.Context, c chan []byte, m proto.Message) error {
	select {
	case b, ok := <-c:
		if !ok {
			return io.EOF
		}
		return proto.Unmarshal(b, m)
	case <-ctx.Done():
		return io.EOF
	}
}

func recordConversation(t *testing.T, s script) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p := &tape{ctx: ctx, toPlugin: make(chan []byte, 100), fromPlugin: make(chan []byte, 100)}
	fmt.Fprintf(&p.text, "# The kind %s, contract version 1: what a host and a plugin said to each other.\n# Frames of sdk/proto/plugin/v1, in base64.\n", s.kind)
	manifest := &pluginv1.ManifestReply{Name: "v1", Version: "1.0", Doc: "A plugin of long ago.", Served: []*pluginv1.Served{{Kind: s.kind, Contracts: []uint32{1}}}}
	if _, err := p.note("manifest", "its own", manifest); err != nil {
		t.Fatal(err)
	}
	go func() {
		old := s.handler
		old.Serve = func(ctx context.Context, r wirecall.Request) ([]byte, error) {
			send := r.Send
			r.Send = func(b []byte) error {
				if len(b) == 0 { // launchers of version 1 began Watch without an empty happening
					return nil
				}
				return send(b)
			}
			return s.handler.Serve(ctx, r)
		}
		open := func(*pluginv1.Open) ([]wirecall.Handler, error) { return []wirecall.Handler{old}, nil }
		_ = session.Serve(ctx, pluginEnd{p}, session.Author{Open: open})
		close(p.fromPlugin)
	}()
	h, err := session.Open(ctx, hostEnd{p}, func() {}, session.HostConfig{Epoch: 1,
		Open:  &pluginv1.Open{Cluster: "c", Contracts: map[string]uint32{s.kind: 1}},
		Query: func(q *pluginv1.HostQuery) ([]byte, error) { return jobsubmit.Answer(q.GetMethod(), partitions) }})
	if err != nil {
		t.Fatal(err)
	}
	s.talk(t, ctx, peer{h, h.PushState})
	if err := h.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("testdata/replay/conversations", s.kind+"_v1.txt"), p.text.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// same compares what the host made of an answer with what the plugin meant.
func same(t *testing.T, what string, got, want any, err error) {
	t.Helper()
	if a, ok := got.(proto.Message); ok && err == nil {
		if !proto.Equal(a, want.(proto.Message)) {
			t.Errorf("%s: the host understands\n%v, want\n%v", what, got, want)
		}
		return
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%s: the host understands\n%+v, want\n%+v; error %v", what, got, want, err)
	}
}

// answers is the plugin of all kinds but launch that was recorded.
type answers struct{}

var (
	agenda = sched.Agenda{Reservations: 2, Entries: []sched.Entry{
		{Job: 2, WhenBlocked: sched.Reserve, MayPreempt: true, Expected: 120, NotBefore: mirrortest.Now + 60,
			Prefer: []wlm.NodeIndex{1}, Avoid: []wlm.NodeIndex{0}, Placement: []mirror.NodeUse{{Node: 1, CPUs: wlm.CPUSet{3}, Mem: 100, Whole: true}}},
		{Job: 3, WhenBlocked: sched.Stop}, {Job: 4}}}
	placed = selector.Result{
		Placements: []selector.Placement{{Job: 2, Partition: 0, Backfilled: true, Uses: []mirror.NodeUse{{Node: 1, CPUs: wlm.CPUSet{15}, Mem: 200}}}},
		Verdicts:   []selector.Verdict{{Reason: wlm.WaitResources, Text: "needs 3 nodes", Start: mirrortest.Now + 600, Nodes: []wlm.NodeIndex{0, 1}, Jobs: []wlm.JobID{3, 4}}}}
	ranking = priority.Ranking{Jobs: []wlm.JobID{2, 3}, Priorities: []uint32{10, 20}, Names: []string{"Age", "JobSize"}, Factors: [][]float64{{1, 9}, {2, 18}}}

	partitions = []*wlm.Partition{{Name: "main", Nodes: "n[0-1]", Default: true, MaxTime: wlm.Unlimited, MaxNodes: wlm.Unset}}
	refused    = selector.Refused{Job: 4, Text: "the node went down"}
	event      = &eventv1.Event{Kind: eventv1.Kind_JOB_ENDED, Time: 5, Job: &wlmv1.Job{Id: 7, Submit: 3, Spec: &wlmv1.Spec{Name: "demo", User: 1000}}}
	row        = &acctstorev1.JobRow{Cluster: "c", Job: event.Job, Steps: []*wlmv1.Step{{Job: 7, Id: 0, Name: "true", JobSubmit: 3}}}
	query      = &acctstorev1.Query{Cluster: "c", Start: 1, End: 9, Jobs: []*acctstorev1.JobRef{{Job: 7, HasStep: true}}, Users: []uint32{1000}, Nodes: "n[0-1]", Now: 9}
)

func (answers) Plan(context.Context, sched.View) (sched.Agenda, error) { return agenda, nil }
func (answers) Place(context.Context, mirror.View, selector.Request) (selector.Result, error) {
	return placed, nil
}
func (answers) WhatIf(context.Context, mirror.View, *mirror.Job) (selector.Result, error) {
	return selector.Result{Verdicts: placed.Verdicts}, nil
}
func (answers) Rank(context.Context, mirror.View, priority.Request) (priority.Ranking, error) {
	return ranking, nil
}
func (answers) Submit(ctx context.Context, r *jobsubmit.Request) ([]string, error) {
	if r.Spec.TimeLimit == 0 {
		return []string{"a message"}, errs.Coded("x", errs.InvalidTimeLimit, "give a limit").With("0 < 1")
	}
	list, err := r.Partitions(ctx)
	if err != nil {
		return nil, err
	}
	r.Spec.Comment = list[0].Name
	return []string{"welcome"}, nil
}
func (answers) Modify(_ context.Context, r *jobsubmit.Request) ([]string, error) {
	r.Changes["Comment"] = "seen"
	return nil, nil
}
func (answers) Append(_ context.Context, _ string, records []*acctstorev1.Record) (uint64, error) {
	return records[len(records)-1].GetNumber(), nil
}
func (answers) Jobs(_ context.Context, q *acctstorev1.Query, yield func(*acctstorev1.JobRow) error) error {
	if q.GetCluster() == "" {
		return errs.Newf("x", errs.Busy, "come again")
	}
	return yield(row)
}

func feed(t *testing.T, p peer) (c *mirrortest.Cluster, rev uint64) {
	t.Helper()
	c = mirrortest.New(2, 4, 1000)
	c.Counters = []mirror.Counter{{ID: 1, Name: "matlab", Capacity: 5, Reason: wlm.WaitLicenses}}
	c.Run(c.Submit(mirror.Class{MemPerNode: 100}, 3600), 0, mirrortest.Cores(0, 0, 1, 100))
	c.Submit(mirror.Class{NTasks: 2, Counters: []mirror.CounterUse{{Counter: 1, Amount: 2}}}, 600)
	c.Submit(mirror.Class{MinNodes: 2, Features: "big"}, 0)
	frames, _ := c.Frames()
	if err := p.push(frames); err != nil {
		t.Fatal(err)
	}
	c.Drop(1)
	c.Submit(mirror.Class{MinNodes: 2, Features: "big"}, 60)
	frames, rev = c.Frames()
	if err := p.push(frames); err != nil {
		t.Fatal(err)
	}
	return c, rev
}

func talkSched(t *testing.T, ctx context.Context, p peer) {
	c, rev := feed(t, p)
	got, err := sched.NewClient(p).Plan(ctx, rev, c.Now)
	same(t, "the agenda", got, agenda, err)
	if _, err := sched.NewClient(p).Plan(ctx, rev+1, c.Now); errs.KindOf(err) != errs.State {
		t.Errorf("a plugin at another rev: %v", err)
	}
}

func talkSelect(t *testing.T, ctx context.Context, p peer) {
	c, rev := feed(t, p)
	got, err := selector.NewClient(p).Place(ctx, rev, c.Now, selector.Request{Agenda: agenda, MaxStarts: 7, Refused: []selector.Refused{refused}})
	same(t, "the placements", got, placed, err)
	got, err = selector.NewClient(p).WhatIf(ctx, rev, c.Now, c.Jobs[3])
	same(t, "the forecast", got, selector.Result{Verdicts: placed.Verdicts}, err)
}

func talkPriority(t *testing.T, ctx context.Context, p peer) {
	c, rev := feed(t, p)
	for _, r := range []priority.Request{{All: true, Highest: 9, Lowest: 1}, {Jobs: []wlm.JobID{2, 3}}} {
		got, err := priority.NewClient(p).Rank(ctx, rev, c.Now, r)
		same(t, "the priorities", got, ranking, err)
	}
}

func talkJobSubmit(t *testing.T, ctx context.Context, p peer) {
	f := jobsubmit.NewClient(p)
	spec := &wlm.Spec{Name: "demo", User: 1000, UserName: "alice", MinNodes: 1, NTasks: 4, TimeLimit: 30, Priority: wlm.Unset, Argv: []string{"demo.sh"}}
	want := *spec
	want.Comment = "main"
	said, err := f.Submit(ctx, &jobsubmit.Request{Caller: 1000, Script: []byte("#!/bin/sh\n"), Spec: spec})
	same(t, "the changed request", *spec, want, err)
	same(t, "its message", said, []string{"welcome"}, nil)
	said, err = f.Submit(ctx, &jobsubmit.Request{Caller: 1000, Spec: &wlm.Spec{}})
	e, _ := err.(*errs.Error)
	if e == nil || e.Code != errs.InvalidTimeLimit || e.Kind != errs.Invalid || e.Error() != "give a limit: "+errs.InvalidTimeLimit.String()+": 0 < 1" || len(said) != 1 {
		t.Errorf("a refusal: %q, %v", said, err)
	}
	r := &jobsubmit.Request{Caller: 1000, Current: &wlm.Job{ID: 7, Spec: spec}, Changes: map[string]string{"TimeLimit": "60"}}
	_, err = f.Modify(ctx, r)
	same(t, "the changed change", r.Changes, map[string]string{"TimeLimit": "60", "Comment": "seen"}, err)
}

func talkStore(t *testing.T, ctx context.Context, p peer) {
	s := acctstore.NewClient(p)
	acked, err := s.Append(ctx, "c", []*acctstorev1.Record{{Number: 41, Event: event}, {Number: 42, Event: event}})
	same(t, "the acknowledgement", acked, uint64(42), err)
	var got *acctstorev1.JobRow
	err = s.Jobs(ctx, query, func(r *acctstorev1.JobRow) error { got = r; return nil })
	same(t, "the row", got, row, err)
	err = s.Jobs(ctx, &acctstorev1.Query{}, func(*acctstorev1.JobRow) error { return nil })
	if errs.KindOf(err) != errs.Busy || !strings.Contains(err.Error(), "come again") {
		t.Errorf("a failed query: %v", err)
	}
}

// launcher is the launcher that was recorded.
type launcher struct{}

var (
	step       = &launchv1.StepRef{Job: 7, Step: 0, Node: "n0"}
	gone       = &launchv1.StepGone{Status: 256, Oom: true, Time: 9, Usage: &launchv1.Usage{UserUsec: 5, MaxRssKib: 100}}
	happenings = []*launchv1.Happening{
		{Step: step, Body: &launchv1.Happening_Task{Task: &launchv1.TaskExit{TaskId: 1, Status: 256, Core: true, Time: 8}}, Restarts: 1},
		{Step: step, Body: &launchv1.Happening_Gone{Gone: gone}, Restarts: 1}}
	launched  = &launchv1.LaunchReply{Pids: []uint32{10, 11}, Socket: "/run/s", Supervisor: 9}
	recovered = &launchv1.RecoverReply{Steps: []*launchv1.RunningStep{{Step: step, Restarts: 1, TaskIds: []uint32{0, 1}, Pids: []uint32{10, 11}, Socket: "/run/s",
		Supervisor: 9, Uid: 1000, Gone: gone, Exits: []*launchv1.TaskExit{{TaskId: 0, Time: 8}}}}}
	statistics = &launchv1.StatsReply{Usage: gone.Usage, Pids: []uint32{10}}
	work       = &launchv1.LaunchRequest{Job: 7, Node: "n0", Uid: 1000, Gid: 1000, Gids: []uint32{1000, 2000}, UserName: "alice", TaskIds: []uint32{0, 1}, Ntasks: 2,
		Nnodes: 1, CpuSet: []uint64{3}, Mem: 100, CpusPerTask: 1, StepDir: "/spool/7.0", Script: []byte("#!/bin/sh\n"), PerTaskEnv: []string{"SLURM_PROCID=%t"},
		Work: &launchv1.Work{Argv: []string{"true"}, Env: []string{"A=b"}, Cwd: "/", Umask: 18, Stdout: &launchv1.Stream{Kind: launchv1.Stream_FILE, Path: "out"},
			Limits: []*wlmv1.RLimit{{Name: "NOFILE", Soft: 10, Hard: 20}}}}
)

func (launcher) Launch(context.Context, *launchv1.LaunchRequest) (*launchv1.LaunchReply, error) {
	return launched, nil
}
func (launcher) Signal(context.Context, *launchv1.SignalRequest) error { return nil }
func (launcher) Watch(ctx context.Context, tell func(*launchv1.Happening) error) error {
	for _, h := range happenings {
		if err := tell(h); err != nil {
			return err
		}
	}
	return errs.Newf("x", errs.Unavail, "enough")
}
func (launcher) Recover(context.Context, string) (*launchv1.RecoverReply, error) {
	return recovered, nil
}
func (launcher) Stats(context.Context, *launchv1.StepRef) (*launchv1.StatsReply, error) {
	return statistics, nil
}
func (launcher) Forget(context.Context, *launchv1.StepRef) error {
	return errs.Newf("x", errs.NotFound, "no such step")
}

func talkLaunch(t *testing.T, ctx context.Context, p peer) {
	l := launch.NewClient(p)
	r, err := l.Recover(ctx, "/spool")
	same(t, "the recovered steps", r, recovered, err)
	a, err := l.Launch(ctx, work)
	same(t, "the launch", a, launched, err)
	if err := l.Signal(ctx, &launchv1.SignalRequest{Step: step, Signal: 15, BatchShellOnly: true, Notice: "cancelled"}); err != nil {
		t.Error(err)
	}
	s, err := l.Stats(ctx, step)
	same(t, "the statistics", s, statistics, err)
	n := 0
	err = l.Watch(ctx, func(h *launchv1.Happening) error {
		if h.GetBody() == nil {
			return nil
		}
		same(t, "a happening", h, happenings[n], nil)
		n++
		return nil
	})
	if n != len(happenings) || errs.KindOf(err) != errs.Unavail {
		t.Errorf("%d happenings, then %v", n, err)
	}
	if err := l.Forget(ctx, step); errs.KindOf(err) != errs.NotFound {
		t.Errorf("an error: %v", err)
	}
}

// The newest version that both speak is the one that is spoken.
func TestNegotiation(t *testing.T) {
	for _, tc := range []struct {
		plugin, host []uint32
		want         uint32
		refused      string
	}{
		{[]uint32{1}, []uint32{1}, 1, ""},
		{[]uint32{1}, []uint32{3, 2, 1}, 1, ""},
		{[]uint32{1, 2, 3}, []uint32{2, 1}, 2, ""},
		{[]uint32{4, 5}, []uint32{3, 2}, 0, "speaks versions [4 5] of its contract, this daemon speaks [3 2]"},
		{[]uint32{1, 7}, nil, 7, ""},
		{nil, []uint32{1}, 0, "speaks versions [] of its contract"},
	} {
		m := &pluginv1.ManifestReply{Served: []*pluginv1.Served{{Kind: "other", Contracts: []uint32{9}}, {Kind: "sched", Contracts: tc.plugin}}}
		got, err := chooseContract(m, Spec{Kind: "sched", Name: "x", Contracts: tc.host})
		if got != tc.want || (err == nil) != (tc.refused == "") || err != nil && !strings.Contains(err.Error(), tc.refused) {
			t.Errorf("plugin %v, host %v: version %d, error %v; want %d, %q", tc.plugin, tc.host, got, err, tc.want, tc.refused)
		}
	}
}
