package plugin

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"sync"

	"github.com/sluice-hpc/sluice/sdk/proto/plugin/v1"
)

// logger is a slog.Handler that sends records to the host. Before and after the
// session they go to stderr, which the host logs too.
type logger struct {
	sink   *sink
	prefix string // of groups, with a dot
	attrs  []slog.Attr
}

type sink struct {
	mu     sync.Mutex
	send   func(*pluginv1.Log)
	stderr slog.Handler
}

func newLogger() *logger {
	return &logger{sink: &sink{stderr: slog.NewTextHandler(os.Stderr, nil)}}
}

// sendTo says where records go; nil: to stderr.
func (l *logger) sendTo(send func(*pluginv1.Log)) {
	l.sink.mu.Lock()
	l.sink.send = send
	l.sink.mu.Unlock()
}

// Enabled is slog's: the host decides what it drops.
func (l *logger) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelDebug }

// Handle is slog's.
func (l *logger) Handle(ctx context.Context, r slog.Record) error {
	l.sink.mu.Lock()
	send := l.sink.send
	l.sink.mu.Unlock()
	if send == nil {
		return l.sink.stderr.Handle(ctx, r)
	}
	out := &pluginv1.Log{Level: int32(r.Level), Message: valid(r.Message), Attrs: map[string]string{}}
	for _, a := range l.attrs {
		flatten(out.Attrs, "", a)
	}
	r.Attrs(func(a slog.Attr) bool {
		flatten(out.Attrs, l.prefix, a)
		return true
	})
	send(out)
	return nil
}

// WithAttrs is slog's.
func (l *logger) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *l
	c.attrs = append([]slog.Attr(nil), l.attrs...)
	for _, a := range attrs {
		a.Key = l.prefix + a.Key
		c.attrs = append(c.attrs, a)
	}
	return &c
}

// WithGroup is slog's.
func (l *logger) WithGroup(name string) slog.Handler {
	c := *l
	if name != "" {
		c.prefix += name + "."
	}
	return &c
}

func flatten(into map[string]string, prefix string, a slog.Attr) {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, b := range v.Group() {
			flatten(into, prefix, b)
		}
		return
	}
	if a.Key != "" {
		into[valid(prefix+a.Key)] = valid(v.String())
	}
}

func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
