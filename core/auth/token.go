package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// minKey is the least size of a key in bytes.
const minKey = 32

// maxSkew is how far the clock of whoever minted a token may be ahead of ours.
const maxSkew = 5 * time.Minute

// Key is the secret that the daemons of a cluster share. Printing it shows
// nothing of it.
type Key struct{ secret []byte }

// NewKey makes a key of a secret of at least 32 bytes.
func NewKey(secret []byte) (Key, error) {
	if len(secret) < minKey {
		return Key{}, fmt.Errorf("a key has at least %d bytes, this has %d", minKey, len(secret))
	}
	return Key{append([]byte(nil), secret...)}, nil
}

// String hides the secret.
func (Key) String() string { return "auth.Key" }

// GoString hides the secret.
func (Key) GoString() string { return "auth.Key" }

// LoadKey reads slurm.key. A file that anybody but its owner may read or write
// is refused.
func LoadKey(path string) (Key, error) {
	const op = "auth.LoadKey"
	f, err := os.Open(path)
	if err != nil {
		return Key{}, errs.Newf(op, errs.Invalid, "slurm.key: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return Key{}, errs.Newf(op, errs.Invalid, "slurm.key: %w", err)
	}
	if !st.Mode().IsRegular() {
		return Key{}, errs.Newf(op, errs.Invalid, "%s is not a file", path)
	}
	if p := st.Mode().Perm(); p&0o077 != 0 {
		return Key{}, errs.Newf(op, errs.Invalid, "%s has mode %04o: only its owner may read and write it (chmod 600)", path, p)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return Key{}, errs.Newf(op, errs.Invalid, "slurm.key: %w", err)
	}
	k, err := NewKey(b)
	if err != nil {
		return Key{}, errs.Newf(op, errs.Invalid, "%s: %w", path, err)
	}
	return k, nil
}

// CreateKey loads the key at path, and makes one with mode 0600 when there is
// no file. Several processes may do so at once: all get the same key.
func CreateKey(path string) (Key, error) {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return LoadKey(path)
	}
	secret := make([]byte, 64)
	rand.Read(secret) //nolint:errcheck // never fails
	if err := createFile(path, secret); err != nil && !errors.Is(err, fs.ErrExist) {
		return Key{}, errs.Newf("auth.CreateKey", errs.Invalid, "slurm.key: %w", err)
	}
	return LoadKey(path)
}

// createFile makes a file of mode 0600 with its whole content or not at all. A
// file that is there already is left as it is, and fs.ErrExist is returned.
func createFile(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Link(f.Name(), path)
}

// Claims are what a token says. Times are Unix seconds; Mint sets them.
type Claims struct {
	User    string    `json:"sub"`
	UID     wlm.UID   `json:"uid"`
	GID     wlm.GID   `json:"gid"`
	GIDs    []wlm.GID `json:"gids,omitempty"`
	Cluster string    `json:"cluster"`
	Node    string    `json:"node,omitempty"` // of daemons
	Role    string    `json:"role,omitempty"` // beyond what the uid gives; empty: none
	Issued  int64     `json:"iat"`
	Expires int64     `json:"exp"`
}

// header is that of every token we make.
const header = `{"alg":"HS256","typ":"JWT"}`

var (
	b64    = base64.RawURLEncoding
	prefix = b64.EncodeToString([]byte(header)) + "."
)

// Mint signs claims for a time to live from now on.
func (k Key) Mint(c Claims, ttl time.Duration) (string, error) {
	return k.mint(c, time.Now(), ttl)
}

func (k Key) mint(c Claims, now time.Time, ttl time.Duration) (string, error) {
	const op = "auth.Mint"
	switch {
	case len(k.secret) < minKey:
		return "", errs.Newf(op, errs.Internal, "there is no key")
	case c.Cluster == "":
		return "", errs.Newf(op, errs.Internal, "a token needs a cluster")
	case ttl <= 0:
		return "", errs.Newf(op, errs.Invalid, "a token's lifespan must be above zero")
	}
	if _, err := ParseRole(c.Role); err != nil {
		return "", errs.Newf(op, errs.Invalid, "%w", err)
	}
	c.Issued, c.Expires = now.Unix(), now.Add(ttl).Unix()
	body, err := json.Marshal(c)
	if err != nil {
		return "", errs.Newf(op, errs.Internal, "%w", err)
	}
	text := make([]byte, 0, len(prefix)+b64.EncodedLen(len(body))+1+b64.EncodedLen(sha256.Size))
	text = append(text, prefix...)
	text = b64.AppendEncode(text, body)
	mac := k.mac(text)
	text = append(text, '.')
	return string(b64.AppendEncode(text, mac)), nil
}

func (k Key) mac(text []byte) []byte {
	h := hmac.New(sha256.New, k.secret)
	h.Write(text)
	return h.Sum(nil)
}

// Verify returns what a token says, if it was made with k for this cluster and
// is good at now. The signature is checked before anything of it is used.
func (k Key) Verify(token, cluster string, now time.Time) (Claims, error) {
	var c Claims
	if len(k.secret) < minKey {
		return Claims{}, errs.Newf("auth.Verify", errs.Internal, "there is no key")
	}
	dot := strings.LastIndexByte(token, '.')
	if dot < 0 {
		return Claims{}, refused("this is not a token")
	}
	sum, err := b64.DecodeString(token[dot+1:])
	if err != nil || !hmac.Equal(sum, k.mac([]byte(token[:dot]))) {
		return Claims{}, refused("the token was not signed with this cluster's slurm.key")
	}
	head, body, ok := strings.Cut(token[:dot], ".")
	if !ok || !acceptable(head) {
		return Claims{}, refused("the token's header does not say HS256")
	}
	raw, err := b64.DecodeString(body)
	if err != nil || json.Unmarshal(raw, &c) != nil {
		return Claims{}, refused("the token's claims are damaged")
	}
	switch {
	case c.Cluster != cluster:
		return Claims{}, refused(fmt.Sprintf("the token is for cluster %q, this is %q", c.Cluster, cluster))
	case now.Unix() >= c.Expires:
		return Claims{}, refused(fmt.Sprintf("the token expired %d seconds ago", now.Unix()-c.Expires))
	case time.Unix(c.Issued, 0).After(now.Add(maxSkew)):
		return Claims{}, refused("the token comes from the future: do the hosts' clocks agree?")
	}
	return c, nil
}

// acceptable reports whether a header asks for the one algorithm we accept.
func acceptable(head string) bool {
	if head == prefix[:len(prefix)-1] {
		return true
	}
	var h struct {
		Alg string `json:"alg"`
	}
	raw, err := b64.DecodeString(head)
	return err == nil && json.Unmarshal(raw, &h) == nil && h.Alg == "HS256"
}

func refused(why string) error { return errs.Coded("auth.Verify", errs.InvalidAuth, why) }
