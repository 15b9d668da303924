package outbox

import "github.com/sluice-hpc/sluice/sdk/proto/event/v1"

// Recorded reports whether an event of this kind becomes an accounting record.
// It is all of: how runs of jobs begin, change and end, how steps begin and
// end, and when nodes are lost and found. Pure; the cluster asks it for each
// event that it numbers.
func Recorded(kind eventv1.Kind) bool {
	switch kind {
	case eventv1.Kind_JOB_SUBMITTED, eventv1.Kind_JOB_CHANGED, eventv1.Kind_JOB_STARTED,
		eventv1.Kind_JOB_ENDING, eventv1.Kind_JOB_ENDED, eventv1.Kind_JOB_REQUEUED,
		eventv1.Kind_JOB_SUSPENDED, eventv1.Kind_JOB_RESUMED, eventv1.Kind_TASK_SPLIT,
		eventv1.Kind_STEP_STARTED, eventv1.Kind_STEP_ENDED,
		eventv1.Kind_NODE_DOWN, eventv1.Kind_NODE_UP:
		return true
	}
	return false
}
