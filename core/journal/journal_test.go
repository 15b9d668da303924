package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/errs"
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

// segment returns the path and content of the newest segment.
func segment(t *testing.T, dir string) (string, []byte) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "journal", "*.wal"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no segment: %v", err)
	}
	slices.Sort(files)
	data, err := os.ReadFile(files[len(files)-1])
	if err != nil {
		t.Fatal(err)
	}
	return files[len(files)-1], data
}

// What a crash left half written is cut and told; what was acknowledged stays.
func TestTornTail(t *testing.T) {
	for _, tt := range []struct {
		name string
		tear func(data []byte, end int) // end: behind the last commit
		kept int
	}{
		{"half an entry behind the last commit", func(d []byte, end int) { copy(d[end:], []byte{1, 0, 0, 0, 40, 0, 0, 0, 'x', 'y'}) }, 10},
		{"garbage behind the last commit", func(d []byte, end int) { copy(d[end:], "\xff\xfe garbage") }, 10},
		{"the last write did not reach the disk whole", func(d []byte, end int) { d[end-20] ^= 0xff }, 9},
		{"nothing", func([]byte, int) {}, 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			j, w := open(t, dir, false)
			for i := range 10 {
				say(t, j, w, fmt.Sprint("word ", i))
			}
			j.Close()
			path, data := segment(t, dir)
			end := len(data)
			for data[end-1] == 0 {
				end--
			}
			end = (end + 7) / 8 * 8
			tt.tear(data, end)
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			j, got := open(t, dir, false)
			defer j.Close()
			if len(got.said) != tt.kept || (j.Report().Torn > 0) != (tt.name != "nothing") {
				t.Errorf("kept %d words, want %d; torn %d bytes", len(got.said), tt.kept, j.Report().Torn)
			}
			say(t, j, got, "life goes on")
		})
	}
}

func TestDamagedSnapshotIsRefusedAndSalvaged(t *testing.T) {
	dir := t.TempDir()
	j, w := open(t, dir, false)
	snap := func() {
		done := make(chan error, 1)
		j.Snapshot(&words{said: append([]string(nil), w.said...)}, func(err error) { done <- err })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	for i := range 2 * trailing {
		say(t, j, w, fmt.Sprint("word ", i))
	}
	snap()
	for i := range 2 * trailing {
		say(t, j, w, fmt.Sprint("more ", i))
	}
	snap()
	say(t, j, w, "last")
	j.Close()
	files, err := filepath.Glob(filepath.Join(dir, "journal", "snapshots", "*", "state.bin"))
	if err != nil || len(files) != 2 {
		t.Fatalf("snapshots %v, %v", files, err)
	}
	slices.Sort(files)
	data, err := os.ReadFile(files[1])
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 0xff
	if err := os.WriteFile(files[1], data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: dir, ID: "here"}, &words{}); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "snapshot ") {
		t.Fatalf("a damaged snapshot was accepted: %v", err)
	}
	j, got := open(t, dir, true)
	if n := len(got.said); n != 2*trailing || j.Report().Lost < 2*trailing {
		t.Errorf("salvage kept %d words, want those of the first snapshot, %d; it reports %d lost entries", n, 2*trailing, j.Report().Lost)
	}
	say(t, j, got, "life goes on")
	j.Close()
	j, again := open(t, dir, false)
	defer j.Close()
	if fmt.Sprint(again.said) != fmt.Sprint(got.said) {
		t.Errorf("after the salvage and a restart: %d words, want %d", len(again.said), len(got.said))
	}
}

// A full disk is an error of its own name, and all that was acknowledged is
// there again once there is room.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("a small file system takes root")
	}
	dir := t.TempDir()
	mount := func(flags uintptr, size string) error {
		return syscall.Mount("journal", dir, "tmpfs", flags, "size="+size)
	}
	if err := mount(0, "40m"); err != nil {
		t.Skipf("no small file system here: %v", err)
	}
	defer syscall.Unmount(dir, syscall.MNT_DETACH)
	j, w := open(t, dir, false)
	text := strings.Repeat("x", 1<<20)
	var err error
	for range 100 {
		if err = j.Append(&eventv1.Batch{Events: []*eventv1.Event{{Text: text}}}); err != nil {
			break
		}
		w.said = append(w.said, text)
	}
	if !errors.Is(err, ErrStopped) || !errors.Is(err, ErrFull) || errs.KindOf(err) != errs.Exhausted {
		t.Fatalf("after %d MiB: %v", len(w.said), err)
	}
	if err := j.Append(&eventv1.Batch{}); err == nil {
		t.Error("an append after the failure worked")
	}
	j.Close()
	if err := mount(syscall.MS_REMOUNT, "100m"); err != nil {
		t.Fatal(err)
	}
	j, got := open(t, dir, false)
	defer j.Close()
	if len(got.said) < len(w.said) || len(got.said) > len(w.said)+1 { // the one that failed may have been written
		t.Errorf("%d entries are there again, %d were acknowledged", len(got.said), len(w.said))
	}
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
