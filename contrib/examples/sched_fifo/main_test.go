package main

import (
	"testing"

	"github.com/sluice-hpc/sluice/sdk/plugin/plugintest"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/sched/schedtest"
)

func TestConforms(t *testing.T) {
	schedtest.Run(t, func(*testing.T) sched.Scheduler { return fifo{} })
	schedtest.RunBinary(t, plugintest.Build(t, ".", "sched_fifo"), nil)
}
