package conf

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-hpc/sluice/conf/slurmconf"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Load reads and checks the configuration at path. The error, when there is
// one, is slurmconf.Problems with every mistake; the Config is nil then.
func Load(path string) (*Config, []Warning, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, nil, slurmconf.Problems{{Pos: slurmconf.Pos{File: path}, Text: err.Error()}}
	}
	l := &loader{cfg: &Config{Path: abs, values: map[string]*value{}}, idleOpts: map[string]bool{}, topoOf: map[string]string{}}
	src := read(abs, "slurm.conf")
	l.bad = append(l.bad, src.bad...)
	l.cfg.Files = src.files
	for _, p := range src.twice {
		l.warn(p.Pos, p.Key, "is set again further down; the last value holds")
	}
	if len(src.entries) == 0 && len(src.bad) > 0 {
		return nil, l.warned, l.bad
	}
	l.sort(src.entries)
	l.globals()
	l.nodes()
	l.nodeSets()
	l.partitions()
	l.downNodes()
	l.gresConf()
	l.topology()
	l.rules()
	l.idle()
	l.order()
	if len(l.bad) > 0 {
		return nil, l.warned, l.bad
	}
	return l.cfg, l.warned, nil
}

// loader is a Load under way.
type loader struct {
	cfg    *Config
	bad    slurmconf.Problems
	warned []Warning

	nodeRecs, partRecs, setRecs, downRecs []slurmconf.Entry

	idleOpts map[string]bool // options of records that Sluice does not act on

	nodeAt map[wlm.NodeName]int // place in cfg.Nodes
	setAt  map[string]int
	partAt []slurmconf.Pos   // of cfg.Partitions
	topoOf map[string]string // partition to Topology
}

func (l *loader) fail(pos slurmconf.Pos, key, text string) {
	l.bad = append(l.bad, slurmconf.Problem{Pos: pos, Key: key, Text: text})
}

func (l *loader) warn(pos slurmconf.Pos, key, text string) {
	l.warned = append(l.warned, Warning{Pos: pos, Key: key, Text: text})
}

// idle notes what the file sets and Sluice does not act on.
func (l *loader) idle() {
	for i := range Keys() {
		k := &keys().rows[i]
		if k.File != "slurm.conf" || k.Section != "global" || k.Acts != "no" {
			continue
		}
		if v := l.cfg.values[strings.ToLower(k.Name)]; v != nil && v.set && !strings.EqualFold(v.text, k.Default) {
			l.cfg.Idle = append(l.cfg.Idle, k.Name)
		}
	}
	l.cfg.Idle = append(l.cfg.Idle, slices.Sorted(maps.Keys(l.idleOpts))...)
}

// order puts problems in the order of the files.
func (l *loader) order() {
	rank := map[string]int{}
	for i, f := range l.cfg.Files {
		rank[f] = i
	}
	by := func(a, b slurmconf.Problem) int {
		if d := rank[a.Pos.File] - rank[b.Pos.File]; d != 0 {
			return d
		}
		return a.Pos.Line - b.Pos.Line
	}
	slices.SortStableFunc(l.bad, by)
	slices.SortStableFunc(l.warned, by)
}

// sort gives each entry to its section. Unknown and obsolete keys end here.
func (l *loader) sort(entries []slurmconf.Entry) {
	var old []slurmconf.Pair
	for _, e := range entries {
		switch strings.ToLower(e.Key) {
		case "nodename":
			l.nodeRecs = append(l.nodeRecs, e)
			continue
		case "partitionname":
			l.partRecs = append(l.partRecs, e)
			continue
		case "nodeset":
			l.setRecs = append(l.setRecs, e)
			continue
		case "downnodes":
			l.downRecs = append(l.downRecs, e)
			continue
		}
		k, ok := LookupKey("global", e.Key)
		switch {
		case !ok:
			l.fail(e.Pos, e.Key, misspelt("slurm.conf", "global", e.Key))
		case k.Kind == "directive":
			l.fail(e.Pos, e.Key, "is a directive; write Include path, without =")
		case k.Kind == "obsolete":
			old = append(old, e.Pair)
		default:
			l.set(k, e.Value, e.Pos)
		}
	}
	l.obsolete(old)
}

// set gives a global key a value.
func (l *loader) set(k *Key, text string, pos slurmconf.Pos) {
	name := strings.ToLower(k.Name)
	v := l.cfg.values[name]
	if v == nil {
		v = &value{key: k, set: true}
		l.cfg.values[name] = v
	}
	if text == "(null)" {
		text = ""
	}
	v.text = text
	v.all = append(v.all, text)
	v.at = append(v.at, pos)
}

// globals reads every global value and fills the fields.
func (l *loader) globals() {
	l.replaceRetired()
	for i := range Keys() {
		k := &keys().rows[i]
		if k.File != "slurm.conf" || k.Section != "global" || k.Kind == "obsolete" || k.Kind == "directive" {
			continue
		}
		name := strings.ToLower(k.Name)
		v := l.cfg.values[name]
		if v == nil {
			v = &value{key: k, text: k.Default}
			if k.Name == "PluginDir" {
				v.text = pluginDir()
			}
			l.cfg.values[name] = v
		}
		if v.text == "" && !k.takesEmpty() {
			if v.set {
				v.text = k.Default
			}
			if v.text == "" {
				continue
			}
		}
		parsed, err := k.parse(v.text)
		if err != nil {
			l.fail(v.pos(), k.Name, err.Error())
			if parsed, err = k.parse(k.Default); err != nil {
				continue // it has no default
			}
		}
		v.parsed = parsed
	}
	l.bind(reflect.ValueOf(l.cfg).Elem())
	l.hosts()
	l.derived()
}

// takesEmpty reports whether an empty value means something.
func (k *Key) takesEmpty() bool {
	switch k.Kind {
	case "text", "list", "flags", "params", "plugin", "plugins", "path":
		return true
	}
	return false
}

// pos is where the value that holds was written.
func (v *value) pos() slurmconf.Pos {
	if len(v.at) == 0 {
		return slurmconf.Pos{}
	}
	return v.at[len(v.at)-1]
}

// pluginDir is libexec/sluice of the prefix that the program runs from.
func pluginDir() string {
	exe, err := os.Executable()
	if err != nil {
		return "/usr/libexec/sluice"
	}
	if real, err := filepath.EvalSymlinks(exe); err == nil {
		exe = real
	}
	dir := filepath.Dir(exe)
	if filepath.Base(dir) == "sluice" && filepath.Base(filepath.Dir(dir)) == "libexec" {
		return dir
	}
	return filepath.Join(filepath.Dir(dir), "libexec", "sluice")
}

// bind fills the struct's fields from the values of the keys they are named
// after; embedded structs are filled the same way.
func (l *loader) bind(into reflect.Value) {
	t := into.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Name
		if tag := f.Tag.Get("conf"); tag != "" {
			name = tag
		}
		if f.Anonymous {
			l.bind(into.Field(i))
			continue
		}
		if v, ok := l.cfg.values[strings.ToLower(name)]; ok && f.IsExported() && v.parsed != nil {
			assign(into.Field(i), v)
		}
	}
}

// assign converts a parsed value to the field's type. The table and the
// struct are both ours: a pair that does not fit is a bug, and a test tries all.
func assign(field reflect.Value, v *value) {
	parsed := reflect.ValueOf(v.parsed)
	if parsed.Type().AssignableTo(field.Type()) {
		field.Set(parsed)
		return
	}
	switch to := field.Addr().Interface().(type) {
	case *time.Duration:
		*to = toDuration(v.parsed.(uint64), v.key.Unit)
		return
	case *wlm.Minutes:
		*to = wlm.Unlimited
		if n := v.parsed.(uint64); n != infinite {
			*to = wlm.Minutes(n)
		}
		return
	case *string:
		*to = v.text
		return
	case *[]string:
		*to = v.all
		return
	}
	switch n := v.parsed.(type) {
	case uint64:
		if n == infinite {
			n = 1<<field.Type().Bits() - 1
		}
		field.SetUint(n)
	case string: // an enumeration of small numbers
		u, err := strconv.ParseUint(n, 10, 8)
		if err != nil {
			panic("conf: key " + v.key.Name + " does not fit its field")
		}
		field.SetUint(u)
	default:
		panic("conf: key " + v.key.Name + " does not fit its field")
	}
}

func toDuration(n uint64, unit string) time.Duration {
	if n == infinite {
		return Forever
	}
	switch unit {
	case "minutes":
		return time.Duration(n) * time.Minute
	case "microseconds", "microseconds per node":
		return time.Duration(n) * time.Microsecond
	}
	return time.Duration(n) * time.Second
}
