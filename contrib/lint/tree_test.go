package lint

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/sluice-hpc/sluice/"

// pkg is a package of the tree, as go list tells it.
type pkg struct {
	ImportPath string
	Dir        string
	Name       string
	Doc        string
	GoFiles    []string
	Imports    []string // without those of tests
	Deps       []string
}

// room is the path within the module.
func (p *pkg) room() string { return strings.TrimPrefix(p.ImportPath, module) }

// in says whether p lies in one of these folders.
func (p *pkg) in(folders ...string) bool {
	for _, f := range folders {
		if p.room() == f || strings.HasPrefix(p.room(), f+"/") {
			return true
		}
	}
	return false
}

// root is the top of the tree.
var root = sync.OnceValue(func() string {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		panic(err)
	}
	return filepath.Dir(strings.TrimSpace(string(out)))
})

var listed = sync.OnceValues(func() ([]*pkg, error) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Name,Doc,GoFiles,Imports,Deps", module+"...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	var all []*pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		p := new(pkg)
		switch err := dec.Decode(p); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, err
		}
		all = append(all, p)
	}
})

// packages lists the tree's packages.
func packages(t *testing.T) []*pkg {
	t.Helper()
	all, err := listed()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// files lists the files under version control and the new ones that are not
// ignored, by path from the top.
func files(t *testing.T) []string {
	t.Helper()
	cmd := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = root()
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("the list of files needs git and a clone: %v", err)
	}
	var all []string
	for f := range strings.SplitSeq(string(out), "\x00") {
		if st, err := os.Lstat(filepath.Join(root(), f)); f != "" && err == nil && st.Mode().IsRegular() {
			all = append(all, f)
		}
	}
	return all
}

// run fails the test with the tool's output, if it has any or fails.
func run(t *testing.T, what string, args ...string) {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = root()
	out, err := cmd.CombinedOutput()
	if err != nil || len(bytes.TrimSpace(out)) > 0 {
		if len(args) > 4 {
			args = append(args[:4:4], "...")
		}
		t.Errorf("%s: %s (%v)\n%s", strings.Join(args, " "), what, err, out)
	}
}
