package auth

import (
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

const (
	nameLife = time.Minute // how long a name that was looked up is believed
	maxNames = 10000
)

// names remembers what the user database said.
type names struct {
	mu    sync.Mutex
	known map[uint32]named
}

type named struct {
	name  string
	until time.Time
}

func (n *names) get(id uint32, look func(string) string) string {
	n.mu.Lock()
	e, ok := n.known[id]
	n.mu.Unlock()
	now := time.Now()
	if ok && now.Before(e.until) {
		return e.name
	}
	name := look(strconv.FormatUint(uint64(id), 10))
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.known == nil || len(n.known) >= maxNames {
		n.known = map[uint32]named{}
	}
	n.known[id] = named{name, now.Add(nameLife)}
	return name
}

var users, groups names

// UserName is the name of a uid, or its number where it has none. Answers are
// believed for a minute.
func UserName(uid wlm.UID) string {
	return users.get(uint32(uid), func(id string) string {
		if u, err := user.LookupId(id); err == nil {
			return u.Username
		}
		return getent("passwd", id)
	})
}

// GroupName is the name of a gid, or its number where it has none.
func GroupName(gid wlm.GID) string {
	return groups.get(uint32(gid), func(id string) string {
		if g, err := user.LookupGroupId(id); err == nil {
			return g.Name
		}
		return getent("group", id)
	})
}

// getent asks the name services, which a static binary cannot do itself.
func getent(database, id string) string {
	out, err := exec.Command("getent", database, id).Output()
	if name, _, ok := strings.Cut(string(out), ":"); err == nil && ok && name != "" {
		return name
	}
	return id
}

// Account is an entry of the user database.
type Account struct {
	Name string
	UID  wlm.UID
	GID  wlm.GID // primary
}

// LookupUser finds an account by name or by number.
func LookupUser(name string) (Account, error) {
	u, err := user.Lookup(name)
	if err != nil {
		if _, nerr := strconv.ParseUint(name, 10, 32); nerr == nil {
			u, err = user.LookupId(name)
		}
	}
	if err == nil {
		uid, uerr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gerr := strconv.ParseUint(u.Gid, 10, 32)
		if uerr == nil && gerr == nil {
			return Account{u.Username, wlm.UID(uid), wlm.GID(gid)}, nil
		}
	}
	out, gerr := exec.Command("getent", "passwd", "--", name).Output()
	if f := strings.Split(strings.TrimSpace(string(out)), ":"); gerr == nil && len(f) >= 4 {
		uid, uerr := strconv.ParseUint(f[2], 10, 32)
		gid, gerr := strconv.ParseUint(f[3], 10, 32)
		if uerr == nil && gerr == nil {
			return Account{f[0], wlm.UID(uid), wlm.GID(gid)}, nil
		}
	}
	return Account{}, errs.Newf("auth.LookupUser", errs.NotFound, "no user is named %q here", name)
}

// Groups returns the groups of a user of that name, with the primary one gid.
// Nil means that the user database does not tell.
func Groups(name string, gid wlm.GID) []wlm.GID {
	var ids []string
	if u, err := user.Lookup(name); err == nil {
		ids, _ = u.GroupIds() //nolint:errcheck // nil is the answer then
	} else if out, err := exec.Command("getent", "initgroups", "--", name).Output(); err == nil {
		if f := strings.Fields(string(out)); len(f) > 1 {
			ids = f[1:]
		}
	}
	var out []wlm.GID
	for _, s := range ids {
		if n, err := strconv.ParseUint(s, 10, 32); err == nil {
			out = append(out, wlm.GID(n))
		}
	}
	if out != nil && !slices.Contains(out, gid) {
		out = append(out, gid)
	}
	return out
}
