package conf

import (
	"fmt"
	"io"
	"strings"

	"github.com/sluice-hpc/sluice/conf/slurmconf"
)

// Check loads the file at path and prints what is wrong or odd with it, one
// line each, and a summary. It returns the exit code of slurmctld -t: 0 when
// the daemons would start with the file, else 1.
func Check(path string, w io.Writer) int {
	c, warnings, err := Load(path)
	for _, warning := range warnings {
		fmt.Fprintf(w, "warning: %s\n", warning.Error())
	}
	if err != nil {
		ps := problems(err)
		for _, p := range ps {
			fmt.Fprintf(w, "error: %s\n", p.Error())
		}
		fmt.Fprintf(w, "%s: %d errors, %d warnings\n", path, len(ps), len(warnings))
		return 1
	}
	if len(c.Idle) > 0 {
		fmt.Fprintf(w, "note: accepted, and without effect: %s\n", strings.Join(c.Idle, ", "))
	}
	fmt.Fprintf(w, "%s: cluster %s, %d nodes, %d partitions: no errors, %d warnings\n",
		path, c.ClusterName, len(c.Nodes), len(c.Partitions), len(warnings))
	return 0
}

func problems(err error) slurmconf.Problems {
	if ps, ok := err.(slurmconf.Problems); ok {
		return ps
	}
	return slurmconf.Problems{{Text: err.Error()}}
}
