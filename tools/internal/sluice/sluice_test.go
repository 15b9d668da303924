package sluice

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sluice-hpc/sluice/conf"
)

// sluice runs a command line on a directory and returns what it said.
func sluice(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, bad bytes.Buffer
	status = Main(args, &out, &bad)
	return status, out.String(), bad.String()
}

// made is a cluster whose configuration is written, with nothing started.
func made(t *testing.T, s shape) *cluster {
	t.Helper()
	c, err := open(filepath.Join(t.TempDir(), "c"), new(bytes.Buffer), new(bytes.Buffer))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.check(); err != nil {
		t.Fatal(err)
	}
	if err := c.write(&s); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestShape(t *testing.T) {
	for _, s := range []shape{
		{nodes: 0, cpus: 1, mem: 1}, {nodes: 10001, cpus: 1, mem: 1}, {nodes: 1, cpus: 0, mem: 1}, {nodes: 1, cpus: 1},
		{nodes: 1, cpus: 1, mem: 1, port: -1}, {nodes: 10, cpus: 1, mem: 1, port: 65530},
		{nodes: 1, cpus: 1, mem: 1, set: []string{"KillWait"}}, {nodes: 1, cpus: 1, mem: 1, add: []string{"A=1\nB=2"}},
		{nodes: 1, cpus: 1, mem: 1, add: []string{"=1"}},
	} {
		if err := s.check(); err == nil || strings.Contains(err.Error(), "\n") && !strings.Contains(err.Error(), `\n`) {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

// The configuration that up writes is one that the daemons take.
func TestConfigurationLoads(t *testing.T) {
	c := made(t, shape{nodes: 3, cpus: 7, mem: 500, set: []string{"KillWait=7"}, add: []string{"MaxJobCount=77"}})
	cfg, _, err := conf.Load(c.conf()) // it warns that MaxJobCount is there twice
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Nodes) != 3 || cfg.Nodes[2].CPUs != 7 || cfg.Nodes[0].RealMemory != 500 || cfg.KillWait.Seconds() != 7 || cfg.MaxJobCount != 77 {
		t.Errorf("%d nodes, %+v, KillWait %v, MaxJobCount %d", len(cfg.Nodes), cfg.Nodes[0], cfg.KillWait, cfg.MaxJobCount)
	}
	if got := strings.Join(c.names(), " "); got != "ctld n1 n2 n3" {
		t.Errorf("the daemons are %s", got)
	}
	text, err := os.ReadFile(c.conf())
	if err != nil || strings.Count(string(text), "KillWait=") != 1 {
		t.Errorf("a line of --set stands beside ours: %v\n%s", err, text)
	}
}

func TestFreePorts(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().(*net.TCPAddr).Port
	if got := busyPort(taken, 1); got != taken {
		t.Errorf("port %d is taken; busyPort says %d", taken, got)
	}
	c := &cluster{dir: t.TempDir()}
	first, err := c.freePorts(5)
	if err != nil || first < firstPort || first+5 > lastPort {
		t.Errorf("ports from %d, %v", first, err)
	}
	if _, err := c.freePorts(lastPort); err == nil || !strings.Contains(err.Error(), "--port") {
		t.Errorf("error %v", err)
	}
}

func TestDirectories(t *testing.T) {
	for _, dir := range []string{"/tmp/with blank", "/tmp/a%b", "/tmp/" + strings.Repeat("x", 120)} {
		if status, _, stderr := sluice(t, "--dir", dir, "status"); status != 1 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "--dir") {
			t.Errorf("%s: status %d, %q", dir, status, stderr)
		}
	}
	if status, _, stderr := sluice(t, "nosuch"); status != 1 || !strings.HasPrefix(stderr, "sluice: error: ") {
		t.Errorf("status %d, %q", status, stderr)
	}
	if status, stdout, _ := sluice(t, "--version"); status != 0 || !strings.HasPrefix(stdout, "slurm 25.11.") {
		t.Errorf("status %d, %q", status, stdout)
	}
}

// The verbs on a cluster that is not there, and on one that does not run.
func TestVerbs(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	for _, verb := range [][]string{{"env"}, {"status"}, {"start", "ctld"}} {
		if status, _, stderr := sluice(t, append([]string{"--dir", none}, verb...)...); status != 1 || !strings.Contains(stderr, "there is no cluster in "+none) {
			t.Errorf("%v: status %d, %q", verb, status, stderr)
		}
	}
	c := made(t, shape{nodes: 2, cpus: 1, mem: 1})
	if status, out, _ := sluice(t, "--dir", c.dir, "env"); status != 0 || !strings.HasPrefix(out, "export SLURM_CONF="+c.conf()+"\nexport PATH=") {
		t.Errorf("env: %d, %q", status, out)
	}
	want := "ctld   does not run\nn1     does not run\nn2     does not run\n"
	if status, out, _ := sluice(t, "--dir", c.dir, "status"); status != 1 || out != want {
		t.Errorf("status: %d, %q", status, out)
	}
	if status, _, stderr := sluice(t, "--dir", c.dir, "start", "n9"); status != 1 || !strings.Contains(stderr, "it has ctld n1 n2") {
		t.Errorf("start: %d, %q", status, stderr)
	}
	if status, _, stderr := sluice(t, "--dir", c.dir, "kill9", "n1"); status != 1 || !strings.Contains(stderr, "n1 does not run") {
		t.Errorf("kill9: %d, %q", status, stderr)
	}
	if status, _, stderr := sluice(t, "--dir", c.dir, "wipe"); status != 0 {
		t.Errorf("wipe: %d, %q", status, stderr)
	}
	if _, err := os.Stat(c.dir); !os.IsNotExist(err) {
		t.Errorf("the directory is still there: %v", err)
	}
	other := t.TempDir()
	if status, _, stderr := sluice(t, "--dir", other, "wipe"); status != 1 || !strings.Contains(stderr, "nothing is deleted") {
		t.Errorf("wipe of another directory: %d, %q", status, stderr)
	}
}

// A process id is believed only while the process is the daemon.
func TestProcessID(t *testing.T) {
	c := made(t, shape{nodes: 1, cpus: 1, mem: 1})
	for _, text := range []string{"", "x", "1", "-5", strconv.Itoa(os.Getpid()), "99999999"} {
		if err := os.WriteFile(c.pidFile("n1"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if pid := c.pid("n1"); pid != 0 {
			t.Errorf("%q is taken for slurmd %d", text, pid)
		}
	}
	if len(c.running()) != 0 {
		t.Errorf("running: %v", c.running())
	}
	if err := os.WriteFile(c.outFile("n1"), []byte("a\nb\nc\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := c.tail("n1", 2); got != "b\nc" {
		t.Errorf("tail %q", got)
	}
}

func TestTopPhrases(t *testing.T) {
	dir := t.TempDir()
	for i, text := range []string{"The cat sat. THE CAT sat, the-cat sat down", "the cat sat"} {
		if err := os.WriteFile(filepath.Join(dir, "part-"+strconv.Itoa(i+1)+".txt"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := topPhrases(dir, 2, 3)
	if want := "4\tthe cat sat\n2\tcat sat the\n2\tsat the cat\n"; err != nil || got != want {
		t.Errorf("%v\n%s", err, got)
	}
	if _, err := topPhrases(dir, 3, 3); err == nil {
		t.Error("a part that is missing is no mistake")
	}
}

func TestCheckSteps(t *testing.T) {
	var b strings.Builder
	for r := range 8 {
		b.WriteString(strconv.Itoa(r) + ": rank " + strconv.Itoa(r) + " of 8 on n" + strconv.Itoa(r/2+1) + "\n")
	}
	if err := checkSteps(b.String()); err != nil {
		t.Error(err)
	}
	if err := checkSteps(strings.Replace(b.String(), "7: ", "6: ", 1)); err == nil {
		t.Error("a rank is missing")
	}
}
