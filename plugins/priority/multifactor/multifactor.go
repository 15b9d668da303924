// Command multifactor is the plugin priority/multifactor: a job's priority is
// the sum of factors between 0 and 1, each times its PriorityWeight:
//
//	Age        time since the job became eligible, full after PriorityMaxAge
//	JobSize    half the share of nodes plus half the share of CPUs asked for;
//	           its complement with PriorityFavorSmall, and relative to the time
//	           limit with PriorityFlags=SMALL_RELATIVE_TO_TIME
//	Partition  PriorityJobFactor relative to the largest of any partition
//
// less the nice value, and at least 1. Assoc, Fairshare and QOS have a column
// so that sprio's layout is whole; their factor is 0.
package main

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/priority"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// names are the columns of a ranking.
var names = []string{"Age", "Assoc", "Fairshare", "JobSize", "Partition", "QOS", "Nice"}

const (
	age = iota
	assoc
	fairshare
	jobSize
	partition
	qos
	nice
	columns
)

// Multifactor ranks by weighted factors. It keeps nothing between calls.
type Multifactor struct{}

var _ priority.Prioritizer = Multifactor{}

// weights are the settings of one call.
type weights struct {
	age, size, part float64
	maxAge          float64 // seconds
	favorSmall      bool
	relative        bool // SMALL_RELATIVE_TO_TIME
}

// totals are what factors are relative to.
type totals struct {
	nodes, cpus, factor float64
}

// Rank implements [priority.Prioritizer].
func (Multifactor) Rank(ctx context.Context, v mirror.View, r priority.Request) (priority.Ranking, error) {
	w, t := settings(v), totalsOf(v)
	out := priority.Ranking{Names: names}
	add := func(j *mirror.Job) {
		f := make([]float64, columns)
		out.Jobs = append(out.Jobs, j.ID)
		out.Priorities = append(out.Priorities, w.priority(v, t, j, f))
		out.Factors = append(out.Factors, f)
	}
	if !r.All {
		for _, id := range r.Jobs {
			if j := v.Job(id); j != nil && !j.Running {
				add(j)
			}
		}
		return out, nil
	}
	const checkEvery = 1024
	for j := range v.Pending() {
		if len(out.Jobs)%checkEvery == checkEvery-1 && ctx.Err() != nil {
			break
		}
		if !j.Held {
			add(j)
		}
	}
	return out, nil
}

func settings(v mirror.View) weights {
	number := func(key string) float64 {
		n, err := strconv.ParseUint(strings.TrimSpace(v.Setting(key)), 10, 32)
		if err != nil {
			return 0 // slurm.conf was checked when it was loaded; empty is the default
		}
		return float64(n)
	}
	const week = 7 * 24 * 3600
	w := weights{age: number("PriorityWeightAge"), size: number("PriorityWeightJobSize"),
		part: number("PriorityWeightPartition"), maxAge: week}
	if s, err := wlm.ParseSeconds(v.Setting("PriorityMaxAge")); err == nil && s > 0 {
		w.maxAge = float64(s)
	}
	switch strings.ToLower(v.Setting("PriorityFavorSmall")) {
	case "yes", "true", "1", "up":
		w.favorSmall = true
	}
	flags := strings.Split(strings.ToUpper(v.Setting("PriorityFlags")), ",")
	w.relative = slices.Contains(flags, "SMALL_RELATIVE_TO_TIME")
	return w
}

func totalsOf(v mirror.View) totals {
	var t totals
	for i := range v.Nodes {
		t.nodes++
		t.cpus += float64(v.Nodes[i].CPUs)
	}
	for i := range v.Partitions {
		t.factor = max(t.factor, float64(v.Partitions[i].JobFactor))
	}
	return t
}

// priority computes a job's weighted factors into f, and their sum.
func (w *weights) priority(v mirror.View, t totals, j *mirror.Job, f []float64) uint32 {
	if since := v.Now - j.Eligible; j.Eligible > 0 && since > 0 {
		f[age] = w.age * min(float64(since)/w.maxAge, 1)
	}
	f[jobSize] = w.size * w.sizeOf(t, j)
	if t.factor > 0 {
		f[partition] = w.part * factorOf(v, j) / t.factor
	}
	f[nice] = -float64(j.Nice)
	sum := 0.0
	for _, x := range f {
		sum += x
	}
	const highest = 0xffffffff - 2
	return uint32(min(max(sum, 1), highest))
}

// factorOf is the highest PriorityJobFactor of the job's partitions.
func factorOf(v mirror.View, j *mirror.Job) float64 {
	best := 0.0
	if j.Class == nil {
		return best
	}
	for _, p := range j.Class.Partitions {
		if p >= 0 && p < len(v.Partitions) {
			best = max(best, float64(v.Partitions[p].JobFactor))
		}
	}
	return best
}

// sizeOf is the size factor.
func (w *weights) sizeOf(t totals, j *mirror.Job) float64 {
	c := j.Class
	if c == nil || t.nodes == 0 || t.cpus == 0 {
		return 0
	}
	nodes := float64(max(c.MinNodes, 1))
	tasks := max(c.NTasks, c.MinNodes*max(c.TasksPerNode, 1), 1)
	cpus := max(float64(tasks)*float64(max(c.CPUsPerTask, 1)), nodes*float64(c.MinCPUsPerNode))
	size := 0.5*min(nodes/t.nodes, 1) + 0.5*min(cpus/t.cpus, 1)
	if w.relative {
		minutes := max(float64(j.Limit)/60, 1)
		size = min(cpus/minutes/t.cpus, 1)
	}
	if w.favorSmall {
		return 1 - size
	}
	return size
}
