// Package command runs a command's value as a process: help, usage, version
// and completion the same way for all of them, and the rest by the command.
//
// Options are read by package getopt, which follows getopt_long(3) to the
// letter; cobra writes the completion scripts and answers the shell's
// questions from the same table of options.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/sluice-hpc/sluice/sdk/version"
	"github.com/sluice-hpc/sluice/tools/internal/options"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Env is what a command sees of its process.
type Env struct {
	Args   []string // without the program's name
	Getenv func(string) string
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
}

// Command describes a command to its users, and runs it.
type Command struct {
	Name    string
	Short   string // one line
	Usage   string // of --usage, after "Usage: "
	Options options.Table
	Run     func(context.Context, Env) int // returns the exit status
}

// Exit is an error that ends a command with texts of its own.
type Exit struct {
	Status int
	Stdout string
	Stderr string
}

// Error is the text for standard error.
func (e *Exit) Error() string { return strings.TrimSuffix(e.Stderr, "\n") }

// Help, Usage and Version are returned by a Parse that met one of the options
// that [Standard] adds.
var (
	errHelp    = errors.New("help")
	errUsage   = errors.New("usage")
	errVersion = errors.New("version")
)

// Standard appends --help, --usage and --version to a table. A short letter of
// 0 leaves the short form out.
func Standard(t options.Table, helpLetter byte) options.Table {
	end := func(err error) func(string) error { return func(string) error { return err } }
	return append(t,
		options.Option{Long: "help", Short: helpLetter, Help: "show this help message", Set: end(errHelp)},
		options.Option{Long: "usage", Help: "show a short usage message", Set: end(errUsage)},
		options.Option{Long: "version", Short: 'V', Help: "print version information and exit", Set: end(errVersion)},
	)
}

// Fail tells why a command line was refused, or what it asked for instead of
// running, and returns the exit status; bad is the status for mistakes.
func (c *Command) Fail(err error, env Env, bad int) int {
	var exit *Exit
	var usage *options.Error
	switch {
	case errors.Is(err, errHelp):
		fmt.Fprintf(env.Stdout, "Usage: %s\n\n%s\n\n%s", c.short(), c.Short, c.Options.Usage())
		return 0
	case errors.Is(err, errUsage):
		fmt.Fprintf(env.Stdout, "Usage: %s\n", c.short())
		return 0
	case errors.Is(err, errVersion):
		fmt.Fprintln(env.Stdout, version.String())
		return 0
	case errors.As(err, &exit):
		io.WriteString(env.Stdout, exit.Stdout) //nolint:errcheck // nowhere to tell
		io.WriteString(env.Stderr, exit.Stderr) //nolint:errcheck // nowhere to tell
		return exit.Status
	case errors.As(err, &usage):
		fmt.Fprintln(env.Stderr, usage.Error())
		return bad
	}
	fmt.Fprintf(env.Stderr, "%s: error: %v\n", c.Name, err)
	return bad
}

func (c *Command) short() string {
	if c.Usage != "" {
		return c.Usage
	}
	return c.Name + " [OPTIONS...]"
}

// Main runs c with the process's arguments and exits.
func Main(c *Command) {
	args := os.Args[1:]
	if len(args) > 0 && (strings.HasPrefix(args[0], "__complete") || args[0] == "completion") {
		os.Exit(c.complete(args))
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	status := c.Run(ctx, Env{Args: args, Getenv: os.Getenv, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr})
	stop()
	os.Exit(status)
}

// complete lets cobra answer the shell.
func (c *Command) complete(args []string) int {
	root := c.Cobra()
	root.SetArgs(args)
	if err := root.Execute(); err != nil {
		return 1
	}
	return 0
}

// Cobra returns the command as cobra knows it: for completion and for manual
// pages. It does not run.
func (c *Command) Cobra() *cobra.Command {
	root := &cobra.Command{
		Use: c.Name, Short: c.Short, Version: version.Full(),
		Run: func(*cobra.Command, []string) {},
	}
	for i := range c.Options {
		o := &c.Options[i]
		if o.Long == "" || o.Help == "" || o.Long == "help" || o.Long == "version" {
			continue
		}
		short := ""
		if o.Short != 0 {
			short = string(o.Short)
		}
		f := root.Flags().VarPF(flagValue{o}, o.Long, short, o.Help)
		if o.Arg != options.Required {
			f.NoOptDefVal = "true"
		}
		if o.Values != nil {
			//nolint:errcheck // the flag was just added
			root.RegisterFlagCompletionFunc(o.Long, cobra.FixedCompletions(o.Values, cobra.ShellCompDirectiveNoFileComp))
		}
	}
	return root
}

// flagValue shows an option to cobra without acting on it.
type flagValue struct{ o *options.Option }

var _ pflag.Value = flagValue{}

func (flagValue) String() string   { return "" }
func (flagValue) Set(string) error { return nil }
func (v flagValue) Type() string   { return v.o.Meta }
