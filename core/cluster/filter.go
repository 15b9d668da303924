package cluster

import (
	"cmp"
	"slices"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/wlm/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Match is one job that a filter found. Tasks restricts it to some of an array
// record's pending tasks; nil means all of them.
type Match struct {
	Job   *wlm.Job
	Tasks []wlm.IDRange
	Ref   *ctlv1.JobRef // the reference that found it; nil when found by filter
}

// matcher is a filter, compiled.
type matcher struct {
	users                                       map[wlm.UID]bool
	accounts, partitions, qos, names, resv, wck map[string]bool
	states                                      map[wlm.JobState]bool
	flags                                       wlm.JobFlags
	nodes                                       map[wlm.NodeName]bool
	visible                                     bool // only what squeue shows by default
}

func newMatcher(f *ctlv1.JobFilter) (*matcher, error) {
	m := &matcher{
		accounts: set(f.GetAccounts()), partitions: set(f.GetPartitions()), qos: set(f.GetQos()),
		names: set(f.GetNames()), resv: set(f.GetReservations()), wck: set(f.GetWckeys()), flags: wlm.JobFlags(f.GetFlagsAny()),
	}
	if len(f.GetUsers()) > 0 {
		m.users = map[wlm.UID]bool{}
		for _, u := range f.GetUsers() {
			m.users[wlm.UID(u)] = true
		}
	}
	if len(f.GetStates()) > 0 || m.flags != 0 {
		m.states = map[wlm.JobState]bool{}
		for _, s := range f.GetStates() {
			m.states[wlm.JobState(s)] = true
		}
	}
	m.visible = m.states == nil && !f.GetAllStates()
	for _, list := range f.GetNodes() {
		names, err := hostlist.Expand(list)
		if err != nil {
			return nil, err
		}
		if m.nodes == nil {
			m.nodes = map[wlm.NodeName]bool{}
		}
		for _, n := range names {
			m.nodes[wlm.NodeName(n)] = true
		}
	}
	return m, nil
}

// Matcher returns the test that Find makes of each job when a filter has no
// references, for readers that walk the jobs themselves.
func Matcher(f *ctlv1.JobFilter) (func(*wlm.Job) bool, error) {
	m, err := newMatcher(f)
	if err != nil {
		return nil, err
	}
	return func(j *wlm.Job) bool { return m.matches(j, false) }, nil
}

func set(list []string) map[string]bool {
	if len(list) == 0 {
		return nil
	}
	m := make(map[string]bool, len(list))
	for _, s := range list {
		m[s] = true
	}
	return m
}

// matches leaves the references aside.
func (m *matcher) matches(j *wlm.Job, byRef bool) bool {
	s := j.Spec
	switch {
	case m.visible && !byRef && j.State.Ended() && j.Flags&wlm.FlagCompleting == 0,
		m.states != nil && !m.states[j.State] && j.Flags&m.flags == 0,
		m.users != nil && !m.users[s.User],
		m.accounts != nil && !m.accounts[s.Account],
		m.qos != nil && !m.qos[s.QOS],
		m.names != nil && !m.names[s.Name],
		m.resv != nil && !slices.ContainsFunc(splitList(j.ReservationName()), func(r string) bool { return m.resv[r] }),
		m.wck != nil && !m.wck[s.WCKey]:
		return false
	}
	if m.partitions != nil {
		if j.State == wlm.Pending {
			if !slices.ContainsFunc(s.Partitions, func(p string) bool { return m.partitions[p] }) {
				return false
			}
		} else if !m.partitions[j.Partition] {
			return false
		}
	}
	if m.nodes != nil {
		return j.Alloc != nil && slices.ContainsFunc(j.Alloc.Nodes, func(a wlm.NodeAlloc) bool { return m.nodes[a.Node] })
	}
	return true
}

// Find returns the jobs that a filter selects, in id order when it has no
// references, else in the order of those. missing lists references to nothing.
func (t *Tables) Find(f *ctlv1.JobFilter) (found []Match, missing []*ctlv1.JobRef, err error) {
	m, err := newMatcher(f)
	if err != nil {
		return nil, nil, err
	}
	if len(f.GetRefs()) == 0 {
		for _, j := range t.jobs {
			if m.matches(j, false) {
				found = append(found, Match{Job: j})
			}
		}
		slices.SortFunc(found, func(a, b Match) int { return cmp.Compare(a.Job.ID, b.Job.ID) })
		return found, nil, nil
	}
	for _, ref := range f.GetRefs() {
		hits := t.resolve(ref)
		if len(hits) == 0 {
			missing = append(missing, ref)
		}
		for _, h := range hits {
			if m.matches(h.Job, true) {
				found = append(found, h)
			}
		}
	}
	return found, missing, nil
}

// resolve finds what one reference names: a job, an array with all its tasks,
// or some tasks of an array.
func (t *Tables) resolve(ref *ctlv1.JobRef) []Match {
	id := wlm.JobID(ref.GetJob())
	if len(ref.GetTasks()) == 0 {
		if t.IsArray(id) {
			var out []Match
			for _, j := range t.ArrayRecords(id) {
				out = append(out, Match{Job: j, Ref: ref})
			}
			return out
		}
		if j := t.jobs[id]; j != nil {
			return []Match{{Job: j, Ref: ref}}
		}
		return nil
	}
	want := ranges(ref.GetTasks())
	x := t.arrays[id]
	if x == nil {
		return nil
	}
	var out []Match
	for _, j := range t.ArrayParts(id) {
		if both := common(j.ArrayTasks, want); len(both) > 0 {
			out = append(out, Match{Job: j, Tasks: both, Ref: ref})
		}
	}
	if want.Count() < len(x.tasks) {
		for task := range want.All() {
			if j := t.ArrayTask(id, task); j != nil {
				out = append(out, Match{Job: j, Ref: ref})
			}
		}
	} else {
		for task, job := range x.tasks {
			if want.Has(task) {
				out = append(out, Match{Job: t.jobs[job], Ref: ref})
			}
		}
	}
	slices.SortFunc(out, func(a, b Match) int { return cmp.Compare(a.Job.ID, b.Job.ID) })
	return out
}

func ranges(in []*wlmv1.IDRange) wlm.IDRanges {
	out := make([]wlm.IDRange, len(in))
	for i, r := range in {
		out[i] = wlm.IDRange{First: r.GetFirst(), Last: r.GetLast(), Step: r.GetStep()}
	}
	return wlm.NewIDRanges(out)
}

// RefString prints a reference as users write it.
func RefString(ref *ctlv1.JobRef) string {
	var b strings.Builder
	b.WriteString(wlm.JobID(ref.GetJob()).String())
	if len(ref.GetTasks()) > 0 {
		text := wlm.FormatArray(ranges(ref.GetTasks()), 0)
		if strings.ContainsAny(text, ",-") {
			text = "[" + text + "]"
		}
		b.WriteString("_" + text)
	}
	if ref.GetHasStep() {
		b.WriteString("." + wlm.StepID(ref.GetStep()).String())
	}
	return b.String()
}

// common returns the task ids that are in both.
func common(have, want []wlm.IDRange) wlm.IDRanges { return wlm.IDRanges(have).Common(want) }

func countTasks(t []wlm.IDRange) uint32 { return uint32(wlm.IDRanges(t).Count()) }
