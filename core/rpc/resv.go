package rpc

import (
	"context"
	"os/exec"
	"os/user"
	"strings"

	"github.com/sluice-hpc/sluice/core/auth"
	"github.com/sluice-hpc/sluice/core/cluster"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wire"
)

// Reservations implements ctlv1.ControllerServer.
func (s *Server) Reservations(_ context.Context, r *ctlv1.ReservationsRequest) (*ctlv1.ReservationsReply, error) {
	now := s.now()
	reply := &ctlv1.ReservationsReply{Now: int64(now)}
	s.deps.View.Read(func(t *cluster.Tables) {
		for _, x := range t.Reservations {
			if r.GetName() == "" || x.Name == r.GetName() {
				m := wire.ReservationToWire(x)
				start, end := x.At(now)
				m.Start, m.End, m.Active = int64(start), int64(end), x.ActiveAt(now)
				reply.Reservations = append(reply.Reservations, m)
			}
		}
	})
	if r.GetName() != "" && len(reply.Reservations) == 0 {
		return nil, errs.Coded("rpc.Reservations", errs.ReservationInvalid)
	}
	return reply, nil
}

// UpdateReservation implements ctlv1.ControllerServer. Users and groups are
// looked up here: the cluster knows names only.
func (s *Server) UpdateReservation(ctx context.Context, r *ctlv1.UpdateReservationRequest) (*ctlv1.UpdateReservationReply, error) {
	const op = "rpc.UpdateReservation"
	cmd := &cluster.UpdateReservation{Name: r.GetName(), Verb: r.GetVerb(), Set: r.GetSet(), User: auth.From(ctx).User,
		Caller: caller(ctx), Groups: map[string][]string{}}
	if cmd.Caller.Admin {
		for _, sign := range []string{"", "+", "-"} {
			for name := range strings.SplitSeq(cmd.Set["users"+sign], ",") {
				if name = strings.TrimPrefix(name, "-"); name == "" {
					continue
				}
				if _, err := auth.LookupUser(name); err != nil {
					return nil, errs.Coded(op, errs.UserIDMissing).With("Users=%s: no user is named %q here", cmd.Set["users"+sign], name)
				}
			}
			for name := range strings.SplitSeq(cmd.Set["groups"+sign], ",") {
				if name == "" || sign == "-" {
					continue
				}
				list, ok := groupMembers(ctx, name)
				if !ok {
					return nil, errs.Coded(op, errs.GroupIDMissing).With("Groups=%s: no group is named %q here", cmd.Set["groups"+sign], name)
				}
				cmd.Groups[name] = list
			}
		}
		s.keepGroups(ctx, cmd)
	}
	value, err := s.deps.Loop.Do(ctx, cmd)
	if err != nil {
		return nil, err
	}
	name, _ := value.(string)
	return &ctlv1.UpdateReservationReply{Name: name}, nil
}

// keepGroups looks up the groups that a reservation has already.
func (s *Server) keepGroups(ctx context.Context, cmd *cluster.UpdateReservation) {
	var groups []string
	s.deps.View.Read(func(t *cluster.Tables) {
		if x := t.Reservation(cmd.Name); x != nil {
			groups = x.Groups
		}
	})
	for _, g := range groups {
		if _, known := cmd.Groups[g]; !known && (cmd.Set["groups+"] != "" || cmd.Set["groups-"] != "") {
			cmd.Groups[g], _ = groupMembers(ctx, g)
		}
	}
}

// groupMembers are the users of a group, those included whose primary group it
// is, where the user database lists them; false for no such group.
func groupMembers(ctx context.Context, name string) ([]string, bool) {
	g, err := user.LookupGroup(name)
	if err != nil {
		return nil, false
	}
	var out []string
	if text, err := exec.CommandContext(ctx, "getent", "group", "--", name).Output(); err == nil {
		if f := strings.Split(strings.TrimSpace(string(text)), ":"); len(f) == 4 && f[3] != "" {
			out = strings.Split(f[3], ",")
		}
	}
	if text, err := exec.CommandContext(ctx, "getent", "passwd").Output(); err == nil {
		for line := range strings.Lines(string(text)) {
			if f := strings.Split(line, ":"); len(f) > 3 && f[3] == g.Gid {
				out = append(out, f[0])
			}
		}
	}
	return out, true
}
