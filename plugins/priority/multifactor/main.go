package main

import "github.com/sluice-hpc/sluice/sdk/plugin"

func main() { plugin.ServePrioritizer(Multifactor{}) }
