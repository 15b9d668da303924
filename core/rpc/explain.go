package rpc

import (
	"context"
	"fmt"
	"strings"

	"github.com/sluice-hpc/sluice/conf/slurmconf"
	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Explain implements ctlv1.ControllerServer. What a pass knows comes from
// Deps.Explain; what the job itself says is added here. It shows what Jobs
// shows the caller: PrivateData=jobs keeps other users' jobs unnamed.
func (s *Server) Explain(ctx context.Context, r *ctlv1.ExplainRequest) (*ctlv1.ExplainReply, error) {
	const op = "rpc.Explain"
	filter := &ctlv1.JobFilter{Refs: []*ctlv1.JobRef{r.GetRef()}}
	if r.GetRef() == nil {
		return nil, errs.Newf(op, errs.Invalid, "the request names no job")
	}
	if err := s.mustExist(op, filter); err != nil {
		return nil, err
	}
	found, _, err := s.deps.View.Find(filter)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, errs.Coded(op, errs.InvalidJobID)
	}
	j := found[0].Job
	sees := s.sightOf(ctx, false)
	if !sees.job(j) {
		return nil, errs.Coded(op, errs.InvalidJobID)
	}
	out := &ctlv1.ExplainReply{}
	if j.State == wlm.Pending && s.deps.Explain != nil {
		out, err = s.deps.Explain(ctx, j, s.admitted(j))
		if err != nil {
			return nil, err
		}
	}
	out.Job, out.Now = s.info(ctx, j), int64(s.now())
	x := &explainer{s: s, j: j, sees: sees, out: out, look: s.deps.View.Outlook(j)}
	x.say()
	s.discreet(ctx, out)
	return out, nil
}

// admitted tells which partitions take jobs of j's owner.
func (s *Server) admitted(j *wlm.Job) func(*wlm.Partition) bool {
	owner := cluster.Caller{UID: j.Spec.User, Admin: j.Spec.User == 0}
	return func(p *wlm.Partition) bool { return p.State == wlm.PartUp && cluster.Admits(p, j.Spec, owner) == nil }
}

// explainer adds what the job's own record says.
type explainer struct {
	s    *Server
	j    *wlm.Job
	sees sight        // of the caller
	look *wlm.Outlook // may be nil
	out  *ctlv1.ExplainReply
}

func (x *explainer) add(kind, format string, args ...any) {
	x.out.Obstacles = append([]*ctlv1.ExplainObstacle{{Kind: kind, Text: fmt.Sprintf(format, args...)}}, x.out.Obstacles...)
}

func (x *explainer) say() {
	j, reason := x.j, x.j.Reason
	if x.look != nil && x.look.Reason != wlm.ReasonNone {
		reason = x.look.Reason
	}
	x.out.Reason = reason.String()
	if j.State != wlm.Pending {
		x.out.Summary = x.past()
		return
	}
	if p := x.out.Plan; p != nil && x.look != nil && x.look.Start != 0 {
		p.Reserved = true
	}
	x.own(reason)
	x.reservations(reason)
	if p := x.out.Plan; p != nil && x.out.Summary != "" { // it waits for something of its own
		p.Assumes, x.out.Ways = "only the cluster were in its way, "+p.Assumes, nil
	}
	if x.out.Summary == "" {
		x.out.Summary = x.waiting(reason)
	}
	for _, o := range x.out.Obstacles {
		if o.SetBy == "" {
			o.SetBy = x.setBy(o, reason)
		}
	}
}

// past is the sentence on a job that does not wait.
func (x *explainer) past() string {
	j := x.j
	at := func(t wlm.Time) string { return wlm.FormatTime(t, "Unknown") }
	nodes := ""
	if j.Alloc != nil {
		nodes = " on " + j.Alloc.NodeList
	}
	switch {
	case j.State == wlm.Running && j.End != 0:
		return fmt.Sprintf("it runs since %s%s; its time limit ends it at %s", at(j.Start), nodes, at(j.End))
	case j.State == wlm.Running:
		return fmt.Sprintf("it runs since %s%s, without a time limit", at(j.Start), nodes)
	case j.State == wlm.Suspended:
		return "it is suspended" + nodes + "; scontrol resume lets it go on"
	}
	text := "it ended at " + at(j.End)
	if j.Start != 0 {
		text += fmt.Sprintf(", having run for %s%s", wlm.FormatElapsed(int64(j.End-j.Start)), nodes)
	} else {
		text += " and never ran"
	}
	switch n := j.Status.Signal(); {
	case n != 0:
		text += fmt.Sprintf("; signal %d (%s) ended it", n, wlm.SignalText(n))
	case j.Status.Code() != 0:
		text += fmt.Sprintf("; its exit code is %d", j.Status.Code())
	}
	return text
}

// own tells of what keeps a job back that is not the cluster's doing.
func (x *explainer) own(reason wlm.Reason) {
	j := x.j
	switch {
	case j.Held && reason == wlm.WaitHeldUser:
		x.out.Summary = "it is held by its owner"
		x.add("hold", "held by its owner: scontrol release %s lets it go", j.ID)
	case j.Held:
		x.out.Summary = "it is held"
		x.add("hold", "held (%s): an administrator's scontrol release %s lets it go", j.Reason, j.ID)
	}
	if len(j.Deps) > 0 {
		x.deps()
	}
	if begin := j.Spec.Begin; begin > x.s.now() {
		x.out.Summary = "it may not start before " + wlm.FormatTime(begin, "")
		x.add("begin", "--begin: not before %s", wlm.FormatTime(begin, ""))
	} else if j.Eligible > x.s.now() {
		x.add("begin", "it was requeued and may start again at %s", wlm.FormatTime(j.Eligible, ""))
	}
	if reason == wlm.WaitArrayTaskLimit {
		x.out.Summary = "as many tasks of the array run as its limit allows"
		x.add("array", "--array=...%%%d: that many tasks run; the next starts when one ends, or after scontrol update JobId=%s ArrayTaskThrottle=N",
			j.Spec.ArrayMaxRunning, j.ID)
	}
}

// deps tells what each open dependency waits for.
func (x *explainer) deps() {
	open := 0
	for _, d := range x.j.Deps {
		if d.State == wlm.DepFulfilled {
			continue
		}
		open++
		state := "is not known here"
		if t := x.s.deps.View.Job(d.Job); t != nil && x.sees.job(t) {
			state = "is " + wlm.StateName(t.State, t.Flags)
			switch {
			case t.State == wlm.Running && t.End != 0:
				state += ", ends by " + wlm.FormatTime(t.End, "")
			case t.State == wlm.Pending:
				if o := x.s.deps.View.Outlook(t); o != nil && o.Start != 0 {
					state += ", expected to start " + wlm.FormatTime(o.Start, "")
				}
			}
		}
		text := wlm.FormatDependency([]wlm.Dep{d})
		if d.State == wlm.DepFailed {
			state += ": this can never be fulfilled"
		}
		if d.Job == 0 {
			x.add("dependency", "%s", text)
		} else {
			x.add("dependency", "%s: job %s %s", text, d.Job, state)
		}
	}
	if open > 0 && x.out.Summary == "" && x.j.Reason != wlm.ReasonNone {
		x.out.Summary = fmt.Sprintf("it waits for %d other job(s)", open)
		if x.j.Reason == wlm.WaitDepInvalid {
			x.out.Summary = "it waits for what can never happen"
		}
	}
}

// waiting is the sentence on a job that waits for the cluster.
func (x *explainer) waiting(reason wlm.Reason) string {
	text := ""
	switch reason {
	case wlm.ReasonNone:
		return "it was not looked at yet: the next pass decides"
	case wlm.WaitPriority:
		text = "it waits behind jobs of higher priority"
	case wlm.WaitResources:
		if x.look != nil && x.look.Words != "" {
			return "too many of the nodes that could serve it are down, drained or kept for others"
		}
		text = "it is next in line and waits for resources"
	case wlm.WaitLicenses:
		text = "it waits for licenses"
	case wlm.FailBadConstraints:
		return "nothing in its partition can ever serve the request"
	case wlm.WaitPartTimeLimit, wlm.WaitPartNodeLimit, wlm.WaitPartConfig:
		return "it asks for more than its partition allows"
	case wlm.WaitPartDown, wlm.WaitPartInactive:
		text = "its partition starts no jobs"
	case wlm.WaitNodeNotAvail:
		text = "nodes that it must have are not available"
	default:
		text = "it waits: " + reason.String()
	}
	if x.out.Plan == nil {
		text += "; no start can be foretold"
	}
	return text
}

// setBy names where the limit behind an obstacle comes from; empty: it is none.
func (x *explainer) setBy(o *ctlv1.ExplainObstacle, reason wlm.Reason) string {
	if o.Kind == "licenses" {
		return x.place("Licenses", "", "")
	}
	option := ""
	switch reason {
	case wlm.WaitPartTimeLimit:
		option = "MaxTime"
	case wlm.WaitPartNodeLimit:
		option = "MaxNodes"
	case wlm.WaitPartDown, wlm.WaitPartInactive:
		option = "State"
	}
	if option == "" || o.Kind != "limit" && o.Kind != "partition" {
		return ""
	}
	if x.changed(o.Partition, option) {
		return "scontrol update PartitionName=" + o.Partition + " " + option + "=..."
	}
	return x.place("PartitionName", o.Partition, option)
}

// changed reports whether a partition differs from the configuration.
func (x *explainer) changed(name, option string) bool {
	var now *wlm.Partition
	x.s.deps.View.Read(func(t *cluster.Tables) { now = t.Partition(name) })
	for i := range x.s.deps.Conf().Partitions {
		p := &x.s.deps.Conf().Partitions[i]
		if p.Name != name || now == nil {
			continue
		}
		switch option {
		case "MaxTime":
			return p.MaxTime != now.MaxTime
		case "MaxNodes":
			return p.MaxNodes != now.MaxNodes
		case "State":
			return p.State != now.State
		}
	}
	return false
}

// place is the file and line of a key of slurm.conf, or of an option of a record.
func (x *explainer) place(key, record, option string) string {
	f, err := slurmconf.ParseFile(x.s.deps.Conf().Path)
	if err != nil {
		return ""
	}
	found := ""
	for _, e := range f.All(key) {
		if record == "" {
			found = e.Pos.String() + " " + e.Key + "=" + e.Value
		}
		if e.Value != record && !strings.EqualFold(e.Value, "DEFAULT") {
			continue
		}
		for _, o := range e.Opts {
			if o.Is(option) {
				found = o.Pos.String() + " " + o.Key + "=" + o.Value
			}
		}
	}
	return found
}
