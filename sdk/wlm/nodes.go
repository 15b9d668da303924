package wlm

import (
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/errs"
)

// NodeCounts is what --nodes asks for: from Min to Max nodes, and when Sizes
// is not nil, only as many as one of these.
type NodeCounts struct {
	Min   uint32
	Max   uint32 // equals Min when one number was given
	Sizes IDRanges
}

// ParseNodes reads --nodes: min, min-max (each with k for 1,024 or m for
// 1,048,576 behind it), or a list of sizes such as 1,5,9,13 or 1-15:4. A count
// of zero is left to the controller to refuse, as Slurm does.
//
// The error's text is the whole line that sbatch prints after "error: ".
func ParseNodes(s string) (NodeCounts, error) {
	bad := errs.Newf("wlm.ParseNodes", errs.Invalid, "%q is not a valid node count", clip(s))
	if strings.ContainsAny(s, ",:") {
		sizes, limit, err := ParseArray(s, MaxArrayBound)
		if err != nil || limit != 0 || strings.ContainsAny(s, "[%") || sizes.Has(0) {
			return NodeCounts{}, bad
		}
		least, _ := sizes.First()
		most, _ := sizes.Last()
		return NodeCounts{least, most, sizes}, nil
	}
	low, high, ranged := strings.Cut(s, "-")
	least, ok := nodeCount(low)
	most := least
	if ranged && ok {
		most, ok = nodeCount(high)
	}
	switch {
	case !ok:
		return NodeCounts{}, bad
	case most < least:
		return NodeCounts{}, errs.Newf("wlm.ParseNodes", errs.Invalid,
			"Maximum node count %d is less than minimum node count %d", most, least)
	}
	return NodeCounts{Min: least, Max: most}, nil
}

func nodeCount(s string) (uint32, bool) {
	scale := int64(1)
	if s != "" {
		switch s[len(s)-1] | 0x20 {
		case 'k':
			scale, s = 1<<10, s[:len(s)-1]
		case 'm':
			scale, s = 1<<20, s[:len(s)-1]
		}
	}
	n, ok := digitsOnly(s)
	n *= scale
	return uint32(n), ok && n < int64(AllTasks)
}

// Allows reports whether n nodes are as asked for.
func (c NodeCounts) Allows(n uint32) bool {
	return n >= c.Min && n <= c.Max && (c.Sizes == nil || c.Sizes.Has(n))
}

// String prints the counts as [ParseNodes] reads them.
func (c NodeCounts) String() string {
	low := strconv.FormatUint(uint64(c.Min), 10)
	switch {
	case len(c.Sizes) == 1 && c.Sizes[0].Step == 1 && c.Sizes.Count() > 1: // 1-4 would be min-max
		return FormatArray(c.Sizes, 0) + ":1"
	case c.Sizes.Count() == 1:
		return low + "," + low
	case c.Sizes != nil:
		return FormatArray(c.Sizes, 0)
	case c.Min == c.Max:
		return low
	}
	return low + "-" + strconv.FormatUint(uint64(c.Max), 10)
}
