package chart

import (
	"github.com/sluice-hpc/sluice/core/sim"
)

// Comparison draws policies that replayed one workload side by side.
func Comparison(title string, sums []sim.Summary, results []*sim.Result) *Figure {
	f := &Figure{Title: title}
	bars := func(title, unit string, get func(*sim.Summary) float64) {
		p := Panel{Title: title, YLabel: unit}
		for i := range sums {
			p.Bars = append(p.Bars, Bar{sums[i].Name, get(&sums[i]), i})
		}
		f.Panels = append(f.Panels, p)
	}
	bars("Mean bounded slowdown", "slowdown", func(s *sim.Summary) float64 { return s.MeanBoundedSlowdown })
	bars("Mean wait", "hours", func(s *sim.Summary) float64 { return s.MeanWait / 3600 })
	waits := Panel{Title: "How many jobs wait at most so long", XLabel: "wait [s]", YLabel: "share of jobs", LogX: true}
	users := Panel{Title: "How the users fare", XLabel: "mean bounded slowdown of a user", YLabel: "share of users", LogX: true}
	passes := Panel{Title: "How long passes take", XLabel: "pass [us]", YLabel: "share of passes", LogX: true}
	for i, r := range results {
		var wait, slow, us []float64
		for k := range r.Jobs {
			if r.Jobs[k].Refused == "" {
				wait = append(wait, float64(r.Jobs[k].Wait()))
			}
		}
		for _, u := range r.Users() {
			slow = append(slow, u.MeanBoundedSlowdown)
		}
		for _, d := range r.Passes {
			us = append(us, float64(d.Nanoseconds())/1e3)
		}
		waits.Lines = append(waits.Lines, Cumulative(sums[i].Name, wait, 1, i))
		users.Lines = append(users.Lines, Cumulative(sums[i].Name, slow, 1, i))
		passes.Lines = append(passes.Lines, Cumulative(sums[i].Name, us, 1, i))
	}
	f.Panels = append(f.Panels, waits, users)
	bars("Utilization", "percent", func(s *sim.Summary) float64 { return 100 * s.Utilization })
	f.Panels = append(f.Panels, passes)
	return f
}
