package pass

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/selector"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

const (
	aheadMost   = 1000 // entries ahead that a plan takes into account
	aheadShown  = 5
	holderShown = 5
)

// Explain tells of a pending job what a pass knows: its places in the queue,
// what is in its way, a plan, and the changes that would let it start sooner.
// Each of these changes is a question to the selector, behind the same jobs.
// allowed says which partitions the job's owner may use. It waits for a pass
// under way, and passes wait for it; the controller's loop does not.
func (r *Runner) Explain(ctx context.Context, j *wlm.Job, allowed func(*wlm.Partition) bool) (*ctlv1.ExplainReply, error) {
	r.passing.Lock()
	defer r.passing.Unlock()
	now := wlm.TimeOf(r.o.Now())
	r.take()
	if err := r.sync(now); err != nil {
		return nil, err
	}
	x := &explanation{r: r, j: j, now: now, out: &ctlv1.ExplainReply{}, rev: r.feed.encoder.Rev()}
	x.queues()
	if err := x.look(ctx); err != nil {
		return nil, err
	}
	x.plan()
	x.obstacles()
	if x.base.start == 0 || x.base.start > now {
		if err := x.ways(ctx, allowed); err != nil {
			return nil, err
		}
	}
	return x.out, nil
}

// answer is what the selector says to one variant.
type answer struct {
	start     wlm.Time // 0: never, as things are
	nodes     string
	partition string
	reason    wlm.Reason
	text      string
}

type explanation struct {
	r      *Runner
	j      *wlm.Job
	m      *mirror.Job
	now    wlm.Time
	rev    uint64
	agenda sched.Agenda // those ahead
	strict bool         // somebody ahead lets nobody pass
	beyond int          // jobs ahead that the plan leaves out
	advice selector.Advice
	base   answer
	out    *ctlv1.ExplainReply
}

// before is the order of a partition's queue.
func before(a, b *wlm.Job) bool {
	return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.Submit, b.Submit), cmp.Compare(a.ID, b.ID)) < 0
}

// queues finds the job's place in each of its partitions.
func (x *explanation) queues() {
	f := x.r.feed
	if _, queued := f.pending[x.j.ID]; !queued {
		return
	}
	for _, name := range x.j.Spec.Partitions {
		q := &ctlv1.ExplainQueue{Partition: name, Place: 1}
		for id := range f.pending {
			o := f.tables.Job(id)
			if o == nil || !slices.Contains(o.Spec.Partitions, name) {
				continue
			}
			q.Of++
			if o.Reason != wlm.ReasonNone || o.Eligible == 0 {
				q.NotReady++
			}
			if o.ID != x.j.ID && before(o, x.j) {
				q.Place++
			}
		}
		x.out.Queues = append(x.out.Queues, q)
	}
}

// look asks the policy who is ahead and the selector when the job would start.
func (x *explanation) look(ctx context.Context) error {
	f := x.r.feed
	x.m = f.mirrorJob(x.j, x.now)
	if x.m == nil || x.m.Running {
		x.m = &mirror.Job{ID: x.j.ID, Class: f.class(x.j), Submit: x.j.Submit, Eligible: x.now, User: x.j.Spec.User}
		if x.j.TimeLimit != wlm.Unlimited {
			x.m.Limit = uint32(x.j.TimeLimit) * 60
		}
	}
	x.m.Ready, x.m.Held, x.m.Tasks = true, false, 1
	plan, err := x.r.sched.Plan(ctx, x.rev, x.now)
	if err != nil {
		return err
	}
	x.agenda = sched.Agenda{Running: plan.Running}
	held := x.j.Held || x.j.Priority == 0
	place := slices.IndexFunc(plan.Entries, func(e sched.Entry) bool { return e.Job == x.j.ID })
	for i := range plan.Entries {
		e := plan.Entries[i]
		if i == place {
			break
		}
		o := f.tables.Job(e.Job)
		if o == nil || place < 0 && !held && !before(o, x.j) {
			continue
		}
		if len(x.agenda.Entries) == aheadMost {
			x.beyond++
			continue
		}
		if e.WhenBlocked == sched.Stop {
			x.strict = true
		}
		e.WhenBlocked = sched.Reserve
		x.agenda.Entries = append(x.agenda.Entries, e)
	}
	x.advice, err = x.ask(ctx, x.m)
	if err == nil && len(x.advice.Answers) > 0 {
		x.base = x.answer(&x.advice.Answers[0])
	}
	return err
}

// ask puts variants to the selector. One that gives no advice is asked about
// the first alone, as if nobody were ahead.
func (x *explanation) ask(ctx context.Context, variants ...*mirror.Job) (selector.Advice, error) {
	a, err := x.r.sel.Advise(ctx, x.rev, x.now, selector.Question{Agenda: x.agenda, Variants: variants})
	if err == nil || errs.KindOf(err) != errs.Unsupport {
		return a, err
	}
	if variants[0] != x.m {
		return selector.Advice{}, nil
	}
	res, err := x.r.sel.WhatIf(ctx, x.rev, x.now, x.m)
	x.agenda.Entries = nil
	x.out.Notes = append(x.out.Notes, "the selector in use tells only when the job would start if nobody were ahead of it")
	return selector.Advice{Answers: []selector.Result{res}}, err
}

func (x *explanation) answer(r *selector.Result) (a answer) {
	if len(r.Placements) > 0 {
		if p, ok := x.r.feed.placement(&r.Placements[0]); ok {
			names := make([]string, 0, len(p.Nodes))
			for _, n := range p.Nodes {
				names = append(names, string(n.Node))
			}
			a = answer{start: x.now, nodes: hostlist.Compress(names), partition: p.Partition}
		}
	} else if len(r.Verdicts) > 0 {
		v := &r.Verdicts[0]
		a = answer{start: v.Start, nodes: x.r.nodeNames(v.Nodes), reason: v.Reason, text: v.Text}
		for i, p := range x.r.feed.tables.Partitions { // the first of the job's that has the nodes
			if x.m.Class != nil && slices.Contains(x.m.Class.Partitions, i) && len(v.Nodes) > 0 && a.partition == "" && x.has(p, v.Nodes) {
				a.partition = p.Name
			}
		}
	}
	if a.start == 0 || !x.strict {
		return a
	}
	for _, o := range x.ahead() { // nobody passes anybody
		a.start = max(a.start, wlm.Time(o.start))
	}
	return a
}

func (x *explanation) has(p *wlm.Partition, nodes []wlm.NodeIndex) bool {
	for _, n := range nodes {
		if int(n) >= len(x.r.feed.tables.Nodes) || !slices.Contains(p.NodeNames, x.r.feed.tables.Nodes[n].Name) {
			return false
		}
	}
	return true
}

// rival is a job ahead with the start that the plan gives it.
type rival struct {
	job   *wlm.Job
	start int64
	nodes string
}

// ahead lists the jobs that the plan lets start first, as the selector answered
// for them, the next first.
func (x *explanation) ahead() []rival {
	var out []rival
	tables := x.r.feed.tables
	for i := range x.advice.Ahead.Placements {
		p := &x.advice.Ahead.Placements[i]
		if o := tables.Job(p.Job); o != nil && sharesPartition(o, x.j) {
			nodes := make([]wlm.NodeIndex, 0, len(p.Uses))
			for k := range p.Uses {
				nodes = append(nodes, p.Uses[k].Node)
			}
			out = append(out, rival{o, int64(x.now), x.r.nodeNames(nodes)})
		}
	}
	for i := range x.advice.Ahead.Verdicts {
		v := &x.advice.Ahead.Verdicts[i]
		for _, id := range v.Jobs {
			if o := tables.Job(id); o != nil && sharesPartition(o, x.j) {
				out = append(out, rival{o, int64(v.Start), x.r.nodeNames(v.Nodes)})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b rival) int { return cmp.Compare(uint64(a.start-1), uint64(b.start-1)) })
	return out
}

func sharesPartition(a, b *wlm.Job) bool {
	return slices.ContainsFunc(a.Spec.Partitions, func(p string) bool { return slices.Contains(b.Spec.Partitions, p) })
}

// plan writes down when and where the job is planned to start, and who before it.
func (x *explanation) plan() {
	ahead := x.ahead()
	for i, o := range ahead {
		if i == aheadShown {
			break
		}
		x.out.Ahead = append(x.out.Ahead, &ctlv1.ExplainAhead{Job: jobName(o.job), User: o.job.Spec.UserName, Priority: o.job.Priority,
			Start: o.start, Nodes: o.nodes})
	}
	if x.base.start == 0 {
		return
	}
	assume := []string{"running jobs end at their time limits"}
	switch n := len(ahead); {
	case n == 1:
		assume = append(assume, "the job ahead starts first")
	case n > 1:
		assume = append(assume, fmt.Sprintf("the %d jobs ahead start first", n))
	}
	if x.beyond > 0 {
		assume = append(assume, fmt.Sprintf("%d more ahead are left out", x.beyond))
	}
	assume = append(assume, "no job of higher priority comes")
	if x.strict {
		assume = append(assume, "nobody passes a blocked job")
	}
	x.out.Plan = &ctlv1.ExplainPlan{Start: int64(x.base.start), Nodes: x.base.nodes, Partition: x.base.partition, Assumes: strings.Join(assume, ", ")}
}

func jobName(j *wlm.Job) string {
	if j.ArrayJob != 0 && j.ArrayTask < wlm.Unset {
		return fmt.Sprintf("%d_%d", j.ArrayJob, j.ArrayTask)
	}
	return j.ID.String()
}

// obstacles writes down what the nodes and counters of each partition lack.
func (x *explanation) obstacles() {
	t := x.r.feed.tables
	for i := range x.advice.Supplies {
		s := &x.advice.Supplies[i]
		if s.Partition < 0 || s.Partition >= len(t.Partitions) {
			continue
		}
		p := t.Partitions[s.Partition]
		o := &ctlv1.ExplainObstacle{Kind: "nodes", Partition: p.Name, Text: s.Needs, Needed: uint64(cluster.ClassOf(x.j.Spec).MinNodes),
			Free: uint64(len(s.Free)), Total: uint64(len(p.NodeNames))}
		if s.Reason != wlm.ReasonNone {
			o.Kind, o.Text = kindOf(s.Reason), s.Text
		}
		x.sort(o, s)
		x.out.Obstacles = append(x.out.Obstacles, o)
	}
	if x.m.Class == nil {
		return
	}
	for _, u := range x.m.Class.Counters {
		if int(u.Counter) > len(x.r.feed.licenses) || u.Counter == 0 {
			continue
		}
		l := x.r.feed.licenses[u.Counter-1]
		used := t.Licensed(l.Name)
		free := l.Total - min(used, l.Total)
		if free >= u.Amount && x.base.reason != wlm.WaitLicenses {
			continue
		}
		o := &ctlv1.ExplainObstacle{Kind: "licenses", Text: fmt.Sprintf("needs %d of license %s: %d of %d are free", u.Amount, l.Name, free, l.Total),
			Needed: u.Amount, Free: free, Total: l.Total}
		if free >= u.Amount {
			o.Text += ", and promised to jobs ahead"
		}
		o.Holders = x.holders(func(j *wlm.Job) uint64 { return licenseOf(j, l.Name) }, nil)
		x.out.Obstacles = append(x.out.Obstacles, o)
	}
}

// kindOf is the kind of obstacle that a reason names.
func kindOf(r wlm.Reason) string {
	switch r {
	case wlm.WaitPartTimeLimit, wlm.WaitPartNodeLimit, wlm.WaitPartConfig:
		return "limit"
	case wlm.WaitPartDown, wlm.WaitPartInactive:
		return "partition"
	case wlm.FailBadConstraints:
		return "request"
	}
	return "nodes"
}

// licenseOf is how many of a license a running job has.
func licenseOf(j *wlm.Job, name string) uint64 {
	if j.Spec.Licenses == "" {
		return 0
	}
	list, _ := cluster.ParseLicenses(j.Spec.Licenses)
	for _, l := range list {
		if l.Name == name {
			return l.Total
		}
	}
	return 0
}

// sort fills in which nodes are out and why.
func (x *explanation) sort(o *ctlv1.ExplainObstacle, s *selector.Supply) {
	t := x.r.feed.tables
	add := func(why string, nodes []wlm.NodeIndex) {
		if len(nodes) > 0 {
			o.Nodes = append(o.Nodes, &ctlv1.ExplainNodes{Why: why, Count: uint32(len(nodes)), Nodes: x.r.nodeNames(nodes)})
		}
	}
	add("free now", s.Free)
	busy := map[wlm.NodeName]bool{}
	for _, i := range s.Busy {
		if int(i) < len(t.Nodes) {
			busy[t.Nodes[i].Name] = true
		}
	}
	kept, names := x.kept(s.Busy)
	for _, name := range names {
		add("too little free: kept by reservation "+name, kept[name])
	}
	add("too little free: held by jobs", kept[""])
	if len(s.Busy) > 0 {
		o.Holders = x.holders(nil, busy)
	}
	add("free, but promised to jobs ahead before this one would end", s.Promised)
	by := map[string][]wlm.NodeIndex{}
	for _, i := range s.Away {
		if int(i) < len(t.Nodes) {
			by[awayWhy(t.Nodes[i])] = append(by[awayWhy(t.Nodes[i])], i)
		}
	}
	whys := make([]string, 0, len(by))
	for why := range by {
		whys = append(whys, why)
	}
	slices.Sort(whys)
	for _, why := range whys {
		add(why, by[why])
	}
	add(unfitWhy(x.j.Spec), s.Unfit)
}

func awayWhy(n *wlm.Node) string {
	why := strings.ToLower(wlm.NodeStateLong(n, 0, false))
	if n.Reason != "" {
		why += " (" + n.Reason + ")"
	}
	return why
}

// unfitWhy names what in a request can leave nodes out.
func unfitWhy(s *wlm.Spec) string {
	var by []string
	for _, o := range []struct {
		name string
		said bool
	}{{"--constraint=" + s.Features, s.Features != ""}, {"--exclude=" + s.ExcNodes, s.ExcNodes != ""}, {"the size of the request", true}} {
		if o.said {
			by = append(by, o.name)
		}
	}
	return "never: left out by " + strings.Join(by, " or ")
}

// holders lists running jobs that have some of a license or of some nodes,
// those that end soonest first.
func (x *explanation) holders(amount func(*wlm.Job) uint64, on map[wlm.NodeName]bool) []*ctlv1.ExplainHolder {
	var out []*ctlv1.ExplainHolder
	for j := range x.r.feed.tables.AllJobs {
		if j.Alloc == nil || j.State.Ended() || j.State == wlm.Pending {
			continue
		}
		h := &ctlv1.ExplainHolder{Job: jobName(j), User: j.Spec.UserName, Until: int64(j.End)}
		if amount != nil {
			if h.Amount = amount(j); h.Amount == 0 {
				continue
			}
		} else {
			var names []string
			for i := range j.Alloc.Nodes {
				if n := j.Alloc.Nodes[i].Node; on[n] {
					names = append(names, string(n))
				}
			}
			if len(names) == 0 {
				continue
			}
			h.Nodes = hostlist.Compress(names)
		}
		out = append(out, h)
	}
	slices.SortFunc(out, func(a, b *ctlv1.ExplainHolder) int {
		return cmp.Or(cmp.Compare(uint64(a.Until-1), uint64(b.Until-1)), cmp.Compare(a.Job, b.Job))
	})
	return out[:min(len(out), holderShown)]
}
