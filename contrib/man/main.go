// Command man writes the manual pages of what was built: of each command and
// daemon from its own --help, so that no page can tell of an option that is not
// there, and slurm.conf(5) from the reference of keys.
//
//	go run ./contrib/man BUILD REFERENCE
//
// BUILD has bin and sbin; the pages go to BUILD/share/man. A program whose help
// cannot be read is an error: a page without options helps nobody.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: man BUILD REFERENCE")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "man:", err)
		os.Exit(1)
	}
}

func run(build, reference string) error {
	out := filepath.Join(build, "share", "man")
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	for dir, section := range map[string]string{"bin": "1", "sbin": "8"} {
		programs, err := os.ReadDir(filepath.Join(build, dir))
		if err != nil {
			return err
		}
		for _, p := range programs {
			help, err := helpOf(filepath.Join(build, dir, p.Name()))
			if err != nil {
				return err
			}
			if err := write(out, p.Name(), section, commandPage(p.Name(), section, help)); err != nil {
				return err
			}
		}
	}
	text, err := os.ReadFile(reference)
	if err != nil {
		return err
	}
	return write(out, "slurm.conf", "5", confPage(string(text)))
}

func helpOf(program string) (string, error) {
	cmd := exec.Command(program, "--help")
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}
	var bad bytes.Buffer
	cmd.Stderr = &bad
	text, err := cmd.Output()
	if err == nil && !bytes.Contains(text, []byte("--")) {
		err = errors.New("its help names no option")
	}
	if err != nil {
		return "", fmt.Errorf("%s --help: %w %s", program, err, bad.String())
	}
	return string(text), nil
}

func write(dir, name, section, text string) error {
	dir = filepath.Join(dir, "man"+section)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name+"."+section), []byte(text), 0o644)
}

// option is a line of help about an option: its names, and what it does.
var option = regexp.MustCompile(`^\s+(-\w, --\S+|--\S+|-\w)(?: (int|string|stringArray|count|duration))?(?:\s+(.*))?$`)

// commandPage is a manual page with what a program says of itself.
func commandPage(name, section, help string) string {
	synopsis, about, rest := parts(name, help)
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s %s \"\" \"Sluice\" \"Sluice\"\n.SH NAME\n%s \\- %s\n.SH SYNOPSIS\n.nf\n%s\n.fi\n",
		strings.ToUpper(name), section, escape(name), escape(about), escape(synopsis))
	b.WriteString(".SH DESCRIPTION\nOptions, environment variables, output and exit codes are those of Slurm's " + escape(name) + ".\n")
	if name == "sluice" {
		b.Reset()
		fmt.Fprintf(&b, ".TH SLUICE 1 \"\" \"Sluice\" \"Sluice\"\n.SH NAME\nsluice \\- a whole cluster on this machine\n.SH SYNOPSIS\n.nf\n%s\n.fi\n.SH DESCRIPTION\n%s\n",
			escape(synopsis), escape(about))
	}
	verbatim := false
	literal := func(on bool) {
		if on != verbatim {
			b.WriteString(map[bool]string{true: ".PP\n.nf\n", false: ".fi\n"}[on])
			verbatim = on
		}
	}
	for line := range strings.Lines(rest) {
		line = strings.TrimRight(line, "\n")
		m := option.FindStringSubmatch(line)
		switch {
		case m != nil:
			literal(false)
			names := m[1]
			if m[2] != "" {
				names += " " + m[2]
			}
			fmt.Fprintf(&b, ".TP\n\\fB%s\\fR\n%s\n", escape(names), escape(m[3]))
		case strings.TrimSpace(line) == "":
			literal(false)
		case strings.HasSuffix(line, ":") && line[0] != ' ':
			literal(false)
			title := strings.ToUpper(strings.TrimSuffix(line, ":"))
			if title == "FLAGS" {
				title = "OPTIONS"
			}
			fmt.Fprintf(&b, ".SH %s\n", escape(title))
		default:
			literal(true)
			b.WriteString(escape(line) + "\n")
		}
	}
	literal(false)
	b.WriteString(".SH \"SEE ALSO\"\n.BR slurm.conf (5),\n.BR slurmctld (8),\n.BR slurmd (8)\n")
	return b.String()
}

// parts splits a help into its synopsis, what the program is, and the rest.
func parts(name, help string) (synopsis, about, rest string) {
	help = strings.TrimLeft(help, "\n")
	if after, ok := strings.CutPrefix(help, "Usage: "); ok { // a command of Slurm's
		synopsis, rest, _ = strings.Cut(after, "\n\n")
		first, more, _ := strings.Cut(rest, "\n\n")
		if !strings.HasPrefix(strings.TrimSpace(first), "-") && !strings.HasSuffix(strings.TrimSpace(strings.SplitN(first, "\n", 2)[0]), ":") {
			about, rest = first, more
		} else {
			about = "Slurm's " + name
		}
		if strings.HasPrefix(strings.TrimSpace(rest), "-") {
			rest = "Options:\n" + rest
		}
		return synopsis, strings.TrimSpace(about), rest
	}
	about, rest, _ = strings.Cut(help, "\nUsage:\n")
	synopsis, rest, _ = strings.Cut(rest, "\n\n")
	return strings.TrimSpace(synopsis), strings.TrimSpace(about), rest
}

// confPage is slurm.conf(5): the reference's text, its tables as lists.
func confPage(text string) string {
	var b strings.Builder
	b.WriteString(".TH SLURM.CONF 5 \"\" \"Sluice\" \"Sluice\"\n.SH NAME\nslurm.conf \\- the configuration of a cluster\n.SH DESCRIPTION\n")
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		switch {
		case strings.HasPrefix(line, "# "), strings.HasPrefix(line, "Generated from"), strings.HasPrefix(line, "|---"), strings.HasPrefix(line, "| key"):
		case strings.HasPrefix(line, "## "):
			fmt.Fprintf(&b, ".SH %q\n", strings.ToUpper(escape(line[3:])))
		case strings.HasPrefix(line, "| ") && len(cells) > 1:
			fmt.Fprintf(&b, ".TP\n\\fB%s\\fR\n%s\n", escape(cells[0]), escape(strings.Join(cells[1:], "; ")))
		case line == "":
			b.WriteString(".PP\n")
		default:
			b.WriteString(escape(strings.ReplaceAll(line, "**", "")) + "\n")
		}
	}
	return b.String()
}

// escape keeps roff from reading text as requests.
func escape(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}
