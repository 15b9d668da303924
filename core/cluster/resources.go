package cluster

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// License is a counted name that jobs use up cluster-wide.
type License struct {
	Name  string
	Total uint64
}

// ParseLicenses reads --licenses: names separated by commas or semicolons, each
// with :count or =count behind it, 1 when there is none.
func ParseLicenses(s string) ([]License, error) {
	var out []License
	for item := range strings.FieldsFuncSeq(s, func(r rune) bool { return r == ',' || r == ';' }) {
		name, num, counted := strings.Cut(strings.Replace(item, "=", ":", 1), ":")
		n := uint64(1)
		var err error
		if counted {
			n, err = strconv.ParseUint(num, 10, 31)
		}
		if err != nil || name == "" || strings.ContainsAny(name, "|&") {
			return nil, errs.Newf("cluster.ParseLicenses", errs.Invalid, "%q is not name or name:count", item)
		}
		if i := slices.IndexFunc(out, func(l License) bool { return l.Name == name }); i >= 0 {
			out[i].Total += n
			continue
		}
		out = append(out, License{name, n})
	}
	return out, nil
}

// testLicenses refuses licenses that the cluster does not have, or not as many.
func (c *Cluster) testLicenses(op, list string) error {
	want, err := ParseLicenses(list)
	if err != nil {
		return errs.Coded(op, errs.InvalidLicenses).With("--licenses=%s: %v", list, err)
	}
	for _, l := range want {
		i := slices.IndexFunc(c.settings.Licenses, func(h License) bool { return h.Name == l.Name })
		switch {
		case i < 0:
			return errs.Coded(op, errs.InvalidLicenses).With("no license is called %s", l.Name)
		case l.Total > c.settings.Licenses[i].Total:
			return errs.Coded(op, errs.InvalidLicenses).With("%d of %s are asked for, there are %d", l.Total, l.Name, c.settings.Licenses[i].Total)
		}
	}
	return nil
}

// LicenseUse tells how many of each license running jobs use, and the totals.
func (c *Cluster) LicenseUse() (licenses []License, used map[string]uint64) {
	used = map[string]uint64{}
	for _, l := range c.settings.Licenses {
		used[l.Name] = c.licensed[l.Name]
	}
	return c.settings.Licenses, used
}

// refuseLicenses says why a job's licenses are not free; empty: they are.
func (c *Cluster) refuseLicenses(list string) string {
	if list == "" {
		return ""
	}
	want, _ := ParseLicenses(list)
	for _, l := range want {
		for _, h := range c.settings.Licenses {
			if h.Name == l.Name && c.licensed[l.Name]+l.Total > h.Total {
				return fmt.Sprintf("%d of license %s are free", h.Total-min(c.licensed[l.Name], h.Total), l.Name)
			}
		}
	}
	return ""
}

// license adds or takes back what a job uses of licenses.
func (t *Tables) license(j *wlm.Job, d int) {
	if j.Spec.Licenses == "" || j.State != wlm.Running && j.State != wlm.Suspended {
		return
	}
	list, _ := ParseLicenses(j.Spec.Licenses)
	for _, l := range list {
		if d > 0 {
			t.licensed[l.Name] += l.Total
		} else {
			t.licensed[l.Name] -= min(l.Total, t.licensed[l.Name])
		}
	}
}

// Licensed is how many of a license running jobs use.
func (t *Tables) Licensed(name string) uint64 { return t.licensed[name] }

// gresLists are a request's lists of generic resources.
func gresLists(s *wlm.Spec) [4]string {
	return [4]string{s.TresPerJob, s.TresPerNode, s.TresPerSocket, s.TresPerTask}
}

// gresDefaults fills in what follows from a request for GPUs, and refuses what
// the cluster does not know.
func (c *Cluster) gresDefaults(op string, s *wlm.Spec, p *wlm.Partition) error {
	gpus := false
	for _, list := range gresLists(s) {
		asks, err := wlm.ParseGres(list)
		if err != nil {
			return errs.Coded(op, errs.InvalidGres).With("%s: %v", list, err)
		}
		for _, a := range asks {
			if !slices.Contains(c.settings.GresTypes, a.Name) {
				return errs.Coded(op, errs.InvalidGres).With("%s is not in GresTypes", a.Name)
			}
			gpus = gpus || a.Name == "gpu"
		}
	}
	if s.TresPerSocket != "" && s.SocketsPerNode == 0 {
		return errs.Coded(op, errs.InvalidGres, "--gpus-per-socket option requires --sockets-per-node specification")
	}
	if per := s.TasksPerGPU; per > 0 {
		if total := jobGPUs(s); total > 0 && s.NTasks == 0 {
			s.NTasks = total * per
		} else if s.NTasks > 0 && !gpus {
			s.TresPerJob, gpus = fmt.Sprintf("gres/gpu:%d", (s.NTasks+per-1)/per), true
		}
	}
	if !gpus {
		return nil
	}
	cpus, mem := c.settings.DefCPUPerGPU, c.settings.DefMemPerGPU
	for item := range strings.SplitSeq(p.JobDefaults, ",") {
		key, value, _ := strings.Cut(item, "=")
		n, _ := strconv.ParseUint(value, 10, 31)
		switch {
		case strings.EqualFold(key, "DefCpuPerGPU"):
			cpus = uint32(n)
		case strings.EqualFold(key, "DefMemPerGPU"):
			mem = wlm.MiB(n)
		}
	}
	if s.CPUsPerGPU == 0 && s.CPUsPerTask == 0 {
		s.CPUsPerGPU = cpus
	}
	if s.MemPerGPU == 0 && s.MemPerCPU == 0 && s.MemPerNode == 0 && !s.MemAll {
		s.MemPerGPU = mem
	}
	return nil
}

// jobGPUs is the total of --gpus.
func jobGPUs(s *wlm.Spec) (n uint32) {
	asks, _ := wlm.ParseGres(s.TresPerJob)
	for _, a := range asks {
		if a.Name == "gpu" {
			n += uint32(a.Count)
		}
	}
	return n
}

// gresRoom is how many of tasks a node's generic resources allow, and how much
// of a job's total it has; false when it has too little for any.
func gresRoom(k *Class, n *wlm.Node, tasks int) (room int, total map[wlm.GresCount]uint64, ok bool) {
	if k.TresPerJob == "" && k.TresPerNode == "" && k.TresPerTask == "" && k.TresPerSocket == "" {
		return tasks, nil, true
	}
	pools, err := wlm.NodeGres(n.Gres, n.GresConf)
	if err != nil {
		return 0, nil, false
	}
	have := func(a wlm.GresCount) uint64 {
		for _, p := range pools {
			if p.Name != a.Name {
				continue
			}
			if a.Type == "" {
				return p.Count
			}
			n := uint64(0)
			for _, c := range p.Types {
				if c.Type == a.Type {
					n += c.Count
				}
			}
			return n
		}
		return 0
	}
	for _, list := range []string{k.TresPerNode, k.TresPerSocket} {
		asks, _ := wlm.ParseGres(list)
		for _, a := range asks {
			want := a.Count
			if list == k.TresPerSocket {
				want *= uint64(max(k.SocketsPerNode, 1))
			}
			if a.Name == "gpu" && k.MemPerGPU*wlm.MiB(want) > n.RealMemory || have(a) < want {
				return 0, nil, false
			}
		}
	}
	asks, _ := wlm.ParseGres(k.TresPerTask)
	for _, a := range asks {
		if a.Count > 0 {
			tasks = int(min(uint64(tasks), have(a)/a.Count))
		}
	}
	asks, _ = wlm.ParseGres(k.TresPerJob)
	for _, a := range asks {
		h := have(a)
		if a.Name == "gpu" && k.CPUsPerGPU > 0 {
			h = min(h, uint64(n.CPUs/k.CPUsPerGPU))
		}
		if a.Name == "gpu" && k.MemPerGPU > 0 {
			h = min(h, uint64(n.RealMemory/k.MemPerGPU))
		}
		if h == 0 {
			return 0, nil, false
		}
		if total == nil {
			total = map[wlm.GresCount]uint64{}
		}
		total[a] = h
	}
	return tasks, total, tasks > 0
}

// refuseGres says why a node's generic resources are not free as a placement
// has them; empty: they are.
func (c *Cluster) refuseGres(a *wlm.NodeAlloc, n *wlm.Node) string {
	if a.Gres == "" {
		return ""
	}
	pools, err := wlm.NodeGres(n.Gres, n.GresConf)
	if err != nil {
		return err.Error()
	}
	asks, err := wlm.ParseGresUse(a.Gres)
	if err != nil {
		return err.Error()
	}
	used, busy, shares := c.gresUsed(n)
	for _, u := range asks {
		i := slices.IndexFunc(pools, func(p wlm.GresPool) bool { return p.Name == u.Name })
		switch {
		case i < 0:
			return fmt.Sprintf("node %s has no %s", n.Name, u.Name)
		case used[u.Name]+u.Count > pools[i].Count:
			return fmt.Sprintf("node %s has %d of %s free", n.Name, pools[i].Count-min(used[u.Name], pools[i].Count), u.Name)
		case pools[i].Shared == 0 && busy[u.Name].Overlaps(u.Devices):
			return fmt.Sprintf("%s %s of node %s is in use", u.Name, u.Devices, n.Name)
		case pools[i].Shared == 0 && u.Name == "gpu" && (busy["shard"].Overlaps(u.Devices) || busy["mps"].Overlaps(u.Devices)),
			pools[i].Shared > 0 && busy["gpu"].Overlaps(u.Devices):
			return fmt.Sprintf("gpu %s of node %s is in use", u.Devices, n.Name)
		}
		for d := range u.Devices.All {
			if d >= len(pools[i].Devices) || pools[i].Shared > 0 && shares[u.Name][d]+u.Count > pools[i].Shared {
				return fmt.Sprintf("node %s has too little of %s %d", n.Name, u.Name, d)
			}
		}
	}
	return ""
}

// gresUsed sums up what the jobs of a node have: counts, devices, and shares of
// devices.
func (t *Tables) gresUsed(n *wlm.Node) (used map[string]uint64, busy map[string]wlm.CPUSet, shares map[string]map[int]uint64) {
	used, busy, shares = map[string]uint64{}, map[string]wlm.CPUSet{}, map[string]map[int]uint64{}
	for id := range t.Usage[n.Index].Jobs {
		j := t.jobs[id]
		for i := range j.Alloc.Nodes {
			a := &j.Alloc.Nodes[i]
			if a.Node != n.Name || a.Gres == "" {
				continue
			}
			uses, _ := wlm.ParseGresUse(a.Gres)
			for _, u := range uses {
				used[u.Name] += u.Count
				busy[u.Name] = busy[u.Name].Or(u.Devices)
				for d := range u.Devices.All {
					if shares[u.Name] == nil {
						shares[u.Name] = map[int]uint64{}
					}
					shares[u.Name][d] += u.Count
				}
			}
		}
	}
	return used, busy, shares
}

// GresUsed prints what jobs use of a node's generic resources, as sinfo does.
func (t *Tables) GresUsed(n *wlm.Node) string {
	counts, err := wlm.ParseGres(n.Gres)
	if err != nil || len(counts) == 0 || int(n.Index) >= len(t.Usage) {
		return ""
	}
	byType, busy := map[[2]string]uint64{}, map[[2]string]wlm.CPUSet{}
	for id := range t.Usage[n.Index].Jobs {
		j := t.jobs[id]
		for i := range j.Alloc.Nodes {
			if a := &j.Alloc.Nodes[i]; a.Node == n.Name {
				uses, _ := wlm.ParseGresUse(a.Gres)
				for _, u := range uses {
					key := [2]string{u.Name, u.Type}
					byType[key] += u.Count
					busy[key] = busy[key].Or(u.Devices)
				}
			}
		}
	}
	var out []string
	for _, c := range counts {
		key := [2]string{c.Name, c.Type}
		s := wlm.GresCount{Name: c.Name, Type: c.Type, Count: byType[key]}.String()
		if pools, err := wlm.NodeGres(n.Gres, n.GresConf); err == nil {
			for _, p := range pools {
				if p.Name == c.Name && len(p.Devices) > 0 {
					idx := "N/A"
					if busy[key].Count() > 0 {
						idx = busy[key].String()
					}
					s += "(IDX:" + idx + ")"
				}
			}
		}
		out = append(out, s)
	}
	return strings.Join(out, ",")
}

// allocTRES is what a started job has, with generic resources and licenses as
// AccountingStorageTRES names them, and what that is billed.
func (c *Cluster) allocTRES(j *wlm.Job, p *wlm.Partition) string {
	var mem wlm.MiB
	gres := map[string]uint64{}
	for i := range j.Alloc.Nodes {
		mem += j.Alloc.Nodes[i].Mem
		uses, _ := wlm.ParseGresUse(j.Alloc.Nodes[i].Gres)
		for _, u := range uses {
			gres["gres/"+u.Name] += u.Count
			if u.Type != "" {
				gres["gres/"+u.Name+":"+u.Type] += u.Count
			}
		}
	}
	return c.tres(uint32(j.Alloc.CPUCount()), mem, uint32(len(j.Alloc.Nodes)), gres, j.Spec.Licenses, p)
}

// tres prints amounts with what they are billed in a partition.
func (c *Cluster) tres(cpus uint32, mem wlm.MiB, nodes uint32, gres map[string]uint64, licenses string, p *wlm.Partition) string {
	list, _ := ParseLicenses(licenses)
	for _, l := range list {
		gres["license/"+l.Name] = l.Total
	}
	billing := uint64(cpus)
	if p != nil && p.TRESWeights != "" {
		billing = c.bill(p.TRESWeights, cpus, mem, nodes, gres)
	}
	s := fmt.Sprintf("cpu=%d", cpus)
	if mem > 0 {
		s += ",mem=" + wlm.FormatMiB(mem)
	}
	s += fmt.Sprintf(",node=%d,billing=%d", nodes, billing)
	for _, name := range c.settings.TRES {
		if n := gres[strings.ToLower(name)]; n > 0 {
			s += fmt.Sprintf(",%s=%d", strings.ToLower(name), n)
		}
	}
	return s
}

// bill is the sum of amounts times weights, rounded down; with MAX_TRES, the
// largest of those per node and the sum of the others.
func (c *Cluster) bill(weights string, cpus uint32, mem wlm.MiB, nodes uint32, gres map[string]uint64) uint64 {
	most, sum := 0.0, 0.0
	for item := range strings.SplitSeq(weights, ",") {
		name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(item)), "=")
		unit := 1.0
		if n := len(value); n > 0 {
			if i := strings.IndexByte("kmgtp", value[n-1]); i >= 0 {
				value = value[:n-1]
				for range i {
					unit *= 1024
				}
				if i == 0 {
					unit = 1
				}
			}
		}
		w, err := strconv.ParseFloat(value, 64)
		if err != nil {
			continue
		}
		amount := 0.0
		switch name {
		case "cpu":
			amount = float64(cpus)
		case "mem":
			amount = float64(mem)
			if unit > 1 {
				amount /= unit / 1024 // a weight of 1G is for each GiB
			}
		case "node":
			amount = float64(nodes)
		default:
			amount = float64(gres[name]) / unit
		}
		if c.settings.MaxTRES && !strings.HasPrefix(name, "license/") {
			most = max(most, amount*w)
		} else {
			sum += amount * w
		}
	}
	return uint64(most + sum)
}
