package main

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/plugin"
	"github.com/sluice-hpc/sluice/sdk/plugin/session"
	"github.com/sluice-hpc/sluice/sdk/proto/plugin/v1"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/selector"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// policy is a plugin that does next to nothing: the first jobs in order, none can
// start. What a pass with it takes in a process of its own, beyond what it takes
// in this one, is what the boundary costs. How many jobs it lists, and in how many
// verdicts, the cluster's settings say, so that its answers are as long as a real
// policy's. The answers are made once: making them is not what is measured.
type policy struct {
	agenda sched.Agenda
	result selector.Result
}

const (
	entriesKey  = "bench.entries"
	verdictsKey = "bench.verdicts"
)

func count(v mirror.View, key string) int {
	n, err := strconv.Atoi(v.Setting(key))
	if err != nil {
		return math.MaxInt
	}
	return n
}

func (p *policy) Plan(_ context.Context, v sched.View) (sched.Agenda, error) {
	if p.agenda.Entries != nil {
		return p.agenda, nil
	}
	p.agenda.Reservations = 1
	most := count(v, entriesKey)
	for j := range v.PendingByPriority() {
		if len(p.agenda.Entries) == most {
			break
		}
		p.agenda.Add(j.ID, sched.Reserve)
	}
	return p.agenda, nil
}

func (p *policy) Place(_ context.Context, v mirror.View, r selector.Request) (selector.Result, error) {
	if p.result.Verdicts != nil {
		return p.result, nil
	}
	jobs := r.Agenda.Entries
	n := max(1, min(count(v, verdictsKey), len(jobs)))
	p.result.Verdicts = make([]selector.Verdict, n)
	for i := range p.result.Verdicts {
		p.result.Verdicts[i] = selector.Verdict{Reason: wlm.WaitResources, Text: "1 node is needed, 0 of 10000 have room"}
	}
	for i := range jobs {
		v := &p.result.Verdicts[i*n/len(jobs)]
		v.Jobs = append(v.Jobs, jobs[i].Job)
	}
	return p.result, nil
}

func (*policy) WhatIf(context.Context, mirror.View, *mirror.Job) (selector.Result, error) {
	return selector.Result{}, nil
}

// servePolicy makes this program the plugin when a host has started it.
func servePolicy() {
	if os.Getenv("SLUICE_PLUGIN") == "" {
		return
	}
	p := &policy{}
	plugin.Serve(plugin.Plugin{Name: "bench",
		Sched:  func(plugin.Options) (sched.Scheduler, error) { return p, nil },
		Select: func(plugin.Options) (selector.Selector, error) { return p, nil }})
}

// world is a cluster that only mirrors know: full nodes, and jobs that wait.
type world struct {
	e       *mirror.Encoder
	all     mirror.Change // without what each pass adds
	nodes   int
	pending int
}

const worldNow = 1_000_000

func newWorld(nodes, jobs int) *world {
	w := &world{e: mirror.NewEncoder(), nodes: nodes}
	part := mirror.Partition{Name: "cloud", Starts: true, Tier: 1, MaxNodes: wlm.Unset, MaxCPUsPerNode: wlm.Unset, MaxTime: wlm.Unlimited}
	const cpus, memory = 64, 8000
	w.all = mirror.Change{Rev: 1, Now: worldNow, Settings: map[string]string{"SelectTypeParameters": "CR_Core_Memory"}}
	class := w.e.Class(mirror.Class{Partitions: []int{0}, NTasks: cpus, CPUsPerTask: 1, MinNodes: 1, MemPerNode: 100, CoreSpec: wlm.Unset})
	for i := range nodes {
		at := wlm.NodeIndex(i)
		part.Nodes = append(part.Nodes, at)
		w.all.Nodes = append(w.all.Nodes, mirror.Node{Index: at, Name: wlm.NodeName("c" + strconv.Itoa(i+1)), CPUs: cpus, Sockets: 1,
			CoresPerSocket: cpus, ThreadsPerCore: 1, Memory: memory, Weight: 1, Usable: true})
		w.all.Jobs = append(w.all.Jobs, &mirror.Job{ID: wlm.JobID(i + 1), Class: class, Running: true, Start: 1, End: worldNow + 1000 + wlm.Time(i),
			Uses: []mirror.NodeUse{{Node: at, CPUs: wlm.FullCPUSet(cpus), Mem: 100}}})
	}
	w.all.Partitions = []mirror.Partition{part}
	for range jobs {
		w.all.Jobs = append(w.all.Jobs, w.job())
	}
	return w
}

// job is one more that waits.
func (w *world) job() *mirror.Job {
	w.pending++
	class := w.e.Class(mirror.Class{Partitions: []int{0}, NTasks: 1, CPUsPerTask: 1, MinNodes: 1, CoreSpec: wlm.Unset})
	return &mirror.Job{ID: wlm.JobID(w.nodes + w.pending), Class: class, Ready: true, Ranked: true, Priority: uint32(1000 + w.pending%100), Submit: 1, Eligible: 1, Tasks: 1}
}

// more is the frames that tell of one more job.
func (w *world) more() [][]byte {
	j := w.job()
	w.all.Jobs = append(w.all.Jobs, j)
	return w.e.Change(mirror.Change{Rev: w.e.Rev() + 1, Now: worldNow, Jobs: []*mirror.Job{j}})
}

// pass takes one as the controller does, with plugins of other processes.
func (b *bench) pass(w *world, plan, place *running, frames [][]byte) (sched.Agenda, selector.Result, time.Duration) {
	began := time.Now()
	check(plan.PushState(frames))
	if place != plan {
		check(place.PushState(frames))
	}
	a, err := sched.NewClient(plan).Plan(b.ctx, w.e.Rev(), worldNow)
	check(err)
	r, err := selector.NewClient(place).Place(b.ctx, w.e.Rev(), worldNow, selector.Request{Agenda: a})
	check(err)
	return a, r, time.Since(began)
}

// boundaryCost measures passes over a mirror of 10,000 full nodes and 100,000
// pending jobs, one job new in each: with the default plugins, and what of that is
// the boundary.
func boundaryCost(b *bench) {
	const passes = 10
	w := newWorld(b.n(simNodes), b.n(pendingMany))
	frames := w.e.Change(w.all)
	plan := b.startPlugin("build/libexec/sluice/sched_backfill", sched.Kind)
	defer plan.stop()
	place := b.startPlugin("build/libexec/sluice/select_cons_tres", selector.Kind)
	defer place.stop()
	a, r, _ := b.pass(w, plan, place, frames) // the snapshot has arrived, and answers are known
	var whole []float64
	for range passes * b.runs {
		_, _, took := b.pass(w, plan, place, w.more())
		whole = append(whole, milli(took))
	}
	b.report("pass.policies", "ms", "", whole...)
	w.all.Settings[entriesKey], w.all.Settings[verdictsKey] = strconv.Itoa(len(a.Entries)), strconv.Itoa(len(r.Verdicts))
	cost := b.boundary(w, passes*b.runs)
	b.report("pass.boundary", "ms", "", cost...)
	const percent = 100
	b.report("pass.boundary.share", "%", "", percent*middle(cost)/middle(whole))
	quiet := newWorld(16, 1)
	quiet.e.Change(quiet.all)
	cost = b.boundary(quiet, passes*passes*b.runs)
	for i := range cost {
		cost[i] *= 1000
	}
	b.report("pass.boundary.fixed", "us", "", cost...)
}

// boundary is what passes take across the boundary beyond what they take without
// one, with the same answers; in milliseconds.
func (b *bench) boundary(w *world, passes int) (cost []float64) {
	host := b.startPlugin(self(), sched.Kind, selector.Kind)
	defer host.stop()
	var own mirror.Mirror
	linked := &policy{}
	direct := func(frames [][]byte) time.Duration {
		began := time.Now()
		for _, f := range frames {
			_, err := own.ApplyBytes(f)
			check(err)
		}
		a, err := linked.Plan(b.ctx, own.View(worldNow))
		check(err)
		_, err = linked.Place(b.ctx, own.View(worldNow), selector.Request{Agenda: a})
		check(err)
		return time.Since(began)
	}
	snapshot := w.snapshot()
	b.pass(w, host, host, snapshot)
	direct(snapshot)
	for range passes {
		frames := w.more()
		_, _, across := b.pass(w, host, host, frames)
		cost = append(cost, milli(across-direct(frames)))
	}
	return cost
}

func (w *world) snapshot() [][]byte {
	w.all.Rev, w.all.Now = w.e.Rev(), worldNow
	return w.e.Snapshot(w.all)
}

// pluginProcess measures the scheduler's process: its first sync, its death and
// its memory.
func pluginProcess(b *bench, _ *cluster) {
	const path = "build/libexec/sluice/sched_backfill"
	w := newWorld(b.n(simNodes), b.n(pendingMany))
	w.e.Change(w.all)
	var idle, perJob, first []float64
	var kills []time.Duration
	sync := func(p *running) time.Duration {
		began := time.Now()
		check(p.PushState(w.snapshot()))
		for p.rev.Load() != w.e.Rev() {
			if time.Since(began) > time.Minute {
				fail("the plugin has not synced within a minute")
			}
			b.pause(time.Millisecond)
		}
		return time.Since(began)
	}
	const rest = 3 * time.Second
	for range b.runs {
		p := b.startPlugin(path, sched.Kind)
		b.pause(rest)
		before, _ := ownMemory(p.proc.PID())
		idle = append(idle, before)
		first = append(first, milli(sync(p)))
		b.pause(rest)
		after, _ := ownMemory(p.proc.PID())
		perJob = append(perJob, (after-before)*(1<<20)/float64(len(w.all.Jobs)))
		began := time.Now()
		check(syscall.Kill(p.proc.PID(), syscall.SIGKILL))
		<-p.proc.Exited()
		next := b.startPlugin(path, sched.Kind)
		sync(next)
		kills = append(kills, time.Since(began))
		next.stop()
		p.stop()
	}
	b.report("plugin.sync", "ms", "", first...)
	b.reportTimes("plugin.kill_to_sync", kills)
	b.report("plugin.memory", "MiB", "", idle...)
	b.report("plugin.memory.job", "B", "", perJob...)
}

// running is a plugin that serves this program.
type running struct {
	*session.Host
	proc *plugin.Process
	rev  atomic.Uint64 // that its mirror told of last
	stop func()
}

// startPlugin starts a program as a plugin of some kinds.
func (b *bench) startPlugin(path string, kinds ...string) *running {
	dir, err := os.MkdirTemp("", "sb")
	check(err)
	path, err = filepath.Abs(path)
	check(err)
	r := &running{}
	r.proc, err = plugin.Start(b.ctx, plugin.StartConfig{Path: path, SocketDir: dir})
	if err != nil {
		os.RemoveAll(dir)
		check(err)
	}
	r.stop = func() {
		r.proc.Stop()
		os.RemoveAll(dir)
	}
	contracts := map[string]uint32{}
	for _, k := range kinds {
		contracts[k] = 1
	}
	r.Host, err = r.proc.Open(b.ctx, session.HostConfig{Epoch: 1, Open: &pluginv1.Open{Cluster: "bench", Contracts: contracts},
		Sync: func(rev, _ uint64, _ bool) { r.rev.Store(rev) }})
	if err != nil {
		r.stop()
		check(err)
	}
	return r
}
