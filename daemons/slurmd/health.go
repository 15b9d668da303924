package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/sluice-hpc/sluice/conf"
)

const (
	healthLimit = 60 * time.Second // a check that takes longer is killed, as in Slurm
	healthPause = time.Second      // between looks at a configuration without a check
)

// health runs HealthCheckProgram at the start and every HealthCheckInterval,
// until ctx ends. The program sets its node down or drains it by itself, with
// scontrol; that it failed, and what it printed, is logged.
func (d *daemon) health(ctx context.Context) {
	var last time.Time
	for first := true; ; first = false {
		cfg := d.config()
		if due(cfg, last, first) {
			last = time.Now()
			d.checkHealth(ctx, cfg)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(healthPause):
		}
	}
}

// due reports whether a check is to run now.
func due(cfg *conf.Config, last time.Time, first bool) bool {
	if cfg.HealthCheckProgram == "" || cfg.HealthCheckInterval <= 0 {
		return false
	}
	if cfg.HealthCheckNodeState.Has("START_ONLY") {
		return first
	}
	return last.IsZero() || time.Since(last) >= cfg.HealthCheckInterval
}

func (d *daemon) checkHealth(ctx context.Context, cfg *conf.Config) {
	for _, n := range d.nodes {
		limited, cancel := context.WithTimeout(ctx, healthLimit)
		cmd := exec.CommandContext(limited, cfg.HealthCheckProgram)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "SLURM_CONF=" + cfg.Path, "SLURMD_NODENAME=" + string(n.Name)}
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &said, &said, time.Second
		err := cmd.Run()
		cancel()
		if err != nil && ctx.Err() == nil {
			const most = 500
			d.log.Error("health check failed", "node", n.Name, "program", cfg.HealthCheckProgram, "err", err, "output", string(said.Bytes()[:min(said.Len(), most)]))
		}
	}
}
