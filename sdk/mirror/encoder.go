package mirror

import (
	"fmt"

	"github.com/sluice-hpc/sluice/sdk/proto/mirror/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// A Change is what happened between two revs or, for [Encoder.Snapshot],
// everything there is.
type Change struct {
	Rev        uint64 // after the change; higher than the one before
	Now        wlm.Time
	Nodes      []Node            // those that changed, by rising Index
	Partitions []Partition       // all of them, when any changed
	Counters   []Counter         // those that changed
	Settings   map[string]string // those that changed; "" removes one
	Jobs       []*Job            // new and changed ones
	Gone       []wlm.JobID       // that a plugin should forget: they ended
	Ranks      []Rank            // priorities, of jobs that did not change otherwise
	// Reservations are all of them, when any changed; not nil for none.
	Reservations []Reservation
	Ended        []Ended // jobs that ran and ended, in that order
}

// Rank is a pending job's new priority.
type Rank struct {
	Job      wlm.JobID
	Priority uint32
}

// Sizes of a frame: it is closed when it has either.
const (
	frameRecords = 2000
	frameBytes   = 480 << 10 // with one more record still below 512 KiB
)

// Encoder is the host's side of the mirrors: it turns changes into frames that
// any number of plugins apply. It keeps, per job, the rev and the class, from
// which it knows digests and which classes are in use; nothing else.
//
// A host encodes each change once and sends its frames to every plugin that is
// up to date; a plugin that is new or lost gets [Encoder.Snapshot] instead.
// The encoder shares what it is given only until it returns, except classes,
// which must not change. It is for one goroutine.
type Encoder struct {
	rev     uint64
	digest  uint64
	jobs    map[wlm.JobID]sent
	classes map[uint32]*inUse
	byWire  map[string]*Class // classes made by Class
	idle    map[uint32]bool   // classes without a job
	next    uint32
}

type sent struct {
	rev   uint64
	class uint32
}

type inUse struct {
	class *Class
	jobs  int
	key   string // in byWire
}

// NewEncoder returns an encoder at rev 0, where nothing exists.
func NewEncoder() *Encoder {
	return &Encoder{jobs: map[wlm.JobID]sent{}, classes: map[uint32]*inUse{}, byWire: map[string]*Class{},
		idle: map[uint32]bool{}}
}

// Rev is the rev of the last change.
func (e *Encoder) Rev() uint64 { return e.rev }

// Class returns the one class that asks for what c asks for, leaving its ID
// aside. It is kept while a job of a change has it, and at least until the next
// change.
func (e *Encoder) Class(c Class) *Class {
	c.ID = 0
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(ClassToWire(&c))
	if err != nil {
		panic(fmt.Sprintf("mirror: class: %v", err)) // every string was made valid
	}
	if old, ok := e.byWire[string(b)]; ok {
		return old
	}
	e.next++
	c.ID = e.next
	e.byWire[string(b)] = &c
	e.classes[c.ID] = &inUse{class: &c, key: string(b)}
	e.idle[c.ID] = true
	return &c
}

// Keeps reports whether c is a class of the encoder, as Class returned it and
// not forgotten since: who has it need not ask again.
func (e *Encoder) Keeps(c *Class) bool {
	u := e.classes[c.ID]
	return u != nil && u.class == c && u.key != ""
}

// Change moves the encoder to c.Rev and returns the frames that move a mirror
// there from the rev before. Gone jobs that were never sent are ignored, as are
// ranks of such jobs. A job must be in only one of Jobs, Gone and Ranks.
func (e *Encoder) Change(c Change) [][]byte {
	p := packer{frame: mirrorv1.Frame{Base: new(e.rev)}, rev: c.Rev, now: c.Now}
	e.common(&p, &c)
	for _, j := range c.Jobs {
		e.useClass(&p, j)
		old, known := e.jobs[j.ID]
		if known {
			e.digest -= mix(j.ID, old.rev)
			e.release(old.class)
		}
		e.jobs[j.ID] = sent{rev: c.Rev, class: classID(j)}
		e.digest += mix(j.ID, c.Rev)
		p.job(j, c.Rev)
	}
	for _, id := range c.Gone {
		old, known := e.jobs[id]
		if !known {
			continue
		}
		e.digest -= mix(id, old.rev)
		e.release(old.class)
		delete(e.jobs, id)
		p.frame.GoneJobs = append(p.frame.GoneJobs, uint32(id))
		p.grow(6)
	}
	for _, r := range c.Ranks {
		old, known := e.jobs[r.Job]
		if !known {
			continue
		}
		e.digest += mix(r.Job, c.Rev) - mix(r.Job, old.rev)
		old.rev = c.Rev
		e.jobs[r.Job] = old
		p.frame.RankIds = append(p.frame.RankIds, uint32(r.Job))
		p.frame.RankPriorities = append(p.frame.RankPriorities, r.Priority)
		p.ranked()
	}
	for id := range e.idle {
		if u := e.classes[id]; u.key != "" {
			delete(e.byWire, u.key)
		}
		delete(e.classes, id)
		p.frame.GoneClasses = append(p.frame.GoneClasses, id)
	}
	clear(e.idle)
	e.rev = c.Rev
	return p.finish(e.digest)
}

// Snapshot returns the frames that bring any mirror to the encoder's rev,
// which must be c.Rev; c holds everything that the changes so far left. A job
// that no change told about is left out.
func (e *Encoder) Snapshot(c Change) [][]byte {
	p := packer{frame: mirrorv1.Frame{Reset_: true}, rev: e.rev, now: c.Now}
	e.common(&p, &c)
	for _, u := range e.classes {
		p.class(u.class)
	}
	for _, j := range c.Jobs {
		if s, known := e.jobs[j.ID]; known {
			p.job(j, s.rev)
		}
	}
	return p.finish(e.digest)
}

func (e *Encoder) common(p *packer, c *Change) {
	for i := range c.Nodes {
		n := nodeToWire(&c.Nodes[i])
		p.frame.Nodes = append(p.frame.Nodes, n)
		p.grow(proto.Size(n))
	}
	for i := range c.Partitions {
		n := partitionToWire(&c.Partitions[i])
		p.frame.Partitions = append(p.frame.Partitions, n)
		p.grow(proto.Size(n))
	}
	for i := range c.Counters {
		n := counterToWire(&c.Counters[i])
		p.frame.Counters = append(p.frame.Counters, n)
		p.grow(proto.Size(n))
	}
	p.frame.ReplaceReservations = c.Reservations != nil
	for i := range c.Reservations {
		n := reservationToWire(&c.Reservations[i])
		p.frame.Reservations = append(p.frame.Reservations, n)
		p.grow(proto.Size(n))
	}
	for i := range c.Ended {
		n := endedToWire(&c.Ended[i])
		p.frame.Ended = append(p.frame.Ended, n)
		p.grow(proto.Size(n))
	}
	for k, v := range c.Settings {
		if p.frame.Settings == nil {
			p.frame.Settings = map[string]string{}
		}
		p.frame.Settings[text(k)] = text(v)
		p.grow(len(k) + len(v))
	}
}

func classID(j *Job) uint32 {
	if j.Class == nil {
		return 0
	}
	return j.Class.ID
}

// useClass counts a job of its class and sends the class before its first job.
func (e *Encoder) useClass(p *packer, j *Job) {
	id := classID(j)
	if id == 0 {
		return
	}
	u := e.classes[id]
	switch {
	case u == nil:
		u = &inUse{class: j.Class}
		e.classes[id] = u
		p.class(j.Class)
	case u.class != j.Class || u.jobs == 0:
		u.class = j.Class
		p.class(j.Class)
	}
	u.jobs++
	delete(e.idle, id)
}

func (e *Encoder) release(class uint32) {
	if u := e.classes[class]; u != nil {
		if u.jobs--; u.jobs == 0 {
			e.idle[class] = true
		}
	}
}

// packer cuts records into frames.
type packer struct {
	frame   mirrorv1.Frame
	rev     uint64
	now     wlm.Time
	records int
	bytes   int
	out     [][]byte
}

func (p *packer) class(c *Class) {
	m := ClassToWire(c)
	p.frame.Classes = append(p.frame.Classes, m)
	p.grow(proto.Size(m))
}

func (p *packer) job(j *Job, rev uint64) {
	m := JobToWire(j)
	m.Rev = rev
	p.frame.Jobs = append(p.frame.Jobs, m)
	p.grow(proto.Size(m))
}

// ranked counts a rank, which is so small that it does not count as a record.
func (p *packer) ranked() {
	p.bytes += 2 * protowire.SizeVarint(1<<32-1)
	if p.bytes >= frameBytes {
		p.flush(false, 0)
	}
}

func (p *packer) grow(n int) {
	p.bytes += n + 8
	p.records++
	if p.records >= frameRecords || p.bytes >= frameBytes {
		p.flush(false, 0)
	}
}

func (p *packer) finish(digest uint64) [][]byte {
	p.flush(true, digest)
	return p.out
}

func (p *packer) flush(done bool, digest uint64) {
	f := &p.frame
	f.Rev, f.Now, f.Done, f.Digest, f.Piece = p.rev, int64(p.now), done, digest, uint32(len(p.out))
	b, err := proto.Marshal(f)
	if err != nil {
		panic(fmt.Sprintf("mirror: frame: %v", err)) // every string was made valid
	}
	p.out = append(p.out, b)
	base := f.Base
	proto.Reset(f)
	f.Base = base
	p.records, p.bytes = 0, 0
}
