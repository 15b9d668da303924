package scancel

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/command"
	"github.com/sluice-hpc/sluice/tools/internal/options"
	"github.com/sluice-hpc/sluice/tools/internal/remote"
	"github.com/sluice-hpc/sluice/tools/internal/users"
)

// Options is what a command line and the environment ask scancel for.
type Options struct {
	Clusters string // of --clusters or SLURM_CLUSTERS

	Refs                                  []*ctlv1.JobRef
	Account, Name, Partition, QOS, WCKey  string
	Reservation, AdminComment             string
	Nodes                                 []string
	User                                  *uint32
	State                                 *wlm.JobState
	Signal                                int // 0: cancel
	Batch, Full, Hurry, Cron, Interactive bool
	Quiet                                 bool
	Verbose                               int
}

const usage = `scancel [-A account] [--batch] [--full] [--interactive] [-n job_name]
               [-p partition] [-Q] [-q qos] [-R reservation] [-s signal | integer]
               [-t PENDING | RUNNING | SUSPENDED] [--usage] [-u user_name]
               [--hurry] [-V] [-v] [-w hosts...] [--wckey=wckey]
               [job_id[_array_id][.step_id]]`

type parser struct {
	o                             *Options
	user, state, signal, nodelist string
	names                         *users.Names
	me                            uint32
}

func table(p *parser) options.Table {
	o := p.o
	str, yes := options.String, options.Bool
	t := options.Table{
		{Long: "account", Short: 'A', Arg: options.Required, Meta: "account", Help: "only jobs of this account", Set: str(&o.Account)},
		{Long: "admin-comment", Arg: options.Required, Meta: "text", Help: "note in the jobs why", Set: str(&o.AdminComment)},
		{Long: "batch", Short: 'b', Help: "signal only the batch shell", Set: yes(&o.Batch)},
		{Long: "clusters", Short: 'M', Arg: options.Required, Meta: "name", Help: "only this cluster's name is accepted", Set: options.String(&p.o.Clusters)},
		{Long: "cron", Short: 'c', Help: "cancel scrontab jobs too", Set: yes(&o.Cron)},
		{Long: "ctld", Help: "let the controller select (it always does)", Set: options.Ignore()},
		{Long: "full", Short: 'f', Help: "signal the batch shell, its children and all steps", Set: yes(&o.Full)},
		{Long: "hurry", Short: 'H', Help: "do not stage out", Set: yes(&o.Hurry)},
		{Long: "interactive", Short: 'i', Help: "ask before each job", Set: yes(&o.Interactive)},
		{Long: "jobname", Arg: options.Required, Set: str(&o.Name)},
		{Long: "me", Help: "only my jobs", Set: func(string) error { p.user = strconv.Itoa(int(p.me)); return nil }},
		{Long: "name", Short: 'n', Arg: options.Required, Meta: "name", Help: "only jobs with this name", Set: str(&o.Name)},
		{Long: "nodelist", Short: 'w', Arg: options.Required, Meta: "hosts", Help: "only jobs on these nodes", Set: str(&p.nodelist)},
		{Long: "partition", Short: 'p', Arg: options.Required, Meta: "name", Help: "only jobs of this partition", Set: str(&o.Partition)},
		{Long: "qos", Short: 'q', Arg: options.Required, Meta: "name", Help: "only jobs with this QOS", Set: str(&o.QOS)},
		{Long: "quiet", Short: 'Q', Help: "no error for jobs that have ended", Set: yes(&o.Quiet)},
		{Long: "reservation", Short: 'R', Arg: options.Required, Meta: "name", Help: "only jobs in this reservation", Set: str(&o.Reservation)},
		{Long: "sibling", Arg: options.Required, Set: func(string) error {
			return failf("--sibling: federations are not supported")
		}},
		{Long: "signal", Short: 's', Arg: options.Required, Meta: "signal", Help: "send this signal in place of cancelling", Set: str(&p.signal)},
		{Long: "state", Short: 't', Arg: options.Required, Meta: "state", Help: "only jobs in this state", Values: []string{"PENDING", "RUNNING", "SUSPENDED"}, Set: str(&p.state)},
		{Long: "user", Short: 'u', Arg: options.Required, Meta: "user", Help: "only jobs of this user", Set: str(&p.user)},
		{Long: "verbose", Short: 'v', Help: "tell more", Set: options.Count(&o.Verbose)},
		{Long: "wckey", Arg: options.Required, Meta: "key", Help: "only jobs with this wckey", Set: str(&o.WCKey)},
	}
	return command.Standard(t, 0)
}

func failf(format string, args ...any) error {
	return &command.Exit{Status: 1, Stderr: "scancel: error: " + fmt.Sprintf(format, args...) + "\n"}
}

// Parse reads the command line; options win over the environment.
func Parse(args []string, getenv func(string) string, names *users.Names) (*Options, error) {
	p := &parser{o: &Options{}, names: names, me: users.Me()}
	p.environment(getenv)
	operands, err := table(p).Parse("scancel", args)
	if err != nil {
		return nil, err
	}
	if err := p.resolve(); err != nil {
		return nil, err
	}
	for _, word := range operands {
		for _, id := range hostlist.Split(word) {
			ref, err := remote.Ref(id)
			if err != nil {
				return nil, failf("Invalid job id %s", id)
			}
			p.o.Refs = append(p.o.Refs, ref)
		}
	}
	if len(p.o.Refs) == 0 && !p.o.filtered() {
		return nil, failf("No job identification provided")
	}
	return p.o, nil
}

func (p *parser) environment(getenv func(string) string) {
	o := p.o
	for name, to := range map[string]*string{
		"SCANCEL_ACCOUNT": &o.Account, "SCANCEL_NAME": &o.Name, "SCANCEL_PARTITION": &o.Partition, "SCANCEL_QOS": &o.QOS,
		"SCANCEL_WCKEY": &o.WCKey, "SCANCEL_STATE": &p.state, "SCANCEL_USER": &p.user,
	} {
		*to = getenv(name)
	}
	for name, to := range map[string]*bool{
		"SCANCEL_BATCH": &o.Batch, "SCANCEL_FULL": &o.Full, "SCANCEL_HURRY": &o.Hurry, "SCANCEL_CRON": &o.Cron,
		"SCANCEL_INTERACTIVE": &o.Interactive,
	} {
		v := strings.ToLower(getenv(name))
		*to = v == "1" || v == "t" || v == "true" || v == "yes" || v == "y"
	}
	if n, err := strconv.Atoi(getenv("SCANCEL_VERBOSE")); err == nil {
		o.Verbose = n
	}
}

func (p *parser) resolve() error {
	if p.state != "" {
		s, _, ok := wlm.ParseJobState(p.state)
		if !ok || s != wlm.Pending && s != wlm.Running && s != wlm.Suspended {
			return &command.Exit{Status: 1, Stderr: "Invalid job state specified: " + p.state +
				"\nValid job states are PENDING, RUNNING, and SUSPENDED\n"}
		}
		p.o.State = &s
	}
	if p.user != "" {
		uid, ok := p.names.UID(p.user)
		if !ok {
			return failf("Invalid user name: %s", p.user)
		}
		p.o.User = &uid
	}
	if p.signal != "" {
		n, err := wlm.ParseSignal(p.signal)
		if err != nil {
			return failf("Unknown job signal: %s", p.signal)
		}
		p.o.Signal = n
	}
	return p.nodes()
}

// nodes reads the host list, or the file that has it when it names one.
func (p *parser) nodes() error {
	list := p.nodelist
	if strings.Contains(list, "/") {
		b, err := os.ReadFile(list)
		if err != nil {
			return failf("Invalid node list: %v", err)
		}
		list = strings.Join(strings.Fields(string(b)), ",")
	}
	if list == "" {
		return nil
	}
	hosts, err := hostlist.Expand(list)
	if err != nil {
		return failf("Invalid node list specified: %v", err)
	}
	p.o.Nodes = hosts
	return nil
}

func (o *Options) filtered() bool {
	return o.Account+o.Name+o.Partition+o.QOS+o.WCKey+o.Reservation != "" || o.Nodes != nil || o.User != nil || o.State != nil
}

// filter is what the controller selects by, for the given references.
func (o *Options) filter(refs []*ctlv1.JobRef) *ctlv1.JobFilter {
	one := func(s string) []string {
		if s == "" {
			return nil
		}
		return strings.Split(s, ",")
	}
	f := &ctlv1.JobFilter{
		Refs: refs, Accounts: one(o.Account), Partitions: one(o.Partition), Qos: one(o.QOS), Names: one(o.Name),
		Nodes: o.Nodes, Reservations: one(o.Reservation), Wckeys: one(o.WCKey),
	}
	if o.User != nil {
		f.Users = []uint32{*o.User}
	}
	if o.State != nil {
		f.States = []uint32{uint32(*o.State)}
	}
	return f
}
