// Package salloc is the command salloc: it gets an allocation, runs a command
// on this host inside of it, and gives it back.
//
// The command runs in the foreground of the terminal. When the allocation
// ends first (its limit, scancel), the user is told, and the command gets the
// signal of --kill-command, or a hangup where it is an interactive shell.
package salloc

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sluice-hpc/sluice/sdk/client"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/request"
	"github.com/sluice-hpc/sluice/tools/internal/submit"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// ringAfter is how long a wait must be for the terminal bell to ring at its
// end, when neither --bell nor --no-bell says.
const ringAfter = 10 * time.Second

// Main runs the command and returns its exit code.
func Main(ctx context.Context, p *submit.Process) int {
	c, code, done := submit.Start(request.Salloc, p, nil)
	if done {
		return code
	}
	defer c.Close()
	r := c.Request
	if err := c.Connect(ctx); err != nil {
		return c.FailSubmit(err)
	}
	if r.Given("job-name") == request.Nowhere {
		r.Spec.Name = "interactive"
	}
	r.Spec.Argv = r.Args
	env, err := r.JobEnviron(p.Env)
	if err != nil {
		return c.FailSubmit(err)
	}
	begin := time.Now()
	job, err := c.Allocate(ctx, c.Message(nil, nil), queue{c})
	switch {
	case errors.Is(err, submit.ErrRevoked):
		return 1
	case err != nil:
		return c.ImmediateExit(err, c.FailSubmit(err))
	}
	id := job.GetJob().GetId()
	c.Infof("Granted job allocation %d", id)
	c.Infof("Nodes %s are ready for job", job.GetNodelist())
	if r.Alloc.Bell == wlm.Yes || r.Alloc.Bell == wlm.Unsaid && time.Since(begin) > ringAfter && isTerminal(os.Stdin) {
		p.Stdout.Write([]byte{'\a'}) //nolint:errcheck // nowhere to tell
	}
	if r.Alloc.NoShell {
		return 0
	}
	c.AllocEnviron(env, job)
	return run(ctx, c, id, env.List())
}

// queue tells about a wait with salloc's words.
type queue struct{ c *submit.Command }

func (q queue) Waits(id uint32) {
	q.c.Infof("Pending job allocation %d", id)
	q.c.Infof("job %d queued and waiting for resources", id)
}

func (q queue) Started(id uint32) { q.c.Infof("job %d has been allocated resources", id) }

// run runs the command in the allocation, and gives that back.
func run(ctx context.Context, c *submit.Command, id uint32, env []string) int {
	argv := c.Request.Args
	shell := len(argv) == 0
	if shell {
		argv = shellCommand(c)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env, cmd.Dir = env, c.Request.Spec.WorkDir
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, c.Stdout, c.Stderr
	foreground := c.Stdin == os.Stdin && isTerminal(os.Stdin)
	if foreground {
		cmd.SysProcAttr = &syscall.SysProcAttr{Foreground: true, Ctty: int(os.Stdin.Fd())}
		signal.Ignore(syscall.SIGTTOU)
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		c.Errorf("Unable to exec %q: %s", argv[0], reason(err))
		give(c, id, wlm.ExitStatus(1))
		return 1
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	wctx, cancel := context.WithCancel(ctx)
	defer cancel()
	gone := watchEnd(wctx, c, id)
	revoked := false
	for {
		select {
		case s := <-signals:
			cmd.Process.Signal(s) //nolint:errcheck // it may have ended
		case <-gone:
			gone, revoked = nil, true
			c.Infof("Job allocation %d has been revoked.", id)
			hangUp(c, cmd.Process, shell && foreground)
		case <-ended:
			if foreground {
				unix.IoctlSetPointerInt(int(os.Stdin.Fd()), unix.TIOCSPGRP, unix.Getpgrp()) //nolint:errcheck // the terminal may be gone
			}
			status := wlm.WaitStatus(cmd.ProcessState.Sys().(syscall.WaitStatus)) & 0xffff
			if !revoked {
				give(c, id, status)
			}
			return exitCode(status)
		}
	}
}

// give returns the allocation.
func give(c *submit.Command, id uint32, status wlm.WaitStatus) {
	c.Infof("Relinquishing job allocation %d", id)
	if err := c.Release(id, status); err != nil {
		c.Failure("Unable to clean up job allocation", err)
	}
}

// watchEnd closes its channel when the allocation ends by itself.
func watchEnd(ctx context.Context, c *submit.Command, id uint32) <-chan struct{} {
	gone := make(chan struct{})
	go func() {
		err := c.Client.WatchJob(ctx, &ctlv1.WatchJobRequest{Job: id}, func(j *ctlv1.JobInfo) error {
			if wlm.JobState(j.GetJob().GetState()).Ended() {
				close(gone)
				return client.ErrStop
			}
			return nil
		})
		_ = err // whoever cannot watch learns of the end when giving back
	}()
	return gone
}

// hangUp ends the command of an allocation that is gone, if it should be.
func hangUp(c *submit.Command, p *os.Process, interactive bool) {
	switch {
	case c.Request.Alloc.KillGiven:
		p.Signal(syscall.Signal(c.Request.Alloc.KillCommand)) //nolint:errcheck // it may have ended
	case interactive:
		p.Signal(syscall.SIGHUP) //nolint:errcheck // it may have ended
	}
}

// exitCode is salloc's: that of its command. A command that the user
// interrupted or hung up is no failure.
func exitCode(s wlm.WaitStatus) int {
	const signalled = 128
	switch syscall.Signal(s.Signal()) {
	case 0:
		return s.Code()
	case syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL:
		return 0
	}
	return signalled + s.Signal()
}

// shellCommand is what salloc runs without a command: the user's shell here, or
// with LaunchParameters=use_interactive_step on the job's first node.
func shellCommand(c *submit.Command) []string {
	shell := shellOf(c)
	value := func(key string) string {
		if c.Conf == nil {
			return ""
		}
		v, _, _ := c.Conf.Lookup(key)
		return v
	}
	if !slices.ContainsFunc(strings.Split(value("LaunchParameters"), ","), func(p string) bool {
		return strings.EqualFold(strings.TrimSpace(p), "use_interactive_step")
	}) {
		return []string{shell}
	}
	options := value("InteractiveStepOptions")
	if options == "" {
		options = "--interactive --preserve-env --pty $SHELL"
	}
	words := strings.Fields(options)
	for i, w := range words {
		if w == "$SHELL" {
			words[i] = shell
		}
	}
	srun := "srun"
	if self, err := os.Executable(); err == nil {
		if beside := filepath.Join(filepath.Dir(self), srun); filepath.Base(self) == "salloc" && exists(beside) {
			srun = beside
		}
	}
	return append([]string{srun}, words...)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func shellOf(c *submit.Command) string {
	if sh, ok := c.Context.Env("SHELL"); ok && filepath.IsAbs(sh) {
		return sh
	}
	return "/bin/sh"
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

func reason(err error) string {
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		return "No such file or directory"
	}
	if errors.Is(err, os.ErrPermission) {
		return "Permission denied"
	}
	return err.Error()
}
