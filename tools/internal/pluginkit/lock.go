package pluginkit

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// lockFile pins the programs of its directory; daemons refuse those that
// differ. Its lines are those of sha256sum, which checks it, too.
const lockFile = "plugins.lock"

func lockCommand(stdout io.Writer) *cobra.Command {
	var check bool
	c := &cobra.Command{
		Use: "lock DIR [PLUGIN...]", Short: "Pin the sha256 of the plugins in a directory of PluginDir", Args: cobra.MinimumNArgs(1),
		Long: "lock writes " + lockFile + " in a directory of PluginDir: a sha256 for each plugin there,\n" +
			"or only for those named, keeping the other lines. From then on a daemon refuses a\n" +
			"program of that directory whose contents differ from its line; what runs already\n" +
			"is not touched. --check compares, and changes nothing.",
		RunE: func(_ *cobra.Command, args []string) error {
			if check {
				return checkLock(stdout, args[0])
			}
			return lock(stdout, args[0], args[1:])
		},
	}
	c.Flags().BoolVar(&check, "check", false, "compare the programs with the file")
	return c
}

// lock writes the lock file beside itself and then renames it, so that a daemon
// reads the old one or the new one.
func lock(stdout io.Writer, dir string, only []string) error {
	lines, order, err := readLock(dir)
	if err != nil {
		return err
	}
	names := only
	if len(names) == 0 {
		lines, order = map[string]string{}, nil
		list, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range list {
			if st, err := os.Stat(filepath.Join(dir, e.Name())); err == nil && st.Mode().IsRegular() && st.Mode().Perm()&0o111 != 0 && strings.Contains(e.Name(), "_") {
				names = append(names, e.Name())
			}
		}
		if len(names) == 0 {
			return fmt.Errorf("%s has no plugins: a plugin is a program named <kind>_<name>", dir)
		}
	}
	for _, name := range names {
		if strings.ContainsRune(name, '/') {
			return fmt.Errorf("%s: name a program in %s, as in sched_backfill", name, dir)
		}
		sum, err := sumOf(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if _, known := lines[name]; !known {
			order = append(order, name)
		}
		lines[name] = sum
	}
	var b strings.Builder
	for _, name := range order {
		fmt.Fprintf(&b, "%s  %s\n", lines[name], name)
	}
	path := filepath.Join(dir, lockFile)
	if err := os.WriteFile(path+".new", []byte(b.String()), 0o644); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s pins %d plugins\n", path, len(order))
	return nil
}

// readLock reads the lock file of a directory, which may be missing.
func readLock(dir string) (lines map[string]string, order []string, err error) {
	lines = map[string]string{}
	path := filepath.Join(dir, lockFile)
	text, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return lines, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		words := strings.Fields(line)
		if len(words) != 2 || len(words[0]) != 2*sha256.Size {
			return nil, nil, fmt.Errorf("%s:%d: want a sha256 and a file name, as sha256sum prints them", path, n)
		}
		name := strings.TrimPrefix(words[1], "*")
		if _, twice := lines[name]; !twice {
			order = append(order, name)
		}
		lines[name] = strings.ToLower(words[0])
	}
	return lines, order, nil
}

func checkLock(stdout io.Writer, dir string) error {
	lines, order, err := readLock(dir)
	if err != nil {
		return err
	}
	if len(order) == 0 {
		return fmt.Errorf("%s pins nothing", filepath.Join(dir, lockFile))
	}
	bad := 0
	for _, name := range order {
		sum, err := sumOf(filepath.Join(dir, name))
		switch {
		case err != nil:
			fmt.Fprintf(stdout, "%s: %v\n", name, err)
			bad++
		case sum != lines[name]:
			fmt.Fprintf(stdout, "%s: has sha256 %s, pinned is %s\n", name, sum, lines[name])
			bad++
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d plugins are not what %s pins", bad, len(order), filepath.Join(dir, lockFile))
	}
	fmt.Fprintf(stdout, "%d plugins are as pinned\n", len(order))
	return nil
}

func sumOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
