package pluginkit

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLock(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) (string, error) {
		var out bytes.Buffer
		c := New(&out, &out)
		c.SetArgs(append([]string{"lock"}, args...))
		c.SetOut(&out)
		c.SetErr(&out)
		c.SilenceUsage, c.SilenceErrors = true, true
		err := c.Execute()
		return out.String(), err
	}
	if _, err := run(dir); err == nil || !strings.Contains(err.Error(), "has no plugins") {
		t.Errorf("an empty directory: %v", err)
	}
	write("sched_a", "one", 0o755)
	write("select_b", "two", 0o755)
	write("notes", "three", 0o644)
	if out, err := run(dir); err != nil || !strings.HasSuffix(out, "plugins.lock pins 2 plugins\n") {
		t.Fatalf("%q, %v", out, err)
	}
	if out, err := run("--check", dir); err != nil || out != "2 plugins are as pinned\n" {
		t.Errorf("%q, %v", out, err)
	}
	write("sched_a", "another", 0o755)
	if out, err := run("--check", dir); err == nil || !strings.HasPrefix(out, "sched_a: has sha256 ") || !strings.Contains(err.Error(), "1 of 2") {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := run(dir, "sched_a"); err != nil {
		t.Error(err)
	}
	if _, err := run("--check", dir); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, lockFile))
	if err != nil || strings.Count(string(text), "\n") != 2 {
		t.Errorf("%q, %v", text, err)
	}
	for _, args := range [][]string{{dir, "x/y"}, {dir, "gone_c"}, {}} {
		if _, err := run(args...); err == nil {
			t.Errorf("lock %q succeeded", args)
		}
	}
	write(lockFile, "nonsense\n", 0o644)
	if _, err := run("--check", dir); err == nil || !strings.Contains(err.Error(), "plugins.lock:1:") {
		t.Errorf("a lock file of nonsense: %v", err)
	}
}
