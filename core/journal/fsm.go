package journal

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"google.golang.org/protobuf/proto"
)

// fsm is what raft drives. Before it is live it replays into the machine; live,
// the loop has applied every entry already and there is nothing to do.
type fsm struct {
	machine  Machine
	live     atomic.Bool
	replayed uint64
	restored bool
	trouble  chan struct{} // closed at the first failure of a replay
	own      *Journal      // of a follower, which makes its snapshots itself
	bytes    uint64        // replayed since its last snapshot

	mu struct {
		sync.Mutex
		image Image
		taken chan struct{}
		err   error // first failure of a replay
	}
}

func newFSM(m Machine) *fsm { return &fsm{machine: m, trouble: make(chan struct{})} }

// follow says that j replays for long: it makes snapshots of its own.
func (f *fsm) follow(j *Journal) { f.own = j }

// broken is closed when a replay failed.
func (f *fsm) broken() <-chan struct{} { return f.trouble }

// failure is why a replay failed; nil when none did.
func (f *fsm) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.err
}

func (f *fsm) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.err == nil {
		f.mu.err = err
		close(f.trouble)
	}
}

// Apply implements raft.FSM.
func (f *fsm) Apply(l *raft.Log) any {
	if f.live.Load() || f.failure() != nil {
		return nil
	}
	b, err := unseal(l.Data)
	if err == nil {
		err = f.machine.Replay(b)
	}
	if err != nil {
		err = fmt.Errorf("entry %d: %w", l.Index, err)
		f.fail(err)
		return err
	}
	f.replayed++
	if f.bytes += uint64(len(l.Data)); f.own != nil && f.bytes > snapshotBytes {
		f.bytes = 0
		go f.own.raft.Snapshot().Error() //nolint:errcheck // the log is the longer for it
	}
	return nil
}

// offer makes img the one that the next snapshot takes.
func (f *fsm) offer(img Image, taken chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.image, f.mu.taken = img, taken
}

// withdraw takes an image back that raft did not take, so that nobody waits.
func (f *fsm) withdraw(taken chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.taken == taken {
		f.mu.image, f.mu.taken = nil, nil
		close(taken)
	}
}

// Snapshot implements raft.FSM.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if m, ok := f.machine.(Imager); ok && f.own != nil && !f.live.Load() {
		return &snapshot{m.Image()}, nil
	}
	if f.mu.image == nil {
		return nil, errors.New("snapshots are made by the loop")
	}
	s := &snapshot{f.mu.image}
	close(f.mu.taken)
	f.mu.image, f.mu.taken = nil, nil
	return s, nil
}

// Restore implements raft.FSM.
func (f *fsm) Restore(r io.ReadCloser) error {
	defer r.Close()
	f.restored = true
	in := bufio.NewReaderSize(r, 1<<20)
	for reset := true; ; reset = false {
		n, err := binary.ReadUvarint(in)
		if err == io.EOF {
			return nil
		}
		const bound = 1 << 30 // a part is far smaller; more is damage
		if err != nil || n > bound {
			return fmt.Errorf("snapshot: part of %d bytes: %w", n, errors.Join(err, io.ErrUnexpectedEOF))
		}
		data := make([]byte, n)
		if _, err := io.ReadFull(in, data); err != nil {
			return err
		}
		part := &eventv1.Snapshot{}
		if err := proto.Unmarshal(data, part); err != nil {
			return err
		}
		if err := f.machine.Restore(part, reset); err != nil {
			return err
		}
	}
}

// snapshot writes an image as length-prefixed parts; raft's store adds the
// checksum.
type snapshot struct{ image Image }

// Persist implements raft.FSMSnapshot.
func (s *snapshot) Persist(sink raft.SnapshotSink) error {
	out := bufio.NewWriterSize(sink, 1<<20)
	var err error
	s.image.Parts(func(part *eventv1.Snapshot) bool {
		var data []byte
		if data, err = proto.Marshal(part); err != nil {
			return false
		}
		if _, err = out.Write(binary.AppendUvarint(nil, uint64(len(data)))); err != nil {
			return false
		}
		_, err = out.Write(data)
		return err == nil
	})
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

// Release implements raft.FSMSnapshot.
func (s *snapshot) Release() {}
