package main

import (
	"path/filepath"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/jobsubmit/jobsubmittest"
	"github.com/sluice-hpc/sluice/sdk/plugin/plugintest"
)

// The built program keeps the contract of its kind, whatever the script says.
func TestConforms(t *testing.T) {
	path := plugintest.Build(t, ".", "job_submit_lua")
	scripts, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, script := range []string{"require_time.lua", "policy.lua"} {
		t.Run(script, func(t *testing.T) {
			jobsubmittest.RunBinary(t, path, map[string]string{"script": filepath.Join(scripts, script)})
		})
	}
}
