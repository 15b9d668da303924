package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// three makes a cluster of three controllers and one node on this host.
func three(t *testing.T) (c *cluster, ports int) {
	t.Helper()
	c = site(t)
	ports = freePorts(t, 4)
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	host, _, _ = strings.Cut(host, ".")
	lines := []string{"ClusterName=three"}
	for i := range 3 {
		lines = append(lines, fmt.Sprintf("SlurmctldHost=c%d(127.0.0.1:%d)", i+1, ports+i))
	}
	lines = append(lines, c.paths(),
		"SlurmdParameters=config_overrides\nReturnToService=2\nMessageTimeout=30\nSelectType=select/cons_tres\nSelectTypeParameters=CR_Core",
		fmt.Sprintf("NodeName=n1 NodeHostname=%s NodeAddr=127.0.0.1 Port=%d CPUs=4 RealMemory=1000", host, ports+3),
		"PartitionName=main Nodes=n1 Default=YES")
	c.configure(strings.Join(lines, "\n") + "\n")
	return c, ports
}

// Three controllers share the journal: one leads, and when it is killed another
// has all of its jobs and goes on with them.
func TestThreeControllers(t *testing.T) {
	c, _ := three(t)
	for _, name := range []string{"c1", "c2", "c3"} {
		c.daemon("slurmctld", "--host", name)
	}
	c.daemon("slurmd", "-N", "n1")
	leader := c.leader()
	c.await("the node to be idle", func() bool { return strings.TrimSpace(c.run("sinfo", "-h", "-o", "%t").out) == "idle" })
	stays := c.submit("-o", "stays", "--wrap", "echo on; until [ -e go ]; do sleep 0.05; done; echo over")
	c.await("the job to run", func() bool { return c.file("stays") == "on\n" })
	waits := c.submit("-H", "--wrap", "exit 3")
	ping := c.ok("scontrol", "ping")
	if want := "Slurmctld(primary) at c1 is UP\nSlurmctld(backup1) at c2 is UP\nSlurmctld(backup2) at c3 is UP\n"; ping != want {
		t.Errorf("scontrol ping: %q", ping)
	}

	c.edit("PartitionName=main", "PartitionName=added Nodes=n1\nPartitionName=main")
	c.ok("scontrol", "reconfigure")

	c.kill(leader, syscall.SIGKILL)
	second := c.leader()
	if second == leader {
		t.Fatalf("%s leads and is dead", leader)
	}
	c.running(stays)
	if got := c.run("scontrol", "ping"); !strings.Contains(got.out, "at "+leader+" is DOWN\n") || strings.Count(got.out, " is UP\n") != 2 {
		t.Errorf("scontrol ping after the kill: %s", got)
	}
	more := c.submit("-p", "added", "--wrap", "true") // the second knows what the first was told
	if n, old := number(t, more), number(t, waits); n <= old {
		t.Errorf("job %d was accepted after job %d", n, old)
	}
	c.ok("scontrol", "release", waits)
	c.write("go", "")
	for job, want := range map[string]string{stays: "COMPLETED 0:0", more: "COMPLETED 0:0", waits: "FAILED 3:0"} {
		c.await("job "+job+" to end "+want, func() bool { return c.jobState(job) == want })
	}
	if got := c.file("stays"); got != "on\nover\n" {
		t.Errorf("the job wrote %q: it was disturbed", got)
	}

	// The killed one comes back as a backup, and all end together.
	c.daemon("slurmctld", "--host", leader)
	if got := c.ok("scontrol", "ping"); strings.Count(got, " is UP\n") != 3 {
		t.Errorf("scontrol ping after the restart: %s", got)
	}
	c.ok("scontrol", "shutdown")
	c.await("all daemons to end", func() bool { return len(c.processes()) == 0 })
}

// leader waits until one of the controllers leads, and names it.
func (c *cluster) leader() (name string) {
	c.t.Helper()
	c.await("a leader", func() bool {
		for _, p := range strings.Split(c.run("scontrol", "ping", "--json").out, "{") {
			if strings.Contains(p, `"primary": true`) {
				_, rest, _ := strings.Cut(p, `"hostname": "`)
				name, _, _ = strings.Cut(rest, `"`)
				return true
			}
		}
		return false
	})
	return name
}

// jobState is a job's state and exit code as the controller tells them.
func (c *cluster) jobState(job string) string {
	out := c.run("scontrol", "-o", "show", "job", job).out
	field := func(name string) string {
		_, rest, _ := strings.Cut(out, " "+name+"=")
		v, _, _ := strings.Cut(rest, " ")
		return v
	}
	return field("JobState") + " " + field("ExitCode")
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Two controllers share StateSaveLocation, as in Slurm: the backup takes over
// when the primary is gone.
func TestPrimaryAndBackup(t *testing.T) {
	c := site(t)
	ports := freePorts(t, 3)
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	host, _, _ = strings.Cut(host, ".")
	c.configure(fmt.Sprintf("ClusterName=two\nSlurmctldHost=c1(127.0.0.1:%d)\nSlurmctldHost=c2(127.0.0.1:%d)\n%s\nMessageTimeout=30\n"+
		"NodeName=n1 NodeHostname=%s NodeAddr=127.0.0.1 Port=%d CPUs=4\nPartitionName=main Nodes=n1 Default=YES\n",
		ports, ports+1, strings.ReplaceAll(c.paths(), "state-%h", "state"), host, ports+2))
	c.daemon("slurmctld", "--host", "c1")
	c.daemon("slurmctld", "--host", "c2")
	if got, want := c.ok("scontrol", "ping"), "Slurmctld(primary) at c1 is UP\nSlurmctld(backup) at c2 is UP\n"; got != want {
		t.Errorf("scontrol ping: %q", got)
	}
	job := c.submit("-H", "--wrap", "true")
	c.kill("c1", syscall.SIGKILL)
	c.await("the backup to know the job", func() bool { return c.jobState(job) == "PENDING 0:0" })
	r := c.run("scontrol", "ping")
	if r.out != "Slurmctld(primary) at c1 is DOWN\nSlurmctld(backup) at c2 is UP\n" || r.errOut != "scontrol: warning: c2 is in control\n" || r.code != 0 {
		t.Errorf("after the kill: %s", r)
	}
	// A third process may not have the directory meanwhile.
	if r := c.try("slurmctld", "--host", "c2"); r.code == 0 || !strings.Contains(r.errOut, "address already in use") {
		t.Errorf("a second c2: %s", r)
	}
	c.kill("c2", syscall.SIGTERM)
	c.await("it to end", func() bool { return len(c.processes()) == 0 })
}

// site is a cluster whose configuration and daemons a test makes itself.
func site(t *testing.T) *cluster {
	t.Helper()
	root, err := prefix()
	if err != nil {
		t.Skipf("the binaries cannot be built: %v", err)
	}
	dir, err := os.MkdirTemp("", "e2e")
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, dir: filepath.Join(dir, "c"), work: filepath.Join(dir, "w"), root: root}
	for _, d := range []string{dir, c.dir, filepath.Join(c.dir, "etc"), c.work} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c.environ()
	t.Cleanup(func() {
		if t.Failed() {
			c.showLogs()
		}
		c.killAll()
		if os.Getenv("E2E_KEEP") == "" {
			os.RemoveAll(dir)
		}
	})
	return c
}

// paths are the lines of slurm.conf that keep a site's files in its directory.
func (c *cluster) paths() string {
	return strings.ReplaceAll(`SlurmUser=root
PluginUser=root
AuthInfo=socket=DIR/run/auth.sock
StateSaveLocation=DIR/state-%h
SlurmdSpoolDir=DIR/spool/%n
SlurmctldPidFile=DIR/run/%h.pid
SlurmdPidFile=DIR/run/%n.pid
SlurmctldLogFile=DIR/log/%h.out
SlurmdLogFile=DIR/log/%n.out`, "DIR", c.dir)
}

func (c *cluster) configure(text string) {
	c.t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, "etc", "slurm.conf"), []byte(text), 0o644); err != nil {
		c.t.Fatal(err)
	}
}

// daemon starts a daemon, which goes to the background and must serve.
func (c *cluster) daemon(name string, args ...string) {
	c.t.Helper()
	if r := c.try(name, args...); r.code != 0 || r.out+r.errOut != "" {
		c.t.Fatal(r)
	}
}

// try starts a daemon and tells what became of it.
func (c *cluster) try(name string, args ...string) result {
	c.t.Helper()
	return c.run(filepath.Join(c.root, "sbin", name), args...)
}

// pid is that of a daemon by its pid file.
func (c *cluster) pid(name string) int {
	text, err := os.ReadFile(filepath.Join(c.dir, "run", name+".pid"))
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		c.t.Fatal(err)
	}
	return n
}

// kill sends a signal to a daemon and waits for its end if that is one.
func (c *cluster) kill(name string, sig syscall.Signal) {
	c.t.Helper()
	pid := c.pid(name)
	if pid == 0 || syscall.Kill(pid, sig) != nil {
		c.t.Fatalf("%s does not run", name)
	}
	if sig == syscall.SIGKILL || sig == syscall.SIGTERM || sig == syscall.SIGINT {
		c.await(name+" to end", func() bool { return !alive(pid) })
	}
}

// alive reports whether a process is there and no zombie.
func alive(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(data), ") Z ")
}

// killAll ends every process of the cluster, and complains of none.
func (c *cluster) killAll() {
	within(20*time.Second, func() bool {
		left := c.processes()
		for _, l := range left {
			if pid, err := strconv.Atoi(strings.Fields(l)[0]); err == nil {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		return len(left) == 0
	})
}
