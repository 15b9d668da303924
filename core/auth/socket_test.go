package auth

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-hpc/sluice/sdk/wlm"
)

func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sluice") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "run", "sock")
}

// ask connects until a daemon answers.
func ask(t *testing.T, path string, send string) Reply {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		r, err := askOnce(path, send)
		if err == nil {
			return r
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func askOnce(path, send string) (r Reply, err error) {
	c, err := net.Dial("unix", path)
	if err != nil {
		return r, err
	}
	defer c.Close()
	if send != "" {
		io.WriteString(c, send) //nolint:errcheck // garbage
	}
	b, err := io.ReadAll(c)
	if err != nil && send == "" {
		return r, err
	}
	return r, json.Unmarshal(b, &r)
}

func serve(t *testing.T, path string, i *Issuer) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- ServeSocket(ctx, path, i.Reply) }()
	var stopped bool
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return stop
}

func TestSocketTellsWhoAsks(t *testing.T) {
	path := socketPath(t)
	k := testKey(t, 1)
	serve(t, path, &Issuer{Key: k, Cluster: "c", Controllers: func() []string { return []string{"h:6817"} }})
	r := ask(t, path, "")
	c, err := k.Verify(r.Token, "c", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if c.UID != wlm.UID(os.Getuid()) || c.GID != wlm.GID(os.Getgid()) || r.UID != c.UID || c.Node != "" || c.Role != "" || c.Expires != r.Expires {
		t.Errorf("reply %+v, claims %+v", r, c)
	}
	if r.Cluster != "c" || len(r.Controllers) != 1 || r.User == "" || r.User != c.User {
		t.Errorf("reply %+v", r)
	}
	if st := must(os.Stat(path)); st.Mode().Perm() != socketMode {
		t.Errorf("mode %v", st.Mode())
	}
	if st := must(os.Stat(filepath.Dir(path))); st.Mode().Perm() != socketDirMode {
		t.Errorf("directory mode %v", st.Mode())
	}
	for range 20 {
		askOnce(path, strings.Repeat("garbage\x00", 5000)) //nolint:errcheck // may break
	}
	ask(t, path, "")
}

func TestSocketIsTakenOver(t *testing.T) {
	path := socketPath(t)
	k := testKey(t, 1)
	issuer := func(name string) *Issuer {
		return &Issuer{Key: k, Cluster: "c", Controllers: func() []string { return []string{name} }}
	}
	stop := serve(t, path, issuer("first"))
	if r := ask(t, path, ""); r.Controllers[0] != "first" {
		t.Fatalf("reply %+v", r)
	}
	serve(t, path, issuer("second"))
	if r := ask(t, path, ""); r.Controllers[0] != "first" {
		t.Fatalf("reply %+v", r)
	}
	stop()
	if r := ask(t, path, ""); r.Controllers[0] != "second" {
		t.Errorf("reply %+v", r)
	}
}

// A holder that is killed leaves its socket behind; the next one replaces it.
func TestSocketOutlivesKill(t *testing.T) {
	if path := os.Getenv("AUTH_TEST_SOCKET"); path != "" {
		k := must(NewKey([]byte(strings.Repeat("k", 32))))
		i := &Issuer{Key: k, Cluster: "c", Controllers: func() []string { return []string{"child"} }}
		if err := ServeSocket(context.Background(), path, i.Reply); err != nil {
			t.Fatal(err)
		}
		return
	}
	path := socketPath(t)
	child := exec.Command(os.Args[0], "-test.run=^TestSocketOutlivesKill$")
	child.Env = append(os.Environ(), "AUTH_TEST_SOCKET="+path)
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Process.Kill() //nolint:errcheck // it is dead already
	if r := ask(t, path, ""); r.Controllers[0] != "child" {
		t.Fatalf("reply %+v", r)
	}
	serve(t, path, &Issuer{Key: testKey(t, 1), Cluster: "c", Controllers: func() []string { return []string{"heir"} }})
	child.Process.Kill() //nolint:errcheck // Wait tells
	child.Wait()         //nolint:errcheck // it was killed
	if r := ask(t, path, ""); r.Controllers[0] != "heir" {
		t.Errorf("reply %+v", r)
	}
}

func TestSocketRefusesLongPath(t *testing.T) {
	path := "/tmp/" + strings.Repeat("x", 120)
	err := ServeSocket(t.Context(), path, nil)
	if err == nil || !strings.Contains(err.Error(), "at most 103") {
		t.Errorf("error %v", err)
	}
}

func TestNames(t *testing.T) {
	if n := UserName(0); n != "root" {
		t.Errorf("uid 0 is %q", n)
	}
	if n := UserName(4_000_000_001); n != "4000000001" {
		t.Errorf("an unknown uid is %q", n)
	}
	if n := GroupName(0); n == "" || n == "0" {
		t.Errorf("gid 0 is %q", n)
	}
}

func BenchmarkSocket(b *testing.B) {
	dir := b.TempDir()
	path := filepath.Join(dir, "s")
	i := &Issuer{Key: testKey(b, 1), Cluster: "c"}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- ServeSocket(ctx, path, i.Reply) }()
	for {
		if _, err := askOnce(path, ""); err == nil {
			break
		}
	}
	for b.Loop() {
		if _, err := askOnce(path, ""); err != nil {
			b.Fatal(err)
		}
	}
	cancel()
	<-done
}
