// Package launchtest is the conformance suite of launchers. It runs a few steps
// of real programs over a real spool; [Run] takes any launch.Launcher, and
// [RunBinary] a built program. Each failure is explained in a sentence.
//
// A launcher that only pretends to run (Options.Pretends) is held to the same
// order of happenings, but not to what programs do.
package launchtest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-hpc/sluice/sdk/launch"
	"github.com/sluice-hpc/sluice/sdk/plugin/plugintest"
	"github.com/sluice-hpc/sluice/sdk/proto/launch/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Options say how the suite is run.
type Options struct {
	Pretends bool // no processes: exit codes and output are not looked at
}

const patience = time.Minute

// Run runs the suite. open returns a new launcher for each test; Recover is
// called on it first, as a node does.
func Run(t *testing.T, o Options, open func(t *testing.T) launch.Launcher) {
	for _, test := range []struct {
		name string
		real bool
		run  func(*subject)
	}{
		{"a fresh spool has no steps", false, testFresh},
		{"a step that ends is told", false, testEnds},
		{"exit codes are kept", true, testStatus},
		{"a signal ends a step", false, testSignal},
		{"a program that does not exist is the step's failure", true, testMissing},
		{"a running step is found again and has statistics", false, testRecover},
		{"an unknown step is an error", false, testUnknown},
	} {
		if test.real && o.Pretends {
			continue
		}
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) { test.run(newSubject(t, o, open(t))) })
	}
}

// RunBinary runs the suite on a program, started with options for each test.
func RunBinary(t *testing.T, o Options, path string, options map[string]string) {
	t.Run("program", func(t *testing.T) { plugintest.Run(t, path, launch.Kind, options) })
	Run(t, o, func(t *testing.T) launch.Launcher {
		return launch.NewClient(plugintest.Start(t, path, launch.Kind, options))
	})
}

type subject struct {
	*testing.T
	options  Options
	launcher launch.Launcher
	ctx      context.Context
	spool    string
	told     chan *launchv1.Happening
}

func newSubject(t *testing.T, o Options, l launch.Launcher) *subject {
	t.Helper()
	spool := filepath.Join(t.TempDir(), "spool")
	if err := os.Mkdir(spool, 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	s := &subject{T: t, options: o, launcher: l, ctx: ctx, spool: spool, told: make(chan *launchv1.Happening, 100)}
	if r, err := l.Recover(ctx, spool); err != nil || len(r.GetSteps()) != 0 {
		t.Fatalf("Recover of an empty spool must find nothing and not fail: %v, %v", r, err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = l.Watch(ctx, func(h *launchv1.Happening) error {
			select {
			case s.told <- h:
			case <-ctx.Done():
			}
			return nil
		})
	}()
	t.Cleanup(func() { cancel(); <-done })
	return s
}

// launch runs argv as the one task of a batch step of a job, as this user.
func (s *subject) launch(job uint32, argv ...string) (*launchv1.LaunchReply, error) {
	s.Helper()
	dir := filepath.Join(s.spool, wlm.JobID(job).String()+".batch")
	if err := os.Mkdir(dir, 0o700); err != nil {
		s.Fatal(err)
	}
	seconds := int64(0)
	if argv[0] == "/bin/sleep" {
		seconds = 100
	}
	return s.launcher.Launch(s.ctx, &launchv1.LaunchRequest{Job: job, Step: uint32(wlm.StepBatch), Node: "n1",
		Uid: uint32(os.Getuid()), Gid: uint32(os.Getgid()), UserName: "conform", TaskIds: []uint32{0}, Ntasks: 1, Nnodes: 1,
		StepDir: dir, JobName: "conform", SimSeconds: seconds,
		Work: &launchv1.Work{Argv: argv, Env: []string{"PATH=/usr/bin:/bin"}, Cwd: "/", Umask: 0o22}})
}

func (s *subject) mustLaunch(job uint32, argv ...string) {
	s.Helper()
	if _, err := s.launch(job, argv...); err != nil {
		s.Fatalf("%v must start: %v", argv, err)
	}
}

func ref(job uint32) *launchv1.StepRef {
	return &launchv1.StepRef{Job: job, Step: uint32(wlm.StepBatch), Node: "n1"}
}

// gone waits for a step's end and returns it with the exit of its task.
func (s *subject) gone(job uint32) (*launchv1.StepGone, *launchv1.TaskExit) {
	s.Helper()
	var exit *launchv1.TaskExit
	for {
		select {
		case h := <-s.told:
			if h.GetStep().GetJob() != job || h.GetStep().GetStep() != uint32(wlm.StepBatch) {
				continue
			}
			if h.GetTask() != nil {
				exit = h.GetTask()
			}
			if h.GetGone() != nil {
				return h.GetGone(), exit
			}
		case <-s.ctx.Done():
			s.Fatalf("job %d: Watch must tell that a step has ended; nothing came", job)
		}
	}
}

func testFresh(*subject) {} // newSubject checks it

func testEnds(s *subject) {
	s.mustLaunch(1, "/bin/true")
	gone, exit := s.gone(1)
	if gone.GetStatus() != 0 || gone.GetError() != "" || gone.GetTime() == 0 {
		s.Errorf("/bin/true must end with status 0, no error and a time, got %v", gone)
	}
	if exit == nil {
		s.Error("the exit of each task must be told before the end of the step")
	}
	if err := s.launcher.Forget(s.ctx, ref(1)); err != nil {
		s.Errorf("an ended step must be forgotten when told: %v", err)
	}
	if r, err := s.launcher.Recover(s.ctx, s.spool); err != nil || len(r.GetSteps()) != 0 {
		s.Errorf("a forgotten step must not be found again: %v, error %v", r, err)
	}
}

func testStatus(s *subject) {
	s.mustLaunch(2, "/bin/sh", "-c", "exit 3")
	gone, exit := s.gone(2)
	if want := uint32(wlm.ExitStatus(3)); gone.GetStatus() != want || exit.GetStatus() != want {
		s.Errorf("exit 3 must be told as the wait status %#x of the task and of the step, got %v and %v", want, exit, gone)
	}
}

func testSignal(s *subject) {
	s.mustLaunch(3, "/bin/sleep", "100")
	if err := s.launcher.Signal(s.ctx, &launchv1.SignalRequest{Step: ref(3), Signal: uint32(syscall.SIGKILL)}); err != nil {
		s.Fatalf("a running step must take a signal: %v", err)
	}
	if gone, _ := s.gone(3); wlm.WaitStatus(gone.GetStatus()).Signal() != int(syscall.SIGKILL) {
		s.Errorf("a step ended by SIGKILL must have its wait status, got %#x", gone.GetStatus())
	}
}

func testMissing(s *subject) {
	if _, err := s.launch(4, "/no/such/program"); err != nil {
		return // a launcher may know at once
	}
	if gone, _ := s.gone(4); gone.GetStatus() == 0 && gone.GetError() == "" {
		s.Errorf("a program that does not exist must not be a success, got %v", gone)
	}
}

func testRecover(s *subject) {
	s.mustLaunch(5, "/bin/sleep", "100")
	if _, err := s.launcher.Stats(s.ctx, ref(5)); err != nil {
		s.Errorf("a running step must have statistics: %v", err)
	}
	r, err := s.launcher.Recover(s.ctx, s.spool)
	if err != nil || len(r.GetSteps()) != 1 || r.GetSteps()[0].GetStep().GetJob() != 5 || r.GetSteps()[0].GetGone() != nil {
		s.Errorf("Recover must find the step that runs, and that it runs: %v, error %v", r, err)
	}
	if err := s.launcher.Signal(s.ctx, &launchv1.SignalRequest{Step: ref(5), Signal: uint32(syscall.SIGKILL)}); err != nil {
		s.Errorf("a step must take signals after Recover: %v", err)
	}
	s.gone(5)
}

func testUnknown(s *subject) {
	if err := s.launcher.Signal(s.ctx, &launchv1.SignalRequest{Step: ref(99), Signal: 9}); err == nil {
		s.Error("a signal for a step that the launcher does not have must be an error, so that the node can tell")
	}
}
