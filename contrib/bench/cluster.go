package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-hpc/sluice/sdk/client"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
)

const (
	waitTime = 5 * time.Minute // for jobs to drain and the like
	lookTime = 20 * time.Millisecond
)

// The clusters that tests use.
const (
	rigWork  = "work"  // runs jobs
	rigQueue = "queue" // holds pending jobs
	rigSim   = "sim"   // has simulated nodes
)

var rigs = map[string]func(*bench) *cluster{
	rigWork:  func(b *bench) *cluster { return b.up() },
	rigQueue: func(b *bench) *cluster { return b.up() },
	rigSim:   simUp,
}

// cluster is one that runs.
type cluster struct {
	b      *bench
	script string // cluster.sh
	dir    string // PEER_DIR
	env    []string
	target client.Target
	extra  []*exec.Cmd // processes beside those of the script
}

// up starts a cluster; extra are variables for cluster.sh.
func (b *bench) up(extra ...string) *cluster {
	dir, err := os.MkdirTemp("", "sb") // short: sockets live below it
	check(err)
	check(os.Chmod(dir, 0o755))
	c := &cluster{b: b, script: findScript(), dir: dir}
	c.env = append(os.Environ(), "PEER_DIR="+dir, fmt.Sprintf("PEER_PORT=%d", freePorts()))
	c.env = append(c.env, extra...)
	if out, err := c.sh("up"); err != nil {
		c.down()
		fail("cluster.sh up: %w\n%s", err, out)
	}
	out, err := c.sh("env")
	check(err)
	for line := range strings.Lines(out) {
		name, value, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "export ")), "=")
		value = strings.ReplaceAll(value, "$PATH", os.Getenv("PATH"))
		c.env = append(c.env, name+"="+value)
		if name == "PATH" {
			check(os.Setenv("PATH", value)) // where commands are looked up
		}
	}
	c.readConf()
	return c
}

// down stops the cluster and removes its directory. BENCH_KEEP=1 leaves both,
// for a look at what went wrong.
func (c *cluster) down() {
	if os.Getenv("BENCH_KEEP") != "" {
		return
	}
	for _, cmd := range c.extra {
		cmd.Process.Kill() //nolint:errcheck // it may have ended
		cmd.Wait()         //nolint:errcheck // killed
	}
	c.sh("wipe") //nolint:errcheck // there is nothing more to do
	os.RemoveAll(c.dir)
}

func findScript() string {
	abs, err := filepath.Abs("contrib/bench/cluster.sh")
	check(err)
	if _, err := os.Stat(abs); err != nil {
		fail("contrib/bench/cluster.sh is not here: run from the top of the tree")
	}
	return abs
}

// freePorts finds the start of 300 ports of which the first ones of the
// controller and of the nodes are free.
func freePorts() int {
	const first, last, each = 20000, 32000, 300
	for p := first; p < last; p += each {
		free := true
		for _, off := range []int{17, 100, 201} {
			l, err := net.Listen("tcp", fmt.Sprintf(":%d", p+off))
			if err != nil {
				free = false
				break
			}
			l.Close()
		}
		if free {
			return p
		}
	}
	fail("no free ports between %d and %d", first, last)
	return 0
}

// sh runs a verb of cluster.sh. Its daemons keep the output open, so it goes
// to a file.
func (c *cluster) sh(args ...string) (string, error) {
	f, err := os.CreateTemp("", "bench")
	check(err)
	defer os.Remove(f.Name())
	defer f.Close()
	cmd := exec.Command(c.script, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = c.env, f, f
	err = cmd.Run()
	out, _ := os.ReadFile(f.Name())
	return string(out), err
}

// readConf finds what sdk/client needs in the configuration.
func (c *cluster) readConf() {
	f, err := os.Open(filepath.Join(c.dir, "etc", "slurm.conf"))
	check(err)
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		key, value, _ := strings.Cut(s.Text(), "=")
		switch key {
		case "ClusterName":
			c.target.Cluster = value
		case "SlurmctldPort":
			c.target.Controllers = []string{"127.0.0.1:" + value}
		case "AuthInfo":
			c.target.Socket = strings.TrimPrefix(value, "socket=")
		}
	}
	c.target.Timeout = time.Minute
}

// dial opens a connection of its own.
func (c *cluster) dial() *client.Client {
	cl, err := client.Open(c.b.ctx, c.target)
	check(err)
	return cl
}

// pid is the process of a daemon: ctld, n1 and so on.
func (c *cluster) pid(name string) int {
	out, err := c.sh("pid", name)
	if err != nil {
		fail("%s does not run: %w", name, err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(out))
	check(err)
	return pid
}

func (c *cluster) command(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(c.b.ctx, name, args...)
	cmd.Dir, cmd.Env = c.dir, c.env
	return cmd
}

// run runs a command that must succeed and returns its output.
func (c *cluster) run(name string, args ...string) string {
	cmd := c.command(name, args...)
	var out, bad bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &bad
	if err := cmd.Run(); err != nil {
		fail("%s %s: %w: %s", name, strings.Join(args, " "), err, bad.String())
	}
	return out.String()
}

// time is how long a command takes that must succeed; its output goes nowhere.
func (c *cluster) time(name string, args ...string) time.Duration {
	cmd := c.command(name, args...)
	cmd.Stderr = os.Stderr
	began := time.Now()
	if err := cmd.Run(); err != nil {
		fail("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return time.Since(began)
}

// peak is the most memory a command had, in MiB.
func (c *cluster) peak(line []string) float64 {
	kib, err := strconv.ParseFloat(strings.TrimSpace(c.run(self(), append([]string{peakArg}, line...)...)), 64)
	check(err)
	const unit = 1024
	return kib / unit
}

func self() string {
	path, err := os.Executable()
	check(err)
	return path
}

// queued counts the jobs that squeue would show.
func (c *cluster) queued() int {
	cl := c.dial()
	defer cl.Close()
	return c.queuedBy(cl)
}

func (c *cluster) queuedBy(cl *client.Client) int {
	stream, err := cl.Controller.Jobs(c.b.ctx, &ctlv1.JobsRequest{})
	check(err)
	n := 0
	for {
		reply, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return n
		}
		check(err)
		n += len(reply.GetJobs())
	}
}

// drain waits until no job is left in the queue. It looks often only when few
// are left: a look at a long queue takes the machine from what is measured.
func (c *cluster) drain() {
	cl := c.dial()
	defer cl.Close()
	const few, perJob = 50, time.Millisecond
	for end := time.Now().Add(waitTime); ; {
		n := c.queuedBy(cl)
		if n == 0 {
			return
		}
		if time.Now().After(end) {
			fail("%d jobs are still in the queue after %v", n, waitTime)
		}
		c.b.pause(max(lookTime, time.Duration(n-few)*perJob))
	}
}

// clear cancels everything and waits.
func (c *cluster) clear() {
	c.run("scancel", "-u", strconv.Itoa(os.Getuid()))
	c.drain()
}

func (c *cluster) await(what string, cond func() bool) {
	for end := time.Now().Add(waitTime); !cond(); {
		if time.Now().After(end) {
			fail("waited %v in vain for %s", waitTime, what)
		}
		c.b.pause(lookTime)
	}
}

// counters are the controller's, as sdiag shows them.
func (c *cluster) counters(cl *client.Client) map[string]int64 {
	ctx, stop := context.WithTimeout(c.b.ctx, time.Minute)
	defer stop()
	d, err := cl.Controller.Diag(ctx, &ctlv1.DiagRequest{})
	check(err)
	return d.GetCounters()
}
