package main

import (
	"strings"
	"testing"
)

func TestCommandPage(t *testing.T) {
	slurms := "Usage: sinfo [-a] [-o format]\n             [--json]\n\nshow nodes and partitions\n\n  -a, --all                        hidden partitions too\n      --json[=parser]              everything, in JSON\n"
	cobras := "Runs jobs on a node\n\nUsage:\n  slurmd [options]\n\nFlags:\n  -f, --conf-file string   configuration file\n  -v, --verbose count      log more\n"
	for _, tt := range []struct {
		name, section, help string
		want                []string
	}{
		{"sinfo", "1", slurms, []string{".TH SINFO 1", "sinfo \\- show nodes and partitions\n", "sinfo [\\-a] [\\-o format]\n", ".SH OPTIONS\n",
			".TP\n\\fB\\-a, \\-\\-all\\fR\nhidden partitions too\n", "\\fB\\-\\-json[=parser]\\fR\n"}},
		{"slurmd", "8", cobras, []string{".TH SLURMD 8", "slurmd \\- Runs jobs on a node\n", ".SH OPTIONS\n", "\\fB\\-f, \\-\\-conf\\-file string\\fR\nconfiguration file\n"}},
	} {
		got := commandPage(tt.name, tt.section, tt.help)
		for _, w := range tt.want {
			if !strings.Contains(got, w) {
				t.Errorf("%s: no %q in\n%s", tt.name, w, got)
			}
		}
	}
}

func TestConfPage(t *testing.T) {
	got := confPage("# slurm.conf\n\nGenerated from x\n\nLines are **Key**=Value.\n.dot\n\n## Keys\n\n| key | value |\n|---|---|\n| KillWait | seconds | 30 |\n")
	want := ".PP\nLines are Key=Value.\n\\&.dot\n.PP\n.SH \"KEYS\"\n.PP\n.TP\n\\fBKillWait\\fR\nseconds; 30\n"
	if !strings.HasSuffix(got, want) {
		t.Errorf("got\n%s", got)
	}
}
