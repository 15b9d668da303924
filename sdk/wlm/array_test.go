package wlm

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluice-hpc/sluice/sdk/errs"
)

const testBound = 1001 // Slurm's default MaxArraySize

func TestParseArray(t *testing.T) {
	tests := []struct {
		in, want string
		max      uint32
	}{
		{"0", "0", 0},
		{"1-6%2", "1-6", 2},
		{"0-15", "0-15", 0},
		{"0,6,16-32", "0,6,16-32", 0},
		{"0-15:4", "0-12:4", 0},
		{"1-7:2", "1-7:2", 0},
		{"1,3,5,7", "1-7:2", 0},
		{"5,4,0", "0,4-5", 0},
		{"1,,2", "1-2", 0}, // observed: accepted
		{"[1-3]", "1-3", 0},
		{"[1-3]%2", "1-3", 2},
		{"[1-3%2]", "1-3", 2},
		{"1-3%0", "1-3", 0},
		{"1-5,3-9,20", "1-9,20", 0},
		{"1-9:2,2-8:2", "1-9", 0},
		{"0-10:5,10-12", "0,5,10-12", 0},
		{"0-9:3,10", "0-6:3,9-10", 0},
		{"1,3,5-8", "1,3,5-8", 0},
		{"1-3:5", "1", 0},
		{"1,5", "1,5", 0},
		{"1000", "1000", 0},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			got, limit, err := ParseArray(tt.in, testBound)
			if err != nil || FormatArray(got, 0) != tt.want || limit != tt.max {
				t.Errorf("got %v limit %d, %v", FormatArray(got, 0), limit, err)
			}
		})
	}
}

func TestParseArrayRefuses(t *testing.T) {
	for _, s := range []string{"", ",", "5-1", "1-200000", "1-10:0", "-1", // observed
		"a", "1-", "1-2-3", "1:2", "1-5:", "1-5%", "1-5%x", "1-5%-1", "[1-5", "1-5]", "[1-5%2", "1001", "1-5:2000", "+1", "1.5", "%2",
		strings.Repeat("0-1000:2,0-1000:3,", 50)} {
		_, _, err := ParseArray(s, testBound)
		if errs.CodeOf(err) != errs.InvalidArray || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v", clip(s), err)
		}
	}
}

// A million tasks are a few ranges, whatever is taken out of them.
func TestArrayStaysSmall(t *testing.T) {
	tasks, _, err := ParseArray("0-999999", 1_000_001)
	if err != nil || len(tasks) != 1 || tasks.Count() != 1_000_000 {
		t.Fatalf("%d ranges, %v", len(tasks), err)
	}
	taken, rest := tasks.Take(1000)
	rest = rest.Remove(5000).Remove(999_999)
	if len(taken) != 1 || len(rest) != 2 || rest.Count() != 998_998 {
		t.Errorf("taken %v, rest %v", taken, rest)
	}
}

func TestFormatArray(t *testing.T) {
	tasks, _, _ := ParseArray("3-6", testBound)
	if got := FormatArray(tasks, 2); got != "3-6%2" {
		t.Errorf("got %s", got)
	}
	long := "1,5,7,19,30-32,50,77,99-100,102,300-301,305,400,500,600,700"
	for _, tt := range []struct {
		spec  string
		limit int
		want  string
	}{ // as Slurm printed them
		{"1-9:2", 64, "1,3,5,7,9"}, {"1-11:2", 64, "1,3,5,7,9,11"}, {"1-13:2", 64, "1-13:2"}, {"1-1999:2", 10, "1-1999:2"},
		{"1-13:3", 64, "1,4,7,10,13"}, {"1-16:3", 64, "1-16:3"}, {"10-60:10", 64, "10-60:10"}, {"10-50:10", 64, "10,20,30,40,50"},
		{"1-21:2,22", 64, "1,3,5,7,9,11,13,15,17,19,21-22"}, {"1-10%3", 64, "1-10"}, {"1,2", 64, "1-2"}, {"0-100:50", 64, "0,50,100"},
		{long, 64, long}, {long, 0, long}, {"1-9:2", 5, "1..."}, {"1-9:2", 6, "1,..."}, {"1-9:2", 11, "1,3,5,7..."},
		{"1-9:2", 12, "1,3,5,7,9"}, {"100-500:100", 21, "100,200,300,400,5..."}, {"100-500:100", 22, "100,200,300,400,500"}, {"7", 1, "..."},
	} {
		tasks, _, err := ParseArray(tt.spec, 3000)
		if err != nil {
			t.Fatal(err)
		}
		if got := FormatArrayWithin(tasks, 0, tt.limit); got != tt.want {
			t.Errorf("%s within %d: %s, want %s", tt.spec, tt.limit, got, tt.want)
		}
	}
	if got := FormatArrayWithin(IDRanges{{1, 999_999, 2}, {2_000_000, 2_000_000, 1}}, 3, 64); len(got) > 66 || !strings.HasSuffix(got, "...%3") {
		t.Errorf("a long list: %s", got)
	}
}

// drawTasks draws ranges and gives their indices in order.
func drawTasks(t *rapid.T) (spec string, ids []uint32) {
	n := rapid.IntRange(1, 8).Draw(t, "n")
	var parts []string
	set := map[uint32]bool{}
	for range n {
		first := rapid.Uint32Range(0, 60).Draw(t, "first")
		last := rapid.Uint32Range(first, 70).Draw(t, "last")
		step := rapid.Uint32Range(1, 5).Draw(t, "step")
		parts = append(parts, fmt.Sprintf("%d-%d:%d", first, last, step))
		for id := first; id <= last; id += step {
			set[id] = true
		}
	}
	for id := range set {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return strings.Join(parts, ","), ids
}

// plainTasks is the canonical form by its definition, one index at a time.
func plainTasks(ids []uint32) IDRanges {
	var b rangeBuilder
	for _, id := range ids {
		b.addOne(id)
	}
	return b.out
}

func TestArrayAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec, ids := drawTasks(t)
		tasks, _, err := ParseArray(spec, testBound)
		if err != nil {
			t.Fatal(err)
		}
		check := func(what string, got IDRanges, want []uint32) {
			t.Helper()
			if all := slices.Collect(got.All()); !slices.Equal(all, want) && len(want) > 0 || got.Count() != len(want) {
				t.Fatalf("%s: %s has %v, want %v", what, FormatArray(got, 0), all, want)
			}
			if !slices.Equal(got, plainTasks(want)) {
				t.Fatalf("%s: %v is not canonical, want %v", what, got, plainTasks(want))
			}
		}
		check("parse", tasks, ids)
		limit := rapid.Uint32Range(0, 5).Draw(t, "limit")
		again, gotLimit, err := ParseArray(FormatArray(tasks, limit), testBound)
		if err != nil || gotLimit != limit || !slices.Equal(again, tasks) {
			t.Fatalf("%s came back as %v %%%d, %v", FormatArray(tasks, limit), again, gotLimit, err)
		}
		if first, ok := tasks.First(); !ok || first != ids[0] {
			t.Fatalf("first is %d", first)
		}
		if last, ok := tasks.Last(); !ok || last != ids[len(ids)-1] {
			t.Fatalf("last is %d", last)
		}
		id := rapid.Uint32Range(0, 75).Draw(t, "id")
		if tasks.Has(id) != slices.Contains(ids, id) {
			t.Fatalf("Has(%d) is %v", id, tasks.Has(id))
		}
		without := slices.DeleteFunc(slices.Clone(ids), func(x uint32) bool { return x == id })
		check("remove", tasks.Remove(id), without)
		with := append(slices.Clone(without), id)
		slices.Sort(with)
		check("add", tasks.Add(id), with)
		n := rapid.IntRange(0, len(ids)+1).Draw(t, "take")
		low, high := tasks.Take(n)
		n = min(n, len(ids))
		check("taken", low, ids[:n])
		check("rest", high, ids[n:])
		check("unchanged", tasks, ids)
	})
}

func FuzzParseArray(f *testing.F) {
	for _, s := range []string{"0-15:4", "1-6%2", "[1,3,5-8%1]", "1-9:2,2-8:2", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		tasks, limit, err := ParseArray(s, testBound)
		if err != nil {
			return
		}
		text := FormatArray(tasks, limit)
		again, gotLimit, err := ParseArray(text, testBound)
		if err != nil || gotLimit != limit || !slices.Equal(again, tasks) {
			t.Fatalf("%q is %q, then %v, %v", s, text, again, err)
		}
	})
}

func BenchmarkTakeFromMillion(b *testing.B) {
	tasks, _, _ := ParseArray("0-999999", MaxArrayBound)
	for b.Loop() {
		_, rest := tasks.Take(1)
		tasks = rest.Add(0)
	}
}
