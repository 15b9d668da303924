package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sluice-hpc/sluice/conf"
	"github.com/sluice-hpc/sluice/core/auth"
	"github.com/sluice-hpc/sluice/core/journal"
	"github.com/sluice-hpc/sluice/core/rpc"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/version"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// whoAmI finds the SlurmctldHost line that this process is: --host, else the
// one with the host's name, else the one whose address is the host's.
func whoAmI(cfg *conf.Config, asked, host string) (conf.SlurmctldHost, error) {
	if asked != "" {
		for _, h := range cfg.Hosts {
			if h.Name == asked {
				return h, nil
			}
		}
		return conf.SlurmctldHost{}, fmt.Errorf("--host %s: %s has no SlurmctldHost=%s (it has %s)", asked, cfg.Path, asked, hostNames(cfg.Hosts))
	}
	full, err := os.Hostname()
	if err != nil {
		full = host
	}
	var here []conf.SlurmctldHost
	for _, h := range cfg.Hosts {
		if strings.EqualFold(h.Name, host) || strings.EqualFold(h.Name, full) {
			return h, nil
		}
		if isLocal(h.Addr) {
			here = append(here, h)
		}
	}
	switch len(here) {
	case 0:
		return conf.SlurmctldHost{}, fmt.Errorf("this host (%s) is not a valid controller: %s has SlurmctldHost=%s; --host names the one to run as", host, cfg.Path, hostNames(cfg.Hosts))
	case 1:
		return here[0], nil
	}
	return conf.SlurmctldHost{}, fmt.Errorf("several controllers of %s are on this host (%s): --host names the one to run as", cfg.Path, hostNames(here))
}

func hostNames(hosts []conf.SlurmctldHost) string {
	var out []string
	for _, h := range hosts {
		out = append(out, h.Name)
	}
	return strings.Join(out, ", ")
}

// isLocal reports whether an address, with or without a port, is this host's.
func isLocal(addr string) bool {
	if h, _, err := net.SplitHostPort(addr); err == nil {
		addr = h
	}
	if addr == "localhost" {
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	found, err := net.DefaultResolver.LookupIPAddr(ctx, addr)
	if err != nil {
		return false
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(found, func(a net.IPAddr) bool {
		return a.IP.IsLoopback() || slices.ContainsFunc(own, func(o net.Addr) bool {
			n, ok := o.(*net.IPNet)
			return ok && n.IP.Equal(a.IP)
		})
	})
}

// minVoters is how many controllers make a group of voters. Two cannot outvote
// each other: they are Slurm's primary and backup, which share StateSaveLocation.
const minVoters = 3

// group is how several controllers share the journal; nil for fewer than three.
func (d *daemon) group(ctx context.Context) (*journal.Group, error) {
	if len(d.cfg.Hosts) < minVoters {
		return nil, nil
	}
	dial, err := rpc.DialVoter(d.key)
	if err != nil {
		return nil, err
	}
	g := &journal.Group{Accept: d.port.Voters(), Dial: dial}
	for i, addr := range d.cfg.Controllers() {
		g.Members = append(g.Members, journal.Member{Name: d.cfg.Hosts[i].Name, Addr: addr})
	}
	return g, nil
}

// open binds the port that several controllers need before they lead.
func (d *daemon) open() error {
	if len(d.cfg.Hosts) < 2 {
		return nil
	}
	lis, err := d.bind()
	if err != nil {
		return err
	}
	d.port, err = rpc.NewPort(lis, d.key)
	return err
}

// standBy serves as a backup until wait returns: pings are answered,
// everything else is told to ask another controller.
func (d *daemon) standBy(ctx context.Context, wait func(context.Context) error) error {
	deps := rpc.Deps{Gate: auth.NewGate(d.key, d.cfg.ClusterName, slurmUID(d.cfg)), Key: d.key, Cluster: d.cfg.ClusterName,
		Version: version.Full(), Host: d.host, Conf: d.config, Mode: func() string { return "backup" },
		Shutdown: d.shutdownBackup,
		Fleet:    nodev1.UnimplementedFleetServer{}, // so that nodes hear where to go
		Standby:  func() error { return errs.Coded("slurmctld", errs.StandbyMode) }}
	service := rpc.New(deps)
	server := service.GRPC()
	served := make(chan error, 1)
	go func() { served <- service.Serve(server, d.port.Calls()) }()
	defer func() {
		server.Stop()
		<-served
	}()
	d.log.Info("slurmctld stands by", "version", version.Full(), "cluster", d.cfg.ClusterName, "controller", d.host, "addr", d.port.Addr().String())
	d.ready()
	if err := wait(ctx); err != nil {
		return err
	}
	d.refresh()
	return nil
}

// refresh reads the configuration that the former leader may have been told to
// apply while this controller stood by.
func (d *daemon) refresh() {
	next, _, err := conf.Load(d.path)
	if err == nil {
		err = expand(next, d.host)
	}
	if err != nil {
		d.log.Error("the configuration has errors; the one that was read at the start serves", "err", err)
		return
	}
	d.mu.Lock()
	d.cfg = next
	d.mu.Unlock()
	d.setLevel(next)
}

// shutdownBackup ends this backup when the leader says so. Others are sent to
// the leader, who tells all.
func (d *daemon) shutdownBackup(ctx context.Context, _ bool) error {
	if id := auth.From(ctx); id == nil || id.Node == "" {
		return errs.Coded("slurmctld", errs.StandbyMode)
	}
	d.log.Info("told to end by the leader")
	go d.stop()
	return nil
}

// openJournal opens the journal, of two controllers on a shared directory when
// the other one is gone.
func (d *daemon) openJournal(ctx context.Context, o journal.Options, start func(journal.Options) error) error {
	err := start(o)
	if len(d.cfg.Hosts) != 2 || errs.KindOf(err) != errs.Busy {
		return err
	}
	return d.standBy(ctx, func(ctx context.Context) error {
		tick := time.NewTicker(lockRetry)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-tick.C:
			}
			if err := start(o); errs.KindOf(err) != errs.Busy {
				return err
			}
		}
	})
}

// lockRetry is how often a backup looks whether the primary is gone.
const lockRetry = 500 * time.Millisecond

// lead waits for the lead of a group; at once when there is no group.
func (d *daemon) lead(ctx context.Context) error {
	if len(d.cfg.Hosts) < minVoters {
		return nil
	}
	if err := d.standBy(ctx, d.journal.Lead); err != nil {
		return err
	}
	d.log.Info("this controller leads now", "controller", d.host, "term", d.journal.Term())
	return nil
}

// watchLead ends the daemon's work as leader when the lead is lost.
func (d *daemon) watchLead(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-d.journal.Lost():
		return journal.ErrLost
	}
}

// tellOthers ends the other controllers, which would take over else.
func (d *daemon) tellOthers() {
	const patience = 2 * time.Second
	claims := auth.Claims{User: auth.UserName(slurmUID(d.cfg)), UID: slurmUID(d.cfg), Cluster: d.cfg.ClusterName, Node: d.host,
		Role: auth.RoleSlurmUser.String()}
	for i, addr := range d.config().Controllers() {
		if d.cfg.Hosts[i].Name == d.host {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		cc, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithPerRPCCredentials(auth.Daemon(d.key, claims)))
		if err == nil {
			_, err = ctlv1.NewControllerClient(cc).Shutdown(ctx, &ctlv1.ShutdownRequest{ControllerOnly: true})
			cc.Close()
		}
		cancel()
		if err != nil {
			d.log.Warn("another controller was not told to end", "addr", addr, "err", err)
		}
	}
}

// expand replaces %h in the controller's own paths by its name, so that several
// controllers may share a configuration.
func expand(cfg *conf.Config, name string) error {
	for _, p := range []*string{&cfg.StateSaveLocation, &cfg.SlurmctldLogFile, &cfg.SlurmctldPidFile} {
		*p = conf.Expand(*p, "", name)
	}
	abs, err := filepath.Abs(cfg.StateSaveLocation)
	cfg.StateSaveLocation = abs
	return err
}

// storageWarning tells of accounting that does not move with the lead.
func storageWarning(cfg *conf.Config) string {
	const sqlite = "accounting_storage/sqlite"
	if len(cfg.Hosts) < minVoters || cfg.AccountingStorageType != sqlite || cfg.PluginOptions[sqlite]["path"].Value != "" {
		return ""
	}
	return "AccountingStorageType=" + sqlite + ": each controller has a file of its own; PluginOptions=" + sqlite + ":path=FILE names one that all reach"
}
