package conf

import (
	"path/filepath"
	"strings"
	"time"

	"github.com/sluice-hpc/sluice/conf/slurmconf"
	"github.com/sluice-hpc/sluice/sdk/topology"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Config is a whole slurm.conf, with defaults. It is immutable once loaded.
//
// A field is named as its key. Durations are exact; a key that allows
// UNLIMITED is [Forever], [Infinite] or wlm.Unlimited then. Plugins are
// written kind/name, with "" for none. A memory of 0 is no limit.
type Config struct {
	Path  string   // of the file, absolute
	Files []string // every file read, the first one first

	ClusterConf
	Controller
	NodeDaemon
	Plugins
	JobConf
	TimeoutConf
	PriorityConf
	AccountingConf
	ProgramConf

	Nodes      []wlm.Node      // in the order of the file; Index is the place
	Partitions []wlm.Partition // in the order of the file
	NodeSets   []NodeSet
	DownNodes  []DownNodes

	// Idle are the keys that the file sets, beside their defaults, and that
	// nothing in Sluice depends on yet; those of lines as NodeName.Key.
	Idle []string

	values map[string]*value // lower-case key of the global section
}

// ClusterConf is who belongs to the cluster and who may speak for it.
type ClusterConf struct {
	ClusterName             string
	Hosts                   []SlurmctldHost `conf:"-"` // SlurmctldHost lines, the primary first
	SlurmctldAddr           string
	SlurmUser               string
	SlurmdUser              string
	PluginUser              string
	AuthType                string
	AuthInfo                Params
	CredType                string
	CommunicationParameters Params
	TLSType                 string
	TLSParameters           Params
	PrivateData             Params
	TreeWidth               uint16
	DebugFlags              Params
	LogTimeFormat           string
	MailProg                string
	MailDomain              string
	TmpFS                   string
	GresTypes               Params
	Licenses                []License `conf:"-"`
	TopologyPlugin          string
	TopologyParam           Params
	Topology                *topology.Site `conf:"-"` // of topology.yaml or topology.conf; never nil
}

// SlurmctldHost is a controller: its name, and the address to dial.
type SlurmctldHost struct{ Name, Addr string }

// Controller is what slurmctld itself needs.
type Controller struct {
	SlurmctldPort        uint16    `conf:"-"` // the first of SlurmctldPorts
	SlurmctldPorts       PortRange `conf:"SlurmctldPort"`
	SlurmctldDebug       Level
	SlurmctldSyslogDebug Level
	SlurmctldLogFile     string
	SlurmctldPidFile     string
	SlurmctldParameters  Params
	StateSaveLocation    string
	SchedulerParameters  Params
	DependencyParameters Params
	PreemptParameters    Params
	PreemptMode          Params
	PreemptExemptTime    time.Duration
	ReconfigFlags        Params
	MaxNodeCount         uint32 // at least the nodes of the file
	MaxDBDMsgs           uint32
}

// NodeDaemon is what slurmd needs. Paths may hold %n and %h; see
// [Config.SpoolDir] and its neighbours.
type NodeDaemon struct {
	SlurmdPort           uint16
	SlurmdDebug          Level
	SlurmdSyslogDebug    Level
	SlurmdLogFile        string
	SlurmdPidFile        string
	SlurmdSpoolDir       string
	SlurmdParameters     Params
	LaunchParameters     Params
	TaskPluginParam      Params
	SrunPortRange        PortRange
	ReturnToService      uint8
	HealthCheckProgram   string
	HealthCheckNodeState Params
	RebootProgram        string
	TrackWCKey           bool
	UsePAM               bool
}

// Plugins says which binary serves each kind, as kind/name.
type Plugins struct {
	PluginDir            string             // colon-separated
	PluginOptions        map[string]Options `conf:"-"` // by kind/name
	SchedulerType        string
	SelectType           string
	SelectTypeParameters SelectParams `conf:"-"`
	PriorityType         string
	PreemptType          string
	JobSubmitPlugins     []string
	CliFilterPlugins     []string
	LaunchType           string
	ProctrackType        string
	TaskPlugin           []string
	SwitchType           string
	MpiDefault           string
	MpiParams            Params
	JobCompType          string
	JobCompLoc           string
	JobCompParams        Params
	MetricsType          string
	NamespaceType        string
}

// Options are the options of one plugin, with where each was written.
type Options map[string]Option

// Option is one option's value and its place, file:line.
type Option struct{ Value, Origin string }

// JobConf bounds jobs and says how they are treated.
type JobConf struct {
	DefMemPerCPU                  wlm.MiB
	DefMemPerNode                 wlm.MiB
	DefMemPerGPU                  wlm.MiB
	DefCPUPerGPU                  uint64
	MaxMemPerCPU                  wlm.MiB
	MaxMemPerNode                 wlm.MiB
	FirstJobId                    wlm.JobID
	MaxJobId                      wlm.JobID
	MaxJobCount                   uint32
	MaxArraySize                  uint32
	MaxStepCount                  uint32
	MaxTasksPerNode               uint16
	MaxBatchRequeue               uint32
	JobRequeue                    bool
	JobFileAppend                 bool
	KillOnBadExit                 bool
	DisableRootJobs               bool
	EnforcePartLimits             string // ALL, ANY or NO
	RequeueExit                   ExitCodes
	RequeueExitHold               ExitCodes
	PropagateResourceLimits       Params
	PropagateResourceLimitsExcept Params
	PropagatePrioProcess          uint8
	OverTimeLimit                 wlm.Minutes
	InteractiveStepOptions        string
	PrologFlags                   Params
}

// TimeoutConf is every wait. Zero is "never" or "off", as in Slurm.
type TimeoutConf struct {
	SlurmctldTimeout      time.Duration
	SlurmdTimeout         time.Duration
	MessageTimeout        time.Duration
	TCPTimeout            time.Duration
	KillWait              time.Duration
	InactiveLimit         time.Duration
	MinJobAge             time.Duration
	WaitTime              time.Duration
	BatchStartTimeout     time.Duration
	CompleteWait          time.Duration
	EioTimeout            time.Duration
	UnkillableStepTimeout time.Duration
	PrologEpilogTimeout   time.Duration // 0: no limit
	PrologTimeout         time.Duration // 0: no limit
	EpilogTimeout         time.Duration // 0: no limit
	HealthCheckInterval   time.Duration
	SchedulerTimeSlice    time.Duration
	ResumeTimeout         time.Duration
	SuspendTimeout        time.Duration
	SuspendTime           time.Duration
	ResvOverRun           time.Duration
	GroupUpdateTime       time.Duration
}

// PriorityConf is what priority plugins weigh.
type PriorityConf struct {
	PriorityCalcPeriod       time.Duration
	PriorityDecayHalfLife    time.Duration // 0: no decay
	PriorityMaxAge           time.Duration
	PriorityUsageResetPeriod string
	PriorityFavorSmall       bool
	PriorityFlags            Params
	PriorityWeightAge        uint32
	PriorityWeightAssoc      uint32
	PriorityWeightFairshare  uint32
	PriorityWeightJobSize    uint32
	PriorityWeightPartition  uint32
	PriorityWeightQOS        uint32
	PriorityWeightTRES       Params
	FairShareDampeningFactor uint16
}

// AccountingConf is what is recorded of jobs, and where.
type AccountingConf struct {
	AccountingStorageType       string
	AccountingStorageHost       string
	AccountingStorageBackupHost string
	AccountingStoragePort       uint16
	AccountingStoragePass       string
	AccountingStorageEnforce    Params   `conf:"-"` // with what its words imply
	AccountingStorageTRES       []string `conf:"-"`
	AccountingStorageParameters Params
	AccountingStoreFlags        Params
	JobAcctGatherType           string
	JobAcctGatherFrequency      Params
	JobAcctGatherParams         Params
}

// ProgramConf is the site's own programs. A relative path of a prolog or
// epilog starts at the directory of slurm.conf and is absolute here.
type ProgramConf struct {
	Prolog                []string
	Epilog                []string
	PrologSlurmctld       []string
	EpilogSlurmctld       []string
	TaskProlog            string
	TaskEpilog            string
	SrunProlog            string
	SrunEpilog            string
	UnkillableStepProgram string
	ResumeProgram         string
	ResumeFailProgram     string
	SuspendProgram        string
	ResumeRate            uint16 // nodes a minute; 0: no bound
	SuspendRate           uint16
}

// NodeSet is a name for nodes, by list or by feature.
type NodeSet struct {
	Name    string
	Feature string
	Nodes   []wlm.NodeName // what both come to
}

// DownNodes is a state that slurm.conf gives to nodes; Nodes has it applied.
type DownNodes struct {
	Nodes  []wlm.NodeName
	State  string
	Reason string
}

// Warning is something odd that Slurm accepts.
type Warning = slurmconf.Problem

// value is what a global key holds: its text and origin, and what it means.
type value struct {
	key    *Key
	text   string   // the last, or the default
	all    []string // of a repeatable key
	at     []slurmconf.Pos
	set    bool
	parsed any
}

// Raw returns the value of any global key as written, with its place
// file:line. When the file does not set it, ok is false and value is the
// default.
func (c *Config) Raw(key string) (text, origin string, ok bool) {
	v, known := c.values[strings.ToLower(key)]
	if !known {
		if k, ok := LookupKey("global", key); ok {
			return k.Default, "default", false
		}
		return "", "", false
	}
	if !v.set {
		return v.text, "default", false
	}
	return v.text, v.at[len(v.at)-1].String(), true
}

// RawAll returns every value of a repeatable key, such as Prolog.
func (c *Config) RawAll(key string) []string {
	if v, ok := c.values[strings.ToLower(key)]; ok {
		return v.all
	}
	return nil
}

// Expand replaces %n by the node's name and %h by its short host name in a
// path of slurm.conf; %% is a percent sign.
func Expand(pattern string, node wlm.NodeName, host string) string {
	if !strings.Contains(pattern, "%") {
		return pattern
	}
	host, _, _ = strings.Cut(host, ".")
	return strings.NewReplacer("%%", "%", "%n", string(node), "%h", host).Replace(pattern)
}

// SpoolDir is SlurmdSpoolDir of one node.
func (c *Config) SpoolDir(node wlm.NodeName, host string) string {
	return Expand(c.SlurmdSpoolDir, node, host)
}

// SlurmdLog is SlurmdLogFile of one node.
func (c *Config) SlurmdLog(node wlm.NodeName, host string) string {
	return Expand(c.SlurmdLogFile, node, host)
}

// SlurmdPid is SlurmdPidFile of one node.
func (c *Config) SlurmdPid(node wlm.NodeName, host string) string {
	return Expand(c.SlurmdPidFile, node, host)
}

// Node finds a node by name, nil when there is none.
func (c *Config) Node(name wlm.NodeName) *wlm.Node {
	for i := range c.Nodes {
		if c.Nodes[i].Name == name {
			return &c.Nodes[i]
		}
	}
	return nil
}

// Partition finds a partition by name, nil when there is none.
func (c *Config) Partition(name string) *wlm.Partition {
	for i := range c.Partitions {
		if c.Partitions[i].Name == name {
			return &c.Partitions[i]
		}
	}
	return nil
}

// Controllers are the addresses of the controllers, host:port, in order of
// preference.
func (c *Config) Controllers() []string {
	out := make([]string, len(c.Hosts))
	for i, h := range c.Hosts {
		out[i] = slurmconf.Host(h).Dial(c.SlurmctldPort)
	}
	return out
}

// TokenSocket is the local socket that gives out tokens, KeyPath the shared
// key of auth/slurm; commands find the same by slurmconf.Client.
func (c *Config) TokenSocket() string {
	if s, ok := c.AuthInfo.Get("socket"); ok && s != "" {
		return s
	}
	return filepath.Join(slurmconf.RunDir, c.ClusterName+".sock")
}

// KeyPath is slurm.key beside the configuration.
func (c *Config) KeyPath() string { return filepath.Join(filepath.Dir(c.Path), "slurm.key") }
