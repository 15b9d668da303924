package client_test

import (
	"context"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-hpc/sluice/sdk/client"
	"github.com/sluice-hpc/sluice/sdk/client/clienttest"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// controller is a fake that answers as its fields say.
type controller struct {
	ctlv1.UnimplementedControllerServer
	ping   func(context.Context) error
	submit func(*ctlv1.SubmitRequest) (*ctlv1.SubmitReply, error)
	watch  func(int) error // n-th stream: sends jobs 1 and 2, then this
	opened atomic.Int32
}

func (c *controller) Ping(ctx context.Context, _ *ctlv1.PingRequest) (*ctlv1.PingReply, error) {
	if c.ping != nil {
		if err := c.ping(ctx); err != nil {
			return nil, err
		}
	}
	return &ctlv1.PingReply{Mode: "primary"}, nil
}

func (c *controller) Submit(_ context.Context, r *ctlv1.SubmitRequest) (*ctlv1.SubmitReply, error) {
	return c.submit(r)
}

func (c *controller) WatchJob(_ *ctlv1.WatchJobRequest, s ctlv1.Controller_WatchJobServer) error {
	n := c.opened.Add(1)
	if err := s.Send(&ctlv1.JobInfo{Nodelist: "n1"}); err != nil {
		return err
	}
	return c.watch(int(n))
}

func open(t *testing.T, target client.Target, opts ...client.Option) *client.Client {
	t.Helper()
	c, err := client.Open(t.Context(), target, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestTokenTravels(t *testing.T) {
	var got []string
	fake := &controller{ping: func(ctx context.Context) error {
		md, _ := metadata.FromIncomingContext(ctx)
		got = md.Get(client.TokenKey)
		return nil
	}}
	c := open(t, clienttest.Serve(t, clienttest.Services{Controller: fake}).Target())
	if _, err := c.Controller.Ping(t.Context(), &ctlv1.PingRequest{}); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0] != clienttest.Token {
		t.Errorf("token %q", got)
	}
	if c.Identity().User != "tester" {
		t.Errorf("identity %+v", c.Identity())
	}
}

func TestNoDaemonNamesTheSocket(t *testing.T) {
	_, err := client.Open(t.Context(), client.Target{Socket: "/nonexistent/sock", Timeout: 10 * time.Millisecond})
	if errs.CodeOf(err) != errs.ControllerUnreachable || !strings.Contains(err.Error(), "/nonexistent/sock") {
		t.Errorf("error %v", err)
	}
}

func TestStandbyMovesOn(t *testing.T) {
	standby := clienttest.Serve(t, clienttest.Services{Controller: &controller{ping: func(context.Context) error {
		return errs.Coded("rpc", errs.StandbyMode)
	}}})
	primary := clienttest.Serve(t, clienttest.Services{Controller: &controller{}})
	target := standby.Target()
	target.Controllers = []string{deadAddr(t), standby.Addr, primary.Addr}
	c := open(t, target)
	r, err := c.Controller.Ping(t.Context(), &ctlv1.PingRequest{})
	if err != nil || r.GetMode() != "primary" {
		t.Fatalf("reply %v, error %v", r, err)
	}
}

// deadAddr is an address at which nobody listens.
func deadAddr(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestNobodyAnswersNamesEveryAddress(t *testing.T) {
	target := clienttest.Serve(t, clienttest.Services{}).Target()
	target.Controllers = []string{deadAddr(t), deadAddr(t)}
	target.Timeout = 50 * time.Millisecond
	_, err := open(t, target).Controller.Ping(t.Context(), &ctlv1.PingRequest{})
	if errs.CodeOf(err) != errs.ControllerUnreachable {
		t.Fatalf("error %v", err)
	}
	for _, a := range target.Controllers {
		if !strings.Contains(err.Error(), a+": connection refused") {
			t.Errorf("%q does not name %s", err, a)
		}
	}
}

func TestSubmissionIsRepeatedWithItsKey(t *testing.T) {
	var mu sync.Mutex
	var keys []string
	fake := &controller{submit: func(r *ctlv1.SubmitRequest) (*ctlv1.SubmitReply, error) {
		mu.Lock()
		defer mu.Unlock()
		if keys = append(keys, r.GetKey()); len(keys) == 1 {
			return nil, status.Error(codes.Unavailable, "the connection broke")
		}
		return &ctlv1.SubmitReply{JobId: 7}, nil
	}}
	c := open(t, clienttest.Serve(t, clienttest.Services{Controller: fake}).Target())
	r, err := c.Controller.Submit(t.Context(), &ctlv1.SubmitRequest{Key: "k"})
	if err != nil || r.GetJobId() != 7 {
		t.Fatalf("reply %v, error %v", r, err)
	}
	if len(keys) != 2 || keys[0] != "k" || keys[1] != "k" {
		t.Errorf("keys %q", keys)
	}
}

// A call that another one's failure takes the connection from is made again.
func TestCallsOutliveTheConnectionThatOthersGaveUp(t *testing.T) {
	began, over := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(over) })
	var slow, failing atomic.Int32
	fake := &controller{submit: func(r *ctlv1.SubmitRequest) (*ctlv1.SubmitReply, error) {
		switch {
		case r.GetKey() == "slow" && slow.Add(1) == 1:
			close(began)
			<-over
		case r.GetKey() == "failing" && failing.Add(1) == 1:
			return nil, status.Error(codes.Unavailable, "a filter is away")
		}
		return &ctlv1.SubmitReply{JobId: 7}, nil
	}}
	c := open(t, clienttest.Serve(t, clienttest.Services{Controller: fake}).Target())
	done := make(chan error, 1)
	go func() {
		_, err := c.Controller.Submit(t.Context(), &ctlv1.SubmitRequest{Key: "slow"})
		done <- err
	}()
	<-began
	if _, err := c.Controller.Submit(t.Context(), &ctlv1.SubmitRequest{Key: "failing"}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil || slow.Load() != 2 {
		t.Errorf("error %v after %d tries", err, slow.Load())
	}
}

func TestErrorsKeepKindCodeAndDetails(t *testing.T) {
	fake := &controller{submit: func(*ctlv1.SubmitRequest) (*ctlv1.SubmitReply, error) {
		return nil, errs.Coded("cluster.Submit", errs.InvalidPartition, "invalid partition specified: nopart")
	}}
	c := open(t, clienttest.Serve(t, clienttest.Services{Controller: fake}).Target())
	_, err := c.Controller.Submit(t.Context(), &ctlv1.SubmitRequest{})
	if errs.CodeOf(err) != errs.InvalidPartition || errs.KindOf(err) != errs.Invalid ||
		err.Error() != "invalid partition specified: nopart: Invalid partition name specified" {
		t.Errorf("error %v", err)
	}
}

func TestWatchResumes(t *testing.T) {
	fake := &controller{watch: func(n int) error {
		if n < 3 {
			return status.Error(codes.Unavailable, "restarting")
		}
		return nil
	}}
	c := open(t, clienttest.Serve(t, clienttest.Services{Controller: fake}).Target())
	seen := 0
	err := c.WatchJob(t.Context(), &ctlv1.WatchJobRequest{Job: 1}, func(*ctlv1.JobInfo) error { seen++; return nil })
	if err != nil || seen != 3 {
		t.Errorf("seen %d, error %v", seen, err)
	}
}

func TestWatchStops(t *testing.T) {
	fake := &controller{watch: func(int) error { return nil }}
	c := open(t, clienttest.Serve(t, clienttest.Services{Controller: fake}).Target())
	err := c.WatchJob(t.Context(), &ctlv1.WatchJobRequest{Job: 1}, func(*ctlv1.JobInfo) error { return client.ErrStop })
	if err != nil {
		t.Error(err)
	}
}

func BenchmarkOpenAndPing(b *testing.B) {
	target := clienttest.Serve(b, clienttest.Services{Controller: &controller{}}).Target()
	for b.Loop() {
		c, err := client.Open(b.Context(), target)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := c.Controller.Ping(b.Context(), &ctlv1.PingRequest{}); err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}
