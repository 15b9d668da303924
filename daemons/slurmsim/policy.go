package main

import (
	"fmt"
	"strings"

	"github.com/sluice-hpc/sluice/conf"
	"github.com/sluice-hpc/sluice/core/pluginhost"
)

// policy is one way to schedule the workload.
type policy struct {
	name    string // as the user wrote it
	plugin  string // of kind sched
	path    string // of its program; empty: found in the plugin directory
	options []pluginhost.Option
}

// presets are the policies that have a name of their own.
var presets = []struct{ name, plugin, options, doc string }{
	{"builtin", "builtin", "", "strict order of priority"},
	{"easy", "backfill", "mode=easy", "backfill, the first blocked job holds a reservation"},
	{"conservative", "backfill", "mode=conservative", "backfill, every blocked job holds a reservation"},
	{"easy-predict", "backfill", "mode=easy,predict=recent", "easy, planned with the user's recent runtimes"},
	{"easy-sjbf", "backfill", "mode=easy,predict=recent,order=shortest", "the same, backfilling the shortest jobs first"},
}

func policyHelp() string {
	var b strings.Builder
	for _, p := range presets {
		fmt.Fprintf(&b, "  %-25s %s\n", p.name, p.doc)
	}
	return b.String()
}

// choosePolicies reads --policy and --plugin, or takes what the configuration
// names. paths are the programs of --plugin by kind/name.
func choosePolicies(f *flags, cfg *conf.Config) (list []policy, paths map[string]string, err error) {
	paths = map[string]string{}
	asked := f.policies
	for _, p := range f.plugins {
		title, path, ok := strings.Cut(p, "=")
		kind, name, ok2 := strings.Cut(title, "/")
		if !ok || !ok2 || name == "" || path == "" {
			return nil, nil, fmt.Errorf("--plugin %s: kind/name=path is wanted, such as sched/mine=./my-sched", p)
		}
		paths[title] = path
		if kind == "sched" && !named(asked, name) {
			asked = append(asked, name)
		}
	}
	if len(asked) == 0 && cfg != nil {
		p := policy{name: cfg.SchedulerType, plugin: strings.TrimPrefix(cfg.SchedulerType, "sched/")}
		for option, o := range cfg.PluginOptions[cfg.SchedulerType] {
			p.options = append(p.options, pluginhost.Option{Name: option, Value: o.Value, Origin: o.Origin})
		}
		return []policy{p}, paths, nil
	}
	if len(asked) == 0 {
		asked = []string{"easy"}
	}
	for _, a := range asked {
		p, err := readPolicy(a)
		if err != nil {
			return nil, nil, err
		}
		p.path = paths["sched/"+p.plugin]
		list = append(list, p)
	}
	return list, paths, nil
}

func named(asked []string, name string) bool {
	for _, a := range asked {
		if n, _, _ := strings.Cut(a, ":"); n == name {
			return true
		}
	}
	return false
}

// readPolicy reads NAME[:option=value,...].
func readPolicy(text string) (policy, error) {
	name, options, _ := strings.Cut(text, ":")
	p := policy{name: text, plugin: strings.TrimPrefix(name, "sched/")}
	for _, preset := range presets {
		if preset.name == name {
			p.plugin = preset.plugin
			options = strings.Trim(preset.options+","+options, ",")
		}
	}
	if p.plugin == "" {
		return p, fmt.Errorf("--policy %q: a name is wanted", text)
	}
	for o := range strings.SplitSeq(options, ",") {
		if o == "" {
			continue
		}
		key, value, ok := strings.Cut(o, "=")
		if !ok {
			return p, fmt.Errorf("--policy %s: option %q is not option=value", text, o)
		}
		p.options = append(p.options, pluginhost.Option{Name: key, Value: value, Origin: "--policy"})
	}
	return p, nil
}
