package shepherd

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sluice-hpc/sluice/sdk/stepd"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"golang.org/x/sys/unix"
)

// task is one process that the step consists of.
type task struct {
	id     uint32 // global
	local  int
	pid    int
	status uint32
	oom    bool
	failed bool // never ran: status says why

	in, out, err int      // the task's ends, closed after the fork; -1: none
	feed         *feeder  // our end of stdin; nil: none
	outR, errR   *os.File // our ends; nil: none
	pty          *os.File // the master; nil: none
	notice       int      // where notices for the step go; -1: through the hub
}

// pidPlace holds the place of SLURM_TASK_PID's value, which is known only
// when the process exists: it is written there before its first instruction.
const pidPlace = "0000000000"

// taskTimerSlack is Linux's own value, in ns: daemons have a greater one.
const taskTimerSlack = 50_000

// forkAll starts every task. A task that cannot be started ends at once.
//
// ptrace, and the kernel's per-thread file system ids, ask for one thread; and
// PDEATHSIG for one that does not end before the process, which Go's do not.
func (s *shepherd) forkAll() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	old := unix.Umask(int(s.spec.Umask))
	if slack, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0); err == nil {
		unix.Prctl(unix.PR_SET_TIMERSLACK, taskTimerSlack, 0, 0, 0)
		defer unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(slack), 0, 0, 0)
	}
	if len(s.spec.CPUs) > 0 {
		bind(0, s.spec.CPUs)
	}
	restore := s.ownLimits()
	defer restore()
	cwd, complaint := s.workDir()
	for _, t := range s.tasks {
		if complaint != "" {
			s.taskError(t, complaint)
		}
		s.fork(t, cwd)
	}
	unix.Umask(old)
}

// workDir is the step's directory, or /tmp and what to say about it.
func (s *shepherd) workDir() (dir, complaint string) {
	dir = s.spec.Cwd
	if dir == "" {
		return "/", ""
	}
	err := s.asUser(func() error {
		fd, err := unix.Open(dir+"/.", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err == nil {
			unix.Close(fd)
		}
		return err
	})
	if err == nil {
		return dir, ""
	}
	return "/tmp", "couldn't chdir to `" + dir + "': " + errnoText(err) + ": going to /tmp instead"
}

// errnoText is strerror's text, which begins in upper case unlike Go's.
func errnoText(err error) string {
	var n syscall.Errno
	if !errors.As(err, &n) {
		return err.Error()
	}
	text := n.Error()
	return strings.ToUpper(text[:1]) + text[1:]
}

// taskError writes a line to a task's stderr, before or instead of its own.
func (s *shepherd) taskError(t *task, text string) {
	line := []byte(stamp(time.Now()) + " error: " + text + "\n")
	if t.err >= 0 {
		unix.Write(t.err, line)
	}
}

// busyTime bounds the wait for a program that is open for writing.
const busyTime = 2 * time.Second

// forkExec is patient with a program that is busy: whoever wrote a job's script
// may have forked while it was open, and the child holds that descriptor until
// it executes a program of its own.
func forkExec(path string, argv []string, attr *syscall.ProcAttr) (pid int, err error) {
	pause := time.Millisecond
	for end := time.Now().Add(busyTime); ; pause *= 2 {
		pid, err = syscall.ForkExec(path, argv, attr)
		if !errors.Is(err, syscall.ETXTBSY) || time.Now().After(end) {
			return pid, err
		}
		time.Sleep(pause)
	}
}

// fork starts t in a session of its own.
func (s *shepherd) fork(t *task, cwd string) {
	argv, err := s.argv(t)
	if err != nil {
		s.taskError(t, err.Error())
		t.failed, t.status = true, failedStatus
		return
	}
	env := s.taskEnv(t)
	path := s.lookPath(argv[0], env)
	attr := &syscall.ProcAttr{
		Dir:   cwd,
		Env:   env,
		Files: []uintptr{uintptr(t.in), uintptr(t.out), uintptr(t.err)},
		Sys: &syscall.SysProcAttr{
			Setsid:    true,
			Setctty:   t.pty != nil,
			Pdeathsig: unix.SIGKILL,
			Ptrace:    true,
		},
	}
	if os.Getuid() == 0 {
		attr.Sys.Credential = &syscall.Credential{Uid: s.spec.UID, Gid: s.spec.GID, Groups: s.spec.GIDs}
	}
	pid, err := forkExec(path, argv, attr)
	if err == nil {
		t.pid = pid
		s.prepareStopped(t)
		return
	}
	if errors.Is(err, syscall.EPERM) { // perhaps tracing is forbidden here
		attr.Sys.Ptrace = false
		if pid, err = forkExec(path, argv, attr); err == nil {
			t.pid = pid
			s.confine(t)
			return
		}
	}
	s.taskError(t, "execve(): "+argv[0]+": "+errnoText(err))
	t.failed = true
	t.status = failedStatus
	var n syscall.Errno
	if errors.As(err, &n) {
		t.status = uint32(n&0xff) << 8
	}
}

// prepareStopped finishes a task that is stopped at its first instruction,
// and lets it go.
func (s *shepherd) prepareStopped(t *task) {
	var ws syscall.WaitStatus
	for {
		_, err := syscall.Wait4(t.pid, &ws, 0, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || ws.Exited() || ws.Signaled() {
			t.failed, t.status = true, uint32(ws)&0xff7f
			return
		}
		if ws.StopSignal() == unix.SIGTRAP {
			break
		}
		unix.PtraceCont(t.pid, int(ws.StopSignal()))
	}
	s.confine(t)
	if err := writePID(t.pid); err != nil {
		logf("SLURM_TASK_PID of task " + strconv.Itoa(int(t.id)) + ": " + err.Error())
	}
	unix.PtraceDetach(t.pid)
}

// confine puts a process under the step's limits.
func (s *shepherd) confine(t *task) {
	for _, cg := range s.spec.Cgroups {
		if cg.Task != 0 && cg.Task != t.local+1 {
			continue
		}
		if err := os.WriteFile(cg.Dir+"/cgroup.procs", []byte(strconv.Itoa(t.pid)), 0); err != nil {
			logf("putting task " + strconv.Itoa(int(t.id)) + " into " + cg.Dir + ": " + err.Error())
		}
	}
	if !s.limitsOwn {
		s.limit(t.pid)
	}
	if s.spec.Nice != 0 {
		unix.Setpriority(unix.PRIO_PROCESS, t.pid, s.spec.Nice)
	}
	own := s.own(t)
	if len(own.CPUs) > 0 {
		bind(t.pid, own.CPUs)
	}
	for _, line := range own.Notes {
		if t.err >= 0 {
			unix.Write(t.err, []byte(strings.ReplaceAll(line, "%p", strconv.Itoa(t.pid))+"\n"))
		}
	}
}

// own is what t has otherwise than its neighbours.
func (s *shepherd) own(t *task) stepd.TaskSettings {
	if t.local < len(s.spec.Tasks) {
		return s.spec.Tasks[t.local]
	}
	return stepd.TaskSettings{}
}

// bind ties a process, or with 0 this thread, to CPUs.
func bind(pid int, cpus []int) {
	var set unix.CPUSet
	for _, c := range cpus {
		set.Set(c)
	}
	if err := unix.SchedSetaffinity(pid, &set); err != nil {
		logf("binding to CPUs: " + err.Error())
	}
}

// limit puts a process under the step's resource limits, as far as they are
// within what this process may give.
func (s *shepherd) limit(pid int) {
	for _, l := range s.spec.Limits {
		lim := unix.Rlimit{Cur: l.Soft, Max: l.Hard}
		if unix.Prlimit(pid, l.Resource, &lim, nil) == nil {
			continue
		}
		var have unix.Rlimit
		err := unix.Prlimit(pid, l.Resource, nil, &have)
		if err == nil {
			lim = unix.Rlimit{Cur: min(l.Soft, have.Max), Max: min(l.Hard, have.Max)}
			err = unix.Prlimit(pid, l.Resource, &lim, nil)
		}
		if err != nil {
			logf("setting resource limit " + strconv.Itoa(l.Resource) + ": " + err.Error())
		}
	}
}

// ownLimits is the way for root without CAP_SYS_RESOURCE (in containers), who
// may not limit processes of others: they inherit soft limits that this
// process takes on while it forks. The returned call takes them off again.
func (s *shepherd) ownLimits() (restore func()) {
	if len(s.spec.Limits) == 0 || int(s.spec.UID) == os.Getuid() || hasSysResource() {
		return func() {}
	}
	s.limitsOwn = true
	var old []stepd.Limit
	for _, l := range s.spec.Limits {
		var have unix.Rlimit
		if unix.Prlimit(0, l.Resource, nil, &have) != nil {
			continue
		}
		old = append(old, stepd.Limit{Resource: l.Resource, Soft: have.Cur, Hard: have.Max})
		have.Cur = min(l.Soft, have.Max)
		unix.Prlimit(0, l.Resource, &have, nil)
	}
	return func() {
		for _, l := range old {
			unix.Prlimit(0, l.Resource, &unix.Rlimit{Cur: l.Soft, Max: l.Hard}, nil)
		}
	}
}

func hasSysResource() bool {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	return unix.Capget(&h, &d[0]) == nil && d[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}

// writePID writes the process's own id into its environment.
func writePID(pid int) error {
	dir := "/proc/" + strconv.Itoa(pid)
	env, err := os.ReadFile(dir + "/environ")
	if err != nil {
		return err
	}
	key := []byte("SLURM_TASK_PID=" + pidPlace)
	at := bytes.LastIndex(env, key)
	if at < 0 {
		return errors.New("no place for it")
	}
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return err
	}
	start, err := statField(stat, 50) // env_start
	if err != nil {
		return err
	}
	mem, err := os.OpenFile(dir+"/mem", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer mem.Close()
	value := make([]byte, len(pidPlace))
	copy(value, strconv.Itoa(pid))
	_, err = mem.WriteAt(value, int64(start)+int64(at+len(key)-len(pidPlace)))
	return err
}

// statField reads the n-th field of /proc/<pid>/stat as proc(5) counts them;
// n is at least 3.
func statField(stat []byte, n int) (uint64, error) {
	i := bytes.LastIndexByte(stat, ')')
	if i < 0 {
		return 0, errors.New("unreadable stat")
	}
	f := bytes.Fields(stat[i+1:])
	if n-3 >= len(f) {
		return 0, errors.New("short stat")
	}
	return strconv.ParseUint(string(f[n-3]), 10, 64)
}

// taskEnv is the environment of t: the step's, then what differs by task.
func (s *shepherd) taskEnv(t *task) []string {
	ids := make([]string, len(s.tasks))
	for i, o := range s.tasks {
		ids[i] = strconv.Itoa(int(o.id))
	}
	own := []string{
		"SLURM_GTIDS=" + strings.Join(ids, ","),
		"SLURM_PROCID=" + strconv.Itoa(int(t.id)),
		"SLURM_LOCALID=" + strconv.Itoa(t.local),
		"SLURM_NODEID=" + strconv.Itoa(int(s.spec.NodeID)),
	}
	for _, e := range s.spec.PerTaskEnv {
		name, pattern, _ := strings.Cut(e, "=")
		pattern = strings.NewReplacer("%t", strconv.Itoa(int(t.id)), "%l", strconv.Itoa(t.local), "%%", "%").Replace(pattern)
		own = append(own, name+"="+pattern)
	}
	own = append(own, s.own(t).Env...)
	own = append(own, "SLURM_TASK_PID="+pidPlace)
	set := make(map[string]bool, len(own))
	for _, e := range own {
		name, _, _ := strings.Cut(e, "=")
		set[name] = true
	}
	env := make([]string, 0, len(s.spec.Env)+len(own))
	for _, e := range s.spec.Env {
		if name, _, _ := strings.Cut(e, "="); !set[name] {
			env = append(env, e)
		}
	}
	return append(env, own...)
}

// argv is what t runs.
func (s *shepherd) argv(t *task) ([]string, error) {
	argv := s.spec.Argv
	if s.spec.MultiProg != "" {
		line, rank := multiProg(s.spec.MultiProg, t.id)
		if line == nil {
			return nil, errors.New("no configuration line for task " + strconv.Itoa(int(t.id)))
		}
		argv = make([]string, len(line))
		r := strings.NewReplacer("%t", strconv.Itoa(int(t.id)), "%o", strconv.Itoa(rank))
		for i, a := range line {
			argv[i] = r.Replace(a)
		}
	}
	if len(argv) == 0 || argv[0] == "" {
		return nil, errors.New("no command given to execute")
	}
	return argv, nil
}

// multiProg finds the words of the line for a task and the task's place in
// that line's range.
func multiProg(text string, id uint32) (words []string, offset int) {
	for line := range strings.Lines(text) {
		f := splitWords(line)
		if len(f) < 2 || strings.HasPrefix(f[0], "#") {
			continue
		}
		place := 0
		for part := range strings.SplitSeq(f[0], ",") {
			lo, hi := part, part
			if a, b, ok := strings.Cut(part, "-"); ok {
				lo, hi = a, b
			}
			first, err1 := strconv.ParseUint(lo, 10, 32)
			last, err2 := strconv.ParseUint(hi, 10, 32)
			switch {
			case part == "*":
				return f[1:], int(id)
			case err1 != nil || err2 != nil || last < first:
				continue
			case uint64(id) >= first && uint64(id) <= last:
				return f[1:], place + int(uint64(id)-first)
			}
			place += int(last - first + 1)
		}
	}
	return nil, 0
}

// splitWords splits at blanks, except within quotes.
func splitWords(line string) (words []string) {
	var b strings.Builder
	var quote rune
	in := false
	for _, r := range strings.TrimSpace(line) {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
			quote, in = r, true
		case quote == 0 && (r == ' ' || r == '\t'):
			if in {
				words = append(words, b.String())
				b.Reset()
			}
			in = false
		default:
			b.WriteRune(r)
			in = true
		}
	}
	if in {
		words = append(words, b.String())
	}
	return words
}

// lookPath finds a command without a slash in the step's own PATH, as its
// user. What is not found stays as it is, and fails to execute by its name.
func (s *shepherd) lookPath(name string, env []string) string {
	if strings.Contains(name, "/") {
		return name
	}
	path := "/bin:/usr/bin"
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			path = v
		}
	}
	found := name
	s.asUser(func() error {
		for _, dir := range filepath.SplitList(path) {
			if dir == "" {
				dir = s.spec.Cwd
			}
			p := filepath.Join(dir, name)
			var st unix.Stat_t
			if unix.Stat(p, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Mode&0o111 != 0 {
				found = p
				return nil
			}
		}
		return nil
	})
	return found
}

// asUser calls f with the file system rights of the step's user, which the
// kernel keeps per thread.
func (s *shepherd) asUser(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if os.Getuid() != 0 || s.spec.UID == 0 {
		return f()
	}
	old, err := unix.Getgroups()
	if err != nil {
		return err
	}
	if err := threadGroups(s.spec.GIDs); err != nil {
		return err
	}
	unix.SetfsgidRetGid(int(s.spec.GID))
	unix.SetfsuidRetUid(int(s.spec.UID))
	defer func() {
		unix.SetfsuidRetUid(0)
		unix.SetfsgidRetGid(0)
		back := make([]uint32, len(old))
		for i, g := range old {
			back[i] = uint32(g)
		}
		threadGroups(back)
	}()
	if now, err := unix.SetfsuidRetUid(-1); err != nil || now != int(s.spec.UID) {
		return unix.EPERM
	}
	return f()
}

// fields are the values of patterns in t's file names.
func (s *shepherd) fields(t *task) wlm.PatternFields {
	step := wlm.StepID(s.spec.Step)
	f := wlm.PatternFields{Job: wlm.JobID(s.spec.Job), ArrayJob: wlm.JobID(s.spec.ArrayJob), Step: &step,
		JobName: s.spec.JobName, User: s.spec.User, Host: s.spec.Node, Node: &s.spec.NodeID, Rank: &t.id,
		Restarts: &s.spec.Restarts}
	if s.spec.ArrayJob != 0 {
		f.Task = &s.spec.ArrayID
	}
	return f
}
