package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// bar is what a figure should reach.
type bar struct {
	value   float64
	atLeast bool
}

func (w bar) String() string {
	if w.atLeast {
		return fmt.Sprintf(">=%g", w.value)
	}
	return fmt.Sprintf("<=%g", w.value)
}

func (w bar) reached(v float64) bool {
	if w.atLeast {
		return v >= w.value
	}
	return v <= w.value
}

// bars are for two cores, beside Slurm 25.11 on such a machine.
var bars = map[string]bar{
	"client.conn1":          {3000, true},
	"client.conn64":         {15000, true},
	"sbatch.wall":           {8, false},
	"sbatch.loops4":         {300, true},
	"e2e.array":             {250, true},
	"e2e.single4":           {250, true},
	"srun.n1":               {20, false},
	"srun.N4n4":             {35, false},
	"steps.seq":             {80, true},
	"steps.par8":            {160, true},
	"query.squeue":          {50, false},
	"query.json":            {300, false},
	"query.json.peak":       {100, false},
	"query.squeue_one":      {8, false},
	"query.sinfo":           {8, false},
	"query.scontrol_one":    {8, false},
	"array.million":         {1000, false},
	"array.memory":          {50, false},
	"memory.10k":            {150, false},
	"memory.100k":           {600, false},
	"readers.slowdown":      {20, false},
	"restart.100k":          {2000, false},
	"plugin.kill_to_pass":   {250, false},
	"plugin.kill_to_sync":   {250, false},
	"swap.submit_p99.ratio": {2, false},
	"swap.pass_gap":         {100, false},
	"swap.passes_failed":    {0, false},
	"plugin.sync":           {150, false},
	"plugin.memory":         {20, false},
	"plugin.memory.job":     {300, false},
	"pass.time":             {250, false},
	"pass.fill":             {2000, true},
	"pass.array":            {100, false},
	"scale.pass.p99":        {100, false},
	"scale.memory":          {1024, false},
	"scale.trace":           {50000, true},
	"pass.boundary.share":   {5, false},
	"pass.boundary.fixed":   {200, false},
}

const row = "%-24s %10s %-8s %10s %10s %5s  %-10s %s\n"

func (b *bench) head() {
	fmt.Printf(row, "figure", "median", "unit", "min", "max", "runs", "bar", "of the machine's limit")
	if b.lines != nil {
		fmt.Fprintln(b.lines, "# NAME MEDIAN UNIT MIN MAX RUNS [bar=OPVALUE reached=yes|no] [of=LIMIT ratio=FRACTION]")
	}
}

// report prints one figure. limit names the machine's limit to compare with.
func (b *bench) report(name, unit, limit string, values ...float64) {
	if len(values) == 0 {
		fail("%s: no measurement", name)
	}
	mid, low, high := middle(values), slices.Min(values), slices.Max(values)
	line := fmt.Sprintf("%s %.2f %s %.2f %.2f %d", name, mid, unit, low, high, len(values))
	mark, part := "-", "-"
	if w, ok := bars[name]; ok {
		mark, line = w.String(), line+" bar="+w.String()
		if w.reached(mid) {
			line += " reached=yes"
		} else {
			mark, line = mark+" MISSED", line+" reached=no"
		}
	}
	if limit != "" {
		ratio := mid / b.limit(limit)
		part = fmt.Sprintf("%.3f of %s", ratio, limit)
		line += fmt.Sprintf(" of=%s ratio=%.4f", limit, ratio)
	}
	fmt.Printf(row, name, digits(mid), unit, digits(low), digits(high), fmt.Sprint(len(values)), mark, part)
	if b.lines != nil {
		fmt.Fprintln(b.lines, line)
	}
}

// digits prints three or more of them.
func digits(v float64) string {
	const hundred = 100
	if v < hundred {
		return fmt.Sprintf("%.2f", v)
	}
	return strings.TrimSuffix(fmt.Sprintf("%.0f", v), ".")
}

func middle(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// reportTimes is report for durations, in milliseconds.
func (b *bench) reportTimes(name string, times []time.Duration) {
	ms := make([]float64, len(times))
	for i, t := range times {
		ms[i] = milli(t)
	}
	b.report(name, "ms", "", ms...)
}

func milli(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// perSecond is a rate.
func perSecond(n int, took time.Duration) float64 { return float64(n) / took.Seconds() }

// micros is the time of one of n.
func micros(n int, took time.Duration) float64 { return float64(took.Microseconds()) / float64(n) }
