// Package peertest lets the listing commands be compared with what Slurm
// 25.11 printed, byte for byte.
//
// testdata has the outputs as they were observed on a small cluster: a file
// for each command line, with the line, the user, the exit status, standard
// output and standard error. [New] builds the records of that cluster as our
// controller would send them, as a source of the commands' own kind.
package peertest

import (
	"context"
	"embed"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/proto/acctstore/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/users"
)

//go:embed testdata
var files embed.FS

func init() { time.Local = time.UTC }

// Observation is one recorded run of a command.
type Observation struct {
	Line   string // of the shell
	User   string
	Status int
	Stdout string
	Stderr string
}

// Args are the words of the line after the command, quotes taken off.
func (o *Observation) Args() []string {
	var args []string
	for _, m := range regexp.MustCompile(`"[^"]*"|'[^']*'|\S+`).FindAllString(o.Line, -1) {
		args = append(args, strings.Trim(m, `"'`))
	}
	return args[1:]
}

// Load reads an observation by its file's name.
func Load(t testing.TB, name string) *Observation {
	t.Helper()
	b, err := files.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if text, later := strings.CutSuffix(string(b), "[exit 0]\n"); later {
		line, out, _ := strings.Cut(text, "\n")
		return &Observation{Line: strings.TrimPrefix(line, "$ "), User: "root", Stdout: out}
	}
	all := parse(string(b))
	if len(all) != 1 {
		t.Fatalf("%s has %d observations", name, len(all))
	}
	return all[0]
}

// Errors returns the observed mistakes of one command.
func Errors(t testing.TB, command string) []*Observation {
	t.Helper()
	b, err := files.ReadFile("testdata/errors.txt")
	if err != nil {
		t.Fatal(err)
	}
	var out []*Observation
	for _, o := range parse(string(b)) {
		if o.Line == command || strings.HasPrefix(o.Line, command+" ") {
			out = append(out, o)
		}
	}
	return out
}

var head = regexp.MustCompile(`(?m)^\$ (.*)\n\[user (\w+)\] \[exit (\d+)\]\n--- stdout\n`)

func parse(text string) []*Observation {
	var out []*Observation
	at := head.FindAllStringSubmatchIndex(text, -1)
	for i, m := range at {
		end := len(text)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		o := &Observation{Line: text[m[2]:m[3]], User: text[m[4]:m[5]]}
		o.Status, _ = strconv.Atoi(text[m[6]:m[7]])
		body := text[m[1]:end]
		body = strings.TrimSuffix(body, "==========\n")
		if rest, none := strings.CutPrefix(body, "--- stderr\n"); none {
			o.Stderr = rest
		} else {
			var found bool
			if o.Stdout, o.Stderr, found = strings.Cut(body, "\n--- stderr\n"); found {
				o.Stdout += "\n"
			}
		}
		out = append(out, o)
	}
	return out
}

// Check compares a run with the observation.
func (o *Observation) Check(t testing.TB, status int, stdout, stderr string) {
	t.Helper()
	if status != o.Status {
		t.Errorf("%s: exit status %d, want %d", o.Line, status, o.Status)
	}
	diff(t, o.Line+": standard output", stdout, o.Stdout)
	diff(t, o.Line+": standard error", stderr, o.Stderr)
}

// diff shows the lines that differ.
func diff(t testing.TB, what, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	shown := 0
	for i := range max(len(g), len(w)) {
		var a, b string
		if i < len(g) {
			a = g[i]
		}
		if i < len(w) {
			b = w[i]
		}
		if a == b && i < len(g) && i < len(w) {
			continue
		}
		if shown++; shown > 12 {
			t.Errorf("%s: more lines differ", what)
			return
		}
		t.Errorf("%s, line %d:\n got %q\nwant %q", what, i+1, a, b)
	}
}

// Names are the users and groups of the observed cluster.
func Names() *users.Names {
	who := map[uint32]string{0: "root", 1001: "alice"}
	return users.Fixed(who, who)
}

// Fake is the observed cluster.
type Fake struct {
	Now      int64
	JobList  []*ctlv1.JobInfo
	StepList []*ctlv1.StepsReply
	NodeList []*ctlv1.NodeInfo
	PartList []*ctlv1.PartitionInfo
	Rows     []*acctstorev1.JobRow

	Asked     []*ctlv1.JobsRequest
	LastQuery *acctstorev1.Query
}

// ClusterName is the observed cluster's.
func (*Fake) ClusterName() string { return "peer" }

// Jobs selects as the controller does, as far as the tests need.
func (f *Fake) Jobs(_ context.Context, r *ctlv1.JobsRequest, each func(*ctlv1.JobsReply) error) error {
	f.Asked = append(f.Asked, r)
	m := &ctlv1.JobsReply{Now: f.Now}
	for _, ref := range r.GetFilter().GetRefs() {
		if r.GetMustExist() && !slices.ContainsFunc(f.JobList, func(j *ctlv1.JobInfo) bool { return refers(ref, j) }) {
			return errs.Coded("peertest", errs.InvalidJobID)
		}
	}
	for _, j := range f.JobList {
		if selects(r.GetFilter(), j) {
			m.Jobs = append(m.Jobs, j)
		}
	}
	return each(m)
}

func refers(ref *ctlv1.JobRef, j *ctlv1.JobInfo) bool {
	job := j.GetJob()
	if job.GetId() == ref.GetJob() && len(ref.GetTasks()) == 0 {
		return true
	}
	if job.GetArrayJob() != ref.GetJob() || job.GetArrayJob() == 0 {
		return false
	}
	return len(ref.GetTasks()) == 0 || ref.GetTasks()[0].GetFirst() == job.GetArrayTask()
}

func selects(f *ctlv1.JobFilter, j *ctlv1.JobInfo) bool {
	job := j.GetJob()
	if len(f.GetRefs()) > 0 && !slices.ContainsFunc(f.GetRefs(), func(r *ctlv1.JobRef) bool { return refers(r, j) }) {
		return false
	}
	if len(f.GetUsers()) > 0 && !slices.Contains(f.GetUsers(), job.GetSpec().GetUser()) {
		return false
	}
	if len(f.GetNames()) > 0 && !slices.Contains(f.GetNames(), job.GetSpec().GetName()) {
		return false
	}
	switch {
	case f.GetAllStates():
		return true
	case len(f.GetStates()) > 0:
		return slices.Contains(f.GetStates(), job.GetState())
	}
	return !wlm.JobState(job.GetState()).Ended()
}

// Steps returns the observed steps; the filter is the commands' business.
func (f *Fake) Steps(_ context.Context, r *ctlv1.StepsRequest) (*ctlv1.StepsReply, error) {
	for _, ref := range r.GetFilter().GetRefs() {
		if !slices.ContainsFunc(f.JobList, func(j *ctlv1.JobInfo) bool { return refers(ref, j) }) {
			return nil, errs.Coded("peertest", errs.InvalidJobID)
		}
	}
	f.StepList[0].Now = f.Now
	return f.StepList[0], nil
}

// Nodes returns the nodes asked for.
func (f *Fake) Nodes(_ context.Context, r *ctlv1.NodesRequest, each func(*ctlv1.NodesReply) error) error {
	m := &ctlv1.NodesReply{Now: f.Now}
	if r.GetNodes() == "" {
		m.Nodes = f.NodeList
		return each(m)
	}
	names, err := hostlist.Expand(r.GetNodes())
	if err != nil {
		return err
	}
	for _, n := range names {
		i := slices.IndexFunc(f.NodeList, func(i *ctlv1.NodeInfo) bool { return i.GetNode().GetName() == n })
		if i < 0 {
			return errs.Coded("peertest", errs.InvalidNodeName)
		}
		m.Nodes = append(m.Nodes, f.NodeList[i])
	}
	return each(m)
}

// Reservations answers that there are none.
func (f *Fake) Reservations(context.Context, *ctlv1.ReservationsRequest) (*ctlv1.ReservationsReply, error) {
	return &ctlv1.ReservationsReply{}, nil
}

// Partitions returns the partitions.
func (f *Fake) Partitions(_ context.Context, r *ctlv1.PartitionsRequest) (*ctlv1.PartitionsReply, error) {
	m := &ctlv1.PartitionsReply{}
	for _, p := range f.PartList {
		if (r.GetName() == "" || r.GetName() == p.GetPartition().GetName()) && !(r.GetHide() && p.GetPartition().GetHidden()) {
			m.Partitions = append(m.Partitions, p)
		}
	}
	if len(m.Partitions) == 0 {
		return nil, errs.Coded("peertest", errs.InvalidPartition)
	}
	return m, nil
}

// AcctJobs returns the accounting rows; the query is recorded.
func (f *Fake) AcctJobs(_ context.Context, q *acctstorev1.Query, each func(*acctstorev1.JobsReply) error) error {
	f.LastQuery = q
	m := &acctstorev1.JobsReply{}
	for _, r := range f.Rows {
		if len(q.GetJobs()) > 0 && !slices.ContainsFunc(q.GetJobs(), func(ref *acctstorev1.JobRef) bool { return ref.GetJob() == r.GetJob().GetId() }) {
			continue
		}
		if end := r.GetJob().GetEnd(); wlm.JobState(r.GetJob().GetState()).Ended() && end < q.GetStart() {
			continue
		}
		if len(q.GetStates()) > 0 && !slices.Contains(q.GetStates(), r.GetJob().GetState()) {
			continue
		}
		m.Jobs = append(m.Jobs, r)
	}
	return each(m)
}
