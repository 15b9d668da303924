package rpc

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-hpc/sluice/core/auth"
	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// reservations tells of the reservations that a pending job asks for, and of
// those of others that are, or come before the job would end, in its way.
func (x *explainer) reservations(reason wlm.Reason) {
	j, now := x.j, x.s.now()
	var all, may []*wlm.Reservation
	var partitions []*wlm.Partition
	only := false
	x.s.deps.View.Read(func(t *cluster.Tables) {
		all, partitions = slices.Clone(t.Reservations), t.Partitions
		may, only = t.ReservationsOf(j.Spec)
	})
	if reason == wlm.WaitReservation && x.out.Summary == "" {
		x.out.Summary = "it waits for the reservation that it asks for"
	}
	if only {
		x.asked(all, may, now)
		return
	}
	end := wlm.Time(0) // of the job, if it started now
	if j.TimeLimit != wlm.Unlimited {
		end = now + wlm.Time(j.TimeLimit)*60
	}
	for _, r := range all {
		start, over := r.At(now)
		if slices.Contains(may, r) || over <= now || end != 0 && end <= start {
			continue
		}
		if o := holding(r, j, partitions); o != nil {
			o.Text = fmt.Sprintf("reservation %s%s, from %s to %s", r.Name, forWhom(r), wlm.FormatTime(start, ""), wlm.FormatTime(over, "")) + o.Text
			x.out.Obstacles = append(x.out.Obstacles, o)
		}
	}
}

// asked tells of each reservation that the job names.
func (x *explainer) asked(all, may []*wlm.Reservation, now wlm.Time) {
	for name := range strings.SplitSeq(x.j.Spec.Reservation, ",") {
		i := slices.IndexFunc(all, func(r *wlm.Reservation) bool { return r.Name == name })
		if i < 0 {
			x.add("reservation", "--reservation=%s: %s is not there any more", x.j.Spec.Reservation, name)
			continue
		}
		r := all[i]
		start, over := r.At(now)
		switch {
		case !slices.Contains(may, r):
			x.add("reservation", "--reservation=%s: %s is not for user %s, account %q", x.j.Spec.Reservation, name, x.j.Spec.UserName, x.j.Spec.Account)
		case start > now:
			x.add("reservation", "--reservation=%s: %s begins %s and ends %s", x.j.Spec.Reservation, name, wlm.FormatTime(start, ""), wlm.FormatTime(over, ""))
		case x.j.TimeLimit != wlm.Unlimited && r.Flags&wlm.ResvFlex == 0 && now+wlm.Time(x.j.TimeLimit)*60 > over:
			x.add("reservation", "--reservation=%s: %s ends %s, before the job's time limit of %s would be over", x.j.Spec.Reservation, name,
				wlm.FormatTime(over, ""), wlm.FormatShort(int64(x.j.TimeLimit)*60))
		}
	}
}

// holding is the obstacle that a reservation of others is to a job; nil: it is
// none. The text names the licenses.
func holding(r *wlm.Reservation, j *wlm.Job, partitions []*wlm.Partition) *ctlv1.ExplainObstacle {
	o := &ctlv1.ExplainObstacle{Kind: "reservation"}
	var whole, part []string
	for i := range r.Nodes {
		n := &r.Nodes[i]
		if !slices.ContainsFunc(partitions, func(p *wlm.Partition) bool {
			return slices.Contains(j.Spec.Partitions, p.Name) && slices.Contains(p.NodeNames, n.Node)
		}) {
			continue
		}
		if len(n.CPUs) == 0 {
			whole = append(whole, string(n.Node))
		} else {
			part = append(part, string(n.Node))
		}
	}
	for _, l := range []struct {
		why   string
		names []string
	}{{"kept whole", whole}, {"kept in part", part}} {
		if len(l.names) > 0 {
			o.Nodes = append(o.Nodes, &ctlv1.ExplainNodes{Why: l.why, Count: uint32(len(l.names)), Nodes: hostlist.Compress(l.names)})
		}
	}
	o.Total = uint64(len(r.Nodes))
	kept, _ := cluster.ParseLicenses(r.Licenses)
	wants, _ := cluster.ParseLicenses(j.Spec.Licenses)
	licensed := false
	for _, l := range kept {
		if slices.ContainsFunc(wants, func(w cluster.License) bool { return w.Name == l.Name }) {
			licensed = true
			o.Text += fmt.Sprintf(", keeps %d of license %s", l.Total, l.Name)
		}
	}
	if len(o.Nodes) == 0 && !licensed {
		return nil
	}
	return o
}

// forWhom words who may use a reservation.
func forWhom(r *wlm.Reservation) string {
	word := func(what string, names []string, deny bool) string {
		switch {
		case len(names) == 0:
			return ""
		case deny:
			return " (not for " + what + " " + strings.Join(names, ",") + ")"
		}
		return " (for " + what + " " + strings.Join(names, ",") + ")"
	}
	return word("users", r.Users, r.DenyUsers) + word("accounts", r.Accounts, r.DenyAccounts) + word("groups", r.Groups, false)
}

// discreet takes out of an explanation whose jobs the others are, where
// PrivateData keeps them from the caller. When they end stays: the plan rests on it.
func (s *Server) discreet(ctx context.Context, out *ctlv1.ExplainReply) {
	if caller(ctx).Admin || !s.private("jobs") {
		return
	}
	me := auth.From(ctx).User
	for _, a := range out.GetAhead() {
		if a.GetUser() != me {
			a.Job, a.User, a.Priority = "", "", 0
		}
	}
	for _, o := range out.GetObstacles() {
		for _, h := range o.GetHolders() {
			if h.GetUser() != me {
				h.Job, h.User = "", ""
			}
		}
	}
	for _, w := range out.GetWays() {
		if strings.HasPrefix(w.GetText(), "ends before job ") {
			w.Text = "ends before a job ahead starts"
		}
	}
}
