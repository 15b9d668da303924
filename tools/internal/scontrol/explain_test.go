package scontrol

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestExplain(t *testing.T) {
	status, out, errs := scontrol(t, at(20), "", "explain", "11")
	if status != 0 || errs != "" {
		t.Fatalf("status %d, %q", status, errs)
	}
	for _, want := range []string{"Job 11 is PENDING: it is next in line", "2nd of 13 in partition main", "1 of those wait",
		"on n[1-2] in main, reserved", "partition main: needs 2 nodes with 4 CPUs", "1 of 4 nodes free now: n3",
		"job 5 of ann on n[1-2] until", "a job of another user", "set by /etc/slurm.conf:7", "job 6 of bob has 1 without a time limit",
		"job 10 of ann, priority 200, starts", "job 9, priority 150, start not known", "--nodes=1: now on n3 (instead of 2)", "Note: one note"} {
		if !strings.Contains(strings.Join(strings.Fields(out), " "), want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	for l := range strings.Lines(out) {
		if len(l) > explainWidth+1 {
			t.Errorf("%d columns: %s", len(l), l)
		}
	}
	status, out, _ = scontrol(t, at(20), "", "-o", "explain", "11")
	if status != 0 || strings.Count(out, "\n") != 1 || !strings.Contains(out, "JobId=11 JobState=PENDING Reason=Resources Priority=100 Place=main:2/13") {
		t.Errorf("status %d: %s", status, out)
	}
	status, out, _ = scontrol(t, at(20), "", "--json", "explain", "11")
	var doc struct {
		Explanation struct {
			Job       int `json:"job_id"`
			Plan      struct{ Reserved bool }
			Obstacles []struct{ Nodes []struct{ Count int } }
			Notes     []string
		}
	}
	if err := json.Unmarshal([]byte(out), &doc); status != 0 || err != nil || doc.Explanation.Job != 11 || !doc.Explanation.Plan.Reserved ||
		len(doc.Explanation.Obstacles) != 2 || doc.Explanation.Obstacles[0].Nodes[1].Count != 3 || len(doc.Explanation.Notes) != 1 {
		t.Errorf("status %d, %v: %s", status, err, out)
	}
	for n, want := range map[uint32]string{1: "1st", 2: "2nd", 3: "3rd", 4: "4th", 11: "11th", 12: "12th", 21: "21st", 111: "111th"} {
		if got := ordinal(n); got != want {
			t.Errorf("ordinal(%d) = %s", n, got)
		}
	}
}
