package main

import (
	"log/slog"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/wlm"
	glua "github.com/yuin/gopher-lua"
)

func warnUnchangeable(name string) {
	slog.Error("job_submit.lua assigns a field of job_desc that a modification cannot change", "field", name)
}

// partitions is part_list: asked for when the script first looks into it.
func (s *state) partitions() *glua.LTable {
	return s.lazy(func(into *glua.LTable) error {
		list, err := s.request.Partitions(s.ctx)
		if err != nil {
			return err
		}
		for _, p := range list {
			into.RawSetString(p.Name, partitionTable(s.lua, p))
		}
		return nil
	})
}

func partitionTable(l *glua.LState, p *wlm.Partition) *glua.LTable {
	t := l.NewTable()
	for name, v := range map[string]glua.LValue{
		"name": glua.LString(p.Name), "nodes": orNil(p.Nodes), "alternate": orNil(p.Alternate), "qos": orNil(p.QOS),
		"allow_accounts": joined(p.AllowAccounts), "deny_accounts": joined(p.DenyAccounts), "allow_groups": joined(p.AllowGroups),
		"allow_qos": joined(p.AllowQOS), "deny_qos": joined(p.DenyQOS), "allow_alloc_nodes": joined(p.AllocNodes),
		"billing_weights_str": orNil(p.TRESWeights), "job_defaults_str": orNil(p.JobDefaults),
		"flag_default": bit(p.Default), "state_up": glua.LNumber(partStates[p.State]), "total_nodes": glua.LNumber(len(p.NodeNames)),
		"default_time": orNoVal(p.DefaultTime), "max_time": orNoVal(p.MaxTime), "min_nodes": glua.LNumber(p.MinNodes),
		"max_nodes": limit(p.MaxNodes), "max_cpus_per_node": limit(p.MaxCPUsPerNode), "max_cpus_per_socket": limit(p.MaxCPUsPerSock),
		"max_mem_per_cpu": mib(p.MaxMemPerCPU), "max_mem_per_node": mib(p.MaxMemPerNode),
		"def_mem_per_cpu": mib(p.DefMemPerCPU), "def_mem_per_node": mib(p.DefMemPerNode),
		"priority_job_factor": glua.LNumber(p.PriorityJob), "priority_tier": glua.LNumber(p.PriorityTier),
		"max_share": glua.LNumber(p.OverSubCount), "grace_time": glua.LNumber(p.GraceTime),
	} {
		t.RawSetString(name, v)
	}
	return t
}

var partStates = map[wlm.PartState]int{wlm.PartUp: 0x3, wlm.PartDown: 0x1, wlm.PartDrain: 0x2, wlm.PartInactive: 0x0}

func joined(list []string) glua.LValue { return orNil(strings.Join(list, ",")) }

func limit(n uint32) glua.LValue {
	if n == wlm.Unset {
		return glua.LNumber(infinite)
	}
	return glua.LNumber(n)
}

func mib(m wlm.MiB) glua.LValue {
	if m == 0 {
		return glua.LNil
	}
	return glua.LNumber(m)
}

// record is job_rec, the job as it is: the fields of job_desc, and what only a
// job has. It cannot be changed.
func record(l *glua.LState, j *wlm.Job) *glua.LTable {
	t, meta := l.NewTable(), l.NewTable()
	meta.RawSetString("__index", l.NewFunction(func(l *glua.LState) int {
		l.Push(jobField(j, l.CheckString(2)))
		return 1
	}))
	meta.RawSetString("__newindex", l.NewFunction(func(l *glua.LState) int {
		slog.Error("job_submit.lua assigns a field of job_rec, which is the job as it is", "field", l.CheckString(2))
		return 0
	}))
	l.SetMetatable(t, meta)
	return t
}

func jobField(j *wlm.Job, name string) glua.LValue {
	if j == nil {
		return glua.LNil
	}
	switch name {
	case "job_id":
		return glua.LNumber(j.ID)
	case "job_state":
		return glua.LNumber(j.State)
	case "array_job_id":
		return glua.LNumber(j.ArrayJob)
	case "array_task_id":
		if j.ArrayJob == 0 || j.ArrayTask == wlm.Unset {
			return glua.LNumber(noVal)
		}
		return glua.LNumber(j.ArrayTask)
	case "restart_cnt":
		return glua.LNumber(j.Restarts)
	case "submit_time":
		return glua.LNumber(j.Submit)
	case "start_time":
		return glua.LNumber(j.Start)
	case "end_time":
		return glua.LNumber(j.End)
	case "time_limit":
		return orNoVal(j.TimeLimit)
	case "priority":
		return glua.LNumber(j.Priority)
	case "nodes":
		if j.Alloc == nil {
			return glua.LNil
		}
		return orNil(j.Alloc.NodeList)
	case "partition":
		if j.Partition != "" {
			return glua.LString(j.Partition)
		}
	}
	if f, ok := fields[name]; ok && j.Spec != nil {
		return f.read(j.Spec)
	}
	return glua.LNil
}
