package request

import (
	"os"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// verify checks options against each other and fills in what follows from
// them.
func (r *Request) verify() error {
	s := &r.Spec
	if r.Quiet && r.Verbose > 0 {
		return &Mistake{Exit: exitMistake, Lines: []string{"don't specify both --verbose (-v) and --quiet (-Q)"}}
	}
	if err := r.oneMemory(); err != nil {
		return err
	}
	if err := r.arbitrary(); err != nil {
		return err
	}
	if r.given["nodes"] != Nowhere && s.MinNodes == 0 {
		return errs.Coded("request", errs.InvalidNodeCount)
	}
	r.taskCount()
	r.later("requeue", "no-requeue", func() { s.Requeue = wlm.No }, func() { s.Requeue = wlm.Yes })
	r.later("exclusive", "oversubscribe", func() { s.Share = wlm.ShareAllow }, nil)
	if s.TimeMin != 0 && s.TimeMin != wlm.Unlimited && s.TimeLimit != 0 && s.TimeMin > s.TimeLimit {
		return &Mistake{Exit: exitMistake, Fatal: true, Lines: []string{"--time-min exceeds --time"}}
	}
	if s.Deadline != 0 && s.Begin > s.Deadline {
		return &Mistake{Exit: exitMistake, Fatal: true, Lines: []string{"Incompatible begin and deadline time specification"}}
	}
	if err := r.unsupported(); err != nil {
		return err
	}
	r.Warnings = append(r.Warnings, r.noEffect()...)
	return nil
}

// oneMemory lets the strongest source say how memory is asked for.
func (r *Request) oneMemory() error {
	names := []string{"mem", "mem-per-cpu", "mem-per-gpu"}
	best, which := Nowhere, ""
	for _, n := range names {
		switch g := r.given[n]; {
		case g == Nowhere || g < best:
		case g == best:
			if g == FromEnv && r.Command == Srun {
				continue // both come from the job
			}
			return &Mistake{Exit: exitMistake, Fatal: true,
				Lines: []string{"--mem, --mem-per-cpu, and --mem-per-gpu are mutually exclusive."}}
		default:
			best, which = g, n
		}
	}
	s := &r.Spec
	if which != "mem" {
		s.MemPerNode, s.MemAll = 0, false
	}
	if which != "mem-per-cpu" {
		s.MemPerCPU = 0
	}
	if which != "mem-per-gpu" {
		s.MemPerGPU = 0
	}
	return nil
}

// later decides between two options that contradict: the stronger source.
func (r *Request) later(a, b string, ifB, ifA func()) {
	switch x, y := r.given[a], r.given[b]; {
	case x == Nowhere || y == Nowhere:
	case y > x:
		ifB()
	case x > y && ifA != nil:
		ifA()
	}
}

// arbitrary takes the node of each task from SLURM_HOSTFILE.
func (r *Request) arbitrary() error {
	file, ok := r.env("SLURM_HOSTFILE")
	if !ok || !strings.HasPrefix(r.Spec.Distribution, "arbitrary") || r.given["nodelist"] == FromCommand {
		return nil
	}
	list, err := readNodes(file)
	if err != nil {
		return mistakef(exitMistake, "Could not open file %s given in SLURM_HOSTFILE: %s", file, errText(err))
	}
	r.Spec.ReqNodes = list
	if r.given["ntasks"] < FromCommand {
		r.Spec.NTasks = uint32(strings.Count(list, ",") + 1)
		r.given["ntasks"] = FromEnv
	}
	return nil
}

// taskCount makes the numbers of tasks and nodes agree.
func (r *Request) taskCount() {
	s := &r.Spec
	tasks, nodes := r.given["ntasks"], r.given["nodes"]
	perNode := r.given["ntasks-per-node"]
	if tasks == Nowhere && perNode == Nowhere && r.Command != Srun && s.CoresPerSocket > 0 && s.ThreadsPerCore > 0 {
		s.NTasks = max(s.MinNodes, 1) * max(s.SocketsPerNode, 1) * s.CoresPerSocket * s.ThreadsPerCore
		tasks = max(r.given["threads-per-core"], r.given["extra-node-info"])
		r.given["ntasks"] = tasks
	}
	if perNode > tasks && nodes != Nowhere {
		s.NTasks = s.TasksPerNode * s.MinNodes
		tasks = perNode
		r.given["ntasks"] = perNode
	}
	if r.Command == Srun && nodes == FromCommand && tasks == FromEnv && perNode < FromCommand {
		// A step on other nodes than the job has one task each, or as many as
		// the job has if that is more.
		s.NTasks = max(s.NTasks, s.MinNodes)
	}
	if s.NTasks != 0 && tasks != Nowhere && nodes != Nowhere && s.NTasks < s.MinNodes {
		r.warnf("can't run %d processes on %d nodes, setting nnodes to %d", s.NTasks, s.MinNodes, s.NTasks)
		s.MinNodes = s.NTasks
		s.MaxNodes = min(s.MaxNodes, s.NTasks)
		s.NodeSizes = ""
	}
}

func (r *Request) warnf(format string, args ...any) {
	r.Warnings = append(r.Warnings, mistakef(0, format, args...).Lines[0])
}

// unsupported refuses what would make the job another one if it were left out.
func (r *Request) unsupported() error {
	given := r.asked
	switch {
	case given("no-allocate") && r.Spec.ReqNodes == "":
		return mistakef(exitMistake, "must specify a node list with -Z, --no-allocate.")
	case given("no-allocate"):
		return mistakef(exitMistake, "--no-allocate is not supported: every task runs in an allocation")
	case given("container"), given("container-id"):
		return mistakef(exitMistake, "--container is not supported: run the container's own command, as in apptainer exec")
	case given("bb"), given("bbf"):
		return mistakef(exitMistake, "--bb is not supported: there are no burst buffers")
	}
	return nil
}

// asked reports whether an option was given by hand, not by the environment.
func (r *Request) asked(o string) bool { return r.given[o] == FromCommand || r.given[o] == FromScript }

// noEffect lists what was asked for that this release accepts but does not do.
func (r *Request) noEffect() []string {
	var out []string
	for _, o := range []string{"bcast", "x11", "resv-ports", "task-prolog", "task-epilog", "reboot",
		"wait-for-children", "mail-type", "gpu-freq", "power", "cluster-constraint", "mcs-label"} {
		if r.asked(o) {
			out = append(out, "--"+o+" is accepted but has no effect in this release")
		}
	}
	if flags := r.Spec.Option("gres-flags"); r.asked("gres-flags") && flags != "enforce-binding" && flags != "disable-binding" {
		out = append(out, "--gres-flags="+flags+": only enforce-binding and disable-binding have an effect in this release")
	}
	return out
}

// Identify fills in who submits from where.
func (r *Request) Identify(userName string, argv0 string, args []string) {
	s := &r.Spec
	if r.given["uid"] == Nowhere {
		s.User, s.UserName = wlm.UID(os.Getuid()), userName
	}
	if r.given["gid"] == Nowhere && r.given["uid"] == Nowhere {
		s.Group = wlm.GID(os.Getgid())
	}
	s.SubmitLine = strings.Join(append([]string{argv0}, args...), " ")
	s.AllocNode = Hostname()
	if r.Command == Sbatch {
		s.AllocSID = uint32(sessionID())
	} else {
		s.AllocSID = uint32(os.Getpid())
	}
}

// Hostname is the short name of this host.
func Hostname() string {
	h, _ := os.Hostname()
	h, _, _ = strings.Cut(h, ".")
	return h
}
