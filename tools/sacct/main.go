// Command sacct shows accounting of jobs and steps.
package main

import (
	"github.com/sluice-hpc/sluice/tools/internal/command"
	"github.com/sluice-hpc/sluice/tools/internal/sacct"
)

func main() { command.Main(sacct.New()) }
