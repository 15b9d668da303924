package scontrol

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/jobtext"
	"github.com/sluice-hpc/sluice/tools/internal/remote"
	"github.com/sluice-hpc/sluice/tools/internal/structured"
)

// config fetches the running configuration; nil after a failure it has told.
func (s *session) config(ctx context.Context) *ctlv1.ConfigReply {
	m, err := s.source.Config(ctx)
	if err != nil {
		s.fail("slurm_load_ctl_conf error: ", err)
		return nil
	}
	return m
}

func (s *session) showConfig(ctx context.Context, _ string) {
	m := s.config(ctx)
	if m == nil {
		return
	}
	if s.Dump {
		w := structured.New(s.out, s.Form)
		w.List("configuration")
		for _, v := range m.GetValues() {
			w.Object("")
			w.Str("key", v.GetKey())
			w.Str("value", v.GetValue())
			w.Str("origin", v.GetOrigin())
			w.End()
		}
		w.End()
		s.trailer(w)
		return
	}
	fmt.Fprintf(s.out, "Configuration data as of %s\n", stamp(wlm.Time(m.GetNow()), "Unknown"))
	for _, v := range m.GetValues() {
		fmt.Fprintf(s.out, "%-23s = %s", v.GetKey(), v.GetValue())
		if s.Details > 0 && v.GetOrigin() != "" {
			fmt.Fprintf(s.out, " [%s]", v.GetOrigin())
		}
		s.out.WriteByte('\n') //nolint:errcheck // Flush tells
	}
	s.out.WriteByte('\n') //nolint:errcheck // Flush tells
	s.pingLines(ctx)
}

// controllerPinger is a source that knows several controllers.
type controllerPinger interface {
	PingEach(context.Context) []remote.Pong
}

// pings asks the controllers how they are.
func (s *session) pings(ctx context.Context) []remote.Pong {
	if p, ok := s.source.(controllerPinger); ok {
		if all := p.PingEach(ctx); all != nil {
			return all
		}
	}
	start := time.Now()
	m, err := s.source.Ping(ctx)
	host := m.GetHost()
	if err != nil {
		m, host = nil, s.host
	}
	return []remote.Pong{{Host: host, Reply: m, Took: time.Since(start), Err: err}}
}

// modeName is what a controller is by its place in slurm.conf, as Slurm says it.
func modeName(i, n int) string {
	switch {
	case i == 0:
		return "primary"
	case n == 2:
		return "backup"
	}
	return "backup" + strconv.Itoa(i)
}

func (s *session) ping(ctx context.Context, _ []string) {
	if !s.Dump {
		s.pingLines(ctx)
		return
	}
	all := s.pings(ctx)
	w := structured.New(s.out, s.Form)
	w.List("pings")
	for i, p := range all {
		w.Object("")
		w.Str("hostname", p.Host)
		word := "UP"
		if p.Err != nil {
			word = "DOWN"
		}
		w.Str("pinged", word)
		w.Bool("responding", p.Err == nil)
		w.Int("latency", p.Took.Microseconds())
		w.Str("mode", modeName(i, len(all)))
		w.Bool("primary", leads(p.Reply))
		w.End()
	}
	w.End()
	s.anyUp(all)
	s.trailer(w)
}

// leads reports whether a controller that answered is the one in control.
func leads(m *ctlv1.PingReply) bool {
	return m != nil && (m.GetMode() == "" || m.GetMode() == "primary")
}

// anyUp sets the exit status when no controller answered.
func (s *session) anyUp(all []remote.Pong) {
	for _, p := range all {
		if p.Err == nil {
			return
		}
	}
	s.status = 1
}

func (s *session) pingLines(ctx context.Context) {
	all := s.pings(ctx)
	s.anyUp(all)
	leader := -1
	for i, p := range all {
		word := "UP"
		if p.Err != nil {
			word = "DOWN"
		}
		if leads(p.Reply) {
			leader = i
		}
		fmt.Fprintf(s.out, "Slurmctld(%s) at %s is %s\n", modeName(i, len(all)), p.Host, word)
	}
	s.out.Flush() //nolint:errcheck // the last Flush tells
	switch {
	case len(all) == 1 && all[0].Err != nil:
		s.fail("scontrol: error: ", all[0].Err)
	case leader > 0:
		fmt.Fprintf(s.stderr, "scontrol: warning: %s is in control\n", all[leader].Host)
	}
	for _, p := range all {
		for _, w := range p.Reply.GetWarnings() {
			fmt.Fprintf(s.stderr, "scontrol: warning: %s\n", w)
		}
	}
}

// value looks a key up in a configuration; (null) is nothing.
func value(m *ctlv1.ConfigReply, key string) string {
	for _, v := range m.GetValues() {
		if strings.EqualFold(v.GetKey(), key) && v.GetValue() != "(null)" {
			return v.GetValue()
		}
	}
	return ""
}

// showDaemons says which daemons the configuration wants on this host.
func (s *session) showDaemons(ctx context.Context, _ string) {
	m := s.config(ctx)
	if m == nil {
		return
	}
	var daemons []string
	for i := 0; ; i++ {
		host := value(m, fmt.Sprintf("SlurmctldHost[%d]", i))
		if host == "" {
			break
		}
		if name, _, _ := strings.Cut(host, "("); name == s.host {
			daemons = append(daemons, "slurmctld")
			break
		}
	}
	nodes, _, _, err := s.loadNodes(ctx, "")
	if err != nil {
		s.fail("slurm_load_node error: ", err)
		return
	}
	for _, n := range nodes {
		if n.Hostname == s.host || string(n.Name) == s.host {
			daemons = append(daemons, "slurmd")
			break
		}
	}
	s.line(strings.Join(daemons, " "))
}

// showLicenses is "show licenses [name]"; running jobs say what is used.
func (s *session) showLicenses(ctx context.Context, only string) {
	m := s.config(ctx)
	if m == nil {
		return
	}
	total := amounts(value(m, "Licenses"))
	if len(total) == 0 {
		s.line("No licenses configured in Slurm.")
		return
	}
	used := map[string]int{}
	request := &ctlv1.JobsRequest{WithSpec: true, Filter: &ctlv1.JobFilter{States: []uint32{uint32(wlm.Running), uint32(wlm.Suspended)}}}
	err := s.source.Jobs(ctx, request, func(m *ctlv1.JobsReply) error {
		for _, info := range m.GetJobs() {
			for _, l := range amounts(info.GetJob().GetSpec().GetLicenses()) {
				used[l.name] += l.count
			}
		}
		return nil
	})
	if err != nil {
		s.fail("slurm_load_licenses error: ", err)
		return
	}
	reserved, err := s.reservedLicenses(ctx)
	if err != nil {
		s.fail("slurm_load_licenses error: ", err)
		return
	}
	for _, l := range total {
		if only == "" || only == l.name {
			s.line(fmt.Sprintf("LicenseName=%s\n    Total=%d Used=%d Free=%d Reserved=%d Remote=no", l.name, l.count, used[l.name], l.count-used[l.name], reserved[l.name]))
		}
	}
}

type amount struct {
	name  string
	count int
}

// amounts reads name[:count],...
func amounts(list string) (out []amount) {
	for item := range strings.SplitSeq(list, ",") {
		name, n, ok := strings.Cut(strings.TrimSpace(item), ":")
		a := amount{name, 1}
		if ok {
			a.count, _ = strconv.Atoi(n) //nolint:errcheck // the controller checked it
		}
		if name != "" {
			out = append(out, a)
		}
	}
	return out
}

func (s *session) reconfigure(ctx context.Context, _ []string) {
	m, err := s.source.Reconfigure(ctx)
	if err != nil {
		s.fail("slurm_reconfigure error:", asUserID(err))
		return
	}
	for _, w := range m.GetWarnings() {
		fmt.Fprintf(s.stderr, "scontrol: warning: %s\n", w)
	}
	if s.Verbose > 0 {
		for _, c := range m.GetChanges() {
			s.line(c)
		}
	}
}

func (s *session) shutdown(ctx context.Context, words []string) {
	r := &ctlv1.ShutdownRequest{}
	if len(words) > 0 {
		switch strings.ToLower(words[0]) {
		case "slurmctld", "controller":
			r.ControllerOnly = true
		default:
			s.failf("invalid shutdown argument:%s", words[0])
			return
		}
	}
	if _, err := s.source.Shutdown(ctx, r); err != nil {
		s.fail("slurm_shutdown error:", asUserID(err))
	}
}

func (s *session) token(ctx context.Context, words []string) {
	r := &ctlv1.TokenRequest{}
	for _, w := range words {
		key, v, _ := cut(w)
		switch key {
		case "lifespan":
			n, err := strconv.ParseUint(v, 10, 32)
			if strings.EqualFold(v, "infinite") {
				n, err = 1<<32-1, nil
			}
			if err != nil {
				s.failf("scontrol: error: Invalid lifespan: %s: want a number of seconds", v)
				return
			}
			r.Lifespan = uint32(n)
		case "username":
			r.User = v
		default:
			s.failf("scontrol: error: Invalid argument: %s: want lifespan=<seconds> or username=<user>", w)
			return
		}
	}
	m, err := s.source.Token(ctx, r)
	if err != nil {
		s.fail("scontrol: error: Unable to generate token: ", err)
		return
	}
	s.line("SLURM_JWT=" + m.GetToken())
}

// debugLevels are the words of setdebug, by number.
var debugLevels = []string{"quiet", "fatal", "error", "info", "verbose", "debug", "debug2", "debug3", "debug4", "debug5"}

func (s *session) setDebug(ctx context.Context, words []string) {
	level := ""
	for i, l := range debugLevels {
		if strings.EqualFold(words[0], l) || words[0] == strconv.Itoa(i) {
			level = l
		}
	}
	if level == "" {
		s.failf("invalid debug level: %s", words[0])
		return
	}
	r := &ctlv1.SetDebugRequest{Level: level}
	if len(words) > 1 {
		key, v, ok := cut(words[1])
		if !ok || key != "nodes" && key != "node" {
			s.failf("invalid setdebug argument: %s: want nodes=<list>", words[1])
			return
		}
		r.Nodes = v
	}
	if _, err := s.source.SetDebug(ctx, r); err != nil {
		s.fail("slurm_set_debug_level error: ", asUserID(err))
	}
}

// write is "write batch_script id [file|-]" and "write config [file]".
func (s *session) write(ctx context.Context, words []string) {
	what := strings.ToLower(words[0])
	switch {
	case what == "batch_script" && len(words) >= 2:
		s.writeScript(ctx, words[1:])
	case what == "config" && len(words) <= 2:
		s.writeConfig(ctx, words[1:])
	case what == "batch_script" || what == "config":
		s.failf("wrong number of arguments for write %s", what)
	default:
		s.failf("invalid write argument:%s", words[0])
	}
}

// told says what went wrong without changing the exit status, as Slurm does
// where a script cannot be had.
func (s *session) told(format string, args ...any) {
	before := s.status
	s.failf(format, args...)
	s.status = before
}

func (s *session) writeScript(ctx context.Context, words []string) {
	ref, err := remote.Ref(words[0])
	if err != nil {
		s.told("job script retrieval failed: Invalid job id specified")
		return
	}
	m, err := s.source.Script(ctx, &ctlv1.ScriptRequest{Job: ref.GetJob()})
	if err != nil {
		s.told("job script retrieval failed: %s", s.why(err))
		return
	}
	file := "slurm-" + words[0] + ".sh"
	if len(words) > 1 {
		file = words[1]
	}
	if file == "-" {
		s.out.Write(m.GetScript()) //nolint:errcheck // Flush tells
		return
	}
	const readable = 0o700
	if err := os.WriteFile(file, m.GetScript(), readable); err != nil {
		s.failf("failed to open file `%s`: %v", file, err)
		return
	}
	s.line(fmt.Sprintf("batch script for job %s written to %s", words[0], file))
}

func (s *session) writeConfig(ctx context.Context, words []string) {
	m := s.config(ctx)
	if m == nil {
		return
	}
	file := "slurm.conf." + time.Unix(m.GetNow(), 0).Format("20060102150405")
	if len(words) > 0 {
		file = words[0]
	} else if v := s.getenv("SLURM_CONF_OUT"); v != "" {
		file = v
	}
	var b strings.Builder
	for _, v := range m.GetValues() {
		if v.GetValue() != "(null)" && v.GetOrigin() != "runtime" && v.GetOrigin() != "default" {
			fmt.Fprintf(&b, "%s=%s\n", v.GetKey(), v.GetValue())
		}
	}
	const readable = 0o644
	if err := os.WriteFile(file, []byte(b.String()), readable); err != nil {
		s.failf("failed to open file `%s`: %v", file, err)
		return
	}
	s.line("Slurm config saved to " + file)
}

func (s *session) waitJob(ctx context.Context, words []string) {
	ref, err := remote.Ref(words[0])
	if err != nil {
		s.failf("invalid job_id: %s", words[0])
		return
	}
	m, err := s.source.WaitStarted(ctx, ref.GetJob())
	switch {
	case errs.CodeOf(err) == errs.InvalidJobID:
		s.failf("scontrol: error: slurm_job_node_ready: %v\nscontrol: Problem running job %s", errs.InvalidJobID, words[0])
		return
	case err != nil:
		s.fail("slurm_job_node_ready error: ", err)
		return
	}
	if j := jobtext.Of(m, 0); j.State.Ended() {
		s.failf("scontrol: Job %v no longer running", j.Job.ID)
		return
	}
	if s.Verbose > 0 {
		s.line("Nodes are ready for use")
	}
}

// completing lists jobs that are being cleaned up.
func (s *session) completing(ctx context.Context, _ []string) {
	request := &ctlv1.JobsRequest{Filter: &ctlv1.JobFilter{FlagsAny: uint32(wlm.FlagCompleting)}}
	err := s.source.Jobs(ctx, request, func(m *ctlv1.JobsReply) error {
		for _, info := range m.GetJobs() {
			j := jobtext.Of(info, m.GetNow())
			if j.Flags&wlm.FlagCompleting == 0 {
				continue
			}
			nodes := make([]string, len(j.Cleaning))
			for i, n := range j.Cleaning {
				nodes[i] = string(n)
			}
			s.line(fmt.Sprintf("JobId=%v EndTime=%s CompletingTime=%s Nodes(COMPLETING)=%s", j.Job.ID, stamp(j.End, "Unknown"),
				wlm.FormatElapsed(int64(j.Now-j.End)), strings.Join(nodes, ",")))
		}
		return nil
	})
	if err != nil {
		s.fail("slurm_load_jobs error: ", err)
	}
}

func (s *session) errnumstr(_ context.Context, words []string) {
	n, err := strconv.ParseUint(words[0], 10, 16)
	if err != nil {
		s.failf("invalid error number: %s", words[0])
		return
	}
	s.line(errs.Code(n).String())
}
