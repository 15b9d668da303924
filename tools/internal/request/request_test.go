package request

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/getopt"
)

// parse reads a command line in an environment, both as words.
func parse(c Command, env, line string) (*Request, error) {
	vars := map[string]string{}
	for _, e := range strings.Fields(env) {
		n, v, _ := strings.Cut(e, "=")
		vars[n] = v
	}
	return Parse(c, Context{Env: func(n string) (string, bool) { v, ok := vars[n]; return v, ok },
		Now: time.Unix(1_800_000_000, 0), Cwd: "/home/u", Args: strings.Fields(line)}, nil)
}

// sample is a value that each option takes.
var sample = map[string]string{"acctg-freq": "task=30", "array": "1-3", "begin": "now", "cpu-bind": "cores", "cpu_bind": "none",
	"cpu-freq": "low-high", "deadline": "now+60", "delay-boot": "5", "dependency": "singleton", "distribution": "block", "exclusive": "user",
	"gpu-bind": "closest", "hint": "multithread", "kill-on-invalid-dep": "yes", "mail-type": "END", "mem": "1G", "mem-per-cpu": "1", "mem-per-gpu": "1",
	"mem-bind": "local", "nodes": "1-2", "open-mode": "append", "priority": "5", "profile": "task", "propagate": "NOFILE", "requeue": "expedite",
	"signal": "TERM@10", "switches": "1@5", "time": "5", "time-min": "5", "tmp": "1", "no-kill": "off", "het-group": "0", "pack-group": "0",
	"nodefile": "/dev/null", "uid": "0", "gid": "0", "kill-command": "TERM", "tres-per-task": "cpu=2"}

// refused are the options that cannot be left out in silence, with their reason.
var refused = map[string]string{"bb": "is not supported", "bbf": "is not supported", "container": "is not supported",
	"container-id": "is not supported", "no-allocate": "must specify a node list"}

// Every option is read from the command line by each command that has it.
func TestEveryOptionIsAccepted(t *testing.T) {
	for _, c := range []Command{Sbatch, Salloc, Srun} {
		for _, o := range table(c) {
			if o.Long == "uid" || o.Long == "gid" {
				continue // root only
			}
			word := "--" + o.Long
			if o.Arg != getopt.None {
				v, ok := sample[o.Long]
				if !ok {
					v = "1"
				}
				word += "=" + v
			}
			_, err := parse(c, "", word+" cmd")
			if why, ok := refused[o.Long]; ok {
				if err == nil || !strings.Contains(err.Error(), why) {
					t.Errorf("%v %s: %v", c, word, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%v %s: %v", c, word, err)
			}
		}
	}
}

// Every variable names an option that its command has.
func TestVariablesNameOptions(t *testing.T) {
	for c, list := range variables {
		for _, v := range list {
			i, ok := names()[v.option]
			if !ok || v.option != "switch-wait" && options[i].cmds&c == 0 {
				t.Errorf("%v: %s stands for --%s, which it does not have", c, v.name, v.option)
			}
		}
	}
}

func TestSources(t *testing.T) {
	tests := []struct {
		name  string
		c     Command
		env   string
		line  string
		check func(*Request) bool
	}{
		{"the line beats the environment", Srun, "SLURM_NTASKS=4", "-n2 x", func(r *Request) bool { return r.Spec.NTasks == 2 && r.Given("ntasks") == FromCommand }},
		{"SLURM_NTASKS beats SLURM_NPROCS", Srun, "SLURM_NPROCS=3 SLURM_NTASKS=4", "x", func(r *Request) bool { return r.Spec.NTasks == 4 }},
		{"memory of the line beats memory of the job", Srun, "SLURM_MEM_PER_NODE=100", "--mem-per-cpu=5 x", func(r *Request) bool { return r.Spec.MemPerCPU == 5 && r.Spec.MemPerNode == 0 }},
		{"tasks of each node beat tasks of the job", Srun, "SLURM_NTASKS=4", "-N2 --ntasks-per-node=3 x", func(r *Request) bool { return r.Spec.NTasks == 6 }},
		{"more nodes than tasks", Sbatch, "", "-N4 -n2 x", func(r *Request) bool { return r.Spec.MinNodes == 2 && len(r.Warnings) == 1 }},
		{"tasks follow from nodes", Sbatch, "", "-N2 --ntasks-per-node=3 x", func(r *Request) bool { return r.Spec.NTasks == 6 }},
		{"CPUs of a task through TRES", Srun, "SLURM_TRES_PER_TASK=cpu=4", "x", func(r *Request) bool { return r.Spec.CPUsPerTask == 4 }},
		{"CPUs of the line beat TRES of the job", Srun, "SLURM_TRES_PER_TASK=cpu=4", "-c2 x", func(r *Request) bool { return r.Spec.CPUsPerTask == 2 }},
		{"exclusive by variable", Sbatch, "SBATCH_EXCLUSIVE=1", "x", func(r *Request) bool { return r.Spec.Share == wlm.ShareNever }},
		{"a step with exact CPUs", Srun, "", "--exclusive x", func(r *Request) bool { return r.Step.Exact }},
		{"all memory", Sbatch, "", "--mem=0 x", func(r *Request) bool { return r.Spec.MemAll }},
		{"wait by variable", Sbatch, "SBATCH_WAIT=1", "x", func(r *Request) bool { return r.Batch.Wait }},
		{"the wait for switches", Sbatch, "SBATCH_WAIT4SWITCH=5:00", "--switches=2 x", func(r *Request) bool { return r.Spec.Switches == 2 && r.Spec.SwitchWait == 300 }},
		{"planes", Srun, "SLURM_DISTRIBUTION=plane SLURM_DIST_PLANESIZE=4", "x", func(r *Request) bool { return r.Spec.Distribution == "plane=4" }},
		{"kinds of GPUs", Sbatch, "", "--gpus=tesla:2,kepler:1 x", func(r *Request) bool { return r.Spec.TresPerJob == "gres/gpu:tesla:2,gres/gpu:kepler:1" }},
		{"umask", Sbatch, "SLURM_UMASK=0027", "x", func(r *Request) bool { return r.Umask() == 0o27 }},
		{"the job that srun is in", Srun, "SLURM_JOB_ID=7", "x", func(r *Request) bool { return r.Step.Job == 7 }},
		{"a colon of the command's own", Srun, "", "x : y", func(r *Request) bool { return slices.Equal(r.Args, []string{"x", ":", "y"}) }},
		{"a release of requeueing", Sbatch, "SBATCH_REQUEUE=1", "--no-requeue x", func(r *Request) bool { return r.Spec.Requeue == wlm.No }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := parse(tt.c, tt.env, tt.line)
			if err != nil {
				t.Fatal(err)
			}
			if !tt.check(r) {
				t.Errorf("request %+v", r)
			}
		})
	}
}

func TestHeterogeneousJobsAreRefused(t *testing.T) {
	_, err := parse(Sbatch, "", "-n1 : -n2 x")
	if _, ok := errors.AsType[*Mistake](err); !ok {
		t.Errorf("error %v", err)
	}
}

func TestExport(t *testing.T) {
	tests := []struct{ how, want string }{
		{"", "A=1 B=2 SLURM_X=3"},
		{"ALL", "A=1 B=2 SLURM_X=3"},
		{"NONE", "SLURM_X=3"},
		{"nil", "SLURM_X=3"},
		{"B", "B=2 SLURM_X=3"},
		{"A=9,C=8", "SLURM_X=3 A=9 C=8"},
		{"ALL,A=9", "A=9 B=2 SLURM_X=3"},
		{`C="x,y"`, "SLURM_X=3 C=x,y"},
	}
	for _, tt := range tests {
		t.Run(tt.how, func(t *testing.T) {
			e := NewEnviron([]string{"A=1", "B=2", "SLURM_X=3"})
			e.Export(tt.how)
			if got := strings.Join(e.List(), " "); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestPropagatedLimits(t *testing.T) {
	names := func(r *Request, conf, except string) string {
		var out []string
		for _, l := range r.Limits(conf, except) {
			out = append(out, l.Name)
		}
		return strings.Join(out, ",")
	}
	everything := strings.Join(limitNames, ",")
	tests := []struct{ option, conf, except, want string }{
		{"", "", "", everything},
		{"", "NONE", "", ""},
		{"", "NOFILE,CORE", "", "CORE,NOFILE"},
		{"", "", "MEMLOCK,STACK", "AS,CORE,CPU,DATA,FSIZE,NOFILE,NPROC,RSS"},
		{"ALL", "NONE", "", everything},
		{"NOFILE", "NONE", "", "NOFILE"},
		{"NONE", "", "", ""},
	}
	for _, tt := range tests {
		if got := names(&Request{Propagate: tt.option}, tt.conf, tt.except); got != tt.want {
			t.Errorf("%+v: got %s", tt, got)
		}
	}
}

func TestHelpNamesEveryDocumentedOption(t *testing.T) {
	for _, c := range []Command{Sbatch, Salloc, Srun} {
		if h := Help(c); !strings.Contains(h, "-n, --ntasks=ntasks") || Usage(c) == "" {
			t.Errorf("%v:\n%s", c, h)
		}
	}
}

// Whatever a script says, the answer is a request or an error that says what
// to print.
func FuzzDirectives(f *testing.F) {
	f.Add("#!/bin/sh\n#SBATCH -n 2 -J \"a b\" # c\ntrue\n")
	f.Add("#SBATCH --mem=1 --array=1-9%2 'x\n")
	f.Add("#SBATCH -N 1-\\\n")
	f.Fuzz(func(t *testing.T, script string) {
		ctx := Context{Env: func(string) (string, bool) { return "", false }, Now: time.Unix(1_800_000_000, 0), Cwd: "/"}
		r, err := Parse(Sbatch, ctx, func(*Request) ([]byte, error) { return []byte(script), nil })
		if err != nil {
			m, ok := errors.AsType[*Mistake](err)
			if ok && m.Exit == 0 || !ok && errs.CodeOf(err) == 0 {
				t.Errorf("%q: %T %v", script, err, err)
			}
			return
		}
		if r.Spec.MaxNodes != 0 && r.Spec.MaxNodes < r.Spec.MinNodes {
			t.Errorf("%q: nodes %d-%d", script, r.Spec.MinNodes, r.Spec.MaxNodes)
		}
	})
}
