package scontrol

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/jobtext"
	"github.com/sluice-hpc/sluice/tools/internal/remote"
)

// listPIDs is "listpids [job[.step]] [node]": the processes of steps on the
// nodes of this host, or on the one named.
func (s *session) listPIDs(ctx context.Context, words []string) {
	s.line("PID      JOBID    STEPID   LOCALID GLOBALID")
	request := &ctlv1.StepsRequest{Filter: &ctlv1.JobFilter{}}
	var want *ctlv1.JobRef
	if len(words) > 0 && words[0] != "*" {
		ref, err := remote.Ref(words[0])
		if err != nil {
			s.failf("\"%s\" does not look like a jobid", words[0])
			return
		}
		want = ref
		request.Filter.Refs = []*ctlv1.JobRef{{Job: ref.GetJob(), Tasks: ref.GetTasks()}}
	}
	node := "(null)"
	if len(words) > 1 {
		node = words[1]
	}
	m, err := s.source.Steps(ctx, request)
	if err != nil && errs.CodeOf(err) != errs.InvalidJobID {
		s.fail("slurm_get_job_steps error: ", err)
		return
	}
	nodes, _, _, err := s.loadNodes(ctx, "")
	if err != nil {
		s.fail("slurm_load_node error: ", err)
		return
	}
	jobs := map[uint32]*jobtext.Job{}
	for _, info := range m.GetJobs() {
		jobs[info.GetJob().GetId()] = jobtext.Of(info, m.GetNow())
	}
	found := false
	for _, st := range m.GetSteps() {
		if !selects(want, st.GetJob(), st.GetId(), jobs[st.GetJob()]) {
			continue
		}
		names, err := hostlist.Expand(st.GetNodeList())
		if err != nil {
			continue
		}
		for _, n := range nodes {
			here := n.Hostname == s.host || string(n.Name) == s.host
			if node != "(null)" {
				here = string(n.Name) == node
			}
			if here && slices.Contains(names, string(n.Name)) {
				found = s.pidsOf(ctx, net.JoinHostPort(n.Addr, strconv.Itoa(int(n.Port))), st.GetJob(), st.GetId()) || found
			}
		}
	}
	switch {
	case found || want == nil:
	case want.GetHasStep():
		s.failf("StepId=%s does not exist on node %s.", words[0], node)
	default:
		s.failf("There are no steps for job %s on node %s.", words[0], node)
	}
}

// pidsOf prints the processes of a step's share on one node; false when it has
// none there, as after its end.
func (s *session) pidsOf(ctx context.Context, addr string, job, step uint32) bool {
	m, err := s.source.StepStats(ctx, addr, job, step)
	if err != nil {
		return false
	}
	for _, pid := range m.GetPids() {
		local, global := "-", "-"
		if i := slices.Index(m.GetTaskPids(), pid); i >= 0 && i < len(m.GetTaskIds()) {
			local, global = strconv.Itoa(i), strconv.FormatUint(uint64(m.GetTaskIds()[i]), 10)
		}
		s.line(fmt.Sprintf("%-8d %-8d %-8s %-7s %-8s", pid, job, wlm.StepID(step), local, global))
	}
	return true
}
