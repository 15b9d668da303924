// Package stepd is the contract between the supervisor of a step
// (slurmstepd) and those who start it and talk to it: the launch plugin and
// slurmd. It knows no gRPC, so that the supervisor starts fast.
//
// # Life
//
// The launcher makes the step's directory with an empty file "events", starts
// slurmstepd in a session of its own and writes a [Spec] to its standard
// input. The supervisor locks "events", appends an [Event] a line to it, and
// after each write tells the same line on its standard output, for as long as
// somebody reads that. It listens on the Unix socket "sock" of the directory.
//
// The lock says whether the supervisor is alive. A directory whose events have
// no "gone" and whose lock is free had its supervisor killed, or it never
// started. Whoever finds that holds the lock while removing the directory; a
// supervisor that comes late finds its file unlinked and runs nothing. So a
// step is never run twice.
//
// # Socket
//
// A connection carries frames: a byte of kind, the global task id and the
// length of the payload as big-endian 32-bit numbers, the payload. The first
// frame of the client says what the connection is for:
//
//	Attach  stdio of the step. The supervisor sends every event so far, then
//	        output, events as they come, and closes after the last output.
//	        The client may send Stdin, StdinEOF and Window frames.
//	Watch   events only, those so far and those to come.
//	Signal  a [SignalRequest]; answered with OK or Error; closed.
//	Stats   answered with a Stats frame; closed.
//	Forget  nobody will attach any more; answered with OK; closed.
//
// Output that nobody reads is kept up to [Buffer] bytes; then the tasks block.
package stepd

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strconv"
	"syscall"
)

// Names of files in a step's directory.
const (
	EventsFile = "events"
	SocketFile = "sock"
	ScriptFile = "slurm_script"
)

// AllTasks as a frame's task is every task.
const AllTasks = 0xffffffff

// Buffer is how much output is kept while nobody is attached, in bytes.
const Buffer = 1 << 20

// Spec is what a supervisor runs: one node's share of a step.
type Spec struct {
	Dir      string // of the step; absolute
	EventsFD int    `json:",omitempty"` // descriptor of the events file; 0: opened by its name
	Node     string
	Job      uint32
	Step     uint32
	Restarts uint32
	JobName  string
	ArrayJob uint32 // 0: not of an array
	ArrayID  uint32

	UID  uint32
	GID  uint32
	GIDs []uint32
	User string

	TaskIDs []uint32 // global, rising
	NTasks  uint32   // of the whole step
	NodeID  uint32   // of this node in the step
	NNodes  uint32

	Argv       []string
	Env        []string
	PerTaskEnv []string // NAME=pattern with %t and %l
	MultiProg  string   // lines "tasks command args"; replaces Argv
	Cwd        string
	Umask      uint32
	Limits     []Limit
	Nice       int
	CPUs       []int // to bind to; empty: not bound
	Cgroups    []Cgroup
	Tasks      []TaskSettings `json:",omitempty"` // what tasks differ in, in the order of TaskIDs; empty: in nothing

	Stdin  Stream
	Stdout Stream
	Stderr Stream
	Pty    bool // task 0 only
	Rows   uint16
	Cols   uint16
}

// Limit is a resource limit by the kernel's number.
type Limit struct {
	Resource int
	Soft     uint64
	Hard     uint64
}

// Cgroup is a directory that tasks are put into before their first
// instruction. Values are written, in order, after it was made.
type Cgroup struct {
	Dir    string
	Values []CgroupValue
	OOM    string // file in Dir whose line "oom_kill N" counts kills; empty: none
	Task   int    `json:",omitempty"` // place in TaskIDs, counted from 1, of the only task to be put there; 0: all are
}

// TaskSettings is what one task has otherwise than its neighbours.
type TaskSettings struct {
	Env   []string `json:",omitempty"` // NAME=value
	CPUs  []int    `json:",omitempty"` // by the kernel's numbers, to bind to; empty: those of the step
	Notes []string `json:",omitempty"` // lines for its stderr before its program starts; %p is its process id
}

// CgroupValue is one setting of a cgroup.
type CgroupValue struct{ File, Value string }

// StreamKind says where one of a task's streams goes.
type StreamKind uint8

// The kinds of a stream, as in sdk/proto/launch/v1.
const (
	Null   StreamKind = iota // /dev/null
	Caller                   // to and from whoever attached
	File                     // a path, expanded per task
	Task                     // stdin only: from the caller, for one task
	Joined                   // stderr only: where stdout goes
)

// Stream is one of a task's three streams.
type Stream struct {
	Kind   StreamKind
	Path   string
	Append bool
	Task   uint32
}

// EventKind is what an [Event] tells.
type EventKind string

// The kinds of an event, in the order in which they come.
const (
	Began   EventKind = "begin" // the supervisor holds the step
	Forking EventKind = "fork"  // from here on tasks may have run
	Started EventKind = "start" // every task runs
	Exited  EventKind = "exit"  // a task ended
	Gone    EventKind = "gone"  // nothing of the step is left
)

// Event is a line of the events file.
type Event struct {
	Kind EventKind `json:"k"`
	Time int64     `json:"t"`

	// Began.
	Node     string   `json:"node,omitempty"`
	Job      uint32   `json:"job,omitempty"`
	Step     uint32   `json:"step,omitempty"`
	Restarts uint32   `json:"restarts,omitempty"`
	UID      uint32   `json:"uid,omitempty"`
	PID      int      `json:"pid,omitempty"` // of the supervisor
	TaskIDs  []uint32 `json:"ids,omitempty"`

	// Started.
	PIDs []uint32 `json:"pids,omitempty"` // of the tasks, in the order of TaskIDs

	// Exited; Status also for Gone, the highest of the tasks.
	Task   uint32 `json:"task,omitempty"`
	Status uint32 `json:"status,omitempty"`
	OOM    bool   `json:"oom,omitempty"`
	Core   bool   `json:"core,omitempty"`

	// Gone.
	Usage *Usage `json:"usage,omitempty"`
	Error string `json:"error,omitempty"` // why the step could not be run
}

// Usage is what a step used.
type Usage struct {
	UserUsec  uint64 `json:"u,omitempty"`
	SysUsec   uint64 `json:"s,omitempty"`
	MaxRSSKiB uint64 `json:"rss,omitempty"`
	Read      uint64 `json:"r,omitempty"` // bytes
	Written   uint64 `json:"w,omitempty"`
}

// Stats answers a Stats frame.
type Stats struct {
	Usage Usage
	PIDs  []uint32 // of every process of the step
}

// SignalRequest is the payload of a Signal frame.
type SignalRequest struct {
	Signal int    // 0: none, only the notice
	Shell  bool   // the first task's own process only
	Notice string // line for the step's stderr, without line end
}

// FrameKind is a frame's first byte.
type FrameKind byte

// The kinds of a frame.
const (
	Attach   FrameKind = 'A'
	Watch    FrameKind = 'W'
	Signal   FrameKind = 'S'
	GetStats FrameKind = 'T'
	Forget   FrameKind = 'F'
	Stdin    FrameKind = 'I'
	StdinEOF FrameKind = 'E'
	Window   FrameKind = 'Z' // payload: rows and columns, 16 bits each
	Happened FrameKind = 'V' // payload: an Event
	Stdout   FrameKind = 'O' // empty payload: the end of the stream
	Stderr   FrameKind = 'R' // likewise
	OK       FrameKind = 'o'
	Error    FrameKind = 'e' // payload: a text
	StatsAre FrameKind = 't' // payload: Stats
)

// MaxFrame bounds a frame's payload.
const MaxFrame = 1 << 20

// Frame is one message on the socket.
type Frame struct {
	Kind FrameKind
	Task uint32
	Data []byte
}

// headerSize is the length of a frame without its payload.
const headerSize = 9

// WriteFrame writes f with one call of Write.
func WriteFrame(w io.Writer, f Frame) error {
	b := make([]byte, headerSize, headerSize+len(f.Data))
	b[0] = byte(f.Kind)
	binary.BigEndian.PutUint32(b[1:], f.Task)
	binary.BigEndian.PutUint32(b[5:], uint32(len(f.Data)))
	_, err := w.Write(append(b, f.Data...))
	return err
}

// ReadFrame reads the next frame; io.EOF between frames is the end.
func ReadFrame(r *bufio.Reader) (Frame, error) {
	var h [headerSize]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return Frame{}, err
	}
	n := binary.BigEndian.Uint32(h[5:])
	if n > MaxFrame {
		return Frame{}, errors.New("stepd: a frame of " + strconv.FormatUint(uint64(n), 10) + " bytes")
	}
	f := Frame{Kind: FrameKind(h[0]), Task: binary.BigEndian.Uint32(h[1:])}
	if n > 0 {
		f.Data = make([]byte, n)
		if _, err := io.ReadFull(r, f.Data); err != nil {
			return Frame{}, err
		}
	}
	return f, nil
}

// ReadEvents reads the events of a step's directory. A torn last line, left
// by a crash, is dropped.
func ReadEvents(dir string) ([]Event, error) {
	b, err := os.ReadFile(dir + "/" + EventsFile)
	if err != nil {
		return nil, err
	}
	var out []Event
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			break
		}
		var e Event
		if json.Unmarshal(b[:i], &e) != nil || e.Kind == "" {
			break
		}
		out = append(out, e)
		b = b[i+1:]
	}
	return out, nil
}

// ErrLocked says that the supervisor of a directory is alive.
var ErrLocked = errors.New("stepd: the supervisor is alive")

// Lock takes the lock of a step's directory, or fails with [ErrLocked]. Its
// holder knows that no supervisor runs, nor will. Closing the file frees it.
func Lock(dir string) (*os.File, error) { return lock(dir + "/" + EventsFile) }

// LockFD is [Lock] by a descriptor of the events file, which is closed.
func LockFD(fd int) (*os.File, error) {
	defer syscall.Close(fd)
	return lock("/proc/self/fd/" + strconv.Itoa(fd)) // a file of its own, and so a lock of its own
}

func lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if err == syscall.EWOULDBLOCK {
			return nil, ErrLocked
		}
		return nil, err
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &st); err != nil || st.Nlink == 0 {
		f.Close()
		return nil, os.ErrNotExist
	}
	return f, nil
}
