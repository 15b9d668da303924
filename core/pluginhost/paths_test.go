package pluginhost

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every directory up to the root is looked at, where a symlink points as well as
// where it is.
func TestPathsAreCheckedUpToTheRoot(t *testing.T) {
	base := t.TempDir()
	deep := filepath.Join(base, "open", "lib", "sluice")
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(deep, "sched_x")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	links := filepath.Join(base, "links")
	if err := os.Mkdir(links, 0o755); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(links, "sched_x")
	if err := os.Symlink(program, link); err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(base, "open")
	for _, tt := range []struct {
		name, path string
		dir        string
		mode       fs.FileMode
		says       string // empty: accepted
	}{
		{"private", program, open, 0o755, ""},
		{"a directory far above is open to everybody", program, open, 0o777, open + " is writable by everybody"},
		{"others may add but not replace", program, open, 0o777 | fs.ModeSticky, ""},
		{"where a link points to is open", link, open, 0o777, open + " is writable by everybody"},
		{"where a link is is open", link, links, 0o777, links + " is writable by everybody"},
		{"the link is as good as its ends", link, links, 0o755, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.Chmod(tt.dir, tt.mode); err != nil {
				t.Fatal(err)
			}
			defer os.Chmod(tt.dir, 0o755)
			err := safePath(tt.path)
			if tt.says == "" && err != nil || tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)) {
				t.Errorf("got %v, want %q", err, tt.says)
			}
		})
	}
}

// The sockets are in a directory that only the daemon's user may enter.
func TestSocketsArePrivate(t *testing.T) {
	h, _, ctx := newHost(t)
	start(t, h, ctx, Spec{Kind: "sched", Name: "a"})
	found := 0
	err := filepath.WalkDir(h.cfg.RunDir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.Type() != fs.ModeSocket {
			return err
		}
		found++
		st, err := os.Stat(filepath.Dir(path))
		if err == nil && st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", filepath.Dir(path), st.Mode().Perm())
		}
		return err
	})
	if err != nil || found == 0 {
		t.Errorf("%d sockets, error %v", found, err)
	}
}
