// Package params reads SchedulerParameters: a comma-separated list of key and
// key=number. Keys that a scheduler does not know belong to others and are
// passed over, and so are numbers that cannot be read: slurm.conf was checked
// when it was loaded.
package params

import (
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/mirror"
)

// Map holds the keys that have a number.
type Map map[string]int64

// Parse reads the value of SchedulerParameters.
func Parse(s string) Map {
	m := Map{}
	for item := range strings.SplitSeq(s, ",") {
		key, value, ok := strings.Cut(strings.TrimSpace(item), "=")
		if n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64); ok && err == nil {
			m[strings.ToLower(strings.TrimSpace(key))] = n
		}
	}
	return m
}

// MayPreempt reports, by tier, whether jobs of a view may preempt others: they
// do when slurm.conf says so and some partition has a lower tier.
func MayPreempt(v mirror.View) func(*mirror.Job) bool {
	if kind := strings.ToLower(v.Setting("PreemptType")); kind != "preempt/partition_prio" && kind != "partition_prio" || len(v.Partitions) == 0 {
		return func(*mirror.Job) bool { return false }
	}
	lowest := v.Partitions[0].Tier
	for i := range v.Partitions {
		lowest = min(lowest, v.Partitions[i].Tier)
	}
	return func(j *mirror.Job) bool {
		return j.Class != nil && slices.ContainsFunc(j.Class.Partitions, func(p int) bool {
			return p >= 0 && p < len(v.Partitions) && v.Partitions[p].Tier > lowest
		})
	}
}

// Positive returns the number of key, or otherwise when it is absent or not
// above zero.
func (m Map) Positive(key string, otherwise int) int {
	if n := m[key]; n > 0 {
		return int(min(n, 1<<30))
	}
	return otherwise
}
