package wirecall

import (
	"context"
	"strings"
	"sync"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/mirror"
)

func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// Local is a Caller that answers in this process: the adapters of both ends
// are used, but no process is started. Tests and simulations use it.
type Local struct {
	handlers map[string]Handler

	serial sync.Mutex // held during serial calls and changes of the mirror
	mirror mirror.Mirror
}

var _ Caller = (*Local)(nil)

// NewLocal returns a Local that serves the handlers' kinds.
func NewLocal(handlers ...Handler) *Local {
	l := &Local{handlers: map[string]Handler{}}
	for _, h := range handlers {
		l.handlers[h.Kind] = h
	}
	return l
}

// PushState applies frames to the mirror that serial handlers read.
func (l *Local) PushState(frames [][]byte) error {
	l.serial.Lock()
	defer l.serial.Unlock()
	for _, f := range frames {
		if _, err := l.mirror.ApplyBytes(f); err != nil {
			return err
		}
	}
	return nil
}

// Call is Caller's.
func (l *Local) Call(ctx context.Context, kind, method string, payload []byte) ([]byte, error) {
	return l.serve(ctx, kind, method, payload, func([]byte) error {
		return errs.Newf(kind+"."+method, errs.Internal, "a streamed item came in answer to a plain call")
	})
}

// Stream is Caller's.
func (l *Local) Stream(ctx context.Context, kind, method string, payload []byte, yield func([]byte) error) error {
	_, err := l.serve(ctx, kind, method, payload, yield)
	return err
}

func (l *Local) serve(ctx context.Context, kind, method string, payload []byte, send func([]byte) error) ([]byte, error) {
	h, ok := l.handlers[kind]
	if !ok {
		return nil, errs.Newf(kind, errs.Unsupport, "no plugin serves the kind %s", kind)
	}
	r := Request{Method: method, Payload: payload, Send: send}
	if h.Serial {
		l.serial.Lock()
		defer l.serial.Unlock()
		r.Mirror = &l.mirror
	}
	b, err := h.Serve(ctx, r)
	return b, ErrorOfWire(kind+"."+method, ErrorToWire(err))
}
