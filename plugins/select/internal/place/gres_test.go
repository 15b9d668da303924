package place

import (
	"fmt"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"pgregory.net/rapid"
)

const testGresConf = "Name=gpu Type=a Count=2 File=/dev/f[0-1] Cores=0-1;Name=gpu Type=b Count=2 File=/dev/f[2-3] Cores=2-3"

// gpuCluster has nodes of two sockets with two cores and two GPUs each.
func gpuCluster(nodes int) *cluster {
	c := newCluster(nodes, 2, 2, 1)
	for i := range c.nodes {
		c.nodes[i].Gres, c.nodes[i].GresConf = "gpu:a:2,gpu:b:2,bw:10,shard:8", testGresConf
	}
	return c
}

func gresLayout(c *cluster, t rapid.TB) (lines []string) {
	r := c.place(t, sched.Skip, 0)
	for _, p := range r.Placements {
		line := fmt.Sprint(p.Job)
		for _, u := range p.Uses {
			line += fmt.Sprintf(" %s:%s %s", c.nodes[u.Node].Name, u.CPUs, u.Gres)
		}
		lines = append(lines, line)
	}
	return lines
}

func TestGres(t *testing.T) {
	type K = mirror.Class
	for _, tc := range []struct {
		name string
		jobs []K
		want string
	}{
		{"devices near the cores", []K{{TresPerNode: "gres/gpu:b:1"}}, "[1 n1:2 gpu:b:1(IDX:2)]"},
		{"the socket with more free cores", []K{{TresPerNode: "gpu:1"}, {TresPerNode: "gpu:1"}}, "[1 n1:0 gpu:a:1(IDX:0) 2 n1:2 gpu:b:1(IDX:2)]"},
		{"counted only", []K{{TresPerNode: "bw:6"}, {TresPerNode: "bw:6"}}, "[1 n1:0 bw(CNT:6) 2 n2:0 bw(CNT:6)]"},
		{"one a task", []K{{NTasks: 4, TresPerTask: "gpu:1"}}, "[1 n1:0-3 gpu:a:2(IDX:0-1),gpu:b:2(IDX:2-3)]"},
		{"in all", []K{{TresPerJob: "gpu:6"}}, "[1 n1:0 gpu:a:2(IDX:0-1),gpu:b:1(IDX:2) n2:0 gpu:a:2(IDX:0-1),gpu:b:1(IDX:2)]"},
		{"CPUs per GPU", []K{{TresPerJob: "gpu:2", CPUsPerGPU: 2}}, "[1 n1:0-3 gpu:a:1(IDX:0),gpu:b:1(IDX:2)]"},
		{"shares pack on a GPU that no job has alone", []K{{TresPerNode: "gpu:a:1"}, {TresPerNode: "shard:2"}, {TresPerNode: "shard:1"}},
			"[1 n1:0 gpu:a:1(IDX:0) 2 n1:1 shard:a:2(IDX:1) 3 n1:2 shard:b:1(IDX:2)]"},
		{"an exclusive job has everything", []K{{Share: wlm.ShareNever}}, "[1 n1:0-3 gpu:a:2(IDX:0-1),gpu:b:2(IDX:2-3),bw(CNT:10)]"},
		{"enforced binding waits for near cores", []K{{NTasks: 2, CPUsPerTask: 1, TresPerNode: "gpu:a:1", GresFlags: "enforce-binding", ReqNodes: "n1"},
			{TresPerNode: "gpu:a:1", GresFlags: "enforce-binding", ReqNodes: "n1"}}, "[1 n1:0-1 gpu:a:1(IDX:0)]"},
		{"too many", []K{{TresPerNode: "gpu:5"}, {TresPerNode: "gpu:c:1"}, {TresPerNode: "nic:1"}}, "[]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := gpuCluster(2)
			for _, k := range tc.jobs {
				c.job(3600, k)
			}
			if got := fmt.Sprint(gresLayout(c, t)); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

// No device is given twice, no share or count beyond what there is, and every
// job gets what it asks for; with running jobs, and with reservations.
func TestNoDeviceIsGivenTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := gpuCluster(rapid.IntRange(1, 3).Draw(t, "nodes"))
		draw := func() mirror.Class {
			k := mirror.Class{NTasks: uint32(rapid.IntRange(0, 3).Draw(t, "tasks"))}
			n := rapid.IntRange(1, 4).Draw(t, "count")
			name := rapid.SampledFrom([]string{"gpu", "gpu:a", "gpu:b", "bw", "shard"}).Draw(t, "name")
			ask := fmt.Sprintf("gres/%s:%d", name, n)
			switch rapid.IntRange(0, 3).Draw(t, "form") {
			case 0:
				k.TresPerNode = ask
			case 1:
				k.TresPerTask = ask
			case 2:
				k.TresPerJob = ask
			}
			if rapid.IntRange(0, 9).Draw(t, "exclusive") == 0 {
				k.Share = wlm.ShareNever
			}
			return k
		}
		for range rapid.IntRange(1, 8).Draw(t, "jobs") {
			c.job(uint32(rapid.SampledFrom([]int{60, 600}).Draw(t, "limit")), draw())
		}
		for range 2 { // what started runs in the second round
			r := c.place(t, rapid.SampledFrom([]sched.WhenBlocked{sched.Skip, sched.Reserve}).Draw(t, "when"), 2)
			for _, p := range r.Placements {
				checkAsked(t, c.jobs[p.Job-1].Class, p.Uses)
				c.run(c.jobs[p.Job-1], testNow+60, p.Uses...)
			}
			checkDevices(t, c)
		}
	})
}

func checkAsked(t *rapid.T, k *mirror.Class, uses []mirror.NodeUse) {
	if k.TresPerJob == "" || k.Share == wlm.ShareNever { // an exclusive job has everything
		return
	}
	want, _ := wlm.ParseGres(k.TresPerJob)
	got := uint64(0)
	for _, u := range uses {
		have, err := wlm.ParseGresUse(u.Gres)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range have {
			if h.Name == want[0].Name && (want[0].Type == "" || h.Type == want[0].Type) {
				got += h.Count
			}
		}
	}
	if got < want[0].Count {
		t.Fatalf("%v were asked for, %d given: %v", want, got, uses)
	}
}

func checkDevices(t *rapid.T, c *cluster) {
	for n := range c.nodes {
		var busy, shared wlm.CPUSet
		bw, shares := uint64(0), map[int]uint64{}
		for _, j := range c.jobs {
			for _, u := range j.Uses {
				if int(u.Node) != n {
					continue
				}
				have, _ := wlm.ParseGresUse(u.Gres)
				for _, h := range have {
					switch h.Name {
					case "bw":
						bw += h.Count
					case "gpu":
						if busy.Overlaps(h.Devices) || uint64(h.Devices.Count()) != h.Count {
							t.Fatalf("node %d: GPU %s is given twice", n, h.Devices)
						}
						busy = busy.Or(h.Devices)
					case "shard":
						shared = shared.Or(h.Devices)
						for d := range h.Devices.All {
							shares[d] += h.Count
						}
					}
				}
			}
		}
		if busy.Overlaps(shared) || bw > 10 {
			t.Fatalf("node %d: GPUs %s, shared %s, bw %d", n, busy, shared, bw)
		}
		for d, s := range shares {
			if s > 2 {
				t.Fatalf("node %d: %d shares of GPU %d", n, s, d)
			}
		}
	}
}
