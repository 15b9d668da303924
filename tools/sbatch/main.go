// Command sbatch submits a batch script. Package tools/internal/sbatch is the
// command; this is its process.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/sluice-hpc/sluice/tools/internal/sbatch"
	"github.com/sluice-hpc/sluice/tools/internal/submit"
)

func main() {
	p, err := submit.OfOS()
	if err != nil {
		fmt.Fprintln(os.Stderr, "sbatch: fatal: getcwd failed:", err)
		os.Exit(1)
	}
	os.Exit(sbatch.Main(context.Background(), p)) // an interrupt ends the process, not the job
}
