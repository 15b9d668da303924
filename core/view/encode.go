package view

import (
	"cmp"
	"slices"

	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wire"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// FrameSize is about how many bytes a message of a listing has.
const FrameSize = 256 << 10

// Field numbers of sdk/proto/ctl/v1 and wlm/v1; a test compares them with the
// generated code.
const (
	replyJobs  = 1 // JobsReply
	replyNow   = 2
	infoJob    = 1 // JobInfo
	infoLook   = 2
	infoNodes  = 3
	lookReason = 1 // Outlook
	lookText   = 2
	lookStart  = 3
	lookNodes  = 4
	lookRank   = 5
	lookWords  = 6
)

// A Sink takes the messages of a listing as bytes.
type Sink interface {
	// Buffer returns an empty slice to append to, with room for FrameSize.
	Buffer() []byte
	// Send takes a message, which is its own from then on.
	Send(frame []byte) error
}

// Query is what a listing shows.
type Query struct {
	Filter *ctlv1.JobFilter
	Whole  bool     // everything, as scontrol needs; else what lists show
	Now    wlm.Time // for the replies
	// Keep, if not nil, is the last word on each job that the filter selects:
	// what the caller may see.
	Keep func(*wlm.Job) bool
	// Decorate, if not nil, may add to the message of each job of a whole
	// listing what depends on who asks.
	Decorate func(*wlm.Job, *ctlv1.JobInfo)
}

// List sends the jobs that a query selects as encoded ctlv1.JobsReply messages,
// in id order; at least one message, even without jobs. missing lists
// references to nothing.
func (v *View) List(q Query, sink Sink) (missing []*ctlv1.JobRef, err error) {
	w := &writer{sink: sink, now: q.Now, looks: *v.outlooks.Load(), query: q}
	if len(q.Filter.GetRefs()) > 0 {
		found, missing, err := v.Find(q.Filter)
		if err != nil {
			return nil, err
		}
		slices.SortStableFunc(found, func(a, b cluster.Match) int { return cmp.Compare(a.Job.ID, b.Job.ID) })
		for i, m := range found {
			if i > 0 && m.Job == found[i-1].Job && m.Tasks == nil || q.Keep != nil && !q.Keep(m.Job) {
				continue
			}
			j := m.Job
			if m.Tasks != nil {
				j = j.Clone()
				j.ArrayTasks = m.Tasks
			}
			if err := w.add(j, nil); err != nil {
				return nil, err
			}
		}
		return missing, w.end()
	}
	matches, err := cluster.Matcher(q.Filter)
	if err != nil {
		return nil, badFilter(err)
	}
	for _, c := range v.jobs() {
		for i, j := range c.jobs {
			if !matches(j) || q.Keep != nil && !q.Keep(j) {
				continue
			}
			if err := w.add(j, &c.lean[i]); err != nil {
				return nil, err
			}
		}
	}
	return nil, w.end()
}

// writer makes the messages of one listing.
type writer struct {
	sink  Sink
	query Query
	now   wlm.Time
	looks map[wlm.JobID]*wlm.Outlook
	buf   []byte
	sent  bool
}

// add appends a job. e is where its lean form is kept, nil for nowhere.
func (w *writer) add(j *wlm.Job, e *encoding) error {
	if w.buf == nil {
		w.buf = w.sink.Buffer()
	}
	look := outlookOf(w.looks, j)
	if w.query.Whole {
		info := infoOf(j, look)
		if w.query.Decorate != nil {
			w.query.Decorate(j, info)
		}
		w.buf = protowire.AppendTag(w.buf, replyJobs, protowire.BytesType)
		w.buf = protowire.AppendVarint(w.buf, uint64(proto.Size(info)))
		var err error
		if w.buf, err = (proto.MarshalOptions{UseCachedSize: true}).MarshalAppend(w.buf, info); err != nil {
			return err
		}
	} else {
		lean, err := leanOf(j, e)
		if err != nil {
			return err
		}
		size := len(lean)
		ls := lookSize(look)
		if look != nil {
			size += protowire.SizeTag(infoLook) + protowire.SizeBytes(ls)
		}
		w.buf = protowire.AppendTag(w.buf, replyJobs, protowire.BytesType)
		w.buf = protowire.AppendVarint(w.buf, uint64(size))
		w.buf = append(w.buf, lean...)
		if look != nil {
			w.buf = protowire.AppendTag(w.buf, infoLook, protowire.BytesType)
			w.buf = protowire.AppendVarint(w.buf, uint64(ls))
			w.buf = appendLook(w.buf, look)
		}
	}
	const slack = 4 << 10 // most jobs fit in what is left
	if len(w.buf) < FrameSize-slack {
		return nil
	}
	return w.flush()
}

func (w *writer) flush() error {
	b := protowire.AppendTag(w.buf, replyNow, protowire.VarintType)
	b = protowire.AppendVarint(b, uint64(w.now))
	w.buf, w.sent = nil, true
	return w.sink.Send(b)
}

func (w *writer) end() error {
	if w.buf == nil {
		if w.sent {
			return nil
		}
		w.buf = w.sink.Buffer()
	}
	return w.flush()
}

// Info returns a job as readers see it, whole.
func (v *View) Info(j *wlm.Job) *ctlv1.JobInfo { return infoOf(j, v.Outlook(j)) }

// LeanInfo returns a job as lists show it.
func (v *View) LeanInfo(j *wlm.Job) *ctlv1.JobInfo { return infoOf(leanJob(j), v.Outlook(j)) }

func infoOf(j *wlm.Job, look *wlm.Outlook) *ctlv1.JobInfo {
	info := &ctlv1.JobInfo{Job: wire.JobToWire(j), Outlook: wire.OutlookToWire(look)}
	if j.Alloc != nil {
		info.Nodelist = j.Alloc.NodeList
	}
	return info
}

// leanOf returns the job and the node list of a lean JobInfo, encoded; the
// outlook, which changes with every pass, is put behind it.
func leanOf(j *wlm.Job, e *encoding) ([]byte, error) {
	if e != nil {
		if b := e.Load(); b != nil {
			return *b, nil
		}
	}
	info := &ctlv1.JobInfo{Job: wire.JobToWire(leanJob(j))}
	if j.Alloc != nil {
		info.Nodelist = j.Alloc.NodeList
	}
	b, err := proto.Marshal(info)
	if err == nil && e != nil {
		e.Store(&b)
	}
	return b, err
}

// leanJob leaves out what lists do not show: what the tasks need, the shares of
// each node, and content keys.
func leanJob(j *wlm.Job) *wlm.Job {
	n := *j
	s := *j.Spec
	n.Spec = &s
	n.Alloc, n.Script, n.Env, n.Cleaning = nil, nil, nil, nil
	if len(s.Argv) > 1 {
		s.Argv = s.Argv[:1:1]
	}
	s.WorkDir, s.StdIn, s.StdOut, s.StdErr = "", "", "", ""
	s.Umask, s.Limits, s.ExportEnv, s.SubmitLine, s.AllocSID, s.Options = 0, nil, "", "", 0, nil
	s.CPUBind, s.MemBind, s.AcctFreq, s.Profile, s.Container = "", "", "", "", ""
	s.MailType, s.MailUser, s.Extra, s.AdminNote, s.SystemNote = "", "", "", "", ""
	if s.Kind == wlm.KindBatch {
		s.AllocNode, s.Argv = "", nil
	}
	return &n
}

// lookSize is the size of an outlook as lists show it: without its text.
func lookSize(o *wlm.Outlook) (n int) {
	if o == nil {
		return 0
	}
	number := func(v uint64) {
		if v != 0 {
			n += 1 + protowire.SizeVarint(v)
		}
	}
	number(uint64(o.Reason))
	number(uint64(o.Start))
	number(uint64(o.Rank))
	for _, text := range [2]string{o.Nodes, o.Words} {
		if text != "" {
			n += 1 + protowire.SizeBytes(len(text))
		}
	}
	return n
}

func appendLook(b []byte, o *wlm.Outlook) []byte {
	number := func(field protowire.Number, v uint64) {
		if v != 0 {
			b = protowire.AppendTag(b, field, protowire.VarintType)
			b = protowire.AppendVarint(b, v)
		}
	}
	number(lookReason, uint64(o.Reason))
	number(lookStart, uint64(o.Start))
	if o.Nodes != "" {
		b = protowire.AppendTag(b, lookNodes, protowire.BytesType)
		b = protowire.AppendString(b, o.Nodes)
	}
	number(lookRank, uint64(o.Rank))
	if o.Words != "" {
		b = protowire.AppendTag(b, lookWords, protowire.BytesType)
		b = protowire.AppendString(b, o.Words)
	}
	return b
}
