package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/core/pass"
	"github.com/sluice-hpc/sluice/core/pluginhost"
	"github.com/sluice-hpc/sluice/daemons/internal/clusterconf"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/selector"
)

// shadowing is a shadow with its processes.
type shadowing struct {
	kind      string
	candidate *pluginhost.Plugin // what is tried
	other     *pluginhost.Plugin // an instance of the live one of the other kind
	live      func() string      // name of the live one of the kind
	shadow    *pass.Shadow
	cancel    context.CancelFunc
	done      sync.WaitGroup

	mu     sync.Mutex
	failed error
}

// startShadow runs a scheduler or selector beside the live one.
func (d *daemon) startShadow(ctx context.Context, kind, name, path string) ([]string, error) {
	const op = "slurmctld.Shadow"
	var live, beside *pluginhost.Plugin
	switch kind {
	case sched.Kind:
		live, beside = d.set.sched, d.set.selector
	case selector.Kind:
		live, beside = d.set.selector, d.set.sched
	default:
		return nil, errs.Newf(op, errs.Unsupport, "plugins of the kind %q have no shadows: only %s and %s plan passes", kind, sched.Kind, selector.Kind)
	}
	if s := d.shadowOf(kind); s != nil {
		return nil, errs.Newf(op, errs.State, "%s is a shadow already; scontrol stop shadow ends it", s.candidate.Spec())
	}
	spec, err := d.wanted(live, kind, name, path)
	if err != nil {
		return nil, err
	}
	s := &shadowing{kind: kind, live: func() string { return kind + "/" + live.Info().GetName() }}
	start, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if s.candidate, err = d.plugins.Start(start, besideLive(spec)); err != nil {
		return nil, err
	}
	if s.other, err = d.plugins.Start(start, besideLive(beside.Spec())); err != nil {
		s.candidate.Close(start)
		return nil, err
	}
	o := pass.ShadowOptions{Sched: s.candidate, Select: s.other, Rules: clusterconf.Settings(d.config()), Log: d.log.With("shadow", spec.String())}
	if kind == selector.Kind {
		o.Sched, o.Select = s.other, s.candidate
	}
	s.shadow = pass.NewShadow(o)
	run, stop := context.WithCancel(context.Background())
	s.cancel = stop
	s.done.Go(func() {
		if err := s.shadow.Run(run); err != nil {
			d.log.Error("the shadow failed", "shadow", spec.String(), "err", err)
			s.mu.Lock()
			s.failed = err
			s.mu.Unlock()
		}
	})
	d.runner.Attach(s.shadow)
	d.set.shadowMu.Lock()
	d.set.shadows = append(d.set.shadows, s)
	d.set.shadowMu.Unlock()
	d.log.Info("shadow started", "shadow", spec.String(), "pid", s.candidate.Info().GetPid())
	return []string{fmt.Sprintf("%s (pid %d) plans in the shadow of %s", spec, s.candidate.Info().GetPid(), s.live())}, nil
}

// besideLive is a plugin that only watches.
func besideLive(spec pluginhost.Spec) pluginhost.Spec {
	spec.Shadow, spec.Fallback, spec.NeedSnapshot = true, "", nil
	return spec
}

func (d *daemon) shadowOf(kind string) *shadowing {
	d.set.shadowMu.Lock()
	defer d.set.shadowMu.Unlock()
	for _, s := range d.set.shadows {
		if s.kind == kind {
			return s
		}
	}
	return nil
}

// chosen is the shadow that a kind and name mean; both may be left out when
// there is one.
func (d *daemon) chosen(kind, name string) (*shadowing, error) {
	const op = "slurmctld.Shadow"
	d.set.shadowMu.Lock()
	defer d.set.shadowMu.Unlock()
	var found []*shadowing
	var all []string
	for _, s := range d.set.shadows {
		all = append(all, s.candidate.Spec().String())
		if (kind == "" || kind == s.kind) && (name == "" || name == s.candidate.Spec().Name) {
			found = append(found, s)
		}
	}
	switch {
	case len(all) == 0:
		return nil, errs.Coded(op, errs.UnknownPlugin, "there is no shadow")
	case len(found) == 0:
		return nil, errs.Coded(op, errs.UnknownPlugin, fmt.Sprintf("%s is no shadow; there is %s", strings.TrimSuffix(kind+"/"+name, "/"), strings.Join(all, ", ")))
	case len(found) > 1:
		return nil, errs.Newf(op, errs.Invalid, "which one of %s?", strings.Join(all, ", "))
	}
	return found[0], nil
}

func (d *daemon) stopShadow(kind, name string) ([]string, error) {
	s, err := d.chosen(kind, name)
	if err != nil {
		return nil, err
	}
	d.endShadow(s)
	return []string{fmt.Sprintf("%s is no shadow any more", s.candidate.Spec())}, nil
}

// endShadow detaches a shadow and ends its processes.
func (d *daemon) endShadow(s *shadowing) {
	d.runner.Detach(s.shadow)
	s.cancel()
	s.done.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	s.candidate.Close(ctx)
	s.other.Close(ctx)
	d.set.shadowMu.Lock()
	d.set.shadows = slices.DeleteFunc(d.set.shadows, func(x *shadowing) bool { return x == s })
	d.set.shadowMu.Unlock()
}

// promote makes the shadow's program the live one. A failure leaves both as
// they are.
func (d *daemon) promote(ctx context.Context, kind, name string) ([]string, error) {
	s, err := d.chosen(kind, name)
	if err != nil {
		return nil, err
	}
	spec := s.candidate.Spec()
	said, err := d.reload(ctx, spec.Kind, spec.Name, spec.Path)
	if err != nil {
		return nil, err
	}
	d.endShadow(s)
	return said, nil
}

// shadowRules tells the shadows by which rules their histories go on.
func (d *daemon) shadowRules(rules cluster.Settings) {
	d.set.shadowMu.Lock()
	defer d.set.shadowMu.Unlock()
	for _, s := range d.set.shadows {
		s.shadow.SetRules(rules)
	}
}

// shadowReports tells how the shadows compare.
func (d *daemon) shadowReports() []*ctlv1.ShadowReport {
	d.set.shadowMu.Lock()
	shadows := slices.Clone(d.set.shadows)
	d.set.shadowMu.Unlock()
	var out []*ctlv1.ShadowReport
	for _, s := range shadows {
		r, i := s.shadow.Report(), s.candidate.Info()
		r.Kind, r.Name, r.Version, r.Path, r.Sha256, r.Pid, r.Since = i.GetKind(), i.GetName(), i.GetVersion(), i.GetPath(), i.GetSha256(), i.GetPid(), i.GetSince()
		r.State, r.Live = i.GetState(), s.live()
		if i.GetLastError() != "" {
			r.LastError = i.GetLastError()
		}
		s.mu.Lock()
		if s.failed != nil {
			r.State, r.LastError = "failed", s.failed.Error()
		}
		s.mu.Unlock()
		out = append(out, r)
	}
	return out
}
