package stepd_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/stepd"
)

func TestFrames(t *testing.T) {
	in := []stepd.Frame{{Kind: stepd.Attach}, {Kind: stepd.Stdout, Task: 7, Data: []byte("hello")}, {Kind: stepd.StdinEOF, Task: stepd.AllTasks}}
	var b bytes.Buffer
	for _, f := range in {
		if err := stepd.WriteFrame(&b, f); err != nil {
			t.Fatal(err)
		}
	}
	r := bufio.NewReader(&b)
	for _, want := range in {
		got, err := stepd.ReadFrame(r)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v; want %+v", got, err, want)
		}
	}
	if _, err := stepd.ReadFrame(r); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

// Whatever arrives on the socket: an error or a frame, never a panic, and no
// memory for a length that is only claimed.
func FuzzReadFrame(f *testing.F) {
	f.Add([]byte("O\x00\x00\x00\x01\x00\x00\x00\x02hi"))
	f.Add([]byte("O\x00\x00\x00\x01\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReader(bytes.NewReader(b))
		for {
			fr, err := stepd.ReadFrame(r)
			if err != nil {
				return
			}
			if len(fr.Data) > len(b) {
				t.Fatalf("%d bytes out of %d", len(fr.Data), len(b))
			}
		}
	})
}

func TestTornEvents(t *testing.T) {
	dir := t.TempDir()
	whole := `{"k":"begin","t":1,"pid":5}` + "\n" + `{"k":"exit","t":2,"task":3,"status":256}` + "\n"
	for cut := range len(whole) + 1 {
		if err := os.WriteFile(filepath.Join(dir, stepd.EventsFile), []byte(whole[:cut]), 0o600); err != nil {
			t.Fatal(err)
		}
		e, err := stepd.ReadEvents(dir)
		if err != nil || len(e) != strings.Count(whole[:cut], "\n") {
			t.Errorf("cut at %d: %d events, %v", cut, len(e), err)
		}
	}
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, stepd.EventsFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := stepd.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stepd.Lock(dir); !errors.Is(err, stepd.ErrLocked) {
		t.Errorf("a second lock: %v", err)
	}
	f.Close()
	if f, err = stepd.Lock(dir); err != nil {
		t.Errorf("after it was freed: %v", err)
	}
	f.Close()
}
