package journal

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// Group is the voters of a journal and how they reach each other.
//
// The first member founds the group when its directory is empty; that takes the
// votes of most members, so a founder whose disk was lost gets none from those
// that have a journal, and is sent theirs. Every other member with an empty
// directory waits to be called by the leader.
type Group struct {
	Members []Member // all voters, this one among them
	// Accept yields connections of other voters, proven to be that.
	Accept net.Listener
	// Dial connects to another voter, and proves who calls.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
}

// Member is a voter: its name, which stays, and where it listens now.
type Member struct{ Name, Addr string }

const (
	peerConns   = 3                // kept for each voter
	peerTimeout = 10 * time.Second // for one message
	voteTimeout = 5 * time.Second  // for a change of the voters
)

// founder reports whether id is the member that starts a new group.
func (g *Group) founder(id string) bool { return len(g.Members) > 0 && g.Members[0].Name == id }

// voters is what a new journal begins with. Addresses are names: members look
// up where a name listens, so that a moved host needs no vote.
func (g *Group) voters(self string) raft.Configuration {
	if g == nil {
		return raft.Configuration{Servers: []raft.Server{{ID: raft.ServerID(self), Address: raft.ServerAddress(self)}}}
	}
	var c raft.Configuration
	for _, m := range g.Members {
		c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(m.Name), Address: raft.ServerAddress(m.Name)})
	}
	return c
}

func (g *Group) transport(self string, log hclog.Logger) raft.Transport {
	return raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{Stream: &streams{g.Accept, g, self},
		ServerAddressProvider: g, MaxPool: peerConns, Timeout: peerTimeout, Logger: log})
}

// ServerAddr implements raft.ServerAddressProvider.
func (g *Group) ServerAddr(id raft.ServerID) (raft.ServerAddress, error) {
	for _, m := range g.Members {
		if m.Name == string(id) {
			return raft.ServerAddress(m.Addr), nil
		}
	}
	return "", fmt.Errorf("SlurmctldHost names no %s", id)
}

// reconcile makes the members the voters: those that slurm.conf names anew are
// added, those that it names no longer are removed. What fails is tried again
// by the next leader.
func (g *Group) reconcile(r *raft.Raft) {
	have := r.GetConfiguration().Configuration().Servers
	for _, m := range g.Members {
		if !slices.ContainsFunc(have, func(s raft.Server) bool { return string(s.ID) == m.Name }) {
			r.AddVoter(raft.ServerID(m.Name), raft.ServerAddress(m.Name), 0, voteTimeout).Error() //nolint:errcheck // see above
		}
	}
	for _, s := range have {
		if !slices.ContainsFunc(g.Members, func(m Member) bool { return m.Name == string(s.ID) }) {
			r.RemoveServer(s.ID, 0, voteTimeout).Error() //nolint:errcheck // see above
		}
	}
}

// streams is raft.StreamLayer over a group's connections.
type streams struct {
	net.Listener
	group *Group
	self  string
}

// Dial implements raft.StreamLayer.
func (s *streams) Dial(addr raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return s.group.Dial(ctx, string(addr))
}

// Addr implements net.Listener: a voter's address is its name.
func (s *streams) Addr() net.Addr { return name(s.self) }

type name string

func (name) Network() string  { return "voter" }
func (n name) String() string { return string(n) }

func names(servers []raft.Server) string {
	var out []string
	for _, s := range servers {
		out = append(out, string(s.ID))
	}
	return strings.Join(out, ", ")
}
