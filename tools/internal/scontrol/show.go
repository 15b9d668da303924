package scontrol

import (
	"context"
	"os"
	"slices"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/hostlist"
)

// entity is something that show shows.
type entity struct {
	names []string // in the order of preference; a beginning will do
	show  func(*session, context.Context, string)
}

// entities in the order in which a beginning is looked up.
var entities = []entity{
	{[]string{"aliases"}, (*session).showAliases},
	{[]string{"assoc_mgr"}, func(s *session, _ context.Context, _ string) {
		s.failf("scontrol: error: assoc_mgr is not supported: the controller keeps no associations")
	}},
	{[]string{"bbstat", "burstbuffer", "dwstat"}, func(*session, context.Context, string) {}},
	{[]string{"config"}, (*session).showConfig},
	{[]string{"daemons"}, (*session).showDaemons},
	{[]string{"federation", "fed"}, func(s *session, _ context.Context, _ string) { s.line("There are no federations.") }},
	{[]string{"hostlist"}, func(s *session, _ context.Context, arg string) { s.showHostlist(arg, hostlist.CompressOrdered) }},
	{[]string{"hostlistsorted"}, func(s *session, _ context.Context, arg string) { s.showHostlist(arg, hostlist.Compress) }},
	{[]string{"hostnames"}, (*session).showHostnames},
	{[]string{"jobs", "jobid"}, (*session).showJobs},
	{[]string{"licenses"}, (*session).showLicenses},
	{[]string{"nodes", "nodename"}, (*session).showNodes},
	{[]string{"partitions", "partitionname"}, (*session).showPartitions},
	{[]string{"plugins"}, (*session).showPlugins},
	{[]string{"reservations", "reservationname"}, (*session).showReservations},
	{[]string{"slurmd"}, func(s *session, _ context.Context, _ string) {
		s.failf("scontrol: error: slurmd is not supported: scontrol show node %s shows what it reported", s.host)
	}},
	{[]string{"steps", "stepid"}, (*session).showSteps},
	{[]string{"shadows"}, (*session).showShadows},
	{[]string{"topology", "topoconf"}, (*session).showTopology},
}

// show is "show entity [id]" or "show entity=id".
func (s *session) show(ctx context.Context, words []string) {
	name, id, glued := strings.Cut(words[0], "=")
	rest := words[1:]
	if !glued && len(rest) > 0 {
		id, rest = rest[0], rest[1:]
	}
	if len(rest) > 0 {
		s.failf("too many arguments for keyword:show")
		return
	}
	lower := strings.ToLower(name)
	var hit *entity
	for i := range entities {
		if slices.Contains(entities[i].names, lower) {
			hit = &entities[i]
			break
		}
		if hit == nil && slices.ContainsFunc(entities[i].names, func(n string) bool { return lower != "" && strings.HasPrefix(n, lower) }) {
			hit = &entities[i]
		}
	}
	if hit == nil {
		s.failf("invalid entity:%s for keyword:show", name)
		return
	}
	hit.show(s, ctx, id)
}

func (s *session) line(text string) {
	s.out.WriteString(text) //nolint:errcheck // Flush tells
	s.out.WriteByte('\n')   //nolint:errcheck // Flush tells
}

// record prints a block of lines, or its one line.
func (s *session) record(block string) {
	if s.OneLine {
		s.line(strings.ReplaceAll(strings.ReplaceAll(block, "\n     ", " "), "\n   ", " "))
		return
	}
	s.line(block + "\n")
}

// showHostnames expands a host list, by default that of the job we are in.
func (s *session) showHostnames(_ context.Context, arg string) {
	if arg == "" {
		arg = s.getenv("SLURM_JOB_NODELIST")
	}
	if arg == "" {
		s.failf("SLURM_JOB_NODELIST environment variable not set, nor was a hostlist provided")
		return
	}
	hosts, err := hostlist.Expand(arg)
	if err != nil {
		s.failf("Invalid hostlist: %s: %v", arg, err)
		return
	}
	for _, h := range hosts {
		s.line(h)
	}
}

// showHostlist compresses hosts, given as a list or as a file of lines.
func (s *session) showHostlist(arg string, compress func([]string) string) {
	if arg == "" {
		s.failf("invalid host list")
		return
	}
	list := arg
	if strings.HasPrefix(arg, "/") || arg == "-" {
		path := arg
		if arg == "-" {
			path = "/dev/stdin"
		}
		b, err := os.ReadFile(path)
		if err != nil {
			s.failf("Can not open host list file: %v", err)
			return
		}
		list = strings.Join(strings.FieldsFunc(string(b), func(r rune) bool { return r <= ' ' }), ",")
	}
	hosts, err := hostlist.Expand(list)
	if err != nil {
		s.failf("Invalid hostlist: %s: %v", arg, err)
		return
	}
	s.line(compress(hosts))
}

// notFound says on standard output that there is no such record.
func (s *session) notFound(what string) {
	s.status = 1
	if !s.Quiet {
		s.line(what + " not found")
	}
}
