package plugintest

import (
	"strings"
	"sync"
)

// syncBuffer gathers lines from another goroutine.
type syncBuffer struct {
	mu    sync.Mutex
	lines strings.Builder
}

func (b *syncBuffer) line(s string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines.WriteString(s + "\n")
}

func (b *syncBuffer) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lines.String()
}
