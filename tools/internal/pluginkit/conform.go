package pluginkit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-hpc/sluice/sdk/acctstore"
	"github.com/sluice-hpc/sluice/sdk/acctstore/acctstoretest"
	"github.com/sluice-hpc/sluice/sdk/jobsubmit"
	"github.com/sluice-hpc/sluice/sdk/jobsubmit/jobsubmittest"
	"github.com/sluice-hpc/sluice/sdk/launch"
	"github.com/sluice-hpc/sluice/sdk/launch/launchtest"
	"github.com/sluice-hpc/sluice/sdk/plugin"
	"github.com/sluice-hpc/sluice/sdk/priority"
	"github.com/sluice-hpc/sluice/sdk/priority/prioritytest"
	"github.com/sluice-hpc/sluice/sdk/proto/plugin/v1"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/sched/schedtest"
	"github.com/sluice-hpc/sluice/sdk/selector"
	"github.com/sluice-hpc/sluice/sdk/selector/selectortest"
	"github.com/spf13/cobra"
)

// subject is the program under test.
type subject struct {
	path     string
	options  map[string]string
	pretends bool // a launcher that starts no processes
}

// suites are the conformance suites by kind.
var suites = map[string]func(*testing.T, subject){
	sched.Kind:     func(t *testing.T, s subject) { schedtest.RunBinary(t, s.path, s.options) },
	selector.Kind:  func(t *testing.T, s subject) { selectortest.RunBinary(t, s.path, s.options) },
	priority.Kind:  func(t *testing.T, s subject) { prioritytest.RunBinary(t, s.path, s.options) },
	jobsubmit.Kind: func(t *testing.T, s subject) { jobsubmittest.RunBinary(t, s.path, s.options) },
	launch.Kind: func(t *testing.T, s subject) {
		launchtest.RunBinary(t, launchtest.Options{Pretends: s.pretends}, s.path, s.options)
	},
	acctstore.Kind: func(t *testing.T, s subject) { acctstoretest.RunBinary(t, s.path, s.freshStore) },
}

// freshStore is the options of a new, empty store: %t in a value is a
// directory of the test's own.
func (s subject) freshStore(t *testing.T) map[string]string {
	dir, out := t.TempDir(), map[string]string{}
	for k, v := range s.options {
		out[k] = strings.ReplaceAll(v, "%t", dir)
	}
	return out
}

const (
	suiteTime = "10m" // for a whole suite
	lookTime  = 20 * time.Second
)

func testCommand(stdout, stderr io.Writer) *cobra.Command {
	var s subject
	var options []string
	var kind string
	var child bool
	cmd := &cobra.Command{
		Use:   "test PROGRAM",
		Short: "Hold a program to the contract of its kind",
		Long: "test runs the conformance suite of the program's kind: it starts the program many\n" +
			"times, as a daemon would, and explains each failure in a sentence. The program may\n" +
			"be written in any language. Nothing of a cluster is touched.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if s.path, err = filepath.Abs(args[0]); err != nil {
				return err
			}
			s.options = map[string]string{}
			for _, o := range options {
				name, value, ok := strings.Cut(o, "=")
				if !ok {
					return fmt.Errorf("--option=%s: NAME=VALUE is wanted", o)
				}
				s.options[name] = value
			}
			if child {
				s.run(kind) // does not return
			}
			m, err := look(cmd.Context(), s.path)
			if err != nil {
				return err
			}
			return report(cmd.Context(), stdout, stderr, s, m, kind, options)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&options, "option", nil, "NAME=VALUE, an option of the plugin; may be repeated; %t in a store's is a new directory")
	f.StringVar(&kind, "kind", "", "test only this of several kinds that the program serves")
	f.BoolVar(&s.pretends, "pretends", false, "of a launcher: it starts no processes")
	f.BoolVar(&child, "suite", false, "run the suite itself")
	_ = f.MarkHidden("suite")
	return cmd
}

// run runs a suite in this process, which prints what go test does and exits.
func (s subject) run(kind string) {
	os.Args = []string{"sluice", "-test.v", "-test.timeout=" + suiteTime}
	testing.Main(func(string, string) (bool, error) { return true, nil },
		[]testing.InternalTest{{Name: "Suite", F: func(t *testing.T) { suites[kind](t, s) }}}, nil, nil)
}

// look asks a program what it is.
func look(ctx context.Context, path string) (*pluginv1.ManifestReply, error) {
	st, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case st.IsDir() || st.Mode()&0o111 == 0:
		return nil, fmt.Errorf("%s is not a program: name the built plugin", path)
	}
	dir, err := os.MkdirTemp("", "plugin")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	var mu sync.Mutex // guards said
	var said []string
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	p, err := plugin.Start(ctx, plugin.StartConfig{Path: path, SocketDir: dir, Output: func(line string) {
		mu.Lock()
		defer mu.Unlock()
		said = append(said, line)
	}})
	if err != nil {
		mu.Lock()
		defer mu.Unlock()
		err = fmt.Errorf("%s does not start as a plugin: it must serve gRPC and print nothing else on stdout (%s)", filepath.Base(path), startError(err))
		if len(said) > 0 {
			err = fmt.Errorf("%w\nit said:\n  %s", err, strings.Join(said, "\n  "))
		}
		return nil, err
	}
	defer p.Stop()
	return p.Manifest(ctx)
}

// startError is the useful line of what go-plugin says, which is long.
func startError(err error) string {
	text := err.Error()
	if _, after, ok := strings.Cut(text, "Unrecognized remote plugin message: "); ok {
		if line, _, _ := strings.Cut(after, "\n"); strings.TrimSpace(line) != "" {
			return fmt.Sprintf("it printed %q", strings.TrimSpace(line))
		}
		return "it ended, or printed nothing in time"
	}
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// report runs the suite of each kind in a process of its own and tells what it
// found.
func report(ctx context.Context, stdout, stderr io.Writer, s subject, m *pluginv1.ManifestReply, only string, options []string) error {
	failed, ran := 0, 0
	for _, served := range m.GetServed() {
		kind := served.GetKind()
		if only != "" && kind != only {
			continue
		}
		if suites[kind] == nil {
			return fmt.Errorf("the program serves the kind %q, which does not exist: it must be one of %s", kind, strings.Join(kindNames(), ", "))
		}
		fmt.Fprintf(stdout, "%s/%s %s speaks version %s of the contract. %s\n", kind, m.GetName(), m.GetVersion(), numbers(served.GetContracts()), m.GetDoc())
		t, err := suiteOf(ctx, s, kind, options, stdout, stderr)
		if err != nil {
			return err
		}
		failed, ran = failed+t.failed, ran+t.passed+t.failed
	}
	switch {
	case ran == 0 && only != "":
		return fmt.Errorf("--kind=%s: the program does not serve it", only)
	case ran == 0:
		return errors.New("the program's manifest names no kind: it serves nothing")
	case failed > 0:
		fmt.Fprintf(stdout, "%d of %d checks failed.\n", failed, ran)
		return ErrShown
	}
	fmt.Fprintf(stdout, "All %d checks passed.\n", ran)
	return nil
}

func suiteOf(ctx context.Context, s subject, kind string, options []string, stdout, stderr io.Writer) (*tally, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := []string{"plugin", "test", "--suite", "--kind=" + kind}
	for _, o := range options {
		args = append(args, "--option="+o)
	}
	if s.pretends {
		args = append(args, "--pretends")
	}
	cmd := exec.CommandContext(ctx, exe, append(args, s.path)...)
	cmd.Stderr = stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	t := &tally{out: stdout}
	t.read(out)
	err = cmd.Wait()
	if t.failed == 0 && (err != nil || t.passed == 0) {
		return nil, fmt.Errorf("the suite ended in the middle: %v\n%s", err, strings.Join(t.rest, "\n"))
	}
	return t, nil
}
