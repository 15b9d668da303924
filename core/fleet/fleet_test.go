package fleet_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/sluice-hpc/sluice/core/auth"
	"github.com/sluice-hpc/sluice/core/fleet"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/wire"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
)

const patience = 20 * time.Second

// sink records what the fleet tells.
type sink struct {
	mu       sync.Mutex
	reports  []uint64
	batches  int
	block    chan struct{} // Reports waits for it when set
	register func(node wlm.NodeName) (*nodev1.Registered, error)
	gone     chan wlm.NodeName
}

func (s *sink) Register(_ context.Context, node wlm.NodeName, _ *nodev1.Register) (*nodev1.Registered, error) {
	if s.register != nil {
		return s.register(node)
	}
	return &nodev1.Registered{Accepted: true}, nil
}
func (s *sink) Heartbeat(wlm.NodeName, *nodev1.Heartbeat) {}
func (s *sink) Reports(ctx context.Context, _ wlm.NodeName, r []*nodev1.Report) error {
	if s.block != nil {
		select {
		case <-s.block:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batches++
	for _, x := range r {
		s.reports = append(s.reports, x.GetNumber())
	}
	return nil
}
func (s *sink) Disconnected(node wlm.NodeName) { s.gone <- node }

// serve runs a fleet whose callers are all of a role.
func serve(t *testing.T, s *sink, role auth.Role) (*fleet.Fleet, nodev1.FleetClient) {
	t.Helper()
	s.gone = make(chan wlm.NodeName, 100)
	f := fleet.New(s, slog.New(slog.DiscardHandler))
	f.SetTerm(3)
	l := bufconn.Listen(1 << 20)
	srv := grpc.NewServer(grpc.StreamInterceptor(func(v any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
		return h(v, auth.WithStream(ss, auth.With(ss.Context(), &auth.Identity{Role: role})))
	}))
	nodev1.RegisterFleetServer(srv, f)
	go srv.Serve(l)
	cc, err := grpc.NewClient("passthrough:bufnet", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close(); srv.Stop() })
	return f, nodev1.NewFleetClient(cc)
}

type link struct {
	t *testing.T
	grpc.BidiStreamingClient[nodev1.FromNode, nodev1.ToNode]
}

func connect(t *testing.T, c nodev1.FleetClient, nodes ...string) link {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	st, err := c.Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		st.Send(&nodev1.FromNode{Node: n, Body: &nodev1.FromNode_Register{Register: &nodev1.Register{Node: n}}})
	}
	return link{t, st}
}

func (l link) next() *nodev1.ToNode {
	l.t.Helper()
	m, err := l.Recv()
	if err != nil {
		l.t.Fatal(err)
	}
	return m
}

func order(job uint32) *nodev1.ToNode {
	return &nodev1.ToNode{Body: &nodev1.ToNode_Signal{Signal: &nodev1.SignalJob{Job: job}}}
}

func TestOnlyDaemons(t *testing.T) {
	_, c := serve(t, &sink{}, auth.RoleOperator)
	_, err := connect(t, c).Recv()
	if errs.CodeOf(wire.ErrorOfStatus(err)) != errs.AccessDenied {
		t.Errorf("error %v", err)
	}
}

// Orders given while the registration is being applied follow its answer.
func TestRegisterThenOrders(t *testing.T) {
	s := &sink{}
	var f *fleet.Fleet
	s.register = func(node wlm.NodeName) (*nodev1.Registered, error) {
		if !f.Send(node, order(5)) {
			t.Error("a node that registers is not connected")
		}
		return &nodev1.Registered{Accepted: true}, nil
	}
	var c nodev1.FleetClient
	f, c = serve(t, s, auth.RoleSlurmUser)
	l := connect(t, c, "n1", "n2")
	for _, node := range []string{"n1", "n2"} {
		if m := l.next(); !m.GetRegistered().GetAccepted() || m.GetNode() != node || m.GetTerm() != 3 {
			t.Errorf("first message to %s: %v", node, m)
		}
		if m := l.next(); m.GetSignal().GetJob() != 5 || m.GetNode() != node {
			t.Errorf("second message to %s: %v", node, m)
		}
	}
	l.CloseSend()
	for range 2 {
		select {
		case <-s.gone:
		case <-time.After(patience):
			t.Fatal("no word of the disconnection")
		}
	}
	if f.Connected("n1") || f.Send("n1", order(6)) {
		t.Error("n1 still counts as connected")
	}
}

func TestRefused(t *testing.T) {
	s := &sink{register: func(wlm.NodeName) (*nodev1.Registered, error) {
		return &nodev1.Registered{Text: "unknown node"}, nil
	}}
	f, c := serve(t, s, auth.RoleSlurmUser)
	if m := connect(t, c, "nx").next(); m.GetRegistered().GetAccepted() || m.GetRegistered().GetText() != "unknown node" {
		t.Errorf("answer %v", m)
	}
	if f.Nodes() != 0 {
		t.Errorf("%d nodes connected", f.Nodes())
	}
}

// A second stream of a node takes over; the first one ends without a word of
// disconnection.
func TestTakeOver(t *testing.T) {
	s := &sink{}
	f, c := serve(t, s, auth.RoleRoot)
	a := connect(t, c, "n1")
	a.next()
	b := connect(t, c, "n1")
	b.next()
	if _, err := a.Recv(); err == nil {
		t.Error("the first stream goes on")
	}
	if !f.Send("n1", order(1)) || b.next().GetSignal() == nil {
		t.Error("the second stream gets no orders")
	}
	select {
	case n := <-s.gone:
		t.Errorf("%s was called disconnected", n)
	default:
	}
}

func TestReports(t *testing.T) {
	s := &sink{block: make(chan struct{})}
	_, c := serve(t, s, auth.RoleRoot)
	l := connect(t, c, "n1")
	l.next()
	const n = 1000
	for i := range uint64(n) {
		l.Send(&nodev1.FromNode{Node: "n1", Body: &nodev1.FromNode_Report{Report: &nodev1.Report{Number: i + 1}}})
	}
	close(s.block)
	for {
		if l.next().GetAck().GetUpto() == n {
			break
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.reports) != n || s.reports[0] != 1 || s.reports[n-1] != n {
		t.Errorf("%d reports arrived", len(s.reports))
	}
	if s.batches >= n {
		t.Errorf("%d batches for %d reports", s.batches, n)
	}
}

// A node that does not take its orders is disconnected, and Send returns.
func TestSendNeverBlocks(t *testing.T) {
	s := &sink{}
	f, c := serve(t, s, auth.RoleRoot)
	l := connect(t, c, "n1")
	l.next()
	big := &nodev1.ToNode{Body: &nodev1.ToNode_Start{Start: &nodev1.StartJob{Script: make([]byte, 4096)}}}
	for f.Send("n1", big) {
	}
	select {
	case <-s.gone:
	case <-time.After(patience):
		t.Fatal("no word of the disconnection")
	}
	for {
		if _, err := l.Recv(); err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				t.Error("the stream did not end")
			}
			return
		}
	}
}
