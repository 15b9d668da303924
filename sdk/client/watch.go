package client

import (
	"context"
	"errors"
	"io"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"google.golang.org/grpc"
)

// ErrStop, returned by a handler, ends a watch without an error.
var ErrStop = errors.New("stop watching")

// Watch calls handle for each reply to r until handle returns an error (which
// Watch returns, ErrStop as nil), ctx ends, or the server refuses. A stream
// that breaks is opened again, however long the controller is away, with the
// present jobs sent first if r.Snapshot asked for them: handlers must take a
// repeated job for news of it.
func (c *Client) Watch(ctx context.Context, r *ctlv1.WatchRequest, handle func(*ctlv1.WatchReply) error) error {
	return resume(ctx, func(ctx context.Context) (grpc.ServerStreamingClient[ctlv1.WatchReply], error) {
		return c.Controller.Watch(ctx, r)
	}, handle)
}

// WatchJob calls handle with the job at once and after each change, as Watch
// does. It returns nil when the server ends the stream after the last state
// that r asks for.
func (c *Client) WatchJob(ctx context.Context, r *ctlv1.WatchJobRequest, handle func(*ctlv1.JobInfo) error) error {
	return resume(ctx, func(ctx context.Context) (grpc.ServerStreamingClient[ctlv1.JobInfo], error) {
		return c.Controller.WatchJob(ctx, r)
	}, handle)
}

// resume runs a stream over breaks. The first contact is bounded by the
// client's timeout; later ones only by ctx.
func resume[T any](ctx context.Context, open func(context.Context) (grpc.ServerStreamingClient[T], error), handle func(*T) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	heard := false
	var wait backoff
	for {
		s, err := open(ctx)
		for err == nil {
			var m *T
			if m, err = s.Recv(); err != nil {
				break
			}
			heard, wait = true, backoff{}
			if herr := handle(m); herr != nil {
				if errors.Is(herr, ErrStop) {
					return nil
				}
				return herr
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !heard || errs.KindOf(err) != errs.Unavail || !wait.sleep(ctx):
			return err
		}
	}
}
