package wlm

import (
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/errs"
)

// JobRef is what a user names a job, tasks of an array, a component of a
// heterogeneous job, or a step of one of these by.
type JobRef struct {
	Job   JobID
	Tasks IDRanges // of an array; nil: the job itself, or the whole array
	Het   uint32   // component of a heterogeneous job; Unset: all of them
	Step  *StepID  // nil: no step
}

// ParseJobRef reads 123, 123_4, 123_[1-4,7], 123+1, and any of these that name
// one job with .step behind it: 123.0, 123.batch, 123_4.batch.
func ParseJobRef(s string) (JobRef, error) {
	bad := errs.Newf("wlm.ParseJobRef", errs.Invalid, "invalid job id %q: want job, job_task, job_[tasks] "+
		"or job+component, perhaps with .step", clip(s))
	ref := JobRef{Het: Unset}
	id, step, stepped := strings.Cut(s, ".")
	if stepped {
		n, err := ParseStepID(step)
		if err != nil || n == StepPending {
			return JobRef{}, bad
		}
		ref.Step = &n
	}
	if i := strings.IndexAny(id, "_+"); i >= 0 {
		rest := id[i+1:]
		if id[i] == '+' {
			n, ok := digitsOnly(rest)
			if !ok || n >= int64(AllTasks) {
				return JobRef{}, bad
			}
			ref.Het = uint32(n)
		} else {
			tasks, ok := parseRefTasks(rest)
			if !ok || stepped && tasks.Count() != 1 {
				return JobRef{}, bad
			}
			ref.Tasks = tasks
		}
		id = id[:i]
	}
	job, ok := parseJobID(id)
	if !ok {
		return JobRef{}, bad
	}
	ref.Job = job
	return ref, nil
}

// parseRefTasks reads what follows the underscore: one index, or a list in
// brackets. The %limit that squeue shows in there is dropped.
func parseRefTasks(s string) (IDRanges, bool) {
	if !strings.HasPrefix(s, "[") {
		if _, ok := digitsOnly(s); !ok {
			return nil, false
		}
	} else if !strings.HasSuffix(s, "]") {
		return nil, false
	}
	tasks, _, err := ParseArray(s, MaxArrayBound)
	return tasks, err == nil
}

// String prints the reference as [ParseJobRef] reads it.
func (r JobRef) String() string {
	s := r.Job.String()
	switch {
	case r.Tasks.Count() == 1:
		s += "_" + FormatArray(r.Tasks, 0)
	case r.Tasks != nil:
		s += "_[" + FormatArray(r.Tasks, 0) + "]"
	}
	if r.Het != Unset {
		s += "+" + strconv.FormatUint(uint64(r.Het), 10)
	}
	if r.Step != nil {
		s += "." + r.Step.String()
	}
	return s
}
