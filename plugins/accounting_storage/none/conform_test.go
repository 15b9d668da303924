package main

import (
	"testing"

	"github.com/sluice-hpc/sluice/sdk/acctstore"
	"github.com/sluice-hpc/sluice/sdk/plugin/plugintest"
)

// The built program keeps the contract of all plugins; that of stores is to
// keep records, which it does not.
func TestConforms(t *testing.T) {
	plugintest.Run(t, plugintest.Build(t, ".", "accounting_storage_none"), acctstore.Kind, nil)
}
