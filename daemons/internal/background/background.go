// Package background is how a daemon becomes one: it goes to the background, and
// returns only when it serves; its nice value, and how exactly its timers ring; a
// word to systemd.
//
// The daemon starts itself again, in a session of its own, with a pipe as
// descriptor 3. The second process calls the function that [Child] gave it
// once it serves, or with the reason why it cannot; the first one prints that
// reason, or nothing, and exits. A second process that dies without a word is
// a failure too: the pipe closes.
package background

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// envName marks the second process.
const envName = "SLUICE_BACKGROUND"

// pipeFD is the descriptor of the pipe in the second process.
const pipeFD = 3

// serves is what the second process writes when it serves.
const serves = "serves\n"

// Start starts the running program again with the same arguments and returns
// the exit status for this one. Reasons of a failure go to stderr as name's.
func Start(name string, stderr io.Writer) int {
	self, err := os.Executable()
	if err != nil {
		return fail(name, stderr, err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fail(name, stderr, err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return fail(name, stderr, err)
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), envName+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = null, null, null
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fail(name, stderr, err)
	}
	w.Close()
	const maxReason = 64 << 10
	said, err := io.ReadAll(io.LimitReader(r, maxReason))
	if err != nil {
		return fail(name, stderr, err)
	}
	if string(said) == serves {
		return 0
	}
	if len(said) == 0 {
		fmt.Fprintf(stderr, "%s: fatal: ended before it served; its log says why\n", name)
	} else {
		fmt.Fprint(stderr, string(said))
	}
	return 1
}

func fail(name string, stderr io.Writer, err error) int {
	fmt.Fprintf(stderr, "%s: fatal: going to the background: %v\n", name, err)
	return 1
}

// Child reports whether this is the second process. ready must then be called
// once: with "" when the daemon serves, else with whole lines that say why not.
// In a process that was started otherwise ready does nothing.
func Child() (ready func(why string), is bool) {
	if os.Getenv(envName) == "" {
		return func(string) {}, false
	}
	os.Unsetenv(envName)
	syscall.CloseOnExec(pipeFD)
	f := os.NewFile(pipeFD, "ready")
	return func(why string) {
		if why == "" {
			why = serves
		} else if !strings.HasSuffix(why, "\n") {
			why += "\n"
		}
		f.WriteString(why)
		f.Close()
	}, true
}

// Notify tells systemd that the daemon serves, where systemd wants to know
// (Type=notify); elsewhere it does nothing.
func Notify() {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	os.Unsetenv("NOTIFY_SOCKET") //nolint:errcheck // what the daemon starts is not the service
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return
	}
	c.Write([]byte("READY=1")) //nolint:errcheck // systemd then gives up by itself, and says so
	c.Close()                  //nolint:errcheck // as above
}

// timerSlack is how late a timer of a daemon may ring.
const timerSlack = time.Millisecond

// Relax lets the timers of this process, and of the plugins and supervisors that
// it starts, ring up to a millisecond late, instead of 50 microseconds. Go's
// runtime has a thread that wakes every 20 microseconds while there is work; with
// the kernel free to wait, it costs a sixth less of the processor, and the jobs
// of a node are disturbed less. Tasks get the usual value back.
//
// Threads take the value from the thread that makes them, and one exists already:
// so the process executes itself again, once. Where that fails, it goes on as it
// is. Call it before anything else.
func Relax() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	now, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil || now >= int(timerSlack) {
		return
	}
	self, err := os.Executable()
	if err != nil || unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(timerSlack), 0, 0, 0) != nil {
		return
	}
	syscall.Exec(self, os.Args, os.Environ()) //nolint:errcheck // it goes on as it is
}

// Nice sets the process's priority, -20 to 19 as in nice(1).
func Nice(value int) error {
	const least, most = -20, 19
	if value < least || value > most {
		return fmt.Errorf("-n %d: the nice value is %d to %d", value, least, most)
	}
	if err := syscall.Setpriority(syscall.PRIO_PROCESS, 0, value); err != nil {
		return fmt.Errorf("-n %d: %w", value, err)
	}
	return nil
}
