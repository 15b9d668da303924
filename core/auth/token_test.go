package auth

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"google.golang.org/grpc/metadata"
)

func testKey(t testing.TB, fill byte) Key {
	t.Helper()
	k, err := NewKey(bytes.Repeat([]byte{fill}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestTokenRoundTrip(t *testing.T) {
	k, now := testKey(t, 1), time.Unix(1_000_000, 0)
	in := Claims{User: "ann", UID: 1000, GID: 100, GIDs: []wlm.GID{100, 7}, Cluster: "c", Node: "n1", Role: "operator"}
	tok, err := k.mint(in, now, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	got, err := k.Verify(tok, "c", now.Add(59*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	in.Issued, in.Expires = 1_000_000, 1_000_060
	a, _ := json.Marshal(in)
	b, _ := json.Marshal(got)
	if !bytes.Equal(a, b) {
		t.Errorf("got %s, want %s", b, a)
	}
}

func TestTokenRefusals(t *testing.T) {
	k, other, now := testKey(t, 1), testKey(t, 2), time.Unix(1_000_000, 0)
	mint := func(k Key, c Claims, at time.Time) string {
		s, err := k.mint(c, at, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	signed := func(head, body string) string {
		text := b64.EncodeToString([]byte(head)) + "." + b64.EncodeToString([]byte(body))
		return text + "." + b64.EncodeToString(k.mac([]byte(text)))
	}
	good := mint(k, Claims{User: "ann", UID: 1000, Cluster: "c"}, now)
	parts := strings.Split(good, ".")
	forged := strings.Replace(string(must(b64.DecodeString(parts[1]))), `"uid":1000`, `"uid":0`, 1)
	tests := []struct{ name, token, want string }{
		{"good", good, ""},
		{"other header order", signed(`{"typ":"JWT","alg":"HS256"}`, `{"cluster":"c","exp":1000060}`), ""},
		{"empty", "", "not a token"},
		{"words", "hello", "not a token"},
		{"other key", mint(other, Claims{Cluster: "c"}, now), "not signed"},
		{"forged claims", parts[0] + "." + b64.EncodeToString([]byte(forged)) + "." + parts[2], "not signed"},
		{"no signature", parts[0] + "." + parts[1] + ".", "not signed"},
		{"algorithm none", signed(`{"alg":"none"}`, `{"cluster":"c","exp":1000060}`), "HS256"},
		{"not claims", signed(header, `[]`), "damaged"},
		{"no header", func() string { x := "abc"; return x + "." + b64.EncodeToString(k.mac([]byte(x))) }(), "HS256"},
		{"wrong cluster", mint(k, Claims{Cluster: "d"}, now), `cluster "d"`},
		{"expired", mint(k, Claims{Cluster: "c"}, now.Add(-time.Minute)), "expired 0 seconds ago"},
		{"from the future", mint(k, Claims{Cluster: "c"}, now.Add(time.Hour)), "future"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := k.Verify(tt.token, "c", now)
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if errs.CodeOf(err) != errs.InvalidAuth || errs.KindOf(err) != errs.Unauth || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one about %q", err, tt.want)
			}
		})
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func FuzzVerify(f *testing.F) {
	k, now := testKey(f, 1), time.Unix(1_000_000, 0)
	f.Add(must(k.mint(Claims{Cluster: "c"}, now, time.Minute)))
	f.Add("..")
	f.Fuzz(func(t *testing.T, token string) {
		c, err := k.Verify(token, "c", now)
		if err == nil && (c.Cluster != "c" || !strings.Contains(token, ".")) {
			t.Errorf("accepted %q as %+v", token, c)
		}
	})
}

func TestKeyHidesItself(t *testing.T) {
	k := must(NewKey([]byte("a secret of at least thirty-two bytes")))
	for _, s := range []string{k.String(), k.GoString()} {
		if strings.Contains(s, "secret") {
			t.Errorf("printed %q", s)
		}
	}
}

func TestKeyFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "slurm.key")
	var wg sync.WaitGroup
	keys := make([]Key, 8)
	for i := range keys {
		wg.Go(func() {
			var err error
			if keys[i], err = CreateKey(path); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, k := range keys {
		if !bytes.Equal(k.secret, keys[0].secret) {
			t.Fatal("two keys were made")
		}
	}
	if st := must(os.Stat(path)); st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", st.Mode())
	}
	if left := must(os.ReadDir(dir)); len(left) != 1 {
		t.Errorf("files left: %v", left)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKey(path); err == nil || !strings.Contains(err.Error(), "0640") || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v", err)
	}
	short := filepath.Join(dir, "short")
	if err := os.WriteFile(short, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{short, dir, filepath.Join(dir, "missing")} {
		if _, err := LoadKey(p); err == nil || !strings.Contains(err.Error(), p) {
			t.Errorf("%s: error %v", p, err)
		}
	}
}

func TestSigner(t *testing.T) {
	dir := t.TempDir()
	a, b := must(NewSigner(dir)), must(NewSigner(dir))
	msg := []byte("job 7 runs on n1")
	sig := a.Sign(msg)
	if err := VerifyCredential(b.Public(), msg, sig); err != nil {
		t.Error(err)
	}
	bad := [][3][]byte{
		{a.Public(), []byte("job 8 runs on n1"), sig},
		{GenerateSigner().Public(), msg, sig},
		{nil, msg, sig},
		{a.Public(), msg, nil},
		{a.Public(), msg, sig[:10]},
	}
	for i, x := range bad {
		if err := VerifyCredential(x[0], x[1], x[2]); errs.CodeOf(err) != errs.InvalidCredential {
			t.Errorf("case %d: error %v", i, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, credentialFile), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewSigner(dir); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("error %v", err)
	}
}

func TestGate(t *testing.T) {
	k, now := testKey(t, 1), time.Unix(1_000_000, 0)
	g := NewGate(k, "c", 64030)
	g.now = func() time.Time { return now }
	tests := []struct {
		claims Claims
		role   Role
		admin  bool
	}{
		{Claims{UID: 1000}, RoleUser, false},
		{Claims{UID: 1000, Role: "operator"}, RoleOperator, true},
		{Claims{UID: 1000, Role: "coordinator"}, RoleCoordinator, false},
		{Claims{UID: 0}, RoleRoot, true},
		{Claims{UID: 64030}, RoleSlurmUser, true},
	}
	for _, tt := range tests {
		tt.claims.Cluster = "c"
		tok := must(k.mint(tt.claims, now, 30*time.Second))
		for range 2 { // the second time from memory
			id, err := g.Verify(tok)
			if err != nil || id.Role != tt.role || id.Admin() != tt.admin || id.UID != tt.claims.UID {
				t.Errorf("%+v: identity %+v, error %v", tt.claims, id, err)
			}
		}
	}
	tok := must(k.mint(Claims{UID: 5, Cluster: "c"}, now, 30*time.Second))
	ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs(TokenKey, tok))
	if id, err := g.Identify(ctx); err != nil || id.UID != 5 {
		t.Errorf("identity %+v, error %v", id, err)
	}
	now = now.Add(30 * time.Second)
	if _, err := g.Identify(ctx); errs.CodeOf(err) != errs.InvalidAuth {
		t.Errorf("a remembered token outlived itself: error %v", err)
	}
	for _, md := range []metadata.MD{nil, metadata.Pairs(TokenKey, tok, TokenKey, tok), metadata.Pairs(TokenKey, strings.Repeat("x", maxToken+1))} {
		if _, err := g.Identify(metadata.NewIncomingContext(t.Context(), md)); errs.CodeOf(err) != errs.InvalidAuth {
			t.Errorf("error %v", err)
		}
	}
	if g.Refused() != 4 {
		t.Errorf("%d refused", g.Refused())
	}
}

func TestGateForgets(t *testing.T) {
	k := testKey(t, 1)
	g := NewGate(k, "c", 1)
	for i := range maxProven + 10 {
		if _, err := g.Verify(must(k.Mint(Claims{UID: wlm.UID(i), Cluster: "c"}, time.Minute))); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	g.proven.Range(func(any, any) bool { n++; return true })
	if n > maxProven {
		t.Errorf("%d tokens remembered", n)
	}
}

func TestDaemonTokenIsRenewed(t *testing.T) {
	k, now := testKey(t, 1), time.Unix(1_000_000, 0)
	d := Daemon(k, Claims{UID: 0, Cluster: "c", Node: "n1"}).(*daemonToken)
	d.now = func() time.Time { return now }
	get := func() string { return must(d.GetRequestMetadata(t.Context()))[TokenKey] }
	first := get()
	if now = now.Add(29 * time.Minute); get() != first {
		t.Error("renewed too early")
	}
	now = now.Add(2 * time.Minute)
	if tok := get(); tok == first {
		t.Error("not renewed")
	} else if c, err := k.Verify(tok, "c", now); err != nil || c.Node != "n1" {
		t.Errorf("claims %+v, error %v", c, err)
	}
}

func BenchmarkGate(b *testing.B) {
	k := testKey(b, 1)
	tok := must(k.Mint(Claims{User: "ann", UID: 1000, GID: 1000, Cluster: "c"}, time.Hour))
	b.Run("remembered", func(b *testing.B) {
		g := NewGate(k, "c", 1)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				g.Verify(tok) //nolint:errcheck // valid
			}
		})
	})
	b.Run("verify", func(b *testing.B) {
		for b.Loop() {
			k.Verify(tok, "c", time.Now()) //nolint:errcheck // valid
		}
	})
}
