// Package resvtext prints reservations as scontrol and sinfo show them.
//
// It only formats: what it is given is as the controller answered, with a
// floating reservation's times already those of now. A nil list prints nothing.
package resvtext

import (
	"fmt"
	"io"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

func orNull(s string) string {
	if s == "" {
		return "(null)"
	}
	return s
}

// Nodes is the reservation's host list, (null) for none.
func Nodes(r *wlm.Reservation) string { return orNull(hostlist.Compress(r.NodeList())) }

func state(r *wlm.Reservation) string {
	if r.Active {
		return "ACTIVE"
	}
	return "INACTIVE"
}

// names prints a list, each with - before it when they are denied.
func names(list []string, deny bool) string {
	if deny {
		return "-" + strings.Join(list, ",-")
	}
	return orNull(strings.Join(list, ","))
}

// Record is the text of scontrol show reservation; oneLine puts it on one line.
func Record(r *wlm.Reservation, oneLine bool) string {
	sep := "\n   "
	if oneLine {
		sep = " "
	}
	var b strings.Builder
	fmt.Fprintf(&b, "ReservationName=%s StartTime=%s EndTime=%s Duration=%s", r.Name, wlm.FormatTime(r.Start, "Unknown"),
		wlm.FormatTime(r.End, "Unknown"), wlm.FormatElapsed(int64(r.End-r.Start)))
	fmt.Fprintf(&b, "%sNodes=%s NodeCnt=%d CoreCnt=%d Features=%s PartitionName=%s Flags=%s", sep, Nodes(r), len(r.Nodes), r.Cores,
		orNull(r.Features), orNull(r.Partition), r.FlagText())
	for i := range r.Nodes {
		if a := &r.Nodes[i]; len(a.CPUs) > 0 {
			fmt.Fprintf(&b, "%sNodeName=%s CoreIDs=%s", strings.Replace(sep, "   ", "     ", 1), a.Node, coreIDs(r, a))
		}
	}
	tres := ""
	if r.CPUs > 0 {
		tres = fmt.Sprintf("cpu=%d", r.CPUs)
	}
	fmt.Fprintf(&b, "%sTRES=%s", sep, orNull(tres))
	fmt.Fprintf(&b, "%sAllowedPartitions=%s QOS=%s", sep, names(r.AllowedPartitions, false), names(r.QOS, false))
	fmt.Fprintf(&b, "%sUsers=%s Groups=%s Accounts=%s Licenses=%s State=%s BurstBuffer=%s", sep, names(r.Users, r.DenyUsers),
		names(r.Groups, false), names(r.Accounts, r.DenyAccounts), orNull(r.Licenses), state(r), orNull(r.BurstBuffer))
	delay := "(null)"
	if r.MaxStartDelay > 0 {
		delay = wlm.FormatElapsed(int64(r.MaxStartDelay))
	}
	fmt.Fprintf(&b, "%sMaxStartDelay=%s", sep, delay)
	if r.Comment != "" {
		fmt.Fprintf(&b, "%sComment=%s", sep, r.Comment)
	}
	return b.String() + "\n"
}

// coreIDs are the cores of a node's CPUs.
func coreIDs(r *wlm.Reservation, a *wlm.NodeAlloc) string {
	threads := max(int(r.CPUs/max(r.Cores, 1)), 1)
	var cores wlm.CPUSet
	for cpu := range a.CPUs.All {
		cores = cores.Set(cpu / threads)
	}
	return cores.String()
}

// Table is sinfo -T.
func Table(w io.Writer, list []*wlm.Reservation, header bool) {
	width := 10
	for _, r := range list {
		width = max(width, len(r.Name))
	}
	const row = "%-*s  %8s  %19s  %19s  %11s  %s\n"
	if header {
		fmt.Fprintf(w, row, width, "RESV_NAME", "STATE", "START_TIME", "END_TIME", "DURATION", "NODELIST")
	}
	for _, r := range list {
		fmt.Fprintf(w, row, width, r.Name, state(r), wlm.FormatTime(r.Start, "Unknown"), wlm.FormatTime(r.End, "Unknown"),
			wlm.FormatElapsed(int64(r.End-r.Start)), Nodes(r))
	}
}
