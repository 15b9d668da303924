package main

import (
	"testing"

	"github.com/sluice-hpc/sluice/sdk/plugin/plugintest"
	"github.com/sluice-hpc/sluice/sdk/priority/prioritytest"
)

// The built program keeps the contract of its kind.
func TestConforms(t *testing.T) {
	prioritytest.RunBinary(t, plugintest.Build(t, ".", "priority_multifactor"), nil)
}
