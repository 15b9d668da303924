package main

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/launch/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

func request(job uint32, script string) *launchv1.LaunchRequest {
	return &launchv1.LaunchRequest{Job: job, Step: uint32(wlm.StepBatch), Node: "n1", TaskIds: []uint32{0}, Script: []byte(script)}
}

// follow collects the ends of steps as "job:status after seconds".
func follow(t *testing.T, l *sim) (ends map[uint32]string, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ends = make(map[uint32]string)
	start := time.Now()
	go l.Watch(ctx, func(h *launchv1.Happening) error {
		if g := h.GetGone(); g != nil {
			ends[h.GetStep().GetJob()] = fmt.Sprintf("%s after %v", wlm.WaitStatus(g.GetStatus()), time.Since(start))
		}
		return nil
	})
	return ends, cancel
}

func TestScripts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newSim(time.Second)
		ends, stop := follow(t, l)
		defer stop()
		ctx := context.Background()
		for job, script := range map[uint32]string{1: "#!/bin/sh\n", 2: "#!/bin/sh\n#SIM seconds=30 exit=3\n", 3: "#!/bin/sh\n#SIM seconds=0.5\n"} {
			if _, err := l.Launch(ctx, request(job, script)); err != nil {
				t.Fatal(err)
			}
		}
		r := request(4, "")
		r.SimSeconds = 100
		l.Launch(ctx, r)
		if _, err := l.Launch(ctx, r); errs.KindOf(err) != errs.Exists {
			t.Errorf("second launch: %v", err)
		}
		if _, err := l.Launch(ctx, request(5, "#SIM minutes=1\n")); errs.KindOf(err) != errs.Invalid {
			t.Errorf("bad script: %v", err)
		}
		time.Sleep(50 * time.Second)
		l.Signal(ctx, &launchv1.SignalRequest{Step: &launchv1.StepRef{Job: 4, Step: uint32(wlm.StepBatch), Node: "n1"}, Signal: 15})
		synctest.Wait()
		want := map[uint32]string{1: "0:0 after 1s", 2: "3:0 after 30s", 3: "0:0 after 500ms", 4: "0:15 after 50s"}
		for job, w := range want {
			if ends[job] != w {
				t.Errorf("job %d ended %q, want %q", job, ends[job], w)
			}
		}
		if err := l.Forget(ctx, &launchv1.StepRef{Job: 4, Step: uint32(wlm.StepBatch), Node: "n1"}); err != nil || len(l.steps) != 3 {
			t.Errorf("forget: %v, %d steps left", err, len(l.steps))
		}
	})
}

func TestSuspended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newSim(10 * time.Second)
		ends, stop := follow(t, l)
		defer stop()
		ctx := context.Background()
		l.Launch(ctx, request(1, ""))
		send := func(sig uint32) {
			l.Signal(ctx, &launchv1.SignalRequest{Step: &launchv1.StepRef{Job: 1, Step: uint32(wlm.StepBatch), Node: "n1"}, Signal: sig})
		}
		time.Sleep(4 * time.Second)
		send(19)
		time.Sleep(100 * time.Second)
		send(18)
		time.Sleep(7 * time.Second)
		synctest.Wait()
		if ends[1] != "0:0 after 1m50s" {
			t.Errorf("ended %q", ends[1])
		}
	})
}

func TestRecover(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		r := request(7, "#SIM seconds=10 exit=2\n")
		r.StepDir = dir + "/7.batch"
		if _, err := newSim(0).Launch(ctx, r); err != nil {
			t.Fatal(err)
		}
		l := newSim(0)
		ends, stop := follow(t, l)
		defer stop()
		found, err := l.Recover(ctx, dir)
		if err != nil || len(found.GetSteps()) != 1 || found.GetSteps()[0].GetStep().GetJob() != 7 {
			t.Fatalf("found %v, %v", found, err)
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if ends[7] != "2:0 after 10s" {
			t.Errorf("ended %q", ends[7])
		}
	})
}

// What signals did outlives the launcher's process: a step that one ended is
// over, one that is stopped stands still.
func TestRecoverSignalled(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		old := newSim(0)
		for job, sig := range map[uint32]uint32{1: 9, 2: 19, 3: 0} {
			r := request(job, "#SIM seconds=10\n")
			r.StepDir = fmt.Sprintf("%s/%d.batch", dir, job)
			if _, err := old.Launch(ctx, r); err != nil {
				t.Fatal(err)
			}
			if err := old.Signal(ctx, &launchv1.SignalRequest{Step: &launchv1.StepRef{Job: job, Step: uint32(wlm.StepBatch), Node: "n1"}, Signal: sig}); err != nil {
				t.Fatal(err)
			}
		}
		l := newSim(0)
		ends, stop := follow(t, l)
		defer stop()
		if found, err := l.Recover(ctx, dir); err != nil || len(found.GetSteps()) != 3 {
			t.Fatalf("found %v, %v", found, err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if ends[1] != "0:9 after 0s" || ends[2] != "" || ends[3] != "0:0 after 10s" {
			t.Errorf("ended %v", ends)
		}
	})
}

// A search for steps at the moment of a launch takes nothing away from it.
func TestRecoverBesideLaunch(t *testing.T) {
	dir := t.TempDir()
	l := newSim(time.Hour)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for job := range uint32(200) {
			r := request(job+1, "")
			r.StepDir = fmt.Sprintf("%s/%d.batch", dir, job+1)
			if _, err := l.Launch(t.Context(), r); err != nil {
				t.Error(err)
			}
		}
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		if _, err := l.Recover(t.Context(), dir); err != nil {
			t.Error(err)
		}
	}
	if found, err := newSim(time.Hour).Recover(t.Context(), dir); err != nil || len(found.GetSteps()) != 200 {
		t.Errorf("after the launcher's end %d steps are found, %v", len(found.GetSteps()), err)
	}
}
