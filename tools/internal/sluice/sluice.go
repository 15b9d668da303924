// Package sluice is the command sluice: a cluster on one machine for trying,
// testing and measuring.
//
// A cluster lives in one directory: its configuration in etc, its daemons'
// process ids in run, their logs in log, the controller's state in state, the
// nodes' in spool. Everything listens on 127.0.0.1 only. As root the daemons
// run jobs as their submitters; as any other user they run that user's jobs.
//
// Daemons are found beside the command itself (../sbin, ../libexec/sluice), so
// a moved prefix and a fresh build work alike. They run in sessions of their
// own and outlive the command. A process id is believed only while the
// process of that id is the daemon that it was written for.
package sluice

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/sluice-hpc/sluice/sdk/version"
	"github.com/sluice-hpc/sluice/tools/internal/pluginkit"
	"github.com/spf13/cobra"
)

// errShown ends a command whose output has told already what is wrong.
var errShown = errors.New("shown")

// Main runs the command and returns its exit status: 0, or 1 after one line
// on stderr that says why.
func Main(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	root := New(stdout, stderr)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if !errors.Is(err, errShown) && !errors.Is(err, pluginkit.ErrShown) {
		fmt.Fprintf(stderr, "sluice: error: %v\n", err)
	}
	return 1
}

// New returns the command with its verbs.
func New(stdout, stderr io.Writer) *cobra.Command {
	var dir string
	root := &cobra.Command{
		Use:   "sluice",
		Short: "Run a cluster on this machine",
		Long: "sluice runs a whole cluster on this machine: a controller, node daemons and\n" +
			"accounting, in one directory (--dir, else $SLUICE_DIR, else $XDG_RUNTIME_DIR/sluice,\n" +
			"else ~/.sluice), on loopback only.",
		Version: version.Full(), SilenceErrors: true, SilenceUsage: true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetVersionTemplate(version.String() + "\n")
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.PersistentFlags().StringVar(&dir, "dir", "", "the cluster's directory")
	at := func(run func(context.Context, *cluster) error) func(*cobra.Command, []string) error {
		return func(c *cobra.Command, _ []string) error {
			cl, err := open(dir, stdout, stderr)
			if err != nil {
				return err
			}
			return run(c.Context(), cl)
		}
	}
	root.AddCommand(upCommand(&dir, stdout, stderr), demoCommand(&dir, stdout, stderr), simCommand(stdout, stderr))
	root.AddCommand(&cobra.Command{
		Use: "down", Short: "Stop the cluster; its state stays for the next up", Args: cobra.NoArgs, RunE: at(down),
	}, &cobra.Command{
		Use: "env", Short: `Print what a shell needs to use the cluster: eval "$(sluice env)"`, Args: cobra.NoArgs, RunE: at(env),
	}, &cobra.Command{
		Use: "status", Short: "Say which daemons run", Args: cobra.NoArgs, RunE: at(status),
	}, &cobra.Command{
		Use: "wipe", Short: "Stop the cluster and delete its directory", Args: cobra.NoArgs, RunE: at(wipe),
	})
	root.AddCommand(pluginkit.New(stdout, stderr))
	root.AddCommand(daemonCommands(&dir, stdout, stderr)...)
	return root
}

// daemonCommands are the verbs about single daemons: ctld, n1, n2, ...
func daemonCommands(dir *string, stdout, stderr io.Writer) []*cobra.Command {
	each := func(use, short string, run func(context.Context, *cluster, string) error) *cobra.Command {
		return &cobra.Command{
			Use: use + " NAME...", Short: short, Args: cobra.MinimumNArgs(1),
			RunE: func(c *cobra.Command, names []string) error {
				cl, err := open(*dir, stdout, stderr)
				if err != nil {
					return err
				}
				for _, name := range names {
					if err := run(c.Context(), cl, name); err != nil {
						return err
					}
				}
				return nil
			},
		}
	}
	return []*cobra.Command{
		each("start", "Start single daemons: ctld, n1, n2, ...", func(_ context.Context, c *cluster, name string) error {
			return c.start(name)
		}),
		each("stop", "Stop single daemons with SIGTERM", func(ctx context.Context, c *cluster, name string) error {
			return c.stop(ctx, name, syscall.SIGTERM)
		}),
		each("kill9", "End single daemons with SIGKILL", func(ctx context.Context, c *cluster, name string) error {
			if c.pid(name) == 0 {
				return fmt.Errorf("%s does not run", name)
			}
			return c.stop(ctx, name, syscall.SIGKILL)
		}),
		each("pid", "Print the process ids of single daemons", func(_ context.Context, c *cluster, name string) error {
			pid := c.pid(name)
			if pid == 0 {
				return fmt.Errorf("%s does not run", name)
			}
			fmt.Fprintln(stdout, pid)
			return nil
		}),
	}
}

// defaultDir is the cluster's directory when the user names none.
func defaultDir() (string, error) {
	if d := os.Getenv("SLUICE_DIR"); d != "" {
		return d, nil
	}
	if d := os.Getenv("XDG_RUNTIME_DIR"); d != "" {
		return filepath.Join(d, "sluice"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("%w: name a directory with --dir", err)
	}
	return filepath.Join(home, ".sluice"), nil
}
