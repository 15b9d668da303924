package cluster

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/wlm/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// UpdateJob changes every job that a filter selects: holds, releases, requeues,
// suspends, or sets attributes by scontrol's names. The reply is a *KillReply.
type UpdateJob struct {
	Filter *ctlv1.JobFilter
	Verb   ctlv1.UpdateJobRequest_Verb
	Set    map[string]string
	Text   string // of NOTIFY
	Caller Caller
}

// Op implements Command.
func (*UpdateJob) Op() string { return "cluster.UpdateJob" }

func (u *UpdateJob) apply(c *Cluster, now wlm.Time) (any, error) {
	found, missing, err := c.Find(u.Filter)
	if err != nil {
		return nil, errs.Newf(u.Op(), errs.Invalid, "%v", err)
	}
	reply, done, over := &KillReply{}, map[*ctlv1.JobRef]bool{}, []Match(nil)
	for _, ref := range missing {
		reply.Failed = append(reply.Failed, Failure{ref, errs.InvalidJobID})
	}
	for _, m := range found {
		if m = c.refresh(m); m.Job == nil {
			continue // the same command has dealt with it
		}
		if !u.Caller.Owns(m.Job) {
			code := errs.AccessDenied
			if u.Verb == ctlv1.UpdateJobRequest_SET {
				code = errs.UserIDMissing
			}
			reply.Failed = append(reply.Failed, Failure{m.Ref, code})
			continue
		}
		reply.Matched++
		j := m.Job
		if m.Tasks != nil && countTasks(m.Tasks) < countTasks(j.ArrayTasks) {
			if code := u.tasks(c, m, now); code != 0 {
				reply.Failed = append(reply.Failed, Failure{refOf(m), code})
			}
			continue
		}
		if err := c.updateOne(u, j, now); err != nil {
			code := errs.CodeOf(err)
			switch {
			case len(found) == 1 && (code == 0 || len(u.Set) > 0):
				return nil, err // nothing has changed
			case code == 0:
				code = errs.NotSupported
			case code == errs.AlreadyDone && m.Ref != nil && len(m.Ref.GetTasks()) == 0 && j.ArrayJob != 0:
				over = append(over, m)
				continue
			}
			reply.Failed = append(reply.Failed, Failure{refOf(m), code})
			continue
		}
		done[m.Ref] = true
	}
	for _, m := range over { // an array of which some tasks have ended can still be changed
		if !done[m.Ref] {
			reply.Failed = append(reply.Failed, Failure{refOf(m), errs.AlreadyDone})
		}
	}
	return reply, nil
}

// refOf names what a match stands for: the tasks, where it is part of an array.
func refOf(m Match) *ctlv1.JobRef {
	j := m.Job
	if m.Ref == nil || j.ArrayJob == 0 {
		return m.Ref
	}
	tasks := m.Tasks
	switch {
	case !j.IsArrayRecord():
		tasks = []wlm.IDRange{{First: j.ArrayTask, Last: j.ArrayTask, Step: 1}}
	case tasks == nil:
		tasks = j.ArrayTasks
	}
	ref := &ctlv1.JobRef{Job: uint32(j.ArrayJob)}
	for _, r := range tasks {
		ref.Tasks = append(ref.Tasks, &wlmv1.IDRange{First: r.First, Last: r.Last, Step: r.Step})
	}
	return ref
}

// tasks changes some pending tasks of an array, which leave its record together.
// A refusal leaves them in it.
func (u *UpdateJob) tasks(c *Cluster, m Match, now wlm.Time) errs.Code {
	try := m.Job.Clone()
	try.ArrayTasks = m.Tasks
	if code := u.idle(try); code >= 0 {
		return errs.Code(code)
	}
	if u.Verb == ctlv1.UpdateJobRequest_SET {
		if _, err := c.edited(u.Op(), try, now, u); err != nil {
			return max(errs.CodeOf(err), 1)
		}
	}
	t, left := c.splitTasks(m.Job, m.Tasks)
	c.jobEvent(eventv1.Kind_JOB_CHANGED, now, t)
	c.jobEvent(eventv1.Kind_TASK_SPLIT, now, left)
	if err := c.updateOne(u, t, now); err != nil {
		return errs.CodeOf(err)
	}
	return 0
}

// idle says what becomes of a change that pending tasks do not take, or that
// would change nothing: the code of the answer, or -1 when there is work to do.
func (u *UpdateJob) idle(j *wlm.Job) int {
	switch u.Verb {
	case ctlv1.UpdateJobRequest_HOLD, ctlv1.UpdateJobRequest_UHOLD:
		if j.Held {
			return 0
		}
	case ctlv1.UpdateJobRequest_RELEASE:
		switch {
		case !j.Held:
			return 0
		case j.Reason == wlm.WaitHeld && !u.Caller.Admin:
			return int(errs.AccessDenied)
		}
	case ctlv1.UpdateJobRequest_REQUEUE, ctlv1.UpdateJobRequest_REQUEUE_HOLD, ctlv1.UpdateJobRequest_SUSPEND, ctlv1.UpdateJobRequest_RESUME:
		return int(errs.JobPending)
	case ctlv1.UpdateJobRequest_NOTIFY:
		return int(errs.JobNotRunning)
	}
	return -1
}

func (c *Cluster) updateOne(u *UpdateJob, j *wlm.Job, now wlm.Time) error {
	op := u.Op()
	switch u.Verb {
	case ctlv1.UpdateJobRequest_HOLD, ctlv1.UpdateJobRequest_UHOLD:
		return c.hold(op, j, now, u)
	case ctlv1.UpdateJobRequest_RELEASE:
		return c.release(op, j, now, u)
	case ctlv1.UpdateJobRequest_REQUEUE, ctlv1.UpdateJobRequest_REQUEUE_HOLD:
		hold := u.Verb == ctlv1.UpdateJobRequest_REQUEUE_HOLD
		switch {
		case j.State == wlm.Pending:
			return errs.Coded(op, errs.JobPending)
		case !j.Requeueable && j.Spec.Kind != wlm.KindBatch, j.Spec.Requeue == wlm.No && !u.Caller.Admin:
			return errs.Coded(op, errs.Disabled, fmt.Sprintf("job %s was submitted as not requeueable", j.ID))
		}
		c.requeue(j, now, outcome{state: wlm.Cancelled, killedBy: uint32(u.Caller.UID)}, hold, wlm.WaitHeldUser)
		return nil
	case ctlv1.UpdateJobRequest_SUSPEND, ctlv1.UpdateJobRequest_RESUME:
		return c.suspend(op, j, now, u)
	case ctlv1.UpdateJobRequest_TOP:
		return c.top(op, j, now, u)
	case ctlv1.UpdateJobRequest_NOTIFY:
		if j.State != wlm.Running && j.State != wlm.Suspended {
			return errs.Coded(op, errs.JobNotRunning)
		}
		c.emit(&Event{Kind: eventv1.Kind_JOB_SIGNALED, Time: now, Job: j, Text: ScopeNotify + u.Text})
		return nil
	}
	return c.set(op, j, now, u)
}

func (c *Cluster) hold(op string, j *wlm.Job, now wlm.Time, u *UpdateJob) error {
	switch {
	case j.State.Ended():
		return errs.Coded(op, errs.AlreadyDone)
	case j.State != wlm.Pending:
		return nil // as Slurm, which has no complaint of a job that runs
	}
	n := j.Clone()
	n.Held, n.Reason = true, wlm.WaitHeldUser
	if u.Caller.Admin && u.Verb == ctlv1.UpdateJobRequest_HOLD && u.Caller.UID != j.Spec.User {
		n.Reason = wlm.WaitHeld
	}
	n.Priority, n.Ranked, n.Eligible = 0, false, 0
	c.jobEvent(eventv1.Kind_JOB_CHANGED, now, n)
	return nil
}

func (c *Cluster) release(op string, j *wlm.Job, now wlm.Time, u *UpdateJob) error {
	if j.State != wlm.Pending {
		return errs.Coded(op, errs.JobNotPending)
	}
	if j.Reason == wlm.WaitHeld && j.Held && !u.Caller.Admin {
		return errs.Coded(op, errs.AccessDenied, "an administrator holds the job")
	}
	if !j.Held {
		return nil
	}
	n := j.Clone()
	n.Held, n.Reason = false, wlm.ReasonNone
	n.Flags &^= wlm.FlagRequeueHold | wlm.FlagSpecialExit
	c.judge(n, now)
	c.jobEvent(eventv1.Kind_JOB_CHANGED, now, n)
	return nil
}

func (c *Cluster) suspend(op string, j *wlm.Job, now wlm.Time, u *UpdateJob) error {
	if !u.Caller.Admin {
		return errs.Coded(op, errs.AccessDenied, "only operators suspend and resume jobs")
	}
	switch {
	case u.Verb == ctlv1.UpdateJobRequest_SUSPEND && j.State == wlm.Running:
		c.sleep(j, now, 0)
	case u.Verb == ctlv1.UpdateJobRequest_RESUME && j.State == wlm.Suspended:
		if node := c.inTheWay(j); node != "" {
			return errs.Coded(op, errs.NodesBusy, fmt.Sprintf("other jobs use the job's CPUs of node %s", node))
		}
		c.wake(j, now)
	case j.State == wlm.Pending:
		return errs.Coded(op, errs.JobPending)
	case j.State.Ended():
		return errs.Coded(op, errs.AlreadyDone)
	case j.State == wlm.Suspended:
		return errs.Coded(op, errs.JobSuspended)
	default:
		return errs.Newf(op, errs.State, "Job is not suspended")
	}
	return nil
}

// edit is a job under change: a clone of the record, and of the spec.
type edit struct {
	c      *Cluster
	op     string
	now    wlm.Time
	caller Caller
	old    *wlm.Job
	job    *wlm.Job
	spec   *wlm.Spec
}

// setters change one attribute each, by scontrol's names in lower case.
var setters = map[string]func(e *edit, v string) error{
	"timelimit":         (*edit).timeLimit,
	"endtime":           (*edit).endTime,
	"priority":          (*edit).priority,
	"nice":              (*edit).nice,
	"name":              func(e *edit, v string) error { e.spec.Name = v; return nil },
	"jobname":           func(e *edit, v string) error { e.spec.Name = v; return nil },
	"comment":           func(e *edit, v string) error { e.spec.Comment = v; return nil },
	"admincomment":      (*edit).adminComment,
	"account":           func(e *edit, v string) error { e.spec.Account = v; return e.pending() },
	"qos":               func(e *edit, v string) error { e.spec.QOS = v; return e.pending() },
	"partition":         (*edit).partition,
	"numnodes":          (*edit).numNodes,
	"features":          func(e *edit, v string) error { e.spec.Features = v; return e.pending() },
	"nodelist":          func(e *edit, v string) error { e.spec.ReqNodes = v; return e.pending() },
	"prefer":            func(e *edit, v string) error { e.spec.Prefer = v; return e.pending() },
	"contiguous":        func(e *edit, v string) error { return e.flag(v, "Contiguous", &e.spec.Contiguous) },
	"mincpusnode":       func(e *edit, v string) error { return e.count(v, "MinCPUsNode", &e.spec.MinCPUsPerNode) },
	"taskspernode":      func(e *edit, v string) error { return e.count(v, "TasksPerNode", &e.spec.TasksPerNode) },
	"mintmpdisknode":    (*edit).tmpDisk,
	"timemin":           (*edit).timeMin,
	"oversubscribe":     (*edit).share,
	"reqnodelist":       func(e *edit, v string) error { e.spec.ReqNodes = v; return e.pending() },
	"excnodelist":       func(e *edit, v string) error { e.spec.ExcNodes = v; return e.pending() },
	"minmemorynode":     func(e *edit, v string) error { return e.memory(v, &e.spec.MemPerNode, &e.spec.MemPerCPU) },
	"minmemorycpu":      func(e *edit, v string) error { return e.memory(v, &e.spec.MemPerCPU, &e.spec.MemPerNode) },
	"numtasks":          func(e *edit, v string) error { return e.count(v, "NumTasks", &e.spec.NTasks) },
	"numcpus":           func(e *edit, v string) error { return e.count(v, "NumCPUs", &e.spec.NTasks) },
	"cpuspertask":       func(e *edit, v string) error { return e.count(v, "CPUsPerTask", &e.spec.CPUsPerTask) },
	"starttime":         (*edit).startTime,
	"deadline":          (*edit).deadline,
	"dependency":        (*edit).dependency,
	"arraytaskthrottle": (*edit).throttle,
	"requeue":           (*edit).requeue,
	"mailuser":          func(e *edit, v string) error { e.spec.MailUser = v; return nil },
	"mailtype":          func(e *edit, v string) error { e.spec.MailType = v; return nil },
	"stdout":            func(e *edit, v string) error { e.spec.StdOut = v; return e.pending() },
	"stderr":            func(e *edit, v string) error { e.spec.StdErr = v; return e.pending() },
	"stdin":             func(e *edit, v string) error { e.spec.StdIn = v; return e.pending() },
	"workdir":           func(e *edit, v string) error { e.spec.WorkDir = v; return e.pending() },
	"wckey":             func(e *edit, v string) error { e.spec.WCKey = v; return nil },
	"reservationname":   (*edit).reservation,
	"licenses":          func(e *edit, v string) error { e.spec.Licenses = v; return e.pending() },
	"extra":             func(e *edit, v string) error { e.spec.Extra = v; return nil },
}

// edited returns a job as the settings of u make it, or why they can not.
func (c *Cluster) edited(op string, j *wlm.Job, now wlm.Time, u *UpdateJob) (*wlm.Job, error) {
	if len(u.Set) == 0 {
		return nil, errs.Newf(op, errs.Invalid, "No changes specified")
	}
	if j.State.Ended() {
		return nil, errs.Coded(op, errs.AlreadyDone)
	}
	e := &edit{c: c, op: op, now: now, caller: u.Caller, old: j, job: j.Clone()}
	spec := *j.Spec
	e.spec, e.job.Spec = &spec, &spec
	keys := make([]string, 0, len(u.Set))
	for k := range u.Set {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, cmp.Compare)
	for _, k := range keys {
		f := setters[k]
		if f == nil {
			return nil, errs.Coded(op, errs.NotSupported).With("Update of this parameter is not supported: %s=%s", k, u.Set[k])
		}
		if err := f(e, u.Set[k]); err != nil {
			return nil, err
		}
	}
	if j.State == wlm.Pending {
		if err := c.feasible(op, ClassOf(&spec)); err != nil {
			return nil, err
		}
		e.job.ReqTRES, e.job.NTasks = c.requestTRES(&spec), ntasks(&spec)
		c.judge(e.job, now)
	}
	return e.job, nil
}

func (c *Cluster) set(op string, j *wlm.Job, now wlm.Time, u *UpdateJob) error {
	n, err := c.edited(op, j, now, u)
	if err != nil {
		return err
	}
	c.emit(&Event{Kind: eventv1.Kind_JOB_CHANGED, Time: now, Job: n, respec: true})
	if j.Spec.Name != n.Spec.Name {
		c.namesakes(j, now) // who waited for its former name
	}
	return nil
}

func (e *edit) pending() error {
	if e.old.State != wlm.Pending {
		return errs.Coded(e.op, errs.JobNotPending)
	}
	return nil
}

func (e *edit) timeLimit(v string) error {
	sign := byte(0)
	if v != "" && (v[0] == '+' || v[0] == '-') && v != "-1" {
		sign, v = v[0], v[1:]
	}
	m, err := wlm.ParseMinutes(v)
	if err != nil {
		return errs.Coded(e.op, errs.InvalidTimeLimit).With("TimeLimit=%s: %v", v, err)
	}
	switch sign {
	case '+':
		m += e.old.TimeLimit
	case '-':
		m = e.old.TimeLimit - min(m, e.old.TimeLimit)
	}
	p := e.c.Partition(e.old.Partition)
	if m > e.old.TimeLimit && !e.caller.Admin && e.old.State != wlm.Pending {
		return errs.Coded(e.op, errs.AccessDenied, "only operators raise the limit of a running job")
	}
	if p != nil && p.MaxTime != 0 && p.MaxTime != wlm.Unlimited && m > p.MaxTime && !e.caller.Admin && e.c.enforces() {
		return errs.Coded(e.op, errs.InvalidTimeLimit, fmt.Sprintf("TimeLimit: partition %s allows %d minutes", p.Name, p.MaxTime))
	}
	e.spec.TimeLimit, e.job.TimeLimit = m, m
	if e.job.State == wlm.Running {
		e.job.End = 0
		if m != wlm.Unlimited {
			e.job.End = e.job.Start + wlm.Time(m)*60 + wlm.Time(e.job.SuspendTotal)
		}
	}
	return nil
}

func (e *edit) endTime(v string) error {
	t, err := wlm.ParseWhen(v, e.now.Std(), false)
	if err != nil {
		return err
	}
	if e.job.State != wlm.Running {
		return errs.Coded(e.op, errs.JobNotRunning)
	}
	if t <= e.job.Start {
		return errs.Coded(e.op, errs.InvalidTimeLimit)
	}
	return e.timeLimit(strconv.FormatInt(int64(t-e.job.Start)/60, 10))
}

func (e *edit) priority(v string) error {
	n, err := strconv.ParseUint(v, 10, 32)
	if err != nil || wlm.Time(n) < 0 {
		return errs.Newf(e.op, errs.Invalid, "Priority=%s is not a number from 0 to 4294967294", v)
	}
	if err := e.pending(); err != nil {
		return err
	}
	if !e.caller.Admin && (e.old.Priority == 0 || uint32(n) > e.old.Priority) && n != 0 {
		return errs.Coded(e.op, errs.AccessDenied, "users may only lower priorities")
	}
	e.spec.Priority, e.job.Priority, e.job.Ranked = uint32(n), uint32(n), n != 0
	e.job.Held = n == 0
	if n == 0 {
		e.job.Reason = wlm.WaitHeldUser
		if e.caller.Admin && e.caller.UID != e.old.Spec.User {
			e.job.Reason = wlm.WaitHeld
		}
	}
	return nil
}

func (e *edit) nice(v string) error {
	n, err := strconv.ParseInt(v, 10, 32)
	if err != nil {
		return errs.Coded(e.op, errs.InvalidNice).With("Nice=%s is not a number", v)
	}
	if n < int64(e.old.Spec.Nice) && !e.caller.Admin {
		return errs.Coded(e.op, errs.AccessDenied, "users may only raise nice")
	}
	if e.job.Ranked && e.job.State == wlm.Pending {
		e.job.Priority = uint32(max(int64(e.job.Priority)-(n-int64(e.old.Spec.Nice)), 1))
	}
	e.spec.Nice = int32(n)
	return nil
}

func (e *edit) adminComment(v string) error {
	if !e.caller.Admin {
		return errs.Coded(e.op, errs.AccessDenied, "AdminComment is for operators")
	}
	e.spec.AdminNote = v
	return nil
}

func (e *edit) partition(v string) error {
	if err := e.pending(); err != nil {
		return err
	}
	e.spec.Partitions = strings.Split(v, ",")
	p, err := e.c.choosePartitions(e.op, e.spec, e.caller)
	if err != nil {
		return err
	}
	e.job.Partition = p.Name
	return nil
}

func (e *edit) numNodes(v string) error {
	if e.old.State != wlm.Pending {
		return errs.Coded(e.op, errs.NotSupported, "the size of a running job can not be changed")
	}
	lo, hi, ranged := strings.Cut(v, "-")
	n, err := strconv.ParseUint(lo, 10, 32)
	m := n
	if err == nil && ranged {
		m, err = strconv.ParseUint(hi, 10, 32)
	}
	if err != nil || n == 0 || m < n {
		return errs.Coded(e.op, errs.InvalidNodeCount).With("NumNodes=%s: allowed is a count, or a range as 2-4", v)
	}
	e.spec.MinNodes, e.spec.MaxNodes, e.spec.NodeSizes = uint32(n), 0, ""
	if ranged {
		e.spec.MaxNodes = uint32(m)
	}
	return nil
}

func (e *edit) memory(v string, set, clear *wlm.MiB) error {
	m, err := wlm.ParseMiB(v)
	if err != nil {
		return errs.Coded(e.op, errs.InvalidMemory).With("%v", err)
	}
	*set, *clear, e.spec.MemAll = m, 0, false
	return e.pending()
}

func (e *edit) count(v, name string, set *uint32) error {
	n, err := strconv.ParseUint(v, 10, 32)
	if err != nil || n == 0 {
		return errs.Coded(e.op, errs.BadTaskCount).With("%s=%s is not a positive number", name, v)
	}
	*set = uint32(n)
	return e.pending()
}

func (e *edit) flag(v, name string, set *bool) error {
	switch strings.ToUpper(v) {
	case "1", "Y", "YES":
		*set = true
	case "0", "N", "NO":
		*set = false
	default:
		return errs.Newf(e.op, errs.Invalid, "%s=%s: allowed are YES and NO", name, v)
	}
	return e.pending()
}

func (e *edit) tmpDisk(v string) error {
	m, err := wlm.ParseMiB(v)
	if err != nil {
		return errs.Newf(e.op, errs.Invalid, "MinTmpDiskNode=%s: %v", v, err)
	}
	e.spec.TmpDisk = m
	return e.pending()
}

func (e *edit) timeMin(v string) error {
	m, err := wlm.ParseMinutes(v)
	if err != nil {
		return errs.Coded(e.op, errs.InvalidTimeLimit).With("TimeMin=%s: %v", v, err)
	}
	if m > e.job.TimeLimit {
		return errs.Coded(e.op, errs.InvalidTimeLimit, fmt.Sprintf("TimeMin=%s is above the time limit of %d minutes", v, e.job.TimeLimit))
	}
	e.spec.TimeMin = m
	return e.pending()
}

func (e *edit) share(v string) error {
	share := false
	if err := e.flag(v, "OverSubscribe", &share); err != nil {
		return err
	}
	e.spec.Share = wlm.ShareDefault
	if share {
		e.spec.Share = wlm.ShareAllow
	}
	return nil
}

func (e *edit) startTime(v string) error {
	t, err := wlm.ParseWhen(v, e.now.Std(), true)
	if err != nil {
		return err
	}
	e.spec.Begin = t
	return e.pending()
}

func (e *edit) deadline(v string) error {
	t, err := wlm.ParseWhen(v, e.now.Std(), true)
	if err != nil {
		return err
	}
	e.spec.Deadline = t
	return nil
}

func (e *edit) dependency(v string) (err error) {
	if err := e.pending(); err != nil {
		return err
	}
	e.spec.Dependency, e.job.Deps = v, nil
	if v != "" && v != "0" {
		e.job.Deps, err = e.c.dependencies(e.op, v, e.old.ID)
	}
	return err
}

func (e *edit) throttle(v string) error {
	n, err := strconv.ParseUint(v, 10, 32)
	if err != nil || e.old.ArrayJob == 0 {
		return errs.Coded(e.op, errs.InvalidArray).With("ArrayTaskThrottle=%s is for arrays and takes a count", v)
	}
	e.spec.ArrayMaxRunning = uint32(n)
	return nil
}

func (e *edit) requeue(v string) error {
	switch v {
	case "0":
		e.spec.Requeue, e.job.Requeueable = wlm.No, false
	case "1":
		e.spec.Requeue, e.job.Requeueable = wlm.Yes, e.spec.Kind == wlm.KindBatch
	default:
		return errs.Newf(e.op, errs.Invalid, "Requeue=%s: allowed are 0 and 1", v)
	}
	return nil
}
