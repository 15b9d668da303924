// Command accounting_storage_none is the plugin accounting_storage/none: it
// acknowledges every record, keeps nothing, and answers every query with
// nothing. It cannot fail.
package main

import "github.com/sluice-hpc/sluice/sdk/plugin"

func main() { plugin.ServeStore(none{}) }
