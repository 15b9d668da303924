package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	commandTime = 60 * time.Second // for a command to end
	poll        = 20 * time.Millisecond
	logTail     = 4000 // bytes of each log that a failed test shows
)

// prefix is where the binaries are: it has bin, sbin and libexec/sluice.
var prefix = sync.OnceValues(func() (string, error) {
	if p := os.Getenv("SLUICE_PREFIX"); p != "" {
		return filepath.Abs(p)
	}
	top, err := filepath.Abs("../..")
	if err != nil {
		return "", err
	}
	p := filepath.Join(top, "build")
	if _, err := os.Stat(filepath.Join(p, "bin", "sluice")); err == nil {
		return p, nil
	}
	cmd := exec.Command("make", "-C", top, "build")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("make build: %w\n%s", err, out)
	}
	return p, nil
})

// cluster is a running cluster of a test.
type cluster struct {
	t    *testing.T
	dir  string // of the cluster
	work string // where commands run
	root string // of the binaries
	env  []string

	looks int // of quickState
}

// up starts a cluster with the arguments of sluice up; it ends with the test.
func up(t *testing.T, args ...string) *cluster {
	t.Helper()
	root, err := prefix()
	if err != nil {
		t.Skipf("the binaries cannot be built: %v", err)
	}
	dir, err := os.MkdirTemp("", "e2e") // short, for the sake of sockets
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, dir: filepath.Join(dir, "c"), work: filepath.Join(dir, "w"), root: root}
	if err := os.Mkdir(c.work, 0o777); err != nil {
		t.Fatal(err)
	}
	c.environ()
	t.Cleanup(func() { c.end(dir) })
	c.ok("sluice", append([]string{"up"}, args...)...)
	return c
}

// environ is what commands see: this cluster, and nothing of another.
func (c *cluster) environ() {
	c.env = []string{
		"SLURM_CONF=" + filepath.Join(c.dir, "etc", "slurm.conf"),
		"PATH=" + filepath.Join(c.root, "bin") + ":" + filepath.Join(c.root, "sbin") + ":" + os.Getenv("PATH"),
		"SLUICE_DIR=" + c.dir, "LC_ALL=C",
	}
	for _, e := range os.Environ() {
		if n, _, _ := strings.Cut(e, "="); n != "PATH" && n != "LC_ALL" && !strings.HasPrefix(n, "SLURM_") && !strings.HasPrefix(n, "SLUICE_") {
			c.env = append(c.env, e)
		}
	}
}

// freePorts finds n ports in a row that nobody listens on.
func freePorts(t *testing.T, n int) int {
	t.Helper()
	const first, last = 32000, 32700 // below what the kernel gives to clients
	for p := first + os.Getpid()*7%(last-first-n); ; p = first + (p+n-first)%(last-first-n) {
		free := 0
		for ; free < n; free++ {
			l, err := net.Listen("tcp4", fmt.Sprintf(":%d", p+free))
			if err != nil {
				break
			}
			l.Close()
		}
		if free == n {
			return p
		}
	}
}

// end cancels the jobs, stops the daemons and looks for what they left behind.
func (c *cluster) end(dir string) {
	if c.t.Failed() {
		c.showLogs()
	}
	c.cancelAll()
	if !c.t.Failed() { // what still ends when its slurmd goes would stay
		within(3*time.Second, func() bool { return c.run("squeue", "-h").out == "" })
	}
	if r := c.run("sluice", "down"); r.code != 0 {
		c.t.Errorf("sluice down: %s", r)
	}
	var left []string
	gone := func() bool { left = c.processes(); return len(left) == 0 }
	if !within(30*time.Second, gone) {
		c.t.Errorf("processes outlive the cluster: %v", left)
		for _, l := range left {
			if pid, err := strconv.Atoi(strings.Fields(l)[0]); err == nil {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
	if os.Getenv("E2E_KEEP") == "" {
		os.RemoveAll(dir)
	}
}

func (c *cluster) showLogs() {
	logs, _ := filepath.Glob(filepath.Join(c.dir, "log", "*.out"))
	for _, f := range logs {
		data, _ := os.ReadFile(f)
		c.t.Logf("--- %s\n%s", filepath.Base(f), data[max(0, len(data)-logTail):])
	}
}

// processes lists what runs of this cluster: every program of the prefix whose
// environment or command line names the cluster's directory.
func (c *cluster) processes() []string {
	var out []string
	for _, p := range procs() {
		if p.pid == os.Getpid() || !strings.HasPrefix(p.exe, c.root) {
			continue
		}
		args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid))
		env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.pid))
		if bytes.Contains(args, []byte(c.dir)) || bytes.Contains(env, []byte(c.dir)) || holds(p.pid, c.dir) {
			out = append(out, fmt.Sprintf("%d %s", p.pid, p.exe))
		}
	}
	return out
}

// proc is a process that lives.
type proc struct {
	pid, ppid int
	exe       string // path, empty when it may not be read
}

// cancelAll ends every job; one that waits goes first, lest it starts.
func (c *cluster) cancelAll() {
	for _, state := range []string{"PENDING", "RUNNING", "SUSPENDED"} {
		c.run("scancel", "--state="+state)
	}
}

// holds reports whether a process has a file below dir open: a supervisor's
// arguments and environment do not tell whose it is.
func holds(pid int, dir string) bool {
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	return slices.ContainsFunc(fds, func(fd string) bool {
		file, _ := os.Readlink(fd)
		return strings.HasPrefix(file, dir+"/")
	})
}

// procs lists the machine's processes.
func procs() []proc {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	var out []proc
	for _, f := range stats {
		data, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		w := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if len(w) < 2 || w[0] == "Z" {
			continue
		}
		ppid, _ := strconv.Atoi(w[1])
		exe, _ := os.Readlink(filepath.Join(filepath.Dir(f), "exe"))
		out = append(out, proc{pid, ppid, strings.TrimSuffix(exe, " (deleted)")})
	}
	return out
}

// result is what a command did.
type result struct {
	line        string
	out, errOut string
	code        int
}

func (r result) String() string {
	return fmt.Sprintf("%s: exit %d\nstdout: %s\nstderr: %s", r.line, r.code, r.out, r.errOut)
}

// run runs a command of the cluster to its end.
func (c *cluster) run(name string, args ...string) result {
	c.t.Helper()
	return c.feed("", name, args...)
}

// feed is run with something on standard input.
func (c *cluster) feed(stdin, name string, args ...string) result {
	c.t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), commandTime)
	defer stop()
	cmd := c.command(ctx, name, args...)
	var out, bad bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &bad
	err := cmd.Run()
	r := result{line: name + " " + strings.Join(args, " "), out: out.String(), errOut: bad.String()}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		r.code = exit.ExitCode()
		if ctx.Err() != nil {
			r.errOut += fmt.Sprintf("(no end within %v)", commandTime)
		}
	} else if err != nil {
		c.t.Fatalf("%s: %v", r.line, err)
	}
	return r
}

// command prepares a command: one of the prefix, else of the machine.
func (c *cluster) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	if p := filepath.Join(c.root, "bin", name); fileExists(p) {
		name = p
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = c.work, c.env
	cmd.Cancel, cmd.WaitDelay = func() error { return cmd.Process.Signal(syscall.SIGTERM) }, 2*time.Second
	return cmd
}

// ok runs a command that must succeed, and returns its output.
func (c *cluster) ok(name string, args ...string) string {
	c.t.Helper()
	r := c.run(name, args...)
	if r.code != 0 {
		c.t.Fatal(r)
	}
	return r.out
}

// submit runs sbatch and returns the job's id.
func (c *cluster) submit(args ...string) string {
	c.t.Helper()
	out := strings.TrimSpace(c.ok("sbatch", append([]string{"--parsable"}, args...)...))
	if _, err := strconv.Atoi(out); err != nil {
		c.t.Fatalf("sbatch --parsable printed %q", out)
	}
	return out
}

// state is the job's state as accounting tells it, with its exit code: the
// words "COMPLETED 0:0"; empty when accounting knows no such job.
func (c *cluster) state(job string) string {
	c.t.Helper()
	out := c.ok("sacct", "-X", "-n", "-P", "-j", job, "-o", "State,ExitCode")
	return strings.ReplaceAll(strings.TrimSpace(out), "|", " ")
}

// ended waits until accounting tells the end of a job, and compares.
func (c *cluster) ended(job, want string) {
	c.t.Helper()
	got := ""
	if !within(commandTime, func() bool { got = c.state(job); return isEnd(got) }) || got != want {
		c.t.Errorf("job %s: %q in accounting, want %q\n%s", job, got, want, c.run("scontrol", "show", "job", job))
	}
}

func isEnd(state string) bool {
	w, _, _ := strings.Cut(state, " ")
	return w != "" && !slices.Contains([]string{"PENDING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED"}, w)
}

// running waits until a job runs.
func (c *cluster) running(job string) {
	c.t.Helper()
	c.await("job "+job+" to run", func() bool {
		return strings.TrimSpace(c.run("squeue", "-h", "-j", job, "-o", "%T").out) == "RUNNING"
	})
}

// await fails the test when cond does not come true.
func (c *cluster) await(what string, cond func() bool) {
	c.t.Helper()
	if !within(commandTime, cond) {
		c.t.Fatalf("waited %v in vain for %s\n%s", commandTime, what, c.run("squeue"))
	}
}

// within polls until cond holds; false when it does not in time.
func within(d time.Duration, cond func() bool) bool {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for end := time.Now().Add(d); !cond(); <-tick.C {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// file reads a file of the working directory; empty when there is none.
func (c *cluster) file(name string) string {
	data, _ := os.ReadFile(filepath.Join(c.work, name))
	return string(data)
}

func (c *cluster) write(name, text string) string {
	c.t.Helper()
	p := filepath.Join(c.work, name)
	if err := os.WriteFile(p, []byte(text), 0o755); err != nil {
		c.t.Fatal(err)
	}
	return p
}

func fileExists(p string) bool {
	_, err := os.Stat(p)
	return err == nil
}
