package scontrol

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wire"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/resvtext"
)

// resvKeys are the keys of a reservation with their other spellings.
var resvKeys = map[string]string{"reservation": "reservationname", "reservationname": "reservationname", "starttime": "starttime",
	"endtime": "endtime", "duration": "duration", "nodes": "nodes", "node": "nodes", "nodecnt": "nodecnt", "nodecount": "nodecnt",
	"corecnt": "corecnt", "corecount": "corecnt", "partitionname": "partitionname", "partition": "partitionname",
	"features": "features", "feature": "features", "flags": "flags", "flag": "flags", "users": "users", "user": "users",
	"groups": "groups", "group": "groups", "accounts": "accounts", "account": "accounts", "qos": "qos",
	"allowedpartitions": "allowedpartitions", "licenses": "licenses", "license": "licenses", "tres": "tres",
	"maxstartdelay": "maxstartdelay", "comment": "comment", "burstbuffer": "burstbuffer", "skip": "skip"}

// readReservation reads a command's words; text says what is wrong, without the
// words behind it that say that nothing was done.
func readReservation(words []string, create bool, now time.Time) (r *ctlv1.UpdateReservationRequest, text string) {
	r = &ctlv1.UpdateReservationRequest{Set: map[string]string{}}
	for _, w := range words {
		key, v, ok := cut(w)
		plain := strings.TrimRight(key, "+-")
		sign := key[len(plain):]
		if !ok && plain == "skip" && !create {
			r.Set["skip"] = "yes"
			continue
		}
		if !ok {
			return nil, fmt.Sprintf("Misformatted parameter '%s', most options have a parameter after '='.", w)
		}
		name, known := resvKeys[plain]
		switch {
		case !known:
			return nil, fmt.Sprintf("Unknown parameter %s.", w)
		case sign != "" && (name == "nodes" || name == "nodecnt" || name == "corecnt"):
			return nil, fmt.Sprintf("The +=/-= notation is not supported when updating %s.", name)
		case name == "reservationname":
			r.Name = v
			continue
		}
		if _, twice := r.Set[name]; twice && (name == "users" || name == "groups" || name == "accounts") {
			return nil, fmt.Sprintf("Parameter %s specified more than once", w)
		}
		v, text := resvValue(name, v, w, now)
		if text != "" {
			return nil, text
		}
		r.Set[name+sign] = v
	}
	return r, ""
}

// resvValue turns a value into what the controller reads: times into Unix
// seconds, durations into seconds.
func resvValue(name, v, word string, now time.Time) (value, text string) {
	switch name {
	case "starttime", "endtime":
		t, err := wlm.ParseWhen(v, now, true)
		if err != nil {
			return "", fmt.Sprintf("%v\nInvalid %s time %s.", err, strings.TrimSuffix(name, "time"), word)
		}
		return fmt.Sprint(int64(t)), ""
	case "duration", "maxstartdelay":
		m, err := wlm.ParseMinutes(v)
		switch {
		case err != nil || m == 0 && name == "duration":
			return "", fmt.Sprintf("Invalid duration %s.", word)
		case m == wlm.Unlimited:
			return "unlimited", ""
		}
		return fmt.Sprint(int64(m) * 60), ""
	case "flags":
		if _, _, err := wlm.ParseResvFlags(v); err != nil {
			return "", fmt.Sprintf("Error parsing flags %s.", v)
		}
	}
	return v, ""
}

// badReservation prints a mistake as Slurm does: what was misread before it, on
// a line of its own.
func (s *session) badReservation(text, none string) {
	before, last, both := strings.Cut(text, "\n")
	if !both {
		before, last = "", text
	} else {
		before += "\n"
	}
	s.failf("%sscontrol: error: %s  %s", before, last, none)
}

func (s *session) createReservation(ctx context.Context, words []string) {
	const none = "No reservation created."
	if !strings.Contains(words[0], "=") {
		words = words[1:]
	}
	r, text := readReservation(words, true, time.Now())
	if text == "" {
		text = incomplete(r)
	}
	if text != "" {
		s.badReservation(text, none)
		return
	}
	r.Verb = ctlv1.UpdateReservationRequest_CREATE
	m, err := s.source.UpdateReservation(ctx, r)
	if err != nil {
		if errs.CodeOf(err) == errs.NodesBusy {
			s.failf("Error creating the reservation: %v\nNote, unless nodes are directly requested a reservation must exist in a single partition.\n"+
				"If no partition is requested the default partition is assumed.", errs.NodesBusy)
			return
		}
		s.fail("Error creating the reservation: ", asUserID(err))
		return
	}
	s.line("Reservation created: " + m.GetName())
}

// incomplete says what a new reservation lacks.
func incomplete(r *ctlv1.UpdateReservationRequest) string {
	any := func(keys ...string) bool {
		return slices.ContainsFunc(keys, func(k string) bool {
			_, plain := r.Set[k]
			_, less := r.Set[k+"-"]
			_, more := r.Set[k+"+"]
			return plain || less || more
		})
	}
	flags, _, _ := wlm.ParseResvFlags(r.Set["flags"])
	switch {
	case !any("users", "groups", "accounts", "qos", "allowedpartitions"):
		return "Either Users/Groups, AllowedPartitions, QOS and/or Accounts must be specified."
	case any("users") && any("groups"):
		return "Users and Groups are mutually exclusive.  You can have one or the other, but not both."
	case !any("starttime"):
		return "A start time must be given."
	case !any("endtime", "duration"):
		return "An end time or duration must be given."
	case any("endtime") && !any("duration") && (len(r.Set["endtime"]) < len(r.Set["starttime"]) || len(r.Set["endtime"]) == len(r.Set["starttime"]) && r.Set["endtime"] < r.Set["starttime"]):
		return "Start time cannot be after end time."
	case flags&wlm.ResvPartNodes != 0 && (!any("partitionname") || !strings.EqualFold(r.Set["nodes"], "ALL")):
		return "PART_NODES flag requires specifying a Partition and ALL nodes."
	case !any("nodes", "nodecnt", "corecnt", "licenses", "tres", "burstbuffer", "partitionname"):
		return "CoreCnt, Nodes, NodeCnt, BurstBuffer, Licenses or Watts must be specified."
	}
	return ""
}

func (s *session) updateReservation(ctx context.Context, words []string) {
	r, text := readReservation(words, false, time.Now())
	if text != "" {
		s.badReservation(text, "No reservation update.")
		s.failf("slurm_update error: No error")
		return
	}
	if _, err := s.source.UpdateReservation(ctx, r); err != nil {
		s.fail("Error updating the reservation: ", asUserID(err))
		s.fail("slurm_update error: ", asUserID(err))
		return
	}
	s.line("Reservation updated.")
}

// reservedLicenses is how many of each license the reservations in force have.
func (s *session) reservedLicenses(ctx context.Context) (map[string]int, error) {
	m, err := s.source.Reservations(ctx, &ctlv1.ReservationsRequest{})
	if err != nil {
		return nil, err
	}
	out := map[string]int{}
	for _, r := range m.GetReservations() {
		for _, l := range amounts(r.GetLicenses()) {
			if r.GetActive() {
				out[l.name] += l.count
			}
		}
	}
	return out, nil
}

func (s *session) showReservations(ctx context.Context, name string) {
	m, err := s.source.Reservations(ctx, &ctlv1.ReservationsRequest{Name: name})
	switch {
	case err != nil && errs.CodeOf(err) == errs.ReservationInvalid:
		s.notFound("Reservation " + name)
		return
	case err != nil:
		s.fail("slurm_load_reservations error: ", err)
		return
	case len(m.GetReservations()) == 0:
		s.line("No reservations in the system")
		return
	}
	for _, x := range m.GetReservations() {
		text := resvtext.Record(wire.ReservationOfWire(x), s.OneLine)
		if s.OneLine {
			text = strings.TrimSuffix(text, "\n")
		}
		s.line(text)
	}
}
