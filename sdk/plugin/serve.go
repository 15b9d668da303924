package plugin

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/sluice-hpc/sluice/sdk/plugin/session"
	"github.com/sluice-hpc/sluice/sdk/proto/plugin/v1"
	"github.com/sluice-hpc/sluice/sdk/wire/preface"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// handshake tells plugins that a host started them, not a curious user.
var handshake = goplugin.HandshakeConfig{ProtocolVersion: 1, MagicCookieKey: "SLUICE_PLUGIN", MagicCookieValue: "session-v1"}

const (
	lifelineFD = 3
	pairFD     = 4
	maxMessage = 4 << 20 // a frame is 512 KiB at most

	statusUsage = 1 // not started by a host
	statusPanic = 2
	lastWords   = 500 * time.Millisecond // from a panic's reply to the exit
)

// Serve makes the program a plugin. It does not return: the process ends when
// the host ends it, or with status 1 and a text for people when it was started
// by hand.
func Serve(p Plugin) {
	if os.Getenv(handshake.MagicCookieKey) != handshake.MagicCookieValue {
		usage(p.manifest())
		os.Exit(statusUsage)
	}
	ignoreSignals()
	s := &server{plugin: p, logger: newLogger()}
	if err := s.watchLifeline(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(statusUsage)
	}
	slog.SetDefault(slog.New(s.logger))
	s.takePair()
	if p.Background {
		stepBack()
	}
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig: handshake,
		Plugins:         goplugin.PluginSet{pluginSetName: &grpcPlugin{server: s}},
		Logger:          hclog.NewNullLogger(),
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			opts = append(opts, grpc.MaxRecvMsgSize(maxMessage))
			if os.Getenv(autoMTLS) == "" {
				opts = append(opts, grpc.Creds(&guard{TransportCredentials: insecure.NewCredentials()}))
			}
			return grpc.NewServer(opts...)
		},
	})
	os.Exit(int(s.status.Load()))
}

// autoMTLS is where go-plugin's host puts its certificate when it wants TLS.
const autoMTLS = "PLUGIN_CLIENT_CERT"

// guard counts connections to the plugin's socket that are no calls.
type guard struct {
	credentials.TransportCredentials
	garbage atomic.Uint64
}

// ServerHandshake implements credentials.TransportCredentials.
func (g *guard) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return g.TransportCredentials.ServerHandshake(preface.Conn(c, func(net.Addr) {
		if n := g.garbage.Add(1); n <= 3 || n%1000 == 0 {
			slog.Warn("turned away a connection that is no call", "so_far", n)
		}
	}))
}

// ignoreSignals takes them instead of ignoring them, since what is ignored
// would be ignored by the programs that the plugin starts, too.
func ignoreSignals() {
	taken := make(chan os.Signal, 1)
	signal.Notify(taken, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	go func() {
		for range taken {
		}
	}()
}

// stepBack lowers the priority of the process. Linux has one for each thread,
// which later threads inherit; a second round finds those that were born during
// the first. It is a courtesy: when it fails the plugin serves all the same.
func stepBack() {
	const nice, rounds = 10, 2
	for range rounds {
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return
		}
		for _, t := range threads {
			if id, err := strconv.Atoi(t.Name()); err == nil {
				_ = syscall.Setpriority(syscall.PRIO_PROCESS, id, nice)
			}
		}
	}
}

func usage(m *pluginv1.ManifestReply) {
	for _, k := range m.GetServed() {
		fmt.Fprintf(os.Stderr, "This is %s/%s %s, a plugin of Sluice. %s\n", k.GetKind(), m.GetName(), m.GetVersion(), m.GetDoc())
	}
	for _, o := range m.GetOptions() {
		fmt.Fprintf(os.Stderr, "  %s (%s, default %q): %s %s\n", o.GetName(), o.GetType(), o.GetDefault(), o.GetDoc(), o.GetAllowed())
	}
	fmt.Fprintln(os.Stderr, "A daemon starts it: name it in slurm.conf. To check it: sluice plugin test FILE.")
}

// server is the plugin's service.
type server struct {
	pluginv1.UnimplementedPluginServer
	plugin Plugin
	logger *logger
	opened atomic.Bool
	pair   bool         // the host gave one end of a pair of sockets
	status atomic.Int32 // to exit with
}

// watchLifeline ends the process when the host has ended. It refuses to go on
// without a lifeline, since then nothing would.
func (s *server) watchLifeline() error {
	var st syscall.Stat_t
	if err := syscall.Fstat(lifelineFD, &st); err != nil || st.Mode&syscall.S_IFMT != syscall.S_IFIFO {
		return fmt.Errorf("descriptor %d is not the host's lifeline pipe", lifelineFD)
	}
	syscall.CloseOnExec(lifelineFD)
	f := os.NewFile(lifelineFD, "lifeline")
	go func() {
		_, _ = io.Copy(io.Discard, f) // until the host's end is closed
		os.Exit(int(s.status.Load()))
	}()
	return nil
}

// Manifest is the service's.
func (s *server) Manifest(context.Context, *pluginv1.ManifestRequest) (*pluginv1.ManifestReply, error) {
	m := s.plugin.manifest()
	m.Pair = s.pair
	return m, nil
}

// takePair waits for a session on the descriptor that hosts which know of pairs
// leave to their plugins.
func (s *server) takePair() {
	var st syscall.Stat_t
	if err := syscall.Fstat(pairFD, &st); err != nil || st.Mode&syscall.S_IFMT != syscall.S_IFSOCK {
		return
	}
	f := os.NewFile(pairFD, "pair")
	defer f.Close()
	conn, err := net.FileConn(f) // a copy, which programs that the plugin starts do not get
	if err != nil {
		return
	}
	s.pair = true
	go func() {
		stream := session.NewPairPlugin(conn)
		if !stream.Wait() || s.opened.Swap(true) {
			return
		}
		stream.End(s.serve(context.Background(), stream))
	}()
}

// Session is the service's. A process serves one session.
func (s *server) Session(stream grpc.BidiStreamingServer[pluginv1.HostFrame, pluginv1.PluginFrame]) error {
	if s.opened.Swap(true) {
		return fmt.Errorf("this plugin process has served its session")
	}
	return s.serve(stream.Context(), stream)
}

func (s *server) serve(ctx context.Context, stream session.PluginStream) error {
	err := session.Serve(ctx, stream, session.Author{Open: s.plugin.open, Logs: s.logger.sendTo})
	if err != nil {
		// The reply is on its way when the stream ends; the host then closes
		// the lifeline, and if it does not, the process ends all the same.
		s.status.Store(statusPanic)
		time.AfterFunc(lastWords, func() { os.Exit(statusPanic) })
	}
	return err
}

const pluginSetName = "plugin"

// grpcPlugin is the service as go-plugin wants it, for both sides.
type grpcPlugin struct {
	goplugin.NetRPCUnsupportedPlugin
	server *server
}

var _ goplugin.GRPCPlugin = (*grpcPlugin)(nil)

// GRPCServer registers the service.
func (g *grpcPlugin) GRPCServer(_ *goplugin.GRPCBroker, s *grpc.Server) error {
	pluginv1.RegisterPluginServer(s, g.server)
	return nil
}

// GRPCClient returns a pluginv1.PluginClient.
func (g *grpcPlugin) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return pluginv1.NewPluginClient(conn), nil
}
