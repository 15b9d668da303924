package view

import (
	"slices"
	"sort"
	"sync/atomic"

	"github.com/sluice-hpc/sluice/sdk/wlm"
)

const chunkSize = 512 // jobs of a chunk, at most

// index has all jobs in id order. Its chunks are copied on write: one that was
// in a picture is not changed any more. The view's lock guards it.
type index struct {
	chunks   []*chunk // none is empty
	pictures atomic.Uint64
}

// chunk is a run of jobs in id order.
type chunk struct {
	born uint64 // the count of pictures when it was made; one taken since shares it
	jobs []*wlm.Job
	lean []encoding // what jobs look like in lists; filled in by readers
}

// encoding is a job on the wire; see encode.go. Nil until somebody asks.
type encoding struct{ atomic.Pointer[[]byte] }

// picture is the index at one moment.
type picture []*chunk

// picture needs no more than the read lock.
func (x *index) picture() picture {
	x.pictures.Add(1)
	return slices.Clone(x.chunks)
}

// all yields the jobs in id order.
func (p picture) all(yield func(*wlm.Job) bool) {
	for _, c := range p {
		for _, j := range c.jobs {
			if !yield(j) {
				return
			}
		}
	}
}

// reset makes the index anew of jobs in id order.
func (x *index) reset(jobs []*wlm.Job) {
	x.chunks = nil
	for run := range slices.Chunk(jobs, chunkSize) {
		c := x.fresh()
		c.jobs = append(c.jobs, run...)
		c.lean = c.lean[:len(run)]
		x.chunks = append(x.chunks, c)
	}
}

func (x *index) fresh() *chunk {
	return &chunk{born: x.pictures.Load(), jobs: make([]*wlm.Job, 0, chunkSize), lean: make([]encoding, 0, chunkSize)}
}

// own returns the i-th chunk, which may be changed.
func (x *index) own(i int) *chunk {
	c := x.chunks[i]
	if c.born == x.pictures.Load() {
		return c
	}
	n := x.fresh()
	n.jobs = append(n.jobs, c.jobs...)
	n.lean = n.lean[:len(c.lean)]
	copyEncodings(n.lean, c.lean)
	x.chunks[i] = n
	return n
}

func copyEncodings(dst, src []encoding) {
	for i := range src {
		dst[i].Store(src[i].Load())
	}
}

// find returns the chunk and the place in it where id is or belongs. The index
// is not empty.
func (x *index) find(id wlm.JobID) (ci, ji int, found bool) {
	last := len(x.chunks) - 1
	if id >= x.chunks[last].jobs[0].ID {
		ci = last
	} else {
		ci = max(sort.Search(len(x.chunks), func(i int) bool { return x.chunks[i].jobs[0].ID > id })-1, 0)
	}
	jobs := x.chunks[ci].jobs
	if n := len(jobs); jobs[n-1].ID < id { // a new job, most likely
		return ci, n, false
	}
	ji = sort.Search(len(jobs), func(i int) bool { return jobs[i].ID >= id })
	return ci, ji, jobs[ji].ID == id
}

// put adds a job or replaces its record.
func (x *index) put(j *wlm.Job) {
	if len(x.chunks) == 0 {
		x.chunks = append(x.chunks, x.fresh())
		x.chunks[0].insert(0, j)
		return
	}
	ci, ji, found := x.find(j.ID)
	if found {
		if x.chunks[ci].jobs[ji] != j {
			c := x.own(ci)
			c.jobs[ji] = j
			c.lean[ji].Store(nil)
		}
		return
	}
	if len(x.chunks[ci].jobs) < chunkSize {
		x.own(ci).insert(ji, j)
		return
	}
	if ci == len(x.chunks)-1 && ji == chunkSize {
		c := x.fresh()
		c.insert(0, j)
		x.chunks = append(x.chunks, c)
		return
	}
	x.split(ci)
	x.put(j)
}

// insert places a job; there is room.
func (c *chunk) insert(at int, j *wlm.Job) {
	c.jobs = slices.Insert(c.jobs, at, j)
	c.lean = c.lean[:len(c.lean)+1]
	for i := len(c.lean) - 1; i > at; i-- {
		c.lean[i].Store(c.lean[i-1].Load())
	}
	c.lean[at].Store(nil)
}

// split makes two chunks of a full one.
func (x *index) split(ci int) {
	const half = chunkSize / 2
	old := x.chunks[ci]
	var halves [2]*chunk
	for i, from := range [2]int{0, half} {
		c := x.fresh()
		c.jobs = append(c.jobs, old.jobs[from:from+half]...)
		c.lean = c.lean[:half]
		copyEncodings(c.lean, old.lean[from:from+half])
		halves[i] = c
	}
	x.chunks = slices.Replace(slices.Clone(x.chunks), ci, ci+1, halves[:]...)
}

// drop removes a job, if it is there. Neighbours that became small are joined,
// so that a long life does not leave many chunks of few jobs.
func (x *index) drop(id wlm.JobID) {
	if len(x.chunks) == 0 {
		return
	}
	ci, ji, found := x.find(id)
	if !found {
		return
	}
	c := x.own(ci)
	n := len(c.jobs)
	c.jobs = slices.Delete(c.jobs, ji, ji+1)
	for i := ji; i < n-1; i++ {
		c.lean[i].Store(c.lean[i+1].Load())
	}
	c.lean[n-1].Store(nil)
	c.lean = c.lean[:n-1]
	switch {
	case n == 1:
		x.chunks = slices.Delete(x.chunks, ci, ci+1)
	case ci+1 < len(x.chunks) && n-1+len(x.chunks[ci+1].jobs) <= chunkSize/2:
		next := x.chunks[ci+1]
		c.jobs = append(c.jobs, next.jobs...)
		c.lean = c.lean[:len(c.jobs)]
		copyEncodings(c.lean[n-1:], next.lean)
		x.chunks = slices.Delete(x.chunks, ci+1, ci+2)
	}
}
