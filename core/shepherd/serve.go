package shepherd

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"net"
	"os"
	"strconv"

	"github.com/sluice-hpc/sluice/sdk/stepd"
	"golang.org/x/sys/unix"
)

// listen opens the step's socket, for root and the daemon's user only.
func (s *shepherd) listen() error {
	path, done, err := stepd.SocketPath(s.spec.Dir + "/" + stepd.SocketFile)
	if err != nil {
		return err
	}
	defer done()
	old := unix.Umask(0o177)
	l, err := net.Listen("unix", path)
	unix.Umask(old)
	if err != nil {
		return err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(c)
		}
	}()
	return nil
}

// serve answers one connection.
func (s *shepherd) serve(c net.Conn) {
	r := bufio.NewReader(c)
	f, err := stepd.ReadFrame(r)
	if err != nil {
		s.turnedAway()
		c.Close()
		return
	}
	switch f.Kind {
	case stepd.Attach, stepd.Watch:
		cl := s.hub.add(c, f.Kind == stepd.Attach)
		s.input(r)
		s.hub.remove(cl)
		return
	case stepd.Signal:
		answer(c, s.signal(f.Data))
	case stepd.GetStats:
		b, err := json.Marshal(s.stats())
		if err != nil {
			answer(c, err)
			break
		}
		stepd.WriteFrame(c, stepd.Frame{Kind: stepd.StatsAre, Data: b})
	case stepd.Forget:
		answer(c, nil)
		s.forgetOnce.Do(func() { close(s.forget) })
	default:
		s.turnedAway()
		stepd.WriteFrame(c, stepd.Frame{Kind: stepd.Error, Data: []byte("unknown frame " + strconv.QuoteRune(rune(f.Kind)))})
	}
	c.Close()
}

// turnedAway counts a connection that was no request, and logs the first few.
func (s *shepherd) turnedAway() {
	if n := s.garbage.Add(1); n <= 3 || n%1000 == 0 {
		logf("turned away a connection that is no request, so_far=" + strconv.FormatUint(n, 10))
	}
}

func answer(c net.Conn, err error) {
	f := stepd.Frame{Kind: stepd.OK}
	if err != nil {
		f = stepd.Frame{Kind: stepd.Error, Data: []byte(err.Error())}
	}
	stepd.WriteFrame(c, f)
}

// input takes what an attached client sends, until it goes.
func (s *shepherd) input(r *bufio.Reader) {
	for {
		f, err := stepd.ReadFrame(r)
		if err != nil {
			return
		}
		<-s.ready
		for _, t := range s.tasks {
			if f.Task != stepd.AllTasks && f.Task != t.id {
				continue
			}
			switch {
			case f.Kind == stepd.Stdin && t.feed != nil && len(f.Data) > 0:
				t.feed.push(f.Data)
			case f.Kind == stepd.StdinEOF && t.feed != nil:
				t.feed.push(nil)
			case f.Kind == stepd.Window && t.pty != nil && len(f.Data) == 4:
				if rc, err := t.pty.SyscallConn(); err == nil {
					rc.Control(func(fd uintptr) {
						setWindow(int(fd), binary.BigEndian.Uint16(f.Data), binary.BigEndian.Uint16(f.Data[2:]))
					})
				}
			}
		}
	}
}

// signal carries out a signal request.
func (s *shepherd) signal(payload []byte) error {
	var q stepd.SignalRequest
	if err := json.Unmarshal(payload, &q); err != nil {
		return err
	}
	<-s.ready
	if q.Notice != "" {
		s.notice(q.Notice)
	}
	switch {
	case q.Signal == 0:
		return nil
	case q.Shell:
		if len(s.tasks) == 0 || s.tasks[0].failed {
			return unix.ESRCH
		}
		return unix.Kill(s.tasks[0].pid, unix.Signal(q.Signal))
	case unix.Signal(q.Signal) == unix.SIGKILL:
		killAll()
		return nil
	}
	for _, p := range descendants() {
		unix.Kill(p.pid, unix.Signal(q.Signal))
	}
	return nil
}

// killAll kills every process of the step, those that are being born too.
func killAll() {
	const rounds = 100 // a fork bomb is left to its limits
	seen := make(map[int]bool)
	for range rounds {
		fresh := false
		for _, p := range descendants() {
			if !seen[p.pid] {
				seen[p.pid], fresh = true, true
				unix.Kill(p.pid, unix.SIGKILL)
			}
		}
		if !fresh {
			return
		}
	}
}

// killStrays kills what is left when every task has ended.
func (s *shepherd) killStrays() {
	if err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil); err == unix.ECHILD {
		return
	}
	killAll()
}

// process is a row of the process table.
type process struct {
	pid, parent int
	stat        []byte
}

// descendants lists every living process below this one.
func descendants() []process {
	d, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil
	}
	children := make(map[int][]process)
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + name + "/stat")
		if err != nil {
			continue // it ended
		}
		parent, err := statField(stat, 4)
		if err != nil {
			continue
		}
		children[int(parent)] = append(children[int(parent)], process{pid, int(parent), stat})
	}
	var out []process
	for queue := []int{os.Getpid()}; len(queue) > 0; queue = queue[1:] {
		for _, p := range children[queue[0]] {
			queue = append(queue, p.pid)
			if !zombie(p.stat) {
				out = append(out, p)
			}
		}
	}
	return out
}

// zombie reports whether a process has ended and only waits to be reaped.
func zombie(stat []byte) bool {
	for i := len(stat) - 1; i >= 0; i-- {
		if stat[i] == ')' {
			return i+2 < len(stat) && (stat[i+2] == 'Z' || stat[i+2] == 'X')
		}
	}
	return false
}

// ticksPerSecond is the kernel's USER_HZ, 100 on every architecture of Linux
// that Go runs on.
const ticksPerSecond = 100

// stats adds up what ended and what runs.
func (s *shepherd) stats() stepd.Stats {
	s.mu.Lock()
	st := stepd.Stats{Usage: s.usage}
	s.mu.Unlock()
	page := uint64(os.Getpagesize())
	for _, p := range descendants() {
		st.PIDs = append(st.PIDs, uint32(p.pid))
		user, _ := statField(p.stat, 14)
		sys, _ := statField(p.stat, 15)
		rss, _ := statField(p.stat, 24)
		st.Usage.UserUsec += user * 1e6 / ticksPerSecond
		st.Usage.SysUsec += sys * 1e6 / ticksPerSecond
		st.Usage.MaxRSSKiB = max(st.Usage.MaxRSSKiB, rss*page/1024)
	}
	return st
}
