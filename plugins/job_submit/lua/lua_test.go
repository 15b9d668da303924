package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/jobsubmit"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

func open(t *testing.T, script string, change ...func(*Options)) *Filter {
	t.Helper()
	o := defaults
	o.Script, o.Deadline = script, 10*time.Second
	for _, c := range change {
		c(&o)
	}
	f, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "job_submit.lua")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

var cluster = []*wlm.Partition{
	{Name: "main", Default: true, MaxTime: wlm.Unlimited, MaxNodes: wlm.Unset, PriorityTier: 1},
	{Name: "short", MaxTime: 60, MaxNodes: 4, PriorityTier: 20},
	{Name: "gpu", MaxTime: 1440, MaxNodes: wlm.Unset, PriorityTier: 1, AllowAccounts: []string{"physics", "ai"}},
}

func request(change func(*wlm.Spec)) *jobsubmit.Request {
	r := &jobsubmit.Request{Caller: 1000, Script: []byte("#!/bin/sh\nmpirun ./a.out\n"),
		Spec: &wlm.Spec{Name: "demo", User: 1000, Group: 1000, UserName: "alice", Priority: wlm.Unset, CoreSpec: wlm.Unset, WorkDir: "/home/alice"},
		Ask: func(_ context.Context, method string, _ []byte) ([]byte, error) {
			return jobsubmit.Answer(method, cluster)
		}}
	if change != nil {
		change(r.Spec)
	}
	return r
}

// submissions: what a script makes of a request, as "field=value" of the Spec
// that differ, or the refusal.
func TestSubmit(t *testing.T) {
	for _, tc := range []struct {
		script, name string
		ask          func(*wlm.Spec)
		want         func(*wlm.Spec) // of an accepted request
		refused      string          // else
		code         errs.Code
		messages     string
	}{
		{"require_time", "no limit", nil, nil,
			"You did not specify a time limit.: Please use --time, e.g. --time=02:00:00: " + errs.InvalidTimeLimit.String(), errs.InvalidTimeLimit, ""},
		{"require_time", "a limit", func(s *wlm.Spec) { s.TimeLimit = 254 }, func(*wlm.Spec) {}, "", 0, ""},
		{"require_time", "no end is a limit, too", func(s *wlm.Spec) { s.TimeLimit = wlm.Unlimited }, func(*wlm.Spec) {}, "", 0, ""},
		{"route", "the default partition", nil, func(s *wlm.Spec) { s.Partitions = []string{"main"} }, "", 0, ""},
		{"route", "short jobs", func(s *wlm.Spec) { s.TimeLimit = 30 },
			func(s *wlm.Spec) { s.Partitions, s.QOS = []string{"short", "main"}, "express" }, "", 0, ""},
		{"route", "devices", func(s *wlm.Spec) { s.TresPerNode = "gres/gpu:2" }, func(s *wlm.Spec) { s.Partitions = []string{"gpu"} }, "", 0, ""},
		{"route", "much memory", func(s *wlm.Spec) { s.MemPerNode = 100 << 10 }, func(s *wlm.Spec) { s.Partitions = []string{"fat"} }, "", 0, ""},
		{"route", "memory per CPU is not per node", func(s *wlm.Spec) { s.MemPerCPU = 100 << 10 }, func(s *wlm.Spec) { s.Partitions = []string{"main"} }, "", 0, ""},
		{"route", "no such partition", func(s *wlm.Spec) { s.Partitions = []string{"main", "nowhere"} }, nil,
			"partition nowhere does not exist here: " + errs.InvalidPartition.String(), errs.InvalidPartition, ""},
		{"route", "too long for it", func(s *wlm.Spec) { s.Partitions, s.TimeLimit = []string{"short"}, 90 }, nil,
			"partition short allows 60 minutes, you asked for 90: " + errs.InvalidTimeLimit.String(), errs.InvalidTimeLimit, ""},
		{"policy", "all defaults", func(s *wlm.Spec) { s.NTasks = 1 }, func(s *wlm.Spec) {
			s.Account, s.CPUsPerTask, s.MemPerCPU, s.Nice, s.MailType, s.Requeue, s.Comment = "physics", 1, 2000, 100, "FAIL", wlm.No, "physics/demo"
		}, "", 0, ""},
		{"policy", "what was given stays", func(s *wlm.Spec) {
			s.NTasks, s.Account, s.CPUsPerTask, s.MemPerNode, s.Nice, s.MailType, s.Features, s.MinNodes = 3, "ai", 4, 100, -5, "END,FAIL", "big", 3
		}, func(s *wlm.Spec) {
			s.Features, s.Share, s.Switches, s.SwitchWait, s.Requeue, s.Comment = "ib&big", wlm.ShareNever, 1, 300, wlm.No, "ai/demo"
		}, "", 0, ""},
		{"policy", "a warning only", nil, func(s *wlm.Spec) {
			s.Account, s.CPUsPerTask, s.MemPerCPU, s.Nice, s.MailType, s.Requeue, s.Comment = "physics", 1, 2000, 100, "FAIL", wlm.No, "physics/demo"
		}, "", 0, "mpirun without --ntasks runs one task only"},
		{"policy", "an unknown user", func(s *wlm.Spec) { s.UserName = "mallory" }, nil,
			"no account for user mallory: " + errs.InvalidAccount.String(), errs.InvalidAccount, ""},
	} {
		t.Run(tc.script+"/"+strings.ReplaceAll(tc.name, " ", "-"), func(t *testing.T) {
			r := request(tc.ask)
			before := *r.Spec
			messages, err := open(t, "testdata/"+tc.script+".lua").Submit(t.Context(), r)
			if tc.want == nil {
				if err == nil || err.Error() != tc.refused || errs.CodeOf(err) != tc.code {
					t.Errorf("refused with %v (code %d), want %q (code %d)", err, errs.CodeOf(err), tc.refused, tc.code)
				}
				if !reflect.DeepEqual(*r.Spec, before) {
					t.Error("a refused request was changed")
				}
				return
			}
			want := before
			tc.want(&want)
			if err != nil || !reflect.DeepEqual(*r.Spec, want) {
				t.Errorf("error %v\ngot  %+v\nwant %+v", err, *r.Spec, want)
			}
			if got := strings.Join(messages, "|"); got != tc.messages {
				t.Errorf("messages %q, want %q", got, tc.messages)
			}
		})
	}
	r := request(func(s *wlm.Spec) { s.User = 0 })
	r.Caller, r.Script = 0, nil
	if _, err := open(t, "testdata/policy.lua").Submit(t.Context(), r); err == nil || errs.CodeOf(err) != errs.SubmitRefused {
		t.Errorf("slurm.ERROR is a plain refusal, got %v", err)
	}
}

func TestModify(t *testing.T) {
	job := &wlm.Job{ID: 7, TimeLimit: 60, Partition: "main", Spec: &wlm.Spec{Account: "physics", TimeLimit: 60, Priority: wlm.Unset}}
	for _, tc := range []struct {
		name    string
		uid     wlm.UID
		changes map[string]string
		want    map[string]string
		refused string
	}{
		{"lower", 1000, map[string]string{"TimeLimit": "30"}, map[string]string{"TimeLimit": "30"}, ""},
		{"higher", 1000, map[string]string{"TimeLimit": "2:00:00"}, nil, "job 7: the limit of 60 minutes can only be lowered: "},
		{"higher, relative", 1000, map[string]string{"timelimit": "+1"}, nil, "job 7: the limit"},
		{"lower, relative", 1000, map[string]string{"TimeLimit": "-10"}, map[string]string{"TimeLimit": "-10"}, ""},
		{"root may", 0, map[string]string{"TimeLimit": "UNLIMITED"}, map[string]string{"TimeLimit": "UNLIMITED"}, ""},
		{"nonsense is the controller's", 1000, map[string]string{"TimeLimit": "soon"}, map[string]string{"TimeLimit": "soon"}, ""},
		{"another account", 1000, map[string]string{"Account": "ai"}, nil, "ask the helpdesk to move jobs from physics to ai: "},
		{"the same account", 1000, map[string]string{"Account": "physics"}, map[string]string{"Account": "physics"}, ""},
		{"moved with a price", 1000, map[string]string{"partition": "short"},
			map[string]string{"partition": "short", "Nice": "1000", "Comment": "moved to short"}, ""},
		{"unknown keys pass", 1000, map[string]string{"NoSuchKey": "x"}, map[string]string{"NoSuchKey": "x"}, ""},
	} {
		t.Run(strings.ReplaceAll(tc.name, " ", "-"), func(t *testing.T) {
			r := request(nil)
			r.Spec, r.Script, r.Current, r.Changes, r.Caller = nil, nil, job, tc.changes, tc.uid
			_, err := open(t, "testdata/policy.lua").Modify(t.Context(), r)
			if tc.refused != "" {
				if err == nil || !strings.HasPrefix(err.Error(), tc.refused) {
					t.Errorf("refused with %v, want %q", err, tc.refused)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(r.Changes, tc.want) {
				t.Errorf("changes %v, error %v; want %v", r.Changes, err, tc.want)
			}
		})
	}
}

// Reading every field and writing back what was read changes nothing.
func TestFieldsRoundTrip(t *testing.T) {
	f := open(t, write(t, `
		function slurm_job_submit(d, parts, uid)
			for name in string.gmatch(d.comment, "[^,]+") do
				local v = d[name]
				if d.extra == "write" then d[name] = v end
				d[name] = v
				if d[name] ~= v then error(name .. " was " .. tostring(v) .. ", is " .. tostring(d[name])) end
			end
			d.comment = nil
			return slurm.SUCCESS
		end`))
	var names []string
	for name, f := range fields {
		if f.write != nil {
			names = append(names, name)
		}
	}
	for what, change := range map[string]func(*wlm.Spec){
		"nothing set": func(*wlm.Spec) {},
		"much set": func(s *wlm.Spec) {
			*s = wlm.Spec{Name: "n", User: 1000, Account: "a", Partitions: []string{"p", "q"}, MinNodes: 2, MaxNodes: 4, NTasks: 254, CPUsPerTask: 254,
				MemPerCPU: 512, TmpDisk: 65533, Features: "f", Share: wlm.ShareUser, Contiguous: true, Overcommit: true, CoreSpec: 1, TimeLimit: 254,
				TimeMin: wlm.Unlimited, Begin: 5, Nice: -7, Priority: 9, Requeue: wlm.Yes, MailType: "BEGIN,TIME_LIMIT_90", Signal: 10, OOMKill: wlm.No}
		},
		"held, all memory": func(s *wlm.Spec) { s.Hold, s.MemAll = true, true },
	} {
		r := request(change)
		want := *r.Spec
		r.Spec.Comment = strings.Join(names, ",")
		if _, err := f.Submit(t.Context(), r); err != nil || !reflect.DeepEqual(*r.Spec, want) {
			t.Errorf("%s: error %v\ngot  %+v\nwant %+v", what, err, *r.Spec, want)
		}
	}
}

func TestScriptsThatFail(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"a syntax error":  {"function slurm_job_submit(", "job_submit.lua"},
		"no function":     {"x = 1", "defines no function slurm_job_submit"},
		"an error at top": {"error('no config')", "no config"},
	} {
		o := defaults
		o.Script = write(t, tc.text)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
	if _, err := New(Options{Script: filepath.Join(t.TempDir(), "none.lua"), States: 1}); err == nil || !strings.Contains(err.Error(), "none.lua") {
		t.Errorf("a missing script: %v", err)
	}
	f := open(t, write(t, `function slurm_job_submit(d) if d.name == "loop" then while true do end end local t = nil; return t.x end`),
		func(o *Options) { o.Deadline, o.States = 100*time.Millisecond, 1 })
	_, err := f.Submit(t.Context(), request(nil))
	if errs.KindOf(err) != errs.Internal || !strings.Contains(err.Error(), "job_submit.lua:1") {
		t.Errorf("a script that raises must be an internal error with the line: %v", err)
	}
	began := time.Now()
	_, err = f.Submit(t.Context(), request(func(s *wlm.Spec) { s.Name = "loop" }))
	if errs.KindOf(err) != errs.Deadline || time.Since(began) > 5*time.Second {
		t.Errorf("an endless script must end at its deadline: %v after %v", err, time.Since(began))
	}
	if _, err = f.Submit(t.Context(), request(nil)); errs.KindOf(err) != errs.Internal {
		t.Errorf("the only state must be usable after that: %v", err)
	}
}

func TestScriptIsReadAgain(t *testing.T) {
	path := write(t, `function slurm_job_submit(d) d.comment = "one"; return 0 end`)
	f := open(t, path, func(o *Options) { o.States = 2 })
	comment := func() string {
		r := request(nil)
		if _, err := f.Submit(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		return r.Spec.Comment
	}
	for _, step := range []struct{ text, want string }{
		{"", "one"},
		{`function slurm_job_submit(d) d.comment = "second"; return 0 end`, "second"},
		{`function slurm_job_submit(d) broken`, "second"},
		{`function slurm_job_submit(d) d.comment = "the third"; return 0 end`, "the third"},
	} {
		if step.text != "" {
			if err := os.WriteFile(path, []byte(step.text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		for range 3 {
			if got := comment(); got != step.want {
				t.Errorf("after %q: %q, want %q", step.text, got, step.want)
			}
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got := comment(); got != "the third" {
		t.Errorf("a script that is gone stays in force, got %q", got)
	}
}

// A slow request holds one state: the others go on.
func TestSlowScriptsDelayNobodyElse(t *testing.T) {
	f := open(t, write(t, `
		function slurm_job_submit(d) while d.name == "slow" do end; d.comment = d.name; return 0 end`),
		func(o *Options) { o.States, o.Deadline = 2, time.Minute })
	ctx, cancel := context.WithCancel(t.Context())
	slow := make(chan error, 1)
	go func() {
		_, err := f.Submit(ctx, request(func(s *wlm.Spec) { s.Name = "slow" }))
		slow <- err
	}()
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			r := request(func(s *wlm.Spec) { s.Name = fmt.Sprint(i) })
			if _, err := f.Submit(t.Context(), r); err != nil || r.Spec.Comment != r.Spec.Name {
				t.Errorf("request %d: comment %q, error %v", i, r.Spec.Comment, err)
			}
		})
	}
	all.Wait()
	cancel()
	if err := <-slow; err == nil {
		t.Error("the slow request must not pass")
	}
}

func TestLanguage(t *testing.T) {
	for name, body := range map[string]string{
		"log with too few values":  `slurm.log_info("%s and %s", "one", nil)`,
		"numbers of C":             `assert(string.format("%u and %5i%%u%s", 7, 8, nil) == "7 and     8%unil")`,
		"a lone text with percent": `slurm.log_user("100%")`,
		"bits":                     `assert(bit32.band(6, 3) == 2 and bit32.bnot(0) == 4294967295 and bit32.lshift(1, 4) == 16)`,
		"unpack":                   `assert(select("#", table.unpack({1, 2, 3})) == 3)`,
		"pairs of plain tables":    `local n = 0; for k, v in pairs({a=1, b=2}) do n = n + v end; assert(n == 3); assert(next({}) == nil)`,
		"part_list by next":        `local k = next(parts); assert(parts[k].name == k)`,
		"argv counts from 0":       `assert(d.argc == 2 and d.argv[0] == "job.sh" and d.argv[1] == "x")`,
		"unknown fields are nil":   `assert(d.no_such == nil and d.environment.NONE == nil)`,
		"constants":                `assert(slurm.NO_VAL == 4294967294 and slurm.ERROR == -1 and slurm.SUCCESS == 0 and slurm.ESLURM_ACCESS_DENIED == 2002)`,
		"fields of a partition":    `assert(parts.gpu.allow_accounts == "physics,ai" and parts.main.max_nodes == slurm.INFINITE and parts.short.state_up == 3)`,
		"no answer passes":         `if true then return end`,
	} {
		f := open(t, write(t, "function slurm_job_submit(d, parts, uid) "+body+" return slurm.SUCCESS end"))
		if _, err := f.Submit(t.Context(), request(func(s *wlm.Spec) { s.Argv = []string{"job.sh", "x"} })); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func BenchmarkSubmit(b *testing.B) {
	o := defaults
	o.Script = "testdata/policy.lua"
	f, err := New(o)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := f.Submit(b.Context(), request(nil)); err != nil {
			b.Fatal(err)
		}
	}
}
