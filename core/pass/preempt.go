package pass

import (
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// exempt is when the next running job can be preempted that cannot yet; 0: none.
func (f *feed) exempt(now wlm.Time) (at wlm.Time) {
	if !f.preemption.ByTier || f.preemption.Exempt == 0 || len(f.pending) == 0 {
		return 0
	}
	for j := range f.tables.AllJobs {
		if j.State != wlm.Running {
			continue
		}
		if _, until := f.preemption.Of(f.tables.Partition(j.Partition), j); until > now && (at == 0 || until < at) {
			at = until
		}
	}
	return at
}

// maxStarts is how many jobs a pass may start: sched_max_job_start and
// bf_max_job_start of SchedulerParameters, which are one here; 0: no bound.
func (f *feed) maxStarts() (most int) {
	text := f.all["SchedulerParameters"]
	if !strings.Contains(text, "_max_job_start") {
		return 0
	}
	for item := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(item)), "=")
		if name != "sched_max_job_start" && name != "bf_max_job_start" {
			continue
		}
		if n, err := strconv.Atoi(strings.TrimSpace(value)); err == nil && n > 0 && (most == 0 || n < most) {
			most = n
		}
	}
	return most
}
