package agent

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"google.golang.org/protobuf/proto"
)

// The spool of a node:
//
//	reports        what the controller has not acknowledged
//	jobs/<id>      a run that this node is the first node of, and its steps
//	<id>.<step>/   steps that run here; the launcher's
//	cred.key       the step manager's private key
//	controller.pub the key that job credentials are verified with
//
// Logs are records of a length, a checksum and a payload whose first byte is
// its kind. A torn tail, which a crash leaves, is cut; what follows a damaged
// record cannot be told from a tail and is cut as well, with a warning.

// The kinds of a record.
const (
	recReport  = 'R' // a nodev1.Report
	recAck     = 'A' // 8 bytes: reports up to this number are acknowledged
	recStart   = 'S' // a nodev1.StartJob without script and environment
	recRequest = 'Q' // a nodev1.CreateStepRequest; its grant follows
	recGrant   = 'G' // a nodev1.CreateStepReply
	recEnded   = 'E' // 4 bytes: a step that ended
)

const recordHeader = 8

// maxRecord bounds what a damaged length can claim.
const maxRecord = 64 << 20

func appendRecord(b []byte, kind byte, payload []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)+1))
	sum := crc32.Update(crc32.ChecksumIEEE([]byte{kind}), crc32.IEEETable, payload)
	b = binary.BigEndian.AppendUint32(b, sum)
	b = append(b, kind)
	return append(b, payload...)
}

// readRecords calls yield for each whole record of a log, and returns the
// length of what is whole.
func readRecords(b []byte, yield func(kind byte, payload []byte) error) (whole int, err error) {
	for len(b)-whole >= recordHeader {
		rest := b[whole:]
		n := int(binary.BigEndian.Uint32(rest))
		if n < 1 || n > maxRecord || len(rest) < recordHeader+n {
			return whole, nil
		}
		body := rest[recordHeader : recordHeader+n]
		if crc32.ChecksumIEEE(body) != binary.BigEndian.Uint32(rest[4:]) {
			return whole, nil
		}
		if err := yield(body[0], body[1:]); err != nil {
			return whole, err
		}
		whole += recordHeader + n
	}
	return whole, nil
}

// compactAt is the size at which a report log is written anew.
const compactAt = 4 << 20

// reportLog keeps reports until they are acknowledged. One goroutine writes:
// whatever is waiting, with one sync.
type reportLog struct {
	path string
	log  *slog.Logger
	f    *os.File
	size int  // of what is whole
	torn bool // the file has more than that

	mu      sync.Mutex // guards all below
	queue   []logged
	acked   uint64
	ackTold uint64 // the newest ack that is in the file
	live    []*nodev1.Report
	wake    chan struct{}
	done    chan struct{}
	closed  bool
}

// logged is a report on its way to the disk, and what follows.
type logged struct {
	r    *nodev1.Report
	then func()
}

// openReports opens the log at path and returns what was not acknowledged.
func openReports(path string, log *slog.Logger) (*reportLog, error) {
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l := &reportLog{path: path, log: log, wake: make(chan struct{}, 1), done: make(chan struct{})}
	whole, err := readRecords(b, func(kind byte, p []byte) error {
		switch kind {
		case recReport:
			r := new(nodev1.Report)
			if err := proto.Unmarshal(p, r); err != nil {
				return err
			}
			if n := len(l.live); n == 0 || r.GetNumber() > l.live[n-1].GetNumber() {
				l.live = append(l.live, r)
			}
		case recAck:
			if len(p) == 8 {
				l.acked = max(l.acked, binary.BigEndian.Uint64(p))
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if whole < len(b) {
		log.Warn("cut the torn end of the report log", "path", path, "bytes", len(b)-whole)
	}
	l.dropAckedLocked()
	if err := l.rewrite(); err != nil {
		return nil, err
	}
	go l.write()
	return l, nil
}

// last is the highest number that a report of this node ever had, as far as is
// known. A number is not given again: what comes behind an acknowledgement is
// not acknowledged by it.
func (l *reportLog) last() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.acked
	if len(l.live) > 0 {
		n = max(n, l.live[len(l.live)-1].GetNumber())
	}
	return n
}

// unacked returns the reports that the controller has not acknowledged.
func (l *reportLog) unacked() []*nodev1.Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*nodev1.Report(nil), l.live...)
}

// add queues a report; then is called, on the log's goroutine, once it is on
// disk or acknowledged.
func (l *reportLog) add(r *nodev1.Report, then func()) {
	l.mu.Lock()
	l.live = append(l.live, r)
	l.queue = append(l.queue, logged{r, then})
	l.mu.Unlock()
	l.signal()
}

// ack drops reports up to a number.
func (l *reportLog) ack(upto uint64) {
	l.mu.Lock()
	l.acked = max(l.acked, upto)
	l.dropAckedLocked()
	l.mu.Unlock()
}

func (l *reportLog) dropAckedLocked() {
	i := 0
	for i < len(l.live) && l.live[i].GetNumber() <= l.acked {
		i++
	}
	l.live = l.live[i:]
}

func (l *reportLog) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// retryAfter is how long reports wait that a full disk did not take.
const retryAfter = time.Second

func (l *reportLog) write() {
	defer close(l.done)
	var held []logged // neither on disk nor acknowledged
	failing := false
	for range l.wake {
		l.mu.Lock()
		held = append(held, l.queue...)
		acked, told, closed := l.acked, l.ackTold, l.closed
		l.queue = nil
		l.mu.Unlock()
		err := l.keep(held, acked, told)
		if err != nil && !failing {
			// They are in memory and are sent; until they are acknowledged or on
			// disk, what they tell of is not forgotten.
			l.log.Error("reports are not on disk", "path", l.path, "err", err)
		}
		failing = err != nil
		rest := held[:0:0]
		for _, q := range held {
			switch {
			case err != nil && q.r.GetNumber() > acked:
				rest = append(rest, q)
			case q.then != nil:
				q.then()
			}
		}
		held = rest
		if closed {
			l.f.Close()
			return
		}
		if failing {
			time.AfterFunc(retryAfter, l.signal)
		}
	}
}

// keep puts on disk what is not acknowledged, with the newest acknowledgement.
func (l *reportLog) keep(batch []logged, acked, told uint64) error {
	var b []byte
	if acked > told {
		b = appendRecord(b, recAck, binary.BigEndian.AppendUint64(nil, acked))
	}
	for _, q := range batch {
		if q.r.GetNumber() <= acked {
			continue
		}
		if p, err := proto.Marshal(q.r); err == nil {
			b = appendRecord(b, recReport, p)
		}
	}
	if len(b) == 0 {
		return nil
	}
	if err := l.flush(b); err != nil {
		return err
	}
	l.mu.Lock()
	l.ackTold = acked
	l.mu.Unlock()
	return nil
}

// flush appends whole records or nothing: what follows half a record is lost.
func (l *reportLog) flush(b []byte) error {
	if l.torn {
		if err := l.rewrite(); err != nil {
			return err
		}
	}
	_, err := l.f.Write(b)
	if err == nil {
		err = l.f.Sync()
	}
	if err != nil {
		l.torn = l.f.Truncate(int64(l.size)) != nil
		return err
	}
	l.size += len(b)
	if l.size > compactAt {
		if err := l.rewrite(); err != nil {
			l.log.Warn("the report log is not written anew", "path", l.path, "err", err)
		}
	}
	return nil
}

// rewrite writes the log anew with what is not acknowledged.
func (l *reportLog) rewrite() error {
	l.mu.Lock()
	var b []byte
	if l.acked > 0 {
		b = appendRecord(b, recAck, binary.BigEndian.AppendUint64(nil, l.acked))
	}
	for _, r := range l.live {
		p, err := proto.Marshal(r)
		if err != nil {
			l.mu.Unlock()
			return err
		}
		b = appendRecord(b, recReport, p)
	}
	l.mu.Unlock()
	if err := writeFile(l.path, b); err != nil {
		return err
	}
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if l.f != nil {
		l.f.Close()
	}
	l.f, l.size, l.torn = f, len(b), false
	return nil
}

// close writes what is queued and ends the log's goroutine.
func (l *reportLog) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.signal()
	<-l.done
}

// writeFile replaces a file as a whole, durably.
func writeFile(path string, b []byte) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		os.Remove(tmp) // it may be what fills the disk
		return err
	}
	return os.Rename(tmp, path)
}

// jobLog is the file of one run: its start, and its steps' grants and ends. It
// is not synced: it matters after the daemon was killed, not after the machine
// was, with which the job ended.
type jobLog struct{ path string }

func (l jobLog) append(create bool, records []byte) error {
	flags := os.O_WRONLY | os.O_APPEND
	if create {
		flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(l.path, flags, 0o600)
	if err != nil {
		return err
	}
	n, err := f.Write(records)
	if err != nil && n > 0 { // what follows half a record is lost
		if st, serr := f.Stat(); serr == nil {
			f.Truncate(st.Size() - int64(n))
		}
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

func (l jobLog) remove() { os.Remove(l.path) }

// savedRun is what a job's file says.
type savedRun struct {
	start  *nodev1.StartJob
	grants []savedGrant // not ended
	next   wlm.StepID
}

type savedGrant struct {
	request *nodev1.CreateStepRequest
	reply   *nodev1.CreateStepReply
}

// readJob reads the file of a run; nil when it does not even hold the start.
func readJob(path string) (*savedRun, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	s := &savedRun{}
	var request *nodev1.CreateStepRequest
	_, err = readRecords(b, func(kind byte, p []byte) error {
		switch kind {
		case recStart:
			s.start = new(nodev1.StartJob)
			return proto.Unmarshal(p, s.start)
		case recRequest:
			request = new(nodev1.CreateStepRequest)
			return proto.Unmarshal(p, request)
		case recGrant:
			g := savedGrant{request: request, reply: new(nodev1.CreateStepReply)}
			if err := proto.Unmarshal(p, g.reply); err != nil {
				return err
			}
			if id := wlm.StepID(g.reply.GetStep()); id < wlm.StepInteractive {
				s.next = max(s.next, id+1)
			}
			s.grants = append(s.grants, g)
		case recEnded:
			for i, g := range s.grants {
				if len(p) == 4 && g.reply.GetStep() == binary.BigEndian.Uint32(p) {
					s.grants = append(s.grants[:i], s.grants[i+1:]...)
					break
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if s.start == nil {
		return nil, nil
	}
	return s, nil
}

// readJobs reads all runs of a spool. Files that cannot be read are removed,
// with a warning: the controller starts such jobs again, or ends them.
func readJobs(dir string, log *slog.Logger) (out []*savedRun, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if _, err := strconv.ParseUint(e.Name(), 10, 32); err != nil {
			continue
		}
		s, err := readJob(path)
		if err != nil || s == nil {
			log.Warn("removed the unreadable file of a job", "path", path, "err", err)
			os.Remove(path)
			continue
		}
		out = append(out, s)
	}
	return out, nil
}

// saveIfNew writes a file when its content differs.
func saveIfNew(path string, b []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, b) {
		return nil
	}
	return writeFile(path, b)
}
