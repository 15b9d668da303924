package command

import (
	"bytes"
	"strings"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/version"
	"github.com/sluice-hpc/sluice/tools/internal/options"
)

func fixture() *Command {
	return &Command{Name: "squeue", Short: "show the queue", Usage: "squeue [-h]", Options: Standard(options.Table{
		{Long: "states", Short: 't', Arg: options.Required, Meta: "list", Help: "only these states", Values: []string{"RUNNING", "PENDING"}, Set: options.Ignore()},
	}, 0)}
}

func TestFail(t *testing.T) {
	tests := []struct {
		args   string
		status int
		out    string
		err    string
	}{
		{"--usage", 0, "Usage: squeue [-h]\n", ""},
		{"--version", 0, "slurm " + version.Slurm, ""},
		{"-V", 0, version.String() + "\n", ""},
		{"--help", 0, "Usage: squeue [-h]\n\nshow the queue\n\n  -t, --states=list", ""},
		{"--bogus", 3, "", "squeue: unrecognized option '--bogus'\nTry \"squeue --help\" for more information\n"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			c := fixture()
			_, err := c.Options.Parse("squeue", []string{tt.args})
			var out, stderr bytes.Buffer
			if got := c.Fail(err, Env{Stdout: &out, Stderr: &stderr}, 3); got != tt.status {
				t.Errorf("status %d, want %d", got, tt.status)
			}
			if !strings.HasPrefix(out.String(), tt.out) || stderr.String() != tt.err {
				t.Errorf("printed %q and %q", out.String(), stderr.String())
			}
		})
	}
}

func TestCompletion(t *testing.T) {
	root := fixture().Cobra()
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetArgs([]string{"__complete", "--states", "RUN"})
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "RUNNING") {
		t.Errorf("completion offers %q", out.String())
	}
}
