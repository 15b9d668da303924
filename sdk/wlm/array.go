package wlm

import (
	"cmp"
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/errs"
)

// MaxArrayBound is above every task index: Slurm's highest MaxArraySize.
const MaxArrayBound = 4_000_001

// maxOverlap is how often a list of tasks may name all of an array. Merging
// costs time in proportion, and the list comes from a user.
const maxOverlap = 16

// IDRanges is a set of task indices in canonical form: ranges in rising order
// that neither overlap nor interleave. Neighbouring indices share a range;
// three or more single indices at equal distance share a range with a step.
// Equal sets therefore have equal ranges. Methods that change return a new
// value. A []IDRange that came from here converts without a check.
type IDRanges []IDRange

// ParseArray reads --array: indices, ranges and ranges with a step, comma
// separated, perhaps in brackets, perhaps with %N for at most N running tasks
// (0 when absent). Indices are below bound, which is MaxArraySize. Empty
// elements and overlaps do not matter.
func ParseArray(s string, bound uint32) (tasks IDRanges, maxRunning uint32, err error) {
	bad := func(format string, args ...any) (IDRanges, uint32, error) {
		e := errs.Newf("wlm.ParseArray", errs.Invalid, format, args...)
		return nil, 0, errs.Coded("wlm.ParseArray", errs.InvalidArray, "array "+strconv.Quote(clip(s))+": "+e.Error())
	}
	bound = min(bound, MaxArrayBound)
	list, limit, limited := strings.Cut(s, "%")
	if inner, ok := strings.CutPrefix(list, "["); ok {
		closed := false
		if inner, closed = strings.CutSuffix(inner, "]"); closed {
			list = inner
		} else if limit, closed = strings.CutSuffix(limit, "]"); closed && limited {
			list = inner
		} else {
			return bad("\"[\" without \"]\"")
		}
	}
	if limited {
		n, ok := digitsOnly(limit)
		if !ok {
			return bad("%q after %% is not a number of tasks", limit)
		}
		maxRunning = uint32(n)
	}
	var raw []IDRange
	named := uint64(0) // tasks, overlaps counted each time
	for elem := range strings.SplitSeq(list, ",") {
		if elem == "" {
			continue
		}
		r, ok := parseElem(elem)
		switch {
		case !ok:
			return bad("%q is neither an index nor a range such as 0-15 or 0-15:4", elem)
		case r.Step == 0:
			return bad("the step of %q is not positive", elem)
		case r.First > r.Last:
			return bad("range %q runs backwards", elem)
		case r.Last >= bound || r.Step >= bound:
			return bad("%q is not below MaxArraySize=%d", elem, bound)
		}
		if named += uint64(r.count()); named > maxOverlap*uint64(bound) {
			return bad("the ranges overlap too often")
		}
		raw = append(raw, r)
	}
	if len(raw) == 0 {
		return bad("no task index")
	}
	return normalize(raw), maxRunning, nil
}

func parseElem(s string) (r IDRange, ok bool) {
	span, step, stepped := strings.Cut(s, ":")
	low, high, ranged := strings.Cut(span, "-")
	if stepped && !ranged {
		return r, false
	}
	first, ok1 := digitsOnly(low)
	last, ok2 := first, true
	by, ok3 := int64(1), true
	if ranged {
		last, ok2 = digitsOnly(high)
	}
	if stepped {
		by, ok3 = digitsOnly(step)
	}
	return IDRange{uint32(first), uint32(last), uint32(by)}, ok1 && ok2 && ok3
}

// clip keeps a user's long value within one line of an error.
func clip(s string) string {
	const most = 80
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

// normalize brings ranges in any order into canonical form. It works on whole
// ranges; only ranges with steps that overlap each other are spread out, in a
// bitmap of their extent.
func normalize(raw []IDRange) IDRanges {
	slices.SortFunc(raw, func(a, b IDRange) int { return cmp.Compare(a.First, b.First) })
	var b rangeBuilder
	for i := 0; i < len(raw); {
		last, plain := raw[i].Last, raw[i].Step == 1
		j := i + 1
		for ; j < len(raw) && raw[j].First <= last; j++ {
			last = max(last, raw[j].Last)
			plain = plain && raw[j].Step == 1
		}
		switch {
		case j == i+1:
			b.add(raw[i])
		case plain:
			b.add(IDRange{raw[i].First, last, 1})
		default:
			b.addMerged(raw[i:j], last)
		}
		i = j
	}
	return b.out
}

// rangeBuilder makes canonical ranges of indices that come in rising order.
type rangeBuilder struct{ out IDRanges }

func (r IDRange) count() uint32 { return (r.Last-r.First)/r.Step + 1 }

// add appends a range that is above everything added before.
func (b *rangeBuilder) add(r IDRange) {
	r.Last = r.First + (r.count()-1)*r.Step // the bound need not be hit
	for id := r.First; ; id += r.Step {
		b.addOne(id)
		if id == r.Last {
			return
		}
		top := &b.out[len(b.out)-1]
		if top.Step == r.Step && top.First != top.Last {
			top.Last = r.Last
			return
		}
	}
}

// addOne appends an index that is above everything added before.
func (b *rangeBuilder) addOne(id uint32) {
	n := len(b.out)
	if n == 0 {
		b.out = append(b.out, IDRange{id, id, 1})
		return
	}
	top := &b.out[n-1]
	switch {
	case id == top.Last+1 && top.Step == 1:
		top.Last = id
		return
	case id == top.Last+1: // the last one of a range with a step belongs to id now
		first, last, step := top.First, top.Last, top.Step
		b.out = b.out[:n-1]
		if top.count() > 3 {
			b.out = append(b.out, IDRange{first, last - step, step})
		} else {
			b.out = append(b.out, IDRange{first, first, 1}, IDRange{first + step, first + step, 1})
		}
		b.out = append(b.out, IDRange{last, id, 1})
		return
	case top.Step > 1 && id == top.Last+top.Step:
		top.Last = id
		return
	}
	if n >= 2 {
		p, q := b.out[n-2], b.out[n-1]
		if step := q.First - p.First; p.First == p.Last && q.First == q.Last && id-q.First == step {
			b.out = append(b.out[:n-2], IDRange{p.First, id, step})
			return
		}
	}
	b.out = append(b.out, IDRange{id, id, 1})
}

// addMerged appends the union of ranges that overlap, last being their end.
func (b *rangeBuilder) addMerged(rs []IDRange, last uint32) {
	base := rs[0].First
	bits := make([]uint64, (last-base)/64+1)
	for _, r := range rs {
		for k, id := uint32(0), r.First-base; k < r.count(); k, id = k+1, id+r.Step {
			bits[id/64] |= 1 << (id % 64)
		}
	}
	for id := range CPUSet(bits).All {
		b.addOne(base + uint32(id))
	}
}

// FormatArray prints tasks as short as can be: 0,4-5 or 1-7:2, with %N after
// it unless maxRunning is 0. [ParseArray] gives both back. Displays use
// [FormatArrayWithin].
func FormatArray(tasks []IDRange, maxRunning uint32) string {
	var b []byte
	for i, r := range tasks {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, uint64(r.First), 10)
		if r.Last > r.First {
			b = strconv.AppendUint(append(b, '-'), uint64(r.Last), 10)
		}
		if r.Step > 1 {
			b = strconv.AppendUint(append(b, ':'), uint64(r.Step), 10)
		}
	}
	if maxRunning > 0 {
		b = strconv.AppendUint(append(b, '%'), uint64(maxRunning), 10)
	}
	return string(b)
}

// A list that is one long progression is shown with its step, as Slurm does.
const (
	stepTasks = 6  // at least so many tasks
	stepSpan  = 10 // and more than this between the first and the last
)

// FormatArrayWithin prints tasks as squeue and scontrol show them: 1,3,5 or
// 1-1999:2 or 3-6%2. A list that does not fit into limit bytes together with
// its end mark ends in three dots; see SLURM_BITSTR_LEN, whose default is 64.
// No limit when it is 0.
func FormatArrayWithin(tasks []IDRange, maxRunning uint32, limit int) string {
	const dots = "..."
	var b []byte
	full := func() bool { return limit > 0 && len(b) > max(limit-len(dots), 0) }
	if len(tasks) == 1 && tasks[0].Step > 1 && tasks[0].count() >= stepTasks && tasks[0].Last-tasks[0].First > stepSpan {
		return FormatArray(tasks, maxRunning)
	}
	for _, r := range tasks {
		if b = appendPlain(b, r, full); full() {
			break
		}
	}
	if full() {
		b = append(b[:max(limit-len(dots)-1, 0)], dots...)
	}
	if maxRunning > 0 {
		b = strconv.AppendUint(append(b, '%'), uint64(maxRunning), 10)
	}
	return string(b)
}

// appendPlain appends a range without a step, until full says so.
func appendPlain(b []byte, r IDRange, full func() bool) []byte {
	comma := func() {
		if len(b) > 0 {
			b = append(b, ',')
		}
	}
	if r.Step == 1 {
		comma()
		b = strconv.AppendUint(b, uint64(r.First), 10)
		if r.Last > r.First {
			b = strconv.AppendUint(append(b, '-'), uint64(r.Last), 10)
		}
		return b
	}
	for k, id := uint32(0), r.First; k < r.count() && !full(); k, id = k+1, id+r.Step {
		comma()
		b = strconv.AppendUint(b, uint64(id), 10)
	}
	return b
}

// Count is the number of tasks.
func (t IDRanges) Count() int {
	n := 0
	for _, r := range t {
		n += int(r.count())
	}
	return n
}

// Has reports whether id is one of the tasks.
func (t IDRanges) Has(id uint32) bool {
	i := t.find(id)
	return i < len(t) && t[i].First <= id && (id-t[i].First)%t[i].Step == 0
}

// find returns the first range that ends at id or after it.
func (t IDRanges) find(id uint32) int {
	i, _ := slices.BinarySearchFunc(t, id, func(r IDRange, id uint32) int { return cmp.Compare(r.Last, id) })
	return i
}

// First returns the lowest index; ok is false when there is none.
func (t IDRanges) First() (id uint32, ok bool) {
	if len(t) == 0 {
		return 0, false
	}
	return t[0].First, true
}

// Last returns the highest index; ok is false when there is none.
func (t IDRanges) Last() (id uint32, ok bool) {
	if len(t) == 0 {
		return 0, false
	}
	return t[len(t)-1].Last, true
}

// Remove returns the tasks without id.
func (t IDRanges) Remove(id uint32) IDRanges {
	if !t.Has(id) {
		return t
	}
	i := t.find(id)
	b := rangeBuilder{make(IDRanges, 0, len(t)+1)}
	for k, r := range t {
		switch {
		case k != i:
			b.add(r)
		default:
			if id > r.First {
				b.add(IDRange{r.First, id - r.Step, r.Step})
			}
			if id < r.Last {
				b.add(IDRange{id + r.Step, r.Last, r.Step})
			}
		}
	}
	return b.out
}

// Add returns the tasks with id.
func (t IDRanges) Add(id uint32) IDRanges {
	if t.Has(id) {
		return t
	}
	b := rangeBuilder{make(IDRanges, 0, len(t)+1)}
	added := false
	for _, r := range t {
		switch {
		case added || r.Last < id:
			b.add(r)
			continue
		case r.First < id: // between two of r
			below := (id - r.First) / r.Step * r.Step
			b.add(IDRange{r.First, r.First + below, r.Step})
			r.First += below + r.Step
		}
		b.addOne(id)
		b.add(r)
		added = true
	}
	if !added {
		b.addOne(id)
	}
	return b.out
}

// Take splits off the lowest n tasks, or all when there are fewer.
func (t IDRanges) Take(n int) (taken, rest IDRanges) {
	var low, high rangeBuilder
	for _, r := range t {
		count := int(r.count())
		switch {
		case n >= count:
			low.add(r)
		case n <= 0:
			high.add(r)
		default:
			mid := r.First + uint32(n)*r.Step
			low.add(IDRange{r.First, mid - r.Step, r.Step})
			high.add(IDRange{mid, r.Last, r.Step})
		}
		n -= min(n, count)
	}
	return low.out, high.out
}

// All yields every index in rising order.
func (t IDRanges) All() iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for _, r := range t {
			for k, id := uint32(0), r.First; k < r.count(); k, id = k+1, id+r.Step {
				if !yield(id) {
					return
				}
			}
		}
	}
}
