package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// loginMark stands before the environment in what a login shell prints, so
// that words of the user's profile do not get in.
const loginMark = "SLUICE-LOGIN-ENVIRONMENT"

// loginTimeout bounds a login: a profile may ask a file server that is away.
const loginTimeout = 20 * time.Second

// loginEnv is the environment that a user's login shell makes on this host. It
// needs root for other users than slurmd's own.
func loginEnv(ctx context.Context, user string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	show := "echo; echo " + loginMark + "; exec /usr/bin/env -0"
	c := exec.CommandContext(ctx, "su", "-", user, "-c", show)
	if os.Geteuid() != 0 {
		c = exec.CommandContext(ctx, "/bin/sh", "-l", "-c", show)
	}
	c.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + os.Getenv("HOME")}
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	c.WaitDelay = time.Second
	out, err := c.Output()
	_, list, found := bytes.Cut(out, []byte("\n"+loginMark+"\n"))
	switch {
	case found:
		return strings.Split(strings.TrimSuffix(string(list), "\x00"), "\x00"), nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("the login of %s took more than %v", user, loginTimeout)
	case err != nil:
		return nil, fmt.Errorf("the login of %s: %w", user, err)
	}
	return nil, errors.New("the login of " + user + " showed no environment")
}
