package lint

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// pure rooms take time and the world as arguments, which is what lets a test
// or the simulator play a week in a second.
var pure = []string{
	"core/cluster", "core/steps", "core/job", "core/node", "core/part", "core/resv",
	"core/assoc", "core/limits", "sdk/wlm", "sdk/hostlist", "sdk/errs",
}

func TestPureRooms(t *testing.T) {
	clock := []string{"Now", "Since", "Until", "Sleep", "After", "Tick", "NewTimer", "NewTicker", "AfterFunc"}
	for _, p := range packages(t) {
		if !p.in(pure...) {
			continue
		}
		for _, name := range p.GoFiles {
			file := filepath.Join(p.Dir, name)
			set := token.NewFileSet()
			f, err := parser.ParseFile(set, file, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, imp := range f.Imports {
				path, _ := strconv.Unquote(imp.Path.Value)
				if p.in("core") && slices.Contains([]string{"os", "net", "os/exec", "log/slog"}, path) {
					t.Errorf("%s/%s imports %s: a pure room gets what it needs as arguments", p.room(), name, path)
				}
			}
			ast.Inspect(f, func(n ast.Node) bool {
				sel, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(clock, sel.Sel.Name) {
					t.Errorf("%s: time.%s in a pure room: take the time from the command", at(set, n), sel.Sel.Name)
				}
				return true
			})
		}
	}
}

// A test waits for what it waits for, with a deadline; a sleep waits for luck.
func TestNoSleepInTests(t *testing.T) {
	for _, name := range files(t) {
		if !strings.HasSuffix(name, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, filepath.Join(root(), name), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(f.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"testing/synctest"` }) {
			continue // virtual time
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "Sleep" {
				if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" {
					t.Errorf("%s: time.Sleep in a test: wait for the event, with a deadline", at(set, n))
				}
			}
			return true
		})
	}
}

func at(set *token.FileSet, n ast.Node) string {
	pos := set.Position(n.Pos())
	if rel, err := filepath.Rel(root(), pos.Filename); err == nil {
		pos.Filename = rel
	}
	return pos.String()
}

func TestPackageDocs(t *testing.T) {
	for _, p := range packages(t) {
		if p.in("sdk/proto") { // the generator puts no comment of the .proto at the package
			protos, _ := filepath.Glob(filepath.Join(p.Dir, "*.proto"))
			for _, file := range protos {
				if data, err := os.ReadFile(file); err != nil || !bytes.HasPrefix(data, []byte("//")) {
					t.Errorf("%s: say at its head what it is for (%v)", p.room(), err)
				}
			}
			continue
		}
		if len(p.GoFiles) > 0 && p.Doc == "" {
			t.Errorf("%s has no package comment: say what it is, what always holds, and how it fails", p.room())
		}
	}
}

// Words that say nothing of what a package gives.
func TestPackageNames(t *testing.T) {
	for _, p := range packages(t) {
		if slices.Contains([]string{"util", "utils", "common", "types", "helpers", "misc", "base"}, p.Name) {
			t.Errorf("%s: name the room after what it gives, not %q", p.room(), p.Name)
		}
	}
}
