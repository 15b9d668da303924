package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/sluice-hpc/sluice/conf"
	"github.com/sluice-hpc/sluice/core/pluginhost"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/jobsubmit"
)

// keepFile, in StateSaveLocation, has what scontrol changed of the plugins that
// slurm.conf names, so that it outlives the controller. It is written anew, as a
// whole, after each change, and is mode 0600: whoever may write it decides which
// programs the controller starts.
const keepFile = "plugins.json"

// kept is one change. It holds for as long as the key of slurm.conf says what it
// said then.
type kept struct {
	Kind       string `json:"kind"`
	Configured string `json:"configured"`     // value of the key, or of its element
	Name       string `json:"name"`           // what serves instead
	Path       string `json:"path,omitempty"` // where its program is; empty: in PluginDir
	Disabled   bool   `json:"disabled,omitempty"`
}

// readKept reads what the file says; none is no change.
func readKept(dir string) ([]kept, error) {
	data, err := os.ReadFile(filepath.Join(dir, keepFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []kept
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, errs.Newf("slurmctld.Keep", errs.Invalid, "%s: %w", filepath.Join(dir, keepFile), err)
	}
	return list, nil
}

// writeKept replaces the file as a whole, durably.
func writeKept(dir string, list []kept) error {
	path := filepath.Join(dir, keepFile)
	if len(list) == 0 {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return syncDir(dir)
	}
	data, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		os.Remove(path + ".new")
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// changed lists what differs from slurm.conf. The caller holds changing.
func (s *pluginSet) changed(cfg *conf.Config) []kept {
	list := []kept{}
	for _, v := range services {
		p := *v.plugin(s)
		if k := (kept{v.kind, v.value(cfg), p.Spec().Name, p.Spec().Path, p.Disabled()}); k.differs() {
			list = append(list, k)
		}
	}
	for _, p := range s.chain {
		if k := (kept{jobsubmit.Kind, p.Name(), p.Name(), p.Spec().Path, p.Disabled()}); k.differs() {
			list = append(list, k)
		}
	}
	return list
}

func (k kept) differs() bool {
	return k.Disabled || k.Path != "" || k.Configured != k.Name && k.Configured != k.Kind+"/"+k.Name
}

// keep writes down what differs from slurm.conf now. The change is made by then:
// that it could not be kept is a line for the administrator, not an error.
func (d *daemon) keep() []string {
	cfg := d.config()
	if err := writeKept(cfg.StateSaveLocation, d.set.changed(cfg)); err != nil {
		d.log.Error("what was changed of plugins is not kept", "err", err)
		return []string{"this holds until slurmctld starts anew, since it could not be written down: " + err.Error()}
	}
	return nil
}

// start starts what was kept of a key's plugin, or else what the key names: a
// program that is gone must not keep the controller from serving.
func (d *daemon) start(ctx context.Context, list []kept, key, value, kind string) (*pluginhost.Plugin, error) {
	i := slices.IndexFunc(list, func(k kept) bool { return k.Kind == kind && k.Configured == value })
	if i >= 0 {
		p, err := d.startKept(ctx, list[i], key)
		if err == nil {
			return p, nil
		}
		d.log.Error("what scontrol put in service does not start: slurm.conf's plugin serves", "kind", kind, "plugin", list[i].Name, "path", list[i].Path,
			"configured", value, "err", err)
	}
	return d.startPlugin(ctx, key, value, kind)
}

func (d *daemon) startKept(ctx context.Context, k kept, key string) (*pluginhost.Plugin, error) {
	spec, err := d.specOf(d.cfg, key, k.Kind+"/"+k.Name, k.Kind)
	if err != nil {
		return nil, err
	}
	spec.Path, spec.SetBy = k.Path, setBy(k.differs())
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	d.log.Warn("scontrol's change of a plugin still holds", "kind", k.Kind, "plugin", k.Name, "path", k.Path, "disabled", k.Disabled, "configured", k.Configured)
	if k.Disabled {
		return d.plugins.StartDisabled(ctx, spec)
	}
	return d.plugins.Start(ctx, spec)
}

// setBy is Spec.SetBy of what scontrol reloaded.
func setBy(changed bool) string {
	if changed {
		return "reload"
	}
	return ""
}

// heed makes, before this controller leads, the changes that another one of the
// same StateSaveLocation wrote down while this one stood by.
func (d *daemon) heed(ctx context.Context) {
	cfg := d.config()
	list, err := readKept(cfg.StateSaveLocation)
	if err != nil {
		d.log.Error("what scontrol changed of plugins is lost: those of slurm.conf serve", "err", err)
		return
	}
	d.set.changing.Lock()
	defer d.set.changing.Unlock()
	for _, k := range list {
		if slices.Contains(d.set.changed(cfg), k) {
			continue
		}
		if err := d.follow(ctx, k); err != nil {
			d.log.Error("a plugin was not changed as the controller before did", "kind", k.Kind, "plugin", k.Name, "err", err)
		}
	}
}

// follow makes one change of another controller. No passes are made yet.
func (d *daemon) follow(ctx context.Context, k kept) error {
	p, _, err := d.find(k.Kind, k.Configured)
	if err != nil {
		return err
	}
	prepare := p.PrepareFallback
	switch {
	case k.Disabled && k.Kind == jobsubmit.Kind:
		err := p.Disable(ctx)
		d.set.link()
		return err
	case !k.Disabled:
		spec, err := d.wanted(p, k.Kind, k.Name, k.Path)
		if err != nil {
			return err
		}
		prepare = func(ctx context.Context) (*pluginhost.Candidate, error) { return p.Prepare(ctx, spec) }
	}
	t, err := d.try(ctx, p, false, prepare)
	if err != nil {
		return err
	}
	if _, err := d.adopt(ctx, t); err != nil {
		return err
	}
	d.set.link()
	return nil
}
