// Package pythoneasy tests the plugin beside it, which is written in Python.
package pythoneasy

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/python"
	"github.com/sluice-hpc/sluice/sdk/sched/schedtest"
)

// The packed program keeps the contract of its kind, as one in Go does.
func TestConforms(t *testing.T) {
	if out, err := exec.Command("/usr/bin/python3", "-I", "-c", "import grpc, google.protobuf").CombinedOutput(); err != nil {
		t.Skipf("python3-grpcio is missing (make deps-test installs it): %s", out)
	}
	path := filepath.Join(t.TempDir(), "sched_python-easy")
	if err := python.PackFile(path, "main.py"); err != nil {
		t.Fatal(err)
	}
	schedtest.RunBinary(t, path, nil)
}
