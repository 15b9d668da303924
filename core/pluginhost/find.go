package pluginhost

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/sluice-hpc/sluice/sdk/errs"
)

// lockFile, in a directory of PluginDir, pins programs: lines as sha256sum
// prints them.
const lockFile = "plugins.lock"

// Find returns the program of a plugin. When no directory of PluginDir has it,
// the error lists what they offer for the kind.
func (h *Host) Find(kind, name string) (string, error) {
	const op = "pluginhost.Find"
	if name == "" || strings.ContainsAny(name, "/\x00") || strings.HasPrefix(name, ".") {
		return "", errs.Coded(op, errs.UnknownPlugin, fmt.Sprintf("%q is no name of a %s plugin", name, kind))
	}
	for _, dir := range h.cfg.PluginDir {
		path := filepath.Join(dir, kind+"_"+name)
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() {
			return path, nil
		}
	}
	offer := "none"
	if list := h.Offered(kind); len(list) > 0 {
		offer = strings.Join(list, ", ")
	}
	return "", errs.Coded(op, errs.UnknownPlugin, fmt.Sprintf("%s: no program %s_%s in PluginDir=%s, which offers for %s: %s",
		title(kind, name), kind, name, strings.Join(h.cfg.PluginDir, ":"), kind, offer))
}

// Offered lists the names that PluginDir has for a kind.
func (h *Host) Offered(kind string) []string {
	var names []string
	for _, dir := range h.cfg.PluginDir {
		list, _ := os.ReadDir(dir)
		for _, e := range list {
			if name, ok := strings.CutPrefix(e.Name(), kind+"_"); ok && name != "" {
				names = append(names, title(kind, name))
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// verify checks that nobody but root, this user and the owner of this program
// could have put the file there, and that it is the pinned one where one is
// pinned. It returns the file's sha256.
func verify(path string) (sum string, err error) {
	const op = "pluginhost.Verify"
	if err := safePath(path); err != nil {
		return "", errs.Newf(op, errs.Denied, "%w", err)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", errs.Newf(op, errs.NotFound, "%w", err)
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return "", errs.Newf(op, errs.Internal, "%w", err)
	}
	sum = hex.EncodeToString(hash.Sum(nil))
	pinned, err := pinnedSum(path)
	if err != nil {
		return "", errs.Newf(op, errs.Invalid, "%w", err)
	}
	if pinned != "" && pinned != sum {
		return "", errs.Newf(op, errs.Denied, "%s has sha256 %s, %s pins %s", path, sum, lockFile, pinned)
	}
	return sum, nil
}

// safePath checks the file and every directory above it.
func safePath(path string) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	real, err := filepath.EvalSymlinks(abs)
	if err != nil {
		return err
	}
	st, err := os.Stat(real)
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() || st.Mode().Perm()&0o111 == 0 {
		return fmt.Errorf("%s is not a program", real)
	}
	chains := []string{real}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(abs)); err == nil && dir != filepath.Dir(real) {
		chains = append(chains, dir) // where a symlink is
	}
	trusted := trustedUsers()
	for _, at := range chains {
		for {
			if err := safe(at, trusted); err != nil {
				return err
			}
			up := filepath.Dir(at)
			if up == at {
				break
			}
			at = up
		}
	}
	return nil
}

func trustedUsers() []uint32 {
	list := []uint32{0, uint32(os.Geteuid())}
	if self, err := os.Executable(); err == nil {
		if st, err := os.Stat(self); err == nil {
			list = append(list, st.Sys().(*syscall.Stat_t).Uid)
		}
	}
	return list
}

func safe(path string, trusted []uint32) error {
	st, err := os.Lstat(path)
	if err != nil {
		return err
	}
	sys := st.Sys().(*syscall.Stat_t)
	switch {
	case !slices.Contains(trusted, sys.Uid):
		return fmt.Errorf("%s belongs to uid %d; plugins are run only from paths of root or of the daemon's user", path, sys.Uid)
	case st.IsDir() && st.Mode()&fs.ModeSticky != 0:
		return nil // others may add, but not replace
	case st.Mode().Perm()&0o002 != 0:
		return fmt.Errorf("%s is writable by everybody (mode %v)", path, st.Mode().Perm())
	case st.Mode().Perm()&0o020 != 0 && sys.Gid != 0 && int(sys.Gid) != os.Getegid():
		return fmt.Errorf("%s is writable by the group %d (mode %v)", path, sys.Gid, st.Mode().Perm())
	}
	return nil
}

// pinnedSum is the sha256 that plugins.lock beside the program has for it.
func pinnedSum(path string) (string, error) {
	lock := filepath.Join(filepath.Dir(path), lockFile)
	f, err := os.Open(lock)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	if err := safe(lock, trustedUsers()); err != nil {
		return "", err
	}
	in := bufio.NewScanner(f)
	for n := 1; in.Scan(); n++ {
		line := strings.TrimSpace(in.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		words := strings.Fields(line)
		if len(words) != 2 || len(words[0]) != 2*sha256.Size {
			return "", fmt.Errorf("%s:%d: want a sha256 and a file name, as sha256sum prints them", lock, n)
		}
		if strings.TrimPrefix(words[1], "*") == filepath.Base(path) {
			return strings.ToLower(words[0]), nil
		}
	}
	return "", in.Err()
}
