// Package rpc serves the controller to commands: it decides who may call what,
// turns messages into commands for the loop, and answers reads from the view.
//
// A call passes one interceptor: its token is verified ([auth.Gate]), its row in
// [rows] says which role it needs, a panic in it becomes an Internal error with a
// counter, and whatever it returns becomes a status that carries kind, code and
// details (sdk/wire). Handlers therefore never ask who may come in; whether a job
// belongs to the caller is judged by the command itself, or by owner.
//
// Changes go to the [Loop] and answer once durable. Reads go to the view and
// never touch the loop; listings are sent as the view encoded them.
//
// What arrives is bounded: 16 MiB a message, [maxStreams] calls at once on a
// connection, a few seconds to speak HTTP/2. A connection that begins with
// anything else is closed and counted.
//
// Invariant: the user, groups and names of a submitted job come from the proven
// identity, whatever the request and the job_submit plugins say.
package rpc

import (
	"context"
	"log/slog"
	"net"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sluice-hpc/sluice/conf"
	"github.com/sluice-hpc/sluice/core/auth"
	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/core/view"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/jobsubmit"
	"github.com/sluice-hpc/sluice/sdk/proto/acct/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/acctstore/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/wire"
	"github.com/sluice-hpc/sluice/sdk/wire/preface"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

// Loop carries out commands. Do returns when the command's events are durable,
// or with the reason why there are none.
type Loop interface {
	Do(ctx context.Context, cmd cluster.Command) (any, error)
}

// Filter is a job_submit plugin in service.
type Filter struct {
	Name string // as in job_submit/NAME
	jobsubmit.Filter
	Timeout time.Duration // of one answer; 0: Deps.FilterTimeout
	Accept  bool          // without an answer, let pass what the caller asked for
}

// Store answers accounting queries; see sdk/acctstore.
type Store interface {
	Jobs(ctx context.Context, q *acctstorev1.Query, yield func(*acctstorev1.JobRow) error) error
}

// Deps are what the servers stand on. Functions may be called concurrently;
// those whose comment says so may be nil.
type Deps struct {
	Gate    *auth.Gate
	Key     auth.Key
	Cluster string
	Version string // as in "slurm 25.11.7-sluice0.1"
	Host    string // of this controller
	Loop    Loop
	View    *view.View
	Conf    func() *conf.Config
	Fleet   nodev1.FleetServer // nil: not served here

	// Standby says why this controller does not serve, nil when it does. Only
	// Ping is answered regardless. May be nil.
	Standby  func() error
	Mode     func() string   // for Ping; nil: "primary"
	Warnings func() []string // for Ping; may be nil

	Filters       func() []Filter // in order; may be nil
	FilterTimeout time.Duration   // for each; 0: 5 s

	// Forecast says when and where a job could start; nil: not known.
	Forecast func(ctx context.Context, j *wlm.Job) (*ctlv1.ForecastReply, error)
	// Explain tells what a pass knows of a pending job; may be nil.
	Explain func(ctx context.Context, j *wlm.Job, allowed func(*wlm.Partition) bool) (*ctlv1.ExplainReply, error)
	// Plugins tells of the plugins of a kind or of one kind/name; may be nil.
	Plugins func(name string) []*ctlv1.PluginInfo
	// ChangePlugin swaps plugins and runs shadows; Shadows reports. Both may be nil.
	ChangePlugin func(ctx context.Context, r *ctlv1.ChangePluginRequest) (messages []string, err error)
	Shadows      func() []*ctlv1.ShadowReport

	Reconfigure func(ctx context.Context, dryRun bool) (changes, warnings []string, err error)
	Shutdown    func(ctx context.Context, controllerOnly bool) error
	SetDebug    func(level, nodes string) error
	Store       Store                                // may be nil
	Flush       func(ctx context.Context) error      // waits until Store has what has happened; may be nil
	Diag        func(reset bool, r *ctlv1.DiagReply) // adds to the reply; may be nil

	Now func() time.Time // nil: time.Now
}

const (
	maxMessage    = 16 << 20 // bytes of a request
	maxStreams    = 1024     // calls at once on a connection
	window        = 1 << 20  // bytes in flight
	handshakeTime = 10 * time.Second
	pingAfter     = 30 * time.Second // of silence, to find dead peers
	pingTimeout   = 20 * time.Second
	pingAtMost    = 5 * time.Second // what clients may do
	filterTime    = 5 * time.Second
	workers       = 64 // goroutines a CPU that stay for calls, so that stacks grow once
)

// Server is the services of one controller.
type Server struct {
	ctlv1.UnimplementedControllerServer
	acctv1.UnimplementedAccountingServer
	deps    Deps
	started time.Time
	calls   map[string]*counter // by full method; fixed once made
	pacer   *pacer
	panics  atomic.Uint64
	garbage atomic.Uint64
	denied  atomic.Uint64
	groups  groupCache
}

type counter struct{ calls, failed atomic.Uint64 }

// New returns the services over d.
func New(d Deps) *Server {
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.FilterTimeout <= 0 {
		d.FilterTimeout = filterTime
	}
	s := &Server{deps: d, started: d.Now(), pacer: newPacer(), calls: make(map[string]*counter, len(rows))}
	for method := range rows {
		s.calls[method] = &counter{}
	}
	return s
}

// GRPC returns a gRPC server of all services. The caller serves with [Server.Serve]
// and stops it.
func (s *Server) GRPC() *grpc.Server {
	g := grpc.NewServer(
		grpc.UnaryInterceptor(s.unary),
		grpc.StreamInterceptor(s.stream),
		grpc.ForceServerCodecV2(codec{}),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.InitialWindowSize(window),
		grpc.InitialConnWindowSize(window),
		grpc.ConnectionTimeout(handshakeTime),
		grpc.NumStreamWorkers(uint32(workers*runtime.GOMAXPROCS(0))),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingAfter, Timeout: pingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingAtMost, PermitWithoutStream: true}),
	)
	ctlv1.RegisterControllerServer(g, s)
	acctv1.RegisterAccountingServer(g, accounting{s})
	if s.deps.Fleet != nil {
		nodev1.RegisterFleetServer(g, s.deps.Fleet)
	}
	return g
}

// Serve serves g on l until g is stopped, and then returns nil. Connections
// that do not speak HTTP/2 are closed and counted.
func (s *Server) Serve(g *grpc.Server, l net.Listener) error {
	return g.Serve(preface.Listener(l, func(net.Addr) { s.garbage.Add(1) }))
}

// unary is the one interceptor of plain calls.
func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, h grpc.UnaryHandler) (resp any, err error) {
	n := s.calls[info.FullMethod]
	defer func() {
		if p := recover(); p != nil {
			resp, err = nil, s.panicked(info.FullMethod, p)
		}
		n.count(err)
	}()
	id, err := s.admit(ctx, info.FullMethod, req)
	if err == nil {
		resp, err = h(auth.With(ctx, id), req)
	}
	if err != nil {
		return nil, wire.ErrorToStatus(err)
	}
	return resp, nil
}

// stream is the one interceptor of streams.
func (s *Server) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, h grpc.StreamHandler) (err error) {
	n := s.calls[info.FullMethod]
	defer func() {
		if p := recover(); p != nil {
			err = s.panicked(info.FullMethod, p)
		}
		n.count(err)
	}()
	id, err := s.admit(ss.Context(), info.FullMethod, nil)
	if err == nil {
		err = h(srv, auth.WithStream(ss, auth.With(ss.Context(), id)))
	}
	return wire.ErrorToStatus(err)
}

func (c *counter) count(err error) {
	if c == nil {
		return
	}
	c.calls.Add(1)
	if err != nil {
		c.failed.Add(1)
	}
}

// admit proves who calls and judges by the method's row whether it may.
func (s *Server) admit(ctx context.Context, method string, req any) (*auth.Identity, error) {
	r, ok := rows[method]
	if !ok {
		return nil, errs.Newf("rpc", errs.Unsupport, "there is no call %s here", method)
	}
	id, err := s.deps.Gate.Identify(ctx)
	if err != nil {
		return nil, err
	}
	need := r.need
	if r.more != nil {
		need = max(need, r.more(req, id))
	}
	if id.Role < need {
		s.denied.Add(1)
		return nil, errs.Coded(method, errs.AccessDenied).With("%s is for the role %s or above; %s is %s", base(method), need, id.User, id.Role)
	}
	if s.deps.Standby != nil && !r.standby {
		if err := s.deps.Standby(); err != nil {
			return nil, err
		}
	}
	return id, nil
}

// base is a method's own name.
func base(method string) string { return method[strings.LastIndexByte(method, '/')+1:] }

func (s *Server) panicked(method string, p any) error {
	s.panics.Add(1)
	slog.Error("a call panicked", "method", method, "panic", p, "stack", string(debug.Stack()))
	return wire.ErrorToStatus(errs.Newf(method, errs.Internal, "the controller failed in %s: see its log", base(method)))
}

// caller is who asks, for commands.
func caller(ctx context.Context) cluster.Caller {
	id := auth.From(ctx)
	return cluster.Caller{UID: id.UID, GIDs: id.GIDs, Admin: id.Admin()}
}

func (s *Server) now() wlm.Time { return wlm.Time(s.deps.Now().Unix()) }
