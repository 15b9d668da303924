package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/launch/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/wlm/v1"
	"github.com/sluice-hpc/sluice/sdk/stepd"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"google.golang.org/protobuf/encoding/protojson"
)

// stepdPath is the supervisor under test, built once.
var stepdPath string

// patience bounds every wait of these tests.
const patience = 30 * time.Second

func TestMain(m *testing.M) {
	if os.Getenv("LAUNCH_HELPER") != "" {
		os.Exit(launchHelper())
	}
	dir, err := os.MkdirTemp("", "stepd")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		panic(err)
	}
	stepdPath = dir + "/slurmstepd"
	cmd := exec.Command("go", "build", "-o", stepdPath, "github.com/sluice-hpc/sluice/daemons/slurmstepd")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building slurmstepd: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// launchHelper is a launcher in a process of its own, which is killed.
func launchHelper() int {
	var r launchv1.LaunchRequest
	if err := protojson.Unmarshal([]byte(os.Getenv("LAUNCH_REQUEST")), &r); err != nil {
		fmt.Println(err)
		return 1
	}
	if _, err := newLauncher(os.Getenv("LAUNCH_HELPER")).Launch(context.Background(), &r); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("started")
	select {}
}

// bench is a launcher with a spool and everything that it told.
type bench struct {
	*launcher
	t     *testing.T
	spool string
	work  string // writable by the user of the tasks
	uid   uint32
	told  chan *launchv1.Happening
	exits map[uint32]*launchv1.TaskExit
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, spool: filepath.Join(t.TempDir(), "spool"), work: filepath.Join(t.TempDir(), "work"),
		uid: uint32(os.Getuid()), exits: make(map[uint32]*launchv1.TaskExit)}
	if b.uid == 0 {
		b.uid = 65534
	}
	for _, d := range []string{b.spool, b.work} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
		// The directories above must let the tasks' user through.
		for p := d; len(p) > len(os.TempDir()); p = filepath.Dir(p) {
			os.Chmod(p, 0o755)
		}
	}
	if os.Getuid() == 0 {
		if err := os.Chown(b.work, int(b.uid), int(b.uid)); err != nil {
			t.Fatal(err)
		}
	}
	b.use(newLauncher(stepdPath))
	return b
}

// use makes l the bench's launcher and watches it.
func (b *bench) use(l *launcher) {
	ctx, cancel := context.WithCancel(context.Background())
	b.launcher, b.told = l, make(chan *launchv1.Happening, 1000)
	told, done := b.told, make(chan struct{})
	watches := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return int(l.watches)
	}
	before := watches()
	defer func() { // the next Watch must not overtake this one
		for watches() == before {
			runtime.Gosched()
		}
	}()
	go func() {
		defer close(done)
		l.Watch(ctx, func(h *launchv1.Happening) error { told <- h; return nil })
	}()
	b.t.Cleanup(func() { cancel(); <-done })
}

// request runs argv as one task of job 7's batch step, output to files.
func (b *bench) request(argv ...string) *launchv1.LaunchRequest {
	return &launchv1.LaunchRequest{Job: 7, Step: uint32(wlm.StepBatch), Node: "n1", Uid: b.uid, Gid: b.uid,
		UserName: "alice", TaskIds: []uint32{0}, Ntasks: 1, Nnodes: 1, StepDir: b.spool + "/7.batch", JobName: "demo",
		Work: &launchv1.Work{Argv: argv, Env: []string{"PATH=/usr/bin:/bin", "SLURM_JOB_ID=7"}, Cwd: b.work, Umask: 0o22,
			Stdout: &launchv1.Stream{Kind: launchv1.Stream_FILE, Path: "out"},
			Stderr: &launchv1.Stream{Kind: launchv1.Stream_FILE, Path: "err"}}}
}

func (b *bench) launch(r *launchv1.LaunchRequest) *launchv1.LaunchReply {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	reply, err := b.Launch(ctx, r)
	if err != nil {
		b.t.Fatal(err)
	}
	return reply
}

// gone waits for the end of the step.
func (b *bench) gone() *launchv1.StepGone {
	b.t.Helper()
	for {
		select {
		case h := <-b.told:
			if x := h.GetTask(); x != nil {
				b.exits[x.GetTaskId()] = x
			}
			if g := h.GetGone(); g != nil {
				return g
			}
		case <-time.After(patience):
			b.t.Fatal("the step did not end")
		}
	}
}

func (b *bench) read(name string) string {
	b.t.Helper()
	x, err := os.ReadFile(filepath.Join(b.work, name))
	if err != nil {
		b.t.Fatal(err)
	}
	return string(x)
}

func (b *bench) run(argv ...string) (out, errOut string, g *launchv1.StepGone) {
	b.t.Helper()
	b.launch(b.request(argv...))
	g = b.gone()
	return b.read("out"), b.read("err"), g
}

func ref() *launchv1.StepRef { return &launchv1.StepRef{Job: 7, Step: uint32(wlm.StepBatch)} }

func TestStatus(t *testing.T) {
	tests := []struct {
		script string
		want   string
	}{
		{"true", "0:0"},
		{"exit 42", "42:0"},
		{"kill -9 $$", "0:9"},
		{"kill -TERM $$", "0:15"},
	}
	for _, tt := range tests {
		t.Run(tt.script, func(t *testing.T) {
			b := newBench(t)
			_, _, g := b.run("/bin/sh", "-c", tt.script)
			if got := wlm.WaitStatus(g.GetStatus()).String(); got != tt.want {
				t.Errorf("status %s, want %s", got, tt.want)
			}
			if err := b.Forget(context.Background(), ref()); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(b.spool + "/7.batch"); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the directory is still there: %v", err)
			}
		})
	}
}

func TestEnvironmentOfTasks(t *testing.T) {
	b := newBench(t)
	r := b.request("sh", "-c", `echo $SLURM_PROCID $SLURM_LOCALID $SLURM_NODEID $SLURM_GTIDS $EXTRA $(test $SLURM_TASK_PID = $$ && echo self) $(pwd) $(umask) $(ulimit -n) $(id -u)`)
	r.Step, r.StepDir = 3, b.spool+"/7.3"
	r.TaskIds, r.Ntasks, r.NodeId, r.Nnodes = []uint32{4, 5}, 6, 1, 2
	r.PerTaskEnv = []string{"EXTRA=%t-%l"}
	r.Work.Umask = 0o27
	r.Work.Stdout.Path = "%j.%s.%t-%2n-%x-%u-%N"
	r.Work.Limits = []*wlmv1.RLimit{{Name: "NOFILE", Soft: 99, Hard: 111}}
	b.launch(r)
	b.gone()
	for i, name := range []string{"7.3.4-01-demo-alice-n1", "7.3.5-01-demo-alice-n1"} {
		want := fmt.Sprintf("%d %d 1 4,5 %d-%d self %s 0027 99 %d\n", 4+i, i, 4+i, i, b.work, b.uid)
		if got := b.read(name); got != want {
			t.Errorf("task %d printed %q, want %q", 4+i, got, want)
		}
		st, err := os.Stat(filepath.Join(b.work, name))
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode().Perm() != 0o640 || st.Sys().(*syscall.Stat_t).Uid != b.uid {
			t.Errorf("%s has mode %v and owner %d", name, st.Mode(), st.Sys().(*syscall.Stat_t).Uid)
		}
	}
	if len(b.exits) != 2 {
		t.Errorf("%d tasks reported, want 2", len(b.exits))
	}
}

func TestBatchScript(t *testing.T) {
	b := newBench(t)
	r := b.request("job.sh", "one", "two words")
	r.Script = []byte("#!/bin/sh\necho \"$0|$1|$2\"; stat -c '%a %u' \"$0\"\n")
	b.launch(r)
	b.gone()
	want := fmt.Sprintf("%s/7.batch/slurm_script|one|two words\n500 %d\n", b.spool, b.uid)
	if got := b.read("out"); got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
}

func TestMistakes(t *testing.T) {
	t.Run("command not found", func(t *testing.T) {
		b := newBench(t)
		_, e, g := b.run("nosuchcommand")
		if s := wlm.WaitStatus(g.GetStatus()).String(); s != "2:0" {
			t.Errorf("status %s, want 2:0", s)
		}
		if !strings.HasPrefix(e, "[20") || !strings.HasSuffix(e, "] error: execve(): nosuchcommand: No such file or directory\n") {
			t.Errorf("stderr %q", e)
		}
	})
	t.Run("no such directory", func(t *testing.T) {
		b := newBench(t)
		r := b.request("pwd")
		r.Work.Cwd = "/nonexistent"
		r.Work.Stdout.Path, r.Work.Stderr.Path = b.work+"/out", b.work+"/err"
		b.launch(r)
		b.gone()
		if got := b.read("out"); got != "/tmp\n" {
			t.Errorf("ran in %q, want /tmp", got)
		}
		if e := b.read("err"); !strings.HasSuffix(e, "] error: couldn't chdir to `/nonexistent': No such file or directory: going to /tmp instead\n") {
			t.Errorf("stderr %q", e)
		}
	})
	t.Run("output cannot be opened", func(t *testing.T) {
		b := newBench(t)
		r := b.request("true")
		r.Work.Stdout.Path = "/nonexistent/out"
		b.launch(r)
		g := b.gone()
		if s := wlm.WaitStatus(g.GetStatus()).String(); s != "0:53" {
			t.Errorf("status %s, want 0:53", s)
		}
		if want := "Could not open stdout file /nonexistent/out: No such file or directory"; g.GetError() != want {
			t.Errorf("error %q, want %q", g.GetError(), want)
		}
	})
	t.Run("launched twice", func(t *testing.T) {
		b := newBench(t)
		b.launch(b.request("true"))
		b.gone()
		if _, err := b.Launch(context.Background(), b.request("true")); errs.KindOf(err) != errs.Exists {
			t.Errorf("error %v, want kind %v", err, errs.Exists)
		}
	})
}

// lines waits until a file has n lines and returns them.
func (b *bench) lines(name string, n int) []string {
	b.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		x, _ := os.ReadFile(filepath.Join(b.work, name))
		if l := strings.Split(string(x), "\n"); len(l) > n {
			return l[:n]
		}
		syscall.Select(0, nil, nil, nil, &syscall.Timeval{Usec: 5000})
	}
	b.t.Fatalf("%s has no %d lines", name, n)
	return nil
}

func alive(pid int) bool {
	x, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(x), ") Z ")
}

func TestSignals(t *testing.T) {
	t.Run("every process", func(t *testing.T) {
		b := newBench(t)
		b.launch(b.request("sh", "-c", `(setsid sh -c 'trap "echo far; exit" USR1; echo ready; while :; do sleep 0.1; done') & trap "echo near" USR1; while [ ! -s out ]; do sleep 0.01; done; echo up; wait; wait`))
		b.lines("out", 2)
		if err := b.Signal(context.Background(), &launchv1.SignalRequest{Step: ref(), Signal: uint32(syscall.SIGUSR1), Notice: "slurmstepd: error: *** note ***"}); err != nil {
			t.Fatal(err)
		}
		b.gone()
		out := b.read("out")
		if !strings.Contains(out, "near\n") || !strings.Contains(out, "far\n") {
			t.Errorf("printed %q, want near and far", out)
		}
		if e := b.read("err"); !strings.Contains(e, "slurmstepd: error: *** note ***\n") {
			t.Errorf("stderr %q", e)
		}
	})
	t.Run("the shell only", func(t *testing.T) {
		b := newBench(t)
		b.launch(b.request("sh", "-c", `trap "echo got" USR1; (echo ready; exec sleep 3) & wait; kill $!`))
		b.lines("out", 1)
		if err := b.Signal(context.Background(), &launchv1.SignalRequest{Step: ref(), Signal: uint32(syscall.SIGUSR1), BatchShellOnly: true}); err != nil {
			t.Fatal(err)
		}
		b.gone()
		if out := b.read("out"); !strings.Contains(out, "got\n") {
			t.Errorf("printed %q", out)
		}
	})
	t.Run("strays are killed", func(t *testing.T) {
		b := newBench(t)
		b.launch(b.request("sh", "-c", `setsid sh -c 'sleep 1000 & echo $!; wait' & while [ ! -s out ]; do sleep 0.01; done`))
		b.gone()
		pid, err := strconv.Atoi(b.lines("out", 1)[0])
		if err != nil {
			t.Fatal(err)
		}
		if alive(pid) {
			t.Errorf("process %d outlived its step", pid)
		}
	})
}

// attach connects to a step's stdio.
func attach(t *testing.T, socket string) *stepd.Conn {
	t.Helper()
	c, err := stepd.Dial(socket, stepd.Frame{Kind: stepd.Attach})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// collect reads everything until the supervisor closes.
func collect(t *testing.T, c *stepd.Conn) (out, errOut string, events []stepd.Event) {
	t.Helper()
	for {
		f, err := c.Recv()
		if err != nil {
			if err != io.EOF && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("reading from the supervisor: %v", err)
			}
			return out, errOut, events
		}
		switch f.Kind {
		case stepd.Stdout:
			out += string(f.Data)
		case stepd.Stderr:
			errOut += string(f.Data)
		case stepd.Happened:
			var e stepd.Event
			if err := json.Unmarshal(f.Data, &e); err != nil {
				t.Fatal(err)
			}
			events = append(events, e)
		}
	}
}

func (b *bench) interactive(argv ...string) *launchv1.LaunchRequest {
	r := b.request(argv...)
	caller := &launchv1.Stream{Kind: launchv1.Stream_CALLER}
	r.Step, r.StepDir = 0, b.spool+"/7.0"
	r.Work.Stdin, r.Work.Stdout, r.Work.Stderr = caller, caller, caller
	return r
}

func TestStdio(t *testing.T) {
	t.Run("both ways", func(t *testing.T) {
		b := newBench(t)
		c := attach(t, b.launch(b.interactive("sh", "-c", "cat; echo oops >&2; exit 3")).GetSocket())
		c.Send(stepd.Frame{Kind: stepd.Stdin, Task: stepd.AllTasks, Data: []byte("hello\n")})
		c.Send(stepd.Frame{Kind: stepd.StdinEOF, Task: 0})
		out, e, events := collect(t, c)
		if out != "hello\n" || e != "oops\n" {
			t.Errorf("out %q err %q", out, e)
		}
		if last := events[len(events)-1]; last.Kind != stepd.Gone || last.Status != 3<<8 {
			t.Errorf("last event %+v", last)
		}
	})
	t.Run("output waits for whoever comes late", func(t *testing.T) {
		b := newBench(t)
		r := b.launch(b.interactive("echo", "early"))
		b.gone()
		if out, _, _ := collect(t, attach(t, r.GetSocket())); out != "early\n" {
			t.Errorf("got %q", out)
		}
	})
	t.Run("large output", func(t *testing.T) {
		b := newBench(t)
		r := b.launch(b.interactive("head", "-c", "5000000", "/dev/zero"))
		if out, _, _ := collect(t, attach(t, r.GetSocket())); len(out) != 5000000 {
			t.Errorf("got %d bytes", len(out))
		}
	})
	t.Run("joined", func(t *testing.T) {
		b := newBench(t)
		q := b.interactive("sh", "-c", "echo a; echo b >&2")
		q.Work.Stderr = &launchv1.Stream{Kind: launchv1.Stream_JOINED}
		if out, e, _ := collect(t, attach(t, b.launch(q).GetSocket())); out != "a\nb\n" || e != "" {
			t.Errorf("out %q err %q", out, e)
		}
	})
	t.Run("terminal", func(t *testing.T) {
		b := newBench(t)
		q := b.interactive("sh", "-c", `stty -echo; tty -s && stty size; read x; stty size; echo "got $x"`)
		q.Work.Pty, q.Work.Rows, q.Work.Cols = true, 33, 77
		c := attach(t, b.launch(q).GetSocket())
		var seen string
		for !strings.Contains(seen, "33 77") {
			f, err := c.Recv()
			if err != nil {
				t.Fatalf("after %q: %v", seen, err)
			}
			seen += string(f.Data)
		}
		c.Send(stepd.Frame{Kind: stepd.Window, Task: stepd.AllTasks, Data: []byte{0, 40, 0, 100}})
		c.Send(stepd.Frame{Kind: stepd.Stdin, Task: stepd.AllTasks, Data: []byte("line\n")})
		out, _, _ := collect(t, c)
		if !strings.Contains(out, "40 100") || !strings.Contains(out, "got line") {
			t.Errorf("terminal printed %q", out)
		}
	})
}

// The launcher is killed while a task runs; the next one finds the step, the
// task is not disturbed, and its end is told.
func TestRecover(t *testing.T) {
	b := newBench(t)
	r := b.request("sh", "-c", `echo ready; while [ ! -e go ]; do sleep 0.02; done; echo done; exit 5`)
	q, err := protojson.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "LAUNCH_HELPER="+stepdPath, "LAUNCH_REQUEST="+string(q))
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(pipe).ReadString('\n'); err != nil || line != "started\n" {
		t.Fatalf("the launcher said %q, %v", line, err)
	}
	b.lines("out", 1)
	cmd.Process.Kill()
	cmd.Wait()

	b.use(newLauncher(stepdPath))
	found, err := b.Recover(context.Background(), b.spool)
	if err != nil {
		t.Fatal(err)
	}
	if len(found.GetSteps()) != 1 {
		t.Fatalf("found %d steps, want 1", len(found.GetSteps()))
	}
	s := found.GetSteps()[0]
	if s.GetGone() != nil || s.GetStep().GetJob() != 7 || s.GetUid() != b.uid || len(s.GetPids()) != 1 || !alive(int(s.GetPids()[0])) {
		t.Fatalf("found %v", s)
	}
	if st, err := b.Stats(context.Background(), ref()); err != nil || len(st.GetPids()) == 0 {
		t.Errorf("stats %v, %v", st, err)
	}
	if err := os.WriteFile(b.work+"/go", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if g := b.gone(); wlm.WaitStatus(g.GetStatus()).String() != "5:0" {
		t.Errorf("status %v", g)
	}
	if got := b.read("out"); got != "ready\ndone\n" {
		t.Errorf("printed %q", got)
	}

	// Ended while nobody looked: told again by the next launcher.
	b.use(newLauncher(stepdPath))
	found, err = b.Recover(context.Background(), b.spool)
	if err != nil || len(found.GetSteps()) != 1 || found.GetSteps()[0].GetGone().GetStatus() != 5<<8 {
		t.Errorf("found %v, %v", found, err)
	}
}

// A node daemon that dies under its call of Launch, and so cancels it, takes
// nothing with it.
func TestCallerDies(t *testing.T) {
	b := newBench(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r := b.request("sh", "-c", "echo ran; exit 5")
	if _, err := b.Launch(ctx, r); err != nil && errs.KindOf(err) != errs.Unavail {
		t.Fatalf("error %v, want kind %v or none", err, errs.Unavail)
	}
	if g := b.gone(); wlm.WaitStatus(g.GetStatus()).String() != "5:0" {
		t.Errorf("end %v", g)
	}
	if got := b.read("out"); got != "ran\n" {
		t.Errorf("printed %q", got)
	}
}

func TestKilledSupervisor(t *testing.T) {
	b := newBench(t)
	reply := b.launch(b.request("sh", "-c", "sleep 1000 & echo $!; wait"))
	child, err := strconv.Atoi(b.lines("out", 1)[0])
	if err != nil {
		t.Fatal(err)
	}
	syscall.Kill(int(reply.GetSupervisor()), syscall.SIGKILL)
	g := b.gone()
	if wlm.WaitStatus(g.GetStatus()).String() != "0:9" || !strings.HasPrefix(g.GetError(), "slurmstepd was killed") {
		t.Errorf("end %v", g)
	}
	for end := time.Now().Add(patience); alive(child) || alive(int(reply.GetPids()[0])); {
		if time.Now().After(end) {
			t.Fatal("processes outlived their supervisor")
		}
		syscall.Select(0, nil, nil, nil, &syscall.Timeval{Usec: 1000})
	}
}

// The kernel kills a task that wants more memory than its step has.
func TestOutOfMemory(t *testing.T) {
	b := newBench(t)
	r := b.request("/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=300M", "count=1")
	r.ConstrainMemory, r.Mem, r.CgroupRoot = true, 50, "sluice_test_"+strconv.Itoa(os.Getpid())
	groups := cgroups(r)
	if len(groups) == 0 {
		t.Skip("this host has no memory cgroup")
	}
	if err := os.MkdirAll(groups[0].Dir, 0o755); err != nil {
		t.Skipf("cgroups cannot be made here: %v", err)
	}
	t.Cleanup(func() {
		os.Remove(groups[0].Dir)
		os.Remove(filepath.Dir(groups[0].Dir))
	})
	limit := filepath.Join(groups[0].Dir, groups[0].Values[0].File)
	if err := os.WriteFile(limit, []byte(groups[0].Values[0].Value), 0); err != nil {
		t.Skipf("memory cannot be constrained here: %v", err)
	}
	b.launch(r)
	g := b.gone()
	if !g.GetOom() || wlm.WaitStatus(g.GetStatus()).Signal() != 9 {
		t.Errorf("end %v, %s", g, b.read("err"))
	}
	if _, err := os.Stat(groups[0].Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the cgroup is still there: %v", err)
	}
}

// A task cannot leave the processors of its step, whatever it asks for.
func TestCpuset(t *testing.T) {
	if _, err := exec.LookPath("taskset"); err != nil {
		t.Skip("no taskset here")
	}
	b := newBench(t)
	r := b.request("sh", "-c", "taskset -cp 0-1023 $$ >/dev/null 2>&1; sed -n 's/^Cpus_allowed_list:.//p' /proc/self/status")
	r.ConstrainCores, r.CpuSet, r.CgroupRoot = true, wlm.FullCPUSet(1), "sluice_test_"+strconv.Itoa(os.Getpid())
	groups := cgroups(r)
	if len(groups) == 0 {
		t.Skip("this host has no cpuset cgroup that can be used")
	}
	dir := groups[0].Dir
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Skipf("cgroups cannot be made here: %v", err)
	}
	t.Cleanup(func() {
		os.Remove(dir)
		os.Remove(filepath.Dir(dir))
	})
	for _, v := range groups[0].Values {
		if err := os.WriteFile(filepath.Join(dir, v.File), []byte(v.Value), 0); err != nil {
			t.Skipf("processors cannot be constrained here: %v", err)
		}
	}
	b.launch(r)
	if g := b.gone(); g.GetStatus() != 0 {
		t.Errorf("end %v, %s", g, b.read("err"))
	}
	if got := strings.TrimSpace(b.read("out")); got != "0" {
		t.Errorf("the task runs on processors %s, its step has 0", got)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the cgroup is still there: %v", err)
	}
}

// A directory whose supervisor never came is removed, and one that comes late
// runs nothing.
func TestNeverBegan(t *testing.T) {
	b := newBench(t)
	f, err := b.makeDir(&step{dir: b.spool + "/7.batch"}, b.request("true"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	found, err := b.Recover(context.Background(), b.spool)
	if err != nil || len(found.GetSteps()) != 0 {
		t.Errorf("found %v, %v", found, err)
	}
	if _, err := os.Stat(b.spool + "/7.batch"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is still there: %v", err)
	}
}

func BenchmarkLaunch(b *testing.B) {
	l := newLauncher(stepdPath)
	spool := b.TempDir()
	told := make(chan *launchv1.Happening, 1000)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go l.Watch(ctx, func(h *launchv1.Happening) error { told <- h; return nil })
	for i := range b.N {
		r := &launchv1.LaunchRequest{Job: uint32(i + 1), Node: "n1", Uid: uint32(os.Getuid()), Gid: uint32(os.Getgid()),
			TaskIds: []uint32{0}, StepDir: fmt.Sprintf("%s/%d.0", spool, i+1), Work: &launchv1.Work{Argv: []string{"/bin/true"}, Cwd: "/"}}
		if _, err := l.Launch(ctx, r); err != nil {
			b.Fatal(err)
		}
		for (<-told).GetGone() == nil {
		}
		l.Forget(ctx, &launchv1.StepRef{Job: r.Job})
	}
}

// A launcher whose node daemon has died launches nothing: another one may have
// launched the step already.
func TestHostDied(t *testing.T) {
	b := newBench(t)
	b.host = -1
	if _, err := b.Launch(context.Background(), b.request("true")); errs.KindOf(err) != errs.Unavail {
		t.Errorf("error %v, want kind %v", err, errs.Unavail)
	}
	if events, err := stepd.ReadEvents(b.spool + "/7.batch"); err != nil || len(events) != 0 {
		t.Errorf("events %v, %v", events, err)
	}
}

// A supervisor that comes late, when its directory was removed and the step was
// launched again, finds its own events file unlinked and runs nothing.
func TestLateSupervisor(t *testing.T) {
	b := newBench(t)
	r := b.request("sh", "-c", "echo ran >> out2")
	s := &step{key: stepKey{7, r.GetStep()}, dir: r.GetStepDir()}
	late, err := b.makeDir(s, r)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(s.dir); err != nil {
		t.Fatal(err)
	}
	again, err := b.makeDir(s, r)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
	spec, err := specOf(r)
	if err != nil {
		t.Fatal(err)
	}
	out, err := b.start(s, spec, late)
	late.Close()
	if err != nil {
		t.Fatal(err)
	}
	if said, err := io.ReadAll(out); err != nil || len(said) != 0 {
		t.Errorf("the late supervisor said %q, %v", said, err)
	}
	if events, err := stepd.ReadEvents(s.dir); err != nil || len(events) != 0 {
		t.Errorf("events %v, %v", events, err)
	}
}

// A Watch that was given up takes nothing from the one that follows.
func TestSecondWatch(t *testing.T) {
	b := newBench(t)
	b.use(b.launcher) // beside the first one
	b.launch(b.request("true"))
	if g := b.gone(); g.GetStatus() != 0 {
		t.Errorf("end %v", g)
	}
}
