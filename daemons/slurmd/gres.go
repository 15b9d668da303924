package main

import (
	"log/slog"
	"os"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// foundGres is what the node has of its generic resources: as much as is
// configured, or as many of the files that gres.conf names as there are.
func foundGres(n *wlm.Node, log *slog.Logger) string {
	counts, err := wlm.ParseGres(n.Gres)
	groups, err2 := wlm.ParseGresGroups(n.GresConf)
	if err != nil || err2 != nil {
		return n.Gres
	}
	var out []string
	for _, c := range counts {
		named, found := false, uint64(0)
		for _, g := range groups {
			if g.Name != c.Name || c.Type != "" && g.Type != c.Type || len(g.Files) == 0 {
				continue
			}
			named = true
			for _, device := range g.Files {
				if missing := missingFile(device); missing != "" {
					log.Error("a device of gres.conf is not there", "node", n.Name, "gres", g.Name, "file", missing)
					continue
				}
				found++
			}
		}
		if named && !strings.EqualFold(c.Name, "shard") && !strings.EqualFold(c.Name, "mps") {
			c.Count = min(c.Count, found)
		}
		out = append(out, c.String())
	}
	return strings.Join(out, ",")
}

func missingFile(device string) string {
	for file := range strings.SplitSeq(device, wlm.FileSeparator) {
		if _, err := os.Stat(file); err != nil {
			return file
		}
	}
	return ""
}
