package request

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// StepManager is the variable that tells srun where the step manager of its
// job is: host:port of the job's first node.
const StepManager = "SLUICE_STEP_MANAGER"

// Environ is an environment under construction: an ordered set of variables.
type Environ struct {
	list []string
	at   map[string]int
}

// NewEnviron starts from NAME=value entries; the last of a name counts.
func NewEnviron(entries []string) *Environ {
	e := &Environ{at: make(map[string]int, len(entries))}
	for _, s := range entries {
		name, value, ok := strings.Cut(s, "=")
		if ok && name != "" {
			e.Set(name, value)
		}
	}
	return e
}

// Set adds or replaces a variable.
func (e *Environ) Set(name, value string) {
	if i, ok := e.at[name]; ok {
		e.list[i] = name + "=" + value
		return
	}
	e.at[name] = len(e.list)
	e.list = append(e.list, name+"="+value)
}

// SetNumber is Set for a number.
func (e *Environ) SetNumber(name string, n uint64) { e.Set(name, strconv.FormatUint(n, 10)) }

// Get returns a variable.
func (e *Environ) Get(name string) (string, bool) {
	i, ok := e.at[name]
	if !ok {
		return "", false
	}
	return e.list[i][len(name)+1:], true
}

// Keep drops the variables that keep does not want.
func (e *Environ) Keep(keep func(name string) bool) {
	old := e.list
	e.list, e.at = nil, make(map[string]int, len(old))
	for _, s := range old {
		if name, value, _ := strings.Cut(s, "="); keep(name) {
			e.Set(name, value)
		}
	}
}

// List returns the entries in order. The caller must not change them.
func (e *Environ) List() []string { return e.list }

// jobFacts are the variables, by prefix, that tell about one job or step.
var jobFacts = []string{"SLURM_JOB_", "SLURM_JOBID", "SLURM_NODELIST", "SLURM_NNODES", "SLURM_STEP", "SLURM_ARRAY_",
	"SLURM_HET_", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_GTIDS", "SLURM_TASK_PID",
	"SLURM_TASKS_PER_NODE", "SLURM_CPUS_", "SLURM_NTASKS", "SLURM_NPROCS", "SLURM_MEM_PER_", "SLURM_TRES_PER_TASK",
	"SLURM_GPUS", "SLURM_DIST", "SLURM_LAUNCH_NODE_IPADDR", "SLURM_SRUN_COMM_", "SLURM_TOPOLOGY_", "SLURM_RESTART_COUNT",
	"SLURM_OOM_KILL_STEP", "SLURM_PRIO_PROCESS", "SLURM_SUBMIT_", "SLURM_CPU_BIND", "SLURM_EXPORT_ENV", "SLURM_OVERCOMMIT",
	"SLURM_THREADS_PER_CORE", "SLURMD_NODENAME", "SLURM_LABELIO", "SLURM_UMASK", "SLURM_PTY_", StepManager}

// dropJobFacts removes what an enclosing job told, which is wrong for another
// job.
func (e *Environ) dropJobFacts() {
	if _, inside := e.Get("SLURM_JOB_ID"); !inside {
		return
	}
	e.Keep(func(name string) bool {
		return !slices.ContainsFunc(jobFacts, func(p string) bool { return strings.HasPrefix(name, p) })
	})
}

// ours reports whether --export always lets a variable through.
func ours(name string) bool {
	return strings.HasPrefix(name, "SLURM_") || strings.HasPrefix(name, "SPANK_") || strings.HasPrefix(name, "SLUICE_")
}

// Export applies --export to e: ALL, NONE, NIL, or a list of names and
// assignments, which with ALL among them adds to the whole environment.
func (e *Environ) Export(how string) {
	switch strings.ToUpper(how) {
	case "", "ALL":
		return
	case "NONE", "NIL":
		e.Keep(ours)
		return
	}
	var keep []string
	everything := false
	set := map[string]string{}
	var order []string
	for _, w := range splitQuoted(how) {
		name, value, assigned := strings.Cut(w, "=")
		switch {
		case strings.EqualFold(w, "ALL"):
			everything = true
		case assigned:
			set[name] = value
			order = append(order, name)
		default:
			keep = append(keep, name)
		}
	}
	if !everything {
		e.Keep(func(n string) bool { return ours(n) || slices.Contains(keep, n) })
	}
	for _, n := range order {
		e.Set(n, set[n])
	}
}

// splitQuoted cuts at commas outside of quotes, and drops the quotes.
func splitQuoted(s string) []string {
	var out []string
	var word strings.Builder
	quote := byte(0)
	for i := range len(s) {
		switch c := s[i]; {
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		case quote == 0 && c == ',':
			out = append(out, word.String())
			word.Reset()
		default:
			word.WriteByte(c)
		}
	}
	return append(out, word.String())
}

// ReadExportFile reads NAME=value entries, each ended by a NUL, from a file or
// an open descriptor.
func ReadExportFile(name string) ([]string, error) {
	var b []byte
	var err error
	if fd, aerr := strconv.Atoi(name); aerr == nil && fd > 2 {
		f := os.NewFile(uintptr(fd), "fd "+name)
		if f == nil {
			return nil, mistakef(exitMistake, "Could not open user environment file %s", name)
		}
		b, err = readAll(f)
	} else {
		b, err = os.ReadFile(name)
	}
	if err != nil {
		m := mistakef(exitMistake, "Could not open user environment file %s", name)
		m.Hint = name + ": " + errText(err)
		return nil, m
	}
	var out []string
	for e := range strings.SplitSeq(string(b), "\x00") {
		if e = strings.TrimLeft(e, "\n"); strings.Contains(e, "=") {
			out = append(out, e)
		}
	}
	return out, nil
}

// JobEnviron is the environment that travels with a job: what --export lets
// through of environ, and what Slurm tells about the request.
func (r *Request) JobEnviron(environ []string) (*Environ, error) {
	e := NewEnviron(environ)
	e.dropJobFacts()
	if r.Batch.ExportFile != "" {
		entries, err := ReadExportFile(r.Batch.ExportFile)
		if err != nil {
			return nil, err
		}
		e.Keep(ours)
		for _, s := range entries {
			name, value, _ := strings.Cut(s, "=")
			e.Set(name, value)
		}
	} else {
		e.Export(r.Spec.ExportEnv)
	}
	if how := strings.ToUpper(r.Spec.ExportEnv); how != "" {
		e.Set("SLURM_EXPORT_ENV", r.Spec.ExportEnv)
	}
	if r.GetUserEnv || strings.EqualFold(r.Spec.ExportEnv, "NONE") || r.onlyNames() {
		e.Set("SLURM_GET_USER_ENV", "1")
	}
	e.Set("SLURM_SUBMIT_DIR", r.cwd)
	e.Set("SLURM_SUBMIT_HOST", Hostname())
	e.Set("SLURM_JOB_NAME", r.Spec.Name)
	e.Set("SLURM_PRIO_PROCESS", strconv.Itoa(niceness()))
	r.Echo(e)
	return e, nil
}

// onlyNames: --export gives a list without ALL, so that the rest comes from
// the login environment.
func (r *Request) onlyNames() bool {
	how := strings.ToUpper(r.Spec.ExportEnv)
	return r.Command == Sbatch && how != "" && how != "ALL" && how != "NIL" && !slices.Contains(splitQuoted(how), "ALL")
}

// Echo sets the variables that repeat the request.
func (r *Request) Echo(e *Environ) {
	s := &r.Spec
	num := func(name string, n uint32) {
		if n != 0 {
			e.SetNumber(name, uint64(n))
		}
	}
	str := func(name, v string) {
		if v != "" {
			e.Set(name, v)
		}
	}
	if r.given["ntasks"] != Nowhere || r.Command != Srun && s.NTasks != 0 {
		num("SLURM_NTASKS", s.NTasks)
		num("SLURM_NPROCS", s.NTasks)
	}
	num("SLURM_NTASKS_PER_NODE", s.TasksPerNode)
	num("SLURM_NTASKS_PER_CORE", s.TasksPerCore)
	num("SLURM_NTASKS_PER_SOCKET", s.TasksPerSocket)
	num("SLURM_NTASKS_PER_GPU", s.TasksPerGPU)
	num("SLURM_CPUS_PER_TASK", s.CPUsPerTask)
	num("SLURM_CPUS_PER_GPU", s.CPUsPerGPU)
	num("SLURM_MEM_PER_CPU", uint32(s.MemPerCPU))
	num("SLURM_MEM_PER_GPU", uint32(s.MemPerGPU))
	if r.given["mem"] != Nowhere && s.MemPerCPU == 0 && s.MemPerGPU == 0 {
		e.SetNumber("SLURM_MEM_PER_NODE", uint64(s.MemPerNode))
	}
	num("SLURM_THREADS_PER_CORE", s.ThreadsPerCore)
	var tres []string
	if s.CPUsPerTask != 0 {
		tres = append(tres, fmt.Sprintf("cpu=%d", s.CPUsPerTask))
	}
	if s.TresPerTask != "" {
		tres = append(tres, s.TresPerTask)
	}
	str("SLURM_TRES_PER_TASK", strings.Join(tres, ","))
	for _, o := range [][2]string{{"gpus", "SLURM_GPUS"}, {"gpus-per-node", "SLURM_GPUS_PER_NODE"},
		{"gpus-per-socket", "SLURM_GPUS_PER_SOCKET"}, {"gpus-per-task", "SLURM_GPUS_PER_TASK"},
		{"gpu-bind", "SLURM_GPU_BIND"}, {"gpu-freq", "SLURM_GPU_FREQ"}, {"tres-bind", "SLURM_TRES_BIND"}} {
		str(o[1], r.raw[o[0]])
	}
	dist, plane, _ := strings.Cut(s.Distribution, "plane=")
	if plane != "" {
		dist = "plane"
		e.Set("SLURM_DIST_PLANESIZE", plane)
	}
	str("SLURM_DISTRIBUTION", dist)
	if s.Overcommit {
		e.Set("SLURM_OVERCOMMIT", "1")
	}
	str("SLURM_PROFILE", s.Profile)
	str("SLURM_NETWORK", s.Network)
	str("SLURM_HINT", s.Hint)
	str("SLURM_ACCTG_FREQ", s.AcctFreq)
	str("SLURM_WCKEY", s.WCKey)
	str("SLURM_CONTAINER", s.Container)
	if r.Command != Salloc {
		oom := "0"
		if s.OOMKill == wlm.Yes {
			oom = "1"
		}
		e.Set("SLURM_OOM_KILL_STEP", oom)
	}
	memBind := map[Command]string{Sbatch: "SBATCH_MEM_BIND"}[r.Command]
	if memBind == "" {
		memBind = "SLURM_MEM_BIND"
	}
	str(memBind, s.MemBind)
}

// CommandName is the default name of a job that runs a command.
func CommandName(command string) string { return filepath.Base(command) }

// Umask is the mask that the work gets.
func (r *Request) Umask() uint32 {
	if r.given["umask"] != Nowhere {
		return r.Spec.Umask
	}
	return umask()
}
