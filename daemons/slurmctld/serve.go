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
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sluice-hpc/sluice/conf"
	"github.com/sluice-hpc/sluice/core/auth"
	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/core/ctl"
	"github.com/sluice-hpc/sluice/core/fleet"
	"github.com/sluice-hpc/sluice/core/journal"
	"github.com/sluice-hpc/sluice/core/outbox"
	"github.com/sluice-hpc/sluice/core/pass"
	"github.com/sluice-hpc/sluice/core/pluginhost"
	"github.com/sluice-hpc/sluice/core/rpc"
	"github.com/sluice-hpc/sluice/core/view"
	"github.com/sluice-hpc/sluice/daemons/internal/clusterconf"
	"github.com/sluice-hpc/sluice/daemons/internal/logfile"
	"github.com/sluice-hpc/sluice/sdk/acctstore"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/version"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"google.golang.org/grpc"
)

// daemon is a running slurmctld.
type daemon struct {
	f       *flags
	path    string
	host    string
	level   slog.LevelVar
	file    *logfile.File
	log     *slog.Logger
	started time.Time
	stop    context.CancelFunc

	key     auth.Key
	signer  *auth.Signer
	plugins *pluginhost.Host
	set     *pluginSet
	loop    *ctl.Loop
	journal *journal.Journal
	view    *view.View
	runner  *pass.Runner
	orders  *ctl.Orders
	nodes   *ctl.Nodes
	fleet   *fleet.Fleet
	pump    *outbox.Pump
	store   *acctstore.Client

	port     *rpc.Port // of several controllers; nil for one
	server   *grpc.Server
	serveRPC func() error
	ready    func()
	self     conf.SlurmctldHost

	mu    sync.Mutex // guards cfg and leads
	cfg   *conf.Config
	leads bool // the rooms below this controller's loop exist
}

const heartbeat = 10 * time.Second

// serve runs the controller until it is told to end; ready is called when it
// serves.
func serve(f *flags, path string, inBackground bool, ready func()) error {
	defer paceCollector()()
	cfg, warnings, err := conf.Load(path)
	if err != nil {
		return err
	}
	d := &daemon{f: f, path: path, cfg: cfg, started: time.Now(), host: shortHost()}
	d.ready = sync.OnceFunc(func() {
		if err := d.writePidFile(); err != nil {
			d.log.Warn("pid file", "err", err)
		}
		ready()
	})
	if d.self, err = whoAmI(cfg, f.host, d.host); err != nil {
		return err
	}
	d.host = d.self.Name
	if err := expand(cfg, d.host); err != nil {
		return err
	}
	if d.path, err = filepath.Abs(path); err != nil {
		return err
	}
	if err := d.openLog(inBackground); err != nil {
		return err
	}
	for _, w := range warnings {
		d.log.Warn("configuration", "at", w.Error())
	}
	if len(cfg.Idle) > 0 {
		d.log.Warn("these keys are accepted, and without effect", "keys", strings.Join(cfg.Idle, " "))
	}
	if w := storageWarning(cfg); w != "" {
		d.log.Warn(w)
	}
	if err := os.MkdirAll(cfg.StateSaveLocation, 0o755); err != nil {
		return fmt.Errorf("StateSaveLocation: %w", err)
	}
	if f.chdir {
		if err := d.chdir(); err != nil {
			return err
		}
	}
	if d.key, err = auth.LoadKey(cfg.KeyPath()); errors.Is(err, os.ErrNotExist) {
		d.log.Warn("slurm.key is missing: a new one is made, which slurmd on other hosts need too", "path", cfg.KeyPath())
		d.key, err = auth.CreateKey(cfg.KeyPath())
	}
	if err != nil {
		return err
	}
	if len(cfg.Hosts) > 1 {
		d.signer = d.key.Signer()
	} else if d.signer, err = auth.NewSigner(cfg.StateSaveLocation); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	d.stop = stop
	if err := d.open(); err != nil {
		return err
	}
	if d.port != nil {
		defer d.port.Close()
	}
	defer d.removePidFile()
	for {
		err := d.run(ctx)
		d.f.clear = false // once
		if !errors.Is(err, journal.ErrLost) || ctx.Err() != nil {
			return err
		}
		d.log.Warn("this controller leads no longer; it begins again as a backup", "err", err)
	}
}

// chdir works in the log's directory, else in StateSaveLocation (-s).
func (d *daemon) chdir() error {
	path := cmp.Or(d.f.logFile, d.cfg.SlurmctldLogFile)
	if path != "" && os.Chdir(filepath.Dir(path)) == nil {
		return nil
	}
	return os.Chdir(d.cfg.StateSaveLocation)
}

// run wires the rooms in the order in which they need each other, and stops
// them in reverse. The first that ends ends all. With several controllers it
// stands by until this one leads.
func (d *daemon) run(parent context.Context) error {
	ctx, end := context.WithCancel(parent)
	defer end()
	d.setLeads(false)
	cfg := d.config()
	var err error
	signals := sync.OnceFunc(func() { go d.signals(ctx) })
	if d.port != nil {
		signals()
		go d.tokens(ctx)
	}
	if d.plugins, err = pluginhost.New(pluginhost.Config{PluginDir: filepath.SplitList(cfg.PluginDir), RunDir: runDir(cfg),
		Cluster: cfg.ClusterName, HostName: "slurmctld", Log: d.log}); err != nil {
		return err
	}
	defer func() {
		const patience = 3 * time.Second
		c, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		d.plugins.Close(c)
	}()
	set, err := d.startPlugins(ctx)
	if err != nil {
		return err
	}
	c, err := d.recover(ctx)
	if d.journal != nil {
		defer d.journal.Close()
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil // told to end while it stood by
		}
		return err
	}
	if now := d.config(); now != cfg { // read again while this one stood by
		if turn, err := d.tryAll(ctx, cfg, now, false); err != nil {
			d.log.Error("a plugin that slurm.conf names cannot serve: the one before it does", "err", err)
		} else if _, err := turn.adopt(ctx); err != nil {
			d.log.Error("plugins not swapped", "err", err)
		}
	}
	if d.port != nil {
		d.heed(ctx)
	}
	if err := d.begin(c); err != nil {
		return err
	}
	d.wire(c, set)
	d.setLeads(true)
	lis, err := d.listen(set)
	if err != nil {
		return err
	}
	ended := make(chan error, 8)
	var wg sync.WaitGroup
	start := func(run func(context.Context) error) { wg.Go(func() { ended <- run(ctx) }) }
	start(d.loop.Run)
	start(d.orders.Run)
	start(d.runner.Run)
	start(d.nodes.Watch)
	start(d.pump.Run)
	if d.port == nil {
		start(d.tokens)
	}
	start(d.watchLead)
	wg.Go(func() { ended <- d.serveRPC() })
	d.log.Info("slurmctld serves", "version", version.Full(), "cluster", cfg.ClusterName, "addr", lis.Addr().String())
	d.ready()
	signals()
	select {
	case <-ctx.Done():
	case err = <-ended:
	}
	d.server.Stop()
	end()
	wg.Wait()
	d.log.Info("slurmctld ends", "err", err)
	if errors.Is(err, grpc.ErrServerStopped) || errors.Is(err, context.Canceled) {
		err = nil
	}
	return err
}

// runDir is where plugins' sockets are. Root's plugins run as another user, who
// need not reach StateSaveLocation.
func runDir(cfg *conf.Config) string {
	const system = "/run/sluice"
	if os.Getuid() == 0 && os.MkdirAll(system, 0o755) == nil {
		return system
	}
	return cfg.StateSaveLocation
}

// recover opens the journal and brings the cluster back; with several
// controllers it waits until this one leads.
func (d *daemon) recover(ctx context.Context) (c *cluster.Cluster, err error) {
	d.journal = nil
	o := journal.Options{Dir: d.cfg.StateSaveLocation, ID: d.host, Salvage: d.f.ignore, Clear: d.f.clear, Log: d.log}
	if o.Group, err = d.group(ctx); err != nil {
		return nil, err
	}
	err = d.openJournal(ctx, o, func(o journal.Options) (err error) {
		c, d.journal, err = ctl.Open(o, clusterconf.Settings(d.config()))
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := d.lead(ctx); err != nil {
		return nil, err
	}
	j := d.journal
	r := j.Report()
	d.log.Info("state recovered", "jobs", c.JobCount(), "entries", r.Entries, "snapshot", r.Snapshot, "took", r.Took, "lost", r.Lost)
	if r.Lost > 0 {
		d.log.Error("the journal was cut: state of this many turns is lost", "entries", r.Lost)
	}
	return c, nil
}

// begin applies the configuration and opens this controller's term, before
// anyone listens.
func (d *daemon) begin(c *cluster.Cluster) error {
	loop := ctl.New(c, d.journal, ctl.Options{Log: d.log})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- loop.Run(ctx) }()
	changes, err := loop.Do(ctx, clusterconf.Configure(d.cfg))
	if err == nil {
		_, err = loop.Do(ctx, &cluster.Begin{Epoch: d.journal.Term()})
	}
	cancel()
	if e := <-done; err == nil {
		err = e
	}
	if list, ok := changes.([]string); ok && len(list) > 0 {
		d.log.Info("configuration applied", "changes", len(list))
	}
	return err
}

// wire makes the rooms around the loop.
func (d *daemon) wire(c *cluster.Cluster, set *pluginSet) {
	cfg := d.cfg
	d.view = view.New()
	d.view.Seed(&c.Tables)
	nodes := &ctl.Nodes{Loads: d.view, PublicKey: d.signer.Public(), Beat: heartbeat, Now: time.Now, Log: d.log,
		Silence: func() time.Duration { return finite(d.config().SlurmdTimeout) },
		Names:   d.nodeNames}
	d.nodes = nodes
	d.fleet = fleet.New(nodes, d.log)
	d.fleet.SetTerm(d.journal.Term())
	d.orders = ctl.NewOrders(ctl.OrderOptions{Cluster: cfg.ClusterName, Send: d.fleet, Read: d.view, Signer: d.signer, Term: d.journal.Term(),
		KillWait: func() time.Duration { return finite(d.config().KillWait) }, NodeAddr: d.nodeAddr, Log: d.log})
	nodes.Orders = d.orders
	records := newRecords(d.log)
	late := &lateLoop{}
	d.runner = pass.New(pass.Options{Loop: late, Sched: set.sched, Select: set.selector, Priority: set.priority,
		Outlooks: d.view.SetOutlooks, Settings: clusterconf.Policy(cfg), Age: finite(cfg.PriorityCalcPeriod), Log: d.log}, &c.Tables)
	set.wake.set(d.runner.Wake)
	d.loop = ctl.New(c, d.journal, ctl.Options{Log: d.log}, records.hear, d.view.Publish, d.runner.Publish, d.orders.Hear)
	late.Loop, nodes.Loop = d.loop, d.loop
	records.start(d.loop, c)
	d.store = acctstore.NewClient(set.store)
	d.pump = outbox.New(records, d.store, outbox.Options{Cluster: cfg.ClusterName, After: records.acked, Log: d.log})
}

// lateLoop is the loop for rooms that are made before it.
type lateLoop struct{ *ctl.Loop }

func finite(t time.Duration) time.Duration {
	if t == conf.Forever {
		return 0
	}
	return t
}

func (d *daemon) nodeNames() []wlm.NodeName {
	var out []wlm.NodeName
	d.view.Read(func(t *cluster.Tables) {
		for _, n := range t.Nodes {
			if n.State != wlm.NodeFuture && n.State != wlm.NodeDown {
				out = append(out, n.Name)
			}
		}
	})
	return out
}

// nodeAddr is where a node's own service listens.
func (d *daemon) nodeAddr(n *wlm.Node) string {
	host, port := n.Addr, n.Port
	if host == "" {
		host = n.Hostname
	}
	if host == "" {
		host = string(n.Name)
	}
	if port == 0 {
		port = uint32(d.config().SlurmdPort)
	}
	return net.JoinHostPort(host, strconv.FormatUint(uint64(port), 10))
}

// bind takes SlurmctldPort, or the port of this controller's own address.
func (d *daemon) bind() (net.Listener, error) {
	cfg := d.cfg
	host, port, err := net.SplitHostPort(d.self.Addr)
	if err != nil {
		host, port = d.self.Addr, strconv.Itoa(int(cfg.SlurmctldPort))
	}
	if !cfg.CommunicationParameters.Has("NoCtldInAddrAny") {
		host = ""
	}
	lis, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, fmt.Errorf("SlurmctldPort=%s: %w", port, err)
	}
	return lis, nil
}

// listen serves commands and nodes.
func (d *daemon) listen(set *pluginSet) (lis net.Listener, err error) {
	if d.port != nil {
		lis = d.port.Calls()
	} else if lis, err = d.bind(); err != nil {
		return nil, err
	}
	service := rpc.New(d.rpcDeps(set))
	d.server = service.GRPC()
	d.serveRPC = func() error { return service.Serve(d.server, lis) }
	return lis, nil
}

// endSoon ends the daemon once the replies on their way are sent.
func (d *daemon) endSoon() {
	const patience = time.Second
	timer := time.AfterFunc(patience, d.stop)
	d.server.GracefulStop()
	timer.Stop()
	d.stop()
}

// tokens serves the local token socket.
func (d *daemon) tokens(ctx context.Context) error {
	issuer := &auth.Issuer{Key: d.key, Cluster: d.cfg.ClusterName, Controllers: d.controllers}
	if err := auth.ServeSocket(ctx, d.cfg.TokenSocket(), issuer.Reply); err != nil {
		d.log.Error("local tokens are not served", "err", err)
	}
	<-ctx.Done()
	return nil
}

func (d *daemon) controllers() []string { return d.config().Controllers() }

// signals handles what the kernel brings: SIGTERM and SIGINT end, SIGHUP reads
// the configuration again and reopens the log file, SIGUSR2 reads the log level
// and reopens the log file.
func (d *daemon) signals(ctx context.Context) {
	ch := make(chan os.Signal, 4)
	signal.Notify(ch, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR2)
	defer signal.Stop(ch)
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-ch:
			switch s {
			case syscall.SIGHUP:
				d.reopenLog()
				if _, _, err := d.reconfigure(ctx, false); err != nil {
					d.log.Error("configuration not applied", "err", err)
				}
			case syscall.SIGUSR2:
				if cfg, _, err := conf.Load(d.path); err == nil {
					d.setLevel(cfg)
				}
				d.reopenLog()
			default:
				d.log.Info("told to end", "signal", s.String())
				d.stop()
			}
		}
	}
}

func (d *daemon) reopenLog() {
	if err := d.file.Reopen(); err != nil {
		d.log.Error("log file not reopened", "err", err)
		return
	}
	d.log.Info("log file opened anew")
}

func (d *daemon) setLeads(yes bool) {
	d.mu.Lock()
	d.leads = yes
	d.mu.Unlock()
}

func (d *daemon) config() *conf.Config {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cfg
}

// reconfigure reads the configuration again and applies it, all or nothing.
// Plugins that it names anew are tried before anything is changed.
func (d *daemon) reconfigure(ctx context.Context, dryRun bool) (changes, warnings []string, err error) {
	next, warn, err := conf.Load(d.path)
	if err != nil {
		return nil, nil, err
	}
	for _, w := range warn {
		warnings = append(warnings, w.Error())
	}
	for _, c := range conf.Diff(d.config(), next) {
		changes = append(changes, c.String())
	}
	if dryRun {
		return changes, warnings, nil
	}
	if err := expand(next, d.host); err != nil {
		return nil, nil, err
	}
	d.mu.Lock()
	leads := d.leads
	if !leads {
		d.cfg = next
	}
	d.mu.Unlock()
	if !leads { // the leader applies it to the cluster
		d.setLevel(next)
		return changes, warnings, nil
	}
	d.set.changing.Lock()
	defer d.set.changing.Unlock()
	turn, err := d.tryAll(ctx, d.config(), next, true)
	if err != nil {
		d.log.Error("configuration not applied: a plugin that it names cannot serve", "err", err)
		return nil, nil, final(err)
	}
	defer turn.discard()
	if _, err := d.loop.Do(ctx, clusterconf.Configure(next)); err != nil {
		return nil, nil, err
	}
	said, err := turn.adopt(ctx)
	if err != nil {
		return nil, nil, final(err)
	}
	changes = append(changes, said...)
	d.mu.Lock()
	d.cfg = next
	d.mu.Unlock()
	d.keep()
	d.setLevel(next)
	d.runner.Configure(clusterconf.Policy(next))
	d.shadowRules(clusterconf.Settings(next))
	d.view.Read(func(t *cluster.Tables) {
		for _, n := range t.Nodes {
			d.fleet.Send(n.Name, &nodev1.ToNode{Body: &nodev1.ToNode_Reconfigured{Reconfigured: &nodev1.Reconfigured{}}})
		}
	})
	d.log.Info("configuration applied", "changes", len(changes))
	return changes, warnings, nil
}

func (d *daemon) openLog(inBackground bool) error {
	path := d.f.logFile
	if path == "" {
		path = d.cfg.SlurmctldLogFile
	}
	if path != "" {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("SlurmctldLogFile: %w", err)
		}
	}
	var err error
	if inBackground {
		d.file, err = logfile.Open(path, nil)
	} else {
		d.file, err = logfile.Open(path, os.Stderr)
	}
	if err != nil {
		return fmt.Errorf("SlurmctldLogFile: %w", err)
	}
	d.setLevel(d.cfg)
	d.log = d.file.Logger(&d.level)
	return nil
}

func (d *daemon) setLevel(cfg *conf.Config) {
	d.level.Set((cfg.SlurmctldDebug + conf.Level(d.f.verbose)).Slog())
}

func (d *daemon) writePidFile() error {
	path := d.cfg.SlurmctldPidFile
	if path == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, fmt.Appendln(nil, os.Getpid()), 0o644)
}

func (d *daemon) removePidFile() {
	if text, err := os.ReadFile(d.cfg.SlurmctldPidFile); err == nil && strings.TrimSpace(string(text)) == strconv.Itoa(os.Getpid()) {
		os.Remove(d.cfg.SlurmctldPidFile)
	}
}

func shortHost() string {
	h, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	h, _, _ = strings.Cut(h, ".")
	return h
}
