// Package users turns user and group names into ids and back.
//
// Names are looked up in the system's databases; what the Go library does not
// find in files is asked of getent(1), which knows the site's directory
// service. Answers are kept for the life of the process. A [Names] is for one
// goroutine.
package users

import (
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
)

// Names remembers what was looked up.
type Names struct {
	users  map[uint32]string
	groups map[uint32]string
	ask    func(database, key string) string // a line of getent; empty: not there
}

// System looks names up in the system's databases.
func System() *Names { return &Names{ask: getent} }

// Fixed knows only the given users and groups; for tests.
func Fixed(users, groups map[uint32]string) *Names {
	return &Names{users: users, groups: groups, ask: func(string, string) string { return "" }}
}

func getent(database, key string) string {
	out, err := exec.Command("getent", database, key).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// User is the name of uid, or the number when it has none.
func (n *Names) User(uid uint32) string {
	if s, ok := n.users[uid]; ok {
		return s
	}
	key := strconv.FormatUint(uint64(uid), 10)
	name := key
	if u, err := user.LookupId(key); err == nil {
		name = u.Username
	} else if s, _, ok := strings.Cut(n.ask("passwd", key), ":"); ok {
		name = s
	}
	if n.users == nil {
		n.users = map[uint32]string{}
	}
	n.users[uid] = name
	return name
}

// Group is the name of gid, or the number when it has none.
func (n *Names) Group(gid uint32) string {
	if s, ok := n.groups[gid]; ok {
		return s
	}
	key := strconv.FormatUint(uint64(gid), 10)
	name := key
	if g, err := user.LookupGroupId(key); err == nil {
		name = g.Name
	} else if s, _, ok := strings.Cut(n.ask("group", key), ":"); ok {
		name = s
	}
	if n.groups == nil {
		n.groups = map[uint32]string{}
	}
	n.groups[gid] = name
	return name
}

// UID reads a user's number or name; ok is false when there is no such user.
func (n *Names) UID(s string) (uid uint32, ok bool) {
	for id, name := range n.users {
		if name == s {
			return id, true
		}
	}
	if id, err := strconv.ParseUint(s, 10, 32); err == nil {
		return uint32(id), true
	}
	if u, err := user.Lookup(s); err == nil {
		return number(u.Uid)
	}
	return field(n.ask("passwd", s), 2)
}

// GID reads a group's number or name; ok is false when there is no such group.
func (n *Names) GID(s string) (gid uint32, ok bool) {
	for id, name := range n.groups {
		if name == s {
			return id, true
		}
	}
	if id, err := strconv.ParseUint(s, 10, 32); err == nil {
		return uint32(id), true
	}
	if g, err := user.LookupGroup(s); err == nil {
		return number(g.Gid)
	}
	return field(n.ask("group", s), 2)
}

func field(line string, i int) (uint32, bool) {
	parts := strings.Split(line, ":")
	if i >= len(parts) {
		return 0, false
	}
	return number(parts[i])
}

func number(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil
}

// Me is the uid of this process.
func Me() uint32 { return uint32(os.Getuid()) }
