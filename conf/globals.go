package conf

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-hpc/sluice/conf/slurmconf"
)

// hosts reads the SlurmctldHost lines.
func (l *loader) hosts() {
	v := l.cfg.values["slurmctldhost"]
	seen := map[string]bool{}
	for i, text := range v.all {
		h, ok := slurmconf.ParseHost(text)
		switch {
		case !ok:
			l.fail(v.at[i], "SlurmctldHost", fmt.Sprintf("%q is not name or name(address)", text))
			continue
		case seen[h.Name]:
			l.fail(v.at[i], "SlurmctldHost", h.Name+" is given twice")
			continue
		}
		seen[h.Name] = true
		l.cfg.Hosts = append(l.cfg.Hosts, SlurmctldHost(h))
	}
}

// derived fills the fields that are more than their key's value.
func (l *loader) derived() {
	c := l.cfg
	c.SlurmctldPort = c.SlurmctldPorts.First
	if p, ok := c.values["selecttypeparameters"].parsed.(Params); ok {
		c.SelectTypeParameters = selectParams(p)
	}
	if !c.values["selecttypeparameters"].set && c.SelectType == "select/linear" {
		c.SelectTypeParameters = SelectParams{Raw: "CR_MEMORY", Memory: true}
	}
	if strings.EqualFold(c.EnforcePartLimits, "YES") {
		c.EnforcePartLimits = "ALL"
	}
	if c.UnkillableStepTimeout == 0 && !c.values["unkillablesteptimeout"].set {
		c.UnkillableStepTimeout = max(minUnkillable, unkillableFactor*c.MessageTimeout)
	}
	if !c.values["prologtimeout"].set {
		c.PrologTimeout = c.PrologEpilogTimeout
	}
	if !c.values["epilogtimeout"].set {
		c.EpilogTimeout = c.PrologEpilogTimeout
	}
	l.enforce()
	l.tres()
	l.licenses()
	l.pluginOptions()
	for _, paths := range []*[]string{&c.Prolog, &c.Epilog, &c.PrologSlurmctld, &c.EpilogSlurmctld} {
		*paths = besideConfig(c.Path, *paths)
	}
}

// UnkillableStepTimeout is at least a minute and five message timeouts.
const (
	minUnkillable    = 60 * time.Second
	unkillableFactor = 5
)

func besideConfig(path string, programs []string) []string {
	var out []string
	for _, p := range programs {
		if p == "" {
			continue
		}
		if !filepath.IsAbs(p) {
			p = filepath.Join(filepath.Dir(path), p)
		}
		out = append(out, p)
	}
	return out
}

// enforce adds what the words of AccountingStorageEnforce imply.
func (l *loader) enforce() {
	p, _ := l.cfg.values["accountingstorageenforce"].parsed.(Params)
	if p.Has("none") {
		p = Params{}
	}
	if len(p.Items) == 0 {
		return
	}
	has := map[string]bool{}
	add := func(words ...string) {
		for _, w := range words {
			has[w] = true
		}
	}
	for name := range p.m {
		add(name)
		switch name {
		case "all":
			add("associations", "limits", "qos", "safe", "wckeys")
		case "safe":
			add("limits", "associations")
		case "limits", "qos", "wckeys":
			add("associations")
		case "nosteps", "nojobs":
			add(name)
		}
	}
	delete(has, "all")
	var words []string
	for _, w := range []string{"associations", "limits", "nojobs", "nosteps", "qos", "safe", "wckeys"} {
		if has[w] {
			words = append(words, w)
		}
	}
	l.cfg.AccountingStorageEnforce = ParseParams(strings.Join(words, ","))
}

// standardTRES are always recorded, in the order of their numbers.
var standardTRES = []string{"cpu", "mem", "energy", "node", "billing", "fs/disk", "vmem", "pages"}

func (l *loader) tres() {
	out := append([]string(nil), standardTRES...)
	v := l.cfg.values["accountingstoragetres"]
	p, _ := v.parsed.(Params)
	for _, t := range p.Items {
		name := strings.ToLower(t)
		kind, rest, slash := strings.Cut(name, "/")
		switch {
		case slash && rest != "" && (kind == "gres" || kind == "license" || kind == "bb" || kind == "ic" || kind == "fs"):
		case !slash && inList(standardTRES, name):
		default:
			l.fail(v.pos(), "AccountingStorageTRES", fmt.Sprintf("%q is not a TRES: want %s, gres/<name>, license/<name>, bb/<name> or ic/<name>",
				t, strings.Join(standardTRES, ", ")))
			continue
		}
		if !inList(out, name) {
			out = append(out, name)
		}
	}
	l.cfg.AccountingStorageTRES = out
}

func inList(list []string, s string) bool {
	for _, x := range list {
		if strings.EqualFold(x, s) {
			return true
		}
	}
	return false
}

func (l *loader) licenses() {
	v := l.cfg.values["licenses"]
	seen := map[string]bool{}
	p, _ := v.parsed.(Params)
	for _, item := range p.Items {
		name, count, has := strings.Cut(item, ":")
		n := uint64(1)
		var err error
		if has {
			n, err = strconv.ParseUint(count, 10, 31)
		}
		switch {
		case err != nil || name == "":
			l.fail(v.pos(), "Licenses", fmt.Sprintf("%q is not name or name:count", item))
		case seen[name]:
			l.fail(v.pos(), "Licenses", name+" is given twice")
		default:
			l.cfg.Licenses = append(l.cfg.Licenses, License{name, uint32(n)})
		}
		seen[name] = true
	}
}

// pluginOptions reads PluginOptions=kind/name:key=value,... lines.
func (l *loader) pluginOptions() {
	v := l.cfg.values["pluginoptions"]
	for i, text := range v.all {
		plugin, opts, ok := strings.Cut(text, ":")
		kind, name, slash := strings.Cut(plugin, "/")
		if !ok || !slash || kind == "" || name == "" {
			l.fail(v.at[i], "PluginOptions", fmt.Sprintf("%q is not kind/name:option=value,...", text))
			continue
		}
		if l.cfg.PluginOptions == nil {
			l.cfg.PluginOptions = map[string]Options{}
		}
		all := l.cfg.PluginOptions[plugin]
		if all == nil {
			all = Options{}
			l.cfg.PluginOptions[plugin] = all
		}
		for _, item := range ParseParams(opts).Items {
			key, val, has := strings.Cut(item, "=")
			if !has {
				val = "yes"
			}
			if old, twice := all[key]; twice {
				l.fail(v.at[i], "PluginOptions", "option "+key+" of "+plugin+" is given at "+old.Origin+" already")
				continue
			}
			all[key] = Option{val, v.at[i].String()}
		}
	}
}
