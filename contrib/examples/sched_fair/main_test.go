package main

import (
	"testing"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/mirror/mirrortest"
	"github.com/sluice-hpc/sluice/sdk/plugin/plugintest"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/sched/schedtest"
)

func TestConforms(t *testing.T) {
	schedtest.Run(t, func(*testing.T) sched.Scheduler { return fair{} })
	schedtest.RunBinary(t, plugintest.Build(t, ".", "sched_fair"), nil)
}

// One user's hundred jobs do not keep the others' first ones waiting.
func TestUsersTakeTurns(t *testing.T) {
	c := mirrortest.New(2, 4, 1000)
	for i := range 100 {
		c.Submit(mirror.Class{}, 600).User = 1000
		if i == 99 {
			c.Submit(mirror.Class{}, 600).User = 1001
			c.Submit(mirror.Class{}, 1800).User = 1002
			c.Submit(mirror.Class{}, 600).User = 1002
		}
	}
	runs := c.Submit(mirror.Class{}, 600)
	runs.User = 1001
	c.Run(runs, 0, mirrortest.Cores(0, 0, 1, 100))
	m := new(mirror.Mirror)
	frames, _ := c.Frames()
	for _, f := range frames {
		if _, err := m.ApplyBytes(f); err != nil {
			t.Fatal(err)
		}
	}
	a, err := fair{}.Plan(t.Context(), m.View(c.Now))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{1, 102, 2, 101, 3, 4, 103} { // 1000 and 1002 first, 1001 runs one already
		if int(a.Entries[i].Job) != want {
			t.Fatalf("entry %d is job %d, want %d; the agenda begins %v", i, a.Entries[i].Job, want, a.Entries[:8])
		}
	}
}
