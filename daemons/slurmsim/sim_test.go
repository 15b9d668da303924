package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sluice-hpc/sluice/core/pluginhost"
	"github.com/sluice-hpc/sluice/core/sim"
	"github.com/sluice-hpc/sluice/sdk/plugin/plugintest"
	"github.com/sluice-hpc/sluice/sdk/priority"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/selector"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"pgregory.net/rapid"
)

// plugins are built once and found by all tests.
var plugins = sync.OnceValue(func() string {
	dir, err := os.MkdirTemp("", "simplugins")
	if err != nil {
		panic(err)
	}
	return dir
})

func TestMain(m *testing.M) {
	status := m.Run()
	os.RemoveAll(plugins()) //nolint:errcheck // temporary
	os.Exit(status)
}

// pluginDir builds the real plugins.
func pluginDir(t *testing.T) string {
	t.Helper()
	for _, p := range []string{"sched_builtin", "sched_backfill", "select_cons_tres", "priority_basic"} {
		to := filepath.Join(plugins(), p)
		if _, err := os.Stat(to); err == nil {
			continue
		}
		kind, name, _ := strings.Cut(p, "_")
		built := plugintest.Build(t, "../../plugins/"+kind+"/"+name, p)
		data, err := os.ReadFile(built)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return plugins()
}

// bench has the plugins of one policy running, for many simulations.
type bench struct {
	sched, sel, prio *pluginhost.Plugin
	runs             int
}

func newBench(t *testing.T, text string) *bench {
	t.Helper()
	p, err := readPolicy(text)
	if err != nil {
		t.Fatal(err)
	}
	host, err := pluginhost.New(pluginhost.Config{PluginDir: []string{pluginDir(t)}, RunDir: t.TempDir(), Cluster: "sim",
		HostName: "test", Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { host.Close(context.Background()) })
	b := &bench{}
	for _, x := range []struct {
		kind, name string
		options    []pluginhost.Option
		into       **pluginhost.Plugin
	}{{sched.Kind, p.plugin, p.options, &b.sched}, {selector.Kind, "cons_tres", nil, &b.sel}, {priority.Kind, "basic", nil, &b.prio}} {
		if *x.into, err = host.Start(t.Context(), pluginhost.Spec{Kind: x.kind, Name: x.name, Options: x.options}); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// run simulates with the running plugins. What they learned in a run before is
// kept from the next by ids and users that are never used again.
func (b *bench) run(t interface{ Fatal(...any) }, procs, nodes int, jobs []sim.Job) *sim.Result {
	const apart = 1000
	b.runs++
	c := uniform(procs, nodes)
	c.Settings.FirstJobID = wlm.JobID(b.runs * apart)
	jobs = slices.Clone(jobs)
	for i := range jobs {
		jobs[i].User += wlm.UID(b.runs * apart)
	}
	r, err := sim.Run(context.Background(), sim.Options{Workload: &sim.Workload{Jobs: jobs}, Configure: c,
		Settings: map[string]string{"SelectTypeParameters": "CR_Core"}, Sched: b.sched, Select: b.sel, Priority: b.prio, CheckEvery: 1,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// drawJobs draws a small workload; limits hold, and with exact they are met.
func drawJobs(t *rapid.T, procs int, exact bool) []sim.Job {
	jobs := make([]sim.Job, rapid.IntRange(1, 25).Draw(t, "jobs"))
	at := wlm.Time(0)
	for i := range jobs {
		at += wlm.Time(rapid.IntRange(0, 3).Draw(t, "pause")) * 37
		limit := rapid.IntRange(1, 8).Draw(t, "minutes")
		run := limit * 60
		if !exact {
			run = min(run, rapid.IntRange(1, 500).Draw(t, "run"))
		}
		jobs[i] = sim.Job{Number: int64(i + 1), Submit: at, Run: uint32(run), Limit: wlm.Minutes(limit),
			Procs: uint32(rapid.IntRange(1, procs).Draw(t, "procs")), User: wlm.UID(1000 + rapid.IntRange(0, 2).Draw(t, "user"))}
	}
	return jobs
}

func wantStarts(t interface {
	Helper()
	Fatalf(string, ...any)
}, r *sim.Result, want []int64) {
	t.Helper()
	for i := range r.Jobs {
		if got := int64(r.Jobs[i].Start); got != want[i] {
			t.Fatalf("job %d (%d processors, submitted at %d, runs %d of %d s) starts at %d, by the book at %d", r.Jobs[i].Number,
				r.Jobs[i].Procs, r.Jobs[i].Submit, r.Jobs[i].Run, r.Jobs[i].Limit, got, want[i])
		}
	}
}

// On any small cluster, the plugins start every job when the textbook does.
func TestEASYByTheBook(t *testing.T) {
	for name, book := range map[string]reference{"easy": {}, "easy-predict": {predict: true}, "easy-sjbf": {predict: true, shortest: true}} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, name)
			rapid.Check(t, func(t *rapid.T) {
				r := book
				r.procs = rapid.IntRange(1, 8).Draw(t, "processors")
				nodes := rapid.SampledFrom([]int{1, r.procs}).Draw(t, "nodes")
				r.jobs = drawJobs(t, r.procs, false)
				wantStarts(t, b.run(t, r.procs, nodes, r.jobs), r.starts())
			})
		})
	}
}

// Where all jobs are equally wide, conservative backfill starts every job when
// the book says. (Else processors have an identity that the book does not know:
// a later job cannot move from one to another at the edge of two reservations.)
func TestConservativeByTheBook(t *testing.T) {
	b := newBench(t, "conservative")
	rapid.Check(t, func(t *rapid.T) {
		width := rapid.IntRange(1, 3).Draw(t, "width")
		r := reference{procs: width * rapid.IntRange(1, 5).Draw(t, "jobs at once"), conservative: true}
		r.jobs = drawJobs(t, r.procs, false)
		for i := range r.jobs {
			r.jobs[i].Procs = uint32(width)
		}
		wantStarts(t, b.run(t, r.procs, rapid.SampledFrom([]int{1, r.procs}).Draw(t, "nodes"), r.jobs), r.starts())
	})
}

// While limits hold, the oldest job that waits starts at the latest when it was
// told, whatever starts before it and however much shorter others run.
func TestReservationsKeepTheirWord(t *testing.T) {
	for _, policy := range []string{"easy", "conservative", "backfill:mode=easy,reservations=3"} {
		t.Run(policy, func(t *testing.T) {
			b := newBench(t, policy)
			rapid.Check(t, func(t *rapid.T) {
				procs := rapid.IntRange(1, 8).Draw(t, "processors")
				got := b.run(t, procs, rapid.SampledFrom([]int{1, procs}).Draw(t, "nodes"), drawJobs(t, procs, false))
				for i := range got.Jobs {
					if j := &got.Jobs[i]; j.Promise >= 0 && j.Start > j.Promise {
						t.Fatalf("job %d was told %d and starts at %d", j.Number, j.Promise, j.Start)
					}
				}
			})
		})
	}
}

// builtin is strict: jobs start in the order in which they came.
func TestBuiltinKeepsTheOrder(t *testing.T) {
	b := newBench(t, "builtin")
	rapid.Check(t, func(t *rapid.T) {
		procs := rapid.IntRange(1, 8).Draw(t, "processors")
		got := b.run(t, procs, procs, drawJobs(t, procs, false))
		for i := 1; i < len(got.Jobs); i++ {
			if got.Jobs[i].Start < got.Jobs[i-1].Start {
				t.Fatalf("job %d starts at %d, before job %d at %d", i+1, got.Jobs[i].Start, i, got.Jobs[i-1].Start)
			}
		}
	})
}

// simulated runs the command and returns its JSON.
func simulated(t *testing.T, args ...string) (d document) {
	t.Helper()
	var out, errout bytes.Buffer
	f := &flags{}
	cmd := command(f)
	cmd.SetOut(&out)
	cmd.SetErr(&errout)
	cmd.SetArgs(append(args, "--json", "--plugin-dir", pluginDir(t)))
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, errout.String())
	}
	if err := json.Unmarshal(out.Bytes(), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// The first 2,000 jobs of the KTH-SP2 log under every policy, against the book.
func TestLoggedWorkload(t *testing.T) {
	file, err := os.Open("testdata/kth-sp2-2000.swf.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // only reads
	tr, err := sim.ReadTrace(file)
	if err != nil {
		t.Fatal(err)
	}
	procs := int(tr.HeaderInt("MaxProcs"))
	jobs := tr.Workload(sim.WorkOptions{Processors: procs}).Jobs
	for _, tc := range []struct {
		policy string
		book   reference
	}{
		{"easy", reference{}},
		{"easy-predict", reference{predict: true}},
		{"easy-sjbf", reference{predict: true, shortest: true}},
	} {
		t.Run(tc.policy, func(t *testing.T) {
			tc.book.procs, tc.book.jobs = procs, jobs
			r := newBench(t, tc.policy).run(t, procs, procs, jobs)
			wantStarts(t, r, tc.book.starts())
			if s := r.Summary(tc.policy); s.RefusedPlacement != 0 || s.Jobs != len(jobs) {
				t.Errorf("%d jobs, %d placements refused", s.Jobs, s.RefusedPlacement)
			}
		})
	}
}

// The same command gives the same schedule, whatever processes serve it.
func TestDeterministic(t *testing.T) {
	args := []string{"--synthetic", "jobs=400,load=1.1,users=9", "--seed", "7", "--processors", "96", "--nodes", "12",
		"--policy", "conservative", "--policy", "easy-sjbf"}
	strip := func(d document) document {
		for i := range d.Policies {
			p := &d.Policies[i].Summary
			p.PassMeanMicros, p.PassP50Micros, p.PassP99Micros, p.PassMaxMicros, p.WallSeconds, p.Speed = 0, 0, 0, 0, 0, 0
			p.SchedSeconds, p.SelectSeconds, p.PrioritySeconds = 0, 0, 0
		}
		return d
	}
	one, two := strip(simulated(t, args...)), strip(simulated(t, args...))
	if !reflect.DeepEqual(one, two) {
		t.Errorf("two runs differ:\n%+v\n%+v", one, two)
	}
}

// The published mean bounded slowdowns of whole logs, within a percent; see
// contrib/docs/guide/policies.md for where the logs are from.
func TestPublishedSlowdowns(t *testing.T) {
	dir := os.Getenv("SLUICE_TRACES")
	if dir == "" {
		t.Skip("SLUICE_TRACES does not name a directory with KTH-SP2.swf.gz and SDSC-SP2.swf.gz: contrib/docs/guide/policies.md tells where to get them")
	}
	for _, tc := range []struct {
		trace, policy string
		published     float64
		better        bool // less is as good
	}{
		{"KTH-SP2", "easy", 92.6, false}, {"SDSC-SP2", "easy", 87.9, false},
		{"KTH-SP2", "easy-predict", 65.7, true}, {"SDSC-SP2", "easy-predict", 79.2, true},
		{"KTH-SP2", "easy-sjbf", 62.9, true}, {"SDSC-SP2", "easy-sjbf", 65.1, true},
	} {
		t.Run(tc.trace+" "+tc.policy, func(t *testing.T) {
			d := simulated(t, "--trace", filepath.Join(dir, tc.trace+".swf.gz"), "--policy", tc.policy)
			got := d.Policies[0].MeanBoundedSlowdown
			t.Logf("%.2f, published %.1f, at %.0f times real time", got, tc.published, d.Policies[0].Speed)
			const within = 0.01
			if off := (got - tc.published) / tc.published; off > within || !tc.better && math.Abs(off) > within {
				t.Errorf("mean bounded slowdown %.2f, published %.1f", got, tc.published)
			}
		})
	}
}

// A wrong command line is told in one line that names what is wrong.
func TestBadInput(t *testing.T) {
	for _, tc := range []struct{ args, want string }{
		{"", "--trace FILE or --synthetic jobs=N is wanted"},
		{"--trace nosuch.swf", "no such file"},
		{"--trace sim_test.go --processors 4", "line 1"},
		{"--synthetic jobs=4", "--processors N or --conf FILE is wanted"},
		{"--synthetic jobs=x --processors 4", `--synthetic: jobs="x" is not a number`},
		{"--synthetic jobs=4,lod=3 --processors 4", `--synthetic: "lod" is not known`},
		{"--synthetic jobs=4 --processors 4 --nodes 5", "--nodes 5: 1 to 4 are possible"},
		{"--synthetic jobs=4 --processors 4 --policy easy:mode", `option "mode" is not option=value`},
		{"--synthetic jobs=4 --processors 4 --policy nosuch", "nosuch"},
		{"--synthetic jobs=4 --processors 4 --policy easy:color=red", "color"},
		{"--synthetic jobs=4 --processors 4 --faults mtbf=1h", "mtbf=TIME and mttr=TIME are wanted"},
		{"--synthetic jobs=4 --processors 4 --faults mtbf=x,mttr=1h", `mtbf: "x" is not a time`},
		{"--synthetic jobs=4 --processors 4 --faults nosuch", "no such file"},
		{"--synthetic jobs=4 --processors 4 --plugin sched=x", "kind/name=path is wanted"},
	} {
		t.Run(tc.args, func(t *testing.T) {
			f := &flags{}
			cmd := command(f)
			cmd.SetOut(io.Discard)
			cmd.SetErr(io.Discard)
			cmd.SetArgs(append(strings.Fields(tc.args), "--plugin-dir", pluginDir(t)))
			err := cmd.ExecuteContext(t.Context())
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// Every form of the results is written, and tells of every job.
func TestReports(t *testing.T) {
	dir := t.TempDir()
	simulated(t, "--synthetic", "jobs=50", "--processors", "16", "--policy", "easy", "--policy", "builtin", "--out", dir)
	for name, want := range map[string]int{"summary.json": 20, "summary.csv": 3, "jobs-easy.csv": 51, "jobs-builtin.csv": 51,
		"users-easy.csv": 2, "plot.svg": 50, "report.html": 50} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
		} else if n := bytes.Count(data, []byte("\n")); n < want {
			t.Errorf("%s has %d lines, at least %d are wanted", name, n, want)
		}
	}
}
