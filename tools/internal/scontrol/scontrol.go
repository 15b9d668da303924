// Package scontrol is the command that shows and changes a cluster's records.
//
// A command line is options and then words: a keyword and its operands; without
// words the command reads lines of them. Keywords may be cut short. Outputs and
// messages are those of scontrol(1) of Slurm 25.11; what is about plugins is ours.
package scontrol

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/version"
	"github.com/sluice-hpc/sluice/tools/internal/command"
	"github.com/sluice-hpc/sluice/tools/internal/options"
	"github.com/sluice-hpc/sluice/tools/internal/remote"
	"github.com/sluice-hpc/sluice/tools/internal/structured"
	"github.com/sluice-hpc/sluice/tools/internal/users"
)

// Source is what scontrol asks the controller.
type Source interface {
	reader
	writer
	ClusterName() string
}

type reader interface {
	Jobs(context.Context, *ctlv1.JobsRequest, func(*ctlv1.JobsReply) error) error
	Steps(context.Context, *ctlv1.StepsRequest) (*ctlv1.StepsReply, error)
	Nodes(context.Context, *ctlv1.NodesRequest, func(*ctlv1.NodesReply) error) error
	Partitions(context.Context, *ctlv1.PartitionsRequest) (*ctlv1.PartitionsReply, error)
	Reservations(context.Context, *ctlv1.ReservationsRequest) (*ctlv1.ReservationsReply, error)
	Config(context.Context) (*ctlv1.ConfigReply, error)
	Topology(context.Context) (string, error)
	Script(context.Context, *ctlv1.ScriptRequest) (*ctlv1.ScriptReply, error)
	Plugins(context.Context, *ctlv1.PluginsRequest) (*ctlv1.PluginsReply, error)
	Explain(context.Context, *ctlv1.ExplainRequest) (*ctlv1.ExplainReply, error)
	Shadows(context.Context) (*ctlv1.ShadowsReply, error)
	Ping(context.Context) (*ctlv1.PingReply, error)
	WaitStarted(ctx context.Context, job uint32) (*ctlv1.JobInfo, error)
	StepStats(ctx context.Context, addr string, job, step uint32) (*nodev1.StepStatsReply, error)
}

type writer interface {
	UpdateJob(context.Context, *ctlv1.UpdateJobRequest) (*ctlv1.UpdateJobReply, error)
	UpdateNode(context.Context, *ctlv1.UpdateNodeRequest) (*ctlv1.UpdateReply, error)
	UpdatePartition(context.Context, *ctlv1.UpdatePartitionRequest) (*ctlv1.UpdateReply, error)
	UpdateReservation(context.Context, *ctlv1.UpdateReservationRequest) (*ctlv1.UpdateReservationReply, error)
	Reconfigure(context.Context) (*ctlv1.ReconfigureReply, error)
	ChangePlugin(context.Context, *ctlv1.ChangePluginRequest) (*ctlv1.ChangePluginReply, error)
	Shutdown(context.Context, *ctlv1.ShutdownRequest) (*ctlv1.UpdateReply, error)
	Token(context.Context, *ctlv1.TokenRequest) (*ctlv1.TokenReply, error)
	SetDebug(context.Context, *ctlv1.SetDebugRequest) (*ctlv1.UpdateReply, error)
}

// Options is what a command line asks scontrol for.
type Options struct {
	Clusters string // of --clusters or SLURM_CLUSTERS

	All, Future, OneLine, Quiet bool
	Details                     int
	Verbose                     int
	Dump                        bool
	Form                        structured.Form
	Words                       []string
}

const usage = `scontrol [<OPTION>] [<COMMAND>]`

func table(o *Options, getenv func(string) string) options.Table {
	dump := func(form structured.Form) func(string) error {
		return func(v string) error {
			if v == "list" {
				return &command.Exit{Stdout: "Possible data_parser plugins:\ndata_parser/v0.0.44\n"}
			}
			o.Dump, o.Form = true, form
			if form == structured.JSON && getenv("SLURM_JSON") == "compact" {
				o.Form = structured.CompactJSON
			}
			return nil
		}
	}
	t := options.Table{
		{Long: "all", Short: 'a', Help: "hidden records too", Set: options.Bool(&o.All)},
		{Long: "clusters", Short: 'M', Arg: options.Required, Meta: "name", Help: "only this cluster's name is accepted", Set: options.String(&o.Clusters)},
		{Long: "cluster", Arg: options.Required, Set: options.String(&o.Clusters)},
		{Long: "details", Short: 'd', Help: "more of each record", Set: options.Count(&o.Details)},
		{Long: "federation", Set: options.Ignore()},
		{Long: "future", Short: 'F', Help: "nodes in state FUTURE too", Set: options.Bool(&o.Future)},
		{Long: "hide", Help: "no hidden records (default)", Set: func(string) error { o.All = false; return nil }},
		{Long: "json", Arg: options.Optional, Meta: "parser", Help: "everything, in JSON", Set: dump(structured.JSON)},
		{Long: "local", Set: options.Ignore()},
		{Long: "oneliner", Short: 'o', Help: "a line for each record", Set: options.Bool(&o.OneLine)},
		{Long: "quiet", Short: 'Q', Help: "no messages", Set: options.Bool(&o.Quiet)},
		{Long: "sibling", Set: options.Ignore()},
		{Long: "uid", Short: 'u', Arg: options.Required, Meta: "user", Help: "not supported: the caller's identity is proven", Set: func(v string) error {
			return &command.Exit{Status: 1, Stderr: "scontrol: error: --uid=" + v + ": acting for another user is not supported; run as that user\n"}
		}},
		{Long: "verbose", Short: 'v', Help: "tell more", Set: options.Count(&o.Verbose)},
		{Long: "yaml", Arg: options.Optional, Meta: "parser", Help: "everything, in YAML", Set: dump(structured.YAML)},
	}
	return command.Standard(t, 'h')
}

// Parse reads the command line.
func Parse(args []string, getenv func(string) string) (*Options, error) {
	o := &Options{All: getenv("SCONTROL_ALL") != "", Future: getenv("SCONTROL_FUTURE") != ""}
	// Flags with a minus are no options.
	var flags []string
	if i := slices.Index(args, "setdebugflags"); i >= 0 {
		args, flags = args[:i+1], args[i+1:]
	}
	words, err := table(o, getenv).Parse("scontrol", args)
	o.Words = append(words, flags...)
	return o, err
}

// New returns the command.
func New() *command.Command {
	c := &command.Command{Name: "scontrol", Short: "show and change the cluster's records", Usage: usage,
		Options: table(&Options{}, os.Getenv)}
	c.Run = func(ctx context.Context, env command.Env) int {
		o, err := Parse(env.Args, env.Getenv)
		if err != nil {
			return c.Fail(err, env, 1)
		}
		if len(o.Words) > 0 && o.Words[0] == "help" {
			io.WriteString(env.Stdout, help) //nolint:errcheck // nowhere to tell
			return 0
		}
		s, err := lazy(ctx, o, env.Getenv)
		if err != nil {
			return c.Fail(err, env, 1)
		}
		if s != nil {
			defer s.Close()
		}
		host, _ := os.Hostname() //nolint:errcheck // an empty name matches nothing
		host, _, _ = strings.Cut(host, ".")
		return Run(ctx, o, s, env, users.System(), host)
	}
	return c
}

// lazy opens the cluster unless the words need none.
func lazy(ctx context.Context, o *Options, getenv func(string) string) (*remote.Source, error) {
	w := o.Words
	if len(w) > 0 && (w[0] == "version" || w[0] == "errnumstr") ||
		len(w) > 1 && w[0] == "show" && strings.HasPrefix(w[1], "hostl") || len(w) > 2 && w[0] == "show" && strings.HasPrefix(w[1], "hostn") {
		return nil, nil
	}
	return remote.Open(ctx, "scontrol", cmp.Or(o.Clusters, getenv("SLURM_CLUSTERS")))
}

// session carries out words.
type session struct {
	*Options
	source Source
	names  *users.Names
	host   string // short name of this host
	getenv func(string) string
	out    *bufio.Writer
	stderr io.Writer
	status int
}

// Run carries out the words of o, or those that standard input has, and
// returns the exit status.
func Run(ctx context.Context, o *Options, source Source, env command.Env, names *users.Names, host string) int {
	s := &session{
		Options: o, source: source, names: names, host: host, getenv: env.Getenv,
		out: bufio.NewWriterSize(env.Stdout, 64<<10), stderr: env.Stderr,
	}
	if len(o.Words) > 0 {
		s.do(ctx, o.Words)
	} else {
		s.interact(ctx, env.Stdin)
	}
	if err := s.out.Flush(); err != nil {
		s.status = 1
	}
	return s.status
}

// interact reads lines until exit, quit or the end.
func (s *session) interact(ctx context.Context, stdin io.Reader) {
	in := bufio.NewScanner(stdin)
	var last []string
	for {
		s.out.WriteString("scontrol: ") //nolint:errcheck // Flush tells
		s.out.Flush()                   //nolint:errcheck // the last Flush tells
		if !in.Scan() {
			s.out.WriteByte('\n') //nolint:errcheck // Flush tells
			return
		}
		words := split(in.Text())
		if len(words) == 1 && words[0] == "!!" {
			words = last
		}
		if len(words) == 0 {
			continue
		}
		last = words
		switch words[0] {
		case "exit", "quit", "q":
			return
		case "all":
			s.All = true
		case "hide":
			s.All = false
		case "details":
			s.Details = 1
		case "oneliner":
			s.OneLine = true
		case "quiet":
			s.Quiet, s.Verbose = true, 0
		case "verbose":
			s.Quiet, s.Verbose = false, 1
		case "cluster", "clusters":
		default:
			s.do(ctx, words)
		}
	}
}

// split cuts a line into words; quotes keep blanks.
func split(line string) []string {
	var words []string
	var b strings.Builder
	var quote rune
	inWord := false
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
			quote, inWord = r, true
		case quote == 0 && (r == ' ' || r == '\t'):
			if inWord {
				words = append(words, b.String())
				b.Reset()
			}
			inWord = false
		default:
			b.WriteRune(r)
			inWord = true
		}
	}
	if inWord {
		words = append(words, b.String())
	}
	return words
}

// verb is a keyword.
type verb struct {
	name     string
	min, max int // operands; max < 0: any number
	do       func(*session, context.Context, []string)
}

// verbs are the keywords in the order in which a beginning is looked up.
var verbs = []verb{
	{"show", 1, 3, (*session).show},
	{"update", 0, -1, (*session).update},
	{"hold", 1, -1, func(s *session, ctx context.Context, w []string) { s.jobVerb(ctx, ctlv1.UpdateJobRequest_HOLD, w) }},
	{"uhold", 1, -1, func(s *session, ctx context.Context, w []string) { s.jobVerb(ctx, ctlv1.UpdateJobRequest_UHOLD, w) }},
	{"release", 1, -1, func(s *session, ctx context.Context, w []string) { s.jobVerb(ctx, ctlv1.UpdateJobRequest_RELEASE, w) }},
	{"requeue", 1, -1, func(s *session, ctx context.Context, w []string) { s.jobVerb(ctx, ctlv1.UpdateJobRequest_REQUEUE, w) }},
	{"requeuehold", 1, -1, func(s *session, ctx context.Context, w []string) {
		s.jobVerb(ctx, ctlv1.UpdateJobRequest_REQUEUE_HOLD, w)
	}},
	{"suspend", 1, -1, func(s *session, ctx context.Context, w []string) { s.jobVerb(ctx, ctlv1.UpdateJobRequest_SUSPEND, w) }},
	{"resume", 1, -1, func(s *session, ctx context.Context, w []string) { s.jobVerb(ctx, ctlv1.UpdateJobRequest_RESUME, w) }},
	{"top", 1, -1, func(s *session, ctx context.Context, w []string) { s.jobVerb(ctx, ctlv1.UpdateJobRequest_TOP, w) }},
	{"notify", 2, -1, (*session).notify},
	{"create", 1, -1, (*session).create},
	{"delete", 1, -1, (*session).remove},
	{"reconfigure", 0, 0, (*session).reconfigure},
	{"ping", 0, 0, (*session).ping},
	{"shutdown", 0, 1, (*session).shutdown},
	{"token", 0, -1, (*session).token},
	{"write", 1, 3, (*session).write},
	{"version", 0, 0, func(s *session, _ context.Context, _ []string) { fmt.Fprintln(s.out, version.String()) }},
	{"setdebug", 1, 2, (*session).setDebug},
	{"wait_job", 1, 1, (*session).waitJob},
	{"completing", 0, 0, (*session).completing},
	{"errnumstr", 1, 1, (*session).errnumstr},
	{"getaddrs", 1, 1, (*session).getaddrs},
	{"cancel_reboot", 1, 1, func(s *session, ctx context.Context, w []string) { s.nodeState(ctx, w[0], "CANCEL_REBOOT", "") }},
	{"power", 2, -1, (*session).power},
	{"help", 0, 0, func(s *session, _ context.Context, _ []string) { io.WriteString(s.out, help) }}, //nolint:errcheck // Flush tells
	{"explain", 1, 1, (*session).explain},
	{"reload", 2, 3, func(s *session, ctx context.Context, w []string) {
		s.plugin(ctx, ctlv1.ChangePluginRequest_RELOAD, "reload", w)
	}},
	{"disable", 2, 2, func(s *session, ctx context.Context, w []string) {
		s.plugin(ctx, ctlv1.ChangePluginRequest_DISABLE, "disable", w)
	}},
	{"enable", 2, 2, func(s *session, ctx context.Context, w []string) {
		s.plugin(ctx, ctlv1.ChangePluginRequest_ENABLE, "enable", w)
	}},
	{"shadow", 2, 3, func(s *session, ctx context.Context, w []string) {
		s.plugin(ctx, ctlv1.ChangePluginRequest_SHADOW, "shadow", w)
	}},
	{"promote", 1, 2, func(s *session, ctx context.Context, w []string) {
		s.shadow(ctx, ctlv1.ChangePluginRequest_PROMOTE, "promote", w)
	}},
	{"stop", 1, 2, func(s *session, ctx context.Context, w []string) {
		s.shadow(ctx, ctlv1.ChangePluginRequest_STOP_SHADOW, "stop", w)
	}},
	{"listpids", 0, 2, (*session).listPIDs},
	missing("listjobs", "scontrol show job lists them"),
	missing("liststeps", "scontrol show step lists them"),
	missing("pidinfo", "SLURM_JOB_ID is in the process's environment"),
	missing("reboot", "drain the node and reboot it by hand"),
	missing("takeover", "voters elect a leader by themselves"),
	missing("setdebugflags", "set DebugFlags in slurm.conf and scontrol reconfigure"),
	missing("fsdampeningfactor", "fair share is not computed"),
	missing("schedloglevel", "scontrol setdebug changes the log level"),
	missing("abort", "scontrol shutdown ends the daemons"),
}

// missing is a keyword of Slurm's that is not there.
func missing(name, instead string) verb {
	return verb{name, 0, -1, func(s *session, _ context.Context, _ []string) {
		s.failf("scontrol: error: %s is not supported: %s", name, instead)
	}}
}

// leastKeyword is how short a keyword may be cut.
const leastKeyword = 3

func lookup(word string) *verb {
	word = strings.ToLower(word)
	for i := range verbs {
		if verbs[i].name == word {
			return &verbs[i]
		}
	}
	if len(word) < leastKeyword {
		return nil
	}
	for i := range verbs {
		if strings.HasPrefix(verbs[i].name, word) {
			return &verbs[i]
		}
	}
	return nil
}

// do carries out one line of words.
func (s *session) do(ctx context.Context, words []string) {
	v := lookup(words[0])
	switch n := len(words) - 1; {
	case v == nil:
		s.failf("invalid keyword: %s", words[0])
	case n < v.min:
		s.failf("too few arguments for keyword:%s", words[0])
	case v.max >= 0 && n > v.max:
		s.failf("too many arguments for keyword:%s", words[0])
	default:
		v.do(s, ctx, words[1:])
	}
}

// failf tells what went wrong, unless -Q, and makes the exit status 1.
func (s *session) failf(format string, args ...any) {
	s.status = 1
	if !s.Quiet {
		s.out.Flush() //nolint:errcheck // the last Flush tells
		fmt.Fprintf(s.stderr, format+"\n", args...)
	}
}

// fail tells an error of the controller behind what was tried.
func (s *session) fail(what string, err error) { s.failf("%s%s", what, s.why(err)) }

// why is an error's text; what it says beyond Slurm's words goes first, on
// lines of its own.
func (s *session) why(err error) string {
	var e *errs.Error
	if !errors.As(err, &e) || e.Code == 0 {
		return err.Error()
	}
	for _, d := range e.Details {
		s.failf("scontrol: error: %s", d)
	}
	if e.Err != nil {
		s.failf("scontrol: error: %v", e.Err)
	}
	return e.Code.String()
}

// asUserID gives refusals the code that Slurm has for administrators' verbs.
func asUserID(err error) error {
	if errs.CodeOf(err) == errs.AccessDenied {
		return errs.Coded("scontrol", errs.UserIDMissing)
	}
	return err
}

// cut reads key=value; the key comes back in lower case.
func cut(word string) (key, value string, ok bool) {
	k, v, ok := strings.Cut(word, "=")
	return strings.ToLower(k), v, ok
}

const help = `scontrol [<OPTION>] [<COMMAND>]
    Valid <OPTION> values are:
     -a or --all: also show hidden partitions
     -d or --details: show more of each record
     -F or --future: also show nodes in state FUTURE
     -h or --help: show the options
     --json[=parser], --yaml[=parser]: everything, structured
     -o or --oneliner: a line for each record
     -Q or --quiet: no messages
     -v or --verbose: tell more
     -V or --version: print version information

  <COMMAND> may be omitted from the execute line and scontrol's
  commands are then read from standard input.

    Valid <COMMAND> values are:
     cancel_reboot <nodelist>            withdraw pending reboots
     completing                          jobs that are being cleaned up
     create partition <specification>    make a partition
     delete partitionname=<name>         remove a partition
     errnumstr <errnum>                  the text of an error number
     disable, enable plugin <kind>[/<name>]  take a plugin out of service and back
     explain <job_id>                    why a job waits, with numbers
     getaddrs <nodelist>                 addresses of nodes
     hold, uhold, release <job_list>     hold jobs and let them go
     listpids [<job_id>[.<step>]] [<node>] processes of steps on this host
     notify <job_id> <message>           send a message to a job
     ping                                ask how the controllers are
     power {up|down [asap|force]} <nodelist>
     promote shadow [<kind>/<name>]      make a shadow the live plugin
     reconfigure                         read the configuration again
     reload plugin <kind>[/<name>] [<path>]  swap a plugin while everything runs
     requeue, requeuehold <job_list>     put jobs back in the queue
     resume, suspend <job_list>          stop jobs and continue them
     setdebug <level> [nodes=<list>]     change how much is logged
     shadow plugin <kind>/<name> [<path>]    try a scheduler beside the live one
     show <entity> [<id>]                show records; see below
     shutdown [slurmctld]                end the daemons
     stop shadow [<kind>/<name>]         end a shadow
     token [lifespan=<s>] [username=<u>] issue a token
     top <job_list>                      move jobs before the owner's others
     update <specification>              change a job, node or partition
     version                             print version information
     wait_job <job_id>                   wait until a job has started
     write batch_script <job_id> [<file>|-]
     write config [<file>]

  <entity> may be aliases, bbstat, burstbuffer, config, daemons, dwstat,
  federation, hostlist, hostlistsorted, hostnames, job, licenses, node,
  partition, plugin, reservation, shadow, step, or topology.
`
