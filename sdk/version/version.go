// Package version says which release this is, and which release of Slurm it
// speaks like.
//
// Tools parse the line that --version prints and decide by it, so it starts
// as Slurm's does: "slurm 25.11.7".
package version

// Slurm is the release whose options, outputs and exit codes are followed.
const Slurm = "25.11.7"

// Sluice is this release; the build sets it with -ldflags -X.
var Sluice = "0.1.0"

// String is what --version prints, without the newline.
func String() string { return "slurm " + Full() }

// Full is the version as daemons report it: 25.11.7-sluice0.1.0.
func Full() string { return Slurm + "-sluice" + Sluice }
