package cluster

import "testing"

// The reason is Slurm's.
func TestGresLow(t *testing.T) {
	for _, c := range []struct{ configured, reported, want string }{
		{"gpu:4", "gpu:4", ""},
		{"gpu:4", "gpu:3", "gres/gpu count reported lower than configured (3 < 4)"},
		{"gpu:a:2(S:0),gpu:b:2(S:1),bw:100", "gpu:a:2,gpu:b:1,bw:100", "gres/gpu count reported lower than configured (3 < 4)"},
		{"gpu:4", "", ""},
		{"", "gpu:4", ""},
		{"gpu:2", "gpu:4", ""},
	} {
		if got := gresLow(c.configured, c.reported); got != c.want {
			t.Errorf("%s, reported %s: %q", c.configured, c.reported, got)
		}
	}
}
