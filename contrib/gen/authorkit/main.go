// Command authorkit writes what the module of a plugin is built against into a
// directory: sdk, with a go.mod of its own that requires what sdk needs and
// nothing of what the rest of this tree does. make build puts it beside the
// commands, where "sluice plugin new" finds it.
package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: authorkit DIRECTORY")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "authorkit:", err)
		os.Exit(1)
	}
}

func write(out string) error {
	mod, err := goMod()
	if err != nil {
		return err
	}
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	if err := os.CopyFS(out, sources{os.DirFS(".")}); err != nil {
		return err
	}
	sum, err := os.ReadFile("go.sum")
	if err != nil {
		return err
	}
	var sums bytes.Buffer
	for line := range strings.Lines(string(sum)) {
		f := strings.Fields(line)
		if len(f) == 3 && bytes.Contains(mod, []byte("\t"+f[0]+" "+strings.TrimSuffix(f[1], "/go.mod")+"\n")) {
			sums.WriteString(line)
		}
	}
	if err := os.WriteFile(filepath.Join(out, "go.sum"), sums.Bytes(), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, "go.mod"), mod, 0o644)
}

// goMod requires the modules that sdk's packages need, in the versions of this
// tree.
func goMod() ([]byte, error) {
	list := func(args ...string) ([]string, error) {
		cmd := exec.Command("go", append([]string{"list"}, args...)...)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return nil, err
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		slices.Sort(lines)
		return slices.DeleteFunc(slices.Compact(lines), func(s string) bool { return s == "" }), nil
	}
	needed, err := list("-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}{{end}}{{end}}", "./sdk/...")
	if err != nil {
		return nil, err
	}
	self, err := list("-m", "-f", "{{.Path}} {{.GoVersion}}")
	if err != nil {
		return nil, err
	}
	path, version, _ := strings.Cut(self[0], " ")
	var b bytes.Buffer
	fmt.Fprintf(&b, "module %s\n\ngo %s\n\nrequire (\n", path, version)
	for _, m := range needed {
		fmt.Fprintf(&b, "\t%s\n", m)
	}
	b.WriteString(")\n")
	return b.Bytes(), nil
}

// sources hides from a tree what an author does not need.
type sources struct{ fs.FS }

// ReadDir is fs.ReadDirFS's.
func (s sources) ReadDir(dir string) ([]fs.DirEntry, error) {
	list, err := fs.ReadDir(s.FS, dir)
	return slices.DeleteFunc(list, func(e fs.DirEntry) bool {
		name := e.Name()
		if dir == "." {
			return !slices.Contains([]string{"sdk", "LICENSE"}, name)
		}
		return name == "testdata" || name == "__pycache__" || strings.HasSuffix(name, "_test.go")
	}), err
}
