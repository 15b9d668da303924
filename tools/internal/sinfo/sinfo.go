// Package sinfo is the command that shows nodes and partitions.
//
// A line is a group of nodes of one partition that agree in what the line
// shows, see [collect]: state and partition always divide, counts and sizes
// only with --exact (else the least is shown, with "+" when nodes differ). The
// columns, widths, orders and texts are those of sinfo(1) of Slurm 25.11.
package sinfo

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wire"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/column"
	"github.com/sluice-hpc/sluice/tools/internal/command"
	"github.com/sluice-hpc/sluice/tools/internal/dump"
	"github.com/sluice-hpc/sluice/tools/internal/nodetext"
	"github.com/sluice-hpc/sluice/tools/internal/remote"
	"github.com/sluice-hpc/sluice/tools/internal/resvtext"
	"github.com/sluice-hpc/sluice/tools/internal/structured"
	"github.com/sluice-hpc/sluice/tools/internal/users"
)

// Source is what sinfo asks the controller.
type Source interface {
	Nodes(context.Context, *ctlv1.NodesRequest, func(*ctlv1.NodesReply) error) error
	Partitions(context.Context, *ctlv1.PartitionsRequest) (*ctlv1.PartitionsReply, error)
	Reservations(context.Context, *ctlv1.ReservationsRequest) (*ctlv1.ReservationsReply, error)
	ClusterName() string
}

// New returns the command.
func New() *command.Command {
	c := &command.Command{Name: "sinfo", Short: "show nodes and partitions", Usage: usage, Options: table(&parser{o: &Options{}})}
	c.Run = func(ctx context.Context, env command.Env) int {
		o, err := Parse(env.Args, env.Getenv, users.System())
		if err != nil {
			return c.Fail(err, env, 1)
		}
		s, err := remote.Open(ctx, "sinfo", cmp.Or(o.Clusters, env.Getenv("SLURM_CLUSTERS")))
		if err != nil {
			return c.Fail(err, env, 1)
		}
		defer s.Close()
		return Run(ctx, o, s, env.Stdout, env.Stderr)
	}
	return c
}

// Run prints what o asks for and returns the exit status.
func Run(ctx context.Context, o *Options, source Source, stdout, stderr io.Writer) int {
	for {
		if err := once(ctx, o, source, stdout, stderr); err != nil {
			return fail(err, stderr)
		}
		if o.Iterate == 0 {
			return 0
		}
		fmt.Fprintln(stdout)
		select {
		case <-ctx.Done():
			return 0
		case <-time.After(o.Iterate):
		}
	}
}

func fail(err error, stderr io.Writer) int {
	var exit *command.Exit
	if errors.As(err, &exit) {
		io.WriteString(stderr, exit.Stderr) //nolint:errcheck // nowhere to tell
		return exit.Status
	}
	text := err.Error()
	if code := errs.CodeOf(err); code != 0 {
		text = code.String()
	}
	fmt.Fprintf(stderr, "slurm_load_partitions: %s\n", text)
	return 1
}

func once(ctx context.Context, o *Options, source Source, stdout, stderr io.Writer) error {
	if o.Reservations {
		m, err := source.Reservations(ctx, &ctlv1.ReservationsRequest{})
		if err != nil {
			return err
		}
		var list []*wlm.Reservation
		for _, r := range m.GetReservations() {
			list = append(list, wire.ReservationOfWire(r))
		}
		if len(list) == 0 {
			_, err := fmt.Fprintln(stdout, "No reservations in the system")
			return err
		}
		resvtext.Table(stdout, list, !o.NoHeader)
		return nil
	}
	nodes, now, err := load(ctx, o, source)
	if err != nil {
		return err
	}
	reply, err := source.Partitions(ctx, &ctlv1.PartitionsRequest{Hide: !o.All && len(o.Partitions) == 0})
	if err != nil {
		return err
	}
	var parts []*nodetext.Part
	for _, p := range reply.GetPartitions() {
		parts = append(parts, nodetext.PartOf(p))
	}
	if o.Reasons || !o.NoHeader && !o.Dump {
		for _, w := range reply.GetWarnings() {
			fmt.Fprintf(stderr, "sinfo: warning: %s\n", w)
		}
	}
	f := format(o, nodes, parts, stderr)
	groups := collect(o, f, nodes, parts)
	if err := order(o, groups); err != nil {
		return err
	}
	if o.Dump {
		return write(o, groups, source.ClusterName(), stdout)
	}
	out := bufio.NewWriter(stdout)
	if !o.NoHeader {
		if o.Long || o.Iterate > 0 {
			fmt.Fprintln(out, time.Unix(now, 0).Format(time.ANSIC))
		}
		f.WriteHeader(out)
	}
	for _, g := range groups {
		f.WriteRow(out, g)
	}
	return out.Flush()
}

// load fetches the nodes asked for. A name that the cluster does not have
// selects nothing.
func load(ctx context.Context, o *Options, source Source) (nodes []*nodetext.Node, now int64, err error) {
	take := func(m *ctlv1.NodesReply) error {
		now = m.GetNow()
		for _, n := range m.GetNodes() {
			nodes = append(nodes, nodetext.Of(n))
		}
		return nil
	}
	err = source.Nodes(ctx, &ctlv1.NodesRequest{Nodes: hostlist.Compress(o.Nodes)}, take)
	if errs.CodeOf(err) == errs.InvalidNodeName {
		nodes = nil
		err = source.Nodes(ctx, &ctlv1.NodesRequest{}, take)
	}
	return nodes, now, err
}

// format reads the format asked for, or takes the default of the mode.
func format(o *Options, nodes []*nodetext.Node, parts []*nodetext.Part, stderr io.Writer) column.Format[*group] {
	bad := func(what string) { fmt.Fprintf(stderr, "sinfo: error: Invalid node format specification: %s\n", what) }
	switch {
	case o.FormatNames != "":
		return column.ParseNames(fields, o.FormatNames, bad)
	case o.Format != "":
		return column.ParseLetters(fields, o.Format, bad)
	}
	return column.ParseLetters(fields, standard(o, nodes, parts), bad)
}

// The least widths of the columns that grow with their values.
const (
	partitionWidth = 9
	nodesWidth     = 9
)

// standard is the default format of a mode. Names of partitions and, by nodes,
// of nodes are never cut.
func standard(o *Options, nodes []*nodetext.Node, parts []*nodetext.Part) string {
	p, n := partitionWidth, nodesWidth
	for _, part := range parts {
		if o.wantsPart(part) {
			p = max(p, len(part.Name)+1)
		}
	}
	for _, node := range nodes {
		n = max(n, len(node.Name))
	}
	switch {
	case o.Reasons && o.Long:
		return "%20E %12U %19H %6t %N"
	case o.Reasons:
		return "%20E %9u %19H %N"
	case o.Summary:
		return fmt.Sprintf("%%%dP %%.5a %%.10l %%.16F %%N", p)
	case o.NodeMode && o.Long:
		return fmt.Sprintf("%%%dN %%.6D %%.%dP %%.11T %%4c %%.8z %%.6m %%.8d %%.6w %%.8f %%20E", n, p)
	case o.NodeMode:
		return fmt.Sprintf("%%%dN %%.6D %%.%dP %%6t", n, p)
	case o.Long:
		return fmt.Sprintf("%%%dP %%.5a %%.10l %%.10s %%.4r %%.8h %%.10g %%.6D %%.11T %%.11i %%N", p)
	}
	return fmt.Sprintf("%%%dP %%.5a %%.10l %%.6D %%.6t %%N", p)
}

// order sorts the groups; equals stay in the order of the node table.
func order(o *Options, groups []*group) error {
	spec := o.Sort
	switch {
	case spec != "":
	case o.NodeMode:
		spec = "N"
	case o.Reasons:
		spec = "-H"
	default:
		spec = "#P,-t"
	}
	keys, err := column.ParseSort(fields, spec)
	if err != nil {
		return failf("%v", err)
	}
	for i := range keys {
		if keys[i].Hash && keys[i].Field.Letter == 'P' {
			byRank := *keys[i].Field
			byRank.Order = func(a, b *group) int { return a.rank - b.rank }
			keys[i].Field = &byRank
		}
	}
	slices.SortStableFunc(groups, func(a, b *group) int { return column.Compare(keys, a, b) })
	return nil
}

// write writes the groups in JSON or YAML.
func write(o *Options, groups []*group, cluster string, stdout io.Writer) error {
	w := structured.New(stdout, o.Form)
	w.List("sinfo")
	for _, g := range groups {
		g.dump(w)
	}
	w.End()
	dump.Trailer(w, dump.Meta{Command: []string{"sinfo"}, Cluster: cluster, Names: o.names})
	return w.Close()
}
