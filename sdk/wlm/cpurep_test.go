package wlm

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluice-hpc/sluice/sdk/errs"
)

func TestCPURep(t *testing.T) {
	tests := []struct {
		in   []int
		want string
	}{{nil, ""}, {[]int{6, 2}, "6,2"}, {[]int{4, 4, 2}, "4(x2),2"}, {[]int{1, 1, 1, 2, 1}, "1(x3),2,1"}}
	for _, tt := range tests {
		if got := FormatCPURep(tt.in); got != tt.want {
			t.Errorf("%v: got %s", tt.in, got)
		}
	}
	for _, s := range []string{",", "4,", "x", "4(x2", "4(x0)", "4(2)", "4(x-1)", "1(x1048577)", "1(x1000000),1(x1000000)"} {
		if _, err := ParseCPURep(s); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%q: error %v", s, err)
		}
	}
}

func TestCPURepRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		counts := rapid.SliceOf(rapid.IntRange(0, 3)).Draw(t, "counts")
		got, err := ParseCPURep(FormatCPURep(counts))
		if err != nil || !slices.Equal(got, counts) {
			t.Fatalf("%v came back as %v, %v", counts, got, err)
		}
	})
}

func FuzzParseCPURep(f *testing.F) {
	f.Add("4(x2),2")
	f.Fuzz(func(t *testing.T, s string) {
		counts, err := ParseCPURep(s)
		if err != nil {
			return
		}
		if again, err := ParseCPURep(FormatCPURep(counts)); err != nil || !slices.Equal(again, counts) {
			t.Fatalf("%q: %v", s, err)
		}
	})
}
