package logfile_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-hpc/sluice/daemons/internal/logfile"
)

func TestRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d.log")
	var stderr bytes.Buffer
	l, err := logfile.Open(path, &stderr)
	if err != nil {
		t.Fatal(err)
	}
	log := l.Logger(slog.LevelInfo)
	log.Info("one")
	log.Debug("too fine")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	log.Info("two")
	if err := l.Reopen(); err != nil {
		t.Fatal(err)
	}
	log.Info("three")
	read := func(p string) string {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if a, b := read(path+".1"), read(path); strings.Count(a, "\n") != 2 || !strings.Contains(b, "msg=three") || strings.Count(b, "\n") != 1 {
		t.Errorf("old file %q, new file %q", a, b)
	}
	if strings.Count(stderr.String(), "\n") != 3 {
		t.Errorf("stderr %q", stderr.String())
	}
}
