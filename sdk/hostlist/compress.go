package hostlist

import (
	"cmp"
	"slices"
	"strings"
)

// name is a host cut before the number at its end.
type name struct {
	prefix string
	num    int64
	width  int // digits as written; 0: no number
}

func cut(host string) name {
	i := len(host)
	for i > 0 && len(host)-i < maxDigits && host[i-1] >= '0' && host[i-1] <= '9' {
		i--
	}
	n, _ := number(host[i:])
	return name{host[:i], n, len(host) - i}
}

func (a name) compare(b name) int {
	if c := strings.Compare(a.prefix, b.prefix); c != 0 {
		return c
	}
	if (a.width == 0) != (b.width == 0) {
		return cmp.Compare(a.width, b.width)
	}
	if c := cmp.Compare(a.num, b.num); c != 0 {
		return c
	}
	return cmp.Compare(a.width, b.width)
}

// Compare orders hosts as [Compress] does: by the text before the final
// number, then by its value, then by its width. n2 comes before n10.
func Compare(a, b string) int { return cut(a).compare(cut(b)) }

// Compress prints hosts as a list, sorted and without duplicates, padding
// kept: n[01-03,10]. The result of no hosts is empty.
func Compress(hosts []string) string {
	names := make([]name, len(hosts))
	for i, h := range hosts {
		names[i] = cut(h)
	}
	if !slices.IsSortedFunc(names, name.compare) {
		slices.SortFunc(names, name.compare)
	}
	return fold(slices.Compact(names))
}

// CompressOrdered prints hosts as a list in the order given, duplicates kept:
// n[3,1-2] for n3, n1, n2. [Expand] gives back exactly hosts.
func CompressOrdered(hosts []string) string {
	names := make([]name, 0, len(hosts))
	for _, h := range hosts {
		if h != "" {
			names = append(names, cut(h))
		}
	}
	return fold(names)
}

// fold prints names in order, with neighbours of one prefix in one group and
// numbers that follow each other in one range.
func fold(names []name) string {
	var b []byte
	for len(names) > 0 {
		if len(b) > 0 {
			b = append(b, ',')
		}
		first := names[0]
		n := 1
		for n < len(names) && names[n].width > 0 && first.width > 0 && names[n].prefix == first.prefix {
			n++
		}
		b = append(b, first.prefix...)
		switch {
		case first.width == 0:
		case n == 1:
			b = pad(b, first.num, first.width)
		default:
			b = ranges(append(b, '['), names[:n])
			b = append(b, ']')
		}
		names = names[n:]
	}
	return string(b)
}

// ranges appends the numbers of names, at most MaxRange to a range.
func ranges(b []byte, names []name) []byte {
	for i := 0; i < len(names); {
		lo := names[i]
		j := i + 1
		for j < len(names) && j-i < MaxRange && names[j].num == names[j-1].num+1 &&
			names[j].width == max(lo.width, digits(names[j].num)) {
			j++
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = pad(b, lo.num, lo.width)
		if j-i > 1 {
			b = pad(append(b, '-'), names[j-1].num, lo.width)
		}
		i = j
	}
	return b
}
