package plugin_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/plugin"
	"github.com/sluice-hpc/sluice/sdk/plugin/session"
	"github.com/sluice-hpc/sluice/sdk/proto/plugin/v1"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// build compiles a program of this module and returns its path.
func build(t testing.TB, pkg, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if out, err := exec.Command("go", "build", "-o", path, pkg).CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", pkg, err, out)
	}
	return path
}

func socketDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sluice")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// The example of the design document, as a process: it gets a snapshot and
// returns every job, in order, to be stopped at.
func TestExampleServes(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dir := socketDir(t)
	begin := time.Now()
	p, err := plugin.Start(ctx, plugin.StartConfig{Path: build(t, "../../contrib/examples/sched_fifo", "sched_fifo"), SocketDir: dir,
		Output: func(line string) { t.Log("plugin:", line) }})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	m, err := p.Manifest(ctx)
	if err != nil || m.GetName() != "fifo" || m.GetServed()[0].GetKind() != sched.Kind {
		t.Fatalf("manifest %v, error %v", m, err)
	}
	s, err := p.Open(ctx, session.HostConfig{Epoch: 1, Open: &pluginv1.Open{Cluster: "c"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("built, started and opened in %v", time.Since(begin))
	const n = 20000
	e := mirror.NewEncoder()
	c := mirror.Change{Rev: 1}
	for id := range n {
		c.Jobs = append(c.Jobs, &mirror.Job{ID: wlm.JobID(n - id), Submit: wlm.Time(id), Ready: true, Class: e.Class(mirror.Class{})})
	}
	if err := s.PushState(e.Change(c)); err != nil {
		t.Fatal(err)
	}
	a, err := sched.NewClient(s).Plan(ctx, 1, 100)
	if err != nil || len(a.Entries) != n {
		t.Fatalf("%d entries, error %v; want %d", len(a.Entries), err, n)
	}
	for i, x := range a.Entries {
		if x.Job != wlm.JobID(n-i) || x.WhenBlocked != sched.Stop {
			t.Fatalf("entry %d is %+v", i, x)
		}
	}
	if _, err := sched.NewClient(s).Plan(ctx, 2, 100); errs.KindOf(err) != errs.State {
		t.Errorf("a plan for another rev: %v, want the kind %v", err, errs.State)
	}
	if err := s.Drain(ctx); err != nil {
		t.Error(err)
	}
	p.Stop()
	if got := p.State(); got != "exit status 0" {
		t.Errorf("the plugin ended with %q", got)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("%v is left of its sockets", left)
	}
}
