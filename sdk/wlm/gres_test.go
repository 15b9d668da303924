package wlm

import (
	"reflect"
	"testing"
)

func TestParseGres(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want []GresCount
		bad  bool
	}{
		{in: ""},
		{in: "gpu", want: []GresCount{{"gpu", "", 1}}},
		{in: "gpu:2", want: []GresCount{{"gpu", "", 2}}},
		{in: "gres/gpu:a100:2,gres/bw=60", want: []GresCount{{"gpu", "a100", 2}, {"bw", "", 60}}},
		{in: "gpu:a", want: []GresCount{{"gpu", "a", 1}}},
		{in: "gpu:a:2(S:0,1),disk:7K", want: []GresCount{{"gpu", "a", 2}, {"disk", "", 7 << 10}}},
		{in: "license/foo:2,gpu:0", want: []GresCount{{"gpu", "", 0}}},
		{in: ":3", bad: true},
		{in: "gpu:a:b:c", bad: true},
	} {
		got, err := ParseGres(tc.in)
		if (err != nil) != tc.bad || !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%q: %v, %v", tc.in, got, err)
		}
	}
}

func TestNodeGres(t *testing.T) {
	groups := "Name=gpu Type=a Count=2 File=/dev/nvidia[0-1] Cores=0-3;Name=gpu Type=b Count=1 File=/dev/nvidia7;Name=bw Count=100"
	pools, err := NodeGres("gpu:a:2(S:0),gpu:b:1,bw:100,shard:6", groups)
	if err != nil || len(pools) != 3 {
		t.Fatal(pools, err)
	}
	gpu, bw, shard := pools[0], pools[1], pools[2]
	if gpu.Count != 3 || len(gpu.Devices) != 3 || gpu.Devices[2].File != "/dev/nvidia7" || gpu.Devices[0].Cores.String() != "0-3" ||
		gpu.Devices[2].Type != "b" || gpu.Devices[2].Cores != nil {
		t.Errorf("gpu is %+v", gpu)
	}
	if bw.Count != 100 || bw.Devices != nil {
		t.Errorf("bw is %+v", bw)
	}
	if shard.Shared != 2 || len(shard.Devices) != 3 {
		t.Errorf("shard is %+v", shard)
	}
	read, err := ParseGresGroups(groups)
	if err != nil || read[0].String() != "Name=gpu Type=a Count=2 File=/dev/nvidia0,/dev/nvidia1 Cores=0-3" {
		t.Errorf("%v, %v", read, err)
	}
}

func TestGresUse(t *testing.T) {
	for _, s := range []string{"", "gpu:a:2(IDX:0-1),bw(CNT:60)", "gpu:1(IDX:5)", "shard:3(IDX:2)"} {
		uses, err := ParseGresUse(s)
		if err != nil || FormatGresUse(uses) != s {
			t.Errorf("%q became %q, %v", s, FormatGresUse(uses), err)
		}
	}
	for _, s := range []string{"gpu", "gpu:1(IDX:x)", "gpu:1(IDX:0)x", "gpu(ABC:1)", "bw(CNT:-1)"} {
		if _, err := ParseGresUse(s); err == nil {
			t.Errorf("%q was read", s)
		}
	}
}

func TestSpecCPUs(t *testing.T) {
	n := Node{CPUs: 16, Sockets: 2, CoresPerSocket: 4, ThreadsPerCore: 2, CoreSpecCount: 3}
	if got := n.SpecCPUs().String(); got != "6-7,12-15" { // cores 7, 3 and 6
		t.Errorf("got %s", got)
	}
	n = Node{CPUs: 8, Sockets: 1, CoresPerSocket: 8, ThreadsPerCore: 1, CPUSpecList: "0,6-7"}
	if got := n.SpecCPUs().String(); got != "0,6-7" {
		t.Errorf("got %s", got)
	}
}

func FuzzGres(f *testing.F) {
	f.Add("gpu:a:2(IDX:0-1),bw(CNT:60)")
	f.Add("gpu:a100:2,bw:7K")
	f.Add("Name=gpu File=/dev/n[0-3] Cores=0-1;Name=bw Count=3")
	f.Fuzz(func(t *testing.T, s string) {
		if uses, err := ParseGresUse(s); err == nil {
			if again, err := ParseGresUse(FormatGresUse(uses)); err != nil || len(again) != len(uses) {
				t.Errorf("%q: %v, then %v, %v", s, uses, again, err)
			}
		}
		_, _ = ParseGres(s)
		if groups, err := ParseGresGroups(s); err == nil {
			for i := range groups {
				_ = groups[i].String()
			}
		}
	})
}
