package sluice

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

const (
	demoParts = 8               // of the book, and tasks of the array
	demoTime  = 2 * time.Minute // for its jobs to end
	demoLook  = 100 * time.Millisecond
	pauseKill = 2 * time.Second // for a command to give its allocation back
)

func demoCommand(dir *string, stdout, stderr io.Writer) *cobra.Command {
	s := &shape{}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run real jobs on a cluster, and show what happens",
		Long: "demo starts a cluster unless one runs, submits an array job that counts the phrases\n" +
			"of a book and a job that depends on it, looks at them with squeue, sinfo, scontrol and\n" +
			"sacct, runs a parallel step with srun, and compares the result with its own count.\n" +
			"It leaves the cluster up.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := open(*dir, stdout, stderr)
			if err != nil {
				return err
			}
			if len(c.running()) == 0 {
				if err := c.up(cmd.Context(), s, false); err != nil {
					return err
				}
			}
			return c.demo(cmd.Context())
		},
	}
	shapeFlags(cmd, s)
	return cmd
}

// demo is the whole show. Its jobs run in a fresh folder of the cluster's
// directory, where their output stays.
func (c *cluster) demo(ctx context.Context) error {
	data := c.share("demo")
	if _, err := os.Stat(filepath.Join(data, "count.sh")); err != nil {
		return fmt.Errorf("the demo's files are missing: %w", err)
	}
	ctx, stop := context.WithTimeout(ctx, demoTime)
	defer stop()
	if err := os.MkdirAll(c.path("demo"), 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp(c.path("demo"), "run-")
	if err != nil {
		return err
	}
	sh := &shell{c: c, dir: work, data: data}
	began := time.Now()
	sh.say("Eight tasks count the phrases of three words in Newton's Opticks; a job that depends on them merges.")
	array := sh.id(ctx, "sbatch", "--parsable", filepath.Join(data, "count.sh"), filepath.Join(data, "opticks"))
	merge := sh.id(ctx, "sbatch", "--parsable", "--dependency=afterok:"+array, filepath.Join(data, "merge.sh"))
	sh.show(ctx, "squeue")
	sh.show(ctx, "sinfo")
	sh.show(ctx, "scontrol", "show", "job", merge)
	sh.say("Meanwhile, a parallel step of eight tasks on four nodes:")
	steps := sh.show(ctx, "srun", "-N4", "-n8", "-l", "sh", "-c", `echo "rank $SLURM_PROCID of $SLURM_NTASKS on $SLURMD_NODENAME"`)
	sh.await(ctx, array, merge)
	sh.show(ctx, "sacct", "-X", "-j", array+","+merge)
	if sh.err != nil {
		return sh.err
	}
	if err := checkSteps(steps); err != nil {
		return err
	}
	if err := c.checkTop(data, work); err != nil {
		return err
	}
	fmt.Fprintf(c.stdout, "\nThe table is what one process computes; the jobs took %.1f s. Their output is in %s.\n\n",
		time.Since(began).Seconds(), work)
	c.hint()
	return nil
}

// checkTop prints what the jobs found and compares it with a count of our own.
func (c *cluster) checkTop(data, work string) error {
	got, err := os.ReadFile(filepath.Join(work, "top20.txt"))
	if err != nil {
		return fmt.Errorf("the result of the demo: %w", err)
	}
	want, err := topPhrases(filepath.Join(data, "opticks"), demoParts, 20)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.stdout, "\n$ cat top20.txt\n%s", got)
	if string(got) != want {
		return fmt.Errorf("the jobs' result is wrong; one process finds:\n%s", want)
	}
	return nil
}

// checkSteps wants the lines of eight ranks on four nodes, labelled by srun.
func checkSteps(out string) error {
	nodes, ranks := map[string]bool{}, map[string]bool{}
	for line := range strings.Lines(out) {
		label, text, _ := strings.Cut(strings.TrimSpace(line), ": ")
		w := strings.Fields(text) // rank R of N on NODE
		if len(w) == 6 && w[1] == label && w[3] == "8" {
			ranks[label], nodes[w[5]] = true, true
		}
	}
	if len(ranks) != 8 || len(nodes) != 4 {
		return fmt.Errorf("srun -N4 -n8 -l showed %d of 8 ranks on %d of 4 nodes", len(ranks), len(nodes))
	}
	return nil
}

// shell runs commands in the demo's folder and prints each before its output.
// After the first error it does nothing more.
type shell struct {
	c         *cluster
	dir, data string
	err       error
}

func (s *shell) say(text string) { fmt.Fprintf(s.c.stdout, "\n# %s\n", text) }

// show runs a command and returns its output.
func (s *shell) show(ctx context.Context, name string, args ...string) string {
	if s.err != nil {
		return ""
	}
	fmt.Fprintf(s.c.stdout, "\n$ %s\n", s.line(name, args))
	out, err := s.run(ctx, name, args...)
	fmt.Fprint(s.c.stdout, out)
	s.err = err
	return out
}

// id is show for a command that prints a job id.
func (s *shell) id(ctx context.Context, name string, args ...string) string {
	id := strings.TrimSpace(s.show(ctx, name, args...))
	if _, err := strconv.ParseUint(id, 10, 32); err != nil && s.err == nil {
		s.err = fmt.Errorf("%s printed %q in place of a job id", name, id)
	}
	return id
}

func (s *shell) run(ctx context.Context, name string, args ...string) (string, error) {
	prog, err := s.c.program("bin", name)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, prog, args...)
	var out, bad bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, &out, io.MultiWriter(&bad, s.c.stderr)
	cmd.Env = append(os.Environ(), "SLURM_CONF="+s.c.conf(),
		"PATH="+filepath.Join(s.c.prefix, "bin")+":"+os.Getenv("PATH"))
	cmd.Cancel, cmd.WaitDelay = func() error { return cmd.Process.Signal(syscall.SIGTERM) }, pauseKill
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("no end within %v", demoTime)
		}
		return out.String(), fmt.Errorf("%s: %w", s.line(name, args), err)
	}
	return out.String(), nil
}

// line is the command as one would type it.
func (s *shell) line(name string, args []string) string {
	words := []string{name}
	for _, a := range args {
		if wd, err := os.Getwd(); err == nil && strings.HasPrefix(a, wd+"/") {
			a = strings.TrimPrefix(a, wd+"/")
		}
		if strings.ContainsAny(a, " \"$") {
			a = "'" + a + "'"
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}

// await waits until the jobs have left the queue and their accounting is there.
func (s *shell) await(ctx context.Context, ids ...string) {
	for s.err == nil {
		out, err := s.run(ctx, "squeue", "-h", "-j", strings.Join(ids, ","), "-t", "PD,R,CG,CF", "-o", "%i")
		if err != nil {
			s.err = err
			return
		}
		if strings.TrimSpace(out) == "" {
			out, err = s.run(ctx, "sacct", "-n", "-P", "-X", "-j", strings.Join(ids, ","), "-o", "State")
			if s.err = err; err == nil && strings.Count(out, "\n") > demoParts && !strings.Contains(out, "RUNNING") && !strings.Contains(out, "PENDING") {
				if strings.Count(out, "COMPLETED") != demoParts+1 {
					s.err = errors.New("not every job ended well")
					s.show(context.WithoutCancel(ctx), "sacct", "-X", "-j", strings.Join(ids, ","))
				}
				return
			}
		}
		if !pause(ctx, demoLook) && s.err == nil {
			s.err = fmt.Errorf("jobs %s: no end within %v", strings.Join(ids, " and "), demoTime)
		}
	}
}
