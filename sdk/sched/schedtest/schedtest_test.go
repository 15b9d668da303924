package schedtest

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// broken lists every job it ever saw, twice, in no order, and fails when its
// context has ended.
type broken struct{ seen map[wlm.JobID]bool }

func (b broken) Plan(ctx context.Context, v sched.View) (a sched.Agenda, err error) {
	for _, jobs := range []func(func(*mirror.Job) bool){v.Pending(), v.Running()} {
		for j := range jobs {
			b.seen[j.ID] = true
			j.Priority++
		}
	}
	for range 2 {
		for id := range b.seen {
			if id != 1 {
				a.Add(id, sched.Skip)
			}
		}
	}
	return a, ctx.Err()
}

// The suite can fail: run on a broken scheduler, its tests explain what is wrong.
func TestBrokenSchedulerFails(t *testing.T) {
	if os.Getenv("SCHEDTEST_BROKEN") != "" {
		Run(t, func(*testing.T) sched.Scheduler { return broken{map[wlm.JobID]bool{}} })
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestBrokenSchedulerFails$", "-test.v")
	cmd.Env = append(os.Environ(), "SCHEDTEST_BROKEN=1", "SLUICE_SEED=1")
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatalf("a broken scheduler passes:\n%s", out)
	}
	for _, name := range []string{"a-lone-ready-job-is-listed", "jobs-that-cannot-start-are-not-listed", "the-agenda-follows-the-cluster",
		"random-clusters-have-sensible-agendas", "an-ended-context-is-no-error", "the-view-stays-as-it-is"} {
		if !strings.Contains(string(out), "--- FAIL: TestBrokenSchedulerFails/"+name) {
			t.Errorf("the test %q does not notice a broken scheduler", name)
		}
	}
}
