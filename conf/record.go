package conf

import (
	"strings"

	"github.com/sluice-hpc/sluice/conf/slurmconf"
	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// record is a NodeName, PartitionName, NodeSet or DownNodes line with its
// options checked against the table.
type record struct {
	l       *loader
	section string
	name    slurmconf.Pair
	opts    map[string]option // by canonical key
	own     map[string]bool   // given on this line, not by a default
}

type option struct {
	slurmconf.Pair
	parsed any
}

// record checks one line and lays it over the defaults.
func (l *loader) record(section string, e slurmconf.Entry, defaults map[string]option) *record {
	r := &record{l: l, section: section, name: e.Pair, own: map[string]bool{},
		opts: make(map[string]option, len(defaults)+len(e.Opts))}
	for k, v := range defaults {
		r.opts[k] = v
	}
	for _, p := range e.Opts {
		k, ok := LookupKey(section, p.Key)
		if !ok {
			l.fail(p.Pos, p.Key, misspelt("slurm.conf", section, p.Key))
			continue
		}
		if k.Kind == "obsolete" {
			to, found := LookupKey(section, k.Arg)
			if !found {
				l.warn(p.Pos, p.Key, "is obsolete and ignored")
				continue
			}
			if k.Name != "Feature" {
				l.warn(p.Pos, p.Key, "is obsolete; write "+to.Name)
			}
			if k.Name == "Priority" {
				r.take("PriorityTier", p)
			}
			k = to
		}
		r.take(k.Name, p)
	}
	return r
}

// take sets one option, by its name today.
func (r *record) take(name string, p slurmconf.Pair) {
	k, _ := LookupKey(r.section, name)
	if r.own[name] {
		r.l.warn(p.Pos, p.Key, "is given twice on this line; the last value holds")
	}
	r.own[name] = true
	if p.Value == "" {
		delete(r.opts, name) // an empty value takes a default back
		return
	}
	if k.Acts == "no" {
		r.l.idleOpts[r.section+"."+k.Name] = true
	}
	parsed, err := k.parse(p.Value)
	if err != nil {
		r.l.fail(p.Pos, name, err.Error())
		return
	}
	r.opts[name] = option{p, parsed}
}

func (r *record) fail(key, text string) {
	pos := r.name.Pos
	if o, ok := r.opts[key]; ok {
		pos = o.Pos
	}
	r.l.fail(pos, key, text)
}

func (r *record) has(key string) bool { _, ok := r.opts[key]; return ok }

// text is the option as written, "" when it is not given.
func (r *record) text(key string) string { return r.opts[key].Value }

// uint is the option's number, def when it is not given. UNLIMITED is
// [Infinite].
func (r *record) uint(key string, def uint32) uint32 {
	n, ok := r.opts[key].parsed.(uint64)
	switch {
	case !ok:
		return def
	case n == infinite:
		return Infinite
	}
	return uint32(n)
}

func (r *record) bool(key string, def bool) bool {
	if b, ok := r.opts[key].parsed.(bool); ok {
		return b
	}
	return def
}

func (r *record) mem(key string, def wlm.MiB) wlm.MiB {
	if m, ok := r.opts[key].parsed.(wlm.MiB); ok {
		return m
	}
	return def
}

// list is a comma list; nil when it is not given or ALL.
func (r *record) list(key string) []string {
	p, _ := r.opts[key].parsed.(Params)
	if len(p.Items) == 1 && strings.EqualFold(p.Items[0], "ALL") {
		return nil
	}
	return p.Items
}

// word is an enumeration's value, def when it is not given.
func (r *record) word(key, def string) string {
	if s, ok := r.opts[key].parsed.(string); ok {
		return s
	}
	return def
}

// hosts expands a host list; a mistake is reported and gives nil.
func (r *record) hosts(key, list string) []string {
	names, err := hostlist.Expand(list)
	if err != nil {
		r.fail(key, err.Error())
		return nil
	}
	return names
}

func isDefault(e slurmconf.Entry) bool { return strings.EqualFold(e.Value, "DEFAULT") }
