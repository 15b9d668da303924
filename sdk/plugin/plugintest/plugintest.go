// Package plugintest starts plugin programs for the conformance suites and
// holds them to what the contract asks of every plugin, whatever its kind.
package plugintest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/plugin"
	"github.com/sluice-hpc/sluice/sdk/plugin/session"
	"github.com/sluice-hpc/sluice/sdk/plugin/wirecall"
	"github.com/sluice-hpc/sluice/sdk/proto/plugin/v1"
)

// patience bounds every wait of a suite.
const patience = time.Minute

// Feeder is a plugin that the suites call and feed: a program started by
// [Start], or a wirecall.Local.
type Feeder interface {
	wirecall.Caller
	PushState(frames [][]byte) error
}

// Binary is a started program. It ends with the test.
type Binary struct {
	*session.Host
	Process  *plugin.Process
	Manifest *pluginv1.ManifestReply
}

var _ Feeder = (*Binary)(nil)

// Start starts a program, opens a session with options and fails the test when
// it does not serve the kind.
func Start(t testing.TB, path, kind string, options map[string]string) *Binary {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	b := begin(t, ctx, path)
	open := &pluginv1.Open{Cluster: "conform", Contracts: map[string]uint32{}}
	for name, value := range options {
		open.Options = append(open.Options, &pluginv1.OptionValue{Name: name, Value: value})
	}
	served := false
	for _, s := range b.Manifest.GetServed() {
		served = served || s.GetKind() == kind
	}
	if !served {
		t.Fatalf("the program serves %v, not the kind %s: its manifest must name each kind that it serves", b.Manifest.GetServed(), kind)
	}
	var err error
	if b.Host, err = b.Process.Open(ctx, session.HostConfig{Epoch: 1, Open: open}); err != nil {
		t.Fatalf("the plugin must accept options of its manifest: %v", err)
	}
	return b
}

func begin(t testing.TB, ctx context.Context, path string) *Binary {
	t.Helper()
	dir, err := os.MkdirTemp("", "plugin")
	if err != nil {
		t.Fatal(err)
	}
	var said syncBuffer
	p, err := plugin.Start(ctx, plugin.StartConfig{Path: path, SocketDir: dir, Output: said.line})
	if err != nil {
		os.RemoveAll(dir)
		t.Fatalf("the program must start, serve gRPC and print nothing else on stdout: %v%s", err, said.quote())
	}
	t.Cleanup(func() {
		p.Stop()
		os.RemoveAll(dir)
		if t.Failed() && said.text() != "" {
			t.Logf("the plugin said:\n%s", said.text())
		}
	})
	m, err := p.Manifest(ctx)
	if err != nil {
		t.Fatalf("the plugin must answer Manifest: %v", err)
	}
	return &Binary{Process: p, Manifest: m}
}

// Run holds a program to the contract of all kinds.
func Run(t *testing.T, path, kind string, options map[string]string) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, *Binary)
	}{
		{"the manifest is complete", testManifest},
		{"health checks are answered", testHealth},
		{"unknown calls are refused", func(t *testing.T, b *Binary) { testUnknown(t, b, kind) }},
		{"garbage is survived", func(t *testing.T, b *Binary) { testGarbage(t, b, kind) }},
		{"signals are ignored", testSignals},
		{"a drained plugin ends its session", testDrain},
		{"a process serves one session", testOneSession},
		{"no plugin outlives its host", testLifeline},
		{"a user who starts it is told what it is", func(t *testing.T, b *Binary) { testByHand(t, path) }},
	} {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) { test.run(t, Start(t, path, kind, options)) })
	}
	t.Run("unknown-options-are-refused", func(t *testing.T) { testUnknownOption(t, path) })
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func testManifest(t *testing.T, b *Binary) {
	m := b.Manifest
	if m.GetName() == "" || m.GetVersion() == "" {
		t.Errorf("a manifest must have a name and a version, this one has %q and %q", m.GetName(), m.GetVersion())
	}
	if strings.Contains(m.GetDoc(), "\n") {
		t.Errorf("a plugin's doc must be one line, it is %q", m.GetDoc())
	}
	for _, s := range m.GetServed() {
		if len(s.GetContracts()) == 0 || slices.Contains(s.GetContracts(), 0) {
			t.Errorf("the kind %s must name the contract versions that it speaks, from 1, not %v", s.GetKind(), s.GetContracts())
		}
	}
	for _, o := range m.GetOptions() {
		if o.GetName() == "" || o.GetDoc() == "" || strings.Contains(o.GetDoc(), "\n") {
			t.Errorf("an option must have a name and one line of doc: %v", o)
		}
		value := &pluginv1.OptionValue{Name: o.GetName(), Value: o.GetDefault()}
		if err := plugin.CheckOptions(m.GetOptions(), []*pluginv1.OptionValue{value}); o.GetDefault() != "" && err != nil {
			t.Errorf("the default of an option must be a legal value of it: %v", err)
		}
	}
}

func testUnknown(t *testing.T, b *Binary, kind string) {
	for _, call := range [][2]string{{kind, "NoSuchMethod"}, {"no_such_kind", "Plan"}} {
		if _, err := b.Call(within(t), call[0], call[1], nil); errs.KindOf(err) != errs.Unsupport {
			t.Errorf("a call of %s.%s must be answered with the kind %q, so that newer hosts can tell, not with %v", call[0], call[1], errs.Unsupport, err)
		}
	}
}

func testSignals(t *testing.T, b *Binary) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		if err := syscall.Kill(b.Process.PID(), sig); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Ping(within(t)); err != nil {
		t.Errorf("SIGTERM, SIGINT and SIGHUP reach a whole service at once; a plugin must ignore them and wait for its host: %v", err)
	}
}

func testDrain(t *testing.T, b *Binary) {
	if err := b.Drain(within(t)); err != nil {
		t.Errorf("a plugin with nothing to do must end its session when it is drained: %v", err)
	}
}

func testGarbage(t *testing.T, b *Binary, kind string) {
	garbage := bytes.Repeat([]byte{0xff, 0x07}, 1000)
	for _, method := range []string{"Plan", "Place", "Rank", "Submit", "Launch", "Append"} {
		if _, err := b.Call(within(t), kind, method, garbage); err == nil || errs.KindOf(err) == errs.Unavail {
			t.Errorf("a payload that is no message must be answered with an error and leave the plugin alive: %s gave %v", method, err)
		}
	}
	if err := b.PushState([][]byte{garbage}); err != nil {
		t.Error(err)
	}
	if err := b.Ping(within(t)); err != nil {
		t.Errorf("a frame of state that is no message must leave the plugin alive: %v", err)
	}
}

func testLifeline(t *testing.T, b *Binary) {
	begin := time.Now()
	b.Process.Stop()
	if took := time.Since(begin); strings.Contains(b.Process.State(), "killed") {
		t.Errorf("when the pipe on descriptor 3 closes the host is gone, and the plugin must exit at once; it had to be killed after %v", took)
	}
}

func testHealth(t *testing.T, b *Binary) {
	for range 3 {
		if err := b.Ping(within(t)); err != nil {
			t.Errorf("an empty frame of state is a health check and must be answered with Synced: %v", err)
		}
	}
}

func testOneSession(t *testing.T, b *Binary) {
	if _, err := b.Process.Open(within(t), session.HostConfig{Epoch: 2, Open: &pluginv1.Open{}}); err == nil {
		t.Error("a process serves one session: a second one must be refused")
	}
	if err := b.Ping(within(t)); err != nil {
		t.Errorf("a refused second session must not disturb the first: %v", err)
	}
}

func testByHand(t *testing.T, path string) {
	cmd := exec.CommandContext(within(t), path)
	cmd.Env = []string{}
	out, err := cmd.CombinedOutput()
	if err == nil || len(out) == 0 {
		t.Errorf("a user who starts the program by hand must be told what it is, with a status that is not 0; got %q, error %v", out, err)
	}
}

func testUnknownOption(t *testing.T, path string) {
	ctx := within(t)
	b := begin(t, ctx, path)
	_, err := b.Process.Open(ctx, session.HostConfig{Epoch: 1, Open: &pluginv1.Open{
		Options: []*pluginv1.OptionValue{{Name: "no_such_option", Value: "1", Origin: "slurm.conf:7"}}}})
	if err == nil || !strings.Contains(err.Error(), "no_such_option") {
		t.Errorf("an option that is not in the manifest must be refused by name, not accepted silently: %v", err)
	}
}

// Build compiles a plugin's package under the program's name and returns its path.
func Build(t testing.TB, pkg, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	cmd := exec.Command("go", "build", "-o", path, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", pkg, err, out)
	}
	return path
}
