package command

import (
	"runtime"
	"runtime/debug"
)

// firstCollection is the size, in percent of Go's least heap of 4 MiB, at which
// a lister's memory is first collected: 48 MiB, a little less than what Slurm's
// squeue takes for 10,000 jobs.
const firstCollection = 1200

// Lister is Main for a command that gathers a list, prints it and ends: one of
// usual length ends before its memory is worth collecting, which would be a third
// of its work. After the first collection Go's own pace holds.
func Lister(c *Command) {
	debug.SetGCPercent(firstCollection)
	sentinel := new([16]byte) // too large for the allocator of tiny values, which never ends
	runtime.AddCleanup(sentinel, func(percent int) { debug.SetGCPercent(percent) }, 100)
	Main(c)
}
