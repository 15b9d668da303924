package sched

import (
	"context"
	"reflect"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/plugin/wirecall"
	"github.com/sluice-hpc/sluice/sdk/proto/sched/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

func drawAgenda(t *rapid.T) Agenda {
	a := Agenda{Entries: []Entry{}, Reservations: rapid.IntRange(0, 5).Draw(t, "reservations"),
		Wake: wlm.Time(rapid.Int64().Draw(t, "wake")), ShortestFirst: rapid.Bool().Draw(t, "shortest first")}
	for range rapid.IntRange(0, 3).Draw(t, "running") {
		a.Running = append(a.Running, Expectation{wlm.JobID(rapid.Uint32().Draw(t, "running job")), rapid.Uint32().Draw(t, "runs")})
	}
	for range rapid.IntRange(0, 20).Draw(t, "entries") {
		a.Add(wlm.JobID(rapid.Uint32().Draw(t, "job")), WhenBlocked(rapid.IntRange(0, 2).Draw(t, "when")))
		if rapid.IntRange(0, 3).Draw(t, "extra") == 0 {
			e := &a.Entries[len(a.Entries)-1]
			e.Expected, e.NotBefore, e.MayPreempt = rapid.Uint32().Draw(t, "expected"), wlm.Time(rapid.Int64().Draw(t, "not before")), true
			e.Prefer, e.Avoid = []wlm.NodeIndex{3, 1}, []wlm.NodeIndex{2}
			e.Placement = []mirror.NodeUse{{Node: 3, CPUs: wlm.CPUSet{5}, Mem: 7, Whole: true}}
		}
	}
	return a
}

func TestAgendaSurvivesTheWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawAgenda(t)
		b, err := proto.Marshal(AgendaToWire(&want))
		if err != nil {
			t.Fatal(err)
		}
		m := new(schedv1.Agenda)
		if err := proto.Unmarshal(b, m); err != nil {
			t.Fatal(err)
		}
		if got, err := AgendaOfWire(m); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, error %v; want %+v", got, err, want)
		}
	})
}

// answers is a plugin that always says the same.
type answers []byte

func (a answers) Call(context.Context, string, string, []byte) ([]byte, error) { return a, nil }
func (answers) Stream(context.Context, string, string, []byte, func([]byte) error) error {
	return nil
}

func TestGarbageIsAnInternalError(t *testing.T) {
	for name, m := range map[string]*schedv1.Agenda{
		"more answers than jobs": {Jobs: []uint32{1}, WhenBlocked: []byte{0, 0}},
		"unknown answer":         {Jobs: []uint32{1}, WhenBlocked: []byte{3}},
		"unknown default":        {Jobs: []uint32{1}, DefaultBlocked: 9},
		"too few expectations":   {RunningJobs: []uint32{1}},
		"details of no entry":    {Jobs: []uint32{1}, Extras: []*schedv1.Extra{{Position: 1}}},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := NewClient(answers(b)).Plan(t.Context(), 1, 1); errs.KindOf(err) != errs.Internal {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewClient(answers("\xff\xff")).Plan(t.Context(), 1, 1); errs.KindOf(err) != errs.Internal {
		t.Errorf("no message at all: %v", err)
	}
}

type everything struct{}

func (everything) Plan(_ context.Context, v View) (a Agenda, err error) {
	for j := range v.PendingByPriority() {
		a.Add(j.ID, Reserve)
	}
	return a, nil
}

// What the adapters alone cost, without a process between them.
func BenchmarkPlan100000(b *testing.B) {
	e := mirror.NewEncoder()
	c := mirror.Change{Rev: 1}
	for id := range 100000 {
		c.Jobs = append(c.Jobs, &mirror.Job{ID: wlm.JobID(id + 1), Ready: true, Priority: uint32(id)})
	}
	l := wirecall.NewLocal(Handler(everything{}))
	if err := l.PushState(e.Change(c)); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := NewClient(l).Plan(b.Context(), 1, 1); err != nil {
			b.Fatal(err)
		}
	}
}
