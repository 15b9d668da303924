// Command lua is the plugin job_submit/lua: it runs a site's job_submit.lua
// unchanged.
//
// The script defines slurm_job_submit(job_desc, part_list, submit_uid) and
// slurm_job_modify(job_desc, job_rec, part_list, modify_uid), as for Slurm, and
// finds the table slurm with log_*, user_msg, the return codes and constants.
// job_desc has the fields of Slurm's manual that a request here carries (see
// fields); reading another gives nil, writing one is logged and ignored, as
// Slurm does. The language is Lua 5.1 with bit32 and table.unpack.
//
// What is better than inside slurmctld: the script runs in a process of its
// own, several requests at a time, each in a Lua state of its own, and each
// with a deadline. A global that the script changes is therefore seen by the
// requests of the same state only; with states=1 there is one, as in Slurm.
//
// The script is read again when its file changes. One that cannot be loaded is
// refused at the start; later, the one before it stays in force and the log
// says why.
//
// Failure: a script that raises an error or overruns its deadline gives no
// answer, and the host does what on_failure says; the state is thrown away.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/jobsubmit"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	glua "github.com/yuin/gopher-lua"
)

// Options of the plugin.
type Options struct {
	Script   string        `option:"script" doc:"the script; a relative path is below slurm.conf's directory"`
	ConfDir  string        `option:"confdir" doc:"slurm.conf's directory, told by the daemon"`
	States   int           `option:"states" doc:"requests that the script handles at the same time" allowed:"1 to 256"`
	Deadline time.Duration `option:"deadline" unit:"ms" doc:"how long the script may take for one request" allowed:"1ms to 1h"`
}

var defaults = Options{Script: "job_submit.lua", ConfDir: "/etc/slurm", States: 4, Deadline: 3 * time.Second}

// Filter runs the script for each request. Calls may run concurrently.
type Filter struct {
	pool     *pool
	deadline time.Duration
}

var _ jobsubmit.Filter = (*Filter)(nil)

// New loads the script; the error says what is wrong with it.
func New(o Options) (*Filter, error) {
	p, err := newPool(o.Script, o.States)
	if err != nil {
		return nil, err
	}
	return &Filter{pool: p, deadline: o.Deadline}, nil
}

// Submit implements [jobsubmit.Filter] with slurm_job_submit.
func (f *Filter) Submit(ctx context.Context, r *jobsubmit.Request) ([]string, error) {
	spec := *r.Spec
	d := &desc{spec: &spec, request: r, env: slices.Clone(r.Env)}
	messages, err := f.run(ctx, "slurm_job_submit", r, func(s *state) []glua.LValue {
		return []glua.LValue{d.table(s.lua), s.partitions(), glua.LNumber(r.Caller)}
	})
	if err == nil {
		*r.Spec, r.Env = spec, d.env
	}
	return messages, err
}

// Modify implements [jobsubmit.Filter] with slurm_job_modify; a script without
// it lets every change pass.
func (f *Filter) Modify(ctx context.Context, r *jobsubmit.Request) ([]string, error) {
	d := changed(r)
	messages, err := f.run(ctx, "slurm_job_modify", r, func(s *state) []glua.LValue {
		return []glua.LValue{d.table(s.lua), record(s.lua, r.Current), s.partitions(), glua.LNumber(r.Caller)}
	})
	if err == nil {
		d.writeBack(r)
	}
	return messages, err
}

// run calls a function of the script in a free state.
func (f *Filter) run(ctx context.Context, function string, r *jobsubmit.Request, args func(*state) []glua.LValue) ([]string, error) {
	op := "job_submit/lua." + function
	ctx, cancel := context.WithTimeout(ctx, f.deadline)
	defer cancel()
	s, err := f.pool.take(ctx)
	if err != nil && ctx.Err() == nil {
		return nil, errs.Newf(op, errs.Internal, "%w", err)
	}
	if err != nil {
		return nil, errs.Newf(op, errs.Deadline, "all %d states of the script were busy for %v", f.pool.size, f.deadline)
	}
	fn := s.lua.GetGlobal(function)
	if fn.Type() != glua.LTFunction {
		f.pool.put(s)
		return nil, nil
	}
	s.begin(ctx, r)
	err = s.lua.CallByParam(glua.P{Fn: fn, NRet: 1, Protect: true}, args(s)...)
	messages := s.messages
	if err != nil {
		s.lua.Close() // it may have stopped anywhere
		f.pool.put(nil)
		if ctx.Err() != nil {
			return messages, errs.Newf(op, errs.Deadline, "%s did not decide within %v", f.pool.path, f.deadline)
		}
		return messages, errs.Newf(op, errs.Internal, "%s", lineOf(err))
	}
	answer := s.lua.Get(-1)
	s.end()
	f.pool.put(s)
	return f.verdict(op, answer, messages)
}

func lineOf(err error) string {
	if e, ok := errors.AsType[*glua.ApiError](err); ok && e.Object != nil && e.Object != glua.LNil {
		return e.Object.String() // with file and line
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}

// verdict turns a return code into an acceptance or a refusal.
func (f *Filter) verdict(op string, answer glua.LValue, messages []string) ([]string, error) {
	n, ok := answer.(glua.LNumber)
	switch {
	case !ok:
		slog.Warn("the script returned no number: the request passes", "function", op, "returned", answer.Type().String())
		return messages, nil
	case n == 0:
		return messages, nil
	}
	code := errs.Code(n)
	if n < 0 || glua.LNumber(code) != n || code.Kind() == errs.Other {
		code = errs.SubmitRefused
	}
	if len(messages) == 0 {
		messages = []string{fmt.Sprintf("refused by the site's job_submit.lua, which gives no reason (%v)", n)}
	}
	e := errs.Coded(op, code, messages...)
	switch e.Kind { // of a decision, not of a failure
	case errs.Unavail, errs.Deadline, errs.Internal:
		e.Kind = errs.Busy
	}
	return nil, e
}

// minutes and the like in a request: what is not set is 0 there and NO_VAL in Lua.
func orNoVal[T ~uint32](x T) glua.LValue {
	if x == 0 || uint32(x) == wlm.Unset {
		return glua.LNumber(noVal)
	}
	return glua.LNumber(x)
}
