package conf

import (
	"path/filepath"
	"strings"

	"github.com/sluice-hpc/sluice/conf/slurmconf"
)

// Companion is one of the files beside slurm.conf (slurmdbd.conf, gres.conf,
// cgroup.conf, topology.conf), checked against the table of keys.
type Companion struct {
	Path    string
	Files   []string
	Records []Record // lines that begin with NodeName, Name, SwitchName or BlockName
	values  map[string]slurmconf.Pair
	name    string
}

// Record is a line of a companion with its options by key, in the table's
// spelling.
type Record struct {
	Pos  slurmconf.Pos
	Opts map[string]string // the record's own key included
}

// LoadCompanion reads a companion of slurm.conf; the base name of path, less
// its extension, says which. All mistakes come back at once, as from [Load].
func LoadCompanion(path string) (*Companion, []Warning, error) {
	base := filepath.Base(path)
	name := strings.TrimSuffix(base, filepath.Ext(base)) + ".conf"
	if _, ok := keys().by[name+"/-"]; !ok {
		return nil, nil, slurmconf.Problems{{Pos: slurmconf.Pos{File: path},
			Text: name + " is not a file that is known: want slurmdbd.conf, gres.conf, cgroup.conf, topology.conf or one of the manual"}}
	}
	src := read(path, name)
	c := &Companion{Path: path, Files: src.files, values: map[string]slurmconf.Pair{}, name: name}
	l := &loader{cfg: &Config{Files: src.files}, bad: src.bad}
	for _, p := range src.twice {
		l.warn(p.Pos, p.Key, "is set again further down; the last value holds")
	}
	for _, e := range src.entries {
		if !slurmconf.IsRecord(e.Key) {
			l.companionPair(c, e.Pair, func(key string, p slurmconf.Pair) { c.values[strings.ToLower(key)] = p })
			continue
		}
		rec := Record{Pos: e.Pos, Opts: map[string]string{}}
		for _, p := range append([]slurmconf.Pair{e.Pair}, e.Opts...) {
			l.companionPair(c, p, func(key string, p slurmconf.Pair) { rec.Opts[key] = p.Value })
		}
		c.Records = append(c.Records, rec)
	}
	l.order()
	if len(l.bad) > 0 {
		return nil, l.warned, l.bad
	}
	return c, l.warned, nil
}

// companionPair checks one pair and keeps it under today's name.
func (l *loader) companionPair(c *Companion, p slurmconf.Pair, keep func(string, slurmconf.Pair)) {
	k, ok := lookup(c.name, "global", p.Key)
	if !ok {
		l.fail(p.Pos, p.Key, misspelt(c.name, "-", p.Key))
		return
	}
	if k.Kind == "obsolete" {
		to, found := lookup(c.name, "global", k.Arg)
		if !found {
			l.warn(p.Pos, p.Key, "is obsolete and ignored")
			return
		}
		l.warn(p.Pos, p.Key, "is obsolete; write "+to.Name)
		if strings.HasPrefix(k.Name, "Purge") {
			p.Value += "months"
		}
		k = to
	}
	if p.Value != "" || !k.takesEmpty() {
		if _, err := k.parse(p.Value); err != nil {
			l.fail(p.Pos, p.Key, err.Error())
			return
		}
	}
	keep(k.Name, p)
}

// Get returns a value as written, or the default.
func (c *Companion) Get(key string) (text, origin string, ok bool) {
	if p, ok := c.values[strings.ToLower(key)]; ok {
		return p.Value, p.Pos.String(), true
	}
	if k, ok := lookup(c.name, "global", key); ok {
		return k.Default, "default", false
	}
	return "", "", false
}

// Bool returns a truth value; the default is false.
func (c *Companion) Bool(key string) bool {
	text, _, _ := c.Get(key)
	on, _ := parseBool(text)
	return on
}
