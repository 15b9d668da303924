package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/sluice-hpc/sluice/conf"
	"github.com/sluice-hpc/sluice/core/auth"
	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/core/rpc"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/version"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// rpcDeps is what the services stand on.
func (d *daemon) rpcDeps(set *pluginSet) rpc.Deps {
	cfg := d.cfg
	return rpc.Deps{
		Gate: auth.NewGate(d.key, cfg.ClusterName, slurmUID(cfg)), Key: d.key, Cluster: cfg.ClusterName, Version: version.Full(), Host: d.host,
		Loop: d.loop, View: d.view, Conf: d.config, Fleet: d.fleet,
		Warnings: d.warnings, Filters: func() []rpc.Filter { return *set.filters.Load() }, Forecast: d.forecast, Explain: d.runner.Explain, Plugins: d.pluginInfo,
		ChangePlugin: d.changePlugin, Shadows: d.shadowReports,
		Reconfigure: d.reconfigure, Shutdown: d.shutdown, SetDebug: d.setDebug, Store: d.store, Flush: d.pump.Flush, Diag: d.diag,
	}
}

// warnings are what an operator must know.
func (d *daemon) warnings() []string {
	out := d.plugins.Warnings()
	if w := storageWarning(d.config()); w != "" {
		out = append(out, w)
	}
	if s := d.pump.Stats(); s.Err != nil {
		out = append(out, fmt.Sprintf("accounting storage fails: %v; no record is lost", s.Err))
	}
	return out
}

func (d *daemon) forecast(ctx context.Context, j *wlm.Job) (*ctlv1.ForecastReply, error) {
	look, cpus, part, err := d.runner.Forecast(ctx, j)
	if err != nil {
		return nil, err
	}
	return &ctlv1.ForecastReply{Start: int64(look.Start), Processors: uint32(cpus), Nodes: look.Nodes, Partition: part, Text: look.Text}, nil
}

// shutdown ends the controller and, unless told otherwise, every node daemon.
func (d *daemon) shutdown(_ context.Context, controllerOnly bool) error {
	if !controllerOnly {
		d.view.Read(func(t *cluster.Tables) {
			for _, n := range t.Nodes {
				d.fleet.Send(n.Name, &nodev1.ToNode{Body: &nodev1.ToNode_Shutdown{Shutdown: &nodev1.ShutdownNode{}}})
			}
		})
	}
	d.log.Info("told to end by scontrol shutdown")
	go func() {
		d.tellOthers()
		d.endSoon()
	}()
	return nil
}

func (d *daemon) setDebug(level, nodes string) error {
	if nodes != "" {
		return errs.Newf("slurmctld.SetDebug", errs.Unsupport, "log levels of nodes are set by SlurmdDebug and scontrol reconfigure")
	}
	l, err := conf.ParseLevel(level)
	if err != nil {
		return errs.Newf("slurmctld.SetDebug", errs.Invalid, "invalid debug level: %s", strings.TrimSpace(level))
	}
	d.level.Set(l.Slog())
	d.log.Info("log level set", "level", level)
	return nil
}

// diag adds the controller's own figures.
func (d *daemon) diag(_ bool, r *ctlv1.DiagReply) {
	s := d.runner.Stats()
	add := func(name string, v uint64) { r.Counters[name] = int64(v) }
	if r.Counters == nil {
		r.Counters = map[string]int64{}
	}
	add("passes", s.Passes)
	add("passes_failed", s.Failed)
	add("jobs_started", s.Started)
	add("placements_refused", s.Refused)
	add("pass_last_us", uint64(s.Last.Microseconds()))
	add("pass_max_us", uint64(s.Max.Microseconds()))
	add("pass_total_us", uint64(s.Total.Microseconds()))
	add("pass_push_us", uint64(s.Push.Microseconds()))
	add("pass_rank_us", uint64(s.Rank.Microseconds()))
	add("pass_plan_us", uint64(s.Plan.Microseconds()))
	add("pass_place_us", uint64(s.Place.Microseconds()))
	add("pass_commit_us", uint64(s.Commit.Microseconds()))
	add("turns", d.loop.Turns.Load())
	add("commands", d.loop.Commands.Load())
	add("events", d.loop.Events.Load())
}
