package cluster

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// UpdateNode changes nodes by scontrol's names. There is no reply.
type UpdateNode struct {
	Nodes  string
	Set    map[string]string
	Caller Caller
}

// Op implements Command.
func (*UpdateNode) Op() string { return "cluster.UpdateNode" }

func (u *UpdateNode) apply(c *Cluster, now wlm.Time) (any, error) {
	op := u.Op()
	if !u.Caller.Admin {
		return nil, errs.Coded(op, errs.UserIDMissing)
	}
	names, err := hostlist.Expand(u.Nodes)
	if err != nil || len(names) == 0 {
		return nil, errs.Coded(op, errs.InvalidNodeName).With("NodeName=%s: %v", u.Nodes, err)
	}
	var nodes []*wlm.Node
	for _, name := range names {
		n := c.Node(wlm.NodeName(name))
		if n == nil {
			return nil, errs.Coded(op, errs.InvalidNodeName).With("node %s is not configured", name)
		}
		d := n.Clone()
		if err := u.edit(op, d, now); err != nil {
			return nil, err
		}
		nodes = append(nodes, d)
	}
	for _, d := range nodes {
		old := c.Node(d.Name)
		switch {
		case d.State == wlm.NodeDown && old.State != wlm.NodeDown:
			c.nodeDown(d, now)
		case d.State == wlm.NodeUp && old.State == wlm.NodeDown:
			c.emit(&Event{Kind: eventv1.Kind_NODE_UP, Time: now, Node: d})
		default:
			c.emit(&Event{Kind: eventv1.Kind_NODE_CHANGED, Time: now, Node: d})
		}
	}
	return nil, nil
}

// edit changes one node's clone in place.
func (u *UpdateNode) edit(op string, n *wlm.Node, now wlm.Time) error {
	if why, ok := u.Set["reason"]; ok {
		n.Reason, n.ReasonUser, n.ReasonTime = why, u.Caller.UID, now
		if why == "" {
			n.ReasonTime = 0
		}
	}
	for k, v := range u.Set {
		switch k {
		case "reason":
		case "state":
			if err := u.state(op, n, v); err != nil {
				return err
			}
		case "weight":
			w, err := strconv.ParseUint(v, 10, 32)
			if err != nil {
				return errs.Newf(op, errs.Invalid, "Weight=%s is not a number", v)
			}
			n.Weight = uint32(w)
		case "comment":
			n.Comment = v
		case "extra":
			n.Extra = v
		case "features", "availablefeatures":
			n.Features = list(v)
			if _, both := u.Set["activefeatures"]; !both {
				n.ActiveFeatures = n.Features
			}
		case "activefeatures":
			n.ActiveFeatures = list(v)
		case "nodeaddr":
			n.Addr = v
		case "nodehostname":
			n.Hostname = v
		default:
			return errs.Coded(op, errs.NotSupported).With("Update of this parameter is not supported: %s=%s", k, v)
		}
	}
	for _, f := range n.ActiveFeatures {
		if !slices.Contains(n.Features, f) {
			return errs.Coded(op, errs.ActiveFeatures).With("ActiveFeatures=%s: AvailableFeatures of node %s has no %s", u.Set["activefeatures"], n.Name, f)
		}
	}
	return nil
}

func list(v string) []string {
	if v == "" {
		return nil
	}
	return strings.Split(v, ",")
}

// state carries out one of scontrol's state words.
func (u *UpdateNode) state(op string, n *wlm.Node, word string) error {
	needsReason := func() error {
		if u.Set["reason"] == "" && n.Reason == "" {
			return errs.Coded(op, errs.InvalidReason)
		}
		return nil
	}
	switch strings.ToUpper(word) {
	case "DRAIN":
		n.Flags |= wlm.NodeDrain
		return needsReason()
	case "DOWN":
		n.State = wlm.NodeDown
		return needsReason()
	case "FAIL":
		n.Flags |= wlm.NodeFailFlag
		return needsReason()
	case "UNDRAIN":
		n.Flags &^= wlm.NodeDrain | wlm.NodeInvalidReg
		u.clearReason(n)
	case "RESUME", "IDLE":
		if n.State == wlm.NodeDown {
			n.State = wlm.NodeUp
			if !n.Registered {
				n.State = wlm.NodeUnknown
			}
		}
		n.Flags &^= wlm.NodeDrain | wlm.NodeFailFlag | wlm.NodeInvalidReg
		u.clearReason(n)
	case "NORESP":
		n.Flags |= wlm.NodeNotResponding
	case "FUTURE":
		n.State = wlm.NodeFuture
	default:
		return errs.Coded(op, errs.InvalidNodeState).
			With("State=%s: allowed are DOWN, DRAIN, FAIL, FUTURE, IDLE, NORESP, RESUME, UNDRAIN", word)
	}
	return nil
}

func (u *UpdateNode) clearReason(n *wlm.Node) {
	if _, given := u.Set["reason"]; !given {
		n.Reason, n.ReasonTime, n.ReasonUser = "", 0, 0
	}
}

// UpdatePartition creates, changes or deletes a partition by scontrol's names.
// There is no reply.
type UpdatePartition struct {
	Name   string
	Verb   ctlv1.UpdatePartitionRequest_Verb
	Set    map[string]string
	Caller Caller
}

// Op implements Command.
func (*UpdatePartition) Op() string { return "cluster.UpdatePartition" }

func (u *UpdatePartition) apply(c *Cluster, now wlm.Time) (any, error) {
	op := u.Op()
	if !u.Caller.Admin {
		return nil, errs.Coded(op, errs.UserIDMissing)
	}
	p := c.Partition(u.Name)
	switch u.Verb {
	case ctlv1.UpdatePartitionRequest_CREATE:
		if p != nil {
			return nil, errs.Newf(op, errs.Exists, "Partition %s already exists", u.Name)
		}
		p = &wlm.Partition{Name: u.Name, MaxTime: wlm.Unlimited, MaxNodes: wlm.Unset, MaxCPUsPerNode: wlm.Unset,
			MaxCPUsPerSock: wlm.Unset, OverTimeLimit: wlm.Unset, PriorityJob: 1, PriorityTier: 1}
	case ctlv1.UpdatePartitionRequest_DELETE:
		if p == nil {
			return nil, errs.Coded(op, errs.InvalidPartition)
		}
		if id, ok := c.uses(p.Name); ok {
			return nil, errs.Newf(op, errs.State, "Partition is in use: job %d is in %s or waits for it", id, p.Name)
		}
		c.emit(&Event{Kind: eventv1.Kind_PARTITION_REMOVED, Time: now, Partition: p})
		return nil, nil
	default:
		if p == nil {
			return nil, errs.Coded(op, errs.InvalidPartition)
		}
		p = p.Clone()
	}
	for _, k := range slices.Sorted(maps.Keys(u.Set)) {
		if err := c.setPartition(op, p, k, u.Set[k]); err != nil {
			return nil, err
		}
	}
	if p.MaxNodes != wlm.Unset && p.MinNodes > p.MaxNodes {
		return nil, errs.Newf(op, errs.Invalid, "MinNodes=%d is more than MaxNodes=%d", p.MinNodes, p.MaxNodes)
	}
	if p.Default {
		for _, o := range c.Partitions {
			if o.Default && o.Name != p.Name {
				d := o.Clone()
				d.Default = false
				c.emit(&Event{Kind: eventv1.Kind_PARTITION_CHANGED, Time: now, Partition: d})
			}
		}
	}
	c.emit(&Event{Kind: eventv1.Kind_PARTITION_CHANGED, Time: now, Partition: p})
	return nil, nil
}

func (c *Cluster) setPartition(op string, p *wlm.Partition, k, v string) error {
	k, v = mergeList(p, k, v)
	bad := func(allowed string) error {
		return errs.Newf(op, errs.Invalid, "%s=%s: allowed %s", k, v, allowed)
	}
	yes := strings.EqualFold(v, "YES") || strings.EqualFold(v, "TRUE")
	number := func(set *uint32) error {
		if strings.EqualFold(v, "UNLIMITED") || strings.EqualFold(v, "INFINITE") {
			*set = wlm.Unset
			return nil
		}
		n, err := strconv.ParseUint(v, 10, 32)
		if err != nil {
			return bad("is a number or UNLIMITED")
		}
		*set = uint32(n)
		return nil
	}
	minutes := func(set *wlm.Minutes) error {
		m, err := wlm.ParseMinutes(v)
		if err != nil {
			return bad("is a time as days-hours:minutes:seconds, or UNLIMITED")
		}
		*set = m
		return nil
	}
	switch k {
	case "state":
		for _, s := range []wlm.PartState{wlm.PartUp, wlm.PartDown, wlm.PartDrain, wlm.PartInactive} {
			if word := s.String(); v != "" && len(v) <= len(word) && strings.EqualFold(v, word[:len(v)]) {
				p.State = s
				return nil
			}
		}
		return bad("are UP, DOWN, DRAIN, INACTIVE")
	case "nodes":
		return c.setPartitionNodes(op, p, v)
	case "default":
		p.Default = yes
	case "hidden":
		p.Hidden = yes
	case "rootonly":
		p.RootOnly = yes
	case "disablerootjobs":
		p.DisableRoot = yes
	case "exclusiveuser":
		p.ExclusiveUser = yes
	case "lln":
		p.LLN = yes
	case "maxtime":
		return minutes(&p.MaxTime)
	case "defaulttime":
		return minutes(&p.DefaultTime)
	case "maxnodes":
		return number(&p.MaxNodes)
	case "minnodes":
		return number(&p.MinNodes)
	case "maxcpuspernode":
		return number(&p.MaxCPUsPerNode)
	case "priorityjobfactor":
		return number(&p.PriorityJob)
	case "prioritytier":
		return number(&p.PriorityTier)
	case "gracetime":
		return number(&p.GraceTime)
	case "overtimelimit":
		return number(&p.OverTimeLimit)
	case "allowgroups":
		p.AllowGroups = all(v)
	case "allowaccounts":
		p.AllowAccounts = all(v)
	case "denyaccounts":
		p.DenyAccounts = list(v)
	case "allowqos":
		p.AllowQOS = all(v)
	case "allocnodes":
		p.AllocNodes = all(v)
	case "preemptmode":
		p.PreemptMode = v
	case "qos":
		p.QOS = v
	default:
		if known, err := setPartitionMore(op, p, k, v); known {
			return err
		}
		return errs.Coded(op, errs.NotSupported).With("Update of this parameter is not supported: %s=%s", k, v)
	}
	return nil
}

func all(v string) []string {
	if strings.EqualFold(v, "ALL") {
		return nil
	}
	return list(v)
}

func (c *Cluster) setPartitionNodes(op string, p *wlm.Partition, v string) error {
	names, err := hostlist.Expand(v)
	if strings.EqualFold(v, "ALL") {
		names, err = nil, nil
		for _, n := range c.Nodes {
			names = append(names, string(n.Name))
		}
	}
	if err != nil {
		return errs.Coded(op, errs.InvalidNodeName).With("Nodes=%s: %v", v, err)
	}
	p.NodeNames = nil
	for _, n := range names {
		if c.Node(wlm.NodeName(n)) == nil {
			return errs.Coded(op, errs.InvalidNodeName, fmt.Sprintf("node %s is not configured", n))
		}
		p.NodeNames = append(p.NodeNames, wlm.NodeName(n))
	}
	p.Nodes = hostlist.Compress(names)
	return nil
}
