package srun

import (
	"os"
	"strconv"

	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"golang.org/x/term"
)

// terminal prepares for --pty: the size of this terminal goes to the task's,
// and this one becomes raw. The function it returns undoes that.
func (s *step) terminal() func() {
	if !s.Request.Step.Pty || s.Stdin != os.Stdin || !term.IsTerminal(int(os.Stdin.Fd())) {
		return func() {}
	}
	fd := int(os.Stdin.Fd())
	cols, rows, err := term.GetSize(fd)
	if err == nil {
		s.work.Rows, s.work.Cols = uint32(rows), uint32(cols)
		s.work.Env = append(s.work.Env, "SLURM_PTY_WIN_COL="+strconv.Itoa(cols), "SLURM_PTY_WIN_ROW="+strconv.Itoa(rows))
	}
	old, err := term.MakeRaw(fd)
	if err != nil {
		return func() {}
	}
	return func() { term.Restore(fd, old) } //nolint:errcheck // the terminal may be gone
}

// resize tells the task's terminal the new size of this one.
func (s *step) resize() {
	if !s.Request.Step.Pty {
		return
	}
	cols, rows, err := term.GetSize(int(os.Stdin.Fd()))
	if err != nil || len(s.nodes) == 0 {
		return
	}
	s.nodes[0].send(&nodev1.RunStepIn{Body: &nodev1.RunStepIn_Window{Window: &nodev1.WindowSize{Rows: uint32(rows), Cols: uint32(cols)}}})
}
