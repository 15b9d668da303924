package sim

import (
	"strings"
	"testing"
)

func TestReadFaults(t *testing.T) {
	got, err := ReadFaults(strings.NewReader("\n# comment\n 10 n[1-2] 30 # two\n5 n3 1\n"))
	want := []Fault{{"n1", 10, 30}, {"n2", 10, 30}, {"n3", 5, 1}}
	if err != nil || len(got) != len(want) {
		t.Fatalf("%v, %v", got, err)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%v, want %v", got[i], want[i])
		}
	}
	for in, want := range map[string]string{"1 n1": "line 1: 2 fields", "1 n1 5\n-1 n1 5": "line 2", "1 n[ 5": "line 1", "1 n1 0": "line 1", "x n1 5": "line 1"} {
		if _, err := ReadFaults(strings.NewReader(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", in, err, want)
		}
	}
}

func FuzzReadFaults(f *testing.F) {
	f.Add("10 n[1-2] 30\n")
	f.Fuzz(func(t *testing.T, in string) {
		if len(in) < 200 {
			_, _ = ReadFaults(strings.NewReader(in))
		}
	})
}
