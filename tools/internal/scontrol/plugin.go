package scontrol

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/structured"
)

// plugin is "reload plugin <kind>[/<name>] [path]" and its neighbours. A
// relative path is one of this directory; the controller gets it whole.
func (s *session) plugin(ctx context.Context, verb ctlv1.ChangePluginRequest_Verb, word string, words []string) {
	if !beginning("plugin", words[0]) {
		s.failf("invalid entity:%s for keyword:%s", words[0], word)
		return
	}
	r := &ctlv1.ChangePluginRequest{Verb: verb, Name: words[1]}
	if len(words) > 2 {
		path, err := filepath.Abs(words[2])
		if err == nil {
			_, err = os.Stat(path)
		}
		if err != nil && verb == ctlv1.ChangePluginRequest_RELOAD && strings.HasPrefix(r.GetName(), "launch") {
			err = nil // it need only be on the nodes
		}
		if err != nil {
			s.failf("scontrol: error: %v", err)
			return
		}
		r.Path = path
	}
	s.change(ctx, r)
}

// shadow is "promote shadow [<kind>/<name>]" and "stop shadow ...".
func (s *session) shadow(ctx context.Context, verb ctlv1.ChangePluginRequest_Verb, word string, words []string) {
	if !beginning("shadow", words[0]) {
		s.failf("invalid entity:%s for keyword:%s", words[0], word)
		return
	}
	r := &ctlv1.ChangePluginRequest{Verb: verb}
	if len(words) > 1 {
		r.Name = words[1]
	}
	s.change(ctx, r)
}

func beginning(of, word string) bool {
	word = strings.TrimSuffix(strings.ToLower(word), "s")
	return word != "" && strings.HasPrefix(of, word)
}

func (s *session) change(ctx context.Context, r *ctlv1.ChangePluginRequest) {
	m, err := s.source.ChangePlugin(ctx, r)
	if err != nil {
		what := "scontrol: error: "
		if e := errs.CodeOf(err); e == errs.AccessDenied {
			err = asUserID(err)
		} else if e != 0 && e != errs.UnknownPlugin {
			s.fail(what, err)
			return
		}
		s.failf("%s%s", what, strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", " "))
		return
	}
	for _, line := range m.GetMessages() {
		if !s.Quiet {
			s.line(line)
		}
	}
}

// showPlugins is "show plugin [kind[/name]]".
func (s *session) showPlugins(ctx context.Context, name string) {
	m, err := s.source.Plugins(ctx, &ctlv1.PluginsRequest{Name: name})
	switch {
	case errs.CodeOf(err) == errs.UnknownPlugin:
		s.notFound("Plugin " + name)
		return
	case err != nil:
		s.fail("slurm_load_plugins error: ", err)
		return
	}
	if s.Dump {
		s.dumpPlugins(m)
		return
	}
	for _, p := range m.GetPlugins() {
		s.record(pluginBlock(p))
	}
	if len(m.GetPlugins()) == 0 {
		s.line("No plugins in the system")
	}
}

func pluginBlock(p *ctlv1.PluginInfo) string {
	b := &block{}
	fmt.Fprintf(b, "PluginName=%s/%s Version=%s", p.GetKind(), p.GetName(), orNA(p.GetVersion()))
	b.linef("State=%s Pid=%d Host=%s Since=%s", strings.ToUpper(orNA(p.GetState())), p.GetPid(), orNA(p.GetHost()), stamp(wlm.Time(p.GetSince()), "Unknown"))
	b.linef("Restarts=%d Calls=%d Overruns=%d Rev=%d Contract=%d", p.GetRestarts(), p.GetCalls(), p.GetOverruns(), p.GetRev(), p.GetContract())
	b.linef("P50=%s P99=%s Max=%s CPUTime=%.2fs RSS=%s", millis(p.GetP50Us()), millis(p.GetP99Us()), millis(p.GetMaxUs()), p.GetCpuSeconds(),
		wlm.FormatSize(p.GetRss()>>10, 'K', wlm.SizeScaled))
	b.linef("Path=%s", p.GetPath())
	b.textf("SHA256", p.GetSha256())
	if p.GetConfigured() != "" {
		b.linef("InPlaceOf=%s/%s", p.GetKind(), p.GetConfigured())
	}
	if p.GetSetBy() != "" {
		b.linef("SetBy=%s", p.GetSetBy())
	}
	if p.GetUser() != "" || len(p.GetLimits()) > 0 {
		b.linef("User=%s Limits=%s", orNA(p.GetUser()), orNA(strings.Join(p.GetLimits(), ",")))
	}
	for _, o := range p.GetOptions() {
		b.linef("Option=%s Value=%s Default=%s Origin=%s", o.GetKey(), withUnit(o.GetValue(), o.GetUnit()), withUnit(o.GetDefault(), o.GetUnit()), o.GetOrigin())
	}
	b.textf("LastError", p.GetLastError())
	return b.String()
}

// millis prints microseconds in milliseconds.
func millis(us uint64) string { return strconv.FormatFloat(float64(us)/1000, 'f', 3, 64) + "ms" }

func (s *session) dumpPlugins(m *ctlv1.PluginsReply) {
	w := structured.New(s.out, s.Form)
	w.List("plugins")
	for _, p := range m.GetPlugins() {
		w.Object("")
		w.Str("kind", p.GetKind())
		w.Str("name", p.GetName())
		w.Str("version", p.GetVersion())
		w.Str("state", p.GetState())
		w.Str("configured", p.GetConfigured())
		w.Str("set_by", cmp.Or(p.GetSetBy(), "slurm.conf"))
		w.Str("user", p.GetUser())
		w.List("limits")
		for _, l := range p.GetLimits() {
			w.Str("", l)
		}
		w.End()
		w.Int("pid", int64(p.GetPid()))
		w.Str("host", p.GetHost())
		w.Set("since", p.GetSince())
		w.Int("contract", int64(p.GetContract()))
		w.Int("restarts", int64(p.GetRestarts()))
		w.Int("calls", int64(p.GetCalls()))
		w.Int("overruns", int64(p.GetOverruns()))
		w.Int("rev", int64(p.GetRev()))
		w.Object("latency_us")
		w.Int("p50", int64(p.GetP50Us()))
		w.Int("p99", int64(p.GetP99Us()))
		w.Int("max", int64(p.GetMaxUs()))
		w.End()
		w.Float("cpu_seconds", p.GetCpuSeconds())
		w.Int("rss", int64(p.GetRss()))
		w.Str("path", p.GetPath())
		w.Str("sha256", p.GetSha256())
		w.Str("last_error", p.GetLastError())
		w.List("options")
		for _, o := range p.GetOptions() {
			w.Object("")
			w.Str("key", o.GetKey())
			w.Str("value", o.GetValue())
			w.Str("default", o.GetDefault())
			w.Str("unit", o.GetUnit())
			w.Str("origin", o.GetOrigin())
			w.End()
		}
		w.End()
		w.End()
	}
	w.End()
	s.trailer(w)
}

func withUnit(value, unit string) string {
	if value == "" {
		return "(none)"
	}
	if unit == "" {
		return value
	}
	return value + " " + unit
}

// showShadows is "show shadow [kind[/name]]".
func (s *session) showShadows(ctx context.Context, name string) {
	m, err := s.source.Shadows(ctx)
	if err != nil {
		s.fail("slurm_load_shadows error: ", err)
		return
	}
	var list []*ctlv1.ShadowReport
	for _, r := range m.GetShadows() {
		if name == "" || name == r.GetKind() || name == r.GetKind()+"/"+r.GetName() {
			list = append(list, r)
		}
	}
	switch {
	case s.Dump:
		s.dumpShadows(list)
		return
	case len(list) == 0 && name != "":
		s.notFound("Shadow " + name)
		return
	case len(list) == 0:
		s.line("No shadows in the system")
		return
	}
	for _, r := range list {
		s.record(shadowBlock(r, s.Details > 0))
	}
}

func shadowBlock(r *ctlv1.ShadowReport, details bool) string {
	b := &block{}
	fmt.Fprintf(b, "ShadowName=%s/%s Version=%s Live=%s", r.GetKind(), r.GetName(), orNA(r.GetVersion()), orNA(r.GetLive()))
	b.linef("State=%s Pid=%d Since=%s", strings.ToUpper(orNA(r.GetState())), r.GetPid(), stamp(wlm.Time(r.GetSince()), "Unknown"))
	b.linef("Passes=%d Missed=%d Agreement=%.1f%%", r.GetPasses(), r.GetMissed(), r.GetAgreement())
	b.linef("Agreed=%d Sooner=%d Later=%d NotAtAll=%d Compared=%d", r.GetAgreed(), r.GetSooner(), r.GetLater(), r.GetNever(), r.GetCompared())
	l, x := r.GetLiveSide(), r.GetShadowSide()
	b.linef("WaitMean=%.1fs/%.1fs WaitP95=%.0fs/%.0fs BoundedSlowdown=%.2f/%.2f Utilization=%.1f%%/%.1f%% (live/shadow)", l.GetWaitMean(), x.GetWaitMean(),
		l.GetWaitP95(), x.GetWaitP95(), l.GetSlowdown(), x.GetSlowdown(), l.GetUtilization(), x.GetUtilization())
	if over, under := r.GetOverheldCpuSeconds(), r.GetUnderheldCpuSeconds(); over+under > 0 {
		b.linef("Overheld=%.0fs Underheld=%.0fs (CPU seconds)", over, under)
	}
	b.linef("PassP50=%s/%s PassP99=%s/%s PassMax=%s/%s (live/shadow)", millis(l.GetPassP50Us()), millis(x.GetPassP50Us()),
		millis(l.GetPassP99Us()), millis(x.GetPassP99Us()), millis(l.GetPassMaxUs()), millis(x.GetPassMaxUs()))
	b.linef("Path=%s", r.GetPath())
	if details {
		b.textf("SHA256", r.GetSha256())
		for _, j := range r.GetExamples() {
			b.linef("JobId=%d Live=%s Shadow=%s", j.GetJob(), stamp(wlm.Time(j.GetLive()), "None"), stamp(wlm.Time(j.GetShadow()), "None"))
		}
	}
	b.textf("LastError", r.GetLastError())
	return b.String()
}

func (s *session) dumpShadows(list []*ctlv1.ShadowReport) {
	w := structured.New(s.out, s.Form)
	w.List("shadows")
	for _, r := range list {
		w.Object("")
		w.Str("kind", r.GetKind())
		w.Str("name", r.GetName())
		w.Str("version", r.GetVersion())
		w.Str("live", r.GetLive())
		w.Str("state", r.GetState())
		w.Int("pid", int64(r.GetPid()))
		w.Set("since", r.GetSince())
		w.Str("path", r.GetPath())
		w.Str("sha256", r.GetSha256())
		w.Str("last_error", r.GetLastError())
		w.Int("passes", int64(r.GetPasses()))
		w.Int("passes_missed", int64(r.GetMissed()))
		w.Object("starts")
		w.Int("agreed", int64(r.GetAgreed()))
		w.Int("sooner", int64(r.GetSooner()))
		w.Int("later", int64(r.GetLater()))
		w.Int("not_at_all", int64(r.GetNever()))
		w.Int("compared", int64(r.GetCompared()))
		w.Float("agreement_percent", r.GetAgreement())
		w.End()
		w.Float("overheld_cpu_seconds", r.GetOverheldCpuSeconds())
		w.Float("underheld_cpu_seconds", r.GetUnderheldCpuSeconds())
		dumpSide(w, "live_side", r.GetLiveSide())
		dumpSide(w, "shadow_side", r.GetShadowSide())
		w.List("examples")
		for _, j := range r.GetExamples() {
			w.Object("")
			w.Int("job_id", int64(j.GetJob()))
			w.Set("live_start", j.GetLive())
			w.Set("shadow_start", j.GetShadow())
			w.End()
		}
		w.End()
		w.End()
	}
	w.End()
	s.trailer(w)
}

func dumpSide(w *structured.Writer, name string, x *ctlv1.ShadowSide) {
	w.Object(name)
	w.Float("wait_mean_seconds", x.GetWaitMean())
	w.Float("wait_p95_seconds", x.GetWaitP95())
	w.Float("bounded_slowdown", x.GetSlowdown())
	w.Float("utilization_percent", x.GetUtilization())
	w.Object("pass_us")
	w.Int("p50", int64(x.GetPassP50Us()))
	w.Int("p99", int64(x.GetPassP99Us()))
	w.Int("max", int64(x.GetPassMaxUs()))
	w.End()
	w.End()
}
