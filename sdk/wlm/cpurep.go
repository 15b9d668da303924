package wlm

import (
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/errs"
)

// FormatCPURep prints one count per node with repetitions folded, 4(x2),2, as
// SLURM_JOB_CPUS_PER_NODE and SLURM_TASKS_PER_NODE have it.
func FormatCPURep(counts []int) string {
	var b []byte
	for i := 0; i < len(counts); {
		j := i + 1
		for j < len(counts) && counts[j] == counts[i] {
			j++
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(counts[i]), 10)
		if j-i > 1 {
			b = append(strconv.AppendInt(append(b, "(x"...), int64(j-i), 10), ')')
		}
		i = j
	}
	return string(b)
}

// maxCPURep bounds what a text can make [ParseCPURep] allocate: a count for
// each node of the largest cluster.
const maxCPURep = 1 << 20

// ParseCPURep reads what [FormatCPURep] prints.
func ParseCPURep(s string) ([]int, error) {
	var out []int
	if s == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		count, rep, folded := strings.Cut(part, "(x")
		times := int64(1)
		n, ok := digitsOnly(count)
		if folded {
			inner, closed := strings.CutSuffix(rep, ")")
			r, numeric := digitsOnly(inner)
			times, ok = r, ok && closed && numeric && r > 0
		}
		if !ok || int64(len(out))+times > maxCPURep {
			return nil, errs.Newf("wlm.ParseCPURep", errs.Invalid, "invalid count %q: want a number, or number(xrepeat)", clip(part))
		}
		for range times {
			out = append(out, int(n))
		}
	}
	return out, nil
}
