package e2e

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

// screen is a command on a terminal: what it printed, and the way to type.
type screen struct {
	t    *testing.T
	tty  *os.File
	cmd  *exec.Cmd
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
	done chan struct{}
}

// onTerminal runs a command on a terminal of that size.
func (c *cluster) onTerminal(rows, cols uint16, name string, args ...string) *screen {
	c.t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), commandTime)
	c.t.Cleanup(stop)
	s := &screen{t: c.t, cmd: c.command(ctx, name, args...), done: make(chan struct{})}
	tty, err := pty.StartWithSize(s.cmd, &pty.Winsize{Rows: rows, Cols: cols})
	if err != nil {
		c.t.Fatal(err)
	}
	s.tty = tty
	go func() {
		defer close(s.done)
		b := make([]byte, 4096)
		for {
			n, err := tty.Read(b)
			s.mu.Lock()
			s.text.Write(b[:n])
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return s
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.ReplaceAll(s.text.String(), "\r", "")
}

// shows waits until the screen matches a pattern, which sees all of it.
func (s *screen) shows(pattern string) {
	s.t.Helper()
	re := regexp.MustCompile(pattern)
	if !within(commandTime, func() bool { return re.MatchString(s.String()) }) {
		s.t.Fatalf("no %q on the screen:\n%s", pattern, s)
	}
}

func (s *screen) types(text string) {
	s.t.Helper()
	if _, err := io.WriteString(s.tty, text); err != nil {
		s.t.Fatal(err)
	}
}

// code waits for the end and returns the exit code.
func (s *screen) code() int {
	s.t.Helper()
	err := s.cmd.Wait()
	select {
	case <-s.done:
	case <-time.After(commandTime):
		s.t.Error("the terminal stays open")
	}
	s.tty.Close()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return 0
}

const ctrlC = "\x03"

// terminal: task 0 is on a terminal of the size of ours, and follows it.
func terminal(t *testing.T, c *cluster) {
	s := c.onTerminal(31, 97, "srun", "--pty", "sh", "-c",
		"tty; stty size; trap 'stty size' WINCH; echo ready; until [ \"$x\" = end ]; do read x && echo got $x; done; exit 4")
	s.shows(`/dev/pts/\d+\n31 97\nready\n`)
	if err := pty.Setsize(s.tty, &pty.Winsize{Rows: 50, Cols: 132}); err != nil {
		t.Fatal(err)
	}
	s.types("hello\n")
	s.shows(`got hello\n`)
	s.shows(`50 132\n`)
	s.types("end\n")
	if code := s.code(); code != 4 {
		t.Errorf("exit %d:\n%s", code, s)
	}

	// An interrupt goes to the foreground of the terminal, not to the step.
	s = c.onTerminal(24, 80, "srun", "--pty", "sh")
	s.types("PS1=; echo be''gin; sleep 300\n")
	s.shows(`begin\n`)
	s.types(ctrlC)
	s.types("echo af''ter; exit 7\n")
	s.shows(`after\n`)
	if code := s.code(); code != 7 {
		t.Errorf("exit %d:\n%s", code, s)
	}

	// salloc's shell has the terminal, and the allocation in its environment.
	s = c.onTerminal(24, 80, "salloc", "-N1", "sh")
	s.shows(`Granted job allocation \d+\n`)
	s.types("PS1=; echo nodes=$SLURM_NNODES; exit 3\n")
	s.shows(`nodes=1\n`)
	if code := s.code(); code != 3 {
		t.Errorf("exit %d:\n%s", code, s)
	}
	s.shows(`salloc: Relinquishing job allocation \d+\n$`)
}

// interrupts: one tells the state, two within a second end the step.
func interrupts(t *testing.T, c *cluster) {
	s := c.onTerminal(24, 80, "srun", "-n2", "sh", "-c", "echo started; exec sleep 300")
	s.shows(`(?s)started.*started`)
	s.types(ctrlC)
	s.shows(`srun: interrupt \(one more within 1 sec to abort\)\nsrun: StepId=\d+\.0 tasks 0-1: running\n`)
	s.types(ctrlC)
	s.shows(`srun: sending Ctrl-C to StepId=\d+\.0\n(.*\n)?srun: Job step aborted: Waiting up to \d+ seconds for job step to finish\.\n`)
	if code := s.code(); code != 130 {
		t.Errorf("exit %d:\n%s", code, s)
	}

	// Without the display of states the first one goes to the tasks.
	s = c.onTerminal(24, 80, "srun", "-n1", "-X", "sh", "-c", "trap 'echo int; exit 9' INT; echo started; while :; do sleep 0.1; done")
	s.shows(`started`)
	s.types(ctrlC)
	s.shows(`srun: sending Ctrl-C to StepId=\d+\.0\n`)
	if code := s.code(); code != 9 || strings.Contains(s.String(), "aborted") {
		t.Errorf("exit %d:\n%s", code, s)
	}
}

// signals go on to every task.
func signals(t *testing.T, c *cluster) {
	for _, e := range []struct {
		sig  syscall.Signal
		trap string
		code int
	}{{syscall.SIGUSR1, "USR1", 8}, {syscall.SIGTERM, "TERM", 8}, {syscall.SIGHUP, "HUP", 8}} {
		s := c.onTerminal(24, 80, "srun", "-n2", "sh", "-c", "trap 'echo caught; exit 8' "+e.trap+"; echo started; while :; do sleep 0.1; done")
		s.shows(`(?s)started.*started`)
		if err := s.cmd.Process.Signal(e.sig); err != nil {
			t.Fatal(err)
		}
		s.shows(`(?s)caught.*caught`)
		if code := s.code(); code != e.code {
			t.Errorf("%v: exit %d, want %d:\n%s", e.sig, code, e.code, s)
		}
	}
}

// environment: what --export lets through, and the login environment.
func environment(t *testing.T, c *cluster) {
	here := *c
	here.env = append(append([]string(nil), c.env...), "FOO=1", "BAR=2")
	show := "echo foo=$FOO bar=$BAR baz=$BAZ home=${HOME:+set} path=${PATH:+set} id=${SLURM_JOB_ID:+set}"
	for _, e := range []struct{ export, want string }{
		{"ALL", "foo=1 bar=2 baz= home=set path=set id=set"},
		{"NONE", "foo= bar= baz= home=set path=set id=set"},
		{"FOO", "foo=1 bar= baz= home=set path=set id=set"},
		{"ALL,BAZ=3,FOO=4", "foo=4 bar=2 baz=3 home=set path=set id=set"},
	} {
		id := here.submit("--export="+e.export, "-o", "env-%j.out", "--wrap", show)
		here.ended(id, "COMPLETED 0:0")
		if got := strings.TrimSpace(here.file("env-" + id + ".out")); got != e.want {
			t.Errorf("--export=%s: %q, want %q", e.export, got, e.want)
		}
	}
	r := here.run("srun", "-n1", "--export=BAZ=5,FOO", "/bin/sh", "-c", "echo $FOO $BAR $BAZ")
	if strings.TrimSpace(r.out) != "1 5" {
		t.Error(r)
	}
}

// patterns: the names of output files.
func patterns(t *testing.T, c *cluster) {
	id := c.submit("-J", "pat", "-o", "%x_%4j_%N_%n_%t_%u_%s_%%.txt", "-e", "%J.err", "--wrap", "echo out; echo bad >&2")
	c.ended(id, "COMPLETED 0:0")
	user := strings.TrimSpace(c.ok("id", "-un"))
	name := "pat_" + strings.Repeat("0", 4-len(id)) + id + "_n1_0_0_" + user + "_batch_%.txt"
	if got := c.file(name); got != "out\n" {
		t.Errorf("%s has %q; there are %s", name, got, c.ok("ls"))
	}
	if got := c.file(id+".batch.err") + c.file(id+".err"); got != "bad\n" {
		t.Errorf("standard error went elsewhere: %q of %s", got, c.ok("ls"))
	}
	id = c.submit("--wait", "-a", "3,5", "-o", "arr_%A_%3a.txt", "--wrap", "echo $SLURM_ARRAY_TASK_ID")
	if got := c.file("arr_"+id+"_003.txt") + c.file("arr_"+id+"_005.txt"); got != "3\n5\n" {
		t.Errorf("the tasks' output is %q; there are %s", got, c.ok("ls"))
	}
	c.ok("srun", "-n2", "-o", "task_%t_%n_%%.txt", "sh", "-c", "echo $SLURM_PROCID")
	if got := c.file("task_0_0_%.txt") + c.file("task_1_0_%.txt"); got != "0\n1\n" {
		t.Errorf("the tasks' output is %q; there are %s", got, c.ok("ls"))
	}
}

// corresponding: each task follows the task of the same index.
func corresponding(t *testing.T, c *cluster) {
	a := c.submit("-a", "1-3", "-o", "/dev/null", "--wrap", "[ $SLURM_ARRAY_TASK_ID != 2 ]")
	b := c.submit("-a", "1-3", "-o", "/dev/null", "-d", "aftercorr:"+a, "--wrap", "true")
	c.ended(b+"_1", "COMPLETED 0:0")
	c.ended(b+"_3", "COMPLETED 0:0")
	// The task that is left last is shown in brackets.
	left := regexp.MustCompile(`^` + b + `_(2|\[2\]) PENDING DependencyNeverSatisfied aftercorr:` + a + `_\*\(failed\)\n$`)
	c.await("task 2 to wait for ever", func() bool {
		return left.MatchString(c.ok("squeue", "-h", "-j", b, "-t", "PD", "-o", "%i %T %r %E"))
	})
	c.ok("scancel", b)
}

// message: scontrol notify writes to a job's standard error.
func message(t *testing.T, c *cluster) {
	id := c.submit("-o", "note-%j.out", "--wrap", "sleep 300")
	c.running(id)
	c.ok("scontrol", "notify", id, "please", "save")
	c.await("the message", func() bool { return c.file("note-"+id+".out") == "slurmstepd: error: please save\n" })
	c.ok("scancel", id)
	c.ended(id, "CANCELLED by 0 0:0")
	if r := c.run("scontrol", "notify", "999999", "x"); r.code != 1 || !strings.Contains(r.errOut, "Invalid job id specified") {
		t.Error(r)
	}
}

// processes: scontrol listpids tells which processes a step has on a node.
func processes(t *testing.T, c *cluster) {
	id := c.submit("-N2", "-n3", "-w", "n[1-2]", "-o", "/dev/null", "--wrap", "srun sleep 300")
	c.running(id)
	re := regexp.MustCompile(`^PID      JOBID    STEPID   LOCALID GLOBALID\n(?s:.*)(\d+) +` + id + ` +batch    0       0  `)
	c.await("the batch step's processes", func() bool { return re.MatchString(c.run("scontrol", "listpids", id, "n1").out) })
	step := regexp.MustCompile(`(?m)^(\d+) +` + id + ` +0        (\d) +(\d)`)
	for node, want := range map[string]int{"n1": 2, "n2": 1} {
		var found [][]string
		c.await("the step's processes", func() bool {
			found = step.FindAllStringSubmatch(c.run("scontrol", "listpids", id+".0", node).out, -1)
			return len(found) == want
		})
		for _, f := range found {
			if b, err := os.ReadFile("/proc/" + f[1] + "/comm"); err != nil || strings.TrimSpace(string(b)) != "sleep" {
				t.Errorf("process %s is %q, %v", f[1], b, err)
			}
		}
	}
	c.ok("scancel", id)
	c.ended(id, "CANCELLED by 0 0:0")
	if r := c.run("scontrol", "listpids", "999999"); r.code != 1 || !strings.Contains(r.errOut, "There are no steps for job 999999") {
		t.Error(r)
	}
}
