package sinfo

import (
	"bytes"
	"strings"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/command"
	"github.com/sluice-hpc/sluice/tools/internal/peertest"
)

func sinfo(t *testing.T, f *peertest.Fake, env map[string]string, args ...string) (int, string, string) {
	t.Helper()
	var out, errs bytes.Buffer
	o, err := Parse(args, func(k string) string { return env[k] }, peertest.Names())
	if err != nil {
		c := New()
		return c.Fail(err, command.Env{Stdout: &out, Stderr: &errs}, 1), out.String(), errs.String()
	}
	status := Run(t.Context(), o, f, &out, &errs)
	return status, out.String(), errs.String()
}

func TestObserved(t *testing.T) {
	for _, file := range []string{
		"sinfo.txt", "alice_sinfo.txt", "sinfo_-a.txt", "sinfo_-d.txt", "sinfo_-r.txt", "sinfo_-s.txt", "sinfo_-l.txt",
		"sinfo_-N.txt", "sinfo_-N_-l.txt", "sinfo_-R_.txt", "sinfo_-R_-l.txt", "sinfo_-n_n1.txt", "sinfo_-p_small.txt",
		"sinfo_-o_P_a_l_D_T_N_C_m_e_O_f_G_z_.txt",
	} {
		t.Run(file, func(t *testing.T) {
			o := peertest.Load(t, file)
			status, out, errs := sinfo(t, peertest.New(20), nil, o.Args()...)
			o.Check(t, status, out, errs)
		})
	}
}

// The mistakes were made before n4 was drained, and with less running.
func TestObservedMistakes(t *testing.T) {
	for _, o := range peertest.Errors(t, "sinfo") {
		t.Run(o.Line, func(t *testing.T) {
			f := peertest.New(20)
			f.NodeList[1].AllocCpus = 0
			f.NodeList[3].Node.Flags = 0
			status, out, errs := sinfo(t, f, nil, o.Args()...)
			o.Check(t, status, out, errs)
		})
	}
}

func TestStructured(t *testing.T) {
	o := peertest.Load(t, "sinfo_--json.txt")
	status, out, errs := sinfo(t, peertest.New(20), nil, "--json")
	if status != 0 || errs != "" {
		t.Fatalf("status %d: %s", status, errs)
	}
	if out != o.Stdout {
		peertest.CheckStructure(t, out, o.Stdout, func(string) bool { return false })
		t.Error("the layout differs")
	}
}

// Nodes that differ share a line unless the difference is shown and divides.
func TestGroups(t *testing.T) {
	f := peertest.New(20)
	f.NodeList[2].Node.Cpus, f.NodeList[2].Node.RealMemory = 32, 4000
	f.NodeList[3].Node.Flags = 0
	f.NodeList[3].Node.Features = []string{"gpu"}
	tests := []struct{ args, want string }{
		{"-o %P|%D|%c|%m", "main*|4|32+|4000+;small|1|64|8000"},
		{"-e -o %P|%D|%c|%m", "main*|3|64|8000;main*|1|32|4000;small|1|64|8000"},
		{"-o %D|%N", "4|n[1-4]"},
		{"-o %D|%f", "3|(null);1|gpu"},
		{"-o %P|%F|%C", "main*|2/2/0/4|9/215/0/224;small|1/0/0/1|8/56/0/64"},
		{"-t idle -o %N", "n[3-4]"},
		{"-t mix -o %N|%t -p main", "n[1-2]|mix"},
		{"-t down -o %P|%D|%t|%N", "main*|0|n/a|;small|0|n/a|"},
		{"-N -o %N", "n1;n1;n2;n3;n4"},
		{"-O partitionname:6,nodes:.3", "main    4;small   1"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			_, out, errs := sinfo(t, f, nil, append(strings.Fields(tt.args), "-h")...)
			if got := strings.ReplaceAll(strings.TrimSuffix(out, "\n"), "\n", ";"); got != tt.want || errs != "" {
				t.Errorf("got %s %s, want %s", got, errs, tt.want)
			}
		})
	}
}

func TestHiddenPartitions(t *testing.T) {
	f := peertest.New(20)
	f.PartList[1].Partition.Hidden = true
	for args, want := range map[string]string{"": "main\n", "-a": "main\nsmall\n", "-p small": "small\n"} {
		_, out, _ := sinfo(t, f, nil, append(strings.Fields(args), "-h", "-o", "%R")...)
		if out != want {
			t.Errorf("%q shows %q, want %q", args, out, want)
		}
	}
	_, out, _ := sinfo(t, f, map[string]string{"SINFO_ALL": "1", "SINFO_FORMAT": "%R", "SINFO_SORT": "-P"}, "-h")
	if out != "small\nmain\n" {
		t.Errorf("the environment gives %q", out)
	}
}

// Names of partitions are never cut in the default formats.
func TestLongNames(t *testing.T) {
	f := peertest.New(20)
	f.PartList[0].Partition.Name = "interactive-long"
	_, out, _ := sinfo(t, f, nil)
	if !strings.HasPrefix(out, "PARTITION         AVAIL  TIMELIMIT") || !strings.Contains(out, "\ninteractive-long*    up") {
		t.Errorf("got\n%s", out)
	}
}

func TestStatesInOrder(t *testing.T) {
	f := peertest.New(20)
	f.NodeList[0].Node.State, f.NodeList[0].Node.Flags = uint32(wlm.NodeDown), uint32(wlm.NodeNotResponding)
	f.NodeList[2].AllocCpus = 64
	_, out, _ := sinfo(t, f, nil, "-h", "-p", "main", "-o", "%t")
	if want := "down*\ndrain\nmix\nalloc\n"; out != want {
		t.Errorf("got %q, want %q", out, want)
	}
}

func TestEveryField(t *testing.T) {
	for i := range fields {
		for _, name := range fields[i].Names {
			status, out, errs := sinfo(t, peertest.New(20), nil, "-O", name)
			if status != 0 || errs != "" || strings.Count(out, "\n") < 2 {
				t.Errorf("%s: status %d, %q, %s", name, status, out, errs)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("-hl -o %P%. -O a:.5x -S #P,-t -t idle&drain,down -n n[1-3]")
	f.Fuzz(func(t *testing.T, line string) {
		sinfo(t, peertest.New(19), nil, strings.Fields(strings.ReplaceAll(line, "i", ""))...)
	})
}
