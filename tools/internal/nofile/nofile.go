// Package nofile remembers the soft limit on open files that this process was
// started with.
//
// Package syscall raises that limit when it is initialized and keeps the old
// value to itself, but a job must get the limit that its user set. This
// package therefore imports nothing: packages are initialized in the order of
// their import paths as far as imports allow, so its turn comes first.
package nofile

var atStart [2]uint64

// ok is whether atStart was read.
var ok = read(&atStart)

// Soft returns the soft limit at the start; false where this build cannot tell.
func Soft() (uint64, bool) { return atStart[0], ok }
