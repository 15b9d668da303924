// Command sluice does what Slurm has no word for: it starts a whole cluster
// on this machine, stops it, and shows what it can do.
package main

import (
	"os"

	"github.com/sluice-hpc/sluice/tools/internal/sluice"
)

func main() { os.Exit(sluice.Main(os.Args[1:], os.Stdout, os.Stderr)) }
