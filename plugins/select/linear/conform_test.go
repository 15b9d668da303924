package main

import (
	"testing"

	"github.com/sluice-hpc/sluice/sdk/plugin/plugintest"
	"github.com/sluice-hpc/sluice/sdk/selector/selectortest"
)

// The built program keeps the contract of its kind.
func TestConforms(t *testing.T) {
	selectortest.RunBinary(t, plugintest.Build(t, ".", "select_linear"), nil)
}
