package sacct

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/proto/acctstore/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/command"
	"github.com/sluice-hpc/sluice/tools/internal/options"
	"github.com/sluice-hpc/sluice/tools/internal/remote"
	"github.com/sluice-hpc/sluice/tools/internal/structured"
	"github.com/sluice-hpc/sluice/tools/internal/users"
)

// Options is what a command line and the environment ask sacct for.
type Options struct {
	Clusters string // of --clusters or SLURM_CLUSTERS

	Query                     *acctstorev1.Query
	Columns                   []column
	Delimiter                 string // empty: columns of fixed width
	Trailing                  bool
	NoHeader, Truncate        bool
	Array, Expand             bool
	Units                     byte // 0: K
	LimitMin, LimitMax        wlm.Minutes
	Constraints, Reasons      []string
	Schedulers                []string
	BatchScript, Environments bool
	Dump                      bool
	Form                      structured.Form
	Verbose                   int

	names    *users.Names
	now      wlm.Time
	from, to wlm.Time // the window
}

const usage = `sacct [options]
	Use --help for help`

type parser struct {
	o                             *Options
	getenv                        func(string) string
	clock                         time.Time
	me                            uint32
	start, end, format, delimiter string
	jobs, states, users, groups   []string
	allUsers, brief, long         bool
	completion, parsable          bool
	nnodes, ncpus, limMin, limMax string
}

func optionTable(p *parser) options.Table {
	o, q := p.o, p.o.Query
	str, list, yes := options.String, options.List, options.Bool
	no := func(long string, short byte, arg options.Arg, why string) options.Option {
		return options.Option{Long: long, Short: short, Arg: arg, Set: func(string) error { return failf("--%s: %s", long, why) }}
	}
	t := options.Table{
		{Long: "accounts", Short: 'A', Arg: options.Required, Meta: "accounts", Help: "only jobs of these accounts", Set: list(&q.Accounts)},
		{Long: "array", Help: "a line for each pending task of an array", Set: yes(&o.Array)},
		{Long: "allclusters", Short: 'L', Set: options.Ignore()},
		{Long: "allocations", Short: 'X', Help: "jobs only, no steps", Set: yes(&q.AllocationsOnly)},
		{Long: "allusers", Short: 'a', Help: "jobs of all users", Set: yes(&p.allUsers)},
		no("associations", 'x', options.Required, "associations have no numbers here"),
		{Long: "batch-script", Short: 'B', Help: "the script of each job of -j", Set: yes(&o.BatchScript)},
		{Long: "brief", Short: 'b', Help: "only id, state and exit code", Set: yes(&p.brief)},
		{Long: "clusters", Short: 'M', Arg: options.Required, Meta: "names", Help: "only this cluster's name is accepted", Set: options.String(&p.o.Clusters)},
		{Long: "completion", Short: 'c', Help: "the fields of job completion", Set: yes(&p.completion)},
		{Long: "constraints", Short: 'C', Arg: options.Required, Meta: "features", Help: "only jobs that asked for these features", Set: list(&o.Constraints)},
		{Long: "delimiter", Arg: options.Required, Meta: "text", Help: "between fields, with -p and -P", Set: str(&p.delimiter)},
		{Long: "duplicates", Short: 'D', Help: "earlier runs of requeued jobs too", Set: yes(&q.Duplicates)},
		{Long: "endtime", Short: 'E', Arg: options.Required, Meta: "time", Help: "only jobs that were there before", Set: str(&p.end)},
		{Long: "env-vars", Help: "the environment of each job of -j", Set: yes(&o.Environments)},
		{Long: "expand-patterns", Help: "replace the symbols of file name patterns", Set: yes(&o.Expand)},
		{Long: "federation", Set: options.Ignore()},
		no("file", 'f', options.Required, "there is no text file of completed jobs"),
		{Long: "flags", Short: 'F', Arg: options.Required, Meta: "flags", Help: "only jobs started so: SchedMain, SchedBackfill", Set: list(&o.Schedulers)},
		{Long: "format", Short: 'o', Arg: options.Required, Meta: "fields", Help: "what to show, as name[%[-]width],...", Set: str(&p.format)},
		{Long: "gid", Arg: options.Required, Set: list(&p.groups)},
		{Long: "group", Short: 'g', Arg: options.Required, Meta: "groups", Help: "only jobs of these groups", Set: list(&p.groups)},
		{Long: "helpformat", Short: 'e', Help: "list the fields of --format", Set: func(string) error {
			return &command.Exit{Stdout: helpFormat()}
		}},
		{Long: "jobs", Short: 'j', Arg: options.Required, Meta: "ids", Help: "only these jobs and steps", Set: func(v string) error {
			p.jobs = append(p.jobs, hostlist.Split(v)...)
			return nil
		}},
		{Long: "json", Arg: options.Optional, Meta: "parser", Help: "everything, in JSON", Set: p.dump(structured.JSON)},
		{Long: "local", Set: options.Ignore()},
		{Long: "long", Short: 'l', Help: "many fields", Set: yes(&p.long)},
		{Long: "name", Arg: options.Required, Meta: "names", Help: "only jobs with these names", Set: list(&q.Names)},
		{Long: "nnodes", Short: 'i', Arg: options.Required, Meta: "min[-max]", Help: "only jobs of so many nodes", Set: str(&p.nnodes)},
		{Long: "ncpus", Short: 'I', Arg: options.Required, Meta: "min[-max]", Help: "only jobs of so many CPUs", Set: str(&p.ncpus)},
		{Long: "noconvert", Help: "amounts in their own unit", Set: options.Ignore()},
		{Long: "nodelist", Short: 'N', Arg: options.Required, Meta: "hosts", Help: "only jobs that ran on these nodes", Set: str(&q.Nodes)},
		{Long: "noheader", Short: 'n', Help: "no header", Set: yes(&o.NoHeader)},
		{Long: "parsable", Short: 'p', Help: "fields end in |", Set: func(string) error { p.parsable, o.Trailing = true, true; return nil }},
		{Long: "parsable2", Short: 'P', Help: "fields are separated by |", Set: func(string) error { p.parsable, o.Trailing = true, false; return nil }},
		{Long: "partition", Short: 'r', Arg: options.Required, Meta: "names", Help: "only jobs of these partitions", Set: list(&q.Partitions)},
		{Long: "qos", Short: 'q', Arg: options.Required, Meta: "names", Help: "only jobs with these QOS", Set: list(&q.Qos)},
		{Long: "reason", Short: 'R', Arg: options.Required, Meta: "reasons", Help: "only jobs with these reasons", Set: list(&o.Reasons)},
		{Long: "starttime", Short: 'S', Arg: options.Required, Meta: "time", Help: "only jobs that were there after", Set: str(&p.start)},
		{Long: "state", Short: 's', Arg: options.Required, Meta: "states", Help: "only jobs in these states", Set: list(&p.states)},
		{Long: "timelimit-max", Short: 'K', Arg: options.Required, Meta: "time", Help: "with -k: only jobs with this limit at most", Set: str(&p.limMax)},
		{Long: "timelimit-min", Short: 'k', Arg: options.Required, Meta: "time", Help: "only jobs with this limit", Set: str(&p.limMin)},
		{Long: "truncate", Short: 'T', Help: "clip times to the window", Set: yes(&o.Truncate)},
		{Long: "uid", Arg: options.Required, Set: list(&p.users)},
		{Long: "user", Short: 'u', Arg: options.Required, Meta: "users", Help: "only jobs of these users", Set: list(&p.users)},
		{Long: "units", Arg: options.Required, Meta: "KMGTP", Help: "unit of amounts", Values: []string{"K", "M", "G", "T", "P"}, Set: func(v string) error {
			if len(v) != 1 || !strings.Contains("KMGTP", strings.ToUpper(v)) {
				return failf("Invalid value for --units: %s: want one of K, M, G, T, P", v)
			}
			o.Units = strings.ToUpper(v)[0]
			return nil
		}},
		{Long: "use-local-uid", Set: options.Ignore()},
		{Long: "verbose", Short: 'v', Help: "tell the window", Set: options.Count(&o.Verbose)},
		{Long: "wckeys", Short: 'W', Arg: options.Required, Meta: "keys", Help: "only jobs with these wckeys", Set: list(&q.Wckeys)},
		{Long: "whole-hetjob", Arg: options.Optional, Set: options.Ignore()},
		{Long: "yaml", Arg: options.Optional, Meta: "parser", Help: "everything, in YAML", Set: p.dump(structured.YAML)},
	}
	return command.Standard(t, 'h')
}

func failf(format string, args ...any) error {
	return &command.Exit{Status: 1, Stderr: "sacct: error: " + fmt.Sprintf(format, args...) + "\n"}
}

func (p *parser) dump(form structured.Form) func(string) error {
	return func(v string) error {
		if v == "list" {
			return &command.Exit{Stdout: "Possible data_parser plugins:\ndata_parser/v0.0.44\n"}
		}
		p.o.Dump, p.o.Form = true, form
		if form == structured.JSON && p.getenv("SLURM_JSON") == "compact" {
			p.o.Form = structured.CompactJSON
		}
		return nil
	}
}

// Parse reads the command line; options win over the environment.
func Parse(args []string, getenv func(string) string, names *users.Names) (*Options, error) {
	return parse(args, getenv, names, users.Me(), time.Now())
}

func newParser() *parser { return &parser{o: &Options{Query: &acctstorev1.Query{}}} }

func parse(args []string, getenv func(string) string, names *users.Names, me uint32, now time.Time) (*Options, error) {
	p := newParser()
	p.getenv, p.clock, p.me = getenv, now, me
	p.o.names, p.o.now = names, wlm.TimeOf(now)
	operands, err := optionTable(p).Parse("sacct", args)
	if err != nil {
		return nil, err
	}
	if len(operands) > 0 {
		return nil, &command.Exit{Status: 1, Stderr: "sacct: error: Unknown arguments:\nsacct: error:  " + strings.Join(operands, "\nsacct: error:  ") + "\n"}
	}
	for _, step := range []func() error{p.columns, p.references, p.selection, p.ranges, p.window} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return p.o, nil
}

func (p *parser) columns() (err error) {
	o, spec := p.o, p.format
	switch {
	case spec != "":
	case p.brief:
		spec = formatBrief
	case p.long:
		spec = formatLong
	case p.completion:
		spec = formatCompletion
	case p.getenv("SACCT_FORMAT") != "":
		spec = p.getenv("SACCT_FORMAT")
	default:
		spec = formatStandard
	}
	if p.parsable {
		if o.Delimiter = p.delimiter; o.Delimiter == "" {
			o.Delimiter = "|"
		}
	}
	o.Columns, err = parseFormat(spec)
	return err
}

func (p *parser) references() error {
	for _, id := range p.jobs {
		ref, err := remote.Ref(id)
		if err != nil {
			return failf("Invalid job id: %s", id)
		}
		m := &acctstorev1.JobRef{Job: ref.GetJob(), HasStep: ref.GetHasStep(), Step: ref.GetStep()}
		if len(ref.GetTasks()) == 0 {
			p.o.Query.Jobs = append(p.o.Query.Jobs, m)
		}
		for _, t := range ref.GetTasks() {
			for task := t.GetFirst(); task <= t.GetLast(); task += max(t.GetStep(), 1) {
				p.o.Query.Jobs = append(p.o.Query.Jobs, &acctstorev1.JobRef{Job: m.Job, HasTask: true, Task: task, HasStep: m.HasStep, Step: m.Step})
			}
		}
	}
	if (p.o.BatchScript || p.o.Environments) && len(p.jobs) == 0 {
		return failf("This option requires requesting specific job(s) with -j")
	}
	return nil
}

// flagShift is where a query has state flags, see acctstore.
const flagShift = 8

func (p *parser) selection() error {
	q := p.o.Query
	for _, s := range p.states {
		state, flag, ok := wlm.ParseJobState(s)
		switch {
		case !ok:
			return failf("Invalid state: %s: want one of PENDING, RUNNING, SUSPENDED, COMPLETED, CANCELLED, FAILED, TIMEOUT, "+
				"NODE_FAIL, PREEMPTED, BOOT_FAIL, DEADLINE, OUT_OF_MEMORY, or their short forms", s)
		case flag != 0:
			q.States = append(q.States, uint32(flag)<<flagShift)
		default:
			q.States = append(q.States, uint32(state))
		}
	}
	for _, name := range p.users {
		uid, ok := p.o.names.UID(name)
		if !ok {
			return failf("Invalid user: %s", name)
		}
		q.Users = append(q.Users, uid)
	}
	for _, name := range p.groups {
		gid, ok := p.o.names.GID(name)
		if !ok {
			return failf("Invalid group: %s", name)
		}
		q.Groups = append(q.Groups, gid)
	}
	if len(q.Users) == 0 && len(q.Groups) == 0 && len(q.Jobs) == 0 && !p.allUsers && p.me != 0 {
		q.Users = []uint32{p.me}
	}
	if q.Nodes != "" {
		if _, err := hostlist.Expand(q.Nodes); err != nil {
			return failf("Invalid node list: %v", err)
		}
	}
	return nil
}

func (p *parser) ranges() error {
	q := p.o.Query
	var err error
	if q.MinNodes, q.MaxNodes, err = bounds("nnodes", p.nnodes); err != nil {
		return err
	}
	if q.MinCpus, q.MaxCpus, err = bounds("ncpus", p.ncpus); err != nil {
		return err
	}
	for text, to := range map[string]*wlm.Minutes{p.limMin: &p.o.LimitMin, p.limMax: &p.o.LimitMax} {
		if text == "" {
			continue
		}
		if *to, err = wlm.ParseMinutes(text); err != nil {
			return failf("Invalid time limit specification: %s", text)
		}
	}
	return nil
}

// bounds reads min[-max]; a single number is both.
func bounds(name, s string) (low, high uint32, err error) {
	if s == "" {
		return 0, 0, nil
	}
	a, b, ranged := strings.Cut(s, "-")
	if !ranged {
		b = a
	}
	lo, err1 := strconv.ParseUint(a, 10, 32)
	hi, err2 := strconv.ParseUint(b, 10, 32)
	if err1 != nil || err2 != nil || lo > hi {
		return 0, 0, failf("Invalid --%s: %s: want min or min-max", name, s)
	}
	return uint32(lo), uint32(hi), nil
}

// window works out the time window; its defaults depend on -j and -s.
func (p *parser) window() error {
	q, o := p.o.Query, p.o
	read := func(s string) (wlm.Time, error) {
		t, err := wlm.ParseWhen(s, p.clock, false)
		if err != nil {
			return 0, &command.Exit{Status: 1, Stderr: err.Error() + "\n"}
		}
		return t, nil
	}
	jobs, states := len(p.jobs) > 0, len(p.states) > 0
	y, m, d := p.clock.Date()
	switch {
	case jobs:
		o.from = 0
	case states:
		o.from = o.now
	default:
		o.from = wlm.TimeOf(time.Date(y, m, d, 0, 0, 0, 0, p.clock.Location()))
	}
	o.to = o.now
	var err error
	if p.start != "" {
		if o.from, err = read(p.start); err != nil {
			return err
		}
		if states {
			o.to = o.from
		}
	}
	if p.end != "" {
		if o.to, err = read(p.end); err != nil {
			return err
		}
	}
	if o.from > o.to {
		return failf("Start time (%s) requested is after end time (%s).", stamp(o.from), stamp(o.to))
	}
	q.Start, q.End, q.Now = int64(o.from), int64(o.to), int64(o.now)
	return nil
}
