package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"sync"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
)

const (
	renewBefore   = 30 * time.Second // a token with less left is replaced
	absentGrace   = time.Second      // a daemon that restarts makes its socket again within this
	maxTokenReply = 64 << 10         // bytes
)

// Identity is what a local daemon says to a process that connects to its
// token socket: one JSON line, then the connection ends.
type Identity struct {
	Token       string   `json:"token"`
	UID         uint32   `json:"uid"`
	GID         uint32   `json:"gid"`
	User        string   `json:"user"`
	Cluster     string   `json:"cluster"`
	Controllers []string `json:"controllers"` // host:port, in order of preference
	Expires     int64    `json:"expires"`     // Unix seconds; 0: never
}

// tokenSource keeps one token fresh.
type tokenSource struct {
	socket string
	fixed  string

	mu sync.Mutex
	id Identity
}

func (s *tokenSource) identity() Identity {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.id
}

// get returns a token that is good for a while. An expired token whose daemon
// cannot be asked is returned all the same: the server will say so better.
func (s *tokenSource) get(ctx context.Context) string {
	if s.fixed != "" {
		return s.fixed
	}
	id := s.identity()
	if id.Expires != 0 && time.Until(time.Unix(id.Expires, 0)) < renewBefore {
		if fresh, err := s.renew(ctx, time.Second); err == nil {
			return fresh.Token
		}
	}
	return id.Token
}

// renew asks the local daemon, again and again until it answers or timeout
// has passed.
func (s *tokenSource) renew(ctx context.Context, timeout time.Duration) (Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	start := time.Now()
	var wait backoff
	for {
		id, err := askToken(ctx, s.socket)
		if err == nil {
			s.mu.Lock()
			s.id = id
			s.mu.Unlock()
			return id, nil
		}
		absent := errors.Is(err, fs.ErrNotExist) && time.Since(start) > absentGrace
		if absent || errors.Is(err, fs.ErrPermission) || !wait.sleep(ctx) {
			return Identity{}, errs.Coded("client.Open", errs.ControllerUnreachable,
				fmt.Sprintf("no token from the local daemon at %s: %s", s.socket, reason(err)))
		}
	}
}

func askToken(ctx context.Context, socket string) (Identity, error) {
	if socket == "" {
		return Identity{}, fs.ErrNotExist
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return Identity{}, err
	}
	defer c.Close()
	if t, ok := ctx.Deadline(); ok {
		c.SetDeadline(t) //nolint:errcheck // a socket always takes a deadline
	}
	b, err := io.ReadAll(io.LimitReader(c, maxTokenReply))
	if err != nil {
		return Identity{}, err
	}
	var id Identity
	if err := json.NewDecoder(bytes.NewReader(b)).Decode(&id); err != nil {
		return Identity{}, fmt.Errorf("its answer is not a token: %w", err)
	}
	if id.Token == "" {
		return Identity{}, errors.New("its answer holds no token")
	}
	return id, nil
}
