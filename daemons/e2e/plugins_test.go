package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
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

	"github.com/sluice-hpc/sluice/conf/slurmconf"
	"github.com/sluice-hpc/sluice/sdk/client"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wire"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// times is how often the tests of this file swap and kill: a few times, or as
// often as $E2E_PLUGIN_TIMES says. The figures that they log are those of
// contrib/docs/reference/plugins.md with 100.
func times(t *testing.T) int {
	n, err := strconv.Atoi(os.Getenv("E2E_PLUGIN_TIMES"))
	if err != nil || n < 1 {
		n = 4
	}
	t.Logf("E2E_PLUGIN_TIMES=%d", n)
	return n
}

// trouble builds the plugin of testdata under the given names into a directory.
func (c *cluster) trouble(names ...string) string {
	c.t.Helper()
	dir := filepath.Join(filepath.Dir(c.work), "p")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		c.t.Fatal(err)
	}
	for _, n := range names {
		cmd := exec.Command("go", "build", "-o", filepath.Join(dir, n), "./testdata/trouble")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			c.t.Fatalf("build %s: %v\n%s", n, err, out)
		}
	}
	return dir
}

// client is a client of the cluster in this process.
func (c *cluster) client() *client.Client {
	c.t.Helper()
	s, err := slurmconf.LoadClient(filepath.Join(c.dir, "etc", "slurm.conf"))
	if err != nil {
		c.t.Fatal(err)
	}
	cl, err := client.Open(c.t.Context(), client.Target{Cluster: s.ClusterName, Controllers: []string{fmt.Sprintf("127.0.0.1:%d", s.Port)},
		Socket: s.AuthInfo["socket"], Timeout: time.Minute})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { cl.Close() })
	return cl
}

// submitter submits jobs at a rate and remembers how long each took.
type submitter struct {
	cl *client.Client
	n  int

	mu       sync.Mutex
	ids      []uint32
	took     []time.Duration
	problems []string
}

func (s *submitter) one(ctx context.Context) {
	s.mu.Lock()
	s.n++
	n := s.n
	s.mu.Unlock()
	spec := &wlm.Spec{Kind: wlm.KindBatch, Name: "load", WorkDir: "/tmp", StdOut: "/dev/null", Argv: []string{"load"}, NTasks: 1, Priority: wlm.Unset, CoreSpec: wlm.Unset,
		User: wlm.UID(os.Getuid()), Group: wlm.GID(os.Getgid())}
	begin := time.Now()
	r, err := s.cl.Controller.Submit(ctx, &ctlv1.SubmitRequest{Spec: wire.SpecToWire(spec), Script: []byte("#!/bin/sh\n#SIM seconds=0\ntrue\n"), Key: fmt.Sprint("k", begin.UnixNano(), n)})
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.problems = append(s.problems, err.Error())
		return
	}
	s.ids = append(s.ids, r.GetJobId())
	s.took = append(s.took, time.Since(begin))
}

// during submits n a second until done is closed, and returns the 99th
// percentile of the answers' times.
func (s *submitter) during(ctx context.Context, n int, done <-chan struct{}) time.Duration {
	s.mu.Lock()
	s.took = nil
	s.mu.Unlock()
	tick := time.NewTicker(time.Second / time.Duration(n))
	defer tick.Stop()
	var all sync.WaitGroup
	for running := true; running; {
		select {
		case <-done:
			running = false
		case <-tick.C:
			all.Go(func() { s.one(ctx) })
		}
	}
	all.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.took) == 0 {
		return 0
	}
	slices.Sort(s.took)
	return s.took[len(s.took)*99/100]
}

func after(d time.Duration) <-chan struct{} {
	ch := make(chan struct{})
	time.AfterFunc(d, func() { close(ch) })
	return ch
}

// complete checks that every accepted job has ended well, once.
func (c *cluster) complete(s *submitter) {
	c.t.Helper()
	if len(s.problems) > 0 {
		c.t.Errorf("%d submissions failed, the first with %s", len(s.problems), s.problems[0])
	}
	rows := map[string]string{}
	if !within(crashTime, func() bool {
		clear(rows)
		for line := range strings.Lines(c.ok("sacct", "-X", "-n", "-P", "-o", "JobID,State")) {
			id, state, _ := strings.Cut(strings.TrimSpace(line), "|")
			rows[id] += state
		}
		return !slices.ContainsFunc(s.ids, func(id uint32) bool { return rows[fmt.Sprint(id)] != "COMPLETED" })
	}) {
		for _, id := range s.ids {
			if got := rows[fmt.Sprint(id)]; got != "COMPLETED" {
				c.t.Errorf("job %d: %q in accounting", id, got)
				break
			}
		}
	}
}

func (c *cluster) counters(cl *client.Client) map[string]int64 {
	c.t.Helper()
	r, err := cl.Controller.Diag(c.t.Context(), &ctlv1.DiagRequest{})
	if err != nil {
		c.t.Fatal(err)
	}
	return r.GetCounters()
}

// shown is a plugin in scontrol show plugin --json.
type shown struct {
	Kind, Name, State, Host, Path string
	SetBy                         string `json:"set_by"`
	Pid                           int
}

func (c *cluster) plugin(kind string) shown {
	c.t.Helper()
	var m struct{ Plugins []shown }
	if err := json.Unmarshal([]byte(c.ok("scontrol", "--json", "show", "plugin", kind)), &m); err != nil || len(m.Plugins) == 0 {
		c.t.Fatalf("show plugin %s: %v, %v", kind, m, err)
	}
	return m.Plugins[0]
}

// Swaps of sched and select under 100 submissions a second lose no job and
// fail no pass.
func TestSwapUnderLoad(t *testing.T) {
	c := up(t, "--nodes", "2", "--cpus", "64", "--set", "LaunchType=launch/sim")
	n := times(t)
	s := &submitter{cl: c.client()}
	const rate = 100
	quiet := s.during(t.Context(), rate, after(3*time.Second))
	before := c.counters(s.cl)
	swaps := [][]string{{"sched/builtin"}, {"select/linear"}, {"sched/backfill"}, {"select/cons_tres"}, {"priority/basic"}, {"accounting_storage"}}
	done := make(chan struct{})
	var took []time.Duration
	go func() {
		defer close(done)
		for i := range n {
			begin := time.Now()
			if r := c.run("scontrol", "reload", "plugin", swaps[i%len(swaps)][0]); r.code != 0 {
				t.Errorf("swap %d: %s", i, r)
				return
			}
			took = append(took, time.Since(begin))
		}
	}()
	busy := s.during(t.Context(), rate, done)
	now := c.counters(s.cl)
	slices.Sort(took)
	t.Logf("%d swaps, median %v, longest %v; submissions p99 %v quiet, %v while swapping; %d passes, %d failed, longest pass %v",
		n, took[len(took)/2], took[len(took)-1], quiet, busy, now["passes"]-before["passes"], now["passes_failed"]-before["passes_failed"],
		time.Duration(now["pass_max_us"])*time.Microsecond)
	if f := now["passes_failed"] - before["passes_failed"]; f != 0 {
		t.Errorf("%d passes failed", f)
	}
	c.complete(s)
}

// Plugins that are killed serve again within a second, and nothing is lost.
func TestKilledPlugins(t *testing.T) {
	c := up(t, "--nodes", "2", "--cpus", "64") // real jobs: what launch/sim pretends may not survive its process
	n := times(t)
	if err := os.WriteFile(filepath.Join(c.dir, "etc", "job_submit.lua"), []byte("function slurm_job_submit(d, p, u)\n  d.comment = 'seen'\n  return slurm.SUCCESS\nend\n"+
		"function slurm_job_modify(d, r, p, u)\n  return slurm.SUCCESS\nend\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c.addConf("JobSubmitPlugins=lua\n")
	c.ok("scontrol", "reconfigure")
	s := &submitter{cl: c.client()}
	done, over := make(chan struct{}), make(chan struct{})
	go func() { defer close(over); s.during(t.Context(), 20, done) }()
	c.await("a launch plugin to run", func() bool { return c.run("scontrol", "show", "plugin", "launch").code == 0 })
	longest := map[string]time.Duration{}
	kinds := []string{"sched", "select", "priority", "accounting_storage", "launch", "job_submit"}
	for i := range n * len(kinds) {
		kind := kinds[i%len(kinds)]
		p := c.victim(kind)
		if p == 0 {
			t.Fatalf("no process of the kind %s", kind)
		}
		begin := time.Now()
		syscall.Kill(p, syscall.SIGKILL)
		if !within(10*time.Second, func() bool { q := c.victim(kind); return q != 0 && q != p }) {
			t.Fatalf("kill %d: no %s plugin came back\n%s", i, kind, c.run("scontrol", "show", "plugin"))
		}
		longest[kind] = max(longest[kind], time.Since(begin))
		if i%(4*len(kinds)) == 4*len(kinds)-1 { // clean records, as five kills in a minute are a crash loop
			for _, k := range kinds {
				c.ok("scontrol", "reload", "plugin", k)
			}
		}
	}
	close(done)
	<-over
	t.Logf("%d kills of each kind; from kill -9 to the next process at most %v", n, longest)
	for k, d := range longest {
		if d > 2*time.Second { // one on a machine that does nothing else
			t.Errorf("%s came back after %v", k, d)
		}
	}
	c.complete(s)
	if out := c.ok("scontrol", "show", "job", c.submit("-H", "--wrap", "true")); !strings.Contains(out, "Comment=seen") {
		t.Errorf("no filter: %s", out)
	}
}

// addConf adds lines to slurm.conf, which a test's cluster has to itself.
func (c *cluster) addConf(lines string) {
	c.t.Helper()
	f, err := os.OpenFile(filepath.Join(c.dir, "etc", "slurm.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(lines); err != nil {
		c.t.Fatal(err)
	}
}

// victim is the process of a kind that serves: a child of a daemon.
func (c *cluster) victim(kind string) int {
	daemons := map[int]bool{}
	for _, name := range []string{"ctld", "n1"} {
		data, _ := os.ReadFile(filepath.Join(c.dir, "run", name+".pid"))
		if pid, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil {
			daemons[pid] = true
		}
	}
	newest := 0
	for _, p := range procs() {
		if daemons[p.ppid] && strings.HasPrefix(filepath.Base(p.exe), kind+"_") {
			newest = max(newest, p.pid)
		}
	}
	return newest
}

// A plugin that crashes on every pass gives way to the fallback, which ping,
// sinfo and the log tell; a good reload ends that. What cannot serve is refused
// beforehand, and what answers nonsense changes nothing.
func TestCrashLoop(t *testing.T) {
	c := up(t, "--nodes", "1", "--cpus", "8", "--set", "LaunchType=launch/sim", "--add", "PluginOptions=sched/trouble:trigger=/nonexistent,timeout=2s")
	dir := c.trouble("sched_trouble")
	trigger := filepath.Join(dir, "trigger")
	conf := filepath.Join(c.dir, "etc", "slurm.conf")
	text, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(conf, []byte(strings.ReplaceAll(string(text), "trigger=/nonexistent", "trigger="+trigger)), 0o644); err != nil {
		t.Fatal(err)
	}
	c.ok("scontrol", "reconfigure")
	set := func(what string) {
		t.Helper()
		if err := os.WriteFile(trigger, []byte(what), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	set("crash")
	program := filepath.Join(dir, "sched_trouble")
	was := c.plugin("sched")
	c.submit("-H", "--wrap", "true") // something to plan would not be needed: the trial asks all the same
	for _, tt := range []struct{ what, says string }{
		{"sched " + program, "exit status 3"},
		{"sched/nosuch", "which offers for sched: sched/backfill, sched/builtin"},
		{"select " + program, "not the kind select"},
		{"sched /bin/true", "is not a plugin"},
	} {
		r := c.run("scontrol", append([]string{"reload", "plugin"}, strings.Fields(tt.what)...)...)
		if r.code != 1 || !strings.Contains(r.errOut, tt.says) || strings.Count(r.errOut, "\n") != 1 {
			t.Errorf("want exit 1 and one line with %q:\n%s", tt.says, r)
		}
	}
	if now := c.plugin("sched"); now != was {
		t.Errorf("after refused swaps %v serves, not %v", now, was)
	}
	set("")
	c.ok("scontrol", "reload", "plugin", "sched", program)
	c.ended(c.submit("--wrap", "#SIM seconds=0"), "COMPLETED 0:0")
	for _, nonsense := range []string{"garbage", "huge"} {
		set(nonsense)
		id := c.submit("--wrap", "#SIM seconds=0")
		first := c.counters(c.client())
		c.await("passes with "+nonsense, func() bool {
			now := c.counters(c.client())
			return now["passes"]+now["passes_failed"] > first["passes"]+first["passes_failed"]
		})
		set("")
		c.ok("scontrol", "reload", "plugin", "sched")
		c.ended(id, "COMPLETED 0:0")
	}
	set("crash")
	id := c.submit("--wrap", "#SIM seconds=0")
	c.ended(id, "COMPLETED 0:0") // by the fallback
	c.await("the fallback", func() bool { return c.plugin("sched").State == "fallback" })
	const says = "warning: plugin sched/trouble ended too often, sched/builtin serves in its place; last error: the process ended: exit status 3"
	for _, cmd := range [][]string{{"scontrol", "ping"}, {"sinfo", "-R"}, {"sinfo"}} {
		if r := c.run(cmd[0], cmd[1:]...); r.code != 0 || !strings.Contains(r.errOut, says) {
			t.Errorf("want %q:\n%s", says, r)
		}
	}
	set("")
	c.ok("scontrol", "reload", "plugin", "sched", program)
	if r := c.run("scontrol", "ping"); r.errOut != "" || c.plugin("sched").State != "serving" {
		t.Errorf("after a good reload: %s", r)
	}
	c.ended(c.submit("--wrap", "#SIM seconds=0"), "COMPLETED 0:0")
	c.ok("scontrol", "disable", "plugin", "sched")
	c.kept(program)
}

// kept checks that what scontrol changed of plugins outlives the controller. The
// scheduler is disabled; its program is the one given.
func (c *cluster) kept(program string) {
	t := c.t
	t.Helper()
	again := func() {
		t.Helper()
		c.ok("sluice", "kill9", "ctld")
		c.ok("sluice", "start", "ctld")
	}
	for range 2 {
		if p := c.plugin("sched"); p.State != "disabled" || p.Name != "builtin" || p.SetBy != "disable" {
			t.Errorf("disabled: %v", p)
		}
		again()
	}
	if st, err := os.Stat(filepath.Join(c.dir, "state", "plugins.json")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the file of changes: %v, %v", st, err)
	}
	conf := filepath.Join(c.dir, "etc", "slurm.conf")
	text, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	more := append(bytes.Clone(text), "PluginOptions=sched/backfill:timeout=9s\n"...)
	if err := os.WriteFile(conf, more, 0o644); err != nil {
		t.Fatal(err)
	}
	c.ok("scontrol", "reconfigure")
	if p := c.plugin("sched"); p.State != "disabled" || p.Name != "builtin" {
		t.Errorf("disabled, and other options: %v", p)
	}
	c.ok("scontrol", "enable", "plugin", "sched/trouble")
	again()
	if p := c.plugin("sched"); p.State != "serving" || p.Name != "trouble" || p.Path != program || p.SetBy != "reload" {
		t.Errorf("reloaded from a path: %v", p)
	}
	c.ended(c.submit("--wrap", "#SIM seconds=0"), "COMPLETED 0:0")
	if err := os.Rename(program, program+".away"); err != nil {
		t.Fatal(err)
	}
	again() // it serves with what slurm.conf names
	if p := c.plugin("sched"); p.State != "serving" || p.Name != "backfill" || p.SetBy != "slurm.conf" {
		t.Errorf("after the program is gone: %v", p)
	}
}

// A shadow that is slow and then crashes leaves the times of live passes alone.
func TestShadow(t *testing.T) {
	c := up(t, "--nodes", "1", "--cpus", "64", "--set", "LaunchType=launch/sim", "--add", "PluginOptions=sched/trouble:trigger="+os.TempDir()+"/e2e-trouble-none")
	c.trouble("sched_trouble")
	cl := c.client()
	s := &submitter{cl: cl}
	pass := func() time.Duration { // mean over some seconds of load
		before := c.counters(cl)
		s.during(t.Context(), 100, after(3*time.Second))
		now := c.counters(cl)
		return time.Duration((now["pass_total_us"]-before["pass_total_us"])*1000/max(now["passes"]-before["passes"], 1)) * time.Nanosecond
	}
	pass()
	alone := pass()
	dir := filepath.Join(filepath.Dir(c.work), "p")
	trigger := filepath.Join(dir, "trigger")
	conf := filepath.Join(c.dir, "etc", "slurm.conf")
	text, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(conf, []byte(strings.ReplaceAll(string(text), os.TempDir()+"/e2e-trouble-none", trigger)), 0o644); err != nil {
		t.Fatal(err)
	}
	c.ok("scontrol", "reconfigure")
	c.ok("scontrol", "shadow", "plugin", "sched/trouble", filepath.Join(dir, "sched_trouble"))
	beside := pass()
	report := func() (r struct {
		Passes, Missed uint64
		Starts         struct{ Agreed, Sooner, Later uint64 }
	}) {
		var m struct {
			Shadows []struct {
				Passes uint64
				Missed uint64 `json:"passes_missed"`
				Starts struct{ Agreed, Sooner, Later uint64 }
			}
		}
		if err := json.Unmarshal([]byte(c.ok("scontrol", "--json", "show", "shadow")), &m); err != nil || len(m.Shadows) != 1 {
			t.Fatalf("%v, %v", m, err)
		}
		r.Passes, r.Missed, r.Starts = m.Shadows[0].Passes, m.Shadows[0].Missed, m.Shadows[0].Starts
		return r
	}
	if r := report(); r.Passes == 0 || r.Starts.Agreed == 0 {
		t.Errorf("nothing agreed: %+v", r)
	}
	if err := os.WriteFile(trigger, []byte("slow"), 0o644); err != nil {
		t.Fatal(err)
	}
	slow := pass()
	if r := report(); r.Missed == 0 {
		t.Errorf("a slow shadow missed nothing: %+v", r)
	}
	if err := os.WriteFile(trigger, []byte("crash"), 0o644); err != nil {
		t.Fatal(err)
	}
	crashing := pass()
	t.Logf("mean live pass: alone %v, with a shadow %v, with a slow one %v, with one that crashes %v", alone, beside, slow, crashing)
	c.ok("scontrol", "stop", "shadow")
	if out := c.ok("scontrol", "show", "shadow"); out != "No shadows in the system\n" {
		t.Errorf("afterwards: %s", out)
	}
	c.complete(s)
}

// A job_submit plugin that sleeps delays its own submitters only, who are told
// at its deadline; plugins chain in the order of JobSubmitPlugins.
func TestSleepingFilter(t *testing.T) {
	c := up(t, "--nodes", "1", "--set", "LaunchType=launch/sim")
	dir := c.trouble("job_submit_trouble", "job_submit_second")
	conf := filepath.Join(c.dir, "etc", "slurm.conf")
	base, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	configure := func(more string) {
		t.Helper()
		text := string(base)
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "PluginDir=") {
				text = strings.Replace(text, line, strings.TrimSpace(line)+":"+dir+"\n", 1)
			}
		}
		if !strings.Contains(text, ":"+dir) {
			text += "PluginDir=" + filepath.Join(c.root, "libexec", "sluice") + ":" + dir + "\n"
		}
		if err := os.WriteFile(conf, []byte(text+more), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	configure("")
	c.ok("sluice", "stop", "ctld")
	c.ok("sluice", "start", "ctld")
	configure("JobSubmitPlugins=trouble,second\nPluginOptions=job_submit/trouble:timeout=1s\n")
	c.ok("scontrol", "reconfigure")
	sleepers := make(chan result, 3)
	for range cap(sleepers) {
		go func() { sleepers <- c.run("sbatch", "-J", "sleeper", "--wrap", "#SIM seconds=0") }()
	}
	for range 10 {
		begin := time.Now()
		c.submit("--wrap", "#SIM seconds=0")
		if d := time.Since(begin); d > 700*time.Millisecond {
			t.Errorf("another submission took %v", d)
		}
	}
	for range cap(sleepers) {
		if r := <-sleepers; r.code == 0 || !strings.Contains(r.errOut, "job_submit/trouble gave no answer within 1s") {
			t.Errorf("the sleeper: %s", r)
		}
	}
	id := c.submit("-H", "--wrap", "true")
	if out := c.ok("scontrol", "show", "job", id); !strings.Contains(out, "Comment=seenseen") {
		t.Errorf("the chain: %s", out)
	}
	configure("JobSubmitPlugins=trouble\nPluginOptions=job_submit/trouble:timeout=500ms,on_failure=accept\n")
	c.ok("scontrol", "reconfigure")
	id = c.submit("-H", "-J", "sleeper", "--wrap", "true")
	if out := c.ok("scontrol", "show", "job", id); strings.Contains(out, "Comment=seen") {
		t.Errorf("accepted without an answer: %s", out)
	}
}

// Running steps notice nothing of a swap of the launch plugin.
func TestSwapOfLaunchers(t *testing.T) {
	c := up(t, "--nodes", "2")
	id := c.submit("-o", "out", "--wrap", "echo begin; until [ -e stop ]; do date +%s%N >> beat; sleep 0.1; done; exit 5")
	c.running(id)
	for range 3 {
		c.ok("scontrol", "reload", "plugin", "launch")
		c.ok("srun", "-n1", "true")
	}
	if r := c.run("scontrol", "reload", "plugin", "launch/nosuch"); r.code != 1 || strings.Count(r.errOut, "\n") != 1 {
		t.Errorf("a launcher that does not exist: %s", r)
	}
	c.otherLauncher()
	c.ok("srun", "-n1", "true")
	c.write("stop", "")
	c.ended(id, "FAILED 5:0")
	last := int64(0)
	for i, line := range strings.Fields(c.file("beat")) {
		at, _ := strconv.ParseInt(line, 10, 64)
		if gap := time.Duration(at - last); i > 0 && gap > 3*time.Second {
			t.Errorf("the job stood still for %v", gap)
		}
		last = at
	}
	if c.file("out") != "begin\n" {
		t.Errorf("output %q", c.file("out"))
	}
}

// otherLauncher makes slurm.conf name another launcher, which is launch/exec by
// another name, and applies it.
func (c *cluster) otherLauncher() {
	c.t.Helper()
	dir, programs := filepath.Join(filepath.Dir(c.work), "p"), filepath.Join(c.root, "libexec", "sluice")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		c.t.Fatal(err)
	}
	program, err := os.ReadFile(filepath.Join(programs, "launch_exec"))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "launch_other"), program, 0o755)
	}
	if err == nil {
		err = os.Symlink(filepath.Join(programs, "slurmstepd"), filepath.Join(dir, "slurmstepd"))
	}
	if err != nil {
		c.t.Fatal(err)
	}
	c.addConf("LaunchType=launch/other\n")
	if r := c.run("scontrol", "reconfigure"); r.code != 1 || !strings.Contains(r.errOut, "launch/other: no program launch_other") || strings.Count(r.errOut, "\n") != 1 {
		c.t.Errorf("a launcher that PluginDir does not have: %s", r)
	}
	c.addConf("PluginDir=" + programs + ":" + dir + "\n")
	for _, name := range []string{"ctld", "n1", "n2"} {
		c.ok("sluice", "kill9", name)
	}
	c.addConf("LaunchType=launch/exec\n")
	for _, name := range []string{"ctld", "n1", "n2"} {
		c.ok("sluice", "start", name)
	}
	c.ok("srun", "-N2", "true")
	c.addConf("LaunchType=launch/other\n")
	c.ok("scontrol", "reconfigure")
	for _, name := range []string{"n1", "n2"} {
		c.await("launch/other on "+name, func() bool {
			var m struct{ Plugins []shown }
			out := c.ok("scontrol", "--json", "show", "plugin", "launch")
			return json.Unmarshal([]byte(out), &m) == nil && slices.ContainsFunc(m.Plugins, func(p shown) bool {
				return p.Host == name && p.Name == "other" && p.State == "serving"
			})
		})
	}
}
