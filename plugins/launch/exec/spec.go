package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/sluice-hpc/sluice/sdk/proto/launch/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/wlm/v1"
	"github.com/sluice-hpc/sluice/sdk/stepd"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"golang.org/x/sys/unix"
)

// limitNumbers are the kernel's numbers of the limits that jobs carry.
var limitNumbers = map[string]int{
	"CPU": unix.RLIMIT_CPU, "FSIZE": unix.RLIMIT_FSIZE, "DATA": unix.RLIMIT_DATA, "STACK": unix.RLIMIT_STACK,
	"CORE": unix.RLIMIT_CORE, "RSS": unix.RLIMIT_RSS, "NPROC": unix.RLIMIT_NPROC, "NOFILE": unix.RLIMIT_NOFILE,
	"MEMLOCK": unix.RLIMIT_MEMLOCK, "AS": unix.RLIMIT_AS,
}

// specOf translates a request for the supervisor.
func specOf(r *launchv1.LaunchRequest) (*stepd.Spec, error) {
	w := r.GetWork()
	switch {
	case !filepath.IsAbs(r.GetStepDir()):
		return nil, fmt.Errorf("the step's directory %q is not an absolute path", r.GetStepDir())
	case len(r.GetTaskIds()) == 0:
		return nil, errors.New("the step has no tasks on this node")
	case os.Getuid() != 0 && int(r.GetUid()) != os.Getuid():
		return nil, fmt.Errorf("slurmd runs as user %d and cannot run tasks of user %d", os.Getuid(), r.GetUid())
	}
	s := &stepd.Spec{
		Dir: r.GetStepDir(), Node: r.GetNode(), Job: r.GetJob(), Step: r.GetStep(), Restarts: r.GetRestarts(),
		JobName: r.GetJobName(), ArrayJob: r.GetArrayJob(), ArrayID: r.GetArrayTask(),
		UID: r.GetUid(), GID: r.GetGid(), GIDs: r.GetGids(), User: r.GetUserName(),
		TaskIDs: r.GetTaskIds(), NTasks: r.GetNtasks(), NodeID: r.GetNodeId(), NNodes: r.GetNnodes(),
		Argv: w.GetArgv(), Env: w.GetEnv(), PerTaskEnv: r.GetPerTaskEnv(), Cwd: w.GetCwd(), Umask: w.GetUmask(),
		Nice: int(int32(w.GetNice())), Pty: w.GetPty(), Rows: uint16(w.GetRows()), Cols: uint16(w.GetCols()),
		Stdin: stream(w.GetStdin()), Stdout: stream(w.GetStdout()), Stderr: stream(w.GetStderr()),
		Limits: limits(w.GetLimits()), CPUs: boundCPUs(r), Cgroups: cgroups(r),
	}
	for _, t := range r.GetTasks() {
		s.Tasks = append(s.Tasks, stepd.TaskSettings{Env: t.GetEnv(), CPUs: slices.Collect(wlm.CPUSet(t.GetCpus()).All), Notes: t.GetNotes()})
	}
	if w.GetMultiProg() {
		s.MultiProg = w.GetMultiProgText()
	}
	if len(r.GetScript()) > 0 {
		s.Argv = []string{s.Dir + "/" + stepd.ScriptFile}
		if args := w.GetArgv(); len(args) > 1 {
			s.Argv = append(s.Argv, args[1:]...)
		}
	}
	return s, nil
}

func stream(m *launchv1.Stream) stepd.Stream {
	return stepd.Stream{Kind: stepd.StreamKind(m.GetKind()), Path: m.GetPath(), Append: m.GetAppend(), Task: m.GetTask()}
}

func limits(in []*wlmv1.RLimit) (out []stepd.Limit) {
	for _, m := range in {
		if n, ok := limitNumbers[m.GetName()]; ok {
			out = append(out, stepd.Limit{Resource: n, Soft: m.GetSoft(), Hard: max(m.GetSoft(), m.GetHard())})
		}
	}
	return out
}

// boundCPUs are the CPUs that tasks are bound to when cores are constrained.
// A node that is configured with more CPUs than it has binds nothing.
func boundCPUs(r *launchv1.LaunchRequest) (out []int) {
	if !r.GetConstrainCores() {
		return nil
	}
	if host := wlm.CPUSet(r.GetHostCpus()); host.Count() > 0 {
		return slices.Collect(host.All)
	}
	for c := range wlm.CPUSet(r.GetCpuSet()).All {
		if c >= runtime.NumCPU() {
			return nil
		}
		out = append(out, c)
	}
	return out
}
