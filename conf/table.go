package conf

import (
	_ "embed"
	"slices"
	"strings"
	"sync"
)

//go:embed keys.tsv
var keysTSV string

// Key is a row of the table of keys.
type Key struct {
	File    string // "slurm.conf", "gres.conf", ...
	Section string // "global", "NodeName", ...; "-" in other files
	Name    string // in Slurm's spelling
	Kind    string // how the value is read, see kinds.go
	Arg     string // what Kind needs: a range, the allowed words, a plugin kind, the new name
	Default string // in the file's syntax; in records a word for people
	Unit    string // of a number
	Tier    string // 1: everybody uses it ... 3: few do
	Acts    string // "yes": Sluice acts on it; "no": read and shown; "obsolete": accepted with a warning
	Doc     string
}

type table struct {
	rows []Key
	by   map[string]map[string]*Key // file/section, lower-case name
}

var keys = sync.OnceValue(func() *table {
	t := &table{by: map[string]map[string]*Key{}}
	lines := strings.Split(strings.TrimSpace(keysTSV), "\n")
	t.rows = make([]Key, 0, len(lines))
	for _, line := range lines[1:] {
		f := strings.Split(line, "\t")
		t.rows = append(t.rows, Key{f[0], f[1], f[2], f[3], f[4], f[5], f[6], f[7], f[8], f[9]})
	}
	for i := range t.rows {
		k := &t.rows[i]
		section := k.File + "/" + k.Section
		if t.by[section] == nil {
			t.by[section] = map[string]*Key{}
		}
		t.by[section][strings.ToLower(k.Name)] = k
	}
	return t
})

// Keys returns the table of every known key, file by file. The caller must
// not change it.
func Keys() []Key { return keys().rows }

// LookupKey finds a key of slurm.conf, in any case. section is "global" or a
// record keyword.
func LookupKey(section, name string) (*Key, bool) {
	k, ok := keys().by["slurm.conf/"+section][strings.ToLower(name)]
	return k, ok
}

// repeatable reports whether each line adds to the list of values.
func (k *Key) repeatable() bool {
	switch k.Name {
	case "SlurmctldHost", "Prolog", "Epilog", "PrologSlurmctld", "EpilogSlurmctld", "PluginOptions":
		return k.Section == "global"
	}
	return false
}

// misspelt says what the writer of an unknown key may have meant.
func misspelt(file, section, name string) string {
	lower := strings.ToLower(name)
	if file == "slurm.conf" {
		for _, s := range []string{"global", "NodeName", "PartitionName", "NodeSet", "SchedulerParameters", "SlurmctldParameters"} {
			k, ok := keys().by[file+"/"+s][lower]
			if !ok || s == section {
				continue
			}
			switch {
			case s == "global":
				return "belongs on a line of its own, not on a " + section + " line"
			case strings.HasSuffix(s, "Parameters"):
				return "is an option of " + s + "; write " + s + "=" + k.Name
			}
			return "belongs on a " + s + "= line"
		}
	}
	var names []string
	for _, k := range keys().by[file+"/"+section] {
		names = append(names, k.Name)
	}
	if best := nearest(name, names); best != "" {
		return "unknown key; did you mean " + best + "?"
	}
	return "unknown key; the keys are listed in the manual of " + file
}

// nearest returns the candidate that takes fewest edits, or nothing when all
// differ by more than a third.
func nearest(name string, candidates []string) string {
	slices.Sort(candidates)
	best, limit := "", len(name)/3+2
	for _, c := range candidates {
		if d := distance(strings.ToLower(name), strings.ToLower(c), limit); d < limit {
			best, limit = c, d
		}
	}
	return best
}

// distance is the Levenshtein distance, or limit when it is not less.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diag, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diag+cost)
		}
	}
	return min(row[len(b)], limit)
}
