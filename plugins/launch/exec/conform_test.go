package main

import (
	"testing"

	"github.com/sluice-hpc/sluice/sdk/launch/launchtest"
	"github.com/sluice-hpc/sluice/sdk/plugin/plugintest"
)

// The built program keeps the contract of its kind.
func TestConforms(t *testing.T) {
	launchtest.RunBinary(t, launchtest.Options{}, plugintest.Build(t, ".", "launch_exec"), map[string]string{"stepd": stepdPath})
}
