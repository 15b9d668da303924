package main

import (
	"context"
	"strings"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/jobsubmit"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

func TestSubmit(t *testing.T) {
	for _, tc := range []struct {
		name  string
		max   wlm.Minutes
		limit wlm.Minutes
		want  string // in the refusal; empty: accepted
	}{
		{"a limit is enough", 0, 10, ""},
		{"no limit", 0, 0, "add --time, for example"},
		{"no limit, with a bound", 90, 0, "add --time, up to 01:30:00"},
		{"within the bound", 90, 90, ""},
		{"beyond the bound", 90, 91, "--time=01:31:00 is more than the 01:30:00"},
		{"unlimited is beyond any bound", 90, wlm.Unlimited, "--time=UNLIMITED is more"},
		{"unlimited is a limit", 0, wlm.Unlimited, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := RequireLimit{tc.max}.Submit(context.Background(), &jobsubmit.Request{Spec: &wlm.Spec{TimeLimit: tc.limit}})
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if err != nil && errs.CodeOf(err) != errs.InvalidTimeLimit {
				t.Errorf("code is %d, want %d", errs.CodeOf(err), errs.InvalidTimeLimit)
			}
		})
	}
}

func TestModify(t *testing.T) {
	for text, refused := range map[string]bool{"30": false, "2:00:00": true, "UNLIMITED": true, "+10": false, "soon": false} {
		_, err := RequireLimit{Max: 90}.Modify(context.Background(), &jobsubmit.Request{Changes: map[string]string{"TimeLimit": text}})
		if (err != nil) != refused {
			t.Errorf("TimeLimit=%s: got %v, refused should be %t", text, err, refused)
		}
	}
	if _, err := (RequireLimit{Max: 90}).Modify(context.Background(), &jobsubmit.Request{Changes: map[string]string{"Nice": "3"}}); err != nil {
		t.Errorf("a change of something else: %v", err)
	}
}
