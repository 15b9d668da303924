package cluster

import (
	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
)

// Record is an event on its way to accounting storage.
type Record struct {
	Number uint64
	Event  *Event
}

// records is the queue of what accounting storage has not acknowledged. Numbers
// follow from the events, so a replay gives each the number it had.
type records struct {
	next  uint64 // number of the next record
	acked uint64
	queue []Record
}

// Recorded reports whether an event of this kind becomes an accounting record.
func Recorded(k Kind) bool {
	switch k {
	case eventv1.Kind_JOB_SUBMITTED, eventv1.Kind_JOB_CHANGED, eventv1.Kind_JOB_STARTED, eventv1.Kind_JOB_ENDING,
		eventv1.Kind_JOB_ENDED, eventv1.Kind_JOB_REQUEUED, eventv1.Kind_JOB_SUSPENDED, eventv1.Kind_JOB_RESUMED,
		eventv1.Kind_TASK_SPLIT, eventv1.Kind_STEP_STARTED, eventv1.Kind_STEP_ENDED, eventv1.Kind_NODE_DOWN, eventv1.Kind_NODE_UP:
		return true
	}
	return false
}

func (r *records) add(e *Event) {
	if !Recorded(e.Kind) {
		return
	}
	r.queue = append(r.queue, Record{r.next, e})
	r.next++
}

func (r *records) ack(upto uint64) {
	r.acked = max(r.acked, upto)
	i := 0
	for i < len(r.queue) && r.queue[i].Number <= upto {
		r.queue[i].Event = nil
		i++
	}
	r.queue = r.queue[i:]
	if len(r.queue) == 0 {
		r.queue = nil
	}
}

// Records returns up to n unacknowledged records after a number, oldest first.
func (c *Cluster) Records(after uint64, n int) []Record {
	q := c.records.queue
	if len(q) == 0 {
		return nil
	}
	if first := q[0].Number; after >= first {
		q = q[min(int(after-first)+1, len(q)):]
	}
	return append([]Record(nil), q[:min(n, len(q))]...)
}

// RecordsPending is the number of records not acknowledged.
func (c *Cluster) RecordsPending() int { return len(c.records.queue) }

// LastRecord is the number of the newest record.
func (c *Cluster) LastRecord() uint64 { return c.records.next - 1 }

// AckedRecord is the number up to which accounting storage has every record.
func (c *Cluster) AckedRecord() uint64 { return c.records.acked }
