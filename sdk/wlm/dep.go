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
// id_task, id_[tasks] or id_*, with +minutes behind it for type after. A list of bare ids
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
	for _, term := range splitOutside(s, sep[0]) {
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
		if list, is := depTasks(ref); is {
			for _, d := range list {
				d.Kind, d.Or = kind, or
				deps = append(deps, d)
			}
			continue
		}
		d, ok := parseDepJob(ref)
		if !ok {
			return nil, strconv.Quote(clip(ref)) + " is not a job id such as 123, 123_4, 123_[1-3] or 123_*"
		}
		if d.Delay != 0 && kind != DepAfter {
			return nil, strconv.Quote(clip(ref)) + ": +minutes goes only with after"
		}
		d.Kind, d.Or = kind, or
		deps = append(deps, d)
	}
	return deps, ""
}

// splitOutside splits s at each sep that is not in brackets.
func splitOutside(s string, sep byte) (out []string) {
	from, depth := 0, 0
	for i := range len(s) {
		switch {
		case s[i] == '[':
			depth++
		case s[i] == ']':
			depth--
		case s[i] == sep && depth == 0:
			out, from = append(out, s[from:i]), i+1
		}
	}
	return append(out, s[from:])
}

// mostDepTasks bounds the tasks that one reference with brackets may name; who
// depends on more depends on the array.
const mostDepTasks = 1000

// depTasks reads id_[ranges]; is is false for any other reference.
func depTasks(ref string) (deps []Dep, is bool) {
	id, list, found := strings.Cut(ref, "_[")
	list, closed := strings.CutSuffix(list, "]")
	job, known := parseJobID(id)
	if !found || !closed || !known || strings.Contains(list, "%") {
		return nil, false
	}
	tasks, _, err := ParseArray(list, MaxArrayBound)
	if err != nil || tasks.Count() == 0 || tasks.Count() > mostDepTasks {
		return nil, false
	}
	for task := range tasks.All() {
		deps = append(deps, Dep{Job: job, TaskID: task})
	}
	return deps, true
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
