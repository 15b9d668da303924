// Package params reads SchedulerParameters: a comma-separated list of key and
// key=number. Keys that a scheduler does not know belong to others and are
// passed over, and so are numbers that cannot be read: slurm.conf was checked
// when it was loaded.
package params

import (
	"strconv"
	"strings"
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

// Positive returns the number of key, or otherwise when it is absent or not
// above zero.
func (m Map) Positive(key string, otherwise int) int {
	if n := m[key]; n > 0 {
		return int(min(n, 1<<30))
	}
	return otherwise
}
