// Package wirecall is what both ends of a plugin call agree on: how the host's
// typed clients send one ([Caller]), and how the plugin's adapters answer one
// ([Handler]). The kinds' packages (sched, selector, ...) are written against
// these two and know nothing of processes or gRPC; package plugin and the
// host's pluginhost carry the bytes.
//
// Payloads are protobuf messages of the kind's own package and may be of any
// length; whoever carries them cuts them into frames.
package wirecall

import (
	"context"
	"errors"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/proto/plugin/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"google.golang.org/protobuf/proto"
)

// A Caller reaches a plugin. Calls may run concurrently.
//
// Errors are of package errs: those of the plugin's author as they were
// returned there, errs.Unavail when no plugin answers (it may be restarting:
// ask again), errs.Deadline when it took too long, errs.Internal when it broke.
type Caller interface {
	// Call returns the reply to one call.
	Call(ctx context.Context, kind, method string, payload []byte) ([]byte, error)
	// Stream hands each item of a streaming call to yield, in order, until
	// the call ends. An error of yield ends the call and is returned.
	Stream(ctx context.Context, kind, method string, payload []byte, yield func([]byte) error) error
}

// A Request is one call as it arrives at a plugin.
type Request struct {
	Method  string
	Payload []byte
	Mirror  *mirror.Mirror             // of serial handlers only
	Send    func(payload []byte) error // sends an item of a streaming reply; waits for the reader
	Ask     Asker                      // asks the host; nil: nobody to ask
}

// An Asker puts a question to the host, such as which partitions there are.
// Methods are those of the kind that asks; errs.Unsupport means that this host
// does not know the question, errs.Unavail that nobody answered.
type Asker func(ctx context.Context, method string, payload []byte) ([]byte, error)

// A Handler answers the calls of one kind.
type Handler struct {
	Kind      string
	Contracts []uint32
	Abilities []string
	// Serial handlers read the mirror: their calls come one after the other,
	// between changes of the mirror. The calls of others run concurrently.
	Serial bool
	Serve  func(ctx context.Context, r Request) ([]byte, error)
}

// UnknownMethod is the error for a method that a kind does not have.
func UnknownMethod(kind, method string) error {
	return errs.Newf(kind, errs.Unsupport, "the kind %s has no method %q", kind, method)
}

// Unmarshal decodes a payload; the error says whose payload it was.
func Unmarshal(op string, payload []byte, m proto.Message) error {
	if err := proto.Unmarshal(payload, m); err != nil {
		return errs.Newf(op, errs.Internal, "payload of %d bytes: %w", len(payload), err)
	}
	return nil
}

// Marshal encodes a message.
func Marshal(op string, m proto.Message) ([]byte, error) {
	b, err := proto.Marshal(m)
	if err != nil {
		return nil, errs.Newf(op, errs.Invalid, "encode: %w", err)
	}
	return b, nil
}

// Ask makes a call with a message for each direction.
func Ask(ctx context.Context, c Caller, kind, method string, request, reply proto.Message) error {
	op := kind + "." + method
	b, err := Marshal(op, request)
	if err != nil {
		return err
	}
	if b, err = c.Call(ctx, kind, method, b); err != nil {
		return err
	}
	return Unmarshal(op, b, reply)
}

// Answer decodes the request into in, calls do and encodes what it returns.
func Answer[In, Out proto.Message](ctx context.Context, r Request, in In, do func(context.Context, In) (Out, error)) ([]byte, error) {
	if err := Unmarshal(r.Method, r.Payload, in); err != nil {
		return nil, err
	}
	out, err := do(ctx, in)
	if err != nil {
		return nil, err
	}
	return Marshal(r.Method, out)
}

// View returns the view that a call asks for. A mirror at another rev is the
// host's mistake or a lost frame: the call fails with errs.State and the host
// asks again once the mirror follows. Rev 0 takes the mirror as it is.
func View(op string, m *mirror.Mirror, rev uint64, now int64) (mirror.View, error) {
	switch {
	case m == nil:
		return mirror.View{}, errs.Newf(op, errs.Internal, "the call came without a mirror")
	case m.Lost():
		return mirror.View{}, errs.Newf(op, errs.State, "%w", mirror.ErrLost)
	case rev != 0 && rev != m.Rev():
		return mirror.View{}, errs.Newf(op, errs.State, "the mirror is at rev %d, the call is for rev %d", m.Rev(), rev)
	}
	return m.View(wlm.Time(now)), nil
}

// ErrorToWire encodes an error for a reply; nil for nil.
func ErrorToWire(err error) *pluginv1.CallError {
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[*errs.Error](err)
	if !ok {
		kind := errs.Other
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			kind = errs.Deadline
		}
		return &pluginv1.CallError{Kind: uint32(kind), Text: valid(err.Error())}
	}
	w := &pluginv1.CallError{Kind: uint32(e.Kind), Code: uint32(e.Code)}
	for _, d := range e.Details {
		w.Details = append(w.Details, valid(d))
	}
	if e.Err != nil {
		w.Text = valid(e.Err.Error())
	}
	return w
}

// ErrorOfWire undoes ErrorToWire; op says which call failed.
func ErrorOfWire(op string, w *pluginv1.CallError) error {
	if w == nil {
		return nil
	}
	e := &errs.Error{Op: op, Kind: errs.Kind(w.GetKind()), Code: errs.Code(w.GetCode()), Details: w.GetDetails()}
	if w.GetText() != "" {
		e.Err = errors.New(w.GetText())
	}
	return e
}
