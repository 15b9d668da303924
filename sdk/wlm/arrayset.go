package wlm

// NewIDRanges brings ranges in any order into canonical form. Ranges that run
// backwards or reach [MaxArrayBound] are left out: no array has such a task.
func NewIDRanges(raw []IDRange) IDRanges {
	good := make([]IDRange, 0, len(raw))
	for _, r := range raw {
		r.Step = max(r.Step, 1)
		if r.First <= r.Last && r.Last < MaxArrayBound {
			good = append(good, r)
		}
	}
	return normalize(good)
}

// Common returns the tasks that are in both t and u.
func (t IDRanges) Common(u IDRanges) IDRanges { both, _ := t.partition(u); return both }

// Without returns the tasks of t that are not in u.
func (t IDRanges) Without(u IDRanges) IDRanges { _, rest := t.partition(u); return rest }

// partition splits t into what is in u and what is not. Ranges without a step
// are cut as a whole; the others cost a look at each of their tasks.
func (t IDRanges) partition(u IDRanges) (in, out IDRanges) {
	var both, rest rangeBuilder
	i := 0
	for _, r := range t {
		for first := r.First; ; {
			for i < len(u) && u[i].Last < first {
				i++
			}
			switch {
			case i == len(u) || u[i].First > r.Last:
				rest.add(IDRange{first, r.Last, r.Step})
				first = r.Last
			case r.Step != 1 || u[i].Step != 1:
				if u.Has(first) {
					both.addOne(first)
				} else {
					rest.addOne(first)
				}
			case u[i].First > first:
				rest.add(IDRange{first, u[i].First - 1, 1})
				first = u[i].First - 1
			default:
				last := min(u[i].Last, r.Last)
				both.add(IDRange{first, last, 1})
				first = last
			}
			if first >= r.Last {
				break
			}
			first += r.Step
		}
	}
	return both.out, rest.out
}
