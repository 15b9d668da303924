package scontrol

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/jobtext"
	"github.com/sluice-hpc/sluice/tools/internal/remote"
	"github.com/sluice-hpc/sluice/tools/internal/structured"
)

// explain is "explain job[_task]": why a job is where it is, with numbers.
func (s *session) explain(ctx context.Context, words []string) {
	ref, err := remote.Ref(words[0])
	if err != nil {
		s.failf("scontrol_print_job error: Invalid job id specified")
		return
	}
	m, err := s.source.Explain(ctx, &ctlv1.ExplainRequest{Ref: ref})
	switch {
	case err != nil:
		s.fail("slurm_load_jobs error: ", err)
	case s.Dump:
		s.dumpExplanation(m)
	case s.OneLine:
		s.line(explainLine(m))
	default:
		e := &explainText{m: m}
		e.all()
		s.out.WriteString(e.String()) //nolint:errcheck // Flush tells
	}
}

// explainText lays an explanation out for 80 columns: what hangs under a
// heading is indented, and long lines go on below where their text began.
type explainText struct {
	strings.Builder
	m *ctlv1.ExplainReply
}

const explainWidth = 80

// item writes one wrapped line that begins with a label.
func (e *explainText) item(indent int, label, text string) {
	head := strings.Repeat(" ", indent) + label
	pad := strings.Repeat(" ", len(head))
	line := head
	room := false // the line has a word
	for _, w := range strings.Fields(text) {
		if room && len(line)+1+len(w) > explainWidth {
			e.WriteString(strings.TrimRight(line, " ") + "\n")
			line, room = pad, false
		}
		if room {
			line += " "
		}
		line, room = line+w, true
	}
	e.WriteString(strings.TrimRight(line, " ") + "\n")
}

func (e *explainText) all() {
	m := e.m
	j := jobtext.Of(m.GetJob(), m.GetNow())
	head := "Job " + j.ID(0) + " is " + wlm.StateName(j.State, j.Flags)
	if j.ReasonNow() != wlm.ReasonNone || j.LongReason() != "" {
		head += " (" + j.ReasonText() + ")"
	}
	e.item(0, "", head+": "+m.GetSummary()+".")
	for i, q := range m.GetQueues() {
		text := fmt.Sprintf("%s of %d in partition %s, by priority (%d)", ordinal(q.GetPlace()), q.GetOf(), q.GetPartition(), j.Priority)
		if n := q.GetNotReady(); n > 0 {
			text += fmt.Sprintf("; %d of those wait for something of their own", n)
		}
		e.item(2, label("Place", i == 0), text)
	}
	if p := m.GetPlan(); p != nil {
		text := e.at(p.GetStart())
		if p.GetNodes() != "" {
			text += " on " + p.GetNodes()
		}
		if p.GetPartition() != "" {
			text += " in " + p.GetPartition()
		}
		if p.GetReserved() {
			text += ", reserved: nobody behind it may delay it"
		} else {
			text += ", an estimate: nothing is reserved for it"
		}
		e.item(2, label("Start", true), text)
		e.item(2, label("", false), "if "+p.GetAssumes())
	}
	e.obstacles()
	e.list("Ahead of it", len(m.GetAhead()), func(i int) string {
		a := m.GetAhead()[i]
		when := "start not known"
		if a.GetStart() != 0 {
			when = "starts " + e.at(a.GetStart()) + on(a.GetNodes())
		}
		return fmt.Sprintf("%s, priority %d, %s", who(a.GetJob(), a.GetUser()), a.GetPriority(), when)
	})
	e.list("It would start sooner with", len(m.GetWays()), func(i int) string {
		w := m.GetWays()[i]
		text := fmt.Sprintf("%s: %s%s", w.GetChange(), e.at(w.GetStart()), on(w.GetNodes()))
		if w.GetText() != "" {
			text += " (" + w.GetText() + ")"
		}
		return text
	})
	for _, n := range m.GetNotes() {
		e.item(2, "Note: ", n)
	}
}

func (e *explainText) obstacles() {
	list := e.m.GetObstacles()
	if len(list) == 0 {
		return
	}
	e.item(2, "", "In its way:")
	for _, o := range list {
		text := o.GetText()
		if o.GetPartition() != "" {
			text = "partition " + o.GetPartition() + ": " + text
		}
		if o.GetSetBy() != "" {
			text += "; set by " + o.GetSetBy()
		}
		e.item(4, "- ", text)
		for _, n := range o.GetNodes() {
			e.item(8, fmt.Sprintf("%d of %d nodes ", n.GetCount(), max(o.GetTotal(), uint64(n.GetCount()))), n.GetWhy()+": "+n.GetNodes())
		}
		for _, h := range o.GetHolders() {
			until := "without a time limit"
			if h.GetUntil() != 0 {
				until = "until " + e.at(h.GetUntil())
			}
			what := on(h.GetNodes())
			if h.GetAmount() > 0 {
				what = fmt.Sprintf(" has %d", h.GetAmount())
			}
			e.item(8, "", who(h.GetJob(), h.GetUser())+what+" "+until)
		}
	}
}

func (e *explainText) list(title string, n int, text func(int) string) {
	if n == 0 {
		return
	}
	e.item(2, "", title+":")
	for i := range n {
		e.item(4, "- ", text(i))
	}
}

// at words a moment as seen from the answer's own time.
func (e *explainText) at(t int64) string {
	if t <= e.m.GetNow() {
		return "now"
	}
	at, now := time.Unix(t, 0), time.Unix(e.m.GetNow(), 0)
	if at.YearDay() == now.YearDay() && at.Year() == now.Year() {
		return at.Format("15:04:05") + " (in " + wlm.FormatShort(t-e.m.GetNow()) + ")"
	}
	return stamp(wlm.Time(t), "") + " (in " + wlm.FormatShort(t-e.m.GetNow()) + ")"
}

func who(job, user string) string {
	switch {
	case job == "":
		return "a job of another user"
	case user == "":
		return "job " + job
	}
	return "job " + job + " of " + user
}

func on(nodes string) string {
	if nodes == "" {
		return ""
	}
	return " on " + nodes
}

func label(word string, first bool) string {
	if !first || word == "" {
		return "       "
	}
	return word + ": "
}

func ordinal(n uint32) string {
	switch {
	case n%100/10 == 1:
	case n%10 == 1:
		return fmt.Sprintf("%dst", n)
	case n%10 == 2:
		return fmt.Sprintf("%dnd", n)
	case n%10 == 3:
		return fmt.Sprintf("%drd", n)
	}
	return fmt.Sprintf("%dth", n)
}

// explainLine is an explanation as one line of Key=Value.
func explainLine(m *ctlv1.ExplainReply) string {
	j := jobtext.Of(m.GetJob(), m.GetNow())
	var b strings.Builder
	fmt.Fprintf(&b, "JobId=%s JobState=%s Reason=%s Priority=%d", j.ID(0), wlm.StateName(j.State, j.Flags), m.GetReason(), j.Priority)
	for _, q := range m.GetQueues() {
		fmt.Fprintf(&b, " Place=%s:%d/%d", q.GetPartition(), q.GetPlace(), q.GetOf())
	}
	if p := m.GetPlan(); p != nil {
		fmt.Fprintf(&b, " PlannedStart=%s PlannedNodes=%s Reserved=%s", stamp(wlm.Time(p.GetStart()), ""), orNA(p.GetNodes()),
			map[bool]string{true: "yes", false: "no"}[p.GetReserved()])
	}
	for _, o := range m.GetObstacles() {
		fmt.Fprintf(&b, " Obstacle=%q", o.GetKind()+": "+o.GetText())
	}
	for _, w := range m.GetWays() {
		fmt.Fprintf(&b, " Sooner=%q", w.GetChange()+": "+stamp(wlm.Time(w.GetStart()), ""))
	}
	fmt.Fprintf(&b, " Summary=%q", m.GetSummary())
	return b.String()
}

func (s *session) dumpExplanation(m *ctlv1.ExplainReply) {
	j := jobtext.Of(m.GetJob(), m.GetNow())
	w := structured.New(s.out, s.Form)
	w.Object("explanation")
	w.Int("job_id", int64(j.Job.ID))
	w.Str("job", j.ID(0))
	w.Str("state", wlm.StateName(j.State, j.Flags))
	w.Str("reason", m.GetReason())
	w.Str("summary", m.GetSummary())
	w.Int("priority", int64(j.Priority))
	w.Int("now", m.GetNow())
	w.List("queues")
	for _, q := range m.GetQueues() {
		w.Object("")
		w.Str("partition", q.GetPartition())
		w.Int("place", int64(q.GetPlace()))
		w.Int("of", int64(q.GetOf()))
		w.Int("not_ready", int64(q.GetNotReady()))
		w.End()
	}
	w.End()
	if p := m.GetPlan(); p != nil {
		w.Object("plan")
		w.Int("start", p.GetStart())
		w.Str("nodes", p.GetNodes())
		w.Str("partition", p.GetPartition())
		w.Bool("reserved", p.GetReserved())
		w.Str("assumes", p.GetAssumes())
		w.End()
	}
	w.List("obstacles")
	for _, o := range m.GetObstacles() {
		dumpObstacle(w, o)
	}
	w.End()
	w.List("ahead")
	for _, a := range m.GetAhead() {
		w.Object("")
		w.Str("job", a.GetJob())
		w.Str("user", a.GetUser())
		w.Int("priority", int64(a.GetPriority()))
		w.Int("start", a.GetStart())
		w.Str("nodes", a.GetNodes())
		w.End()
	}
	w.End()
	w.List("sooner")
	for _, x := range m.GetWays() {
		w.Object("")
		w.Str("change", x.GetChange())
		w.Int("start", x.GetStart())
		w.Str("nodes", x.GetNodes())
		w.Str("text", x.GetText())
		w.End()
	}
	w.End()
	w.List("notes")
	for _, n := range m.GetNotes() {
		w.Str("", n)
	}
	w.End()
	w.End()
	s.trailer(w)
}

func dumpObstacle(w *structured.Writer, o *ctlv1.ExplainObstacle) {
	w.Object("")
	w.Str("kind", o.GetKind())
	w.Str("text", o.GetText())
	w.Str("partition", o.GetPartition())
	w.Str("set_by", o.GetSetBy())
	w.Int("needed", int64(o.GetNeeded()))
	w.Int("free", int64(o.GetFree()))
	w.Int("total", int64(o.GetTotal()))
	w.List("nodes")
	for _, n := range o.GetNodes() {
		w.Object("")
		w.Str("why", n.GetWhy())
		w.Int("count", int64(n.GetCount()))
		w.Str("nodes", n.GetNodes())
		w.End()
	}
	w.End()
	w.List("holders")
	for _, h := range o.GetHolders() {
		w.Object("")
		w.Str("job", h.GetJob())
		w.Str("user", h.GetUser())
		w.Int("until", h.GetUntil())
		w.Str("nodes", h.GetNodes())
		w.Int("amount", int64(h.GetAmount()))
		w.End()
	}
	w.End()
	w.End()
}
