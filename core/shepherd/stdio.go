package shepherd

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/sluice-hpc/sluice/sdk/stepd"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"golang.org/x/sys/unix"
)

// outputStatus is the status of a step whose output could not be opened;
// users know it as exit code 0:53.
const outputStatus = 53

// streams opens the tasks' streams; a file that several tasks share is opened
// once.
type streams struct {
	s     *shepherd
	files map[string]int
	null  int
}

// openStreams makes the tasks with both ends of their streams.
func (s *shepherd) openStreams() (status uint32, err error) {
	for i, id := range s.spec.TaskIDs {
		s.tasks = append(s.tasks, &task{id: id, local: i, in: -1, out: -1, err: -1, notice: -1})
	}
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return failedStatus, err
	}
	old := unix.Umask(int(s.spec.Umask))
	defer unix.Umask(old)
	o := &streams{s: s, files: make(map[string]int), null: null}
	for _, t := range s.tasks {
		if s.spec.Pty && t.id == 0 {
			if err := o.terminal(t); err != nil {
				return failedStatus, fmt.Errorf("making a terminal: %w", err)
			}
			continue
		}
		if err := o.open(t); err != nil {
			return outputStatus, err
		}
	}
	return 0, nil
}

func (o *streams) open(t *task) (err error) {
	sp := o.s.spec
	t.in = o.null
	switch in := sp.Stdin; {
	case in.Kind == stepd.File:
		if t.in, err = o.file(t, in, "stdin", unix.O_RDONLY); err != nil {
			return err
		}
	case in.Kind == stepd.Caller || in.Kind == stepd.Task && in.Task == t.id:
		r, w, err := pipe()
		if err != nil {
			return err
		}
		t.in, t.feed = r, newFeeder(os.NewFile(uintptr(w), "stdin"), false)
	}
	if t.out, t.outR, err = o.output(t, sp.Stdout, "stdout"); err != nil {
		return err
	}
	if sp.Stderr.Kind == stepd.Joined {
		t.err = t.out
	} else if t.err, t.errR, err = o.output(t, sp.Stderr, "stderr"); err != nil {
		return err
	}
	toFile := sp.Stderr.Kind == stepd.File || sp.Stderr.Kind == stepd.Joined && sp.Stdout.Kind == stepd.File
	if t.local == 0 && toFile {
		t.notice, err = unix.FcntlInt(uintptr(t.err), unix.F_DUPFD_CLOEXEC, 3)
	}
	return err
}

// output opens one output stream; ours is nil unless it goes to the caller.
func (o *streams) output(t *task, st stepd.Stream, what string) (theirs int, ours *os.File, err error) {
	switch st.Kind {
	case stepd.File:
		flags := unix.O_WRONLY | unix.O_CREAT
		if st.Append {
			flags |= unix.O_APPEND
		} else {
			flags |= unix.O_TRUNC
		}
		theirs, err = o.file(t, st, what, flags)
		return theirs, nil, err
	case stepd.Caller:
		r, w, err := pipe()
		if err != nil {
			return -1, nil, err
		}
		unix.SetNonblock(r, true)
		return w, os.NewFile(uintptr(r), what), nil
	}
	return o.null, nil, nil
}

// file opens a path as the step's user, relative to the step's directory.
func (o *streams) file(t *task, st stepd.Stream, what string, flags int) (fd int, err error) {
	path := wlm.ExpandPattern(st.Path, o.s.fields(t))
	if !filepath.IsAbs(path) {
		path = filepath.Join(o.s.spec.Cwd, path)
	}
	key := path
	if flags == unix.O_RDONLY {
		key = "<" + path
	}
	if fd, ok := o.files[key]; ok {
		return fd, nil
	}
	err = o.s.asUser(func() (err error) {
		fd, err = unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NOCTTY, 0o666)
		return err
	})
	if err != nil {
		//lint:ignore ST1005 this is Slurm's text
		return -1, fmt.Errorf("Could not open %s file %s: %s", what, path, errnoText(err))
	}
	o.files[key] = fd
	return fd, nil
}

// pipe makes a pipe; neither end is inherited by itself.
func pipe() (r, w int, err error) {
	var p [2]int
	err = unix.Pipe2(p[:], unix.O_CLOEXEC)
	return p[0], p[1], err
}

// terminal gives t a pseudo terminal of its user's.
func (o *streams) terminal(t *task) error {
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	n, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err != nil {
		return err
	}
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return err
	}
	name := "/dev/pts/" + strconv.Itoa(n)
	if os.Getuid() == 0 {
		if err := os.Chown(name, int(o.s.spec.UID), -1); err != nil {
			return err
		}
	}
	slave, err := unix.Open(name, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	setWindow(master, o.s.spec.Rows, o.s.spec.Cols)
	unix.SetNonblock(master, true)
	t.in, t.out, t.err = slave, slave, slave
	t.pty = os.NewFile(uintptr(master), "pty")
	t.outR = t.pty
	t.feed = newFeeder(t.pty, true)
	return nil
}

// setWindow tells a terminal its size; 0 rows or columns are not told.
func setWindow(fd int, rows, cols uint16) {
	if rows != 0 && cols != 0 {
		unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
	}
}

// closeTaskEnds closes what belongs to the tasks.
func (s *shepherd) closeTaskEnds() {
	closed := make(map[int]bool)
	for _, t := range s.tasks {
		for _, fd := range []int{t.in, t.out, t.err} {
			if fd > 2 && !closed[fd] {
				unix.Close(fd)
				closed[fd] = true
			}
		}
	}
}

// startPumps carries output from the tasks to the hub.
func (s *shepherd) startPumps() {
	for _, t := range s.tasks {
		s.pump(t, t.outR, stepd.Stdout)
		s.pump(t, t.errR, stepd.Stderr)
		if t.feed != nil {
			go t.feed.run()
		}
	}
}

func (s *shepherd) pump(t *task, from *os.File, kind stepd.FrameKind) {
	if from == nil {
		return
	}
	s.pumps.Add(1)
	go func() {
		defer s.pumps.Done()
		buf := make([]byte, 32<<10)
		for {
			n, err := from.Read(buf)
			if n > 0 {
				s.hub.output(stepd.Frame{Kind: kind, Task: t.id, Data: append([]byte(nil), buf[:n]...)})
			}
			if err != nil {
				// EOF; from a terminal, EIO says the same.
				s.hub.output(stepd.Frame{Kind: kind, Task: t.id})
				return
			}
		}
	}()
}

// feeder carries input to one task.
type feeder struct {
	w    *os.File
	tty  bool
	ch   chan []byte // an empty slice is the end
	done chan struct{}
}

func newFeeder(w *os.File, tty bool) *feeder {
	return &feeder{w: w, tty: tty, ch: make(chan []byte, 8), done: make(chan struct{})}
}

func (f *feeder) run() {
	defer close(f.done)
	for b := range f.ch {
		switch {
		case len(b) > 0:
			if _, err := f.w.Write(b); err != nil {
				return // the task reads no more
			}
		case f.tty:
			const eot = 4
			f.w.Write([]byte{eot})
		default:
			f.w.Close()
			return
		}
	}
}

// push hands b to the task, waiting for room; what comes after the task's end
// is dropped.
func (f *feeder) push(b []byte) {
	select {
	case f.ch <- b:
	case <-f.done:
	}
}

// notice writes a line to the step's stderr, without waiting for a reader.
func (s *shepherd) notice(text string) {
	if len(s.tasks) == 0 {
		return
	}
	t := s.tasks[0]
	line := []byte(text + "\n")
	switch {
	case t.notice >= 0:
		unix.Write(t.notice, line)
	case t.errR != nil:
		s.hub.force(stepd.Frame{Kind: stepd.Stderr, Task: t.id, Data: line})
	case t.outR != nil:
		s.hub.force(stepd.Frame{Kind: stepd.Stdout, Task: t.id, Data: line})
	}
}
