// Package clienttest serves a pretended cluster in the test's own process:
// a token socket and the three services on loopback, for tests of clients.
package clienttest

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluice-hpc/sluice/sdk/client"
	"github.com/sluice-hpc/sluice/sdk/proto/acct/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/wire"
	"google.golang.org/grpc"
)

// Token is the token that the pretended daemon gives out.
const Token = "token-of-the-test"

// Services are what a cluster serves; a nil one is not served.
type Services struct {
	Controller ctlv1.ControllerServer
	Accounting acctv1.AccountingServer
	Node       nodev1.NodeAPIServer
}

// Cluster is a served cluster.
type Cluster struct {
	Addr   string // host:port of all services
	Socket string // of the token daemon
	Conf   string // a slurm.conf that names both
}

// Serve starts a cluster that ends with the test.
func Serve(t testing.TB, s Services) *Cluster {
	t.Helper()
	dir, err := os.MkdirTemp("", "sluice") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &Cluster{Addr: l.Addr().String(), Socket: filepath.Join(dir, "sock"), Conf: filepath.Join(dir, "slurm.conf")}
	c.start(t, l, s)
	host, port, _ := net.SplitHostPort(c.Addr)
	conf := "ClusterName=test\nSlurmctldHost=" + host + "\nSlurmctldPort=" + port +
		"\nAuthInfo=socket=" + c.Socket + "\nMessageTimeout=2\n"
	if err := os.WriteFile(c.Conf, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

// Target is what a client opens.
func (c *Cluster) Target() client.Target {
	return client.Target{Cluster: "test", Controllers: []string{c.Addr}, Socket: c.Socket, Timeout: 2 * time.Second}
}

func (c *Cluster) start(t testing.TB, l net.Listener, s Services) {
	srv := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
		r, err := h(ctx, req)
		return r, wire.ErrorToStatus(err)
	}), grpc.StreamInterceptor(func(s any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
		return wire.ErrorToStatus(h(s, ss))
	}))
	if s.Controller != nil {
		ctlv1.RegisterControllerServer(srv, s.Controller)
	}
	if s.Accounting != nil {
		acctv1.RegisterAccountingServer(srv, s.Accounting)
	}
	if s.Node != nil {
		nodev1.RegisterNodeAPIServer(srv, s.Node)
	}
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(l) }() //nolint:errcheck // ends by Stop
	tok, err := net.Listen("unix", c.Socket)
	if err != nil {
		t.Fatal(err)
	}
	tokDone := make(chan struct{})
	go func() { defer close(tokDone); serveTokens(tok, c.Addr) }()
	t.Cleanup(func() {
		srv.Stop()
		tok.Close()
		<-done
		<-tokDone
	})
}

func serveTokens(l net.Listener, addr string) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		b, _ := json.Marshal(client.Identity{Token: Token, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), User: "tester",
			Cluster: "test", Controllers: []string{addr}, Expires: time.Now().Add(time.Hour).Unix()})
		conn.Write(append(b, '\n')) //nolint:errcheck // the client may be gone
		conn.Close()
	}
}
