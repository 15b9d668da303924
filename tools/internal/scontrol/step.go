package scontrol

import (
	"context"
	"fmt"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wire"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/jobtext"
	"github.com/sluice-hpc/sluice/tools/internal/remote"
	"github.com/sluice-hpc/sluice/tools/internal/structured"
)

// showSteps is "show step [id]".
func (s *session) showSteps(ctx context.Context, id string) {
	request := &ctlv1.StepsRequest{Filter: &ctlv1.JobFilter{}}
	var want *ctlv1.JobRef
	if id != "" {
		ref, err := remote.Ref(id)
		if err != nil {
			s.failf("scontrol: error: scontrol_print_step: slurm_get_job_steps(%s) failed: Invalid job id specified", id)
			return
		}
		want = ref
		request.Filter.Refs = []*ctlv1.JobRef{{Job: ref.GetJob(), Tasks: ref.GetTasks()}}
	}
	m, err := s.source.Steps(ctx, request)
	if err != nil {
		s.failf("scontrol: error: scontrol_print_step: slurm_get_job_steps(%s) failed: %s", id, s.why(err))
		return
	}
	jobs := map[uint32]*jobtext.Job{}
	for _, info := range m.GetJobs() {
		jobs[info.GetJob().GetId()] = jobtext.Of(info, m.GetNow())
	}
	var steps []*wlm.Step
	for _, st := range m.GetSteps() {
		if selects(want, st.GetJob(), st.GetId(), jobs[st.GetJob()]) {
			steps = append(steps, wire.StepOfWire(st))
		}
	}
	if s.Dump {
		s.dumpSteps(steps, jobs)
		return
	}
	for _, st := range steps {
		s.record(stepBlock(st, jobs[uint32(st.Job)]))
	}
	switch {
	case len(steps) > 0:
	case id == "":
		s.line("No job steps in the system")
	case len(jobs) == 0:
		s.failf("scontrol: error: scontrol_print_step: slurm_get_job_steps(%s) failed: %s", id, errs.InvalidJobID)
	default:
		s.notFound("Job step " + id)
	}
}

// selects reports whether a step is the one asked for, or of the job.
func selects(ref *ctlv1.JobRef, job, step uint32, j *jobtext.Job) bool {
	if ref == nil {
		return true
	}
	if ref.GetHasStep() && ref.GetStep() != step {
		return false
	}
	if job == ref.GetJob() {
		return true
	}
	if j == nil || uint32(j.ArrayJob) != ref.GetJob() {
		return false
	}
	for _, t := range ref.GetTasks() {
		if j.ArrayTask >= t.GetFirst() && j.ArrayTask <= t.GetLast() {
			return true
		}
	}
	return len(ref.GetTasks()) == 0
}

func stepID(st *wlm.Step, j *jobtext.Job) string {
	if j == nil {
		return st.Job.String() + "." + st.ID.String()
	}
	return j.ID(0) + "." + st.ID.String()
}

func stepBlock(st *wlm.Step, j *jobtext.Job) string {
	b := &block{}
	limit, cpus, tres := st.TimeLimit, st.CPUs, st.TRES
	if limit == 0 {
		limit = wlm.Unlimited
	}
	// Slurm shows the batch step without its resources.
	special := st.ID == wlm.StepBatch || st.ID == wlm.StepExtern
	if special {
		cpus, tres = 0, ""
	}
	fmt.Fprintf(b, "StepId=%s UserId=%d StartTime=%s TimeLimit=%s", stepID(st, j), st.User, stamp(st.Start, "Unknown"), wlm.FormatMinutes(limit))
	b.linef("State=%s Partition=%s NodeList=%s", wlm.StateName(st.State, st.Flags), st.Partition, jobtext.OrNull(st.NodeList))
	b.linef("Nodes=%d CPUs=%d Tasks=%d Name=%s Network=(null)", st.Nodes, cpus, st.NTasks, st.Name)
	b.linef("TRES=%s", jobtext.OrNull(tres))
	b.linef("ResvPorts=(null)")
	b.linef("CPUFreqReq=Default")
	if !special && st.Dist != "" {
		b.WriteString(" Dist=" + st.Dist)
	}
	b.linef("SrunHost:Pid=%s:%d", jobtext.OrNull(st.SrunHost), st.SrunPID)
	b.textf("Container", st.Container)
	return b.String()
}

func (s *session) dumpSteps(steps []*wlm.Step, jobs map[uint32]*jobtext.Job) {
	w := structured.New(s.out, s.Form)
	w.List("steps")
	for _, st := range steps {
		w.Object("")
		w.Str("id", stepID(st, jobs[uint32(st.Job)]))
		w.Str("name", st.Name)
		w.Int("user_id", int64(st.User))
		w.Strs("state", wlm.StateName(st.State, st.Flags))
		w.Str("partition", st.Partition)
		w.Str("nodes", st.NodeList)
		w.Int("node_count", int64(st.Nodes))
		w.Int("cpus", int64(st.CPUs))
		w.Int("tasks", int64(st.NTasks))
		w.Str("tres", st.TRES)
		w.Str("distribution", st.Dist)
		w.Set("start_time", int64(st.Start))
		w.Str("srun_host", st.SrunHost)
		w.Int("srun_pid", int64(st.SrunPID))
		w.End()
	}
	w.End()
	s.trailer(w)
}
