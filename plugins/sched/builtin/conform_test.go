package main

import (
	"testing"

	"github.com/sluice-hpc/sluice/sdk/sched/schedtest"
	"github.com/sluice-hpc/sluice/sdk/plugin/plugintest"
)

// The built program keeps the contract of its kind.
func TestConforms(t *testing.T) {
	schedtest.RunBinary(t, plugintest.Build(t, ".", "sched_builtin"), nil)
}
