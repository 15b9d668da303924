package sbatch

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/sluice-hpc/sluice/tools/internal/request"
	"github.com/sluice-hpc/sluice/tools/internal/submit"
)

// script returns the text to submit, from --wrap, a file, or standard input,
// and notes in r what it was.
func script(r *request.Request, p *submit.Process) ([]byte, error) {
	if r.Given("wrap") != request.Nowhere {
		if len(r.Args) > 0 {
			return nil, refuse("Script arguments not permitted with --wrap option")
		}
		return []byte("#!/bin/sh\n# This script was created by sbatch --wrap.\n\n" + r.Batch.Wrap + "\n"), nil
	}
	var text []byte
	var err error
	if len(r.Args) == 0 || r.Args[0] == "-" {
		if len(r.Args) > 1 {
			r.Spec.Argv = append([]string{"slurm_script"}, r.Args[1:]...)
		}
		if text, err = io.ReadAll(p.Stdin); err != nil {
			return nil, refuse("Unable to read the script from standard input: " + err.Error())
		}
	} else {
		path := find(r.Args[0], r.Spec.WorkDir, p)
		if path == "" && p.Context.Cwd != "" && !filepath.IsAbs(r.Args[0]) { // --chdir is for the job
			if here := filepath.Join(p.Context.Cwd, r.Args[0]); readable(here) {
				path = here
			}
		}
		if path == "" {
			return nil, refuse("Unable to open file " + r.Args[0])
		}
		text, err = os.ReadFile(path)
		if st, serr := os.Stat(path); err != nil && (serr != nil || !st.IsDir()) {
			return nil, refuse("Unable to open file " + r.Args[0])
		}
		r.Spec.Argv = append([]string{path}, r.Args[1:]...)
	}
	return text, check(text)
}

// find resolves a script's name: a path as it is, a plain name in dir, then
// in PATH.
func find(name, dir string, p *submit.Process) string {
	here := name
	if !filepath.IsAbs(name) {
		here = filepath.Join(dir, name)
	}
	if readable(here) || filepath.IsAbs(name) || strings.HasPrefix(name, ".") {
		if !readable(here) {
			return ""
		}
		return here
	}
	path, _ := p.Context.Env("PATH")
	for _, d := range filepath.SplitList(path) {
		if there := filepath.Join(d, name); filepath.IsAbs(there) && readable(there) {
			return there
		}
	}
	return ""
}

func readable(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	f.Close()
	return true
}

// check refuses what cannot be a script.
func check(text []byte) error {
	switch {
	case len(text) == 0:
		return refuse("Batch script is empty!")
	case len(bytes.TrimSpace(text)) == 0:
		return refuse("Batch script contains only whitespace!")
	case !bytes.HasPrefix(text, []byte("#!")):
		return refuse("This does not look like a batch script.  The first",
			"line must start with #! followed by the path to an interpreter.",
			"For instance: #!/bin/sh")
	case bytes.IndexByte(text, 0) >= 0:
		return refuse("The Slurm controller does not allow scripts that", `contain a NULL character '\0'.`)
	case bytes.Contains(text, []byte("\r\n")):
		return refuse(`Batch script contains DOS line breaks (\r\n)`, `instead of expected UNIX line breaks (\n).`)
	}
	return nil
}

func refuse(lines ...string) error { return &request.Mistake{Exit: 1, Lines: lines} }
