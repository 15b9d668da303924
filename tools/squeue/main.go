// Command squeue shows the jobs and steps in the queue.
package main

import (
	"github.com/sluice-hpc/sluice/tools/internal/command"
	"github.com/sluice-hpc/sluice/tools/internal/squeue"
)

func main() { command.Lister(squeue.New()) }
