package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

// Frames of a raft-wal segment, as its package segment documents them: a header
// of eight bytes (kind, three reserved, length or checksum), then the payload,
// padded to eight bytes. A commit's checksum is of all bytes since the last.
const (
	segmentHeader = 32
	frameHeader   = 8
	frameEntry    = 1
	frameIndex    = 2
	frameCommit   = 3
)

// torn measures what a crash left half written at the end of the newest
// segment: bytes behind the last whole commit, which raft-wal cuts without a
// word. 0 when there are none, or no segment.
func torn(dir string) int {
	files, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil || len(files) == 0 {
		return 0
	}
	slices.Sort(files)
	data, err := os.ReadFile(files[len(files)-1])
	if err != nil || len(data) < segmentHeader {
		return 0
	}
	good, start, commits := 0, 0, 0
	var whole bool
	for at := segmentHeader; at+frameHeader <= len(data); {
		kind, value := data[at], binary.LittleEndian.Uint32(data[at+4:])
		if kind != frameEntry && kind != frameIndex && kind != frameCommit {
			break
		}
		next := at + frameHeader
		if kind == frameCommit {
			whole = crc32.Checksum(data[start:at], table) == value
			if whole || commits == 0 {
				good = next
			}
			start, commits = next, commits+1
		} else {
			next += (int(value) + frameHeader - 1) / frameHeader * frameHeader
		}
		at = next
	}
	last := len(data)
	for last > good && data[last-1] == 0 {
		last--
	}
	return last - good
}

// verifyLog reads every entry. A damaged one is an error that names it, or with
// salvage the end of the log.
func verifyLog(logs *wal.WAL, salvage bool) (lost uint64, err error) {
	first, last, err := bounds(logs)
	if err != nil || first == 0 {
		return 0, err
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

func bounds(logs *wal.WAL) (first, last uint64, err error) {
	if first, err = logs.FirstIndex(); err == nil {
		last, err = logs.LastIndex()
	}
	if err != nil {
		return 0, 0, fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	return first, last, nil
}

// verifySnapshots reads the newest snapshot. A damaged one is an error that
// names it. With salvage it is removed, the one before serves, and the part of
// the log that does not follow on it goes too.
func verifySnapshots(dir string, snaps *raft.FileSnapshotStore, logs *wal.WAL, salvage bool) (lost uint64, err error) {
	for {
		list, err := snaps.List()
		if err != nil {
			return lost, fmt.Errorf("%w: snapshots: %v", ErrDamaged, err)
		}
		if len(list) == 0 {
			return lost, nil
		}
		_, in, err := snaps.Open(list[0].ID)
		if err == nil {
			in.Close() //nolint:errcheck // it was only read
			return lost, nil
		}
		if !salvage {
			return 0, fmt.Errorf("%w: snapshot %s: %v (slurmctld -i goes back to the one before, and to what of the log follows on it)", ErrDamaged, list[0].ID, err)
		}
		if err := os.RemoveAll(filepath.Join(dir, "snapshots", list[0].ID)); err != nil {
			return lost, err
		}
		base := uint64(0)
		if len(list) > 1 {
			base = list[1].Index
		}
		first, last, err := bounds(logs)
		if err != nil {
			return lost, err
		}
		if first > base+1 { // the entries between are gone with the snapshot
			if err := logs.DeleteRange(first, last); err != nil {
				return lost, fmt.Errorf("%w: cutting the log: %v", ErrDamaged, err)
			}
			lost += list[0].Index - base + (last - first + 1)
		}
	}
}
