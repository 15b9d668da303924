// Package dump writes records in the shape that Slurm 25.11 gives them in
// --json and --yaml (data_parser v0.0.44): the same keys in the same order.
//
// What Sluice has no word for (federations, burst buffers) is written as Slurm
// writes it where it is not used, so that readers of the format find every key.
// Left out is job_resources' map of every core of every node, allocated or not:
// it is most of Slurm's output, and the counts beside it say the same.
package dump

import (
	"os"

	"github.com/sluice-hpc/sluice/sdk/version"
	"github.com/sluice-hpc/sluice/tools/internal/structured"
	"github.com/sluice-hpc/sluice/tools/internal/users"
)

// Meta is what the trailer says about the call.
type Meta struct {
	Command []string
	Cluster string
	Names   *users.Names
}

// Trailer writes meta, errors and warnings.
func Trailer(w *structured.Writer, m Meta) {
	w.Object("meta")
	w.Object("plugin")
	w.Str("type", "")
	w.Str("name", "")
	w.Str("data_parser", "data_parser/v0.0.44")
	w.Str("accounting_storage", "accounting_storage/slurmdbd")
	w.End()
	w.Object("client")
	w.Str("source", "")
	w.Str("user", m.Names.User(users.Me()))
	w.Str("group", m.Names.Group(uint32(os.Getgid())))
	w.End()
	w.Strs("command", m.Command...)
	w.Object("slurm")
	w.Object("version")
	w.Str("major", "25")
	w.Str("micro", "7")
	w.Str("minor", "11")
	w.End()
	w.Str("release", version.Slurm)
	w.Str("cluster", m.Cluster)
	w.End()
	w.End()
	w.Strs("errors")
	w.Strs("warnings")
}
