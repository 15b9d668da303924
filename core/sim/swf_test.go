package sim

import (
	"bytes"
	"compress/gzip"
	"reflect"
	"strings"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/errs"
)

const sample = `; Version: 2
; MaxProcs: 128 (of 256)
;
;Note without a colon
  2 100 -1 50 4 -1 -1 8 3600 -1 1 7 1 -1 -1 -1 -1 -1
1 100 3 50.9 4 12.5 -1 4 3600 -1 1 7 1 -1 -1 -1 -1 -1

3 5 3 50 4 -1 -1 -1 3600 -1 1 7 1 -1 -1 -1 2 60
`

func TestReadTrace(t *testing.T) {
	tr, err := ReadTrace(strings.NewReader(sample))
	if err != nil {
		t.Fatal(err)
	}
	if got := tr.HeaderInt("maxprocs"); got != 128 {
		t.Errorf("MaxProcs %d", got)
	}
	if len(tr.Jobs) != 3 || tr.Jobs[0].Number != 3 || tr.Jobs[1].Number != 1 || tr.Jobs[2].Number != 2 {
		t.Fatalf("order: %+v", tr.Jobs)
	}
	want := TraceJob{1, 100, 3, 50, 4, 12.5, -1, 4, 3600, -1, 1, 7, 1, -1, -1, -1, -1, -1}
	if tr.Jobs[1] != want {
		t.Errorf("got %+v, want %+v", tr.Jobs[1], want)
	}
	if n := tr.Jobs[2].Processors(); n != 8 {
		t.Errorf("processors %d, want the larger of asked and got", n)
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if err := tr.Write(z); err != nil {
		t.Fatal(err)
	}
	z.Close() //nolint:errcheck // to memory
	again, err := ReadTrace(&zipped)
	if err != nil || !reflect.DeepEqual(again, tr) {
		t.Errorf("written, compressed and read again: %v\n%+v\n%+v", err, again, tr)
	}
}

func TestBadTraces(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"too few fields": {"; x: y\n1 2 3\n", "line 2: 3 fields, a job has 18"},
		"no number":      {strings.Replace(sample, "3600", "1h", 1), `line 5: field 9 (requested time): "1h" is not a number`},
		"not a number":   {strings.Replace(sample, "3600", "NaN", 1), `field 9 (requested time): "NaN"`},
		"huge":           {strings.Replace(sample, "3600", "1e300", 1), `field 9 (requested time): "1e300"`},
		"negative":       {strings.Replace(sample, "2 100", "2 -100", 1), "line 5: field 2 (submit time): -100 is negative"},
		"broken gzip":    {"\x1f\x8b1234567890", "gzip"},
	} {
		_, err := ReadTrace(strings.NewReader(tc.in))
		if errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

// Whatever is read can be written and is read as the same again.
func FuzzReadTrace(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte("1 2 3\n"))
	f.Add([]byte("\x1f\x8b"))
	f.Fuzz(func(t *testing.T, data []byte) {
		tr, err := ReadTrace(bytes.NewReader(data))
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := tr.Write(&out); err != nil {
			t.Fatal(err)
		}
		again, err := ReadTrace(&out)
		if err != nil {
			t.Fatalf("what was written is not read: %v", err)
		}
		if !reflect.DeepEqual(tr.Jobs, again.Jobs) {
			t.Fatalf("jobs differ:\n%+v\n%+v", tr.Jobs, again.Jobs)
		}
	})
}

// zipped is text compressed, without its last cut bytes.
func zipped(t *testing.T, text string, cut int) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()[:b.Len()-cut]
}

// A file that was cut, damaged or is no trace at all is refused with a line that
// says where and why.
func TestBrokenFiles(t *testing.T) {
	long := strings.Repeat("1 0 0 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\n", 20000)
	damaged := []byte(zipped(t, sample, 0))
	damaged[len(damaged)-6] ^= 1 // in the checksum
	for name, tc := range map[string]struct{ in, want string }{
		"gzip cut in its head":     {zipped(t, sample, 0)[:5], "a broken gzip header: unexpected EOF"},
		"gzip cut in the middle":   {zipped(t, long, 200), "the compressed file ends before its time"},
		"gzip cut in its checksum": {zipped(t, sample, 3), "the compressed file ends before its time"},
		"gzip with a bad checksum": {string(damaged), "checksum"},
		"compressed garbage":       {zipped(t, "\x00\x01\x02", 0), "line 1: 1 fields, a job has 18"},
		"a line without an end":    {strings.Repeat("7", maxLine+1), "line 1 or behind it: bufio.Scanner: token too long"},
		"another format":           {"<html>\n", "line 1: 1 fields"},
	} {
		_, err := ReadTrace(strings.NewReader(tc.in))
		if errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}
