// Command scancel cancels or signals jobs and steps.
package main

import (
	"github.com/sluice-hpc/sluice/tools/internal/command"
	"github.com/sluice-hpc/sluice/tools/internal/scancel"
)

func main() { command.Main(scancel.New()) }
