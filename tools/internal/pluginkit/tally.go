package pluginkit

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// tally reads what go test -v prints and tells it for people: a line for each
// check, and under those that failed, why.
type tally struct {
	out            io.Writer
	passed, failed int
	said           map[string][]string // by test
	rest           []string            // lines that belong to no test
	current        string
}

var (
	began  = regexp.MustCompile(`^=== (?:RUN|NAME|CONT) +(\S+)`)
	ended  = regexp.MustCompile(`^ *--- (PASS|FAIL|SKIP): (\S+) \(`)
	source = regexp.MustCompile(`^ *[a-z_]+\.go:[0-9]+: `)
)

const maxSaid = 6 // lines of one check that are shown

func (t *tally) read(r io.Reader) {
	t.said = map[string][]string{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	parents := map[string]bool{}
	type result struct{ name, verdict string }
	var results []result
	for lines.Scan() {
		line := lines.Text()
		if m := began.FindStringSubmatch(line); m != nil {
			t.current = m[1]
			for i := strings.LastIndexByte(m[1], '/'); i > 0; i = strings.LastIndexByte(m[1][:i], '/') {
				parents[m[1][:i]] = true
			}
			continue
		}
		if m := ended.FindStringSubmatch(line); m != nil {
			results = append(results, result{m[2], m[1]})
			continue
		}
		if t.current != "" {
			t.said[t.current] = append(t.said[t.current], source.ReplaceAllString(line, ""))
		}
		t.rest = append(t.rest, line)
	}
	for _, r := range results {
		if !parents[r.name] || r.verdict == "FAIL" && len(t.said[r.name]) > 0 {
			t.tell(r.name, r.verdict)
		}
	}
}

func (t *tally) tell(test, verdict string) {
	name := strings.TrimPrefix(strings.TrimPrefix(test, "Suite/"), "program/")
	name = strings.ReplaceAll(strings.ReplaceAll(name, "-", " "), "/", ": ")
	switch verdict {
	case "PASS":
		t.passed++
		fmt.Fprintf(t.out, "  ok      %s\n", name)
		return
	case "SKIP":
		fmt.Fprintf(t.out, "  skipped %s\n", name)
	default:
		t.failed++
		fmt.Fprintf(t.out, "  FAILED  %s\n", name)
	}
	said := once(t.said[test])
	for i, line := range said {
		if i == maxSaid {
			fmt.Fprintf(t.out, "          ... and %d lines more\n", len(said)-maxSaid)
			break
		}
		fmt.Fprintf(t.out, "          %s\n", strings.TrimSpace(line))
	}
}

func kindNames() []string { return slices.Sorted(maps.Keys(suites)) }

// numbers prints versions as "1" or "2 and 1".
func numbers(list []uint32) string {
	var words []string
	for _, n := range list {
		words = append(words, fmt.Sprint(n))
	}
	if len(words) == 0 {
		return "(none)"
	}
	return strings.Join(words, " and ")
}

// once drops lines that were said before: a loop says the same many times.
func once(lines []string) (out []string) {
	seen := map[string]bool{}
	for _, line := range lines {
		if !seen[line] {
			seen[line] = true
			out = append(out, line)
		}
	}
	return out
}
