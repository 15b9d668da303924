package wlm

import (
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/errs"
)

var depKinds = [...]string{
	DepAfter: "after", DepAfterAny: "afterany", DepAfterOK: "afterok", DepAfterNotOK: "afternotok",
	DepAfterCorr: "aftercorr", DepSingleton: "singleton", DepAfterBurstBuffer: "afterburstbuffer", DepExpand: "expand",
}

// String is sbatch's word.
func (k DepKind) String() string {
	if int(k) < len(depKinds) {
		return depKinds[k]
	}
	return "?"
}

// String is the word that scontrol shows in parentheses.
func (s DepState) String() string {
	switch s {
	case DepUnfulfilled:
		return "unfulfilled"
	case DepFulfilled:
		return "fulfilled"
	case DepFailed:
		return "failed"
	}
	return "?"
}

// ParseDependency reads --dependency: terms type:job[:job...] or singleton,
// all separated by "," (all must hold) or all by "?" (one must). A job is id,
// id_task or id_*, with +minutes behind it for type after. A list of bare ids
// means afterany. Empty and 0 give none, which clears a dependency.
//
// Whether the jobs exist is the controller's business.
func ParseDependency(s string) ([]Dep, error) {
	bad := func(format string, args ...any) ([]Dep, error) {
		e := errs.Newf("wlm.ParseDependency", errs.Invalid, format, args...)
		return nil, errs.Coded("wlm.ParseDependency", errs.DependencyProblem,
			"dependency "+strconv.Quote(clip(s))+": "+e.Error())
	}
	if s == "" || s == "0" {
		return nil, nil
	}
	or := strings.Contains(s, "?")
	sep := ","
	if or {
		sep = "?"
		if strings.Contains(s, ",") {
			return bad("\",\" and \"?\" cannot be mixed")
		}
	}
	if s[0] >= '0' && s[0] <= '9' { // bare ids
		s := strings.ReplaceAll(s, sep, ":")
		deps, err := parseDepTerm("afterany:"+s, or)
		if err != "" {
			return bad("%s", err)
		}
		return deps, nil
	}
	var deps []Dep
	for term := range strings.SplitSeq(s, sep) {
		ds, err := parseDepTerm(term, or)
		if err != "" {
			return bad("%s", err)
		}
		deps = append(deps, ds...)
	}
	return deps, nil
}

// parseDepTerm reads one term; problem is empty when it is good.
func parseDepTerm(term string, or bool) (deps []Dep, problem string) {
	word, jobs, found := strings.Cut(term, ":")
	kind, known := depKindOf(word)
	switch {
	case !known:
		return nil, strconv.Quote(clip(word)) + " is none of " + strings.Join(depKinds[:], ", ")
	case kind == DepSingleton && found:
		return nil, "singleton takes no job"
	case kind == DepSingleton:
		return []Dep{{Kind: kind, TaskID: Unset, Or: or}}, ""
	case !found:
		return nil, word + " needs a job id, as in " + word + ":123"
	}
	for ref := range strings.SplitSeq(jobs, ":") {
		d, ok := parseDepJob(ref)
		if !ok {
			return nil, strconv.Quote(clip(ref)) + " is not a job id such as 123, 123_4 or 123_*"
		}
		if d.Delay != 0 && kind != DepAfter {
			return nil, strconv.Quote(clip(ref)) + ": +minutes goes only with after"
		}
		d.Kind, d.Or = kind, or
		deps = append(deps, d)
	}
	return deps, ""
}

func depKindOf(word string) (DepKind, bool) {
	for k, w := range depKinds {
		if strings.EqualFold(w, word) {
			return DepKind(k), true
		}
	}
	return 0, false
}

func parseDepJob(s string) (d Dep, ok bool) {
	d.TaskID = Unset
	s, delay, delayed := strings.Cut(s, "+")
	if delayed {
		n, ok := digitsOnly(delay)
		if !ok || n >= int64(Unset) {
			return d, false
		}
		d.Delay = Minutes(n)
	}
	s, task, tasked := strings.Cut(s, "_")
	switch {
	case tasked && task == "*":
		d.TaskID = AllTasks
	case tasked:
		n, ok := digitsOnly(task)
		if !ok || n >= MaxArrayBound {
			return d, false
		}
		d.TaskID = uint32(n)
	}
	d.Job, ok = parseJobID(s)
	return d, ok
}

// parseJobID reads a job id, which is never 0 nor one of Slurm's marks.
func parseJobID(s string) (JobID, bool) {
	n, ok := digitsOnly(s)
	return JobID(n), ok && n > 0 && n < int64(AllTasks)
}

// FormatDependency prints what is left of deps, with its state, as scontrol and
// squeue do: afterok:20(unfulfilled),afterany:23(failed). Empty when nothing is.
func FormatDependency(deps []Dep) string {
	var open []Dep
	for _, d := range deps {
		switch {
		case d.State != DepFulfilled:
			open = append(open, d)
		case d.Or:
			return "" // one was enough
		}
	}
	return formatDeps(open, true)
}

// FormatDependencySpec prints deps without their state, as
// [ParseDependency] reads them.
func FormatDependencySpec(deps []Dep) string { return formatDeps(deps, false) }

func formatDeps(deps []Dep, states bool) string {
	var b strings.Builder
	for i, d := range deps {
		if i > 0 {
			if d.Or {
				b.WriteByte('?')
			} else {
				b.WriteByte(',')
			}
		}
		b.WriteString(d.Kind.String())
		if d.Kind != DepSingleton {
			b.WriteString(":" + d.Job.String())
			switch d.TaskID {
			case Unset:
			case AllTasks:
				b.WriteString("_*")
			default:
				b.WriteString("_" + strconv.FormatUint(uint64(d.TaskID), 10))
			}
			if d.Delay != 0 {
				b.WriteString("+" + strconv.FormatUint(uint64(d.Delay), 10))
			}
		}
		if states {
			b.WriteString("(" + d.State.String() + ")")
		}
	}
	return b.String()
}
