package mirror

import "github.com/sluice-hpc/sluice/sdk/wlm"

// index finds jobs by id. Ids of jobs that are known at a time lie close together,
// so it is pages of neighbours: a pass that looks up every job of a long queue finds
// the few pages in the processor's cache, which a map of all jobs is not.
type index map[wlm.JobID]*page

const pageBits = 8

// page holds the jobs whose ids differ in the last pageBits only.
type page struct {
	jobs [1 << pageBits]*Job
	n    int
}

func (x index) get(id wlm.JobID) *Job {
	if p := x[id>>pageBits]; p != nil {
		return p.jobs[id&(1<<pageBits-1)]
	}
	return nil
}

func (x index) put(j *Job) {
	p := x[j.ID>>pageBits]
	if p == nil {
		p = new(page)
		x[j.ID>>pageBits] = p
	}
	at := &p.jobs[j.ID&(1<<pageBits-1)]
	if *at == nil {
		p.n++
	}
	*at = j
}

func (x index) drop(id wlm.JobID) {
	p := x[id>>pageBits]
	if p == nil || p.jobs[id&(1<<pageBits-1)] == nil {
		return
	}
	p.jobs[id&(1<<pageBits-1)] = nil
	if p.n--; p.n == 0 {
		delete(x, id>>pageBits)
	}
}
