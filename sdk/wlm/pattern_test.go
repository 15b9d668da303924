package wlm

import (
	"strings"
	"testing"
)

func TestExpandPattern(t *testing.T) {
	step, batch := StepID(0), StepBatch
	task, rank, node, restarts := uint32(13), uint32(2), uint32(1), uint32(3)
	inStep := PatternFields{Job: 128, ArrayJob: 100, Task: &task, Step: &step, JobName: "demo", User: "alice", Host: "n2",
		Node: &node, Rank: &rank, Restarts: &restarts}
	plain := PatternFields{Job: 128, Step: &batch, JobName: "demo", User: "alice"}
	tests := []struct {
		in   string
		f    PatternFields
		want string
	}{
		{"job%J.out", inStep, "job128.0.out"}, // these three are in sbatch(1)
		{"job%4j.out", inStep, "job0128.out"},
		{"job%j-%2t.out", inStep, "job128-02.out"},
		{DefaultArrayOutput, inStep, "slurm-100_13.out"},
		{DefaultOutput, plain, "slurm-128.out"},
		{"o_%4j_%x_%u.txt", plain, "o_0128_demo_alice.txt"},
		{"%b %3b %n %r %s %S %N %%", inStep, "3 003 1 3 0 0 n2 %"},
		{"%A %a %J %s", plain, "128 4294967294 128 batch"},
		{"%99j|%3s", inStep, "0000000128|000"},
		{"%8x%8N", inStep, "demon2"},
		{`\%j`, inStep, "%j"},
		{`\\a%j\b`, inStep, `a%j\b`},
		{`a\%j`, inStep, `a\128`},
		{"%q %5q %N %t", plain, "%q %5q %N %t"},
		{"%", plain, "%"},
		{"a%12", plain, "a%12"},
		{"", plain, ""},
	}
	for _, tt := range tests {
		if got := ExpandPattern(tt.in, tt.f); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.in, got, tt.want)
		}
	}
}

func FuzzExpandPattern(f *testing.F) {
	f.Add("slurm-%4A_%a.out%%")
	f.Fuzz(func(t *testing.T, s string) {
		got := ExpandPattern(s, PatternFields{Job: 1, JobName: "x"})
		if !strings.Contains(s, "%") && !strings.HasPrefix(s, `\`) && got != s {
			t.Fatalf("%q became %q", s, got)
		}
	})
}
