package auth

import (
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"sync"
	"time"

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
