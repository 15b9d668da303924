package e2e

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
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
	crashJobs  = 500
	crashLoops = 4                      // that submit at once
	crashKeep  = 4                      // jobs that run through all of it
	beat       = 100 * time.Millisecond // of those jobs
	crashTime  = 3 * time.Minute        // for everything to end after the last kill
)

// seed is the run's, or that of $E2E_SEED, and is printed.
func seed(t *testing.T) *rand.Rand {
	n := uint64(time.Now().UnixNano())
	if s := os.Getenv("E2E_SEED"); s != "" {
		v, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("E2E_SEED=%s: %v", s, err)
		}
		n = v
	}
	t.Logf("E2E_SEED=%d repeats this run's choices", n)
	return rand.New(rand.NewPCG(n, 1))
}

// storm is $E2E_STORM, how many times as often as usual the rampage kills.
func storm() time.Duration {
	n, err := strconv.Atoi(os.Getenv("E2E_STORM"))
	if err != nil {
		return 1
	}
	return time.Duration(max(n, 1))
}

// Under a load of short jobs, kill -9 hits the controller, the node daemons and
// the plugins at random moments. Afterwards every accepted job is in accounting
// once, with its exit code, none ran twice, and jobs that ran throughout were
// not disturbed.
func TestKillAnything(t *testing.T) {
	if testing.Short() {
		t.Skip("a minute of kill -9")
	}
	r := seed(t)
	c := up(t, "--nodes", "4", "--cpus", "8", "--set", "SlurmctldDebug=info")
	keep := c.startKeepers()
	accepted := make(chan string, crashJobs)
	var refused refusals
	var loops sync.WaitGroup
	for range crashLoops {
		loops.Go(func() { c.load(crashJobs/crashLoops, accepted, &refused) })
	}
	done := make(chan struct{})
	go func() { loops.Wait(); close(accepted); close(done) }()
	kills := c.rampage(r, done)
	t.Logf("kill -9: %v", kills)
	var ids []string
	for id := range accepted {
		ids = append(ids, id)
	}
	if n := len(refused.texts()); n > 0 {
		t.Errorf("%d of %d submissions were refused, the first with: %s", n, crashJobs, refused.texts()[0])
	}
	c.checkKeepers(keep)
	c.checkAccepted(ids)
}

// refusals are what sbatch said when it took no job.
type refusals struct {
	mu  sync.Mutex
	all []string
}

func (r *refusals) add(s string) { r.mu.Lock(); r.all = append(r.all, s); r.mu.Unlock() }
func (r *refusals) texts() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

// load submits n jobs one after the other. Each appends its id to the file
// ran, and ends with a code made of it. It may not touch c.t.
func (c *cluster) load(n int, accepted chan<- string, refused *refusals) {
	for range n {
		ctx, stop := context.WithTimeout(context.Background(), commandTime)
		cmd := c.command(ctx, "sbatch", "--parsable", "-o", "/dev/null", "--mem=10",
			"--wrap", "echo $SLURM_JOB_ID >> ran; exit $((SLURM_JOB_ID % 4))")
		var out, bad bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &bad
		if err := cmd.Run(); err != nil {
			refused.add(fmt.Sprintf("%v: %s", err, strings.TrimSpace(bad.String())))
		} else {
			accepted <- strings.TrimSpace(out.String())
		}
		stop()
	}
}

// victim is a process to kill and, for a daemon, the name to start it by.
type victim struct {
	pid    int
	name   string
	daemon string
}

// victims are the daemons and the plugins that live now.
func (c *cluster) victims() []victim {
	names := map[int]string{}
	var out []victim
	for _, name := range []string{"ctld", "n1", "n2", "n3", "n4"} {
		data, _ := os.ReadFile(filepath.Join(c.dir, "run", name+".pid"))
		if pid, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil {
			names[pid] = name
			out = append(out, victim{pid, name, name})
		}
	}
	for _, p := range procs() {
		host, ours := names[p.ppid]
		if ours && strings.HasPrefix(p.exe, filepath.Join(c.root, "libexec")) && filepath.Base(p.exe) != "slurmstepd" {
			out = append(out, victim{p.pid, host + "'s " + filepath.Base(p.exe), ""})
		}
	}
	return out
}

// rampage kills until done, and then each kind once more if it was spared. It
// leaves every daemon running.
func (c *cluster) rampage(r *rand.Rand, done <-chan struct{}) map[string]int {
	c.t.Helper()
	kills := map[string]int{}
	for {
		wait := time.NewTimer(time.Duration(100+r.IntN(500)) * time.Millisecond / storm())
		select {
		case <-done:
			wait.Stop()
			return kills
		case <-wait.C:
		}
		all := c.victims()
		v := all[r.IntN(len(all))]
		if v.daemon == "" || r.IntN(3) > 0 { // spare those who were hit most
			slices.SortStableFunc(all, func(a, b victim) int { return kills[a.name] - kills[b.name] })
			v = all[r.IntN(min(3, len(all)))]
		}
		kills[v.name]++
		if r.IntN(4) == 0 { // it stands still before it dies
			syscall.Kill(v.pid, syscall.SIGSTOP)
			stand := time.NewTimer(time.Duration(r.IntN(300)) * time.Millisecond)
			<-stand.C
		}
		if v.daemon == "" {
			syscall.Kill(v.pid, syscall.SIGKILL)
			continue
		}
		c.ok("sluice", "kill9", v.daemon)
		down := time.NewTimer(time.Duration(r.IntN(400)) * time.Millisecond / storm())
		<-down.C
		c.ok("sluice", "start", v.daemon)
	}
}

// startKeepers starts jobs that write a line every beat until told to stop.
func (c *cluster) startKeepers() []string {
	c.t.Helper()
	var ids []string
	for i := 1; i <= crashKeep; i++ {
		ids = append(ids, c.submit("-o", "/dev/null", "-w", fmt.Sprintf("n%d", i), "--wrap",
			`echo $SLURM_JOB_ID >> kept; until [ -e stop ]; do date +%s%N >> beat-$SLURM_JOB_ID; sleep 0.1; done; exit 3`))
	}
	for _, id := range ids {
		c.running(id)
	}
	return ids
}

// checkKeepers ends the jobs of startKeepers and looks at their beats.
func (c *cluster) checkKeepers(ids []string) {
	c.t.Helper()
	c.write("stop", "")
	for _, id := range ids {
		c.ended(id, "FAILED 3:0")
		if n := strings.Count("\n"+c.file("kept"), "\n"+id+"\n"); n != 1 {
			c.t.Errorf("job %s started %d times", id, n)
		}
		var last int64
		for i, line := range strings.Fields(c.file("beat-" + id)) {
			at, _ := strconv.ParseInt(line, 10, 64)
			if gap := time.Duration(at - last); i > 0 && gap > 50*beat {
				c.t.Errorf("job %s stood still for %v", id, gap)
			}
			last = at
		}
	}
}

// checkAccepted compares accounting, and what the jobs wrote, with what sbatch
// promised.
func (c *cluster) checkAccepted(ids []string) {
	c.t.Helper()
	rows := map[string][]string{}
	ok := within(crashTime, func() bool {
		r := c.run("sacct", "-X", "-n", "-P", "-o", "JobID,State,ExitCode")
		clear(rows)
		for line := range strings.Lines(r.out) {
			id, rest, _ := strings.Cut(strings.TrimSpace(line), "|")
			rows[id] = append(rows[id], strings.ReplaceAll(rest, "|", " "))
		}
		return r.code == 0 && !slices.ContainsFunc(ids, func(id string) bool {
			return len(rows[id]) == 0 || !isEnd(rows[id][0])
		})
	})
	if !ok {
		c.t.Errorf("not every accepted job has ended in accounting after %v\n%s", crashTime, c.run("squeue"))
	}
	ran := map[string]int{}
	for _, id := range strings.Fields(c.file("ran")) {
		ran[id]++
	}
	seen := map[string]bool{}
	for _, id := range ids {
		n, _ := strconv.Atoi(id)
		want := "COMPLETED 0:0"
		if n%4 != 0 {
			want = fmt.Sprintf("FAILED %d:0", n%4)
		}
		switch {
		case seen[id]:
			c.t.Errorf("id %s was given twice", id)
		case len(rows[id]) != 1 || rows[id][0] != want:
			c.t.Errorf("job %s: %v in accounting, want once %q", id, rows[id], want)
		}
		if ran[id] != 1 {
			c.t.Errorf("job %s ran %d times", id, ran[id])
		}
		seen[id] = true
	}
	c.t.Logf("%d jobs accepted, %d rows in accounting", len(ids), len(rows))
}
