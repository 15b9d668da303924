package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/hostlist"
)

// selection is a table of testdata/select: a configuration, and what Slurm
// answered to requests. A line of a case that begins with "- " is Slurm's where
// ours is another, which follows with "+ ". Such a case has "# differs: CLASS"
// above it, and "# class CLASS: REASON" at the head of the table.
type selection struct {
	conf, gres []string
	wires      []string // of topology.conf
	cases      []selectCase
	reasons    map[string]string // by class of difference
}

type selectCase struct {
	requests []string // options of jobs that are there together
	want     []string
	class    string // of difference; "": none is told
	differs  bool
}

func readSelection(t *testing.T, file string) (s selection) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s.reasons = map[string]string{}
	class := ""
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSuffix(line, "\n")
		if rest, ok := strings.CutPrefix(line, "# class "); ok {
			name, reason, _ := strings.Cut(rest, ": ")
			s.reasons[name] = reason
		} else if rest, ok := strings.CutPrefix(line, "# differs: "); ok {
			class = rest
		} else if rest, ok := strings.CutPrefix(line, "conf "); ok {
			s.conf = append(s.conf, rest)
		} else if rest, ok := strings.CutPrefix(line, "gres "); ok {
			s.gres = append(s.gres, rest)
		} else if rest, ok := strings.CutPrefix(line, "topology "); ok {
			s.wires = append(s.wires, rest)
		} else if rest, ok := strings.CutPrefix(line, "\t"); ok {
			c := &s.cases[len(s.cases)-1]
			if strings.HasPrefix(rest, "- ") {
				c.differs = true
				continue
			}
			c.want = append(c.want, strings.TrimPrefix(rest, "+ "))
		} else if line != "" && line[0] != '#' {
			s.cases = append(s.cases, selectCase{requests: strings.Split(line, " ; "), class: class})
			class = ""
		}
	}
	return s
}

// Every difference from Slurm is of a class that has a reason in the table and
// in the reference.
func TestSelectionDifferences(t *testing.T) {
	text, err := os.ReadFile("../../contrib/docs/reference/compat.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("testdata/select/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no tables: %v", err)
	}
	for _, f := range files {
		s := readSelection(t, f)
		used := map[string]bool{}
		for _, c := range s.cases {
			used[c.class] = true
			if name := strings.Join(c.requests, " ; "); c.differs != (c.class != "") {
				t.Errorf("%s: %s: differs %v, class %q", f, name, c.differs, c.class)
			} else if c.differs && (s.reasons[c.class] == "" || !strings.Contains(string(text), "| `"+c.class+"`:")) {
				t.Errorf("%s: %s: no reason for class %s in the table, or no row in compat.md", f, name, c.class)
			}
		}
		for name := range s.reasons {
			if !used[name] {
				t.Errorf("%s: no case is of class %s", f, name)
			}
		}
	}
}

// Requests are answered as Slurm's select plugins answer them: nodes, CPUs,
// memory and devices. The tables were recorded with Slurm 22.05; a part of the
// cases is run, or all of them with E2E_ALL=1.
func TestSelection(t *testing.T) {
	files, err := filepath.Glob("testdata/select/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no tables: %v", err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".txt")
		t.Run(name, func(t *testing.T) {
			s := readSelection(t, f)
			c := selectSite(t, s)
			every := map[string]int{"gres": 1, "coremem": 4}[name]
			if every == 0 {
				every = 12
			}
			if os.Getenv("E2E_ALL") != "" {
				every = 1
			}
			for i, k := range s.cases {
				if i%every != 0 {
					continue
				}
				if got := c.answer(k.requests); !slices.Equal(got, k.want) {
					t.Errorf("%s:\n\tgot\n%s\n\twant\n%s", strings.Join(k.requests, " ; "), strings.Join(got, "\n"), strings.Join(k.want, "\n"))
				}
			}
		})
	}
}

// selectSite starts the nodes of a table.
func selectSite(t *testing.T, s selection) *cluster {
	t.Helper()
	c := site(t)
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	host, _, _ = strings.Cut(host, ".")
	const most = 20 // nodes
	port := freePorts(t, most+1)
	text := fmt.Sprintf("ClusterName=select\nSlurmctldHost=c1(127.0.0.1:%d)\n%s\nSlurmdParameters=config_overrides\nKillWait=1\n"+
		"SchedulerType=sched/backfill\nPriorityType=priority/basic\n", port, c.paths())
	var nodes []string
	for _, line := range s.conf {
		list, isNode := strings.CutPrefix(line, "NodeName=")
		if !isNode {
			text += line + "\n"
			continue
		}
		list, rest, _ := strings.Cut(list, " ")
		names, err := hostlist.Expand(list)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			nodes = append(nodes, n)
			text += fmt.Sprintf("NodeName=%s NodeHostname=%s NodeAddr=127.0.0.1 Port=%d %s\n", n, host, port+len(nodes), rest)
		}
	}
	c.configure(text)
	if len(s.gres) > 0 {
		if err := os.WriteFile(filepath.Join(c.dir, "etc", "gres.conf"), []byte(strings.Join(s.gres, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.wires) > 0 {
		if err := os.WriteFile(filepath.Join(c.dir, "etc", "topology.conf"), []byte(strings.Join(s.wires, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c.daemon("slurmctld", "--host", "c1")
	for _, n := range nodes {
		c.daemon("slurmd", "-N", n)
	}
	c.await("the nodes to be idle", func() bool {
		return strings.Count(c.run("sinfo", "-h", "-N", "-t", "idle", "-o", "%N").out, "\n") >= len(nodes)
	})
	return c
}

var (
	selectNodes = regexp.MustCompile(`Nodes=(\S+) CPU_IDs=(\S+) Mem=(\d+) GRES=(\S*)`)
	selectField = regexp.MustCompile(`(?:^|\s)(JobState|Reason|NumNodes|NumCPUs|NumTasks)=(\S*)`)
)

// answer submits requests one after the other, tells what became of each, and
// ends them.
func (c *cluster) answer(requests []string) (out []string) {
	c.t.Helper()
	var jobs []string
	for _, req := range requests {
		r := c.run("sbatch", append([]string{"--parsable", "-o", "/dev/null", "--wrap", "sleep 600"}, strings.Fields(req)...)...)
		if r.code != 0 {
			out = append(out, "refused")
			continue
		}
		job := strings.TrimSpace(r.out)
		jobs = append(jobs, job)
		show := ""
		f := map[string]string{}
		c.await("job "+job+" to start or to have a reason", func() bool {
			show = c.run("scontrol", "-d", "-o", "show", "job", job).out
			for _, m := range selectField.FindAllStringSubmatch(show, -1) {
				f[m[1]] = m[2]
			}
			return f["JobState"] == "RUNNING" || f["JobState"] == "PENDING" && f["Reason"] != "None"
		})
		if f["JobState"] != "RUNNING" {
			out = append(out, "waits "+f["Reason"])
			continue
		}
		out = append(out, fmt.Sprintf("nodes=%s cpus=%s tasks=%s", f["NumNodes"], f["NumCPUs"], f["NumTasks"]))
		for _, m := range selectNodes.FindAllStringSubmatch(show, -1) {
			line := fmt.Sprintf("on %s CPUs %s mem=%s", m[1], m[2], m[3])
			if m[4] != "" {
				line += " " + m[4]
			}
			out = append(out, line)
		}
	}
	if len(jobs) > 0 {
		c.run("scancel", jobs...)
	}
	c.await("the jobs to be gone", func() bool { return c.run("squeue", "-h").out == "" })
	return out
}
