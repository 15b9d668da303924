package bind

import (
	"strings"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/wlm"
	"pgregory.net/rapid"
)

// layout prints what each task is bound to.
func layout(c *CPUs) string {
	var out []string
	for _, s := range c.Tasks {
		out = append(out, s.String())
	}
	return strings.Join(out, " ")
}

var nodes = map[string]Node{
	"flat":    {Name: "n", Sockets: 1, Cores: 2, Threads: 1, Host: []int{0, 1}},
	"sockets": {Name: "n", Sockets: 2, Cores: 4, Threads: 1},
	"threads": {Name: "n", Sockets: 2, Cores: 2, Threads: 2, Host: []int{0, 4, 1, 5, 2, 6, 3, 7}},
}

func TestCPUs(t *testing.T) {
	for _, c := range []struct {
		node, cpus string
		tasks, cpt int
		bind, dist string
		want, env  string
	}{
		{"flat", "0-1", 2, 1, "", "", "0 1", "quiet,mask_cpu:0x1,0x2"},
		{"flat", "0-1", 2, 1, "verbose", "", "0 1", "verbose,mask_cpu:0x1,0x2"},
		{"flat", "0-1", 2, 1, "none", "", "", "quiet,none"},
		{"flat", "0-1", 2, 1, "v,rank", "", "0 1", "verbose,rank"},
		{"flat", "0-1", 2, 1, "v,map_cpu:1,0", "", "1 0", "verbose,map_cpu:1,0"},
		{"flat", "0-1", 2, 1, "v,mask_cpu:0x3,0x2", "", "0-1 1", "verbose,mask_cpu:3,2"},
		{"flat", "0-1", 2, 1, "sockets", "", "0-1 0-1", "quiet,mask_cpu:0x3,0x3"},
		{"flat", "0-1", 2, 1, "ldoms", "", "0-1 0-1", "quiet,mask_cpu:0x3,0x3"},
		{"flat", "0-1", 2, 1, "rank_ldom", "", "0-1 0-1", "quiet,rank_ldom"},
		{"flat", "0-1", 2, 1, "map_ldom:0", "", "0-1 0-1", "quiet,map_ldom:0"},
		{"flat", "0-1", 2, 1, "mask_ldom:0x1", "", "0-1 0-1", "quiet,mask_ldom:1"},
		{"flat", "0-1", 1, 2, "", "", "0-1", "quiet,mask_cpu:0x3"},
		{"flat", "0", 4, 1, "", "", "0 0 0 0", "quiet,mask_cpu:0x1"},
		{"flat", "0-1", 3, 1, "cores", "", "0 1 0", "quiet,mask_cpu:0x1,0x2,0x1"},
		{"sockets", "0-7", 8, 1, "", "block", "0 4 1 5 2 6 3 7", ""},
		{"sockets", "0-7", 8, 1, "", "block:block", "0 1 2 3 4 5 6 7", ""},
		{"sockets", "0-7", 4, 2, "", "block:cyclic", "0-1 4-5 2-3 6-7", ""},
		{"sockets", "0-7", 4, 2, "", "block:fcyclic", "0,4 1,5 2,6 3,7", ""},
		{"sockets", "0-7", 4, 2, "", "block:block", "0-1 2-3 4-5 6-7", ""},
		{"sockets", "0-7", 2, 1, "", "", "0-3 4-7", "quiet,mask_cpu:0x0F,0xF0"},
		{"sockets", "0-7", 3, 1, "", "", "0-7 0-7 0-7", "quiet,mask_cpu:0xFF"},
		{"sockets", "0-7", 3, 1, "cores", "", "0 4 1", ""},
		{"sockets", "0-7", 2, 1, "map_ldom:1,0", "", "4-7 0-3", ""},
		{"threads", "0-7", 4, 1, "", "", "0-1 4-5 2-3 6-7", "quiet,mask_cpu:0x11,0x44,0x22,0x88"},
		{"threads", "0-7", 8, 1, "", "block:block:block", "0 1 2 3 4 5 6 7", ""},
		{"threads", "0-7", 8, 1, "", "block:block:cyclic", "0 2 1 3 4 6 5 7", ""},
		{"threads", "0-7", 8, 1, "", "block:cyclic", "0 4 2 6 1 5 3 7", ""},
		{"threads", "0-7", 4, 2, "threads", "block:block:block", "0-1 2-3 4-5 6-7", ""},
		{"threads", "0-7", 2, 1, "map_cpu:4,1", "", "1 2", ""},
	} {
		n := nodes[c.node]
		cpus, err := wlm.ParseCPUSet(c.cpus)
		if err != nil {
			t.Fatal(err)
		}
		got, err := n.Bind(CPURequest{CPUs: cpus, Tasks: c.tasks, CPUsPerTask: c.cpt, Bind: c.bind, Distribution: c.dist})
		if err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		if layout(got) != c.want {
			t.Errorf("%+v: bound to %q", c, layout(got))
		}
		if env := got.Env()[3][1]; c.env != "" && env != c.env {
			t.Errorf("%+v: SLURM_CPU_BIND=%s", c, env)
		}
	}
	n := nodes["flat"]
	_, err := n.Bind(CPURequest{CPUs: wlm.FullCPUSet(2), Tasks: 2, Bind: "map_cpu:5"})
	if err == nil || !strings.Contains(err.Error(), "allocated CPUs are: 0x3") {
		t.Errorf("map_cpu:5 on CPUs 0-1: %v", err)
	}
	for _, bad := range []string{"map_cpu:x", "mask_cpu:0xg", "map_cpu:0*0", "map_cpu:"} {
		if _, err := n.Bind(CPURequest{CPUs: wlm.FullCPUSet(2), Tasks: 1, Bind: bad}); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

// The lines are those that Slurm writes.
func TestNotes(t *testing.T) {
	n := nodes["flat"]
	for bind, want := range map[string]string{
		"v":                  "cpu-bind=MASK - n, task  5  1 [%p]: mask 0x2 set",
		"v,none":             "cpu-bind=NONE - n, task  5  1 [%p]: mask 0x0",
		"v,map_cpu:1,0":      "cpu-bind=MAP  - n, task  5  1 [%p]: mask 0x1 set",
		"v,rank":             "cpu-bind=RANK - n, task  5  1 [%p]: mask 0x2 set",
		"v,rank_ldom":        "cpu-bind=LDRANK - n, task  5  1 [%p]: mask 0x3 set",
		"v,map_ldom:0":       "cpu-bind=LDMAP  - n, task  5  1 [%p]: mask 0x3 set",
		"v,mask_ldom:0x1":    "cpu-bind=LDMASK - n, task  5  1 [%p]: mask 0x3 set",
		"v,mask_cpu:0x3,0x2": "cpu-bind=MASK - n, task  5  1 [%p]: mask 0x2 set",
	} {
		c, err := n.Bind(CPURequest{CPUs: wlm.FullCPUSet(2), Tasks: 2, Bind: bind})
		if err != nil || !c.Verbose || c.Note(&n, 5, 1, true) != want {
			t.Errorf("%s: %q, %v", bind, c.Note(&n, 5, 1, true), err)
		}
	}
	if got := GPUNote(wlm.CPUSet{4}, wlm.CPUSet{15}, "2", "2"); got != "gpu-bind: usable_gres=0x4; bit_alloc=0xF; local_inx=0; global_list=2; local_list=2" {
		t.Error(got)
	}
}

func TestGPUs(t *testing.T) {
	near := func(d int) wlm.CPUSet {
		if d < 2 {
			return wlm.CPUSet{0x0f}
		}
		return wlm.CPUSet{0xf0}
	}
	spread := []wlm.CPUSet{{0x01}, {0x10}, {0x02}, {0x20}}
	for _, c := range []struct {
		r    GPURequest
		want string
	}{
		{GPURequest{Bind: "closest"}, "0-3 0-3 0-3 0-3"},
		{GPURequest{Bind: "closest", CPUs: spread, Near: near}, "0-1 2-3 0-1 2-3"},
		{GPURequest{Bind: "single:1"}, "0 1 2 3"},
		{GPURequest{Bind: "gpu:single:2"}, "0 0 1 1"},
		{GPURequest{Bind: "single:1", CPUs: spread, Near: near}, "0 2 1 3"},
		{GPURequest{Bind: "map_gpu:3,2,1,0"}, "3 2 1 0"},
		{GPURequest{Bind: "map_gpu:0*2,1"}, "0 0 1 0"},
		{GPURequest{Bind: "mask_gpu:0x3,0xc"}, "0-1 2-3 0-1 2-3"},
		{GPURequest{Bind: "gres/gpu:per_task:1"}, "0 1 2 3"},
		{GPURequest{PerTask: 1}, "0 1 2 3"},
		{GPURequest{PerTask: 1, CPUs: spread, Near: near}, "0 2 1 3"},
		{GPURequest{TasksPerGPU: 2}, "0 0 1 1"},
		{GPURequest{PerTask: 1, Bind: "none"}, ""},
		{GPURequest{Bind: "map_gpu:7"}, "0 0 0 0"},
		{GPURequest{}, ""},
	} {
		c.r.Devices, c.r.Tasks = []int{0, 1, 2, 3}, 4
		got := BindGPUs(c.r)
		if s := layout(&CPUs{Tasks: got.Tasks}); s != c.want {
			t.Errorf("%+v: %s", c.r, s)
		}
		if got.Hidden != (c.r.Bind == "none") || (len(got.Errors) > 0) != (c.r.Bind == "map_gpu:7") {
			t.Errorf("%+v: %+v", c.r, got)
		}
	}
	got := BindGPUs(GPURequest{Devices: []int{2, 3}, Tasks: 2, Bind: "verbose,map_gpu:1,0", Relative: true})
	if s := layout(&CPUs{Tasks: got.Tasks}); s != "3 2" || !got.Verbose {
		t.Errorf("relative: %s, %+v", s, got)
	}
}

// A task is never bound outside of the step's CPUs, and always to something.
func TestInside(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := Node{Sockets: rapid.IntRange(1, 3).Draw(t, "s"), Cores: rapid.IntRange(1, 4).Draw(t, "c"), Threads: rapid.IntRange(1, 2).Draw(t, "t")}
		var cpus wlm.CPUSet
		for c := range n.Sockets * n.Cores * n.Threads {
			if rapid.Bool().Draw(t, "cpu") {
				cpus = cpus.Set(c)
			}
		}
		if cpus.Count() == 0 {
			cpus = cpus.Set(0)
		}
		level := rapid.SampledFrom([]string{"block", "cyclic", "fcyclic", "*", ""})
		r := CPURequest{CPUs: cpus, Tasks: rapid.IntRange(1, 9).Draw(t, "n"), CPUsPerTask: rapid.IntRange(1, 5).Draw(t, "cpt"),
			Bind:         rapid.SampledFrom([]string{"", "cores", "sockets", "threads", "ldoms", "rank", "rank_ldom", "boards"}).Draw(t, "bind"),
			Distribution: "block:" + level.Draw(t, "2") + ":" + level.Draw(t, "3")}
		got, err := n.Bind(r)
		if err != nil || len(got.Tasks) != r.Tasks {
			t.Fatalf("%+v: %v, %v", r, got, err)
		}
		for _, s := range got.Tasks {
			if s.Count() == 0 || s.AndNot(cpus).Count() > 0 {
				t.Fatalf("%+v: a task is bound to %s", r, s)
			}
		}
	})
}
