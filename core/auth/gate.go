package auth

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/wire"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
)

// TokenKey is the metadata key under which a call carries its token.
const TokenKey = "sluice-token"

const (
	provenLife = time.Minute // how long a verified token is not looked at again
	maxProven  = 10000       // verified tokens remembered
	maxToken   = 16 << 10    // bytes
)

// Gate verifies the tokens of a server's calls. Its methods may be called
// concurrently.
type Gate struct {
	key       Key
	cluster   string
	slurmUser wlm.UID
	now       func() time.Time

	proven  sync.Map // token -> *proven
	count   atomic.Int32
	refused atomic.Uint64
}

type proven struct {
	id    Identity
	until int64 // Unix seconds
}

// NewGate returns the gate of a cluster's daemon. Root and slurmUser are
// administrators; others are what their token says.
func NewGate(key Key, cluster string, slurmUser wlm.UID) *Gate {
	return &Gate{key: key, cluster: cluster, slurmUser: slurmUser, now: time.Now}
}

// Refused is the number of calls that had no valid token.
func (g *Gate) Refused() uint64 { return g.refused.Load() }

// Identify proves who makes the call of ctx.
func (g *Gate) Identify(ctx context.Context) (*Identity, error) {
	v := metadata.ValueFromIncomingContext(ctx, TokenKey)
	if len(v) != 1 || len(v[0]) > maxToken {
		g.refused.Add(1)
		return nil, errs.Coded("auth.Gate", errs.InvalidAuth, "the call carries no token")
	}
	id, err := g.Verify(v[0])
	if err != nil {
		g.refused.Add(1)
	}
	return id, err
}

// Verify proves whom a token stands for. What it returns is shared.
func (g *Gate) Verify(token string) (*Identity, error) {
	now := g.now()
	if p, ok := g.proven.Load(token); ok {
		if p := p.(*proven); now.Unix() < p.until {
			return &p.id, nil
		}
		if g.proven.CompareAndDelete(token, p) {
			g.count.Add(-1)
		}
	}
	c, err := g.key.Verify(token, g.cluster, now)
	if err != nil {
		return nil, err
	}
	role, err := ParseRole(c.Role)
	if err != nil {
		return nil, errs.Coded("auth.Gate", errs.InvalidAuth, err.Error())
	}
	switch {
	case c.UID == 0:
		role = RoleRoot
	case c.UID == g.slurmUser:
		role = RoleSlurmUser
	}
	p := &proven{
		id:    Identity{UID: c.UID, GID: c.GID, User: c.User, GIDs: c.GIDs, Node: c.Node, Role: role},
		until: min(c.Expires, now.Add(provenLife).Unix()),
	}
	g.remember(token, p)
	return &p.id, nil
}

func (g *Gate) remember(token string, p *proven) {
	if g.count.Load() >= maxProven {
		g.proven.Clear()
		g.count.Store(0)
	}
	if _, had := g.proven.Swap(token, p); !had {
		g.count.Add(1)
	}
}

// Unary lets calls with a valid token in.
func (g *Gate) Unary() grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
		id, err := g.Identify(ctx)
		if err != nil {
			return nil, wire.ErrorToStatus(err)
		}
		return h(With(ctx, id), req)
	}
}

// Stream lets streams with a valid token in.
func (g *Gate) Stream() grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
		id, err := g.Identify(ss.Context())
		if err != nil {
			return wire.ErrorToStatus(err)
		}
		return h(srv, WithStream(ss, With(ss.Context(), id)))
	}
}

// WithStream returns ss with another context.
func WithStream(ss grpc.ServerStream, ctx context.Context) grpc.ServerStream {
	return &contextStream{ss, ctx}
}

type contextStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *contextStream) Context() context.Context { return s.ctx }

// daemonLife is how long a daemon's token is good; it is made anew well before.
const daemonLife = time.Hour

// daemonToken is the credentials of a daemon's calls.
type daemonToken struct {
	key    Key
	claims Claims
	now    func() time.Time

	mu    sync.Mutex
	token string
	until time.Time
}

// Daemon returns credentials with which a daemon calls another: a token with
// these claims on every call, made anew before it expires.
func Daemon(key Key, claims Claims) credentials.PerRPCCredentials {
	return &daemonToken{key: key, claims: claims, now: time.Now}
}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (d *daemonToken) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := d.now(); !now.Before(d.until) {
		t, err := d.key.mint(d.claims, now, daemonLife)
		if err != nil {
			return nil, err
		}
		d.token, d.until = t, now.Add(daemonLife/2)
	}
	return map[string]string{TokenKey: d.token}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials: a token
// may travel without TLS where the site has none.
func (d *daemonToken) RequireTransportSecurity() bool { return false }
