package main

import (
	"cmp"
	"slices"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// predictor tells how long jobs will run from how long their users' jobs ran:
// the mean of the user's two most recently submitted jobs that have ended, but
// never more than the job's limit, which stays the time at which the job is
// ended. A prediction is made once, when the job is first seen; a job that
// outlives it is expected to use its limit up. (D. Tsafrir, Y. Etsion and
// D. Feitelson, Backfilling Using System-Generated Predictions, 2007.)
type predictor struct {
	rev   uint64 // of the newest view learned from
	users map[wlm.UID]*recent
	made  map[wlm.JobID]uint32 // predictions, seconds; 0: the limit
}

// recent are a user's two most recently submitted jobs that have ended, the
// newer one first.
type recent [2]struct {
	id     wlm.JobID
	submit wlm.Time
	ran    uint32
}

func newPredictor() *predictor {
	return &predictor{users: map[wlm.UID]*recent{}, made: map[wlm.JobID]uint32{}}
}

// learn takes notice of the jobs that ended since the last view.
func (p *predictor) learn(v sched.View) {
	if v.Rev < p.rev { // the mirror began anew
		p.rev = 0
	}
	for e := range v.EndedSince(p.rev) {
		delete(p.made, e.ID)
		u := p.users[e.User]
		if u == nil {
			u = &recent{}
			p.users[e.User] = u
		}
		u.add(e.ID, e.Submit, uint32(max(e.End-e.Start, 1)))
	}
	p.rev = v.Rev
	const spare = 4096
	if len(p.made) > spare { // jobs that were cancelled before they ran end without notice
		for id := range p.made {
			if v.Job(id) == nil {
				delete(p.made, id)
			}
		}
	}
}

func (u *recent) add(id wlm.JobID, submit wlm.Time, ran uint32) {
	if u[0].id == id || u[1].id == id {
		return // told again after a snapshot
	}
	at := 0
	for at < len(u) && u[at].id != 0 && (u[at].submit > submit || u[at].submit == submit && u[at].id > id) {
		at++
	}
	if at == len(u) {
		return
	}
	copy(u[at+1:], u[at:])
	u[at].id, u[at].submit, u[at].ran = id, submit, ran
}

// expect is how many seconds a job is expected to run; 0: as long as its limit
// lets it.
func (p *predictor) expect(j *mirror.Job) uint32 {
	if s, known := p.made[j.ID]; known {
		return s
	}
	var s uint32
	switch u := p.users[j.User]; {
	case u == nil:
	case u[1].id == 0:
		s = u[0].ran
	default:
		s = uint32((uint64(u[0].ran) + uint64(u[1].ran)) / 2)
	}
	if j.Limit > 0 && s >= j.Limit {
		s = 0
	}
	p.made[j.ID] = s
	return s
}

// running adds what is expected of running jobs to an agenda, and asks for a
// pass when the first of them turns out to take longer.
func (p *predictor) running(v sched.View, a *sched.Agenda) {
	for j := range v.Running() {
		s := p.expect(j)
		ends := j.Start + wlm.Time(s)
		if s == 0 || ends <= v.Now {
			continue
		}
		a.Running = append(a.Running, sched.Expectation{Job: j.ID, Expected: s})
		if a.Wake == 0 || ends < a.Wake {
			a.Wake = ends
		}
	}
	slices.SortFunc(a.Running, func(x, y sched.Expectation) int { return cmp.Compare(x.Job, y.Job) })
}
