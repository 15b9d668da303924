// Package submittest runs sbatch, salloc and srun in the test's process,
// against recorded mistakes and pretended clusters.
//
// A golden file holds what Slurm 25.11 printed, an entry per command line:
//
//	$ sbatch -n 0 ok.sh
//	stdin "text"            optional
//	exit 1
//	- sbatch: error: Invalid numeric value "0" for --ntasks.
//	+ sbatch: error: a line that we add to Slurm's
//
// Words of the command line are separated by blanks; single quotes keep
// together.
package submittest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-hpc/sluice/tools/internal/request"
	"github.com/sluice-hpc/sluice/tools/internal/submit"
)

// Now is the time in which test processes live.
var Now = time.Date(2026, 11, 23, 17, 0, 0, 0, time.Local)

// Run is one run of a command.
type Run struct {
	Dir   string // where it runs; empty: a new empty directory
	Args  []string
	Env   []string
	Stdin string
}

// Result is how it went.
type Result struct {
	Code           int
	Stdout, Stderr string
}

// Do runs main.
func (r Run) Do(t testing.TB, name string, main func(context.Context, *submit.Process) int) Result {
	t.Helper()
	if r.Dir == "" {
		r.Dir = t.TempDir()
	}
	env := map[string]string{}
	for _, e := range r.Env {
		k, v, _ := strings.Cut(e, "=")
		env[k] = v
	}
	var out, errOut sink
	p := &submit.Process{Name: name, Args: r.Args, Env: r.Env, Stdin: strings.NewReader(r.Stdin), Stdout: &out, Stderr: &errOut,
		Context: request.Context{Now: Now, Cwd: r.Dir, Env: func(k string) (string, bool) { v, ok := env[k]; return v, ok }}}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	code := main(ctx, p)
	return Result{code, out.b.String(), errOut.b.String()}
}

// sink takes what the command and its children print at the same time.
type sink struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

// Golden runs every entry of a golden file in a directory with the given
// files, and compares.
func Golden(t *testing.T, file string, files map[string]string, main func(context.Context, *submit.Process) int) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for entry := range strings.SplitSeq(string(b), "\n$ ") {
		line, rest, _ := strings.Cut(strings.TrimPrefix(entry, "$ "), "\n")
		if strings.HasPrefix(line, "#") {
			continue
		}
		t.Run(line, func(t *testing.T) { one(t, dir, line, rest, main) })
	}
}

func one(t *testing.T, dir, line, rest string, main func(context.Context, *submit.Process) int) {
	words := split(line)
	run := Run{Dir: dir, Env: []string{"SLURM_CONF=/nonexistent/slurm.conf"}}
	for len(words) > 0 && strings.Contains(words[0], "=") {
		run.Env = append(run.Env, words[0])
		words = words[1:]
	}
	run.Args = words[1:]
	want, code := "", 0
	for l := range strings.Lines(rest) {
		l = strings.TrimSuffix(l, "\n")
		switch {
		case strings.HasPrefix(l, "stdin "):
			run.Stdin, _ = strconv.Unquote(l[len("stdin "):])
		case strings.HasPrefix(l, "exit "):
			code, _ = strconv.Atoi(l[len("exit "):])
		case strings.HasPrefix(l, "- "), strings.HasPrefix(l, "+ "):
			want += l[2:] + "\n"
		}
	}
	got := run.Do(t, words[0], main)
	if got.Code != code || got.Stderr != want {
		t.Errorf("exit %d, want %d\ngot:\n%swant:\n%s", got.Code, code, marked(got.Stderr), marked(want))
	}
	if got.Stdout != "" {
		t.Errorf("stdout %q", got.Stdout)
	}
}

func marked(s string) string {
	var b strings.Builder
	for l := range strings.Lines(s) {
		fmt.Fprintf(&b, "  - %s\n", strings.TrimSuffix(l, "\n"))
	}
	return b.String()
}

func split(line string) []string {
	var out []string
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			out = append(out, part)
		} else {
			out = append(out, strings.Fields(part)...)
		}
	}
	return out
}
