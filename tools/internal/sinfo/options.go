package sinfo

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/command"
	"github.com/sluice-hpc/sluice/tools/internal/nodetext"
	"github.com/sluice-hpc/sluice/tools/internal/options"
	"github.com/sluice-hpc/sluice/tools/internal/structured"
	"github.com/sluice-hpc/sluice/tools/internal/users"
)

// Options is what a command line and the environment ask sinfo for.
type Options struct {
	Clusters string // of --clusters or SLURM_CLUSTERS

	All, Dead, Responding, Exact, Future, Long, NodeMode, NoHeader bool
	Reasons, Summary, Reservations                                 bool
	Format, FormatNames, Sort                                      string
	Nodes, Partitions                                              []string
	States                                                         [][]wlm.NodeStateWord // any of these; each: all of it
	Iterate                                                        time.Duration
	Dump                                                           bool
	Form                                                           structured.Form

	names *users.Names
}

const usage = `sinfo [-abdelNRrsTv] [-i seconds] [-t states] [-p partition] [-n nodes]
             [-S fields] [-o format] [-O fields] [--usage] [--json] [--yaml]`

type parser struct {
	o      *Options
	states string
	getenv func(string) string
}

func table(p *parser) options.Table {
	o := p.o
	str, list, yes := options.String, options.List, options.Bool
	t := options.Table{
		{Long: "all", Short: 'a', Help: "hidden partitions too", Set: yes(&o.All)},
		{Long: "clusters", Short: 'M', Arg: options.Required, Meta: "names", Help: "only this cluster's name is accepted", Set: options.String(&p.o.Clusters)},
		{Long: "dead", Short: 'd', Help: "only nodes that do not respond", Set: yes(&o.Dead)},
		{Long: "exact", Short: 'e', Help: "a line of its own for each configuration", Set: yes(&o.Exact)},
		{Long: "federation", Set: options.Ignore()},
		{Long: "future", Short: 'F', Help: "nodes in state FUTURE too", Set: yes(&o.Future)},
		{Long: "format", Short: 'o', Arg: options.Required, Meta: "format", Help: "what to show, as %[[.]size]letter", Set: func(v string) error { o.Format, o.FormatNames = v, ""; return nil }},
		{Long: "Format", Short: 'O', Arg: options.Required, Meta: "fields", Help: "what to show, as name[:[.]size],...", Set: func(v string) error { o.FormatNames, o.Format = v, ""; return nil }},
		{Long: "hide", Help: "no hidden partitions (default)", Set: func(string) error { o.All = false; return nil }},
		{Long: "iterate", Short: 'i', Arg: options.Required, Meta: "seconds", Help: "repeat every so many seconds", Set: func(v string) error {
			n, err := strconv.Atoi(v)
			if err != nil || n <= 0 {
				return failf("Invalid --iterate: %s: want a number of seconds above zero", v)
			}
			o.Iterate = time.Duration(n) * time.Second
			return nil
		}},
		{Long: "json", Arg: options.Optional, Meta: "parser", Help: "everything, in JSON", Set: p.dump(structured.JSON)},
		{Long: "list-reasons", Short: 'R', Help: "why nodes are down or drained", Set: yes(&o.Reasons)},
		{Long: "local", Set: options.Ignore()},
		{Long: "long", Short: 'l', Help: "more columns", Set: yes(&o.Long)},
		{Long: "noconvert", Set: options.Ignore()},
		{Long: "Node", Short: 'N', Help: "a line for each node and partition", Set: yes(&o.NodeMode)},
		{Long: "nodes", Short: 'n', Arg: options.Required, Meta: "hosts", Help: "only these nodes", Set: func(v string) error {
			hosts, err := hostlist.Expand(v)
			if err != nil {
				return failf("%v", err)
			}
			o.Nodes = append(o.Nodes, hosts...)
			return nil
		}},
		{Long: "noheader", Short: 'h', Help: "no header", Set: yes(&o.NoHeader)},
		{Long: "partition", Short: 'p', Arg: options.Required, Meta: "names", Help: "only these partitions", Set: list(&o.Partitions)},
		{Long: "reservation", Short: 'T', Help: "reservations in place of nodes", Set: yes(&o.Reservations)},
		{Long: "responding", Short: 'r', Help: "only nodes that respond", Set: yes(&o.Responding)},
		{Long: "sort", Short: 'S', Arg: options.Required, Meta: "fields", Help: "order, by letters of --format with +, - or #", Set: str(&o.Sort)},
		{Long: "states", Short: 't', Arg: options.Required, Meta: "states", Help: "only nodes in one of these states; a&b: in both", Values: strings.Split(wlm.ValidNodeStates(), ","), Set: str(&p.states)},
		{Long: "summarize", Short: 's', Help: "a line for each partition", Set: yes(&o.Summary)},
		{Long: "verbose", Short: 'v', Help: "tell more", Set: options.Ignore()},
		{Long: "yaml", Arg: options.Optional, Meta: "parser", Help: "everything, in YAML", Set: p.dump(structured.YAML)},
	}
	return command.Standard(t, 0)
}

func failf(format string, args ...any) error {
	return &command.Exit{Status: 1, Stderr: "sinfo: error: " + fmt.Sprintf(format, args...) + "\n"}
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

// Parse reads the command line; options win over the environment. Operands are
// not looked at, as in Slurm.
func Parse(args []string, getenv func(string) string, names *users.Names) (*Options, error) {
	o := &Options{names: names}
	p := &parser{o: o, getenv: getenv}
	if _, err := table(p).Parse("sinfo", args); err != nil {
		return nil, err
	}
	o.All = o.All || getenv("SINFO_ALL") != ""
	o.Future = o.Future || getenv("SCONTROL_FUTURE") != ""
	if v := getenv("SINFO_PARTITION"); v != "" && len(o.Partitions) == 0 {
		o.Partitions = strings.Split(v, ",")
	}
	if o.Sort == "" {
		o.Sort = getenv("SINFO_SORT")
	}
	if o.Format == "" && o.FormatNames == "" && !o.Reasons && !o.Summary && !o.Long && !o.NodeMode {
		o.Format = getenv("SINFO_FORMAT")
	}
	return o, p.resolve()
}

func (p *parser) resolve() error {
	for alternative := range strings.SplitSeq(p.states, ",") {
		var all []wlm.NodeStateWord
		for s := range strings.SplitSeq(alternative, "&") {
			if s == "" || strings.EqualFold(s, "all") {
				continue
			}
			w, err := wlm.ParseNodeState(s)
			if err != nil {
				return &command.Exit{Status: 1, Stderr: "sinfo: error: " + err.Error() +
					"\nsinfo: error: valid states: " + wlm.ValidNodeStates() + "\n"}
			}
			all = append(all, w)
		}
		if all != nil {
			p.o.States = append(p.o.States, all)
		}
	}
	if p.o.Reasons && p.o.States == nil {
		p.o.States = [][]wlm.NodeStateWord{{"down"}, {"drain"}, {"fail"}}
	}
	return nil
}

// wants selects nodes.
func (o *Options) wants(n *nodetext.Node) bool {
	silent := n.Flags&wlm.NodeNotResponding != 0
	switch {
	case o.Dead && !silent, o.Responding && silent,
		len(o.Nodes) > 0 && !slices.Contains(o.Nodes, string(n.Name)) && !slices.Contains(o.Nodes, n.Hostname),
		n.State == wlm.NodeFuture && !o.Future && o.States == nil:
		return false
	case o.States == nil:
		return true
	}
	return slices.ContainsFunc(o.States, func(all []wlm.NodeStateWord) bool {
		for _, w := range all {
			if !w.Matches(n.Node, n.AllocCPUs, n.Completing) {
				return false
			}
		}
		return true
	})
}

func (o *Options) wantsPart(p *nodetext.Part) bool {
	if len(o.Partitions) > 0 {
		return slices.Contains(o.Partitions, p.Name)
	}
	return true // what is hidden, the controller has left out
}
