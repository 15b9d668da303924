package mirror

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"runtime"
	"slices"
	"testing"
	"unsafe"

	"github.com/sluice-hpc/sluice/sdk/proto/mirror/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

// model is the cluster kept the simple way.
type model struct {
	nodes    []Node
	parts    []Partition
	jobs     map[wlm.JobID]*Job
	settings map[string]string
}

func (w *model) all(rev uint64) Change {
	return Change{Rev: rev, Nodes: w.nodes, Partitions: w.parts, Settings: w.settings,
		Jobs: slices.Collect(maps.Values(w.jobs))}
}

// step draws a change, makes it in the model and returns it.
func (w *model) step(t *rapid.T, e *Encoder) Change {
	c := Change{Rev: e.Rev() + 1 + uint64(rapid.IntRange(0, 3).Draw(t, "gap"))}
	if len(w.nodes) == 0 || rapid.IntRange(0, 9).Draw(t, "node change") == 0 {
		i := rapid.IntRange(0, len(w.nodes)).Draw(t, "node")
		n := Node{Index: wlm.NodeIndex(i), Name: wlm.NodeName(fmt.Sprint("n", i)), CPUs: rapid.IntRange(1, 300).Draw(t, "cpus"),
			Features: []string{"a", "b"}, SpecCPUs: wlm.CPUSet{3}}
		w.nodes = append(w.nodes[:i:i], append([]Node{n}, w.nodes[min(i+1, len(w.nodes)):]...)...)
		c.Nodes = []Node{n}
	}
	if len(w.parts) == 0 || rapid.IntRange(0, 9).Draw(t, "partition change") == 0 {
		w.parts = nil
		for i := range rapid.IntRange(1, 3).Draw(t, "partitions") {
			w.parts = append(w.parts, Partition{Index: i, Name: fmt.Sprint("p", i), Tier: rapid.Uint32Range(0, 2).Draw(t, "tier"),
				Nodes: []wlm.NodeIndex{0}})
		}
		c.Partitions = w.parts
	}
	touched := map[wlm.JobID]bool{}
	for range rapid.IntRange(0, 20).Draw(t, "jobs") {
		id := wlm.JobID(rapid.IntRange(1, 60).Draw(t, "id"))
		if touched[id] {
			continue
		}
		touched[id] = true
		switch rapid.IntRange(0, 3).Draw(t, "what") {
		case 0:
			c.Gone = append(c.Gone, id)
			delete(w.jobs, id)
		case 1:
			p := rapid.Uint32Range(0, 5).Draw(t, "rank")
			c.Ranks = append(c.Ranks, Rank{id, p})
			if j := w.jobs[id]; j != nil {
				k := *j
				k.Priority, k.Ranked = p, true
				w.jobs[id] = &k
			}
		default:
			w.jobs[id] = drawJob(t, id, e)
			c.Jobs = append(c.Jobs, w.jobs[id])
		}
	}
	return c
}

func drawJob(t *rapid.T, id wlm.JobID, e *Encoder) *Job {
	j := &Job{ID: id, Priority: rapid.Uint32Range(0, 5).Draw(t, "priority"), Submit: wlm.Time(rapid.IntRange(0, 5).Draw(t, "submit")),
		Account: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "account"), Tasks: 1, Nice: -3}
	j.Class = e.Class(Class{MinNodes: rapid.Uint32Range(1, 4).Draw(t, "nodes"), Features: "x",
		Partitions: []int{rapid.IntRange(0, 2).Draw(t, "partition")}, Counters: []CounterUse{{Counter: 1, Amount: 2}}})
	if j.Running = rapid.Bool().Draw(t, "running"); j.Running {
		j.Start, j.End = 5, 50
		j.Uses = []NodeUse{{Node: 1, CPUs: wlm.CPUSet{7, 1}, Mem: 100}, {Node: 2, Whole: true}}
	} else {
		j.Ready = rapid.Bool().Draw(t, "ready")
	}
	return j
}

// same compares a mirror with the model by everything that a View shows.
func (w *model) same(t *rapid.T, m *Mirror) {
	v := m.View(0)
	plain := func(j *Job) Job {
		k := *j
		class := *j.Class
		class.ID = 0 // a snapshot may carry another number
		k.Class, k.rev, k.tier, k.gone = &class, 0, 0, false
		return k
	}
	got := map[wlm.JobID]Job{}
	for j := range v.Running() {
		got[j.ID] = plain(j)
	}
	for j := range v.Pending() {
		got[j.ID] = plain(j)
	}
	want := map[wlm.JobID]Job{}
	var ready []*Job
	for id, j := range w.jobs {
		want[id] = plain(j)
		if j.Ready {
			ready = append(ready, j)
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("jobs: got %v, want %v", got, want)
	}
	if !reflect.DeepEqual(v.Nodes, w.nodes) || !reflect.DeepEqual(v.Partitions, w.parts) {
		t.Fatalf("tables: got %v %v, want %v %v", v.Nodes, v.Partitions, w.nodes, w.parts)
	}
	tier := func(j *Job) (n uint32) {
		for _, p := range j.Class.Partitions {
			if p < len(w.parts) {
				n = max(n, w.parts[p].Tier)
			}
		}
		return n
	}
	bySubmit := func(a, b *Job) int { return cmp.Or(cmp.Compare(a.Submit, b.Submit), cmp.Compare(a.ID, b.ID)) }
	ids := func(jobs []*Job) (out []wlm.JobID) {
		for _, j := range jobs {
			out = append(out, j.ID)
		}
		return out
	}
	slices.SortFunc(ready, bySubmit)
	if got, want := ids(slices.Collect(v.PendingBySubmit())), ids(ready); !slices.Equal(got, want) {
		t.Fatalf("by submission: got %v, want %v", got, want)
	}
	slices.SortFunc(ready, func(a, b *Job) int {
		return cmp.Or(cmp.Compare(tier(b), tier(a)), cmp.Compare(b.Priority, a.Priority), bySubmit(a, b))
	})
	if got, want := ids(slices.Collect(v.PendingByPriority())), ids(ready); !slices.Equal(got, want) {
		t.Fatalf("by priority: got %v, want %v", got, want)
	}
}

func apply(m *Mirror, frames [][]byte) error {
	for _, b := range frames {
		if _, err := m.ApplyBytes(b); err != nil {
			return err
		}
	}
	return nil
}

// Whatever the changes, a mirror that followed them and one that got a
// snapshot both show what the model holds.
func TestMirrorFollows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &model{jobs: map[wlm.JobID]*Job{}}
		e, m := NewEncoder(), new(Mirror)
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			if err := apply(m, e.Change(w.step(t, e))); err != nil {
				t.Fatal(err)
			}
			if rapid.Bool().Draw(t, "look") { // a line that nobody reads gathers changes
				w.same(t, m)
			}
			if rapid.IntRange(0, 4).Draw(t, "snapshot") == 0 {
				m = new(Mirror)
				if err := apply(m, e.Snapshot(w.all(e.Rev()))); err != nil {
					t.Fatal(err)
				}
			}
		}
		w.same(t, m)
		if m.Rev() != e.Rev() {
			t.Fatalf("rev %d, want %d", m.Rev(), e.Rev())
		}
	})
}

// A mirror that misses a frame notices at the next one, by base or, when that
// is left out, by digest; a snapshot heals it.
func TestDroppedFrameIsNoticed(t *testing.T) {
	for _, byDigest := range []bool{false, true} {
		e, m := NewEncoder(), new(Mirror)
		job := func(id wlm.JobID) *Job { return &Job{ID: id, Ready: true, Class: e.Class(Class{MinNodes: 1})} }
		if err := apply(m, e.Change(Change{Rev: 1, Jobs: []*Job{job(1)}})); err != nil {
			t.Fatal(err)
		}
		e.Change(Change{Rev: 2, Jobs: []*Job{job(2)}}) // lost on the way
		frames := e.Change(Change{Rev: 3, Jobs: []*Job{job(3)}})
		if byDigest {
			f := new(mirrorv1.Frame)
			if err := proto.Unmarshal(frames[0], f); err != nil {
				t.Fatal(err)
			}
			f.Base = nil
			frames[0], _ = proto.Marshal(f)
		}
		if err := apply(m, frames); !errors.Is(err, ErrLost) {
			t.Fatalf("by digest %v: got %v, want ErrLost", byDigest, err)
		}
		if err := apply(m, e.Change(Change{Rev: 4, Gone: []wlm.JobID{1}})); err != nil || !m.Lost() {
			t.Fatalf("a lost mirror answered %v to a change, want silence", err)
		}
		if err := apply(m, e.Snapshot(Change{Rev: 4, Jobs: []*Job{job(2), job(3)}})); err != nil || m.Lost() {
			t.Fatalf("snapshot: %v, lost %v", err, m.Lost())
		}
		if n := len(slices.Collect(m.View(0).PendingBySubmit())); n != 2 {
			t.Errorf("%d jobs after the snapshot, want 2", n)
		}
	}
}

// A view stays as it is until the last piece of a change or snapshot is there.
func TestPiecesShowTogether(t *testing.T) {
	e, m := NewEncoder(), new(Mirror)
	c := Change{Rev: 1}
	for id := range 5000 {
		c.Jobs = append(c.Jobs, &Job{ID: wlm.JobID(id + 1), Ready: true, Class: e.Class(Class{})})
	}
	change := e.Change(c)
	for name, frames := range map[string][][]byte{"change": change, "snapshot": e.Snapshot(c)} {
		m = new(Mirror)
		if len(frames) < 3 {
			t.Fatalf("%s of 5000 jobs is %d frames, want at least 3", name, len(frames))
		}
		for i, b := range frames {
			if len(b) > 512<<10 {
				t.Errorf("%s: frame of %d bytes", name, len(b))
			}
			done, err := m.ApplyBytes(b)
			want := 0
			if i == len(frames)-1 {
				want = 5000
			}
			if n := len(slices.Collect(m.View(0).Pending())); err != nil || n != want || done != (want > 0) {
				t.Fatalf("%s, after piece %d: %d jobs, done %v, error %v; want %d jobs", name, i, n, done, err, want)
			}
		}
	}
	if _, err := new(Mirror).ApplyBytes(change[1]); !errors.Is(err, ErrLost) {
		t.Errorf("a change without its first piece: %v, want ErrLost", err)
	}
}

func TestBadTextIsMended(t *testing.T) {
	e, m := NewEncoder(), new(Mirror)
	bad := "a\xff"
	err := apply(m, e.Change(Change{Rev: 1, Nodes: []Node{{Name: wlm.NodeName(bad), Features: []string{"ok", bad, bad}}},
		Settings: map[string]string{bad: bad}, Jobs: []*Job{{ID: 1, Account: bad, Class: e.Class(Class{Features: bad})}}}))
	if err != nil {
		t.Fatal(err)
	}
	if got := m.View(0).Nodes[0].Features[2]; got != "a\uFFFD" {
		t.Errorf("feature %q", got)
	}
}

func FuzzApply(f *testing.F) {
	e := NewEncoder()
	for _, b := range e.Change(Change{Rev: 1, Nodes: []Node{{Name: "n"}}, Jobs: []*Job{{ID: 1, Ready: true, Class: e.Class(Class{MinNodes: 2})}}}) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := Build(nil, nil, nil, []*Job{{ID: 1, Ready: true}}, nil)
		if _, err := m.ApplyBytes(b); err == nil && !m.Lost() {
			for range m.View(0).PendingByPriority() {
			}
		}
	})
}

func manyJobs(e *Encoder, n int) []*Job {
	jobs := make([]*Job, n)
	for i := range jobs {
		jobs[i] = &Job{ID: wlm.JobID(i + 1), Ready: true, Priority: uint32(i * 7919 % n), Submit: wlm.Time(i), User: wlm.UID(i % 50),
			Account: "physics", QOS: "normal", Limit: 3600, Tasks: 1, Class: e.Class(Class{MinNodes: uint32(i % 40)})}
	}
	return jobs
}

func TestMemoryPerJob(t *testing.T) {
	const n = 50000
	e := NewEncoder()
	frames := e.Change(Change{Rev: 1, Jobs: manyJobs(e, n)})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	m := new(Mirror)
	if err := apply(m, frames); err != nil {
		t.Fatal(err)
	}
	for range m.View(0).PendingByPriority() {
	}
	for range m.View(0).PendingBySubmit() {
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	per := (after.HeapAlloc - before.HeapAlloc) / n
	t.Logf("%d bytes a job", per)
	if per > 300 {
		t.Errorf("%d bytes a job, want at most 300", per)
	}
	runtime.KeepAlive(m)
}

func BenchmarkSnapshot(b *testing.B) {
	e := NewEncoder()
	c := Change{Rev: 1, Jobs: manyJobs(e, 100000)}
	e.Change(c)
	b.Run("encode", func(b *testing.B) {
		for b.Loop() {
			e.Snapshot(c)
		}
	})
	frames := e.Snapshot(c)
	b.Run("apply", func(b *testing.B) {
		for b.Loop() {
			if err := apply(new(Mirror), frames); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// A pass in which 50 of 100,000 jobs changed.
func BenchmarkPass(b *testing.B) {
	e, m := NewEncoder(), new(Mirror)
	jobs := manyJobs(e, 100000)
	if err := apply(m, e.Change(Change{Rev: 1, Jobs: jobs})); err != nil {
		b.Fatal(err)
	}
	rev := uint64(1)
	for b.Loop() {
		rev++
		c := Change{Rev: rev}
		for i := range 50 {
			j := *jobs[(int(rev)*50+i)%len(jobs)]
			j.Priority++
			c.Jobs = append(c.Jobs, &j)
		}
		if err := apply(m, e.Change(c)); err != nil {
			b.Fatal(err)
		}
		n := 0
		for range m.View(0).PendingByPriority() {
			n++
		}
		if n != len(jobs) {
			b.Fatal(n)
		}
	}
}

// Lines that nobody reads do not keep the jobs that went through them.
func TestUnreadLinesForget(t *testing.T) {
	s := newState()
	const jobs, waiting = 50_000, 100
	for i := range jobs {
		s.put(&Job{ID: wlm.JobID(i + 1), Class: s.classes[0], Ready: true, Priority: uint32(i % 7)})
		if i >= waiting {
			s.drop(wlm.JobID(i + 1 - waiting))
		}
	}
	for _, l := range []*line{s.submit, s.priority} {
		if n := len(l.added) + len(l.sorted) + len(l.removed); n > 5000 {
			t.Errorf("an unread line keeps %d jobs of which %d wait", n, waiting)
		}
		n := 0
		for j := range l.all() {
			if n++; j.gone {
				t.Errorf("job %d is gone and in line", j.ID)
			}
		}
		if n != waiting {
			t.Errorf("%d jobs in line, want %d", n, waiting)
		}
	}
	if n := len(s.index); n > 2 {
		t.Errorf("%d pages for %d jobs", n, waiting)
	}
}

// Plugins hold every job of a long queue: a field in the wrong place costs each of
// them the gap before it, and the next size of the allocator.
func TestJobIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(Job{}); n > 192 {
		t.Errorf("a job has %d bytes: order the fields so that they leave no gaps", n)
	}
}
