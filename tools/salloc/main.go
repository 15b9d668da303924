// Command salloc gets an allocation and runs a command in it. Package
// tools/internal/salloc is the command; this is its process.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/sluice-hpc/sluice/tools/internal/salloc"
	"github.com/sluice-hpc/sluice/tools/internal/submit"
)

func main() {
	p, err := submit.OfOS()
	if err != nil {
		fmt.Fprintln(os.Stderr, "salloc: fatal: getcwd failed:", err)
		os.Exit(1)
	}
	os.Exit(salloc.Main(context.Background(), p))
}
