package agent

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-hpc/sluice/core/steps"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// golden reads an observed environment, without the names in not.
func golden(t *testing.T, file string, not ...string) map[string]string {
	t.Helper()
	b, err := os.ReadFile("testdata/env/" + file)
	if err != nil {
		t.Fatal(err)
	}
	return toMap(strings.Split(strings.TrimSpace(string(b)), "\n"), not)
}

func toMap(env, not []string) map[string]string {
	m := map[string]string{}
	for _, s := range env {
		name, value, _ := strings.Cut(s, "=")
		if !slices.Contains(not, name) {
			m[name] = value
		}
	}
	return m
}

func compare(t *testing.T, got, want map[string]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if v, ok := got[name]; !ok || v != want[name] {
			t.Errorf("%s: got %q (set: %v), want %q", name, v, ok, want[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[name]; !ok {
			t.Errorf("%s=%q is too much", name, got[name])
		}
	}
}

// byTask is what the supervisor sets, by task; ours is what Slurm has not.
var byTask = []string{"SLURM_PROCID", "SLURM_LOCALID", "SLURM_GTIDS", "SLURM_TASK_PID", "SLURM_NODEID"}
var ours = []string{"ENVIRONMENT", stepManagerVar}

// user is what sbatch and srun pass on of the user's environment.
var user = []string{"HOME=/home/alice", "LOGNAME=alice", "PWD=/home/alice/run", "SHELL=/bin/bash", "USER=alice",
	"SLURM_SUBMIT_DIR=/home/alice/run", "SLURM_SUBMIT_HOST=vm", "SLURM_PRIO_PROCESS=0"}

func facts(j *wlm.Job, cpus ...int) *envFacts {
	s := j.Spec
	s.User, s.Group, s.UserName, s.Account, s.QOS = 1001, 1001, "alice", "research", "normal"
	s.WorkDir, s.AllocNode = "/home/alice/run", "vm"
	j.Partition = "main"
	f := &envFacts{Job: j, Cluster: "peer", ConfPath: "/etc/slurm/slurm.conf", StepManager: "h:1"}
	for i, c := range cpus {
		f.Nodes = append(f.Nodes, steps.Node{Name: wlm.NodeName([]string{"n1", "n2"}[i]), CPUs: wlm.FullCPUSet(c)})
	}
	return f
}

func envjob() *envFacts {
	return facts(&wlm.Job{ID: 19, Start: 1795454153, End: 1795454453,
		Spec: &wlm.Spec{Name: "envjob", NTasks: 4, CPUsPerTask: 2, MemPerCPU: 50}}, 6, 2)
}

func TestBatchEnvironment(t *testing.T) {
	got := envjob().batchEnv("n1", user)
	compare(t, toMap(got, ours), golden(t, "env1.batch", byTask...))
}

func TestArrayEnvironment(t *testing.T) {
	for _, tt := range []struct {
		file       string
		id         wlm.JobID
		task       uint32
		start, end wlm.Time
	}{
		{"env2.array.3", 21, 3, 1795454162, 0},
		{"env2.array.5", 22, 5, 1795454162, 0},
		{"env2.array.7", 20, 7, 1795454165, 1826990165},
	} {
		f := facts(&wlm.Job{ID: tt.id, Start: tt.start, End: tt.end, ArrayJob: 20, ArrayTask: tt.task, ArrayCount: 3, ArrayMin: 3,
			ArrayMax: 7, ArrayStep: 2, Spec: &wlm.Spec{Name: "envarr", MemPerCPU: 100}}, 1)
		compare(t, toMap(f.batchEnv("n1", user), ours), golden(t, tt.file, byTask...))
	}
}

// srunOwn is what srun itself tells its tasks.
var srunOwn = []string{"SLURM_LAUNCH_NODE_IPADDR", "SLURM_SRUN_COMM_HOST", "SLURM_SRUN_COMM_PORT", "SLURM_STEP_LAUNCHER_PORT",
	"SRUN_DEBUG", "SLURM_UMASK"}

func TestStepEnvironment(t *testing.T) {
	not := append(slices.Clone(byTask), srunOwn...)
	t.Run("in a batch job", func(t *testing.T) {
		f := envjob()
		g, err := steps.New(f.Nodes, 4).Ask(1, steps.Request{MinNodes: 2, NTasks: 4, CPUsPerTask: 2, Relative: wlm.Unset}, false)
		if err != nil {
			t.Fatal(err)
		}
		srun := append(f.batchEnv("n1", user), f.stepFacts(g, "alice", true)...)
		for i, file := range []string{"env1.srun.0", "env1.srun.3"} {
			s := g.Shares[i]
			env := taskEnv(srun, f.Nodes[s.Index].Name, s.CPUs.Count(), nil)
			compare(t, toMap(env, ours), golden(t, file, not...))
		}
	})
	t.Run("of its own", func(t *testing.T) {
		f := facts(&wlm.Job{ID: 23, Start: 1795454171, Spec: &wlm.Spec{Name: "bash", MinNodes: 2}}, 1, 1)
		g, err := steps.New(f.Nodes, 0).Ask(1, steps.Request{MinNodes: 2, NTasks: 2, Relative: wlm.Unset}, false)
		if err != nil {
			t.Fatal(err)
		}
		srun := append(slices.Clone(user), f.stepFacts(g, "alice", false)...)
		for i, file := range []string{"env3.srun.0", "env3.srun.1"} {
			env := taskEnv(srun, f.Nodes[i].Name, 1, nil)
			compare(t, toMap(env, ours), golden(t, file, not...))
		}
	})
}
