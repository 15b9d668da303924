package mirror

import (
	"cmp"
	"iter"
	"slices"
	"sync"
)

// A line keeps the ready pending jobs in an order. Changes are noted as they
// come and folded in when somebody reads, so that a pass in which few jobs
// changed costs one walk, not one sort.
type line struct {
	key func(*Job) key

	mu      sync.Mutex // held while folding: several readers may come first
	sorted  []*Job
	added   []*Job // not in sorted yet
	removed []*Job // still in sorted or added
	rekeyed bool   // keys changed in place: sorted is not sorted
}

// key is what a line sorts by, smallest first. Job ids make keys distinct.
type key struct{ hi, lo, id uint64 }

func submitKey(j *Job) key { return key{lo: uint64(j.Submit), id: uint64(j.ID)} }

func priorityKey(j *Job) key {
	return key{hi: uint64(^j.tier)<<32 | uint64(^j.Priority), lo: uint64(j.Submit), id: uint64(j.ID)}
}

func (a key) compare(b key) int {
	return cmp.Or(cmp.Compare(a.hi, b.hi), cmp.Compare(a.lo, b.lo), cmp.Compare(a.id, b.id))
}

func (l *line) add(j *Job) { l.added = append(l.added, j) }

// remove notes that a job, which is marked as gone, leaves the line. A line that
// nobody reads forgets such jobs all the same, once they are half of it.
func (l *line) remove(j *Job) {
	const least = 1024
	if l.removed = append(l.removed, j); len(l.removed) < least || 2*len(l.removed) < len(l.sorted)+len(l.added) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	isGone := func(j *Job) bool { return j.gone }
	l.sorted, l.added, l.removed = slices.DeleteFunc(l.sorted, isGone), slices.DeleteFunc(l.added, isGone), nil
}

// rekey tells that a key was changed in place.
func (l *line) rekey() { l.rekeyed = true }

// all yields the jobs in order.
func (l *line) all() iter.Seq[*Job] {
	l.mu.Lock()
	l.fold()
	jobs := l.sorted
	l.mu.Unlock()
	return slices.Values(jobs)
}

// few is the share of a line below which removed jobs are looked up one by one.
const few = 32

func (l *line) fold() {
	if len(l.added) == 0 && len(l.removed) == 0 && !l.rekeyed {
		return
	}
	isGone := func(j *Job) bool { return j.gone }
	if len(l.removed) > 0 {
		l.added = slices.DeleteFunc(l.added, isGone)
		l.forget()
	}
	if l.rekeyed || len(l.sorted) == 0 {
		l.sorted = append(l.sorted, l.added...)
		l.sort(l.sorted)
	} else if len(l.added) > 0 {
		l.sort(l.added)
		l.merge()
	}
	l.added, l.removed, l.rekeyed = nil, nil, false
}

// forget takes the removed jobs out of sorted.
func (l *line) forget() {
	if l.rekeyed || len(l.removed) > len(l.sorted)/few {
		l.sorted = slices.DeleteFunc(l.sorted, func(j *Job) bool { return j.gone })
		return
	}
	var at []int
	for _, j := range l.removed {
		i, ok := slices.BinarySearchFunc(l.sorted, l.key(j), func(x *Job, k key) int { return l.key(x).compare(k) })
		if ok && l.sorted[i] == j {
			at = append(at, i)
		}
	}
	if len(at) == 0 {
		return
	}
	slices.Sort(at)
	to := at[0]
	for n, i := range at {
		end := len(l.sorted)
		if n+1 < len(at) {
			end = at[n+1]
		}
		to += copy(l.sorted[to:], l.sorted[i+1:end])
	}
	clear(l.sorted[to:])
	l.sorted = l.sorted[:to]
}

// merge puts added, sorted, into sorted from the back.
func (l *line) merge() {
	i, j := len(l.sorted)-1, len(l.added)-1
	l.sorted = append(l.sorted, l.added...)
	for to := len(l.sorted) - 1; j >= 0; to-- {
		if i >= 0 && l.key(l.sorted[i]).compare(l.key(l.added[j])) > 0 {
			l.sorted[to] = l.sorted[i]
			i--
			continue
		}
		l.sorted[to] = l.added[j]
		j--
	}
}

// sort sorts by keys read once, which halves the time of a long line.
func (l *line) sort(jobs []*Job) {
	type row struct {
		key
		job *Job
	}
	rows := make([]row, len(jobs))
	for i, j := range jobs {
		rows[i] = row{l.key(j), j}
	}
	slices.SortFunc(rows, func(a, b row) int { return a.compare(b.key) })
	for i := range rows {
		jobs[i] = rows[i].job
	}
}
