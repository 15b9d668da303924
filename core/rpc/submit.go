package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-hpc/sluice/core/auth"
	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/jobsubmit"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wire"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

const maxKey = 256 // bytes of an idempotency key

// Submit implements ctlv1.ControllerServer.
func (s *Server) Submit(ctx context.Context, r *ctlv1.SubmitRequest) (*ctlv1.SubmitReply, error) {
	const op = "rpc.Submit"
	s.pacer.submits.Add(1)
	id := auth.From(ctx)
	if r.GetSpec() == nil {
		return nil, errs.Newf(op, errs.Invalid, "the submission has no job in it")
	}
	spec := wire.SpecOfWire(r.GetSpec())
	own, err := identify(op, spec, id)
	if err != nil {
		return nil, err
	}
	if spec.Kind == wlm.KindBatch {
		if err := checkScript(op, r.GetScript()); err != nil {
			return nil, err
		}
	}
	env, err := joinEnv(op, r.GetEnv())
	if err != nil {
		return nil, err
	}
	if len(r.GetKey()) > maxKey {
		return nil, errs.Newf(op, errs.Invalid, "the submission's key has %d bytes, at most %d are allowed", len(r.GetKey()), maxKey)
	}
	q := &jobsubmit.Request{Spec: spec, Script: r.GetScript(), Env: r.GetEnv(), Caller: id.UID}
	messages, err := s.filterSubmit(ctx, q)
	if err != nil {
		return nil, err
	}
	if !slices.Equal(q.Env, r.GetEnv()) {
		if env, err = joinEnv(op, q.Env); err != nil {
			return nil, err
		}
	}
	own.put(spec)
	cmd := &cluster.Submit{Spec: spec, Script: r.GetScript(), Env: env, Caller: s.member(ctx), TestOnly: r.GetTestOnly()}
	if r.GetKey() != "" {
		// A key is its user's own: nobody can guess his way to another's job.
		cmd.Key = strconv.FormatUint(uint64(id.UID), 10) + ":" + r.GetKey()
	}
	got, err := s.deps.Loop.Do(ctx, cmd)
	if err != nil {
		return nil, err
	}
	j := got.(*cluster.SubmitReply).Job
	reply := &ctlv1.SubmitReply{JobId: uint32(j.ID), Messages: messages}
	switch {
	case cmd.TestOnly:
		reply.Forecast, err = s.forecast(ctx, j)
	case spec.Kind != wlm.KindBatch:
		j = s.firstAnswer(ctx, j)
		reply.Job = s.info(ctx, j)
	}
	return reply, err
}

// firstAnswer waits a moment for the pass that a new allocation wakes, so that
// one which starts at once needs no second call, and its user no message.
func (s *Server) firstAnswer(ctx context.Context, j *wlm.Job) *wlm.Job {
	const moment = 100 * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, moment)
	defer cancel()
	w, err := s.deps.View.WatchJob(j.ID)
	if err != nil {
		return j
	}
	defer w.Close()
	for j.State == wlm.Pending && j.Reason == wlm.ReasonNone && s.deps.View.Outlook(j) == nil {
		changed, over, err := w.Next(ctx)
		if err != nil || over && len(changed) == 0 {
			return j
		}
		for _, c := range changed {
			if c.ID == j.ID {
				j = c
			}
		}
	}
	return j
}

// proven is whose job it is.
type proven struct {
	uid         wlm.UID
	gid         wlm.GID
	user, group string
}

func (p *proven) put(s *wlm.Spec) {
	s.User, s.Group, s.UserName, s.GroupName = p.uid, p.gid, p.user, p.group
}

// identify decides for whom a job is. Everybody submits for himself, in one of
// his groups. Root and SlurmUser may name somebody else; operators may not, for
// a job of root's would make them root.
func identify(op string, spec *wlm.Spec, id *auth.Identity) (*proven, error) {
	p := &proven{uid: id.UID, gid: id.GID, user: id.User}
	if spec.User != id.UID {
		if !trusted(id) {
			return nil, errs.Coded(op, errs.UserIDMissing).With("--uid=%d: only root and SlurmUser submit for others", spec.User)
		}
		a, err := auth.LookupUser(strconv.FormatUint(uint64(spec.User), 10))
		if err != nil {
			return nil, errs.Coded(op, errs.UserIDMissing).With("--uid=%d: the controller's host knows no such user", spec.User)
		}
		p.uid, p.gid, p.user = a.UID, a.GID, a.Name
	}
	if g := spec.Group; g != p.gid && (g != 0 || spec.GroupName != "") {
		if !trusted(id) && !slices.Contains(id.GIDs, g) && !slices.Contains(auth.Groups(p.user, p.gid), g) {
			return nil, errs.Coded(op, errs.AccessDenied).With("--gid=%d: user %s is not in that group", g, p.user)
		}
		p.gid = g
	}
	p.group = auth.GroupName(p.gid)
	return p, nil
}

// trusted reports whether an identity may act as anybody.
func trusted(id *auth.Identity) bool { return id.Role >= auth.RoleSlurmUser }

// checkScript refuses what the kernel would not start.
func checkScript(op string, script []byte) error {
	switch {
	case len(script) == 0:
		return errs.Coded(op, errs.JobScriptMissing, "Batch script is empty!")
	case !bytes.HasPrefix(script, []byte("#!")):
		return errs.Coded(op, errs.SubmitRefused, "This does not look like a batch script.  The first",
			"line must start with #! followed by the path to an interpreter.", "For instance: #!/bin/sh")
	case bytes.IndexByte(script, 0) >= 0:
		return errs.Coded(op, errs.SubmitRefused, "The script contains the NULL character.")
	case bytes.Contains(script, []byte("\r\n")):
		return errs.Coded(op, errs.SubmitRefused, `Batch script contains DOS line breaks (\r\n)`,
			`instead of expected UNIX line breaks (\n).`)
	}
	return nil
}

// joinEnv makes one blob of an environment.
func joinEnv(op string, env []string) ([]byte, error) {
	n := 0
	for _, e := range env {
		n += len(e) + 1
	}
	if n == 0 {
		return nil, nil
	}
	b := make([]byte, 0, n)
	for _, e := range env {
		if strings.IndexByte(e, '=') <= 0 || strings.IndexByte(e, 0) >= 0 {
			const show = 40
			return nil, errs.Newf(op, errs.Invalid, "environment: %.*q is not NAME=value", show, e)
		}
		b = append(append(b, e...), 0)
	}
	return b, nil
}

// filterSubmit asks the job_submit plugins in order. A refusal ends it.
func (s *Server) filterSubmit(ctx context.Context, q *jobsubmit.Request) (messages []string, err error) {
	if s.deps.Filters == nil {
		return nil, nil
	}
	for _, f := range s.deps.Filters() {
		m, err := s.filter(ctx, f, q, f.Submit)
		if messages = append(messages, m...); err != nil {
			return nil, withMessages(err, messages)
		}
	}
	return messages, nil
}

// filter asks one plugin. What it has not answered within its time, or after a
// second try because its process ended, is refused: rules that a crash could
// switch off would be none. A site that thinks otherwise of a plugin says
// on_failure=accept, and the request passes as it was before that plugin.
func (s *Server) filter(ctx context.Context, f Filter, q *jobsubmit.Request,
	ask func(context.Context, *jobsubmit.Request) ([]string, error)) ([]string, error) {
	limit := f.Timeout
	if limit <= 0 {
		limit = s.deps.FilterTimeout
	}
	short, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	begin := time.Now()
	messages, err := ask(short, q)
	if errs.KindOf(err) == errs.Unavail && short.Err() == nil {
		messages, err = ask(short, q) // its process ended: another has it
	}
	if err == nil {
		return messages, nil
	}
	late := errs.KindOf(err) == errs.Deadline || errors.Is(short.Err(), context.DeadlineExceeded)
	switch e, ok := errors.AsType[*errs.Error](err); {
	case ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled):
		return nil, ctx.Err() // the caller went away
	case !late && ok && e.Kind != errs.Unavail && e.Kind != errs.Internal && e.Kind != errs.Other:
		return messages, err // a refusal
	}
	took := time.Since(begin).Round(time.Millisecond)
	slog.Warn("a job_submit plugin gave no answer", "name", f.Name, "accepted", f.Accept, "after", took, "err", err)
	switch {
	case f.Accept:
		return nil, nil
	case late && short.Err() == nil: // it has a deadline of its own, and says which
		return nil, errs.Coded("rpc.filter", errs.SubmitRefused,
			fmt.Sprintf("job_submit/%s gave no answer: %v; this site accepts no job without its answer: try again, or ask the administrator", f.Name, err))
	case late:
		return nil, errs.Coded("rpc.filter", errs.SubmitRefused,
			fmt.Sprintf("job_submit/%s gave no answer within %v, and this site accepts no job without its answer; try again, or ask the administrator", f.Name, limit))
	}
	return nil, errs.Newf("rpc.filter", errs.Unavail, "job_submit/%s gave no answer: %v", f.Name, err)
}

// withMessages puts what plugins wanted to say before the refusal itself.
func withMessages(err error, messages []string) error {
	e, ok := errors.AsType[*errs.Error](err)
	if !ok || len(messages) == 0 || slices.Equal(e.Details, messages) {
		return err
	}
	c := *e
	c.Details = append(slices.Clip(messages), e.Details...)
	return &c
}

// modification is one job's part of an update, as the job_submit plugins left it.
type modification struct {
	filter *ctlv1.JobFilter
	set    map[string]string
}

// filterModify asks the job_submit plugins about a change of each job that the
// request selects. Without plugins the request stays whole. With them, no change
// of the caller's jobs goes by unasked: references to nothing are failures here,
// and never reach the command, which might find a job there a moment later.
func (s *Server) filterModify(ctx context.Context, r *ctlv1.UpdateJobRequest) (mods []modification, failed []cluster.Failure, messages []string, err error) {
	whole := []modification{{r.GetFilter(), r.GetSet()}}
	if r.GetVerb() != ctlv1.UpdateJobRequest_SET || s.deps.Filters == nil {
		return whole, nil, nil, nil
	}
	filters := s.deps.Filters()
	if len(filters) == 0 {
		return whole, nil, nil, nil
	}
	found, missing, err := s.deps.View.Find(r.GetFilter())
	if err != nil {
		return nil, nil, nil, err
	}
	for _, ref := range missing {
		failed = append(failed, cluster.Failure{Ref: ref, Code: errs.InvalidJobID})
	}
	who := caller(ctx)
	for _, m := range found {
		q := &jobsubmit.Request{Caller: who.UID, Current: m.Job, Changes: maps.Clone(r.GetSet())}
		if who.Owns(m.Job) { // the command refuses the others
			said, err := s.filterOne(ctx, filters, q)
			if messages = append(messages, said...); err != nil {
				return nil, nil, nil, withMessages(err, messages)
			}
		}
		ref := &ctlv1.JobRef{Job: uint32(m.Job.ID)}
		if m.Ref != nil && (m.Tasks != nil || len(found) == 1) {
			ref = m.Ref
		} else if j := m.Job; j.ArrayJob != 0 && !j.IsArrayRecord() {
			ref = &ctlv1.JobRef{Job: uint32(j.ArrayJob), Tasks: oneTask(j.ArrayTask)}
		} else if j.IsArrayRecord() {
			ref = &ctlv1.JobRef{Job: uint32(j.ArrayJob), Tasks: tasksOf(j)}
		}
		mods = append(mods, modification{&ctlv1.JobFilter{Refs: []*ctlv1.JobRef{ref}}, q.Changes})
	}
	return mods, failed, messages, nil
}

// filterOne asks the plugins in order about a change of one job.
func (s *Server) filterOne(ctx context.Context, filters []Filter, q *jobsubmit.Request) (messages []string, err error) {
	for _, f := range filters {
		said, err := s.filter(ctx, f, q, f.Modify)
		if messages = append(messages, said...); err != nil {
			return messages, err
		}
	}
	return messages, nil
}

func failures(list []cluster.Failure) []*ctlv1.SignalResult {
	var out []*ctlv1.SignalResult
	for _, f := range list {
		out = append(out, &ctlv1.SignalResult{Ref: f.Ref, Code: uint32(f.Code), Text: f.Code.String()})
	}
	return out
}

// forecast is what Submit and Forecast tell of a job that has not started.
func (s *Server) forecast(ctx context.Context, j *wlm.Job) (*ctlv1.ForecastReply, error) {
	out := &ctlv1.ForecastReply{Partition: j.Partition, Processors: j.NTasks * max(j.Spec.CPUsPerTask, 1)}
	if s.deps.Forecast == nil {
		out.Text = fmt.Sprintf("no scheduler plugin forecasts starts in partition %s", j.Partition)
		return out, nil
	}
	f, err := s.deps.Forecast(ctx, j)
	if err != nil || f == nil {
		return out, err
	}
	return f, nil
}
