package plugin

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/plugin/session"
	"github.com/sluice-hpc/sluice/sdk/proto/plugin/v1"
)

// MaxSocketDir is the longest SocketDir, in bytes, whose sockets the kernel
// can still name.
const MaxSocketDir = 107 - len("/plugin-dir0123456789/plugin0123456789")

// StartConfig says how to start a plugin's process.
type StartConfig struct {
	Path string
	// SocketDir is the host's own directory, mode 0700 (0711 when User is
	// set), where each plugin gets a directory for its socket.
	SocketDir string
	User      *syscall.Credential // nil: the host's own
	AutoMTLS  bool                // encrypt and prove both ends; adds about 30 ms to the start
	Started   func(pid int)       // called once the process exists, before it listens; may be nil
	Output    func(line string)   // what the process prints; called by one goroutine at a time; may be nil
	Timeout   time.Duration       // until the process listens; 0: 10 s
}

const (
	startTimeout = 10 * time.Second
	exitGrace    = 2 * time.Second        // from the lifeline's end to SIGKILL
	pipeGrace    = 200 * time.Millisecond // for output that follows an exit
)

// Process is a started plugin. It ends with the program that started it.
type Process struct {
	client   *goplugin.Client
	rpc      pluginv1.PluginClient
	pair     bool // the plugin takes its session on the pair
	runner   *processRunner
	stopOnce sync.Once
}

// Start starts a plugin's program, with an environment of its own, in a process
// group of its own, and waits until it listens.
func Start(ctx context.Context, cfg StartConfig) (*Process, error) {
	const op = "plugin.Start"
	if len(cfg.SocketDir) > MaxSocketDir {
		return nil, errs.Newf(op, errs.Invalid, "socket directory %s is longer than %d bytes", cfg.SocketDir, MaxSocketDir)
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = startTimeout
	}
	out := &lines{tell: cfg.Output}
	p := &Process{runner: &processRunner{cfg: cfg, exited: make(chan struct{})}}
	p.client = goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig:  handshake,
		Plugins:          goplugin.PluginSet{pluginSetName: &grpcPlugin{}},
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		Logger:           hclog.NewNullLogger(),
		SkipHostEnv:      true,
		StartTimeout:     cfg.Timeout,
		AutoMTLS:         cfg.AutoMTLS,
		Stderr:           out,
		SyncStdout:       out,
		SyncStderr:       out,
		UnixSocketConfig: &goplugin.UnixSocketConfig{TempDir: cfg.SocketDir},
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, dir string) (runner.Runner, error) {
			return p.runner, p.runner.prepare(cmd.Env, dir)
		},
	})
	stop := context.AfterFunc(ctx, p.runner.kill)
	err := p.connect()
	if stop(); err != nil {
		p.Stop()
		return nil, errs.Newf(op, errs.Unavail, "%s: %w", cfg.Path, err)
	}
	return p, nil
}

func (p *Process) connect() error {
	if _, err := p.client.Start(); err != nil {
		return err
	}
	proto, err := p.client.Client()
	if err != nil {
		return err
	}
	raw, err := proto.Dispense(pluginSetName)
	if err != nil {
		return err
	}
	p.rpc = raw.(pluginv1.PluginClient)
	return nil
}

// PID is the process's id.
func (p *Process) PID() int { return int(p.runner.pid.Load()) }

// Exited is closed when the process has ended; State then tells how.
func (p *Process) Exited() <-chan struct{} { return p.runner.exited }

// State tells how the process ended, as in "exit status 2"; empty while it runs.
func (p *Process) State() string {
	select {
	case <-p.runner.exited:
		return p.runner.cmd.ProcessState.String()
	default:
		return ""
	}
}

// Manifest asks the plugin what it is.
func (p *Process) Manifest(ctx context.Context) (*pluginv1.ManifestReply, error) {
	m, err := p.rpc.Manifest(ctx, &pluginv1.ManifestRequest{HostContract: 1})
	if err != nil {
		return nil, errs.Newf("plugin.Manifest", errs.Unavail, "%w", err)
	}
	p.pair = m.GetPair()
	return m, nil
}

// Open begins the process's one session: on the pair of sockets if the manifest
// said that the plugin knows it, else over gRPC.
func (p *Process) Open(ctx context.Context, cfg session.HostConfig) (*session.Host, error) {
	if conn := p.runner.pair.Swap(nil); conn != nil && p.pair {
		stream := session.NewPairHost(*conn)
		return session.Open(ctx, stream, stream.Close, cfg)
	}
	streamCtx, cancel := context.WithCancel(context.Background())
	stream, err := p.rpc.Session(streamCtx)
	if err != nil {
		cancel()
		return nil, errs.Newf("plugin.Open", errs.Unavail, "%w", err)
	}
	return session.Open(ctx, stream, cancel, cfg)
}

// Stop ends the process: at once, when it keeps the contract of the lifeline,
// by SIGKILL to its group otherwise. It returns when the process is gone and
// its socket removed, and may be called again.
func (p *Process) Stop() {
	p.stopOnce.Do(func() {
		p.runner.stop()
		p.client.Kill()
		if p.runner.dir != "" { // go-plugin forgets it when the program did not start
			_ = os.RemoveAll(p.runner.dir)
		}
	})
}

// processRunner starts the process for go-plugin. In contrast to go-plugin's
// own, a child of the plugin that keeps its stderr open delays nothing.
type processRunner struct {
	cfg            StartConfig
	dir            string // for the socket
	cmd            *exec.Cmd
	lifeline       *os.File                 // write end; nobody else has it
	pair           atomic.Pointer[net.Conn] // the host's end; nil: in use, or there is none
	stdout, stderr *os.File                 // read ends
	pid            atomic.Int64             // 0: not started
	exited         chan struct{}
	closeOnce      sync.Once
}

func (r *processRunner) prepare(env []string, dir string) error {
	r.dir = dir
	if u := r.cfg.User; u != nil {
		if err := os.Chown(dir, int(u.Uid), int(u.Gid)); err != nil {
			return err
		}
	}
	r.cmd = &exec.Cmd{
		Path: r.cfg.Path, Args: []string{r.cfg.Path}, Dir: "/",
		Env:         append(env, "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=/"),
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Credential: r.cfg.User},
	}
	return nil
}

// Start is runner.Runner's.
func (r *processRunner) Start(context.Context) error {
	var ends []*os.File // the child's
	defer func() {
		for _, f := range ends {
			f.Close()
		}
	}()
	life, lifeW, err := os.Pipe()
	if err != nil {
		return err
	}
	ends, r.lifeline = append(ends, life), lifeW
	for _, to := range []struct {
		read  **os.File
		child *io.Writer
	}{{&r.stdout, &r.cmd.Stdout}, {&r.stderr, &r.cmd.Stderr}} {
		read, write, err := os.Pipe()
		if err != nil {
			return err
		}
		ends = append(ends, write)
		*to.read, *to.child = read, write
	}
	conn, pair, err := socketPair()
	if err != nil {
		return err
	}
	ends = append(ends, pair)
	r.pair.Store(&conn)
	r.cmd.ExtraFiles = []*os.File{life, pair}
	if err := r.cmd.Start(); err != nil {
		r.close()
		return err
	}
	r.pid.Store(int64(r.cmd.Process.Pid))
	if r.cfg.Started != nil {
		r.cfg.Started(r.cmd.Process.Pid)
	}
	go func() {
		_ = r.cmd.Wait()
		close(r.exited)
		time.AfterFunc(pipeGrace, r.close) // a grandchild may hold the pipes open
	}()
	return nil
}

// socketPair returns the host's end of a pair of connected sockets, and the
// plugin's.
func socketPair() (net.Conn, *os.File, error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	own := os.NewFile(uintptr(fds[0]), "pair")
	defer own.Close()
	conn, err := net.FileConn(own)
	if err != nil {
		syscall.Close(fds[1]) //nolint:errcheck // the first error counts
		return nil, nil, err
	}
	return conn, os.NewFile(uintptr(fds[1]), "pair"), nil
}

func (r *processRunner) close() {
	r.closeOnce.Do(func() {
		if conn := r.pair.Swap(nil); conn != nil {
			(*conn).Close()
		}
		for _, f := range []*os.File{r.lifeline, r.stdout, r.stderr} {
			if f != nil {
				f.Close()
			}
		}
	})
}

// stop closes the lifeline and waits for the process.
func (r *processRunner) stop() {
	if r.pid.Load() == 0 {
		r.close()
		return
	}
	r.lifeline.Close()
	select {
	case <-r.exited:
	case <-time.After(exitGrace):
		r.kill()
		<-r.exited
	}
}

func (r *processRunner) kill() {
	select {
	case <-r.exited:
		return
	default:
	}
	if pid := int(r.pid.Load()); pid != 0 {
		_ = syscall.Kill(-pid, syscall.SIGKILL)
	}
}

// Wait is runner.Runner's.
func (r *processRunner) Wait(context.Context) error {
	<-r.exited
	if !r.cmd.ProcessState.Success() {
		return &exec.ExitError{ProcessState: r.cmd.ProcessState}
	}
	return nil
}

// Kill is runner.Runner's.
func (r *processRunner) Kill(context.Context) error {
	r.kill()
	return nil
}

// Stdout is runner.Runner's.
func (r *processRunner) Stdout() io.ReadCloser { return r.stdout }

// Stderr is runner.Runner's.
func (r *processRunner) Stderr() io.ReadCloser { return r.stderr }

// Name is runner.Runner's.
func (r *processRunner) Name() string { return filepath.Base(r.cfg.Path) }

// ID is runner.Runner's.
func (r *processRunner) ID() string {
	pid := r.pid.Load()
	if pid == 0 {
		return ""
	}
	return strconv.FormatInt(pid, 10)
}

// Diagnose is runner.Runner's: a hint for a program that is no plugin.
func (r *processRunner) Diagnose(context.Context) string {
	return fmt.Sprintf("%s is not a plugin, or of another architecture, or may not be run by this user", r.cfg.Path)
}

// PluginToHost is runner.Runner's.
func (r *processRunner) PluginToHost(network, addr string) (string, string, error) {
	return network, addr, nil
}

// HostToPlugin is runner.Runner's.
func (r *processRunner) HostToPlugin(network, addr string) (string, string, error) {
	return network, addr, nil
}

// lines is an io.Writer that tells whole lines.
type lines struct {
	mu   sync.Mutex
	tell func(string)
	rest []byte
}

const maxLine = 8 << 10

// Write is io.Writer's.
func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, b...)
	for {
		i := bytes.IndexByte(l.rest, '\n')
		if i < 0 {
			if len(l.rest) < maxLine {
				return len(b), nil
			}
			i = len(l.rest) - 1
		}
		if line := bytes.TrimRight(l.rest[:i+1], "\r\n"); l.tell != nil && len(line) > 0 {
			l.tell(valid(string(line)))
		}
		l.rest = append([]byte(nil), l.rest[i+1:]...)
	}
}
