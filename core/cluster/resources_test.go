package cluster

import (
	"testing"

	"github.com/sluice-hpc/sluice/sdk/wlm"
)

func TestBilling(t *testing.T) {
	for _, tc := range []struct {
		weights string
		max     bool
		want    string
	}{
		{"", false, "cpu=2,mem=4G,node=1,billing=2,gres/gpu=2"},
		{"CPU=1.5,Mem=0.25G", false, "cpu=2,mem=4G,node=1,billing=4,gres/gpu=2"},
		{"CPU=1,Mem=0.25G,GRES/gpu=2", false, "cpu=2,mem=4G,node=1,billing=7,gres/gpu=2"},
		{"CPU=1,Mem=0.25G,GRES/gpu=2", true, "cpu=2,mem=4G,node=1,billing=4,gres/gpu=2"},
		{"Mem=1", false, "cpu=2,mem=4G,node=1,billing=4096,gres/gpu=2"},
		{"CPU=1,license/foo=10", false, "cpu=2,mem=4G,node=1,billing=22,gres/gpu=2"},
	} {
		c := New(Settings{TRES: []string{"gres/gpu"}, MaxTRES: tc.max})
		got := c.tres(2, 4096, 1, map[string]uint64{"gres/gpu": 2}, "foo:2", &wlm.Partition{TRESWeights: tc.weights})
		if got != tc.want {
			t.Errorf("%q: %s, want %s", tc.weights, got, tc.want)
		}
	}
}

func TestParseLicenses(t *testing.T) {
	for in, want := range map[string][]License{
		"":            nil,
		"foo":         {{"foo", 1}},
		"foo:2,bar=3": {{"foo", 2}, {"bar", 3}},
		"foo;foo:2":   {{"foo", 3}},
	} {
		got, err := ParseLicenses(in)
		if err != nil || len(got) != len(want) {
			t.Errorf("%q: %v, %v", in, got, err)
			continue
		}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("%q: %v", in, got)
			}
		}
	}
	for _, bad := range []string{"foo:x", ":2", "a|b", "foo:-1"} {
		if got, err := ParseLicenses(bad); err == nil {
			t.Errorf("%q was read as %v", bad, got)
		}
	}
}
