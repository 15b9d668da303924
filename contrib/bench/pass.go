package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-hpc/sluice/sdk/client"
)

const (
	simNodes = 10000
	simEach  = 1000 // nodes of one slurmd
	simPort  = 100  // of the first slurmd, above PEER_PORT
)

// simUp is a cluster of 10,000 nodes that pretend to run jobs, and one that
// would.
func simUp(b *bench) *cluster {
	nodes, port := b.n(simNodes), freePorts()
	host, err := os.Hostname()
	check(err)
	host, _, _ = strings.Cut(host, ".")
	var extra strings.Builder
	extra.WriteString("LaunchType=launch/sim\n")
	var groups []string
	for first := 1; first <= nodes; first += simEach {
		group := fmt.Sprintf("c[%d-%d]", first, min(nodes, first+simEach-1))
		fmt.Fprintf(&extra, "NodeName=%s NodeHostname=%s NodeAddr=127.0.0.1 Port=%d CPUs=64 RealMemory=8000 State=UNKNOWN\n",
			group, host, port+simPort+len(groups))
		groups = append(groups, group)
	}
	fmt.Fprintf(&extra, "PartitionName=cloud Nodes=c[1-%d] MaxTime=INFINITE State=UP\n", nodes)
	c := b.up(fmt.Sprintf("PEER_PORT=%d", port), "PEER_NODES=1", "PEER_EXTRA="+extra.String())
	for _, g := range groups {
		cmd := c.command("slurmd", "-D", "-N", g)
		check(cmd.Start())
		c.extra = append(c.extra, cmd)
	}
	c.await("the simulated nodes", func() bool {
		return strings.TrimSpace(c.run("sinfo", "-h", "-p", "cloud", "-t", "idle", "-o", "%D")) == strconv.Itoa(nodes)
	})
	return c
}

// passTime fills the simulated nodes with jobs, lets 100,000 jobs wait behind
// them, and looks at the passes that one more job causes.
func passTime(b *bench, c *cluster) {
	nodes, jobs := b.n(simNodes), b.n(pendingMany)
	const each, conns, inFlight = 10, 16, 16
	cl := c.dial()
	defer cl.Close()
	began := time.Now()
	script := filepath.Join(c.dir, "sim.sh")
	check(os.WriteFile(script, []byte("#!/bin/sh\n#SIM seconds=100000\n"), 0o755))
	c.run("sbatch", "-Q", "-p", "cloud", "-n64", "-N1", "--mem=100", "--array=1-"+strconv.Itoa(nodes), "-o", "/dev/null", script)
	c.await("the nodes to be full", func() bool { return c.counters(cl)["jobs_running"] >= int64(nodes) })
	b.report("pass.fill", "jobs/s", "", perSecond(nodes, time.Since(began)))
	wait := c.spec()
	wait.Partitions = []string{"cloud"}
	b.report("pass.submit", "jobs/s", "", perSecond(jobs, c.submit(jobs, conns, inFlight, wait)))
	c.await("passes to catch up", func() bool {
		before := c.counters(cl)["passes"]
		b.pause(time.Second)
		return c.counters(cl)["passes"] == before
	})
	var passes []float64
	pid := c.pid("ctld")
	start, cpu := c.counters(cl), familyTime(pid)
	for range each * b.runs {
		before := c.counters(cl)["passes"]
		c.submit(1, 1, 1, wait)
		c.await("a pass", func() bool { return c.counters(cl)["passes"] > before })
		passes = append(passes, float64(c.counters(cl)["pass_last_us"])/1000)
	}
	b.report("pass.time", "ms", "", passes...)
	end := c.counters(cl)
	cpu = familyTime(pid) - cpu
	taken := float64(end["passes"] - start["passes"])
	b.report("pass.cpu", "ms", "", milli(cpu)/taken)
	for _, part := range []string{"push", "rank", "plan", "place", "commit"} {
		key := "pass_" + part + "_us"
		b.report("pass."+part, "ms", "", float64(end[key]-start[key])/1000/taken)
	}
	arrayPasses(b, c, cl, script)
	now, most := ownMemory(c.pid("ctld"))
	b.report("memory.sim", "MiB", "", now)
	b.report("memory.sim.peak", "MiB", "", most)
}

// arrayPasses looks at passes while an array of a million tasks waits, too.
func arrayPasses(b *bench, c *cluster, cl *client.Client, script string) {
	const each, million = 10, 1_000_000
	c.run("sbatch", "-Q", "-p", "cloud", "-n1", "-N1", "--array=0-"+strconv.Itoa(million-1), "-o", "/dev/null", script)
	wait := c.spec()
	wait.Partitions = []string{"cloud"}
	var passes []float64
	for range each * b.runs {
		before := c.counters(cl)["passes"]
		c.submit(1, 1, 1, wait)
		c.await("a pass", func() bool { return c.counters(cl)["passes"] > before })
		passes = append(passes, float64(c.counters(cl)["pass_last_us"])/1000)
	}
	b.report("pass.array", "ms", "", passes...)
}
