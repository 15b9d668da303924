package pass

import (
	"context"
	"fmt"
	"slices"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// way is a change of a job that might let it start sooner. Ways of one group
// go from the mildest to the boldest: the mildest that helps is told.
type way struct {
	group, change, text string
	job                 *mirror.Job
}

// ways asks the selector about changes, and keeps those with which the job
// starts sooner than it is planned to.
func (x *explanation) ways(ctx context.Context, allowed func(*wlm.Partition) bool) error {
	var list []way
	list = append(list, x.shorter()...)
	list = append(list, x.smaller()...)
	list = append(list, x.looser()...)
	list = append(list, x.elsewhere(allowed)...)
	if len(list) == 0 {
		return nil
	}
	variants := make([]*mirror.Job, len(list))
	for i := range list {
		variants[i] = list[i].job
	}
	advice, err := x.ask(ctx, variants...)
	if err != nil {
		return err
	}
	best := map[string]wlm.Time{} // by group, the soonest told
	for i := range min(len(list), len(advice.Answers)) {
		w, a := &list[i], x.answer(&advice.Answers[i])
		was, told := best[w.group]
		if a.start == 0 || x.base.start != 0 && a.start >= x.base.start || told && (a.start >= was || w.group != "time") {
			continue
		}
		best[w.group] = a.start
		x.out.Ways = append(x.out.Ways, &ctlv1.ExplainWay{Change: w.change, Start: int64(a.start), Nodes: a.nodes, Text: w.text})
	}
	return nil
}

// variant is the job with another class.
func (x *explanation) variant(change func(j *mirror.Job, c *mirror.Class)) *mirror.Job {
	j, c := *x.m, mirror.Class{}
	if x.m.Class != nil {
		c = *x.m.Class
	}
	change(&j, &c)
	j.Class = &c
	return &j
}

// shorter are time limits that end just before a job ahead is planned to start,
// and fractions of the limit, longest first.
func (x *explanation) shorter() []way {
	limit := int64(x.m.Limit)
	type candidate struct {
		seconds int64
		text    string
	}
	var list []candidate
	add := func(s int64, text string) {
		if s = s / 60 * 60; s > 0 && (limit == 0 || s < limit) && !slices.ContainsFunc(list, func(c candidate) bool { return c.seconds == s }) {
			list = append(list, candidate{s, text})
		}
	}
	const holes = 6
	told := 0
	for _, o := range x.ahead() {
		if o.start > int64(x.now) && told < holes {
			add(o.start-int64(x.now), "ends before job "+jobName(o.job)+" starts")
			told++
		}
	}
	for _, part := range []int64{2, 4, 8} {
		add(limit/part, "")
	}
	for i := range x.advice.Supplies { // more than a partition allows
		if p := x.advice.Supplies[i].Partition; p < len(x.r.feed.tables.Partitions) {
			if most := x.r.feed.tables.Partitions[p].MaxTime; most != wlm.Unlimited && most != wlm.Minutes(wlm.Unset) && most != 0 {
				add(int64(most)*60, "is what partition "+x.r.feed.tables.Partitions[p].Name+" allows")
			}
		}
	}
	slices.SortFunc(list, func(a, b candidate) int { return int(b.seconds - a.seconds) })
	out := make([]way, 0, len(list))
	for _, c := range list {
		out = append(out, way{"time", "--time=" + wlm.FormatShort(c.seconds), c.text,
			x.variant(func(j *mirror.Job, _ *mirror.Class) { j.Limit = uint32(c.seconds) })})
	}
	return out
}

// smaller are fewer nodes, tasks or CPUs, and less memory.
func (x *explanation) smaller() (out []way) {
	c := x.m.Class
	if c == nil {
		return nil
	}
	if n := c.MinNodes; n > 1 {
		seen := map[uint32]bool{}
		for _, less := range []uint32{n - 1, n * 3 / 4, n / 2, n / 4, 1} {
			if less == 0 || less >= n || seen[less] {
				continue
			}
			seen[less] = true
			change, was := fmt.Sprintf("--nodes=%d", less), fmt.Sprintf("instead of %d", n)
			if c.NTasks > 0 {
				change += fmt.Sprintf(" --ntasks=%d", max(c.NTasks*less/n, 1))
				was += fmt.Sprintf(" and %d", c.NTasks)
			}
			out = append(out, way{"nodes", change, was, x.variant(func(_ *mirror.Job, c *mirror.Class) {
				if c.MinNodes, c.MaxNodes, c.NodeSizes = less, less, ""; c.NTasks > 0 {
					c.NTasks = max(c.NTasks*less/n, 1)
				}
			})})
		}
	} else if n := c.NTasks; n > 1 {
		for _, part := range []uint32{2, 4, 8} {
			if less := n / part; less > 0 {
				out = append(out, way{"nodes", fmt.Sprintf("--ntasks=%d", less), fmt.Sprintf("instead of %d", n),
					x.variant(func(_ *mirror.Job, c *mirror.Class) { c.NTasks = less })})
			}
		}
	}
	for _, part := range []wlm.MiB{2, 4, 8} {
		switch {
		case c.MemPerNode/part > 0:
			out = append(out, way{"memory", fmt.Sprintf("--mem=%dM", c.MemPerNode/part), fmt.Sprintf("instead of %dM", c.MemPerNode),
				x.variant(func(_ *mirror.Job, c *mirror.Class) { c.MemPerNode /= part })})
		case c.MemPerCPU/part > 0:
			out = append(out, way{"memory", fmt.Sprintf("--mem-per-cpu=%dM", c.MemPerCPU/part), fmt.Sprintf("instead of %dM", c.MemPerCPU),
				x.variant(func(_ *mirror.Job, c *mirror.Class) { c.MemPerCPU /= part })})
		}
	}
	return out
}

// looser leaves out one demand at a time.
func (x *explanation) looser() (out []way) {
	c := x.m.Class
	if c == nil {
		return nil
	}
	add := func(said bool, name string, change func(*mirror.Class)) {
		if said {
			out = append(out, way{name, "without " + name, "", x.variant(func(_ *mirror.Job, c *mirror.Class) { change(c) })})
		}
	}
	add(c.ReqNodes != "", "--nodelist="+c.ReqNodes, func(c *mirror.Class) { c.ReqNodes = "" })
	add(c.ExcNodes != "", "--exclude="+c.ExcNodes, func(c *mirror.Class) { c.ExcNodes = "" })
	add(c.Features != "", "--constraint="+c.Features, func(c *mirror.Class) { c.Features = "" })
	add(c.Share == wlm.ShareNever, "--exclusive", func(c *mirror.Class) { c.Share = wlm.ShareDefault })
	add(c.Contiguous, "--contiguous", func(c *mirror.Class) { c.Contiguous = false })
	add(len(c.Counters) > 0, "--licenses="+c.Licenses, func(c *mirror.Class) { c.Licenses, c.Counters = "", nil })
	return out
}

// elsewhere are the other partitions that take jobs of the owner.
func (x *explanation) elsewhere(allowed func(*wlm.Partition) bool) (out []way) {
	for i, p := range x.r.feed.tables.Partitions {
		if slices.Contains(x.j.Spec.Partitions, p.Name) || p.Hidden || !allowed(p) {
			continue
		}
		out = append(out, way{"partition " + p.Name, "--partition=" + p.Name, "", x.variant(func(_ *mirror.Job, c *mirror.Class) { c.Partitions = []int{i} })})
	}
	return out
}
