package main

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sluice-hpc/sluice/conf"
	"github.com/sluice-hpc/sluice/core/pluginhost"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/jobsubmit"
	"github.com/sluice-hpc/sluice/sdk/launch"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// trial is a swap that was tried and can be made.
type trial struct {
	p      *pluginhost.Plugin
	c      *pluginhost.Candidate
	passes bool
	rests  *pluginhost.Spec // the plugin is disabled and stays so: only what enable starts is another
}

// try starts a plugin beside the one that serves and, where passes call it,
// lets it make one.
func (d *daemon) try(ctx context.Context, p *pluginhost.Plugin, passes bool, prepare func(context.Context) (*pluginhost.Candidate, error)) (*trial, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	c, err := prepare(ctx)
	if err != nil {
		return nil, err
	}
	t := &trial{p: p, c: c, passes: passes}
	if passes {
		if err := d.runner.Rehearse(ctx, p.Kind(), c); err != nil {
			if e := c.Check(); e != nil {
				err = e // how it ended says more than that it did
			}
			c.Discard()
			return nil, errs.Newf("slurmctld.Try", errs.KindOf(err), "%s/%s made no pass on this cluster's state: %w", p.Kind(), c.Info().GetName(), err)
		}
	}
	return t, nil
}

// adopt lets the tried plugin take over, and says what replaced what.
func (d *daemon) adopt(ctx context.Context, t *trial) (string, error) {
	if t.rests != nil && t.p.Respec(*t.rests) {
		t.c.Discard()
		return fmt.Sprintf("%s stays disabled; its options hold when it is enabled", t.rests), nil
	}
	was, is := t.p.Info(), t.c.Info()
	adopt := func() error { return t.c.Adopt(ctx) }
	var err error
	if t.passes {
		err = d.runner.Switch(t.p, t.c, adopt)
	} else {
		err = adopt()
	}
	if err != nil {
		return "", err
	}
	said := fmt.Sprintf("%s/%s %s (pid %d) serves in place of %s/%s %s (pid %d)", is.GetKind(), is.GetName(), is.GetVersion(), is.GetPid(),
		was.GetKind(), was.GetName(), was.GetVersion(), was.GetPid())
	d.log.Info("plugin swapped", "kind", is.GetKind(), "plugin", is.GetName(), "pid", is.GetPid(), "path", is.GetPath(), "old", was.GetName(), "old_pid", was.GetPid())
	return said, nil
}

func (d *daemon) drop(t *trial) {
	if t.passes {
		d.runner.Dismiss(t.c)
	}
	t.c.Discard()
}

// changePlugin carries out scontrol's verbs about plugins.
func (d *daemon) changePlugin(ctx context.Context, r *ctlv1.ChangePluginRequest) ([]string, error) {
	said, err := d.change(ctx, r)
	return said, final(err)
}

// final is an error that a client takes as the answer it is: that a plugin is
// away does not mean that the controller is.
func final(err error) error {
	const op = "slurmctld.ChangePlugin"
	if k := errs.KindOf(err); k == errs.Unavail || k == errs.Deadline {
		return errs.Newf(op, errs.State, "%s", err)
	}
	if errs.CodeOf(err) == errs.UnknownPlugin {
		return errs.Newf(op, errs.NotFound, "%s", strings.TrimSuffix(err.Error(), ": "+errs.UnknownPlugin.String()))
	}
	return err
}

func (d *daemon) change(ctx context.Context, r *ctlv1.ChangePluginRequest) ([]string, error) {
	d.set.changing.Lock()
	defer d.set.changing.Unlock()
	said, err := d.changed(ctx, r)
	switch r.GetVerb() {
	case ctlv1.ChangePluginRequest_SHADOW, ctlv1.ChangePluginRequest_STOP_SHADOW:
	default:
		if err == nil {
			said = append(said, d.keep()...)
		}
	}
	return said, err
}

func (d *daemon) changed(ctx context.Context, r *ctlv1.ChangePluginRequest) ([]string, error) {
	kind, name, _ := strings.Cut(r.GetName(), "/")
	switch v := r.GetVerb(); v {
	case ctlv1.ChangePluginRequest_SHADOW:
		return d.startShadow(ctx, kind, name, r.GetPath())
	case ctlv1.ChangePluginRequest_STOP_SHADOW:
		return d.stopShadow(kind, name)
	case ctlv1.ChangePluginRequest_PROMOTE:
		return d.promote(ctx, kind, name)
	case ctlv1.ChangePluginRequest_RELOAD:
		if kind == launch.Kind {
			return d.reloadNodes(ctx, name, r.GetPath())
		}
		return d.reload(ctx, kind, name, r.GetPath())
	case ctlv1.ChangePluginRequest_DISABLE, ctlv1.ChangePluginRequest_ENABLE:
		if kind == launch.Kind {
			return nil, errs.Newf("slurmctld.ChangePlugin", errs.Unsupport, "launch plugins cannot be disabled: drain the nodes instead")
		}
		if v == ctlv1.ChangePluginRequest_DISABLE {
			return d.disable(ctx, kind, name)
		}
		return d.enable(ctx, kind, name)
	default:
		return nil, errs.Newf("slurmctld.ChangePlugin", errs.Unsupport, "this controller does not know the change %d", v)
	}
}

// find returns the plugin in service that a kind and a name mean. For kinds
// with one plugin the name need not be that of the one in service.
func (d *daemon) find(kind, name string) (p *pluginhost.Plugin, passes bool, err error) {
	const op = "slurmctld.ChangePlugin"
	for _, s := range services {
		if s.kind == kind {
			return *s.plugin(d.set), s.passes, nil
		}
	}
	if kind != jobsubmit.Kind {
		var kinds []string
		for _, s := range services {
			kinds = append(kinds, s.kind)
		}
		return nil, false, errs.Coded(op, errs.UnknownPlugin, fmt.Sprintf("%q is no kind of plugin; there are %s, %s, %s", kind, strings.Join(kinds, ", "), jobsubmit.Kind, launch.Kind))
	}
	var names []string
	for _, p := range d.set.chain {
		if names = append(names, p.Name()); p.Name() == name {
			return p, false, nil
		}
	}
	switch {
	case name == "" && len(names) == 1:
		return d.set.chain[0], false, nil
	case len(names) == 0:
		return nil, false, errs.Coded(op, errs.UnknownPlugin, "no job_submit plugin is in service; JobSubmitPlugins and scontrol reconfigure add one")
	case name == "":
		return nil, false, errs.Newf(op, errs.Invalid, "which one of job_submit/%s?", strings.Join(names, ", job_submit/"))
	}
	return nil, false, errs.Coded(op, errs.UnknownPlugin,
		fmt.Sprintf("job_submit/%s is not in service, only %s; JobSubmitPlugins and scontrol reconfigure add one", name, strings.Join(names, ", ")))
}

// wanted is the plugin that a reload means. A kind alone, without a path, means
// what serves now, from where it is.
func (d *daemon) wanted(p *pluginhost.Plugin, kind, name, path string) (pluginhost.Spec, error) {
	now := p.Spec()
	switch {
	case name == "" && path == "":
		name, path = now.Name, now.Path
	case name == "":
		name = programName(kind, path)
	}
	spec, err := d.specOf(d.config(), "plugin", kind+"/"+name, kind)
	spec.Path = path
	for _, s := range services {
		if s.kind == kind {
			spec.SetBy = setBy(kept{kind, s.value(d.config()), name, path, false}.differs())
		}
	}
	if kind == jobsubmit.Kind {
		spec.SetBy = setBy(path != "")
	}
	return spec, err
}

// programName is the name of the plugin in a file: "mine" of sched_mine.
func programName(kind, path string) string {
	return strings.TrimPrefix(filepath.Base(path), kind+"_")
}

func (d *daemon) reload(ctx context.Context, kind, name, path string) ([]string, error) {
	p, passes, err := d.find(kind, name)
	if err != nil {
		return nil, err
	}
	spec, err := d.wanted(p, kind, name, path)
	if err != nil {
		return nil, err
	}
	return d.swap(ctx, p, passes, spec)
}

func (d *daemon) swap(ctx context.Context, p *pluginhost.Plugin, passes bool, spec pluginhost.Spec) ([]string, error) {
	t, err := d.try(ctx, p, passes, func(ctx context.Context) (*pluginhost.Candidate, error) { return p.Prepare(ctx, spec) })
	if err != nil {
		d.log.Error("plugin not swapped, the old one still serves", "kind", p.Kind(), "plugin", p.Name(), "err", err)
		return nil, err
	}
	said, err := d.adopt(ctx, t)
	if err != nil {
		return nil, err
	}
	d.set.link()
	return []string{said}, nil
}

// disable takes a plugin out of service until enable, a reload, or another value
// of its key.
func (d *daemon) disable(ctx context.Context, kind, name string) ([]string, error) {
	p, passes, err := d.find(kind, name)
	if err != nil {
		return nil, err
	}
	if now := p.Spec(); name != "" && name != now.Name {
		return nil, errs.Coded("slurmctld.Disable", errs.UnknownPlugin, fmt.Sprintf("%s/%s is not in service, %s is", kind, name, now))
	}
	if kind == jobsubmit.Kind {
		if err := p.Disable(ctx); err != nil {
			return nil, err
		}
		d.set.link()
		return []string{fmt.Sprintf("%s is disabled: requests pass without it", p.Spec())}, nil
	}
	t, err := d.try(ctx, p, passes, p.PrepareFallback)
	if err != nil {
		return nil, err
	}
	said, err := d.adopt(ctx, t)
	return []string{said}, err
}

func (d *daemon) enable(ctx context.Context, kind, name string) ([]string, error) {
	p, passes, err := d.find(kind, name)
	if err != nil {
		return nil, err
	}
	spec := p.Spec()
	switch {
	case name != "" && name != spec.Name:
		return nil, errs.Coded("slurmctld.Enable", errs.UnknownPlugin, fmt.Sprintf("%s/%s was not disabled; scontrol reload plugin %s/%s puts it in service", kind, name, kind, name))
	case !p.Disabled() && p.Info().GetState() == "serving":
		return nil, errs.Newf("slurmctld.Enable", errs.State, "%s is in service already", spec)
	}
	return d.swap(ctx, p, passes, spec)
}

// turnover is the plugins of a new configuration, tried.
type turnover struct {
	d      *daemon
	trials []*trial
	chain  []*pluginhost.Plugin // of job_submit; nil: as it is
	fresh  []*pluginhost.Plugin // of chain, those that are new
	nodes  *nodeChange          // of launch; nil: as it is
	done   bool
}

// tryAll tries what a new configuration changes of the plugins. On an error
// nothing is left of it. Before this controller leads (live is false), there
// are no passes to rehearse, and no nodes.
func (d *daemon) tryAll(ctx context.Context, was, next *conf.Config, live bool) (_ *turnover, err error) {
	t := &turnover{d: d}
	defer func() {
		if err != nil {
			t.discard()
		}
	}()
	for _, s := range services {
		value := s.value(next)
		if s.value(was) == value && sameOptions(was, next, value) {
			continue
		}
		spec, err := d.specOf(next, s.key, value, s.kind)
		if err != nil {
			return nil, err
		}
		p := *s.plugin(d.set)
		stays := s.value(was) == value && p.Disabled() // only its options are others
		if now := p.Spec(); stays && (now.Name != spec.Name || now.Path != "") {
			continue // what enable starts is another plugin, by scontrol reload
		}
		x, err := d.try(ctx, p, s.passes && live && !stays, func(ctx context.Context) (*pluginhost.Candidate, error) { return p.Prepare(ctx, spec) })
		if err != nil {
			return nil, fmt.Errorf("%s=%s: %w", s.key, value, err)
		}
		if stays {
			x.rests = &spec
		}
		t.trials = append(t.trials, x)
	}
	if err := t.tryFilters(ctx, was, next); err != nil {
		return nil, err
	}
	if live && (was.LaunchType != next.LaunchType || !sameOptions(was, next, next.LaunchType)) {
		_, name, _ := strings.Cut(next.LaunchType, "/")
		if t.nodes, err = d.prepareNodes(ctx, name, ""); err != nil {
			// An error with a code of its own would be told without what is put before it.
			text := strings.ReplaceAll(err.Error(), ": "+errs.UnknownPlugin.String(), "")
			return nil, errs.Newf("slurmctld.Reconfigure", errs.State, "LaunchType=%s: %s", next.LaunchType, text)
		}
	}
	return t, nil
}

func sameOptions(a, b *conf.Config, plugin string) bool {
	text := func(c *conf.Config) map[string]string {
		m := map[string]string{}
		for k, o := range c.PluginOptions[plugin] {
			m[k] = o.Value
		}
		return m
	}
	return maps.Equal(text(a), text(b))
}

// tryFilters makes the chain that JobSubmitPlugins wants.
func (t *turnover) tryFilters(ctx context.Context, was, next *conf.Config) error {
	d := t.d
	changed := !slices.Equal(was.JobSubmitPlugins, next.JobSubmitPlugins)
	for _, name := range next.JobSubmitPlugins {
		spec, err := d.specOf(next, "JobSubmitPlugins", name, jobsubmit.Kind)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(d.set.chain, func(p *pluginhost.Plugin) bool { return p.Name() == spec.Name })
		switch {
		case i < 0:
			short, cancel := context.WithTimeout(ctx, startTimeout)
			p, err := d.plugins.Start(short, spec)
			cancel()
			if err != nil {
				return fmt.Errorf("JobSubmitPlugins=%s: %w", name, err)
			}
			t.fresh, t.chain = append(t.fresh, p), append(t.chain, p)
			continue
		case !sameOptions(was, next, spec.String()):
			p := d.set.chain[i]
			x, err := d.try(ctx, p, false, func(ctx context.Context) (*pluginhost.Candidate, error) { return p.Prepare(ctx, spec) })
			if err != nil {
				return fmt.Errorf("JobSubmitPlugins=%s: %w", name, err)
			}
			if p.Disabled() {
				x.rests = &spec
			}
			t.trials = append(t.trials, x)
		}
		t.chain = append(t.chain, d.set.chain[i])
	}
	if !changed {
		t.chain = nil
	} else if t.chain == nil {
		t.chain = []*pluginhost.Plugin{}
	}
	return nil
}

// adopt makes the changes. A plugin that dies between its trial and now leaves
// the old one of its kind in service, and the others changed.
func (t *turnover) adopt(ctx context.Context) (said []string, failed error) {
	d := t.d
	t.done = true
	note := func(text string, err error) {
		if err != nil && failed == nil {
			failed = err
		}
		if text != "" {
			said = append(said, text)
		}
	}
	for _, x := range t.trials {
		note(d.adopt(ctx, x))
	}
	if t.chain != nil {
		gone := d.set.chain
		d.set.chain = t.chain
		d.set.link()
		for _, p := range gone {
			if !slices.Contains(t.chain, p) {
				go func() {
					c, cancel := context.WithTimeout(context.Background(), filterTimeout)
					defer cancel()
					p.Close(c)
				}()
			}
		}
	}
	d.set.link()
	if t.nodes != nil {
		lines, err := t.nodes.commit(ctx)
		for _, l := range lines {
			note(l, nil)
		}
		note("", err)
	}
	return said, failed
}

// discard drops what was tried and not adopted.
func (t *turnover) discard() {
	if t.done {
		return
	}
	for _, x := range t.trials {
		t.d.drop(x)
	}
	for _, p := range t.fresh {
		p.Close(context.Background())
	}
	if t.nodes != nil {
		t.nodes.abort()
	}
}

// nodeChange is a launch plugin that every connected node has tried.
type nodeChange struct {
	d     *daemon
	id    uint64
	name  string
	path  string
	nodes []wlm.NodeName
	away  []wlm.NodeName
}

const nodeTime = 60 * time.Second // for all nodes to answer a step

// reloadNodes swaps the launch plugin of every connected node, or of none.
func (d *daemon) reloadNodes(ctx context.Context, name, path string) ([]string, error) {
	if name == "" && path != "" {
		name = programName(launch.Kind, path)
	}
	n, err := d.prepareNodes(ctx, name, path)
	if err != nil {
		return nil, err
	}
	return n.commit(ctx)
}

func (d *daemon) prepareNodes(ctx context.Context, name, path string) (*nodeChange, error) {
	n := &nodeChange{d: d, id: uint64(time.Now().UnixNano()), name: name, path: path}
	for _, node := range d.nodeNames() {
		if d.fleet.Connected(node) {
			n.nodes = append(n.nodes, node)
		} else {
			n.away = append(n.away, node)
		}
	}
	if err := n.step(ctx, nodev1.ChangePlugin_PREPARE); err != nil {
		n.abort()
		return nil, err
	}
	return n, nil
}

// step asks every node and returns the first failure, with how many there are.
func (n *nodeChange) step(ctx context.Context, step nodev1.ChangePlugin_Step) error {
	ctx, cancel := context.WithTimeout(ctx, nodeTime)
	defer cancel()
	failed := n.d.nodes.ChangePlugin(ctx, n.nodes, &nodev1.ChangePlugin{Id: n.id, Step: step, Kind: launch.Kind, Name: n.name, Path: n.path})
	if len(failed) == 0 {
		return nil
	}
	first := slices.Sorted(maps.Keys(failed))[0]
	more := ""
	if len(failed) > 1 {
		more = fmt.Sprintf(" (and %d nodes more)", len(failed)-1)
	}
	return errs.Newf("slurmctld.ChangePlugin", errs.KindOf(failed[first]), "node %s: %w%s", first, failed[first], more)
}

func (n *nodeChange) commit(ctx context.Context) ([]string, error) {
	if err := n.step(ctx, nodev1.ChangePlugin_COMMIT); err != nil {
		return nil, err
	}
	what := launch.Kind + " plugin"
	if n.name != "" {
		what = launch.Kind + "/" + n.name
	}
	said := []string{fmt.Sprintf("%s serves on %d nodes", what, len(n.nodes))}
	if len(n.away) > 0 {
		said = append(said, fmt.Sprintf("%d nodes are not connected and start what slurm.conf names when they are back, %s first", len(n.away), n.away[0]))
	}
	return said, nil
}

func (n *nodeChange) abort() {
	for _, node := range n.nodes {
		n.d.fleet.Send(node, &nodev1.ToNode{Body: &nodev1.ToNode_ChangePlugin{ChangePlugin: &nodev1.ChangePlugin{Id: n.id, Step: nodev1.ChangePlugin_ABORT, Kind: launch.Kind}}})
	}
}
