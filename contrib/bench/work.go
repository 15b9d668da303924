package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Jobs of one run, in tests that run them.
const (
	jobsFull  = 2000
	jobsQuick = 1000
)

func (b *bench) jobs() int {
	if b.runs == 1 {
		return b.n(jobsQuick)
	}
	return b.n(jobsFull)
}

func sbatchLoops(b *bench, c *cluster) {
	const once = 20
	var version, wall []time.Duration
	for range once {
		version = append(version, c.time("sbatch", "--version"))
	}
	b.reportTimes("sbatch.version", version)
	for range b.runs {
		for range once {
			wall = append(wall, c.time("sbatch", "--wrap", "true", "-o", "/dev/null"))
		}
		c.drain()
	}
	b.reportTimes("sbatch.wall", wall)
	n := b.jobs() / 2
	for _, loops := range []int{1, 4} {
		var rates []float64
		for range b.runs {
			rates = append(rates, perSecond(n, c.sbatchMany(n, loops, "-H")))
		}
		b.report(fmt.Sprintf("sbatch.loops%d", loops), "jobs/s", forks, rates...)
	}
	c.clear()
}

// script is the path of a batch script of /bin/true.
func (c *cluster) trueScript() string {
	path := filepath.Join(c.dir, "true.sh")
	check(os.WriteFile(path, []byte(trueScript), 0o755))
	return path
}

// sbatchMany runs sbatch n times from concurrent loops.
func (c *cluster) sbatchMany(n, loops int, args ...string) time.Duration {
	args = append(append([]string{"-Q", "-o", "/dev/null"}, args...), c.trueScript())
	var all sync.WaitGroup
	var first error
	var once sync.Once
	began := time.Now()
	for i := range loops {
		all.Go(func() {
			for j := i; j < n; j += loops {
				if err := c.command("sbatch", args...).Run(); err != nil {
					once.Do(func() { first = fmt.Errorf("sbatch: %w", err) })
				}
			}
		})
	}
	all.Wait()
	took := time.Since(began)
	check(first)
	return took
}

func endToEnd(b *bench, c *cluster) {
	const loops = 4
	n := b.jobs()
	var array, single, accept, direct []float64
	for range b.runs {
		began := time.Now()
		c.run("sbatch", "-Q", "--array=1-"+strconv.Itoa(n), "-o", "/dev/null", c.trueScript())
		c.drain()
		array = append(array, perSecond(n, time.Since(began)))
	}
	b.report("e2e.array", "jobs/s", forks, array...)
	for range b.runs {
		began := time.Now()
		accept = append(accept, perSecond(n, c.sbatchMany(n, loops)))
		c.drain()
		single = append(single, perSecond(n, time.Since(began)))
	}
	b.report("e2e.single4", "jobs/s", forks, single...)
	b.report("e2e.single4.accept", "jobs/s", "", accept...)
	const inFlight = 64
	for range b.runs {
		began := time.Now()
		c.submit(n, 1, inFlight, c.spec())
		c.drain()
		direct = append(direct, perSecond(n, time.Since(began)))
	}
	b.report("e2e.client", "jobs/s", forks, direct...)
}

func srunLatency(b *bench, c *cluster) {
	c.run("srun", "-Q", "-N4", "-n4", "true") // launchers and caches are warm
	const each, between = 20, 50 * time.Millisecond
	for _, t := range []struct {
		name string
		args []string
	}{
		{"srun.n1", []string{"-Q", "-n1", "true"}},
		{"srun.N4n4", []string{"-Q", "-N4", "-n4", "hostname"}},
	} {
		var times []time.Duration
		for range b.runs * each {
			times = append(times, c.time("srun", t.args...))
			b.pause(between) // the node is clean again
		}
		b.reportTimes(t.name, times)
	}
}

func stepRates(b *bench, c *cluster) {
	n := b.n(200)
	for _, t := range []struct {
		name  string
		loops int
	}{{"steps.seq", 1}, {"steps.par8", 8}} {
		var rates []float64
		for range b.runs {
			out := c.run("salloc", "-Q", "-N1", "-n8", self(), stepsArg, strconv.Itoa(n), strconv.Itoa(t.loops))
			us, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
			check(err)
			rates = append(rates, perSecond(n, time.Duration(us)*time.Microsecond))
		}
		b.report(t.name, "steps/s", forks, rates...)
	}
}
