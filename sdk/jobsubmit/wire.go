package jobsubmit

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/plugin/wirecall"
	"github.com/sluice-hpc/sluice/sdk/proto/jobsubmit/v1"
	"github.com/sluice-hpc/sluice/sdk/wire"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"google.golang.org/protobuf/proto"
)

const (
	methodSubmit = "Submit"
	methodModify = "Modify"

	askPartitions = "Partitions" // a question to the host
)

// Handler answers the kind's calls with f.
func Handler(f Filter) wirecall.Handler {
	return wirecall.Handler{Kind: Kind, Contracts: Contracts,
		Serve: func(ctx context.Context, r wirecall.Request) ([]byte, error) {
			do := f.Submit
			switch r.Method {
			case methodSubmit:
			case methodModify:
				do = f.Modify
			default:
				return nil, wirecall.UnknownMethod(Kind, r.Method)
			}
			return wirecall.Answer(ctx, r, new(jobsubmitv1.Request), func(ctx context.Context, in *jobsubmitv1.Request) (*jobsubmitv1.Reply, error) {
				return serve(ctx, do, in, r.Ask)
			})
		}}
}

func serve(ctx context.Context, do func(context.Context, *Request) ([]string, error), in *jobsubmitv1.Request, ask wirecall.Asker) (*jobsubmitv1.Reply, error) {
	q := &Request{Ask: ask, Script: in.GetScript(), Env: slices.Clone(in.GetEnv()), Caller: wlm.UID(in.GetSubmitUid()), Changes: maps.Clone(in.GetChanges())}
	if in.GetSpec() != nil {
		q.Spec = wire.SpecOfWire(in.GetSpec())
	}
	if in.GetCurrent() != nil {
		q.Current = wire.JobOfWire(in.GetCurrent())
	}
	messages, err := do(ctx, q)
	out := &jobsubmitv1.Reply{Messages: messages}
	if err != nil {
		e, ok := errors.AsType[*errs.Error](err)
		if !ok {
			return nil, err // not a refusal: the filter is broken
		}
		w := wirecall.ErrorToWire(e)
		out.Refused, out.Refuse, out.RefuseKind, out.RefuseText, out.RefuseDetails = true, w.GetCode(), w.GetKind(), w.GetText(), w.GetDetails()
		return out, nil
	}
	if q.Spec != nil {
		if spec := wire.SpecToWire(q.Spec); !proto.Equal(spec, in.GetSpec()) {
			out.Spec = spec
		}
	}
	if !maps.Equal(q.Changes, in.GetChanges()) {
		out.Changes, out.ChangesSet = q.Changes, true
	}
	if !slices.Equal(q.Env, in.GetEnv()) {
		out.Env, out.EnvSet = q.Env, true
	}
	return out, nil
}

// Client is the host's side: a filter in another process.
type Client struct{ caller wirecall.Caller }

var _ Filter = (*Client)(nil)

// NewClient returns a client that reaches the plugin through c.
func NewClient(c wirecall.Caller) *Client { return &Client{c} }

// Submit is Filter's. When the filter refuses, or cannot be reached, r is as
// it was; otherwise r.Spec points to the same Spec, with the filter's changes.
func (c *Client) Submit(ctx context.Context, r *Request) ([]string, error) {
	return c.ask(ctx, methodSubmit, r)
}

// Modify is Filter's; see Submit.
func (c *Client) Modify(ctx context.Context, r *Request) ([]string, error) {
	return c.ask(ctx, methodModify, r)
}

func (c *Client) ask(ctx context.Context, method string, r *Request) ([]string, error) {
	in := &jobsubmitv1.Request{SubmitUid: uint32(r.Caller), Script: r.Script, Changes: r.Changes, Env: r.Env}
	if r.Spec != nil {
		in.Spec = wire.SpecToWire(r.Spec)
	}
	if r.Current != nil {
		in.Current = wire.JobToWire(r.Current)
	}
	out := new(jobsubmitv1.Reply)
	if err := wirecall.Ask(ctx, c.caller, Kind, method, in, out); err != nil {
		return nil, err
	}
	if out.GetRefused() {
		e := &errs.Error{Op: Kind + "." + method, Kind: errs.Kind(out.GetRefuseKind()), Code: errs.Code(out.GetRefuse()), Details: out.GetRefuseDetails()}
		if out.GetRefuseText() != "" {
			e.Err = errors.New(out.GetRefuseText())
		}
		return out.GetMessages(), e
	}
	if out.GetSpec() != nil && r.Spec != nil {
		*r.Spec = *wire.SpecOfWire(out.GetSpec())
	}
	if out.GetChangesSet() {
		r.Changes = out.GetChanges()
	}
	if out.GetEnvSet() {
		r.Env = out.GetEnv()
	}
	return out.GetMessages(), nil
}
