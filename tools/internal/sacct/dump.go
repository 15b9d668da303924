package sacct

import (
	"strconv"
	"strings"
	"time"

	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/dump"
	"github.com/sluice-hpc/sluice/tools/internal/jobtext"
	"github.com/sluice-hpc/sluice/tools/internal/structured"
)

// job writes a job and its steps as an element of the list "jobs".
func (o *Options) job(w *structured.Writer, j *jobtext.Job, all, steps []*wlm.Step) {
	l := &line{o: o, job: j, all: all}
	s := j.Spec
	w.Object("")
	w.Str("account", s.Account)
	w.Object("comment")
	w.Str("administrator", s.AdminNote)
	w.Str("job", s.Comment)
	w.Str("system", s.SystemNote)
	w.End()
	w.Int("allocation_nodes", int64(l.nodes()))
	array(w, j)
	w.Object("association")
	w.Str("account", "")
	w.Str("cluster", s.Cluster)
	w.Str("partition", "")
	w.Str("user", "")
	w.Int("id", 0)
	w.End()
	w.Str("block", "")
	w.Str("cluster", s.Cluster)
	w.Str("constraints", s.Features)
	w.Str("container", s.Container)
	dump.Status(w, "derived_exit_code", j.Derived)
	times(w, l)
	dump.Status(w, "exit_code", j.Status)
	w.Str("extra", s.Extra)
	w.Str("failed_node", string(j.FailedNode))
	if j.Start != 0 {
		w.Strs("flags", "STARTED_ON_SCHEDULE", "START_RECEIVED")
	} else {
		w.Strs("flags")
	}
	w.Str("group", s.GroupName)
	w.Object("het")
	w.Int("job_id", int64(j.HetJob))
	if j.HetJob != 0 {
		w.Set("job_offset", int64(j.HetOffset))
	} else {
		w.Unset("job_offset")
	}
	w.End()
	w.Int("job_id", int64(j.Job.ID))
	w.Str("name", s.Name)
	w.Str("licenses", s.Licenses)
	w.Object("mcs")
	w.Str("label", s.MCSLabel)
	w.End()
	w.Str("nodes", l.nodeList())
	w.Str("partition", j.Partition)
	w.Bool("hold", j.Held)
	w.Set("priority", int64(j.Priority))
	w.Str("qos", s.QOS)
	w.Str("qosreq", "")
	required(w, j)
	w.Str("kill_request_user", killer(o, j.KilledBy))
	w.Int("restart_cnt", int64(j.Restarts))
	o.jobFiles(w, l)
	w.List("steps")
	for _, st := range steps {
		o.step(w, &line{o: o, job: j, step: st})
	}
	w.End()
	w.Str("submit_line", s.SubmitLine)
	w.Object("tres")
	tres(w, "allocated", j.AllocTRES)
	tres(w, "requested", j.ReqTRES)
	w.End()
	w.Str("used_gres", "")
	w.Str("user", s.UserName)
	w.Object("wckey")
	w.Str("wckey", s.WCKey)
	w.Strs("flags")
	w.End()
	w.Str("working_directory", s.WorkDir)
	w.End()
}

func array(w *structured.Writer, j *jobtext.Job) {
	w.Object("array")
	w.Int("job_id", int64(j.ArrayJob))
	w.Object("limits")
	w.Object("max")
	w.Object("running")
	w.Int("tasks", int64(j.Spec.ArrayMaxRunning))
	w.End()
	w.End()
	w.End()
	if j.ArrayJob != 0 && !j.IsArrayRecord() {
		w.Set("task_id", int64(j.ArrayTask))
	} else {
		w.Unset("task_id")
	}
	tasks := ""
	if j.IsArrayRecord() {
		tasks = j.Tasks(0)
	}
	w.Str("task", tasks)
	w.End()
}

func times(w *structured.Writer, l *line) {
	j := l.job
	user, sys := l.usage()
	w.Object("time")
	w.Int("elapsed", l.elapsed())
	w.Int("eligible", int64(j.EligibleFrom()))
	w.Int("end", int64(l.end()))
	w.Set("planned", planned(j))
	w.Int("start", int64(l.start()))
	w.Int("submission", int64(j.Submit))
	w.Int("suspended", int64(j.SuspendTotal))
	clock(w, "system", sys)
	switch j.TimeLimit {
	case wlm.Unlimited:
		w.Infinite("limit")
	case 0:
		w.Unset("limit")
	default:
		w.Set("limit", int64(j.TimeLimit))
	}
	clock(w, "total", user+sys)
	clock(w, "user", user)
	w.End()
}

func clock(w *structured.Writer, key string, d time.Duration) {
	w.Object(key)
	w.Int("seconds", int64(d/time.Second))
	w.Int("microseconds", int64(d%time.Second/time.Microsecond))
	w.End()
}

func required(w *structured.Writer, j *jobtext.Job) {
	w.Object("required")
	w.Int("CPUs", int64(jobtext.Count(j.ReqTRES, "cpu")))
	if m, perCPU := j.MinMemory(); perCPU {
		w.Set("memory_per_cpu", int64(m))
		w.Unset("memory_per_node")
	} else {
		w.Unset("memory_per_cpu")
		w.Set("memory_per_node", int64(m))
	}
	w.End()
}

func killer(o *Options, uid uint32) string {
	if uid == wlm.Unset {
		return ""
	}
	return o.names.User(uid)
}

func (o *Options) jobFiles(w *structured.Writer, l *line) {
	j := l.job
	w.Object("reservation")
	w.Int("id", int64(j.ReservationID))
	w.Str("name", j.ReservationName())
	w.Str("requested", j.Spec.Reservation)
	w.End()
	w.Str("script", "")
	w.Int("segment_size", 0)
	var in, out, errs, inX, outX, errsX string
	if j.Spec.Kind == wlm.KindBatch {
		in, out, errs = j.Patterns()
		inX, outX, errsX = j.Files()
	}
	w.Str("stdin_expanded", inX)
	w.Str("stdout_expanded", outX)
	w.Str("stderr_expanded", errsX)
	w.Str("stdout", out)
	w.Str("stderr", errs)
	w.Str("stdin", in)
	w.Object("state")
	w.Strs("current", strings.Split(wlm.StateFull(j.State, j.Flags), ",")...)
	reason := "None"
	if j.State == wlm.Pending {
		reason = j.ReasonNow().String()
	}
	w.Str("reason", reason)
	w.End()
}

func (o *Options) step(w *structured.Writer, l *line) {
	s := l.step
	user, sys := l.usage()
	w.Object("")
	w.Object("time")
	w.Int("elapsed", l.elapsed())
	w.Set("end", int64(l.end()))
	w.Set("start", int64(l.start()))
	w.Int("suspended", 0)
	clock(w, "system", sys)
	if s.TimeLimit == 0 || s.TimeLimit == wlm.Unlimited {
		w.Infinite("limit")
	} else {
		w.Set("limit", int64(s.TimeLimit))
	}
	clock(w, "total", user+sys)
	clock(w, "user", user)
	w.End()
	dump.Status(w, "exit_code", s.Status)
	names, _ := hostlist.Expand(s.NodeList) //nolint:errcheck // the controller wrote it
	w.Object("nodes")
	w.Int("count", int64(s.Nodes))
	w.Str("range", s.NodeList)
	w.Strs("list", names...)
	w.End()
	w.Object("tasks")
	w.Int("count", int64(s.NTasks))
	w.End()
	pid := ""
	if s.SrunPID != 0 {
		pid = strconv.FormatUint(uint64(s.SrunPID), 10)
	}
	w.Str("pid", pid)
	w.Object("CPU")
	w.Object("requested_frequency")
	w.Set("min", 0)
	w.Set("max", 0)
	w.End()
	w.Str("governor", "0")
	w.End()
	w.Str("kill_request_user", killer(o, s.KilledBy))
	w.Strs("state", strings.Split(wlm.StateFull(s.State, s.Flags), ",")...)
	w.Object("statistics")
	w.Object("CPU")
	w.Int("actual_frequency", 0)
	w.End()
	w.Object("energy")
	w.Set("consumed", 0)
	w.End()
	w.End()
	w.Object("step")
	w.Str("id", l.rawID())
	w.Str("name", s.Name)
	w.Str("stderr", s.StdErr)
	w.Str("stdin", s.StdIn)
	w.Str("stdout", s.StdOut)
	w.Str("stderr_expanded", s.StdErr)
	w.Str("stdin_expanded", s.StdIn)
	w.Str("stdout_expanded", s.StdOut)
	w.End()
	dist := s.Dist
	if dist == "" {
		dist = "Unknown"
	}
	w.Object("task")
	w.Str("distribution", dist)
	w.End()
	stepTRES(w, s)
	w.End()
}

func stepTRES(w *structured.Writer, s *wlm.Step) {
	used := ""
	if s.State.Ended() {
		used = "energy=0"
	}
	w.Object("tres")
	for _, key := range []string{"requested", "consumed"} {
		w.Object(key)
		w.Strs("max")
		w.Strs("min")
		tres(w, "average", used)
		tres(w, "total", used)
		w.End()
	}
	tres(w, "allocated", s.TRES)
	w.End()
}

// tresIDs are Slurm's numbers of the resources that every cluster has.
var tresIDs = map[string]int64{"cpu": 1, "mem": 2, "energy": 3, "node": 4, "billing": 5, "fs/disk": 6, "vmem": 7, "pages": 8}

// firstOwnID is the number from which a site's own resources count.
const firstOwnID = 1001

func tres(w *structured.Writer, key, list string) {
	w.List(key)
	t, _ := wlm.ParseTRES(list) //nolint:errcheck // the controller wrote it
	for i, c := range t {
		kind, name, _ := strings.Cut(c.Name, "/")
		id, known := tresIDs[c.Name]
		if !known {
			id = firstOwnID + int64(i)
		}
		w.Object("")
		w.Str("type", kind)
		w.Str("name", name)
		w.Int("id", id)
		w.Int("count", int64(c.Count))
		w.End()
	}
	w.End()
}
