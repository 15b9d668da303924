package cluster

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Register takes a node daemon's registration. The reply is a *RegisterReply.
type Register struct {
	Node wlm.NodeName
	Msg  *nodev1.Register
}

// RegisterReply says what the controller must tell the node now, so that both
// agree on what runs there.
type RegisterReply struct {
	Unknown   []wlm.JobID // held by the node, unknown here: kept, an administrator decides
	Start     []*wlm.Job  // its first node, and never heard of
	Terminate []*wlm.Job  // must be cleaned up there
	Stale     []Run       // runs that ended here while the node was away
	Suspend   []*wlm.Job  // are suspended, or were resumed: the node may not have heard
}

// Run is one run of a job.
type Run struct {
	Job      wlm.JobID
	Restarts uint32
}

// Op implements Command.
func (*Register) Op() string { return "cluster.Register" }

func (r *Register) apply(c *Cluster, now wlm.Time) (any, error) {
	old := c.Node(r.Node)
	if old == nil {
		return nil, errs.Coded(r.Op(), errs.InvalidNodeName, fmt.Sprintf("node %s is not configured", r.Node))
	}
	n := old.Clone()
	m := r.Msg
	rebooted := old.BootTime != 0 && m.GetBootTime() > int64(old.BootTime)+bootSlack
	n.Version, n.Arch, n.OS = m.GetVersion(), m.GetArch(), m.GetOs()
	n.BootTime, n.DaemonStart = wlm.Time(m.GetBootTime()), wlm.Time(m.GetDaemonStart())
	n.CPULoad, n.FreeMem, n.LastHeard = m.GetCpuLoad(), wlm.MiB(m.GetFreeMem()), now
	n.RegCPUs, n.RegMemory = m.GetCpus(), wlm.MiB(m.GetRealMemory())
	if m.GetAddr() != "" {
		n.Hostname = m.GetHostname()
	}
	n.Registered = true
	n.Flags &^= wlm.NodeNotResponding
	c.judgeNode(n, now, rebooted, m.GetGres())
	kind := eventv1.Kind_NODE_REGISTERED
	if old.State == wlm.NodeDown && n.State == wlm.NodeUp {
		kind = eventv1.Kind_NODE_UP
	}
	if old.State != wlm.NodeDown && n.State == wlm.NodeDown {
		c.nodeDown(n, now)
	} else {
		c.emit(&Event{Kind: kind, Time: now, Node: n})
	}
	return c.reconcile(n.Name, m, now, rebooted), nil
}

// bootSlack is how much later, in seconds, a boot time may be without meaning
// that the node was booted again: hosts compute it from a drifting uptime.
const bootSlack = 10

// judgeNode sets, in place, the state that a registering node gets.
func (c *Cluster) judgeNode(n *wlm.Node, now wlm.Time, rebooted bool, gres string) {
	mayReturn := c.mayReturn(n) // by the reason it has now
	c.judgeSize(n, now, gres, n.State == wlm.NodeDown && mayReturn && n.Flags&wlm.NodeDrain == 0)
	switch {
	case n.State == wlm.NodeUnknown:
		n.State = wlm.NodeUp
	case n.State == wlm.NodeDown && mayReturn:
		n.State = wlm.NodeUp
		if n.Flags&(wlm.NodeDrain|wlm.NodeInvalidReg) == 0 {
			n.Reason, n.ReasonTime = "", 0
		}
	case n.State == wlm.NodeUp && rebooted && c.settings.ReturnToService < 2 && len(c.Usage[n.Index].Jobs) > 0:
		n.State, n.Reason, n.ReasonTime, n.ReasonUser = wlm.NodeDown, "Node unexpectedly rebooted", now, 0
	}
}

// judgeSize marks a node that has less than its configuration says, and takes
// the mark back. What an administrator said of the node stays, unless it is moot.
func (c *Cluster) judgeSize(n *wlm.Node, now wlm.Time, gres string, moot bool) {
	ours := moot || n.Reason == "" || n.Reason == NotResponding || strings.HasPrefix(n.Reason, "Low ") || strings.HasPrefix(n.Reason, "gres/")
	why := c.tooSmall(n)
	switch {
	case why == "" && gres == "" && strings.HasPrefix(n.Reason, "gres/"):
		return // as it was until the node registers again
	case why == "" && !c.settings.ConfigOverrides:
		why = gresLow(n.Gres, gres)
	}
	switch {
	case why != "":
		n.Flags |= wlm.NodeInvalidReg
		if ours {
			n.Flags |= wlm.NodeDrain
			n.Reason, n.ReasonTime, n.ReasonUser = why, now, 0
		}
	case n.Flags&wlm.NodeInvalidReg != 0:
		n.Flags &^= wlm.NodeInvalidReg
		if ours {
			n.Flags &^= wlm.NodeDrain
			n.Reason, n.ReasonTime = "", 0
		}
	}
}

// NotResponding is the reason of a node that was set down for its silence.
const NotResponding = "Not responding"

func (c *Cluster) mayReturn(n *wlm.Node) bool {
	switch c.settings.ReturnToService {
	case 1:
		return n.Reason == NotResponding
	case 2:
		return true
	}
	return false
}

// tooSmall compares what a node found with its configuration, in Slurm's words.
func (c *Cluster) tooSmall(n *wlm.Node) string {
	if c.settings.ConfigOverrides {
		return ""
	}
	var why []string
	if topology := n.Boards * n.Sockets * n.CoresPerSocket * n.ThreadsPerCore; n.Boards <= 1 && n.RegCPUs < topology {
		why = append(why, "Low socket*core*thread count")
	}
	if n.RegCPUs < n.CPUs {
		why = append(why, "Low CPUs")
	}
	percent := c.settings.RegMemoryPercent
	if percent <= 0 {
		percent = wholeMemory
	}
	if float64(n.RegMemory) < float64(n.RealMemory)*percent/wholeMemory {
		why = append(why, fmt.Sprintf("Low RealMemory (reported:%d < %.2f%% of configured:%d)", n.RegMemory, percent, n.RealMemory))
	}
	return strings.Join(why, ", ")
}

// gresLow says which generic resource a node found less of than its
// configuration says; a node that tells nothing has what it should.
func gresLow(configured, reported string) string {
	want, err := wlm.ParseGres(configured)
	have, err2 := wlm.ParseGres(reported)
	if err != nil || err2 != nil || reported == "" {
		return ""
	}
	sum := func(counts []wlm.GresCount, name string) (n uint64) {
		for _, c := range counts {
			if c.Name == name {
				n += c.Count
			}
		}
		return n
	}
	for _, c := range want {
		if w, h := sum(want, c.Name), sum(have, c.Name); h < w {
			return fmt.Sprintf("gres/%s count reported lower than configured (%d < %d)", c.Name, h, w)
		}
	}
	return ""
}

// wholeMemory is the part of RealMemory, in percent, that a node must have
// unless node_reg_mem_percent says otherwise.
const wholeMemory = 100

// reconcile compares what a node holds with what it should.
func (c *Cluster) reconcile(name wlm.NodeName, m *nodev1.Register, now wlm.Time, rebooted bool) *RegisterReply {
	reply := &RegisterReply{}
	held := map[wlm.JobID]*nodev1.JobOnNode{}
	for _, jn := range m.GetJobs() {
		// Of a job's runs the node may still be telling the end of an earlier one.
		if h := held[wlm.JobID(jn.GetJob())]; h == nil || h.GetRestarts() < jn.GetRestarts() {
			held[wlm.JobID(jn.GetJob())] = jn
		}
	}
	node := c.Node(name)
	ids := make([]wlm.JobID, 0, len(c.Usage[node.Index].Jobs))
	for id := range c.Usage[node.Index].Jobs {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		j, h := c.jobs[id], held[id]
		if h != nil && h.GetRestarts() == j.Restarts && (j.State == wlm.Suspended || j.State == wlm.Running && j.SuspendTotal > 0) {
			reply.Suspend = append(reply.Suspend, j)
		}
		switch {
		case slices.Contains(j.Cleaning, name):
			if h == nil {
				c.cleaned(j, now, name) // nothing of it is there
			} else {
				reply.Terminate = append(reply.Terminate, j)
			}
		case j.BatchHost != name && rebooted && h == nil:
			c.lost(j, now, name)
		case j.BatchHost != name || h != nil && h.GetRestarts() == j.Restarts:
		case c.Step(id, wlm.StepBatch) == nil && j.Spec.Kind == wlm.KindBatch || j.Spec.Kind != wlm.KindBatch && h == nil:
			reply.Start = append(reply.Start, j)
		default: // it ran there, and the node has nothing of it
			c.lost(j, now, name)
		}
	}
	for _, jn := range m.GetJobs() {
		id := wlm.JobID(jn.GetJob())
		j := c.jobs[id]
		switch {
		case j == nil:
			reply.Unknown = append(reply.Unknown, id)
		case j.State.Ended() && !slices.Contains(j.Cleaning, name), jn.GetRestarts() < c.runOf(j):
			reply.Stale = append(reply.Stale, Run{id, jn.GetRestarts()})
		}
	}
	return reply
}

// runOf is the number of the run that nodes may still hold: a requeued job that
// is not clean yet belongs to the run before.
func (c *Cluster) runOf(j *wlm.Job) uint32 {
	if j.State == wlm.Pending && j.Flags&wlm.FlagCompleting != 0 {
		return j.Restarts - 1
	}
	return j.Restarts
}

// lost ends or requeues a job because a node of it failed.
func (c *Cluster) lost(j *wlm.Job, now wlm.Time, node wlm.NodeName) {
	if j.State != wlm.Running && j.State != wlm.Suspended {
		c.cleaned(j, now, node)
		return
	}
	if j.Spec.NoKill && j.BatchHost != node {
		return
	}
	// Raw status 1, shown 0:1, is what Slurm records for a lost node.
	o := outcome{state: wlm.NodeFail, reason: wlm.FailDownNode, status: 1, node: node, killedBy: wlm.Unset}
	if j.Requeueable {
		c.requeue(j, now, o, false, 0, node)
		return
	}
	c.end(j, now, o, node)
}

// Silent sets a node down that was not heard of for SlurmdTimeout.
type Silent struct{ Node wlm.NodeName }

// Op implements Command.
func (*Silent) Op() string { return "cluster.Silent" }

func (s *Silent) apply(c *Cluster, now wlm.Time) (any, error) {
	n := c.Node(s.Node)
	if n == nil || n.State == wlm.NodeDown || n.State == wlm.NodeFuture {
		return nil, nil
	}
	d := n.Clone()
	d.State, d.Flags, d.Registered = wlm.NodeDown, n.Flags|wlm.NodeNotResponding, false
	if d.Reason == "" {
		d.Reason, d.ReasonTime, d.ReasonUser = NotResponding, now, 0
	}
	c.nodeDown(d, now)
	return nil, nil
}

// nodeDown emits the node's new record and ends what ran there.
func (c *Cluster) nodeDown(n *wlm.Node, now wlm.Time) {
	c.emit(&Event{Kind: eventv1.Kind_NODE_DOWN, Time: now, Node: n})
	ids := make([]wlm.JobID, 0, len(c.Usage[n.Index].Jobs))
	for id := range c.Usage[n.Index].Jobs {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b wlm.JobID) int { return cmp.Compare(a, b) })
	for _, id := range ids {
		c.lost(c.jobs[id], now, n.Name)
	}
}

// Quiet marks a node whose connection broke, or clears the mark.
type Quiet struct {
	Node  wlm.NodeName
	Quiet bool
}

// Op implements Command.
func (*Quiet) Op() string { return "cluster.Quiet" }

func (q *Quiet) apply(c *Cluster, now wlm.Time) (any, error) {
	n := c.Node(q.Node)
	if n == nil || (n.Flags&wlm.NodeNotResponding != 0) == q.Quiet {
		return nil, nil
	}
	d := n.Clone()
	if q.Quiet {
		d.Flags |= wlm.NodeNotResponding
	} else {
		d.Flags &^= wlm.NodeNotResponding
	}
	c.emit(&Event{Kind: eventv1.Kind_NODE_CHANGED, Time: now, Node: d})
	return nil, nil
}
