package wlm

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func drawRanges(t *rapid.T, name string) IDRanges {
	var raw []IDRange
	for range rapid.IntRange(0, 5).Draw(t, name) {
		first := rapid.Uint32Range(0, 60).Draw(t, "first")
		raw = append(raw, IDRange{first, first + rapid.Uint32Range(0, 30).Draw(t, "length"), rapid.Uint32Range(0, 4).Draw(t, "step")})
	}
	return NewIDRanges(raw)
}

// What is common and what is left are the sets that looking at each task gives,
// in canonical form.
func TestCommonAndWithout(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawRanges(t, "a"), drawRanges(t, "b")
		var both, rest []uint32
		for id := range a.All() {
			if b.Has(id) {
				both = append(both, id)
			} else {
				rest = append(rest, id)
			}
		}
		for _, c := range []struct {
			got  IDRanges
			want []uint32
		}{{a.Common(b), both}, {a.Without(b), rest}} {
			if got := slices.Collect(c.got.All()); !slices.Equal(got, c.want) || c.got.Count() != len(c.want) {
				t.Fatalf("of %v and %v: got %v, want %v", a, b, got, c.want)
			}
		}
	})
}

func TestBadRangesAreNoTasks(t *testing.T) {
	got := NewIDRanges([]IDRange{{5, 1, 1}, {0, 4294967295, 1}, {7, 9, 0}})
	if want := (IDRanges{{7, 9, 1}}); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func BenchmarkHalfOfMillion(b *testing.B) {
	all, half := IDRanges{{0, 999_999, 1}}, IDRanges{{250_000, 749_999, 1}}
	for b.Loop() {
		if all.Without(half).Count() != 500_000 {
			b.Fatal("count")
		}
	}
}
