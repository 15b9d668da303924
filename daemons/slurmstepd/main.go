// Command slurmstepd supervises one step. slurmd's launch plugin starts it,
// with the step on its standard input; see package stepd for the protocol.
package main

import (
	"os"

	"github.com/sluice-hpc/sluice/core/shepherd"
	"github.com/sluice-hpc/sluice/sdk/version"
)

func main() { os.Exit(shepherd.Main(os.Args[1:], version.Full())) }
