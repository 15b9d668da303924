package cluster

import (
	"cmp"
	"slices"

	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Image is an immutable picture of a cluster for a snapshot. It shares the
// records, so making one costs a few pointers a job; encoding it may take its
// time on another goroutine.
type Image struct {
	nextJob    wlm.JobID
	nextRecord uint64
	acked      uint64
	epoch      uint64
	nodes      []*wlm.Node
	parts      []*wlm.Partition
	resvs      []*wlm.Reservation
	nextResv   uint32
	jobs       []*wlm.Job
	steps      []*wlm.Step
	blobs      map[string][]byte
	keys       map[string]keyed
	keyOrder   []string
	records    []Record
	over       []*eventv1.StepsOver
}

// Image returns a picture of the cluster as it is now.
func (c *Cluster) Image() *Image {
	m := &Image{
		nextJob: c.NextJob, nextRecord: c.records.next, acked: c.records.acked, epoch: c.Epoch,
		nodes: slices.Clone(c.Nodes), parts: slices.Clone(c.Partitions), resvs: slices.Clone(c.Reservations), nextResv: c.NextResv,
		jobs: make([]*wlm.Job, 0, len(c.jobs)), blobs: make(map[string][]byte, len(c.blobs)),
		keys: make(map[string]keyed, len(c.keys)), keyOrder: slices.Clone(c.keyOrder), records: slices.Clone(c.records.queue),
	}
	for _, j := range c.jobs {
		if d, ok := c.derived[j.ID]; ok && d != j.Derived {
			j = j.Clone()
			j.Derived = d
		}
		m.jobs = append(m.jobs, j)
	}
	for _, s := range c.steps {
		m.steps = append(m.steps, s)
	}
	for k, b := range c.blobs {
		m.blobs[k] = b.Data
	}
	for k, v := range c.keys {
		m.keys[k] = v
	}
	for id, list := range c.over {
		o := &eventv1.StepsOver{Job: uint32(id)}
		for _, r := range list {
			o.Ranges = append(o.Ranges, uint32(r.first), uint32(r.last))
		}
		m.over = append(m.over, o)
	}
	return m
}

// Parts yields the picture as snapshot messages of about a thousand records,
// in an order in which they can be put.
func (m *Image) Parts(yield func(*eventv1.Snapshot) bool) {
	head := &eventv1.Snapshot{NextJob: uint32(m.nextJob), NextRecord: m.nextRecord, AckedRecord: m.acked, Epoch: m.epoch, NextReservation: m.nextResv}
	part, ok := head, true
	add := func(e *Event) {
		if !ok {
			return
		}
		part.Events = append(part.Events, e.ToWire(true))
		const records = 1000
		if len(part.Events) >= records {
			ok = yield(part)
			part = &eventv1.Snapshot{}
		}
	}
	for _, n := range m.nodes {
		add(&Event{Kind: eventv1.Kind_NODE_CHANGED, Node: n})
	}
	for _, p := range m.parts {
		add(&Event{Kind: eventv1.Kind_PARTITION_CHANGED, Partition: p})
	}
	for _, r := range m.resvs {
		add(&Event{Kind: eventv1.Kind_RESERVATION_CHANGED, Reservation: r})
	}
	for k, data := range m.blobs {
		add(&Event{Kind: eventv1.Kind_BLOB_STORED, Key: []byte(k), Data: data})
	}
	slices.SortFunc(m.jobs, func(a, b *wlm.Job) int { return cmp.Compare(a.ID, b.ID) })
	for _, j := range m.jobs {
		add(&Event{Kind: eventv1.Kind_JOB_CHANGED, Job: j})
	}
	for _, s := range m.steps {
		add(&Event{Kind: eventv1.Kind_STEP_STARTED, Step: s})
	}
	for _, k := range m.keyOrder {
		add(&Event{Kind: eventv1.Kind_KEY_REMEMBERED, Time: m.keys[k].at, Text: k, IDs: []wlm.JobID{m.keys[k].job}})
	}
	if !ok {
		return
	}
	part.StepsOver = m.over
	for _, r := range m.records {
		part.Records = append(part.Records, &eventv1.QueuedRecord{Number: r.Number, Event: r.Event.ToWire(true)})
		const records = 1000
		if len(part.Records) >= records {
			if !yield(part) {
				return
			}
			part = &eventv1.Snapshot{}
		}
	}
	yield(part)
}

// Restore puts one part of a snapshot into a new cluster; parts come in order.
func (c *Cluster) Restore(m *eventv1.Snapshot) error {
	if m.GetNextRecord() != 0 { // the head
		c.NextResv = max(c.NextResv, m.GetNextReservation())
		c.NextJob = max(c.NextJob, wlm.JobID(m.GetNextJob()))
		c.records.next, c.records.acked, c.Epoch = m.GetNextRecord(), m.GetAckedRecord(), m.GetEpoch()
	}
	for _, w := range m.GetEvents() {
		e := EventOfWire(w)
		next := c.records.next
		if err := c.put(e); err != nil {
			return err
		}
		// A snapshot's events put records; they are not news for accounting.
		if c.records.next != next {
			c.records.next = next
			c.records.queue = c.records.queue[:len(c.records.queue)-1]
		}
	}
	for _, o := range m.GetStepsOver() {
		for r := o.GetRanges(); len(r) >= 2; r = r[2:] {
			c.over[wlm.JobID(o.GetJob())] = append(c.over[wlm.JobID(o.GetJob())], idRange{wlm.StepID(r[0]), wlm.StepID(r[1])})
		}
	}
	for _, q := range m.GetRecords() {
		e := EventOfWire(q.GetEvent())
		c.records.queue = append(c.records.queue, Record{q.GetNumber(), e})
	}
	return nil
}
