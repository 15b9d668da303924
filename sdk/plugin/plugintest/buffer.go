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

// quote is the text as the end of a message, empty when nothing was said.
func (b *syncBuffer) quote() string {
	if text := b.text(); text != "" {
		return "\nthe program said:\n" + text
	}
	return ""
}
