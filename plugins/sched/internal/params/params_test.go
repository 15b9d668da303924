package params

import "testing"

func TestParse(t *testing.T) {
	m := Parse(" bf_Window = 60,defer,, x=y,neg=-3,zero=0,huge=99999999999,again=1,again=2")
	for key, want := range map[string]int{"bf_window": 60, "defer": 7, "x": 7, "neg": 7, "zero": 7, "huge": 1 << 30, "again": 2, "absent": 7} {
		if got := m.Positive(key, 7); got != want {
			t.Errorf("%s: got %d, want %d", key, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("bf_window=60,defer")
	f.Fuzz(func(t *testing.T, s string) {
		for key := range Parse(s) {
			if n := Parse(s).Positive(key, 1); n < 1 {
				t.Errorf("%q: %s is %d", s, key, n)
			}
		}
	})
}
