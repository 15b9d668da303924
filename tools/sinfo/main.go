// Command sinfo shows nodes and partitions.
package main

import (
	"github.com/sluice-hpc/sluice/tools/internal/command"
	"github.com/sluice-hpc/sluice/tools/internal/sinfo"
)

func main() { command.Main(sinfo.New()) }
