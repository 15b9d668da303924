package cluster

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/wire"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

// line draws a line of a dialogue; most make sense at some moment.
func line(t *rapid.T) string {
	pick := func(label string, from ...string) string { return rapid.SampledFrom(from).Draw(t, label) }
	job := fmt.Sprint(rapid.IntRange(1, 12).Draw(t, "job"))
	node := pick("node", "n1", "n2", "n3", "n4", "n9")
	run := fmt.Sprintf(" run=%d", rapid.IntRange(0, 2).Draw(t, "run"))
	switch rapid.IntRange(0, 23).Draw(t, "what") {
	case 0, 1, 2:
		return "submit" + pick("size", "", "", " nodes=2 ntasks=2", " ntasks=3", " array=0-3%2", " array=1-2", " mem=300", " nodes=9", " cpt=9") +
			pick("time", "", " time=1", " deadline=90", " begin=30") + pick("dep", "", "", " dependency=afterok:"+job, " dependency=afterany:"+job,
			" dependency=afternotok:"+job, " dependency=singleton", " dependency=after:"+job+"+1") +
			pick("how", "", " hold=yes", " requeue=no", " partition=high", " partition=main,high", " kind=alloc", " nokill=yes") + pick("name", "", " name=s") + pick("key", "", "", " key=k"+job)
	case 3, 4, 5:
		return "rank " + job + " prio=" + job
	case 6, 7, 8:
		return "place " + job + pick("partition", "", "", " partition=high") + pick("victims", "", "", " victims=1", " victims=2", " victims=1,2", " victims="+job) + " " + pick("where", "n1:0", "n1:1:200", "n2:0", "n2:0-3:500", "n3:1", "n1:0 n2:1", "n2:2 n3:2", "n1:0-3 n2:0-3 n3:0-3")
	case 9:
		return "report step-start " + job + pick("step", "", " 0", " 1") + " on=" + node
	case 10, 11:
		return "report step-end " + job + pick("step", "", "", " 0") + pick("clean", "", " clean=yes") + pick("exit", "", " exit=3") + " on=" + node + run
	case 12, 13:
		return "report gone " + job + " on=" + node + run + pick("unkillable", "", "", " unkillable=yes")
	case 14:
		return "report launch-failed " + job + " on=" + node + run + pick("drain", "", " drain=yes")
	case 15:
		return "cancel " + job + pick("part", "", "", "_1", "_[0-2]", " "+job) + pick("signal", "", "", " signal=10")
	case 16:
		return pick("verb", "hold", "release", "requeue", "requeuehold", "suspend", "resume") + " " + job + pick("part", "", "", "_1") + pick("user", "", " user=0")
	case 17:
		return "set " + job + " " + pick("key", "timelimit=2", "name=s", "comment=c", "numnodes=2", "dependency=afterok:1", "nosuch=1", "priority=7") + pick("user", "", " user=0")
	case 18:
		return pick("verb", "lose ", "quiet ", "register ") + node
	case 19:
		return "register " + node + " jobs=" + job + ":0 boot=" + pick("boot", "1000", "5000")
	case 20:
		return "node " + node + " " + pick("state", "state=resume", "state=drain reason=x", "state=down reason=x", "weight=3") + " user=0"
	case 21:
		return pick("verb", "complete "+job+" exit=1", "begin epoch=3", "forget n3", "nodes n4", "configure", "nodes n3")
	case 22:
		return "awaken"
	}
	return "tick " + pick("by", "1s", "30s", "60s", "400s")
}

// garbage draws placements that no sane selector makes.
func garbage(t *rapid.T) *Start {
	s := &Start{}
	for range rapid.IntRange(0, 3).Draw(t, "placements") {
		p := Placement{Job: wlm.JobID(rapid.IntRange(0, 12).Draw(t, "job")), Partition: rapid.SampledFrom([]string{"main", "", "other"}).Draw(t, "partition")}
		for range rapid.IntRange(0, 4).Draw(t, "nodes") {
			p.Nodes = append(p.Nodes, wlm.NodeAlloc{
				Node: wlm.NodeName(rapid.SampledFrom([]string{"n1", "n2", "n3", "n4", ""}).Draw(t, "node")),
				CPUs: rapid.SliceOfN(rapid.SampledFrom([]uint64{0, 1, 2, 3, 15, 16, 1 << 63}), 0, 2).Draw(t, "cpus"),
				Mem:  wlm.MiB(rapid.SampledFrom([]uint64{0, 1, 600, 1000, 1 << 63, ^uint64(0)}).Draw(t, "mem")),
			})
		}
		s.Placements = append(s.Placements, p)
	}
	return s
}

// dump is everything that two equal clusters have in common, as text.
func dump(t *rapid.T, c *Cluster) string {
	var b strings.Builder
	put := func(what string, m proto.Message) {
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %x\n", what, data)
	}
	fmt.Fprintln(&b, c.over, c.NextJob, c.Epoch, c.records.next, c.records.acked, c.running, c.arrayRun, c.named, c.singles, c.waiting, c.arrays)
	for i, n := range c.Nodes {
		put("node "+string(n.Name), wire.NodeToWire(n))
		u := c.Usage[i]
		fmt.Fprintln(&b, u.CPUs.Count(), u.Mem, len(u.Jobs), u.Completing)
	}
	for _, p := range c.Partitions {
		put("partition", wire.PartitionToWire(p))
	}
	var ids []wlm.JobID
	for id := range c.jobs {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		j := c.jobs[id].Clone()
		if d, ok := c.derived[id]; ok {
			j.Derived = d // a snapshot keeps it there
		}
		put("job "+id.String()+" "+wlm.StateFull(j.State, j.Flags), wire.JobToWire(j))
		steps := c.Steps(id)
		slices.SortFunc(steps, func(a, b *wlm.Step) int { return int(int64(a.ID) - int64(b.ID)) })
		for _, s := range steps {
			put("step "+s.ID.String(), wire.StepToWire(s))
		}
	}
	for k, blob := range c.blobs {
		fmt.Fprintf(&b, "blob %x %d\n", k, blob.refs)
	}
	fmt.Fprintln(&b, c.keys)
	for _, r := range c.records.queue {
		put(fmt.Sprint("record ", r.Number, " ", r.Event), r.Event.ToWire(true))
	}
	return b.String()
}

// same fails with the first line in which two dumps differ.
func same(t *rapid.T, what, want, got string) {
	t.Helper()
	if want == got {
		return
	}
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			t.Fatalf("%s:\nwant %s\ngot  %s", what, w[i], g[i])
		}
	}
	t.Fatalf("%s: %d lines, want %d", what, len(g), len(w))
}

// overWire is an event as the journal keeps it.
func overWire(t *rapid.T, e *Event) *Event {
	data, err := proto.Marshal(e.ToWire(e.Kind == eventv1.Kind_JOB_SUBMITTED))
	if err != nil {
		t.Fatal(err)
	}
	m := new(eventv1.Event)
	if err := proto.Unmarshal(data, m); err != nil {
		t.Fatal(err)
	}
	return EventOfWire(m)
}

// later is what a cluster does when much time passes: its timers, in effect.
// Those are hints, and one cluster may have spent a hint that the other still
// has: looking at a job once more must change nothing.
func later(c *Cluster, now wlm.Time) []string {
	var out []string
	for _, by := range []wlm.Time{50, 5000} {
		if _, err := c.Apply(&Tick{}, now+by); err != nil {
			return []string{err.Error()}
		}
		for _, e := range c.TakeTurn() {
			out = append(out, fmt.Sprint(by, " ", e))
		}
	}
	slices.Sort(out)
	return out
}

// Whatever is asked, in whatever order: the invariants hold, a refusal changes
// nothing, and journal and snapshot give the same cluster again.
func TestAnyCommandsKeepTheTruth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := newDialogue()
		again := New(d.cfg.Settings)
		d.heard = func(events []*Event) {
			for _, e := range events {
				if err := again.Replay(overWire(t, e)); err != nil {
					t.Fatalf("replay of %s: %v", e, err)
				}
			}
		}
		how := rapid.SampledFrom([]string{"", "settings preempt=CANCEL", "settings preempt=REQUEUE delay=20", "settings preempt=SUSPEND", "settings preempt=REQUEUE exempt=20"}).Draw(t, "preemption")
		grace := rapid.SampledFrom([]string{"", " grace=10"}).Draw(t, "grace")
		if how != "" {
			d.say(how)
		}
		for _, l := range []string{"partition high nodes=n[1-4] tier=2", "partition main nodes=n[1-4] default=yes" + grace, "nodes n[1-3]", "configure", "register n1", "register n2", "register n3"} {
			d.say(l)
		}
		for range rapid.IntRange(1, 60).Draw(t, "lines") {
			before := ""
			if rapid.IntRange(0, 9).Draw(t, "garbage") == 0 {
				if _, err := d.c.Apply(garbage(t), d.now); err != nil {
					t.Fatal(err)
				}
				d.events()
			} else {
				before = dump(t, d.c)
				l := line(t)
				answer := d.say(l)
				t.Log(l, "->", answer)
				if strings.Contains(answer, "BROKEN") {
					t.Fatal(answer)
				}
				if strings.HasPrefix(answer, "error:") {
					same(t, "an error changed something", before, dump(t, d.c))
				}
			}
			if err := d.c.Check(); err != nil {
				t.Fatal(err)
			}
		}
		want := dump(t, d.c)
		same(t, "replay", want, dump(t, again))
		restored := New(d.cfg.Settings)
		for part := range d.c.Image().Parts {
			if err := restored.Restore(part); err != nil {
				t.Fatal(err)
			}
		}
		same(t, "snapshot", want, dump(t, restored))
		again.settings = d.c.settings
		what := later(d.c, d.now)
		for name, c := range map[string]*Cluster{"replayed": again, "restored": restored} {
			if got := later(c, d.now); !slices.Equal(got, what) {
				t.Fatalf("%s cluster, later: %q, want %q", name, got, what)
			}
		}
	})
}
