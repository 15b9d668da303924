// Package journal is the durable log of a cluster: hashicorp/raft over raft-wal,
// with one voter by default.
//
// An entry is one turn of the controller's loop: an eventv1.Batch, sealed with a
// checksum of ours, because the log verifies only its tail. [Journal.Append]
// returns when the entry is durable on a majority, which for one voter is one
// sync. [Open] replays: first the newest snapshot, then every entry behind it.
// After that the loop owns the state and the journal only records.
//
// What can go wrong, and what happens:
//
//   - a torn tail (a crash while writing): cut by raft-wal, reported by [Open];
//   - a damaged entry or snapshot in the middle: [Open] refuses with
//     [ErrDamaged], unless Options.Salvage, which cuts the log there and says in
//     Report what was lost;
//   - a full disk: [Journal.Free] lets the loop refuse submissions while there
//     is still room for what running jobs report; an Append that fails after all
//     is final ([ErrStopped]): the process must start again from disk.
//
// Snapshots are written beside the work, from an immutable image that the loop
// hands over between two turns.
package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"google.golang.org/protobuf/proto"
)

// ErrDamaged means that the log or a snapshot is damaged before its end.
var ErrDamaged = errors.New("the journal is damaged")

// ErrStopped means that the journal takes no more entries.
var ErrStopped = errors.New("the journal has stopped")

// Machine is the state that a journal restores. Its methods are called from one
// goroutine, and only while Open runs, or on a follower.
type Machine interface {
	// Restore takes one part of a snapshot; the first part of a snapshot has
	// reset set, and drops what there was.
	Restore(part *eventv1.Snapshot, reset bool) error
	// Replay takes one entry.
	Replay(batch *eventv1.Batch) error
}

// Image is an immutable picture of the state, yielded in parts.
type Image interface {
	Parts(yield func(*eventv1.Snapshot) bool)
}

// Options say where and how.
type Options struct {
	Dir     string       // StateSaveLocation; created 0700
	ID      string       // this controller's name, unique among the voters
	Salvage bool         // cut a damaged log instead of refusing
	Log     *slog.Logger // nil: slog.Default
	Peers   []Peer       // further voters; none: this one alone
	Bind    string       // with peers: host:port for the voters' connections
}

// Peer is another voter.
type Peer struct{ ID, Addr string }

// Report says what Open found.
type Report struct {
	Entries  uint64 // replayed
	Lost     uint64 // cut by Salvage
	Snapshot bool   // there was one
	Took     time.Duration
}

// Journal is an open journal. Append and Snapshot are for one goroutine.
type Journal struct {
	dir    string
	raft   *raft.Raft
	log    *wal.WAL
	meta   *metadb.BoltMetaDB
	lock   *os.File
	fsm    *fsm
	report Report
	since  uint64 // bytes appended since the last snapshot
	busy   chan struct{}
}

const (
	segmentBytes  = 16 << 20
	snapshotsKept = 2
	// trailing entries are kept behind a snapshot for followers that lag.
	trailing = 512
	// A voter that is alone needs no patience; with peers, raft's own values.
	loneTimeout = 20 * time.Millisecond
)

// Open opens or creates the journal and brings m to its last state.
func Open(o Options, m Machine) (*Journal, error) {
	const op = "journal.Open"
	start := time.Now()
	if o.Log == nil {
		o.Log = slog.Default()
	}
	dir := filepath.Join(o.Dir, "journal")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, errs.Newf(op, errs.Exhausted, "%v", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, errs.Newf(op, errs.Busy, "%v", err)
	}
	hlog := hclog.New(&hclog.LoggerOptions{Name: "journal", Level: hclog.Error, Output: slogWriter{o.Log}})
	meta := &metadb.BoltMetaDB{}
	logs, err := wal.Open(dir, wal.WithSegmentSize(segmentBytes), wal.WithLogger(hlog), wal.WithMetaStore(meta))
	if err != nil {
		lock.Close()
		return nil, errs.Newf(op, errs.Internal, "%w: %s: %v", ErrDamaged, dir, err)
	}
	j := &Journal{dir: dir, log: logs, meta: meta, lock: lock, fsm: &fsm{machine: m}, busy: make(chan struct{}, 1)}
	if j.report.Lost, err = verify(logs, o.Salvage); err != nil {
		j.release()
		return nil, errs.Newf(op, errs.Internal, "%w", err)
	}
	if err := j.start(o, hlog); err != nil {
		j.release()
		return nil, err
	}
	j.report.Entries, j.report.Snapshot, j.report.Took = j.fsm.replayed, j.fsm.restored, time.Since(start)
	return j, nil
}

// start runs raft until every entry was replayed and this voter leads.
func (j *Journal) start(o Options, hlog hclog.Logger) error {
	const op = "journal.Open"
	snaps, err := raft.NewFileSnapshotStoreWithLogger(j.dir, snapshotsKept, hlog)
	if err != nil {
		return errs.Newf(op, errs.Exhausted, "%v", err)
	}
	c := raft.DefaultConfig()
	c.LocalID, c.Logger = raft.ServerID(o.ID), hlog
	c.SnapshotInterval, c.SnapshotThreshold, c.TrailingLogs = time.Hour*24*365, 1<<62, trailing
	c.BatchApplyCh = true
	led := make(chan bool, 8)
	c.NotifyCh = led
	var trans raft.Transport
	addr := raft.ServerAddress(o.ID)
	if len(o.Peers) == 0 {
		c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = loneTimeout, loneTimeout, loneTimeout
		c.CommitTimeout = time.Millisecond
		_, trans = raft.NewInmemTransport(addr)
	} else {
		const conns, dialTimeout = 3, 10 * time.Second
		t, err := raft.NewTCPTransportWithLogger(o.Bind, nil, conns, dialTimeout, hlog)
		if err != nil {
			return errs.Newf(op, errs.Unavail, "%v", err)
		}
		trans, addr = t, t.LocalAddr()
	}
	known, err := raft.HasExistingState(j.log, j.log, snaps)
	if err != nil {
		return errs.Newf(op, errs.Internal, "%w: %v", ErrDamaged, err)
	}
	servers := []raft.Server{{ID: c.LocalID, Address: addr}}
	for _, p := range o.Peers {
		servers = append(servers, raft.Server{ID: raft.ServerID(p.ID), Address: raft.ServerAddress(p.Addr)})
	}
	if !known {
		if err := raft.BootstrapCluster(c, j.log, j.log, snaps, trans, raft.Configuration{Servers: servers}); err != nil {
			return errs.Newf(op, errs.Internal, "%v", err)
		}
	}
	if j.raft, err = raft.NewRaft(c, j.fsm, j.log, j.log, snaps, trans); err != nil {
		return errs.Newf(op, errs.Internal, "%w: %v", ErrDamaged, err)
	}
	if err := j.lead(led); err != nil {
		j.raft.Shutdown().Error()
		return errs.Newf(op, errs.Unavail, "%v", err)
	}
	if j.fsm.err != nil {
		j.raft.Shutdown().Error()
		return errs.Newf(op, errs.Internal, "%w: %v", ErrDamaged, j.fsm.err)
	}
	j.fsm.live.Store(true)
	return nil
}

// lead waits until this voter leads and every older entry was replayed.
func (j *Journal) lead(led <-chan bool) error {
	const patience = 60 * time.Second
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		select {
		case yes := <-led:
			if !yes {
				continue
			}
			return j.raft.Barrier(patience).Error()
		case <-timeout.C:
			return fmt.Errorf("no leader among the controllers within %v", patience)
		}
	}
}

// Report says what Open found.
func (j *Journal) Report() Report { return j.report }

// Term grows each time a controller takes the lead; orders to nodes carry it.
func (j *Journal) Term() uint64 { return j.raft.CurrentTerm() }

// Append makes a turn durable. After an error the journal is stopped.
func (j *Journal) Append(b *eventv1.Batch) error {
	data, err := seal(b)
	if err != nil {
		return errs.Newf("journal.Append", errs.Internal, "%v", err)
	}
	j.since += uint64(len(data))
	if err := j.raft.Apply(data, 0).Error(); err != nil {
		return errs.Newf("journal.Append", errs.Exhausted, "%w: %v", ErrStopped, err)
	}
	return nil
}

// SnapshotDue reports whether enough was appended to make a snapshot worth it.
func (j *Journal) SnapshotDue() bool {
	const enough = 24 << 20
	return j.since > enough && len(j.busy) == 0
}

// Snapshot hands over an image of the state after the last Append. It returns
// when raft has taken the image, which is at once; done gets the outcome of
// writing it.
func (j *Journal) Snapshot(img Image, done func(error)) {
	select {
	case j.busy <- struct{}{}:
	default:
		done(nil) // one is being written
		return
	}
	j.since = 0
	taken := make(chan struct{})
	j.fsm.offer(img, taken)
	go func() {
		err := j.raft.Snapshot().Error()
		if errors.Is(err, raft.ErrNothingNewToSnapshot) {
			err = nil
		}
		j.fsm.withdraw(taken)
		<-j.busy
		done(err)
	}()
	<-taken
}

// Free is the room left on the journal's file system, in bytes.
func (j *Journal) Free() (uint64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(j.dir, &st); err != nil {
		return 0, err
	}
	return st.Bavail * uint64(st.Bsize), nil
}

// Reserve is the room that is kept for what running jobs report: below it the
// loop takes no submissions.
const Reserve = 2 * segmentBytes

// Close stops the journal; what was appended stays.
func (j *Journal) Close() error {
	return errors.Join(j.raft.Shutdown().Error(), j.release())
}

func (j *Journal) release() error {
	return errors.Join(j.log.Close(), j.meta.Close(), j.lock.Close())
}

// lockDir keeps a second controller off the directory. The kernel drops the
// lock with the process, so none is ever stale.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s is in use by another controller", dir)
	}
	return f, nil
}

var table = crc32.MakeTable(crc32.Castagnoli)

const sumBytes = 4

// seal encodes a batch behind its checksum.
func seal(b *eventv1.Batch) ([]byte, error) {
	data, err := proto.MarshalOptions{}.MarshalAppend(make([]byte, sumBytes, sumBytes+proto.Size(b)), b)
	if err != nil {
		return nil, err
	}
	binary.LittleEndian.PutUint32(data, crc32.Checksum(data[sumBytes:], table))
	return data, nil
}

func sealed(data []byte) bool {
	return len(data) >= sumBytes && binary.LittleEndian.Uint32(data) == crc32.Checksum(data[sumBytes:], table)
}

func unseal(data []byte) (*eventv1.Batch, error) {
	if !sealed(data) {
		return nil, errors.New("wrong checksum")
	}
	b := &eventv1.Batch{}
	return b, proto.Unmarshal(data[sumBytes:], b)
}

// verify reads every entry. A damaged one is an error that names it, or with
// salvage the end of the log.
func verify(logs *wal.WAL, salvage bool) (lost uint64, err error) {
	first, err := logs.FirstIndex()
	if err != nil {
		return 0, fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	last, err := logs.LastIndex()
	if err != nil {
		return 0, fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	if first == 0 {
		return 0, nil
	}
	for i := first; i <= last; i++ {
		var l raft.Log
		err := logs.GetLog(i, &l)
		if err == nil && (l.Type != raft.LogCommand || sealed(l.Data)) {
			continue
		}
		if err == nil {
			err = errors.New("wrong checksum")
		}
		if !salvage {
			return 0, fmt.Errorf("%w: entry %d of %d to %d: %v (slurmctld -i cuts the log there, losing %d entries)", ErrDamaged, i, first, last, err, last-i+1)
		}
		if err := logs.DeleteRange(i, last); err != nil {
			return 0, fmt.Errorf("%w: cutting the log at entry %d: %v", ErrDamaged, i, err)
		}
		return last - i + 1, nil
	}
	return 0, nil
}

// slogWriter carries the library's lines into slog.
type slogWriter struct{ log *slog.Logger }

func (w slogWriter) Write(p []byte) (int, error) {
	w.log.Warn("journal library", "line", string(p))
	return len(p), nil
}

var _ io.Writer = slogWriter{}
