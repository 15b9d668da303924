package nofile_test

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/sluice-hpc/sluice/tools/internal/nofile"
)

func TestSoftIsThatOfTheStart(t *testing.T) {
	if os.Getenv("NOFILE_CHILD") != "" {
		n, ok := nofile.Soft()
		fmt.Printf("soft %d %v\n", n, ok)
		return
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command("sh", "-c", `ulimit -Sn 77 && exec "$0" -test.run=TestSoft`, exe)
	c.Env = append(os.Environ(), "NOFILE_CHILD=1")
	out, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	const want = "soft 77 true\n"
	if len(out) < len(want) || string(out[:len(want)]) != want {
		t.Errorf("child says %q", out)
	}
}
