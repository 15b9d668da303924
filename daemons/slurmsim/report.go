package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/sluice-hpc/sluice/core/sim"
	"github.com/sluice-hpc/sluice/core/sim/chart"
)

// writeTable prints the policies side by side.
func writeTable(w io.Writer, title string, skipped []sim.SkipCount, sums []sim.Summary) error {
	s := sums[0]
	fmt.Fprintf(w, "%s: %d jobs of %d users on %d processors in %d nodes\n", title, s.Jobs, s.Users, s.Processors, s.Nodes) //nolint:errcheck // Flush tells
	for _, k := range skipped {
		fmt.Fprintf(w, "skipped %d: %s\n", k.Count, k.Why) //nolint:errcheck // Flush tells
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(name string, value func(*sim.Summary) string) {
		fmt.Fprint(t, name, "\t") //nolint:errcheck // Flush tells
		for i := range sums {
			fmt.Fprint(t, value(&sums[i]), "\t") //nolint:errcheck // Flush tells
		}
		fmt.Fprintln(t) //nolint:errcheck // Flush tells
	}
	num := func(get func(*sim.Summary) float64, digits int) func(*sim.Summary) string {
		return func(s *sim.Summary) string { return strconv.FormatFloat(get(s), 'f', digits, 64) }
	}
	row("", func(s *sim.Summary) string { return s.Name })
	row("mean bounded slowdown", num(func(s *sim.Summary) float64 { return s.MeanBoundedSlowdown }, 2))
	row("95th percentile", num(func(s *sim.Summary) float64 { return s.P95BoundedSlowdown }, 2))
	row("mean wait [s]", num(func(s *sim.Summary) float64 { return s.MeanWait }, 0))
	row("95th percentile [s]", num(func(s *sim.Summary) float64 { return s.P95Wait }, 0))
	row("longest wait [s]", num(func(s *sim.Summary) float64 { return s.MaxWait }, 0))
	row("utilization [%]", num(func(s *sim.Summary) float64 { return 100 * s.Utilization }, 2))
	row("fairness (Jain)", num(func(s *sim.Summary) float64 { return s.Fairness }, 3))
	row("backfilled", func(s *sim.Summary) string { return strconv.Itoa(s.Backfilled) })
	row("timed out", func(s *sim.Summary) string { return strconv.Itoa(s.TimedOut) })
	if s.NodeFailures > 0 {
		row("node failures", func(s *sim.Summary) string { return strconv.Itoa(s.NodeFailures) })
		row("requeued for one", func(s *sim.Summary) string { return strconv.Itoa(s.Requeued) })
		row("ended for one", func(s *sim.Summary) string { return strconv.Itoa(s.NodeFailed) })
		row("lost [processor h]", num(func(s *sim.Summary) float64 { return s.LostSeconds / 3600 }, 0))
	}
	row("forecast error [s]", num(func(s *sim.Summary) float64 { return s.ForecastError }, 0))
	row("passes", func(s *sim.Summary) string { return strconv.Itoa(s.Passes) })
	row("pass p50 [us]", num(func(s *sim.Summary) float64 { return s.PassP50Micros }, 0))
	row("pass p99 [us]", num(func(s *sim.Summary) float64 { return s.PassP99Micros }, 0))
	row("longest pass [us]", num(func(s *sim.Summary) float64 { return s.PassMaxMicros }, 0))
	row("took [s]", num(func(s *sim.Summary) float64 { return s.WallSeconds }, 2))
	row("times real time", num(func(s *sim.Summary) float64 { return s.Speed }, 0))
	return t.Flush()
}

// writeAll writes every form of the results into the directory of --out.
func (s *simulation) writeAll(results []*sim.Result, sums []sim.Summary) error {
	if err := os.MkdirAll(s.f.out, 0o755); err != nil {
		return err
	}
	at := func(name string) string { return filepath.Join(s.f.out, name) }
	c := chart.Comparison(s.title(), sums, results)
	err := writeFile(at("summary.json"), func(w io.Writer) error { return writeJSON(w, s.document(results, sums)) })
	if err == nil {
		err = writeFile(at("summary.csv"), func(w io.Writer) error { return writeSummaries(w, sums) })
	}
	if err == nil {
		err = writeFile(at("plot.svg"), c.SVG)
	}
	if err == nil {
		err = writeFile(at("report.html"), func(w io.Writer) error {
			var table strings.Builder
			if err := writeTable(&table, s.title(), s.work.Skipped, sums); err != nil {
				return err
			}
			return c.HTML(w, table.String())
		})
	}
	for i, r := range results {
		if err != nil {
			return err
		}
		name := fileName(sums[i].Name)
		if err = writeFile(at("jobs-"+name+".csv"), func(w io.Writer) error { return writeJobs(w, r) }); err == nil {
			err = writeFile(at("users-"+name+".csv"), func(w io.Writer) error { return writeUsers(w, r.Users()) })
		}
	}
	return err
}

// fileName makes a policy's name fit for a file.
func fileName(policy string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune("/\\:=, ", r) {
			return '_'
		}
		return r
	}, policy)
}

// writeSummaries writes a line for each policy, with the names of the JSON.
func writeSummaries(w io.Writer, sums []sim.Summary) error { return writeRecords(w, sums) }

// writeUsers writes a line for each user.
func writeUsers(w io.Writer, users []sim.UserResult) error { return writeRecords(w, users) }

// writeRecords writes flat structs as CSV, their JSON names as the header.
func writeRecords[T any](w io.Writer, list []T) error {
	c := csv.NewWriter(w)
	typ := reflect.TypeFor[T]()
	var head []string
	for i := range typ.NumField() {
		head = append(head, typ.Field(i).Tag.Get("json"))
	}
	if err := c.Write(head); err != nil {
		return err
	}
	for _, x := range list {
		v := reflect.ValueOf(x)
		var row []string
		for i := range v.NumField() {
			row = append(row, fmt.Sprint(v.Field(i).Interface()))
		}
		if err := c.Write(row); err != nil {
			return err
		}
	}
	c.Flush()
	return c.Error()
}

// writeJobs writes a line for each job. Times are seconds since the start.
func writeJobs(w io.Writer, r *sim.Result) error {
	c := csv.NewWriter(w)
	if err := c.Write([]string{"job", "user", "processors", "submit", "start", "end", "limit_s", "wait_s", "bounded_slowdown", "state",
		"backfilled", "first_forecast", "refused"}); err != nil {
		return err
	}
	n := func(x int64) string { return strconv.FormatInt(x, 10) }
	for i := range r.Jobs {
		j := &r.Jobs[i]
		if err := c.Write([]string{n(j.Number), n(int64(j.User)), n(int64(j.Procs)), n(int64(j.Submit)), n(int64(j.Start)), n(int64(j.End)),
			n(int64(j.Limit)), n(j.Wait()), strconv.FormatFloat(j.BoundedSlowdown(sim.Threshold), 'f', 3, 64), j.State,
			strconv.FormatBool(j.Backfilled), n(int64(j.Forecast)), j.Refused}); err != nil {
			return err
		}
	}
	c.Flush()
	return c.Error()
}
