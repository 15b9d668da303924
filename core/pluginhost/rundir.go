package pluginhost

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/plugin"
)

// runDir is the host's directory of sockets. It is locked while the host
// lives; the kernel drops the lock however the host ends.
type runDir struct {
	path string
	lock *os.File
}

const (
	runPrefix = "host-"
	nameRoom  = len("/") + len(runPrefix) + len("0123456789") // of a directory in the base
)

// openRunDir removes what dead hosts left below dir and makes a directory.
func openRunDir(dir string) (*runDir, error) {
	const op = "pluginhost.New"
	base, err := baseDir(dir)
	if err != nil {
		return nil, errs.Newf(op, errs.Internal, "directory for sockets: %w", err)
	}
	all, err := lockDir(base, true) // nobody sweeps between making and locking
	if err != nil {
		return nil, errs.Newf(op, errs.Internal, "lock %s: %w", base, err)
	}
	defer all.Close()
	sweep(base)
	path, err := os.MkdirTemp(base, runPrefix)
	if err != nil {
		return nil, errs.Newf(op, errs.Internal, "directory for sockets: %w", err)
	}
	lock, err := lockDir(path, false)
	if err != nil {
		return nil, errs.Newf(op, errs.Internal, "lock %s: %w", path, err)
	}
	return &runDir{path: path, lock: lock}, nil
}

// baseDir returns dir/plugins or, where socket names below it would be too
// long for the kernel, a directory of this user's in the temporary directory.
func baseDir(dir string) (string, error) {
	base := filepath.Join(dir, "plugins")
	if dir == "" || len(base)+nameRoom > plugin.MaxSocketDir {
		base = filepath.Join(os.TempDir(), fmt.Sprintf("sluice-%d-plugins", os.Geteuid()))
	}
	if err := os.MkdirAll(base, 0o700); err != nil {
		return "", err
	}
	st, err := os.Lstat(base)
	if err != nil {
		return "", err
	}
	sys := st.Sys().(*syscall.Stat_t)
	if !st.IsDir() || int(sys.Uid) != os.Geteuid() || st.Mode().Perm()&0o022 != 0 {
		return "", fmt.Errorf("%s must be a directory of uid %d that nobody else may write", base, os.Geteuid())
	}
	return base, nil
}

func lockDir(path string, wait bool) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	how := syscall.LOCK_EX
	if !wait {
		how |= syscall.LOCK_NB
	}
	for {
		if err = syscall.Flock(int(f.Fd()), how); err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// sweep removes the directories whose hosts are gone.
func sweep(base string) {
	list, _ := os.ReadDir(base)
	for _, e := range list {
		if !strings.HasPrefix(e.Name(), runPrefix) {
			continue
		}
		path := filepath.Join(base, e.Name())
		if lock, err := lockDir(path, false); err == nil {
			os.RemoveAll(path)
			lock.Close()
		}
	}
}

// admit lets other users enter, who then enter only directories of their own.
func (r *runDir) admit() error {
	for _, dir := range []string{filepath.Dir(r.path), r.path} {
		if err := os.Chmod(dir, 0o711); err != nil {
			return err
		}
	}
	return nil
}

func (r *runDir) close() {
	os.RemoveAll(r.path)
	r.lock.Close()
}
