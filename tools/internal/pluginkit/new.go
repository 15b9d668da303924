package pluginkit

import (
	"bytes"
	"embed"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"github.com/sluice-hpc/sluice/sdk/python"
	"github.com/spf13/cobra"
)

//go:embed templates
var templates embed.FS

// kinds with a skeleton in Go, and those with one in Python.
var (
	skeletons = []string{"sched", "select", "priority", "job_submit", "launch", "accounting_storage"}
	inPython  = []string{"sched", "priority", "job_submit"}
)

// skeleton is what the templates of a new plugin know.
type skeleton struct {
	Kind, Name string
	Program    string   // kind_name
	Type       string   // of the author's value: Mine
	SDK        string   // directory of the module with sdk
	Go         string   // its Go version
	Requires   []string // the modules that it needs
	Key        string   // of slurm.conf
}

var confKeys = map[string]string{"sched": "SchedulerType=sched/", "select": "SelectType=select/", "priority": "PriorityType=priority/",
	"job_submit": "JobSubmitPlugins=", "launch": "LaunchType=launch/", "accounting_storage": "AccountingStorageType=accounting_storage/"}

// testFlags are what sluice plugin test needs for a skeleton as it stands.
var testFlags = map[string]string{"launch": "--pretends ", "accounting_storage": "--option=path=%t/records "}

func newCommand(stdout io.Writer) *cobra.Command {
	var lang, sdk string
	cmd := &cobra.Command{
		Use:   "new KIND NAME",
		Short: "Write a module that builds and passes as it stands",
		Long: "new writes the directory KIND_NAME with a plugin to begin with, in Go (a module of its\n" +
			"own that imports only sdk) or in Python (which carries its library along).\n" +
			"KIND is " + strings.Join(skeletons, ", ") + ";\nof these in Python: " + strings.Join(inPython, ", ") + ".",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return fmt.Errorf("plugin new wants a kind and a name, as in: sluice plugin new sched mine")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := plan(args[0], args[1])
			if err != nil {
				return err
			}
			switch lang {
			case "go":
				return s.writeGo(stdout, sdk)
			case "python":
				return s.writePython(stdout)
			}
			return fmt.Errorf("--lang=%s: allowed are go and python", lang)
		},
	}
	cmd.Flags().StringVar(&lang, "lang", "go", "go or python")
	cmd.Flags().StringVar(&sdk, "sdk", "", "directory of Sluice's module for --lang=go (default: the one installed beside this command)")
	return cmd
}

var legalName = regexp.MustCompile(`^[a-z][a-z0-9_-]*$`)

// plan checks a kind and a name.
func plan(kind, name string) (*skeleton, error) {
	if !slices.Contains(skeletons, kind) {
		return nil, fmt.Errorf("there is no kind %s: allowed are %s", kind, strings.Join(skeletons, ", "))
	}
	if !legalName.MatchString(name) {
		return nil, fmt.Errorf("the name %q: allowed are small letters, digits, - and _, a letter first", name)
	}
	s := &skeleton{Kind: kind, Name: name, Program: kind + "_" + name, Key: confKeys[kind] + name}
	for _, part := range regexp.MustCompile(`[-_]`).Split(name, -1) {
		if part != "" {
			s.Type += strings.ToUpper(part[:1]) + part[1:]
		}
	}
	if _, err := os.Stat(s.Program); err == nil {
		return nil, fmt.Errorf("%s exists already: choose another name or remove it", s.Program)
	}
	return s, nil
}

// writeGo writes a module and says what to do next.
func (s *skeleton) writeGo(stdout io.Writer, sdk string) error {
	if err := s.findSDK(sdk); err != nil {
		return err
	}
	sums, err := os.ReadFile(filepath.Join(s.SDK, "go.sum"))
	if err != nil {
		return fmt.Errorf("--sdk: %w", err)
	}
	files := map[string][]byte{"go.sum": sums}
	for file, from := range map[string]string{"go.mod": "go/go.mod", "main.go": "go/" + s.Kind + ".go", "main_test.go": "go/" + s.Kind + "_test.go"} {
		if files[file], err = s.render(from); err != nil {
			return err
		}
	}
	if err := s.write(files); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s/: main.go is the plugin, main_test.go holds it to the contract.\nNext:\n"+
		"  cd %s\n  go build && go test\n  sluice plugin test %s./%s\n", s.Program, s.Program, testFlags[s.Kind], s.Program)
	s.live(stdout)
	return nil
}

func (s *skeleton) live(stdout io.Writer) {
	fmt.Fprintf(stdout, "To use it: copy %s into a directory of PluginDir and set %s in slurm.conf", s.Program, s.Key)
	if s.Kind != "job_submit" {
		fmt.Fprintf(stdout, ",\nor on a running cluster: scontrol reload plugin %s/%s $PWD/%s", s.Kind, s.Name, s.Program)
	}
	fmt.Fprintln(stdout)
}

// writePython writes a folder that zipapp makes into a program.
func (s *skeleton) writePython(stdout io.Writer) error {
	if !slices.Contains(inPython, s.Kind) {
		return fmt.Errorf("--lang=python: there is no skeleton for the kind %s in Python, only for %s; --lang=go has all kinds", s.Kind, strings.Join(inPython, ", "))
	}
	files := map[string][]byte{}
	var err error
	if files["src/__main__.py"], err = s.render("python/" + s.Kind + ".py"); err != nil {
		return err
	}
	if files["Makefile"], err = s.render("python/Makefile"); err != nil {
		return err
	}
	err = fs.WalkDir(python.Library(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".py") {
			return err
		}
		files["src/"+path], err = fs.ReadFile(python.Library(), path)
		return err
	})
	if err != nil {
		return err
	}
	if err := s.write(files); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s/: src/__main__.py is the plugin, src/sluice the library (python3-grpcio is needed).\nNext:\n"+
		"  cd %s\n  make\n  sluice plugin test ./%s\n", s.Program, s.Program, s.Program)
	s.live(stdout)
	return nil
}

func (s *skeleton) write(files map[string][]byte) error {
	for name, data := range files {
		path := filepath.Join(s.Program, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (s *skeleton) render(name string) ([]byte, error) {
	t, err := template.ParseFS(templates, "templates/"+name+".tmpl")
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, s)
	return b.Bytes(), err
}

// findSDK finds the module with sdk, and what it requires.
func (s *skeleton) findSDK(named string) error {
	dir := named
	if dir == "" {
		exe, err := os.Executable()
		if err != nil {
			return err
		}
		if real, err := filepath.EvalSymlinks(exe); err == nil {
			exe = real
		}
		dir = filepath.Join(filepath.Dir(filepath.Dir(exe)), "share", "sluice", "src")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(abs, "go.mod"))
	if err != nil || !bytes.HasPrefix(text, []byte("module github.com/sluice-hpc/sluice\n")) {
		return fmt.Errorf("--sdk: %s is not Sluice's module: name a directory with its go.mod and sdk, such as a checkout", abs)
	}
	s.SDK = abs
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		switch {
		case len(f) == 2 && f[0] == "go":
			s.Go = f[1]
		case len(f) >= 2 && strings.Contains(f[0], ".") && strings.HasPrefix(f[1], "v"):
			s.Requires = append(s.Requires, f[0]+" "+f[1])
		}
	}
	return nil
}
