// Package hostlist reads and prints the host lists of a cluster: nid[001-128].
//
//	list  := item ((","|space) item)*
//	item  := text ("[" range ("," range)* "]" text?)*
//	range := num | num "-" num
//
// The low bound of a range fixes the width of its numbers. Reading keeps the
// order written and every duplicate; [Compress] sorts and folds the number at
// the end of each name. For names without the signs of the grammar,
// Expand(CompressOrdered(x)) is x, and Expand(Compress(x)) is x sorted, once each.
//
// A list from a user can be hostile: [Expand] refuses what would not fit in
// memory before it allocates anything. Errors are of kind errs.Invalid and
// name the item.
package hostlist

import (
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/errs"
)

// The limits of a list. MaxRange and MaxPrefixes are Slurm's.
const (
	MaxRange    = 65536   // hosts of one range
	MaxPrefixes = 65536   // combinations of all groups of an item but the last
	MaxHosts    = 1 << 20 // hosts of a list; ten times the largest cluster we plan for

	// maxDigits is what always fits in an int64.
	maxDigits = 18
)

type span struct {
	lo, hi int64
	width  int // of the low bound as written
}

func (r span) count() int { return int(r.hi-r.lo) + 1 }

// group is a bracket group with the text before it. The last one of an item
// may be text only, with no spans.
type group struct {
	text  string
	spans []span
}

// Split cuts s at commas and white space outside of brackets. Empty items are
// dropped, and nothing is checked.
func Split(s string) []string {
	var out []string
	depth, start := 0, 0
	for i := 0; i <= len(s); i++ {
		if i < len(s) {
			switch s[i] {
			case '[':
				depth++
				continue
			case ']':
				depth--
				continue
			case ',', ' ', '\t', '\n', '\r':
				if depth > 0 {
					continue
				}
			default:
				continue
			}
		}
		if i > start {
			out = append(out, s[start:i])
		}
		start = i + 1
	}
	return out
}

// Expand lists the hosts of s in the order written, duplicates kept. The empty
// list has no hosts.
func Expand(s string) ([]string, error) {
	items, n, err := parse(s)
	if err != nil || n == 0 {
		return nil, err
	}
	out := make([]string, 0, n)
	for _, groups := range items {
		out = expand(out, "", groups)
	}
	return out, nil
}

// Count returns how many hosts s names, duplicates included, without making them.
func Count(s string) (int, error) {
	_, n, err := parse(s)
	return n, err
}

// parse checks the whole list and counts its hosts.
func parse(s string) (items [][]group, total int, err error) {
	for _, item := range Split(s) {
		groups, n, err := parseItem(item)
		if err != nil {
			return nil, 0, err
		}
		if total += n; total > MaxHosts {
			return nil, 0, bad(item, "the list has more than %d hosts", MaxHosts)
		}
		items = append(items, groups)
	}
	return items, total, nil
}

func parseItem(item string) (groups []group, total int, err error) {
	total = 1
	for rest := item; rest != ""; {
		text, tail, open := strings.Cut(rest, "[")
		if strings.ContainsRune(text, ']') {
			return nil, 0, bad(item, "\"]\" without \"[\"")
		}
		if !open {
			return append(groups, group{text: text}), total, nil
		}
		body, after, closed := strings.Cut(tail, "]")
		if !closed {
			return nil, 0, bad(item, "\"[\" without \"]\"")
		}
		spans, n, err := parseSpans(item, body)
		if err != nil {
			return nil, 0, err
		}
		if total > MaxPrefixes {
			return nil, 0, bad(item, "more than %d prefixes", MaxPrefixes)
		}
		if total *= n; total > MaxHosts {
			return nil, 0, bad(item, "more than %d hosts", MaxHosts)
		}
		groups = append(groups, group{text, spans})
		rest = after
	}
	return groups, total, nil
}

func parseSpans(item, body string) (spans []span, total int, err error) {
	for part := range strings.SplitSeq(body, ",") {
		part = strings.TrimSpace(part)
		low, high, ranged := strings.Cut(part, "-")
		if !ranged {
			high = low
		}
		lo, ok1 := number(low)
		hi, ok2 := number(high)
		switch {
		case !ok1 || !ok2:
			return nil, 0, bad(item, "%q is neither a number nor a range of numbers such as 1-4 of at most %d digits", part, maxDigits)
		case lo > hi:
			return nil, 0, bad(item, "range %q runs backwards", part)
		case hi-lo >= MaxRange:
			return nil, 0, bad(item, "range %q has more than %d hosts", part, MaxRange)
		}
		r := span{lo, hi, len(low)}
		if total += r.count(); total > MaxHosts {
			return nil, 0, bad(item, "more than %d hosts", MaxHosts)
		}
		spans = append(spans, r)
	}
	return spans, total, nil
}

func number(s string) (int64, bool) {
	if s == "" || len(s) > maxDigits {
		return 0, false
	}
	var n int64
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int64(s[i]-'0')
	}
	return n, true
}

func bad(item, format string, args ...any) error {
	const shown = 64 // bytes of a long item, so that the message stays a line
	if len(item) > shown {
		item = item[:shown] + "..."
	}
	return errs.Newf("hostlist.Expand", errs.Invalid, "invalid host list %q: "+format, append([]any{item}, args...)...)
}

// expand appends every host of groups, each starting with prefix.
func expand(out []string, prefix string, groups []group) []string {
	g := groups[0]
	prefix += g.text
	switch {
	case g.spans == nil:
		return append(out, prefix)
	case len(groups) == 1:
		return leaves(out, prefix, "", g.spans)
	case len(groups) == 2 && groups[1].spans == nil:
		return leaves(out, prefix, groups[1].text, g.spans)
	}
	for _, r := range g.spans {
		for n := r.lo; n <= r.hi; n++ {
			out = expand(out, string(pad([]byte(prefix), n, r.width)), groups[1:])
		}
	}
	return out
}

// leaves appends the hosts of an item's last group. The names of a range share
// one allocation.
func leaves(out []string, prefix, suffix string, spans []span) []string {
	for _, r := range spans {
		size := len(prefix) + len(suffix) + max(r.width, digits(r.hi))
		buf := make([]byte, 0, size*r.count())
		ends := make([]int, 0, r.count())
		for n := r.lo; n <= r.hi; n++ {
			buf = append(pad(append(buf, prefix...), n, r.width), suffix...)
			ends = append(ends, len(buf))
		}
		names, start := string(buf), 0
		for _, end := range ends {
			out = append(out, names[start:end])
			start = end
		}
	}
	return out
}

func digits(n int64) int {
	d := 1
	for ; n >= 10; n /= 10 {
		d++
	}
	return d
}

// pad appends n in decimal with zeros up to width.
func pad(b []byte, n int64, width int) []byte {
	for i := digits(n); i < width; i++ {
		b = append(b, '0')
	}
	return strconv.AppendInt(b, n, 10)
}
