package sluice

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	stopTime = 20 * time.Second      // for a daemon to end on SIGTERM, before SIGKILL
	poll     = 20 * time.Millisecond // between looks at a process
)

// command is what runs a daemon; its name is ctld or a node's.
func (c *cluster) command(name string) (comm string, argv []string, err error) {
	comm, args := "slurmd", []string{"-D", "-f", c.conf(), "-N", name}
	if name == controller {
		comm, args = "slurmctld", []string{"-D", "-f", c.conf()}
	}
	prog, err := c.program("sbin", comm)
	return comm, append([]string{prog}, args...), err
}

// start starts one daemon, detached, and returns at once. One that runs
// already is left alone.
func (c *cluster) start(name string) error {
	if !c.exists() {
		return fmt.Errorf("there is no cluster in %s: make one with %s up", c.dir, c.call())
	}
	if !slices.Contains(c.names(), name) {
		return fmt.Errorf("%q is not a daemon of this cluster: it has %s", name, strings.Join(c.names(), " "))
	}
	if pid := c.pid(name); pid != 0 {
		return nil
	}
	_, argv, err := c.command(name)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(c.outFile(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = c.dir, log, log
	cmd.Env = append(os.Environ(), "SLURM_CONF="+c.conf())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer cmd.Process.Release() //nolint:errcheck // it is not ours to wait for
	return os.WriteFile(c.pidFile(name), []byte(strconv.Itoa(cmd.Process.Pid)+"\n"), 0o644)
}

func (c *cluster) pidFile(name string) string { return c.path("run", name+".pid") }
func (c *cluster) outFile(name string) string { return c.path("log", name+".out") }

// pid is the process of a daemon, 0 when it does not run.
func (c *cluster) pid(name string) int {
	data, err := os.ReadFile(c.pidFile(name))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || pid <= 1 {
		return 0
	}
	want := "slurmd"
	if name == controller {
		want = "slurmctld"
	}
	// pid (comm) state ...: another program with the id, or a zombie, is not it
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	open, shut := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 0 || shut < open || shut+2 >= len(stat) {
		return 0
	}
	if comm, state := string(stat[open+1:shut]), stat[shut+2]; state == 'Z' || state == 'X' ||
		comm != want && comm != "sluice" { // a child bears our name until it has become the daemon
		return 0
	}
	return pid
}

// stop ends a daemon and waits for it. SIGTERM is followed by SIGKILL when it
// has no effect in time.
func (c *cluster) stop(ctx context.Context, name string, sig syscall.Signal) error {
	pid := c.pid(name)
	if pid == 0 {
		os.Remove(c.pidFile(name)) //nolint:errcheck // there is none
		return nil
	}
	if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("%s, process %d: %w", name, pid, err)
	}
	if !c.waitGone(ctx, name, stopTime) {
		if err := ctx.Err(); err != nil {
			return err
		}
		fmt.Fprintf(c.stderr, "sluice: %s, process %d, did not end in %v: killed\n", name, pid, stopTime)
		syscall.Kill(pid, syscall.SIGKILL) //nolint:errcheck // gone is what we want
		if !c.waitGone(ctx, name, stopTime) {
			return fmt.Errorf("%s, process %d, cannot be killed", name, pid)
		}
	}
	if err := os.Remove(c.pidFile(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (c *cluster) waitGone(ctx context.Context, name string, within time.Duration) bool {
	end := time.Now().Add(within)
	for c.pid(name) != 0 {
		if time.Now().After(end) || !pause(ctx, poll) {
			return false
		}
	}
	return true
}

// pause waits; false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// running lists the daemons with a live process, the controller last, which
// is the order to stop them in.
func (c *cluster) running() []string {
	files, _ := filepath.Glob(c.path("run", "*.pid"))
	var names []string
	ctld := false
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".pid")
		switch {
		case c.pid(name) == 0:
		case name == controller:
			ctld = true
		default:
			names = append(names, name)
		}
	}
	if ctld {
		names = append(names, controller)
	}
	return names
}

// tail is the last lines of what a daemon said.
func (c *cluster) tail(name string, lines int) string {
	data, err := os.ReadFile(c.outFile(name))
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
