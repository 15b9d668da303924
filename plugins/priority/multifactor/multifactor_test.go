package main

import (
	"context"
	"math"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/priority"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"pgregory.net/rapid"
)

func view(jobs []*mirror.Job, settings map[string]string, factors ...uint32) mirror.View {
	nodes := make([]mirror.Node, 4)
	for i := range nodes {
		nodes[i].CPUs = 64
	}
	var parts []mirror.Partition
	for _, f := range factors {
		parts = append(parts, mirror.Partition{JobFactor: f})
	}
	return mirror.Build(nodes, parts, nil, jobs, settings).View(1_000_000)
}

func TestFactors(t *testing.T) {
	base := map[string]string{"PriorityWeightAge": "1000", "PriorityWeightJobSize": "1000", "PriorityWeightPartition": "1000"}
	with := func(key, value string) map[string]string {
		m := map[string]string{key: value}
		for k, v := range base {
			if _, ok := m[k]; !ok {
				m[k] = v
			}
		}
		return m
	}
	four := &mirror.Class{MinNodes: 4, NTasks: 4, Partitions: []int{0}}
	two := &mirror.Class{MinNodes: 2, NTasks: 2, Partitions: []int{0}}
	one := &mirror.Class{MinNodes: 1, NTasks: 1, Partitions: []int{0}}
	for _, tc := range []struct {
		name     string
		job      mirror.Job
		settings map[string]string
		factors  []uint32
		want     uint32
	}{
		// Observed on 4 nodes of 64 CPUs, less 10000 of fair share: 11507, 11253, 11126.
		{"4 nodes", mirror.Job{Class: four}, base, []uint32{1}, 1507},
		{"2 nodes", mirror.Job{Class: two}, base, []uint32{1}, 1253},
		{"1 node", mirror.Job{Class: one}, base, []uint32{1}, 1126},
		{"half the age", mirror.Job{Class: one, Eligible: 1_000_000 - 302_400}, base, []uint32{1}, 1626},
		{"age is full after a week", mirror.Job{Class: one, Eligible: 1}, base, []uint32{1}, 2126},
		{"PriorityMaxAge", mirror.Job{Class: one, Eligible: 1_000_000 - 1800}, with("PriorityMaxAge", "60"), []uint32{1}, 1626},
		{"eligible later", mirror.Job{Class: one, Eligible: 2_000_000}, base, []uint32{1}, 1126},
		{"small jobs first", mirror.Job{Class: four}, with("PriorityFavorSmall", "YES"), []uint32{1}, 1492},
		{"relative to time", mirror.Job{Class: four, Limit: 60}, with("PriorityFlags", "MAX_TRES,SMALL_RELATIVE_TO_TIME"), []uint32{1}, 1015},
		{"another partition is worth more", mirror.Job{Class: one}, base, []uint32{1, 4}, 376},
		{"nice", mirror.Job{Class: one, Nice: 100}, base, []uint32{1}, 1026},
		{"never below 1", mirror.Job{Class: one, Nice: math.MaxInt32}, base, []uint32{1}, 1},
		{"no weights", mirror.Job{Class: one}, nil, []uint32{1}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.job.ID = 7
			r, err := Multifactor{}.Rank(context.Background(), view([]*mirror.Job{&tc.job}, tc.settings, tc.factors...), priority.Request{All: true})
			if err != nil || len(r.Priorities) != 1 || r.Priorities[0] != tc.want {
				t.Errorf("got %+v, %v; want priority %d", r, err, tc.want)
			}
		})
	}
}

func TestHeldJobsAreLeftOutUnlessNamed(t *testing.T) {
	v := view([]*mirror.Job{{ID: 1, Held: true}, {ID: 2}, {ID: 3, Running: true}}, nil, 1)
	r, _ := Multifactor{}.Rank(context.Background(), v, priority.Request{All: true})
	if len(r.Jobs) != 1 || r.Jobs[0] != 2 {
		t.Errorf("ranked %v, want [2]", r.Jobs)
	}
	if r, _ = (Multifactor{}).Rank(context.Background(), v, priority.Request{Jobs: []wlm.JobID{1, 3, 9}}); len(r.Jobs) != 1 || r.Jobs[0] != 1 {
		t.Errorf("ranked %v, want [1]", r.Jobs)
	}
}

func TestColumnsAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		j := &mirror.Job{ID: 1, Eligible: wlm.Time(rapid.IntRange(0, 2_000_000).Draw(t, "eligible")), Nice: int32(rapid.IntRange(-500, 500).Draw(t, "nice")),
			Class: &mirror.Class{MinNodes: uint32(rapid.IntRange(0, 9).Draw(t, "nodes")), NTasks: uint32(rapid.IntRange(0, 900).Draw(t, "tasks")), Partitions: []int{0, 5}}}
		v := view([]*mirror.Job{j}, map[string]string{"PriorityWeightAge": "1000", "PriorityWeightJobSize": "777", "PriorityWeightPartition": "55"}, 1, 2)
		r, _ := Multifactor{}.Rank(context.Background(), v, priority.Request{All: true})
		sum := 0.0
		for _, f := range r.Factors[0] {
			sum += f
		}
		if len(r.Names) != len(r.Factors[0]) || r.Priorities[0] < 1 || sum >= 1 && r.Priorities[0] != uint32(sum) {
			t.Fatalf("priority %d, factors %v", r.Priorities[0], r.Factors[0])
		}
	})
}

func BenchmarkRank(b *testing.B) {
	var jobs []*mirror.Job
	class := &mirror.Class{NTasks: 3, Partitions: []int{0}}
	for i := range 100_000 {
		jobs = append(jobs, &mirror.Job{ID: wlm.JobID(i + 1), Class: class, Eligible: wlm.Time(i)})
	}
	v := view(jobs, map[string]string{"PriorityWeightAge": "1000"}, 1)
	for b.Loop() {
		_, _ = Multifactor{}.Rank(context.Background(), v, priority.Request{All: true})
	}
}
