package wlm

import (
	"testing"

	"github.com/sluice-hpc/sluice/sdk/errs"
)

func TestParseJobRef(t *testing.T) {
	tests := []struct {
		in    string
		job   JobID
		tasks string
		het   uint32
		step  string
		print string // when it differs from in
	}{
		{in: "123", job: 123, het: Unset},
		{in: "123_4", job: 123, tasks: "4", het: Unset},
		{in: "123_[1-4,7]", job: 123, tasks: "1-4,7", het: Unset},
		{in: "123_[5-9%2]", job: 123, tasks: "5-9", het: Unset, print: "123_[5-9]"},
		{in: "123_[4]", job: 123, tasks: "4", het: Unset, print: "123_4"},
		{in: "123.0", job: 123, het: Unset, step: "0"},
		{in: "123.batch", job: 123, het: Unset, step: "batch"},
		{in: "123.extern", job: 123, het: Unset, step: "extern"},
		{in: "123_4.batch", job: 123, tasks: "4", het: Unset, step: "batch"},
		{in: "123+1", job: 123, het: 1},
		{in: "123+0.5", job: 123, het: 0, step: "5"},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			r, err := ParseJobRef(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			step := ""
			if r.Step != nil {
				step = r.Step.String()
			}
			if r.Job != tt.job || FormatArray(r.Tasks, 0) != tt.tasks || r.Het != tt.het || step != tt.step {
				t.Errorf("got %+v", r)
			}
			if tt.print == "" {
				tt.print = tt.in
			}
			if r.String() != tt.print {
				t.Errorf("printed as %s", r)
			}
		})
	}
	for _, s := range []string{"", "abc", "0", "-1", "123_", "123_x", "123_[", "123_[]", "123_[1-", "123_1-3", "123_1,2", "123.", "123.x",
		"123.TBD", "123_[1-3].0", "123+", "123+x", "123_4+1", "123+1_4", "4294967294", "123 ", "123.0.0"} {
		if r, err := ParseJobRef(s); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%q: got %v, %v", s, r, err)
		}
	}
}

func FuzzParseJobRef(f *testing.F) {
	for _, s := range []string{"123", "123_4.batch", "123_[1-4,7]", "123+1.0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseJobRef(s)
		if err != nil {
			return
		}
		again, err := ParseJobRef(r.String())
		if err != nil || again.String() != r.String() {
			t.Fatalf("%q is %s, then %s, %v", s, r, again, err)
		}
	})
}
