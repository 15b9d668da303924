package pluginkit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The test's program is also "sluice", which runs suites in a process of its own.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "plugin" {
		cmd := New(os.Stdout, os.Stderr)
		cmd.SetArgs(os.Args[2:])
		if err := cmd.ExecuteContext(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// sluicePlugin runs the command in a directory and returns what it printed.
func sluicePlugin(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	t.Chdir(dir)
	var out, bad bytes.Buffer
	cmd := New(&out, &bad)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	return out.String() + bad.String(), err
}

func shell(t *testing.T, dir, line string) {
	t.Helper()
	cmd := exec.Command("sh", "-ec", line)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
}

func tree(t *testing.T) string {
	t.Helper()
	top, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	return top
}

// What new writes builds and passes as it stands, in both languages.
func TestNewBuildsAndPasses(t *testing.T) {
	top := tree(t)
	python := exec.Command("/usr/bin/python3", "-c", "import grpc, google.protobuf").Run() == nil
	for _, kind := range skeletons {
		for lang, build := range map[string]string{"go": "test -z \"$(gofmt -l .)\" && go build && go vet && go test", "python": "make"} {
			if lang == "python" && !slices.Contains(inPython, kind) {
				continue
			}
			t.Run(kind+"/"+lang, func(t *testing.T) {
				if lang == "python" && !python {
					t.Skip("python3-grpcio is missing (make deps-test installs it)")
				}
				dir := t.TempDir()
				out, err := sluicePlugin(t, dir, "new", kind, "first-try", "--lang="+lang, "--sdk="+top)
				if err != nil || !strings.Contains(out, "sluice plugin test "+testFlags[kind]+"./"+kind+"_first-try") {
					t.Fatalf("new: %v\n%s", err, out)
				}
				module := filepath.Join(dir, kind+"_first-try")
				shell(t, module, build)
				out, err = sluicePlugin(t, module, append(append([]string{"test"}, strings.Fields(testFlags[kind])...), "./"+kind+"_first-try")...)
				if err != nil || !strings.HasPrefix(out, kind+"/first-try 0.1.0 speaks version 1 of the contract.") || !strings.Contains(out, "checks passed.\n") {
					t.Errorf("test: %v\n%s", err, out)
				}
			})
		}
	}
}

// A plugin that breaks its contract is told which rule, in a sentence.
func TestFailuresAreExplained(t *testing.T) {
	dir := t.TempDir()
	if out, err := sluicePlugin(t, dir, "new", "sched", "bad", "--sdk="+tree(t)); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	module := filepath.Join(dir, "sched_bad")
	main := filepath.Join(module, "main.go")
	text, err := os.ReadFile(main)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.Replace(text, []byte("v.PendingByPriority()"), []byte("v.Pending()"), 1) // held ones, too
	if err := os.WriteFile(main, text, 0o644); err != nil {
		t.Fatal(err)
	}
	shell(t, module, "go build")
	out, err := sluicePlugin(t, module, "test", "./sched_bad")
	if !errors.Is(err, ErrShown) {
		t.Errorf("a broken plugin must fail: %v", err)
	}
	for _, want := range []string{"  FAILED  jobs that cannot start are not listed\n", "is not ready (held or waiting for something); trying it is in vain",
		"  ok      an empty cluster has an empty agenda\n", " checks failed.\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("the report lacks %q:\n%s", want, out)
		}
	}
}

func TestMistakes(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "sched_taken"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "hello"), []byte("#!/bin/sh\necho oops >&2\necho hello\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ args, want string }{
		{"new sched", "plugin new wants a kind and a name, as in: sluice plugin new sched mine"},
		{"new shed mine", "there is no kind shed: allowed are sched, select, priority, job_submit, launch, accounting_storage"},
		{"new select mine --lang=python", "--lang=python: there is no skeleton for the kind select in Python, only for sched, priority, job_submit; --lang=go has all kinds"},
		{"new sched My/Plugin", `the name "My/Plugin": allowed are small letters, digits, - and _, a letter first`},
		{"new sched taken", "sched_taken exists already: choose another name or remove it"},
		{"new sched x --lang=perl", "--lang=perl: allowed are go and python"},
		{"new sched x --sdk=nowhere", "nowhere is not Sluice's module"},
		{"test nowhere", "nowhere: no such file or directory"},
		{"test sched_taken", "sched_taken is not a program: name the built plugin"},
		{"test hello", "hello does not start as a plugin: it must serve gRPC and print nothing else on stdout (it printed \"hello\")"},
		{"test hello --option=x", "--option=x: NAME=VALUE is wanted"},
	} {
		_, err := sluicePlugin(t, dir, strings.Fields(tc.args)...)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.args, err, tc.want)
		}
	}
	_, err := sluicePlugin(t, dir, "test", "hello")
	if err == nil || !strings.Contains(err.Error(), "it said:\n  oops") {
		t.Errorf("what a program says when it does not start must be shown: %v", err)
	}
}
