package lint

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "rewrite sdk-deps.txt")

// may lists, for each top-level folder, the others it may import. It is
// policy: widening it to make a build pass needs an ADR.
var may = map[string][]string{
	"sdk":     {},
	"conf":    {"sdk"},
	"core":    {"conf", "sdk"},
	"plugins": {"sdk"},
	"tools":   {"conf", "sdk"},
	"daemons": {"core", "conf", "sdk"},
	"contrib": {"sdk"},
}

func TestImportTable(t *testing.T) {
	for _, p := range packages(t) {
		from, _, _ := strings.Cut(p.room(), "/")
		for _, imp := range p.Imports {
			path, ours := strings.CutPrefix(imp, module)
			to, _, _ := strings.Cut(path, "/")
			if ours && to != from && !slices.Contains(may[from], to) {
				t.Errorf("%s imports %s: %s may import only itself and %v", p.room(), imp, from, may[from])
			}
		}
	}
}

// only says where a module from outside may be imported.
var only = []struct {
	prefix string
	rooms  []string
	why    string
}{
	{"github.com/hashicorp/go-plugin", []string{"sdk/plugin", "core/pluginhost"}, "speak to plugins through sdk/plugin or core/pluginhost"},
	{"github.com/spf13/cobra", []string{"tools", "daemons"}, "only what has a command line knows command lines"},
	{"github.com/spf13/viper", []string{"conf"}, "ask package conf for typed values"},
	{"modernc.org/sqlite", []string{"plugins/accounting_storage/sqlite"}, "a database driver belongs to its plugin"},
	{"github.com/lib/pq", []string{"plugins/accounting_storage/postgres"}, "a database driver belongs to its plugin"},
	{"github.com/hashicorp/raft", []string{"core/journal"}, "append to the log through core/journal"},
}

func TestOutsideImports(t *testing.T) {
	for _, p := range packages(t) {
		for _, imp := range p.Imports {
			for _, o := range only {
				if strings.HasPrefix(imp, o.prefix) && !p.in(o.rooms...) {
					t.Errorf("%s imports %s, which only %v may: %s", p.room(), imp, o.rooms, o.why)
				}
			}
		}
	}
}

// The floor of sdk is errs, then the nouns, then the kinds, which do not know
// each other.
func TestKindsAreApart(t *testing.T) {
	kinds := []string{"sched", "selector", "priority", "jobsubmit", "launch", "acctstore"}
	floor := map[string][]string{"sdk/errs": {}, "sdk/hostlist": {"sdk/errs"}, "sdk/wlm": {"sdk/errs", "sdk/hostlist"}}
	for _, p := range packages(t) {
		for _, imp := range p.Imports {
			to, ours := strings.CutPrefix(imp, module)
			if lower, ok := floor[p.room()]; ok && ours && !slices.Contains(lower, to) {
				t.Errorf("%s imports %s: it is at the floor of sdk and may import only %v", p.room(), imp, lower)
			}
			for _, k := range kinds {
				other := slices.ContainsFunc(kinds, func(o string) bool { return o != k && to == "sdk/"+o })
				places := k == "selector" && to == "sdk/sched" // an agenda is what it places
				if p.in("sdk/"+k) && ours && other && !places {
					t.Errorf("%s imports %s: plugin kinds do not import each other", p.room(), imp)
				}
			}
		}
	}
}

// Whoever writes a plugin takes sdk's dependencies along, so that each new one
// is a decision. After one, run: go test ./contrib/lint -run SDKDeps -rewrite
func TestSDKDeps(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range packages(t) {
		if !p.in("sdk") {
			continue
		}
		for _, dep := range p.Deps {
			first, _, _ := strings.Cut(dep, "/")
			if strings.Contains(first, ".") && !strings.HasPrefix(dep, module) {
				seen[dep] = true
			}
		}
	}
	var deps []string
	for dep := range seen {
		deps = append(deps, dep)
	}
	slices.Sort(deps)
	file := filepath.Join(root(), "contrib/lint/sdk-deps.txt")
	if *rewrite {
		if err := os.WriteFile(file, []byte(strings.Join(deps, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Fields(string(text))
	for _, dep := range deps {
		if !slices.Contains(want, dep) {
			t.Errorf("sdk now needs %s: do without, or add it to contrib/lint/sdk-deps.txt with -rewrite", dep)
		}
	}
	for _, dep := range want {
		if !seen[dep] {
			t.Errorf("sdk no longer needs %s: take it out of contrib/lint/sdk-deps.txt with -rewrite", dep)
		}
	}
}
