package pass

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// A change alone is served at once; of changes that do not stop, each waits for
// passEvery at most.
func TestTempo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.pol.lazy = true
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.r.Run(ctx) }()
		passes := func() int { return int(w.r.Stats().Passes) }
		synctest.Wait()

		before := passes()
		w.submit(wlm.Spec{})
		synctest.Wait()
		if got := passes() - before; got != 1 {
			t.Errorf("a change alone made %d passes before time went on, want 1", got)
		}

		time.Sleep(time.Second)
		before = passes()
		const changes = 1000
		for range changes {
			w.submit(wlm.Spec{})
			time.Sleep(time.Millisecond)
			synctest.Wait()
		}
		got, most := passes()-before, passBurst+int(changes*time.Millisecond/passEvery)+1
		if got > most || got < most-2 {
			t.Errorf("%d changes in a second made %d passes, want %d", changes, got, most)
		}
		time.Sleep(passEvery)
		synctest.Wait()
		if w.pol.pending != changes+1 {
			t.Errorf("the last pass saw %d jobs, want %d", w.pol.pending, changes+1)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
