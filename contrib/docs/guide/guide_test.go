// Package guide tests that the guides beside it are true: it runs each command
// that they show and compares what it prints.
package guide

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

var rewrite = flag.Bool("rewrite", false, "put what the commands print into the guides; cut it down by hand with lines of ...")

const (
	guideTime = 8 * time.Minute
	home      = "/home/alice/plugins" // what a guide shows for the directory of the test
	marker    = "@@@ end of command"
)

// command is a command of a guide with the output that it shows.
type command struct {
	line, end int // lines of the guide: of the command, and of the end of its output
	text      string
	want      []string
}

func TestPlugins(t *testing.T) {
	top, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	prefix := filepath.Join(top, "build")
	if _, err := os.Stat(filepath.Join(prefix, "sbin", "slurmsim")); err != nil {
		if out, err := exec.Command("make", "-C", top, "build").CombinedOutput(); err != nil {
			t.Fatalf("make build: %v\n%s", err, out)
		}
	}
	data, err := os.ReadFile("plugins.md")
	if err != nil {
		t.Fatal(err)
	}
	python := exec.Command("/usr/bin/python3", "-c", "import grpc, google.protobuf").Run() == nil
	if !python {
		t.Log("python3-grpcio is missing (make deps-test installs it): the commands about Python are left out")
	}
	lines := strings.Split(string(data), "\n")
	commands := parse(t, lines, python)
	got := perform(t, prefix, commands)
	for i := len(commands) - 1; i >= 0; i-- {
		c := commands[i]
		if *rewrite {
			lines = append(lines[:c.end-len(c.want):c.end-len(c.want)], append(got[i], lines[c.end:]...)...)
			continue
		}
		if !matches(c.want, got[i]) {
			t.Errorf("plugins.md:%d: %s prints\n%s\nthe guide shows\n%s", c.line, c.text, strings.Join(got[i], "\n"), strings.Join(c.want, "\n"))
		}
	}
	if *rewrite {
		if err := os.WriteFile("plugins.md", []byte(strings.Join(lines, "\n")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// parse finds the commands in the blocks that are marked console: lines with $,
// further lines of the same command with >, then its output.
func parse(t *testing.T, lines []string, python bool) (list []command) {
	in := false
	for i, line := range lines {
		switch {
		case strings.HasPrefix(line, "```"):
			in = line == "```console" || line == "```console python" && python
		case !in:
		case strings.HasPrefix(line, "$ "):
			list = append(list, command{line: i + 1, end: i + 1, text: line[2:]})
		case strings.HasPrefix(line, ">") && len(list[len(list)-1].want) == 0:
			c := &list[len(list)-1]
			c.text, c.end = c.text+"\n"+strings.TrimPrefix(strings.TrimPrefix(line, ">"), " "), i+1
		default:
			c := &list[len(list)-1]
			c.want, c.end = append(c.want, line), i+1
		}
	}
	if len(list) == 0 {
		t.Fatal("the guide shows no commands")
	}
	return list
}

// perform runs the commands one after the other in one shell, in a directory
// that a daemon finds safe, and returns what each printed.
func perform(t *testing.T, prefix string, commands []command) (out [][]string) {
	dir, err := os.MkdirTemp(prefix, "guide")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	env := []string{"PATH=" + filepath.Join(prefix, "bin") + ":" + os.Getenv("PATH"), "LC_ALL=C"}
	for _, e := range os.Environ() {
		if n, _, _ := strings.Cut(e, "="); n != "PATH" && n != "LC_ALL" && !strings.HasPrefix(n, "SLURM_") && !strings.HasPrefix(n, "SLUICE_") &&
			!strings.HasPrefix(n, "MAKE") && n != "MFLAGS" { // make says more below another make
			env = append(env, e)
		}
	}
	t.Cleanup(func() {
		wipe := exec.Command(filepath.Join(prefix, "bin", "sluice"), "--dir", filepath.Join(dir, "sched_mine", "cluster"), "wipe")
		_ = wipe.Run() // there is none if all went well or nothing began
		os.RemoveAll(dir)
	})
	var script bytes.Buffer
	for _, c := range commands {
		fmt.Fprintf(&script, "%s\necho '%s'\n", c.text, marker)
	}
	ctx, cancel := context.WithTimeout(t.Context(), guideTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", "exec 2>&1\n"+script.String())
	cmd.Dir, cmd.Env = dir, env
	printed, err := os.Create(filepath.Join(dir, "printed")) // a file: daemons keep it open
	if err != nil {
		t.Fatal(err)
	}
	defer printed.Close()
	cmd.Stdout = printed
	if err := cmd.Run(); err != nil {
		t.Errorf("the guide's commands: %v", err)
	}
	text, err := os.ReadFile(printed.Name())
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range strings.Split(strings.ReplaceAll(string(text), dir, home), marker+"\n") {
		part = strings.TrimRight(part, "\n")
		if part == "" {
			out = append(out, nil)
			continue
		}
		out = append(out, strings.Split(part, "\n"))
	}
	if len(out) != len(commands)+1 {
		t.Fatalf("%d of %d commands ended:\n%s", len(out)-1, len(commands), text)
	}
	return out[:len(commands)]
}

var (
	sum    = regexp.MustCompile(`[0-9a-f]{64}`)
	number = regexp.MustCompile(`[0-9]+(\.[0-9]+)?`)
	blanks = regexp.MustCompile(`\s+`)
)

// matches compares lines but for numbers and widths; a line of ... stands for
// any number of lines.
func matches(want, got []string) bool {
	if len(want) == 0 {
		return len(got) == 0
	}
	if strings.TrimSpace(want[0]) == "..." {
		for i := 0; i <= len(got); i++ {
			if matches(want[1:], got[i:]) {
				return true
			}
		}
		return false
	}
	return len(got) > 0 && plain(want[0]) == plain(got[0]) && matches(want[1:], got[1:])
}

func plain(s string) string {
	s = number.ReplaceAllString(sum.ReplaceAllString(s, "SUM"), "0")
	return strings.TrimSpace(blanks.ReplaceAllString(s, " "))
}
