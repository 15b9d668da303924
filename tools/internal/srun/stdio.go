package srun

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/sluice-hpc/sluice/sdk/proto/launch/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/request"
)

const (
	maxLine   = 64 << 10 // a longer line is written in pieces
	inputSize = 32 << 10 // bytes of input to a message
)

// streams decides where the three streams of the tasks go: through srun, or
// to files that the nodes open because their names differ by task.
func (s *step) streams() error {
	r := s.Request
	s.out = &output{width: len(strconv.Itoa(max(len(s.reply.GetTaskIds())-1, 0))), label: r.Step.Label,
		only: [2]uint32{allTasks, allTasks}, broken: make(chan struct{}, 1), partial: map[partial][]byte{}}
	s.out.raw = r.Step.Pty || r.Step.Unbuffered || len(s.reply.GetTaskIds()) == 1 && !r.Step.Label
	s.out.to = [2]io.Writer{s.Stdout, s.Stderr}
	var err error
	if s.work.Stdout, err = s.outStream(0, r.Spec.StdOut); err != nil {
		return err
	}
	if r.Spec.StdErr == "" && r.Spec.StdOut != "" {
		s.work.Stderr = s.work.Stdout
		if s.work.Stdout.GetKind() == launchv1.Stream_FILE {
			s.work.Stderr = &launchv1.Stream{Kind: launchv1.Stream_JOINED}
		}
		if s.out.files[0] != nil {
			s.out.to[1] = s.out.files[0]
		}
		s.out.only[1] = s.out.only[0]
	} else if s.work.Stderr, err = s.outStream(1, r.Spec.StdErr); err != nil {
		return err
	}
	s.work.Stdin = s.inStream()
	return nil
}

// perTask reports whether a file's name differs by task or node, so that the
// nodes must open it.
func perTask(pattern string) bool {
	if strings.HasPrefix(pattern, `\`) {
		return false
	}
	for i := 0; i+1 < len(pattern); i++ {
		if pattern[i] != '%' {
			continue
		}
		for i++; i < len(pattern) && pattern[i] >= '0' && pattern[i] <= '9'; i++ {
		}
		if i < len(pattern) && strings.IndexByte("tnN", pattern[i]) >= 0 {
			return true
		}
	}
	return false
}

// outStream is the place of stdout (0) or stderr (1).
func (s *step) outStream(which int, pattern string) (*launchv1.Stream, error) {
	caller := &launchv1.Stream{Kind: launchv1.Stream_CALLER}
	appendTo := s.Request.Spec.OpenMode == wlm.OpenAppend
	switch {
	case pattern == "" || pattern == "all":
		return caller, nil
	case pattern == "none":
		return &launchv1.Stream{Kind: launchv1.Stream_NONE}, nil
	case perTask(pattern):
		return &launchv1.Stream{Kind: launchv1.Stream_FILE, Path: absIn(s.Request.Spec.WorkDir, s.expand(pattern)), Append: appendTo}, nil
	}
	if id, err := strconv.ParseUint(pattern, 10, 31); err == nil && int(id) < len(s.reply.GetTaskIds()) {
		s.out.only[which] = uint32(id)
		return caller, nil
	}
	path := absIn(s.Request.Spec.WorkDir, s.expand(pattern))
	mode := os.O_CREATE | os.O_WRONLY | os.O_TRUNC
	if appendTo {
		mode = os.O_CREATE | os.O_WRONLY | os.O_APPEND
	}
	if which == 1 && s.out.files[0] != nil && s.out.files[0].Name() == path {
		s.out.to[1] = s.out.files[0]
		return caller, nil
	}
	f, err := os.OpenFile(path, mode, 0o666)
	if err != nil {
		return nil, &request.Mistake{Exit: 1, Lines: []string{fmt.Sprintf("Could not open std%s file: %s: %s", [2]string{"out", "err"}[which], path, cause(err))}}
	}
	s.out.files[which], s.out.to[which] = f, f
	return caller, nil
}

func cause(err error) string {
	switch {
	case os.IsNotExist(err):
		return "No such file or directory"
	case os.IsPermission(err):
		return "Permission denied"
	}
	return err.Error()
}

// expand fills in what is known of the job; nodes do the rest.
func (s *step) expand(pattern string) string {
	id := wlm.StepID(s.reply.GetStep())
	f := wlm.PatternFields{Job: wlm.JobID(s.job), Step: &id, JobName: s.Request.Spec.Name, User: s.Request.Spec.UserName}
	if a, ok := s.Context.Env("SLURM_ARRAY_JOB_ID"); ok {
		n, _ := strconv.ParseUint(a, 10, 32)
		f.ArrayJob = wlm.JobID(n)
		t, _ := s.Context.Env("SLURM_ARRAY_TASK_ID")
		if n, err := strconv.ParseUint(t, 10, 32); err == nil {
			task := uint32(n)
			f.Task = &task
		}
	}
	return wlm.ExpandPattern(pattern, f)
}

// inStream is where the tasks read from.
func (s *step) inStream() *launchv1.Stream {
	mode := s.Request.Spec.StdIn
	if s.Request.Step.Pty {
		return &launchv1.Stream{Kind: launchv1.Stream_TASK}
	}
	switch {
	case mode == "" || mode == "all":
		return &launchv1.Stream{Kind: launchv1.Stream_CALLER}
	case mode == "none":
		return &launchv1.Stream{Kind: launchv1.Stream_NONE}
	case perTask(mode):
		return &launchv1.Stream{Kind: launchv1.Stream_FILE, Path: absIn(s.Request.Spec.WorkDir, s.expand(mode))}
	}
	if id, err := strconv.ParseUint(mode, 10, 31); err == nil && int(id) < len(s.reply.GetTaskIds()) {
		return &launchv1.Stream{Kind: launchv1.Stream_TASK, Task: uint32(id)}
	}
	return &launchv1.Stream{Kind: launchv1.Stream_CALLER}
}

// startInput carries srun's input, or the file of --input, to the tasks. The
// goroutine ends with its source or with ctx; one that waits for a terminal
// ends with the process.
func (s *step) startInput(ctx context.Context) {
	in := s.work.GetStdin()
	to := uint32(allTasks)
	switch in.GetKind() {
	case launchv1.Stream_CALLER:
	case launchv1.Stream_TASK:
		to = in.GetTask()
	default:
		return
	}
	from := s.Stdin
	mode := s.Request.Spec.StdIn
	if _, err := strconv.Atoi(mode); err != nil && mode != "" && mode != "all" && !s.Request.Step.Pty {
		path := absIn(s.Request.Spec.WorkDir, s.expand(mode))
		f, err := os.Open(path)
		if err != nil {
			s.Errorf("Could not open stdin file: %s: %s", path, cause(err))
			from = strings.NewReader("")
		} else {
			from = f
		}
	}
	var targets []*node
	for _, n := range s.nodes {
		if to == allTasks || s.status.node[to] == n {
			targets = append(targets, n)
		}
	}
	go pump(ctx, from, targets, to)
}

func pump(ctx context.Context, from io.Reader, targets []*node, to uint32) {
	for _, n := range targets {
		if !n.ready(ctx) {
			return
		}
	}
	buf := make([]byte, inputSize)
	for ctx.Err() == nil {
		k, err := from.Read(buf)
		if k > 0 {
			data := bytes.Clone(buf[:k])
			for _, n := range targets {
				n.send(&nodev1.RunStepIn{Body: &nodev1.RunStepIn_Stdin{Stdin: &nodev1.Stdin{Task: to, Data: data}}})
			}
		}
		if err != nil {
			for _, n := range targets {
				n.send(&nodev1.RunStepIn{Body: &nodev1.RunStepIn_Stdin{Stdin: &nodev1.Stdin{Task: to, Eof: true}}})
			}
			return
		}
	}
}

// partial names an unfinished line.
type partial struct {
	task uint32
	err  bool
}

// output writes what tasks print: whole lines of one task at a time, unless
// there is one task or the user wants it raw.
type output struct {
	raw    bool
	label  bool
	width  int // of a label's number
	only   [2]uint32
	broken chan struct{} // gets a value when nobody reads us any more
	files  [2]*os.File

	mu      sync.Mutex
	to      [2]io.Writer
	closed  [2]bool
	partial map[partial][]byte
}

// take writes a piece of a task's output.
func (o *output) take(m *nodev1.Output) {
	which := 0
	if m.GetErr() {
		which = 1
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.only[which] != allTasks && o.only[which] != m.GetTask() {
		return
	}
	if o.raw && !o.label {
		o.write(which, m.GetData())
		return
	}
	key := partial{m.GetTask(), m.GetErr()}
	held := append(o.partial[key], m.GetData()...)
	end := bytes.LastIndexByte(held, '\n') + 1
	if o.raw || m.GetEof() || len(held)-end > maxLine {
		end = len(held)
	}
	if end > 0 {
		o.write(which, o.labelled(m.GetTask(), held[:end]))
	}
	if o.partial[key] = append([]byte(nil), held[end:]...); end == len(held) {
		delete(o.partial, key)
	}
}

// labelled puts the task's number before each line.
func (o *output) labelled(task uint32, text []byte) []byte {
	if !o.label {
		return text
	}
	var b bytes.Buffer
	for line := range bytes.Lines(text) {
		fmt.Fprintf(&b, "%*d: %s", o.width, task, line)
	}
	if text[len(text)-1] != '\n' {
		b.WriteByte('\n')
	}
	return b.Bytes()
}

func (o *output) write(which int, b []byte) {
	if o.closed[which] || len(b) == 0 {
		return
	}
	if _, err := o.to[which].Write(b); err != nil {
		o.closed[which] = true
		select {
		case o.broken <- struct{}{}:
		default:
		}
	}
}

// close writes the lines that no newline ended, and closes files.
func (o *output) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for key, b := range o.partial {
		which := 0
		if key.err {
			which = 1
		}
		o.write(which, o.labelled(key.task, b))
	}
	o.partial = map[partial][]byte{}
	for _, f := range o.files {
		if f != nil {
			f.Close()
		}
	}
}
