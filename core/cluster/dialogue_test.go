package cluster

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/wlm/v1"
	"github.com/sluice-hpc/sluice/sdk/wire"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the recorded dialogues; commit only what you understand")

// start is when every dialogue begins.
const start wlm.Time = 1_000_000

// TestDialogues plays testdata/*.txt: blocks of commands, a line of dashes, and
// the events and errors that followed.
func TestDialogues(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no dialogues", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) { play(t, f) })
	}
}

func play(t *testing.T, file string) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	d := newDialogue()
	var out strings.Builder
	for block := range strings.SplitSeq(strings.TrimSpace(string(data)), "\n\n") {
		in, _, _ := strings.Cut(block, "\n----")
		if out.Len() > 0 {
			out.WriteString("\n")
		}
		fmt.Fprintf(&out, "%s\n", in)
		heard := ""
		for line := range strings.Lines(in) {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
				heard += d.say(line)
			}
		}
		if !strings.HasPrefix(in, "#") || heard != "" {
			fmt.Fprintf(&out, "----\n%s", heard)
		}
	}
	if *rewrite {
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out.String() != string(data) {
		t.Errorf("the dialogue went otherwise (see -rewrite):\n%s", diff(string(data), out.String()))
	}
}

// diff shows the first line that differs, with what came before.
func diff(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range g {
		if i >= len(w) || w[i] != g[i] {
			was := "(end)"
			if i < len(w) {
				was = w[i]
			}
			return fmt.Sprintf("%s\nwant: %s\ngot:  %s", strings.Join(g[max(0, i-6):i], "\n"), was, g[i])
		}
	}
	return "the recorded one is longer"
}

// dialogue is a cluster and the words it understands.
type dialogue struct {
	c   *Cluster
	now wlm.Time
	cfg Configure

	heard func([]*Event) // if set, hears every turn
}

func newDialogue() *dialogue {
	d := &dialogue{now: start}
	d.cfg.Settings = Settings{Cluster: "test", MaxJobCount: 1000, FirstJobID: 1, MaxJobID: 10000, MaxArraySize: 100, MaxScriptBytes: 1000,
		TrackMemory: true, JobRequeue: true, MinJobAge: 300, KillWait: 30, SlurmdTimeout: 300, ReturnToService: 1, MaxDependDepth: 10}
	d.c = New(d.cfg.Settings)
	return d
}

// words are a line's arguments: plain ones in order, name=value by name.
type words struct {
	args []string
	opt  map[string]string
}

func split(line string) (verb string, w words) {
	f := strings.Fields(line)
	w.opt = map[string]string{}
	for _, x := range f[1:] {
		if k, v, ok := strings.Cut(x, "="); ok {
			w.opt[k] = strings.ReplaceAll(v, "~", " ")
		} else {
			w.args = append(w.args, x)
		}
	}
	return f[0], w
}

func (w words) num(name string, or uint32) uint32 {
	n, err := strconv.ParseUint(w.opt[name], 10, 32)
	if err != nil {
		return or
	}
	return uint32(n)
}

func (w words) arg(i int) string {
	if i < len(w.args) {
		return w.args[i]
	}
	return ""
}

func (w words) id(i int) wlm.JobID {
	n, _ := strconv.ParseUint(w.arg(i), 10, 32)
	return wlm.JobID(n)
}

func (w words) caller() Caller {
	uid := wlm.UID(w.num("user", 1000))
	return Caller{UID: uid, Admin: uid == 0}
}

// filter reads the references among the arguments.
func (w words) filter() *ctlv1.JobFilter {
	f := &ctlv1.JobFilter{}
	for _, a := range w.args {
		ref, err := wlm.ParseJobRef(a)
		if err != nil {
			panic(err)
		}
		m := &ctlv1.JobRef{Job: uint32(ref.Job)}
		for _, r := range ref.Tasks {
			m.Tasks = append(m.Tasks, &wlmv1.IDRange{First: r.First, Last: r.Last, Step: r.Step})
		}
		if ref.Step != nil {
			m.HasStep, m.Step = true, uint32(*ref.Step)
		}
		f.Refs = append(f.Refs, m)
	}
	return f
}

// say carries out one line and tells what was heard.
func (d *dialogue) say(line string) string {
	verb, w := split(line)
	cmd := d.command(verb, w)
	if cmd == nil {
		if verb == "tick" || verb == "jobs" {
			return d.passive(verb, w)
		}
		return ""
	}
	value, err := d.c.Apply(cmd, d.now)
	out := d.events()
	switch {
	case err != nil && out != "":
		out += "BROKEN: an error with events\n"
	case err != nil:
		return "error: " + err.Error() + "\n"
	}
	if err := d.c.Check(); err != nil {
		out += "BROKEN: " + err.Error() + "\n"
	}
	return out + reply(value)
}

func (d *dialogue) events() string {
	out, turn := "", d.c.TakeTurn()
	if d.heard != nil {
		d.heard(turn)
	}
	for _, e := range turn {
		if e.Kind != eventv1.Kind_BLOB_STORED && e.Kind != eventv1.Kind_CONFIGURED {
			out += e.String() + "\n"
		}
	}
	return out
}

// reply prints what a command's value says beyond its events.
func reply(value any) string {
	out := ""
	switch v := value.(type) {
	case *SubmitReply:
		if v.Repeated {
			out = fmt.Sprintf("repeated: job %s\n", v.Job.ID)
		}
	case *StartReply:
		for _, r := range v.Refused {
			out += fmt.Sprintf("refused: %s: %s\n", r.Job, r.Text)
		}
	case *KillReply:
		for _, f := range v.Failed {
			out += fmt.Sprintf("failed: %s: %s\n", RefString(f.Ref), f.Code)
		}
	case *RegisterReply:
		for _, id := range v.Unknown {
			out += fmt.Sprintf("unknown: %s\n", id)
		}
		for _, j := range v.Start {
			out += fmt.Sprintf("start: %s\n", j.ID)
		}
		for _, j := range v.Terminate {
			out += fmt.Sprintf("terminate: %s\n", j.ID)
		}
		for _, r := range v.Stale {
			out += fmt.Sprintf("stale: %s\n", r.Job)
		}
		for _, j := range v.Suspend {
			out += fmt.Sprintf("%s: %s\n", strings.ToLower(j.State.String()), j.ID)
		}
	case []string:
		for _, s := range v {
			out += "changed: " + s + "\n"
		}
	}
	return out
}

// passive are the words that are no command: the time and a look.
func (d *dialogue) passive(verb string, w words) string {
	if verb == "tick" {
		by, err := time.ParseDuration(w.arg(0))
		if err != nil {
			return "error: " + err.Error() + "\n"
		}
		d.now += wlm.Time(by / time.Second)
		if _, err := d.c.Apply(&Tick{}, d.now); err != nil {
			return "error: " + err.Error() + "\n"
		}
		return d.events()
	}
	out := ""
	found, _, _ := d.c.Find(&ctlv1.JobFilter{AllStates: true})
	for _, m := range found {
		j := m.Job
		out += fmt.Sprintf("%s id=%d %s reason=%s held=%v prio=%d tasks=%s derived=%s restarts=%d limit=%d\n", jobName(j), j.ID,
			wlm.StateFull(j.State, j.Flags), j.Reason, j.Held, j.Priority, wlm.FormatArray(j.ArrayTasks, 0), j.Derived, j.Restarts, j.TimeLimit)
	}
	return out
}

// command makes the command of a line; nil: the line made none.
func (d *dialogue) command(verb string, w words) Command {
	switch verb {
	case "nodes":
		d.nodes(w)
	case "forget":
		for i := range d.cfg.Nodes {
			if string(d.cfg.Nodes[i].Name) == w.arg(0) {
				d.cfg.Nodes = append(d.cfg.Nodes[:i], d.cfg.Nodes[i+1:]...)
				break
			}
		}
	case "partition":
		d.partition(w)
	case "settings":
		d.settings(w)
	case "configure":
		c := d.cfg
		return &c
	case "register":
		return d.register(w)
	case "submit":
		return d.submit(w)
	case "place":
		return d.place(w)
	case "begin":
		return &Begin{Epoch: uint64(w.num("epoch", 1))}
	case "rank":
		return &Rank{Jobs: []wlm.JobID{w.id(0)}, Priorities: []uint32{w.num("prio", 1)}}
	case "report":
		return &Reports{Node: wlm.NodeName(w.opt["on"]), Reports: []*nodev1.Report{w.report(d.now)}}
	case "cancel":
		return &Kill{Filter: w.filter(), Signal: int(w.num("signal", 0)), StepsOnly: w.opt["steps"] == "only", Caller: w.caller()}
	case "hold", "release", "requeue", "requeuehold", "suspend", "resume", "set", "top", "notify":
		v := map[string]ctlv1.UpdateJobRequest_Verb{"hold": ctlv1.UpdateJobRequest_HOLD, "release": ctlv1.UpdateJobRequest_RELEASE,
			"requeue": ctlv1.UpdateJobRequest_REQUEUE, "requeuehold": ctlv1.UpdateJobRequest_REQUEUE_HOLD,
			"suspend": ctlv1.UpdateJobRequest_SUSPEND, "resume": ctlv1.UpdateJobRequest_RESUME, "top": ctlv1.UpdateJobRequest_TOP, "notify": ctlv1.UpdateJobRequest_NOTIFY, "set": ctlv1.UpdateJobRequest_SET}[verb]
		u := &UpdateJob{Filter: w.filter(), Verb: v, Caller: w.caller(), Set: w.opt}
		u.Text = u.Set["text"]
		delete(u.Set, "text")
		delete(u.Set, "user")
		return u
	case "node":
		u := &UpdateNode{Nodes: w.arg(0), Caller: w.caller(), Set: w.opt}
		delete(u.Set, "user")
		return u
	case "lose":
		return &Silent{Node: wlm.NodeName(w.arg(0))}
	case "quiet":
		return &Quiet{Node: wlm.NodeName(w.arg(0)), Quiet: w.opt["is"] != "no"}
	case "complete":
		return &Complete{Job: w.id(0), Status: wlm.ExitStatus(int(w.num("exit", 0))), Caller: w.caller()}
	case "awaken":
		return &Awaken{}
	case "tick", "jobs":
	default:
		panic("no such word: " + verb)
	}
	return nil
}

func (d *dialogue) nodes(w words) {
	names, err := hostlist.Expand(w.arg(0))
	if err != nil {
		panic(err)
	}
	for _, n := range names {
		x := wlm.Node{Name: wlm.NodeName(n), Hostname: n, Addr: n, CPUs: w.num("cpus", 4), Boards: 1, Sockets: 1,
			CoresPerSocket: w.num("cpus", 4), ThreadsPerCore: 1, RealMemory: wlm.MiB(w.num("mem", 1000)), Weight: 1, Features: list(w.opt["features"])}
		found := false
		for i := range d.cfg.Nodes {
			if d.cfg.Nodes[i].Name == x.Name {
				d.cfg.Nodes[i], found = x, true
			}
		}
		if !found {
			d.cfg.Nodes = append(d.cfg.Nodes, x)
		}
	}
}

func (d *dialogue) partition(w words) {
	names, err := hostlist.Expand(w.opt["nodes"])
	if err != nil {
		panic(err)
	}
	p := wlm.Partition{Name: w.arg(0), Nodes: w.opt["nodes"], Default: w.opt["default"] == "yes", MaxTime: wlm.Minutes(w.num("maxtime", uint32(wlm.Unlimited))),
		DefaultTime: wlm.Minutes(w.num("time", 0)), MaxNodes: wlm.Unset, MaxCPUsPerNode: wlm.Unset, MaxCPUsPerSock: wlm.Unset, OverTimeLimit: wlm.Unset,
		PriorityJob: 1, PriorityTier: w.num("tier", 1), PreemptMode: w.opt["preempt"], GraceTime: w.num("grace", 0), AllowGroups: list(w.opt["groups"]), RootOnly: w.opt["rootonly"] == "yes"}
	for _, n := range names {
		p.NodeNames = append(p.NodeNames, wlm.NodeName(n))
	}
	if w.opt["state"] == "drain" {
		p.State = wlm.PartDrain
	}
	for i := range d.cfg.Partitions {
		if d.cfg.Partitions[i].Name == p.Name {
			d.cfg.Partitions[i] = p
			return
		}
	}
	d.cfg.Partitions = append(d.cfg.Partitions, p)
}

func (d *dialogue) settings(w words) {
	s := &d.cfg.Settings
	s.JobRequeue = w.opt["requeue"] != "no"
	s.ReturnToService = int(w.num("returntoservice", 1))
	s.ConfigOverrides = w.opt["overrides"] == "yes"
	s.RegMemoryPercent = float64(w.num("mempercent", 0))
	s.EnforceLimits = w.opt["enforce"]
	s.KillInvalidDep = w.opt["killinvaliddep"] == "yes"
	s.OverTimeLimit = wlm.Minutes(w.num("overtime", 0))
	s.UserTop = w.opt["usertop"] == "yes"
	s.MaxJobCount = int(w.num("maxjobs", 1000))
	s.RequeueDelay = w.num("delay", 0)
	s.Preemption = Preemption{ByTier: w.opt["preempt"] != "", Mode: w.opt["preempt"], Exempt: w.num("exempt", 0),
		ExemptPriority: w.num("exemptprio", 0), UserSignal: w.opt["usersignal"] == "yes"}
}

func (d *dialogue) register(w words) Command {
	name := wlm.NodeName(w.arg(0))
	m := &nodev1.Register{Cpus: w.num("cpus", 4), RealMemory: uint64(w.num("mem", 1000)), BootTime: int64(w.num("boot", 1000)), Version: "test"}
	for _, x := range list(w.opt["jobs"]) {
		id, run, _ := strings.Cut(x, ":")
		j, _ := strconv.ParseUint(id, 10, 32)
		r, _ := strconv.ParseUint(run, 10, 32)
		m.Jobs = append(m.Jobs, &nodev1.JobOnNode{Job: uint32(j), Restarts: uint32(r)})
	}
	return &Register{Node: name, Msg: m}
}

func (d *dialogue) submit(w words) Command {
	s := &wlm.Spec{Name: "job", User: wlm.UID(w.num("user", 1000)), UserName: "ann", GroupName: "users", Priority: wlm.Unset, CoreSpec: wlm.Unset,
		MinNodes: w.num("nodes", 0), MaxNodes: w.num("nodes", 0), NTasks: w.num("ntasks", 0), CPUsPerTask: w.num("cpt", 0), MemPerNode: wlm.MiB(w.num("mem", 0)),
		TimeLimit: wlm.Minutes(w.num("time", 0)), Dependency: w.opt["dependency"], Array: w.opt["array"], Features: w.opt["constraint"],
		Hold: w.opt["hold"] == "yes", Partitions: list(w.opt["partition"]), ReqNodes: w.opt["nodelist"]}
	if v, ok := w.opt["name"]; ok {
		s.Name = v
	}
	if v := w.num("begin", 0); v > 0 {
		s.Begin = d.now + wlm.Time(v)
	}
	if v := w.num("deadline", 0); v > 0 {
		s.Deadline = d.now + wlm.Time(v)
	}
	s.Priority = w.num("priority", wlm.Unset)
	s.TimeMin = wlm.Minutes(w.num("timemin", 0))
	s.Signal = w.num("signal", 0)
	s.TresPerNode, s.Licenses, s.Reservation = w.opt["gres"], w.opt["licenses"], w.opt["reservation"]
	s.Requeue = map[string]wlm.Tristate{"yes": wlm.Yes, "no": wlm.No}[w.opt["requeue"]]
	s.NoKill = w.opt["nokill"] == "yes"
	c := &Submit{Spec: s, Script: []byte("#!/bin/sh\n"), Key: w.opt["key"], Caller: w.caller()}
	if v, ok := w.opt["script"]; ok {
		c.Script = []byte(strings.Repeat("x", int(w.num("script", uint32(len(v))))))
	}
	if w.opt["kind"] == "alloc" {
		s.Kind, c.Script = wlm.KindAlloc, nil
	}
	return c
}

// place reads "place JOB n1:0-3:100 n2:0,2".
func (d *dialogue) place(w words) Command {
	p := Placement{Job: w.id(0), Partition: "main", Scheduler: "Main"}
	if v, ok := w.opt["partition"]; ok {
		p.Partition = v
	}
	for _, a := range w.args[1:] {
		f := strings.Split(a, ":")
		na := wlm.NodeAlloc{Node: wlm.NodeName(f[0])}
		if len(f) > 1 {
			for r := range strings.SplitSeq(f[1], ",") {
				lo, hi, isRange := strings.Cut(r, "-")
				if !isRange {
					hi = lo
				}
				a, _ := strconv.Atoi(lo)
				b, _ := strconv.Atoi(hi)
				for i := a; i <= b; i++ {
					na.CPUs = na.CPUs.Set(i)
				}
			}
		}
		if len(f) > 2 {
			m, _ := strconv.Atoi(f[2])
			na.Mem = wlm.MiB(m)
		}
		p.Nodes = append(p.Nodes, na)
	}
	for _, v := range list(w.opt["victims"]) {
		id, _ := strconv.ParseUint(v, 10, 32)
		p.Victims = append(p.Victims, wlm.JobID(id))
	}
	p.Limit = w.num("limit", 0)
	return &Start{Placements: []Placement{p}}
}

// report reads "report step-start|step-end|gone|launch-failed JOB [STEP] on=NODE run=N exit=N clean=yes".
func (w words) report(now wlm.Time) *nodev1.Report {
	job, run := uint32(w.id(1)), w.num("run", 0)
	step := &wlm.Step{Job: wlm.JobID(job), ID: wlm.StepBatch, Name: "batch", State: wlm.Completed, Start: now, End: now, KilledBy: wlm.Unset,
		Status: wlm.ExitStatus(int(w.num("exit", 0)))}
	if step.Status != 0 {
		step.State = wlm.Failed
	}
	if s := w.arg(2); s != "" {
		id, err := wlm.ParseStepID(s)
		if err != nil {
			panic(err)
		}
		step.ID, step.Name = id, s
	}
	switch w.arg(0) {
	case "step-start":
		step.State, step.End = wlm.Running, 0
		return &nodev1.Report{Body: &nodev1.Report_StepStarted{StepStarted: &nodev1.StepStarted{Step: wire.StepToWire(step)}}}
	case "step-end":
		return &nodev1.Report{Body: &nodev1.Report_StepEnded{StepEnded: &nodev1.StepEnded{Step: wire.StepToWire(step), Restarts: run,
			Clean: w.opt["clean"] == "yes", Oom: w.opt["oom"] == "yes"}}}
	case "gone":
		return &nodev1.Report{Body: &nodev1.Report_JobGone{JobGone: &nodev1.JobGone{Job: job, Restarts: run, Unkillable: w.opt["unkillable"] == "yes"}}}
	case "launch-failed":
		return &nodev1.Report{Body: &nodev1.Report_LaunchFailed{LaunchFailed: &nodev1.LaunchFailed{Job: job, Restarts: run, Reason: "no such directory",
			Drain: w.opt["drain"] == "yes"}}}
	}
	panic("no such report: " + w.arg(0))
}
