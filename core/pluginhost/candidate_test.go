package pluginhost

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// A candidate is fed and called beside the live plugin, which notices nothing,
// and takes over with the state it has.
func TestCandidate(t *testing.T) {
	h, _, ctx := newHost(t)
	p := start(t, h, ctx, Spec{Kind: "sched", Name: "a"})
	f := newFeeder(p, 10)
	if _, err := f.pass(ctx, nil); err != nil {
		t.Fatal(err)
	}
	before, epoch := p.Info(), p.Epoch()
	c, err := p.Prepare(ctx, Spec{Kind: "sched", Name: "b"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.PushState(c.Epoch(), f.e.Snapshot(f.all)); err != nil {
		t.Fatal(err)
	}
	if i := p.Info(); i.GetPid() != before.GetPid() || p.Epoch() != epoch || c.Info().GetPid() == before.GetPid() || c.Info().GetName() != "b" {
		t.Errorf("while it is tried: %v", i)
	}
	if err := c.Adopt(ctx); err != nil {
		t.Fatal(err)
	}
	if i := p.Info(); i.GetName() != "b" || i.GetState() != "serving" || i.GetRestarts() != 0 {
		t.Errorf("afterwards: %v", i)
	}
	c.Discard()
	f.fed = p.Epoch() // it has the state
	if a, err := f.pass(ctx, nil); err != nil || len(a.Entries) != 10 {
		t.Errorf("its plan: %v, error %v", a, err)
	}
	until(t, ctx, "the old process is gone", func() bool { return syscall.Kill(int(before.GetPid()), 0) != nil })
}

func TestRefusedCandidates(t *testing.T) {
	h, _, ctx := newHost(t)
	p := start(t, h, ctx, Spec{Kind: "job_submit", Name: "a"})
	pid := p.Info().GetPid()
	if _, err := p.Prepare(ctx, Spec{Kind: "sched", Name: "a"}); errs.KindOf(err) != errs.Invalid {
		t.Errorf("another kind: %v", err)
	}
	if _, err := p.Prepare(ctx, Spec{Kind: "job_submit", Name: "a", Options: []Option{{"fail", "open", "slurm.conf:3"}}}); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("one that refuses its options: %v", err)
	}
	c, err := p.Prepare(ctx, Spec{Kind: "job_submit", Name: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(int(c.Info().GetPid()), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, "the candidate is dead", func() bool { return c.Check() != nil })
	if err := c.Adopt(ctx); err == nil || !strings.Contains(err.Error(), "job_submit/a ended while it was tried: signal: killed") {
		t.Errorf("a dead candidate took over: %v", err)
	}
	if i := p.Info(); i.GetPid() != pid || i.GetState() != "serving" {
		t.Errorf("the old one: %v", i)
	}
}

func TestDisable(t *testing.T) {
	h, _, ctx := newHost(t)
	p := start(t, h, ctx, Spec{Kind: "job_submit", Name: "a", Optional: true, Wait: true})
	if _, err := p.PrepareFallback(ctx); errs.KindOf(err) != errs.Unsupport {
		t.Errorf("without a fallback: %v", err)
	}
	if err := p.Disable(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := submit(ctx, p, wlm.Spec{}); errs.KindOf(err) != errs.Unavail || !p.Disabled() {
		t.Errorf("a disabled plugin answers: %v", err)
	}
	if i, w := p.Info(), h.Warnings(); i.GetState() != "disabled" || i.GetPid() != 0 || len(w) != 1 || w[0] != "plugin job_submit/a was disabled by an administrator" {
		t.Errorf("info %v, warnings %q", i, w)
	}
	if err := p.Disable(ctx); errs.KindOf(err) != errs.State {
		t.Errorf("twice: %v", err)
	}
	if err := p.Replace(ctx, p.Spec()); err != nil {
		t.Fatal(err)
	}
	if _, err := submit(ctx, p, wlm.Spec{}); err != nil || p.Disabled() {
		t.Errorf("enabled again: %v", err)
	}

	s := start(t, h, ctx, Spec{Kind: "sched", Name: "a", Fallback: "b"})
	c, err := s.PrepareFallback(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Adopt(ctx); err != nil {
		t.Fatal(err)
	}
	if i := s.Info(); i.GetState() != "disabled" || i.GetName() != "b" || i.GetConfigured() != "a" || s.Spec().Name != "a" {
		t.Errorf("with the fallback: %v", i)
	}
	if err := syscall.Kill(int(s.Info().GetPid()), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, "the fallback serves again", func() bool {
		i := s.Info()
		return i.GetRestarts() == 1 && i.GetState() == "disabled" && i.GetPid() != 0
	})
	if err := s.Replace(ctx, s.Spec()); err != nil || s.Info().GetName() != "a" || s.Info().GetState() != "serving" {
		t.Errorf("enabled again: %v, %v", s.Info(), err)
	}
}

// Calls of a concurrent kind that overrun do not condemn the process.
func TestConcurrentOverruns(t *testing.T) {
	h, _, ctx := newHost(t)
	p := start(t, h, ctx, Spec{Kind: "job_submit", Name: "a", Timeout: 20 * time.Millisecond, Concurrent: true})
	for range 2 * overrunsInARow {
		if _, err := submit(ctx, p, wlm.Spec{Name: "wait"}); err == nil {
			t.Fatal("a call that waits for its deadline succeeded")
		}
	}
	if i := p.Info(); i.GetRestarts() != 0 || i.GetState() != "serving" {
		t.Errorf("info %v", i)
	}
}

func TestLimits(t *testing.T) {
	h, _, ctx := newHost(t)
	p := start(t, h, ctx, Spec{Kind: "job_submit", Name: "a", Limits: Limits{Memory: 400 << 20, CPUs: 0.5}, Timeout: time.Minute})
	i := p.Info()
	if len(i.GetLimits()) != 3 || !strings.HasPrefix(i.GetLimits()[0], "memory=400M (") || strings.Contains(i.GetLimits()[0], "not") {
		t.Fatalf("limits %q", i.GetLimits())
	}
	t.Logf("limits %q, user %s", i.GetLimits(), i.GetUser())
	if _, err := submit(ctx, p, wlm.Spec{Name: "spin"}); err != nil {
		t.Error(err)
	}
	if _, err := submit(ctx, p, wlm.Spec{Name: "eat"}); err == nil {
		t.Error("it ate a gigabyte")
	}
	until(t, ctx, "it was restarted", func() bool { x := p.Info(); return x.GetRestarts() == 1 && x.GetState() == "serving" })
	if _, err := submit(ctx, p, wlm.Spec{}); err != nil {
		t.Error(err)
	}
	dirs := append([]string(nil), p.current().cage.dirs...)
	p.Close(ctx)
	for _, d := range dirs {
		if _, err := os.Stat(d); err == nil {
			t.Errorf("%s is left", d)
		}
	}
	c := &cage{limits: Limits{CPUs: 0.001}, cpu: "watch"}
	now := time.Now()
	if why := c.excess(os.Getpid(), now); why != "" {
		t.Errorf("at once: %s", why)
	}
	for used := cpuUsed(t); cpuUsed(t)-used < 200*time.Millisecond; { //nolint:revive // uses CPU
	}
	if why := c.excess(os.Getpid(), now.Add(cpuWindow)); !strings.Contains(why, "its cpu_limit is 0.001") {
		t.Errorf("after a window: %q", why)
	}
}

// cpuUsed is the CPU time of this process.
func cpuUsed(t *testing.T) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		t.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// Of the daemon's descriptors a plugin has none but the lifeline and its output.
func TestDescriptors(t *testing.T) {
	secret, err := os.Create(filepath.Join(t.TempDir(), "secret"))
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Close()
	if err := syscall.Fchmod(int(secret.Fd()), 0o600); err != nil {
		t.Fatal(err)
	}
	h, _, ctx := newHost(t)
	p := start(t, h, ctx, Spec{Kind: "job_submit", Name: "a"})
	open, err := submit(ctx, p, wlm.Spec{Name: "fds"})
	if err != nil || len(open) < 4 {
		t.Fatalf("descriptors %q, error %v", open, err)
	}
	for _, fd := range open {
		n, to, _ := strings.Cut(fd, " ")
		own := strings.HasPrefix(to, "socket:") || strings.HasPrefix(to, "anon_inode:") || strings.HasPrefix(to, "pipe:") || strings.HasPrefix(to, "/proc/") ||
			to == "/dev/null" && n == "0" || to == "" || strings.HasPrefix(to, "/sys/fs/cgroup/") // Go's runtime reads its CPU quota
		if !own || strings.Contains(to, "secret") {
			t.Errorf("descriptor %s", fd)
		}
	}
	for _, n := range []string{"0", "1", "2", "3"} {
		if to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", p.Info().GetPid(), n)); err != nil {
			t.Errorf("descriptor %s: %s, %v", n, to, err)
		}
	}
}

// A plugin that is killed while it starts is started again, once.
func TestKilledAtStart(t *testing.T) {
	h, l, ctx := newHost(t)
	dir := t.TempDir()
	for d := dir; len(d) > len(os.TempDir()); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	mark := filepath.Join(dir, "mark")
	once := write("once", "#!/bin/sh\n[ -e "+mark+" ] || { : > "+mark+"; kill -9 $$; }\nexec "+filepath.Join(programs, "sched_a")+"\n")
	start(t, h, ctx, Spec{Kind: "sched", Name: "once", Path: once})
	if !strings.Contains(l.text(), "plugin died while it started") {
		t.Error("nothing in the log")
	}
	never := write("never", "#!/bin/sh\nkill -9 $$\n")
	if _, err := h.Start(ctx, Spec{Kind: "sched", Name: "never", Path: never}); err == nil || !strings.Contains(err.Error(), "does not greet") {
		t.Errorf("error %v", err)
	}
}
