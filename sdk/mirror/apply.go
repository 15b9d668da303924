package mirror

import (
	"fmt"

	"github.com/sluice-hpc/sluice/sdk/proto/mirror/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"google.golang.org/protobuf/proto"
)

// change is a change whose pieces are still arriving.
type change struct {
	pieces []*mirrorv1.Frame
	rev    uint64
}

// ApplyBytes is [Mirror.Apply] of an encoded frame.
func (m *Mirror) ApplyBytes(payload []byte) (done bool, err error) {
	f := new(mirrorv1.Frame)
	if err := proto.Unmarshal(payload, f); err != nil {
		m.lose()
		return false, fmt.Errorf("mirror frame: %w", err)
	}
	return m.Apply(f)
}

// Apply takes the next frame; it may keep it. It reports whether the mirror is
// at a new rev, which is the case after the last piece of a snapshot or of a
// change. Until then views stay as they are.
//
// An error, which wraps [ErrLost] unless the frame is garbage, means that the
// mirror is of no use before the next snapshot; it is returned once, and frames
// that are not of a snapshot are dropped silently afterwards.
func (m *Mirror) Apply(f *mirrorv1.Frame) (done bool, err error) {
	if m.index == nil {
		m.state = newState()
	}
	switch {
	case f.GetReset_():
		m.parts = change{}
		m.aside = &Mirror{state: newState()}
		return m.applySnapshot(f)
	case m.aside != nil && m.parts.pieces == nil && f.Base == nil:
		return m.applySnapshot(f)
	case m.lost:
		return false, nil
	}
	return m.applyChange(f)
}

// applySnapshot builds a snapshot aside and switches to it when it is whole.
func (m *Mirror) applySnapshot(f *mirrorv1.Frame) (bool, error) {
	a := m.aside
	if f.GetPiece() != uint32(a.parts.rev) { // parts.rev counts a snapshot's pieces
		return false, m.lostf("piece %d of a snapshot came where %d was due", f.GetPiece(), a.parts.rev)
	}
	a.parts.rev++
	if err := a.take(f); err != nil {
		return false, m.lostf("%v", err)
	}
	if !f.GetDone() {
		return false, nil
	}
	a.rev = f.GetRev()
	if f.GetDigest() != 0 && f.GetDigest() != a.digest {
		return false, m.lostf("digest of the snapshot at rev %d is %#x, told %#x", a.rev, a.digest, f.GetDigest())
	}
	m.state, m.aside, m.lost = a.state, nil, false
	return true, nil
}

// applyChange keeps the pieces of a change until all are there.
func (m *Mirror) applyChange(f *mirrorv1.Frame) (bool, error) {
	p := &m.parts
	if len(p.pieces) == 0 {
		p.rev = f.GetRev()
		if f.Base != nil && f.GetBase() != m.rev {
			return false, m.lostf("a change on rev %d came at rev %d", f.GetBase(), m.rev)
		}
	}
	if f.GetRev() != p.rev || f.GetPiece() != uint32(len(p.pieces)) {
		return false, m.lostf("piece %d of rev %d came where piece %d of rev %d was due",
			f.GetPiece(), f.GetRev(), len(p.pieces), p.rev)
	}
	p.pieces = append(p.pieces, f)
	if !f.GetDone() {
		return false, nil
	}
	pieces := p.pieces
	*p = change{}
	for _, f := range pieces {
		if err := m.take(f); err != nil {
			return false, m.lostf("%v", err)
		}
	}
	m.rev = f.GetRev()
	if f.GetDigest() != 0 && f.GetDigest() != m.digest {
		return false, m.lostf("digest at rev %d is %#x, told %#x", m.rev, m.digest, f.GetDigest())
	}
	return true, nil
}

func (m *Mirror) lose() { m.lost, m.aside, m.parts = true, nil, change{} }

func (m *Mirror) lostf(format string, args ...any) error {
	m.lose()
	return fmt.Errorf("%w: %s", ErrLost, fmt.Sprintf(format, args...))
}

// take applies one frame's contents.
func (s *state) take(f *mirrorv1.Frame) error {
	for _, n := range f.GetNodes() {
		switch i := int(n.GetIndex()); {
		case i < len(s.nodes):
			s.nodes[i] = nodeOfWire(n)
		case i == len(s.nodes):
			s.nodes = append(s.nodes, nodeOfWire(n))
		default:
			return fmt.Errorf("node %d came when %d were known", i, len(s.nodes))
		}
	}
	if err := s.takePartitions(f.GetPartitions()); err != nil {
		return err
	}
	for _, c := range f.GetCounters() {
		s.takeCounter(counterOfWire(c))
	}
	if f.GetReplaceReservations() {
		s.resvs = nil
	}
	for _, r := range f.GetReservations() {
		s.resvs = append(s.resvs, reservationOfWire(r))
	}
	for k, v := range f.GetSettings() {
		if v == "" {
			delete(s.settings, k)
			continue
		}
		s.settings[k] = v
	}
	for _, c := range f.GetClasses() {
		if old, ok := s.classes[c.GetId()]; ok {
			*old = *classOfWire(c)
			continue
		}
		s.classes[c.GetId()] = classOfWire(c)
	}
	for _, e := range f.GetEnded() {
		s.over(endedOfWire(e), f.GetRev())
	}
	return s.takeJobs(f)
}

func (s *state) takePartitions(parts []*mirrorv1.Partition) error {
	if len(parts) == 0 {
		return nil
	}
	if parts[0].GetIndex() == 0 {
		s.partitions = nil
	}
	for _, p := range parts {
		if int(p.GetIndex()) != len(s.partitions) {
			return fmt.Errorf("partition %d came when %d were known", p.GetIndex(), len(s.partitions))
		}
		s.partitions = append(s.partitions, partitionOfWire(p))
	}
	s.retier()
	return nil
}

func (s *state) takeCounter(c Counter) {
	for i := range s.counters {
		if s.counters[i].ID == c.ID {
			s.counters[i] = c
			return
		}
	}
	s.counters = append(s.counters, c)
}

func (s *state) takeJobs(f *mirrorv1.Frame) error {
	for _, w := range f.GetJobs() {
		class, ok := s.classes[w.GetClass()]
		if !ok {
			return fmt.Errorf("job %d is of class %d, which is not known", w.GetId(), w.GetClass())
		}
		j := JobOfWire(w, class)
		j.Account, j.QOS = s.word(j.Account), s.word(j.QOS)
		j.rev, j.tier = w.GetRev(), s.tier(class)
		s.put(j)
	}
	for _, id := range f.GetGoneJobs() {
		s.drop(wlm.JobID(id))
	}
	if len(f.GetRankIds()) != len(f.GetRankPriorities()) {
		return fmt.Errorf("%d ranks for %d jobs", len(f.GetRankPriorities()), len(f.GetRankIds()))
	}
	for i, id := range f.GetRankIds() {
		s.rank(wlm.JobID(id), f.GetRankPriorities()[i], f.GetRev())
	}
	for _, id := range f.GetGoneClasses() {
		delete(s.classes, id)
	}
	return nil
}

// word returns w as it was first met, so that a hundred thousand jobs share it.
func (s *state) word(w string) string {
	if w == "" {
		return ""
	}
	if old, ok := s.words[w]; ok {
		return old
	}
	s.words[w] = w
	return w
}
