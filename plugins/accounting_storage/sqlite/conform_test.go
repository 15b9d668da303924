package main

import (
	"path/filepath"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/acctstore/acctstoretest"
	"github.com/sluice-hpc/sluice/sdk/plugin/plugintest"
)

// The built program keeps the contract of its kind.
func TestConforms(t *testing.T) {
	acctstoretest.RunBinary(t, plugintest.Build(t, ".", "accounting_storage_sqlite"), func(t *testing.T) map[string]string {
		return map[string]string{"path": filepath.Join(t.TempDir(), "acct.db")}
	})
}
