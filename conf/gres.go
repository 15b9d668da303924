package conf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/conf/slurmconf"
	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// gresConf reads gres.conf beside slurm.conf, if there is one, into the nodes'
// GresConf.
func (l *loader) gresConf() {
	path := filepath.Join(filepath.Dir(l.cfg.Path), "gres.conf")
	if _, err := os.Stat(path); err != nil {
		return
	}
	c, warned, err := LoadCompanion(path)
	l.warned = append(l.warned, warned...)
	if bad, ok := err.(slurmconf.Problems); ok {
		l.bad = append(l.bad, bad...)
	}
	if c == nil {
		return
	}
	l.cfg.Files = append(l.cfg.Files, c.Files...)
	if text, _, ok := c.Get("AutoDetect"); ok && !strings.EqualFold(text, "off") {
		l.warn(slurmconf.Pos{File: path}, "AutoDetect", "devices are not looked for; name them with File")
	}
	for _, rec := range c.Records {
		if rec.Opts["Name"] == "" {
			continue // a NodeName line with AutoDetect only
		}
		g, err := gresGroup(rec)
		if err != nil {
			l.fail(rec.Pos, "Name", err.Error())
			continue
		}
		if !inList(l.cfg.GresTypes.Items, g.Name) {
			l.fail(rec.Pos, "Name", fmt.Sprintf("%q is not in GresTypes (%s)", g.Name, orNone(l.cfg.GresTypes.Raw)))
			continue
		}
		var names []string
		if list := rec.Opts["NodeName"]; list != "" {
			if names, err = hostlist.Expand(list); err != nil {
				l.fail(rec.Pos, "NodeName", err.Error())
				continue
			}
		}
		for i := range l.cfg.Nodes {
			n := &l.cfg.Nodes[i]
			if names != nil && !slices.Contains(names, string(n.Name)) {
				continue
			}
			if n.GresConf != "" {
				n.GresConf += ";"
			}
			n.GresConf += g.String()
		}
	}
	for i := range l.cfg.Nodes {
		n := &l.cfg.Nodes[i]
		n.Gres = withSockets(n)
	}
}

// gresGroup reads one line.
func gresGroup(rec Record) (g wlm.GresGroup, err error) {
	o := rec.Opts
	g = wlm.GresGroup{Name: o["Name"], Type: o["Type"], Links: o["Links"], Flags: o["Flags"], Count: 1}
	key, file := "File", o["File"]
	if many := o["MultipleFiles"]; many != "" {
		if file != "" {
			return g, errors.New("give one of File and MultipleFiles")
		}
		key, file = "MultipleFiles", many
	}
	if file != "" {
		if g.Files, err = hostlist.Expand(file); err != nil {
			return g, fmt.Errorf("in %s=%s: %v", key, file, err)
		}
		if key == "MultipleFiles" { // they make one device together
			g.Files = []string{strings.Join(g.Files, wlm.FileSeparator)}
		}
		if len(g.Files) > wlm.MaxGresDevices {
			return g, fmt.Errorf("in File=%s: %d devices are more than the %d that a name may have", file, len(g.Files), wlm.MaxGresDevices)
		}
		g.Count = uint64(len(g.Files))
	}
	if text := o["Count"]; text != "" {
		counts, err := wlm.ParseGres(g.Name + ":" + text)
		if _, digit := strconv.Atoi(text[:1]); err != nil || len(counts) != 1 || counts[0].Type != "" || digit != nil {
			return g, fmt.Errorf("in Count=%s: want a number, with K, M, G, T or P behind a large one", text)
		}
		g.Count = counts[0].Count
	}
	cores := o["Cores"]
	if cores == "" {
		cores = o["CPUs"]
	}
	if cores != "" {
		if g.Cores, err = wlm.ParseCPUSet(cores); err != nil {
			return g, fmt.Errorf("in Cores=%s: %v", cores, err)
		}
	}
	return g, nil
}

// withSockets is a node's Gres with the sockets that devices are near behind
// each item, as Slurm shows it: gpu:a:2(S:0).
func withSockets(n *wlm.Node) string {
	counts, err := wlm.ParseGres(n.Gres)
	groups, err2 := wlm.ParseGresGroups(n.GresConf)
	if err != nil || err2 != nil || n.CoresPerSocket == 0 {
		return n.Gres
	}
	items := make([]string, len(counts))
	for i, c := range counts {
		var sockets wlm.CPUSet
		for _, g := range groups {
			if g.Name != c.Name || c.Type != "" && g.Type != c.Type {
				continue
			}
			for core := range g.Cores.All {
				sockets = sockets.Set(core / int(n.CoresPerSocket))
			}
		}
		items[i] = c.String()
		if sockets.Count() > 0 {
			items[i] += "(S:" + sockets.String() + ")"
		}
	}
	return strings.Join(items, ",")
}
