// Package client speaks to the controllers, the accounting service and the
// node daemons of a cluster on behalf of one user.
//
// [Open] proves who the caller is: it connects to the Unix socket of a local
// daemon, which learns the caller's uid from the kernel and answers with a
// token. Every call carries the token; it is renewed before it expires.
//
// Controllers are tried in order. The one that serves is kept; a controller
// that cannot be reached, or that says it is in standby, makes the next one
// be tried, with growing, jittered pauses, until [Target.Timeout] has passed.
// A call whose outcome is unknown (the connection broke after it was sent) is
// repeated only when repeating is harmless: reads, and calls that carry an
// idempotency key or name the state they want.
//
// Errors are those of sdk/errs, with the kind, code and details that the
// server gave. When nobody answers, the code is errs.ControllerUnreachable
// and the details name every address tried and why it failed.
package client

import (
	"context"
	"io"
	"net"
	"strings"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/acct/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// TokenKey is the metadata key under which a call carries its token.
const TokenKey = "sluice-token"

const (
	defaultTimeout = 10 * time.Second // Slurm's MessageTimeout
	window         = 1 << 20          // bytes in flight; a fixed window saves the probes that size it
	maxMessage     = 64 << 20         // bytes; servers send chunks far below this
)

// Target says where a cluster is, as its configuration does.
type Target struct {
	Cluster     string
	Controllers []string      // host:port or unix:path, in order of preference; empty: those that the token names
	Socket      string        // of the local daemon that gives out tokens
	Timeout     time.Duration // how long to try; 0: 10 s
}

// An Option changes how [Open] works.
type Option func(*route)

// WithToken uses a token that was made elsewhere (scontrol token) instead of
// asking the local daemon. It is not renewed.
func WithToken(token string) Option {
	return func(r *route) { r.token.fixed = token }
}

// WithDialer replaces how addresses are dialled; tests use it.
func WithDialer(dial func(ctx context.Context, addr string) (net.Conn, error)) Option {
	return func(r *route) { r.dial = dial }
}

// Client is an open way to a cluster. Its methods may be called concurrently.
type Client struct {
	Controller ctlv1.ControllerClient
	Accounting acctv1.AccountingClient

	route *route
}

// Open gets a token. It does not dial yet: the first call does, so that a
// command that needs no answer does not wait for one.
func Open(ctx context.Context, t Target, opts ...Option) (*Client, error) {
	if t.Timeout <= 0 {
		t.Timeout = defaultTimeout
	}
	r := &route{addrs: t.Controllers, timeout: t.Timeout, dial: dial}
	r.token.socket = t.Socket
	for _, o := range opts {
		o(r)
	}
	if r.token.fixed == "" {
		id, err := r.token.renew(ctx, t.Timeout)
		if err != nil {
			return nil, err
		}
		if len(r.addrs) == 0 {
			r.addrs = id.Controllers
		}
	}
	if len(r.addrs) == 0 {
		return nil, errs.Coded("client.Open", errs.ControllerUnreachable, "no controller is configured")
	}
	return &Client{
		Controller: ctlv1.NewControllerClient(r),
		Accounting: acctv1.NewAccountingClient(r),
		route:      r,
	}, nil
}

// At returns a client of one controller alone, with this client's token: each
// call is tried once, for no longer than a part of the usual time. It is for
// asking every controller how it is.
func (c *Client) At(ctx context.Context, addr string) *Client {
	r := &route{addrs: []string{addr}, timeout: min(c.route.timeout, dialOne), dial: c.route.dial, single: true}
	r.token.fixed = c.route.token.get(ctx)
	return &Client{Controller: ctlv1.NewControllerClient(r), Accounting: acctv1.NewAccountingClient(r), route: r}
}

// Identity is who the local daemon says the caller is; zero with [WithToken].
func (c *Client) Identity() Identity { return c.route.token.identity() }

// Close drops the connections. Calls under way fail.
func (c *Client) Close() error { return c.route.close() }

// Node dials the node daemon at addr (host:port). The caller closes the
// connection. A daemon that does not answer within the target's timeout is an
// error of kind Unavail with code NodeNotResponding.
func (c *Client) Node(ctx context.Context, addr string) (nodev1.NodeAPIClient, io.Closer, error) {
	dctx, cancel := context.WithTimeout(ctx, c.route.timeout)
	defer cancel()
	conn, err := c.route.dial(dctx, addr)
	if err != nil {
		e := errs.Coded("client.Node", errs.NodeNotResponding, addr+": "+reason(err))
		return nil, nil, e
	}
	cc, err := newConn(addr, conn, c.route.dial)
	if err != nil {
		conn.Close()
		return nil, nil, errs.Newf("client.Node", errs.Internal, "%s: %v", addr, err)
	}
	return nodev1.NewNodeAPIClient(&direct{cc: cc, route: c.route}), cc, nil
}

// silence is how a peer that vanished without a word is noticed, in about
// three quarters of a minute.
var silence = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 6}

// dial connects to host:port or unix:path.
func dial(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: silence}
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		return d.DialContext(ctx, "unix", path)
	}
	return d.DialContext(ctx, "tcp", addr)
}

// newConn speaks gRPC over first, and dials again only if that breaks.
func newConn(addr string, first net.Conn, redial func(context.Context, string) (net.Conn, error)) (*grpc.ClientConn, error) {
	ready := make(chan net.Conn, 1)
	ready <- first
	cc, err := grpc.NewClient("passthrough:///"+addr,
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			select {
			case c := <-ready:
				return c, nil
			default:
				return redial(ctx, addr)
			}
		}),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithAuthority("sluice"),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableHealthCheck(),
		grpc.WithDisableRetry(),
		grpc.WithIdleTimeout(0),
		grpc.WithInitialWindowSize(window),
		grpc.WithInitialConnWindowSize(window),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
	)
	if err != nil {
		return nil, err
	}
	cc.Connect()
	return cc, nil
}
