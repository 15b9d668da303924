package cluster

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// uses is a job that is in a partition, or waits for it among others.
func (c *Cluster) uses(partition string) (wlm.JobID, bool) {
	least := wlm.JobID(0)
	for _, j := range c.jobs {
		waits := j.State == wlm.Pending && slices.Contains(j.Spec.Partitions, partition)
		if (waits || !j.State.Ended() && j.Partition == partition) && (least == 0 || j.ID < least) {
			least = j.ID
		}
	}
	return least, least != 0
}

// lists are the keys of a partition that take += and -=, as scontrol's key+ and
// key-.
func lists(p *wlm.Partition) map[string][]string {
	nodes := make([]string, len(p.NodeNames))
	for i, n := range p.NodeNames {
		nodes[i] = string(n)
	}
	return map[string][]string{"nodes": nodes, "allowgroups": p.AllowGroups, "allowaccounts": p.AllowAccounts, "denyaccounts": p.DenyAccounts,
		"allowqos": p.AllowQOS, "denyqos": p.DenyQOS, "allocnodes": p.AllocNodes}
}

// mergeList turns key+=value and key-=value into key=value.
func mergeList(p *wlm.Partition, k, v string) (key, value string) {
	key = strings.TrimRight(k, "+-")
	have, known := lists(p)[key]
	if key == k || !known {
		return k, v
	}
	change, err := hostlist.Expand(v)
	if err != nil {
		return key, v // refused as such
	}
	out := slices.DeleteFunc(slices.Clone(have), func(s string) bool { return slices.Contains(change, s) })
	if strings.HasSuffix(k, "+") {
		out = append(out, change...)
	}
	return key, strings.Join(out, ",")
}

// setPartitionMore sets what few sites change while the cluster runs; known
// reports whether there is such a key.
func setPartitionMore(op string, p *wlm.Partition, k, v string) (known bool, err error) {
	yes := strings.EqualFold(v, "YES") || strings.EqualFold(v, "TRUE")
	memory := func(set, other *wlm.MiB) error {
		if strings.EqualFold(v, "UNLIMITED") || strings.EqualFold(v, "INFINITE") {
			*set = 0
			return nil
		}
		m, err := wlm.ParseMiB(v)
		if err != nil {
			return errs.Newf(op, errs.Invalid, "%s=%s: allowed is an amount such as 2000 or 2G, or UNLIMITED", k, v)
		}
		*set, *other = m, 0 // of a pair, one holds
		return nil
	}
	switch k {
	case "defmempercpu":
		return true, memory(&p.DefMemPerCPU, &p.DefMemPerNode)
	case "defmempernode":
		return true, memory(&p.DefMemPerNode, &p.DefMemPerCPU)
	case "maxmempercpu":
		return true, memory(&p.MaxMemPerCPU, &p.MaxMemPerNode)
	case "maxmempernode":
		return true, memory(&p.MaxMemPerNode, &p.MaxMemPerCPU)
	case "oversubscribe":
		return true, setOverSubscribe(op, p, v)
	case "maxcpuspersocket":
		n, err := strconv.ParseUint(v, 10, 32)
		if strings.EqualFold(v, "UNLIMITED") {
			n, err = uint64(wlm.Unset), nil
		}
		if err != nil {
			return true, errs.Newf(op, errs.Invalid, "%s=%s: allowed is a number or UNLIMITED", k, v)
		}
		p.MaxCPUsPerSock = uint32(n)
	case "denyqos":
		p.DenyQOS = list(v)
	case "alternate":
		p.Alternate = v
	case "reqresv":
		p.ReqResv = yes
	case "exclusivetopo":
		p.ExclusiveTopo = yes
	case "tresbillingweights":
		p.TRESWeights = v
	case "jobdefaults":
		p.JobDefaults = v
	case "cpubind":
		p.CPUBind = strings.ToLower(v)
	default:
		return false, nil
	}
	return true, nil
}

func setOverSubscribe(op string, p *wlm.Partition, v string) error {
	word, count, counted := strings.Cut(v, ":")
	mode, n := wlm.OverSubNo, uint64(4) // Slurm's default of YES and FORCE
	switch strings.ToUpper(word) {
	case "NO":
		n = 1
	case "EXCLUSIVE":
		mode, n = wlm.OverSubExclusive, 0
	case "YES":
		mode = wlm.OverSubYes
	case "FORCE":
		mode = wlm.OverSubForce
	default:
		return errs.Newf(op, errs.Invalid, "OverSubscribe=%s: allowed are NO, EXCLUSIVE, YES[:count], FORCE[:count]", v)
	}
	if counted {
		var err error
		if n, err = strconv.ParseUint(count, 10, 15); err != nil || n == 0 || mode < wlm.OverSubYes {
			return errs.Newf(op, errs.Invalid, "OverSubscribe=%s: only YES and FORCE take a count, from 1 to 32767", v)
		}
	}
	p.OverSubscribe, p.OverSubCount = mode, uint32(n)
	return nil
}

// keepPartitions applies ReconfigFlags to configured partitions: those of the
// cluster that administrators changed or made stay as they are, or keep their
// state.
func (c *Cluster) keepPartitions(f *Configure) []wlm.Partition {
	if !f.KeepPartInfo && !f.KeepPartState {
		return f.Partitions
	}
	out := slices.Clone(f.Partitions)
	for _, p := range c.Partitions {
		i := slices.IndexFunc(out, func(q wlm.Partition) bool { return q.Name == p.Name })
		switch {
		case i < 0 && f.KeepPartInfo:
			out = append(out, *p.Clone())
		case i >= 0 && f.KeepPartInfo:
			out[i] = *p.Clone()
		case i >= 0:
			out[i].State = p.State
		}
	}
	return out
}

// alternate puts the partition that a drained or inactive one names in its place.
func (c *Cluster) alternate(spec *wlm.Spec) {
	for i, name := range spec.Partitions {
		for range len(c.Partitions) { // a loop of alternates ends
			p := c.Partition(name)
			if p == nil || p.Alternate == "" || p.State != wlm.PartDrain && p.State != wlm.PartInactive || c.Partition(p.Alternate) == nil {
				break
			}
			name = p.Alternate
		}
		if name != spec.Partitions[i] && !slices.Contains(spec.Partitions, name) {
			spec.Partitions = slices.Clone(spec.Partitions)
			spec.Partitions[i] = name
		}
	}
}

// enforceLimits refuses a job beyond the limits of its partitions
// (EnforcePartLimits): ALL of them, ANY of them, or NO: it waits then.
func (c *Cluster) enforceLimits(op string, j *wlm.Job) error {
	var first error
	for _, name := range j.Spec.Partitions {
		p := c.Partition(name)
		err := withinLimits(op, j, p)
		switch mode := strings.ToUpper(c.settings.EnforceLimits); {
		case mode == "" || mode == "NO", err == nil && mode == "ANY":
			return nil
		case err != nil && mode != "ANY":
			return err
		case first == nil:
			first = err
		}
	}
	return first
}

// withinLimits checks what a partition allows a job.
func withinLimits(op string, j *wlm.Job, p *wlm.Partition) error {
	if most := p.MaxTime; most != 0 && most != wlm.Unlimited && j.TimeLimit > most {
		return errs.Coded(op, errs.InvalidTimeLimit, fmt.Sprintf("--time: partition %s allows %d minutes", p.Name, most))
	}
	most := p.MaxNodes
	if most == 0 || most == wlm.Unset || int(most) > len(p.NodeNames) {
		most = uint32(len(p.NodeNames))
	}
	if j.Spec.MinNodes > most {
		return errs.Coded(op, errs.InvalidNodeCount, fmt.Sprintf("--nodes=%d: partition %s allows fewer", j.Spec.MinNodes, p.Name))
	}
	if j.Spec.MaxNodes != 0 && j.Spec.MaxNodes < p.MinNodes {
		return errs.Coded(op, errs.InvalidNodeCount, fmt.Sprintf("--nodes=%d: partition %s wants at least %d", j.Spec.MaxNodes, p.Name, p.MinNodes))
	}
	return nil
}

func (c *Cluster) enforces() bool {
	return c.settings.EnforceLimits != "" && !strings.EqualFold(c.settings.EnforceLimits, "NO")
}
