package cluster

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// choosePartitions fills in the default partition and checks who may use those
// asked for. Of several, those that take no such job are left out, unless
// EnforcePartLimits=ALL, where only drained and inactive ones are. It returns the
// first that is left.
func (c *Cluster) choosePartitions(op string, spec *wlm.Spec, who Caller) (*wlm.Partition, error) {
	if len(spec.Partitions) == 0 {
		for _, p := range c.Partitions {
			if p.Default {
				spec.Partitions = []string{p.Name}
				break
			}
		}
		if len(spec.Partitions) == 0 {
			return nil, errs.Coded(op, errs.NoDefaultPartition, "no partition has Default=YES: name one with --partition")
		}
	}
	c.alternate(spec)
	var open []*wlm.Partition
	var refusal error
	for _, name := range spec.Partitions {
		p := c.Partition(name)
		if p == nil {
			return nil, errs.Coded(op, errs.InvalidPartition, "invalid partition specified: "+name).
				With("the partitions are %s", strings.Join(c.partitionNames(who), ", "))
		}
		err := admits(op, p, spec, who)
		switch {
		case err == nil:
			open = append(open, p)
		case c.enforcesAll() && errs.CodeOf(err) != errs.PartitionNotAvailable:
			return nil, err
		case refusal == nil:
			refusal = err
		}
	}
	if len(open) == 0 {
		return nil, refusal
	}
	if len(open) < len(spec.Partitions) {
		spec.Partitions = make([]string, len(open))
		for i, p := range open {
			spec.Partitions[i] = p.Name
		}
	}
	return open[0], nil
}

// partitionNames lists the partitions that may be told to somebody.
func (c *Cluster) partitionNames(who Caller) []string {
	var out []string
	for _, p := range c.Partitions {
		if who.Admin || !p.Hidden && p.Admits(who.Groups) {
			out = append(out, p.Name)
		}
	}
	return out
}

// Admits checks a partition's rules about who may submit to it.
func Admits(p *wlm.Partition, spec *wlm.Spec, who Caller) error {
	return admits("cluster.Admits", p, spec, who)
}

// admits checks a partition's rules about who may submit to it.
func admits(op string, p *wlm.Partition, spec *wlm.Spec, who Caller) error {
	switch {
	case p.State == wlm.PartDrain || p.State == wlm.PartInactive:
		return errs.Coded(op, errs.PartitionNotAvailable, fmt.Sprintf("partition %s is %s and takes no jobs", p.Name, p.State))
	case p.ReqResv && spec.Reservation == "" && !who.Admin:
		return errs.Coded(op, errs.ReservationInvalid, fmt.Sprintf("partition %s has ReqResv=YES: name a reservation with --reservation", p.Name))
	case p.RootOnly && !who.Admin:
		return errs.Coded(op, errs.AccessDenied, fmt.Sprintf("partition %s has RootOnly=YES", p.Name))
	case p.DisableRoot && spec.User == 0:
		return errs.Coded(op, errs.AccessDenied, fmt.Sprintf("partition %s has DisableRootJobs=YES", p.Name))
	case !who.Admin && !p.Admits(who.Groups) && !p.Admits([]string{spec.GroupName}):
		return errs.Coded(op, errs.PartitionGroup, fmt.Sprintf("partition %s has AllowGroups=%s", p.Name, strings.Join(p.AllowGroups, ",")))
	case len(p.AllowAccounts) > 0 && !slices.Contains(p.AllowAccounts, spec.Account),
		slices.Contains(p.DenyAccounts, spec.Account) && spec.Account != "":
		return errs.Coded(op, errs.InvalidAccount, fmt.Sprintf("partition %s does not take account %q", p.Name, spec.Account))
	case len(p.AllowQOS) > 0 && !slices.Contains(p.AllowQOS, spec.QOS),
		slices.Contains(p.DenyQOS, spec.QOS) && spec.QOS != "":
		return errs.Coded(op, errs.InvalidQOS, fmt.Sprintf("partition %s does not take QOS %q", p.Name, spec.QOS))
	case len(p.AllocNodes) > 0 && !slices.Contains(expanded(p.AllocNodes), spec.AllocNode):
		return errs.Coded(op, errs.AllocNodeDenied, fmt.Sprintf("partition %s has AllocNodes=%s", p.Name, strings.Join(p.AllocNodes, ",")))
	}
	return nil
}

// expanded lists the hosts of host lists; one that is none stands for itself.
func expanded(lists []string) []string {
	out, err := hostlist.Expand(strings.Join(lists, ","))
	if err != nil {
		return lists
	}
	return out
}

func (c *Cluster) enforcesAll() bool { return strings.EqualFold(c.settings.EnforceLimits, "ALL") }
