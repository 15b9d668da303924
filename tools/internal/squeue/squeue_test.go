package squeue

import (
	"bytes"
	"strings"
	"testing"

	"github.com/sluice-hpc/sluice/tools/internal/command"
	"github.com/sluice-hpc/sluice/tools/internal/peertest"
)

// squeue runs the command as a user of the observed cluster.
func squeue(t *testing.T, f *peertest.Fake, user string, env map[string]string, args ...string) (int, string, string) {
	t.Helper()
	var out, errs bytes.Buffer
	o, err := parse(args, func(k string) string { return env[k] }, peertest.Names(), map[string]uint32{"alice": 1001}[user])
	if err != nil {
		c := New()
		return c.Fail(err, command.Env{Stdout: &out, Stderr: &errs}, 1), out.String(), errs.String()
	}
	status := Run(t.Context(), o, f, &out, &errs)
	return status, out.String(), errs.String()
}

func TestObserved(t *testing.T) {
	tests := []struct {
		file string
		fake *peertest.Fake
	}{
		{"squeue.txt", peertest.New(19)},
		{"alice_squeue.txt", peertest.New(23)},
		{"alice_squeue_--me.txt", peertest.New(23)},
		{"squeue_--me.txt", peertest.New(19)},
		{"squeue_--start.txt", peertest.InListOrder(19)},
		{"squeue_-l.txt", peertest.New(19)},
		{"squeue_-r.txt", peertest.New(19)},
		{"squeue_-s.txt", peertest.New(19)},
		{"squeue_-t_all.txt", peertest.New(19)},
		{"squeue_-u_alice.txt", peertest.New(19)},
		{"squeue_-o_help.txt", peertest.New(19)},
		{"squeue_-h_-o_-o_all.txt", peertest.New(19)},
		{"squeue_-O_jobid,jobarrayid,name,username,state,reason,tres-a.txt", peertest.New(19)},
		{"later_squeue_-t_all.txt", peertest.Later()},
	}
	for _, tt := range tests {
		t.Run(tt.file, func(t *testing.T) {
			o := peertest.Load(t, tt.file)
			status, out, errs := squeue(t, tt.fake, o.User, nil, o.Args()...)
			o.Check(t, status, out, errs)
		})
	}
}

// The mistakes were made on a cluster with other jobs, eight of them pending.
func TestObservedMistakes(t *testing.T) {
	for _, o := range peertest.Errors(t, "squeue") {
		t.Run(o.Line, func(t *testing.T) {
			f := peertest.New(19)
			f.JobList = f.JobList[:8+4][4:]
			status, out, errs := squeue(t, f, o.User, nil, o.Args()...)
			o.Check(t, status, out, errs)
		})
	}
}

func TestStructured(t *testing.T) {
	for _, file := range []string{"squeue_--json.txt", "squeue_--yaml.txt"} {
		t.Run(file, func(t *testing.T) {
			o := peertest.Load(t, file)
			status, out, errs := squeue(t, peertest.InListOrder(19), o.User, nil, o.Args()...)
			if status != 0 || errs != "" {
				t.Fatalf("status %d: %s", status, errs)
			}
			peertest.CheckStructure(t, out, o.Stdout, func(path string) bool {
				for _, differs := range []string{
					".association_id=", // accounting's number, which lists do not carry
					".flags.", ".thread_spec=", ".mail_user=", ".sockets.", ".used=",
				} {
					if strings.Contains(path, differs) {
						return true
					}
				}
				return strings.HasPrefix(path, "jobs.8.end_time.number=") // Slurm adds its mark for no limit to the start
			})
		})
	}
}

func TestOneRequestForWhatListsShow(t *testing.T) {
	f := peertest.New(19)
	squeue(t, f, "root", nil)
	squeue(t, f, "root", nil, "-o", "%i %m")
	squeue(t, f, "root", nil, "-j", "5")
	if len(f.Asked) != 3 {
		t.Fatalf("%d requests", len(f.Asked))
	}
	if f.Asked[0].WithSpec || !f.Asked[1].WithSpec {
		t.Error("specs are asked for when they are not shown, or not when they are")
	}
	if f.Asked[0].MustExist || !f.Asked[2].MustExist {
		t.Error("only one id by itself must exist")
	}
}

func TestEnvironment(t *testing.T) {
	env := map[string]string{"SQUEUE_FORMAT": "%i|%j", "SQUEUE_STATES": "R", "SQUEUE_SORT": "i", "SQUEUE_USERS": "alice"}
	_, out, _ := squeue(t, peertest.New(19), "root", env, "-h")
	if want := "4|wrap\n5|demo\n6_1|wrap\n6_2|wrap\n10|hiq\n"; out != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
	_, out, _ = squeue(t, peertest.New(19), "root", env, "-h", "-o", "%A", "-S", "-i", "-t", "PD,R", "-n", "wrap,dep")
	if want := "14\n11\n6\n8\n7\n4\n"; out != want {
		t.Errorf("options do not win: got\n%swant\n%s", out, want)
	}
}

func TestSelection(t *testing.T) {
	tests := []struct{ args, want string }{
		{"-j 5", "5"},
		{"-j5,10", "5,10"},
		{"-j 6_2", "6_2"},
		{"-j 6", "6_1,6_2,6_[3-6%2]"},
		{"-t CD,F", "1,2,3"},
		{"--notme", "4,5,6_1,6_2,6_[3-6%2],10,11,12,13,14,15+0,15+1"},
		{"--running-over=0:13", "4,5"},
		{"--running-under=0:10", "10"},
		{"-u nosuchuser,alice -n hiq", "10"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			args := append(strings.Fields(tt.args), "-h", "-S", "i", "-o", "%i")
			_, out, _ := squeue(t, peertest.New(19), "root", nil, args...)
			if got := strings.ReplaceAll(strings.TrimSuffix(out, "\n"), "\n", ","); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestUnknownJob(t *testing.T) {
	status, out, errs := squeue(t, peertest.New(19), "root", nil, "-j", "99999999")
	if status != 1 || out != "" || errs != "slurm_load_jobs error: Invalid job id specified\n" {
		t.Errorf("status %d, %q, %q", status, out, errs)
	}
}

// Every field prints something for every kind of job, and every option is described.
func TestEveryField(t *testing.T) {
	for i := range jobFields {
		for _, name := range jobFields[i].Names {
			status, out, errs := squeue(t, peertest.New(19), "root", nil, "-t", "all", "-O", name)
			if status != 0 || errs != "" || strings.Count(out, "\n") != 17 {
				t.Errorf("%s: status %d, %d lines, %s", name, status, strings.Count(out, "\n"), errs)
			}
		}
	}
	for i := range stepFields {
		for _, name := range stepFields[i].Names {
			status, out, errs := squeue(t, peertest.New(19), "root", nil, "-s", "-O", name)
			if status != 0 || errs != "" || strings.Count(out, "\n") != 8 {
				t.Errorf("%s: status %d, %d lines, %s", name, status, strings.Count(out, "\n"), errs)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("-hl -o %i%. -O a:.5x -S -p,#P -j1_[1-3] -s4.0 -t all")
	f.Fuzz(func(t *testing.T, line string) {
		squeue(t, peertest.New(19), "root", nil, strings.Fields(strings.ReplaceAll(line, "-i", ""))...)
	})
}
