package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluice-hpc/sluice/conf"
	"github.com/sluice-hpc/sluice/core/agent"
	"github.com/sluice-hpc/sluice/core/auth"
	"github.com/sluice-hpc/sluice/core/pluginhost"
	"github.com/sluice-hpc/sluice/daemons/internal/logfile"
	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/version"
	"github.com/sluice-hpc/sluice/sdk/wire/preface"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// daemon is a running slurmd.
type daemon struct {
	f     *flags
	host  string
	nodes []*wlm.Node
	level slog.LevelVar
	log   *slog.Logger
	file  *logfile.File
	key   auth.Key
	stop  context.CancelFunc

	garbage atomic.Uint64 // connections that were no calls

	cfgPath  string // absolute
	launcher *lazy

	mu    sync.Mutex // guards all below
	cfg   *conf.Config
	conns map[string]*grpc.ClientConn
}

// gcPercent trades time for memory: many slurmd may share a host.
const gcPercent = 50

// maxMessage bounds a message: a script of 4 MiB and an environment fit.
const maxMessage = 64 << 20

// serve runs the daemon until it is told to end; ready is called when it
// serves.
func serve(f *flags, inBackground bool, ready func()) error {
	debug.SetGCPercent(gcPercent)
	cfg, warnings, err := conf.Load(f.confPath())
	if err != nil {
		return err
	}
	d := &daemon{f: f, host: shortHost(), cfg: cfg, conns: make(map[string]*grpc.ClientConn)}
	if d.nodes, err = chooseNodes(cfg, f.nodes, d.host); err != nil {
		return err
	}
	if d.cfgPath, err = filepath.Abs(f.confPath()); err != nil {
		return err
	}
	if err := d.openLog(inBackground); err != nil {
		return err
	}
	for _, w := range warnings {
		d.log.Warn("configuration", "at", w.Error())
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	d.stop = stop
	locks, err := d.prepareSpools(ctx)
	if err != nil {
		return err
	}
	defer func() {
		for _, l := range locks {
			l.Close()
		}
	}()
	if d.key, err = loadKey(cfg, d.host); err != nil {
		return err
	}
	if err := d.settle(); err != nil {
		return err
	}
	return d.run(ctx, ready)
}

// settle does what -s and -M ask for.
func (d *daemon) settle() error {
	if d.f.lock {
		if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE); err != nil {
			d.log.Warn("memory is not locked (-M)", "err", err)
		}
	}
	if !d.f.chdir {
		return nil
	}
	path := cmp.Or(d.f.logFile, d.cfg.SlurmdLog(d.nodes[0].Name, d.host))
	if path != "" && os.Chdir(filepath.Dir(path)) == nil {
		return nil
	}
	return os.Chdir(d.spool(d.nodes[0]))
}

// run wires the parts together, in the order in which they need each other.
func (d *daemon) run(ctx context.Context, ready func()) error {
	first := d.spool(d.nodes[0])
	host, err := pluginhost.New(pluginhost.Config{PluginDir: filepath.SplitList(d.cfg.PluginDir), RunDir: first,
		Cluster: d.cfg.ClusterName, HostName: string(d.nodes[0].Name), Log: d.log})
	if err != nil {
		return err
	}
	defer func() {
		c, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		host.Close(c)
	}()
	launcher, err := newLazy(host, d.cfg, d.f.stepd)
	if err != nil {
		return err
	}
	d.launcher = launcher
	hub := agent.NewHub(launcher, d.log)
	agents, err := d.agents(hub, host)
	if err != nil {
		return err
	}
	srv, serving, err := d.listen(agents)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	for _, a := range agents {
		wg.Go(func() { a.Run(ctx) })
	}
	wg.Go(func() { hub.Run(ctx) })
	wg.Go(func() { d.tokens(ctx) })
	wg.Go(func() { d.health(ctx) })
	if err := d.writePidFiles(); err != nil {
		d.log.Warn("pid file", "err", err)
	}
	defer d.removePidFiles()
	d.log.Info("slurmd serves", "version", version.Full(), "nodes", len(d.nodes), "node", d.nodes[0].Name)
	ready()
	d.signals(ctx)
	d.stop()
	srv.Stop()
	for _, done := range serving {
		<-done
	}
	wg.Wait()
	d.log.Info("slurmd ends; what runs goes on")
	return nil
}

// chooseNodes finds which nodes of the configuration this daemon is.
func chooseNodes(cfg *conf.Config, names, host string) (out []*wlm.Node, err error) {
	if names == "" {
		for i := range cfg.Nodes {
			if n := &cfg.Nodes[i]; string(n.Name) == host || n.Hostname == host {
				out = append(out, n)
			}
		}
		switch len(out) {
		case 1:
			return out, nil
		case 0:
			return nil, fmt.Errorf("no node of %s has NodeName or NodeHostname %s; -N names the node to run as", cfg.Path, host)
		}
		return nil, fmt.Errorf("%d nodes of %s are on host %s (%s, %s, ...); -N names the one to run as", len(out), cfg.Path, host, out[0].Name, out[1].Name)
	}
	list, err := hostlist.Expand(names)
	if err != nil {
		return nil, fmt.Errorf("-N %s: %w", names, err)
	}
	for _, name := range list {
		n := cfg.Node(wlm.NodeName(name))
		if n == nil {
			return nil, fmt.Errorf("-N %s: %s has no NodeName=%s", names, cfg.Path, name)
		}
		out = append(out, n)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("-N %q names no node", names)
	}
	return out, nil
}

func (d *daemon) openLog(inBackground bool) error {
	path := d.f.logFile
	if path == "" {
		path = d.cfg.SlurmdLog(d.nodes[0].Name, d.host)
	}
	if path != "" {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("SlurmdLogFile: %w", err)
		}
	}
	stderr := os.Stderr
	if inBackground {
		stderr = nil
	}
	var err error
	if stderr != nil {
		d.file, err = logfile.Open(path, stderr)
	} else {
		d.file, err = logfile.Open(path, nil)
	}
	if err != nil {
		return fmt.Errorf("SlurmdLogFile: %w", err)
	}
	d.setLevel(d.cfg)
	d.log = d.file.Logger(&d.level)
	return nil
}

func (d *daemon) setLevel(cfg *conf.Config) {
	d.level.Set((cfg.SlurmdDebug + conf.Level(d.f.verbose)).Slog())
}

func (d *daemon) config() *conf.Config {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cfg
}

func (d *daemon) spool(n *wlm.Node) string { return d.cfg.SpoolDir(n.Name, d.host) }

// lockWait is how long a slurmd that is ending is waited for.
const lockWait = 5 * time.Second

// prepareSpools makes each node's directory and takes its lock, so that one
// slurmd serves a node.
func (d *daemon) prepareSpools(ctx context.Context) (locks []*os.File, err error) {
	seen := make(map[string]wlm.NodeName)
	for _, n := range d.nodes {
		dir, err := filepath.Abs(d.spool(n))
		if err != nil {
			return nil, err
		}
		if other, ok := seen[dir]; ok {
			return nil, fmt.Errorf("SlurmdSpoolDir=%s is the same for nodes %s and %s; %%n in it is the node's name", d.cfg.SlurmdSpoolDir, other, n.Name)
		}
		seen[dir] = n.Name
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("SlurmdSpoolDir: %w", err)
		}
		l, err := lockFile(ctx, filepath.Join(dir, "lock"))
		if err != nil {
			return nil, fmt.Errorf("node %s: %w", n.Name, err)
		}
		locks = append(locks, l)
		if d.f.clear {
			clearSpool(dir)
		}
	}
	return locks, nil
}

func lockFile(ctx context.Context, path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	const pause = 20 * time.Millisecond
	for end := time.Now().Add(lockWait); ; {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) || time.Now().After(end) {
			f.Close()
			return nil, fmt.Errorf("another slurmd serves it (%s is locked)", path)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// clearSpool forgets what earlier daemons left, but nothing that runs: the
// launcher still finds that.
func clearSpool(dir string) {
	os.Remove(filepath.Join(dir, "reports"))
	os.Remove(filepath.Join(dir, "controller.pub"))
	os.RemoveAll(filepath.Join(dir, "jobs"))
}

// loadKey reads slurm.key. Beside a controller it may be made by whoever comes
// first; elsewhere it must be copied from there.
func loadKey(cfg *conf.Config, host string) (auth.Key, error) {
	key, err := auth.LoadKey(cfg.KeyPath())
	if err == nil {
		return key, nil
	}
	if _, serr := os.Stat(cfg.KeyPath()); !errors.Is(serr, os.ErrNotExist) {
		return auth.LoadKey(cfg.KeyPath()) // it may have been made just now
	}
	for _, h := range cfg.Hosts {
		ip := net.ParseIP(h.Addr)
		if h.Name == host || h.Name == "localhost" || ip != nil && ip.IsLoopback() {
			return auth.CreateKey(cfg.KeyPath())
		}
	}
	return key, fmt.Errorf("%w; copy it from the controller's host", err)
}

// controllers are the addresses to dial.
func (d *daemon) controllers() []string { return d.config().Controllers() }

// Reconnecting is the agent's business; these keep a connection from being
// slower about it.
const (
	redialMin    = 50 * time.Millisecond
	redialMax    = time.Second
	keepaliveGap = 30 * time.Second
)

// connect returns a client of one controller; nodes share the connection.
func (d *daemon) connect(addr string) (nodev1.FleetClient, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	cc := d.conns[addr]
	if cc == nil {
		claims := auth.Claims{User: auth.UserName(wlm.UID(os.Getuid())), UID: wlm.UID(os.Getuid()), GID: wlm.GID(os.Getgid()),
			Cluster: d.cfg.ClusterName, Node: string(d.nodes[0].Name), Role: auth.RoleSlurmUser.String()}
		var err error
		cc, err = grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithPerRPCCredentials(auth.Daemon(d.key, claims)),
			grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: 5 * time.Second,
				Backoff: backoff.Config{BaseDelay: redialMin, Multiplier: 1.6, Jitter: 0.2, MaxDelay: redialMax}}),
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveGap, Timeout: keepaliveGap / 3}),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)))
		if err != nil {
			return nil, err
		}
		d.conns[addr] = cc
	}
	return nodev1.NewFleetClient(cc), nil
}

// address is where a node's API is reached.
func (d *daemon) address(n *wlm.Node) string {
	addr, port := n.Addr, n.Port
	if addr == "" {
		addr = n.Hostname
	}
	if addr == "" {
		addr = string(n.Name)
	}
	if port == 0 {
		port = uint32(d.cfg.SlurmdPort)
	}
	return net.JoinHostPort(addr, strconv.Itoa(int(port)))
}

// agents makes the agent of each node.
func (d *daemon) agents(hub *agent.Hub, host *pluginhost.Host) (out []*agent.Agent, err error) {
	boot := bootTime()
	if d.f.bootNow {
		boot = time.Now().Unix()
	}
	hw := detect("/", d.cfg.TmpFS)
	confine := slices.Contains(d.cfg.TaskPlugin, "task/cgroup")
	var cores, memory, devices bool
	if c, _, err := conf.LoadCompanion(filepath.Join(filepath.Dir(d.cfg.Path), "cgroup.conf")); err == nil && confine {
		cores, memory, devices = c.Bool("ConstrainCores"), c.Bool("ConstrainRAMSpace"), c.Bool("ConstrainDevices")
	}
	for _, n := range d.nodes {
		f := facts(hw, d.host, version.Full(), boot)
		f.Features, f.Gres = n.Features, foundGres(n, d.log)
		gres, _ := wlm.NodeGres(n.Gres, n.GresConf) // was checked as the file was read
		spool, err := filepath.Abs(d.spool(n))
		if err != nil {
			return nil, err
		}
		a, err := agent.Open(agent.Config{Node: n.Name, Cluster: d.cfg.ClusterName, Spool: spool, ConfPath: d.cfg.Path,
			Addr: d.address(n), Facts: f, Gres: gres, Load: load, Hub: hub, Controllers: d.controllers, Connect: d.connect,
			KillWait: d.cfg.KillWait, UnkillableTimeout: d.cfg.UnkillableStepTimeout, JobFileAppend: d.cfg.JobFileAppend,
			ConstrainCores: cores, ConstrainMemory: memory, ConstrainDevices: devices, Binding: d.binding(), GroupName: auth.GroupName,
			LoginEnv: loginEnv, Where: d.where,
			Plugins:       func() []*nodev1.PluginReport { return pluginReports(host) },
			OnReconfigure: d.reload, OnShutdown: d.stop, OnPlugin: d.changePlugin, Log: d.log})
		if err != nil {
			return nil, fmt.Errorf("node %s: %w", n.Name, err)
		}
		out = append(out, a)
	}
	return out, nil
}

// where is a node's address in the topology of a partition.
func (d *daemon) where(node wlm.NodeName, partition string) (addr, pattern string) {
	return d.cfg.Topology.Of(partition).Address(string(node))
}

// binding is how tasks of this host are bound.
func (d *daemon) binding() agent.Binding {
	b := agent.Binding{Affinity: slices.Contains(d.cfg.TaskPlugin, "task/affinity"), HostCPUs: hostCPUs("/"),
		Block: d.cfg.SelectTypeParameters.DefaultDistBlock, Verbose: d.cfg.TaskPluginParam.Has("Verbose")}
	for _, word := range []string{"Cores", "Sockets", "Threads"} {
		if auto, _ := d.cfg.TaskPluginParam.Get("Autobind"); strings.EqualFold(auto, word) || d.cfg.TaskPluginParam.Has(word) {
			b.Auto = strings.ToLower(word)
		}
	}
	return b
}

func pluginReports(host *pluginhost.Host) (out []*nodev1.PluginReport) {
	for _, p := range host.Info() {
		out = append(out, &nodev1.PluginReport{Kind: p.GetKind(), Name: p.GetName(), Version: p.GetVersion(), Pid: p.GetPid(),
			State: p.GetState(), Restarts: p.GetRestarts(), Path: p.GetPath(), Since: p.GetSince(), Calls: p.GetCalls(), Rss: p.GetRss(),
			Sha256: p.GetSha256(), Contract: p.GetContract(), P50Us: p.GetP50Us(), P99Us: p.GetP99Us(), MaxUs: p.GetMaxUs(), Overruns: p.GetOverruns(),
			CpuSeconds: p.GetCpuSeconds(), LastError: p.GetLastError(), Limits: p.GetLimits(), User: p.GetUser(), Options: reportOptions(p.GetOptions())})
	}
	return out
}

func reportOptions(list []*ctlv1.ConfigValue) (out []*nodev1.PluginOption) {
	for _, o := range list {
		out = append(out, &nodev1.PluginOption{Key: o.GetKey(), Value: o.GetValue(), Origin: o.GetOrigin(), Default: o.GetDefault(), Unit: o.GetUnit()})
	}
	return out
}

// listen serves the nodes' API on each of their ports.
func (d *daemon) listen(agents []*agent.Agent) (*grpc.Server, []chan struct{}, error) {
	slurmUser := wlm.UID(0)
	if uid, err := lookupUID(d.cfg.SlurmUser); err == nil {
		slurmUser = uid
	} else {
		return nil, nil, fmt.Errorf("SlurmUser=%s: %w", d.cfg.SlurmUser, err)
	}
	gate := auth.NewGate(d.key, d.cfg.ClusterName, slurmUser)
	srv := grpc.NewServer(grpc.ChainUnaryInterceptor(gate.Unary()), grpc.ChainStreamInterceptor(gate.Stream()),
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}))
	nodev1.RegisterNodeAPIServer(srv, agent.NewAPI(version.Full(), agents...))
	var serving []chan struct{}
	ports := make(map[string]bool)
	for _, n := range d.nodes {
		_, port, err := net.SplitHostPort(d.address(n))
		if err != nil || ports[port] {
			continue
		}
		ports[port] = true
		l, err := net.Listen("tcp", ":"+port)
		if err != nil {
			srv.Stop()
			return nil, nil, fmt.Errorf("node %s: %w", n.Name, err)
		}
		done := make(chan struct{})
		serving = append(serving, done)
		go func() {
			defer close(done)
			if err := srv.Serve(preface.Listener(l, d.turnedAway)); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
				d.log.Error("serving the node's API", "addr", l.Addr(), "err", err)
			}
		}()
	}
	return srv, serving, nil
}

// turnedAway counts connections to a node's port that were no calls. They are
// logged as long as they are few.
func (d *daemon) turnedAway(peer net.Addr) {
	level := slog.LevelDebug
	n := d.garbage.Add(1)
	if n <= 3 || n%1000 == 0 {
		level = slog.LevelWarn
	}
	d.log.Log(context.Background(), level, "turned away a connection that is no call", "peer", peer, "so_far", n)
}

// tokens serves the host's token socket, if no other daemon does.
func (d *daemon) tokens(ctx context.Context) {
	cfg := d.config()
	issuer := &auth.Issuer{Key: d.key, Cluster: cfg.ClusterName, Controllers: d.controllers}
	if err := auth.ServeSocket(ctx, cfg.TokenSocket(), issuer.Reply); err != nil && ctx.Err() == nil {
		d.log.Warn("local tokens are not served", "socket", cfg.TokenSocket(), "err", err)
	}
}

func (d *daemon) reopenLog() {
	if err := d.file.Reopen(); err != nil {
		d.log.Error("log file not reopened", "err", err)
		return
	}
	d.log.Info("log file opened anew")
}

// signals waits until the daemon is to end. SIGHUP reads the configuration and
// opens the log again, SIGUSR2 reads the log level and opens the log again.
func (d *daemon) signals(ctx context.Context) {
	ch := make(chan os.Signal, 8)
	signal.Notify(ch, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR2, syscall.SIGPIPE)
	defer signal.Stop(ch)
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-ch:
			switch s {
			case syscall.SIGHUP:
				d.reopenLog()
				d.reload()
			case syscall.SIGUSR2:
				if cfg, _, err := conf.Load(d.cfgPath); err == nil {
					d.setLevel(cfg)
				}
				d.reopenLog()
			case syscall.SIGTERM, syscall.SIGINT:
				d.log.Info("told to end", "signal", s.String())
				return
			}
		}
	}
}

// reload reads the configuration again: log level, controllers, and what is
// asked of it from now on. A file with errors changes nothing.
func (d *daemon) reload() {
	cfg, _, err := conf.Load(d.cfgPath)
	if err != nil {
		d.log.Error("the configuration has errors; the old one stays in force", "err", err)
		return
	}
	d.mu.Lock()
	was := d.cfg
	d.cfg = cfg
	d.mu.Unlock()
	d.setLevel(cfg)
	d.relaunch(was, cfg)
	d.log.Info("configuration read again", "path", cfg.Path)
}

func (d *daemon) writePidFiles() error {
	text := []byte(strconv.Itoa(os.Getpid()) + "\n")
	for _, n := range d.nodes {
		path := d.cfg.SlurmdPid(n.Name, d.host)
		if path == "" {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (d *daemon) removePidFiles() {
	mine := strconv.Itoa(os.Getpid()) + "\n"
	for _, n := range d.nodes {
		path := d.cfg.SlurmdPid(n.Name, d.host)
		if b, err := os.ReadFile(path); err == nil && string(b) == mine {
			os.Remove(path)
		}
	}
}
