// Package request reads what a user asks of sbatch, salloc and srun: command
// line, environment variables and #SBATCH lines become a [Request], whose
// Spec is what the controller gets.
//
// Sources are applied in rising precedence: script, environment, command line.
// Each option is one row of a table, which holds its spellings, which commands
// have it, and how its value is read; a value that cannot be read is a
// [Mistake] with the text and exit code of Slurm's command, followed by what
// would be allowed. Nothing here talks to the cluster.
package request

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/getopt"
	"github.com/sluice-hpc/sluice/tools/internal/say"
)

// Command is one of the three commands, or a set of them.
type Command uint8

// The commands.
const (
	Sbatch Command = 1 << iota
	Salloc
	Srun
)

// String is the command's name.
func (c Command) String() string {
	switch c {
	case Sbatch:
		return "sbatch"
	case Salloc:
		return "salloc"
	}
	return "srun"
}

// Source says where an option's value came from; a higher one wins.
type Source uint8

// The sources.
const (
	Nowhere Source = iota
	FromScript
	FromEnv
	FromCommand
)

// Exit codes of Slurm's option parser.
const (
	exitMistake = 1   // a value out of range, options that contradict
	exitSyntax  = 255 // an option or value of the wrong form
)

// A Mistake is an error of the user's in what was asked.
type Mistake struct {
	Exit  int
	Plain string   // lines printed as they are, before the others
	Lines []string // lines after "error: "
	Hint  string   // what is allowed; printed last, after "error: "
	Fatal bool     // the lines come after "fatal: "
}

func (m *Mistake) Error() string {
	return strings.Join(append(strings.Fields(m.Plain), m.Lines...), ": ")
}

// Tell prints the mistake.
func (m *Mistake) Tell(v *say.Voice) {
	if m.Plain != "" {
		v.Plain(m.Plain)
	}
	for _, l := range m.Lines {
		if m.Fatal {
			v.Fatalf("%s", l)
		} else {
			v.Errorf("%s", l)
		}
	}
	if m.Hint != "" {
		v.Errorf("%s", m.Hint)
	}
}

func mistakef(exit int, format string, args ...any) *Mistake {
	return &Mistake{Exit: exit, Lines: []string{fmt.Sprintf(format, args...)}}
}

// Request is what was asked.
type Request struct {
	Command Command
	Spec    wlm.Spec
	Args    []string // script or command, with its arguments

	Help, Usage, Version bool
	Quiet                bool
	Verbose              int
	ImmediateSeconds     uint32 // how long --immediate may wait; 0: not at all
	Propagate            string // --propagate; empty: as configured
	GetUserEnv           bool
	TestOnly             bool

	Batch BatchOptions
	Alloc AllocOptions
	Step  StepOptions

	Warnings []string // what was put right, for the user

	env    func(string) (string, bool)
	now    time.Time
	cwd    string
	given  map[string]Source
	raw    map[string]string // values as given
	source Source            // of the option being applied
}

// BatchOptions are those of sbatch alone.
type BatchOptions struct {
	Wrap       string
	Parsable   bool
	Wait       bool
	IgnorePBS  bool
	ExportFile string
}

// AllocOptions are those of salloc alone.
type AllocOptions struct {
	NoShell     bool
	Bell        wlm.Tristate
	KillCommand int // signal for the command when the allocation ends early
	KillGiven   bool
}

// StepOptions are those of srun alone.
type StepOptions struct {
	Job           wlm.JobID // --jobid, or the job that srun runs in; 0: none
	Label         bool
	Unbuffered    bool
	Pty           bool
	MultiProg     bool
	Exact         bool
	Overlap       bool
	Whole         bool
	Interactive   bool
	NoGres        bool // --gres=none: a step without the generic resources of its job
	PreserveEnv   bool
	QuitOnIntr    bool
	NoStatus      bool   // -X: an interrupt goes to the tasks at once
	Relative      uint32 // wlm.Unset: not given
	KillOnBadExit wlm.Tristate
	Wait          uint32 // seconds; wlm.Unset: as configured
	MPI           string
	Prolog        string
	Epilog        string
	TaskProlog    string
	TaskEpilog    string
	MaxThreads    uint32
}

// Given tells where the option called long (without dashes) was given.
func (r *Request) Given(long string) Source { return r.given[long] }

// Context is the world that a request is made in; tests make their own.
type Context struct {
	Env  func(string) (string, bool) // os.LookupEnv
	Now  time.Time
	Cwd  string
	Args []string // of the command, without its name
}

// OfProcess is the context of the running process.
func OfProcess() (Context, error) {
	cwd, err := os.Getwd()
	if err != nil {
		return Context{}, err
	}
	if pwd := os.Getenv("PWD"); pwd != "" && sameDir(pwd, cwd) {
		cwd = pwd // keeps the symbolic links that the user came by
	}
	return Context{Env: os.LookupEnv, Now: time.Now(), Cwd: cwd, Args: os.Args[1:]}, nil
}

func sameDir(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

// Parse reads the command line and the environment of a command.
//
// For sbatch, script is called with the operands and tells the text of the
// script, whose directives are applied first. It is not called when the user
// asks for help or the version.
func Parse(c Command, ctx Context, script func(*Request) ([]byte, error)) (*Request, error) {
	r := fresh(c, ctx)
	r.Spec.Kind = map[Command]wlm.JobKind{Sbatch: wlm.KindBatch, Salloc: wlm.KindAlloc, Srun: wlm.KindRun}[c]
	given, operands, err := getopt.Parse(ctx.Args, table(c), true)
	if err != nil {
		return nil, syntax(c, err)
	}
	if slices.Contains(operands, ":") || len(operands) > 0 && operands[0] == ":" {
		if err := r.noHetJob(operands); err != nil {
			return nil, err
		}
	}
	r.Args = operands
	for _, g := range given {
		switch options[g.ID].long {
		case "help":
			r.Help = true
		case "usage":
			r.Usage = true
		case "version":
			r.Version = true
		case "wrap": // decides what the script is
			r.Batch.Wrap = g.Value
			r.given["wrap"] = FromCommand
		case "chdir": // where a script's name is looked up
			r.Spec.WorkDir = r.abs(g.Value)
		}
	}
	if r.Help || r.Usage || r.Version {
		return r, nil
	}
	// What the command line says is checked before a script is read: with a
	// mistake in it, the script may be taken from where it is not.
	if err := r.scratch().apply(given, FromCommand); err != nil {
		return nil, err
	}
	if script != nil {
		text, err := script(r)
		if err != nil {
			return nil, err
		}
		if err := r.directives(text); err != nil {
			return nil, err
		}
	}
	if err := r.environment(); err != nil {
		return nil, err
	}
	if err := r.apply(given, FromCommand); err != nil {
		return nil, err
	}
	return r, r.verify()
}

// fresh is a request for nothing in particular.
func fresh(c Command, ctx Context) *Request {
	r := &Request{Command: c, env: ctx.Env, now: ctx.Now, cwd: ctx.Cwd, given: map[string]Source{}, raw: map[string]string{}}
	r.Spec.CoreSpec, r.Spec.Priority = wlm.Unset, wlm.Unset
	r.Step.Relative, r.Step.Wait = wlm.Unset, wlm.Unset
	r.Spec.WorkDir = ctx.Cwd
	return r
}

// scratch is a request in the same context that is only tried.
func (r *Request) scratch() *Request {
	return fresh(r.Command, Context{Env: r.env, Now: r.now, Cwd: r.cwd})
}

// noHetJob refuses components, which a lone ":" separates.
func (r *Request) noHetJob(operands []string) error {
	if operands[0] != ":" {
		return nil // it belongs to the user's command
	}
	return &Mistake{Exit: exitMistake, Lines: []string{"heterogeneous jobs (components separated by \":\") are not supported"}}
}

// syntax is a mistake in the form of the command line.
func syntax(c Command, err error) *Mistake {
	return &Mistake{Exit: exitSyntax,
		Plain: c.String() + ": " + err.Error() + "\nTry \"" + c.String() + " --help\" for more information"}
}

// apply sets options from one source, in order.
func (r *Request) apply(given []getopt.Given, from Source) error {
	r.source = from
	for _, g := range given {
		if err := r.set(&options[g.ID], g.Value, g.Has); err != nil {
			return err
		}
	}
	return nil
}

func (r *Request) set(o *option, value string, has bool) error {
	if r.given[o.long] > r.source {
		return nil
	}
	if err := o.set(r, value, has); err != nil {
		return err
	}
	r.given[o.long] = r.source
	r.raw[o.long] = value
	return nil
}

// environment applies the command's variables.
func (r *Request) environment() error {
	r.source = FromEnv
	for _, v := range variables[r.Command] {
		value, ok := r.env(v.name)
		if !ok || value == "" && options[index(v.option)].arg != getopt.None {
			continue
		}
		if err := r.set(&options[index(v.option)], value, true); err != nil {
			if m, ok := err.(*Mistake); ok {
				m.Hint = strings.TrimSpace(m.Hint + " (from the environment variable " + v.name + ")")
			}
			return err
		}
	}
	if v, ok := r.env("SLURM_UMASK"); ok {
		var mask uint32
		if _, err := fmt.Sscanf(v, "%o", &mask); err == nil {
			r.Spec.Umask = mask & 0o777
			r.given["umask"] = FromEnv
		}
	}
	return nil
}

// abs makes a path absolute from where the command runs.
func (r *Request) abs(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(r.cwd, path)
}

// Clusters is what --clusters says.
func (r *Request) Clusters() string {
	for _, entry := range r.Spec.Options {
		if v, ok := strings.CutPrefix(entry, "clusters="); ok {
			return v
		}
	}
	return ""
}

// keep stores an option that nothing acts upon yet with the job.
func (r *Request) keep(name, value string) {
	entry := name
	if value != "" {
		entry += "=" + value
	}
	for i, old := range r.Spec.Options {
		if n, _, _ := strings.Cut(old, "="); n == name {
			r.Spec.Options[i] = entry
			return
		}
	}
	r.Spec.Options = append(r.Spec.Options, entry)
}
