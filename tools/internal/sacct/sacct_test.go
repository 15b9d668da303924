package sacct

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/acctstore/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/tools/internal/command"
	"github.com/sluice-hpc/sluice/tools/internal/peertest"
)

type store struct{ *peertest.Fake }

func (store) Script(_ context.Context, r *ctlv1.ScriptRequest) (*ctlv1.ScriptReply, error) {
	if r.Job != 5 {
		return nil, errs.Coded("test", errs.InvalidJobID)
	}
	return &ctlv1.ScriptReply{Script: []byte("#!/bin/sh\n")}, nil
}

func sacct(t *testing.T, f *peertest.Fake, user string, env map[string]string, args ...string) (int, string, string) {
	t.Helper()
	var out, stderr bytes.Buffer
	o, err := parse(args, func(k string) string { return env[k] }, peertest.Names(), map[string]uint32{"alice": 1001}[user], time.Unix(f.Now, 0))
	if err != nil {
		c := New()
		return c.Fail(err, command.Env{Stdout: &out, Stderr: &stderr}, 1), out.String(), stderr.String()
	}
	return Run(t.Context(), o, store{f}, &out, &stderr), out.String(), stderr.String()
}

func TestObserved(t *testing.T) {
	tests := []struct {
		file string
		fake *peertest.Fake
	}{
		{"sacct.txt", peertest.New(22)}, {"sacct_-a.txt", peertest.New(22)}, {"sacct_-X.txt", peertest.New(22)},
		{"sacct_-P.txt", peertest.New(22)}, {"sacct_-b.txt", peertest.New(22)}, {"sacct_-l.txt", peertest.New(22)},
		{"sacct_-e.txt", peertest.New(22)}, {"sacct_--helpformat.txt", peertest.New(22)}, {"sacct_-j_5.txt", peertest.New(22)},
		{"sacct_-s_F.txt", peertest.New(22)}, {"alice_sacct.txt", peertest.New(25)}, {"alice_sacct_-l.txt", peertest.New(23)},
		{"sacct_-j_5_--format=JobID,JobName_20,State,ExitCode,Elapsed,.txt", peertest.New(22)},
		{"later_sacct_-X.txt", peertest.Later()}, {"later_sacct_-j_4.txt", peertest.Later()}, {"later_sacct_-l.txt", peertest.Later()},
	}
	for _, tt := range tests {
		t.Run(tt.file, func(t *testing.T) {
			o := peertest.Load(t, tt.file)
			status, out, errs := sacct(t, tt.fake, o.User, nil, o.Args()...)
			if tt.file == "later_sacct_-l.txt" {
				// Of a step's use, the store keeps CPU time and memory only.
				out, o.Stdout = without(out, "4.batch"), without(o.Stdout, "4.batch")
			}
			o.Check(t, status, out, errs)
		})
	}
}

// without drops the line that starts with a word.
func without(text, word string) string {
	var b strings.Builder
	for l := range strings.Lines(text) {
		if !strings.HasPrefix(l, word+" ") {
			b.WriteString(l)
		}
	}
	return b.String()
}

func TestObservedMistakes(t *testing.T) {
	for _, o := range peertest.Errors(t, "sacct") {
		t.Run(o.Line, func(t *testing.T) {
			status, out, errs := sacct(t, peertest.New(-68), o.User, nil, o.Args()...)
			o.Check(t, status, out, errs)
		})
	}
}

func TestStructured(t *testing.T) {
	o := peertest.Load(t, "sacct_--json_-j_2.txt")
	status, out, errs := sacct(t, peertest.New(22), "root", nil, o.Args()...)
	if status != 0 || errs != "" {
		t.Fatalf("status %d, %s", status, errs)
	}
	seen := map[string]bool{}
	peertest.CheckStructure(t, dropEnergy(out), dropEnergy(o.Stdout), func(path string) bool {
		for _, differs := range []string{
			".association.id=", ".command.", // accounting's numbers, and the words of the call
		} {
			if strings.Contains(path, differs) {
				seen[differs] = true
				return true
			}
		}
		return false
	})
	if len(seen) != 2 {
		t.Errorf("only %v differ", seen)
	}
}

// dropEnergy takes the element of job 2's allocation out that says that its
// energy is not known.
func dropEnergy(text string) string {
	i := strings.Index(text, `"count": -2`)
	if i < 0 {
		return text
	}
	from := strings.LastIndex(text[:i], "{")
	to := i + strings.Index(text[i:], "{")
	return text[:from] + text[to:]
}

func TestWindow(t *testing.T) {
	const midnight, now = peertest.T0 - 17*3600 - 18*60, peertest.T0 + 22
	tests := []struct {
		args     string
		from, to int64
	}{
		{"", midnight, now},
		{"-j 5", 0, now},
		{"-s R", now, now},
		{"-s R -S 17:00:00", peertest.T0 - 18*60, peertest.T0 - 18*60},
		{"-s R -j 5", 0, now},
		{"-S now-1hours -E now", now - 3600, now},
		{"-S 2026-11-01 -s CD -E now", peertest.T0 - 17*3600 - 18*60 - 22*86400, now},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			f := peertest.New(22)
			if status, _, errs := sacct(t, f, "root", nil, strings.Fields(tt.args)...); status != 0 {
				t.Fatal(errs)
			}
			if q := f.LastQuery; q.Start != tt.from || q.End != tt.to || q.Now != now {
				t.Errorf("window %d to %d, want %d to %d", q.Start, q.End, tt.from, tt.to)
			}
		})
	}
}

func TestWhoseJobs(t *testing.T) {
	tests := []struct {
		user, args string
		want       int // users in the query
	}{
		{"root", "", 0}, {"alice", "", 1}, {"alice", "-a", 0}, {"alice", "-j 5", 0}, {"root", "-u alice", 1}, {"root", "-u alice,0", 2},
	}
	for _, tt := range tests {
		f := peertest.New(22)
		sacct(t, f, tt.user, nil, strings.Fields(tt.args)...)
		if len(f.LastQuery.Users) != tt.want {
			t.Errorf("%s %s: users %v", tt.user, tt.args, f.LastQuery.Users)
		}
	}
}

func TestOutput(t *testing.T) {
	tests := []struct{ args, want string }{
		{"-n -P -j 5.0,5.batch -o jobid", "5.batch\n5.0\n"},
		{"-n -p -j 5 -X -o jobid,elapsedraw,cputimeraw", "5|17|68|\n"},
		{"-n -P --delimiter=; -j 2 -o jobid,totalcpu", "2;00:00.002\n2.batch;00:00.002\n"},
		{"-n -j 5 -X -o jobname%6,user%-8,jobn%2", "  demo alice    d+ \n"},
		{"-j 5 -X -o jobname%4,jobid%3", "JobN Job \n---- --- \ndemo 5   \n"},
		{"-n -P -X -j 9 -T -S 17:18:12 -E 17:18:14 -o start,end,elapsed", "2026-11-23T17:18:12|2026-11-23T17:18:14|00:00:02\n"},
		{"-n -P -X -k 10 -o jobid", "5\n9\n"},
		{"-n -P -X -F SchedMain -R BeginTime -j 13,5 -o jobid", "13\n"},
		{"-B -j 5", "Batch Script for 5\n" + strings.Repeat("-", 80) + "\n#!/bin/sh\n"},
		{"-n -P -X -j 11 -o nodelist,eligible,alloctres,reqtres", "None assigned|2026-11-23T17:18:13||billing=4,cpu=4,mem=400M,node=4\n"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			_, out, errs := sacct(t, peertest.New(22), "root", nil, strings.Fields(tt.args)...)
			if out != tt.want || errs != "" {
				t.Errorf("got %q %s, want %q", out, errs, tt.want)
			}
		})
	}
}

func TestMeasuredSteps(t *testing.T) {
	f := peertest.New(22)
	s := f.Rows[0].Steps[0]
	s.MaxRss, s.UserSec, s.SysSec = 3, 4000, 5
	_, out, _ := sacct(t, f, "root", nil, "-n", "-P", "-j", "1.batch", "-o", "maxrss,averss,maxrssnode,maxrsstask,avecpu,totalcpu,tresusageinmax")
	if want := "3072K|3072K|n1|0|01:06:45|01:06:45|cpu=01:06:45,energy=0,mem=3072K\n"; out != want {
		t.Errorf("got %q, want %q", out, want)
	}
	_, out, _ = sacct(t, f, "root", nil, "-n", "-P", "-j", "1.batch", "-o", "maxrss", "--units=M")
	if out != "3M\n" {
		t.Errorf("got %q", out)
	}
}

func TestRefuses(t *testing.T) {
	tests := []struct{ args, want string }{
		{"-o nofield", "sacct: error: Invalid field requested: \"nofield\"\n"},
		{"-o jobid%x", "sacct: error: Invalid width of field jobid: %x\n"},
		{"-u nosuchuser", "sacct: error: Invalid user: nosuchuser\n"},
		{"-j abc", "sacct: error: Invalid job id: abc\n"},
		{"--units=X", "sacct: error: Invalid value for --units: X: want one of K, M, G, T, P\n"},
		{"-i 3-2", "sacct: error: Invalid --nnodes: 3-2: want min or min-max\n"},
		{"-x 1", "sacct: error: --associations: associations have no numbers here\n"},
		{"extra", "sacct: error: Unknown arguments:\nsacct: error:  extra\n"},
		{"--bogus", "sacct: unrecognized option '--bogus'\nTry \"sacct --help\" for more information\n"},
	}
	for _, tt := range tests {
		status, out, errs := sacct(t, peertest.New(22), "root", nil, strings.Fields(tt.args)...)
		if status != 1 || out != "" || errs != tt.want {
			t.Errorf("%s: status %d, %q, %q", tt.args, status, out, errs)
		}
	}
}

type broken struct{ store }

func (broken) AcctJobs(context.Context, *acctstorev1.Query, func(*acctstorev1.JobsReply) error) error {
	return errs.Coded("test", errs.Disabled, "Slurm accounting storage is disabled")
}

func TestDisabled(t *testing.T) {
	o, err := Parse(nil, func(string) string { return "" }, peertest.Names())
	if err != nil {
		t.Fatal(err)
	}
	var out, stderr bytes.Buffer
	if status := Run(t.Context(), o, broken{store{peertest.New(0)}}, &out, &stderr); status != 1 || out.Len() != 0 ||
		!strings.HasPrefix(stderr.String(), "Slurm accounting storage is disabled\n") {
		t.Errorf("status %d, %q, %q", status, out.String(), stderr.String())
	}
}

func TestEveryField(t *testing.T) {
	for _, f := range fields {
		status, out, errs := sacct(t, peertest.New(22), "root", nil, "-o", f.name)
		if status != 0 || errs != "" || strings.Count(out, "\n") != 25 {
			t.Errorf("%s: status %d, %d lines, %s", f.name, status, strings.Count(out, "\n"), errs)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("-S now-1 -E 12:00 -o jobid%-20,st%3 -j 5_[1-3].0 -s R,CG")
	f.Fuzz(func(t *testing.T, text string) {
		sacct(t, peertest.New(22), "root", nil, strings.Fields(text)...)
	})
}
