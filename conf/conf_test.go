package conf

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/viper"

	"github.com/sluice-hpc/sluice/conf/slurmconf"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// head is the least that a file needs besides nodes and partitions.
const head = "ClusterName=c\nSlurmctldHost=h\n"

// tail gives it four nodes and a partition.
const tail = "NodeName=n[1-4] CPUs=2\nPartitionName=p Nodes=ALL\n"

func put(t testing.TB, name, data string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// load reads data as slurm.conf and returns warnings and errors as text, with
// the path left out.
func load(t testing.TB, data string) (c *Config, warned, bad []string) {
	t.Helper()
	path := put(t, "slurm.conf", data)
	c, warnings, err := Load(path)
	for _, w := range warnings {
		warned = append(warned, strings.TrimPrefix(w.Error(), path+":"))
	}
	if err != nil {
		for line := range strings.SplitSeq(strings.ReplaceAll(err.Error(), path+":", ""), "\n") {
			bad = append(bad, line)
		}
	}
	return c, warned, bad
}

func good(t testing.TB, data string) *Config {
	t.Helper()
	c, _, bad := load(t, data)
	if len(bad) > 0 {
		t.Fatalf("errors:\n%s", strings.Join(bad, "\n"))
	}
	return c
}

func TestExamples(t *testing.T) {
	tests := []struct {
		file              string
		nodes, partitions int
		warnings          int
	}{
		{"lab.conf", 12, 1, 0},
		{"cpu-site.conf", 1240, 11, 1},
		{"gpu-site.conf", 64, 4, 0},
		{"ha-site.conf", 248, 2, 2},
		{"lab.yaml", 12, 1, 0},
		{"lab.toml", 12, 1, 0},
	}
	for _, tt := range tests {
		t.Run(tt.file, func(t *testing.T) {
			c, warnings, err := Load(filepath.Join("examples", tt.file))
			if err != nil {
				t.Fatal(err)
			}
			if len(c.Nodes) != tt.nodes || len(c.Partitions) != tt.partitions {
				t.Errorf("%d nodes, %d partitions; want %d and %d", len(c.Nodes), len(c.Partitions), tt.nodes, tt.partitions)
			}
			if len(warnings) != tt.warnings {
				t.Errorf("warnings: %v", warnings)
			}
			if _, err := slurmconf.LoadClient(filepath.Join("examples", tt.file)); err != nil {
				t.Errorf("as a command: %v", err)
			}
		})
	}
}

// One site, three syntaxes, one meaning.
func TestSyntaxesAgree(t *testing.T) {
	want := exampleConfig(t, "lab.conf")
	for _, file := range []string{"lab.yaml", "lab.toml"} {
		got := exampleConfig(t, file)
		if d := Diff(want, got); len(d) > 0 {
			t.Errorf("%s differs: %v", file, d)
		}
		got.Path, got.Files, got.values = want.Path, want.Files, want.values
		got.SelectTypeParameters.Raw = want.SelectTypeParameters.Raw
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v\nwant %+v", file, got, want)
		}
	}
}

func exampleConfig(t *testing.T, file string) *Config {
	t.Helper()
	c, _, err := Load(filepath.Join("examples", file))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestErrors(t *testing.T) {
	const n, p = "NodeName=n[1-4] CPUs=2\n", "PartitionName=p Nodes=ALL\n"
	tests := []struct {
		name, in string
		want     []string
	}{
		{"nothing is set", "# empty\n", []string{
			"PATH ClusterName: is not set; every cluster has a name",
			"PATH SlurmctldHost: is not set; want the name of the controller's host, or name(address)",
			"PATH NodeName: no node is defined; write NodeName lines, or MaxNodeCount for dynamic nodes",
			"PATH PartitionName: no partition is defined"}},
		{"all at once, in order", head + "KillWiat=3\nJobRequeue=maybe\n" + n + p + "Foo=1", []string{
			"3: KillWiat: unknown key; did you mean KillWait?",
			`4: JobRequeue: "maybe" is not a truth value: allowed are yes and no, true and false, 1 and 0`,
			"7: Foo: unknown key; the keys are listed in the manual of slurm.conf"}},
		{"number out of range", head + "TreeWidth=0\nMaxArraySize=4000002\n" + tail, []string{
			`3: TreeWidth: "0" is not allowed: want a whole number from 1 to 65533`,
			`4: MaxArraySize: "4000002" is not allowed: want a whole number from 0 to 4000001`}},
		{"words", head + "SlurmctldDebug=loud\nPrologFlags=Alloc,Contian\nReturnToService=3\n" + tail, []string{
			`3: SlurmctldDebug: "loud" is not a log level: allowed are quiet, fatal, error, info, verbose, debug, debug2, debug3, debug4, debug5, or 0 to 9`,
			`4: PrologFlags: "Contian" is not allowed: want one of Alloc, Contain, DeferBatch, ForceRequeueOnFail, NoHold, RunInJob, Serial, X11; did you mean Contain?`,
			`5: ReturnToService: "3" is not allowed: want one of 0, 1, 2`}},
		{"plugin of another kind", head + "SchedulerType=select/linear\n" + tail, []string{
			`3: SchedulerType: "select/linear" is not a plugin of this kind: want sched/<name>`}},
		{"relative path", head + "StateSaveLocation=state\n" + tail, []string{`3: StateSaveLocation: "state" is not an absolute path`}},
		{"key on the wrong line", head + "MaxTime=3\nbf_window=3\nNodeName=n[1-4] CPUs=2 KillWait=3\n" + p, []string{
			"3: MaxTime: belongs on a PartitionName= line",
			"4: bf_window: is an option of SchedulerParameters; write SchedulerParameters=bf_window",
			"5: KillWait: belongs on a line of its own, not on a NodeName line"}},
		{"Include with =", head + "Include=x\n" + tail, []string{"3: Include: is a directive; write Include path, without ="}},
		{"hosts", head + "SlurmctldHost=h\nSlurmctldHost=a(b\n" + tail, []string{
			"3: SlurmctldHost: h is given twice", `4: SlurmctldHost: "a(b" is not name or name(address)`}},
		{"times", head + "PriorityMaxAge=1:2:3:4\n" + n + "PartitionName=p Nodes=ALL MaxTime=x", []string{
			`3: PriorityMaxAge: invalid time "1:2:3:4": use minutes, *`, `5: MaxTime: invalid time "x": use minutes, *`}},
		{"memory", head + "DefMemPerCPU=2X\nDefMemPerNode=4\nMaxMemPerCPU=1\nMaxMemPerNode=3\n" + tail, []string{
			`3: DefMemPerCPU: invalid memory size "2X": want a whole number with K, M, G or T after it; M is the default`,
			"4: DefMemPerNode: 4 is more than MaxMemPerNode=3",
			"6: MaxMemPerNode: excludes MaxMemPerCPU; give one of them"}},
		{"ports", head + "SlurmctldPort=70000\nSrunPortRange=6000\n" + tail, []string{
			`3: SlurmctldPort: "70000" is not a port or a rising range of ports from 1 to 65535`,
			"4: SrunPortRange: 6000 is one port: want low-high"}},
		{"ids", head + "FirstJobId=10\nMaxJobId=9\n" + tail, []string{"3: FirstJobId: 10 is more than MaxJobId=9"}},
		{"select", head + "SelectType=select/linear\nSelectTypeParameters=CR_Core\n" + tail, []string{
			"4: SelectTypeParameters: CR_CORE does not fit select/linear, which gives whole nodes: want CR_Memory, CR_ONE_TASK_PER_CORE or nothing"}},
		{"two resources", head + "SelectTypeParameters=CR_Core,CR_CPU_Memory\n" + tail, []string{
			"3: SelectTypeParameters: CR_CORE,CR_CPU_MEMORY names several consumable resources: want one of CR_CPU, CR_Core and CR_Socket, each perhaps with _Memory"}},
		{"preemption", head + "PreemptMode=CANCEL\n" + tail, []string{
			"3: PreemptMode: CANCEL needs PreemptType=preempt/partition_prio"}},
		{"preemption by QOS", head + "PreemptMode=CANCEL\nPreemptType=preempt/qos\n" + tail, []string{
			"4: PreemptType: preempt/qos needs QOS records, which this release does not keep; allowed are preempt/partition_prio and preempt/none"}},
		{"scheduler options", head + "SchedulerParameters=bf_window=x,defer=3\n" + tail, []string{
			"3: SchedulerParameters: bf_window=x: want a whole number of minutes", "3: SchedulerParameters: defer is a flag and takes no value"}},
		{"exclusive keys", head + "PropagateResourceLimits=ALL\nPropagateResourceLimitsExcept=CORE\n" + tail, []string{
			"4: PropagateResourceLimitsExcept: excludes PropagateResourceLimits; give one of them"}},
		{"nothing to enforce", head + "AccountingStorageType=accounting_storage/none\nAccountingStorageEnforce=qos\n" + tail, []string{
			"4: AccountingStorageEnforce: associations,qos needs an AccountingStorageType; there is nothing to enforce"}},
		{"licences and TRES", head + "Licenses=a:1,a,b:x\nAccountingStorageTRES=gres/gpu,gpu\n" + tail, []string{
			"3: Licenses: a is given twice", `3: Licenses: "b:x" is not name or name:count`,
			`4: AccountingStorageTRES: "gpu" is not a TRES: want cpu, mem, energy, node, billing, fs/disk, vmem, pages, gres/<name>, license/<name>, bb/<name> or ic/<name>`}},
		{"plugin options", head + "PluginOptions=backfill\nPluginOptions=sched/x:a=1\nPluginOptions=sched/x:a=2\n" + tail, []string{
			`3: PluginOptions: "backfill" is not kind/name:option=value,...`, "5: PluginOptions: option a of sched/x is given at 4 already"}},
		{"exit codes", head + "RequeueExit=1-300\n" + tail, []string{`3: RequeueExit: "1-300" is not an exit code or a rising range of exit codes from 0 to 255`}},

		{"node twice", head + n + "NodeName=n[4-5]\n" + p, []string{"4: NodeName: n4 is defined at 3 already"}},
		{"node list", head + "NodeName=n[4-1] CPUs=2\nNodeName=n1\n" + p, []string{"3: NodeName: *"}},
		{"too many nodes", head + "NodeName=n[1-2000000] CPUs=2\nNodeName=n1\n" + p, []string{"3: NodeName: *"}},
		{"node option", head + "NodeName=n1 CPU=2\n" + p, []string{"3: CPU: unknown key; did you mean CPUs?"}},
		{"counts do not fit", head + "NodeName=n[1-4] NodeHostname=h[1-3] Port=[1-2] NodeAddr=a[1-5]\n" + p, []string{
			"3: NodeHostname: h[1-3] has 3 entries for the 4 nodes of n[1-4]: want one for each, or a single one",
			"3: NodeAddr: a[1-5] has 5 entries for the 4 nodes of n[1-4]: want one for each, or a single one",
			"3: Port: [1-2] has 2 ports for the 4 nodes of n[1-4]: want one for each, or a single one"}},
		{"CPUs do not fit", head + "NodeName=n1 CPUs=5 Sockets=2 CoresPerSocket=2\n" + p, []string{
			"3: CPUs: 5 does not fit Sockets=2 CoresPerSocket=2 ThreadsPerCore=1: want 2 sockets, 4 cores or 4 threads"}},
		{"nothing left for jobs", head + "NodeName=n1 CPUs=2 CoreSpecCount=2 MemSpecLimit=1\n" + p, []string{
			"3: CoreSpecCount: 2 leaves no core of 2 for jobs", "3: MemSpecLimit: 1 MiB leave no memory of 1 MiB for jobs"}},
		{"gres", head + "GresTypes=gpu\nNodeName=n1 Gres=gpu:2,fpga,:3\n" + p, []string{
			`4: Gres: "fpga" is not in GresTypes (gpu)`, `4: Gres: ":3" is not name[:type]:count, with K, M, G or T behind a large count`}},
		{"feature with an operator", head + "NodeName=n1 Features=a,b&c\n" + p, []string{
			`3: Features: "b&c" holds an operator of --constraint: want names separated by commas`}},
		{"state", head + "NodeName=n1 State=SLEEPY\n" + p, []string{
			`3: State: "SLEEPY" is not allowed: want one of CLOUD, DOWN, DRAIN, FAIL, FAILING, FUTURE, IDLE, UNKNOWN, EXTERNAL`}},
		{"node set", head + n + "NodeSet=n1 Nodes=n1\nNodeSet=s\nNodeSet=ALL Nodes=n1\n" + p, []string{
			"4: NodeSet: n1 is also the name of a node", "5: NodeSet: s has neither Nodes nor Feature", `6: NodeSet: "ALL" cannot name a node set`}},
		{"DownNodes", head + n + p + "DownNodes=n9 State=DOWN", []string{"5: DownNodes: n9 is neither a node nor a node set"}},

		{"unknown nodes", head + n + "PartitionName=p Nodes=n[3-7],x", []string{"4: Nodes: n[5-7],x are neither nodes nor node sets"}},
		{"partition twice", head + n + p + p, []string{"5: PartitionName: p is defined at 4 already"}},
		{"partition limits", head + n + "PartitionName=p Nodes=ALL MinNodes=3 MaxNodes=2 DefaultTime=2:0:0 MaxTime=60 OverSubscribe=NO:3 Alternate=q", []string{
			"4: OverSubscribe: \"NO:3\" is not allowed: only YES and FORCE take a count, from 1 to 32767",
			"4: MinNodes: 3 is more than MaxNodes=2", "4: DefaultTime: 2:0:0 is more than MaxTime=60", "4: Alternate: q is not a partition"}},
		{"partition memory", head + n + "PartitionName=p Nodes=ALL DefMemPerCPU=4 DefMemPerNode=5 MaxMemPerCPU=3", []string{
			"4: DefMemPerNode: excludes DefMemPerCPU; give one of them", "4: DefMemPerCPU: 4 is more than MaxMemPerCPU=3"}},
		{"a mistake in a default is told once", head + n + "PartitionName=DEFAULT MaxTime=x\nPartitionName=a Nodes=n1\nPartitionName=b Nodes=n1\n", []string{
			`4: MaxTime: invalid time "x": use minutes, *`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, bad := load(t, tt.in)
			for i := range bad {
				if j := strings.Index(bad[i], ": "); strings.HasPrefix(bad[i], " ") || j == 0 {
					bad[i] = "PATH" + bad[i]
				}
				bad[i] = strings.TrimSpace(bad[i])
			}
			if len(bad) != len(tt.want) {
				t.Fatalf("got %d errors:\n%s\nwant %d:\n%s", len(bad), strings.Join(bad, "\n"), len(tt.want), strings.Join(tt.want, "\n"))
			}
			for i, want := range tt.want {
				prefix, any := strings.CutSuffix(want, "*")
				if bad[i] != want && !(any && strings.HasPrefix(bad[i], prefix)) {
					t.Errorf("error %d:\n got %s\nwant %s", i, bad[i], want)
				}
			}
		})
	}
}

// What a file sets beside its default and nothing depends on is told.
func TestIdleKeys(t *testing.T) {
	c, _, bad := load(t, head+"BatchStartTimeout=20\nProctrackType=proctrack/cgroup\nTreeWidth=16\nKillWait=9\nNodeName=x CpuBind=none Weight=3\n"+tail)
	if want := "BatchStartTimeout NodeName.CpuBind"; len(bad) > 0 || strings.Join(c.Idle, " ") != want {
		t.Errorf("got %q, want %q; errors %q", c.Idle, want, bad)
	}
}

func TestWarnings(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"obsolete", "FastSchedule=1\n", "3: FastSchedule: is obsolete and ignored"},
		{"renamed", "CryptoType=crypto/munge\n", "3: CryptoType: is obsolete; write CredType=cred/munge"},
		{"renamed, but the new one is set", "CredType=cred/slurm\nCryptoType=crypto/munge\n", "4: CryptoType: is obsolete and ignored, because CredType is set"},
		{"retired plugin", "SelectType=select/cons_res\n", "3: SelectType: select/cons_res is gone; select/cons_tres takes its place"},
		{"twice", "KillWait=1\nKillWait=2\n", "3: KillWait: is set again further down; the last value holds"},
		{"unknown scheduler option", "SchedulerParameters=bf_windw=3\n", "3: SchedulerParameters: unknown option bf_windw; did you mean bf_window?"},
		{"raised", "MessageTimeout=100\nUnkillableStepTimeout=60\n", "4: UnkillableStepTimeout: is raised to 8m20s, five times MessageTimeout"},
		{"old option", "NodeName=x Procs=2\n", "3: Procs: is obsolete; write CPUs"},
		{"both lists", "PartitionName=q AllowQos=a DenyQos=b\n", "3: DenyQos: is ignored, because AllowQos is given"},
		{"no power saving", "SuspendTime=60\n", "3: SuspendTime: has no effect without SuspendProgram and ResumeProgram"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, warned, bad := load(t, head+tt.in+tail)
			if len(bad) > 0 {
				t.Fatalf("errors %q", bad)
			}
			if len(warned) != 1 || warned[0] != tt.want {
				t.Errorf("got %q, want %q", warned, tt.want)
			}
		})
	}
}

func TestOldHosts(t *testing.T) {
	c, warned, bad := load(t, "ClusterName=c\nControlMachine=a\nControlAddr=10.0.0.1\nBackupController=b\n"+tail)
	want := []SlurmctldHost{{"a", "10.0.0.1"}, {"b", "b"}}
	if len(bad) > 0 || !reflect.DeepEqual(c.Hosts, want) || len(warned) != 2 {
		t.Errorf("hosts %v, warnings %q, errors %q", c.Hosts, warned, bad)
	}
}

func TestNodes(t *testing.T) {
	c := good(t, head+`SlurmdPort=7000
GresTypes=gpu
NodeName=DEFAULT RealMemory=4G Weight=7 Feature=a,b
NodeName=n[1-2] NodeHostname=h NodeAddr=10.0.0.[1-2] Port=[7001-7002] Sockets=2 CoresPerSocket=4 ThreadsPerCore=2
NodeName=DEFAULT Weight=9
NodeName=m CPUs=8 Gres=gpu:2 State=DRAIN Reason="bad disk" Features=""
NodeName=d Boards=2 SocketsPerBoard=2 CoresPerSocket=3 CPUs=12
NodeName=c[1-2] CPUs=4 CoresPerSocket=2 State=CLOUD
NodeName=f State=FUTURE
NodeSet=withb Feature=b
NodeSet=both Feature=zz Nodes=n1,m
DownNodes=c2 State=FAIL Reason=gone
PartitionName=p Nodes=withb,m
`)
	type row struct {
		host, addr                          string
		port, cpus, sockets, cores, threads uint32
		mem                                 wlm.MiB
		weight                              uint32
		features                            string
		state                               wlm.NodeState
		flags                               wlm.NodeFlags
		reason                              string
	}
	want := map[wlm.NodeName]row{
		"n1": {"h", "10.0.0.1", 7001, 16, 2, 4, 2, 4096, 7, "a,b", wlm.NodeUnknown, 0, ""},
		"n2": {"h", "10.0.0.2", 7002, 16, 2, 4, 2, 4096, 7, "a,b", wlm.NodeUnknown, 0, ""},
		"m":  {"m", "m", 7000, 8, 8, 1, 1, 4096, 9, "", wlm.NodeUnknown, wlm.NodeDrain, "bad disk"},
		"d":  {"d", "d", 7000, 12, 4, 3, 1, 4096, 9, "a,b", wlm.NodeUnknown, 0, ""},
		"c1": {"c1", "c1", 7000, 4, 2, 2, 1, 4096, 9, "a,b", wlm.NodeUp, wlm.NodeCloud | wlm.NodePoweredDown, ""},
		"c2": {"c2", "c2", 7000, 4, 2, 2, 1, 4096, 9, "a,b", wlm.NodeUnknown, wlm.NodeFailFlag, "gone"},
		"f":  {"f", "f", 7000, 1, 1, 1, 1, 4096, 9, "a,b", wlm.NodeFuture, 0, ""},
	}
	if len(c.Nodes) != len(want) {
		t.Errorf("%d nodes", len(c.Nodes))
	}
	for i := range c.Nodes {
		n := &c.Nodes[i]
		got := row{n.Hostname, n.Addr, n.Port, n.CPUs, n.Sockets, n.CoresPerSocket, n.ThreadsPerCore, n.RealMemory, n.Weight,
			strings.Join(n.Features, ","), n.State, n.Flags, n.Reason}
		if got != want[n.Name] {
			t.Errorf("%s: got %+v\nwant %+v", n.Name, got, want[n.Name])
		}
		if n.Index != wlm.NodeIndex(i) || n.Comment != "" {
			t.Errorf("%s: index %d, comment %q", n.Name, n.Index, n.Comment)
		}
	}
	if got := fmt.Sprint(c.NodeSets); got != "[{withb b [n1 n2 d c1 c2 f]} {both zz [n1 m]}]" {
		t.Errorf("node sets %s", got)
	}
	if p := c.Partition("p"); p.Nodes != "c[1-2],d,f,m,n[1-2]" || len(p.NodeNames) != 7 {
		t.Errorf("partition nodes %s %v", p.Nodes, p.NodeNames)
	}
}

func TestPartitions(t *testing.T) {
	c := good(t, head+`DisableRootJobs=yes
NodeName=n[1-4] CPUs=2
PartitionName=DEFAULT MaxTime=2-0 State=DOWN OverSubscribe=YES
PartitionName=DEFAULT PriorityTier=5
PartitionName=a Nodes=n[1-2] Default=YES DefaultTime=90:30 Shared=FORCE:2 AllowAccounts=x,y AllowQos=ALL MaxMemPerNode=2G
PartitionName=b Nodes=n3,n1 Default=YES State=UP MaxNodes=3 MaxTime="" Priority=8 PreemptMode=requeue DisableRootJobs=NO DefCPUPerGPU=4 OverTimeLimit=UNLIMITED
`)
	want := []wlm.Partition{
		{Name: "a", Nodes: "n[1-2]", NodeNames: []wlm.NodeName{"n1", "n2"}, State: wlm.PartDown, DisableRoot: true, MaxTime: 2880, DefaultTime: 91,
			MaxNodes: wlm.Unset, MaxCPUsPerNode: wlm.Unset, MaxCPUsPerSock: wlm.Unset, MaxMemPerNode: 2048, PriorityJob: 1, PriorityTier: 5,
			OverSubscribe: wlm.OverSubForce, OverSubCount: 2, OverTimeLimit: wlm.Unset, AllowAccounts: []string{"x", "y"}},
		{Name: "b", Nodes: "n[1,3]", NodeNames: []wlm.NodeName{"n1", "n3"}, Default: true, MaxTime: wlm.Unlimited,
			MaxNodes: 3, MaxCPUsPerNode: wlm.Unset, MaxCPUsPerSock: wlm.Unset, PriorityJob: 8, PriorityTier: 8,
			OverSubscribe: wlm.OverSubYes, OverSubCount: 4, OverTimeLimit: Infinite, PreemptMode: "REQUEUE", JobDefaults: "DefCpuPerGPU=4"},
	}
	for i := range want {
		if !reflect.DeepEqual(c.Partitions[i], want[i]) {
			t.Errorf("got  %+v\nwant %+v", c.Partitions[i], want[i])
		}
	}
}

func TestFields(t *testing.T) {
	c := good(t, head+`KillWait=7
SuspendTime=-1
MinJobAge=60
OverTimeLimit=UNLIMITED
SchedulerParameters=BF_window=100,defer
JobSubmitPlugins=lua,job_submit/require_limit
AccountingStorageEnforce=safe
AccountingStorageTRES=gres/gpu
RequeueExit=1-3,200
Licenses=a:3,b
SlurmctldPort=7000-7005
SlurmdSpoolDir=/s/%h/%n%%
Prolog=/a
Prolog=b.sh
PluginOptions=sched/backfill:a=1,b
PluginOptions=sched/backfill:c=x=y
SelectTypeParameters=CR_CPU_Memory,CR_LLN
SlurmdDebug=debug2
EnforcePartLimits=yes
PriorityDecayHalfLife=1-12
`+tail)
	checks := []struct {
		name      string
		got, want any
	}{
		{"KillWait", c.KillWait, 7 * time.Second},
		{"SuspendTime", c.SuspendTime, Forever},
		{"MinJobAge", c.MinJobAge, time.Minute},
		{"OverTimeLimit", c.OverTimeLimit, wlm.Unlimited},
		{"bf_window", c.SchedulerParameters.Int("bf_window", 1), 100},
		{"bf_resolution", c.SchedulerParameters.Int("bf_resolution", 60), 60},
		{"defer", c.SchedulerParameters.Has("DEFER"), true},
		{"JobSubmitPlugins", c.JobSubmitPlugins, []string{"job_submit/lua", "job_submit/require_limit"}},
		{"Enforce", c.AccountingStorageEnforce.Raw, "associations,limits,safe"},
		{"TRES", c.AccountingStorageTRES[len(c.AccountingStorageTRES)-1], "gres/gpu"},
		{"RequeueExit", []bool{c.RequeueExit.Has(0), c.RequeueExit.Has(3), c.RequeueExit.Has(200), c.RequeueExit.Has(256)}, []bool{false, true, true, false}},
		{"Licenses", c.Licenses, []License{{"a", 3}, {"b", 1}}},
		{"SlurmctldPort", c.SlurmctldPort, uint16(7000)},
		{"SlurmctldPorts", c.SlurmctldPorts, PortRange{7000, 7005}},
		{"SpoolDir", c.SpoolDir("n1", "host.example"), "/s/host/n1%"},
		{"Prolog", c.Prolog, []string{"/a", filepath.Join(filepath.Dir(c.Path), "b.sh")}},
		{"PluginOptions", c.PluginOptions["sched/backfill"]["c"].Value + c.PluginOptions["sched/backfill"]["b"].Value, "x=yyes"},
		{"Select", c.SelectTypeParameters, SelectParams{Raw: "CR_CPU_MEMORY,CR_LLN", CPU: true, Memory: true, LLN: true}},
		{"SlurmdDebug", c.SlurmdDebug, Debug2},
		{"EnforcePartLimits", c.EnforcePartLimits, "ALL"},
		{"HalfLife", c.PriorityDecayHalfLife, 36 * time.Hour},
		{"KeyPath", c.KeyPath(), filepath.Join(filepath.Dir(c.Path), "slurm.key")},
		{"TokenSocket", c.TokenSocket(), "/run/sluice/c.sock"},
		{"MaxJobId", c.MaxJobId, wlm.JobID(67043328)},
		{"MaxNodeCount", c.MaxNodeCount, uint32(4)},
	}
	for _, ch := range checks {
		if !reflect.DeepEqual(ch.got, ch.want) {
			t.Errorf("%s: got %v, want %v", ch.name, ch.got, ch.want)
		}
	}
	if v, at, ok := c.Raw("killwait"); v != "7" || at != c.Path+":3" || !ok {
		t.Errorf("Raw(killwait) = %q %q %v", v, at, ok)
	}
	if v, at, ok := c.Raw("WaitTime"); v != "0" || at != "default" || ok {
		t.Errorf("Raw(WaitTime) = %q %q %v", v, at, ok)
	}
	if got := c.RawAll("Prolog"); !slices.Equal(got, []string{"/a", "b.sh"}) {
		t.Errorf("RawAll(Prolog) = %v", got)
	}
}

// Each default must be a value of its kind, and fit the field it fills.
func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range Keys() {
		id := k.File + " " + k.Section + " " + strings.ToLower(k.Name)
		if seen[id] {
			t.Errorf("%s is listed twice", id)
		}
		seen[id] = true
		if !slices.Contains([]string{"yes", "no", "obsolete"}, k.Acts) {
			t.Errorf("%s: acts %q", id, k.Acts)
		}
		if k.Section != "global" || k.Default == "" || k.Name == "PluginDir" {
			continue
		}
		if _, err := k.parse(k.Default); err != nil {
			t.Errorf("%s: default: %v", id, err)
		}
	}
	for _, f := range shown {
		if _, ok := LookupKey("global", f.key); !ok && f.form != runtime && f.form != special {
			t.Errorf("%s is shown and not in the table", f.key)
		}
	}
}

// The observed listing, but for what only a daemon knows and what is ours.
func TestShowConfig(t *testing.T) {
	want, err := os.ReadFile("testdata/show_config.txt")
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := Load("testdata/observed.conf")
	if err != nil {
		t.Fatal(err)
	}
	ours := []string{"LaunchType", "PluginUser"}
	var got []string
	for _, v := range c.All() {
		if !slices.Contains(ours, v.Key) {
			got = append(got, fmt.Sprintf("%-23s = %s", v.Key, v.Value))
		}
	}
	lines := strings.Split(strings.TrimRight(string(want), "\n"), "\n")
	if len(lines) != len(got) {
		t.Errorf("%d lines, want %d", len(got), len(lines))
	}
	for i := range min(len(lines), len(got)) {
		key, _, _ := strings.Cut(lines[i], " ")
		if slices.Contains([]string{"BOOT_TIME", "HASH_VAL", "NEXT_JOB_ID", "SLURM_VERSION", "SLURM_CONF"}, key) {
			continue
		}
		if got[i] != lines[i] {
			t.Errorf("line %d:\n got %s\nwant %s", i+1, got[i], lines[i])
		}
	}
}

func TestDiff(t *testing.T) {
	old := good(t, head+"KillWait=30\nSlurmctldPort=6817\n"+tail+"PartitionName=gone Nodes=n1\n")
	new := good(t, head+"KillWait=40\nSlurmctldPort=6900\nNodeName=n[1-3] CPUs=2 Weight=3\nNodeName=n5\nPartitionName=p Nodes=n[1-2] MaxTime=5\nPartitionName=q\n")
	var got []string
	for _, c := range Diff(old, new) {
		got = append(got, c.String())
	}
	want := []string{
		"KillWait: 30 -> 40",
		"SlurmctldPort: 6817 -> 6900 (restart slurmctld,slurmd)",
		"NodeName=n1 Weight: 1 -> 3", "NodeName=n2 Weight: 1 -> 3", "NodeName=n3 Weight: 1 -> 3",
		"NodeName=n5: none -> added", "NodeName=n4: removed -> none",
		"PartitionName=p Nodes: n[1-4] -> n[1-2]", "PartitionName=p MaxTime: UNLIMITED -> 5",
		"PartitionName=q: none -> added", "PartitionName=gone: removed -> none",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if d := Diff(old, old); len(d) > 0 {
		t.Errorf("the same differs: %v", d)
	}
}

func TestCheck(t *testing.T) {
	var out bytes.Buffer
	path := put(t, "slurm.conf", head+"FastSchedule=1\n"+tail)
	if code := Check(path, &out); code != 0 || !strings.HasSuffix(out.String(), "no errors, 1 warnings\n") {
		t.Errorf("code %d, output %s", code, out.String())
	}
	out.Reset()
	path = put(t, "slurm.conf", head+"Bogus=1\n"+tail)
	if code := Check(path, &out); code != 1 || !strings.Contains(out.String(), "error: "+path+":3: Bogus: unknown key") {
		t.Errorf("code %d, output %s", code, out.String())
	}
	out.Reset()
	if code := Check("/nonexistent/slurm.conf", &out); code != 1 || !strings.Contains(out.String(), "no such file") {
		t.Errorf("code %d, output %s", code, out.String())
	}
}

func TestFlatErrors(t *testing.T) {
	path := put(t, "slurm.yaml", "ClusterName: c\nSlurmctldHost: h\nKillWait: soon\nNodeName:\n  - NodeName: n1\n    CPUs: 2\n  - NodeName: n2\n    CPU: 3\nPartitionName: p\n")
	_, _, err := Load(path)
	want := path + ":3: KillWait: \"soon\" is not allowed: want a whole number from 0 to 65533 (seconds)\n" +
		path + ":8: CPU: unknown key; did you mean CPUs?\n" +
		path + ":9: PartitionName: want a list of records, each with the key PartitionName\n" +
		path + ": PartitionName: no partition is defined"
	if got := fmt.Sprint(err); !sameLines(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if _, _, err := Load(put(t, "slurm.toml", "a = = b")); err == nil || !strings.Contains(err.Error(), "not toml") {
		t.Errorf("broken TOML: %v", err)
	}
}

func sameLines(a, b string) bool {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(x, y)
}

// viper can write what it read, through the codec.
func TestCodecEncodes(t *testing.T) {
	reg := viper.NewCodecRegistry()
	c := &codec{path: "f", file: "slurm.conf"}
	if err := reg.RegisterCodec(slurmFormat, c); err != nil {
		t.Fatal(err)
	}
	v := viper.NewWithOptions(viper.WithCodecRegistry(reg))
	v.SetConfigType(slurmFormat)
	if err := v.ReadConfig(strings.NewReader("KillWait=3\nSlurmctldHost=a\nSlurmctldHost=b\nNodeName=n1 CPUs=2\nNodeName=n2\n")); err != nil {
		t.Fatal(err)
	}
	out, err := c.Encode(v.AllSettings())
	if err != nil {
		t.Fatal(err)
	}
	if want := "KillWait=3\nnodename=n1 cpus=2\nnodename=n2\nSlurmctldHost=a\nSlurmctldHost=b\n"; string(out) != want {
		t.Errorf("got %q, want %q", out, want)
	}
}

func TestCompanion(t *testing.T) {
	path := put(t, "gres.conf", "AutoDetect=off\nNodeName=n[1-2] Name=gpu Type=a Files=/dev/nvidia[0-1]\nName=nvme Count=7T\n")
	c, warnings, err := LoadCompanion(path)
	if err != nil {
		t.Fatal(err)
	}
	if v, _, _ := c.Get("autodetect"); v != "off" {
		t.Errorf("AutoDetect %q", v)
	}
	want := map[string]string{"NodeName": "n[1-2]", "Name": "gpu", "Type": "a", "File": "/dev/nvidia[0-1]"}
	if len(c.Records) != 2 || len(warnings) != 1 {
		t.Fatalf("%d records, warnings %v", len(c.Records), warnings)
	}
	if i := slices.IndexFunc(c.Records, func(r Record) bool { return r.Opts["Name"] == "gpu" }); i < 0 || !reflect.DeepEqual(c.Records[i].Opts, want) {
		t.Errorf("records %v", c.Records)
	}
	path = put(t, "cgroup.conf", "ConstrainCores=perhaps\nConstrainRamSpce=yes\n")
	_, _, err = LoadCompanion(path)
	if got := fmt.Sprint(err); !strings.Contains(got, ":1: ConstrainCores: ") || !strings.Contains(got, ":2: ConstrainRamSpce: unknown key; did you mean ConstrainRAMSpace?") {
		t.Errorf("errors %s", got)
	}
	if _, _, err = LoadCompanion("/x/foo.conf"); err == nil {
		t.Error("foo.conf was read")
	}
}

func TestNearest(t *testing.T) {
	if d := distance("kitten", "sitting", 9); d != 3 {
		t.Errorf("distance %d", d)
	}
	if n := nearest("zzzzzz", []string{"KillWait"}); n != "" {
		t.Errorf("nearest %q", n)
	}
}

// Whatever the bytes, Load answers with a Config or with Problems, and what it
// accepts can be read again.
func FuzzLoad(f *testing.F) {
	for _, name := range []string{"lab.conf", "gpu-site.conf", "ha-site.conf"} {
		data, err := os.ReadFile(filepath.Join("examples", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(head + tail))
	f.Add([]byte(head + "DownNodes=ALL\nNodeSet=a Feature=b Nodes=x\n" + tail))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		if bytes.Contains(bytes.ToLower(data), []byte("include")) {
			return // would read files
		}
		path := filepath.Join(dir, "slurm.conf")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		c, _, err := Load(path)
		if (c == nil) == (err == nil) {
			t.Fatalf("config %v, error %v", c != nil, err)
		}
		if err != nil {
			if _, ok := err.(slurmconf.Problems); !ok {
				t.Fatalf("error of type %T", err)
			}
			return
		}
		c.All()
		reload(t, path, c)
		if d := Diff(c, c); len(d) > 0 {
			t.Fatalf("differs from itself: %v", d)
		}
	})
}

// reload prints the file, loads what was printed, and wants no difference.
func reload(t *testing.T, path string, c *Config) {
	t.Helper()
	parsed, err := slurmconf.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if parsed.Print(&out) != nil {
		return // a zero byte
	}
	second := put(t, "slurm.conf", out.String())
	d, _, err := Load(second)
	if err != nil {
		t.Fatalf("printed as %q: %v", out.String(), err)
	}
	if changes := Diff(c, d); len(changes) > 0 {
		t.Fatalf("printed as %q: %v", out.String(), changes)
	}
}

func TestPrintedExamples(t *testing.T) {
	for _, file := range []string{"lab.conf", "cpu-site.conf", "gpu-site.conf", "ha-site.conf"} {
		reload(t, filepath.Join("examples", file), exampleConfig(t, file))
	}
}

func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		if _, _, err := Load("examples/cpu-site.conf"); err != nil {
			b.Fatal(err)
		}
	}
}
