package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// moments are the steps of a batch job's way through its node, each told by
// what it leaves in the node's spool.
var moments = []struct {
	name string
	come func(spool, job string) bool
}{
	{"the job's file is written", func(s, j string) bool { return fileExists(filepath.Join(s, "jobs", j)) }},
	{"the step's directory is made", func(s, j string) bool { return fileExists(filepath.Join(s, j+".batch")) }},
	{"the supervisor began", func(s, j string) bool { return told(s, j, "begin") }},
	{"it is about to fork", func(s, j string) bool { return told(s, j, "fork") }},
	{"the task runs", func(s, j string) bool { return told(s, j, "start") }},
	{"the task has ended", func(s, j string) bool { return told(s, j, "exit") }},
	{"the step is gone", func(s, j string) bool { return told(s, j, "gone") }},
	{"its end is reported", func(s, j string) bool {
		return !fileExists(filepath.Join(s, "jobs", j)) && fileExists(filepath.Join(s, j+".batch"))
	}},
	{"all of it is forgotten", func(s, j string) bool { return !fileExists(filepath.Join(s, j+".batch")) }},
}

// told reports whether a step's events hold one of a kind.
func told(spool, job, kind string) bool {
	data, err := os.ReadFile(filepath.Join(spool, job+".batch", "events"))
	return err == nil && bytes.Contains(data, []byte(`"k":"`+kind+`"`))
}

// At every step of a job's way, kill -9 hits the node's daemon, its launch
// plugin, the controller, or both daemons; some were stopped for a moment
// before. Each job runs once and is recorded with its own exit code.
func TestKillAtEveryMoment(t *testing.T) {
	c := up(t, "--nodes", "1", "--cpus", "4")
	spool := filepath.Join(c.dir, "spool", "n1")
	victims := []string{"n1", "plugin", "ctld", "both"}
	var ids []string
	for i, m := range moments {
		for k, victim := range victims {
			if testing.Short() && k != i%len(victims) {
				continue
			}
			id := c.submit("-o", "/dev/null", "--mem=10", "--wrap", "echo $SLURM_JOB_ID >> ran; exit $((SLURM_JOB_ID % 4))")
			ids = append(ids, id)
			c.spin(m.name, func() bool {
				// What came and went between two looks counts as come.
				return m.come(spool, id) || isEnd(c.quickState(id))
			})
			c.hit(victim, (i+k)%3 == 0)
		}
	}
	c.checkAccepted(ids)
}

// quickState asks for a job's state only now and then: a moment is short.
func (c *cluster) quickState(id string) string {
	if c.looks++; c.looks%2000 != 0 {
		return ""
	}
	return c.state(id)
}

// spin looks for a moment without a pause.
func (c *cluster) spin(what string, cond func() bool) {
	c.t.Helper()
	for end := time.Now().Add(commandTime); !cond(); runtime.Gosched() {
		if time.Now().After(end) {
			c.t.Fatalf("waited %v in vain until %s", commandTime, what)
		}
	}
}

// hit kills a victim and brings it back; stopped: it stands still for a moment
// before.
func (c *cluster) hit(victim string, stopped bool) {
	c.t.Helper()
	var pids []int
	var back []string
	switch victim {
	case "plugin":
		for _, v := range c.victims() {
			if v.daemon == "" && strings.Contains(v.name, "launch_") {
				pids = append(pids, v.pid)
			}
		}
	case "both":
		back = []string{"ctld", "n1"}
	default:
		back = []string{victim}
	}
	for _, name := range back {
		pids = append(pids, c.pid(name))
	}
	if stopped {
		for _, pid := range pids {
			syscall.Kill(pid, syscall.SIGSTOP)
		}
		stand := time.NewTimer(poll)
		<-stand.C
	}
	for _, pid := range pids {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	for _, pid := range pids {
		c.await("the killed to be gone", func() bool { return !alive(pid) })
	}
	for _, name := range back {
		c.ok("sluice", "start", name)
	}
}

// Every process of the cluster but the supervisors of steps is killed at once,
// several times under load; whatever was accepted ends, as it should.
func TestKillEverythingAtOnce(t *testing.T) {
	c := up(t, "--nodes", "2", "--cpus", "4")
	keep := c.submit("-o", "/dev/null", "--wrap", "echo on >> keep; until [ -e stop ]; do sleep 0.05; done; exit 3")
	c.await("the job to run", func() bool { return c.file("keep") == "on\n" })
	var ids []string
	for range 3 {
		accepted := make(chan string, 100)
		var refused refusals
		done := make(chan struct{})
		go func() { c.load(40, accepted, &refused); close(done) }()
		for range 20 {
			ids = append(ids, next(t, accepted))
		}
		c.killAtOnce(false)
		for _, name := range []string{"ctld", "n1", "n2"} {
			c.ok("sluice", "start", name)
		}
		<-done
		close(accepted)
		for id := range accepted {
			ids = append(ids, id)
		}
		if bad := refused.texts(); len(bad) > 0 {
			t.Errorf("refused: %s", bad[0])
		}
	}
	c.write("stop", "")
	c.ended(keep, "FAILED 3:0")
	c.checkAccepted(ids)

	// The supervisors too, and with them what they run: such jobs end as killed,
	// and what waits runs.
	lost := c.submit("--no-requeue", "-o", "/dev/null", "-n", "8", "--wrap", "echo on >> lost; sleep 600")
	c.await("the job to run", func() bool { return c.file("lost") == "on\n" })
	waits := c.submit("-o", "/dev/null", "-n", "8", "--wrap", "exit 2")
	c.killAtOnce(true)
	for _, name := range []string{"ctld", "n1", "n2"} {
		c.ok("sluice", "start", name)
	}
	c.ended(lost, "FAILED 0:9")
	c.ended(waits, "FAILED 2:0")
}

// killAtOnce kills every process of the cluster, supervisors only when asked to.
func (c *cluster) killAtOnce(supervisors bool) {
	c.t.Helper()
	var pids []int
	for _, l := range c.processes() {
		w := strings.Fields(l)
		base := filepath.Base(w[1])
		plugin := strings.HasPrefix(w[1], filepath.Join(c.root, "libexec")) && base != "slurmstepd"
		if plugin || base == "slurmctld" || base == "slurmd" {
			pids = append(pids, number(c.t, w[0]))
		}
	}
	if supervisors {
		pids = append(pids, c.supervisors()...)
	}
	for _, pid := range pids {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	for _, pid := range pids {
		c.await("the killed to be gone", func() bool { return !alive(pid) })
	}
}

// supervisors are the processes that the events of running steps name.
func (c *cluster) supervisors() (pids []int) {
	logs, _ := filepath.Glob(filepath.Join(c.dir, "spool", "*", "*.*", "events"))
	for _, f := range logs {
		data, err := os.ReadFile(f)
		if err != nil || bytes.Contains(data, []byte(`"k":"gone"`)) {
			continue
		}
		_, rest, _ := strings.Cut(string(data), `"pid":`)
		pid, err := strconv.Atoi(rest[:max(0, strings.IndexAny(rest, ",}"))])
		if exe, lerr := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil && lerr == nil && strings.HasSuffix(exe, "slurmstepd") {
			pids = append(pids, pid)
		}
	}
	return pids
}

func next[T any](t *testing.T, ch <-chan T) (x T) {
	t.Helper()
	select {
	case x = <-ch:
	case <-time.After(commandTime):
		t.Fatalf("no %T came within %v", x, commandTime)
	}
	return x
}

// background starts a command whose result comes on the channel. The command
// may not use c.t.
func (c *cluster) background(name string, args ...string) <-chan result {
	ch := make(chan result, 1)
	ctx, stop := context.WithTimeout(context.Background(), commandTime)
	cmd := c.command(ctx, name, args...)
	var out, bad bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &bad
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	go func() {
		defer stop()
		err := cmd.Wait()
		r := result{line: name + " " + strings.Join(args, " "), out: out.String(), errOut: bad.String()}
		if exit, ok := err.(*exec.ExitError); ok {
			r.code = exit.ExitCode()
		}
		ch <- r
	}()
	return ch
}

// While the controller is away, steps that run go on, an allocation starts new
// ones, and commands that end wait for the controller to say so.
func TestSrunOutlivesController(t *testing.T) {
	c := up(t, "--nodes", "2", "--cpus", "4")
	wait := "until [ -e go ]; do sleep 0.05; done; "
	direct := c.background("srun", "-Q", "-N2", "-n2", "-l", "sh", "-c", "echo on; touch on.$SLURM_PROCID; "+wait+"echo over; exit 3")
	inside := c.background("salloc", "-Q", "-n2", "sh", "-c",
		"echo $SLURM_JOB_ID > alloc; srun -n1 echo first; touch asked; until [ -e away ]; do sleep 0.05; done; "+
			"srun -n2 -l echo second; touch second; "+wait+"srun -n1 sh -c 'exit 6'; exit 4")
	batch := c.submit("-n1", "-o", "batch", "--wrap", "touch batched; until [ -e away ]; do sleep 0.05; done; srun -n1 echo step; exit 5")
	for _, f := range []string{"on.0", "on.1", "asked", "batched"} {
		c.await(f, func() bool { return fileExists(filepath.Join(c.work, f)) })
	}
	c.ok("sluice", "kill9", "ctld")
	c.write("away", "")
	c.await("a step without a controller", func() bool { return fileExists(filepath.Join(c.work, "second")) })
	c.await("the batch job's step", func() bool { return c.file("batch") == "step\n" })
	c.ok("sluice", "start", "ctld")
	c.ok("sluice", "kill9", "ctld") // and again, while they come back
	c.write("go", "")
	c.ok("sluice", "start", "ctld")
	r := next(t, direct)
	if lines := strings.Fields(r.out); r.code != 3 || len(lines) != 8 || strings.Count(r.out, ": over\n") != 2 {
		t.Error(r)
	}
	if r := next(t, inside); r.code != 4 || !strings.HasPrefix(r.out, "first\n") || strings.Count(r.out, ": second\n") != 2 {
		t.Error(r)
	}
	c.ended(batch, "FAILED 5:0")
	id := strings.TrimSpace(c.file("alloc"))
	c.ended(id, "FAILED 4:0")
	var rows []string
	c.await("the steps in accounting", func() bool {
		rows = strings.Fields(c.ok("sacct", "-n", "-P", "-j", id, "-o", "JobID,ExitCode"))
		return slices.Contains(rows, id+".2|6:0")
	})
	if want := []string{id + "|4:0", id + ".0|0:0", id + ".1|0:0", id + ".2|6:0"}; !equalBut(rows, want, id+".interactive", id+".extern") {
		t.Errorf("steps in accounting: %v, want %v", rows, want)
	}
}

// equalBut compares rows, leaving out those that begin so.
func equalBut(rows, want []string, without ...string) bool {
	rows = slices.DeleteFunc(slices.Clone(rows), func(r string) bool {
		return slices.ContainsFunc(without, func(w string) bool { return strings.HasPrefix(r, w) })
	})
	return slices.Equal(rows, want)
}

// Killed node daemons take no step with them either: srun attaches again.
func TestSrunOutlivesNodeDaemon(t *testing.T) {
	c := up(t, "--nodes", "2", "--cpus", "4")
	r := c.background("srun", "-Q", "-N2", "-n2", "-l", "sh", "-c", "touch on.$SLURM_PROCID; until [ -e go ]; do sleep 0.05; done; echo over; exit 3")
	for _, f := range []string{"on.0", "on.1"} {
		c.await(f, func() bool { return fileExists(filepath.Join(c.work, f)) })
	}
	for _, n := range []string{"n1", "n2"} {
		c.ok("sluice", "kill9", n)
		c.ok("sluice", "start", n)
	}
	c.write("go", "")
	if got := next(t, r); got.code != 3 || strings.Count(got.out, ": over\n") != 2 {
		t.Error(got)
	}
}

// A storage plugin that stands still, and one that dies as soon as it lives,
// lose no record: jobs go on, records wait, and all come, once.
func TestStorageAway(t *testing.T) {
	c := up(t, "--nodes", "2", "--cpus", "4")
	storage := func() (pid int) {
		for _, v := range c.victims() {
			if strings.Contains(v.name, "accounting_storage") {
				pid = v.pid
			}
		}
		return pid
	}
	gone := func(job string) bool {
		state, _, _ := strings.Cut(c.jobState(job), " ")
		return state == "COMPLETED" || state == "FAILED"
	}
	var ids []string
	some := func() {
		for range 8 {
			ids = append(ids, c.submit("-o", "/dev/null", "--mem=10", "--wrap", "echo $SLURM_JOB_ID >> ran; exit $((SLURM_JOB_ID % 4))"))
		}
	}
	c.await("the plugin", func() bool { return storage() != 0 })
	pid := storage()
	syscall.Kill(pid, syscall.SIGSTOP)
	some()
	for _, id := range ids {
		c.await("job "+id+" to end without storage", func() bool { return gone(id) })
	}
	// The records wait in the journal: they outlive the controller.
	syscall.Kill(pid, syscall.SIGCONT)
	hunt := func() (end func() int) { // whoever serves is killed, until the end
		stop, killed := make(chan struct{}), make(chan int)
		go func() {
			n := 0
			for {
				select {
				case <-stop:
					killed <- n
					return
				default:
				}
				if pid := storage(); pid != 0 && syscall.Kill(pid, syscall.SIGKILL) == nil {
					n++
				}
			}
		}()
		return func() int { close(stop); return <-killed }
	}
	end := hunt()
	some()
	c.ok("sluice", "kill9", "ctld")
	c.ok("sluice", "start", "ctld") // it serves, though its storage never once starts
	some()
	for _, id := range ids {
		c.await("job "+id+" to end without storage", func() bool { return gone(id) })
	}
	t.Logf("storage was killed %d times", end())
	c.checkAccepted(ids)
	last := 0
	for line := range strings.Lines(c.ok("sacct", "-X", "-D", "-n", "-P", "-o", "JobIDRaw,Submit,Start,End")) {
		w := strings.Split(strings.TrimSpace(line), "|")
		if n := number(t, w[0]); n <= last {
			t.Errorf("row of job %d after that of %d", n, last)
		} else {
			last = n
		}
		if len(w) != 4 || w[1] > w[2] || w[2] > w[3] {
			t.Errorf("times of job %s: %v", w[0], w[1:])
		}
	}
}

// The journal's end is torn, as by a write that a crash cut off: the controller
// cuts it, says so, and has every accepted job.
func TestTornJournal(t *testing.T) {
	c := up(t, "--nodes", "1", "--cpus", "2")
	var ids []string
	for range 5 {
		ids = append(ids, c.submit("-H", "-o", "/dev/null", "--wrap", "exit 1"))
	}
	for round := range 2 {
		c.ok("sluice", "kill9", "ctld")
		segments, err := filepath.Glob(filepath.Join(c.dir, "state", "journal", "*.wal"))
		if more, _ := filepath.Glob(filepath.Join(c.dir, "state", "*", "*", "*.wal")); err != nil || len(segments) == 0 {
			segments = more
		}
		if len(segments) == 0 {
			t.Fatal("no segment of the journal below state")
		}
		slices.Sort(segments)
		tear(t, segments[len(segments)-1])
		c.ok("sluice", "start", "ctld")
		ids = append(ids, c.submit("-H", "-o", "/dev/null", "--wrap", fmt.Sprintf("exit %d", round)))
		for _, id := range ids {
			if s := c.jobState(id); s != "PENDING 0:0" {
				t.Fatalf("round %d: job %s is %q", round, id, s)
			}
		}
	}
	c.ok("scancel", "--state=PENDING")
}

// tear writes the beginning of an entry, and nothing of its rest, behind the
// last byte of a segment.
func tear(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	whole := len(bytes.TrimRight(data, "\x00"))
	whole = (whole + 7) / 8 * 8 // frames are aligned
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// An entry's header says 200 bytes; 20 of them follow.
	torn := append([]byte{1, 0, 0, 0, 200, 0, 0, 0}, bytes.Repeat([]byte{0xa5}, 20)...)
	if _, err := f.WriteAt(torn, int64(whole)); err != nil {
		t.Fatal(err)
	}
}
