package wlm

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluice-hpc/sluice/sdk/errs"
)

func TestParseDependency(t *testing.T) {
	tests := []struct{ in, want string }{
		{"", ""},
		{"0", ""},
		{"afterok:5", "afterok:5"},
		{"afterok:20:21,afterany:23", "afterok:20,afterok:21,afterany:23"},
		{"afterok:20:21?afterany:23", "afterok:20?afterok:21?afterany:23"},
		{"AfterNotOK:7", "afternotok:7"},
		{"after:7+5:8", "after:7+5,after:8"},
		{"after:7_3+5", "after:7_3+5"},
		{"afterok:7_3", "afterok:7_3"},
		{"afterok:7_*", "afterok:7_*"},
		{"aftercorr:7", "aftercorr:7"},
		{"afterok:7_[1-2,5]:8,after:9", "afterok:7_1,afterok:7_2,afterok:7_5,afterok:8,after:9"},
		{"afterburstbuffer:7,expand:8", "afterburstbuffer:7,expand:8"},
		{"singleton", "singleton"},
		{"afterok:1,singleton", "afterok:1,singleton"},
		{"123", "afterany:123"},
		{"123:124", "afterany:123,afterany:124"},
		{"123,124", "afterany:123,afterany:124"},
		{"123?124", "afterany:123?afterany:124"},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			deps, err := ParseDependency(tt.in)
			if err != nil || FormatDependencySpec(deps) != tt.want {
				t.Errorf("got %s, %v", FormatDependencySpec(deps), err)
			}
		})
	}
}

func TestParseDependencyRefuses(t *testing.T) {
	for _, s := range []string{"afterok:abc", // observed
		"afterok", "afterok:", "afterok:1,", "afterok:1,2", "afterok:1,afterany:2?afterok:3", "sometime:1", "singleton:1",
		"afterok:1+5", "after:1+", "after:1+x", "afterok:1_", "afterok:1_x", "afterok:0", "afterok:-1", "afterok:4294967295",
		"afterok:4294967297", "1:2:", ":1", "?", "afterok:1:",
		"afterok:1_[", "afterok:1_[]", "afterok:1_[2-1]", "afterok:1_[1-2%1]", "afterok:1_[0-1000]", "afterok:x_[1]"} {
		_, err := ParseDependency(s)
		if errs.CodeOf(err) != errs.DependencyProblem || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v", s, err)
		}
	}
}

func TestFormatDependency(t *testing.T) {
	deps := []Dep{
		{Kind: DepAfterOK, Job: 20, TaskID: Unset},
		{Kind: DepAfterAny, Job: 23, TaskID: Unset, State: DepFailed},
		{Kind: DepSingleton, TaskID: Unset, State: DepFulfilled},
	}
	const want = "afterok:20(unfulfilled),afterany:23(failed)" // what holds is not shown
	if got := FormatDependency(deps); got != want {
		t.Errorf("got %s", got)
	}
	deps[0].Or, deps[2].Or = true, true
	if got := FormatDependency(deps); got != "" {
		t.Errorf("one of several holds: %s", got)
	}
	if got := FormatDependency(nil); got != "" {
		t.Errorf("nothing is %q", got)
	}
}

func TestDependencyRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		or := rapid.Bool().Draw(t, "or")
		dep := rapid.Custom(func(t *rapid.T) Dep {
			d := Dep{Kind: DepKind(rapid.IntRange(0, int(DepExpand)).Draw(t, "kind")), TaskID: Unset, Or: or}
			if d.Kind == DepSingleton {
				return d
			}
			d.Job = JobID(rapid.Uint32Range(1, AllTasks-1).Draw(t, "job"))
			d.TaskID = rapid.OneOf(rapid.Just(Unset), rapid.Just(AllTasks), rapid.Uint32Range(0, 4e6)).Draw(t, "task")
			if d.Kind == DepAfter {
				d.Delay = Minutes(rapid.Uint32Range(0, 1e9).Draw(t, "delay"))
			}
			return d
		})
		deps := rapid.SliceOfN(dep, 1, 6).Draw(t, "deps")
		if len(deps) == 1 {
			deps[0].Or = false
		}
		s := FormatDependencySpec(deps)
		got, err := ParseDependency(s)
		if err != nil || !slices.Equal(got, deps) {
			t.Fatalf("%s came back as %v, %v", s, got, err)
		}
	})
}

func FuzzParseDependency(f *testing.F) {
	for _, s := range []string{"afterok:20:21,afterany:23_*", "after:1_2+3?singleton", "1:2,3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		deps, err := ParseDependency(s)
		if err != nil {
			return
		}
		text := FormatDependencySpec(deps)
		again, err := ParseDependency(text)
		if err != nil || FormatDependencySpec(again) != text {
			t.Fatalf("%q is %q, then %v, %v", s, text, again, err)
		}
	})
}
