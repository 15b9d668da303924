// Command scontrol shows and changes the cluster's records.
package main

import (
	"github.com/sluice-hpc/sluice/tools/internal/command"
	"github.com/sluice-hpc/sluice/tools/internal/scontrol"
)

func main() { command.Main(scontrol.New()) }
