package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-hpc/sluice/core/auth"
	"github.com/sluice-hpc/sluice/core/fleet"
	"github.com/sluice-hpc/sluice/sdk/proto/launch/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/wlm/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
)

// patience bounds every wait; the programs under test are built for the run.
const patience = 30 * time.Second

// prefix is where the programs under test are installed.
var prefix string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "slurmd")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		panic(err)
	}
	prefix = dir
	const module = "github.com/sluice-hpc/sluice/"
	for bin, pkg := range map[string]string{"sbin/slurmd": "daemons/slurmd", "libexec/sluice/slurmstepd": "daemons/slurmstepd",
		"libexec/sluice/launch_exec": "plugins/launch/exec", "libexec/sluice/launch_sim": "plugins/launch/sim"} {
		cmd := exec.Command("go", "build", "-o", filepath.Join(dir, bin), module+pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "building %s: %v\n%s", bin, err, out)
			os.Exit(1)
		}
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// controller is a slurmctld that knows only its fleet.
type controller struct {
	fleet     *fleet.Fleet
	signer    *auth.Signer
	registers chan *nodev1.Register
	reports   chan *nodev1.Report
}

func (c *controller) Register(_ context.Context, _ wlm.NodeName, r *nodev1.Register) (*nodev1.Registered, error) {
	c.registers <- r
	return &nodev1.Registered{Accepted: true, PublicKey: c.signer.Public()}, nil
}
func (c *controller) Heartbeat(wlm.NodeName, *nodev1.Heartbeat) {}
func (c *controller) Reports(_ context.Context, _ wlm.NodeName, r []*nodev1.Report) error {
	for _, x := range r {
		c.reports <- x
	}
	return nil
}
func (c *controller) Disconnected(wlm.NodeName) {}

// site is a directory with a configuration, a controller and slurmd processes.
type site struct {
	*controller
	t    testing.TB
	dir  string
	conf string
	key  auth.Key
	cmd  *exec.Cmd
	gone chan struct{} // closed when cmd has ended
	step []byte        // the node's step key
	addr string        // of the node's API
	uid  uint32
}

func freePort(t testing.TB) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func newSite(t testing.TB, extra string) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir(), uid: uint32(os.Getuid()), controller: &controller{signer: auth.GenerateSigner(),
		registers: make(chan *nodev1.Register, 100), reports: make(chan *nodev1.Report, 1000)}}
	if s.uid == 0 {
		s.uid = 65534
	}
	for p := s.dir; len(p) > len(os.TempDir()); p = filepath.Dir(p) {
		os.Chmod(p, 0o755)
	}
	os.Mkdir(s.dir+"/jobs", 0o755)
	if os.Getuid() == 0 {
		os.Chown(s.dir+"/jobs", int(s.uid), int(s.uid))
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	s.addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	s.conf = s.dir + "/slurm.conf"
	text := fmt.Sprintf(`ClusterName=peer
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=%d
SlurmUser=%d
AuthType=auth/slurm
AuthInfo=socket=%s/tok
StateSaveLocation=%s/state
SlurmdSpoolDir=%s/spool/%%n
SlurmdPidFile=%s/slurmd-%%n.pid
PluginDir=%s/libexec/sluice
%s
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port=%d CPUs=4 RealMemory=1000
PartitionName=main Nodes=n1 Default=YES
`, l.Addr().(*net.TCPAddr).Port, os.Getuid(), s.dir, s.dir, s.dir, s.dir, prefix, extra, port)
	if err := os.WriteFile(s.conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if s.key, err = auth.CreateKey(s.dir + "/slurm.key"); err != nil {
		t.Fatal(err)
	}
	s.fleet = fleet.New(s.controller, slog.New(slog.DiscardHandler))
	gate := auth.NewGate(s.key, "peer", wlm.UID(os.Getuid()))
	srv := grpc.NewServer(grpc.ChainStreamInterceptor(gate.Stream()))
	nodev1.RegisterFleetServer(srv, s.fleet)
	go srv.Serve(l)
	t.Cleanup(func() {
		s.kill(syscall.SIGKILL)
		srv.Stop()
		if t.Failed() {
			b, _ := os.ReadFile(s.dir + "/slurmd.out")
			c, _ := os.ReadFile(s.dir + "/spool/n1/slurmstepd.log")
			t.Logf("slurmd said:\n%s%s", b, c)
		}
	})
	return s
}

// slurmd starts the daemon and waits until it has registered.
func (s *site) slurmd() *nodev1.Register {
	s.t.Helper()
	out, err := os.OpenFile(s.dir+"/slurmd.out", os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		s.t.Fatal(err)
	}
	defer out.Close()
	s.cmd = exec.Command(prefix+"/sbin/slurmd", "-D", "-N", "n1", "-f", s.conf)
	s.cmd.Stdout, s.cmd.Stderr = out, out
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	gone := make(chan struct{})
	s.gone = gone
	cmd := s.cmd
	go func() { cmd.Wait(); close(gone) }()
	r := next(s.t, s.registers)
	s.step = r.GetStepKey()
	return r
}

func (s *site) kill(sig syscall.Signal) {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Signal(sig)
	select {
	case <-s.gone:
	case <-time.After(patience):
		s.t.Error("slurmd does not end")
	}
	s.cmd = nil
}

func next[T any](t testing.TB, ch chan T) T {
	t.Helper()
	select {
	case x := <-ch:
		return x
	case <-time.After(patience):
		var zero T
		t.Fatalf("no %T came", zero)
		return zero
	}
}

// start orders a job: a batch job when there is a script.
func (s *site) start(id uint32, script string) {
	s.t.Helper()
	kind := wlm.KindBatch
	if script == "" {
		kind = wlm.KindAlloc
	}
	cred := &nodev1.Credential{Cluster: "peer", Job: id, Uid: s.uid, Gid: s.uid, UserName: "alice", StepKey: s.step,
		Nodes: []*nodev1.NodeAt{{Name: "n1", Addr: s.addr, Cpus: 4, CpuSet: wlm.FullCPUSet(4), Mem: 1000}}}
	msg, err := proto.Marshal(cred)
	if err != nil {
		s.t.Fatal(err)
	}
	m := &nodev1.StartJob{Credential: msg, Signature: s.signer.Sign(msg), Script: []byte(script), Env: []string{"PATH=/usr/bin:/bin"},
		Job: &wlmv1.Job{Id: id, Partition: "main", Spec: &wlmv1.Spec{Name: "j", Kind: uint32(kind), User: s.uid, Group: s.uid,
			UserName: "alice", WorkDir: s.dir + "/jobs", Argv: []string{"job.sh", "arg"}}}, Nodes: cred.Nodes}
	if !s.fleet.Send("n1", &nodev1.ToNode{Body: &nodev1.ToNode_Start{Start: m}}) {
		s.t.Fatal("n1 is not connected")
	}
}

// file waits until a file of the work directory contains text.
func (s *site) file(name, text string) string {
	s.t.Helper()
	for end := time.Now().Add(patience); ; {
		b, _ := os.ReadFile(s.dir + "/jobs/" + name)
		if strings.Contains(string(b), text) {
			return string(b)
		}
		if time.Now().After(end) {
			s.t.Fatalf("%s has %q, not %q", name, b, text)
		}
		syscall.Select(0, nil, nil, nil, &syscall.Timeval{Usec: 2000})
	}
}

// slurmd is killed while a job runs, and restarted; then its launch plugin.
func TestBatch(t *testing.T) {
	s := newSite(t, "")
	if r := s.slurmd(); r.GetNode() != "n1" || r.GetAddr() != s.addr || r.GetCpus() == 0 || r.GetRealMemory() == 0 || len(r.GetJobs()) != 0 {
		t.Errorf("registered %v", r)
	}
	s.start(1, "#!/bin/sh\necho start $1 $SLURM_JOB_ID $SLURMD_NODENAME; while [ ! -e go ]; do sleep 0.02; done; echo end; exit 3\n")
	s.file("slurm-1.out", "start arg 1 n1\n")
	s.kill(syscall.SIGKILL)
	if r := s.slurmd(); len(r.GetJobs()) != 1 || r.GetJobs()[0].GetJob() != 1 {
		t.Errorf("registered with %v", r.GetJobs())
	}
	s.start(1, "#!/bin/sh\necho twice >> twice\n")
	if err := os.WriteFile(s.dir+"/jobs/go", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	var e *nodev1.StepEnded
	for e == nil { // its start is told as well, since it lasts
		e = next(t, s.reports).GetStepEnded()
	}
	if e.GetStep().GetStatus() != 3<<8 || !e.GetClean() || e.GetStep().GetState() != uint32(wlm.Failed) {
		t.Errorf("reported %v", e)
	}
	if got := s.file("slurm-1.out", "end"); got != "start arg 1 n1\nend\n" {
		t.Errorf("output %q", got)
	}
	if _, err := os.Stat(s.dir + "/jobs/twice"); err == nil {
		t.Error("the job ran twice")
	}
	s.start(2, "#!/bin/sh\nexit 0\n")
	if e := next(t, s.reports).GetStepEnded(); e.GetStep().GetJob() != 2 || e.GetStep().GetStatus() != 0 {
		t.Errorf("reported %v", e)
	}
	s.kill(syscall.SIGTERM)
}

// A job is ended: its script hears SIGTERM, and its reader why.
func TestTimeLimit(t *testing.T) {
	s := newSite(t, "")
	s.slurmd()
	s.start(4, "#!/bin/sh\ntrap 'echo term; exit 9' TERM\necho up\nwhile :; do sleep 0.02; done\n")
	s.file("slurm-4.out", "up\n")
	s.fleet.Send("n1", &nodev1.ToNode{Body: &nodev1.ToNode_Terminate{Terminate: &nodev1.Terminate{Job: 4, KillWait: 30, State: uint32(wlm.Timeout)}}})
	var e *nodev1.StepEnded
	for e == nil {
		e = next(t, s.reports).GetStepEnded()
	}
	if e.GetStep().GetState() != uint32(wlm.Cancelled) || !e.GetClean() {
		t.Errorf("reported %v", e)
	}
	out := s.file("slurm-4.out", "term")
	if !strings.Contains(out, "slurmstepd: error: *** JOB 4 ON n1 CANCELLED AT 20") || !strings.Contains(out, " DUE TO TIME LIMIT ***\n") {
		t.Errorf("output %q", out)
	}
}

// user calls the node's API as the job's owner.
func (s *site) user() nodev1.NodeAPIClient {
	s.t.Helper()
	cc, err := grpc.NewClient(s.addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithPerRPCCredentials(auth.Daemon(s.key, auth.Claims{User: "alice", UID: wlm.UID(s.uid), Cluster: "peer"})))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { cc.Close() })
	return nodev1.NewNodeAPIClient(cc)
}

func launchOf(r *nodev1.CreateStepReply, attach bool, argv ...string) *nodev1.RunStepIn {
	caller := &launchv1.Stream{Kind: launchv1.Stream_CALLER}
	return &nodev1.RunStepIn{Body: &nodev1.RunStepIn_Launch{Launch: &nodev1.RunLaunch{Credential: r.GetCredential(), Signature: r.GetSignature(),
		Attach: attach, Work: &launchv1.Work{Argv: argv, Env: append([]string{"PATH=/usr/bin:/bin"}, r.GetJobEnv()...), Cwd: "/tmp",
			Stdin: caller, Stdout: caller, Stderr: caller}}}}
}

// all reads a step's stream to its end.
func all(st grpc.BidiStreamingClient[nodev1.RunStepIn, nodev1.RunStepOut]) (out string, status []uint32, err error) {
	for {
		m, err := st.Recv()
		if err != nil {
			if err == io.EOF {
				err = nil
			}
			return out, status, err
		}
		out += string(m.GetOutput().GetData())
		if e := m.GetEnded(); e != nil {
			status = append(status, e.GetStatus())
		}
		if l := m.GetLaunched(); l.GetError() != "" {
			return l.GetError(), nil, nil
		}
	}
}

func TestStep(t *testing.T) {
	s := newSite(t, "")
	s.slurmd()
	s.start(5, "")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := s.user()
	r, err := c.CreateStep(ctx, &nodev1.CreateStepRequest{Job: 5, Name: "sh", Ntasks: 2, Relative: wlm.Unset})
	if err != nil {
		t.Fatal(err)
	}
	st, err := c.RunStep(ctx)
	if err != nil {
		t.Fatal(err)
	}
	st.Send(launchOf(r, false, "sh", "-c", `read x; echo "$SLURM_PROCID of $SLURM_NTASKS in $SLURM_JOB_ID.$SLURM_STEP_ID: $x"; exit $SLURM_PROCID`))
	st.Send(&nodev1.RunStepIn{Body: &nodev1.RunStepIn_Stdin{Stdin: &nodev1.Stdin{Task: 0xffffffff, Data: []byte("hello\n"), Eof: true}}})
	st.CloseSend()
	out, status, err := all(st)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"0 of 2 in 5.0: hello\n", "1 of 2 in 5.0: hello\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("output %q lacks %q", out, want)
		}
	}
	if len(status) != 2 || status[0]+status[1] != 1<<8 {
		t.Errorf("statuses %v", status)
	}
	if _, err := c.EndStep(ctx, &nodev1.EndStepRequest{Job: 5, Step: 0, Status: 1 << 8}); err != nil {
		t.Fatal(err)
	}
	if e := next(t, s.reports).GetStepEnded(); e.GetStep().GetStatus() != 1<<8 || e.GetStep().GetNtasks() != 2 || e.GetStep().GetName() != "sh" {
		t.Errorf("reported %v", e)
	}
}

// slurmd is killed under a running step; srun attaches again and loses nothing.
func TestStepSurvives(t *testing.T) {
	s := newSite(t, "")
	s.slurmd()
	s.start(5, "")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := s.user()
	r, err := c.CreateStep(ctx, &nodev1.CreateStepRequest{Job: 5, Ntasks: 1, Relative: wlm.Unset})
	if err != nil {
		t.Fatal(err)
	}
	st, err := c.RunStep(ctx)
	if err != nil {
		t.Fatal(err)
	}
	st.Send(launchOf(r, false, "sh", "-c", `echo one; while [ ! -e `+s.dir+`/jobs/go ]; do sleep 0.02; done; echo two; exit 4`))
	for seen := ""; seen != "one\n"; {
		m, err := st.Recv()
		if err != nil {
			t.Fatal(err)
		}
		seen += string(m.GetOutput().GetData())
	}
	s.kill(syscall.SIGKILL)
	if err := os.WriteFile(s.dir+"/jobs/go", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if reg := s.slurmd(); len(reg.GetJobs()) != 1 || len(reg.GetJobs()[0].GetSteps()) != 1 {
		t.Errorf("registered with %v", reg.GetJobs())
	}
	if st, err = s.user().RunStep(ctx); err != nil {
		t.Fatal(err)
	}
	st.Send(launchOf(r, true))
	out, status, err := all(st)
	if err != nil || out != "two\n" || len(status) != 1 || status[0] != 4<<8 {
		t.Errorf("attached: %q, %v, %v", out, status, err)
	}
}

func TestBackgroundAndMistakes(t *testing.T) {
	s := newSite(t, "")
	run := func(args ...string) (string, int) {
		cmd := exec.Command(prefix+"/sbin/slurmd", args...)
		var b bytes.Buffer
		cmd.Stdout, cmd.Stderr = &b, &b
		cmd.Run()
		return b.String(), cmd.ProcessState.ExitCode()
	}
	if out, code := run("-f", s.conf, "-N", "n1"); code != 0 || out != "" {
		t.Fatalf("to the background: exit %d, %q", code, out)
	}
	next(t, s.registers)
	pid, err := os.ReadFile(s.dir + "/slurmd-n1.pid")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(pid)))
	if err != nil {
		t.Fatal(err)
	}
	syscall.Kill(n, syscall.SIGTERM)
	for end := time.Now().Add(patience); syscall.Kill(n, 0) == nil && time.Now().Before(end); {
		syscall.Select(0, nil, nil, nil, &syscall.Timeval{Usec: 5000})
	}
	for _, tt := range []struct {
		args []string
		want string
		code int
	}{
		{[]string{"-V"}, "slurm 25.11.7-sluice", 0},
		{[]string{"-C"}, "NodeName=", 0},
		{[]string{"-D", "-f", s.conf, "-N", "nx"}, "slurmd: error: -N nx: " + s.conf + " has no NodeName=nx\n", 1},
		{[]string{"-f", s.conf, "-N", "nx"}, "slurmd: error: -N nx: " + s.conf + " has no NodeName=nx\n", 1},
		{[]string{"-D", "-f", "/nonexistent/slurm.conf"}, "slurmd: error: ", 1},
		{[]string{"--bogus"}, "slurmd: error: unknown flag: --bogus\n", 1},
	} {
		if out, code := run(tt.args...); code != tt.code || !strings.HasPrefix(out, tt.want) {
			t.Errorf("slurmd %v: exit %d, %q", tt.args, code, out)
		}
	}
}
