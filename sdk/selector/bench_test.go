package selector

import (
	"testing"

	"github.com/sluice-hpc/sluice/sdk/proto/selector/v1"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"google.golang.org/protobuf/proto"
)

// What coding one pass of 100,000 jobs costs: the question at both ends, and the
// answer at both ends.
func BenchmarkCode(b *testing.B) {
	const jobs = 100_000
	a, r := sched.Agenda{Reservations: 1}, Result{Verdicts: make([]Verdict, 2)}
	for i := range wlm.JobID(jobs) {
		a.Add(10_000+i, sched.Reserve)
		r.Verdicts[i%2].Jobs = append(r.Verdicts[i%2].Jobs, 10_000+i)
	}
	in, out := &selectorv1.PlaceRequest{Agenda: sched.AgendaToWire(&a)}, resultToWire(&r)
	for name, step := range map[string]func() error{
		"agenda to wire": func() error { sched.AgendaToWire(&a); return nil },
		"agenda marshal": func() error { _, err := proto.Marshal(in); return err },
		"agenda unmarshal": func() error {
			b, _ := proto.Marshal(in)
			return proto.Unmarshal(b, new(selectorv1.PlaceRequest))
		},
		"agenda of wire": func() error { _, err := sched.AgendaInto(a.Entries, in.Agenda); return err },
		"result to wire": func() error { resultToWire(&r); return nil },
		"result marshal": func() error { _, err := proto.Marshal(out); return err },
		"result unmarshal": func() error {
			b, _ := proto.Marshal(out)
			return proto.Unmarshal(b, new(selectorv1.PlaceReply))
		},
		"result of wire": func() error { resultOfWire(out); return nil },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := step(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
