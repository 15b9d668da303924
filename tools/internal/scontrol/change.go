package scontrol

import (
	"context"
	"slices"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/remote"
)

// jobVerb applies a verb to the jobs named by words: ids, lists of ids, or
// jobname=x.
func (s *session) jobVerb(ctx context.Context, verb ctlv1.UpdateJobRequest_Verb, words []string) {
	r := &ctlv1.UpdateJobRequest{Filter: &ctlv1.JobFilter{}, Verb: verb}
	for _, w := range words {
		key, v, ok := cut(w)
		switch {
		case ok && (key == "jobname" || key == "name"):
			r.Filter.Names = append(r.Filter.Names, v)
		case ok && key == "state" && strings.EqualFold(v, "SpecialExit"):
			r.Set = map[string]string{"state": "specialexit"}
		case strings.EqualFold(w, "incomplete"):
		case !s.addRefs(r.Filter, w):
			return
		}
	}
	s.send(ctx, r, strings.Join(words, ","))
}

// addRefs adds a list of job references to a filter.
func (s *session) addRefs(f *ctlv1.JobFilter, list string) bool {
	for _, id := range hostlist.Split(list) {
		ref, err := remote.Ref(id)
		if err != nil {
			s.failf("Invalid job id specified for job %s", id)
			return false
		}
		f.Refs = append(f.Refs, ref)
	}
	return true
}

// send asks for a change of jobs and tells which were refused.
func (s *session) send(ctx context.Context, r *ctlv1.UpdateJobRequest, whom string) {
	m, err := s.source.UpdateJob(ctx, r)
	if err != nil {
		s.failf("%s for job %s", s.why(err), whom)
		return
	}
	for _, line := range m.GetMessages() {
		s.line(line)
	}
	s.refused(m.GetResults())
}

// refused tells which changes were refused: a line for each job, and for each
// reason one that has the tasks of an array together.
func (s *session) refused(results []*ctlv1.SignalResult) {
	type why struct {
		job  uint32
		text string
	}
	tasks := map[why][]wlm.IDRange{}
	var order []why
	for _, f := range results {
		text := f.GetText()
		if text == "" {
			text = errs.Code(f.GetCode()).String()
		}
		if len(f.GetRef().GetTasks()) == 0 {
			s.failf("%s for job %s", text, remote.RefString(f.GetRef()))
			continue
		}
		k := why{f.GetRef().GetJob(), text}
		if tasks[k] == nil {
			order = append(order, k)
		}
		for _, r := range f.GetRef().GetTasks() {
			tasks[k] = append(tasks[k], wlm.IDRange{First: r.GetFirst(), Last: r.GetLast(), Step: r.GetStep()})
		}
	}
	for _, k := range order {
		s.failf("%d_%s: %s", k.job, wlm.FormatArray(wlm.NewIDRanges(tasks[k]), 0), k.text)
	}
}

func (s *session) notify(ctx context.Context, words []string) {
	r := &ctlv1.UpdateJobRequest{Filter: &ctlv1.JobFilter{}, Verb: ctlv1.UpdateJobRequest_NOTIFY, Text: strings.Join(words[1:], " ")}
	if s.addRefs(r.Filter, words[0]) {
		s.send(ctx, r, words[0])
	}
}

// update is "update key=value ..."; the first key that names a kind of record
// says which.
func (s *session) update(ctx context.Context, words []string) {
	if len(words) == 0 {
		s.failf("too few arguments for update keyword")
		return
	}
	for _, w := range words {
		switch key, _, _ := cut(w); key {
		case "jobid", "job", "jobname", "name":
			s.updateJob(ctx, words)
			return
		case "nodename", "node":
			s.updateNode(ctx, words)
			return
		case "partitionname", "partition":
			s.updatePartition(ctx, ctlv1.UpdatePartitionRequest_UPDATE, words)
			return
		case "reservationname", "reservation":
			s.updateReservation(ctx, words)
			return
		case "stepid":
			s.failf("scontrol: error: updating steps is not supported: update the job's TimeLimit")
			return
		case "suspendexcnodes", "suspendexcparts", "suspendexcstates":
			s.failf("scontrol: error: %s: power saving is not supported", w)
			return
		}
	}
	s.failf("No valid entity in update command\nInput line must include \"NodeName\", \"JobId\", \"PartitionName\" or \"Reservation\".")
}

// jobKeys are what update knows of a job.
var jobKeys = strings.Fields(`account admincomment arraytaskthrottle burstbuffer clusterfeatures clusters comment contiguous corespec
	cpuspertask deadline delayboot dependency eligibletime endtime excnodelist excludednodelist extra features gres licenses mailtype mailuser mcslabel
	mincpusnode minmemorycpu minmemorynode mintmpdisknode name nice nodelist numcpus numnodes numtasks oversubscribe partition prefer
	priority qos reboot reqcores reqnodelist reqnodes reqprocs reqsockets reqthreads requeue reservationname resetaccruetime shared
	sitefactor starttime stderr stdin stdout switches taskspernode threadspec timelimit timemin userid wait-for-switch wckey workdir jobname`)

// jobAliases are other names of a job's attributes.
var jobAliases = map[string]string{
	"jobname": "name", "eligibletime": "starttime", "shared": "oversubscribe", "reqnodes": "numnodes", "reqprocs": "numtasks",
	"excludednodelist": "excnodelist", "reservation": "reservationname",
}

func (s *session) updateJob(ctx context.Context, words []string) {
	r := &ctlv1.UpdateJobRequest{Filter: &ctlv1.JobFilter{}, Set: map[string]string{}}
	var ids, name string
	for _, w := range words {
		key, v, ok := cut(w)
		if alias, is := jobAliases[strings.TrimRight(key, "+-")]; is {
			key = alias
		}
		switch {
		case key == "jobid" || key == "job":
			ids = v
			if !s.addRefs(r.Filter, v) {
				return
			}
		case key == "name":
			name = v
		case key == "userid":
			uid, found := s.names.UID(v)
			if !found {
				s.failf("scontrol: error: Invalid UserID: %s", v)
				return
			}
			r.Filter.Users = append(r.Filter.Users, uid)
		case !ok && key != "nice" && key != "resetaccruetime", !slices.ContainsFunc(jobKeys, func(k string) bool {
			return strings.EqualFold(k, strings.TrimRight(key, "+-"))
		}):
			s.failf("Update of this parameter is not supported: %s\nRequest aborted", w)
			return
		default:
			r.Set[key] = v
		}
	}
	// With a job id, JobName is a new name; without, it selects.
	switch {
	case ids == "" && name == "":
		s.failf("scontrol: error: No job id or name given")
		return
	case ids == "":
		r.Filter.Names = []string{name}
		ids = name
	case name != "":
		r.Set["name"] = name
	}
	s.send(ctx, r, ids)
}

// nodeKeys are what update knows of a node.
var nodeKeys = strings.Fields(`state reason activefeatures availablefeatures features gres weight comment extra nodeaddr nodehostname
	resumeafter instanceid instancetype cpubind topology certtoken`)

func (s *session) updateNode(ctx context.Context, words []string) {
	r := &ctlv1.UpdateNodeRequest{Set: map[string]string{}}
	for _, w := range words {
		key, v, ok := cut(w)
		switch {
		case key == "nodename" || key == "node":
			r.Nodes = v
		case !ok || !slices.Contains(nodeKeys, key):
			s.failf("Update of this parameter is not supported: %s\nRequest aborted", w)
			return
		case key == "state":
			verb, err := wlm.ParseNodeVerb(v)
			if err != nil {
				s.failf("Invalid input: %s\nRequest aborted\nValid states are: %s", w, states(err))
				return
			}
			r.Set[key] = string(verb)
		default:
			r.Set[key] = v
		}
	}
	if verb := wlm.NodeVerb(r.Set["state"]); (verb == wlm.NodeSetDown || verb == wlm.NodeSetDrain || verb == wlm.NodeSetFail) && r.Set["reason"] == "" {
		s.failf("%v", errs.InvalidReason)
		return
	}
	s.sendNode(ctx, r)
}

// states are the words that ParseNodeVerb says it takes.
func states(err error) string {
	_, words, _ := strings.Cut(err.Error(), " is none of ")
	words, _, _ = strings.Cut(words, ":")
	return words
}

func (s *session) sendNode(ctx context.Context, r *ctlv1.UpdateNodeRequest) {
	if strings.EqualFold(r.Nodes, "ALL") {
		nodes, _, _, err := s.loadNodes(ctx, "")
		if err != nil {
			s.fail("slurm_update error: ", err)
			return
		}
		names := make([]string, len(nodes))
		for i, n := range nodes {
			names[i] = string(n.Name)
		}
		r.Nodes = hostlist.Compress(names)
	}
	m, err := s.source.UpdateNode(ctx, r)
	if err != nil {
		s.fail("slurm_update error: ", asUserID(err))
		return
	}
	for _, line := range m.GetMessages() {
		s.line(line)
	}
}

// nodeState changes the state of nodes.
func (s *session) nodeState(ctx context.Context, nodes, state, reason string) {
	r := &ctlv1.UpdateNodeRequest{Nodes: nodes, Set: map[string]string{"state": state}}
	if reason != "" {
		r.Set["reason"] = reason
	}
	s.sendNode(ctx, r)
}

// power is "power {up|down [asap|force]} nodes [reason=...]".
func (s *session) power(ctx context.Context, words []string) {
	state, reason := "POWER_"+strings.ToUpper(words[0]), ""
	words = words[1:]
	if how := strings.ToUpper(words[0]); state == "POWER_DOWN" && (how == "ASAP" || how == "FORCE") {
		state, words = state+"_"+how, words[1:]
	}
	var nodes string
	for _, w := range words {
		if key, v, ok := cut(w); ok && key == "reason" {
			reason = v
		} else {
			nodes = w
		}
	}
	if state != "POWER_UP" && !strings.HasPrefix(state, "POWER_DOWN") || nodes == "" {
		s.failf("scontrol: error: want power {up|down [asap|force]} <nodelist> [reason=<text>]")
		return
	}
	s.nodeState(ctx, nodes, state, reason)
}

// partKeys are what update and create know of a partition.
var partKeys = strings.Fields(`state nodes allowaccounts denyaccounts allowgroups allowqos denyqos allocnodes default defaulttime maxtime
	minnodes maxnodes defmempercpu defmempernode maxmempercpu maxmempernode oversubscribe shared preemptmode prioritytier
	priorityjobfactor gracetime qos hidden rootonly reqresv disablerootjobs maxcpuspernode maxcpuspersocket tresbillingweights
	alternate exclusiveuser exclusivetopo jobdefaults lln overtimelimit powerdownonidle cpubind topology`)

func (s *session) updatePartition(ctx context.Context, verb ctlv1.UpdatePartitionRequest_Verb, words []string) {
	r := &ctlv1.UpdatePartitionRequest{Verb: verb, Set: map[string]string{}}
	for _, w := range words {
		key, v, ok := cut(w)
		plain := strings.TrimRight(key, "+-")
		switch {
		case key == "partitionname" || key == "partition":
			r.Name = v
		case plain == "shared":
			r.Set["oversubscribe"+key[len(plain):]] = v
		case !ok || !slices.Contains(partKeys, plain):
			s.failf("Update of this parameter is not supported: %s\nRequest aborted", w)
			return
		default:
			r.Set[key] = v
		}
	}
	m, err := s.source.UpdatePartition(ctx, r)
	if err != nil {
		what := "slurm_update error: "
		if verb == ctlv1.UpdatePartitionRequest_CREATE {
			what = "Error creating the partition: "
		}
		s.fail(what, asUserID(err))
		return
	}
	for _, line := range m.GetMessages() {
		s.line(line)
	}
}

// create is "create partitionname=x ..." or "create reservation ...".
func (s *session) create(ctx context.Context, words []string) {
	key, _, ok := cut(words[0])
	switch {
	case key == "reservation" || key == "reservationname":
		s.createReservation(ctx, words)
	case ok && (key == "partitionname" || key == "partition"):
		s.updatePartition(ctx, ctlv1.UpdatePartitionRequest_CREATE, words)
	case ok && key == "nodename":
		s.failf("scontrol: error: creating nodes is not supported: add them to slurm.conf and scontrol reconfigure")
	case key == "partition" || key == "node":
		s.failf("scontrol: error: Invalid input: %s  Request aborted", words[0])
	default:
		s.failf("scontrol: error: Invalid creation entity: %s", words[0])
	}
}

// remove is "delete partitionname=x".
func (s *session) remove(ctx context.Context, words []string) {
	key, v, _ := cut(words[0])
	switch key {
	case "partitionname", "partition":
		r := &ctlv1.UpdatePartitionRequest{Verb: ctlv1.UpdatePartitionRequest_DELETE, Name: v}
		if _, err := s.source.UpdatePartition(ctx, r); err != nil {
			s.fail("delete_partition "+words[0]+": ", asUserID(err))
		}
	case "reservation", "reservationname":
		r := &ctlv1.UpdateReservationRequest{Verb: ctlv1.UpdateReservationRequest_DELETE, Name: v}
		if v == "" && len(words) > 1 {
			r.Name = words[1]
		}
		if _, err := s.source.UpdateReservation(ctx, r); err != nil {
			s.fail("delete_reservation "+words[0]+": ", asUserID(err))
		}
	default:
		s.failf("Invalid deletion entity: %s", words[0])
	}
}
