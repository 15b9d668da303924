package srun

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// oomCode is the exit code of a task that the kernel killed for its memory.
const oomCode = 253

type taskState uint8

const (
	taskStarting taskState = iota
	taskRunning
	taskExited
	taskFailed // exited with a code, or by a signal
)

func (s taskState) String() string {
	return [...]string{"unknown", "running", "exited", "exited abnormally"}[s]
}

// tasks is what is known of a step's tasks. It is used by one goroutine.
type tasks struct {
	step   *step
	ids    []uint32
	state  map[uint32]taskState
	node   map[uint32]*node
	ended  int
	failed bool // a task failed
	killed bool // the step is being ended before its time
	code   int  // highest so far
	status wlm.WaitStatus
	signal bool // code comes from a signal
	first  time.Time

	reports []report // ends not told yet
}

// report is a kind of end on a node, and whose it was.
type report struct {
	node *node
	text string
	ids  []uint32
	bad  bool
}

func newTasks(s *step) *tasks {
	return &tasks{step: s, state: map[uint32]taskState{}, node: map[uint32]*node{}}
}

func (t *tasks) add(id uint32, n *node) {
	t.ids = append(t.ids, id)
	t.node[id] = n
	t.state[id] = taskStarting
}

func (t *tasks) launched(m *nodev1.Launched) {
	for _, id := range m.GetTaskIds() {
		if t.state[id] == taskStarting {
			t.state[id] = taskRunning
		}
	}
}

// end takes note of a task's end; repeated news are ignored.
func (t *tasks) end(m *nodev1.TaskEnded) {
	id := m.GetTask()
	if s, known := t.state[id]; !known || s >= taskExited {
		return
	}
	if t.ended++; t.ended == 1 {
		t.first = time.Now()
	}
	status := wlm.WaitStatus(m.GetStatus())
	code, text, bad := describe(m)
	t.state[id] = taskExited
	if bad {
		t.state[id] = taskFailed
		t.failed = true
	}
	if code > t.code || t.ended == 1 {
		t.code, t.status = code, status
		t.signal = status.Signal() == int(syscall.SIGKILL) || status.Signal() == int(syscall.SIGTERM)
	}
	t.tell(t.node[id], id, text, bad)
}

// describe puts a task's end in Slurm's words.
func describe(m *nodev1.TaskEnded) (code int, text string, bad bool) {
	const signalled = 128
	status := wlm.WaitStatus(m.GetStatus())
	switch {
	case m.GetOom():
		return oomCode, "Out Of Memory", true
	case status.Signal() != 0:
		text = wlm.SignalText(status.Signal())
		if m.GetCore() {
			text += " (core dumped)"
		}
		return signalled + status.Signal(), text, true
	case status.Code() != 0:
		return status.Code(), fmt.Sprintf("Exited with exit code %d", status.Code()), true
	}
	return 0, "Completed", false
}

// tell keeps an end for flush, with others of its kind.
func (t *tasks) tell(n *node, id uint32, text string, bad bool) {
	for i := range t.reports {
		if r := &t.reports[i]; r.node == n && r.text == text {
			r.ids = append(r.ids, id)
			return
		}
	}
	t.reports = append(t.reports, report{n, text, []uint32{id}, bad})
}

// flush tells the ends kept so far.
func (t *tasks) flush() {
	for _, r := range t.reports {
		line := r.node.name + ": " + numbered(r.ids) + ": " + r.text
		if r.bad {
			t.step.Errorf("%s", line)
		} else {
			t.step.Verbosef(1, "%s", line)
		}
	}
	t.reports = nil
}

// numbered prints "task 3" or "tasks 0-2,5".
func numbered(ids []uint32) string {
	slices.Sort(ids)
	var b strings.Builder
	for i := 0; i < len(ids); {
		j := i + 1
		for j < len(ids) && ids[j] == ids[j-1]+1 {
			j++
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatUint(uint64(ids[i]), 10))
		if j-i > 1 {
			b.WriteString("-" + strconv.FormatUint(uint64(ids[j-1]), 10))
		}
		i = j
	}
	if len(ids) == 1 {
		return "task " + b.String()
	}
	return "tasks " + b.String()
}

// report tells the state of all tasks, as an interrupt asks for.
func (t *tasks) report() {
	byState := map[taskState][]uint32{}
	for _, id := range t.ids {
		byState[t.state[id]] = append(byState[t.state[id]], id)
	}
	for _, s := range []taskState{taskStarting, taskRunning, taskExited, taskFailed} {
		if ids := byState[s]; len(ids) > 0 {
			t.step.Infof("%s %s: %s", t.step, numbered(ids), s)
		}
	}
}

// lose ends the tasks of a node that is gone.
func (t *tasks) lose(n *node) {
	for _, id := range n.tasks {
		if t.state[id] < taskExited {
			t.state[id] = taskFailed
			t.ended++
			t.failed = true
			if t.code == 0 {
				t.code, t.status = 1, wlm.ExitStatus(1)
			}
		}
	}
}

// allOf reports whether every task of a node has ended.
func (t *tasks) allOf(n *node) bool {
	return !slices.ContainsFunc(n.tasks, func(id uint32) bool { return t.state[id] < taskExited })
}
