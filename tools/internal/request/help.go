package request

import (
	"fmt"
	"strings"

	"github.com/sluice-hpc/sluice/tools/internal/getopt"
)

var usages = map[Command]string{
	Sbatch: `Usage: sbatch [-N nnodes] [-n ntasks]
              [-c ncpus] [-p partition] [--hold] [--parsable] [-t minutes]
              [-D path] [--no-kill] [--overcommit]
              [--input file] [--output file] [--error file]
              [--time-min=minutes] [--licenses=names] [--clusters=cluster_names]
              [--chdir=directory] [--oversubscribe] [-m dist] [-J jobname]
`,
	Salloc: `Usage: salloc [-N numnodes|[min nodes]-[max nodes]] [-n num-processors]
              [-c cpus-per-node] [-p partition] [--hold] [-t minutes]
              [--immediate[=secs]] [--no-kill] [--overcommit] [-D path]
              [--oversubscribe] [-J jobname]
              [--verbose] [--gid=group] [--uid=user] [--licenses=names]
              [--clusters=cluster_names]
`,
	Srun: `Usage: srun [-N nnodes] [-n ntasks] [-i in] [-o out] [-e err]
            [-c ncpus] [-r n] [-p partition] [--hold] [-t minutes]
            [-D path] [--immediate[=secs]] [--overcommit] [--overlap] [--no-kill]
            [--oversubscribe] [--label] [--unbuffered] [-m dist] [-J jobname]
            [--jobid=id] [--verbose] [--gres=list]
            [-T threads] [-W sec] [--gres-flags=opts]
`,
}

// Usage is the text of --usage.
func Usage(c Command) string { return usages[c] }

// Help is the text of --help.
func Help(c Command) string {
	var b strings.Builder
	b.WriteString(map[Command]string{
		Sbatch: "Usage: sbatch [OPTIONS...] script [args...]\n\n",
		Salloc: "Usage: salloc [OPTIONS...] [command [args...]]\n\n",
		Srun:   "Usage: srun [OPTIONS...] executable [args...]\n\n",
	}[c])
	b.WriteString("Options:\n")
	for i := range options {
		o := &options[i]
		if o.cmds&c == 0 || o.help == "" {
			continue
		}
		name, help := "--"+o.long, o.help
		arg, value := o.arg, o.value
		if o.long == "wait" {
			help = "seconds to wait after the first task ends before killing the job"
			if c == Sbatch {
				arg, help = getopt.None, "wait for completion of the submitted job"
			}
		}
		switch arg {
		case getopt.Required:
			name += "=" + value
		case getopt.Optional:
			if value != "" {
				name += "[=" + value + "]"
			}
		}
		letter := "    "
		if o.short != 0 {
			letter = "-" + string(rune(o.short)) + ", "
		}
		fmt.Fprintf(&b, "  %s%-23s %s\n", letter, name, help)
	}
	return b.String()
}
