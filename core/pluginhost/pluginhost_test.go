package pluginhost

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/jobsubmit"
	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"golang.org/x/sys/unix"
)

// programs is a PluginDir with the test plugin under two names of each kind.
var programs string

func TestMain(m *testing.M) {
	if dir := os.Getenv("PLUGINHOST_TEST_HOST"); dir != "" {
		beHost(dir, os.Getenv("PLUGINHOST_TEST_PROGRAMS"))
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "pluginhost")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // for plugins of another user
		panic(err)
	}
	programs = filepath.Join(dir, "libexec")
	first := filepath.Join(programs, "sched_a")
	if out, err := exec.Command("go", "build", "-o", first, "./testdata/plugin").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the test plugin: %v\n%s", err, out)
		return 1
	}
	for _, name := range []string{"sched_b", "job_submit_a"} {
		if err := os.Link(first, filepath.Join(programs, name)); err != nil {
			panic(err)
		}
	}
	return m.Run()
}

// beHost is the process of a host that is killed by a test.
func beHost(dir, programs string) {
	h, err := New(Config{PluginDir: []string{programs}, RunDir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		panic(err)
	}
	p, err := h.Start(context.Background(), Spec{Kind: "sched", Name: "a"})
	if err != nil {
		panic(err)
	}
	fmt.Println(p.Info().GetPid())
	select {}
}

type log struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(b)
}

func (l *log) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.String()
}

func newHost(t testing.TB) (*Host, *log, context.Context) {
	t.Helper()
	dir, err := os.MkdirTemp("", "run")
	if err != nil {
		t.Fatal(err)
	}
	l := new(log)
	h, err := New(Config{PluginDir: []string{"/nonexistent", programs}, RunDir: dir, Cluster: "c", HostName: "here",
		Log: slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(func() {
		h.Close(ctx)
		cancel()
		if left, _ := filepath.Glob(filepath.Join(dir, "*", "*")); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
		os.RemoveAll(dir)
		if t.Failed() {
			t.Logf("log:\n%s", l.text())
		}
	})
	return h, l, ctx
}

func start(t testing.TB, h *Host, ctx context.Context, spec Spec) *Plugin {
	t.Helper()
	p, err := h.Start(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// until waits for a condition that no event tells.
func until(t testing.TB, ctx context.Context, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("gave up waiting until %s", what)
		}
	}
}

func submit(ctx context.Context, p *Plugin, spec wlm.Spec) ([]string, error) {
	return jobsubmit.NewClient(p).Submit(ctx, &jobsubmit.Request{Spec: &spec, Script: []byte("#!/bin/sh")})
}

// feeder is the pass as far as the host sees it.
type feeder struct {
	e    *mirror.Encoder
	all  mirror.Change
	p    *Plugin
	fed  uint64
	plan *sched.Client
}

func newFeeder(p *Plugin, jobs int) *feeder {
	f := &feeder{e: mirror.NewEncoder(), p: p, plan: sched.NewClient(p)}
	f.all = mirror.Change{Rev: 1}
	for id := range jobs {
		f.all.Jobs = append(f.all.Jobs, &mirror.Job{ID: wlm.JobID(id + 1), Ready: true, Priority: uint32(id), Class: f.e.Class(mirror.Class{})})
	}
	f.e.Change(f.all)
	return f
}

func (f *feeder) pass(ctx context.Context, settings map[string]string) (sched.Agenda, error) {
	frames := f.e.Change(mirror.Change{Rev: f.e.Rev() + 1, Settings: settings})
	epoch := f.p.Epoch()
	if epoch != f.fed {
		f.all.Settings = settings
		frames = f.e.Snapshot(f.all)
	}
	if err := f.p.PushState(epoch, frames); err != nil {
		return sched.Agenda{}, err
	}
	f.fed = epoch
	return f.plan.Plan(ctx, f.e.Rev(), 1)
}

func TestCallsOptionsAndLogs(t *testing.T) {
	h, l, ctx := newHost(t)
	p := start(t, h, ctx, Spec{Kind: "job_submit", Name: "a", Options: []Option{{"depth", "9", "slurm.conf:3"}},
		Shared: []Option{{"bf_max", "1", "slurm.conf:4"}, {"pause", "90", "slurm.conf:5"}}})
	r := &jobsubmit.Request{Spec: &wlm.Spec{Name: "log", Comment: "ab"}, Script: []byte("#!/bin/sh\nrest")}
	messages, err := jobsubmit.NewClient(p).Submit(ctx, r)
	if err != nil || r.Spec.Comment != "abab" || strings.Join(messages, "|") != "depth 9|#!/bin/sh\n" {
		t.Errorf("messages %q, comment %q, error %v", messages, r.Spec.Comment, err)
	}
	m := &jobsubmit.Request{Changes: map[string]string{"TimeLimit": "5"}, Current: &wlm.Job{ID: 3, Spec: &wlm.Spec{}}}
	if _, err := jobsubmit.NewClient(p).Modify(ctx, m); err != nil || m.Changes["Seen"] != "yes" || m.Changes["TimeLimit"] != "5" {
		t.Errorf("changes %v, error %v", m.Changes, err)
	}
	messages, err = submit(ctx, p, wlm.Spec{Name: "refuse"})
	if errs.CodeOf(err) != errs.InvalidTimeLimit || !strings.Contains(err.Error(), "give a limit") || len(messages) != 1 {
		t.Errorf("refusal: %v, messages %q", err, messages)
	}
	if _, err = submit(ctx, p, wlm.Spec{Name: "broken"}); err == nil || !strings.Contains(err.Error(), "no idea") {
		t.Errorf("a broken filter: %v", err)
	}
	i := p.Info()
	if i.GetState() != "serving" || i.GetCalls() != 4 || i.GetP50Us() == 0 || i.GetRss() == 0 || len(i.GetSha256()) != 64 || i.GetVersion() != "1.2" ||
		i.GetOptions()[0].GetOrigin() != "slurm.conf:3" || i.GetOptions()[2].GetOrigin() != "default" || i.GetHost() != "here" {
		t.Errorf("info %v", i)
	}
	until(t, ctx, "the log has what the plugin said", func() bool {
		text := l.text()
		return strings.Contains(text, `msg="as told" kind=job_submit plugin=a pid=`) && strings.Contains(text, "g.pause=1m30s") &&
			strings.Contains(text, `line="on stdout"`)
	})
}

func TestPayloadsOfManyFrames(t *testing.T) {
	h, _, ctx := newHost(t)
	p := start(t, h, ctx, Spec{Kind: "job_submit", Name: "a"})
	spec := &wlm.Spec{Comment: strings.Repeat("x", 3<<20)}
	if _, err := jobsubmit.NewClient(p).Submit(ctx, &jobsubmit.Request{Spec: spec, Script: make([]byte, 5<<20)}); err != nil || len(spec.Comment) != 6<<20 {
		t.Errorf("%d bytes came back, error %v", len(spec.Comment), err)
	}
}

func TestRefusedAtStart(t *testing.T) {
	h, _, ctx := newHost(t)
	script := filepath.Join(programs, "sched_script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho hello\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(script) })
	open := filepath.Join(t.TempDir(), "sched_open")
	copyFile(t, filepath.Join(programs, "sched_a"), open)
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	pinned := filepath.Join(t.TempDir(), "sched_pinned")
	copyFile(t, filepath.Join(programs, "sched_a"), pinned)
	lock := strings.Repeat("0", 64) + "  sched_pinned\n"
	if err := os.WriteFile(filepath.Join(filepath.Dir(pinned), lockFile), []byte(lock), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		spec Spec
		says string
	}{
		{"unknown name", Spec{Name: "backfil"}, "which offers for sched: sched/a, sched/b"},
		{"name with a path", Spec{Name: "../a"}, "is no name of a sched plugin"},
		{"unknown option", Spec{Name: "a", Options: []Option{{"depht", "1", "slurm.conf:12"}}}, "slurm.conf:12: unknown option depht, allowed are depth, pause, fail"},
		{"bad value", Spec{Name: "a", Options: []Option{{"depth", "many", "slurm.conf:13"}}}, `slurm.conf:13: option depth: "many" is not a whole number, allowed: 1 to 100`},
		{"out of range", Spec{Name: "a", Shared: []Option{{"depth", "101", "x:1"}}}, "x:1: option depth: 101 is out of range"},
		{"refused by the plugin", Spec{Name: "a", Options: []Option{{"fail", "open", ""}}}, "told to fail"},
		{"ends at the start", Spec{Name: "a", Options: []Option{{"fail", "exit", ""}}}, "ended before it was ready"},
		{"wrong kind", Spec{Kind: "launch", Path: filepath.Join(programs, "sched_a")}, "serves [sched job_submit], not the kind launch"},
		{"other contract", Spec{Name: "a", Contracts: []uint32{8, 9}}, "speaks versions [1] of its contract, this daemon speaks [8 9]"},
		{"no plugin", Spec{Name: "script"}, "sched_script"},
		{"writable", Spec{Path: open}, "writable by everybody"},
		{"not the pinned one", Spec{Path: pinned}, "plugins.lock pins 0000"},
		{"no program", Spec{Path: filepath.Join(filepath.Dir(pinned), lockFile)}, "is not a program"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.spec.Kind == "" {
				tt.spec.Kind = "sched"
			}
			p, err := h.Start(ctx, tt.spec)
			if err == nil {
				p.Close(ctx)
				t.Fatalf("started, want an error with %q", tt.says)
			}
			if !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %q, want %q in it", err, tt.says)
			}
		})
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o755); err != nil {
		t.Fatal(err)
	}
}

// A killed plugin is started again, tells by a new epoch that it needs a
// snapshot, and serves.
func TestKilledPluginServesAgain(t *testing.T) {
	h, _, ctx := newHost(t)
	need := make(chan bool, 9)
	p := start(t, h, ctx, Spec{Kind: "sched", Name: "a", NeedSnapshot: func() { need <- true }})
	f := newFeeder(p, 5000)
	for range 3 {
		<-need
		a, err := f.pass(ctx, nil)
		if err != nil || len(a.Entries) != 5000 || a.Entries[0].Job != 5000 {
			t.Fatalf("%d entries, error %v", len(a.Entries), err)
		}
		if err := syscall.Kill(int(p.Info().GetPid()), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	<-need
	if i := p.Info(); i.GetRestarts() != 3 || i.GetState() != "serving" || !strings.Contains(i.GetLastError(), "killed") {
		t.Errorf("info %v", i)
	}
	if w := h.Warnings(); len(w) != 0 {
		t.Errorf("warnings %q", w)
	}
}

// A panic is the error of its call and ends the process.
func TestPanicIsAnErrorAndARestart(t *testing.T) {
	h, l, ctx := newHost(t)
	p := start(t, h, ctx, Spec{Kind: "job_submit", Name: "a", Wait: true})
	if _, err := submit(ctx, p, wlm.Spec{Name: "panic"}); errs.KindOf(err) != errs.Internal || !strings.Contains(err.Error(), "told to") {
		t.Errorf("panic: %v", err)
	}
	until(t, ctx, "it was restarted", func() bool { return p.Info().GetRestarts() == 1 })
	if _, err := submit(ctx, p, wlm.Spec{}); err != nil { // waits for the restart
		t.Errorf("after the restart: %v", err)
	}
	if !strings.Contains(l.text(), "filter.Submit") {
		t.Error("the log has no stack of the panic")
	}
	if _, err := submit(ctx, p, wlm.Spec{Name: "exit"}); errs.KindOf(err) != errs.Unavail {
		t.Errorf("a call whose process exits: %v", err)
	}
	until(t, ctx, "the exit status is told", func() bool { return strings.Contains(p.Info().GetLastError(), "exit status 3") })
}

// Calls that overrun are abandoned; three in a row end the process, even one
// that does not heed its context.
func TestOverruns(t *testing.T) {
	h, _, ctx := newHost(t)
	p := start(t, h, ctx, Spec{Kind: "sched", Name: "a", Timeout: 200 * time.Millisecond})
	f := newFeeder(p, 10)
	if a, err := f.pass(ctx, map[string]string{"Do": "wait"}); err != nil || len(a.Entries) != 10 {
		t.Errorf("a plan that heeds its deadline: %d entries, error %v", len(a.Entries), err)
	}
	first := p.Info().GetPid()
	for range overrunsInARow {
		if _, err := f.pass(ctx, map[string]string{"Do": "hang"}); errs.KindOf(err) != errs.Deadline {
			t.Fatalf("a plan that hangs: %v", err)
		}
	}
	until(t, ctx, "another process serves", func() bool { i := p.Info(); return i.GetPid() != first && i.GetState() == "serving" })
	if _, err := f.pass(ctx, map[string]string{"Do": ""}); err != nil {
		t.Error(err)
	}
	if i := p.Info(); i.GetOverruns() != overrunsInARow || i.GetMaxUs() < 200000 {
		t.Errorf("info %v", i)
	}
}

// A call that its caller gives up is cancelled in the plugin and is no overrun.
func TestCancelledCall(t *testing.T) {
	h, _, ctx := newHost(t)
	p := start(t, h, ctx, Spec{Kind: "job_submit", Name: "a"})
	short, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		_, err := submit(short, p, wlm.Spec{Name: "wait"})
		done <- err
	}()
	if _, err := submit(ctx, p, wlm.Spec{}); err != nil { // calls run concurrently
		t.Error(err)
	}
	cancel()
	if err := <-done; errs.KindOf(err) != errs.Other {
		t.Errorf("cancelled: %v", err)
	}
	if i := p.Info(); i.GetOverruns() != 0 {
		t.Errorf("info %v", i)
	}
}

func TestFallbackAfterFiveRestarts(t *testing.T) {
	h, l, ctx := newHost(t)
	p := start(t, h, ctx, Spec{Kind: "sched", Name: "a", Fallback: "b", Options: []Option{{"depth", "9", ""}}})
	for n := range giveUpRestarts + 1 {
		if err := p.Await(ctx); err != nil {
			t.Fatal(err)
		}
		until(t, ctx, "it serves again", func() bool { i := p.Info(); return i.GetRestarts() == uint32(n) && i.GetPid() != 0 })
		if i := p.Info(); i.GetState() != "serving" || i.GetName() != "a" {
			t.Fatalf("after %d restarts: %v", n, i)
		}
		if err := syscall.Kill(int(p.Info().GetPid()), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	until(t, ctx, "the fallback serves", func() bool { return p.Info().GetState() == "fallback" })
	if i := p.Info(); i.GetName() != "b" {
		t.Errorf("info %v", i)
	}
	if w := h.Warnings(); len(w) != 1 || !strings.Contains(w[0], "sched/b serves in its place") {
		t.Errorf("warnings %q", w)
	}
	if !strings.Contains(l.text(), "the fallback takes over") {
		t.Error("the log is silent about it")
	}
	if a, err := newFeeder(p, 5).pass(ctx, nil); err != nil || len(a.Entries) != 5 {
		t.Errorf("the fallback's plan: %v, error %v", a, err)
	}
	if err := p.Replace(ctx, Spec{Kind: "sched", Name: "a"}); err != nil {
		t.Fatal(err)
	}
	if i := p.Info(); i.GetState() != "serving" || i.GetName() != "a" {
		t.Errorf("after the reload: %v", i)
	}
}

// Replace changes the program between two calls; when the new one does not
// start, the old one stays.
func TestReplace(t *testing.T) {
	h, _, ctx := newHost(t)
	p := start(t, h, ctx, Spec{Kind: "sched", Name: "a"})
	f := newFeeder(p, 10)
	if _, err := f.pass(ctx, nil); err != nil {
		t.Fatal(err)
	}
	before, epoch := p.Info(), p.Epoch()
	if err := p.Replace(ctx, Spec{Kind: "sched", Name: "nosuch"}); err == nil {
		t.Error("replaced by a plugin that does not exist")
	}
	if i := p.Info(); i.GetPid() != before.GetPid() {
		t.Errorf("after a refused replacement: %v", i)
	}
	if err := p.Replace(ctx, Spec{Kind: "sched", Name: "b"}); err != nil {
		t.Fatal(err)
	}
	if i := p.Info(); i.GetName() != "b" || p.Epoch() == epoch {
		t.Errorf("after the replacement: %v, epoch %d", i, p.Epoch())
	}
	if err := p.PushState(epoch, nil); errs.KindOf(err) != errs.State {
		t.Errorf("state of an old epoch: %v", err)
	}
	if a, err := f.pass(ctx, nil); err != nil || len(a.Entries) != 10 {
		t.Errorf("plan of the new one: %v, error %v", a, err)
	}
}

// When a host is killed its plugins end at once, and the next host removes
// the directory of sockets.
func TestKilledHostLeavesNothing(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "run")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), "PLUGINHOST_TEST_HOST="+dir, "PLUGINHOST_TEST_PROGRAMS="+programs)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscanln(out, &pid); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} { // ignored
		if err := syscall.Kill(pid, sig); err != nil {
			t.Fatal(err)
		}
	}
	other, err := New(Config{RunDir: dir}) // a second host of the directory leaves the first alone
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(ctx)
	if n := sockets(dir); n != 1 {
		t.Fatalf("%d sockets while the host lives, want 1", n)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, out)
	_ = cmd.Wait()
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 30000); n != 1 {
		t.Fatalf("the plugin outlives its killed host (poll: %d, %v)", n, err)
	}
	next, err := New(Config{RunDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close(ctx)
	if n := sockets(dir); n != 0 {
		t.Errorf("%d sockets are left of the killed host", n)
	}
}

func sockets(dir string) int {
	list, _ := filepath.Glob(filepath.Join(dir, "plugins", "host-*", "plugin-dir*", "*"))
	return len(list)
}

func TestClosedPluginsFailTheirCalls(t *testing.T) {
	h, _, ctx := newHost(t)
	p := start(t, h, ctx, Spec{Kind: "job_submit", Name: "a", Wait: true})
	done := make(chan error, 1)
	go func() {
		_, err := submit(ctx, p, wlm.Spec{Name: "wait"})
		done <- err
	}()
	until(t, ctx, "the call runs", func() bool { _, err := submit(ctx, p, wlm.Spec{}); return err == nil })
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	p.Close(short)
	if err := <-done; errs.KindOf(err) != errs.Unavail {
		t.Errorf("a call cut off by Close: %v", err)
	}
	if _, err := submit(ctx, p, wlm.Spec{}); errs.KindOf(err) != errs.Unavail {
		t.Errorf("a call after Close: %v", err)
	}
	if h.Plugin("job_submit") != nil {
		t.Error("the host still knows it")
	}
}

// A plugin of another user serves, and has that user's rights only.
func TestPluginUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may run plugins as another user")
	}
	h, _, ctx := newHost(t)
	if err := os.Chmod(filepath.Dir(filepath.Dir(h.run.path)), 0o755); err != nil { // as a daemon's RunDir is
		t.Fatal(err)
	}
	user, err := LookupUser("nobody")
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, h, ctx, Spec{Kind: "job_submit", Name: "a", User: user})
	if _, err := submit(ctx, p, wlm.Spec{}); err != nil {
		t.Error(err)
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Info().GetPid()))
	if err != nil {
		t.Fatal(err)
	}
	id := fmt.Sprint(user.Uid)
	if want := "Uid:\t" + strings.Join([]string{id, id, id, id}, "\t"); !strings.Contains(string(b), want) {
		t.Errorf("the process has not the uid %s:\n%s", id, b)
	}
	if _, err := LookupUser("no such user"); errs.KindOf(err) != errs.NotFound {
		t.Errorf("an unknown user: %v", err)
	}
}

// The environment of a plugin is its own, and of the host's descriptors it has
// none but the lifeline.
func TestNothingIsInherited(t *testing.T) {
	t.Setenv("SLUICE_SECRET", "42")
	h, _, ctx := newHost(t)
	p := start(t, h, ctx, Spec{Kind: "sched", Name: "a"})
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.Info().GetPid()))
	if err != nil || bytes.Contains(b, []byte("SLUICE_SECRET")) || !bytes.Contains(b, []byte("PATH=")) {
		t.Errorf("environment %q, error %v", b, err)
	}
	pid := int(p.Info().GetPid())
	if group, err := syscall.Getpgid(pid); err != nil || group != pid {
		t.Errorf("the process group of %d is %d, error %v", pid, group, err)
	}
	if link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/0", pid)); err != nil || link != "/dev/null" {
		t.Errorf("stdin is %s, error %v", link, err)
	}
}

// From kill -9 to the next plan, with 10,000 jobs to send again.
func BenchmarkKillToPlan(b *testing.B) {
	h, _, _ := newHost(b)
	ctx := context.Background()
	need := make(chan bool, 9)
	p := start(b, h, ctx, Spec{Kind: "sched", Name: "a", NeedSnapshot: func() { need <- true }})
	f := newFeeder(p, 10000)
	<-need
	if _, err := f.pass(ctx, nil); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		p.mu.Lock()
		p.restarts, p.streak = nil, 0
		p.mu.Unlock()
		if err := syscall.Kill(int(p.Info().GetPid()), syscall.SIGKILL); err != nil {
			b.Fatal(err)
		}
		<-need
		if _, err := f.pass(ctx, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// A pass's crossing when nothing changed.
func BenchmarkCrossing(b *testing.B) {
	for _, jobs := range []int{0, 10000, 100000} {
		b.Run(fmt.Sprint(jobs, "jobs"), func(b *testing.B) {
			h, _, _ := newHost(b)
			ctx := context.Background()
			f := newFeeder(start(b, h, ctx, Spec{Kind: "sched", Name: "a"}), jobs)
			if _, err := f.pass(ctx, nil); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, err := f.pass(ctx, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
