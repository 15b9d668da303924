package main

import (
	"testing"

	"github.com/sluice-hpc/sluice/sdk/jobsubmit/jobsubmittest"
	"github.com/sluice-hpc/sluice/sdk/plugin/plugintest"
)

// The built program keeps the contract of its kind.
func TestConforms(t *testing.T) {
	jobsubmittest.RunBinary(t, plugintest.Build(t, ".", "job_submit_require_limit"), nil)
}
