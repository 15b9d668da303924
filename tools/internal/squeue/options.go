package squeue

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/command"
	"github.com/sluice-hpc/sluice/tools/internal/options"
	"github.com/sluice-hpc/sluice/tools/internal/remote"
	"github.com/sluice-hpc/sluice/tools/internal/structured"
	"github.com/sluice-hpc/sluice/tools/internal/users"
)

// Options is what a command line and the environment ask squeue for.
type Options struct {
	Clusters string // of --clusters or SLURM_CLUSTERS

	Accounts, Partitions, QOS, Names, Reservations, Licenses []string
	Nodes                                                    []string
	Users                                                    []uint32
	NoUser                                                   bool // users were named, none of which exists
	Jobs, Steps                                              []*ctlv1.JobRef
	StepMode                                                 bool
	States                                                   []uint32
	Flags                                                    uint32
	AllStates                                                bool
	Format, FormatNames, Sort                                string
	NoHeader, Long, Array, Start, NoConvert, Expand, All     bool
	OnlyState, PerPartition, NotMe                           bool
	RunningOver, RunningUnder                                uint32 // seconds; 0: any
	Iterate                                                  time.Duration
	Dump                                                     bool
	Form                                                     structured.Form
	Verbose                                                  int
	Warnings                                                 []string // for standard error, before anything is asked

	names *users.Names
	me    uint32
}

const usage = `squeue [-A account] [--clusters names] [-i seconds] [--job jobid]
              [-n name] [-o format] [--only-job-state] [-p partitions]
              [--qos qos] [--reservation reservation] [--sort fields] [--start]
              [--step step_id] [-t states] [-u user_name] [--usage]
              [-L licenses] [-w nodes] [--federation] [--local] [--sibling]
              [--expand-patterns] [--json=data_parser] [--yaml=data_parser]
              [--running-over=time] [--running-under=time] [-ahjlrsv]`

// parser collects what options say until the values can be judged.
type parser struct {
	o      *Options
	jobs   string
	steps  string
	states string
	users  []string
	getenv func(string) string
}

// table returns the options of squeue, which set p.
func table(p *parser) options.Table {
	o := p.o
	str, list, yes := options.String, options.List, options.Bool
	t := options.Table{
		{Long: "account", Short: 'A', Arg: options.Required, Meta: "accounts", Help: "only jobs of these accounts", Set: list(&o.Accounts)},
		{Long: "all", Short: 'a', Help: "jobs in hidden partitions, too", Set: yes(&o.All)},
		{Long: "array", Short: 'r', Help: "one line for each task of an array", Set: yes(&o.Array)},
		{Long: "array-unique", Set: options.Ignore()},
		{Long: "clusters", Short: 'M', Arg: options.Required, Meta: "names", Help: "only this cluster's name is accepted", Set: options.String(&p.o.Clusters)},
		{Long: "expand-patterns", Help: "replace the symbols of file name patterns", Set: yes(&o.Expand)},
		{Long: "federation", Set: options.Ignore()},
		{Long: "format", Short: 'o', Arg: options.Required, Meta: "format", Help: "what to show, as %[[.]size]letter", Set: func(v string) error { o.Format, o.FormatNames = v, ""; return nil }},
		{Long: "Format", Short: 'O', Arg: options.Required, Meta: "fields", Help: "what to show, as name[:[.]size],...", Set: func(v string) error { o.FormatNames, o.Format = v, ""; return nil }},
		{Long: "hide", Help: "no jobs in hidden partitions (default)", Set: func(string) error { o.All = false; return nil }},
		{Long: "iterate", Short: 'i', Arg: options.Required, Meta: "seconds", Help: "repeat every so many seconds", Set: func(v string) error {
			n, err := strconv.Atoi(v)
			if err != nil || n <= 0 {
				return failf("Invalid --iterate: %s: want a number of seconds above zero", v)
			}
			o.Iterate = time.Duration(n) * time.Second
			return nil
		}},
		{Long: "jobs", Short: 'j', Arg: options.Greedy, Meta: "ids", Help: "only these jobs", Set: str(&p.jobs)},
		{Long: "json", Arg: options.Optional, Meta: "parser", Help: "everything, in JSON", Set: p.dump(structured.JSON)},
		{Long: "licenses", Short: 'L', Arg: options.Required, Meta: "names", Help: "only jobs that use these licences", Set: list(&o.Licenses)},
		{Long: "local", Set: options.Ignore()},
		{Long: "long", Short: 'l', Help: "more columns", Set: yes(&o.Long)},
		{Long: "me", Help: "only my jobs", Set: func(string) error { p.users = append(p.users, strconv.Itoa(int(o.me))); return nil }},
		{Long: "name", Short: 'n', Arg: options.Required, Meta: "names", Help: "only jobs or steps with these names", Set: list(&o.Names)},
		{Long: "noconvert", Help: "amounts in their own unit", Set: yes(&o.NoConvert)},
		{Long: "nodelist", Short: 'w', Arg: options.Required, Meta: "hosts", Help: "only jobs on these nodes", Set: p.nodes},
		{Long: "nodes", Arg: options.Required, Set: p.nodes},
		{Long: "noheader", Short: 'h', Help: "no header", Set: yes(&o.NoHeader)},
		{Long: "notme", Help: "only jobs of others", Set: yes(&o.NotMe)},
		{Long: "only-job-state", Help: "only ids and states", Set: yes(&o.OnlyState)},
		{Long: "partition", Short: 'p', Arg: options.Required, Meta: "names", Help: "only jobs of these partitions", Set: list(&o.Partitions)},
		{Long: "priority", Short: 'P', Help: "a line for each partition of a pending job", Set: yes(&o.PerPartition)},
		{Long: "qos", Short: 'q', Arg: options.Required, Meta: "names", Help: "only jobs with these QOS", Set: list(&o.QOS)},
		{Long: "reservation", Short: 'R', Arg: options.Required, Meta: "names", Help: "only jobs in these reservations", Set: list(&o.Reservations)},
		{Long: "running-over", Arg: options.Required, Meta: "time", Help: "only jobs that have run longer", Set: seconds("running-over", &o.RunningOver)},
		{Long: "running-under", Arg: options.Required, Meta: "time", Help: "only jobs that have run shorter", Set: seconds("running-under", &o.RunningUnder)},
		{Long: "sibling", Set: options.Ignore()},
		{Long: "sort", Short: 'S', Arg: options.Required, Meta: "fields", Help: "order, by letters of --format with + or -", Set: str(&o.Sort)},
		{Long: "start", Help: "when pending jobs will start", Set: yes(&o.Start)},
		{Long: "states", Short: 't', Arg: options.Required, Meta: "states", Help: "only jobs in these states, or all", Values: stateNames(), Set: str(&p.states)},
		{Long: "steps", Short: 's', Arg: options.Greedy, Meta: "steps", Help: "steps in place of jobs", Set: func(v string) error { o.StepMode, p.steps = true, v; return nil }},
		{Long: "user", Short: 'u', Arg: options.Required, Meta: "users", Help: "only jobs of these users", Set: func(v string) error { return list(&p.users)(v) }},
		{Long: "users", Arg: options.Required, Set: func(v string) error { return list(&p.users)(v) }},
		{Long: "verbose", Short: 'v', Help: "tell more", Set: options.Count(&o.Verbose)},
		{Long: "yaml", Arg: options.Optional, Meta: "parser", Help: "everything, in YAML", Set: p.dump(structured.YAML)},
	}
	return command.Standard(t, 0)
}

// stateNames are the states of --states, in lower case.
func stateNames() []string {
	var names []string
	for _, s := range strings.Split(validStates, ",") {
		names = append(names, strings.ToUpper(s))
	}
	return append(names, "all")
}

// validStates is Slurm's own list.
const validStates = "pending,running,suspended,completed,cancelled,failed,timeout,node_fail,preempted,boot_fail," +
	"deadline,out_of_memory,completing,configuring,expediting,resizing,resv_del_hold,requeued,requeue_fed," +
	"requeue_hold,revoked,signaling,special_exit,stage_out,stopped"

func failf(format string, args ...any) error {
	return &command.Exit{Status: 1, Stderr: "squeue: error: " + fmt.Sprintf(format, args...) + "\n"}
}

func seconds(name string, p *uint32) func(string) error {
	return func(v string) error {
		n, err := wlm.ParseSeconds(v)
		if err != nil {
			return failf("Invalid --%s specification: %s", name, v)
		}
		*p = n
		return nil
	}
}

func (p *parser) dump(form structured.Form) func(string) error {
	return func(v string) error {
		if v == "list" {
			return &command.Exit{Stdout: "Possible data_parser plugins:\ndata_parser/v0.0.44\n"}
		}
		p.o.Dump, p.o.Form = true, form
		env := "SLURM_JSON"
		if form == structured.YAML {
			env = "SLURM_YAML"
		}
		if form == structured.JSON && p.getenv(env) == "compact" {
			p.o.Form = structured.CompactJSON
		}
		return nil
	}
}

func (p *parser) nodes(v string) error {
	hosts, err := hostlist.Expand(v)
	if err != nil {
		return failf("%v", err)
	}
	p.o.Nodes = append(p.o.Nodes, hosts...)
	return nil
}

// Parse reads the command line; options win over the environment.
func Parse(args []string, getenv func(string) string, names *users.Names) (*Options, error) {
	return parse(args, getenv, names, users.Me())
}

func parse(args []string, getenv func(string) string, names *users.Names, me uint32) (*Options, error) {
	o := &Options{names: names, me: me}
	p := &parser{o: o, getenv: getenv}
	operands, err := table(p).Parse("squeue", args)
	if err != nil {
		return nil, err
	}
	if len(operands) > 0 {
		return nil, &command.Exit{Status: 1, Stdout: "Usage: " + usage + "\n",
			Stderr: "squeue: error: Unrecognized option: " + operands[0] + "\n"}
	}
	p.environment()
	return o, p.resolve()
}

// environment fills in what the command line left open.
func (p *parser) environment() {
	o := p.o
	list := func(to *[]string, name string) {
		if v := p.getenv(name); v != "" && len(*to) == 0 {
			options.List(to)(v) //nolint:errcheck // List never fails
		}
	}
	str := func(to *string, name string) {
		if v := p.getenv(name); v != "" && *to == "" {
			*to = v
		}
	}
	list(&o.Accounts, "SQUEUE_ACCOUNT")
	list(&o.Partitions, "SQUEUE_PARTITION")
	list(&o.QOS, "SQUEUE_QOS")
	list(&o.Names, "SQUEUE_NAMES")
	list(&o.Licenses, "SQUEUE_LICENSES")
	list(&p.users, "SQUEUE_USERS")
	str(&p.states, "SQUEUE_STATES")
	str(&o.Sort, "SQUEUE_SORT")
	if o.Format == "" && o.FormatNames == "" && !o.Long && !o.StepMode && !o.Start {
		str(&o.Format, "SQUEUE_FORMAT")
		if o.Format == "" {
			str(&o.FormatNames, "SQUEUE_FORMAT2")
		}
	}
	o.Array = o.Array || p.getenv("SQUEUE_ARRAY") != ""
	o.All = o.All || p.getenv("SQUEUE_ALL") != ""
	o.PerPartition = o.PerPartition || p.getenv("SQUEUE_PRIORITY") != ""
}

// resolve turns names and ids into values, and tells which it cannot.
func (p *parser) resolve() error {
	o := p.o
	var err error
	if o.Jobs, err = refs(p.jobs, "job"); err != nil {
		return err
	}
	if o.Steps, err = refs(p.steps, "step"); err != nil {
		return err
	}
	if err := p.resolveStates(); err != nil {
		return err
	}
	for _, name := range p.users {
		uid, ok := o.names.UID(name)
		if !ok {
			o.Warnings = append(o.Warnings, "squeue: error: Invalid user: "+name)
			continue
		}
		o.Users = append(o.Users, uid)
	}
	o.NoUser = len(p.users) > 0 && len(o.Users) == 0
	if o.Start && len(o.States) == 0 && o.Flags == 0 && !o.AllStates {
		o.States = []uint32{uint32(wlm.Pending)}
	}
	return nil
}

func refs(list, what string) ([]*ctlv1.JobRef, error) {
	var out []*ctlv1.JobRef
	for _, s := range hostlist.Split(list) {
		ref, err := remote.Ref(s)
		if err != nil {
			return nil, failf("Invalid %s id: %s", what, s)
		}
		out = append(out, ref)
	}
	return out, nil
}

func (p *parser) resolveStates() error {
	for s := range strings.SplitSeq(p.states, ",") {
		if s == "" {
			continue
		}
		if strings.EqualFold(s, "all") {
			p.o.AllStates = true
			continue
		}
		state, flag, ok := wlm.ParseJobState(s)
		if !ok {
			return &command.Exit{Status: 1, Stderr: "squeue: error: Invalid job state specified: " + s +
				"\nsqueue: error: Valid job states include: " + validStates + "\n"}
		}
		if flag != 0 {
			p.o.Flags |= uint32(flag)
		} else {
			p.o.States = append(p.o.States, uint32(state))
		}
	}
	return nil
}

// filter is what the controller selects by.
func (o *Options) filter() *ctlv1.JobFilter {
	f := &ctlv1.JobFilter{
		Refs: o.Jobs, Users: o.Users, Accounts: o.Accounts, Partitions: o.Partitions, Qos: o.QOS,
		States: o.States, FlagsAny: o.Flags, Nodes: o.Nodes, Reservations: o.Reservations, AllStates: o.AllStates,
	}
	if o.StepMode {
		for _, s := range o.Steps {
			f.Refs = append(f.Refs, &ctlv1.JobRef{Job: s.GetJob(), Tasks: s.GetTasks()})
		}
		return f
	}
	f.Names = o.Names
	return f
}

func (o *Options) sortOr(def string) string {
	if o.Sort != "" {
		return o.Sort
	}
	return def
}

// wants selects what the controller's filter cannot say.
func (o *Options) wants(j row) bool {
	switch {
	case o.NotMe && uint32(j.Spec.User) == o.me,
		o.RunningOver != 0 && (j.State != wlm.Running || j.Elapsed() < int64(o.RunningOver)),
		o.RunningUnder != 0 && (j.State != wlm.Running || j.Elapsed() > int64(o.RunningUnder)):
		return false
	case len(o.Licenses) == 0:
		return true
	}
	for item := range strings.SplitSeq(j.Spec.Licenses, ",") {
		name, _, _ := strings.Cut(item, ":")
		if slices.Contains(o.Licenses, name) {
			return true
		}
	}
	return false
}

// hides reports whether jobs in hidden partitions are left out: they are not
// when the command line names partitions or jobs.
func (o *Options) hides() bool { return !o.All && len(o.Partitions) == 0 && len(o.Jobs) == 0 }
