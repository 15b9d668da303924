package e2e

import (
	"strings"
	"syscall"
	"testing"
)

// wiredTable is a cluster of two leaf switches with features and partitions.
var wiredTable = selection{
	conf: []string{"SelectType=select/cons_tres", "SelectTypeParameters=CR_Core", "TopologyPlugin=topology/tree", "ReconfigFlags=KeepPartInfo",
		"NodeName=t[1-2] Sockets=1 CoresPerSocket=2 ThreadsPerCore=1 RealMemory=100 Feature=a Weight=1",
		"NodeName=t[3-4] Sockets=1 CoresPerSocket=2 ThreadsPerCore=1 RealMemory=100 Feature=a,b Weight=1",
		"NodeName=t[5-8] Sockets=1 CoresPerSocket=2 ThreadsPerCore=1 RealMemory=100 Feature=b Weight=1",
		"NodeSet=both Feature=b",
		"PartitionName=all Nodes=ALL Default=YES", "PartitionName=set Nodes=both MaxTime=10", "PartitionName=down Nodes=ALL State=DOWN"},
	wires: []string{"SwitchName=s1 Nodes=t[1-4]", "SwitchName=s2 Nodes=t[5-8]", "SwitchName=root Switches=s[1-2]"},
}

// Placement under topology, constraints and partitions, as users see it.
func TestTopologyAndConstraints(t *testing.T) {
	c := selectSite(t, wiredTable)
	t.Run("show topology", func(t *testing.T) {
		want := "SwitchName=s1 Level=0 LinkSpeed=1 Nodes=t[1-4]\nSwitchName=s2 Level=0 LinkSpeed=1 Nodes=t[5-8]\n" +
			"SwitchName=root Level=1 LinkSpeed=1 Nodes=t[1-8] Switches=s[1-2]\n"
		if r := c.run("scontrol", "show", "topology"); r.out != want {
			t.Errorf("got\n%s%s\nwant\n%s", r.out, r.errOut, want)
		}
		if r := c.run("scontrol", "show", "topology", "nosuch"); r.code == 0 || !strings.Contains(r.out+r.errOut, "Topology information contains no switch or node named nosuch") {
			t.Errorf("no such switch: %+v", r)
		}
	})
	for _, tt := range []struct{ name, requests, want string }{
		{"one leaf", "-N1 --exclusive -w t2 ; -N4 --exclusive", "on t[5-8]"},
		{"a whole leaf", "-N4 --exclusive", "on t[1-4]"},
		{"too many switches wait", "-N1 --exclusive -w t2 ; -N1 --exclusive -w t6 ; -N4 --exclusive --switches=1@5:00", "waits Resources"},
		{"several leaves", "-N1 --exclusive -w t2 ; -N1 --exclusive -w t6 ; -N4 --exclusive", "nodes=4"},
		{"AND", "-N2 -C a&b --exclusive", "on t[3-4]"},
		{"the same for all", "-N4 -C [a|b] --exclusive", "on t[1-4]"},
		{"counts", "-N2 -C a*1&b*1 --exclusive", "nodes=2"},
		{"prefer", "-N1 --prefer b --exclusive", "on t3 "},
		{"a node set", "-N2 -p set -t5 --exclusive", "on t["},
		{"a partition that is down", "-p down", "waits PartitionDown"},
		{"beyond the limit", "-p set -t60", "waits PartitionTimeLimit"},
		{"several partitions", "-p down,all -N1", "nodes=1"},
		{"no such feature", "-C nosuch", "refused"},
		{"a comma is AND", "-N2 -C a,b --exclusive", "on t[3-4]"},
		{"nested parentheses", "-N2 -C (a&(b|(a&b))) --exclusive", "on t[3-4]"},
		{"one choice among groups", "-N2 -C [(a&b)|b] --exclusive", "on t[3-4]"},
		{"two choices", "-N2 -C [a|b]&[b|a] --exclusive", "nodes=2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := strings.Join(c.answer(strings.Split(tt.requests, " ; ")), "\n")
			if !strings.Contains(got, tt.want) {
				t.Errorf("got\n%s\nwant %s", got, tt.want)
			}
		})
	}
	t.Run("what can never be", func(t *testing.T) {
		const never = "Requested node configuration is not available"
		for args, want := range map[string]string{
			"-N8 -x t1": never, "-N8 -x t1 --test-only": never, "-C nosuch": "Invalid feature specification", "-w t1 -C a&b": never,
			"-N2 -C a*2&b*1": never, "--prefer nosuch": "Invalid preferred feature specification", "-w nosuch": "Invalid node name specified",
			"-C a --batch b": "Job --batch option is invalid or not a subset of --constraints", "-N1000 --test-only": never,
		} {
			r := c.run("sbatch", append(strings.Fields(args), "--wrap", "true")...)
			if r.code == 0 || !strings.Contains(r.errOut, want) {
				t.Errorf("%s, want %s", r, want)
			}
		}
	})
	t.Run("the node of the batch script", func(t *testing.T) {
		c.submit("-N4", "-w", "t[1-4]", "-C", "a|b", "--batch", "b", "-o", "batch.out", "--wrap", "echo $SLURMD_NODENAME; srun -N4 -n4 printenv SLURMD_NODENAME")
		c.await("the job to end", func() bool { return strings.Count(c.file("batch.out"), "\n") >= 5 && c.run("squeue", "-h").out == "" })
		if out := c.file("batch.out"); !strings.HasPrefix(out, "t3\n") || strings.Count(out, "\n") != 5 {
			t.Errorf("the script printed %q", out)
		}
	})
	t.Run("features change", func(t *testing.T) {
		if r := c.run("scontrol", "update", "NodeName=t8", "ActiveFeatures=nosuch"); r.code == 0 || !strings.Contains(r.out+r.errOut, "Active features not subset of available features") {
			t.Errorf("%s", r)
		}
		c.ok("scontrol", "update", "NodeName=t8", "AvailableFeatures=b,new", "ActiveFeatures=new")
		if got := strings.Join(c.answer([]string{"-N1 -C new --exclusive"}), "\n"); !strings.Contains(got, "on t8 ") {
			t.Errorf("got %s", got)
		}
		c.ok("scontrol", "update", "NodeName=t8", "AvailableFeatures=b")
	})
	t.Run("the address of a node", func(t *testing.T) {
		r := c.run("srun", "-w", "t5", "printenv", "SLURM_TOPOLOGY_ADDR", "SLURM_TOPOLOGY_ADDR_PATTERN")
		if r.out != "root.s2.t5\nswitch.switch.node\n" {
			t.Errorf("%+v", r)
		}
	})
	t.Run("partitions change", func(t *testing.T) {
		if r := c.run("scontrol", "create", "PartitionName=new", "Nodes=t1", "MaxTime=5"); r.code != 0 {
			t.Fatalf("%+v", r)
		}
		if got := c.answer([]string{"-p new -t1"}); len(got) == 0 || !strings.Contains(strings.Join(got, "\n"), "on t1 ") {
			t.Errorf("a job in the new partition: %v", got)
		}
		c.run("scontrol", "update", "PartitionName=new", "State=DOWN")
		job := strings.TrimSpace(c.run("sbatch", "--parsable", "-p", "new", "-t1", "--wrap", "true").out)
		if r := c.run("scontrol", "delete", "PartitionName=new"); r.code == 0 || !strings.Contains(r.out+r.errOut, "Partition is in use") {
			t.Errorf("a partition with a job was deleted: %+v", r)
		}
		c.run("scancel", job)
		c.await("the job to be gone", func() bool { return c.run("squeue", "-h").out == "" })
		c.run("scontrol", "reconfigure")
		if r := c.run("scontrol", "show", "partition", "new"); !strings.Contains(r.out, "State=DOWN") {
			t.Errorf("KeepPartInfo: %+v", r)
		}
		c.kill("c1", syscall.SIGKILL)
		c.daemon("slurmctld", "--host", "c1")
		if r := c.run("scontrol", "show", "partition", "new"); !strings.Contains(r.out, "State=DOWN") || !strings.Contains(r.out, "MaxTime=00:05:00") {
			t.Errorf("KeepPartInfo over kill -9: %+v", r)
		}
		if r := c.run("scontrol", "delete", "PartitionName=new"); r.code != 0 {
			t.Errorf("%+v", r)
		}
	})
}
