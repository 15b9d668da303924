// Package errs names what can go wrong, once, for every room and every wire.
//
// An [Error] has a [Kind], which decides what a caller does next, and a
// [Code], which is Slurm's number and text for what a user reads. Details are
// further lines for the user: the culprit and what is allowed.
//
// Kinds and codes are append-only: they cross the wire.
package errs

import (
	"errors"
	"fmt"
	"strings"
)

// Kind says what a caller should do about an error.
type Kind uint8

// The kinds. Do not reorder.
const (
	Other     Kind = iota
	Invalid        // the request can never work: tell the user
	NotFound       // no such job, node, partition, ...
	Exists         // it is there already
	Denied         // the caller may not
	State          // not in this state
	Busy           // not now: try again later
	Unavail        // nobody answers: try elsewhere or again
	Exhausted      // a table or disk is full
	Deadline       // it took too long
	Unauth         // no proof of identity
	Internal       // a broken invariant: ours
	Unsupport      // this build does not do that
)

var kinds = [...]string{"error", "invalid", "not found", "exists", "denied", "wrong state", "busy",
	"unavailable", "exhausted", "deadline exceeded", "not authenticated", "internal", "not supported"}

// String is a word for logs.
func (k Kind) String() string {
	if int(k) < len(kinds) {
		return kinds[k]
	}
	return "error"
}

// Error is a failure with everything needed to tell a user about it.
type Error struct {
	Op      string   // where: "cluster.Submit"
	Kind    Kind     // what to do
	Code    Code     // Slurm's number; 0: none
	Details []string // whole lines for the user, without a prefix
	Err     error    // cause
}

// Error prints details, the code's text and the cause, without repetition.
func (e *Error) Error() string {
	var parts []string
	parts = append(parts, e.Details...)
	if e.Code != 0 {
		parts = append(parts, e.Code.String())
	}
	if e.Err != nil {
		parts = append(parts, e.Err.Error())
	}
	if len(parts) == 0 {
		parts = append(parts, e.Kind.String())
	}
	return strings.Join(parts, ": ")
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Newf makes an error of a kind from a message.
func Newf(op string, kind Kind, format string, args ...any) *Error {
	return &Error{Op: op, Kind: kind, Err: fmt.Errorf(format, args...)}
}

// Coded makes an error that a Slurm user knows, with lines naming the culprit.
func Coded(op string, code Code, details ...string) *Error {
	return &Error{Op: op, Kind: code.Kind(), Code: code, Details: details}
}

// KindOf returns the kind of the first Error in err's chain; 0 for nil or none.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Other
}

// CodeOf returns the code of the first Error in err's chain; 0 for nil or none.
func CodeOf(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return 0
}

// With adds what the details leave out: the numbers behind a refusal. It is
// printed after them, so that the first lines stay those Slurm prints.
func (e *Error) With(format string, args ...any) *Error {
	e.Err = fmt.Errorf(format, args...)
	return e
}
