package background_test

import (
	"bytes"
	"os"
	"os/exec"
	"testing"

	"github.com/sluice-hpc/sluice/daemons/internal/background"
)

// TestMain is also the daemon: its first process when BACKGROUND_MODE says how
// the second one shall behave.
func TestMain(m *testing.M) {
	ready, child := background.Child()
	mode := os.Getenv("BACKGROUND_MODE")
	switch {
	case mode == "":
		os.Exit(m.Run())
	case !child:
		os.Exit(background.Start("testd", os.Stderr))
	case mode == "serve":
		ready("")
	case mode == "refuse":
		ready("testd: fatal: the port is taken")
	}
}

func TestStart(t *testing.T) {
	tests := []struct {
		mode   string
		code   int
		stderr string
	}{
		{"serve", 0, ""},
		{"refuse", 1, "testd: fatal: the port is taken\n"},
		{"die", 1, "testd: fatal: ended before it served; its log says why\n"},
	}
	for _, tt := range tests {
		t.Run(tt.mode, func(t *testing.T) {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "BACKGROUND_MODE="+tt.mode)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			cmd.Run()
			if cmd.ProcessState.ExitCode() != tt.code || stderr.String() != tt.stderr {
				t.Errorf("exit %d, stderr %q; want %d, %q", cmd.ProcessState.ExitCode(), stderr.String(), tt.code, tt.stderr)
			}
		})
	}
}
