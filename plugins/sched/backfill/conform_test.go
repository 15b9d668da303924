package main

import (
	"testing"

	"github.com/sluice-hpc/sluice/sdk/plugin/plugintest"
	"github.com/sluice-hpc/sluice/sdk/sched/schedtest"
)

// The built program keeps the contract of its kind.
func TestConforms(t *testing.T) {
	schedtest.RunBinary(t, plugintest.Build(t, ".", "sched_backfill"), nil)
}
