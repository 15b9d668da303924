package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/wlm"
)

func TestFoundGres(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a0", "a1", "b0", "cap"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ gres, conf, want string }{
		{"", "", ""},
		{"gpu:2", "Name=gpu Count=2 File=" + dir + "/a[0-1]", "gpu:2"},
		{"gpu:4", "Name=gpu Count=4 File=" + dir + "/a[0-3]", "gpu:2"},
		{"gpu:a:2,gpu:b:2(S:0),bw:10", "Name=gpu Type=a Count=2 File=" + dir + "/a[0-1];Name=gpu Type=b Count=2 File=" + dir + "/b[0-1]", "gpu:a:2,gpu:b:1,bw:10"},
		{"gpu:1", "Name=gpu Count=1 File=" + dir + "/a0|" + dir + "/cap", "gpu:1"},
		{"gpu:1", "Name=gpu Count=1 File=" + dir + "/a0|" + dir + "/none", "gpu:0"},
		{"gpu:2,shard:8", "Name=gpu Count=2 File=" + dir + "/a[0-1];Name=shard Count=8 File=" + dir + "/a[0-1]", "gpu:2,shard:8"},
		{"gpu:2", "", "gpu:2"},
	} {
		if got := foundGres(&wlm.Node{Name: "n", Gres: c.gres, GresConf: c.conf}, slog.New(slog.DiscardHandler)); got != c.want {
			t.Errorf("%s with %s: %s", c.gres, c.conf, got)
		}
	}
}
