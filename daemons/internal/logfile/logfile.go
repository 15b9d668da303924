// Package logfile is where a daemon logs: the file that slurm.conf names,
// which can be opened anew after a rotation, stderr in the foreground, or both.
package logfile

import (
	"io"
	"log/slog"
	"os"
	"sync"
	"time"
)

// File is a log that can be opened again. Its methods may be called
// concurrently.
type File struct {
	path   string
	stderr io.Writer // nil: not in the foreground

	mu sync.Mutex // guards f
	f  *os.File
}

// Open opens path, "" for none, for appending. stderr, if not nil, gets every
// line as well.
func Open(path string, stderr io.Writer) (*File, error) {
	l := &File{path: path, stderr: stderr}
	return l, l.Reopen()
}

// Reopen opens the file anew (SIGUSR2), so that a rotated one is left. When it
// cannot be opened the old one stays in use.
func (l *File) Reopen() error {
	if l.path == "" {
		return nil
	}
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f != nil {
		l.f.Close()
	}
	l.f = f
	return nil
}

// Write implements io.Writer. It never fails: there is nowhere to say so.
func (l *File) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f != nil {
		l.f.Write(b)
	}
	if l.stderr != nil {
		l.stderr.Write(b)
	}
	return len(b), nil
}

// Logger logs to l at a level that may change. Times are as Slurm's, to the
// millisecond.
func (l *File) Logger(level slog.Leveler) *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.String(slog.TimeKey, a.Value.Time().Format("2006-01-02T15:04:05.000"))
		}
		if d, ok := a.Value.Any().(time.Duration); ok {
			return slog.String(a.Key, d.String())
		}
		return a
	}}))
}
