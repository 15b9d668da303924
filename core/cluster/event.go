package cluster

import (
	"fmt"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/wlm/v1"
	"github.com/sluice-hpc/sluice/sdk/wire"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Kind says what happened; see sdk/proto/event/v1.
type Kind = eventv1.Kind

// Event is one change of the cluster.
type Event struct {
	Kind      Kind
	Time      wlm.Time
	Job       *wlm.Job
	Previous  *wlm.Job // of JOB_REQUEUED: the run that ended
	Step      *wlm.Step
	Node      *wlm.Node
	Partition *wlm.Partition
	// Reservation is the new record, or the former of one that was removed.
	Reservation *wlm.Reservation
	Key, Data   []byte
	IDs         []wlm.JobID
	Priorities  []uint32
	Position    uint64
	Text        string

	// respec says that the job's Spec differs from its former record's; other
	// events leave it out of the journal.
	respec bool
	left   []wlm.NodeName // of JOB_CLEANED: the nodes that are clean now; see clean
	ranked []*wlm.Job     // of JOB_RANKED, made by the first Put
}

// String is one line for logs and recorded dialogues.
func (e *Event) String() string {
	var b strings.Builder
	b.WriteString(e.Kind.String())
	switch {
	case e.Job != nil:
		j := e.Job
		fmt.Fprintf(&b, " job=%s", jobName(j))
		fmt.Fprintf(&b, " state=%s", wlm.StateFull(j.State, j.Flags))
		if j.Reason != wlm.ReasonNone {
			fmt.Fprintf(&b, " reason=%s", j.Reason)
		}
		if j.Alloc != nil {
			fmt.Fprintf(&b, " nodes=%s", j.Alloc.NodeList)
		}
		if j.State.Ended() {
			fmt.Fprintf(&b, " status=%s", j.Status)
		}
		if j.Restarts > 0 {
			fmt.Fprintf(&b, " restarts=%d", j.Restarts)
		}
	case e.Step != nil:
		fmt.Fprintf(&b, " step=%s.%s state=%s status=%s", e.Step.Job, e.Step.ID, e.Step.State, e.Step.Status)
	case e.Node != nil:
		fmt.Fprintf(&b, " node=%s flags=%s", e.Node.Name, strings.Join(e.Node.Flags.Names(), "+"))
		if e.Node.Reason != "" {
			fmt.Fprintf(&b, " reason=%q", e.Node.Reason)
		}
	case e.Partition != nil:
		fmt.Fprintf(&b, " partition=%s", e.Partition.Name)
	case e.Reservation != nil:
		fmt.Fprintf(&b, " reservation=%s", e.Reservation.Name)
	case len(e.IDs) > 0:
		fmt.Fprintf(&b, " jobs=%d", len(e.IDs))
	}
	return b.String()
}

func jobName(j *wlm.Job) string {
	switch {
	case j.ArrayJob == 0:
		return j.ID.String()
	case j.IsArrayRecord():
		return j.ArrayJob.String() + "_[]"
	}
	return fmt.Sprintf("%s_%d", j.ArrayJob, j.ArrayTask)
}

// ToWire returns the event's message. A whole message carries the job's Spec
// even where the journal would leave it out.
func (e *Event) ToWire(whole bool) *eventv1.Event {
	m := &eventv1.Event{
		Kind: e.Kind, Time: int64(e.Time), Step: wire.StepToWire(e.Step), Node: wire.NodeToWire(e.Node),
		Partition: wire.PartitionToWire(e.Partition), Reservation: wire.ReservationToWire(e.Reservation), Key: e.Key, Data: e.Data, Priorities: e.Priorities,
		Position: e.Position, Text: e.Text,
	}
	switch {
	case e.lean() && !whole:
		names := make([]string, len(e.left))
		for i, n := range e.left {
			names[i] = string(n)
		}
		m.Ids, m.Text = []uint32{uint32(e.Job.ID)}, hostlist.Compress(names)
	case e.Job != nil:
		m.Job = jobMessage(e.Job, whole || e.respec)
	}
	if e.Previous != nil {
		m.Previous = jobMessage(e.Previous, whole)
	}
	for _, id := range e.IDs {
		m.Ids = append(m.Ids, uint32(id))
	}
	return m
}

func jobMessage(j *wlm.Job, whole bool) *wlmv1.Job {
	if whole {
		return wire.JobToWire(j)
	}
	lean := *j
	lean.Spec = nil
	return wire.JobToWire(&lean)
}

// EventOfWire returns the event of a message. A job without a Spec gets that of
// its former record when it is put.
func EventOfWire(m *eventv1.Event) *Event {
	e := &Event{
		Kind: m.GetKind(), Time: wlm.Time(m.GetTime()), Job: wire.JobOfWire(m.GetJob()), Previous: wire.JobOfWire(m.GetPrevious()),
		Step: wire.StepOfWire(m.GetStep()), Node: wire.NodeOfWire(m.GetNode()), Partition: wire.PartitionOfWire(m.GetPartition()),
		Reservation: wire.ReservationOfWire(m.GetReservation()),
		Key:         m.GetKey(), Data: m.GetData(), Priorities: m.GetPriorities(), Position: m.GetPosition(), Text: m.GetText(),
	}
	for _, id := range m.GetIds() {
		e.IDs = append(e.IDs, wlm.JobID(id))
	}
	return e
}
