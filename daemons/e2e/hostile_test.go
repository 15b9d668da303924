package e2e

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Whatever arrives on a socket of the cluster: the connection is closed, no
// process dies or grows, and jobs and commands do not notice.
func TestGarbageOnSockets(t *testing.T) {
	r := seed(t)
	c := up(t, "--nodes", "1", "--cpus", "4")
	job := c.submit("-o", "on", "--wrap", "echo on; until [ -e go ]; do sleep 0.05; done; exit 3")
	c.await("the job to run", func() bool { return c.file("on") == "on\n" })
	step := filepath.Join(c.dir, "spool", "n1", job+".batch", "sock")
	c.await("the supervisor's socket", func() bool { return fileExists(step) })
	before := map[int]int{}
	for _, v := range append(c.victims(), victim{pid: c.supervisors()[0]}) {
		before[v.pid] = resident(v.pid)
	}
	targets := c.sockets()
	if len(targets) < 7 {
		t.Fatalf("found only the sockets %v", targets)
	}
	for _, to := range targets {
		for i, text := range garbage(r) {
			if err := shout(to, text); err != nil {
				t.Errorf("%s %s, garbage %d (%.20q): %v", to[0], to[1], i, text, err)
			}
		}
	}
	for pid, was := range before {
		const growth = 64 << 10 // KiB
		if now := resident(pid); now == 0 {
			t.Errorf("process %d is gone", pid)
		} else if now > was+growth {
			t.Errorf("process %d grew from %d to %d KiB", pid, was, now)
		}
	}
	for _, log := range []string{"ctld.out", "n1.out"} {
		text, err := os.ReadFile(filepath.Join(c.dir, "log", log))
		if err != nil || bytes.Contains(text, []byte("panic")) {
			t.Errorf("%s: %v\n%s", log, err, text)
		}
	}
	for _, of := range []struct{ who, log, line string }{
		{"slurmd", "log/n1.out", `no call" peer=\S+ so_far=1\b`},
		{"a plugin of slurmd's", "log/n1.out", `no call" .*kind=launch .*so_far=1\b`},
		{"a plugin of slurmctld's", "log/ctld.out", `no call" .*kind=select .*so_far=1\b`},
		{"the supervisor", "spool/n1/slurmstepd.log", `no request, so_far=1\b`},
	} {
		text, err := os.ReadFile(filepath.Join(c.dir, of.log))
		if err != nil || !regexp.MustCompile(of.line).Match(text) {
			t.Errorf("%s counts no garbage (%v)", of.who, err)
		}
	}
	c.write("go", "")
	c.ended(job, "FAILED 3:0")
	c.ended(c.submit("-o", "/dev/null", "--wrap", "exit 1"), "FAILED 1:0")
	if out := c.ok("srun", "-Q", "-n1", "echo", "well"); out != "well\n" {
		t.Errorf("srun printed %q", out)
	}
}

// sockets are the addresses that processes of the cluster listen on.
func (c *cluster) sockets() (out [][2]string) {
	c.t.Helper()
	text, err := os.ReadFile(filepath.Join(c.dir, "etc", "slurm.conf"))
	if err != nil {
		c.t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^SlurmctldPort=(\d+)| Port=(\d+)`).FindAllStringSubmatch(string(text), -1) {
		out = append(out, [2]string{"tcp", "127.0.0.1:" + m[1] + m[2]})
	}
	// Plugins' sockets may be elsewhere: the kernel says where.
	mine := map[string]bool{}
	for _, v := range append(c.victims(), victim{pid: c.supervisors()[0]}) {
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", v.pid))
		for _, fd := range fds {
			to, _ := os.Readlink(fd)
			if inode, ok := strings.CutPrefix(to, "socket:["); ok {
				mine[strings.TrimSuffix(inode, "]")] = true
			}
		}
	}
	table, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		c.t.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		const flags, inode, path, listens = 3, 6, 7, "00010000"
		if w := strings.Fields(line); len(w) > path && w[flags] == listens && mine[w[inode]] {
			out = append(out, [2]string{"unix", strings.TrimSuffix(w[path], ".new")}) // the token socket was renamed
		}
	}
	return out
}

// garbage is what no socket of the cluster understands.
func garbage(r *rand.Rand) (out [][]byte) {
	const hello = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	settings := "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	out = append(out, []byte("\n"), []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), []byte(hello[:11]),
		[]byte(hello+settings+"\xff\xff\xff\x01\x05\x00\x00\x00\x01garbage"),                        // a header of 16 MiB is announced
		[]byte(hello+settings+"\x00\x00\x04\x01\x05\x00\x00\x00\x01\xff\xff\xff\xff"),               // headers that are none
		[]byte(hello+settings+"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00"),               // a window of no size
		[]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"+string(noise(64))),                    // TLS
		[]byte("A\x00\x00\x00\x00\xff\xff\xff\xff"), []byte("S\x00\x00\x00\x00\x00\x00\x00\x03{]}"), // of a supervisor
		bytes.Repeat([]byte{0}, 1<<20))
	for range 20 {
		out = append(out, noise(1+r.IntN(4000)))
	}
	return out
}

// shout says text, and nothing more, and waits until the other side closes.
func shout(to [2]string, text []byte) error {
	conn, err := net.Dial(to[0], to[1])
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	conn.Write(text) //nolint:errcheck // it may have closed already
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		half.CloseWrite() //nolint:errcheck // as above
	}
	if _, err := io.Copy(io.Discard, conn); err != nil && os.IsTimeout(err) {
		return fmt.Errorf("the connection stays open: %w", err)
	}
	return nil
}

// resident is what a process holds, in KiB; 0: it is gone.
func resident(pid int) int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	n, _ := strconv.Atoi(strings.TrimSpace(rest[:max(0, strings.Index(rest, "kB"))]))
	return n
}

// The disk under StateSaveLocation is full: submissions are refused with that
// reason, jobs run on, and how they end is recorded once there is room.
func TestFullDiskRecords(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount a small file system")
	}
	state := t.TempDir()
	if err := syscall.Mount("none", state, "tmpfs", 0, "size=96m"); err != nil {
		t.Skipf("a small file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(state, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	c := up(t, "--nodes", "1", "--cpus", "4", "--set", "StateSaveLocation="+state)
	script := "echo on >> OUT; until [ -e go.OUT ]; do sleep 0.05; done; exit 3"
	var ids []string
	for _, name := range []string{"early", "late"} {
		ids = append(ids, c.submit("-o", "/dev/null", "--wrap", strings.ReplaceAll(script, "OUT", name)))
		c.await("the job to run", func() bool { return c.file(name) == "on\n" })
	}
	waits := c.submit("-o", "/dev/null", "-H", "--wrap", "exit 2")
	fill := filepath.Join(state, "fill")
	if err := fillUp(fill); err != nil {
		t.Fatal(err)
	}
	refused := func() {
		t.Helper()
		r := c.run("sbatch", "-o", "/dev/null", "--wrap", "true")
		if r.code != 1 || !strings.Contains(r.errOut, "No space left under StateSaveLocation") {
			t.Errorf("a submission with a full disk: %s", r)
		}
	}
	c.await("submissions to be refused", func() bool { return c.run("sbatch", "-o", "/dev/null", "-H", "--wrap", "true").code != 0 })
	refused()
	if r := c.run("srun", "-n1", "true"); r.code == 0 || !strings.Contains(r.errOut, "No space left under StateSaveLocation") {
		t.Errorf("srun with a full disk: %s", r)
	}
	c.write("go.early", "") // ends while the disk is full
	c.await("the job to be gone from its node", func() bool { return !fileExists(filepath.Join(c.dir, "spool", "n1", "jobs", ids[0])) })
	if out := c.ok("squeue", "-h", "-j", ids[1], "-o", "%T"); strings.TrimSpace(out) != "RUNNING" {
		t.Errorf("the other job is %q", out)
	}
	refused()
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	c.ended(ids[0], "FAILED 3:0")
	c.await("submissions to be accepted", func() bool { return c.run("sbatch", "-o", "/dev/null", "--wrap", "true").code == 0 })
	c.write("go.late", "")
	c.ended(ids[1], "FAILED 3:0")
	c.ok("scontrol", "release", waits)
	c.ended(waits, "FAILED 2:0")
	c.run("scancel", "--state=PENDING")
}

// fillUp writes a file until nothing more fits.
func fillUp(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for n := 1 << 20; n >= 512; n /= 2 {
		for {
			if _, err := f.Write(make([]byte, n)); err != nil {
				break
			}
		}
	}
	return nil
}
