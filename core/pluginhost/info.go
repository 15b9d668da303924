package pluginhost

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"

	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
)

// Info tells about the plugin and the process that serves it.
func (p *Plugin) Info() *ctlv1.PluginInfo {
	p.mu.Lock()
	i := &ctlv1.PluginInfo{Kind: p.kind, Name: p.spec.Name, State: p.state, Restarts: p.restarted,
		LastError: p.lastError, Host: p.host.cfg.HostName, SetBy: p.spec.SetBy}
	if p.disabled {
		i.SetBy = "disable"
	}
	inst := p.inst
	p.mu.Unlock()
	i.Calls, i.Overruns, i.P50Us, i.P99Us, i.MaxUs = p.stats.summary()
	if inst == nil {
		return i
	}
	configured := i.GetName()
	inst.describe(i)
	if i.GetName() != configured {
		i.Configured = configured
	}
	return i
}

// describe adds what is known of the process.
func (inst *instance) describe(i *ctlv1.PluginInfo) {
	i.Name, i.Version, i.Path, i.Sha256 = inst.spec.Name, inst.manifest.GetVersion(), inst.path, inst.sum
	i.Pid, i.Since, i.Contract, i.Rev = uint32(inst.proc.PID()), inst.since.Unix(), inst.contract, inst.rev.Load()
	for _, o := range inst.options {
		v := &ctlv1.ConfigValue{Key: o.GetName(), Value: o.GetValue(), Origin: o.GetOrigin()}
		for _, d := range inst.manifest.GetOptions() {
			if d.GetName() == o.GetName() {
				v.Default, v.Unit = d.GetDefault(), d.GetUnit()
			}
		}
		i.Options = append(i.Options, v)
	}
	i.CpuSeconds, i.Rss = usage(inst.proc.PID())
	i.Limits, i.User = append(inst.cage.describe(), "timeout="+inst.spec.Timeout.String()), owner(inst.proc.PID())
}

// owner is whom a process runs as, by name where there is one.
func owner(pid int) string {
	st, err := os.Stat("/proc/" + strconv.Itoa(pid))
	if err != nil {
		return ""
	}
	id := strconv.FormatUint(uint64(st.Sys().(*syscall.Stat_t).Uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}

const userHZ = 100 // of /proc, on every architecture that Linux has today

// usage reads what a process used so far; zeros when it is gone.
func usage(pid int) (cpuSeconds float64, rss uint64) {
	dir := "/proc/" + strconv.Itoa(pid)
	if b, err := os.ReadFile(dir + "/stat"); err == nil {
		if _, after, ok := strings.Cut(string(b), ") "); ok { // the name may hold anything
			if f := strings.Fields(after); len(f) > 12 {
				user, _ := strconv.ParseUint(f[11], 10, 64)
				sys, _ := strconv.ParseUint(f[12], 10, 64)
				cpuSeconds = float64(user+sys) / userHZ
			}
		}
	}
	if b, err := os.ReadFile(dir + "/statm"); err == nil {
		if f := strings.Fields(string(b)); len(f) > 1 {
			pages, _ := strconv.ParseUint(f[1], 10, 64)
			rss = pages * uint64(os.Getpagesize())
		}
	}
	return cpuSeconds, rss
}

// warning is a line for an administrator, empty when all is well.
func (p *Plugin) warning() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	name := title(p.kind, p.spec.Name)
	switch p.state {
	case stateDisabled:
		if p.inst == nil {
			return fmt.Sprintf("plugin %s was disabled by an administrator", name)
		}
		return fmt.Sprintf("plugin %s was disabled by an administrator, %s serves in its place", name, title(p.kind, p.spec.Fallback))
	case stateFallback:
		return fmt.Sprintf("plugin %s ended too often, %s serves in its place; last error: %s", name, title(p.kind, p.spec.Fallback), p.lastError)
	case stateRestarting:
		return fmt.Sprintf("plugin %s is being restarted (%d restarts so far): %s", name, p.restarted, p.lastError)
	}
	return ""
}
