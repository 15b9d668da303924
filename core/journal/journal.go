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
//   - a torn tail (a crash while writing): cut, and told in the log and in Report;
//   - a damaged entry or snapshot in the middle: [Open] refuses with
//     [ErrDamaged], unless Options.Salvage, which cuts the log there and says in
//     Report what was lost;
//   - a full disk: [Journal.Free] lets the loop refuse submissions while there
//     is still room for what running jobs report; an Append that fails after all
//     is final ([ErrStopped]): the process must start again from disk.
//
// Snapshots are written beside the work, from an immutable image that the loop
// hands over between two turns.
//
// With a [Group] there are several voters, each with a directory of its own. One
// leads: its loop appends, and an entry is durable when most voters have it. The
// others replay what they are sent into their machine and wait in
// [Journal.Lead]. A voter that loses the lead may have applied a turn that never
// became durable, so it must drop its state and open the journal again; see
// [Journal.Lost].
package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
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

// ErrLost means that this voter no longer leads its group.
var ErrLost = errors.New("another controller leads")

// ErrFull means that the journal's file system has no room for another segment.
var ErrFull = errors.New("no space left for the journal")

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

// Imager is a Machine that a follower can take a picture of, between two calls
// of Replay. Without it a follower's log grows until it leads.
type Imager interface{ Image() Image }

// Image is an immutable picture of the state, yielded in parts.
type Image interface {
	Parts(yield func(*eventv1.Snapshot) bool)
}

// Options say where and how.
type Options struct {
	Dir     string       // StateSaveLocation; created 0700
	ID      string       // this controller's name, unique among the voters
	Salvage bool         // cut a damaged log instead of refusing
	Clear   bool         // begin anew: remove what there was
	Log     *slog.Logger // nil: slog.Default
	Group   *Group       // of several voters; nil: this one alone
}

// Report says what Open found.
type Report struct {
	Entries  uint64 // replayed
	Lost     uint64 // entries cut by Salvage
	Torn     int    // bytes that a crash left half written
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
	group  *Group
	slog   *slog.Logger
	led    chan bool     // what raft says of this voter's lead
	lost   chan struct{} // closed when the lead is lost
	opened time.Time
}

const (
	segmentBytes  = 16 << 20
	snapshotBytes = 24 << 20 // of entries make a snapshot worth it
	snapshotsKept = 2
	// trailing entries are kept behind a snapshot for followers that lag.
	trailing = 512
	// A voter that is alone needs no patience; with peers, raft's own values.
	loneTimeout = 20 * time.Millisecond
	leadCheck   = 250 * time.Millisecond
)

// Open opens or creates the journal and brings m to its last state. With a
// Group it returns at once, and m is up to date when [Journal.Lead] returns.
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
	if o.Clear {
		if err := clearDir(dir); err != nil {
			lock.Close()
			return nil, errs.Newf(op, errs.Exhausted, "%v", err)
		}
	}
	hlog := hclog.New(&hclog.LoggerOptions{Name: "journal", Level: hclog.Error, Output: slogWriter{o.Log}})
	meta := &metadb.BoltMetaDB{}
	tail := torn(dir)
	logs, err := wal.Open(dir, wal.WithSegmentSize(segmentBytes), wal.WithLogger(hlog), wal.WithMetaStore(meta))
	if err != nil {
		lock.Close()
		return nil, errs.Newf(op, errs.Internal, "%w: %s: %v", ErrDamaged, dir, err)
	}
	j := &Journal{dir: dir, log: logs, meta: meta, lock: lock, fsm: newFSM(m), busy: make(chan struct{}, 1),
		group: o.Group, slog: o.Log, led: make(chan bool, 8), lost: make(chan struct{}), opened: start}
	j.report.Torn = tail
	if tail > 0 {
		o.Log.Warn("the journal's tail was torn by a crash and is cut", "dir", dir, "bytes", tail)
	}
	if j.report.Lost, err = verifyLog(logs, o.Salvage); err != nil {
		j.release()
		return nil, errs.Newf(op, errs.Internal, "%w", err)
	}
	if err := j.start(o, hlog); err != nil {
		j.release()
		return nil, err
	}
	if o.Group != nil {
		return j, nil
	}
	if err := j.Lead(context.Background()); err != nil {
		return nil, errors.Join(err, j.Close())
	}
	return j, nil
}

// start runs raft; it does not wait until anything was replayed.
func (j *Journal) start(o Options, hlog hclog.Logger) error {
	const op = "journal.Open"
	snaps, err := raft.NewFileSnapshotStoreWithLogger(j.dir, snapshotsKept, hlog)
	if err != nil {
		return errs.Newf(op, errs.Exhausted, "%v", err)
	}
	lost, err := verifySnapshots(j.dir, snaps, j.log, o.Salvage)
	if err != nil {
		return errs.Newf(op, errs.Internal, "%w", err)
	}
	j.report.Lost += lost
	c := raft.DefaultConfig()
	c.LocalID, c.Logger = raft.ServerID(o.ID), hlog
	c.SnapshotInterval, c.SnapshotThreshold, c.TrailingLogs = time.Hour*24*365, 1<<62, trailing
	c.NotifyCh = j.led
	known, err := raft.HasExistingState(j.log, j.log, snaps)
	if err != nil {
		return errs.Newf(op, errs.Internal, "%w: %v", ErrDamaged, err)
	}
	var trans raft.Transport
	if o.Group == nil {
		c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = loneTimeout, loneTimeout, loneTimeout
		c.CommitTimeout = time.Millisecond
		_, trans = raft.NewInmemTransport(raft.ServerAddress(o.ID))
	} else {
		trans = o.Group.transport(o.ID, hlog)
		j.fsm.follow(j)
	}
	if !known && (o.Group == nil || o.Group.founder(o.ID)) {
		if err := raft.BootstrapCluster(c, j.log, j.log, snaps, trans, o.Group.voters(o.ID)); err != nil {
			return errs.Newf(op, errs.Internal, "%v", err)
		}
	}
	if j.raft, err = raft.NewRaft(c, j.fsm, j.log, j.log, snaps, trans); err != nil {
		return errs.Newf(op, errs.Internal, "%w: %v", ErrDamaged, err)
	}
	if o.Group != nil {
		return nil
	}
	servers := j.raft.GetConfiguration().Configuration().Servers
	if len(servers) > 1 {
		j.raft.Shutdown().Error() //nolint:errcheck // the reason is below
		return errs.Newf(op, errs.Invalid, "%s belongs to a group of %d controllers (%s): slurm.conf must name them in SlurmctldHost lines",
			j.dir, len(servers), names(servers))
	}
	if id := servers[0].ID; id != c.LocalID { // the host has another name now
		j.raft.Shutdown().Error() //nolint:errcheck // it has done nothing yet
		c.LocalID = id
		_, trans = raft.NewInmemTransport(servers[0].Address)
		if j.raft, err = raft.NewRaft(c, j.fsm, j.log, j.log, snaps, trans); err != nil {
			return errs.Newf(op, errs.Internal, "%w: %v", ErrDamaged, err)
		}
	}
	return nil
}

// Lead waits until this voter leads and every older entry was replayed; a lone
// one leads at once. After it the loop owns the state. An error other than
// ctx's is final.
func (j *Journal) Lead(ctx context.Context) error {
	const op = "journal.Lead"
	const patience = 60 * time.Second
	var timeout <-chan time.Time // alone, nobody else decides
	if j.group == nil {
		timeout = time.After(patience)
	}
	for leads := false; !leads; {
		select {
		case leads = <-j.led:
		case <-timeout:
			return errs.Newf(op, errs.Unavail, "raft has no leader after %v", patience)
		case <-j.fsm.broken():
			return errs.Newf(op, errs.Internal, "%w: %v", ErrDamaged, j.fsm.failure())
		case <-ctx.Done():
			return ctx.Err()
		}
		if !leads {
			continue
		}
		if err := j.raft.Barrier(patience).Error(); err != nil {
			leads = false // lost again; the next lead counts
			if j.group == nil {
				return errs.Newf(op, errs.Unavail, "%v", err)
			}
		}
	}
	if err := j.fsm.failure(); err != nil {
		return errs.Newf(op, errs.Internal, "%w: %v", ErrDamaged, err)
	}
	j.fsm.live.Store(true)
	j.report.Entries, j.report.Snapshot, j.report.Took = j.fsm.replayed, j.fsm.restored, time.Since(j.opened)
	if j.group != nil {
		j.watchVoters()
		go j.watchLead()
		go j.group.reconcile(j.raft)
	}
	return nil
}

// watchVoters logs, of a leader, when another voter falls silent and when it
// answers again.
func (j *Journal) watchVoters() {
	silent := map[raft.ServerID]bool{}
	var mu sync.Mutex
	j.raft.RegisterObserver(raft.NewObserver(nil, false, func(o *raft.Observation) bool {
		mu.Lock()
		defer mu.Unlock()
		switch v := o.Data.(type) {
		case raft.FailedHeartbeatObservation:
			if !silent[v.PeerID] {
				silent[v.PeerID] = true
				j.slog.Warn("a controller does not answer", "controller", v.PeerID)
			}
		case raft.ResumedHeartbeatObservation:
			if silent[v.PeerID] {
				delete(silent, v.PeerID)
				j.slog.Info("a controller answers again", "controller", v.PeerID)
			}
		}
		return false
	}))
}

// watchLead tells when the lead is lost, which raft does at the latest when it
// shuts down.
func (j *Journal) watchLead() {
	tick := time.NewTicker(leadCheck)
	defer tick.Stop()
	for {
		select {
		case leads := <-j.led:
			if leads {
				continue
			}
		case <-tick.C:
			if j.raft.State() == raft.Leader {
				continue
			}
		}
		close(j.lost)
		return
	}
}

// Lost is closed when this voter no longer leads; never for a lone one.
func (j *Journal) Lost() <-chan struct{} { return j.lost }

// Leader is the name of the voter that leads, empty while there is none.
func (j *Journal) Leader() string {
	_, id := j.raft.LeaderWithID()
	return string(id)
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
	err = j.raft.Apply(data, 0).Error()
	if err == nil {
		return nil
	}
	if j.group != nil && (errors.Is(err, raft.ErrLeadershipLost) || errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrLeadershipTransferInProgress)) {
		return errs.Newf("journal.Append", errs.Unavail, "%w: %v", ErrLost, err)
	}
	if free, ferr := j.Free(); ferr == nil && free < segmentBytes {
		return errs.Newf("journal.Append", errs.Exhausted, "%w: %w: %d MiB are free at %s: %v", ErrStopped, ErrFull, free>>20, j.dir, err)
	}
	return errs.Newf("journal.Append", errs.Exhausted, "%w: %v", ErrStopped, err)
}

// SnapshotDue reports whether enough was appended to make a snapshot worth it.
func (j *Journal) SnapshotDue() bool {
	return j.since > snapshotBytes && len(j.busy) == 0
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

// Close stops the journal; what was appended stays. A leader hands the lead over
// first.
func (j *Journal) Close() error {
	if j.group != nil && j.raft.State() == raft.Leader {
		j.raft.LeadershipTransfer().Error() //nolint:errcheck // else the others elect in a second
	}
	return errors.Join(j.raft.Shutdown().Error(), j.release())
}

func (j *Journal) release() error {
	return errors.Join(j.log.Close(), j.meta.Close(), j.lock.Close())
}

// clearDir empties a locked directory.
func clearDir(dir string) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.Name() != lockName {
			if err := os.RemoveAll(filepath.Join(dir, f.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

const lockName = "lock"

// A controller that was just killed may hold its lock a moment longer: until the
// kernel is done with it, or with a process that it was starting.
const (
	lockTries = 20
	lockPause = 50 * time.Millisecond
)

// lockDir keeps a second controller off the directory. The kernel drops the
// lock with the process, so none is ever stale.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for range lockTries {
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			return f, nil
		}
		time.Sleep(lockPause)
	}
	f.Close()
	return nil, fmt.Errorf("%s is in use by another controller", dir)
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

// slogWriter carries the library's lines into slog. Those about voters that do
// not answer come several times a second; see [Journal.watchVoters] instead.
type slogWriter struct{ log *slog.Logger }

func (w slogWriter) Write(p []byte) (int, error) {
	level := slog.LevelWarn
	for _, often := range []string{"failed to heartbeat", "failed to appendEntries", "failed to make requestVote", "failed to decode incoming", "failed to pipeline"} {
		if bytes.Contains(p, []byte(often)) {
			level = slog.LevelDebug
		}
	}
	w.log.Log(context.Background(), level, "journal library", "line", string(bytes.TrimSpace(p)))
	return len(p), nil
}

var _ io.Writer = slogWriter{}
