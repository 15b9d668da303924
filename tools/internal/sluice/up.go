package sluice

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/sluice-hpc/sluice/conf"
	"github.com/sluice-hpc/sluice/conf/slurmconf"
	"github.com/sluice-hpc/sluice/sdk/client"
	ctlv1 "github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wire"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/spf13/cobra"
)

const (
	upTime   = 60 * time.Second // for the nodes to become idle
	lookTime = 5 * time.Second  // for one answer of the controller
	logLines = 12               // of a daemon that failed
)

func upCommand(dir *string, stdout, stderr io.Writer) *cobra.Command {
	s := &shape{}
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start a cluster and wait until its nodes are idle",
		Long: "up starts a controller and node daemons n1, n2, ... The first time, or with any of\n" +
			"the options below, it writes the configuration; else it uses the one that is there,\n" +
			"with the jobs that the controller remembers.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := open(*dir, stdout, stderr)
			if err != nil {
				return err
			}
			anew := false
			for _, f := range []string{"nodes", "cpus", "mem", "port", "set", "add"} {
				anew = anew || cmd.Flags().Changed(f)
			}
			if err := c.up(cmd.Context(), s, anew); err != nil {
				return err
			}
			c.hint()
			return nil
		},
	}
	shapeFlags(cmd, s)
	return cmd
}

func shapeFlags(cmd *cobra.Command, s *shape) {
	f := cmd.Flags()
	f.IntVar(&s.nodes, "nodes", 4, "how many node daemons")
	f.IntVar(&s.cpus, "cpus", 4, "CPUs that each node claims to have")
	f.IntVar(&s.mem, "mem", nodeMem, "memory in MiB that each node claims to have")
	f.IntVar(&s.port, "port", 0, "the controller's port; the nodes' follow (default: free ones)")
	f.StringArrayVar(&s.set, "set", nil, "a line of slurm.conf, Key=Value, in place of the usual one; may be repeated")
	f.StringArrayVar(&s.add, "add", nil, "a line to add to slurm.conf, such as NodeName=...; may be repeated")
}

// up starts a cluster. With anew, or where there is none, its configuration
// is written first.
func (c *cluster) up(ctx context.Context, s *shape, anew bool) error {
	if err := s.check(); err != nil {
		return err
	}
	for _, p := range [][2]string{{"sbin", "slurmctld"}, {"sbin", "slurmd"}, {"libexec/sluice", "slurmstepd"}} {
		if _, err := c.program(p[0], p[1]); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(c.path("run"), 0o755); err != nil {
		return fmt.Errorf("the cluster's directory: %w", err)
	}
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if run := c.running(); len(run) > 0 {
		return fmt.Errorf("a cluster runs in %s already (%s): use it with eval \"$(%s env)\", or stop it with %s down",
			c.dir, strings.Join(run, " "), c.call(), c.call())
	}
	if anew || !c.exists() {
		if err := c.write(s); err != nil {
			return err
		}
	}
	cfg, err := c.load()
	if err != nil {
		return err
	}
	if err := c.portsFree(cfg); err != nil {
		return err
	}
	for _, name := range c.names() {
		if err := c.start(name); err != nil {
			return err
		}
	}
	began := time.Now()
	if err := c.awaitIdle(ctx); err != nil {
		return errors.Join(err, c.undo())
	}
	fmt.Fprintf(c.stdout, "cluster %s: slurmctld on port %d and %d nodes idle after %.1f s, in %s\n",
		cfg.ClusterName, cfg.SlurmctldPort, len(cfg.Nodes), time.Since(began).Seconds(), c.dir)
	return nil
}

// undo stops what a failed up has started.
func (c *cluster) undo() error {
	var all error
	for _, name := range c.running() {
		all = errors.Join(all, c.stop(context.Background(), name, syscall.SIGTERM))
	}
	return all
}

// lock keeps two commands from starting one cluster at once.
func (c *cluster) lock() (unlock func(), err error) {
	f, err := os.OpenFile(c.path("run", "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("another sluice starts or stops the cluster in %s right now", c.dir)
	}
	return func() { f.Close() }, nil
}

// portsFree says which port of the configuration somebody else has.
func (c *cluster) portsFree(cfg *conf.Config) error {
	if p := int(cfg.SlurmctldPort); busyPort(p, 1) != 0 {
		return fmt.Errorf("port %d, which is slurmctld's in %s, is in use: stop who has it, or choose others with --port", p, c.conf())
	}
	for i := range cfg.Nodes {
		if p := int(cfg.Nodes[i].Port); p != 0 && busyPort(p, 1) != 0 {
			return fmt.Errorf("port %d, which is %s's in %s, is in use: stop who has it, or choose others with --port", p, cfg.Nodes[i].Name, c.conf())
		}
	}
	return nil
}

// awaitIdle waits until every node can take jobs. A daemon that ends while it
// starts fails it at once, with what it said.
func (c *cluster) awaitIdle(ctx context.Context) error {
	names := c.names()
	var last string
	for end := time.Now().Add(upTime); time.Now().Before(end); {
		for _, name := range names {
			if c.pid(name) == 0 {
				return fmt.Errorf("%s ended at once; the last lines of %s:\n%s", name, c.outFile(name), c.tail(name, logLines))
			}
		}
		waiting, err := c.notIdle(ctx)
		switch {
		case err != nil:
			last = err.Error()
		case waiting == "":
			return nil
		default:
			last = "not ready: " + waiting
		}
		if !pause(ctx, 2*poll) {
			return ctx.Err()
		}
	}
	return fmt.Errorf("the nodes are not idle after %v: %s; see %s", upTime, last, c.path("log"))
}

// notIdle names the nodes that cannot take jobs, with their states.
func (c *cluster) notIdle(ctx context.Context) (string, error) {
	ctx, stop := context.WithTimeout(ctx, lookTime)
	defer stop()
	cl, err := c.dial(ctx)
	if err != nil {
		return "", err
	}
	defer cl.Close()
	stream, err := cl.Controller.Nodes(ctx, &ctlv1.NodesRequest{})
	if err != nil {
		return "", err
	}
	var waiting []string
	for {
		reply, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return strings.Join(waiting, " "), nil
		}
		if err != nil {
			return "", err
		}
		for _, info := range reply.GetNodes() {
			n := wire.NodeOfWire(info.GetNode())
			if n.State != wlm.NodeUp || n.Flags&wlm.NodeNotResponding != 0 {
				waiting = append(waiting, fmt.Sprintf("%s (%s)", n.Name, wlm.NodeStateLong(n, 0, false)))
			}
		}
	}
}

// dial opens the cluster as its configuration names it.
func (c *cluster) dial(ctx context.Context) (*client.Client, error) {
	sc, err := slurmconf.LoadClient(c.conf())
	if err != nil {
		return nil, err
	}
	return client.Open(ctx, client.Target{
		Cluster: sc.ClusterName, Controllers: sc.Controllers(), Socket: sc.Socket(), Timeout: lookTime,
	})
}

// down stops everything, the nodes first.
func down(ctx context.Context, c *cluster) error {
	run := c.running()
	if len(run) == 0 {
		fmt.Fprintf(c.stdout, "no cluster runs in %s\n", c.dir)
		return nil
	}
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	for _, name := range run[:len(run)-1] { // all at once, then one after the other
		if pid := c.pid(name); pid != 0 {
			syscall.Kill(pid, syscall.SIGTERM) //nolint:errcheck // stop says what is wrong
		}
	}
	for _, name := range run {
		if err := c.stop(ctx, name, syscall.SIGTERM); err != nil {
			return err
		}
	}
	fmt.Fprintf(c.stdout, "stopped %s; the state stays in %s\n", strings.Join(run, " "), c.dir)
	return nil
}

func wipe(ctx context.Context, c *cluster) error {
	if _, err := os.Stat(c.dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if !c.exists() {
		return fmt.Errorf("%s is not the directory of a cluster (it has no etc/slurm.conf): nothing is deleted", c.dir)
	}
	if err := down(ctx, c); err != nil {
		return err
	}
	return os.RemoveAll(c.dir)
}

// env prints the exports for a shell.
func env(_ context.Context, c *cluster) error {
	if !c.exists() {
		return fmt.Errorf("there is no cluster in %s: make one with %s up", c.dir, c.call())
	}
	fmt.Fprintf(c.stdout, "export SLURM_CONF=%s\nexport PATH=%s/bin:%s/sbin:$PATH\n", c.conf(), c.prefix, c.prefix)
	return nil
}

// status tells of each daemon whether it runs.
func status(_ context.Context, c *cluster) error {
	if !c.exists() {
		return fmt.Errorf("there is no cluster in %s: make one with %s up", c.dir, c.call())
	}
	down := 0
	for _, name := range c.names() {
		if pid := c.pid(name); pid != 0 {
			fmt.Fprintf(c.stdout, "%-6s process %d\n", name, pid)
			continue
		}
		down++
		fmt.Fprintf(c.stdout, "%-6s does not run\n", name)
	}
	if down > 0 {
		return errShown
	}
	return nil
}
