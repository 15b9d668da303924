package shepherd

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// threadGroups sets the supplementary groups of the calling thread alone,
// where the library's call would set those of the whole process.
func threadGroups(gids []uint32) error {
	var p unsafe.Pointer
	if len(gids) > 0 {
		p = unsafe.Pointer(&gids[0])
	}
	if _, _, e := syscall.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(gids)), uintptr(p), 0); e != 0 {
		return e
	}
	return nil
}
