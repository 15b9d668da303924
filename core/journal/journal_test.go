package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
)

// words is a machine that remembers the texts of its events.
type words struct{ said []string }

func (w *words) Restore(p *eventv1.Snapshot, reset bool) error {
	if reset {
		w.said = nil
	}
	return w.Replay(&eventv1.Batch{Events: p.GetEvents()})
}

func (w *words) Replay(b *eventv1.Batch) error {
	for _, e := range b.GetEvents() {
		w.said = append(w.said, e.GetText())
	}
	return nil
}

func (w *words) Parts(yield func(*eventv1.Snapshot) bool) {
	for _, s := range w.said {
		if !yield(&eventv1.Snapshot{Events: []*eventv1.Event{{Text: s}}}) {
			return
		}
	}
}

func say(t *testing.T, j *Journal, w *words, text string) {
	t.Helper()
	if err := j.Append(&eventv1.Batch{Events: []*eventv1.Event{{Text: text}}}); err != nil {
		t.Fatal(err)
	}
	w.said = append(w.said, text)
}

func open(t *testing.T, dir string, salvage bool) (*Journal, *words) {
	t.Helper()
	w := &words{}
	j, err := Open(Options{Dir: dir, ID: "here", Salvage: salvage}, w)
	if err != nil {
		t.Fatal(err)
	}
	return j, w
}

func TestEverythingAppendedIsThereAgain(t *testing.T) {
	dir := t.TempDir()
	j, w := open(t, dir, false)
	for i := range 100 {
		say(t, j, w, fmt.Sprint("before ", i))
	}
	img := &words{said: append([]string(nil), w.said...)}
	done := make(chan error, 1)
	j.Snapshot(img, func(err error) { done <- err })
	for i := range 100 {
		say(t, j, w, fmt.Sprint("after ", i))
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	term := j.Term()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j, again := open(t, dir, false)
	defer j.Close()
	if fmt.Sprint(again.said) != fmt.Sprint(w.said) {
		t.Errorf("after a restart: %d words %v, want %d", len(again.said), again.said, len(w.said))
	}
	if j.Term() <= term {
		t.Errorf("term %d after %d: a new leader must have a higher one", j.Term(), term)
	}
	if !j.Report().Snapshot {
		t.Error("the snapshot was not used")
	}
}

// damage flips a byte in the middle of the only segment.
func damage(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "journal", "*.wal"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no segment: %v", err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	at := -1
	for i := range data {
		if i+9 < len(data) && string(data[i:i+9]) == "word 50.." {
			at = i
		}
	}
	if at < 0 {
		t.Fatal("the word is not in the segment")
	}
	data[at] ^= 0xff
	if err := os.WriteFile(files[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedMiddleIsRefusedAndSalvaged(t *testing.T) {
	dir := t.TempDir()
	j, w := open(t, dir, false)
	for i := range 100 {
		say(t, j, w, fmt.Sprintf("word %d..", i))
	}
	j.Close()
	damage(t, dir)
	if _, err := Open(Options{Dir: dir, ID: "here"}, &words{}); !errors.Is(err, ErrDamaged) {
		t.Fatalf("a damaged entry was accepted: %v", err)
	}
	j, got := open(t, dir, true)
	defer j.Close()
	if len(got.said) != 50 || j.Report().Lost < 50 {
		t.Errorf("salvage kept %d words and reports %d lost entries, want 50 and at least 50", len(got.said), j.Report().Lost)
	}
	say(t, j, got, "life goes on")
}

func BenchmarkAppend(b *testing.B) {
	j, err := Open(Options{Dir: b.TempDir(), ID: "here"}, &words{})
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	batch := &eventv1.Batch{Events: []*eventv1.Event{{Text: "a turn of the loop"}}}
	for b.Loop() {
		if err := j.Append(batch); err != nil {
			b.Fatal(err)
		}
	}
}
