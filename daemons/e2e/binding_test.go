package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// bindingSite starts a node of two CPUs and four devices, which are terminals,
// on one of eight CPUs and four devices.
func bindingSite(t *testing.T, cgroup string) *cluster {
	t.Helper()
	for i := range 4 {
		if !fileExists(fmt.Sprintf("/dev/tty1%d", i)) {
			t.Skip("this host has no /dev/tty10 to stand for a device")
		}
	}
	if runtime.NumCPU() < 2 {
		t.Skip("one processor binds everything alike")
	}
	c := site(t)
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	host, _, _ = strings.Cut(host, ".")
	port := freePorts(t, 3)
	c.configure(fmt.Sprintf("ClusterName=bind\nSlurmctldHost=c1(127.0.0.1:%d)\n%s\nSlurmdParameters=config_overrides\nKillWait=1\n"+
		"TaskPlugin=task/affinity,task/cgroup\nSelectType=select/cons_tres\nSelectTypeParameters=CR_Core_Memory\nDefMemPerCPU=50\nGresTypes=gpu,bw\n"+
		"NodeName=n1 NodeHostname=%s NodeAddr=127.0.0.1 Port=%d Sockets=2 CoresPerSocket=4 RealMemory=8000 Gres=gpu:4,bw:100\n"+
		"NodeName=n2 NodeHostname=%s NodeAddr=127.0.0.1 Port=%d Sockets=1 CoresPerSocket=2 RealMemory=8000\n"+
		"PartitionName=main Nodes=n1 Default=YES\nPartitionName=two Nodes=n2\n", port, c.paths(), host, port+1, host, port+2))
	for file, text := range map[string]string{
		"gres.conf":   "NodeName=n1 Name=gpu File=/dev/tty1[0-1] Cores=0-3\nNodeName=n1 Name=gpu File=/dev/tty1[2-3] Cores=4-7\nNodeName=n1 Name=bw Count=100\n",
		"cgroup.conf": cgroup,
	} {
		if err := os.WriteFile(filepath.Join(c.dir, "etc", file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c.daemon("slurmctld", "--host", "c1")
	for _, n := range []string{"n1", "n2"} {
		c.daemon("slurmd", "-N", n)
	}
	c.await("the nodes to be idle", func() bool {
		return strings.Count(c.run("sinfo", "-h", "-N", "-t", "idle", "-o", "%N").out, "\n") >= 2
	})
	return c
}

var pidInNote = regexp.MustCompile(`\[\d+\]`)

// lines runs srun and sorts what its tasks say.
func (c *cluster) lines(options, script string) []string {
	r := c.run("srun", append(strings.Fields(options), "sh", "-c", script)...)
	var out []string
	for line := range strings.Lines(r.out + r.errOut) {
		if !strings.Contains(line, "queued and waiting") && !strings.Contains(line, "has been allocated") {
			out = append(out, pidInNote.ReplaceAllString(strings.TrimSpace(line), "[pid]"))
		}
	}
	slices.Sort(out)
	return out
}

// Tasks see the GPUs, and are bound to the CPUs, that Slurm 22.05 gave them for
// the same requests on nodes of the same description.
func TestBinding(t *testing.T) {
	c := bindingSite(t, "ConstrainDevices=no\n")
	const gpus = `echo $SLURM_PROCID $SLURM_STEP_GPUS $CUDA_VISIBLE_DEVICES $SLURM_GPUS_ON_NODE`
	for _, k := range [][]string{
		{"-n2", "0", "1"},
		{"-n1 --gres=gpu:2", "0 0,1 0,1 2"},
		{"-n4 -G4 --gpu-bind=single:1", "0 0 0 4", "1 1 1 4", "2 2 2 4", "3 3 3 4"},
		{"-n4 -G4 --gpu-bind=map_gpu:0*2,1", "0 0 0 4", "1 0 0 4", "2 1 1 4", "3 0 0 4"},
		{"-n4 -G4 --gpu-bind=mask_gpu:0x3,0xc", "0 0,1 0,1 4", "1 2,3 2,3 4", "2 0,1 0,1 4", "3 2,3 2,3 4"},
		{"-n2 -G4 --gpu-bind=none", "0 4", "1 4"},
		{"-n4 --gpus-per-task=1", "0 0 0 4", "1 1 1 4", "2 2 2 4", "3 3 3 4"},
		{"-n4 --ntasks-per-gpu=2", "0 0 0 2", "1 0 0 2", "2 1 1 2", "3 1 1 2"},
		{"-n2 -G4 --gpu-bind=per_task:2", "0 0,1 0,1 4", "1 2,3 2,3 4"},
		{"-n2 -G4 --gpu-bind=verbose,per_task:1", "0 0 0 4", "1 1 1 4",
			"gpu-bind: usable_gres=0x1; bit_alloc=0xF; local_inx=0; global_list=0; local_list=0",
			"gpu-bind: usable_gres=0x2; bit_alloc=0xF; local_inx=0; global_list=1; local_list=1"},
		{"-n2 --gpu-bind=map_gpu", "srun: error: Invalid --gpu-bind argument: gpu:map_gpu"},
	} {
		if got := c.lines(k[0], gpus); !slices.Equal(got, k[1:]) {
			t.Errorf("srun %s:\n%s\nwant\n%s", k[0], strings.Join(got, "\n"), strings.Join(k[1:], "\n"))
		}
	}
	const cpus = `echo $SLURM_PROCID $(taskset -cp $$ | sed 's/.*: //') $SLURM_CPU_BIND_TYPE`
	note := func(word, first, second string) []string {
		return []string{"cpu-bind=" + word + " - n2, task  0  0 [pid]: mask " + first + " set", "cpu-bind=" + word + " - n2, task  1  1 [pid]: mask " + second + " set"}
	}
	for _, k := range [][]string{
		append([]string{"--cpu-bind=verbose", "0 0 mask_cpu:", "1 1 mask_cpu:"}, note("MASK", "0x1", "0x2")...),
		append([]string{"--cpu-bind=v,rank", "0 0 rank", "1 1 rank"}, note("RANK", "0x1", "0x2")...),
		append([]string{"--cpu-bind=v,map_cpu:1,0", "0 1 map_cpu:", "1 0 map_cpu:"}, note("MAP ", "0x2", "0x1")...),
		append([]string{"--cpu-bind=v,mask_cpu:0x3,0x2", "0 0,1 mask_cpu:", "1 1 mask_cpu:"}, note("MASK", "0x3", "0x2")...),
		append([]string{"--cpu-bind=v,sockets", "0 0,1 mask_cpu:", "1 0,1 mask_cpu:"}, note("MASK", "0x3", "0x3")...),
		append([]string{"--cpu-bind=v,map_ldom:0", "0 0,1 map_ldom:", "1 0,1 map_ldom:"}, note("LDMAP ", "0x3", "0x3")...),
		{"--cpu-bind=cores", "0 0 mask_cpu:", "1 1 mask_cpu:"},
		{"--cpu-bind=quiet", "0 0 mask_cpu:", "1 1 mask_cpu:"},
	} {
		if got := c.lines("-p two -n2 "+k[0], cpus); !slices.Equal(got, k[1:]) {
			t.Errorf("srun -p two -n2 %s:\n%s\nwant\n%s", k[0], strings.Join(got, "\n"), strings.Join(k[1:], "\n"))
		}
	}
	if r := c.run("srun", "-p", "two", "-n2", "--cpu-bind=map_cpu:5", "true"); r.code == 0 || !strings.Contains(r.errOut, "CPU binding outside of job step allocation, allocated CPUs are: 0x") {
		t.Errorf("a CPU outside of the job: %s", r)
	}
}

// Steps of a job that run together have devices of their own.
func TestStepDevices(t *testing.T) {
	c := bindingSite(t, "ConstrainDevices=no\n")
	script := c.write("steps.sh", `#!/bin/sh
say='echo $1: $SLURM_STEP_GPUS $SLURM_GPUS_ON_NODE'
srun -n1 sh -c "$say" all all
srun -n1 --gres=none sh -c "$say" none none
srun -n1 --gres=bw:10 sh -c "$say" bw bw
srun -n1 --gres=gpu:5 true 2>&1
mkfifo go
for i in 1 2 3 4; do srun -n1 --exact -G1 sh -c "$say; cat go >/dev/null" own own & done >out
while [ $(grep -c own out) -lt 4 ]; do :; done
until [ "$(scontrol show step $SLURM_JOB_ID 2>/dev/null | grep -c gres/gpu=1)" = 4 ]; do :; done
scontrol show step $SLURM_JOB_ID | grep -o 'gres/gpu=[0-9]*' | sort | uniq -c | tr -s ' '
: >go
wait
sort out
`)
	out := filepath.Join(c.dir, "steps.out")
	c.ok("sbatch", "-W", "-n4", "--gres=gpu:4,bw:50", "-D", c.dir, "-o", out, script)
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(`^all: 0,1,2,3 4
none:
bw:
srun: error: Step requested gres_per_node=gpu:5 is more than the job's gres_per_node=gpu:4
srun: error: Unable to create step for job \d+: Invalid generic resource \(gres\) specification
 4 gres/gpu=1
own: 0 1
own: 1 1
own: 2 1
own: 3 1
$`)
	if !want.Match(data) {
		t.Errorf("the steps say\n%s", data)
	}
}

// With ConstrainDevices jobs, steps and tasks open their own devices only.
func TestConstrainDevices(t *testing.T) {
	if os.Getuid() != 0 || !fileExists("/sys/fs/cgroup/devices/devices.deny") {
		t.Skip("devices are constrained by root, where the kernel has the devices controller of cgroup v1")
	}
	c := bindingSite(t, "ConstrainDevices=yes\n")
	const try = `o=; for i in 0 1 2 3; do if head -c0 /dev/tty1$i 2>/dev/null; then o=$o$i; fi; done; echo $SLURM_PROCID opens $o sees $CUDA_VISIBLE_DEVICES`
	if got := c.lines("-n1 --gres=gpu:4", try); !slices.Equal(got, []string{"0 opens 0123 sees 0,1,2,3"}) {
		t.Skipf("the devices cannot be opened here in any case: %q", got)
	}
	for _, k := range [][]string{
		{"-n1", "0 opens sees"},
		{"-n1 --gres=gpu:2", "0 opens 01 sees 0,1"},
		{"-n4 --gpus-per-task=1", "0 opens 0 sees 0", "1 opens 1 sees 0", "2 opens 2 sees 0", "3 opens 3 sees 0"},
	} {
		if got := c.lines(k[0], try); !slices.Equal(got, k[1:]) {
			t.Errorf("srun %s: %q, want %q", k[0], got, k[1:])
		}
	}
	left, err := filepath.Glob("/sys/fs/cgroup/devices/sluice/n1_job_*")
	if err != nil || len(left) > 0 {
		t.Errorf("control groups are left: %v, %v", left, err)
	}
}
