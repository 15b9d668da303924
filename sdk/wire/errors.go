package wire

import (
	"errors"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// grpcCodes maps each kind to the status code that generic clients understand.
var grpcCodes = map[errs.Kind]codes.Code{
	errs.Other: codes.Unknown, errs.Invalid: codes.InvalidArgument, errs.NotFound: codes.NotFound,
	errs.Exists: codes.AlreadyExists, errs.Denied: codes.PermissionDenied, errs.State: codes.FailedPrecondition,
	errs.Busy: codes.Aborted, errs.Unavail: codes.Unavailable, errs.Exhausted: codes.ResourceExhausted,
	errs.Deadline: codes.DeadlineExceeded, errs.Unauth: codes.Unauthenticated, errs.Internal: codes.Internal,
	errs.Unsupport: codes.Unimplemented,
}

// ErrorToStatus makes err a gRPC status that carries its kind, code and
// details; nil for nil. Servers call it on whatever a handler returns.
func ErrorToStatus(err error) error {
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[*errs.Error](err)
	if !ok {
		if _, is := status.FromError(err); is {
			return err
		}
		return status.FromContextError(err).Err()
	}
	d := &ctlv1.ErrorDetail{Kind: uint32(e.Kind), Code: uint32(e.Code), Details: e.Details, Op: e.Op}
	if e.Err != nil {
		d.Text = e.Err.Error()
	}
	st, derr := status.New(grpcCodes[e.Kind], err.Error()).WithDetails(d)
	if derr != nil {
		return status.Error(grpcCodes[e.Kind], err.Error())
	}
	return st.Err()
}

// ErrorOfStatus undoes ErrorToStatus. A status that carries no detail becomes
// an error of the matching kind.
func ErrorOfStatus(err error) error {
	if err == nil {
		return nil
	}
	st, ok := status.FromError(err)
	if !ok {
		return err
	}
	for _, d := range st.Details() {
		if d, ok := d.(*ctlv1.ErrorDetail); ok {
			e := &errs.Error{Op: d.GetOp(), Kind: errs.Kind(d.GetKind()), Code: errs.Code(d.GetCode()), Details: d.GetDetails()}
			if d.GetText() != "" {
				e.Err = errors.New(d.GetText())
			}
			return e
		}
	}
	for kind, code := range grpcCodes {
		if code == st.Code() && kind != errs.Other {
			return &errs.Error{Kind: kind, Err: errors.New(st.Message())}
		}
	}
	return &errs.Error{Kind: errs.Other, Err: errors.New(st.Message())}
}
