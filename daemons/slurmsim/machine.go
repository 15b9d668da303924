package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/conf"
	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/core/sim"
	"github.com/sluice-hpc/sluice/daemons/internal/clusterconf"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// machine is what the workload runs on.
type machine struct {
	cfg       *conf.Config // nil: made up from --processors
	configure *cluster.Configure
	settings  map[string]string
	cpus      int
}

// readWorkload reads or makes the trace.
func readWorkload(f *flags, stdin io.Reader) (*sim.Trace, error) {
	switch {
	case f.synthetic != "" && f.trace != "":
		return nil, fmt.Errorf("--trace and --synthetic: one of them is enough")
	case f.synthetic != "":
		s, err := synthetic(f)
		if err != nil {
			return nil, err
		}
		return sim.Generate(s), nil
	case f.trace == "-":
		return sim.ReadTrace(stdin)
	case f.trace == "":
		return nil, fmt.Errorf("--trace FILE or --synthetic jobs=N is wanted")
	}
	file, err := os.Open(f.trace)
	if err != nil {
		return nil, fmt.Errorf("--trace: %w", err)
	}
	defer file.Close() //nolint:errcheck // only reads
	t, err := sim.ReadTrace(file)
	if err != nil {
		return nil, fmt.Errorf("--trace %s: %w", f.trace, err)
	}
	return t, nil
}

// synthetic reads jobs=N,load=X,...
func synthetic(f *flags) (sim.Synthetic, error) {
	s := sim.Synthetic{Processors: f.processors, Seed: f.seed}
	for o := range strings.SplitSeq(f.synthetic, ",") {
		key, value, _ := strings.Cut(o, "=")
		var err error
		number := func(into *int) {
			*into, err = strconv.Atoi(value)
			if err == nil && *into < 1 {
				err = fmt.Errorf("less than 1")
			}
		}
		switch key {
		case "jobs":
			number(&s.Jobs)
		case "users":
			number(&s.Users)
		case "max_procs":
			number(&s.MaxProcs)
		case "shapes":
			number(&s.Shapes)
		case "load":
			if s.Load, err = strconv.ParseFloat(value, 64); err == nil && !(s.Load > 0 && s.Load < 1000) {
				err = fmt.Errorf("out of range")
			}
		case "at_once":
			s.AtOnce = true
		default:
			return s, fmt.Errorf("--synthetic: %q is not known; jobs, load, users, max_procs, shapes and at_once are", key)
		}
		if err != nil {
			return s, fmt.Errorf("--synthetic: %s=%q is not a number above zero", key, value)
		}
	}
	if s.Jobs == 0 {
		return s, fmt.Errorf("--synthetic: jobs=N is wanted")
	}
	return s, nil
}

// readMachine builds the machine that the flags, or else the trace, tell of.
func readMachine(f *flags, t *sim.Trace) (*machine, error) {
	m := &machine{settings: map[string]string{}}
	if f.conf != "" {
		if f.processors != 0 || f.nodes != 0 {
			return nil, fmt.Errorf("--conf: the machine is that of the file; --processors and --nodes do not go with it")
		}
		cfg, _, err := conf.Load(f.conf)
		if err != nil {
			return nil, err
		}
		m.cfg, m.configure, m.settings = cfg, clusterconf.Configure(cfg), clusterconf.Policy(cfg)
	} else {
		procs, nodes := f.processors, f.nodes
		if procs == 0 {
			procs = int(t.HeaderInt("MaxProcs"))
		}
		if procs <= 0 {
			return nil, fmt.Errorf("--processors N or --conf FILE is wanted: the trace does not tell MaxProcs")
		}
		if most := int(t.HeaderInt("MaxNodes")); nodes == 0 && most > 0 && procs%most == 0 && int64(procs) == t.HeaderInt("MaxProcs") {
			nodes = most
		}
		if nodes > procs || nodes < 0 {
			return nil, fmt.Errorf("--nodes %d: 1 to %d are possible for %d processors", nodes, procs, procs)
		}
		m.configure = uniform(procs, nodes)
		m.settings["SelectTypeParameters"] = "CR_Core"
	}
	if f.params != "" {
		m.settings["SchedulerParameters"] = f.params
	}
	for i := range m.configure.Nodes {
		m.cpus += int(m.configure.Nodes[i].CPUs)
	}
	return m, nil
}

// uniform is a machine of equal nodes, the last of which may be smaller.
func uniform(procs, nodes int) *cluster.Configure {
	const smallest, many = 64, 1024
	size := 1
	switch {
	case nodes > 0:
		size = (procs + nodes - 1) / nodes
	case procs > many:
		size = smallest
	}
	c := &cluster.Configure{Settings: cluster.Settings{Cluster: "sim", FirstJobID: 1, MaxArraySize: 1_000_001}}
	part := wlm.Partition{Name: "main", Default: true, State: wlm.PartUp, MaxTime: wlm.Unlimited, MaxNodes: wlm.Unset,
		MaxCPUsPerNode: wlm.Unset, OverTimeLimit: wlm.Unset, PriorityTier: 1, PriorityJob: 1, MinNodes: 0}
	for i := 0; procs > 0; i++ {
		cpus := uint32(min(size, procs))
		procs -= int(cpus)
		n := wlm.Node{Index: wlm.NodeIndex(i), Name: wlm.NodeName(fmt.Sprintf("n%05d", i+1)), CPUs: cpus, Boards: 1, Sockets: 1,
			CoresPerSocket: cpus, ThreadsPerCore: 1, RealMemory: 1, Weight: 1}
		c.Nodes = append(c.Nodes, n)
		part.NodeNames = append(part.NodeNames, n.Name)
	}
	c.Partitions = []wlm.Partition{part}
	return c
}
