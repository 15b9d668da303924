package chart

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
)

// A figure of any values is well-formed, stays inside its panels and names
// what it shows.
func TestSVG(t *testing.T) {
	f := Figure{Title: "a < b & c", Panels: []Panel{
		{Title: "bars", Bars: []Bar{{"x<y", 0, 0}, {"big", 1e9, 1}, {"tiny", 1e-9, 9}}},
		{Title: "nothing"},
		{Title: "lines", LogX: true, LogY: true, Lines: []Line{{Name: "one point", X: []float64{1}, Y: []float64{1}},
			Cumulative("waits", []float64{0, 0, 3, 1e6}, 1, 1), Cumulative("none", nil, 1, 2)}},
	}}
	var b strings.Builder
	if err := f.SVG(&b); err != nil {
		t.Fatal(err)
	}
	out := b.String()
	for _, word := range []string{"NaN", "Inf", "x<y"} {
		if strings.Contains(out, word) {
			t.Errorf("%q in the picture", word)
		}
	}
	for d := xml.NewDecoder(strings.NewReader(out)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(out, "a &lt; b &amp; c") {
		t.Error("the title is missing")
	}
}

func TestAxes(t *testing.T) {
	for _, tc := range []struct {
		values []float64
		log    bool
		lo, hi float64
	}{
		{[]float64{0, 87.9}, false, 0, 100},
		{[]float64{3, 4000}, true, 1, 10000},
		{[]float64{10}, true, 10, 100},
		{nil, false, 0, 1},
	} {
		a := newAxis(tc.values, tc.log, 0, 100)
		if math.Abs(a.lo-tc.lo) > 1e-9 || math.Abs(a.hi-tc.hi) > 1e-9 {
			t.Errorf("%v: from %v to %v, want %v to %v", tc.values, a.lo, a.hi, tc.lo, tc.hi)
		}
		if n := len(a.ticks()); n < 2 || n > 12 {
			t.Errorf("%v: %d ticks", tc.values, n)
		}
	}
}
