// Command bench measures a built Sluice on one machine: make bench
// [BENCH="names"], or go run ./contrib/bench [-quick] [NAME...] at the top of
// the tree.
//
// It starts throw-away clusters of its own (contrib/bench/cluster.sh), each in
// a directory of its own, uses them as users do, through the commands and
// sdk/client, and removes them. Tests that can share a cluster do. The
// machine's own limits (processes forked, executed and waited for a second,
// synced writes a second) are measured in the same run, and figures that end at
// one of them are printed beside it.
//
// Each figure is a row of a table on standard output, and a line in the file
// that -o names, for programs; contrib/docs/reference/bench.md explains both.
// Bars are the project's own, for two cores. A figure that misses its bar is
// marked and costs nothing else: the exit status is 1 only when a test could not
// be carried out, which says why.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// test is one group of figures that can be run alone.
type test struct {
	name string
	rig  string // the cluster it uses; empty: none
	what string
	run  func(*bench, *cluster)
}

// tests run in this order. Those of one rig stand together; on the rig queue,
// each only adds pending jobs to what the ones before it left.
var tests = []test{
	{"machine", "", "the machine's own limits", machine},
	{"sbatch", rigWork, "sbatch round trip, and loops of it", sbatchLoops},
	{"srun", rigWork, "srun from submission to exit", srunLatency},
	{"steps", rigWork, "srun within an allocation", stepRates},
	{"e2e", rigWork, "jobs of /bin/true, submitted, run and finished", endToEnd},
	{"swap", rigWork, "swaps of plugins under 100 submissions a second", swapCost},
	{"shadow", rigWork, "live passes with and without a shadow, a stuck and a dying one", shadowCost},
	{"client", rigQueue, "durable submissions through sdk/client, one connection", oneConnection},
	{"array", rigQueue, "an array of a million tasks", millionTasks},
	{"query", rigQueue, "commands with 10,000 pending jobs", queries},
	{"memory", rigQueue, "slurmctld's memory with 10,000 pending jobs", memorySmall},
	{"plugin", rigQueue, "the scheduler plugin killed, until the next pass", pluginKill},
	{"client64", rigQueue, "durable submissions through sdk/client, 64 connections", manyConnections},
	{"memory100k", rigQueue, "slurmctld's memory with 100,000 pending jobs", memoryLarge},
	{"restart", rigQueue, "slurmctld killed with 100,000 pending jobs, until it answers", restart},
	{"readers", rigQueue, "submissions beside 50 squeue loops at 100,000 pending jobs", readers},
	{"boundary", "", "what crossing to plugins costs a pass over 100,000 pending jobs", func(b *bench, _ *cluster) { boundaryCost(b) }},
	{"scale", "", "passes over 10,000 nodes and 100,000 jobs of 2,000 shapes, simulated", scaled},
	{"traces", "", "logs of SLUICE_TRACES, replayed", traces},
	{"process", "", "the scheduler's process: first sync, death, memory", pluginProcess},
	{"pass", rigSim, "a pass over 10,000 nodes and 100,000 pending jobs", passTime},
}

// bench is a run of the program.
type bench struct {
	ctx    context.Context
	runs   int     // of each figure
	scale  float64 // of the numbers of jobs; 1 for real figures
	failed bool
	limits map[string]float64
	lines  *os.File // for programs; nil: none
	rig    *cluster // that runs now
	name   string   // of rig
}

func main() {
	servePolicy()
	if code, helped := helper(os.Args[1:]); helped {
		os.Exit(code)
	}
	os.Exit(run())
}

func run() int {
	b := &bench{limits: map[string]float64{}}
	flag.IntVar(&b.runs, "runs", 3, "runs of each figure")
	quick := flag.Bool("quick", false, "one run of each figure and fewer jobs that run: under three minutes")
	flag.Float64Var(&b.scale, "scale", 1, "factor on the numbers of jobs and nodes, to try the tests; figures are real only at 1")
	list := flag.Bool("list", false, "list the tests")
	out := flag.String("o", "", "file for one line a figure: NAME MEDIAN UNIT MIN MAX RUNS [KEY=VALUE...]")
	flag.Parse()
	if *list {
		for _, t := range tests {
			fmt.Printf("%-10s %s\n", t.name, t.what)
		}
		return 0
	}
	names := flag.Args()
	for _, name := range names {
		if !slices.ContainsFunc(tests, func(t test) bool { return t.name == name }) {
			fmt.Fprintf(os.Stderr, "bench: no test %q; -list shows the tests there are\n", name)
			return 2
		}
	}
	if *quick {
		b.runs = 1
	}
	if b.runs < 1 || b.scale <= 0 || b.scale > 1 {
		fmt.Fprintf(os.Stderr, "bench: -runs=%d -scale=%g: at least 1 run and a scale above 0, at most 1, are allowed\n", b.runs, b.scale)
		return 2
	}
	if *out != "" {
		f, err := os.Create(*out)
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			return 2
		}
		defer f.Close()
		b.lines = f
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	b.ctx = ctx
	b.all(names)
	if b.failed || ctx.Err() != nil {
		return 1
	}
	return 0
}

// all runs the named tests, or every one.
func (b *bench) all(names []string) {
	began := time.Now()
	defer b.swap("")
	b.head()
	for _, t := range tests {
		if len(names) > 0 && !slices.Contains(names, t.name) || b.ctx.Err() != nil {
			continue
		}
		start := time.Now()
		load, _ := os.ReadFile("/proc/loadavg")
		fmt.Printf("# %s: %s (load %s)\n", t.name, t.what, strings.Join(strings.Fields(string(load))[:1], " "))
		b.guard(t)
		fmt.Printf("# %s took %.0f s\n", t.name, time.Since(start).Seconds())
	}
	fmt.Printf("# all took %.0f s\n", time.Since(began).Seconds())
}

// failure ends a test from anywhere below its run.
type failure struct{ error }

func fail(format string, args ...any) { panic(failure{fmt.Errorf(format, args...)}) }

func check(err error) {
	if err != nil {
		panic(failure{err})
	}
}

func (b *bench) guard(t test) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case failure:
			fmt.Printf("# %s FAILED: %v\n", t.name, p.error)
			b.failed = true
			b.swap("") // the next test gets a cluster that nothing happened to
		default:
			b.swap("")
			panic(p)
		}
	}()
	if t.rig != "" {
		b.swap(t.rig)
	}
	t.run(b, b.rig)
}

// swap brings up the rig, in place of another; "" only ends what runs.
func (b *bench) swap(rig string) {
	if b.name == rig {
		return
	}
	if b.rig != nil {
		b.rig.down()
	}
	b.rig, b.name = nil, ""
	if rig != "" {
		b.rig = rigs[rig](b)
		b.name = rig
	}
}

// n scales a number of jobs or nodes.
func (b *bench) n(full int) int { return max(16, int(float64(full)*b.scale)) }

// pause waits, or ends the test when the program is interrupted.
func (b *bench) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-b.ctx.Done():
		fail("interrupted")
	}
}
