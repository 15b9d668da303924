package shepherd

import (
	"strings"
	"testing"
)

func TestMultiProg(t *testing.T) {
	const text = "# comment\n0-1,4  echo 'a b' task:%t\n2 hostname\n*  sh -c \"offset %o\"\n"
	tests := []struct {
		id     uint32
		want   string
		offset int
	}{
		{0, "echo|a b|task:%t", 0}, {1, "echo|a b|task:%t", 1}, {4, "echo|a b|task:%t", 2},
		{2, "hostname", 0}, {3, "sh|-c|offset %o", 3},
	}
	for _, tt := range tests {
		words, offset := multiProg(text, tt.id)
		if got := strings.Join(words, "|"); got != tt.want || offset != tt.offset {
			t.Errorf("task %d: %q at %d, want %q at %d", tt.id, got, offset, tt.want, tt.offset)
		}
	}
	if words, _ := multiProg("0 true\n", 1); words != nil {
		t.Errorf("a task without a line has %q", words)
	}
}

func FuzzMultiProg(f *testing.F) {
	f.Add("0-1,4 echo %t\n", uint32(4))
	f.Add("* 'x", uint32(0))
	f.Add("9-1 x\n0-4294967295 y", uint32(4294967295))
	f.Fuzz(func(t *testing.T, text string, id uint32) {
		if words, offset := multiProg(text, id); words != nil && (len(words) == 0 || offset < 0) {
			t.Fatalf("%q at %d", words, offset)
		}
	})
}

// The worse of two statuses is what a shell would show as the greater number.
func TestWorse(t *testing.T) {
	const exit1, exit2, exit255, kill9 = 1 << 8, 2 << 8, 255 << 8, 9
	for _, tt := range [][3]uint32{{0, exit1, exit1}, {exit2, exit1, exit2}, {exit2, kill9, kill9}, {kill9, exit255, exit255}, {0, 0, 0}} {
		if got := worse(tt[0], tt[1]); got != tt[2] {
			t.Errorf("worse(%#x, %#x) = %#x, want %#x", tt[0], tt[1], got, tt[2])
		}
	}
}
