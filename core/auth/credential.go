package auth

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/errs"
)

// domain keeps a signature on a credential from meaning anything elsewhere.
const domain = "sluice credential\x00"

// credentialFile holds the controller's private seed, in base64.
const credentialFile = "cred.key"

// Signer signs credentials. Its methods may be called concurrently.
type Signer struct{ key ed25519.PrivateKey }

// NewSigner returns the signer whose key is kept in dir (StateSaveLocation),
// making one at the first time, so that credentials outlive the controller.
func NewSigner(dir string) (*Signer, error) {
	const op = "auth.NewSigner"
	path := filepath.Join(dir, credentialFile)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		seed := make([]byte, ed25519.SeedSize)
		rand.Read(seed) //nolint:errcheck // never fails
		text := []byte(base64.StdEncoding.EncodeToString(seed) + "\n")
		if err := createFile(path, text); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, errs.Newf(op, errs.Invalid, "%s: %w", path, err)
		}
	}
	st, err := os.Stat(path)
	if err != nil {
		return nil, errs.Newf(op, errs.Invalid, "%w", err)
	}
	if p := st.Mode().Perm(); p&0o077 != 0 {
		return nil, errs.Newf(op, errs.Invalid, "%s has mode %04o: only its owner may read and write it (chmod 600)", path, p)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, errs.Newf(op, errs.Invalid, "%w", err)
	}
	seed, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, errs.Newf(op, errs.Invalid, "%s is damaged: it must hold %d bytes in base64", path, ed25519.SeedSize)
	}
	return &Signer{ed25519.NewKeyFromSeed(seed)}, nil
}

// GenerateSigner returns a signer that lives as long as the process, as a node's
// step manager uses one.
func GenerateSigner() *Signer {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		panic(err) // the kernel's random source never fails
	}
	return &Signer{key}
}

// Sign returns the signature of a credential.
func (s *Signer) Sign(msg []byte) []byte {
	return ed25519.Sign(s.key, append([]byte(domain), msg...))
}

// Public is the key with which others verify.
func (s *Signer) Public() []byte { return s.key.Public().(ed25519.PublicKey) }

// VerifyCredential reports whether sig is pub's signature of msg. Errors have
// code InvalidCredential.
func VerifyCredential(pub, msg, sig []byte) error {
	const op = "auth.VerifyCredential"
	switch {
	case len(pub) != ed25519.PublicKeySize:
		return errs.Coded(op, errs.InvalidCredential, "the signer's key is not known")
	case !ed25519.Verify(pub, append([]byte(domain), msg...), sig):
		return errs.Coded(op, errs.InvalidCredential, "its signature is not the controller's")
	}
	return nil
}
