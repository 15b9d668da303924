package pluginhost

import (
	"os/user"
	"strconv"
	"syscall"

	"github.com/sluice-hpc/sluice/sdk/errs"
)

// LookupUser returns what Spec.User needs to run plugins as the named user
// (PluginUser): its uid and gid, without supplementary groups.
func LookupUser(name string) (*syscall.Credential, error) {
	const op = "pluginhost.LookupUser"
	u, err := user.Lookup(name)
	if err != nil {
		if u, err = user.LookupId(name); err != nil {
			return nil, errs.Newf(op, errs.NotFound, "PluginUser=%s: there is no such user", name)
		}
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err1 != nil || err2 != nil {
		return nil, errs.Newf(op, errs.Internal, "PluginUser=%s has uid %q and gid %q", name, u.Uid, u.Gid)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), Groups: []uint32{}}, nil
}
