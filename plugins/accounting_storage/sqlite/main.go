// Command accounting_storage_sqlite is the plugin accounting_storage/sqlite: it
// keeps accounting records in a database file, without a server. The schema and
// the queries are those of acctsql; contrib/docs/reference/accounting.md is its manual.
//
// What it acknowledged is on disk: a batch is one transaction in SQLite's
// write-ahead log, synced before the answer (synchronous=full), so it survives
// kill -9 and loss of power; with synchronous=normal only the former. A batch
// that was not acknowledged is there whole or not at all, and is sent again.
//
// It fails to start when the file's directory is missing, or the file is not a
// database, or one of a newer release. A full disk fails Append until there is
// room; queries go on.
package main

import (
	"context"

	"github.com/sluice-hpc/sluice/sdk/acctstore"
	"github.com/sluice-hpc/sluice/sdk/plugin"
)

func main() {
	config := options{Synchronous: "full"}
	plugin.Serve(plugin.Plugin{
		Doc:     "keeps accounting records in a database file",
		Options: plugin.OptionsOf(&config),
		// Records wait in the controller's journal; submissions do not wait.
		Background: true,
		Store: func(o plugin.Options) (acctstore.Store, error) {
			if err := o.Decode(&config); err != nil {
				return nil, err
			}
			store, err := open(context.Background(), config)
			if err != nil {
				return nil, err
			}
			return store, nil
		},
	})
}
