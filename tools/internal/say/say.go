// Package say prints what a command tells its user on standard error, in the
// form that Slurm's users and scripts know: the program's name, a colon, the
// severity, the text.
package say

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/sluice-hpc/sluice/sdk/errs"
)

// Voice is a command's standard error. Methods may be called concurrently;
// each writes whole lines.
type Voice struct {
	prog    string
	quiet   bool
	verbose int

	mu sync.Mutex
	w  io.Writer
}

// New makes the voice of the command prog.
func New(prog string, w io.Writer) *Voice { return &Voice{prog: prog, w: w} }

// Prog is the command's name.
func (v *Voice) Prog() string { return v.prog }

// SetLevel follows -Q and the number of -v.
func (v *Voice) SetLevel(quiet bool, verbose int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.quiet, v.verbose = quiet, verbose
}

// Infof tells what happens; -Q drops it.
func (v *Voice) Infof(format string, args ...any) {
	if !v.isQuiet() {
		v.lines("", fmt.Sprintf(format, args...))
	}
}

// Verbosef tells more, from n times -v on.
func (v *Voice) Verbosef(n int, format string, args ...any) {
	v.mu.Lock()
	on := v.verbose >= n
	v.mu.Unlock()
	if on {
		prefix := ""
		if n > 1 {
			prefix = "debug: "
		}
		v.lines(prefix, fmt.Sprintf(format, args...))
	}
}

// Warningf warns; -Q drops it.
func (v *Voice) Warningf(format string, args ...any) {
	if !v.isQuiet() {
		v.lines("warning: ", fmt.Sprintf(format, args...))
	}
}

// Errorf tells what went wrong.
func (v *Voice) Errorf(format string, args ...any) {
	v.lines("error: ", fmt.Sprintf(format, args...))
}

// Fatalf tells why the command cannot go on; ending it is the caller's.
func (v *Voice) Fatalf(format string, args ...any) {
	v.lines("fatal: ", fmt.Sprintf(format, args...))
}

// Plain writes text as it is, with a newline.
func (v *Voice) Plain(text string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	io.WriteString(v.w, text+"\n") //nolint:errcheck // nowhere to tell
}

// Failure tells err as Slurm does: its details, a line each, then what (may
// be empty) and the text of its code or cause.
func (v *Voice) Failure(what string, err error) {
	text := err.Error()
	if e, ok := errors.AsType[*errs.Error](err); ok {
		for _, d := range e.Details {
			v.lines("error: ", d)
		}
		switch {
		case e.Code != 0:
			text = e.Code.String()
		case e.Err != nil:
			text = e.Err.Error()
		case len(e.Details) > 0:
			return
		}
	}
	if what != "" {
		text = what + ": " + text
	}
	v.lines("error: ", text)
}

func (v *Voice) isQuiet() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.quiet
}

func (v *Voice) lines(severity, text string) {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(v.prog + ": " + severity + strings.TrimSuffix(line, "\n") + "\n")
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	io.WriteString(v.w, b.String()) //nolint:errcheck // nowhere to tell
}
