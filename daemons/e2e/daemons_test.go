package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// one configures a cluster of one controller and nodes n1, n2, ...; lines are
// added, or take the place of those that set the same key.
func one(t *testing.T, nodes int, lines ...string) *cluster {
	t.Helper()
	c := site(t)
	port := freePorts(t, nodes+1)
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	host, _, _ = strings.Cut(host, ".")
	text := fmt.Sprintf("ClusterName=one\nSlurmctldHost=%s(127.0.0.1)\nSlurmctldPort=%d\n%s\nSlurmdParameters=config_overrides\nReturnToService=2\n", host, port, c.paths())
	text = strings.ReplaceAll(text, "%h.pid", "ctld.pid")
	text = strings.ReplaceAll(text, "%h.out", "ctld.out")
	for _, l := range lines {
		key, _, _ := strings.Cut(l, "=")
		var kept []string
		for _, old := range strings.Split(text, "\n") {
			if have, _, _ := strings.Cut(old, "="); have != key {
				kept = append(kept, old)
			}
		}
		text = strings.Join(kept, "\n") + l + "\n"
	}
	for i := 1; i <= nodes; i++ {
		text += fmt.Sprintf("NodeName=n%d NodeHostname=%s NodeAddr=127.0.0.1 Port=%d CPUs=2 RealMemory=1000\n", i, host, port+i)
	}
	c.configure(text + "PartitionName=main Nodes=ALL Default=YES\n")
	return c
}

func (c *cluster) conf() string { return filepath.Join(c.dir, "etc", "slurm.conf") }

// edit changes the configuration.
func (c *cluster) edit(from, to string) {
	c.t.Helper()
	text, err := os.ReadFile(c.conf())
	if err != nil || !bytes.Contains(text, []byte(from)) {
		c.t.Fatalf("no %q in the configuration (%v)", from, err)
	}
	c.configure(strings.ReplaceAll(string(text), from, to))
}

// nodeField is a field of scontrol show node.
func (c *cluster) nodeField(node, name string) string {
	out := c.run("scontrol", "-o", "show", "node", node).out
	_, rest, _ := strings.Cut(out, " "+name+"=")
	if name == "Reason" { // the last one, with blanks
		v, _, _ := strings.Cut(rest, " [")
		return v
	}
	v, _, _ := strings.Cut(rest, " ")
	return v
}

func (c *cluster) awaitNode(node, state string) {
	c.t.Helper()
	c.await(node+" to be "+state, func() bool { return c.nodeField(node, "State") == state })
}

// Options of the daemons that need no cluster, and those that are refused.
func TestDaemonOptions(t *testing.T) {
	c := one(t, 2)
	bad := c.write("bad.conf", "ClusterName=x\nSlurmctldHost=h\nSlurmctldTimeoot=5\nKillWait=soon\nNodeName=n1 CPUs=0\nPartitionName=p Nodes=n9\n")
	for _, tt := range []struct {
		line string
		code int
		want []string // parts of what it prints
	}{
		{"slurmctld -V", 0, []string{"slurm 25.11.7-sluice"}},
		{"slurmd -V", 0, []string{"slurm 25.11.7-sluice"}},
		{"slurmctld --version", 0, []string{"slurm 25.11.7-sluice"}},
		{"slurmd --version", 0, []string{"slurm 25.11.7-sluice"}},
		{"slurmctld -h", 0, []string{"-c, --clear", "-D, --foreground", "-i, --ignore"}},
		{"slurmd -h", 0, []string{"-N, --nodename", "-C, --print-config"}},
		{"slurmd -C", 0, []string{"NodeName=", " CPUs=", " Boards=", " SocketsPerBoard=", " CoresPerSocket=", " ThreadsPerCore=", " RealMemory=", "\nUpTime="}},
		{"slurmctld -t -f " + c.conf(), 0, nil},
		{"slurmctld -t -f " + bad, 1, []string{bad + ":3: SlurmctldTimeoot: unknown key; did you mean SlurmctldTimeout?", bad + ":4: KillWait", bad + ":5: CPUs", bad + ":6: Nodes"}},
		{"slurmctld -f " + bad, 1, []string{bad + ":3: SlurmctldTimeoot", bad + ":6: Nodes"}},
		{"slurmctld -f /nonexistent/x.conf", 1, []string{"/nonexistent/x.conf", "no such file"}},
		{"slurmctld -n 99", 1, []string{"-n 99: the nice value is -20 to 19"}},
		{"slurmctld --host c7", 1, []string{"--host c7: ", "has no SlurmctldHost=c7"}},
		{"slurmctld --bogus", 1, []string{"slurmctld: error: unknown flag: --bogus"}},
		{"slurmctld extra", 1, []string{"slurmctld: error: unknown command \"extra\""}},
		{"slurmd", 1, []string{"2 nodes of " + c.conf() + " are on host", "-N names the one to run as"}},
		{"slurmd -N n9", 1, []string{"slurmd: error: -N n9: " + c.conf() + " has no NodeName=n9"}},
		{"slurmd -N n[1-2]x[", 1, []string{"slurmd: error: -N n[1-2]x["}},
		{"slurmd -G -N n1", 0, nil},
		{"slurmd -Z -N n1", 1, []string{"dynamic nodes are not supported"}},
		{"slurmd -F -N n1", 1, []string{"dynamic nodes are not supported"}},
		{"slurmd --conf=CPUs=2 -N n1", 1, []string{"dynamic nodes are not supported"}},
		{"slurmd --conf-server=h:6817", 1, []string{"--conf-server: fetching the configuration is not supported"}},
		{"slurmd -n -99 -N n1 -D", 1, []string{"the nice value is -20 to 19"}},
	} {
		w := strings.Fields(tt.line)
		r := c.try(w[0], w[1:]...)
		if r.code != tt.code {
			t.Errorf("%s, want exit %d", r, tt.code)
		}
		for _, want := range tt.want {
			if !strings.Contains(r.out+r.errOut, want) {
				t.Errorf("%s, want %q in it", r, want)
			}
		}
		if tt.code != 0 && r.out != "" && !strings.Contains(tt.line, "-t") {
			t.Errorf("%s: the error is on stdout", r)
		}
	}
	if left := c.processes(); len(left) > 0 {
		t.Errorf("left running: %v", left)
	}
}

// Going to the background succeeds only when the daemon serves; every failure
// says why in a line.
func TestBackground(t *testing.T) {
	c := one(t, 1, "SlurmctldLogFile=DIR/new/log/ctld.out")
	c.edit("DIR", c.dir)
	c.daemon("slurmctld")
	for _, d := range []string{"state-" + c.host(), "new/log", "run"} { // made by the daemon
		if !fileExists(filepath.Join(c.dir, d)) {
			t.Errorf("%s was not made", d)
		}
	}
	if out := c.ok("sinfo", "-h", "-o", "%T"); out != "unknown*\n" && out != "idle*\n" { // it serves at once
		t.Errorf("sinfo: %q", out)
	}
	c.daemon("slurmd", "-N", "n1")
	if !fileExists(filepath.Join(c.dir, "spool", "n1")) {
		t.Error("the spool directory was not made with the node's name")
	}
	c.awaitNode("n1", "IDLE")
	c.timersAreRelaxed()
	fails := func(want string, name string, args ...string) {
		t.Helper()
		r := c.try(name, args...)
		if r.code == 0 || !strings.Contains(r.errOut, want) || strings.Count(strings.TrimSpace(r.errOut), "\n") > 0 {
			t.Errorf("%s, want one line with %q", r, want)
		}
	}
	fails("is in use by another controller", "slurmctld")
	fails("another slurmd serves it", "slurmd", "-N", "n1")
	pid := c.pid("ctld")
	if !alive(pid) {
		t.Fatal("the refused controller took the pid file along")
	}
	c.edit("StateSaveLocation="+c.dir, "StateSaveLocation=/proc/nope")
	fails("StateSaveLocation: mkdir /proc/nope", "slurmctld")
	c.edit("StateSaveLocation=/proc/nope", "StateSaveLocation="+c.dir+"/other")
	fails("address already in use", "slurmctld")
	c.edit("SlurmdSpoolDir="+c.dir, "SlurmdSpoolDir=/proc/nope")
	fails("SlurmdSpoolDir: mkdir /proc/nope", "slurmd", "-N", "n1")
	c.edit("ReturnToService=2", "SchedulerType=sched/backfil")
	fails("which offers for sched: sched/backfill, sched/builtin", "slurmctld")
	c.kill("ctld", syscall.SIGTERM)
	c.kill("n1", syscall.SIGINT)
	for _, f := range []string{"run/ctld.pid", "run/n1.pid"} {
		if fileExists(filepath.Join(c.dir, f)) {
			t.Errorf("%s is left", f)
		}
	}
}

// timersAreRelaxed: those of every thread of the daemons, not those of a task.
func (c *cluster) timersAreRelaxed() {
	c.t.Helper()
	slack := func(path string) string {
		text, err := os.ReadFile(path)
		if err != nil {
			c.t.Fatal(err)
		}
		return strings.TrimSpace(string(text))
	}
	const relaxed = "1000000"
	for _, name := range []string{"ctld", "n1"} {
		dir := fmt.Sprintf("/proc/%d/task", c.pid(name))
		threads, err := os.ReadDir(dir)
		if err != nil {
			c.t.Fatal(err)
		}
		for _, e := range threads {
			// A thread may have ended meanwhile.
			if path := filepath.Join("/proc", e.Name(), "timerslack_ns"); fileExists(path) && slack(path) != relaxed {
				c.t.Errorf("a thread of %s has a timer slack of %s ns, want %s", name, slack(path), relaxed)
			}
		}
	}
	if got := c.ok("srun", "cat", "/proc/self/timerslack_ns"); got != slack("/proc/self/timerslack_ns")+"\n" {
		c.t.Errorf("a task has a timer slack of %q", got)
	}
}

func (c *cluster) host() string {
	h, err := os.Hostname()
	if err != nil {
		c.t.Fatal(err)
	}
	h, _, _ = strings.Cut(h, ".")
	return h
}

// SIGHUP reads the configuration and opens the log again, SIGUSR2 opens the log
// again, SIGTERM ends; scontrol shutdown ends all, or the controller only.
func TestDaemonSignals(t *testing.T) {
	c := one(t, 1)
	c.daemon("slurmctld")
	c.daemon("slurmd", "-N", "n1")
	c.awaitNode("n1", "IDLE")
	for i, sig := range []syscall.Signal{syscall.SIGUSR2, syscall.SIGHUP} {
		for _, name := range []string{"ctld", "n1"} {
			log := filepath.Join(c.dir, "log", name+".out")
			if err := os.Rename(log, fmt.Sprintf("%s.%d", log, i)); err != nil {
				t.Fatal(err)
			}
			c.kill(name, sig)
			c.await(name+" to open its log again", func() bool { return fileExists(log) })
		}
	}
	c.edit("PartitionName=main Nodes=ALL", "PartitionName=other Nodes=ALL")
	c.kill("ctld", syscall.SIGHUP)
	c.await("the new partition", func() bool { return strings.HasPrefix(c.run("sinfo", "-h").out, "other*") })
	c.edit("ReturnToService=2", "ReturnToService=seven")
	c.kill("ctld", syscall.SIGHUP)
	c.await("the complaint", func() bool {
		return strings.Contains(c.text("log/ctld.out"), "configuration not applied")
	})
	if r := c.run("scontrol", "reconfigure"); r.code == 0 || !strings.Contains(r.errOut, "ReturnToService") {
		t.Errorf("a bad configuration: %s", r)
	}
	c.edit("ReturnToService=seven", "ReturnToService=1")
	c.ok("scontrol", "reconfigure")
	if out := c.ok("scontrol", "show", "config"); !strings.Contains(out, "ReturnToService         = 1\n") {
		t.Error("ReturnToService is not 1 after scontrol reconfigure")
	}
	ctld, n1 := c.pid("ctld"), c.pid("n1")
	c.ok("scontrol", "shutdown", "slurmctld")
	c.await("the controller to end", func() bool { return !alive(ctld) })
	if !alive(n1) {
		t.Error("scontrol shutdown slurmctld ended slurmd")
	}
	c.daemon("slurmctld")
	c.awaitNode("n1", "IDLE")
	c.ok("scontrol", "shutdown")
	c.await("all to end", func() bool { return len(c.processes()) == 0 })
}

func (c *cluster) text(name string) string {
	data, _ := os.ReadFile(filepath.Join(c.dir, name))
	return string(data)
}

// What was installed finds its configuration without a word of the environment,
// also after it was moved.
func TestMovedPrefix(t *testing.T) {
	c := one(t, 1)
	if os.Getenv("SLUICE_PREFIX") != "" {
		t.Skip("make install installs what this tree has built")
	}
	stage := filepath.Join(c.dir, "stage")
	// -o build: what was built is new enough.
	cmd := exec.Command("make", "-C", "../..", "-o", "build", "install", "prefix=/opt/sluice", "DESTDIR="+stage)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make install: %v\n%s", err, out)
	}
	home := filepath.Join(c.dir, "moved")
	if err := os.Rename(filepath.Join(stage, "opt", "sluice"), home); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"bin/srun", "sbin/slurmctld", "sbin/slurmd", "libexec/sluice/slurmstepd", "libexec/sluice/sched_backfill",
		"share/man/man1/srun.1", "share/man/man8/slurmctld.8", "share/man/man5/slurm.conf.5", "share/sluice/examples"} {
		if !fileExists(filepath.Join(home, f)) {
			t.Errorf("%s is not installed", f)
		}
	}
	if err := os.Rename(c.conf(), filepath.Join(home, "etc", "slurm.conf")); err != nil {
		t.Fatal(err)
	}
	var bare []string
	for _, e := range c.env {
		if n, _, _ := strings.Cut(e, "="); n != "SLURM_CONF" && n != "SLUICE_DIR" && n != "PATH" {
			bare = append(bare, e)
		}
	}
	c.root, c.env = home, append(bare, "PATH=/usr/bin:/bin")
	c.daemon("slurmctld")
	c.daemon("slurmd", "-N", "n1")
	c.awaitNode("n1", "IDLE")
	if out := c.ok("srun", "-n2", "-l", "echo", "here"); strings.Count(out, "here\n") != 2 {
		t.Errorf("srun printed %q", out)
	}
	out := c.ok("scontrol", "show", "config")
	for _, want := range []string{"= " + home + "/etc/slurm.conf\n", "= " + home + "/libexec/sluice\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("scontrol show config has no %q", want)
		}
	}
	c.ok("scontrol", "shutdown")
	c.await("all to end", func() bool { return len(c.processes()) == 0 })
}

// A node with less than slurm.conf says is drained, with Slurm's words, until
// the configuration is right.
func TestNodeIsTooSmall(t *testing.T) {
	c := one(t, 2, `SlurmdParameters=""`)
	c.edit("CPUs=2 RealMemory=1000", "CPUs=4096 RealMemory=9000000000")
	c.daemon("slurmctld")
	c.daemon("slurmd", "-N", "n1")
	c.awaitNode("n1", "IDLE+DRAIN+INVALID_REG")
	if got := c.nodeField("n1", "Reason"); !strings.HasPrefix(got, "Low socket*core*thread count, Low CPUs, Low RealMemory (reported:") ||
		!strings.HasSuffix(got, " < 100.00% of configured:9000000000)") {
		t.Errorf("Reason=%s", got)
	}
	if got := c.ok("sinfo", "-h", "-n", "n1", "-o", "%t"); got != "inval\n" {
		t.Errorf("sinfo: %q", got)
	}
	c.edit("CPUs=4096 RealMemory=9000000000", "CPUs=1 RealMemory=10")
	c.ok("scontrol", "reconfigure")
	c.awaitNode("n1", "IDLE")
	if got := c.nodeField("n1", "Reason"); got != "" {
		t.Errorf("Reason=%s afterwards", got)
	}
}

// Who comes back after it was set down, and who does not.
func TestReturnToService(t *testing.T) {
	c := one(t, 2, "ReturnToService=0", "SlurmdTimeout=2")
	c.daemon("slurmctld")
	c.daemon("slurmd", "-N", "n1")
	c.daemon("slurmd", "-N", "n2")
	c.awaitNode("n1", "IDLE")
	c.awaitNode("n2", "IDLE")
	fails := c.submit("-w", "n1", "--no-requeue", "--wrap", "sleep 600")
	again := c.submit("-w", "n1", "--requeue", "--wrap", "sleep 600")
	c.running(fails)
	c.running(again)
	c.kill("n1", syscall.SIGKILL)
	c.awaitNode("n1", "DOWN+NOT_RESPONDING")
	if got := c.nodeField("n1", "Reason"); got != "Not responding" {
		t.Errorf("Reason=%q", got)
	}
	c.await("a job to fail with its node", func() bool { return c.jobState(fails) == "NODE_FAIL 0:1" })
	c.await("the other to wait again", func() bool { return strings.HasPrefix(c.jobState(again), "PENDING") })
	c.ok("scancel", again)
	c.daemon("slurmd", "-N", "n1")
	c.awaitNode("n1", "DOWN") // it responds, and stays down
	c.edit("ReturnToService=0", "ReturnToService=1")
	c.ok("scontrol", "reconfigure")
	c.kill("n1", syscall.SIGKILL)
	c.daemon("slurmd", "-N", "n1")
	c.awaitNode("n1", "IDLE")
	c.ok("scontrol", "update", "nodename=n1", "state=down", "reason=disk")
	c.kill("n1", syscall.SIGKILL)
	c.awaitNode("n1", "DOWN+NOT_RESPONDING")
	c.daemon("slurmd", "-N", "n1")
	c.awaitNode("n1", "DOWN") // the administrator's word counts
	c.edit("ReturnToService=1", "ReturnToService=2")
	c.ok("scontrol", "reconfigure")
	c.kill("n1", syscall.SIGKILL)
	c.awaitNode("n1", "DOWN+NOT_RESPONDING")
	c.daemon("slurmd", "-N", "n1")
	c.awaitNode("n1", "IDLE")
}

// Damaged state is refused by name; -i starts with what can be read and says
// what is lost; -c begins anew. Neither touches the state of one that runs.
func TestDamagedState(t *testing.T) {
	c := one(t, 1)
	c.daemon("slurmctld")
	first := c.submit("-H", "-J", "early", "--wrap", "true")
	second := c.submit("-H", "-J", "needle", "--wrap", "true")
	third := c.submit("-H", "-J", "late", "--wrap", "true")
	if r := c.try("slurmctld", "-c"); r.code == 0 {
		t.Errorf("a second controller: %s", r)
	}
	c.kill("ctld", syscall.SIGTERM)
	files, err := filepath.Glob(filepath.Join(c.dir, "state-*", "journal", "*.wal"))
	if err != nil || len(files) != 1 {
		t.Fatalf("segments %v, %v", files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(data, []byte("needle"))
	if at < 0 {
		t.Fatal("the job is not in the journal")
	}
	data[at] ^= 0xff
	if err := os.WriteFile(files[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := c.try("slurmctld"); r.code == 0 || !strings.Contains(r.errOut, "the journal is damaged: entry ") || !strings.Contains(r.errOut, "slurmctld -i cuts the log there") {
		t.Errorf("damaged state: %s", r)
	}
	c.daemon("slurmctld", "-i")
	if out := c.ok("squeue", "-h", "-o", "%i"); out != first+"\n" {
		t.Errorf("after -i: %q; of %s, %s, %s only the first can be read", out, first, second, third)
	}
	if !strings.Contains(c.text("log/ctld.out"), "the journal was cut") {
		t.Error("the log does not say what was lost")
	}
	c.kill("ctld", syscall.SIGTERM)
	c.daemon("slurmctld", "-c")
	if out := c.ok("squeue", "-h", "-o", "%i"); out != "" {
		t.Errorf("after -c: %q", out)
	}
}

// The health check runs at the start and again, knows its node and cluster, and
// may take the node out of service.
func TestHealthCheck(t *testing.T) {
	c := one(t, 1)
	check := c.write("check", "#!/bin/sh\necho $SLURMD_NODENAME >> "+c.work+"/seen\n[ ! -e "+c.work+"/ill ] || "+
		filepath.Join(c.root, "bin", "scontrol")+" update nodename=$SLURMD_NODENAME state=drain reason=ill\n")
	c.edit("ReturnToService=2", "ReturnToService=2\nHealthCheckProgram="+check+"\nHealthCheckInterval=1")
	c.daemon("slurmctld")
	c.daemon("slurmd", "-N", "n1")
	c.awaitNode("n1", "IDLE")
	c.await("a second check", func() bool { return strings.HasPrefix(c.file("seen"), "n1\nn1\n") })
	c.write("ill", "")
	c.awaitNode("n1", "IDLE+DRAIN")
	if got := c.nodeField("n1", "Reason"); got != "ill" {
		t.Errorf("Reason=%q", got)
	}
}

// Submissions are refused when the disk is full, running jobs are not touched,
// and there is no more to it than making room.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("a small file system takes root")
	}
	c := one(t, 1)
	state := filepath.Join(c.dir, "state-"+c.host())
	if err := os.Mkdir(state, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("state", state, "tmpfs", 0, "size=80m"); err != nil {
		t.Skipf("no small file system here: %v", err)
	}
	t.Cleanup(func() { c.killAll(); syscall.Unmount(state, syscall.MNT_DETACH) })
	c.daemon("slurmctld")
	c.daemon("slurmd", "-N", "n1")
	c.awaitNode("n1", "IDLE")
	job := c.submit("-o", "job", "--wrap", "until [ -e go ]; do sleep 0.05; done; echo over")
	c.running(job)
	big := filepath.Join(state, "big")
	f, err := os.Create(big)
	if err != nil {
		t.Fatal(err)
	}
	for block := make([]byte, 1<<20); err == nil; {
		_, err = f.Write(block)
	}
	f.Close()
	var r result
	c.await("a submission to be refused", func() bool { r = c.run("sbatch", "--wrap", "true"); return r.code != 0 }) // free space is read now and then
	if !strings.Contains(r.errOut, "MiB are free") {
		t.Errorf("on a full disk: %s", r)
	}
	c.write("go", "")
	c.await("the job to end", func() bool { return c.jobState(job) == "COMPLETED 0:0" })
	if err := os.Remove(big); err != nil {
		t.Fatal(err)
	}
	c.await("a submission to be taken again", func() bool { return c.run("sbatch", "--wrap", "true").code == 0 })
}

// 150 node daemons of one host run a step of 150 nodes and an array of 150
// tasks. What they cost is told.
func TestManyNodeDaemons(t *testing.T) {
	if testing.Short() {
		t.Skip("150 daemons")
	}
	const nodes = 150
	began := time.Now()
	c := up(t, "--nodes", strconv.Itoa(nodes), "--cpus", "1", "--set", "SlurmctldDebug=info")
	started := time.Since(began)
	if got := c.ok("sinfo", "-h", "-o", "%D %t"); got != "150 idle\n" && !strings.Contains(got, "150 idle\n") {
		t.Errorf("sinfo: %q", got)
	}
	before := cpuTime(c, "slurmd")
	tick := time.Now()
	<-time.After(5 * time.Second) // an idle while, to see what it costs
	idle := (cpuTime(c, "slurmd") - before).Seconds() / time.Since(tick).Seconds()
	began = time.Now()
	out := c.ok("srun", "-N", "150", "-n", "150", "sh", "-c", "echo $SLURMD_NODENAME")
	step := time.Since(began)
	seen := map[string]bool{}
	for _, n := range strings.Fields(out) {
		seen[n] = true
	}
	if len(seen) != nodes {
		t.Errorf("the step ran on %d nodes: %s", len(seen), out)
	}
	began = time.Now()
	id := c.submit("--array=1-150", "-o", "out.%a", "--wrap", "echo $SLURM_ARRAY_TASK_ID on $SLURMD_NODENAME")
	c.await("150 tasks in accounting", func() bool {
		return strings.Count(c.run("sacct", "-X", "-n", "-P", "-j", id, "-o", "State").out, "COMPLETED\n") == nodes
	})
	array := time.Since(began)
	for i := 1; i <= nodes; i++ {
		if !strings.HasPrefix(c.file(fmt.Sprintf("out.%d", i)), fmt.Sprintf("%d on n", i)) {
			t.Errorf("out.%d has %q", i, c.file(fmt.Sprintf("out.%d", i)))
		}
	}
	mem, n := memory(c, "slurmd")
	launch, plugins := memory(c, "launch_exec")
	t.Logf("%d slurmd: all idle after %.1f s; %.1f MiB each (proportional), %.3f CPUs idle for all; %d launch plugins of %.1f MiB; srun -N150 %.2f s; array of 150 in accounting after %.2f s",
		n, started.Seconds(), mem/float64(n), idle, plugins, launch/float64(max(plugins, 1)), step.Seconds(), array.Seconds())
}

// each calls f with the directory in /proc of the cluster's processes of a program.
func each(c *cluster, program string, f func(proc string)) {
	for _, l := range c.processes() {
		if w := strings.Fields(l); filepath.Base(w[1]) == program {
			f(filepath.Join("/proc", w[0]))
		}
	}
}

// memory sums the proportional set sizes of a program's processes, in MiB.
func memory(c *cluster, program string) (mib float64, n int) {
	each(c, program, func(proc string) {
		data, err := os.ReadFile(filepath.Join(proc, "smaps_rollup"))
		if err != nil {
			return
		}
		for line := range strings.Lines(string(data)) {
			if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
				kib, _ := strconv.Atoi(strings.Fields(rest)[0])
				mib += float64(kib) / 1024
				n++
			}
		}
	})
	return mib, n
}

// cpuTime sums the processor time of a program's processes.
func cpuTime(c *cluster, program string) (sum time.Duration) {
	const tick = 10 * time.Millisecond
	each(c, program, func(proc string) {
		data, err := os.ReadFile(filepath.Join(proc, "stat"))
		if err != nil {
			return
		}
		w := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
		for _, field := range w[11:13] { // user and system, in clock ticks
			n, _ := strconv.Atoi(field)
			sum += time.Duration(n) * tick
		}
	})
	return sum
}
