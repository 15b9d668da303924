package acctstoretest

import (
	"testing"

	"github.com/sluice-hpc/sluice/sdk/acctstore"
	"github.com/sluice-hpc/sluice/sdk/plugin/plugintest"
)

// RunBinary runs the suite on a program. options returns, for each test, the
// options of a new, empty store.
func RunBinary(t *testing.T, path string, options func(t *testing.T) map[string]string) {
	t.Run("program", func(t *testing.T) { plugintest.Run(t, path, acctstore.Kind, options(t)) })
	Run(t, func(t *testing.T) acctstore.Store {
		return acctstore.NewClient(plugintest.Start(t, path, acctstore.Kind, options(t)))
	})
}
