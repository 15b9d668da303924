package pluginhost

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// A plugin that may come late serves once its program lets it; until then calls
// that wait do so. One that is not found is an error all the same.
func TestLate(t *testing.T) {
	h, _, ctx := newHost(t)
	good, err := h.Find("job_submit", "a")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(filepath.Dir(good), "job_submit_late")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(program) })
	if _, err := h.Start(ctx, Spec{Kind: "job_submit", Name: "late"}); err == nil {
		t.Fatal("a plugin that must not come late was started")
	}
	if _, err := h.Start(ctx, Spec{Kind: "job_submit", Name: "nosuch", Late: true}); errs.KindOf(err) != errs.NotFound {
		t.Errorf("one that does not exist: %v", err)
	}
	p := start(t, h, ctx, Spec{Kind: "job_submit", Name: "late", Late: true, Wait: true})
	if i := p.Info(); i.GetState() != "restarting" || i.GetPid() != 0 || len(h.Warnings()) != 1 {
		t.Errorf("info %v, warnings %q", i, h.Warnings())
	}
	copyFile(t, good, program+".new")
	if err := os.Rename(program+".new", program); err != nil {
		t.Fatal(err)
	}
	if _, err := submit(ctx, p, wlm.Spec{}); err != nil {
		t.Errorf("once its program is good: %v", err)
	}
	if w := h.Warnings(); len(w) != 0 {
		t.Errorf("warnings %q", w)
	}
}

// What was disabled before a restart of the host is so afterwards.
func TestStartDisabled(t *testing.T) {
	h, _, ctx := newHost(t)
	filter, err := h.StartDisabled(ctx, Spec{Kind: "job_submit", Name: "a", Optional: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := submit(ctx, filter, wlm.Spec{}); errs.KindOf(err) != errs.Unavail || !filter.Disabled() {
		t.Errorf("a disabled plugin answers: %v", err)
	}
	if err := filter.Replace(ctx, filter.Spec()); err != nil || filter.Disabled() {
		t.Errorf("enabled again: %v", err)
	}
	policy, err := h.StartDisabled(ctx, Spec{Kind: "sched", Name: "a", Fallback: "b"})
	if err != nil {
		t.Fatal(err)
	}
	if i := policy.Info(); i.GetState() != "disabled" || i.GetName() != "b" || i.GetConfigured() != "a" || i.GetSetBy() != "disable" {
		t.Errorf("info %v", i)
	}
	if _, err := h.StartDisabled(ctx, Spec{Kind: "sched", Name: "a"}); errs.KindOf(err) != errs.Unsupport {
		t.Errorf("without a fallback: %v", err)
	}
}
