package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// scaled measures passes over 10,000 nodes with 100,000 jobs of 2,000 shapes in the
// simulator: the core, and plugins in processes of their own. The pass that finds
// all jobs new is told apart from those that follow when jobs end.
func scaled(b *bench, _ *cluster) {
	const steps = 150
	dir, err := os.MkdirTemp("", "bench")
	check(err)
	defer os.RemoveAll(dir)
	table := filepath.Join(dir, "growth.csv")
	jobs := strconv.Itoa(b.n(pendingMany))
	cmd := exec.CommandContext(b.ctx, "build/sbin/slurmsim", "growth", "--max-nodes", "100", "--jobs", "1000", "--nodes", strconv.Itoa(b.n(simNodes)),
		"--min-jobs", jobs, "--max-jobs", jobs, "--steps", strconv.Itoa(steps), "--csv", table)
	cmd.Stderr = os.Stderr
	check(cmd.Run())
	f, err := os.Open(table)
	check(err)
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	check(err)
	last := map[string]float64{}
	for i, name := range rows[0] {
		last[name], err = strconv.ParseFloat(rows[len(rows)-1][i], 64)
		check(err)
	}
	b.report("scale.first", "ms", "", last["first_pass_ms"])
	b.report("scale.pass.p50", "ms", "", last["pass_p50_ms"])
	b.report("scale.pass.p99", "ms", "", last["pass_p99_ms"])
	b.report("scale.memory", "MiB", "", last["plugins_mib"]+last["core_mib"])
}

// traces replays the logs that SLUICE_TRACES names a directory with.
func traces(b *bench, _ *cluster) {
	dir := os.Getenv("SLUICE_TRACES")
	if dir == "" {
		fmt.Println("# SLUICE_TRACES names no directory with logs of the Parallel Workloads Archive: nothing to replay")
		return
	}
	logs, err := filepath.Glob(filepath.Join(dir, "*.swf.gz"))
	check(err)
	var speed []float64
	for _, log := range logs {
		out, err := exec.CommandContext(b.ctx, "build/sbin/slurmsim", "--trace", log, "--policy", "easy", "--quiet", "--json").Output()
		check(err)
		var doc struct {
			Policies []struct {
				Speed float64 `json:"times_real_time"`
			} `json:"policies"`
		}
		check(json.Unmarshal(out, &doc))
		speed = append(speed, doc.Policies[0].Speed)
	}
	b.report("scale.trace", "x", "", speed...)
}
