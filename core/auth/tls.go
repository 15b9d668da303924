package auth

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"time"
)

// derive makes a key for one purpose out of the shared one.
func (k Key) derive(purpose string) ed25519.PrivateKey {
	h := hmac.New(sha256.New, k.secret)
	h.Write([]byte("sluice derived key\x00" + purpose))
	return ed25519.NewKeyFromSeed(h.Sum(nil))
}

// Signer returns the signer that all controllers of a cluster share, for those
// that take over from each other.
func (k Key) Signer() *Signer { return &Signer{k.derive("credentials")} }

var errNotOurs = errors.New("the peer does not have this cluster's slurm.key")

// TLS is the configuration of a connection between two daemons, for either end:
// TLS 1.3 in which each proves that it holds this key. Both ends show a
// certificate of the one key pair that is derived from the secret, so there is
// nothing to issue, to renew or to distribute beside slurm.key. protocols are
// those that the connection may carry (ALPN).
func (k Key) TLS(protocols ...string) (*tls.Config, error) {
	key := k.derive("daemons")
	pub := key.Public().(ed25519.PublicKey)
	const century = 100 * 365 * 24 * time.Hour
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sluice daemon"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(0, 0).Add(century)}
	der, err := x509.CreateCertificate(rand.Reader, t, t, pub, key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: protocols,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		ClientAuth:   tls.RequireAnyClientCert,
		// The key is the proof, not a name or a chain: see VerifyConnection,
		// which a resumed connection passes too.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 || !pub.Equal(s.PeerCertificates[0].PublicKey) {
				return errNotOurs
			}
			return nil
		},
	}, nil
}
