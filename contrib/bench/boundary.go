package main

import (
	"context"
	"os"
	"time"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/plugin"
	"github.com/sluice-hpc/sluice/sdk/plugin/session"
	"github.com/sluice-hpc/sluice/sdk/proto/plugin/v1"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/selector"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// policy is a plugin that does next to nothing: all jobs in order, none can
// start. What a pass with it takes in a process of its own, beyond what it takes
// in this one, is what the boundary costs.
type policy struct{}

func (policy) Plan(_ context.Context, v sched.View) (sched.Agenda, error) {
	a := sched.Agenda{Reservations: 1}
	for j := range v.PendingByPriority() {
		a.Add(j.ID, sched.Reserve)
	}
	return a, nil
}

func (policy) Place(_ context.Context, _ mirror.View, r selector.Request) (selector.Result, error) {
	v := selector.Verdict{Reason: wlm.WaitResources, Jobs: make([]wlm.JobID, len(r.Agenda.Entries))}
	for i := range r.Agenda.Entries {
		v.Jobs[i] = r.Agenda.Entries[i].Job
	}
	return selector.Result{Verdicts: []selector.Verdict{v}}, nil
}

func (policy) WhatIf(context.Context, mirror.View, *mirror.Job) (selector.Result, error) {
	return selector.Result{}, nil
}

// servePolicy makes this program the plugin when a host has started it.
func servePolicy() {
	if os.Getenv("SLUICE_PLUGIN") == "" {
		return
	}
	plugin.Serve(plugin.Plugin{Name: "bench",
		Sched:  func(plugin.Options) (sched.Scheduler, error) { return policy{}, nil },
		Select: func(plugin.Options) (selector.Selector, error) { return policy{}, nil }})
}

// boundaryCost measures passes over a mirror of 10,000 nodes and 100,000
// pending jobs: one job is new in each.
func boundaryCost(b *bench) {
	const passes = 10
	jobs, nodes := b.n(pendingMany), b.n(simNodes)
	e := mirror.NewEncoder()
	all := mirror.Change{Rev: 1, Partitions: []mirror.Partition{{Name: "cloud", Starts: true}}}
	for i := range nodes {
		all.Nodes = append(all.Nodes, mirror.Node{Index: wlm.NodeIndex(i), Name: "c", CPUs: 64, Memory: 8000, Usable: true})
	}
	class := e.Class(mirror.Class{NTasks: 1, CPUsPerTask: 1, MinNodes: 1})
	job := func(i int) *mirror.Job {
		return &mirror.Job{ID: wlm.JobID(i + 1), Class: class, Ready: true, Ranked: true, Priority: uint32(1000 + i%100), Submit: 1, Eligible: 1, Tasks: 1}
	}
	for i := range jobs {
		all.Jobs = append(all.Jobs, job(i))
	}
	frames := e.Change(all)
	host, stop := b.startPolicy()
	defer stop()
	var own mirror.Mirror
	feed := func(frames [][]byte) {
		check(host.PushState(frames))
		for _, f := range frames {
			_, err := own.ApplyBytes(f)
			check(err)
		}
	}
	feed(frames)
	plan, place := sched.NewClient(host), selector.NewClient(host)
	pass := func(rev uint64, frames [][]byte) time.Duration {
		began := time.Now()
		check(host.PushState(frames))
		a, err := plan.Plan(b.ctx, rev, 1)
		check(err)
		_, err = place.Place(b.ctx, rev, 1, selector.Request{Agenda: a})
		check(err)
		return time.Since(began)
	}
	direct := func(frames [][]byte) time.Duration {
		began := time.Now()
		for _, f := range frames {
			_, err := own.ApplyBytes(f)
			check(err)
		}
		a, err := policy{}.Plan(b.ctx, own.View(1))
		check(err)
		_, err = policy{}.Place(b.ctx, own.View(1), selector.Request{Agenda: a})
		check(err)
		return time.Since(began)
	}
	pass(e.Rev(), nil) // the snapshot has arrived
	var cost []float64
	for i := range passes {
		frames := e.Change(mirror.Change{Rev: e.Rev() + 1, Jobs: []*mirror.Job{job(jobs + i)}})
		across := pass(e.Rev(), frames)
		cost = append(cost, milli(across-direct(frames)))
	}
	b.report("pass.boundary", "ms", "", cost...)
}

// startPolicy starts this program as a plugin.
func (b *bench) startPolicy() (*session.Host, func()) {
	dir, err := os.MkdirTemp("", "sb")
	check(err)
	p, err := plugin.Start(b.ctx, plugin.StartConfig{Path: self(), SocketDir: dir})
	if err != nil {
		os.RemoveAll(dir)
		check(err)
	}
	stop := func() {
		p.Stop()
		os.RemoveAll(dir)
	}
	host, err := p.Open(b.ctx, session.HostConfig{Epoch: 1, Open: &pluginv1.Open{Cluster: "bench",
		Contracts: map[string]uint32{sched.Kind: sched.Contracts[0], selector.Kind: selector.Contracts[0]}}})
	if err != nil {
		stop()
		check(err)
	}
	return host, stop
}
