package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/sluice-hpc/sluice/core/pluginhost"
	"github.com/sluice-hpc/sluice/core/sim"
	"github.com/sluice-hpc/sluice/core/sim/chart"
	"github.com/sluice-hpc/sluice/sdk/priority"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/selector"
	"golang.org/x/term"
)

// simulation is what the command line asked for.
type simulation struct {
	f        *flags
	machine  *machine
	trace    *sim.Trace
	work     *sim.Workload
	policies []policy
	paths    map[string]string
	log      *slog.Logger
	stderr   io.Writer
	bar      bool
	faults   *sim.Faults
	maxSteps int               // see sim.Options
	rss      map[string]uint64 // memory of the last replay's plugins by kind, bytes
}

// simulate replays the workload under each policy and reports.
func simulate(ctx context.Context, f *flags, stdout, stderr io.Writer) error {
	s, err := prepare(f, stderr)
	if err != nil {
		return err
	}
	if f.cpuProfile != "" {
		file, err := os.Create(f.cpuProfile)
		if err != nil {
			return err
		}
		defer file.Close() //nolint:errcheck // a profile that is cut shows
		if err := pprof.StartCPUProfile(file); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	var results []*sim.Result
	var sums []sim.Summary
	for _, p := range s.policies {
		r, err := s.replay(ctx, p)
		if err != nil {
			return fmt.Errorf("policy %s: %w", p.name, err)
		}
		results, sums = append(results, r), append(sums, r.Summary(p.name))
	}
	return s.report(results, sums, stdout)
}

func prepare(f *flags, stderr io.Writer) (*simulation, error) {
	s := &simulation{f: f, stderr: stderr}
	if e, ok := stderr.(*os.File); ok && !f.quiet {
		s.bar = term.IsTerminal(int(e.Fd()))
	}
	level := slog.LevelWarn - slog.Level(4*f.verbose)
	s.log = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
	var err error
	empty := &sim.Trace{}
	if f.synthetic != "" { // the machine decides how much work there is
		if s.machine, err = readMachine(f, empty); err != nil {
			return nil, err
		}
		f.processors = s.machine.cpus
	}
	if s.trace, err = readWorkload(f, os.Stdin); err != nil {
		return nil, err
	}
	if s.machine == nil {
		if s.machine, err = readMachine(f, s.trace); err != nil {
			return nil, err
		}
	}
	if f.writeTrace != "" {
		if err := writeFile(f.writeTrace, s.trace.Write); err != nil {
			return nil, fmt.Errorf("--write-trace: %w", err)
		}
	}
	s.work = s.trace.Workload(sim.WorkOptions{Processors: s.machine.cpus, Jobs: f.jobs, Exact: f.exact,
		Memory: s.machine.configure.Settings.TrackMemory})
	if len(s.trace.Jobs) == 0 {
		return nil, fmt.Errorf("--trace %s: there is no job in it", f.trace)
	}
	if len(s.work.Jobs) == 0 {
		return nil, fmt.Errorf("the workload has no job for this machine (%d lines)", len(s.trace.Jobs))
	}
	if s.faults, err = readFaults(f); err != nil {
		return nil, err
	}
	s.policies, s.paths, err = choosePolicies(f, s.machine.cfg)
	return s, err
}

// replay runs the workload under one policy, with plugins started for it.
func (s *simulation) replay(ctx context.Context, p policy) (*sim.Result, error) {
	dir, err := os.MkdirTemp("", "slurmsim")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // sockets
	host, err := pluginhost.New(pluginhost.Config{PluginDir: s.pluginDir(), RunDir: dir, Cluster: "sim", HostName: "slurmsim", Log: s.log})
	if err != nil {
		return nil, err
	}
	defer func() {
		const patience = 3 * time.Second
		c, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		host.Close(c)
	}()
	start := func(kind, name, path string, contract uint32, options []pluginhost.Option) (*pluginhost.Plugin, error) {
		return host.Start(ctx, pluginhost.Spec{Kind: kind, Name: name, Path: path, Contracts: []uint32{contract}, Options: options,
			Timeout: 10 * time.Minute}) // no node waits for the answer
	}
	o := sim.Options{Workload: s.work, Faults: s.faults, Configure: s.machine.configure, Settings: s.machine.settings, CheckEvery: s.f.checkEvery, Log: s.log}
	if s.machine.cfg != nil {
		o.Age = s.machine.cfg.PriorityCalcPeriod
	}
	if t := s.trace.HeaderInt("UnixStartTime"); t > 0 {
		o.Begin = time.Unix(t, 0)
	}
	if o.Sched, err = start(sched.Kind, p.plugin, p.path, sched.Contract, p.options); err != nil {
		return nil, err
	}
	name, options := s.plugin(selector.Kind, s.f.selector, "cons_tres")
	if o.Select, err = start(selector.Kind, name, s.paths[selector.Kind+"/"+name], selector.Contract, options); err != nil {
		return nil, err
	}
	name, options = s.plugin(priority.Kind, s.f.priority, "basic")
	if o.Priority, err = start(priority.Kind, name, s.paths[priority.Kind+"/"+name], priority.Contract, options); err != nil {
		return nil, err
	}
	if s.bar {
		o.Progress = s.progress(p.name)
		defer fmt.Fprint(s.stderr, "\r\x1b[K") //nolint:errcheck // a terminal
	}
	o.MaxSteps = s.maxSteps
	r, err := sim.Run(ctx, o)
	s.rss = map[string]uint64{}
	for _, i := range host.Info() {
		s.rss[i.GetKind()] = i.GetRss()
	}
	return r, err
}

// plugin is the name of a kind's plugin and its options: the flag's, one that
// --plugin names, the configuration's, or the usual one.
func (s *simulation) plugin(kind, flag, usual string) (name string, options []pluginhost.Option) {
	name = usual
	if cfg := s.machine.cfg; cfg != nil {
		full := map[string]string{selector.Kind: cfg.SelectType, priority.Kind: cfg.PriorityType}[kind]
		if n, ok := strings.CutPrefix(full, kind+"/"); ok {
			name = n
		}
		for option, o := range cfg.PluginOptions[full] {
			options = append(options, pluginhost.Option{Name: option, Value: o.Value, Origin: o.Origin})
		}
	}
	for title := range s.paths {
		if n, ok := strings.CutPrefix(title, kind+"/"); ok {
			name, options = n, nil
		}
	}
	if flag != "" {
		name, options = strings.TrimPrefix(flag, kind+"/"), nil
	}
	return name, options
}

func (s *simulation) pluginDir() []string {
	if s.f.pluginDir != "" {
		return filepath.SplitList(s.f.pluginDir)
	}
	if s.machine.cfg != nil {
		return filepath.SplitList(s.machine.cfg.PluginDir)
	}
	exe, err := os.Executable()
	if err != nil {
		return nil
	}
	if real, err := filepath.EvalSymlinks(exe); err == nil {
		exe = real
	}
	return []string{filepath.Join(filepath.Dir(filepath.Dir(exe)), "libexec", "sluice")}
}

// progress draws a bar on a terminal, ten times a second at most.
func (s *simulation) progress(name string) func(ended, jobs int, now time.Time) {
	const width, every = 30, 100 * time.Millisecond
	begin, drawn := time.Now(), time.Time{}
	return func(ended, jobs int, now time.Time) {
		if time.Since(drawn) < every {
			return
		}
		drawn = time.Now()
		left := ""
		if ended > 0 {
			left = ", " + (time.Since(begin) * time.Duration(jobs-ended) / time.Duration(ended)).Round(time.Second).String() + " left"
		}
		full := width * ended / max(jobs, 1)
		fmt.Fprintf(s.stderr, "\r\x1b[K%s [%s%s] %d of %d jobs, %s%s", name, strings.Repeat("#", full), //nolint:errcheck // a terminal
			strings.Repeat(".", width-full), ended, jobs, now.UTC().Format(time.DateOnly), left)
	}
}

// report prints and writes what was asked for.
func (s *simulation) report(results []*sim.Result, sums []sim.Summary, stdout io.Writer) error {
	if s.f.out != "" {
		if err := s.writeAll(results, sums); err != nil {
			return fmt.Errorf("--out: %w", err)
		}
	}
	if s.f.svg != "" {
		plot := func(w io.Writer) error { return chart.Comparison(s.title(), sums, results).SVG(w) }
		if err := writeFile(s.f.svg, plot); err != nil {
			return fmt.Errorf("--svg: %w", err)
		}
	}
	if s.f.json {
		return writeJSON(stdout, s.document(results, sums))
	}
	return writeTable(stdout, s.title(), s.work.Skipped, sums)
}

// document is the JSON that --json prints.
type document struct {
	Workload   string           `json:"workload"`
	Processors int              `json:"processors"`
	Nodes      int              `json:"nodes"`
	Seed       *uint64          `json:"seed,omitempty"`
	Skipped    map[string]int   `json:"skipped,omitempty"`
	Policies   []policyDocument `json:"policies"`
}

type policyDocument struct {
	sim.Summary
	Users []sim.UserResult `json:"per_user"`
}

func (s *simulation) document(results []*sim.Result, sums []sim.Summary) document {
	d := document{Workload: s.title(), Processors: s.machine.cpus, Nodes: len(s.machine.configure.Nodes), Skipped: map[string]int{}}
	if s.f.synthetic != "" {
		d.Seed = &s.f.seed
	}
	for _, k := range s.work.Skipped {
		d.Skipped[k.Why] = k.Count
	}
	for i, r := range results {
		d.Policies = append(d.Policies, policyDocument{sums[i], r.Users()})
	}
	return d
}

func (s *simulation) title() string {
	if s.f.synthetic != "" {
		return fmt.Sprintf("synthetic %s, seed %d", s.f.synthetic, s.f.seed)
	}
	base := filepath.Base(s.f.trace)
	return strings.TrimSuffix(strings.TrimSuffix(base, ".gz"), ".swf")
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		f.Close() //nolint:errcheck // the first error counts
		return err
	}
	return f.Close()
}
