package scancel

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/tools/internal/command"
	"github.com/sluice-hpc/sluice/tools/internal/peertest"
	"google.golang.org/protobuf/encoding/protojson"
)

// ctl is a controller that refuses some jobs.
type ctl struct {
	*peertest.Fake
	refuse map[uint32]errs.Code
	asked  []*ctlv1.SignalRequest
	noted  []*ctlv1.UpdateJobRequest
}

func (c *ctl) Signal(_ context.Context, r *ctlv1.SignalRequest) (*ctlv1.SignalReply, error) {
	c.asked = append(c.asked, r)
	m := &ctlv1.SignalReply{}
	for _, ref := range r.GetFilter().GetRefs() {
		if code := c.refuse[ref.GetJob()]; code != 0 {
			m.Results = append(m.Results, &ctlv1.SignalResult{Ref: ref, Code: uint32(code), Text: code.String()})
		}
	}
	return m, nil
}

func (c *ctl) UpdateJob(_ context.Context, r *ctlv1.UpdateJobRequest) (*ctlv1.UpdateJobReply, error) {
	c.noted = append(c.noted, r)
	return &ctlv1.UpdateJobReply{}, nil
}

func scancel(t *testing.T, c *ctl, env map[string]string, stdin string, args ...string) (int, string, string) {
	t.Helper()
	var out, stderr bytes.Buffer
	e := command.Env{Args: args, Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &stderr}
	o, err := Parse(args, func(k string) string { return env[k] }, peertest.Names())
	if err != nil {
		cmd := New()
		return cmd.Fail(err, e, 1), out.String(), stderr.String()
	}
	return Run(t.Context(), o, c, e), out.String(), stderr.String()
}

func fixture() *ctl {
	return &ctl{Fake: peertest.New(19), refuse: map[uint32]errs.Code{
		27: errs.AccessDenied, 28: errs.AlreadyDone, 99999999: errs.InvalidJobID,
	}}
}

func TestObservedMistakes(t *testing.T) {
	for _, o := range peertest.Errors(t, "scancel") {
		t.Run(o.Line, func(t *testing.T) {
			status, out, errs := scancel(t, fixture(), nil, "", o.Args()...)
			o.Check(t, status, out, errs)
		})
	}
}

func TestRequests(t *testing.T) {
	tests := []struct{ args, want string }{
		{"5", `{"filter":{"refs":[{"job":5}]}}`},
		{"5 6_2 4.0", `{"filter":{"refs":[{"job":5},{"job":6,"tasks":[{"first":2,"last":2,"step":1}]},{"job":4,"hasStep":true}]}}`},
		{"6_[1-3]", `{"filter":{"refs":[{"job":6,"tasks":[{"first":1,"last":3,"step":1}]}]}}`},
		{"-u alice -t PD -p main", `{"filter":{"users":[1001],"partitions":["main"],"states":[0]}}`},
		{"-s USR1 -b 5", `{"filter":{"refs":[{"job":5}]},"signal":10,"batchOnly":true}`},
		{"-s SIGTERM -f -b 5", `{"filter":{"refs":[{"job":5}]},"signal":15,"full":true}`},
		{"-n x -A research -q high -w n[1-2] -R r --wckey=k -H", `{"filter":{"accounts":["research"],"qos":["high"],"names":["x"],` +
			`"nodes":["n1","n2"],"reservations":["r"],"wckeys":["k"]},"hurry":true}`},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			c := fixture()
			status, out, errs := scancel(t, c, nil, "", strings.Fields(tt.args)...)
			if status != 0 || out+errs != "" || len(c.asked) != 1 || len(c.Asked) != 0 {
				t.Fatalf("status %d, %q %q, %d requests", status, out, errs, len(c.asked)+len(c.Asked))
			}
			b, err := protojson.Marshal(c.asked[0])
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.ReplaceAll(string(b), " ", ""); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestStatus(t *testing.T) {
	tests := []struct {
		args   string
		status int
		stderr string
	}{
		{"99999999", 225, "scancel: error: Kill job error on job id 99999999: Invalid job id specified\n"},
		{"27.0", 210, "scancel: error: Kill job error on job step id 27.0: Access/permission denied\n"},
		{"28", 0, "scancel: error: Kill job error on job id 28: Job/step already completing or completed\n"},
		{"-Q 28", 0, ""},
		{"-s HUP 28", 229, "scancel: error: Kill job error on job id 28: Job/step already completing or completed\n"},
		{"-v 9", 0, "scancel: Terminating job 9\n"},
		{"-v -n demo", 0, "scancel: Terminating job 5\n"},
		{"-s FOO 5", 1, "scancel: error: Unknown job signal: FOO\n"},
		{"--sibling=x 5", 1, "scancel: error: --sibling: federations are not supported\n"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			status, _, stderr := scancel(t, fixture(), nil, "", strings.Fields(tt.args)...)
			if status != tt.status || stderr != tt.stderr {
				t.Errorf("status %d, %q; want %d, %q", status, stderr, tt.status, tt.stderr)
			}
		})
	}
}

func TestInteractive(t *testing.T) {
	c := fixture()
	_, out, _ := scancel(t, c, nil, "what\nn\ny\n", "-i", "-n", "demo,hiq,dep")
	const want = "Cancel job_id=14 name=dep partition=main [y/n]? Cancel job_id=14 name=dep partition=main [y/n]? " +
		"Cancel job_id=10 name=hiq partition=main [y/n]? Cancel job_id=5 name=demo partition=main [y/n]? "
	if out != want {
		t.Errorf("asked %q", out)
	}
	if len(c.asked) != 1 || len(c.asked[0].Filter.Refs) != 1 || c.asked[0].Filter.Refs[0].Job != 10 {
		t.Errorf("cancelled %v", c.asked)
	}
}

func TestEnvironmentAndComment(t *testing.T) {
	c := fixture()
	env := map[string]string{"SCANCEL_USER": "alice", "SCANCEL_STATE": "R", "SCANCEL_BATCH": "yes"}
	scancel(t, c, env, "", "-t", "PENDING", "--admin-comment=full disk")
	r := c.asked[0]
	if !slices.Equal(r.Filter.Users, []uint32{1001}) || !slices.Equal(r.Filter.States, []uint32{0}) || !r.BatchOnly {
		t.Errorf("asked %v", r)
	}
	if len(c.noted) != 1 || c.noted[0].Set["admincomment"] != "full disk" {
		t.Errorf("noted %v", c.noted)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("-s 9 -t R 5_[1-3] 7.batch,8")
	f.Fuzz(func(t *testing.T, line string) {
		scancel(t, fixture(), nil, "", strings.Fields(strings.ReplaceAll(line, "/", ""))...)
	})
}
