package rpc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-hpc/sluice/conf"
	"github.com/sluice-hpc/sluice/core/auth"
	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/core/rpc"
	"github.com/sluice-hpc/sluice/core/view"
	"github.com/sluice-hpc/sluice/sdk/client"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/jobsubmit"
	"github.com/sluice-hpc/sluice/sdk/proto/acctstore/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/wlm/v1"
	"github.com/sluice-hpc/sluice/sdk/wire"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

const script = "#!/bin/sh\nhostname\n"

// loop applies commands at once, under a lock.
type loop struct {
	mu   sync.Mutex
	c    *cluster.Cluster
	view *view.View
	now  wlm.Time
	fail error // of every Do; or
	bug  string
}

func (l *loop) Do(_ context.Context, cmd cluster.Command) (any, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bug != "" {
		panic(l.bug)
	}
	if l.fail != nil {
		return nil, l.fail
	}
	r, err := l.c.Apply(cmd, l.now)
	l.view.Publish(l.c.TakeTurn())
	return r, err
}

func (l *loop) set(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// site is a served controller.
type site struct {
	*loop
	srv  *rpc.Server
	addr string
	key  auth.Key
}

func serve(t testing.TB, change func(*rpc.Deps)) *site {
	t.Helper()
	key, err := auth.NewKey(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	settings := cluster.Settings{Cluster: "c", MaxArraySize: 1001, MinJobAge: 300, MaxScriptBytes: 1000, JobRequeue: true}
	s := &site{loop: &loop{c: cluster.New(settings), view: view.New(), now: 1000}, key: key}
	part := wlm.Partition{Name: "p", Default: true, MaxTime: wlm.Unlimited, MaxNodes: wlm.Unset, MaxCPUsPerNode: wlm.Unset,
		MaxCPUsPerSock: wlm.Unset, OverTimeLimit: wlm.Unset, Nodes: "n1", NodeNames: []wlm.NodeName{"n1"}}
	node := wlm.Node{Name: "n1", Hostname: "n1", Addr: "10.0.0.1", Port: 6818, CPUs: 8, Boards: 1, Sockets: 1, CoresPerSocket: 8, ThreadsPerCore: 1, RealMemory: 1000}
	s.must(t, &cluster.Configure{Settings: settings, Nodes: []wlm.Node{node}, Partitions: []wlm.Partition{part}})
	s.must(t, &cluster.Register{Node: "n1", Msg: &nodev1.Register{Cpus: 8, Sockets: 1, CoresPerSocket: 8, ThreadsPerCore: 1, RealMemory: 1000}})
	d := rpc.Deps{Gate: auth.NewGate(key, "c", 64030), Key: key, Cluster: "c", Version: "slurm x", Loop: s.loop, View: s.view}
	if change != nil {
		change(&d)
	}
	s.srv = rpc.New(d)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	g := s.srv.GRPC()
	done := make(chan error, 1)
	go func() { done <- s.srv.Serve(g, l) }()
	t.Cleanup(func() {
		g.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *site) must(t testing.TB, cmd cluster.Command) any {
	t.Helper()
	r, err := s.Do(t.Context(), cmd)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// as returns a client whose token has these claims.
func (s *site) as(t testing.TB, c auth.Claims) *client.Client {
	t.Helper()
	if c.Cluster == "" {
		c.Cluster = "c"
	}
	tok, err := s.key.Mint(c, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return s.with(t, tok)
}

func (s *site) with(t testing.TB, token string) *client.Client {
	t.Helper()
	c, err := client.Open(t.Context(), client.Target{Cluster: "c", Controllers: []string{s.addr}, Timeout: 5 * time.Second}, client.WithToken(token))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

var (
	ann  = auth.Claims{User: "ann", UID: 1000, GID: 1000, GIDs: []wlm.GID{50}}
	bob  = auth.Claims{User: "bob", UID: 1001, GID: 1001}
	root = auth.Claims{User: "root", UID: 0}
)

func request(uid uint32) *ctlv1.SubmitRequest {
	return &ctlv1.SubmitRequest{Script: []byte(script), Env: []string{"A=1", "B=x y"}, Spec: &wlmv1.Spec{
		Name: "job", User: uid, UserName: "mallory", MinNodes: 1, Ntasks: 1, CpusPerTask: 1, Priority: wlm.Unset, CoreSpec: wlm.Unset, TimeLimit: 10}}
}

func (s *site) submit(t testing.TB, who auth.Claims, change func(*ctlv1.SubmitRequest)) wlm.JobID {
	t.Helper()
	r := request(uint32(who.UID))
	if change != nil {
		change(r)
	}
	reply, err := s.as(t, who).Controller.Submit(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return wlm.JobID(reply.GetJobId())
}

func (s *site) start(t testing.TB, id wlm.JobID, cpu int) {
	t.Helper()
	r := s.must(t, &cluster.Start{Placements: []cluster.Placement{{Job: id, Partition: "p", Scheduler: "Main",
		Nodes: []wlm.NodeAlloc{{Node: "n1", CPUs: wlm.CPUSet{1 << cpu}}}}}}).(*cluster.StartReply)
	if len(r.Started) != 1 {
		t.Fatalf("refused: %v", r.Refused)
	}
}

func (s *site) end(t testing.TB, id wlm.JobID) {
	t.Helper()
	step := &wlm.Step{Job: id, ID: wlm.StepBatch, State: wlm.Completed}
	s.must(t, &cluster.Reports{Node: "n1", Reports: []*nodev1.Report{{Body: &nodev1.Report_StepEnded{
		StepEnded: &nodev1.StepEnded{Step: wire.StepToWire(step), Clean: true}}}}})
}

func list(t testing.TB, c *client.Client, r *ctlv1.JobsRequest) (out []*ctlv1.JobInfo, err error) {
	t.Helper()
	stream, err := c.Controller.Jobs(t.Context(), r)
	for err == nil {
		var m *ctlv1.JobsReply
		if m, err = stream.Recv(); err == nil {
			out = append(out, m.GetJobs()...)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return out, err
}

func refs(ids ...wlm.JobID) *ctlv1.JobFilter {
	f := &ctlv1.JobFilter{}
	for _, id := range ids {
		f.Refs = append(f.Refs, &ctlv1.JobRef{Job: uint32(id)})
	}
	return f
}

func TestTokens(t *testing.T) {
	s := serve(t, nil)
	other, _ := auth.NewKey(bytes.Repeat([]byte{8}, 32))
	claims := ann
	claims.Cluster = "c"
	forged, _ := other.Mint(claims, time.Minute)
	good, _ := s.key.Mint(claims, time.Minute)
	brief, _ := s.key.Mint(claims, time.Nanosecond)
	claims.Cluster = "d"
	foreign, _ := s.key.Mint(claims, time.Minute)
	for _, tt := range []struct{ name, token, want string }{
		{"good", good, ""},
		{"other key", forged, "not signed"},
		{"expired", brief, "expired"},
		{"wrong cluster", foreign, `cluster "d"`},
		{"garbage", "x.y.z", "not signed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := s.with(t, tt.token).Controller.Ping(t.Context(), &ctlv1.PingRequest{})
			if tt.want == "" && err == nil {
				return
			}
			if tt.want == "" || errs.CodeOf(err) != errs.InvalidAuth || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one about %q", err, tt.want)
			}
			if _, err := list(t, s.with(t, tt.token), &ctlv1.JobsRequest{}); errs.CodeOf(err) != errs.InvalidAuth {
				t.Errorf("stream: error %v", err)
			}
		})
	}
}

func TestSubmit(t *testing.T) {
	s := serve(t, nil)
	id := s.submit(t, ann, nil)
	j := s.view.Job(id)
	if j.Spec.User != 1000 || j.Spec.UserName != "ann" || j.Spec.Group != 1000 || j.Spec.GroupName == "" {
		t.Errorf("identity %d %s %d %s", j.Spec.User, j.Spec.UserName, j.Spec.Group, j.Spec.GroupName)
	}
	if got := s.view.Blob(j.Env); string(got) != "A=1\x00B=x y\x00" {
		t.Errorf("environment %q", got)
	}
	if got := s.view.Blob(j.Script); string(got) != script {
		t.Errorf("script %q", got)
	}
	if id := s.submit(t, ann, func(r *ctlv1.SubmitRequest) { r.Spec.Group = 50 }); s.view.Job(id).Spec.Group != 50 {
		t.Error("a group of the token was not kept")
	}
	key := func(r *ctlv1.SubmitRequest) { r.Key = "k" }
	if a, b := s.submit(t, ann, key), s.submit(t, ann, key); a != b {
		t.Errorf("one key, two jobs: %d and %d", a, b)
	} else if c := s.submit(t, bob, key); c == a {
		t.Error("two users share a key")
	}
	reply, err := s.as(t, ann).Controller.Submit(t.Context(), func() *ctlv1.SubmitRequest {
		r := request(1000)
		r.Spec.Kind, r.Script = uint32(wlm.KindAlloc), nil
		return r
	}())
	if err != nil || reply.GetJob().GetJob().GetId() != reply.GetJobId() {
		t.Errorf("allocation: %v, error %v", reply, err)
	}
	before := s.view.Counts().Jobs
	test := request(1000)
	test.TestOnly = true
	if r, err := s.as(t, ann).Controller.Submit(t.Context(), test); err != nil || r.GetForecast().GetPartition() != "p" || s.view.Counts().Jobs != before {
		t.Errorf("test only: %v, error %v", r, err)
	}
	if id := s.submit(t, root, func(r *ctlv1.SubmitRequest) { r.Spec.User = uint32(os.Getuid()) }); s.view.Job(id).Spec.User != wlm.UID(os.Getuid()) {
		t.Error("root could not submit for another")
	}
}

func TestSubmitRefusals(t *testing.T) {
	s := serve(t, nil)
	tests := []struct {
		name   string
		change func(*ctlv1.SubmitRequest)
		code   errs.Code
		want   string
	}{
		{"no spec", func(r *ctlv1.SubmitRequest) { r.Spec = nil }, 0, "no job"},
		{"another user", func(r *ctlv1.SubmitRequest) { r.Spec.User = 0 }, errs.UserIDMissing, "--uid=0"},
		{"a group not hers", func(r *ctlv1.SubmitRequest) { r.Spec.Group = 77 }, errs.AccessDenied, "--gid=77"},
		{"no script", func(r *ctlv1.SubmitRequest) { r.Script = nil }, errs.JobScriptMissing, "Batch script is empty!"},
		{"no interpreter", func(r *ctlv1.SubmitRequest) { r.Script = []byte("echo hi\n") }, errs.SubmitRefused, "line must start with #!"},
		{"DOS", func(r *ctlv1.SubmitRequest) { r.Script = []byte("#!/bin/sh\r\n") }, errs.SubmitRefused, "DOS line breaks"},
		{"zero byte", func(r *ctlv1.SubmitRequest) { r.Script = []byte("#!/bin/sh\n\x00") }, errs.SubmitRefused, "NULL"},
		{"large script", func(r *ctlv1.SubmitRequest) { r.Script = append(r.Script, bytes.Repeat([]byte{'x'}, 1000)...) }, errs.ScriptTooLarge, "1019 bytes"},
		{"bad environment", func(r *ctlv1.SubmitRequest) { r.Env = []string{"novalue"} }, 0, "novalue"},
		{"long key", func(r *ctlv1.SubmitRequest) { r.Key = strings.Repeat("k", 300) }, 0, "300 bytes"},
		{"unknown partition", func(r *ctlv1.SubmitRequest) { r.Spec.Partitions = []string{"q"} }, errs.InvalidPartition, "q"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := request(1000)
			tt.change(r)
			_, err := s.as(t, ann).Controller.Submit(t.Context(), r)
			if err == nil || errs.CodeOf(err) != tt.code || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v (code %d), want %d and %q", err, errs.CodeOf(err), tt.code, tt.want)
			}
		})
	}
	if n := s.view.Counts().Jobs; n != 0 {
		t.Errorf("%d jobs were made", n)
	}
}

// filter is a job_submit plugin of functions.
type filter struct {
	submit func(context.Context, *jobsubmit.Request) ([]string, error)
	modify func(context.Context, *jobsubmit.Request) ([]string, error)
}

func (f filter) Submit(ctx context.Context, r *jobsubmit.Request) ([]string, error) {
	return f.submit(ctx, r)
}
func (f filter) Modify(ctx context.Context, r *jobsubmit.Request) ([]string, error) {
	return f.modify(ctx, r)
}

func TestFilters(t *testing.T) {
	var mu sync.Mutex
	var f filter
	var accept bool
	set := func(x filter) { mu.Lock(); f = x; mu.Unlock() }
	s := serve(t, func(d *rpc.Deps) {
		d.FilterTimeout = 20 * time.Millisecond
		d.Filters = func() []rpc.Filter {
			mu.Lock()
			defer mu.Unlock()
			first := filter{submit: func(_ context.Context, r *jobsubmit.Request) ([]string, error) {
				r.Spec.Comment = "first"
				return []string{"one"}, nil
			}, modify: func(context.Context, *jobsubmit.Request) ([]string, error) { return nil, nil }}
			return []rpc.Filter{{Name: "first", Filter: first}, {Name: "second", Filter: f, Accept: accept}}
		}
	})
	c := s.as(t, ann)
	set(filter{submit: func(_ context.Context, r *jobsubmit.Request) ([]string, error) {
		r.Spec.Comment += " second"
		r.Spec.User, r.Spec.UserName = 0, "root"
		return []string{"two"}, nil
	}})
	reply, err := c.Controller.Submit(t.Context(), request(1000))
	if err != nil || !slices.Equal(reply.GetMessages(), []string{"one", "two"}) {
		t.Fatalf("reply %v, error %v", reply, err)
	}
	id := wlm.JobID(reply.GetJobId())
	if j := s.view.Job(id); j.Spec.Comment != "first second" || j.Spec.User != 1000 || j.Spec.UserName != "ann" {
		t.Errorf("comment %q, user %d %s", j.Spec.Comment, j.Spec.User, j.Spec.UserName)
	}
	set(filter{submit: func(context.Context, *jobsubmit.Request) ([]string, error) {
		return nil, errs.Coded("job_submit", errs.InvalidTimeLimit, "say --time")
	}})
	if _, err := c.Controller.Submit(t.Context(), request(1000)); errs.CodeOf(err) != errs.InvalidTimeLimit || !strings.Contains(err.Error(), "one: say --time") {
		t.Errorf("error %v", err)
	}
	set(filter{submit: func(ctx context.Context, _ *jobsubmit.Request) ([]string, error) {
		<-ctx.Done() // it hangs: the user is told, and not made to try again
		return nil, ctx.Err()
	}})
	if _, err := c.Controller.Submit(t.Context(), request(1000)); errs.CodeOf(err) != errs.SubmitRefused ||
		!strings.Contains(err.Error(), "job_submit/second gave no answer within 20ms") {
		t.Errorf("error %v", err)
	}
	set(filter{submit: func(context.Context, *jobsubmit.Request) ([]string, error) { // it has a deadline of its own
		return nil, errs.Newf("lua", errs.Deadline, "the script did not decide within 1ms")
	}})
	if _, err := c.Controller.Submit(t.Context(), request(1000)); errs.CodeOf(err) != errs.SubmitRefused ||
		!strings.Contains(err.Error(), "job_submit/second gave no answer: the script did not decide within 1ms") {
		t.Errorf("error %v", err)
	}
	accept = true
	r := request(1000)
	r.Spec.Comment = "mine"
	if reply, err = c.Controller.Submit(t.Context(), r); err != nil {
		t.Errorf("with on_failure=accept: %v", err)
	} else if j := s.view.Job(wlm.JobID(reply.GetJobId())); j.Spec.Comment != "first" {
		t.Errorf("with on_failure=accept: comment %q", j.Spec.Comment)
	}
	accept = false
	calls := 0
	set(filter{submit: func(context.Context, *jobsubmit.Request) ([]string, error) {
		if calls++; calls == 1 { // its process ends, and another serves
			return nil, errs.Newf("plugin.Call", errs.Unavail, "the plugin has ended")
		}
		return nil, nil
	}})
	if _, err := c.Controller.Submit(t.Context(), request(1000)); err != nil || calls != 2 {
		t.Errorf("%d calls, error %v", calls, err)
	}
	set(filter{modify: func(_ context.Context, r *jobsubmit.Request) ([]string, error) {
		if r.Current.ID != id || r.Changes["timelimit"] != "20" {
			return nil, fmt.Errorf("current %d, changes %v", r.Current.ID, r.Changes)
		}
		r.Changes["timelimit"] = "5"
		return []string{"less"}, nil
	}})
	up, err := c.Controller.UpdateJob(t.Context(), &ctlv1.UpdateJobRequest{Filter: refs(id), Set: map[string]string{"timelimit": "20"}})
	if err != nil || up.GetMatched() != 1 || !slices.Equal(up.GetMessages(), []string{"less"}) || s.view.Job(id).TimeLimit != 5 {
		t.Errorf("reply %v, error %v, limit %d", up, err, s.view.Job(id).TimeLimit)
	}
}

func TestReads(t *testing.T) {
	s := serve(t, nil)
	id, other := s.submit(t, ann, nil), s.submit(t, bob, nil)
	s.start(t, id, 0)
	c := s.as(t, ann)
	lean, err := list(t, c, &ctlv1.JobsRequest{})
	if err != nil || len(lean) != 2 || lean[0].GetNodelist() != "n1" || lean[0].GetAddrs() != nil {
		t.Errorf("jobs %v, error %v", lean, err)
	}
	whole, err := list(t, c, &ctlv1.JobsRequest{WithSpec: true, Filter: refs(id)})
	if err != nil || len(whole) != 1 || len(whole[0].GetAddrs()) != 1 || whole[0].GetAddrs()[0].GetAddr() != "10.0.0.1:6818" {
		t.Errorf("jobs %v, error %v", whole, err)
	}
	if others, err := list(t, s.as(t, bob), &ctlv1.JobsRequest{WithSpec: true, Filter: refs(id)}); err != nil || len(others[0].GetAddrs()) != 0 {
		t.Errorf("a stranger sees %v, error %v", others, err)
	}
	if _, err := list(t, c, &ctlv1.JobsRequest{Filter: refs(99), MustExist: true}); errs.CodeOf(err) != errs.InvalidJobID || !strings.Contains(err.Error(), "99") {
		t.Errorf("error %v", err)
	}
	if none, err := list(t, c, &ctlv1.JobsRequest{Filter: refs(99)}); err != nil || len(none) != 0 {
		t.Errorf("jobs %v, error %v", none, err)
	}
	if _, err := list(t, c, &ctlv1.JobsRequest{Filter: &ctlv1.JobFilter{Nodes: []string{"n["}}}); errs.CodeOf(err) != errs.InvalidNodeName {
		t.Errorf("error %v", err)
	}
	if r, err := c.Controller.Script(t.Context(), &ctlv1.ScriptRequest{Job: uint32(id)}); err != nil || string(r.GetScript()) != script {
		t.Errorf("script %v, error %v", r, err)
	}
	for job, code := range map[wlm.JobID]errs.Code{other: errs.AccessDenied, 99: errs.InvalidJobID} {
		if _, err := c.Controller.Script(t.Context(), &ctlv1.ScriptRequest{Job: uint32(job)}); errs.CodeOf(err) != code {
			t.Errorf("script of %d: error %v", job, err)
		}
	}
	if r, err := s.as(t, root).Controller.Script(t.Context(), &ctlv1.ScriptRequest{Job: uint32(id)}); err != nil || len(r.GetScript()) == 0 {
		t.Errorf("root: error %v", err)
	}
	nodes, err := c.Controller.Nodes(t.Context(), &ctlv1.NodesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := nodes.Recv(); err != nil || len(r.GetNodes()) != 1 || r.GetNodes()[0].GetAllocCpus() != 1 || r.GetNow() == 0 {
		t.Errorf("nodes %v, error %v", r, err)
	}
	if r, err := c.Controller.Partitions(t.Context(), &ctlv1.PartitionsRequest{}); err != nil || r.GetPartitions()[0].GetTotalCpus() != 8 {
		t.Errorf("partitions %v, error %v", r, err)
	}
	s.must(t, &cluster.Reports{Node: "n1", Reports: []*nodev1.Report{{Body: &nodev1.Report_StepStarted{
		StepStarted: &nodev1.StepStarted{Step: wire.StepToWire(&wlm.Step{Job: id, Name: "x"})}}}}})
	if r, err := c.Controller.Steps(t.Context(), &ctlv1.StepsRequest{}); err != nil || len(r.GetSteps()) != 1 || r.GetJobs()[0].GetJob().GetId() != uint32(id) {
		t.Errorf("steps %v, error %v", r, err)
	}
	s.view.SetOutlooks(map[wlm.JobID]*wlm.Outlook{other: {Reason: wlm.WaitResources, Start: 4000, Nodes: "n1", Text: "needs a CPU"}})
	if r, err := c.Controller.Forecast(t.Context(), &ctlv1.ForecastRequest{Filter: refs(other)}); err != nil || r.GetStart() != 4000 || r.GetText() != "needs a CPU" {
		t.Errorf("forecast %v, error %v", r, err)
	}
	d, err := c.Controller.Diag(t.Context(), &ctlv1.DiagRequest{})
	if err != nil || d.GetCounters()["rpc_calls:Submit"] != 2 || d.GetCounters()["jobs"] != 2 || d.GetCounters()["rpc_failed:Script"] != 2 {
		t.Errorf("diag %v, error %v", d, err)
	}
}

func TestChanges(t *testing.T) {
	s := serve(t, nil)
	id, other := s.submit(t, ann, nil), s.submit(t, bob, nil)
	c := s.as(t, ann)
	for _, r := range []*ctlv1.SignalRequest{{}, {Filter: &ctlv1.JobFilter{AllStates: true}}, {Filter: refs(id), Signal: 65}} {
		if _, err := c.Controller.Signal(t.Context(), r); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%v: error %v", r, err)
		}
	}
	r, err := c.Controller.Signal(t.Context(), &ctlv1.SignalRequest{Filter: refs(id, other, 99)})
	if err != nil || r.GetMatched() != 1 || len(r.GetResults()) != 2 {
		t.Fatalf("reply %v, error %v", r, err)
	}
	for _, f := range r.GetResults() {
		want := map[uint32]errs.Code{uint32(other): errs.AccessDenied, 99: errs.InvalidJobID}[f.GetRef().GetJob()]
		if errs.Code(f.GetCode()) != want || f.GetText() != want.String() {
			t.Errorf("result %v, want %d", f, want)
		}
	}
	if j := s.view.Job(id); j.State != wlm.Cancelled || j.KilledBy != 1000 {
		t.Errorf("state %v by %d", j.State, j.KilledBy)
	}
	if _, err := c.Controller.UpdateJob(t.Context(), &ctlv1.UpdateJobRequest{Verb: ctlv1.UpdateJobRequest_HOLD}); errs.KindOf(err) != errs.Invalid {
		t.Errorf("error %v", err)
	}
	h, err := s.as(t, bob).Controller.UpdateJob(t.Context(), &ctlv1.UpdateJobRequest{Filter: refs(other), Verb: ctlv1.UpdateJobRequest_HOLD})
	if err != nil || h.GetMatched() != 1 || !s.view.Job(other).Held {
		t.Errorf("reply %v, error %v", h, err)
	}
	alloc := s.submit(t, ann, func(r *ctlv1.SubmitRequest) { r.Spec.Kind = uint32(wlm.KindAlloc) })
	s.start(t, alloc, 0)
	if _, err := s.as(t, bob).Controller.Complete(t.Context(), &ctlv1.CompleteRequest{Job: uint32(alloc)}); errs.CodeOf(err) != errs.AccessDenied {
		t.Errorf("error %v", err)
	}
	if _, err := c.Controller.Complete(t.Context(), &ctlv1.CompleteRequest{Job: uint32(alloc), Status: 256}); err != nil || s.view.Job(alloc).State != wlm.Failed {
		t.Errorf("error %v, state %v", err, s.view.Job(alloc).State)
	}
	drain := &ctlv1.UpdateNodeRequest{Nodes: "n1", Set: map[string]string{"state": "DRAIN", "reason": "x"}}
	if _, err := s.as(t, root).Controller.UpdateNode(t.Context(), drain); err != nil || s.view.Node("n1").Flags&wlm.NodeDrain == 0 {
		t.Errorf("error %v", err)
	}
	if _, err := s.as(t, root).Controller.UpdatePartition(t.Context(), &ctlv1.UpdatePartitionRequest{Name: "p", Set: map[string]string{"state": "DOWN"}}); err != nil {
		t.Errorf("error %v", err)
	}
}

// Every call that is not for all refuses a user, names itself, and lets those
// in who may.
func TestRolesAreHeld(t *testing.T) {
	ran := map[string]bool{}
	s := serve(t, func(d *rpc.Deps) {
		d.Reconfigure = func(context.Context, bool) ([]string, []string, error) {
			ran["Reconfigure"] = true
			return nil, nil, nil
		}
		d.Shutdown = func(context.Context, bool) error { ran["Shutdown"] = true; return nil }
		d.SetDebug = func(string, string) error { ran["SetDebug"] = true; return nil }
	})
	calls := map[string]func(ctlv1.ControllerClient, context.Context) error{
		"UpdateNode": func(c ctlv1.ControllerClient, x context.Context) error {
			_, err := c.UpdateNode(x, &ctlv1.UpdateNodeRequest{})
			return err
		},
		"UpdatePartition": func(c ctlv1.ControllerClient, x context.Context) error {
			_, err := c.UpdatePartition(x, &ctlv1.UpdatePartitionRequest{})
			return err
		},
		"Reconfigure": func(c ctlv1.ControllerClient, x context.Context) error {
			_, err := c.Reconfigure(x, &ctlv1.ReconfigureRequest{})
			return err
		},
		"Shutdown": func(c ctlv1.ControllerClient, x context.Context) error {
			_, err := c.Shutdown(x, &ctlv1.ShutdownRequest{})
			return err
		},
		"SetDebug": func(c ctlv1.ControllerClient, x context.Context) error {
			_, err := c.SetDebug(x, &ctlv1.SetDebugRequest{})
			return err
		},
		"Diag": func(c ctlv1.ControllerClient, x context.Context) error {
			_, err := c.Diag(x, &ctlv1.DiagRequest{Reset_: true})
			return err
		},
		"Token": func(c ctlv1.ControllerClient, x context.Context) error {
			_, err := c.Token(x, &ctlv1.TokenRequest{User: "root"})
			return err
		},
	}
	user, op, admin := s.as(t, ann), s.as(t, auth.Claims{User: "o", UID: 7, Role: "operator"}), s.as(t, root)
	for name, call := range calls {
		if err := call(user.Controller, t.Context()); errs.CodeOf(err) != errs.AccessDenied || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: a user got %v", name, err)
		}
		if err := call(admin.Controller, t.Context()); errs.CodeOf(err) == errs.AccessDenied {
			t.Errorf("%s: root got %v", name, err)
		}
		denied := errs.CodeOf(call(op.Controller, t.Context())) == errs.AccessDenied
		if may := name == "UpdateNode" || name == "UpdatePartition" || name == "Diag"; may == denied {
			t.Errorf("%s: an operator was refused: %v", name, denied)
		}
	}
	if len(ran) != 3 {
		t.Errorf("ran %v", ran)
	}
	for _, user := range []string{"", "ann"} {
		r, err := s.as(t, ann).Controller.Token(t.Context(), &ctlv1.TokenRequest{User: user, Lifespan: 60})
		if err != nil {
			t.Fatal(err)
		}
		if c, err := s.key.Verify(r.GetToken(), "c", time.Now()); err != nil || c.UID != 1000 || c.Expires > time.Now().Unix()+61 {
			t.Errorf("claims %+v, error %v", c, err)
		}
	}
}

func TestConfig(t *testing.T) {
	path := filepath.Join(t.TempDir(), "slurm.conf")
	if err := os.WriteFile(path, []byte("ClusterName=c\nSlurmctldHost=h\nNodeName=n1\nPartitionName=p Nodes=n1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cf, _, err := conf.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, func(d *rpc.Deps) { d.Conf = func() *conf.Config { return cf } })
	r, err := s.as(t, ann).Controller.Config(t.Context(), &ctlv1.ConfigRequest{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, v := range r.GetValues() {
		got[v.GetKey()] = v.GetValue()
	}
	if got["ClusterName"] != "c" || got["SLURM_VERSION"] != "slurm x" || got["NEXT_JOB_ID"] != "1" || got["BOOT_TIME"] == "" {
		t.Errorf("values %v", got)
	}
}

func TestWatchJob(t *testing.T) {
	s := serve(t, nil)
	id := s.submit(t, ann, nil)
	c := s.as(t, ann)
	var states []wlm.JobState
	err := c.WatchJob(t.Context(), &ctlv1.WatchJobRequest{Job: uint32(id)}, func(i *ctlv1.JobInfo) error {
		st := wlm.JobState(i.GetJob().GetState())
		states = append(states, st)
		switch st {
		case wlm.Pending:
			s.start(t, id, 0)
		case wlm.Running:
			if len(i.GetAddrs()) != 1 {
				t.Errorf("addresses %v", i.GetAddrs())
			}
			s.end(t, id)
		}
		return nil
	})
	if err != nil || !slices.Equal(states, []wlm.JobState{wlm.Pending, wlm.Running, wlm.Completed}) {
		t.Errorf("states %v, error %v", states, err)
	}
	second := s.submit(t, ann, nil)
	n := 0
	err = c.WatchJob(t.Context(), &ctlv1.WatchJobRequest{Job: uint32(second), UntilStarted: true}, func(*ctlv1.JobInfo) error {
		if n++; n == 1 {
			s.start(t, second, 0)
		}
		return nil
	})
	if err != nil || n != 2 {
		t.Errorf("%d states, error %v", n, err)
	}
	err = c.WatchJob(t.Context(), &ctlv1.WatchJobRequest{Job: 99}, func(*ctlv1.JobInfo) error { return nil })
	if errs.CodeOf(err) != errs.InvalidJobID {
		t.Errorf("error %v", err)
	}
}

func TestWatch(t *testing.T) {
	s := serve(t, nil)
	id := s.submit(t, ann, nil)
	jobs, started := 0, false
	err := s.as(t, ann).Watch(t.Context(), &ctlv1.WatchRequest{Snapshot: true, Kinds: []eventv1.Kind{eventv1.Kind_JOB_STARTED}}, func(r *ctlv1.WatchReply) error {
		jobs += len(r.GetJobs())
		if r.GetSnapshotDone() {
			s.submit(t, ann, nil)
			s.start(t, id, 0)
		}
		if e := r.GetEvent(); e != nil {
			started = e.GetKind() == eventv1.Kind_JOB_STARTED && e.GetJob().GetId() == uint32(id)
			return client.ErrStop
		}
		return nil
	})
	if err != nil || jobs != 1 || !started {
		t.Errorf("%d jobs, started %v, error %v", jobs, started, err)
	}
}

// A watcher that does not read delays nobody, and is told to start over.
func TestSlowWatcher(t *testing.T) {
	s := serve(t, nil)
	id := s.submit(t, ann, func(r *ctlv1.SubmitRequest) { r.Spec.Comment = strings.Repeat("x", 4000) })
	stream, err := s.as(t, ann).Controller.Watch(t.Context(), &ctlv1.WatchRequest{Snapshot: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	e := []*cluster.Event{{Kind: eventv1.Kind_JOB_CHANGED, Job: s.view.Job(id)}}
	for range 20_000 {
		s.view.Publish(e)
	}
	for done := 0; done < 2; {
		r, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if r.GetSnapshotDone() {
			done++
		}
	}
}

func TestFailuresOfTheLoop(t *testing.T) {
	s := serve(t, nil)
	c := s.as(t, ann)
	s.set(func() { s.fail = errs.Coded("ctl", errs.StateSaveFull) })
	if _, err := c.Controller.Submit(t.Context(), request(1000)); errs.CodeOf(err) != errs.StateSaveFull || errs.KindOf(err) != errs.Exhausted {
		t.Errorf("error %v", err)
	}
	s.set(func() { s.fail, s.bug = nil, "out of order" })
	if _, err := c.Controller.Submit(t.Context(), request(1000)); errs.KindOf(err) != errs.Internal || strings.Contains(err.Error(), "out of order") {
		t.Errorf("error %v", err)
	}
	s.set(func() { s.bug = "" })
	d, err := c.Controller.Diag(t.Context(), &ctlv1.DiagRequest{})
	if err != nil || d.GetCounters()["rpc_panics"] != 1 {
		t.Errorf("diag %v, error %v", d, err)
	}
}

func TestStandby(t *testing.T) {
	s := serve(t, func(d *rpc.Deps) {
		d.Standby = func() error { return errs.Coded("ctl", errs.StandbyMode) }
		d.Mode = func() string { return "backup" }
	})
	c := s.as(t, ann)
	if r, err := c.Controller.Ping(t.Context(), &ctlv1.PingRequest{}); err != nil || r.GetMode() != "backup" {
		t.Errorf("reply %v, error %v", r, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := c.Controller.Partitions(ctx, &ctlv1.PartitionsRequest{}); err == nil {
		t.Error("a standby controller answered")
	}
}

type store struct{ rows int }

func (s store) Jobs(_ context.Context, q *acctstorev1.Query, yield func(*acctstorev1.JobRow) error) error {
	if q.GetCluster() != "c" || q.GetNow() == 0 {
		return fmt.Errorf("query %v", q)
	}
	for i := range s.rows {
		row := &acctstorev1.JobRow{Job: &wlmv1.Job{Id: uint32(i), Spec: &wlmv1.Spec{SubmitLine: strings.Repeat("x", 500)}}}
		if err := yield(row); err != nil {
			return err
		}
	}
	return nil
}

func TestAccounting(t *testing.T) {
	s := serve(t, func(d *rpc.Deps) { d.Store = store{2000} })
	stream, err := s.as(t, ann).Accounting.Jobs(t.Context(), &acctstorev1.Query{})
	n, messages := 0, 0
	for err == nil {
		var r *acctstorev1.JobsReply
		if r, err = stream.Recv(); err == nil {
			for _, row := range r.GetJobs() {
				if row.GetJob().GetId() != uint32(n) {
					t.Fatalf("row %d is job %d", n, row.GetJob().GetId())
				}
				n++
			}
			messages++
		}
	}
	if !errors.Is(err, io.EOF) || n != 2000 || messages < 2 {
		t.Errorf("%d rows in %d messages, error %v", n, messages, err)
	}
	none := serve(t, nil)
	stream, err = none.as(t, ann).Accounting.Jobs(t.Context(), &acctstorev1.Query{})
	if err == nil {
		_, err = stream.Recv()
	}
	if errs.CodeOf(err) != errs.Disabled {
		t.Errorf("error %v", err)
	}
}

// Garbage closes the connection, is counted, and hurts nobody.
func TestGarbage(t *testing.T) {
	s := serve(t, nil)
	const hello = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	r := rand.New(rand.NewPCG(1, 2))
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	var inputs [][]byte
	for range 50 {
		inputs = append(inputs, noise(1+r.IntN(5000)), append([]byte(hello), noise(r.IntN(5000))...))
	}
	inputs = append(inputs, []byte("GET / HTTP/1.1\r\n\r\n"), []byte(hello[:10]), []byte(hello+"\x00\x00\x00\x04\x00\x00\x00\x00\x00\xff\xff\xff\x01\x05\x00\x00\x00\x01garbage"))
	for i, b := range inputs {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(10 * time.Second)) //nolint:errcheck // a socket always takes a deadline
		c.Write(b)                                      //nolint:errcheck // may be closed already
		c.(*net.TCPConn).CloseWrite()                   //nolint:errcheck // may be closed already
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("input %d: the connection stays open", i)
		}
		c.Close()
	}
	d, err := s.as(t, ann).Controller.Diag(t.Context(), &ctlv1.DiagRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if n := d.GetCounters()["rpc_garbage_connections"]; n != 52 || d.GetCounters()["rpc_panics"] != 0 {
		t.Errorf("%d connections of garbage, want 52; %d panics", n, d.GetCounters()["rpc_panics"])
	}
}

func TestLargeMessageIsRefused(t *testing.T) {
	s := serve(t, nil)
	r := request(1000)
	r.Script = append(r.Script, make([]byte, 17<<20)...)
	if _, err := s.as(t, ann).Controller.Submit(t.Context(), r); errs.KindOf(err) != errs.Exhausted {
		t.Errorf("error %v", err)
	}
}

// A listing of many frames arrives whole.
func TestLargeListing(t *testing.T) {
	s := serve(t, nil)
	const jobs = 20_000
	for i := range jobs {
		sp := wire.SpecOfWire(request(1000).Spec)
		sp.Name = fmt.Sprintf("job%d", i)
		s.must(t, &cluster.Submit{Spec: sp, Script: []byte(script), Caller: cluster.Caller{UID: 1000}})
	}
	c := s.as(t, ann)
	for _, whole := range []bool{false, true, false} {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				got, err := list(t, c, &ctlv1.JobsRequest{WithSpec: whole})
				if err != nil || len(got) != jobs {
					t.Errorf("%d jobs, error %v", len(got), err)
					return
				}
				for i, info := range got {
					if want := fmt.Sprintf("job%d", i); info.GetJob().GetSpec().GetName() != want {
						t.Errorf("job %d is %s", i, info.GetJob().GetSpec().GetName())
						return
					}
				}
			})
		}
		wg.Wait()
	}
}

func BenchmarkSubmit(b *testing.B) {
	for _, conns := range []int{1, 64} {
		b.Run(fmt.Sprintf("connections=%d", conns), func(b *testing.B) {
			s := serve(b, nil)
			clients := make([]*client.Client, conns)
			for i := range clients {
				clients[i] = s.as(b, ann)
			}
			var env []string
			for i := range 40 {
				env = append(env, fmt.Sprintf("VARIABLE_%d=some value of usual length", i))
			}
			b.ResetTimer()
			var wg sync.WaitGroup
			for i, c := range clients {
				wg.Go(func() {
					for n := i; n < b.N; n += conns {
						r := request(1000)
						r.Env = env
						if _, err := c.Controller.Submit(b.Context(), r); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
		})
	}
}

// BenchmarkSubmitBesideLists is what listing loops cost submissions.
func BenchmarkSubmitBesideLists(b *testing.B) {
	for _, lists := range []int{0, 1, 10} {
		b.Run(fmt.Sprintf("lists=%d", lists), func(b *testing.B) {
			s := serve(b, nil)
			for range 100_000 {
				s.must(b, &cluster.Submit{Spec: wire.SpecOfWire(request(1000).Spec), Script: []byte(script), Caller: cluster.Caller{UID: 1000}})
			}
			ctx, cancel := context.WithCancel(b.Context())
			var wg sync.WaitGroup
			var listed atomic.Int64
			for range lists {
				c := s.as(b, ann)
				wg.Go(func() {
					for ctx.Err() == nil {
						stream, err := c.Controller.Jobs(ctx, &ctlv1.JobsRequest{})
						for err == nil {
							_, err = stream.Recv()
						}
						listed.Add(1)
					}
				})
			}
			c := s.as(b, ann)
			b.ResetTimer()
			for range b.N {
				if _, err := c.Controller.Submit(b.Context(), request(1000)); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
			b.ReportMetric(float64(listed.Load())/b.Elapsed().Seconds(), "lists/s")
			cancel()
			wg.Wait()
		})
	}
}
