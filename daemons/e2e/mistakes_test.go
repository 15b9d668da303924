package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// mistake is a command line that something is wrong with, and what Slurm
// 25.11.7 was observed to answer.
type mistake struct {
	line     string
	user     string
	code     int
	out, bad string
}

// readMistakes reads testdata/mistakes.txt.
func readMistakes(t *testing.T) (list []mistake) {
	t.Helper()
	data, err := os.ReadFile("testdata/mistakes.txt")
	if err != nil {
		t.Fatal(err)
	}
	form := regexp.MustCompile(`(?s)^\$ (.*?)\n\[(\w+)\] \[exit (\d+)\]\n--- stdout\n(.*?)--- stderr\n(.*)$`)
	for block := range strings.SplitSeq(strings.TrimSuffix(string(data), "==========\n"), "==========\n") {
		m := form.FindStringSubmatch(block)
		if m == nil {
			t.Fatalf("not a mistake: %q", block)
		}
		list = append(list, mistake{m[1], m[2], number(t, m[3]), m[4], m[5]})
	}
	return list
}

// Mistakes are answered with Slurm's words and exit codes. We may say more, what
// was wrong and what is allowed: on lines of its own, or behind a colon.
func TestMistakes(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become another user")
	}
	if _, err := exec.LookPath("setpriv"); err != nil {
		t.Skip("needs setpriv of util-linux")
	}
	c := up(t, "--nodes", "4", "--cpus", "64", "--mem", "8000")
	if err := os.Chmod(c.work, 0o777); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"ok.sh": "#!/bin/sh\ntrue\n", "badpart.sh": "#!/bin/sh\n#SBATCH -p nopart\ntrue\n", "empty.sh": ""} {
		c.write(name, text)
	}
	as := []string{"setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"}
	mine := func(args ...string) string {
		r := c.run(as[0], append(append(as[1:4:4], "sbatch", "--parsable", "-o", "/dev/null"), args...)...)
		if r.code != 0 {
			t.Fatal(r)
		}
		return strings.TrimSpace(r.out)
	}
	jobs := map[string]string{"@RUNS": mine("--wrap", "sleep 600"), "@HELD": mine("-H", "--wrap", "true"),
		"@FOREIGN": c.submit("-o", "/dev/null", "--wrap", "sleep 600"), "@ENDED": mine("--wrap", "true")}
	c.running(jobs["@RUNS"])
	c.ended(jobs["@ENDED"], "COMPLETED 0:0")
	var pairs []string
	for name, id := range jobs {
		pairs = append(pairs, name, id)
	}
	ids := strings.NewReplacer(pairs...)
	for _, m := range readMistakes(t) {
		argv := []string{"sh", "-c", ids.Replace(m.line)}
		if strings.Contains(m.line, "bash -c") { // quoted for bash
			argv[0] = "bash"
		}
		if m.user != "root" {
			argv = append(as[:4:4], argv...)
		}
		r := c.run(argv[0], argv[1:]...)
		if r.code != m.code || plain(r.out) != plain(ids.Replace(m.out)) || !says(plain(r.errOut), plain(ids.Replace(m.bad))) {
			t.Errorf("$ %s\nexit %d, want %d\nstdout: %s\nwant:   %s\nstderr: %s\nwant:   %s", m.line, r.code, m.code, r.out, m.out, r.errOut, m.bad)
		}
	}
}

// plain takes out what differs from run to run.
func plain(s string) string {
	for _, r := range []struct{ what, by string }{
		{`\[\d{4}-\d\d-\d\dT[\d:.]+\]`, "[TIME]"}, {`batch job \d+`, "batch job ID"}, {`StepId=\d+`, "StepId=ID"},
		{`(?m)^srun: job \d+ .*\n`, ""}, // of waiting: as fast as the controller is
	} {
		s = regexp.MustCompile(r.what).ReplaceAllString(s, r.by)
	}
	return s
}

// says reports whether every line of want is in got, in any order, perhaps with
// more behind a colon.
func says(got, want string) bool {
	for w := range strings.Lines(want) {
		w = strings.TrimSuffix(w, "\n")
		found := false
		for g := range strings.Lines(got) {
			g = strings.TrimSuffix(g, "\n")
			found = found || g == w || strings.HasPrefix(g, w+":")
		}
		if !found {
			return false
		}
	}
	return want != "" || got == ""
}

// Scripts that are none: what is wrong with them is said, and nothing is
// submitted.
func TestBadScripts(t *testing.T) {
	c := up(t, "--nodes", "1", "--cpus", "1")
	c.write("plain.txt", "echo no interpreter\n")
	c.write("dos.sh", "#!/bin/sh\r\necho x\r\n")
	c.write("badopt.sh", "#!/bin/sh\n#SBATCH --bogus=1\ntrue\n")
	for _, tt := range []struct {
		script string
		code   int
		want   string
	}{
		{"plain.txt", 1, "sbatch: error: This does not look like a batch script.  The first\nsbatch: error: line must start with #! followed by the path to an interpreter.\nsbatch: error: For instance: #!/bin/sh\n"},
		{"dos.sh", 1, "sbatch: error: Batch script contains DOS line breaks (\\r\\n)\nsbatch: error: instead of expected UNIX line breaks (\\n).\n"},
		{"missing.sh", 1, "sbatch: error: Unable to open file missing.sh\n"},
		{filepath.Join(c.work, "gone.sh"), 1, "sbatch: error: Unable to open file " + filepath.Join(c.work, "gone.sh") + "\n"},
		{"badopt.sh", 255, "sbatch: unrecognized option '--bogus=1'\n"},
	} {
		r := c.run("sbatch", tt.script)
		if r.code != tt.code || r.out != "" || !says(r.errOut, tt.want) {
			t.Errorf("want exit %s and %s: %s", strconv.Itoa(tt.code), tt.want, r)
		}
	}
	if out := c.ok("squeue", "-h"); out != "" {
		t.Errorf("submitted nevertheless: %s", out)
	}
}
