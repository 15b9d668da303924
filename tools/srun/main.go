// Command srun runs a step. Package tools/internal/srun is the command; this
// is its process.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/sluice-hpc/sluice/tools/internal/srun"
	"github.com/sluice-hpc/sluice/tools/internal/submit"
)

func main() {
	p, err := submit.OfOS()
	if err != nil {
		fmt.Fprintln(os.Stderr, "srun: fatal: getcwd failed:", err)
		os.Exit(1)
	}
	os.Exit(srun.Main(context.Background(), p))
}
