package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sluice-hpc/sluice/core/sim"
	"github.com/sluice-hpc/sluice/core/sim/chart"
	"github.com/spf13/cobra"
)

// growth measures how the time of a pass grows with nodes and with jobs.
type growth struct {
	f        flags
	policy   string
	maxNodes int
	maxJobs  int
	minJobs  int
	nodes    int // while jobs grow
	jobs     int // while nodes grow
	cpus     int // of a node
	shapes   int
	steps    int
	svg, csv string
}

// Where the series begin.
const leastNodes, leastJobs = 100, 1000

// point is one measurement.
type point struct {
	nodes, jobs int
	first       time.Duration // the pass that finds everything new
	passes      []time.Duration
	submit      time.Duration // for all jobs, in the core
	rss         map[string]uint64
	own         uint64        // heap of this program, with the core's tables, at the end
	starts      int           // jobs started
	wall        time.Duration // that all passes took
}

// rate is how many jobs were started a second of all passes, from the push of what
// changed to the commit.
func (x *point) rate() float64 { return float64(x.starts) / max(x.wall.Seconds(), 1e-9) }

func growthCommand() *cobra.Command {
	g := &growth{}
	cmd := &cobra.Command{
		Use:   "growth",
		Short: "Measure how passes grow with nodes and jobs",
		Long: "growth submits all jobs at once to clusters of growing size and to growing queues, and\n" +
			"measures the pass that finds everything new and those that follow when jobs end.",
		Args: cobra.NoArgs, SilenceErrors: true, SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringVar(&g.policy, "policy", "easy", "policy to measure")
	fl.IntVar(&g.maxNodes, "max-nodes", 50_000, "largest cluster; smaller ones begin at 100")
	fl.IntVar(&g.maxJobs, "max-jobs", 1_000_000, "longest queue")
	fl.IntVar(&g.minJobs, "min-jobs", leastJobs, "shortest queue")
	fl.IntVar(&g.nodes, "nodes", 10_000, "nodes while jobs grow")
	fl.IntVar(&g.jobs, "jobs", 20_000, "jobs while nodes grow")
	fl.IntVar(&g.cpus, "cpus", 16, "processors of a node")
	fl.IntVar(&g.shapes, "shapes", 2000, "distinct requests among the jobs")
	fl.IntVar(&g.steps, "steps", 40, "moments to measure after the start")
	fl.StringVar(&g.svg, "svg", "", "write the plot to this file")
	fl.StringVar(&g.csv, "csv", "", "write the figures to this file")
	fl.StringVar(&g.f.pluginDir, "plugin-dir", "", "where plugins are (../libexec/sluice beside the program)")
	return cmd
}

// series is 1, 2, 5 times the powers of ten from the least to the most.
func series(least, most int) []int {
	var out []int
	for p := least; p <= most; p *= 10 {
		for _, m := range []int{1, 2, 5} {
			if m*p <= most {
				out = append(out, m*p)
			}
		}
	}
	return out
}

func (g *growth) run(ctx context.Context, stdout, stderr io.Writer) error {
	if g.maxNodes < leastNodes || g.minJobs < leastJobs || g.maxJobs < g.minJobs || g.nodes < 1 || g.jobs < 1 || g.cpus < 1 || g.steps < 2 || g.shapes < 1 {
		return fmt.Errorf("--max-nodes is at least %d, --min-jobs %d, --max-jobs as many, --steps 2, and the others 1", leastNodes, leastJobs)
	}
	p, err := readPolicy(g.policy)
	if err != nil {
		return err
	}
	measure := func(nodes, jobs int) (point, error) {
		fmt.Fprintf(stderr, "%d nodes, %d jobs\n", nodes, jobs) //nolint:errcheck // progress
		return g.measure(ctx, p, nodes, jobs, stderr)
	}
	var byNodes, byJobs []point
	for _, n := range series(leastNodes, g.maxNodes) {
		x, err := measure(n, g.jobs)
		if err != nil {
			return err
		}
		byNodes = append(byNodes, x)
	}
	for _, n := range series(leastJobs, g.maxJobs) {
		if n < g.minJobs {
			continue
		}
		x, err := measure(g.nodes, n)
		if err != nil {
			return err
		}
		byJobs = append(byJobs, x)
	}
	return g.report(stdout, byNodes, byJobs)
}

// measure submits all jobs at once and takes some steps.
func (g *growth) measure(ctx context.Context, p policy, nodes, jobs int, stderr io.Writer) (x point, err error) {
	f := g.f
	f.processors, f.nodes, f.quiet = nodes*g.cpus, nodes, true
	t := sim.Generate(sim.Synthetic{Jobs: jobs, Processors: f.processors, MaxProcs: 4 * g.cpus, Shapes: g.shapes, AtOnce: true, Seed: 1})
	s := &simulation{f: &f, stderr: stderr, log: slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn})), trace: t}
	if s.machine, err = readMachine(&f, t); err != nil {
		return x, err
	}
	s.work = t.Workload(sim.WorkOptions{Processors: f.processors})
	s.maxSteps = g.steps
	begin := time.Now()
	r, err := s.replay(ctx, p)
	if err != nil {
		return x, err
	}
	x = point{nodes: nodes, jobs: jobs, submit: time.Since(begin), rss: s.rss}
	for i, d := range r.Passes {
		if i == 0 {
			x.first = d
		} else {
			x.passes = append(x.passes, d)
		}
	}
	x.submit = r.Wall - r.PassTime()
	x.starts, x.wall = r.Started, r.PassTime()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	x.own = m.HeapAlloc
	return x, nil
}

func (x *point) quantile(q float64) time.Duration {
	if len(x.passes) == 0 {
		return 0
	}
	d := slices.Clone(x.passes)
	slices.Sort(d)
	return d[min(int(q*float64(len(d))), len(d)-1)]
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

// report prints the figures and writes the plot.
func (g *growth) report(w io.Writer, byNodes, byJobs []point) error {
	var csv strings.Builder
	csv.WriteString("nodes,jobs,first_pass_ms,pass_p50_ms,pass_p99_ms,pass_max_ms,core_s,starts,starts_per_s,plugins_mib,core_mib\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "nodes\tjobs\tfirst pass [ms]\tpass p50 [ms]\tp99 [ms]\tlongest [ms]\tcore [s]\tstarts/s\tmemory of plugins, core [MiB]\t") //nolint:errcheck // Flush tells
	for _, x := range slices.Concat(byNodes, byJobs) {
		var rss []string
		var plugins uint64
		for _, name := range []string{"sched", "select", "priority"} {
			rss = append(rss, strconv.FormatUint(x.rss[name]>>20, 10))
			plugins += x.rss[name] >> 20
		}
		fmt.Fprintf(t, "%d\t%d\t%.1f\t%.2f\t%.2f\t%.2f\t%.2f\t%.0f\t%s, %d\t\n", x.nodes, x.jobs, ms(x.first), ms(x.quantile(0.5)), ms(x.quantile(0.99)), //nolint:errcheck // Flush tells
			ms(x.quantile(1)), x.submit.Seconds(), x.rate(), strings.Join(rss, "+"), x.own>>20)
		fmt.Fprintf(&csv, "%d,%d,%.3f,%.3f,%.3f,%.3f,%.3f,%d,%.0f,%d,%d\n", x.nodes, x.jobs, ms(x.first), ms(x.quantile(0.5)), ms(x.quantile(0.99)),
			ms(x.quantile(1)), x.submit.Seconds(), x.starts, x.rate(), plugins, x.own>>20)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if g.csv != "" {
		if err := os.WriteFile(g.csv, []byte(csv.String()), 0o644); err != nil {
			return err
		}
	}
	if g.svg == "" {
		return nil
	}
	fig := chart.Figure{Title: "How passes grow (" + g.policy + ")"}
	fig.Panels = append(fig.Panels,
		panel(fmt.Sprintf("%d jobs of %d shapes, all waiting", g.jobs, g.shapes), "nodes", byNodes, func(x *point) int { return x.nodes }),
		panel(fmt.Sprintf("%d nodes of %d processors", g.nodes, g.cpus), "jobs waiting", byJobs, func(x *point) int { return x.jobs }))
	return writeFile(g.svg, fig.SVG)
}

func panel(title, label string, points []point, size func(*point) int) chart.Panel {
	lines := []chart.Line{{Name: "first pass", Color: 0, Dots: true}, {Name: "median pass", Color: 1, Dots: true},
		{Name: "proportional growth, to compare", Color: 7}}
	for i := range points {
		x := float64(size(&points[i]))
		for k, y := range []float64{ms(points[i].first), ms(points[i].quantile(0.5)),
			ms(points[len(points)-1].first) * x / float64(size(&points[len(points)-1]))} {
			if y > 0 { // all jobs may have started in the first pass
				lines[k].X, lines[k].Y = append(lines[k].X, x), append(lines[k].Y, max(y, 0.1))
			}
		}
	}
	return chart.Panel{Title: title, XLabel: label, YLabel: "milliseconds", LogX: true, LogY: true, Lines: lines}
}
