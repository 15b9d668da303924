package sluice

import (
	"fmt"
	"hash/fnv"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/conf"
)

// The ports of new clusters: each directory starts its search elsewhere, and
// all lie below the range from which the kernel gives ports to clients.
const (
	firstPort = 16800
	lastPort  = 32000
	nodeMem   = 8000 // MiB that a node claims unless told otherwise
)

// shape is what up can be told about a new cluster.
type shape struct {
	nodes, cpus int
	mem         int      // MiB a node
	port        int      // of the controller, the nodes' follow; 0: the first free ones
	set         []string // further lines of slurm.conf, which replace ours
	add         []string // further lines of slurm.conf, after all others
}

func (s *shape) check() error {
	switch {
	case s.nodes < 1 || s.nodes > 10000:
		return fmt.Errorf("--nodes %d: 1 to 10000 are possible", s.nodes)
	case s.cpus < 1 || s.cpus > 4096:
		return fmt.Errorf("--cpus %d: 1 to 4096 are possible", s.cpus)
	case s.mem < 1:
		return fmt.Errorf("--mem %d: MiB a node, at least 1", s.mem)
	case s.port < 0 || s.port+s.nodes > 65535:
		return fmt.Errorf("--port %d: with %d nodes, 1 to %d are possible", s.port, s.nodes, 65535-s.nodes)
	}
	for _, line := range append(s.add[:len(s.add):len(s.add)], s.set...) {
		if key, _, ok := strings.Cut(line, "="); !ok || strings.TrimSpace(key) == "" || strings.Contains(line, "\n") {
			return fmt.Errorf("%q: a line of slurm.conf is Key=Value", line)
		}
	}
	return nil
}

// text is the configuration of a cluster of this shape.
func (c *cluster) text(s *shape) (string, error) {
	me, err := user.Current()
	if err != nil {
		return "", err
	}
	host, err := os.Hostname()
	if err != nil {
		return "", err
	}
	host, _, _ = strings.Cut(host, ".")
	lines := []string{
		"ClusterName=sluice",
		"SlurmctldHost=" + host + "(127.0.0.1)",
		"SlurmctldPort=" + strconv.Itoa(s.port),
		"SlurmUser=" + me.Username,
		"PluginUser=" + me.Username, // a cluster of one user: its files need not be open to another
		"SlurmdUser=" + me.Username,
		"AuthType=auth/slurm",
		"AuthInfo=socket=" + c.path("run", "auth.sock"),
		"StateSaveLocation=" + c.path("state"),
		"SlurmdSpoolDir=" + c.path("spool", "%n"),
		"SlurmctldPidFile=" + c.path("run", "slurmctld.pidfile"),
		"SlurmdPidFile=" + c.path("run", "slurmd-%n.pidfile"),
		"SlurmctldLogFile=" + c.path("log", "slurmctld.log"),
		"SlurmdLogFile=" + c.path("log", "slurmd-%n.log"),
		"SlurmdParameters=config_overrides",
		"ReturnToService=2",
		"SchedulerType=sched/backfill",
		"SelectType=select/cons_tres",
		"SelectTypeParameters=CR_Core_Memory",
		"DefMemPerCPU=100",
		"PriorityType=priority/multifactor",
		"PriorityWeightAge=1000",
		"PriorityWeightJobSize=1000",
		"PriorityWeightPartition=1000",
		"AccountingStorageType=accounting_storage/sqlite",
		"JobAcctGatherType=jobacct_gather/linux",
		"MaxJobCount=200000",
		"MaxArraySize=100001",
	}
	for _, add := range s.set {
		key, _, _ := strings.Cut(add, "=")
		kept := lines[:0]
		for _, l := range lines {
			if have, _, _ := strings.Cut(l, "="); !strings.EqualFold(have, strings.TrimSpace(key)) {
				kept = append(kept, l)
			}
		}
		lines = kept
	}
	lines = append(lines, s.set...)
	for i := 1; i <= s.nodes; i++ {
		lines = append(lines, fmt.Sprintf("NodeName=n%d NodeHostname=%s NodeAddr=127.0.0.1 Port=%d CPUs=%d RealMemory=%d State=UNKNOWN",
			i, host, s.port+i, s.cpus, s.mem))
	}
	all := "n1"
	if s.nodes > 1 {
		all = fmt.Sprintf("n[1-%d]", s.nodes)
	}
	lines = append(lines,
		"PartitionName=main Nodes="+all+" Default=YES MaxTime=INFINITE State=UP",
		"PartitionName=small Nodes=n1 MaxTime=10 MaxNodes=1 State=UP")
	lines = append(lines, s.add...)
	return "# Written by sluice up; yours to change. sluice up reads it again.\n" + strings.Join(lines, "\n") + "\n", nil
}

// write makes the directories and the configuration.
func (c *cluster) write(s *shape) error {
	for _, d := range []string{"", "etc", "run", "log", "state", "spool"} {
		if err := os.MkdirAll(c.path(d), 0o755); err != nil {
			return fmt.Errorf("the cluster's directory: %w", err)
		}
	}
	if s.port == 0 {
		port, err := c.freePorts(s.nodes + 1)
		if err != nil {
			return err
		}
		s.port = port
	}
	text, err := c.text(s)
	if err != nil {
		return err
	}
	tmp := c.conf() + ".new"
	if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, c.conf())
}

// freePorts finds n ports in a row that nobody listens on.
func (c *cluster) freePorts(n int) (int, error) {
	h := fnv.New32a()
	h.Write([]byte(c.dir)) //nolint:errcheck // never fails
	span := lastPort - firstPort - n
	if span <= 0 {
		return 0, fmt.Errorf("%d ports are needed: say with --port where they start", n)
	}
	start := int(h.Sum32() % uint32(span))
	for try := 0; try < span; try += n {
		first := firstPort + (start+try)%span
		if busyPort(first, n) == 0 {
			return first, nil
		}
	}
	return 0, fmt.Errorf("no %d ports in a row are free between %d and %d: say with --port where they start", n, firstPort, lastPort)
}

// busyPort returns the first of n ports from first on that is taken, or 0.
func busyPort(first, n int) int {
	for p := first; p < first+n; p++ {
		l, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(p)))
		if err != nil {
			return p
		}
		l.Close()
	}
	return 0
}

// names lists the daemons of the cluster's configuration, the controller
// first; only the controller when the configuration cannot be read.
func (c *cluster) names() []string {
	names := []string{controller}
	cfg, err := c.load()
	if err != nil {
		return names
	}
	for i := range cfg.Nodes {
		names = append(names, string(cfg.Nodes[i].Name))
	}
	return names
}

func (c *cluster) load() (*conf.Config, error) {
	cfg, _, err := conf.Load(c.conf())
	return cfg, err
}

// share is a folder of what ships with the programs.
func (c *cluster) share(name string) string { return filepath.Join(c.prefix, "share", "sluice", name) }
